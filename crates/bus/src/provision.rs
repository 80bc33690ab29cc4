//! Topics at boot: made if missing, refused if they are not what their contract says.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable as _};
use millrace_event_model::topics::{self, TopicSpec};
use millrace_event_model::{Lane, Workspace};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::QUERY_TIMEOUT;
use crate::config::{self, Quiet};
use crate::{Bus, BusError};

/// Brokers in containers take half a minute to start.
pub(crate) const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries to reach a broker that is late, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What [`ReplicationPolicy::Strict`] asks for: one broker may be away and no acked event is lost when
/// another one then dies.
const REPLICAS: i32 = 3;
const MIN_IN_SYNC: i32 = 2;

/// How many copies of an event there must be before the client hears that it is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicationPolicy {
    /// One copy, unchecked: one machine, `dev`.
    Single,
    /// Three replicas, two of them in sync, no unclean election: anything less is refused.
    Strict,
    /// What the cluster gives by default, unchecked: the operator has accepted it.
    Accept,
}

/// A topic that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    spec: TopicSpec,
}

/// What a topic that is there looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    partitions: i32,
    /// Of the partition that has the fewest.
    replicas: i32,
}

impl Bus {
    /// Makes the topics of the workspace that are missing, those with lanes for each of `lanes`, and
    /// checks all of them. Waits for a broker that is late.
    ///
    /// # Errors
    /// Names the topic that is missing and cannot be made, or is not what its contract says, and what to
    /// do.
    pub async fn provision(&self, lanes: &[Lane], policy: ReplicationPolicy) -> Result<(), BusError> {
        let wanted = wanted_topics(self.workspace(), lanes);
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times();
        // By the clock, and not by the pauses alone: a try at a broker that is away takes ten seconds.
        let (began, patience) = (Instant::now(), self.patience());
        (|| self.provision_once(&wanted, policy))
            .retry(backoff)
            .when(|error| error.is_retryable() && began.elapsed() < patience)
            .notify(|error, pause| {
                tracing::warn!(%error, cause = error.source().map(ToString::to_string), ?pause, "waiting for Kafka");
            })
            .await
    }

    async fn provision_once(&self, wanted: &[Wanted], policy: ReplicationPolicy) -> Result<(), BusError> {
        let admin: AdminClient<Quiet> =
            config::admin(self.settings()).create_with_context(Quiet).map_err(BusError::settings)?;
        let mut found = self.topics().await?;
        let missing = missing(wanted, &found);
        if !missing.is_empty() {
            create(&admin, &missing, policy).await?;
            found = self.topics().await?;
        }
        for topic in wanted {
            // A topic is created before all brokers tell of it: ask again.
            let found = found.get(&topic.name).ok_or_else(|| BusError::Kafka {
                doing: format!("see topic {} yet", topic.name),
                source: KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable),
            })?;
            check_shape(topic, *found, policy)?;
        }
        for (topic, settings) in wanted.iter().zip(describe(&admin, wanted).await?) {
            check_settings(topic, &settings, policy)?;
        }
        Ok(())
    }

    async fn topics(&self) -> Result<BTreeMap<String, Found>, BusError> {
        self.query("list the topics", |client| {
            let metadata = client.fetch_metadata(None, QUERY_TIMEOUT)?;
            let found = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| {
                let partitions = topic.partitions();
                // Distinct ones: the embedded broker lists its one node three times.
                let distinct = |ids: &[i32]| ids.iter().collect::<BTreeSet<_>>().len();
                let replicas = partitions.iter().map(|p| distinct(p.replicas())).min().unwrap_or(0);
                let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
                let found = Found { partitions: count(partitions.len()), replicas: count(replicas) };
                (topic.name().to_owned(), found)
            });
            Ok(found.collect())
        })
        .await
    }
}

fn wanted_topics(workspace: &Workspace, lanes: &[Lane]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for spec in topics::ALL {
        if spec.per_lane {
            wanted.extend(
                lanes.iter().map(|lane| Wanted { name: spec.full_name(workspace, Some(lane)), spec }),
            );
            continue;
        }
        wanted.push(Wanted { name: spec.full_name(workspace, None), spec });
    }
    wanted
}

fn missing<'a>(wanted: &'a [Wanted], found: &BTreeMap<String, Found>) -> Vec<&'a Wanted> {
    wanted.iter().filter(|topic| !found.contains_key(&topic.name)).collect()
}

fn check_shape(topic: &Wanted, found: Found, policy: ReplicationPolicy) -> Result<(), BusError> {
    if found.partitions != topic.spec.partitions {
        return Err(BusError::PartitionCount {
            topic: topic.name.clone(),
            expected: topic.spec.partitions,
            actual: found.partitions,
        });
    }
    if policy == ReplicationPolicy::Strict && found.replicas < REPLICAS {
        return Err(not_safe(
            topic,
            format!(
                "it has {} of {REPLICAS} replicas: reassign its partitions to {REPLICAS} brokers",
                found.replicas
            ),
        ));
    }
    Ok(())
}

fn check_settings(
    topic: &Wanted,
    settings: &BTreeMap<String, String>,
    policy: ReplicationPolicy,
) -> Result<(), BusError> {
    for (setting, expected) in topic.spec.settings() {
        let Some(actual) = settings.get(setting).filter(|actual| **actual != expected) else { continue };
        // Another retention is the operator's choice; another cleanup or clock breaks a protocol.
        if setting == "cleanup.policy" || setting == "message.timestamp.type" {
            let (topic, actual) = (topic.name.clone(), actual.clone());
            return Err(BusError::TopicSetting { topic, setting, expected, actual });
        }
        tracing::warn!(topic = topic.name, setting, expected, actual, "topic differs from its contract");
    }
    if policy != ReplicationPolicy::Strict {
        return Ok(());
    }
    let in_sync = settings.get("min.insync.replicas").and_then(|n| n.parse().ok()).unwrap_or(1);
    if in_sync < MIN_IN_SYNC {
        return Err(not_safe(
            topic,
            format!("min.insync.replicas is {in_sync}: set it to {MIN_IN_SYNC} with kafka-configs --alter"),
        ));
    }
    if settings.get("unclean.leader.election.enable").is_some_and(|enabled| enabled == "true") {
        return Err(not_safe(
            topic,
            "unclean.leader.election.enable is true: set it to false with kafka-configs --alter".to_owned(),
        ));
    }
    Ok(())
}

fn not_safe(topic: &Wanted, problem: String) -> BusError {
    let accept = ", or accept the loss of acked events by `kafka.replication: accept`";
    BusError::Unsafe { topic: topic.name.clone(), problem: problem + accept }
}

async fn create(
    admin: &AdminClient<Quiet>,
    missing: &[&Wanted],
    policy: ReplicationPolicy,
) -> Result<(), BusError> {
    let in_sync = MIN_IN_SYNC.to_string();
    let settings: Vec<_> = missing.iter().map(|topic| topic.spec.settings()).collect();
    let new: Vec<NewTopic<'_>> = missing
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let replication = TopicReplication::Fixed(match policy {
                ReplicationPolicy::Single => 1,
                ReplicationPolicy::Strict => REPLICAS,
                // Kafka's word for its default.
                ReplicationPolicy::Accept => -1,
            });
            let mut new = NewTopic::new(&topic.name, topic.spec.partitions, replication);
            for (setting, value) in settings {
                new = new.set(setting, value);
            }
            if policy == ReplicationPolicy::Strict {
                new = new.set("min.insync.replicas", &in_sync).set("unclean.leader.election.enable", "false");
            }
            new
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
    let doing = || "create topics".to_owned();
    for result in admin.create_topics(&new, &options).await.map_err(BusError::kafka(doing()))? {
        match result {
            Ok(topic) => tracing::info!(topic, "topic created"),
            // Another process was faster; what it made is checked like any other.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, RDKafkaErrorCode::InvalidReplicationFactor))
                if policy == ReplicationPolicy::Strict =>
            {
                let problem = format!(
                    "the cluster cannot give it {REPLICAS} replicas: add brokers, \
                     or accept the loss of acked events by `kafka.replication: accept`"
                );
                return Err(BusError::Unsafe { topic, problem });
            }
            Err((topic, code)) => {
                return Err(BusError::Kafka {
                    doing: format!("create topic {topic}"),
                    source: KafkaError::AdminOp(code),
                });
            }
        }
    }
    Ok(())
}

/// The settings of each topic, in the same order.
async fn describe(
    admin: &AdminClient<Quiet>,
    topics: &[Wanted],
) -> Result<Vec<BTreeMap<String, String>>, BusError> {
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
    let described = admin
        .describe_configs(&resources, &options)
        .await
        .map_err(BusError::kafka("ask for the settings of the topics"))?;
    let mut by_name = BTreeMap::new();
    for resource in described {
        let resource = resource.map_err(|code| BusError::Kafka {
            doing: "ask for the settings of a topic".to_owned(),
            source: KafkaError::AdminOp(code),
        })?;
        let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = resource.specifier else { continue };
        let settings: BTreeMap<String, String> = resource
            .entries
            .into_iter()
            .filter_map(|entry| entry.value.map(|value| (entry.name, value)))
            .collect();
        by_name.insert(name, settings);
    }
    Ok(topics.iter().map(|topic| by_name.remove(&topic.name).unwrap_or_default()).collect())
}

#[cfg(test)]
#[path = "provision_tests.rs"]
mod tests;
