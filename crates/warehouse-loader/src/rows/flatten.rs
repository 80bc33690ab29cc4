//! Nested objects to columns (warehouse schema rules §3).

use millrace_columnar::{Cell, Row, TableSchema};
use millrace_event_model::FieldType;
use serde_json::{Map, Value};

use super::datatype::{as_json, as_text, is_blank, typed};
use super::options::EventOptions;
use super::rules::is_reserved;

/// The columns of a row as they come together: a later value of the same name wins, with its type.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    pub(super) cells: Row,
    pub(super) types: TableSchema,
}

impl Columns {
    pub(super) fn set(&mut self, column: String, (field_type, cell): (FieldType, Cell)) {
        self.types.insert(column.clone(), field_type);
        self.cells.insert(column, cell);
    }

    pub(super) fn remove(&mut self, column: &str) {
        self.types.remove(column);
        self.cells.remove(column);
    }

    /// Takes all of another's; they win.
    pub(super) fn extend(&mut self, later: Columns) {
        self.types.extend(later.types);
        self.cells.extend(later.cells);
    }
}

/// From this depth on (the object's own properties are 0), objects of cloud sources are JSON text: their
/// records nest without end.
const CLOUD_DEPTH: usize = 3;

/// Flattens the objects of one event.
pub(super) struct Flattener<'a> {
    pub(super) options: &'a EventOptions<'a>,
    /// The event's type, by which JSON paths and reserved columns go.
    pub(super) event_type: &'a str,
    /// The event is of a cloud source.
    pub(super) cloud: bool,
}

/// Where in the event the walk is.
struct Place<'v> {
    /// From the event type down.
    path: Vec<&'v str>,
    /// What the columns' names begin with.
    prefix: String,
    depth: usize,
}

impl Flattener<'_> {
    /// The columns of the object at `source` (keys from the event down), with `prefix` before their
    /// names. What is no object makes no columns.
    pub(super) fn flatten(&self, message: &Value, source: &[&str], prefix: &str) -> Columns {
        let mut columns = Columns::default();
        let found = source.iter().try_fold(message, |value, key| value.get(key));
        if let Some(Value::Object(object)) = found {
            let path = std::iter::once(self.event_type).chain(source.iter().copied()).collect();
            let mut place = Place { path, prefix: prefix.to_owned(), depth: 0 };
            self.walk(object, &mut place, &mut columns);
        }
        columns
    }

    fn walk<'v>(&self, object: &'v Map<String, Value>, place: &mut Place<'v>, columns: &mut Columns) {
        if self.takes_texts_apart(&place.path)
            && let Some(text) = letters_of(object)
        {
            // As a client sends a text that it has spread over an object, letter by letter.
            if place.prefix == "context_traits_" {
                self.set("context_traits", &Value::String(text), columns);
            }
            return;
        }
        for (key, value) in object {
            place.path.push(key);
            self.property(key, value, place, columns);
            place.path.pop();
        }
    }

    fn property<'v>(&self, key: &'v str, value: &'v Value, place: &mut Place<'v>, columns: &mut Columns) {
        let dialect = self.options.names.dialect;
        if is_blank(value) {
            return;
        }
        let json_path = self.options.json_paths.contains(&place.path);
        let name = format!("{}{key}", place.prefix);
        match value {
            _ if json_path => self.put(&name, || as_json(value, dialect), columns),
            _ if key == "violationErrors" && dialect.violation_errors_as_json => {
                self.put(&name, || as_json(value, dialect), columns);
            }
            Value::Object(_) if self.cloud && place.depth >= CLOUD_DEPTH => {
                self.put(&name, || as_text(value, dialect), columns);
            }
            Value::Object(inner) => {
                let outer = std::mem::replace(&mut place.prefix, format!("{name}_"));
                place.depth += 1;
                self.walk(inner, place, columns);
                place.depth -= 1;
                place.prefix = outer;
            }
            _ => self.set(&name, value, columns),
        }
    }

    fn set(&self, name: &str, value: &Value, columns: &mut Columns) {
        self.put(name, || typed(value, self.options.names.dialect), columns);
    }

    fn put(&self, name: &str, make: impl FnOnce() -> (FieldType, Cell), columns: &mut Columns) {
        let column = self.options.names.column(name);
        if column.is_empty() {
            return;
        }
        let column = self.options.names.safe_column(&column);
        if !is_reserved(self.event_type, &column) {
            columns.set(column, make());
        }
    }

    fn takes_texts_apart(&self, path: &[&str]) -> bool {
        path.ends_with(&["context", "traits"]) || path == ["group", "traits"]
    }
}

/// The text of which `{"0": "a", "1": "b"}` is made: keys without a gap from 0 or 1, one letter each.
fn letters_of(object: &Map<String, Value>) -> Option<String> {
    let first = [0, 1].into_iter().find(|first| object.contains_key(&first.to_string()))?;
    let mut text = String::with_capacity(object.len());
    for place in first..first + object.len() {
        let letter = object.get(&place.to_string())?.as_str()?;
        // JavaScript's letters are UTF-16 units.
        if letter.encode_utf16().count() != 1 {
            return None;
        }
        text.push_str(letter);
    }
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::dialect;
    use serde_json::json;

    use super::*;
    use crate::rows::MappingOptions;

    fn flatten(message: &Value, source: &[&str], prefix: &str, cloud: bool) -> Columns {
        let options = EventOptions::new(message, &MappingOptions::default(), dialect("postgres").unwrap());
        Flattener { options: &options, event_type: "track", cloud }.flatten(message, source, prefix)
    }

    fn names(columns: &Columns) -> Vec<&str> {
        columns.cells.keys().map(String::as_str).collect()
    }

    #[test]
    fn nested_names_are_joined_and_blanks_left_out() {
        let message = json!({"properties": {
            "Cart": {"total": 3.5, "currency": "", "lines": [{"sku": 1}], "empty": {}},
            "paid": false, "tags": [], "note": null,
        }});
        let columns = flatten(&message, &["properties"], "", false);
        assert_eq!(names(&columns), ["cart_lines", "cart_total", "paid"]);
        assert_eq!(columns.cells.get("cart_lines"), Some(&Cell::Json("[{\"sku\":1}]".to_owned())));
        assert_eq!(columns.types.get("cart_lines"), Some(&FieldType::String));
    }

    #[test]
    fn of_names_that_become_one_the_last_in_sorted_order_wins() {
        let message = json!({"properties": {"a_b": 3, "aB": 2, "A b": 1}});
        let columns = flatten(&message, &["properties"], "", false);
        assert_eq!(columns.cells, Row::from([("a_b".to_owned(), Cell::Int(3))]));
    }

    #[test]
    fn reserved_names_are_left_out_wherever_they_come_from() {
        let message = json!({"properties": {"User ID": "u", "context": {"ip": "1"}, "_user_id": 1}});
        assert_eq!(names(&flatten(&message, &["properties"], "", false)), ["_user_id"]);
    }

    #[test]
    fn deep_objects_of_cloud_sources_are_json_text() {
        let message = json!({"properties": {"a": {"b": {"c": {"d": {"e": 1}}}}}});
        let cloud = flatten(&message, &["properties"], "", true);
        assert_eq!(cloud.cells.get("a_b_c_d"), Some(&Cell::String("{\"e\":1}".to_owned())));
        assert_eq!(names(&flatten(&message, &["properties"], "", false)), ["a_b_c_d_e"]);
    }

    #[test]
    fn traits_spread_over_an_object_are_put_together_again() {
        let message = json!({"context": {"traits": {"0": "a", "1": "b", "2": "c"}}});
        let columns = flatten(&message, &["context"], "context_", false);
        assert_eq!(columns.cells, Row::from([("context_traits".to_owned(), Cell::String("abc".to_owned()))]));
        let message = json!({"context": {"traits": {"0": "a", "2": "c"}}});
        let columns = flatten(&message, &["context"], "context_", false);
        assert_eq!(names(&columns), ["context_traits_0", "context_traits_2"]);
    }
}
