//! An ingest process of its own, which is killed and started again before a broker that lives on; and what
//! that broker holds.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::dice::Dice;
use crate::stack::{Process, Site, WRITE_KEY};

const CONFIG: &str = r#"
workspace: {workspace}
kafka: { brokers: "{brokers}", replication: accept }
state: "{dir}/state"
ingest: { listen: "127.0.0.1:{port}" }
admin: { listen: "127.0.0.1:{admin}" }
sources:
  - { id: web, kind: http, write_key: "${WRITE_KEY}" }
"#;

/// Below the ports from which the kernel takes those of outgoing connections: none of them can sit on
/// ingest's when it comes back.
const PORTS: std::ops::Range<u64> = 10_000..30_000;

/// See the module.
pub(crate) struct Edge {
    process: Process,
    port: u64,
    admin: u64,
    // In the order in which they are taken down: the folder last.
    _broker: Option<Process>,
    site: Site,
}

/// An event as Kafka holds it.
pub(crate) struct Stored {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) message_id: String,
    pub(crate) body: String,
}

impl Edge {
    /// Before the Kafka that `./test` lends, else before an embedded broker in a process of its own.
    pub(crate) fn start(dice: &mut Dice) -> Self {
        let site = Site::new("");
        if let Some(brokers) = std::env::var("KAFKA_BROKERS").ok().filter(|brokers| !brokers.is_empty()) {
            return Self::start_before(site, &brokers, None, dice);
        }
        println!("KAFKA_BROKERS is not set: before the embedded broker");
        let folder = site.path().join("broker").display().to_string();
        let mut broker = site.start("broker", &["broker", "-o", "json", "-d", &folder]);
        let brokers = broker.first_line()["bootstrap"].as_str().unwrap().to_owned();
        Self::start_before(site, &brokers, Some(broker), dice)
    }

    /// Before these brokers.
    pub(crate) fn before(brokers: &str, dice: &mut Dice) -> Self {
        Self::start_before(Site::new(""), brokers, None, dice)
    }

    fn start_before(site: Site, brokers: &str, broker: Option<Process>, dice: &mut Dice) -> Self {
        let (port, admin) = (free_port(dice), free_port(dice));
        // A Kafka that was lent outlives the test run: the workspace is new each time.
        let config = CONFIG
            .replace("{workspace}", &format!("edge-{}-{port}", std::process::id()))
            .replace("{brokers}", brokers)
            .replace("{port}", &port.to_string())
            .replace("{admin}", &admin.to_string());
        site.write("millrace.yaml", &config);
        let process = run(&site);
        Self { process, port, admin, _broker: broker, site }
    }

    /// Where events are sent, in every life.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it says whether it is ready, in every life.
    pub(crate) fn readiness(&self) -> String {
        format!("http://127.0.0.1:{}/readyz", self.admin)
    }

    /// SIGKILL, and a new life.
    pub(crate) fn kill_and_start(&mut self) {
        assert!(self.process.is_running(), "ingest ended by itself:\n{}", self.process.log());
        self.process.kill();
        self.process = run(&self.site);
    }

    /// SIGTERM, and a good end.
    pub(crate) fn stop(&mut self) {
        assert!(self.process.stop(), "{}", self.process.log());
    }

    /// Memory that the process occupies, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let file = Path::new("/proc").join(self.process.id().to_string()).join("status");
        let status = std::fs::read_to_string(file).expect("ingest runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// Everything that Kafka holds now.
    pub(crate) fn stored(&self) -> Vec<Stored> {
        let text = self.site.stdout_with(&["tap", "--no-follow", "-o", "json"], &[("WRITE_KEY", WRITE_KEY)]);
        text.lines().map(Stored::read).collect()
    }
}

impl Stored {
    /// Reads a line of `tap`, which has the body as it was sent.
    fn read(line: &str) -> Self {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(line).unwrap();
        let decided: Value = serde_json::from_str(fields["decided"].get()).unwrap();
        Self {
            partition: fields["partition"].get().parse().unwrap(),
            offset: fields["offset"].get().parse().unwrap(),
            message_id: decided["messageId"].as_str().unwrap().to_owned(),
            body: fields["body"].get().to_owned(),
        }
    }
}

fn run(site: &Site) -> Process {
    site.start_with("ingest", &["ingest"], &[("WRITE_KEY", WRITE_KEY)])
}

fn free_port(dice: &mut Dice) -> u64 {
    loop {
        let port = PORTS.start + dice.below(PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port as u16)).is_ok() {
            return port;
        }
    }
}
