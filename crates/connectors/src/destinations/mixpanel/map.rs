//! One event to Mixpanel's requests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millrace_connector::{Document, HttpRequest, RequestBody};
use millrace_event_model::{ChangeOp, Reason};
use serde_json::{Value, json};

use super::config::{IdentityMerge, Settings};
use super::{event, group, person};
use crate::destinations::shared::fields::{USER_ID, missing, pick_text, unsupported};
use crate::http::Mapper;

/// Makes Mixpanel's requests.
pub(super) struct Mixpanel {
    pub(super) settings: Settings,
}

impl Mapper for Mixpanel {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        if document.op() == Some(ChangeOp::Delete) {
            return Ok(vec![person::delete(self, document)?]);
        }
        match document.event_type().as_str() {
            "track" | "page" | "screen" => event::requests(self, document),
            "identify" => person::requests(self, document),
            "group" => group::requests(self, document),
            "alias" => Ok(vec![self.alias(document)?]),
            other => Err(unsupported(other)),
        }
    }

    fn takes_deletes(&self) -> bool {
        true
    }
}

impl Mixpanel {
    /// The id that Mixpanel counts people by.
    ///
    /// # Errors
    /// There is neither a user's nor a device's id.
    pub(super) fn distinct_id(&self, document: &Document) -> Result<String, Reason> {
        if let Some(id) = pick_text(document, USER_ID) {
            return Ok(id);
        }
        let id = pick_text(document, &["anonymousId"]).ok_or_else(|| missing("userId or anonymousId"))?;
        Ok(match self.settings.identity_merge {
            IdentityMerge::Simplified => format!("$device:{id}"),
            IdentityMerge::Original => id,
        })
    }

    fn alias(&self, document: &Document) -> Result<HttpRequest, Reason> {
        if self.settings.identity_merge == IdentityMerge::Simplified {
            return Err(Reason::new(
                "unsupported_type",
                "a project with simplified id merge has no aliases: leave them out by `when`",
            ));
        }
        let old = pick_text(document, &["previousId", "anonymousId"]);
        let old = old.ok_or_else(|| missing("previousId or anonymousId"))?;
        let new = pick_text(document, &["userId"]).ok_or_else(|| missing("userId"))?;
        let properties = json!({"distinct_id": old, "alias": new, "token": self.settings.token.expose()});
        Ok(self.import(&json!({"event": "$create_alias", "properties": properties})))
    }

    /// An event, with the credentials to import it.
    pub(super) fn import(&self, event: &Value) -> HttpRequest {
        self.import_all(&json!([event]))
    }

    /// The import of a list of events.
    pub(super) fn import_all(&self, events: &Value) -> HttpRequest {
        let settings = &self.settings;
        let token = settings.token.expose();
        let (credentials, project) = match &settings.service_account {
            Some(account) => {
                (format!("{}:{}", account.username, account.secret.expose()), Some(&account.project_id))
            }
            None => (format!("{token}:"), None),
        };
        let mut request =
            self.post("import", events).query("strict", if settings.strict { "1" } else { "0" });
        if let Some(project) = project {
            request = request.query("project_id", project);
        }
        request.header("authorization", format!("Basic {}", STANDARD.encode(credentials)))
    }

    /// A change to a person's profile.
    pub(super) fn engage(&self, update: &Value) -> HttpRequest {
        self.changes("engage", &json!([update]))
    }

    /// A change to a group's profile.
    pub(super) fn groups(&self, update: &Value) -> HttpRequest {
        self.changes("groups", &json!([update]))
    }

    /// Several changes of people's profiles, of which all are sent or none.
    pub(super) fn engage_all(&self, updates: &[Value]) -> HttpRequest {
        self.changes("engage", &json!(updates))
    }

    /// Strict: without it an answer says that one change at least was taken, and not which.
    fn changes(&self, path: &str, updates: &Value) -> HttpRequest {
        let request = self.post(path, updates).query("verbose", VERBOSE);
        match self.settings.strict {
            true => request.query("strict", "1"),
            false => request,
        }
    }

    fn post(&self, path: &str, elements: &Value) -> HttpRequest {
        let mut request = HttpRequest::post(format!("https://{}/{path}/", self.settings.region.host()));
        request.body = RequestBody::JsonArray(Bytes::from(elements.to_string()));
        request.header("content-type", "application/json")
    }
}

/// Answers say what went wrong, as JSON.
const VERBOSE: &str = "2";
