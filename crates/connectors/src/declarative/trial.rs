//! Runs the tests that stand in a file: its requests are compared, and its answers come from a real server
//! on the loopback.

use std::sync::Arc;

use millrace_connector::conformance::{self, Reply, Stub};
pub use millrace_connector::conformance::{Finding, Promise};
use millrace_connector::{Context, Destination, Document, HttpRequest, Item, ItemOutcome, Payload, Prepared};
use millrace_event_model::{Change, ChangeOp, PartitionKey};
use serde_json::{Map, Value};

use super::compile::Compiled;
use super::spec::{ChangeMode, Expected, ExpectedRequest, OutcomeName, Respond, TestCase};

/// Of so many items a failure tells; a line of more is not read.
const MAX_TOLD: usize = 5;

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The test's name.
    pub test: String,
    /// What is not as it should be; `None`: it passed.
    pub failure: Option<String>,
}

/// Runs all tests of a file, one after the other.
pub async fn run(compiled: &Arc<Compiled>) -> Vec<Verdict> {
    let mut verdicts = Vec::with_capacity(compiled.spec.tests.len());
    for case in &compiled.spec.tests {
        let failure = run_case(compiled, case).await.err();
        verdicts.push(Verdict { test: case.name.clone(), failure });
    }
    verdicts
}

/// Holds the destination of a file against the conformance kit. Its own tests are promise D3.
pub async fn conform(compiled: &Arc<Compiled>) -> Vec<Promise> {
    let given = &compiled.spec.test_settings;
    let mut promises = conformance::destination(&compiled.entry(), |base| {
        let mut settings = given.clone();
        settings.insert("allow_private".to_owned(), Value::Bool(true));
        settings.insert("origin".to_owned(), Value::from(base));
        Value::Object(settings)
    })
    .await;
    let failed = run(compiled).await.into_iter().find(|verdict| verdict.failure.is_some());
    let finding = match failed {
        _ if compiled.spec.tests.is_empty() => Finding::Broken("it has no tests".to_owned()),
        Some(verdict) => Finding::Broken(format!("the test {:?} fails", verdict.test)),
        None => Finding::Kept,
    };
    let own = Promise { code: "D3", promise: "its own tests pass", finding };
    let place = promises.iter().position(|promise| promise.code == "D4").unwrap_or(promises.len());
    promises.insert(place, own);
    promises
}

async fn run_case(compiled: &Arc<Compiled>, case: &TestCase) -> Result<(), String> {
    let stub = Stub::start(case.respond.iter().map(reply))
        .await
        .map_err(|error| format!("no server on the loopback: {error}"))?;
    let mut settings = compiled.spec.test_settings.clone();
    settings.extend(case.settings.clone());
    settings.insert("allow_private".to_owned(), Value::Bool(true));
    settings.insert("origin".to_owned(), Value::from(stub.base()));
    let context = Context { id: "test".to_owned(), work_dir: std::env::temp_dir() };
    let destination = compiled.build(&Value::Object(settings), &context).map_err(|error| error.full())?;
    destination.ignore_rate();

    let mut prepared = Vec::new();
    let mut requests = Vec::new();
    for (number, fields) in events(&case.given)?.into_iter().enumerate() {
        let item = item(number, fields, case.change)?;
        match destination.transform(&item) {
            Ok(made) => {
                requests.extend(made.iter().cloned());
                prepared.push(Prepared::of(&item, made));
            }
            Err(reason) => return rejected(case, &reason.message),
        }
    }
    compare_mapped(case, &requests)?;
    if let Some(expected) = &case.expect_sent {
        compare(expected, &destination.joined(prepared.clone()))?;
    }
    match (&case.expect, &case.expect_error) {
        (None, None) if case.respond.is_empty() => Ok(()),
        (None, None) => Err("respond without expect or expect_error says nothing".to_owned()),
        (None, Some(_)) if case.respond.is_empty() => {
            Err("expected an error, and the item was mapped; respond has no answer that refuses it"
                .to_owned())
        }
        (expected, told) => {
            let outcomes = deliver(&destination, prepared, &stub, case.respond.len()).await;
            judge(expected.as_ref(), told.as_deref(), &outcomes)
        }
    }
}

/// Holds what became of the items against what was expected: of a list only what differs is told.
fn judge(expected: Option<&Expected>, told: Option<&str>, outcomes: &[ItemOutcome]) -> Result<(), String> {
    if let Some(Expected::Each(each)) = expected
        && each.len() != outcomes.len()
    {
        return Err(format!("expect has {} outcomes for {} items", each.len(), outcomes.len()));
    }
    let mut differing = Vec::new();
    for (number, outcome) in outcomes.iter().enumerate() {
        let wanted = match expected {
            None => Some(OutcomeName::Rejected),
            Some(Expected::All(one)) => Some(*one),
            Some(Expected::Each(each)) => each.get(number).copied(),
        };
        let (found, reason) = (name(outcome), reason(outcome));
        let differs = wanted.is_some_and(|wanted| wanted != found);
        let silent = told.is_some_and(|told| !reason.is_some_and(|reason| reason.contains(told)));
        if differs || silent {
            let wanted = wanted.filter(|_| differs).map(|wanted| wanted.to_string());
            let wanted = wanted.unwrap_or_else(|| format!("a reason with {:?}", told.unwrap_or_default()));
            let found = reason.map_or_else(|| found.to_string(), |reason| format!("{found} ({reason})"));
            differing.push(match outcomes.len() {
                1 => format!("expected {wanted}, found {found}"),
                _ => format!("item {number}: expected {wanted}, found {found}"),
            });
        }
    }
    let more = differing.len().saturating_sub(MAX_TOLD);
    differing.truncate(MAX_TOLD);
    if more > 0 {
        differing.push(format!("and {more} more"));
    }
    if differing.is_empty() { Ok(()) } else { Err(differing.join("; ")) }
}

fn rejected(case: &TestCase, message: &str) -> Result<(), String> {
    match (&case.expect_error, &case.expect) {
        (Some(expected), _) if message.contains(expected.as_str()) => Ok(()),
        (Some(expected), _) => Err(format!("expected an error with {expected:?}, found: {message}")),
        (None, Some(Expected::All(OutcomeName::Rejected))) => Ok(()),
        (None, _) => Err(format!("the item is rejected: {message}")),
    }
}

fn events(given: &Value) -> Result<Vec<Map<String, Value>>, String> {
    let list = match given {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    list.into_iter()
        .map(|event| match event {
            Value::Object(fields) => Ok(fields),
            _ => Err("given: an event is a mapping".to_owned()),
        })
        .collect()
}

fn item(number: usize, fields: Map<String, Value>, change: Option<ChangeMode>) -> Result<Item, String> {
    let id = format!("test/{number}");
    // Each item is of another person, so that all of them may share a batch.
    let key = PartitionKey((number as u128).to_be_bytes());
    let Some(change) = change else {
        return Ok(Item { id: id.into(), key, payload: Payload::Document(Document::complete(fields)) });
    };
    let op = match change {
        ChangeMode::Upsert => ChangeOp::Upsert,
        ChangeMode::Delete => ChangeOp::Delete,
    };
    let name = |text: &str| text.parse().map_err(|_| "a test's name is none".to_owned());
    let payload = Payload::Change(Change {
        sync: name("test")?,
        run: 1,
        destination: "test".parse().map_err(|_| "a test's name is none".to_owned())?,
        op,
        key,
        row_hash: key,
        published_at: chrono::DateTime::UNIX_EPOCH,
        body: Value::Object(fields).to_string().into(),
    });
    Ok(Item { id: id.into(), key, payload })
}

fn compare_mapped(case: &TestCase, requests: &[HttpRequest]) -> Result<(), String> {
    let expected = match (&case.expect_request, &case.expect_requests) {
        (Some(one), _) => std::slice::from_ref(one),
        (None, Some(all)) => all.as_slice(),
        (None, None) => return Ok(()),
    };
    let joins = expected.len() < requests.len() && case.given.is_array();
    compare(expected, requests).map_err(|told| match joins {
        true => format!("{told}, before they are joined: expect_sent compares what is sent"),
        false => told,
    })
}

fn compare(expected: &[ExpectedRequest], requests: &[HttpRequest]) -> Result<(), String> {
    if expected.len() != requests.len() {
        return Err(format!("expected {} requests, found {}", expected.len(), requests.len()));
    }
    expected.iter().zip(requests).try_for_each(|(expected, request)| compare_one(expected, request))
}

fn compare_one(expected: &ExpectedRequest, request: &HttpRequest) -> Result<(), String> {
    let differs =
        |what: &str, expected: &str, found: &str| Err(format!("{what}: expected {expected}, found {found}"));
    if let Some(method) = &expected.method
        && *method != request.method
    {
        return differs("method", method, &request.method);
    }
    if let Some(url) = &expected.url
        && *url != request.url
    {
        return differs("url", url, &request.url);
    }
    for (what, expected, pairs) in
        [("header", &expected.headers, &request.headers), ("query", &expected.query, &request.query)]
    {
        for (name, value) in expected {
            let found = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            if found != Some(value) {
                return differs(&format!("{what} {name}"), value, found.unwrap_or("none"));
            }
        }
    }
    if let Some(body) = &expected.body {
        let found =
            serde_json::to_value(request).map_err(|error| format!("the body is not JSON: {error}"))?;
        let found = found.get("body").cloned().unwrap_or(Value::Null);
        if found != *body {
            return differs("body", &body.to_string(), &found.to_string());
        }
    }
    Ok(())
}

/// Sends, and sends what has to be sent again as long as the script has answers.
async fn deliver(
    destination: &dyn Destination,
    prepared: Vec<Prepared>,
    stub: &Stub,
    answers: usize,
) -> Vec<ItemOutcome> {
    let mut outcomes: Vec<ItemOutcome> = prepared
        .iter()
        .map(|one| match one.requests.is_empty() {
            true => {
                ItemOutcome::Filtered(millrace_event_model::Reason::new("no_request", "no action takes it"))
            }
            false => ItemOutcome::Delivered,
        })
        .collect();
    let mut left: Vec<(usize, Prepared)> =
        prepared.into_iter().enumerate().filter(|(_, one)| !one.requests.is_empty()).collect();
    loop {
        if left.is_empty() {
            return outcomes;
        }
        let sent = destination.deliver(left.iter().map(|(_, one)| one.clone()).collect()).await;
        let mut again = Vec::new();
        for ((number, one), outcome) in left.into_iter().zip(sent) {
            let repeated = matches!(outcome, ItemOutcome::Throttled { .. } | ItemOutcome::Transient { .. });
            if let Some(known) = outcomes.get_mut(number) {
                *known = outcome;
            }
            if repeated && stub.seen().len() < answers {
                again.push((number, one));
            }
        }
        left = again;
    }
}

/// Why, where the outcome says so.
fn reason(outcome: &ItemOutcome) -> Option<&str> {
    match outcome {
        ItemOutcome::Delivered | ItemOutcome::NotSent { .. } => None,
        ItemOutcome::Filtered(reason)
        | ItemOutcome::Rejected(reason)
        | ItemOutcome::Throttled { reason, .. }
        | ItemOutcome::Transient { reason, .. }
        | ItemOutcome::Auth(reason)
        | ItemOutcome::Config(reason)
        | ItemOutcome::Oversize(reason)
        | ItemOutcome::Unclear(reason)
        | ItemOutcome::OutOfTime(reason) => Some(&reason.message),
    }
}

fn name(outcome: &ItemOutcome) -> OutcomeName {
    match outcome {
        ItemOutcome::Delivered => OutcomeName::Delivered,
        ItemOutcome::Filtered(_) => OutcomeName::Filtered,
        ItemOutcome::Rejected(_) => OutcomeName::Rejected,
        ItemOutcome::Throttled { .. } | ItemOutcome::NotSent { .. } => OutcomeName::Throttled,
        ItemOutcome::Transient { .. } | ItemOutcome::OutOfTime(_) => OutcomeName::Transient,
        ItemOutcome::Auth(_) => OutcomeName::Auth,
        ItemOutcome::Config(_) => OutcomeName::Config,
        ItemOutcome::Oversize(_) => OutcomeName::Oversize,
        ItemOutcome::Unclear(_) => OutcomeName::Unclear,
    }
}

fn reply(respond: &Respond) -> Reply {
    let mut reply = Reply::status(respond.status);
    for (name, value) in &respond.headers {
        reply = reply.header(name, value);
    }
    match &respond.body {
        None => reply,
        Some(Value::String(text)) => reply.body(text.clone()),
        Some(body) => reply.body(body.to_string()),
    }
}
