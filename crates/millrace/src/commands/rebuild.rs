//! `millrace rebuild`: the tables of a connection made anew, while it loads on and people read.

use millrace_service::{Stop, stop_on_signals};
use millrace_warehouse_loader::{RebuildOutcome, RebuildRequest};
use serde_json::json;

use super::jobs::{failure, service, teller};
use crate::cli::{Output, RebuildArgs};
use crate::exit::Failure;
use crate::output;

/// Makes them anew to the end, or until a signal; or throws away what was made.
pub(crate) async fn run(args: &RebuildArgs, output: Output) -> Result<(), Failure> {
    let service = service(&args.place).await?;
    let connection = args.connection.clone();
    let mut again = format!("millrace rebuild --connection {connection}");
    if args.discard {
        let discarded = service.discard_rebuild(&connection).await;
        let as_before = discarded.map_err(|error| failure(&error, &format!("{again} --discard")))?;
        let tables = if as_before {
            "its tables are as they were"
        } else {
            "its tables were being put in place: they are as they were, or have its rows, all of them"
        };
        let text = format!("what was made of the rebuild of {connection} is gone; {tables}");
        let result = json!({ "connection": connection, "discarded": true, "tables_as_before": as_before });
        output::result(output, &result, text);
        return Ok(());
    }
    if args.accept_gap {
        again.push_str(" --accept-gap");
    }
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    output::aside(format!("rebuild of {connection}; if it is stopped: {again}"));
    let request = RebuildRequest { connection, accept_gap: args.accept_gap };
    let outcome = service.rebuild(&request, teller(), &stop).await;
    let outcome = outcome.map_err(|error| failure(&error, &again))?;
    output::result(output, &json!(outcome), text(&outcome));
    if outcome.done {
        return Ok(());
    }
    Err(Failure::Partial(format!("stopped before the end, the tables are as they were; to go on: {again}")))
}

fn text(outcome: &RebuildOutcome) -> String {
    let report = &outcome.report;
    if outcome.earlier {
        return format!(
            "rebuild of {}: an earlier one, which had put its tables in place before it was cut off, is ended; nothing \
             was made anew by this call: call it again for that",
            report.connection.connection()
        );
    }
    let mut text = format!(
        "rebuild of {}: {} loaded, {} duplicate, {} filtered, {} rejected, {} expired, in {} loads",
        report.connection.connection(),
        report.loaded,
        report.duplicates,
        report.filtered,
        report.rejected,
        report.expired,
        report.batches
    );
    if let Some(run) = &report.run {
        text.push_str(&format!("\nrun {run}"));
    }
    if !outcome.replaced.is_empty() {
        text.push_str(&format!("\ntables made anew: {}", outcome.replaced.join(", ")));
    }
    if !outcome.left.is_empty() {
        let left = outcome.left.join(", ");
        text.push_str(&format!(
            "\ntables left as they are, since no row of them is made by today's settings: {left}"
        ));
    }
    text
}
