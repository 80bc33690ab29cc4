//! A connection of the generator: HTTP/1.1 with keep-alive, as little of it as the answers need.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Room for an answer; ingest's have a few hundred bytes.
const ANSWER_BYTES: usize = 1024;

pub(crate) struct Client {
    address: SocketAddr,
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { address, stream: open(address).await?, answer: Vec::with_capacity(ANSWER_BYTES) })
    }

    /// Sends one request and reads its answer to the end. After an error the connection is a new one.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        match self.exchange_once(request).await {
            Ok(Answer { status, last: false }) => Ok(status),
            Ok(Answer { status, last: true }) => {
                self.stream = open(self.address).await?;
                Ok(status)
            }
            Err(error) => {
                self.stream = open(self.address).await?;
                Err(error)
            }
        }
    }

    async fn exchange_once(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some((answer, length)) = parse(&self.answer)
                && self.answer.len() >= length
            {
                return Ok(answer);
            }
        }
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// The server closes the connection after it.
    last: bool,
}

/// An answer and its length, once its head is here.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(bytes.get(..head_length)?).ok()?;
    let status = head.get(9..12)?.parse().ok()?;
    let (mut length, mut last) = (0, false);
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        last |= name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close");
    }
    Some((Answer { status, last }, head_length + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        let text = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(parse(text), Some((Answer { status: 200, last: false }, text.len())));
        assert_eq!(parse(&text[..text.len() - 3]), None);
        let last = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parse(last), Some((Answer { status: 503, last: true }, last.len())));
    }
}
