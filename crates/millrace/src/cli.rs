//! What can be typed. The doc comments are the help texts.

mod again;
mod connectors;

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
#[cfg(feature = "warehouse-loader")]
use millrace_event_model::ConnectionId;
use millrace_event_model::{Lane, SourceId};
use millrace_service::Schedule;
use millrace_service::config::Start;

pub(crate) use self::connectors::{ConnectorsCommand, PreviewCommand};
#[cfg(feature = "demo")]
use crate::demo::source::SourceCommand;
#[cfg(feature = "warehouse-loader")]
pub(crate) use again::JobArgs;
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
pub(crate) use again::ReplayArgs;
pub(crate) use again::{DeadLettersCommand, LetterFilter};

/// Event streaming, ELT and reverse ETL over Kafka, in one binary.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: Global,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How results are printed on stdout; logs always go to stderr.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// How the log is written.
    #[arg(long, global = true, value_enum, default_value_t = LogStyle::Text, env = "MILLRACE_LOG_FORMAT")]
    pub(crate) log_format: LogStyle,
    /// What is logged, such as `info` or `warn,millrace_deliver=debug`.
    #[arg(long, global = true, env = "MILLRACE_LOG")]
    pub(crate) log: Option<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: JSON, one document or one per line.
    Json,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogStyle {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Which installation a command is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The config file. Without it: ./millrace.yaml if there is one, else what `dev` runs without a file.
    #[arg(short, long, env = "MILLRACE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where the embedded broker, the lake and the state of `dev` live.
    #[arg(short, long, default_value = "./data", env = "MILLRACE_DATA_DIR")]
    pub(crate) data_dir: PathBuf,
    /// Names this process in leases and consumer groups: the same after a restart, and different for two
    /// processes of one stage. By default the machine's name.
    #[arg(long, env = "MILLRACE_INSTANCE")]
    pub(crate) instance: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole river once on sample data and print what happened at each stage.
    #[cfg(feature = "demo")]
    Demo {
        /// Keep the data here instead of in a temporary folder that is removed.
        #[arg(long)]
        data_dir: Option<PathBuf>,
    },
    /// Run all stages in one process, with the embedded broker unless the config names a Kafka.
    Dev {
        #[command(flatten)]
        place: Place,
    },
    /// Take events over HTTP and put them into Kafka.
    #[cfg(feature = "ingest")]
    Ingest {
        #[command(flatten)]
        place: Place,
    },
    /// Load events and records from Kafka into warehouses.
    #[cfg(feature = "warehouse-loader")]
    Load {
        #[command(flatten)]
        args: StageArgs,
        /// With --once: load in an excluded window, too.
        #[arg(long, requires = "once")]
        anyway: bool,
    },
    /// Send events and changes from Kafka to destinations.
    #[cfg(feature = "deliver")]
    Deliver {
        #[command(flatten)]
        place: Place,
    },
    /// Read ELT sources into Kafka.
    #[cfg(feature = "extract")]
    Extract(StageArgs),
    /// Find changed rows in warehouses and put them into Kafka (reverse ETL).
    #[cfg(feature = "reverse-etl")]
    Sync(StageArgs),
    /// Show what a sync would publish now, with counts; nothing is published.
    #[cfg(feature = "reverse-etl")]
    Plan {
        #[command(flatten)]
        place: Place,
        /// The sync; all of them without it.
        sync: Option<String>,
    },
    /// Send nothing to a destination until it is resumed; its items wait in Kafka.
    Pause {
        #[command(flatten)]
        place: Place,
        /// The destination.
        destination: String,
        /// Why, for whoever looks later.
        #[arg(short, long, default_value = "paused by an operator")]
        reason: String,
    },
    /// Go on sending to a destination that an operator paused, or that paused itself.
    Resume {
        #[command(flatten)]
        place: Place,
        /// The destination.
        destination: String,
    },
    /// Forget a user: store no more of their events, from now on. What is stored already stays.
    Suppress {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        user: UserArgs,
        /// Why, for whoever looks later. It is kept in clear: name a ticket, and nobody.
        #[arg(short, long, default_value = "the user asked to be forgotten")]
        reason: String,
    },
    /// Store the events of a suppressed user again.
    Unsuppress {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        user: UserArgs,
    },
    /// Look at the users who are suppressed.
    Suppressions {
        #[command(subcommand)]
        what: SuppressionsCommand,
    },
    /// Look at items that could not be processed, send them again, or discard them.
    DeadLetters {
        #[command(subcommand)]
        what: DeadLettersCommand,
    },
    /// Look at what was loaded into warehouses, when, and what went wrong.
    #[cfg(feature = "warehouse-loader")]
    Runs {
        #[command(subcommand)]
        what: RunsCommand,
    },
    /// Hold what Kafka has of each source and hour against the books of each connection; exit 3 where they differ.
    #[cfg(feature = "warehouse-loader")]
    Balance(BalanceArgs),
    /// Load again what a connection to a warehouse has loaded, with today's settings: rows are merged by id, so
    /// nothing is doubled. Or send to a destination again, under the same idempotency keys.
    #[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
    Replay(ReplayArgs),
    /// Load what came before a connection to a warehouse began.
    #[cfg(feature = "warehouse-loader")]
    Backfill(JobArgs),
    /// Make the tables of a connection to a warehouse anew by today's settings, from what Kafka holds. Nobody sees an
    /// empty or a half table, and loading goes on. Called again, it goes on where it was stopped.
    #[cfg(feature = "warehouse-loader")]
    Rebuild(RebuildArgs),
    /// Validate the config; with --connect, reach everything it names.
    Check {
        #[command(flatten)]
        place: Place,
        /// Also connect to state, Kafka, sources, warehouses and destinations. Topics that are missing are
        /// made, as a stage would at its start.
        #[arg(long)]
        connect: bool,
        /// Judge it as `dev` does: secrets may stand in the file.
        #[arg(long)]
        dev: bool,
    },
    /// Run SQL over a warehouse of the config.
    Query {
        #[command(flatten)]
        place: Place,
        /// Which warehouse; not needed where there is only one.
        #[arg(short, long)]
        warehouse: Option<String>,
        /// Print at most so many rows.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        /// The query.
        sql: String,
    },
    /// Send a test event to a running ingest.
    Send(SendArgs),
    /// Print events as Kafka holds them, after privacy: what has come, and what comes.
    Tap(TapArgs),
    /// Show what a service would do with events, without doing it: NDJSON in, NDJSON out.
    Preview {
        #[command(subcommand)]
        what: PreviewCommand,
    },
    /// Look at connectors, begin one in YAML, and test it.
    Connectors {
        #[command(subcommand)]
        what: ConnectorsCommand,
    },
    /// Print the JSON Schema of the config file.
    Schema,
    /// Print the topics of the installation.
    Topics {
        #[command(flatten)]
        place: Place,
    },
    /// Run the embedded broker alone, for stages that run as processes of their own on one machine.
    #[command(hide = true)]
    Broker {
        /// The broker's folder.
        #[arg(short, long, default_value = "./data/broker")]
        data_dir: PathBuf,
        /// The port on loopback; a free one is picked without it.
        #[arg(short, long)]
        port: Option<u16>,
    },
    /// Speak the Airbyte protocol: the source that the demo reads.
    #[cfg(feature = "demo")]
    #[command(hide = true)]
    DemoSource {
        #[command(subcommand)]
        command: SourceCommand,
    },
}

/// A stage that can also run once, for cron.
#[derive(Debug, Args)]
pub(crate) struct StageArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Work off what there is now and exit; with an ID, of this connection, source or sync alone.
    #[arg(long, value_name = "ID", num_args = 0..=1)]
    pub(crate) once: Option<Option<String>>,
}

/// What `send` sends.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The kind of event.
    #[arg(default_value = "track", value_parser = ["track", "identify", "page", "screen", "group", "alias"])]
    pub(crate) event_type: String,
    /// The source to send it by; not needed where there is only one of kind http.
    #[arg(short, long)]
    pub(crate) source: Option<String>,
    /// Name of the event, page or screen.
    #[arg(short, long, default_value = "Test Event")]
    pub(crate) event: String,
    /// Who did it.
    #[arg(short, long, default_value = "test-user")]
    pub(crate) user: String,
    /// Properties or traits as a JSON object.
    #[arg(short, long, default_value = "{}")]
    pub(crate) properties: String,
    /// Where ingest listens; by default as the config says.
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Wait until it has arrived in every warehouse that the source is connected to.
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// How long to wait at most, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) timeout: u64,
}

/// What `tap` prints.
#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only events of this source; without it, of all sources of kind http.
    #[arg(short, long)]
    pub(crate) source: Option<String>,
    /// Only events of this lane.
    #[arg(long, conflicts_with = "source")]
    pub(crate) lane: Option<Lane>,
    /// Where to begin: `earliest`, `latest`, or a time such as 2026-11-24T10:00:00Z, by when Kafka had the
    /// event. By default `latest`; with --no-follow, `earliest`.
    #[arg(long, value_name = "WHEN")]
    pub(crate) from: Option<Start>,
    /// End after so many events.
    #[arg(short = 'n', long)]
    pub(crate) limit: Option<u64>,
    /// End with the last event that is there now, instead of waiting for more.
    #[arg(long)]
    pub(crate) no_follow: bool,
}

/// A user to forget.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    /// The userId, as it is in events. Nothing but its keyed hash is kept.
    pub(crate) user_id: String,
    /// Only in what comes in by this source; by all of them without it.
    #[arg(short, long)]
    pub(crate) source: Option<SourceId>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SuppressionsCommand {
    /// List them, newest last: by keyed hash, since the ids themselves are not kept.
    List {
        #[command(flatten)]
        place: Place,
        /// Only those of this user.
        user_id: Option<String>,
    },
}

#[cfg(feature = "warehouse-loader")]
#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List them, newest last.
    List(RunsArgs),
    /// Show all that is known of one.
    Show {
        #[command(flatten)]
        place: Place,
        /// Its name, as `runs list` prints it, or the beginning of it.
        run: String,
    },
}

/// Which runs are listed.
#[cfg(feature = "warehouse-loader")]
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only those of this connection, such as web--main; its jobs included.
    #[arg(long, value_name = "ID")]
    pub(crate) connection: Option<String>,
    /// Only those that failed or were interrupted.
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only those that began since: 2h, 7d, or a time such as 2026-11-24T10:00:00Z.
    #[arg(long, value_name = "WHEN", default_value = "7d", value_parser = moment)]
    pub(crate) since: DateTime<Utc>,
    /// The newest so many.
    #[arg(short = 'n', long, default_value_t = 50)]
    pub(crate) limit: usize,
}

/// What is balanced.
#[cfg(feature = "warehouse-loader")]
#[derive(Debug, Args)]
pub(crate) struct BalanceArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only this source.
    #[arg(short, long)]
    pub(crate) source: Option<SourceId>,
    /// The first hour: 2h or 7d for so long ago, or a time such as 2026-11-24T10:00:00Z.
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = moment)]
    pub(crate) from: DateTime<Utc>,
    /// Up to this hour; up to now without it.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
}

/// What is made anew.
#[cfg(feature = "warehouse-loader")]
#[derive(Debug, Args)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The connection, such as web--main.
    #[arg(long, value_name = "ID")]
    pub(crate) connection: ConnectionId,
    /// Leave out what retention has taken from Kafka: its rows will be gone from the tables.
    #[arg(long)]
    pub(crate) accept_gap: bool,
    /// Throw away what a rebuild that was stopped has made; the tables stay as they are, or whole.
    #[arg(long, conflicts_with = "accept_gap")]
    pub(crate) discard: bool,
}

/// A time, or so long ago.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let refused = || format!("{text:?} is no time: use 2h or 7d for so long ago, or 2026-11-24T10:00:00Z");
    if let Ok(Schedule::Every(ago)) = Schedule::parse(text) {
        let ago = TimeDelta::from_std(ago).map_err(|_| refused())?;
        return Utc::now().checked_sub_signed(ago).ok_or_else(refused);
    }
    match text.parse() {
        Ok(Start::At(at)) => Ok(at),
        _ => Err(refused()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_time_is_told_as_such_or_as_so_long_ago() {
        assert_eq!(moment("2026-11-24T10:00:00+01:00").unwrap().to_rfc3339(), "2026-11-24T09:00:00+00:00");
        assert_eq!(moment("2026-11-24").unwrap().to_rfc3339(), "2026-11-24T00:00:00+00:00");
        let then = moment("1h").unwrap();
        let hour = Utc::now() - then;
        assert!(hour >= TimeDelta::hours(1) && hour < TimeDelta::minutes(61));
        for no_time in ["", "latest", "manual", "yesterday", "0 * * * *", "99999999999d"] {
            assert!(moment(no_time).is_err(), "{no_time}");
        }
    }

    /// What clap would otherwise find out when a user types the command.
    #[test]
    fn no_two_options_of_a_command_have_one_name() {
        Cli::command().debug_assert();
    }
}
