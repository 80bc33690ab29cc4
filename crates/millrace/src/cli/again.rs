//! What is sent or loaded again, and what was given up.

#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
use std::ops::Range;

use chrono::{DateTime, Utc};
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
use clap::ValueEnum;
use clap::{Args, Subcommand};
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
use millrace_event_model::ConnectionId;
use millrace_event_model::DeadLetter;

use super::{Place, moment};
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
use crate::exit::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List those that are open, newest last: who gave up on what, when and why. Never their content.
    List {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: LetterFilter,
        /// Also those that were delivered since, or discarded.
        #[arg(long)]
        all: bool,
    },
    /// Show one with its record, as JSON.
    Show {
        #[command(flatten)]
        place: Place,
        /// As `list -o json` names it: <of>/<topic>/<partition>/<offset>.
        id: String,
    },
    /// Send a destination's open ones again, with today's settings and under the same idempotency keys.
    #[cfg(feature = "deliver")]
    Replay {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: LetterFilter,
        /// Only count them.
        #[arg(long)]
        dry_run: bool,
    },
    /// Close a destination's open ones: they stay counted as rejected, and are not listed any more.
    Discard {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        filter: LetterFilter,
        /// Only count them.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead letters.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LetterFilter {
    /// Only those of this destination, connection or source.
    #[arg(long, value_name = "ID")]
    pub(crate) of: Option<String>,
    /// Only those with this reason's code, such as http_400.
    #[arg(long)]
    pub(crate) code: Option<String>,
    /// Only those given up from then on: 2h or 7d for so long ago, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Only those given up before then.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
}

impl LetterFilter {
    /// Whether a letter is one of them.
    pub(crate) fn takes(&self, letter: &DeadLetter) -> bool {
        self.of.as_ref().is_none_or(|of| letter.subject == *of)
            && self.code.as_ref().is_none_or(|code| letter.reason.code == *code)
            && self.from.is_none_or(|from| letter.at >= from)
            && self.to.is_none_or(|to| letter.at < to)
    }
}

/// A past time, and the job that does it.
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
#[derive(Debug, Args)]
pub(crate) struct PastArgs {
    /// From when on, by when the server had the event: 2h or 7d for so long ago, or a time.
    #[arg(long, value_name = "WHEN", value_parser = moment, required_unless_present = "resume")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Until when; now without it.
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) to: Option<DateTime<Utc>>,
    /// The job's name; one is made up without it.
    #[arg(long, value_name = "NAME")]
    pub(crate) id: Option<String>,
    /// Go on with the job of this name, which was stopped.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from", "to", "id"])]
    pub(crate) resume: Option<String>,
}

#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
impl PastArgs {
    /// From when until when.
    pub(crate) fn time(&self, now: DateTime<Utc>) -> Result<Range<DateTime<Utc>>, Failure> {
        let (from, to) = (self.from.unwrap_or(now), self.to.unwrap_or(now));
        if to <= from {
            return Err(Failure::Usage("--to is not after --from".to_owned()));
        }
        Ok(from..to)
    }
}

/// What a job loads.
#[cfg(feature = "warehouse-loader")]
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The connection, such as web--main.
    #[arg(long, value_name = "ID")]
    pub(crate) connection: ConnectionId,
    #[command(flatten)]
    pub(crate) past: PastArgs,
}

/// What is loaded or sent again.
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The connection to a warehouse, such as web--main.
    #[arg(long, value_name = "ID", required_unless_present = "destination")]
    pub(crate) connection: Option<ConnectionId>,
    /// The destination that is sent the events of its connections again.
    #[arg(long, value_name = "ID", conflicts_with_all = ["connection", "id", "resume"])]
    pub(crate) destination: Option<String>,
    /// Only what failed there and is open in the dead letters.
    #[arg(long, value_enum, requires = "destination")]
    pub(crate) only: Option<ReplayOnly>,
    /// Only count what would be sent.
    #[arg(long, requires = "destination")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) past: PastArgs,
}

/// A part of what was sent.
#[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayOnly {
    /// What was given up or refused.
    Failed,
}

#[cfg(feature = "warehouse-loader")]
impl ReplayArgs {
    /// The job of a connection to a warehouse.
    pub(crate) fn job(self) -> Result<JobArgs, Failure> {
        let Self { place, connection, past, .. } = self;
        let missing = || Failure::Usage("say which: --connection ID or --destination ID".to_owned());
        Ok(JobArgs { place, connection: connection.ok_or_else(missing)?, past })
    }
}
