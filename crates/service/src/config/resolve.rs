//! What types cannot say about a file: names that lead nowhere, things named twice, keys that exclude
//! each other. Defaults that depend on something else are filled in here too.

mod schemas;

use std::collections::BTreeMap;
use std::path::Path;

use millrace_event_model::{ConnectionId, SourceId};

use super::error::ConfigError;
use super::file::{ConnectionEntry, File, Settings, SourceConfig, SyncEntry, SyncMode, WarehouseConfig};
use super::names::{Names, suggest};
use super::tree::{Node, Value};
use super::units::WriteKeys;
use super::{Config, ConnectionConfig, Document, Mode, SyncConfig, Target, Trigger};
use crate::{Schedule, Secret, leave_time};

/// The largest load, in bytes as Kafka holds them: more, and the process needs gigabytes.
const MAX_LOAD_BYTES: usize = 256 * 1024 * 1024;

/// Judges a file and fills in what is left to defaults. `root` is the tree from which `file` was read:
/// its lists have as many elements. The document still has what was taken out of it because of errors, so
/// that a name which leads to something broken does not count as leading nowhere.
pub(super) fn resolve(
    file: File,
    root: &Node,
    document: Document,
    mode: Mode,
    errors: &mut Vec<ConfigError>,
) -> Option<Config> {
    let mut judge = Judge { root, names: Names::of(&document.root), errors };
    judge.workspace(&document.root);
    judge.listeners(&file);
    judge.unique_names();
    judge.sources(&file.sources);
    judge.policies(&file.privacy);
    let folder = Path::new(&document.name).parent().unwrap_or(Path::new("")).to_owned();
    let connections = judge.connections(file.connections, &file.warehouses, &folder, mode);
    judge.schemas(&connections, &file.sources);
    let syncs = judge.syncs(file.syncs);
    let mut ingest = file.ingest;
    if let Some(tls) = &mut ingest.tls {
        tls.relative_to(&folder);
    }
    if let Some(geoip) = &mut ingest.geoip {
        geoip.database = folder.join(&geoip.database);
    }
    let mut sources = file.sources;
    for source in sources.iter_mut().filter(|source| source.comes_by_http()) {
        source.block_events.track.extend(file.block_events.track.iter().cloned());
    }
    replays_follow_their_originals(&mut sources);
    let beside = Some(folder.join("connectors")).filter(|folder| folder.is_dir());
    let connectors = file.connectors.map(|path| folder.join(path)).or(beside);
    Some(Config {
        workspace: file.workspace?,
        kafka: file.kafka,
        state: file.state,
        ingest,
        admin: file.admin,
        sources,
        warehouses: file.warehouses,
        destinations: file.destinations,
        connectors,
        connections,
        syncs,
        privacy: file.privacy,
        document,
    })
}

/// What must not be stored of an event must not be stored of its replay either.
fn replays_follow_their_originals(sources: &mut [SourceConfig]) {
    let policies: BTreeMap<SourceId, String> =
        sources.iter().filter_map(|source| Some((source.id.clone(), source.privacy.clone()?))).collect();
    for source in sources.iter_mut().filter(|source| source.privacy.is_none()) {
        source.privacy = source.replay_of.as_ref().and_then(|original| policies.get(original).cloned());
    }
}

struct Judge<'a> {
    root: &'a Node,
    names: Names,
    errors: &'a mut Vec<ConfigError>,
}

impl Judge<'_> {
    /// The nodes of a section, in the order of the values that were read from them.
    fn nodes(&self, section: &str) -> Vec<Node> {
        self.root.get(section).map(|list| list.elements().cloned().collect()).unwrap_or_default()
    }

    /// Reports an error about a key of a node, or about the node where it lacks the key.
    fn report(&mut self, node: &Node, key: &str, message: impl Into<String>, help: Option<String>) {
        let about = node.get(key).unwrap_or(node);
        let mut error = ConfigError::new(about.span.clone(), about.as_written(&message.into()));
        error.help = help;
        self.errors.push(error);
    }

    fn workspace(&mut self, whole: &Node) {
        let is_there = whole.get("workspace").is_some_and(|node| !matches!(node.value, Value::Null));
        if !is_there {
            let help = "it names the installation, such as acme: the first part of every topic and group";
            self.errors.push(ConfigError::new(0..0, "\"workspace\" is missing").help(help));
        }
    }

    fn listeners(&mut self, file: &File) {
        for (section, address) in [("ingest", &file.ingest.listen), ("admin", &file.admin.listen)] {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(_)))
                && let Some(node) = self.root.get(section).cloned()
            {
                let help = "write an address and a port, such as 127.0.0.1:8080".to_owned();
                self.report(&node, "listen", "this is no address to listen on", Some(help));
            }
        }
    }

    /// Warehouses and destinations share their names: `to:` means either.
    fn unique_names(&mut self) {
        for group in [&["sources"][..], &["warehouses", "destinations"], &["syncs"]] {
            let mut first = BTreeMap::new();
            let nodes: Vec<Node> = group.iter().flat_map(|section| self.nodes(section)).collect();
            for node in &nodes {
                let Some(id) = node.get("id") else { continue };
                let Some(text) = id.text() else { continue };
                match first.get(&text.text) {
                    None => {
                        first.insert(text.text.clone(), id.span.clone());
                    }
                    Some(earlier) => {
                        let message = id.as_written(&format!("the id {:?} is used twice", text.text));
                        let error = ConfigError::new(id.span.clone(), message);
                        self.errors.push(error.and(earlier.clone(), "first used here"));
                    }
                }
            }
        }
    }

    fn sources(&mut self, sources: &[SourceConfig]) {
        let nodes = self.nodes("sources");
        for (source, node) in sources.iter().zip(&nodes) {
            self.source_kind(source, node);
            if let Some(policy) = &source.privacy
                && !self.names.policies.contains(policy)
            {
                let help = suggest(policy, &self.names.policies, "privacy policies");
                self.report(node, "privacy", format!("there is no privacy policy {policy:?}"), help);
            }
            self.source_origins(source, node);
            self.source_rate(source, node);
            self.source_replay(source, sources, node);
        }
        self.write_keys(sources, &nodes);
    }

    /// Ingest knows a source by its keys: no two may share one.
    fn write_keys(&mut self, sources: &[SourceConfig], nodes: &[Node]) {
        let mut known: Vec<(&str, &SourceId, &Node)> = Vec::new();
        for (source, node) in sources.iter().zip(nodes).filter(|(source, _)| source.comes_by_http()) {
            let keys = source.write_key.as_ref().map(WriteKeys::all).unwrap_or_default();
            for (index, key) in keys.iter().map(Secret::expose).enumerate().filter(|(_, key)| !key.is_empty())
            {
                let here = key_node(node, index);
                if let Some((_, other, there)) = known.iter().find(|(earlier, ..)| *earlier == key) {
                    let message = if *other == &source.id {
                        "the source has this write_key twice"
                    } else {
                        "two sources have the same write_key"
                    };
                    let error = ConfigError::new(here.span.clone(), message);
                    self.errors.push(error.and(there.span.clone(), "the other"));
                }
                known.push((key, &source.id, here));
            }
        }
    }

    fn source_kind(&mut self, source: &SourceConfig, node: &Node) {
        let kind = &source.kind;
        if !source.comes_by_http() {
            for key in ["write_key", "rate_limit", "origins", "replay_of", "block_events"] {
                if node.get(key).is_some() {
                    let message = format!("a source of kind {kind:?} takes no {key}");
                    self.report(node, key, message, Some("only kinds http and webhook do".to_owned()));
                }
            }
            return;
        }
        let was_there =
            matches!(&node.value, Value::Map(map) if map.reported.iter().any(|key| key == "write_key"));
        let keys = source.write_key.as_ref().map(WriteKeys::all).unwrap_or_default();
        let has_key = !keys.is_empty() && keys.iter().all(|key| !key.expose().is_empty());
        if !has_key && !was_there && source.replay_of.is_none() {
            let help = "give it one, such as write_key: \"${WEB_WRITE_KEY}\"".to_owned();
            let message = format!("the {kind} source {:?} has no write_key", source.id.as_str());
            self.report(node, "id", message, Some(help));
        }
        for key in ["command", "schedule"] {
            if node.get(key).is_some() {
                self.report(node, key, format!("a source of kind {kind} takes no {key}"), None);
            }
        }
        if source.settings != Settings::default() {
            self.report(node, "settings", format!("a source of kind {kind} takes no settings"), None);
        }
    }

    /// Browsers send an origin as a scheme and a host, and it is compared as text.
    fn source_origins(&mut self, source: &SourceConfig, node: &Node) {
        for origin in &source.origins {
            let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
            let is_origin = |host: &str| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']);
            if !host.is_some_and(is_origin) || origin.chars().any(char::is_uppercase) {
                let help = "write it as browsers do, such as https://www.example.com";
                self.report(node, "origins", format!("{origin:?} is no origin"), Some(help.to_owned()));
            }
        }
    }

    fn source_rate(&mut self, source: &SourceConfig, node: &Node) {
        let Some(limit) = source.rate_limit else { return };
        // A rate that is no rate has been reported, and taken out.
        let was_there = node
            .get("rate_limit")
            .is_some_and(|limit| matches!(&limit.value, Value::Map(map) if !map.reported.is_empty()));
        if !was_there && limit.events.is_some() == limit.requests.is_some() {
            let help = "such as { events: 1000/s }, or { requests: 100/s, burst: 500 }".to_owned();
            self.report(node, "rate_limit", "a rate_limit counts either events or requests", Some(help));
        }
    }

    fn source_replay(&mut self, source: &SourceConfig, sources: &[SourceConfig], node: &Node) {
        let Some(original) = &source.replay_of else { return };
        if source.is_webhook() {
            self.report(node, "replay_of", "a source of kind webhook takes no replay_of", None);
        }
        let known = &self.names.sources;
        if original == &source.id || !known.iter().any(|name| name == original.as_str()) {
            let others: Vec<String> =
                known.iter().filter(|name| *name != source.id.as_str()).cloned().collect();
            let help = suggest(original.as_str(), &others, "sources");
            let message = format!("there is no other source {:?}", original.as_str());
            return self.report(node, "replay_of", message, help);
        }
        if sources.iter().any(|other| other.id == *original && !other.comes_by_http()) {
            let message = format!("the source {:?} is not of kind http", original.as_str());
            self.report(node, "replay_of", message, None);
        }
    }

    fn policies(&mut self, policies: &BTreeMap<String, serde_json::Value>) {
        for (name, policy) in policies {
            if !policy.is_object()
                && let Some(node) = self.root.get("privacy").cloned()
            {
                let help =
                    "such as { detect: all, action: mask }, or { email: hash, card: redact }".to_owned();
                self.report(&node, name, format!("the privacy policy {name:?} is no mapping"), Some(help));
            }
        }
    }

    fn connections(
        &mut self,
        entries: Vec<ConnectionEntry>,
        warehouses: &[WarehouseConfig],
        folder: &Path,
        mode: Mode,
    ) -> Vec<ConnectionConfig> {
        let nodes = self.nodes("connections");
        let mut connections: Vec<ConnectionConfig> = Vec::new();
        for (entry, node) in entries.into_iter().zip(&nodes) {
            let from_exists = self.source_of(&entry, node);
            let target = self.target_of(&entry, node, warehouses, mode);
            let id = match ConnectionId::between(entry.from.as_str(), &entry.to) {
                Ok(id) => id,
                Err(error) => {
                    // A target that does not exist has been reported, whatever is in its name.
                    if target.is_some() {
                        self.report(node, "to", error.to_string(), Some("use shorter names".to_owned()));
                    }
                    continue;
                }
            };
            let Some(to) = target.filter(|_| from_exists) else { continue };
            if connections.iter().any(|other| other.id == id) {
                let message = format!("{:?} and {:?} are connected twice", entry.from.as_str(), entry.to);
                self.report(node, "to", message, None);
                continue;
            }
            connections.push(ConnectionConfig {
                id,
                from: entry.from,
                to,
                start: entry.start,
                when: entry.when,
                transform: entry.transform.map(|path| folder.join(path)),
                unseal: entry.unseal,
                accept_gap: entry.accept_gap,
                mode: entry.mode,
                dedup: entry.dedup,
                contract: entry.contract,
            });
        }
        connections
    }

    fn source_of(&mut self, entry: &ConnectionEntry, node: &Node) -> bool {
        let from = entry.from.as_str();
        if self.names.sources.iter().any(|name| name == from) {
            return true;
        }
        let is_warehouse = self.names.warehouses.iter().any(|name| name == from);
        let help = if is_warehouse {
            Some("it is a warehouse: what goes out of a warehouse is a sync, under syncs".to_owned())
        } else {
            suggest(from, &self.names.sources, "sources")
        };
        self.report(node, "from", format!("there is no source {from:?}"), help);
        false
    }

    fn target_of(
        &mut self,
        entry: &ConnectionEntry,
        node: &Node,
        warehouses: &[WarehouseConfig],
        mode: Mode,
    ) -> Option<Target> {
        let to = entry.to.as_str();
        if self.names.destinations.iter().any(|name| name == to) {
            let keys = [
                "schema",
                "schedule",
                "exclude",
                "flush",
                "nested",
                "accept_gap",
                "mode",
                "dedup",
                "contract",
            ];
            for key in keys {
                if node.get(key).is_some() {
                    let help = format!("{to:?} is a destination, to which events go as they come");
                    self.report(
                        node,
                        key,
                        format!("only a connection to a warehouse takes `{key}`"),
                        Some(help),
                    );
                }
            }
            return Some(Target::Destination { id: to.parse().ok()? });
        }
        if !self.names.warehouses.iter().any(|name| name == to) {
            let targets = self.names.targets();
            let help = suggest(to, &targets, "warehouses and destinations");
            self.report(node, "to", format!("there is no warehouse or destination {to:?}"), help);
            return None;
        }
        // None where the warehouse itself is broken, which has been reported.
        let warehouse = warehouses.iter().find(|warehouse| warehouse.id.as_str() == to)?;
        let schema = entry.schema.clone().unwrap_or_else(|| entry.from.as_str().replace('-', "_"));
        let schedule = entry.schedule.clone().unwrap_or_else(|| default_schedule(warehouse, mode));
        self.timing(entry, &schedule, node);
        let (exclude, flush, nested) = (entry.exclude.clone(), entry.flush, entry.nested);
        Some(Target::Warehouse { id: warehouse.id.clone(), schema, schedule, exclude, flush, nested })
    }

    /// Whether it is ever loaded, and not in loads that no memory holds.
    fn timing(&mut self, entry: &ConnectionEntry, schedule: &Schedule, node: &Node) {
        if !leave_time(&entry.exclude) {
            let help = "leave some time of the day; `schedule: manual` loads only when asked to".to_owned();
            self.report(node, "exclude", "the windows leave no time to load", Some(help));
        } else if matches!(schedule, Schedule::Cron(_))
            && schedule.next_outside(&entry.exclude, chrono::DateTime::UNIX_EPOCH).is_none()
        {
            let message = format!("every time of the schedule \"{schedule}\" is in an excluded window");
            self.report(node, "exclude", message, None);
        }
        let flush = node.get("flush").unwrap_or(node).clone();
        if entry.flush.age.is_some() && !matches!(schedule, Schedule::Every(_)) {
            let message = format!("flush.age goes with an interval, and the schedule is \"{schedule}\"");
            let help = "a cron schedule takes all that is there at its times".to_owned();
            self.report(&flush, "age", message, Some(help));
        }
        if entry.flush.bytes.is_some_and(|bytes| bytes.0 > MAX_LOAD_BYTES) {
            let help = "a load is held in memory; larger ones are not faster".to_owned();
            self.report(&flush, "bytes", "flush.bytes is more than 256 MiB", Some(help));
        }
    }

    fn syncs(&mut self, entries: Vec<SyncEntry>) -> Vec<SyncConfig> {
        let nodes = self.nodes("syncs");
        let pairs = entries.into_iter().zip(&nodes);
        pairs.filter_map(|(entry, node)| self.sync(entry, node)).collect()
    }

    fn sync(&mut self, entry: SyncEntry, node: &Node) -> Option<SyncConfig> {
        let found = [
            self.must_exist(node, "from", "warehouse", &entry.from),
            self.must_exist(node, "to", "destination", &entry.to),
            entry.after.as_ref().is_none_or(|after| self.must_exist(node, "after", "warehouse", after)),
        ];
        if entry.schedule.is_some() && entry.after.is_some() {
            let help = "schedule runs it by the clock, after when the loader has committed; choose one";
            self.report(node, "after", "a sync has either schedule or after", Some(help.to_owned()));
        }
        if entry.model.trim().is_empty() {
            self.report(node, "model", "the model is empty: write a SELECT", None);
        }
        if entry.key.is_empty() {
            self.report(node, "key", "a sync needs at least one key column", None);
        }
        let is_mapped =
            |column: &String| entry.map.is_empty() || entry.map.values().any(|from| from == column);
        let unmapped = entry.key.iter().find(|column| !is_mapped(column));
        if let (SyncMode::Mirror, Some(column)) = (entry.mode, unmapped) {
            let message = format!("the key column {column:?} is not in map");
            let help = "mode mirror deletes by the mapped key columns: map each of them".to_owned();
            self.report(node, "key", message, Some(help));
        }
        if found.contains(&false) {
            return None;
        }
        let trigger = match entry.after {
            Some(after) => Trigger::After(after.parse().ok()?),
            None => Trigger::Schedule(entry.schedule.unwrap_or(Schedule::Manual)),
        };
        Some(SyncConfig {
            id: entry.id,
            from: entry.from.parse().ok()?,
            model: entry.model,
            key: entry.key,
            to: entry.to.parse().ok()?,
            mode: entry.mode,
            map: entry.map,
            trigger,
        })
    }

    fn must_exist(&mut self, node: &Node, key: &str, what: &str, name: &str) -> bool {
        let known = if what == "warehouse" { &self.names.warehouses } else { &self.names.destinations };
        if known.iter().any(|other| other == name) {
            return true;
        }
        let help = suggest(name, known, &format!("{what}s"));
        self.report(node, key, format!("there is no {what} {name:?}"), help);
        false
    }
}

/// The node of one of a source's keys, which may stand alone or in a list.
fn key_node(source: &Node, index: usize) -> &Node {
    let keys = source.get("write_key").unwrap_or(source);
    keys.elements().nth(index).unwrap_or(keys)
}

/// Loading often makes many small files in a lake, and a commit on an object store costs more than one in
/// a folder; a SQL server takes small batches well.
fn default_schedule(warehouse: &WarehouseConfig, mode: Mode) -> Schedule {
    let seconds = |seconds| Schedule::Every(std::time::Duration::from_secs(seconds));
    let url = warehouse.settings.get("url").and_then(|url| url.as_str()).unwrap_or_default();
    let is_local = !url.contains("://") || url.starts_with("file://");
    match (mode, warehouse.kind.as_str()) {
        (Mode::Dev, _) => seconds(2),
        (Mode::Service, "lake") if is_local => seconds(2),
        (Mode::Service, "lake") => seconds(600),
        (Mode::Service, _) => seconds(60),
    }
}
