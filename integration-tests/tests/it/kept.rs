//! Values that conflicted over the type of their column: each is in its table or in the discards.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sample::Conflicting;

/// The table of the events that carry such values.
const TABLE: &str = "size_measured";

/// Where a value is, by its row and its column.
type Places = BTreeMap<(String, String), Vec<Value>>;

/// What a warehouse has kept of them.
pub(crate) struct Kept {
    in_table: Places,
    in_discards: Places,
}

impl Kept {
    /// Reads the table and the discards with `query`.
    pub(crate) fn read(query: impl Fn(&str) -> Vec<Value>) -> Self {
        let mut kept = Self { in_table: Places::new(), in_discards: Places::new() };
        for row in query(&format!("SELECT * FROM web.{TABLE}")) {
            for (column, value) in row.as_object().unwrap() {
                if !value.is_null() {
                    let place = (text(&row["id"]), column.clone());
                    kept.in_table.entry(place).or_default().push(parsed(value));
                }
            }
        }
        let discards = "SELECT row_id, column_name, column_value FROM web.rudder_discards";
        for row in query(&format!("{discards} WHERE table_name = '{TABLE}'")) {
            let place = (text(&row["row_id"]), text(&row["column_name"]));
            kept.in_discards.entry(place).or_default().push(parsed(&row["column_value"]));
        }
        kept
    }

    /// Stops the test unless each of them is there, as it was sent, and once.
    pub(crate) fn assert_holds(&self, sent: &[Conflicting]) {
        let wrong = self.faults(sent);
        assert!(wrong.is_empty(), "{} faults:\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
        let discarded = sent.iter().filter(|value| self.in_discards.contains_key(&place(value))).count();
        println!("{} values of unsettled types, {discarded} of them in the discards", sent.len());
        assert!(
            sent.len() < 10 || discarded > 0,
            "nothing conflicted: the sample does not test what it should"
        );
    }

    fn faults(&self, sent: &[Conflicting]) -> Vec<String> {
        let mut wrong = Vec::new();
        for value in sent {
            let place = place(value);
            let of = |places: &Places| places.get(&place).cloned().unwrap_or_default();
            let found = [of(&self.in_table), of(&self.in_discards)].concat();
            if found != [value.value.clone()] {
                wrong.push(format!("{place:?}: {found:?}, not once {}", value.value));
            }
        }
        wrong
    }
}

fn place(value: &Conflicting) -> (String, String) {
    (value.id.clone(), value.column.clone())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A column of text holds a number, a list or a truth value as its JSON.
fn parsed(value: &Value) -> Value {
    let parsed = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    parsed.unwrap_or_else(|| value.clone())
}

#[test]
fn a_value_that_is_lost_doubled_or_changed_is_noticed() {
    let value =
        |id: &str, value: Value| Conflicting { id: id.to_owned(), column: "size_0".to_owned(), value };
    let sent = [value("a", 7.into()), value("b", "about 8".into()), value("c", serde_json::json!([9, "cm"]))];
    let read = |table: &str, discards: &str| {
        let faults = Kept::read(|sql| {
            let text = if sql.contains("discards") { discards } else { table };
            serde_json::from_str(text).unwrap()
        });
        faults.faults(&sent).len()
    };
    let table =
        r#"[{"id": "a", "size_0": "7"}, {"id": "b", "size_0": "about 8"}, {"id": "c", "size_0": null}]"#;
    let discard = r#"{"row_id": "c", "column_name": "size_0", "column_value": "[9,\"cm\"]"}"#;
    assert_eq!(read(table, &format!("[{discard}]")), 0);
    assert_eq!(read(table, "[]"), 1, "lost");
    assert_eq!(read(table, &format!("[{discard}, {discard}]")), 1, "discarded twice");
    assert_eq!(read(&table.replace("null", r#""[9,\"cm\"]""#), &format!("[{discard}]")), 1, "in both");
    assert_eq!(read(&table.replace("about 8", "about"), &format!("[{discard}]")), 1, "changed");
    assert_eq!(read("[]", "[]"), 3);
}
