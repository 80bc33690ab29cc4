//! A broker and an ingest that stay while loaders come and go, and two warehouses for the same topics: one
//! for the loaders that a test disturbs, one for those that it leaves alone.

use serde_json::Value;

use crate::contents::Contents;
use crate::http::Http;
use crate::kept::Kept;
use crate::postgres::Database;
use crate::sample::Sample;
use crate::stack::{PATIENCE, PER_EVENT, Process, Site, WRITE_KEY, binary, output_within, until};

const CONFIG: &str = r#"
workspace: test
kafka: { brokers: "{brokers}", replication: accept }
state: "{dir}/${SIDE}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: "${WRITE_KEY}", privacy: strict }
  - { id: crm, kind: airbyte, command: ["{binary}", demo-source], settings: { count: {customers} } }
warehouses:
  - { id: main, kind: {kind}, settings: { url: "${WAREHOUSE_URL}"{format} } }
connections:
  - { from: web, to: main, schema: web, schedule: 200ms, when: "event != 'Heartbeat'" }
{crm}
privacy:
  strict: { detect: all, action: mask }
"#;

/// The connection of the ELT source: rows by key and full refreshes.
const CRM: &str = "  - { from: crm, to: main, schema: crm, schedule: 200ms }";

/// More rows than any table of a test gets.
const QUERY_LIMIT: &str = "1000000";

/// Which of the two warehouses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Disturbed,
    Undisturbed,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Disturbed => "disturbed",
            Self::Undisturbed => "undisturbed",
        }
    }
}

/// See the module.
pub(crate) struct River {
    pub(crate) sample: Sample,
    kind: &'static str,
    /// Whether the lake is one of plain Parquet: rows are only ever added, so the ELT source is left out, and
    /// merged rows are there as versions.
    plain: bool,
    brokers: String,
    urls: [String; 2],
    ingest: String,
    http: Http,
    /// Customers that the ELT source has by now, and the rows that were read of it.
    customers: u64,
    pub(crate) elt_rows: u64,
    // In the order in which they are taken down: the folder last.
    _processes: Vec<Process>,
    databases: Vec<Database>,
    site: Site,
}

impl River {
    /// The same with a sample of values that conflict; before anything is sent.
    pub(crate) fn with_conflicts(mut self) -> Self {
        self.sample = Sample::with_conflicts();
        self
    }

    /// Loads into lakes.
    pub(crate) fn of_lakes() -> Self {
        Self::of_folders(false)
    }

    /// Loads events into lakes of plain Parquet.
    pub(crate) fn of_plain_files() -> Self {
        Self::of_folders(true)
    }

    fn of_folders(plain: bool) -> Self {
        let site = Site::new("");
        let url = |side: Side| site.path().join(side.name()).join("lake").display().to_string();
        let urls = [url(Side::Disturbed), url(Side::Undisturbed)];
        Self::start(site, "lake", plain, urls, Vec::new())
    }

    /// Loads into PostgreSQL, or says that the test is skipped.
    pub(crate) fn of_databases(name: &str) -> Option<Self> {
        let databases = vec![
            Database::new(&format!("{name}_disturbed"))?,
            Database::new(&format!("{name}_undisturbed"))?,
        ];
        Some(Self::of_these(databases, None))
    }

    /// Loads into these two databases; into the disturbed one by way of `line`, an address, where there is one.
    pub(crate) fn of_these(databases: Vec<Database>, line: Option<&str>) -> Self {
        let mut urls = [databases[0].url.clone(), databases[1].url.clone()];
        if let Some(line) = line {
            urls[Side::Disturbed as usize] = databases[0].url_through(line);
        }
        Self::start(Site::new(""), "postgres", false, urls, databases)
    }

    fn start(
        site: Site,
        kind: &'static str,
        plain: bool,
        urls: [String; 2],
        databases: Vec<Database>,
    ) -> Self {
        let folder = site.path().join("broker").display().to_string();
        let mut broker = site.start("broker", &["broker", "-o", "json", "-d", &folder]);
        let brokers = broker.first_line()["bootstrap"].as_str().unwrap().to_owned();
        let mut river = Self {
            sample: Sample::default(),
            kind,
            plain,
            brokers,
            urls,
            ingest: String::new(),
            http: Http::new(),
            customers: 0,
            elt_rows: 0,
            _processes: Vec::new(),
            databases,
            site,
        };
        river.configure();
        let ingest = river.process("ingest", &["ingest"], &[]);
        let address = until("ingest listens", || {
            let log = ingest.log();
            let (_, rest) = log.split_once("receiving events address=")?;
            let (address, _) = rest.split_once(char::is_whitespace)?;
            Some(address.to_owned())
        });
        river.ingest = format!("http://{address}");
        river._processes = vec![ingest, broker];
        river
    }

    fn configure(&self) {
        let config = CONFIG
            .replace("{brokers}", &self.brokers)
            .replace("{binary}", &binary().display().to_string())
            .replace("{customers}", &self.customers.to_string())
            .replace("{kind}", self.kind)
            .replace("{format}", if self.plain { ", format: parquet" } else { "" })
            .replace("{crm}", if self.plain { "" } else { CRM });
        self.site.write("millrace.yaml", &config);
    }

    fn variables(&self, side: Side) -> [(&str, &str); 3] {
        let url = &self.urls[side as usize];
        [("SIDE", side.name()), ("WRITE_KEY", WRITE_KEY), ("WAREHOUSE_URL", url)]
    }

    fn process(&self, name: &str, arguments: &[&str], more: &[(&str, &str)]) -> Process {
        let variables = self.variables(Side::Disturbed);
        let variables: Vec<_> = variables.iter().chain(more).copied().collect();
        self.site.start_with(name, arguments, &variables)
    }

    /// Runs a command to its good end; returns the lines of its stdout as JSON.
    fn run(&self, side: Side, arguments: &[&str]) -> Vec<Value> {
        let mut command = self.site.command(arguments);
        command.envs(self.variables(side));
        let patience = PATIENCE + PER_EVENT * u32::try_from(self.sample.made()).unwrap();
        let output = output_within(patience, command);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Starts a loader into the disturbed warehouse, with more variables.
    pub(crate) fn loader(&self, name: &str, variables: &[(&str, &str)]) -> Process {
        self.process(name, &["load"], variables)
    }

    /// Loads what is there now.
    pub(crate) fn load_once(&self, side: Side) {
        self.run(side, &["load", "--once", "-o", "json"]);
    }

    /// Starts a rebuild of the events' connection into the disturbed warehouse.
    pub(crate) fn rebuild(&self, name: &str) -> Process {
        self.process(
            name,
            &["rebuild", "--connection", "web--main", "-o", "json"],
            &[("MILLRACE_LOG", "info")],
        )
    }

    /// Sends the next visits of the sample.
    pub(crate) fn send(&mut self, visits: usize) {
        for _ in 0..visits {
            let answer = self.http.event(&self.ingest, "/v1/batch", &self.sample.next());
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    /// Reads the ELT source, which has more customers than before.
    pub(crate) fn extract(&mut self) {
        if self.plain {
            return;
        }
        self.customers += 20;
        self.configure();
        let reports = self.run(Side::Disturbed, &["extract", "--once", "-o", "json"]);
        let streams = reports[0][0]["streams"].as_array().unwrap();
        self.elt_rows += streams.iter().map(|stream| stream["rows"].as_u64().unwrap()).sum::<u64>();
    }

    pub(crate) fn query(&self, side: Side, sql: &str) -> Vec<Value> {
        self.run(side, &["query", "-o", "json", "--limit", QUERY_LIMIT, sql])
    }

    /// The same for sessions that broke.
    pub(crate) fn reconnect(&mut self) {
        self.databases.iter_mut().for_each(Database::reconnect);
    }

    /// Where the warehouse is a database: a session of the test's own.
    pub(crate) fn database(&self, side: Side) -> &Database {
        &self.databases[side as usize]
    }

    /// Events that the books of a warehouse know the end of.
    pub(crate) fn loaded(&self, side: Side) -> u64 {
        let sql = "SELECT CAST(sum(items) AS BIGINT) AS items FROM _millrace.counts WHERE source = 'web'";
        // Before the first load, nothing.
        self.query(side, sql)[0]["items"].as_u64().unwrap_or_default()
    }

    /// Everything in a warehouse.
    pub(crate) fn contents(&self, side: Side) -> Contents {
        let versions: &[&str] = if self.plain { &["web.users"] } else { &[] };
        Contents::read(&["web", "crm"], versions, |sql| self.query(side, sql))
    }

    /// Lets a last loader finish. Stops the test unless the disturbed warehouse holds what was sent, each item
    /// once and counted as it ended, and is equal to the other, row by row.
    pub(crate) fn assert_whole(&self) {
        self.finish();
        let disturbed = self.contents(Side::Disturbed);
        disturbed.assert_equals(&self.contents(Side::Undisturbed));
        self.assert_counted(Side::Disturbed, &disturbed);
    }

    /// The same for values whose types nobody has settled: in both warehouses each item is there once, and each
    /// value is in its table or in the discards, and not in both.
    pub(crate) fn assert_kept(&self) {
        self.finish();
        for side in [Side::Disturbed, Side::Undisturbed] {
            self.assert_counted(side, &self.contents(side));
            let kept = Kept::read(|sql| self.query(side, sql));
            kept.assert_holds(self.sample.conflicting());
        }
    }

    /// Loads all that was sent into both.
    fn finish(&self) {
        let mut last = self.loader("load-last", &[]);
        until("the last loader has begun", || last.log().contains("resumed").then_some(()));
        until("all events are loaded", || (self.loaded(Side::Disturbed) >= self.sample.made()).then_some(()));
        assert!(last.stop(), "{}", last.log());
        // Full refreshes swap in after their rows have been counted.
        self.load_once(Side::Disturbed);
        self.load_once(Side::Undisturbed);
    }

    /// The books say of each item how it ended, and the tables have a row for each that was loaded.
    fn assert_counted(&self, side: Side, contents: &Contents) {
        for (table, rows) in self.sample.rows() {
            assert_eq!(contents.rows(&format!("web.{table}")) as u64, *rows, "{table}");
        }
        if !self.plain {
            assert_eq!(contents.rows("crm.customers") as u64, self.customers);
        }

        let sql = "SELECT source, disposition, CAST(sum(items) AS BIGINT) AS items, \
            CAST(sum(conflicts) AS BIGINT) AS conflicts FROM _millrace.counts GROUP BY 1, 2";
        let (mut received, mut conflicts) = ([0, 0], 0);
        for line in self.query(side, sql) {
            let items = line["items"].as_u64().unwrap();
            let disposition = line["disposition"].as_str().unwrap();
            conflicts += line["conflicts"].as_u64().unwrap();
            if line["source"] == "crm" {
                assert_eq!(disposition, "loaded");
                received[1] += items;
                continue;
            }
            assert_eq!(self.sample.ends().get(disposition), Some(&items), "{disposition}");
            received[0] += items;
        }
        assert_eq!(received, [self.sample.made(), self.elt_rows], "received = loaded + duplicate + …");
        assert_eq!(conflicts, self.sample.ends().get("conflicts").copied().unwrap_or_default());
    }
}
