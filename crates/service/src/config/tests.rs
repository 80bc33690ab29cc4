#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io;
use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

fn parse_as(text: &str, mode: Mode) -> Result<Config, ConfigErrors> {
    let variable = |name: &str| match name {
        "KEY" => Some("the-key".to_owned()),
        "NUMBER" => Some("1000".to_owned()),
        "INJECTION" => Some("x, kind: webhook }\n- { id: evil".to_owned()),
        "SHOUT" => Some("NOT AN ID".to_owned()),
        _ => None,
    };
    let file = |_: &Path| Err(io::Error::from(io::ErrorKind::NotFound));
    parse("conf/millrace.yaml", text, &Environment { variable: &variable, file: &file }, mode)
}

fn config(text: &str) -> Config {
    match parse_as(text, Mode::Service) {
        Ok(config) => config,
        Err(errors) => panic!("{}", render(&errors)),
    }
}

fn render(errors: &ConfigErrors) -> String {
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
    handler.render_report(&mut text, errors).unwrap();
    text
}

/// The errors of a file as its author sees them.
#[track_caller]
fn errors(text: &str) -> String {
    match parse_as(text, Mode::Service) {
        Ok(_) => panic!("the file was accepted:\n{text}"),
        Err(errors) => render(&errors),
    }
}

/// A file that is fine, to be followed by what is tested.
const BASE: &str = r#"workspace: acme
sources:
  - { id: web, kind: http, write_key: "${KEY}" }
warehouses:
  - { id: main, kind: postgres, settings: { url: "postgres://me:${KEY}@db/x" } }
destinations:
  - { id: hook, kind: webhook, settings: { url: "https://example.com/in" } }
"#;

fn with_base(more: &str) -> String {
    format!("{BASE}{more}")
}

mod accepted;
mod bounds;
mod refused;
