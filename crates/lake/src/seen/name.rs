//! The names of files of seen ids: `<yyyy-mm-dd>/<N>`, or `<yyyy-mm-dd>/<first N>-<last N>` of several loads.

use chrono::NaiveDate;

/// A name in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) day: NaiveDate,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl FileName {
    pub(crate) fn path(&self) -> String {
        if self.first == self.last {
            return format!("{}/{:020}", self.day, self.first);
        }
        format!("{}/{:020}-{:020}", self.day, self.first, self.last)
    }

    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (day, numbers) = path.split_once('/')?;
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self { day: day.parse().ok()?, first: first.parse().ok()?, last: last.parse().ok()? })
    }
}

/// The names in order, and apart from them those that a merged file of the list has all ids of. These are about
/// to go, one by one, and whoever read them would find the next gone each time the files are listed anew.
pub(crate) fn without_merged(mut names: Vec<FileName>) -> (Vec<FileName>, Vec<FileName>) {
    names.sort_unstable_by_key(|name| (name.day, name.first, std::cmp::Reverse(name.last)));
    let mut merged = Vec::new();
    names.dedup_by(|name, before| {
        let is_part = name.day == before.day && name.last <= before.last;
        if is_part {
            merged.push(*name);
        }
        is_part
    });
    (names, merged)
}
