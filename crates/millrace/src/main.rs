//! The binary: reads the config, picks stages, hands them the connectors, prints results.
//!
//! `cli` is what can be typed; `installation` is what a config describes, opened; `stages` turns it into
//! the stages' options; `commands` has a file per command; `demo` runs all of it on sample data.

#![cfg_attr(
    not(feature = "demo"),
    allow(
        dead_code,
        unused_imports,
        unfulfilled_lint_expectations,
        reason = "a build of some stages uses not all"
    )
)]

#[cfg(feature = "ingest")]
mod bounds;
mod broker;
mod cli;
mod commands;
mod connectors;
#[cfg(feature = "demo")]
mod demo;
mod exit;
mod installation;
mod judge;
mod output;
mod secrets;
mod stages;

use std::process::ExitCode;

use clap::Parser;
use millrace_service::telemetry::{self, LogFormat};
#[cfg(feature = "warehouse-loader")]
use millrace_warehouse_loader::JobKind;

use crate::cli::{Cli, Command, DeadLettersCommand, Global, LogStyle, SuppressionsCommand};
use crate::exit::Failure;

/// Small allocations are many here: an event's message, its headers, its acknowledgement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    use_small_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(millrace_service::STACK_BYTES)
        .build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| {
        // On a worker, not on the main thread: that one has a small stack.
        let done = runtime.block_on(async { tokio::spawn(run(cli)).await });
        done.unwrap_or_else(|error| Err(Failure::Failed(format!("a defect in millrace: {error}"))))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report(&failure);
            failure.code()
        }
    }
}

/// Batches come and go, and with them their memory. A page of 2 MB is cleared whole when its first byte is touched:
/// a tenth of what a load costs and more (docs/performance.md), and memory that nobody uses. Sources that are
/// started as child processes inherit it.
fn use_small_pages() {
    // Where it cannot be had, it only costs.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
}

#[expect(clippy::print_stderr, reason = "the last word of a command that failed")]
fn report(failure: &Failure) {
    eprintln!("{failure}");
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let quiet = "warn";
    let output = cli.global.output;
    match cli.command {
        #[cfg(feature = "demo")]
        Command::Demo { data_dir } => {
            start_logs(&cli.global, quiet)?;
            demo::run(data_dir).await
        }
        Command::Dev { place } => {
            start_logs(&cli.global, "info")?;
            commands::serve::dev(&place, output).await
        }
        #[cfg(feature = "ingest")]
        Command::Ingest { place } => {
            start_logs(&cli.global, "info")?;
            commands::serve::stage(&place, stages::Pick::Ingest).await
        }
        #[cfg(feature = "warehouse-loader")]
        Command::Load { args, anyway } => {
            start_logs(&cli.global, "info")?;
            match args.once {
                None => commands::serve::stage(&args.place, stages::Pick::Load).await,
                Some(only) => commands::once::load(&args.place, only.as_deref(), anyway, output).await,
            }
        }
        #[cfg(feature = "deliver")]
        Command::Deliver { place } => {
            start_logs(&cli.global, "info")?;
            commands::serve::stage(&place, stages::Pick::Deliver).await
        }
        #[cfg(feature = "extract")]
        Command::Extract(args) => {
            start_logs(&cli.global, "info")?;
            match args.once {
                None => commands::serve::stage(&args.place, stages::Pick::Extract).await,
                Some(only) => commands::once::extract(&args.place, only.as_deref(), output).await,
            }
        }
        #[cfg(feature = "reverse-etl")]
        Command::Sync(args) => {
            start_logs(&cli.global, "info")?;
            match args.once {
                None => commands::serve::stage(&args.place, stages::Pick::Sync).await,
                Some(only) => commands::once::sync(&args.place, only.as_deref(), output).await,
            }
        }
        #[cfg(feature = "reverse-etl")]
        Command::Plan { place, sync } => {
            start_logs(&cli.global, quiet)?;
            commands::operate::plan(&place, sync.as_deref(), output).await
        }
        Command::Pause { place, destination, reason } => {
            start_logs(&cli.global, quiet)?;
            commands::operate::pause(&place, &destination, &reason, output).await
        }
        Command::Resume { place, destination } => {
            start_logs(&cli.global, quiet)?;
            commands::operate::resume(&place, &destination, output).await
        }
        Command::Suppress { place, user, reason } => {
            start_logs(&cli.global, quiet)?;
            commands::suppress::suppress(&place, &user, reason, output).await
        }
        Command::Unsuppress { place, user } => {
            start_logs(&cli.global, quiet)?;
            commands::suppress::unsuppress(&place, &user, output).await
        }
        Command::Suppressions { what: SuppressionsCommand::List { place, user_id } } => {
            start_logs(&cli.global, quiet)?;
            commands::suppress::list(&place, user_id.as_deref(), output).await
        }
        Command::DeadLetters { what } => {
            start_logs(&cli.global, quiet)?;
            match what {
                DeadLettersCommand::List { place, filter, all } => {
                    commands::dead_letters::list(&place, &filter, all, output).await
                }
                DeadLettersCommand::Show { place, id } => commands::dead_letters::show(&place, &id).await,
                #[cfg(feature = "deliver")]
                DeadLettersCommand::Replay { place, filter, dry_run } => {
                    commands::resend::letters(&place, &filter, dry_run, output).await
                }
                DeadLettersCommand::Discard { place, filter, dry_run } => {
                    commands::dead_letters::discard(&place, &filter, dry_run, output).await
                }
            }
        }
        #[cfg(feature = "warehouse-loader")]
        Command::Runs { what } => {
            start_logs(&cli.global, quiet)?;
            match what {
                cli::RunsCommand::List(args) => commands::runs::list(&args, output).await,
                cli::RunsCommand::Show { place, run } => commands::runs::show(&place, &run, output).await,
            }
        }
        #[cfg(feature = "warehouse-loader")]
        Command::Balance(args) => {
            start_logs(&cli.global, quiet)?;
            commands::balance::run(&args, output).await
        }
        #[cfg(any(feature = "warehouse-loader", feature = "deliver"))]
        Command::Replay(args) => {
            start_logs(&cli.global, quiet)?;
            match &args.destination {
                #[cfg(feature = "deliver")]
                Some(destination) => commands::resend::replay(&args, destination, output).await,
                #[cfg(not(feature = "deliver"))]
                Some(_) => Err(Failure::Usage("this build cannot deliver".to_owned())),
                #[cfg(feature = "warehouse-loader")]
                None => commands::jobs::run(JobKind::Replay, &args.job()?, output).await,
                #[cfg(not(feature = "warehouse-loader"))]
                None => Err(Failure::Usage("this build cannot load".to_owned())),
            }
        }
        #[cfg(feature = "warehouse-loader")]
        Command::Backfill(args) => {
            start_logs(&cli.global, quiet)?;
            commands::jobs::run(JobKind::Backfill, &args, output).await
        }
        #[cfg(feature = "warehouse-loader")]
        Command::Rebuild(args) => {
            start_logs(&cli.global, quiet)?;
            commands::rebuild::run(&args, output).await
        }
        Command::Check { place, connect, dev } => {
            start_logs(&cli.global, quiet)?;
            commands::check::run(&place, connect, dev, output).await
        }
        Command::Query { place, warehouse, limit, sql } => {
            start_logs(&cli.global, quiet)?;
            commands::query::run(&place, warehouse.as_deref(), limit, &sql, output).await
        }
        Command::Send(args) => {
            start_logs(&cli.global, quiet)?;
            commands::send::run(&args, output).await
        }
        Command::Tap(args) => {
            start_logs(&cli.global, quiet)?;
            commands::tap::run(&args, output).await
        }
        Command::Preview { what } => {
            start_logs(&cli.global, quiet)?;
            commands::preview::run(&what)
        }
        Command::Connectors { what } => {
            start_logs(&cli.global, quiet)?;
            commands::connectors::run(&what, output).await
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&millrace_service::config::schema());
            output::line(schema.map_err(|error| Failure::Failed(error.to_string()))?);
            Ok(())
        }
        Command::Topics { place } => commands::check::topics(&place, output),
        Command::Broker { data_dir, port } => {
            start_logs(&cli.global, "info")?;
            commands::serve::broker(&data_dir, port, output).await
        }
        #[cfg(feature = "demo")]
        Command::DemoSource { command } => Ok(demo::source::run(&command)?),
    }
}

/// Logs go to stderr. `otherwise` is what is logged unless the user says.
fn start_logs(global: &Global, otherwise: &str) -> Result<(), Failure> {
    let format = match global.log_format {
        LogStyle::Text => LogFormat::Text,
        LogStyle::Json => LogFormat::Json,
    };
    let filter = match &global.log {
        Some(filter) => filter.clone(),
        // The client library repeats each connection error at error level; the stages say it once. The
        // lake's libraries tell every snapshot at info.
        None => format!(
            "{otherwise},librdkafka=off,rdkafka=off,nisshi=warn,nisshi_broker::broker=off,buoyant_kernel=warn,deltalake_core=error,datafusion=warn"
        ),
    };
    telemetry::init_logs(format, &filter).map_err(|error| Failure::Usage(error.to_string()))
}
