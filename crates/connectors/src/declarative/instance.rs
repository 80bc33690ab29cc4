//! A file with settings is a destination.

use std::sync::Arc;

use millrace_connector::{ConnectorError, Context, DestinationEntry, DisplayName};
use millrace_event_model::Reason;
use millrace_service::SystemClock;
use millrace_transform::Scope;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::compile::Compiled;
use super::mapper::DeclaredMapper;
use super::profile::{self, Of};
use super::{auth, settings};
use crate::http::settings::{Common, invalid};
use crate::http::{HttpDestination, Reach};

impl Compiled {
    /// The line of the list of connectors.
    #[must_use]
    pub fn entry(self: &Arc<Self>) -> DestinationEntry {
        let (for_schema, for_build) = (Arc::clone(self), Arc::clone(self));
        let entry = DestinationEntry::new(
            self.spec.name.clone(),
            self.spec.summary.clone(),
            move || settings::schema(&for_schema.spec),
            move |settings, context| Ok(Arc::new(for_build.build(settings, context)?)),
        );
        match &self.spec.rudder {
            Some(rudder) => {
                let compiled = Arc::clone(self);
                let display_name = rudder.display_name.clone().map(DisplayName::from);
                entry.with_rudder(rudder.name.clone(), display_name, move |config| compiled.of_rudder(config))
            }
            None => entry,
        }
    }

    /// A destination with these settings.
    ///
    /// # Errors
    /// `Pause`: the settings are not right.
    pub fn build(
        self: &Arc<Self>,
        given: &Value,
        context: &Context,
    ) -> Result<HttpDestination, ConnectorError> {
        let id = context.id.as_str();
        let wrong = |problem: String| invalid(id, &problem);
        let settings = settings::complete(&self.spec, given, id)?;
        let common = Common::deserialize(given).map_err(|error| wrong(error.to_string()))?;
        let scope = Scope::new(&Map::new(), &[("settings", &settings)]);
        let base_url = match self.base_url.render_full(&scope, str::to_owned) {
            Ok(Ok(text)) => text.trim_end_matches('/').to_owned(),
            Ok(Err(missed)) => {
                return Err(wrong(format!("http.base_url needs {missed}, which is not given")));
            }
            Err(error) => return Err(wrong(format!("http.base_url: {error}"))),
        };
        let credentials = auth::credentials(&self.spec.http.auth, &scope).map_err(wrong)?;
        let instance = Of {
            settings: &scope,
            base_url: &base_url,
            headers: &credentials.headers,
            query: &credentials.query,
            signer: credentials.signer,
        };
        let profile = profile::profile(self, instance).map_err(wrong)?;
        let reach = Reach {
            private: common.allow_private.clone(),
            timeout: profile.timeout,
            hosts: profile.hosts.clone(),
            origin: common.origin().map_err(wrong)?,
        };
        let mapper = DeclaredMapper {
            compiled: Arc::clone(self),
            settings,
            base_url,
            headers: credentials.headers,
            query: credentials.query,
        };
        HttpDestination::new(Box::new(mapper), profile, reach, Arc::new(SystemClock))
    }

    fn of_rudder(&self, config: &Value) -> Result<Value, Reason> {
        let none = Map::new();
        let scope = Scope::new(config.as_object().unwrap_or(&none), &[]);
        let mut settings = Map::new();
        for (name, field) in &self.rudder {
            let value = field.value(config, &scope).map_err(|problem| {
                Reason::new("invalid_settings", format!("the option for setting {name:?}: {problem}"))
            })?;
            if !value.is_null() {
                settings.insert(name.clone(), value);
            }
        }
        Ok(Value::Object(settings))
    }
}
