//! `millrace connectors test`: the tests of YAML files, and the conformance kit over them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millrace_connectors::declarative::trial::{self, Finding};
use millrace_connectors::declarative::{Compiled, FolderError, built_in, read_file, read_folder};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::connectors::{default_folder, told};
use crate::exit::Failure;
use crate::output;

/// How often a watched file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs the tests of a kind, a file, or all.
///
/// # Errors
/// A test fails or a promise is broken.
pub(super) async fn run(
    which: Option<&str>,
    watch: bool,
    folder: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let Some(file) = which.map(Path::new).filter(|file| watch && file.is_file()) else {
        if watch {
            return Err(Failure::Usage("--watch needs a file".to_owned()));
        }
        return test(&chosen(which, folder)?, output).await;
    };
    let mut seen = None;
    loop {
        let changed = modified(file);
        if seen != Some(changed) {
            seen = Some(changed);
            match read_file(file) {
                Ok(compiled) => {
                    if let Err(failure) = test(&[compiled], output).await {
                        output::line(failure.text());
                    }
                }
                Err(error) => output::line(told(&[error]).text()),
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The files that are meant: one, the one of a kind, or all.
fn chosen(which: Option<&str>, folder: Option<&Path>) -> Result<Vec<Arc<Compiled>>, Failure> {
    let wrong = |error: FolderError| told(&[error]);
    if let Some(file) = which.map(Path::new).filter(|file| file.is_file()) {
        return Ok(vec![read_file(file).map_err(wrong)?]);
    }
    let mut files = match folder.map(Path::to_owned).or_else(default_folder) {
        Some(folder) => read_folder(&folder).map_err(|errors| told(&errors))?,
        None => Vec::new(),
    };
    files.extend(built_in());
    let Some(kind) = which else { return Ok(files) };
    files.retain(|file| file.spec.name == kind);
    if files.is_empty() {
        let told =
            format!("{kind:?} is no file and no destination in YAML; those in Rust are tested with cargo");
        return Err(Failure::Usage(told));
    }
    Ok(files)
}

async fn test(files: &[Arc<Compiled>], output: Output) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut lines: Vec<Value> = Vec::new();
    let mut failures = 0;
    for file in files {
        let kind = &file.spec.name;
        for verdict in trial::run(file).await {
            failures += usize::from(verdict.failure.is_some());
            lines.push(json!({ "kind": kind, "test": verdict.test, "failure": verdict.failure }));
            let (mark, note) = match verdict.failure {
                Some(failure) => ("FAILED", failure),
                None => ("ok", String::new()),
            };
            rows.push(vec![kind.clone(), mark.to_owned(), verdict.test, note]);
        }
        for promise in trial::conform(file).await {
            let (mark, note) = match &promise.finding {
                Finding::Kept => ("ok", String::new()),
                Finding::Broken(told) => ("FAILED", told.clone()),
                Finding::Skipped(reason) => ("skipped", (*reason).to_owned()),
            };
            failures += usize::from(matches!(promise.finding, Finding::Broken(_)));
            let failure = matches!(promise.finding, Finding::Broken(_)).then_some(&note);
            let skipped = matches!(promise.finding, Finding::Skipped(_)).then_some(&note);
            lines.push(json!({
                "kind": kind,
                "test": format!("{} {}", promise.code, promise.promise),
                "failure": failure,
                "skipped": skipped,
            }));
            let test = format!("{} {}", promise.code, promise.promise);
            rows.push(vec![kind.clone(), mark.to_owned(), test, note]);
        }
    }
    match output {
        Output::Json => lines.iter().for_each(|line| output::line(line.to_string())),
        Output::Text => output::line(output::table(&["KIND", "", "TEST", "NOTE"], rows)),
    }
    match failures {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 test failed".to_owned())),
        many => Err(Failure::Failed(format!("{many} tests failed"))),
    }
}
