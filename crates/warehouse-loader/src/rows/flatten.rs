//! Nested objects to columns (warehouse schema rules §3).

use sonic_rs::{JsonValueTrait, Object, Value, ValueRef};

use super::cells::{Columns, NameTable, Pass, Typed};
use super::datatype::{as_json, as_list, as_text, is_blank_list, typed_plain, typed_text};
use super::json::sorted;
use super::shape::{NodeId, Root, Shape};

/// From this depth on (the object's own properties are 0), objects of cloud sources are JSON text: their
/// records nest without end.
const CLOUD_DEPTH: usize = 3;

/// In which order the keys of an object are taken. Of keys that become one column the last in sorted order
/// wins; since that is rare, they are taken as they stand until it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOrder {
    AsWritten,
    Sorted,
}

/// Two keys became one column, or a key came twice: only [`KeyOrder::Sorted`] tells which wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Collision;

/// Takes one object of an event apart.
pub(super) struct Flattener<'w, 'd> {
    pub(super) shape: &'w mut Shape<'d>,
    pub(super) names: &'w mut NameTable,
    /// The event is of a cloud source.
    pub(super) cloud: bool,
    pub(super) order: KeyOrder,
    /// Of this walk alone.
    pub(super) pass: Pass,
}

impl Flattener<'_, '_> {
    /// Sets the columns of an object. What is no object makes no columns. `more` is an entry that stands in
    /// the object beside its own.
    pub(super) fn flatten<'e>(
        &mut self,
        value: Option<&'e Value>,
        root: Root,
        more: Option<(&'e str, &'e Value)>,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        match (value.map(Value::as_ref), more) {
            (Some(ValueRef::Object(object)), more) => self.object(root.node(), object, more, columns),
            (_, Some((key, value))) => self.property(root.node(), 0, key, value, columns),
            (_, None) => Ok(()),
        }
    }

    fn object<'e>(
        &mut self,
        place: NodeId,
        object: &'e Object,
        more: Option<(&'e str, &'e Value)>,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        if self.shape.node(place).may_be_text
            && let Some(text) = letters_of(object)
        {
            // As a client sends a text that it has spread over an object, letter by letter.
            let node = self.shape.node(place);
            if !node.is_context_traits {
                return Ok(());
            }
            let dialect = self.shape.names.dialect;
            return self.put(place, || Some(typed_text(text.into(), dialect)), columns);
        }
        if self.order == KeyOrder::Sorted {
            return self.properties(place, sorted(object, more), columns);
        }
        self.properties(place, object.iter().chain(more), columns)
    }

    fn properties<'e>(
        &mut self,
        place: NodeId,
        entries: impl Iterator<Item = (&'e str, &'e Value)>,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        for (nth, (key, value)) in entries.enumerate() {
            self.property(place, nth, key, value, columns)?;
        }
        Ok(())
    }

    fn property<'e>(
        &mut self,
        parent: NodeId,
        nth: usize,
        key: &str,
        value: &'e Value,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        let place = self.shape.child(parent, nth, key, self.names);
        let pass = self.pass;
        let dialect = self.shape.names.dialect;
        let node = self.shape.node(place);
        let again = node.visited.replace(pass) == Some(pass);
        if again && self.order == KeyOrder::AsWritten {
            return Err(Collision);
        }
        let is_json = node.is_json;
        let as_document = is_json || (self.cloud && node.depth >= CLOUD_DEPTH);
        match value.as_ref() {
            ValueRef::Null | ValueRef::String("") => Ok(()),
            ValueRef::Array(values) if is_blank_list(values) => Ok(()),
            _ if is_json => self.put(place, || Some(as_json(value, dialect)), columns),
            ValueRef::Object(_) if as_document => self.put(place, || Some(as_text(value, dialect)), columns),
            ValueRef::Object(inner) => self.object(place, inner, None, columns),
            ValueRef::Array(_) => self.put(place, || Some(as_list(value, dialect)), columns),
            ValueRef::Bool(_) | ValueRef::Number(_) | ValueRef::String(_) => {
                self.put(place, || typed_plain(value, dialect), columns)
            }
        }
    }

    fn put<'e>(
        &mut self,
        place: NodeId,
        make: impl FnOnce() -> Option<Typed<'e>>,
        columns: &mut Columns<'e, '_>,
    ) -> Result<(), Collision> {
        let Some(column) = self.shape.node(place).column else { return Ok(()) };
        let Some(typed) = make() else { return Ok(()) };
        let again = columns.set(column, typed, self.pass);
        if again && self.order == KeyOrder::AsWritten { Err(Collision) } else { Ok(()) }
    }
}

/// The text of which `{"0": "a", "1": "b"}` is made: keys without a gap from 0 or 1, one letter each.
pub(super) fn letters_of(object: &Object) -> Option<String> {
    let mut letters = Vec::new();
    for (key, value) in object.iter() {
        let place = place_of(key).filter(|place| *place <= object.len())?;
        let letter = value.as_str()?;
        // JavaScript's letters are UTF-16 units.
        if letter.encode_utf16().count() != 1 {
            return None;
        }
        letters.resize(letters.len().max(place + 1), "");
        // It has just been made long enough.
        letters[place] = letter;
    }
    let first = letters.iter().position(|letter| !letter.is_empty()).filter(|first| *first <= 1)?;
    let letters = letters.split_off(first);
    letters.iter().all(|letter| !letter.is_empty()).then(|| letters.concat())
}

/// A number as JavaScript writes it.
fn place_of(key: &str) -> Option<usize> {
    let plain = key == "0" || key.starts_with(|first: char| ('1'..='9').contains(&first));
    plain.then(|| key.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use crate::rows::tests::{page, values, values_of_text};

    /// The columns of an event with these properties, without those of the rules.
    fn columns(event: &Value) -> Vec<String> {
        let values = values("postgres", event);
        let own = |name: &&String| !["id", "received_at", "context_passed_ip"].contains(&name.as_str());
        values.keys().filter(own).cloned().collect()
    }

    #[test]
    fn nested_names_are_joined_and_blanks_left_out() {
        let event = page(&json!({
            "Cart": {"total": 3.5, "currency": "", "lines": [{"sku": 1}], "empty": {}},
            "paid": false, "tags": [], "note": null,
        }));
        assert_eq!(columns(&event), ["cart_lines", "cart_total", "paid"]);
        assert_eq!(values("postgres", &event)["cart_lines"], json!([{"sku": 1}]));
    }

    #[test]
    fn of_names_that_become_one_the_last_in_sorted_order_wins() {
        for properties in [
            r#"{"a_b": 3, "aB": 2, "A b": 1}"#,
            r#"{"aB": 2, "a_b": 3}"#,
            r#"{"a_b": 3, "a": {"b": 2}}"#,
            r#"{"a": {"b": 7, "c": 8}, "a": {"b": 3}}"#,
            r#"{"a_b": null, "a": {"b": 3}}"#,
        ] {
            let event = format!(r#"{{"type":"page","properties":{properties}}}"#);
            assert_eq!(values_of_text("postgres", &event)["a_b"], 3, "{event}");
        }
    }

    #[test]
    fn of_a_key_that_comes_twice_only_the_last_value_counts() {
        let raw = r#"{"type":"page","properties":{"a":{"x":1},"b":1,"a":{"y":2}}}"#;
        let values = values_of_text("postgres", raw);
        assert_eq!((values.get("a_x"), values["a_y"].as_i64()), (None, Some(2)));
        let raw = r#"{"type":"page","properties":{"a":1,"a":null}}"#;
        assert_eq!(values_of_text("postgres", raw).get("a"), None);
    }

    #[test]
    fn reserved_names_are_left_out_wherever_they_come_from() {
        let event = page(&json!({"User ID": "u", "context": {"ip": "1"}, "_user_id": 1}));
        assert_eq!(columns(&event), ["_user_id"]);
    }

    #[test]
    fn traits_spread_over_an_object_are_put_together_again() {
        let with = |traits: Value| columns(&json!({"type": "page", "context": {"traits": traits}}));
        let values = values(
            "postgres",
            &json!({"type": "page", "context": {"traits": {"1": "b", "0": "a", "2": "c"}}}),
        );
        assert_eq!(values["context_traits"], "abc");
        assert_eq!(with(json!({"1": "a", "2": "b"})), ["context_traits"]);
        assert_eq!(with(json!({"0": "a", "2": "c"})), ["context_traits_0", "context_traits_2"]);
        assert_eq!(with(json!({"0": "ab"})), ["context_traits_0"]);
        assert_eq!(with(json!({"0": "a", "01": "b"})), ["context_traits_0", "context_traits_01"]);
    }
}
