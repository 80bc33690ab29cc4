//! The demo's report: a paragraph per stage, with an equation that must hold.

use std::collections::BTreeMap;

use super::visit::{Answers, Delivered, Loaded, Synced, TopicCount};
use crate::exit::Failure;
use crate::output::{line, table_of};
use millrace_reverse_etl::RunReport;

/// Counts what did not add up.
#[derive(Debug, Default)]
pub(super) struct Report {
    wrong: Vec<String>,
}

impl Report {
    pub(super) fn ingest(&mut self, answers: &Answers, topic: &TopicCount) -> Result<(), Failure> {
        title("1  ingest", "HTTP with a write key; 200 means: in Kafka, acknowledged");
        line(format!(
            "   answers     {}",
            join(answers.iter().map(|(status, n)| format!("{n} × {status} {}", meaning(*status))))
        ));
        line(format!(
            "   Kafka       {} holds {} events: {}",
            topic.topic,
            topic.records,
            kinds(&topic.kinds)
        ));
        line(format!(
            "   privacy     {} of them hold an e-mail address, phone or card number of the sample",
            topic.in_the_clear
        ));
        self.must(topic.records > 0, "no event is in Kafka");
        self.must(topic.in_the_clear == 0, "personal data is in Kafka in the clear");
        self.must(answers.keys().copied().eq([200, 400, 401, 413]), "ingest did not answer as it should");
        Ok(())
    }

    pub(super) fn extract(&mut self, topic: &TopicCount) -> Result<(), Failure> {
        title("2  extract", "ELT: a child process that speaks the Airbyte protocol");
        line(format!("   Kafka       {} holds {} rows: {}", topic.topic, topic.records, kinds(&topic.kinds)));
        self.must(topic.records > 0, "no row is in Kafka");
        Ok(())
    }

    pub(super) fn loader(&mut self, loaded: &Loaded) -> Result<(), Failure> {
        title("3  warehouse-loader", "from Kafka into Delta tables, exactly once");
        for (source, received) in &loaded.received {
            let ended: Vec<_> = loaded.books.iter().filter(|((other, _), _)| other == source).collect();
            let sum: u64 = ended.iter().map(|(_, items)| **items).sum();
            let terms = ended.iter().map(|((_, disposition), items)| format!("{items} {disposition}"));
            line(format!(
                "   books       {source}: {received} in Kafka = {}",
                terms.collect::<Vec<_>>().join(" + ")
            ));
            self.must(sum == *received, "the loader's books do not add up");
        }
        line(format!(
            "   tables      {}",
            join(loaded.tables.iter().map(|(name, rows)| format!("{name} {rows}")))
        ));
        line(format!(
            "   privacy     {} cells hold an e-mail address, phone or card number of the sample",
            loaded.in_the_clear
        ));
        self.must(loaded.in_the_clear == 0, "personal data is in the lake in the clear");
        for (title, (columns, rows)) in &loaded.shown {
            line(format!("\n   {title}"));
            line(indent(&table_of(columns, rows)));
            self.must(!rows.is_empty(), "a table has no rows");
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, delivered: &Delivered) -> Result<(), Failure> {
        title("4  deliver", "signed webhooks; the receiver answers some with 500 on purpose");
        let sum: u64 = delivered.outcomes.values().sum();
        line(format!("   outcomes    {} in Kafka = {}", delivered.received, terms(&delivered.outcomes)));
        line(format!(
            "   receiver    {} different events arrived, {} badly signed; it answered 500 to {} tries, which came again",
            delivered.at_receiver, delivered.badly_signed, delivered.retried
        ));
        self.must(sum == delivered.received, "deliver's outcomes do not add up");
        self.must(
            delivered.outcomes.get("delivered") == Some(&delivered.at_receiver),
            "the receiver has another count than the outcomes",
        );
        self.must(delivered.badly_signed == 0, "a signature was wrong");
        Ok(())
    }

    pub(super) fn reverse_etl(&mut self, synced: &Synced) -> Result<(), Failure> {
        title("5  reverse ETL", "a SQL model over the lake, its changes to the same webhook");
        line(format!("   first run   {}", run(&synced.first)));
        line(format!("   Kafka       {} changes = {} in outcomes", synced.changes, terms(&synced.outcomes)));
        line(format!("   receiver    {} rows arrived", synced.at_receiver));
        if let Some(example) = &synced.example {
            line(format!("               such as {example}"));
        }
        line(format!("   second run  {}", run(&synced.again)));
        let sum: u64 = synced.outcomes.values().sum();
        self.must(synced.changes > 0 && sum == synced.changes, "the outcomes of changes do not add up");
        self.must(synced.at_receiver == synced.changes, "the receiver has another count of rows");
        self.must(synced.again.upserts == 0, "the second run published what had not changed");
        Ok(())
    }

    /// Says whether all of it added up.
    ///
    /// # Errors
    /// Something did not.
    pub(super) fn close(self) -> Result<(), Failure> {
        if self.wrong.is_empty() {
            line("\nEvery count adds up.");
            return Ok(());
        }
        Err(Failure::Failed(format!("the counts do not add up: {}", self.wrong.join("; "))))
    }

    fn must(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.wrong.push(otherwise.to_owned());
        }
    }
}

fn title(stage: &str, what: &str) {
    line(format!("\n{stage} — {what}"));
}

fn meaning(status: u16) -> &'static str {
    match status {
        200 => "ok",
        400 => "(bad JSON)",
        401 => "(bad key)",
        413 => "(too large)",
        _ => "",
    }
}

fn kinds(kinds: &BTreeMap<String, u64>) -> String {
    join(kinds.iter().map(|(kind, n)| format!("{n} {kind}")))
}

fn terms(outcomes: &BTreeMap<&'static str, u64>) -> String {
    outcomes.iter().map(|(disposition, n)| format!("{n} {disposition}")).collect::<Vec<_>>().join(" + ")
}

fn run(report: &RunReport) -> String {
    format!(
        "run {}: {} rows, {} to upsert, {} unchanged",
        report.run, report.rows, report.upserts, report.unchanged
    )
}

fn join(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("     {line}")).collect::<Vec<_>>().join("\n")
}
