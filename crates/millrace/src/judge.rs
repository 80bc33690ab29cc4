//! What the config file's own check cannot judge: settings of connectors, expressions, privacy policies.
//!
//! All that is wrong is told at once, each with its place, before anything is opened: `check` shows what a
//! service would say, and a service says it before it has joined or leased anything.

use millrace_connector::{ConnectorError, Context, Registry};
use millrace_privacy::{Consent, Policy};
use millrace_service::config::{Config, ConfigError, ConnectionConfig, Step};
use millrace_transform::{FieldMap, Filter};
use serde_json::Value;

use crate::cli::Place;
use crate::exit::Failure;

/// Makes every connector, expression and policy of the config, and throws them away.
///
/// # Errors
/// All of them that cannot be made; of YAML files of connectors that are wrong, those alone. Sources and destinations that are turned off are not judged.
pub(crate) fn judge(config: &Config, place: &Place) -> Result<(), Failure> {
    millrace_service::install_tls();
    let mut wrong = Wrong { config, errors: Vec::new() };
    wrong.connectors(&crate::connectors::of_config(config)?, place);
    wrong.policies();
    wrong.geoip();
    #[cfg(feature = "ingest")]
    wrong.errors.extend(crate::bounds::judge(config));
    for (index, connection) in config.connections.iter().enumerate() {
        wrong.connection(index, connection);
    }
    for (index, sync) in config.syncs.iter().enumerate() {
        if let Err(error) = FieldMap::compile(&sync.map) {
            wrong.report("syncs", index, "map", error.to_string());
        }
    }
    if wrong.errors.is_empty() {
        return Ok(());
    }
    Err(Failure::Config(Box::new(miette::Report::new(config.document.errors(wrong.errors)))))
}

/// The consent that a destination or warehouse needs.
///
/// # Errors
/// A rule is not of the form that the config's reference describes, or does nothing.
pub(crate) fn consent(rules: &[Value]) -> Result<Consent, serde_json::Error> {
    serde_json::from_value(rules.into())
}

struct Wrong<'c> {
    config: &'c Config,
    errors: Vec<ConfigError>,
}

impl Wrong<'_> {
    fn connectors(&mut self, registry: &Registry, place: &Place) {
        let context =
            |id: &str| Context { id: id.to_owned(), work_dir: place.data_dir.join("work").join(id) };
        let config = self.config;
        for (index, source) in config.sources.iter().enumerate() {
            if !source.enabled || source.comes_by_http() {
                continue;
            }
            let settings = source.settings.to_value();
            let made =
                registry.source(&source.kind, &settings, &source.command, &context(source.id.as_str()));
            self.connector("sources", index, made.err());
        }
        for (index, warehouse) in config.warehouses.iter().enumerate() {
            let settings = warehouse.settings.to_value();
            let made = registry.warehouse(&warehouse.kind, &settings, &context(warehouse.id.as_str()));
            self.connector("warehouses", index, made.err());
            self.consent("warehouses", index, &warehouse.consent);
        }
        for (index, destination) in config.destinations.iter().enumerate() {
            if !destination.enabled {
                continue;
            }
            let settings = destination.settings.to_value();
            let made = registry.destination(&destination.kind, &settings, &context(destination.id.as_str()));
            self.connector("destinations", index, made.err());
            self.consent("destinations", index, &destination.consent);
        }
    }

    fn connector(&mut self, section: &str, index: usize, error: Option<ConnectorError>) {
        let Some(error) = error else { return };
        let key = if error.code == "unknown_kind" { "kind" } else { "settings" };
        self.report(section, index, key, error.full());
    }

    fn consent(&mut self, section: &str, index: usize, rules: &[Value]) {
        if let Err(error) = consent(rules) {
            self.report(section, index, "consent", error.to_string());
        }
    }

    /// Reading the database is left to ingest: it takes a second or two.
    fn geoip(&mut self) {
        let Some(geoip) = &self.config.ingest.geoip else { return };
        if !geoip.database.is_file() {
            let path = ["ingest", "geoip", "database"].map(Step::from);
            let message = format!("there is no file {}", geoip.database.display());
            self.errors.push(self.config.document.error(&path, message));
        }
    }

    fn policies(&mut self) {
        for (name, written) in &self.config.privacy {
            if let Err(error) = serde_json::from_value::<Policy>(written.clone()) {
                let path = [Step::from("privacy"), Step::from(name.as_str())];
                let message = format!("privacy policy {name:?}: {error}");
                self.errors.push(self.config.document.error(&path, message));
            }
        }
    }

    fn connection(&mut self, index: usize, connection: &ConnectionConfig) {
        if let Some(when) = &connection.when
            && let Err(error) = Filter::compile(when)
        {
            self.report("connections", index, "when", error.to_string());
        }
        if connection.transform.is_some() {
            let message = "transformations are not built in yet; `when:` is";
            self.report("connections", index, "transform", message.to_owned());
        }
        if !connection.unseal.is_empty() {
            let message = "sealing and unsealing are not built in yet";
            self.report("connections", index, "unseal", message.to_owned());
        }
    }

    fn report(&mut self, section: &str, index: usize, key: &str, message: String) {
        let path = [Step::from(section), Step::from(index), Step::from(key)];
        self.errors.push(self.config.document.error(&path, message));
    }
}
