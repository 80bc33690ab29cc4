//! SIGKILL: the broker runs in a child, which is this test binary again.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millrace_broker::EmbeddedBroker;
use millrace_bus::{Bus, GroupEvent, GroupOptions, GroupReader, Positions, PublisherOptions, Start};
use millrace_event_model::Event;

use crate::river::{bus, event, events, stored_ids};

const FOLDER: &str = "MILLRACE_TEST_BROKER_FOLDER";
const PORT: &str = "MILLRACE_TEST_BROKER_PORT";
const READY: &str = "broker ready on ";
const ROUNDS: u64 = 4;
const DEADLINE: Duration = Duration::from_secs(60);

/// Not a test: the body of the child.
#[test]
#[ignore = "the child process of sigkill_in_the_middle_of_a_produce_loses_nothing_acked"]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn broker_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let port = std::env::var(PORT).ok().and_then(|port| port.parse().ok());
    let broker = EmbeddedBroker::start(Path::new(&folder), port).unwrap();
    println!("\n{READY}{}", broker.bootstrap());
    // Until it is killed, or its parent is gone and the pipe with it.
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
}

struct BrokerProcess {
    child: Child,
    brokers: String,
    /// The test harness in the child ends with its output.
    _output: Lines<BufReader<ChildStdout>>,
}

impl BrokerProcess {
    fn start(folder: &Path, port: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sigkill::broker_child", "--ignored", "--nocapture"]).env(FOLDER, folder);
        if let Some(port) = port {
            command.env(PORT, port);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let brokers = output
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(READY).map(str::to_owned))
            .expect("the child says where it listens");
        Self { child, brokers, _output: output }
    }

    fn port(&self) -> String {
        self.brokers.rsplit_once(':').unwrap().1.to_owned()
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn join(bus: &Bus, options: GroupOptions) -> GroupReader<Event> {
    let mut reader = bus.group(&events(bus), options).unwrap();
    let assigned = async {
        loop {
            if let GroupEvent::Assigned(assignment) = reader.next(0).await.unwrap() {
                assignment.begin(&Positions::new(), Start::Latest).await.unwrap();
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, assigned).await.expect("the group has a member");
    reader
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sigkill_in_the_middle_of_a_produce_loses_nothing_acked() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(dir.path(), None);
    let bus = bus(&broker.brokers).await;
    let publisher = bus.publisher(PublisherOptions::default()).unwrap();
    let mut group = join(&bus, GroupOptions::new("killed")).await;

    let sent = Arc::new(AtomicU64::new(0));
    let acked_count = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicU64::new(0));
    let producing = tokio::spawn({
        let (sent, acked_count, stop) = (Arc::clone(&sent), Arc::clone(&acked_count), Arc::clone(&stop));
        let topic = events(&bus);
        async move {
            let mut acked: Vec<String> = Vec::new();
            while stop.load(Ordering::SeqCst) == 0 {
                let first = sent.fetch_add(20, Ordering::SeqCst);
                let messages: Vec<Event> = (first..first + 20).map(event).collect();
                // Over a kill the client sends again what was not acked; the broker's memory of sequences must
                // have survived for that to double nothing.
                if publisher.publish(&topic, &messages).await.is_ok() {
                    acked.extend(messages.into_iter().map(|message| message.message_id.0));
                    acked_count.store(acked.len() as u64, Ordering::SeqCst);
                }
            }
            acked
        }
    });

    let mut committed = Positions::new();
    for round in 1..=ROUNDS {
        let enough = acked_count.load(Ordering::SeqCst) + 200;
        let progress = async {
            while acked_count.load(Ordering::SeqCst) < enough {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, progress).await.expect("events are acked");
        let positions = Positions::from([(0, i64::try_from(round).unwrap() * 3)]);
        group.commit(&positions).await.expect("the offset is committed");
        committed = positions;
        let port = broker.port();
        broker.kill();
        broker = BrokerProcess::start(dir.path(), Some(&port));
        let found = tokio::time::timeout(DEADLINE, async {
            loop {
                match group.committed(&[0]).await {
                    Ok(found) => return found,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        assert_eq!(found.await.expect("the group answers again"), committed, "round {round}");
        // The coordinator forgot its members with the process: join anew, as a restarted stage does.
        group.close().await;
        group = join(&bus, GroupOptions::new("killed")).await;
    }
    stop.store(1, Ordering::SeqCst);
    let acked = producing.await.unwrap();
    group.close().await;

    let ids = stored_ids(&bus).await;
    let stored: BTreeSet<&String> = ids.iter().collect();
    let lost: Vec<&String> = acked.iter().filter(|id| !stored.contains(id)).collect();
    assert!(
        lost.is_empty(),
        "{} of {} acked events are lost, such as {:?}",
        lost.len(),
        acked.len(),
        lost[0]
    );
    assert_eq!(ids.len(), stored.len(), "the idempotent producer doubled nothing");
    assert!(!committed.is_empty());
    broker.kill();
}
