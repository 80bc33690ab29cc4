//! `millrace rebuild`: the tables of a connection made anew, while it loads on and people read.

use millrace_service::{Stop, stop_on_signals};
use millrace_warehouse_loader::{RebuildOutcome, RebuildRequest};
use serde_json::json;

use super::jobs::{failure, progress, service, teller};
use crate::cli::{Output, RebuildArgs};
use crate::exit::Failure;
use crate::output;

/// Makes them anew to the end, or until a signal; or throws away what was made.
pub(crate) async fn run(args: &RebuildArgs, output: Output) -> Result<(), Failure> {
    let service = service(&args.place).await?;
    let connection = args.connection.clone();
    let again = format!("millrace rebuild --connection {connection}");
    if args.discard {
        let discarded = service.discard_rebuild(&connection).await;
        discarded.map_err(|error| failure(&error, &format!("{again} --discard")))?;
        let text =
            format!("what was made of the rebuild of {connection} is gone; its tables are as they were");
        output::result(output, &json!({ "connection": connection, "discarded": true }), text);
        return Ok(());
    }
    let stop = Stop::new();
    tokio::spawn(stop_on_signals(stop.clone()));
    progress(&format!("rebuild of {connection}; if it is stopped: {again}"));
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
