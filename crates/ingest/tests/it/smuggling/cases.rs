//! The cases: a name, what is sent, what comes of it.

use End::{Closed, Open};

/// What a case is answered, status by status, and what becomes of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End<'s> {
    /// It goes on: the next request is served.
    Open(&'s [u16]),
    /// It is closed, and nothing after the last answer is read.
    Closed(&'s [u16]),
}

/// In a case, `@P` is the beginning of a good request, `@E` a good body of 14 bytes, and `@C` a whole good
/// request that must not be seen, since its event is the canary; its length is `@N`, or `@H` in hexadecimal.
/// Each other character stands for the byte of its number.
const CASES: &[(&str, &str, End<'static>)] = &[
    // Controls: what is not wrong is served.
    ("a plain request", "@PContent-Length: 14\r\n\r\n@E", Open(&[200])),
    ("a chunked request", "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n", Open(&[200])),
    (
        "two chunks",
        "@PTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\nc\r\nuserId\":\"u\"}\r\n0\r\n\r\n",
        Open(&[200]),
    ),
    ("chunked in capitals", "@PTRANSFER-ENCODING: ChUnKeD\r\n\r\nE\r\n@E\r\n0\r\n\r\n", Open(&[200])),
    ("blanks around a length", "@PContent-Length: \t 14 \t\r\n\r\n@E", Open(&[200])),
    (
        "an absolute target",
        "POST http://other/v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic V0s6\r\nContent-Length: 14\r\n\r\n@E",
        Open(&[200]),
    ),
    ("an empty line before the request", "\r\n@PContent-Length: 14\r\n\r\n@E", Open(&[200])),
    (
        "HTTP/1.0",
        "POST /v1/track HTTP/1.0\r\nAuthorization: Basic V0s6\r\nContent-Length: 14\r\n\r\n@E@C",
        Closed(&[200]),
    ),
    ("the client ends it", "@PConnection: close\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[200])),
    (
        "close and keep-alive",
        "@PConnection: close\r\nConnection: keep-alive\r\nContent-Length: 14\r\n\r\n@E@C",
        Closed(&[200]),
    ),
    // Both lengths.
    (
        "length, then chunked",
        "@PContent-Length: 14\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[200]),
    ),
    (
        "chunked, then length",
        "@PTransfer-Encoding: chunked\r\nContent-Length: 14\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[200]),
    ),
    (
        "CL.TE: the canary behind the last chunk",
        "@PContent-Length: 121\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "TE.CL: the canary in a chunk",
        "@PContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n@H\r\n@C\r\n0\r\n\r\n",
        Closed(&[400]),
    ),
    (
        "a length of nothing, and chunked",
        "@PContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[200]),
    ),
    (
        "a bad length, and chunked",
        "@PContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked under HTTP/1.0",
        "POST /v1/track HTTP/1.0\r\nAuthorization: Basic V0s6\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    // Encodings that others might read as chunked, or not.
    ("xchunked", "@PTransfer-Encoding: xchunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    ("identity", "@PTransfer-Encoding: identity\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    (
        "chunked, identity",
        "@PTransfer-Encoding: chunked, identity\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "identity, chunked",
        "@PTransfer-Encoding: identity, chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    ("gzip, chunked", "@PTransfer-Encoding: gzip, chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    (
        "chunked, chunked",
        "@PTransfer-Encoding: chunked, chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked twice",
        "@PTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "identity, then chunked",
        "@PTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked, then identity",
        "@PTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked with a parameter",
        "@PTransfer-Encoding: chunked;q=1\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    ("chunked in quotes", "@PTransfer-Encoding: \"chunked\"\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    ("no encoding", "@PTransfer-Encoding: \r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    ("a comma before chunked", "@PTransfer-Encoding: ,chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    ("a comma behind chunked", "@PTransfer-Encoding: chunked,\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    (
        "a vertical tab before chunked",
        "@PTransfer-Encoding: \x0bchunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    ("NUL in chunked", "@PTransfer-Encoding: chun\x00ked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    (
        "a blank before the colon",
        "@PTransfer-Encoding : chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "a blank before the name",
        "@P Transfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked on a folded line",
        "@PTransfer-Encoding:\r\n chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "chunked behind a bare CR",
        "@PX: y\rTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400]),
    ),
    (
        "an underscore for the hyphen",
        "@PTransfer_Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[400, 400]),
    ),
    ("NUL in the name", "@PTransfer-\x00Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n@C", Closed(&[400])),
    (
        "the encoding as a hop-by-hop header",
        "@PConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n\r\n",
        Open(&[200]),
    ),
    // Lengths.
    ("one length twice", "@PContent-Length: 14\r\nContent-Length: 14\r\n\r\n@E", Open(&[200])),
    ("two lengths", "@PContent-Length: 14\r\nContent-Length: 133\r\n\r\n@E@C", Closed(&[400])),
    (
        "two lengths, the other way round",
        "@PContent-Length: 133\r\nContent-Length: 14\r\n\r\n@E@C",
        Closed(&[400]),
    ),
    ("a list of one length", "@PContent-Length: 14, 14\r\n\r\n@E@C", Closed(&[400])),
    ("a list of two lengths", "@PContent-Length: 14, 133\r\n\r\n@E@C", Closed(&[400])),
    ("a plus", "@PContent-Length: +14\r\n\r\n@E@C", Closed(&[400])),
    ("a minus", "@PContent-Length: -14\r\n\r\n@E@C", Closed(&[400])),
    ("minus nothing", "@PContent-Length: -0\r\n\r\n@E@C", Closed(&[400])),
    ("a hexadecimal length", "@PContent-Length: 0x0e\r\n\r\n@E@C", Closed(&[400])),
    ("an exponent", "@PContent-Length: 1e1\r\n\r\n@E@C", Closed(&[400])),
    ("a fraction", "@PContent-Length: 14.0\r\n\r\n@E@C", Closed(&[400])),
    ("a blank within", "@PContent-Length: 1 4\r\n\r\n@E@C", Closed(&[400])),
    ("a letter behind", "@PContent-Length: 14a\r\n\r\n@E@C", Closed(&[400])),
    ("a semicolon behind", "@PContent-Length: 14;\r\n\r\n@E@C", Closed(&[400])),
    ("an underscore within", "@PContent-Length: 1_4\r\n\r\n@E@C", Closed(&[400])),
    ("quotes", "@PContent-Length: \"14\"\r\n\r\n@E@C", Closed(&[400])),
    ("no length", "@PContent-Length: \r\n\r\n@E@C", Closed(&[400])),
    ("NUL behind", "@PContent-Length: 14\x00\r\n\r\n@E@C", Closed(&[400])),
    ("a vertical tab before", "@PContent-Length: \x0b14\r\n\r\n@E@C", Closed(&[400])),
    (
        "digits of another script",
        "@PContent-Length: \u{ef}\u{bc}\u{91}\u{ef}\u{bc}\u{94}\r\n\r\n@E@C",
        Closed(&[400]),
    ),
    ("2^64 + 14", "@PContent-Length: 18446744073709551630\r\n\r\n@E@C", Closed(&[400])),
    ("2^64 - 1", "@PContent-Length: 18446744073709551615\r\n\r\n@E@C", Closed(&[431])),
    ("a length folded", "@PContent-Length: 1\r\n 4\r\n\r\n@E@C", Closed(&[400])),
    ("a blank before the length's colon", "@PContent-Length : 14\r\n\r\n@E@C", Closed(&[400])),
    ("more than there is", "@PContent-Length: 500\r\n\r\n@E@C", Closed(&[503])),
    ("less than there is", "@PContent-Length: 13\r\n\r\n@E@C", Closed(&[400, 400])),
    // Bodies where none is asked for: read, and not taken for a request.
    ("GET with a body", "GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C", Open(&[200])),
    ("HEAD with a body", "HEAD /health HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C", Open(&[200])),
    (
        "OPTIONS with a body",
        "OPTIONS /v1/track HTTP/1.1\r\nHost: x\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\nContent-Length: @N\r\n\r\n@C",
        Open(&[204]),
    ),
    ("no key", "POST /v1/track HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C", Open(&[401])),
    ("no such path", "POST /v1/nope HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C", Open(&[404])),
    (
        "no such path, chunked",
        "POST /v1/nope HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n@H\r\n@C\r\n0\r\n\r\n",
        Open(&[404]),
    ),
    ("an expectation of ours", "@PExpect: 100-continue\r\nContent-Length: @N\r\n\r\n@C", Open(&[100, 400])),
    ("an expectation of nobody", "@PExpect: 200-ok\r\nContent-Length: 14\r\n\r\n@E", Open(&[200])),
    (
        "an upgrade to h2c",
        "@PConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 14\r\n\r\n@E",
        Open(&[200]),
    ),
    (
        "an upgrade to websocket",
        "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 777\r\nContent-Length: @N\r\n\r\n@C",
        Open(&[200]),
    ),
    ("CONNECT", "CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    // Chunks.
    ("a chunk extension", "@PTransfer-Encoding: chunked\r\n\r\ne;a=b\r\n@E\r\n0;c\r\n\r\n", Open(&[200])),
    (
        "a line feed in an extension",
        "@PTransfer-Encoding: chunked\r\n\r\ne;a\nb\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    ("a size with zeros", "@PTransfer-Encoding: chunked\r\n\r\n00000e\r\n@E\r\n00\r\n\r\n", Open(&[200])),
    ("a size with 0x", "@PTransfer-Encoding: chunked\r\n\r\n0xe\r\n@E\r\n0\r\n\r\n@C", Closed(&[500])),
    ("a size with a plus", "@PTransfer-Encoding: chunked\r\n\r\n+e\r\n@E\r\n0\r\n\r\n@C", Closed(&[500])),
    ("a size with a minus", "@PTransfer-Encoding: chunked\r\n\r\n-e\r\n@E\r\n0\r\n\r\n@C", Closed(&[500])),
    (
        "a blank before the size",
        "@PTransfer-Encoding: chunked\r\n\r\n e\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    ("no size", "@PTransfer-Encoding: chunked\r\n\r\n\r\n@E\r\n0\r\n\r\n@C", Closed(&[500])),
    (
        "a size that is no number",
        "@PTransfer-Encoding: chunked\r\n\r\ng\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    (
        "a size of 2^64",
        "@PTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    (
        "a size of 2^64 + 14",
        "@PTransfer-Encoding: chunked\r\n\r\n1000000000000000e\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    (
        "a size of 2^63 - 1",
        "@PTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[503]),
    ),
    ("sizes that end in line feeds", "@PTransfer-Encoding: chunked\r\n\r\ne\n@E\n0\n\n@C", Closed(&[500])),
    (
        "a size that ends in a bare CR",
        "@PTransfer-Encoding: chunked\r\n\r\ne\rX@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    (
        "a chunk that is longer than its size",
        "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@EXX\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    ("a chunk without its end", "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E0\r\n\r\n@C", Closed(&[500])),
    (
        "a chunk that is shorter than its size",
        "@PTransfer-Encoding: chunked\r\n\r\nf\r\n@E\r\n0\r\n\r\n@C",
        Closed(&[500]),
    ),
    ("no last chunk", "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n@C", Closed(&[500])),
    (
        "no end behind the last chunk",
        "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\n@C",
        Closed(&[500]),
    ),
    (
        "one hundred extensions and a size",
        "@PTransfer-Encoding: chunked\r\n\r\ne;;;;;;;;;;;;\r\n@E\r\n0\r\n\r\n",
        Open(&[200]),
    ),
    (
        "trailers",
        "@PTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\ne\r\n@E\r\n0\r\nX: y\r\n\r\n",
        Open(&[200]),
    ),
    (
        "a length among the trailers",
        "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\nContent-Length: 500\r\n\r\n",
        Open(&[200]),
    ),
    (
        "a key among the trailers",
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\nAuthorization: Basic V0s6\r\n\r\n",
        Open(&[401]),
    ),
    (
        "a trailer that is no header",
        "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\nno header\r\n\r\n@C",
        Closed(&[500]),
    ),
    (
        "NUL in a trailer",
        "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\nX: \x00\r\n\r\n@C",
        Closed(&[500]),
    ),
    // Request lines.
    ("HTTP/0.9", "GET /health\r\n\r\n@C", Closed(&[400])),
    ("HTTP/0.9 by name", "GET /health HTTP/0.9\r\n\r\n@C", Closed(&[400])),
    ("HTTP/1.2", "GET /health HTTP/1.2\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("HTTP/2.0", "GET /health HTTP/2.0\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("HTTP/11.1", "GET /health HTTP/11.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("http/1.1", "GET /health http/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("HTTP/1.1 and more", "GET /health HTTP/1.1x\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("HTTP/1,1", "GET /health HTTP/1,1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n@C", Closed(&[])),
    ("two blanks", "GET  /health HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("a tab", "GET\t/health\tHTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("a blank before the method", " GET /health HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("NUL in the method", "G\x00T /health HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("brackets in the method", "(GET) /health HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("no method", "/health HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    (
        "a method in small letters",
        "get /health HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C",
        Open(&[405]),
    ),
    (
        "a method of nobody",
        "SMUGGLE /health HTTP/1.1\r\nHost: x\r\nContent-Length: @N\r\n\r\n@C",
        Open(&[405]),
    ),
    ("a blank in the target", "GET /hea lth HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("NUL in the target", "GET /hea\x00lth HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("a line feed in the target", "GET /hea\nlth HTTP/1.1\r\nHost: x\r\n\r\n@C", Closed(&[400])),
    ("an escaped path", "GET /%68ealth HTTP/1.1\r\nHost: x\r\n\r\n", Open(&[404])),
    ("a path with dots", "GET /v1/../health HTTP/1.1\r\nHost: x\r\n\r\n", Open(&[404])),
    ("a path with two slashes", "GET //health HTTP/1.1\r\nHost: x\r\n\r\n", Open(&[404])),
    ("TLS to a plain port", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n@C", Closed(&[400])),
    ("a PROXY header that nobody asked for", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n@C", Closed(&[400])),
    // Headers.
    ("a line without a colon", "@Pnonsense\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("no name", "@P: y\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("a blank in a name", "@PX Y: z\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("brackets in a name", "@PX(Y): z\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("a name of another script", "@PX\u{e9}: z\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("NUL in a value", "@PX: y\x00z\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("DEL in a value", "@PX: y\x7fz\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("a bare CR in a value", "@PX: y\rz\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("a bare CR at the end of the head", "@PContent-Length: 14\r\n\r@E@C", Closed(&[400])),
    ("a folded value", "@PX: y\r\n z\r\nContent-Length: 14\r\n\r\n@E@C", Closed(&[400])),
    ("a value in Latin-1", "@PX: caf\u{e9}\r\nContent-Length: 14\r\n\r\n@E", Open(&[200])),
    (
        "lines that end in line feeds",
        "POST /v1/track HTTP/1.1\nHost: x\nAuthorization: Basic V0s6\nContent-Length: 14\n\n@E",
        Open(&[200]),
    ),
    ("a length behind a line feed", "@PX: y\nContent-Length: 14\r\n\r\n@E", Open(&[200])),
    (
        "no host",
        "POST /v1/track HTTP/1.1\r\nAuthorization: Basic V0s6\r\nContent-Length: 14\r\n\r\n@E",
        Open(&[200]),
    ),
    ("two hosts", "@PHost: y\r\nContent-Length: 14\r\n\r\n@E", Open(&[200])),
    ("gzip that is none", "@PContent-Encoding: gzip\r\nContent-Length: @N\r\n\r\n@C", Open(&[500])),
    // What follows an error.
    ("a good request after a bad one", "GET /health HTTP/1.1\r\nbad\r\n\r\n@C", Closed(&[400])),
    ("a good request after a bad length", "@PContent-Length: x\r\n\r\n@C", Closed(&[400])),
    ("a good request after garbage", "\u{ff}\u{fe}\r\n\r\n@C", Closed(&[400])),
];

/// Cases that are too long to be written down.
fn long_cases() -> Vec<(&'static str, String, End<'static>)> {
    let headers = |count: usize| (0..count).map(|n| format!("X-{n}: y\r\n")).collect::<String>();
    vec![
        ("101 headers", format!("@P{}\r\n@C", headers(99)), Closed(&[431])),
        (
            "as many headers as there may be",
            format!("@P{}Content-Length: 14\r\n\r\n@E", headers(97)),
            Open(&[200]),
        ),
        ("a head of 70 KB", format!("@PX: {}\r\n\r\n@C", "y".repeat(70_000)), Closed(&[431])),
        ("a name of 70 KB", format!("@P{}: y\r\n\r\n@C", "x".repeat(70_000)), Closed(&[431])),
        ("a target of 70 KB", format!("GET /{} HTTP/1.1\r\n\r\n@C", "x".repeat(70_000)), Closed(&[431])),
        ("a method of 70 KB", format!("{} / HTTP/1.1\r\n\r\n@C", "X".repeat(70_000)), Closed(&[431])),
        (
            "a chunk extension of 20 KB",
            format!("@PTransfer-Encoding: chunked\r\n\r\ne;{}\r\n@E\r\n0\r\n\r\n@C", "x".repeat(20_000)),
            Closed(&[500]),
        ),
        (
            "trailers of 70 KB",
            format!(
                "@PTransfer-Encoding: chunked\r\n\r\ne\r\n@E\r\n0\r\nX: {}\r\n\r\n@C",
                "x".repeat(70_000)
            ),
            Closed(&[500]),
        ),
    ]
}

/// All of them.
pub(super) fn all() -> Vec<(&'static str, String, End<'static>)> {
    let mut cases = long_cases();
    cases.extend(CASES.iter().map(|(name, text, end)| (*name, (*text).to_owned(), *end)));
    cases
}
