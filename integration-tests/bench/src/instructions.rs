//! Instructions per event of ingest's own code, counted by callgrind.
//!
//! A count hardly differs between two runs, however busy the machine: where a time needs a quiet hour, this
//! tells within a minute whether a change costs 3 %. It says nothing of caches, of the kernel and of
//! librdkafka. Each part runs N rounds and 2N rounds; the difference is what N rounds cost, so that making
//! the corpus does not count.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::error::BenchError;
use crate::pure::Part;
use crate::workload::Workload;

/// What is counted, in the order of the table.
const COUNTED: [(Workload, Part, &str); 8] = [
    (Workload::W1, Part::Open, "split and decide"),
    (Workload::W1, Part::Write, "split, decide and write the record"),
    (Workload::W3, Part::Open, "split and decide"),
    (Workload::W3, Part::Write, "split, decide and write the record"),
    (Workload::W4, Part::Inflate, "inflate"),
    (Workload::W6, Part::Scan, "mask"),
    (Workload::W6, Part::Open, "split, mask and decide"),
    (Workload::W6, Part::Write, "split, mask, decide and write the record"),
];

/// More than this over what is recorded, and a check fails.
const TOLERANCE: f64 = 0.03;

/// How to count.
#[derive(Debug, clap::Args)]
pub(crate) struct InstructionsArgs {
    /// Over all bodies of a workload. Valgrind takes about a second for each.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Fail if a count is more than 3 % above the recorded one.
    #[arg(long)]
    check: bool,
    /// Record the counts, to compare the next ones to.
    #[arg(long, conflicts_with = "check")]
    record: bool,
    /// Where the counts are written as JSON.
    #[arg(long, default_value = "target/bench-instructions.json")]
    json: PathBuf,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Count {
    workload: Workload,
    part: Part,
    per_event: f64,
}

/// Counts, and prints a table in Markdown.
pub(crate) fn run(args: &InstructionsArgs) -> Result<(), BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::io("make a folder for callgrind"))?;
    let recorded = read(&recorded_file());
    let mut counts = Vec::new();
    for (workload, part, _) in COUNTED {
        crate::print_progress(&format!("{}: {}", workload.name(), part.name()));
        counts.push(Count { workload, part, per_event: count(&folder, workload, part, args.rounds)? });
    }
    write(&args.json, &counts)?;
    crate::print_line(&markdown(&counts, &recorded));
    if args.record {
        return write(&recorded_file(), &counts);
    }
    let more = above(&counts, &recorded);
    if args.check && !more.is_empty() {
        return Err(BenchError::Failed(format!("more instructions than recorded: {}", more.join(", "))));
    }
    Ok(())
}

/// Next to the sources: it belongs to the commit.
fn recorded_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

fn count(folder: &TempDir, workload: Workload, part: Part, rounds: usize) -> Result<f64, BenchError> {
    // Both at once: another process next to it changes no count.
    let (once, twice) = (rounds, 2 * rounds);
    let first = Counted::start(folder, workload, part, once)?;
    let second = Counted::start(folder, workload, part, twice)?;
    let (first, events) = first.finish()?;
    let (second, _) = second.finish()?;
    Ok((second.saturating_sub(first)) as f64 / (events * rounds as u64) as f64)
}

/// A run under callgrind.
struct Counted {
    child: Child,
    file: PathBuf,
}

impl Counted {
    fn start(folder: &TempDir, workload: Workload, part: Part, rounds: usize) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::io("find this program"))?;
        let file = folder.path().join(format!("{}-{}-{rounds}", workload.name(), part.name()));
        let child = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(program)
            .args(["pure", "--workload", workload.name(), "--part", part.name()])
            .args(["--rounds", &rounds.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::io("start valgrind; its package has the same name"))?;
        Ok(Self { child, file })
    }

    /// Its instructions, and the events of a round.
    fn finish(self) -> Result<(u64, u64), BenchError> {
        let output = self.child.wait_with_output().map_err(BenchError::io("wait for valgrind"))?;
        let events =
            String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|_| output.status.success());
        let events =
            events.ok_or_else(|| BenchError::Failed(format!("valgrind ended with {}", output.status)))?;
        let profile =
            std::fs::read_to_string(&self.file).map_err(BenchError::io("read callgrind's counts"))?;
        let total = total(&profile)
            .ok_or_else(|| BenchError::Failed("callgrind wrote no total of instructions".to_owned()))?;
        Ok((total, events))
    }
}

/// A profile ends with `totals: <instructions>`.
fn total(profile: &str) -> Option<u64> {
    profile.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

fn read(file: &Path) -> Vec<Count> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // Before the first record there is none to compare to.
    serde_json::from_str(&text).unwrap_or_default()
}

fn write(file: &Path, counts: &[Count]) -> Result<(), BenchError> {
    let mut json =
        serde_json::to_string_pretty(counts).map_err(|error| BenchError::Failed(error.to_string()))?;
    json.push('\n');
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder).map_err(BenchError::io(format!("make {}", folder.display())))?;
    }
    std::fs::write(file, json).map_err(BenchError::io(format!("write {}", file.display())))
}

/// How much more than what is recorded; a part that is new has nothing to be compared to.
fn growth(count: &Count, recorded: &[Count]) -> Option<f64> {
    let earlier =
        recorded.iter().find(|other| (other.workload, other.part) == (count.workload, count.part))?;
    Some(count.per_event / earlier.per_event - 1.0)
}

fn above(counts: &[Count], recorded: &[Count]) -> Vec<String> {
    let grown = counts.iter().filter(|count| growth(count, recorded).is_some_and(|more| more > TOLERANCE));
    grown.map(|count| format!("{} {}", count.workload.name(), count.part.name())).collect()
}

fn markdown(counts: &[Count], recorded: &[Count]) -> String {
    let mut text =
        String::from("| | part | instructions per event | against the recorded |\n|---|---|---|---|\n");
    for (count, (_, _, title)) in counts.iter().zip(COUNTED) {
        let growth =
            growth(count, recorded).map_or("–".to_owned(), |more| format!("{:+.1} %", more * 100.0));
        let name = count.workload.name().to_uppercase();
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {name} | {title} | {:.0} | {growth} |", count.per_event);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(per_event: f64) -> Vec<Count> {
        vec![Count { workload: Workload::W1, part: Part::Open, per_event }]
    }

    #[test]
    fn less_than_three_percent_more_is_noise_and_four_is_not() {
        assert_eq!(above(&counts(1029.0), &counts(1000.0)), Vec::<String>::new());
        assert_eq!(above(&counts(900.0), &counts(1000.0)), Vec::<String>::new());
        assert_eq!(above(&counts(1040.0), &counts(1000.0)), ["w1 open"]);
        assert_eq!(above(&counts(1040.0), &[]), Vec::<String>::new(), "nothing is recorded yet");
    }

    #[test]
    fn the_total_is_the_last_line_of_a_profile() {
        assert_eq!(total("events: Ir\nfn=(1) main\n16 400\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("events: Ir\n"), None);
    }
}
