//! What a warehouse holds, taken whole, and in what two of them differ.

use std::collections::BTreeMap;

use serde_json::Value;

/// Columns with the time of the load: the only ones that may differ between two loads of the same topic.
const LOAD_TIME_COLUMNS: [&str; 1] = ["uuid_ts"];

/// The books, summed up: how many lines they take is the loads' own business.
const BOOKS: &str = "SELECT connection, source, hour, disposition, CAST(sum(items) AS BIGINT) AS items, \
    CAST(sum(conflicts) AS BIGINT) AS conflicts FROM _millrace.counts GROUP BY 1, 2, 3, 4";

/// Differences that are shown; the rest is counted.
const SHOWN: usize = 10;

/// Everything in some schemas: under the name of each table its rows, and the columns and the books. A line
/// stands beside the number of times that it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents(BTreeMap<String, BTreeMap<String, usize>>);

impl Contents {
    /// Reads these schemas with `query`; of tables whose rows are versions, what holds now.
    pub(crate) fn read(schemas: &[&str], versions: &[&str], query: impl Fn(&str) -> Vec<Value>) -> Self {
        let mut contents = Self::default();
        let list = schemas.iter().map(|schema| format!("'{schema}'")).collect::<Vec<_>>().join(", ");
        let columns = query(&format!(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns \
             WHERE table_schema IN ({list})"
        ));
        for column in &columns {
            let table = format!("{}.{}", text(column, "table_schema"), text(column, "table_name"));
            contents.0.entry(table).or_default();
        }
        let tables: Vec<String> = contents.0.keys().cloned().collect();
        for table in &tables {
            let all = match versions.contains(&table.as_str()) {
                false => format!("SELECT * FROM {table}"),
                true => latest_of(table, &columns),
            };
            contents.take(table, query(&all));
        }
        contents.take("the columns", columns);
        contents.take("the books", query(BOOKS));
        contents
    }

    fn take(&mut self, title: &str, rows: Vec<Value>) {
        let lines = self.0.entry(title.to_owned()).or_default();
        for mut row in rows {
            let cells = row.as_object_mut().unwrap();
            cells.retain(|column, _| !LOAD_TIME_COLUMNS.contains(&column.as_str()));
            *lines.entry(row.to_string()).or_default() += 1;
        }
    }

    /// Rows of a table.
    pub(crate) fn rows(&self, table: &str) -> usize {
        self.0.get(table).map_or(0, |lines| lines.values().sum())
    }

    /// What the other has more or less of, a line each; none where they are equal.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let none = BTreeMap::new();
        let mut found = Vec::new();
        for title in union(&self.0, &other.0) {
            if self.0.contains_key(title) != other.0.contains_key(title) {
                found.push(format!("{title}: only one has it"));
            }
            let (ours, theirs) = (self.0.get(title).unwrap_or(&none), other.0.get(title).unwrap_or(&none));
            for line in union(ours, theirs) {
                let times = |lines: &BTreeMap<String, usize>| lines.get(line).copied().unwrap_or(0);
                if times(ours) != times(theirs) {
                    found.push(format!("{title}: {} times, not {}: {line}", times(ours), times(theirs)));
                }
            }
        }
        found
    }

    /// Stops the test unless both are equal.
    pub(crate) fn assert_equals(&self, undisturbed: &Self) {
        let found = self.differences(undisturbed);
        let shown = found.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
        assert!(found.is_empty(), "{} differences from an undisturbed run:\n{shown}", found.len());
    }
}

/// The query of `docs/warehouses.md`: of each column the latest value that is not null.
fn latest_of(table: &str, columns: &[Value]) -> String {
    let of_table = columns
        .iter()
        .filter(|column| table == format!("{}.{}", text(column, "table_schema"), text(column, "table_name")));
    let names = of_table.map(|column| text(column, "column_name")).filter(|name| *name != "id");
    let latest = names.map(|name| {
        format!(
            "(array_agg(\"{name}\" ORDER BY received_at DESC) FILTER (WHERE \"{name}\" IS NOT NULL))[1] AS \"{name}\""
        )
    });
    format!("SELECT id, {} FROM {table} GROUP BY id", latest.collect::<Vec<_>>().join(", "))
}

fn union<'m, T>(one: &'m BTreeMap<String, T>, other: &'m BTreeMap<String, T>) -> Vec<&'m String> {
    let more = other.keys().filter(|key| !one.contains_key(*key));
    one.keys().chain(more).collect()
}

fn text<'r>(row: &'r Value, column: &str) -> &'r str {
    row[column].as_str().unwrap_or_default()
}

/// A warehouse of one table with three rows, two of them alike, after `change`.
fn example(change: impl Fn(&str, &mut Vec<Value>)) -> Contents {
    Contents::read(&["web"], &[], |sql| {
        let column = |name: &str, of_type: &str| serde_json::json!({"table_schema": "web", "table_name": "tracks", "column_name": name, "data_type": of_type});
        let row = |id: &str| serde_json::json!({"id": id, "price": 1, "uuid_ts": id});
        let (title, mut rows) = match sql {
            _ if sql.contains("columns") => {
                ("columns", vec![column("id", "text"), column("price", "bigint")])
            }
            _ if sql.contains("counts") => ("books", vec![serde_json::json!({"source": "web", "items": 3})]),
            _ => ("rows", vec![row("a"), row("b"), row("b")]),
        };
        change(title, &mut rows);
        rows
    })
}

#[test]
fn the_comparison_finds_whatever_is_missing_doubled_or_changed() {
    let undisturbed = example(|_, _| {});
    assert_eq!(undisturbed.rows("web.tracks"), 3);
    let differ = |of: &str, change: fn(&mut Vec<Value>)| {
        let changed = example(|title, rows| {
            if title == of {
                change(rows)
            }
        });
        changed.differences(&undisturbed).len()
    };
    assert_eq!(differ("rows", |rows| rows.reverse()), 0, "tables have no order");
    assert_eq!(differ("rows", |rows| rows[0]["uuid_ts"] = "later".into()), 0, "the time of the load");
    assert_eq!(differ("rows", |rows| drop(rows.pop())), 1, "a row is missing");
    assert_eq!(differ("rows", |rows| rows.push(rows[0].clone())), 1, "a row is there twice");
    assert_eq!(differ("rows", |rows| rows[0]["price"] = 2.into()), 2, "a cell is another");
    assert_eq!(
        differ("rows", |rows| rows[0] = rows[1].clone()),
        2,
        "one is missing, another there too often"
    );
    assert_eq!(differ("columns", |columns| columns[1]["data_type"] = "text".into()), 2, "another type");
    assert_eq!(differ("columns", |columns| drop(columns.pop())), 1, "a column is missing");
    assert!(differ("columns", Vec::clear) > 3, "the table is missing");
    assert_eq!(differ("books", |books| books[0]["items"] = 4.into()), 2, "an item too many in the books");
}
