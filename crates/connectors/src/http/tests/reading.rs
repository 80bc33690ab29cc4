//! Answers whose bodies cannot be relied on.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

fn told_of_failures() -> Profile {
    let items = ItemResults {
        status: vec![(200, 207), (400, 400)],
        at: "failed".to_owned(),
        find: Find::Index { index: "at".to_owned(), array: None },
        ok: None,
        classes: Vec::new(),
        message: None,
    };
    Profile { items: Some(items), ..joining(Join::arrays(&["contacts"], 100)) }
}

fn of_rules(status: u16) -> Profile {
    let failed = AnswerRule::status(status, Class::Rejected).when(|body| body["ok"] == false);
    Profile { answers: vec![failed], ..joining(Join::arrays(&["contacts"], 100)) }
}

/// What becomes of two items whose answer's body is not all there.
fn of_a_part(profile: &Profile, status: u16) -> Vec<&'static str> {
    let part = Answer { complete: false, ..answer(status, &json!("")) };
    classes(&judge(profile, &part, &call_of(2)))
}

#[test]
fn a_success_whose_body_is_needed_and_is_not_all_there_is_tried_again() {
    assert_eq!(of_a_part(&told_of_failures(), 200), ["transient"; 2]);
    assert_eq!(of_a_part(&of_rules(200), 200), ["transient"; 2]);
    let read = Profile { read: Some(|_, _| None), ..profile() };
    assert_eq!(of_a_part(&read, 200), ["transient"; 2]);
    assert_eq!(of_a_part(&profile(), 200), ["delivered"; 2], "nobody reads it");
    assert_eq!(of_a_part(&of_rules(400), 200), ["delivered"; 2], "nobody reads that of this status");
    let taken = Profile { answers: vec![AnswerRule::status(200, Class::Success)], ..told_of_failures() };
    assert_eq!(of_a_part(&taken, 200), ["delivered"; 2], "the status is enough");
    assert_eq!(of_a_part(&told_of_failures(), 422), ["unclear"; 2], "the table says what a refusal is");
}

#[test]
fn several_results_without_a_body_that_has_them_are_tried_again() {
    let empty = Answer { body: bytes::Bytes::new(), ..answer(207, &Value::Null) };
    assert_eq!(classes(&judge(&told_of_failures(), &empty, &call_of(2))), ["transient"; 2]);
    assert_eq!(classes(&judge(&profile(), &empty, &call_of(2))), ["delivered"; 2]);
    let none_failed = answer(207, &json!({}));
    assert_eq!(classes(&judge(&told_of_failures(), &none_failed, &call_of(2))), ["delivered"; 2]);
}

#[test]
fn a_refusal_that_names_nobody_delivers_nobody() {
    let of =
        |status: u16, body: Value| classes(&judge(&told_of_failures(), &answer(status, &body), &call_of(2)));
    assert_eq!(of(400, json!({"failed": []})), ["unclear"; 2]);
    assert_eq!(of(400, json!({"failed": [{"at": 1}]})), ["delivered", "rejected"]);
    assert_eq!(of(200, json!({"failed": []})), ["delivered"; 2]);
}

/// Takes one request, and is gone before the end of its answer.
async fn cuts_off(listener: tokio::net::TcpListener) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request has no body");
    }
    let part =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"failed\":[";
    stream.write_all(part).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_success() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let deliver = async {
        let batch = vec![prepared(1, vec![contacts(&[1])])];
        destination_at(told_of_failures(), &origin).deliver(batch).await
    };
    let (outcomes, ()) = tokio::join!(deliver, cuts_off(listener));
    assert!(matches!(&outcomes[..], [ItemOutcome::Transient { reason, .. }] if reason.code == "http_200"));
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_no_success() {
    let long = format!("{{\"failed\":[{{\"at\":0}}]{}}}", " ".repeat(1024 * 1024));
    let stub =
        Stub::start([Reply::status(200).body(long.clone()), Reply::status(200).body(long)]).await.unwrap();
    let batch = || vec![prepared(1, vec![contacts(&[1])])];
    let outcomes = destination(told_of_failures(), &stub).deliver(batch()).await;
    assert_eq!(classes(&outcomes), ["transient"]);
    let outcomes = destination(profile(), &stub).deliver(batch()).await;
    assert_eq!(classes(&outcomes), ["delivered"], "only its status counts there");
}
