//! RudderStack's settings of Braze as ours.

use millrace_event_model::Reason;
use serde_json::Value;

use crate::destinations::shared::rudder::{Config, settings};

/// Its name there.
pub(super) const NAME: &str = "BRAZE";

/// Ours, of a destination's `Config`. `supportDedup` has no like: it asks Braze for each user before it
/// sends.
pub(super) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let groups = if config.on("enableSubscriptionGroupInGroupCall") { "subscription" } else { "attribute" };
    Ok(settings([
        ("api_key", config.text("restApiKey").map(Value::from)),
        ("instance", config.text("dataCenter").map(Value::from)),
        ("alias_label", Some("rudder_id".into())),
        ("groups", Some(groups.into())),
        ("group_prefix", Some("ab_rudder_group_".into())),
        ("recommended_events", Some(config.on("useEcommerceRecommendedEvents").into())),
        ("purchase_properties", Some(config.on("sendPurchaseEventWithExtraProperties").into())),
        ("nested_arrays", Some(config.on("enableNestedArrayOperations").into())),
        ("partner", Some("RudderStack".into())),
    ]))
}
