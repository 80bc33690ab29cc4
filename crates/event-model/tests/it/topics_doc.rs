//! `docs/topics.md` and `deploy/kafka/topics.yaml`: pure functions of the list of topics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millrace_event_model::topics::{self, Cleanup, TopicSpec};
use millrace_event_model::{Lane, Workspace};

use crate::golden::check;

/// The comments on the topics are their documentation: they are read from here, so that nobody writes them
/// twice.
const SOURCE: &str = include_str!("../../src/topics.rs");

const MADE: &str =
    "Made from crates/event-model/src/topics.rs by UPDATE_GOLDEN=1 cargo test -p millrace-event-model";

#[test]
fn the_page_about_topics_is_what_the_code_says() {
    check("docs/topics.md", &page());
}

#[test]
fn the_file_for_deployments_is_what_the_code_says() {
    check("deploy/kafka/topics.yaml", &yaml());
}

/// For each topic, by name, the two lines that stand above its constant.
fn comments() -> BTreeMap<String, Vec<String>> {
    let mut comments = BTreeMap::new();
    let mut above = Vec::new();
    for line in SOURCE.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            above.push(comment.to_owned());
            continue;
        }
        if let Some((constant, _)) =
            line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": Topic<"))
        {
            comments.insert(constant.to_lowercase().replace('_', "-"), std::mem::take(&mut above));
        }
        above.clear();
    }
    comments
}

fn kept(cleanup: Cleanup) -> String {
    match cleanup {
        Cleanup::Delete { days } => format!("{days} days"),
        Cleanup::Compact => "the last of each key".to_owned(),
    }
}

fn example_name(spec: &TopicSpec) -> String {
    let workspace: Workspace = "acme".parse().unwrap();
    spec.full_name(&workspace, Some(&Lane::main()))
}

fn page() -> String {
    let comments = comments();
    let mut page = format!(
        "# Topics\n\n<!-- {MADE} -->\n\n\
         In the order things flow. `acme` stands for the workspace; topics with lanes exist once for each lane, \
         of which `main` is the one of every source that names no other. A topic is made at boot if it is missing. \
         Boot fails, naming it, when one cannot be made or has another number of partitions: growing is a new \
         version of the topic, since more partitions would move keys and break their order.\n\n\
         | topic | lanes | partitions | kept | may hold personal data |\n|---|---|---|---|---|\n"
    );
    let yes = |value| if value { "yes" } else { "no" };
    for spec in topics::ALL {
        let (name, kept) = (example_name(&spec), kept(spec.cleanup));
        let (lanes, personal) = (yes(spec.per_lane), yes(spec.personal));
        writeln!(page, "| `{name}` | {lanes} | {} | {kept} | {personal} |", spec.partitions).unwrap();
    }
    for spec in topics::ALL {
        write!(page, "\n## {}\n\n", spec.name).unwrap();
        for line in comments.get(spec.name).expect("every topic has its comment") {
            writeln!(page, "{line}").unwrap();
        }
        page.push('\n');
        for (setting, value) in spec.settings() {
            writeln!(page, "- `{setting}` = `{value}`").unwrap();
        }
    }
    page.push_str(
        "\n## Outside of `dev`\n\n\
         Three replicas, `min.insync.replicas=2`, `unclean.leader.election.enable=false`. Boot refuses less, unless \
         told to accept the loss of acknowledged events. `deploy/kafka/topics.yaml` has all of it for whoever makes \
         the topics by other means.\n",
    );
    page
}

fn yaml() -> String {
    let mut yaml = format!(
        "# {MADE}\n\
         #\n\
         # Millrace makes these by itself if it may. `acme` stands for the workspace; topics with `lanes: true` are\n\
         # needed once for each lane, in place of `main`.\n\
         topics:\n"
    );
    for spec in topics::ALL {
        writeln!(yaml, "  - name: {}", example_name(&spec)).unwrap();
        writeln!(yaml, "    lanes: {}", spec.per_lane).unwrap();
        writeln!(yaml, "    partitions: {}", spec.partitions).unwrap();
        writeln!(yaml, "    replication_factor: 3").unwrap();
        writeln!(yaml, "    config:").unwrap();
        let mut settings = spec.settings();
        settings.push(("min.insync.replicas", "2".to_owned()));
        settings.push(("unclean.leader.election.enable", "false".to_owned()));
        settings.sort_unstable();
        for (setting, value) in settings {
            writeln!(yaml, "      {setting}: \"{value}\"").unwrap();
        }
    }
    yaml
}

#[test]
fn every_topic_says_who_writes_and_who_reads_it() {
    for (name, comment) in comments() {
        let text = comment.join(" ");
        assert!(text.contains("ritten") && text.contains("read by"), "{name}: {text}");
    }
    assert_eq!(comments().len(), topics::ALL.len());
}
