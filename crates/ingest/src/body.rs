//! Reading a request's body within bounds, plain or gzip.

use std::cell::RefCell;
use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::Body;
use hyper::header::{self, HeaderMap};
use libdeflater::Decompressor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Refusal;

/// Permits of the budget are counted in these.
const BUDGET_UNIT: usize = 1024;

/// How much is inflated at a time: a bomb is noticed one piece after the limit.
const INFLATE_STEP: usize = 64 * 1024;

/// Memory for a body that comes in pieces, before the second one is here; then it doubles as it grows.
const FIRST_CAPACITY: usize = 64 * 1024;

/// What each member of gzip begins with.
const GZIP_MEMBER: &[u8] = b"\x1f\x8b\x08";

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
    // Not all that is declared: whoever declares much and sends little would have more memory than their share.
    let expected = usize::try_from(declared).unwrap_or(0).min(FIRST_CAPACITY);
    let mut whole = BytesMut::with_capacity(expected.max(first.len()));
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

/// Reads a body and keeps nothing of it.
pub(crate) async fn discard<B>(mut body: B) -> Result<(), Refusal>
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
    let promised = promised_size(compressed).filter(|size| *size <= limit && is_one_member(compressed));
    if let Some(size) = promised {
        share.grow(size)?;
        let mut plain = vec![0; size];
        let inflated = INFLATER.with_borrow_mut(|inflater| inflater.gzip_decompress(compressed, &mut plain));
        if inflated == Ok(size) {
            return Ok(plain.into());
        }
    }
    inflate_by_steps(compressed, limit, share)
}

/// The size that gzip's last member says it has.
pub(crate) fn promised_size(compressed: &[u8]) -> Option<usize> {
    let (_, size) = compressed.split_last_chunk::<4>()?;
    Some(u32::from_le_bytes(*size) as usize)
}

/// Whether no second member can begin in it. By chance, one megabyte in sixteen looks as if one did.
fn is_one_member(compressed: &[u8]) -> bool {
    compressed.get(1..).is_some_and(|rest| memchr::memmem::find(rest, GZIP_MEMBER).is_none())
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
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use http_body_util::{Full, StreamBody};
    use hyper::body::{Frame, SizeHint};

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
    fn all_members_are_inflated_however_alike_they_are() {
        for members in [&["[1,2", ",3,4", ",56]"][..], &["", "{}", ""], &[" ", "{}", " "], &["a=1&", "a=1&"]]
        {
            let compressed: Vec<u8> = members.iter().flat_map(|member| gzip(member.as_bytes())).collect();
            assert_eq!(inflate(&compressed, 100, &mut ample()).unwrap(), members.concat(), "{members:?}");
        }
    }

    #[tokio::test]
    async fn what_is_declared_takes_no_memory_before_it_is_here() {
        let pieces = [Bytes::from_static(b"a"), Bytes::from_static(b"b")]
            .map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
        let body = Declared { bytes: 4_000_000, pieces: StreamBody::new(futures::stream::iter(pieces)) };
        let received = receive(body, 4_096_000, &mut ample()).await.unwrap();
        assert_eq!(received, &b"ab"[..]);
        let memory = received.try_into_mut().unwrap().capacity();
        assert!(memory <= FIRST_CAPACITY, "{memory}");
    }

    /// A body that breaks its word.
    struct Declared<B> {
        bytes: u64,
        pieces: B,
    }

    impl<B: Body + Unpin> Body for Declared<B> {
        type Data = B::Data;
        type Error = B::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
            Pin::new(&mut self.pieces).poll_frame(context)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.bytes)
        }
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
