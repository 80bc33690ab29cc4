//! RudderStack's settings of Mixpanel as ours.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// Its name there.
pub(super) const NAME: &str = "MP";

/// Ours, of a destination's `Config`.
pub(super) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let account = match (
        config.text("serviceAccountUserName"),
        config.text("serviceAccountSecret"),
        config.text("projectId"),
    ) {
        (Some(username), Some(secret), Some(project)) => {
            Some(json!({"username": username, "secret": secret, "project_id": project}))
        }
        _ => None,
    };
    let merge = if config.text("identityMergeApi") == Some("simplified") { "simplified" } else { "original" };
    let template =
        config.text("userDefinedPageEventTemplate").filter(|_| config.on("useUserDefinedPageEventName"));
    let screen =
        config.text("userDefinedScreenEventTemplate").filter(|_| config.on("useUserDefinedScreenEventName"));
    Ok(settings([
        ("token", config.text("token").map(Value::from)),
        ("service_account", account),
        ("region", config.text("dataResidency").map(|region| region.to_lowercase().into())),
        ("strict", Some(config.on("strictMode").into())),
        ("identity_merge", Some(merge.into())),
        ("legacy_person_names", Some((!config.on("useNewMapping")).into())),
        ("traits_in_events", Some((!config.on("dropTraitsInTrackEvent")).into())),
        ("page_event", template.map(Value::from)),
        ("screen_event", screen.map(Value::from)),
        ("group_keys", Some(json!(config.texts("groupKeySettings", "groupKey")))),
        ("set_once", Some(json!(config.texts("setOnceProperties", "property")))),
        ("union", Some(json!(config.texts("unionProperties", "property")))),
        ("append", Some(json!(config.texts("appendProperties", "property")))),
        ("increment", Some(json!(config.texts("propIncrements", "property")))),
    ]))
}
