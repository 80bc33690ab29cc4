//! Reading a request's body within bounds, plain or gzip.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{self, HeaderMap};
use libdeflater::{Crc, Decompressor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Refusal;

/// Permits of the budget are counted in these.
const BUDGET_UNIT: usize = 1024;

/// How much is inflated at a time: a bomb is noticed one piece after the limit.
const INFLATE_STEP: usize = 64 * 1024;

/// The bytes of all bodies under way.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / BUDGET_UNIT)))
    }

    pub(crate) fn share(&self) -> Share {
        Share { budget: Arc::clone(&self.0), held: None, bytes: 0 }
    }
}

/// One request's part of the budget; given back when dropped.
pub(crate) struct Share {
    budget: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.bytes += bytes;
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = self.bytes.div_ceil(BUDGET_UNIT).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| Refusal::TooLarge)?;
        let more =
            Arc::clone(&self.budget).try_acquire_many_owned(missing).map_err(|_| Refusal::Overloaded)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// Whether the body is gzip. Other encodings are not known here, as they are not to RudderStack.
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// The body as it was sent. Content-Type is never looked at: SDKs send JSON under any.
pub(crate) async fn receive<B>(mut body: B, limit: usize, share: &mut Share) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().exact().unwrap_or(0);
    if declared > limit as u64 {
        discard(body).await?;
        return Err(Refusal::TooLarge);
    }
    let Some(first) = chunk(&mut body).await? else { return Ok(Bytes::new()) };
    admit(0, first.len(), limit, share)?;
    if first.len() as u64 == declared {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(declared).unwrap_or(0).max(first.len()));
    whole.extend_from_slice(&first);
    while let Some(next) = chunk(&mut body).await? {
        admit(whole.len(), next.len(), limit, share)?;
        whole.extend_from_slice(&next);
    }
    Ok(whole.freeze())
}

/// Most clients send the whole body before they read the answer: hung up on, they would see a broken
/// connection instead of a 413, and try again.
const DISCARD_BYTES: usize = 16 * 1024 * 1024;

async fn discard<B>(mut body: B) -> Result<(), Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut discarded = 0;
    while discarded < DISCARD_BYTES {
        let Some(bytes) = chunk(&mut body).await? else { break };
        discarded += bytes.len();
    }
    Ok(())
}

/// The next piece of the body; trailers are not read.
async fn chunk<B>(body: &mut B) -> Result<Option<Bytes>, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
{
    while let Some(frame) = body.frame().await {
        match frame.map_err(|_| Refusal::UnreadableBody)?.into_data() {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(_trailers) => {}
        }
    }
    Ok(None)
}

fn admit(have: usize, more: usize, limit: usize, share: &mut Share) -> Result<(), Refusal> {
    if have + more > limit {
        return Err(Refusal::TooLarge);
    }
    share.grow(more)
}

thread_local! {
    /// Its tables are as large as a small body: one for each thread, used again.
    static INFLATER: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Inflates, as far as the limit: a bomb costs no more than a body that is just allowed.
pub(crate) fn inflate(compressed: &[u8], limit: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    if let Some(promised) = Promise::of(compressed).filter(|promised| promised.size <= limit) {
        share.grow(promised.size)?;
        let mut plain = vec![0; promised.size];
        let inflated = INFLATER.with_borrow_mut(|inflater| inflater.gzip_decompress(compressed, &mut plain));
        if inflated == Ok(promised.size) && promised.is_kept_by(&plain) {
            return Ok(plain.into());
        }
    }
    inflate_by_steps(compressed, limit, share)
}

/// What the last eight bytes of gzip say of its last member. Where that is the first member too, it is the
/// whole. (Two equal members would pass for one; but no text that is put together from two equal halves
/// is a JSON object.)
struct Promise {
    crc: u32,
    size: usize,
}

impl Promise {
    fn of(compressed: &[u8]) -> Option<Self> {
        let (rest, size) = compressed.split_last_chunk::<4>()?;
        let (_, crc) = rest.split_last_chunk::<4>()?;
        Some(Self { crc: u32::from_le_bytes(*crc), size: u32::from_le_bytes(*size) as usize })
    }

    fn is_kept_by(&self, plain: &[u8]) -> bool {
        let mut crc = Crc::new();
        crc.update(plain);
        crc.sum() == self.crc
    }
}

/// For what is not one member of the size that it promises: several members, a lie, or no gzip.
fn inflate_by_steps(compressed: &[u8], limit: usize, share: &mut Share) -> Result<Bytes, Refusal> {
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut plain = Vec::new();
    loop {
        let before = plain.len();
        let step = INFLATE_STEP.min(limit + 1 - before) as u64;
        decoder.by_ref().take(step).read_to_end(&mut plain).map_err(|_| Refusal::UnreadableBody)?;
        let read = plain.len() - before;
        if read == 0 {
            return Ok(plain.into());
        }
        admit(before, read, limit, share)?;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::Full;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    fn ample() -> Share {
        Budget::new(64 * 1024 * 1024).share()
    }

    #[test]
    fn what_was_deflated_comes_back_up_to_the_limit() {
        let plain = vec![b'x'; 200_000];
        assert_eq!(inflate(&gzip(&plain), 200_000, &mut ample()).unwrap(), plain);
        assert_eq!(inflate(&gzip(&plain), 199_999, &mut ample()), Err(Refusal::TooLarge));
        let members = [gzip(b"{\"a\":"), gzip(b"1}")].concat();
        assert_eq!(inflate(&members, 100, &mut ample()).unwrap(), &b"{\"a\":1}"[..]);
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_limit() {
        let bomb = gzip(&vec![0; 50_000_000]);
        assert!(bomb.len() < 100_000);
        let mut share = ample();
        assert_eq!(inflate(&bomb, 100_000, &mut share), Err(Refusal::TooLarge));
        assert!(share.bytes <= 100_001, "{}", share.bytes);
        let mut share = ample();
        let mut liar = bomb;
        let size = liar.len() - 4;
        liar[size..].copy_from_slice(&50_000_u32.to_le_bytes());
        assert_eq!(inflate(&liar, 100_000, &mut share), Err(Refusal::TooLarge));
        assert!(share.bytes <= 150_001, "{}", share.bytes);
    }

    #[test]
    fn members_of_equal_size_are_all_inflated() {
        let members = [gzip(b"[1,2"), gzip(b",3,4"), gzip(b",56]")].concat();
        assert_eq!(inflate(&members, 100, &mut ample()).unwrap(), &b"[1,2,3,4,56]"[..]);
    }

    #[test]
    fn what_is_not_gzip_is_unreadable() {
        for bad in [&b"not gzip"[..], b"", b"\x1f\x8b", &gzip(b"cut")[..15]] {
            assert_eq!(inflate(bad, 100, &mut ample()), Err(Refusal::UnreadableBody), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_body_takes_its_share_and_gives_it_back() {
        let budget = Budget::new(4096);
        let mut first = budget.share();
        assert_eq!(
            receive(Full::new(Bytes::from(vec![1; 3000])), 9000, &mut first).await.unwrap().len(),
            3000
        );
        let mut second = budget.share();
        assert_eq!(
            receive(Full::new(Bytes::from(vec![1; 3000])), 9000, &mut second).await,
            Err(Refusal::Overloaded)
        );
        drop(first);
        let mut third = budget.share();
        assert!(receive(Full::new(Bytes::from(vec![1; 3000])), 9000, &mut third).await.is_ok());
        assert_eq!(
            receive(Full::new(Bytes::from(vec![1; 3000])), 2999, &mut budget.share()).await,
            Err(Refusal::TooLarge)
        );
    }
}
