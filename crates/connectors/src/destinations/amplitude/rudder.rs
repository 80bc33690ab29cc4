//! RudderStack's settings of Amplitude as ours.

use millrace_event_model::Reason;
use serde_json::{Value, json};

use crate::destinations::shared::rudder::{Config, settings};

/// Our settings, of a `Config` of RudderStack's destination `AM`.
///
/// # Errors
/// There is no API key.
pub(crate) fn translate(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    let api_key = config.text("apiKey");
    let api_key =
        api_key.ok_or_else(|| Reason::new("invalid_settings", "apiKey is missing in the Config"))?;
    let eu = config.text("residencyServer").is_some_and(|server| server.eq_ignore_ascii_case("EU"));
    let text = |name: &str| config.text(name).map(Value::from);
    let switch = |name: &str| Some(json!(config.on(name)));
    let traits = |name: &str| Some(json!(config.texts(name, "traits")));
    Ok(settings([
        ("api_key", Some(json!(api_key))),
        ("secret_key", text("apiSecret")),
        ("region", Some(json!(if eu { "eu" } else { "us" }))),
        // Theirs says `once` for "within the event"; only a plain false splits.
        ("split_products", Some(json!(config.0.get("trackProductsOnce") == Some(&Value::Bool(false))))),
        ("revenue_per_product", switch("trackRevenuePerProduct")),
        ("add", traits("traitsToIncrement")),
        ("set_once", traits("traitsToSetOnce")),
        ("append", traits("traitsToAppend")),
        ("prepend", traits("traitsToPrepend")),
        ("group_type_trait", text("groupTypeTrait")),
        ("group_value_trait", text("groupValueTrait")),
        ("page_event", template(&config, "useUserDefinedPageEventName", "userProvidedPageEventString")),
        ("screen_event", template(&config, "useUserDefinedScreenEventName", "userProvidedScreenEventString")),
        ("anonymous_id_as_device_id", switch("preferAnonymousIdForDeviceId")),
        ("own_device_brand", switch("mapDeviceBrand")),
    ]))
}

/// An empty template of theirs is the name itself.
fn template(config: &Config<'_>, switch: &str, template: &str) -> Option<Value> {
    config.on(switch).then(|| json!(config.text(template).unwrap_or("{{ name }}")))
}
