//! Clients that are slow, many, or too much: each is answered or cut, and none keeps the others out.

use std::time::{Duration, Instant};

use millrace_ingest::{Counted, Limits, RateLimit};
use reqwest::StatusCode;
use tokio::io::AsyncWriteExt as _;

use crate::stack::{Stack, WEB, answer, eventually, gzip};
use crate::wire::{connect, exchange, post, post_head, read_answer, read_to_end};

const EVENT: &str = r#"{"userId":"u"}"#;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_is_cut_without_an_answer() {
    let stack = Stack::start_with(Limits { head_timeout: SECOND, ..Limits::default() }).await;
    let mut silent = connect(&stack).await;
    let mut slow = connect(&stack).await;
    slow.write_all(post_head().as_bytes()).await.unwrap();
    // A second request is under the same limit.
    let mut slow_again = connect(&stack).await;
    assert_eq!(exchange(&mut slow_again, &post(EVENT)).await.status(), 200);
    slow_again.write_all(b"P").await.unwrap();
    for connection in [&mut silent, &mut slow, &mut slow_again] {
        assert_eq!(read_to_end(connection).await, b"");
    }
    assert_eq!(exchange(&mut connect(&stack).await, &post(EVENT)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_between_requests_is_closed_after_the_idle_time() {
    let stack = Stack::start_with(Limits { idle_timeout: SECOND, ..Limits::default() }).await;
    let mut client = connect(&stack).await;
    assert_eq!(exchange(&mut client, &post(EVENT)).await.status(), 200);
    assert!(read_answer(&mut client).await.unwrap().is_none(), "it is closed in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_answered_and_keeps_nobody_out() {
    let limits = Limits { body_timeout: Duration::from_secs(3), requests: 1, ..Limits::default() };
    let stack = Stack::start_with(limits).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&stack).await;
        client.write_all(&post(EVENT).as_bytes()[..post(EVENT).len() - 1]).await.unwrap();
        slow.push(client);
    }
    // One request may be under way at a time, and none of the twenty counts as one.
    assert_eq!(answer(stack.post("/v1/track", WEB).body(EVENT)).await.0, StatusCode::OK);
    for mut client in slow {
        let answer = read_answer(&mut client).await.unwrap().unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (503, "the body did not arrive in time\n"));
        assert!(answer.head.contains("retry-after: "), "{}", answer.head);
        assert_eq!(read_to_end(&mut client).await, b"", "what is left of the body would be no request");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_hold_all_the_memory_lose_it_when_others_need_it() {
    let limits = Limits { bytes_in_flight: 64 * 1024, body_bytes: 32 * 1024, ..Limits::default() };
    let body_timeout = limits.body_timeout;
    let stack = Stack::start_with(limits).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let mut client = connect(&stack).await;
        let begun = format!("{}Content-Length: 30001\r\n\r\n{}", post_head(), " ".repeat(30_000));
        client.write_all(begun.as_bytes()).await.unwrap();
        slow.push(client);
    }
    let started = Instant::now();
    let large = format!("{EVENT}{}", " ".repeat(20_000));
    eventually("the memory is given back", async || {
        answer(stack.post("/v1/track", WEB).body(large.clone())).await.0 == StatusCode::OK
    })
    .await;
    assert!(started.elapsed() < body_timeout / 2, "{:?}", started.elapsed());
    for mut client in slow {
        assert_eq!(read_answer(&mut client).await.unwrap().unwrap().status(), 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_bound_wait_until_one_is_free() {
    let stack = Stack::start_with(Limits { connections: 2, ..Limits::default() }).await;
    let (mut first, mut second, mut third) =
        (connect(&stack).await, connect(&stack).await, connect(&stack).await);
    for client in [&mut first, &mut second] {
        assert_eq!(exchange(client, &post(EVENT)).await.status(), 200);
    }
    third.write_all(post(EVENT).as_bytes()).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(200), read_answer(&mut third)).await;
    assert!(early.is_err(), "answered beyond the bound: {early:?}");
    drop(first);
    assert_eq!(read_answer(&mut third).await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_read_though_its_body_was_not() {
    let stack = Stack::start().await;
    let body = "x".repeat(3_000_000);
    let request = format!(
        "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Tk9QRTo=\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Closed with bytes unread, a socket is reset, and a reset can overtake the answer.
    for _ in 0..20 {
        let mut client = connect(&stack).await;
        let answer = exchange(&mut client, &request).await;
        assert_eq!((answer.status(), answer.body.as_str()), (401, "invalid write key\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_answered_at_once() {
    let stack = Stack::start().await;
    // Hundreds of megabytes in one member, in many, and in one that lies about its size.
    let members = gzip(&vec![b' '; 1_000_000]);
    let one = gzip(&vec![b' '; 200_000_000]);
    let mut liar = one.clone();
    let size = liar.len() - 4;
    liar[size..].copy_from_slice(&14_u32.to_le_bytes());
    for (name, bomb) in [("members", members.repeat(200)), ("one", one), ("liar", liar)] {
        assert!(bomb.len() < 4_096_000, "{name}: {}", bomb.len());
        let started = Instant::now();
        let request = stack.post("/v1/batch", WEB).header("content-encoding", "gzip").body(bomb);
        assert_eq!(answer(request).await.0, StatusCode::PAYLOAD_TOO_LARGE, "{name}");
        // Without optimization and beside other tests; the bytes are bounded by a unit test of `body.rs`.
        let took = started.elapsed();
        eprintln!("a bomb ({name}) was answered after {took:?}");
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_beyond_its_rate_is_told_when_to_come_again_and_others_are_not() {
    let per_minute = |counted, amount: u32| RateLimit {
        counted,
        amount: amount.try_into().unwrap(),
        period: Duration::from_secs(600),
        burst: amount.try_into().unwrap(),
    };
    let stack = Stack::start_as(|options| {
        for source in &mut options.sources {
            source.rate_limit = match source.id.as_str() {
                "web" => Some(per_minute(Counted::Requests, 2)),
                "strict" => Some(per_minute(Counted::Events, 3)),
                _ => None,
            };
        }
    })
    .await;
    let batch = format!(r#"{{"batch":[{EVENT},{EVENT}]}}"#).replace("}]", r#","type":"track"}]"#);
    let strict = |key: &str| stack.post("/v1/batch", key).body(batch.clone());
    let web = || stack.post("/v1/track", WEB).body(EVENT);
    assert_eq!(answer(web()).await.0, StatusCode::OK);
    // What is refused for another reason counts as a request, and its events do not.
    assert_eq!(answer(stack.post("/v1/track", WEB).body("no json")).await.0, StatusCode::BAD_REQUEST);
    let refused = web().send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((200..=300).contains(&seconds), "one request in five minutes: {seconds}");
    assert_eq!(refused.text().await.unwrap(), "max requests limit reached\n");

    // Both keys of a source draw from one bucket.
    let (first_key, second_key) = ("Basic U1RSSUNUOg==", "Basic U1RSSUNULU9MRDo=");
    assert_eq!(answer(strict(first_key)).await.0, StatusCode::OK);
    assert_eq!(answer(strict(second_key)).await.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer(stack.post("/v1/track", second_key).body(EVENT)).await.0, StatusCode::OK);
    assert_eq!(stack.events().await.len(), 4, "nothing of a refused request is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_consumer_could_read_is_refused() {
    let stack = Stack::start().await;
    let nested = |depth: usize| {
        let (open, close) = (r#"{"a":"#.repeat(depth), "}".repeat(depth));
        format!(r#"{{"userId":"u","a":{open}1{close}}}"#)
    };
    let wide = |fields: usize| {
        let fields: Vec<String> = (1..fields).map(|n| format!(r#""f{n}":0"#)).collect();
        format!(r#"{{"userId":"u",{}}}"#, fields.join(","))
    };
    let status = async |body: String| {
        let (status, text, _) = answer(stack.post("/v1/track", WEB).body(body)).await;
        (status.as_u16(), text)
    };
    assert_eq!(status(nested(100)).await, (200, "ok".to_owned()));
    for depth in [128, 1_000, 100_000] {
        assert_eq!(status(nested(depth)).await, (400, "event is nested too deeply\n".to_owned()), "{depth}");
    }
    assert_eq!(status(wide(10_000)).await, (200, "ok".to_owned()));
    assert_eq!(status(wide(10_001)).await, (400, "event has too many fields\n".to_owned()));
}
