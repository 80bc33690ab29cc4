//! Rows and outcomes on local disk, by shard, so that memory does not grow with the model.
//!
//! The files live for one run and are read only by the process that wrote them, so their format may change
//! with any version.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, TryGetError};
use millrace_event_model::{ChangeOp, Disposition, PartitionKey};

use crate::diff::Ended;
use crate::row::MappedRow;

/// A key's shard is the first byte of its hash: with a million rows, a shard is 4,000 of them.
pub(crate) const SHARDS: usize = 256;

/// Two hundred and fifty-six of these buffers are 4 MiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// The shard of a key.
pub(crate) fn shard_of(key: PartitionKey) -> usize {
    let [first, ..] = key.0;
    usize::from(first)
}

/// Files of one kind, one for each shard that has something.
pub(crate) struct Spill {
    folder: PathBuf,
    kind: &'static str,
    files: Vec<Option<BufWriter<File>>>,
}

impl Spill {
    pub(crate) fn new(folder: &Path, kind: &'static str) -> Self {
        Self { folder: folder.to_owned(), kind, files: (0..SHARDS).map(|_| None).collect() }
    }

    /// A row of the model; `number` is its place in the model's result.
    pub(crate) fn row(&mut self, number: u64, row: &MappedRow) -> io::Result<()> {
        let file = self.file(shard_of(row.key))?;
        file.write_all(&row.key.0)?;
        file.write_all(&row.hash.0)?;
        file.write_all(&number.to_le_bytes())?;
        file.write_all(&[u8::from(row.too_large)])?;
        write_sized(file, &row.body)?;
        write_sized(file, &row.key_body)
    }

    /// How a change ended.
    pub(crate) fn ended(&mut self, key: PartitionKey, ended: Ended) -> io::Result<()> {
        let file = self.file(shard_of(key))?;
        file.write_all(&key.0)?;
        file.write_all(&ended.hash.0)?;
        file.write_all(&ended.run.to_le_bytes())?;
        file.write_all(&[code_of(ended.disposition)])
    }

    /// Makes all of it readable.
    pub(crate) fn finish(self) -> io::Result<()> {
        for mut file in self.files.into_iter().flatten() {
            file.flush()?;
        }
        Ok(())
    }

    fn file(&mut self, shard: usize) -> io::Result<&mut BufWriter<File>> {
        // A shard is a byte, and there is a place for each.
        let Some(place) = self.files.get_mut(shard) else { return Err(io::ErrorKind::InvalidInput.into()) };
        if place.is_none() {
            let file = File::create(path(&self.folder, self.kind, shard))?;
            *place = Some(BufWriter::with_capacity(BUFFER_BYTES, file));
        }
        place.as_mut().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

fn path(folder: &Path, kind: &str, shard: usize) -> PathBuf {
    folder.join(format!("{kind}-{shard:03}"))
}

/// All of a shard's file; empty where there is none.
pub(crate) fn read(folder: &Path, kind: &str, shard: usize) -> io::Result<Bytes> {
    match std::fs::read(path(folder, kind, shard)) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Bytes::new()),
        Err(error) => Err(error),
    }
}

/// The rows of a shard's file, with their numbers, in the order in which they were written.
pub(crate) fn rows(mut bytes: Bytes) -> io::Result<Vec<(u64, MappedRow)>> {
    let mut rows = Vec::new();
    while bytes.has_remaining() {
        let (key, hash) = (take_key(&mut bytes)?, take_key(&mut bytes)?);
        let number = bytes.try_get_u64_le().map_err(cut_short)?;
        let too_large = bytes.try_get_u8().map_err(cut_short)? == 1;
        let (body, key_body) = (take_sized(&mut bytes)?, take_sized(&mut bytes)?);
        rows.push((number, MappedRow { key, hash, body, key_body, too_large }));
    }
    Ok(rows)
}

/// The outcomes of a shard's file.
pub(crate) fn outcomes(mut bytes: Bytes) -> io::Result<Vec<(PartitionKey, Ended)>> {
    let mut outcomes = Vec::new();
    while bytes.has_remaining() {
        let (key, hash) = (take_key(&mut bytes)?, take_key(&mut bytes)?);
        let run = bytes.try_get_u64_le().map_err(cut_short)?;
        let disposition = disposition_of(bytes.try_get_u8().map_err(cut_short)?)?;
        outcomes.push((key, Ended { run, hash, disposition }));
    }
    Ok(outcomes)
}

fn take_key(bytes: &mut Bytes) -> io::Result<PartitionKey> {
    let mut key = [0; 16];
    bytes.try_copy_to_slice(&mut key).map_err(cut_short)?;
    Ok(PartitionKey(key))
}

fn take_sized(bytes: &mut Bytes) -> io::Result<Bytes> {
    let length = bytes.try_get_u32_le().map_err(cut_short)? as usize;
    if bytes.remaining() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.split_to(length))
}

fn cut_short(error: TryGetError) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, error)
}

fn write_sized(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(bytes)
}

const DISPOSITIONS: [Disposition; 8] = [
    Disposition::Delivered,
    Disposition::Loaded,
    Disposition::Filtered,
    Disposition::Suppressed,
    Disposition::Duplicate,
    Disposition::Rejected,
    Disposition::Expired,
    Disposition::Superseded,
];

fn code_of(disposition: Disposition) -> u8 {
    let place = DISPOSITIONS.iter().position(|other| *other == disposition);
    place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX)
}

fn disposition_of(code: u8) -> io::Result<Disposition> {
    DISPOSITIONS.get(usize::from(code)).copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A change that is to be published, but for what all changes of a run share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) op: ChangeOp,
    pub(crate) key: PartitionKey,
    pub(crate) hash: PartitionKey,
    pub(crate) body: Bytes,
}

/// The file of changes that a run is going to publish.
pub(crate) struct PlanWriter(BufWriter<File>);

/// Reads it back from the start.
pub(crate) struct PlanReader(BufReader<File>);

impl PlanWriter {
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(folder.join("changes"))?)))
    }

    pub(crate) fn write(&mut self, changes: &[Planned]) -> io::Result<()> {
        for change in changes {
            self.0.write_all(&[u8::from(change.op == ChangeOp::Delete)])?;
            self.0.write_all(&change.key.0)?;
            self.0.write_all(&change.hash.0)?;
            write_sized(&mut self.0, &change.body)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl PlanReader {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(BufReader::new(File::open(folder.join("changes"))?)))
    }

    /// At most `limit` changes; none at the end.
    pub(crate) fn next(&mut self, limit: usize) -> io::Result<Vec<Planned>> {
        let mut changes = Vec::new();
        let mut op = [0];
        while changes.len() < limit && self.0.read(&mut op)? == 1 {
            let (mut key, mut hash, mut length) = ([0; 16], [0; 16], [0; 4]);
            self.0.read_exact(&mut key)?;
            self.0.read_exact(&mut hash)?;
            self.0.read_exact(&mut length)?;
            let mut body = vec![0; u32::from_le_bytes(length) as usize];
            self.0.read_exact(&mut body)?;
            let op = if op == [1] { ChangeOp::Delete } else { ChangeOp::Upsert };
            changes.push(Planned { op, key: PartitionKey(key), hash: PartitionKey(hash), body: body.into() });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn key(first: u8) -> PartitionKey {
        let mut key = [7; 16];
        key[0] = first;
        PartitionKey(key)
    }

    #[test]
    fn rows_come_back_by_shard_in_the_order_in_which_they_came() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path(), "rows");
        let row = |first, body: &'static str| MappedRow {
            key: key(first),
            hash: key(0),
            body: Bytes::from_static(body.as_bytes()),
            key_body: Bytes::from_static(b"k"),
            too_large: first == 255,
        };
        for (number, row) in [row(1, "a"), row(255, ""), row(1, "b")].iter().enumerate() {
            spill.row(number as u64, row).unwrap();
        }
        spill.finish().unwrap();
        let shard = |shard| rows(read(folder.path(), "rows", shard).unwrap()).unwrap();
        assert_eq!(shard(1), [(0, row(1, "a")), (2, row(1, "b"))]);
        assert_eq!(shard(255), [(1, row(255, ""))]);
        assert_eq!(shard(2), []);
    }

    #[test]
    fn outcomes_come_back_whatever_they_say() {
        let folder = tempfile::tempdir().unwrap();
        let mut spill = Spill::new(folder.path(), "outcomes");
        let all = DISPOSITIONS.map(|disposition| (key(3), Ended { run: 5, hash: key(9), disposition }));
        for (key, ended) in all {
            spill.ended(key, ended).unwrap();
        }
        spill.finish().unwrap();
        assert_eq!(outcomes(read(folder.path(), "outcomes", 3).unwrap()).unwrap(), all);
    }

    #[test]
    fn a_plan_is_read_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let change = |op, body: &'static str| Planned { op, key: key(1), hash: key(2), body: body.into() };
        let all =
            [change(ChangeOp::Upsert, "one"), change(ChangeOp::Delete, ""), change(ChangeOp::Upsert, "3")];
        let mut writer = PlanWriter::create(folder.path()).unwrap();
        writer.write(&all).unwrap();
        writer.finish().unwrap();
        let mut reader = PlanReader::open(folder.path()).unwrap();
        assert_eq!(reader.next(2).unwrap(), all[..2]);
        assert_eq!(reader.next(2).unwrap(), all[2..]);
        assert_eq!(reader.next(2).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_cut_short_is_an_error() {
        assert!(rows(Bytes::from_static(&[1; 20])).is_err());
        assert!(outcomes(Bytes::from_static(&[1; 40])).is_err());
    }
}
