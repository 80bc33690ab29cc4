//! Reading RudderStack's `Config` of a destination.

use serde_json::{Map, Value};

/// Settings that are made of a `Config`.
pub(crate) struct Config<'c>(pub(crate) &'c Value);

impl Config<'_> {
    /// A switch; off where it is not said.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A text that is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    /// The texts of a list of objects with one field, such as `[{"property": "plan"}]`.
    pub(crate) fn texts(&self, name: &str, field: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let texts = list.iter().filter_map(|entry| entry.get(field)?.as_str());
        texts.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect()
    }

    /// A list of `{"from", "to"}` as one object; entries with an empty side are left out.
    pub(crate) fn pairs(&self, name: &str) -> Map<String, Value> {
        let list = self.0.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let side = |entry: &Value, name: &str| {
            let text = entry.get(name)?.as_str()?.trim();
            (!text.is_empty()).then(|| text.to_owned())
        };
        list.iter().filter_map(|entry| Some((side(entry, "from")?, side(entry, "to")?.into()))).collect()
    }
}

/// Puts settings together: those without a value are left to their default.
pub(crate) fn settings<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(said.collect::<Map<_, _>>())
}
