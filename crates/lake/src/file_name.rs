//! The names of plain Parquet files: whose they are, of which load and attempt at it, and from which offsets.

use std::fmt;

use crate::files::LoadId;

/// Partitions of a load that a name has room for; the intent log has all.
const RANGES_NAMED: usize = 4;

/// Characters of the intent log's id.
const LOG: usize = 8;

/// A name in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) connection: String,
    pub(crate) log: String,
    pub(crate) number: u64,
    /// Of the loader whose attempt at the load it is.
    pub(crate) epoch: u64,
    /// `partition.start.end`, joined by `_`.
    ranges: String,
    /// Tells files of one load and table apart.
    part: usize,
}

/// What a name keeps of an intent log's id.
pub(crate) fn short(log: &uuid::Uuid) -> String {
    log.simple().to_string().chars().take(LOG).collect()
}

impl FileName {
    pub(crate) fn new(id: &LoadId, part: usize) -> Self {
        let named = id.ranges.iter().take(RANGES_NAMED);
        let mut ranges: Vec<String> =
            named.map(|range| format!("{}.{}.{}", range.partition, range.start, range.end)).collect();
        if id.ranges.len() > RANGES_NAMED {
            ranges.push(format!("and{}", id.ranges.len() - RANGES_NAMED));
        }
        Self {
            connection: id.connection.to_string(),
            log: id.log.clone(),
            number: id.number,
            epoch: id.epoch,
            ranges: ranges.join("_"),
            part,
        }
    }

    /// The parts of a name, if it is one of ours. A connection's name may have hyphens, the rest has none.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.rsplitn(6, '-');
        let part = parts.next()?.parse().ok()?;
        let ranges = parts.next()?.to_owned();
        let epoch = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        let log = parts.next()?.to_owned();
        let connection = parts.next()?.to_owned();
        (log.len() == LOG).then_some(Self { connection, log, number, epoch, ranges, part })
    }

    /// Whether it is of this load, whoever's attempt.
    pub(crate) fn is_of(&self, id: &LoadId) -> bool {
        self.connection == id.connection.as_str() && self.log == id.log && self.number == id.number
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, log, number, epoch, ranges, part } = self;
        write!(f, "{connection}-{log}-{number:012}-{epoch}-{ranges}-{part}.parquet")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use millrace_connector::OffsetRange;

    use super::*;

    #[test]
    fn a_name_says_what_it_was_made_of() {
        let range = |partition| OffsetRange { partition, start: 10, end: 25 };
        let mut id = LoadId {
            connection: "web--lake".parse().unwrap(),
            log: short(&uuid::Uuid::from_u128(0x1234_5678_0000_0000_0000_0000_0000_0000)),
            number: 7,
            epoch: 3,
            ranges: vec![range(0), range(3)],
        };
        let name = FileName::new(&id, 2);
        assert_eq!(name.to_string(), "web--lake-12345678-000000000007-3-0.10.25_3.10.25-2.parquet");
        assert_eq!(FileName::parse(&name.to_string()), Some(name.clone()));
        assert!(name.is_of(&id));
        id.ranges = (0..9).map(range).collect();
        assert!(FileName::new(&id, 0).to_string().contains("_3.10.25_and5-0"));
        id.ranges.clear();
        let empty = FileName::new(&id, 0).to_string();
        assert_eq!(FileName::parse(&empty).map(|name| name.to_string()), Some(empty));
        for other in ["part-00000-c000.snappy.parquet", "a-b-c-d-e-f.parquet", "x.parquet", "a-b-1-c-1.csv"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
    }
}
