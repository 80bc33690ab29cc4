//! `millrace balance`: received = loaded + … + in flight, for each source, hour and connection.

use chrono::{SecondsFormat, TimeDelta, Utc};
use millrace_event_model::Disposition;
use millrace_service::config::Mode;
use millrace_service::{Stop, stop_on_signals};
use millrace_warehouse_loader::{BalanceLine, Verdict, balance};
use serde_json::json;

use crate::cli::{BalanceArgs, Output};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::{output, stages};

/// The columns between received and in flight.
const ENDS: [Disposition; 7] = [
    Disposition::Loaded,
    Disposition::Filtered,
    Disposition::Suppressed,
    Disposition::Duplicate,
    Disposition::Rejected,
    Disposition::Superseded,
    Disposition::Expired,
];

/// `millrace balance [--source S] [--from WHEN] [--to WHEN]`.
pub(crate) async fn run(args: &BalanceArgs, output: Output) -> Result<(), Failure> {
    let until = args.to.unwrap_or_else(|| Utc::now() + TimeDelta::hours(1));
    if until <= args.from {
        return Err(Failure::Usage("--to is not after --from".to_owned()));
    }
    let config = read_config(&args.place, Mode::Dev)?;
    let installation = Installation::open_attached(config, &args.place).await?;
    let mut connections = stages::loader_options(&installation, true)?.connections;
    if let Some(source) = &args.source {
        connections.retain(|connection| connection.source == *source);
    }
    if connections.is_empty() {
        let of = args.source.as_ref().map(|source| format!(" of source {source}")).unwrap_or_default();
        return Err(Failure::Usage(format!("the config has no connection{of} to a warehouse")));
    }
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    let lines = balance(&installation.bus, &installation.store, &connections, args.from, until, &stop).await;
    let lines = lines.map_err(|error| match (&error, error.next_step()) {
        (millrace_warehouse_loader::Error::State(state), _) if state.is_refused() => {
            Failure::Failed(error.full())
        }
        (_, millrace_warehouse_loader::NextStep::Retry { .. }) => Failure::Unreachable(error.full()),
        (_, millrace_warehouse_loader::NextStep::StandBack) => Failure::Failed(error.full()),
    })?;
    if stop.is_requested() {
        return Err(Failure::Failed("stopped before all was counted".to_owned()));
    }
    match output {
        Output::Json => lines.iter().for_each(|line| output::line(json!(line).to_string())),
        Output::Text => output::line(text(&lines)),
    }
    let wrong = lines.iter().filter(|line| line.verdict.is_wrong()).count();
    match wrong {
        0 => Ok(()),
        _ => Err(Failure::Partial(format!(
            "{wrong} of {} lines do not add up; `millrace runs list` shows who loaded then",
            lines.len()
        ))),
    }
}

fn text(lines: &[BalanceLine]) -> String {
    let mut header = vec!["hour", "source", "connection", "received"];
    header.extend(ENDS.iter().map(|end| end.as_str()));
    header.extend(["in flight", "balance"]);
    let rows = lines.iter().map(|line| {
        let mut row = vec![
            line.hour.to_rfc3339_opts(SecondsFormat::Secs, true),
            line.source.to_string(),
            line.connection.to_string(),
            line.received.to_string(),
        ];
        row.extend(ENDS.iter().map(|end| line.items.get(end).copied().unwrap_or_default().to_string()));
        row.extend([line.in_flight.to_string(), verdict(line.verdict)]);
        row
    });
    output::table(&header, rows)
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Balanced => "ok".to_owned(),
        Verdict::Missing(items) => format!("{items} MISSING"),
        Verdict::TooMany(items) => format!("{items} TOO MANY"),
        Verdict::Aged => "no longer all in Kafka".to_owned(),
        Verdict::Moving => "loading; ask again".to_owned(),
    }
}
