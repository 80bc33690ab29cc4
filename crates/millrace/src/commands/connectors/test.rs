//! `millrace connectors test`: the tests of YAML files, and the conformance kit over them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use millrace_connectors::declarative::trial::{self, Finding};
use millrace_connectors::declarative::{Compiled, FolderError, built_in, read_file, read_folder};
use serde_json::{Value, json};

use crate::cli::Output;
use crate::connectors::{FOLDER, default_folder, told};
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
    if !watch {
        let report = test(&chosen(which, folder)?).await;
        output::line(report.shown(output));
        return report.verdict();
    }
    let which = which.unwrap_or_default();
    let folder = folder.map_or_else(|| PathBuf::from(FOLDER), Path::to_owned);
    // A kind's file has its name, unless somebody has renamed it.
    let of_kind = ["yaml", "yml"].map(|ending| folder.join(format!("{which}.{ending}")));
    let named = [PathBuf::from(which)].into_iter().chain(of_kind).collect::<Vec<_>>();
    let Some(file) = named.iter().find(|file| file.is_file()) else {
        return Err(Failure::Usage(format!(
            "--watch needs a file, such as connectors/acme.yaml: {which:?} is none"
        )));
    };
    if output == Output::Text {
        crate::output::aside(format!("testing {} whenever it changes; Ctrl-C ends it", file.display()));
    }
    watched(file, output).await;
    Ok(())
}

/// Runs the tests of a file whenever it changes, as long as somebody reads what came of them.
async fn watched(file: &Path, output: Output) {
    let mut seen = None;
    let mut was_missing = false;
    loop {
        let changed = modified(file);
        // An editor that puts a new file in the place of the old leaves none there for a moment.
        let settled = changed.is_some() || was_missing;
        was_missing = changed.is_none();
        if settled && seen != Some(changed) {
            seen = Some(changed);
            if !output::line_if_read(told_of(file, output).await) {
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What came of a file's tests, or what is wrong with it.
async fn told_of(file: &Path, output: Output) -> String {
    let wrong = match read_file(file) {
        Ok(compiled) => {
            let report = test(&[compiled]).await;
            return match (report.verdict(), output) {
                (_, Output::Json) => report.shown(output),
                (Ok(()), Output::Text) => format!("{}\nall tests pass\n", report.shown(output)),
                (Err(failure), Output::Text) => format!("{}\n{}\n", report.shown(output), failure.text()),
            };
        }
        Err(error) => told(&[error]),
    };
    match output {
        Output::Text => format!("{}\n", wrong.text()),
        Output::Json => json!({ "file": file, "failure": wrong.text() }).to_string(),
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
    if let Some(which) = which.filter(|which| is_path(which)) {
        return Err(Failure::Usage(no_file(Path::new(which))));
    }
    let mut files = match folder.map(Path::to_owned).or_else(default_folder) {
        Some(folder) => read_folder(&folder).map_err(|errors| told(&errors))?,
        None => Vec::new(),
    };
    files.extend(built_in());
    let Some(kind) = which else { return Ok(files) };
    let (meant, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.spec.name == kind);
    if !meant.is_empty() {
        return Ok(meant);
    }
    if Path::new(kind).is_dir() {
        return Err(Failure::Usage(no_file(Path::new(kind))));
    }
    if millrace_connectors::registry().destination_entry(kind).is_some() {
        let told = format!("{kind:?} is written in Rust: cargo test -p millrace-connectors --lib {kind}");
        return Err(Failure::Usage(told));
    }
    let known: Vec<&str> = others.iter().map(|file| file.spec.name.as_str()).collect();
    let known = known.join(", ");
    Err(Failure::Usage(format!("{kind:?} is no file and no destination in YAML; there are: {known}")))
}

/// Whether somebody who typed this can only have meant a file or a folder, and no kind.
fn is_path(which: &str) -> bool {
    which.contains(['/', '.'])
}

fn no_file(path: &Path) -> String {
    let path_text = path.display();
    if path.is_dir() {
        return format!(
            "{path_text} is a folder: `connectors test --connectors {path_text}` tests all of it"
        );
    }
    format!("there is no file {path_text}")
}

/// What came of the tests of some files.
#[derive(Default)]
struct Report {
    rows: Vec<Vec<String>>,
    lines: Vec<Value>,
    failures: usize,
}

impl Report {
    fn shown(&self, output: Output) -> String {
        match output {
            Output::Json => self.lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"),
            Output::Text => output::table(&["KIND", "", "TEST", "NOTE"], self.rows.iter().cloned()),
        }
    }

    fn verdict(&self) -> Result<(), Failure> {
        match self.failures {
            0 => Ok(()),
            1 => Err(Failure::Failed("1 test failed".to_owned())),
            many => Err(Failure::Failed(format!("{many} tests failed"))),
        }
    }

    fn add(&mut self, kind: &str, test: String, failure: Option<&str>, skipped: Option<&str>) {
        let mark = match (failure, skipped) {
            (Some(_), _) => "FAILED",
            (None, Some(_)) => "skipped",
            (None, None) => "ok",
        };
        self.failures += usize::from(failure.is_some());
        self.lines.push(json!({ "kind": kind, "test": test, "failure": failure, "skipped": skipped }));
        let note = failure.or(skipped).unwrap_or_default().to_owned();
        self.rows.push(vec![kind.to_owned(), mark.to_owned(), test, note]);
    }
}

async fn test(files: &[Arc<Compiled>]) -> Report {
    let mut report = Report::default();
    for file in files {
        let kind = &file.spec.name;
        for verdict in trial::run(file).await {
            report.add(kind, verdict.test, verdict.failure.as_deref(), None);
        }
        for promise in trial::conform(file).await {
            let test = format!("{} {}", promise.code, promise.promise);
            match &promise.finding {
                Finding::Kept => report.add(kind, test, None, None),
                Finding::Broken(told) => report.add(kind, test, Some(told), None),
                Finding::Skipped(reason) => report.add(kind, test, None, Some(reason)),
            }
        }
    }
    report
}
