//! HTTP by hand, for what no client library would send, and for seeing how a connection ends.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stack::{DEADLINE, Stack, WEB};

/// A `POST /v1/track` of source `web`, up to its other headers.
pub(crate) fn post_head() -> String {
    format!("POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {WEB}\r\n")
}

/// The same with its body.
pub(crate) fn post(body: &str) -> String {
    format!("{}Content-Length: {}\r\n\r\n{body}", post_head(), body.len())
}

pub(crate) async fn connect(stack: &Stack) -> TcpStream {
    TcpStream::connect(stack.address()).await.unwrap()
}

/// One answer: its head, in lower case, and its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn ends_the_connection(&self) -> bool {
        self.head.contains("connection: close")
    }
}

/// Reads one answer; none when the connection has ended before it began.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Answer>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match within(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    within(stream.read_exact(&mut body)).await?;
    Ok(Some(Answer { head, body: String::from_utf8(body).unwrap() }))
}

/// Sends a request and reads its answer.
pub(crate) async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> Answer {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_answer(stream).await.unwrap().unwrap()
}

/// What comes until the other end closes, in the order or by a reset.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset keeps what was read before it.
    let _ = within(stream.read_to_end(&mut all)).await;
    all
}

async fn within<T>(reading: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(DEADLINE, reading).await.expect("an answer or the end in time")
}
