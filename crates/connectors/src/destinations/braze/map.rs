//! One event to Braze's requests.

use millrace_connector::{Document, HttpRequest};
use millrace_event_model::{ChangeOp, Reason};
use serde_json::{Map, Value, json};

use super::config::{Groups, Settings};
use super::{attributes, events, purchases, shop};
use crate::destinations::shared::fields::{USER_ID, integration, missing, pick, pick_text, set, unsupported};
use crate::http::Mapper;

/// Makes Braze's requests.
pub(super) struct Braze {
    pub(super) settings: Settings,
}

/// The path of events, attributes and purchases.
pub(super) const TRACK: &str = "/users/track";

impl Mapper for Braze {
    fn map(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        if document.op() == Some(ChangeOp::Delete) {
            return Ok(vec![self.delete(document)?]);
        }
        match document.event_type().as_str() {
            "identify" => self.identify(document),
            "track" => Ok(vec![self.track(document)?]),
            "page" => Ok(vec![self.did(document, "events", vec![events::page(document)?])?]),
            "screen" => Ok(vec![self.did(document, "events", vec![events::screen(document)?])?]),
            "group" => Ok(vec![self.group(document)?]),
            "alias" => Ok(vec![self.alias(document)?]),
            other => Err(unsupported(other)),
        }
    }

    fn takes_deletes(&self) -> bool {
        true
    }
}

impl Braze {
    /// The attributes; and before them, where the user was a device until now, that the two are one.
    fn identify(&self, document: &Document) -> Result<Vec<HttpRequest>, Reason> {
        let mut requests = Vec::new();
        if let (Some(user), Some(alias)) = (pick_text(document, USER_ID), self.alias_of(document)) {
            let merge = json!({
                "aliases_to_identify": [{"external_id": user, "user_alias": alias}],
                "merge_behavior": "merge",
            });
            requests.push(self.post("/users/identify", &merge));
        }
        let mut attributes = attributes::of(&self.settings, document);
        attributes.extend(self.identity(document)?);
        requests.push(self.post(TRACK, &json!({"attributes": [attributes]})));
        Ok(requests)
    }

    fn track(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let name =
            pick(document, &["event"]).and_then(Value::as_str).ok_or_else(|| missing("the event's name"))?;
        if self.settings.recommended_events
            && let Some(event) = shop::event(name, document)?
        {
            return self.did(document, "events", vec![event]);
        }
        if name.trim().eq_ignore_ascii_case("order completed") {
            let purchases = purchases::of(&self.settings, document)?;
            return self.did(document, "purchases", purchases);
        }
        self.did(document, "events", vec![events::custom(name, document)?])
    }

    /// What somebody did, with the traits that came along.
    fn did(
        &self,
        document: &Document,
        array: &str,
        mut deeds: Vec<Map<String, Value>>,
    ) -> Result<HttpRequest, Reason> {
        let identity = self.identity(document)?;
        let app = integration(document, "braze").and_then(|options| options.get("appId"));
        for deed in &mut deeds {
            deed.extend(identity.clone());
            set(deed, "app_id", app.cloned());
        }
        let mut body = self.body();
        let mut attributes = attributes::of(&self.settings, document);
        if !attributes.is_empty() {
            attributes.extend(identity);
            body.insert("attributes".to_owned(), json!([attributes]));
        }
        body.insert(array.to_owned(), json!(deeds));
        Ok(self.post(TRACK, &Value::Object(body)))
    }

    fn group(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let group = pick_text(document, &["groupId", "traits.groupId"]).ok_or_else(|| missing("groupId"))?;
        if self.settings.groups == Groups::Subscription {
            return self.subscription(&group, document);
        }
        let mut attributes = self.identity(document)?;
        attributes.insert(format!("{}{group}", self.settings.group_prefix), Value::Bool(true));
        let mut body = self.body();
        body.insert("attributes".to_owned(), json!([attributes]));
        Ok(self.post(TRACK, &Value::Object(body)))
    }

    fn subscription(&self, group: &str, document: &Document) -> Result<HttpRequest, Reason> {
        let state = document.text("traits.subscriptionState").unwrap_or_default().to_lowercase();
        if !matches!(state.as_str(), "subscribed" | "unsubscribed") {
            return Err(missing("traits.subscriptionState (subscribed or unsubscribed)"));
        }
        let mut entry = Map::new();
        let people =
            [("external_ids", USER_ID), ("emails", &["traits.email"]), ("phones", &["traits.phone"])];
        for (name, paths) in people {
            set(&mut entry, name, pick_text(document, paths).map(|value| json!([value])));
        }
        if entry.is_empty() {
            return Err(missing("userId, traits.email or traits.phone"));
        }
        entry.insert("subscription_group_id".to_owned(), group.into());
        entry.insert("subscription_state".to_owned(), state.into());
        Ok(self.post("/v2/subscription/status/set", &json!({"subscription_groups": [entry]})))
    }

    fn alias(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let old = pick_text(document, &["previousId"]).ok_or_else(|| missing("previousId"))?;
        let new = pick_text(document, &["userId"]).ok_or_else(|| missing("userId"))?;
        let merge = json!({
            "identifier_to_merge": {"external_id": old},
            "identifier_to_keep": {"external_id": new},
        });
        Ok(self.post("/users/merge", &json!({"merge_updates": [merge]})))
    }

    fn delete(&self, document: &Document) -> Result<HttpRequest, Reason> {
        let user = pick_text(document, USER_ID).ok_or_else(|| missing("userId"))?;
        Ok(self.post("/users/delete", &json!({"external_ids": [user]})))
    }

    /// Who it is about: the user, else the device, for which Braze makes a user if it knows none.
    fn identity(&self, document: &Document) -> Result<Map<String, Value>, Reason> {
        let mut identity = Map::new();
        if let Some(user) = pick_text(document, USER_ID) {
            identity.insert("external_id".to_owned(), user.into());
            return Ok(identity);
        }
        let alias = self.alias_of(document).ok_or_else(|| missing("userId or anonymousId"))?;
        identity.insert("_update_existing_only".to_owned(), Value::Bool(false));
        identity.insert("user_alias".to_owned(), alias);
        Ok(identity)
    }

    fn alias_of(&self, document: &Document) -> Option<Value> {
        let device = pick_text(document, &["anonymousId"])?;
        Some(json!({"alias_name": device, "alias_label": self.settings.alias_label}))
    }

    fn body(&self) -> Map<String, Value> {
        let mut body = Map::new();
        set(&mut body, "partner", self.settings.partner.clone());
        body
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> HttpRequest {
        HttpRequest::post(format!("https://{}{path}", self.settings.instance.host()))
            .header("authorization", format!("Bearer {}", self.settings.api_key.expose()))
            .header("accept", "application/json")
            .json(body)
    }
}
