//! `millrace connectors …`: what there is, and what authors of YAML destinations need.

mod test;

use std::path::Path;

use millrace_connector::Registry;
use millrace_connectors::skeletons;
use serde_json::{Map, Value, json};

use crate::cli::{ConnectorsCommand, Output};
use crate::exit::Failure;
use crate::output;
use crate::secrets::is_secret;

/// `millrace connectors …`
pub(crate) async fn run(what: &ConnectorsCommand, output: Output) -> Result<(), Failure> {
    millrace_service::install_tls();
    match what {
        ConnectorsCommand::List { connectors } => {
            list(&crate::connectors::of_folder(connectors.as_deref())?, output);
            Ok(())
        }
        ConnectorsCommand::Show { kind, connectors } => {
            show(&crate::connectors::of_folder(connectors.as_deref())?, kind, output)
        }
        ConnectorsCommand::New { name, rust, connectors } => new(name, *rust, connectors, output),
        ConnectorsCommand::Test { which, watch, connectors } => {
            test::run(which.as_deref(), *watch, connectors.as_deref(), output).await
        }
        ConnectorsCommand::Schema => {
            let schema = serde_json::to_string_pretty(&millrace_connectors::declarative::schema());
            output::line(schema.map_err(|error| Failure::Failed(error.to_string()))?);
            Ok(())
        }
    }
}

/// One kind of the registry, whatever it is.
struct Kind {
    kind: String,
    what: &'static str,
    summary: String,
    schema: Value,
}

fn kinds(registry: &Registry) -> Vec<Kind> {
    let kind = |kind: &str, what: &'static str, summary: &str, schema: Value| Kind {
        kind: kind.to_owned(),
        what,
        summary: summary.to_owned(),
        schema,
    };
    let sources = registry.sources.iter().map(|one| kind(one.kind, "source", one.summary, (one.schema)()));
    let destinations =
        registry.destinations.iter().map(|one| kind(&one.kind, "destination", &one.summary, (one.schema)()));
    let warehouses =
        registry.warehouses.iter().map(|one| kind(one.kind, "warehouse", one.summary, (one.schema)()));
    sources.chain(destinations).chain(warehouses).collect()
}

fn list(registry: &Registry, output: Output) {
    let kinds = kinds(registry);
    let rows = kinds.iter().map(|one| vec![one.kind.clone(), one.what.to_owned(), one.summary.clone()]);
    let text = output::table(&["KIND", "WHAT", "SUMMARY"], rows);
    let json: Vec<Value> = kinds
        .iter()
        .map(|one| json!({ "kind": one.kind, "what": one.what, "summary": one.summary }))
        .collect();
    output::result(output, &json!(json), text);
}

fn show(registry: &Registry, kind: &str, output: Output) -> Result<(), Failure> {
    let kinds = kinds(registry);
    let Some(one) = kinds.iter().find(|one| one.kind == kind) else {
        let known: Vec<&str> = kinds.iter().map(|one| one.kind.as_str()).collect();
        return Err(Failure::Usage(format!("there is no kind {kind:?}; there are: {}", known.join(", "))));
    };
    let json = json!({ "kind": one.kind, "what": one.what, "summary": one.summary, "schema": one.schema });
    let none = Map::new();
    let properties = one.schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = one.schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = properties.iter().map(|(name, property)| {
        let required = required.iter().any(|one| one == name).then_some("required");
        let secret = is_secret(property, &one.schema).then_some("secret");
        let marks: Vec<&str> = required.into_iter().chain(secret).collect();
        let default = property.get("default").filter(|default| !default.is_null());
        vec![
            name.clone(),
            marks.join(", "),
            output::cell(default),
            output::cell(property.get("description")).replace('\n', " "),
        ]
    });
    let table = output::table(&["SETTING", "", "DEFAULT", "WHAT"], rows);
    let text = format!("{} ({}): {}\n\n{table}", one.kind, one.what, one.summary);
    output::result(output, &json, text);
    Ok(())
}

fn new(name: &str, rust: bool, folder: &Path, output: Output) -> Result<(), Failure> {
    let spelled = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(spelled) {
        return Err(Failure::Usage(format!("{name:?} is no kind: use lower-case letters, digits and _")));
    }
    if let Some(known) = millrace_connectors::registry().destination_entry(name) {
        let told = format!("there is a destination {name:?} already ({}): take another name", known.summary);
        return Err(Failure::Usage(told));
    }
    if rust {
        output::line(skeletons::in_rust(name));
        return Ok(());
    }
    let file = folder.join(format!("{name}.yaml"));
    if file.exists() {
        return Err(Failure::Usage(format!("there is a {} already", file.display())));
    }
    let schema = serde_json::to_string_pretty(&millrace_connectors::declarative::schema())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let unwritten =
        |error| Failure::Failed(format!("cannot write to the folder {}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritten)?;
    std::fs::write(&file, skeletons::in_yaml(name)).map_err(unwritten)?;
    std::fs::write(folder.join("connector.schema.json"), schema).map_err(unwritten)?;
    let text = format!(
        "wrote {}\nnext: edit it, and run `millrace connectors test {} --watch`",
        file.display(),
        file.display()
    );
    output::result(output, &json!({ "file": file }), text);
    Ok(())
}
