//! What an answer means for each item: pure. First the profile's own reading, then its rules, then its
//! results of each item, then this table:
//!
//! | status | meaning |
//! |---|---|
//! | 2xx | delivered; transient where the body would say more and cannot be read |
//! | 408, 425, 5xx, no answer | transient |
//! | 429 | throttled |
//! | 401, 403 | auth: the destination pauses |
//! | 410 | config: the destination pauses |
//! | 413 | oversize: fewer items |
//! | any other | of a single item rejected; of several unclear: fewer items find the bad one |

use millrace_connector::{ConnectorError, ErrorKind, HttpRequest, ItemOutcome};
use millrace_event_model::Reason;
use serde_json::Value;

use super::call::Call;
use super::client::Answer;
use super::path;
use super::profile::{AnswerRule, Class, Find, ItemResults, Profile, Verdict};

/// Of an answer's own words no more is told.
const MAX_MESSAGE_CHARS: usize = 300;

/// Something in a request that is as long may be a secret: it is taken out of an answer's own words.
const MIN_SECRET_BYTES: usize = 8;

/// One outcome for each of the call's items, in their order.
#[must_use]
pub fn judge(profile: &Profile, answer: &Answer, call: &Call) -> Vec<ItemOutcome> {
    let verdicts = verdicts(profile, answer, call);
    verdicts.into_iter().map(|verdict| outcome(verdict, answer, &call.request)).collect()
}

fn verdicts(profile: &Profile, answer: &Answer, call: &Call) -> Vec<Verdict> {
    let count = call.items.len();
    if is_unread(profile, answer) {
        let told = "its body, which says what became of the items, is cut off, too long or not JSON";
        return vec![(Class::Transient, Some(told.to_owned())); count];
    }
    if let Some(read) = profile.read
        && let Some(mut verdicts) = read(answer, call)
    {
        // One for each, whatever was read.
        verdicts.resize(count, (default_class(answer.status, count), None));
        return verdicts;
    }
    let wants_body = profile.items.is_some() || profile.answers.iter().any(AnswerRule::reads_body);
    let body = if wants_body { answer.json() } else { None };
    let body = body.unwrap_or(Value::Null);
    if let Some(rule) = profile.answers.iter().find(|rule| rule.fits(answer.status, &body)) {
        let message = rule.message.as_deref().and_then(|path| text(&body, path));
        return vec![(rule.class, message); count];
    }
    if let Some(results) = &profile.items
        && let Some(verdicts) = of_items(results, answer.status, &body, call)
    {
        return verdicts;
    }
    vec![(default_class(answer.status, count), None); count]
}

/// Whether a success cannot be believed: its body may tell of failures, and is not all there; or there are
/// several results (207), and none can be read. The items are sent again, for what was refused would be lost.
fn is_unread(profile: &Profile, answer: &Answer) -> bool {
    if !is_success(answer.status) || !needs_body(profile, answer.status) {
        return false;
    }
    !answer.complete || (answer.status == 207 && answer.json().is_none())
}

/// Whether the body decides what this status means.
fn needs_body(profile: &Profile, status: u16) -> bool {
    if profile.read.is_some() {
        return true;
    }
    match profile.answers.iter().find(|rule| rule.concerns(status)) {
        Some(rule) => rule.when.is_some(),
        None => profile.items.as_ref().is_some_and(|results| results.concerns(status)),
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

impl AnswerRule {
    fn reads_body(&self) -> bool {
        self.when.is_some() || self.message.is_some()
    }

    fn concerns(&self, status: u16) -> bool {
        self.status.is_empty() || within(&self.status, status)
    }

    fn fits(&self, status: u16, body: &Value) -> bool {
        self.concerns(status) && self.when.as_ref().is_none_or(|predicate| predicate(body))
    }
}

fn within(ranges: &[(u16, u16)], status: u16) -> bool {
    ranges.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

impl ItemResults {
    fn concerns(&self, status: u16) -> bool {
        match self.status.is_empty() {
            true => is_success(status),
            false => within(&self.status, status),
        }
    }
}

/// `None`: the answer has no such array, or is a refusal whose array names nobody.
fn of_items(results: &ItemResults, status: u16, body: &Value, call: &Call) -> Option<Vec<Verdict>> {
    if !results.concerns(status) {
        return None;
    }
    let entries = path::get(body, &results.at)?.as_array()?;
    let mut verdicts = vec![(Class::Success, None); call.items.len()];
    let mut named = false;
    for (position, entry) in entries.iter().enumerate() {
        if results.ok.as_ref().is_some_and(|ok| ok(entry)) {
            continue;
        }
        let class = results.classes.iter().find(|(fits, _)| fits(entry)).map(|(_, class)| *class);
        let class = class.unwrap_or(Class::Rejected);
        let message = results.message.as_deref().and_then(|path| text(entry, path));
        match owner(&results.find, position, entry, call).and_then(|owner| verdicts.get_mut(owner)) {
            Some(verdict) => {
                *verdict = (class, message);
                named = true;
            }
            // A failure of nobody: all are asked for again by themselves, and none is lost.
            None => return Some(vec![(Class::Unclear, message); call.items.len()]),
        }
    }
    (named || is_success(status)).then_some(verdicts)
}

fn owner(find: &Find, position: usize, entry: &Value, call: &Call) -> Option<usize> {
    match find {
        Find::Position => call.owner(None, position),
        Find::Index { index, array } => {
            let index = usize::try_from(path::get(entry, index)?.as_u64()?).ok()?;
            let array = array.as_deref().and_then(|at| path::get(entry, at)).and_then(Value::as_str);
            call.owner(array, index)
        }
        Find::Id { entry: at, element } => call.owner_by(element, path::get(entry, at)?),
    }
}

fn default_class(status: u16, items: usize) -> Class {
    match status {
        200..=299 => Class::Success,
        429 => Class::Throttled,
        // Busy, too early, or broken: it may be better later.
        408 | 425 | 500..=599 => Class::Transient,
        // The key is wrong: no item will pass until a person acts.
        401 | 403 => Class::Auth,
        // Gone: the address is no more.
        410 => Class::Config,
        413 => Class::Oversize,
        // Redirects among them: they are not followed.
        _ if items > 1 => Class::Unclear,
        _ => Class::Rejected,
    }
}

fn outcome((class, message): Verdict, answer: &Answer, request: &HttpRequest) -> ItemOutcome {
    let reason = || reason(answer, message.as_deref(), request);
    let after = answer.retry_after;
    match class {
        Class::Success => ItemOutcome::Delivered,
        Class::Filtered => ItemOutcome::Filtered(reason()),
        Class::Rejected => ItemOutcome::Rejected(reason()),
        Class::Throttled => ItemOutcome::Throttled { after, reason: reason() },
        Class::Transient => ItemOutcome::Transient { after, reason: reason() },
        Class::Auth => ItemOutcome::Auth(reason()),
        Class::Config => ItemOutcome::Config(reason()),
        Class::Oversize => ItemOutcome::Oversize(reason()),
        Class::Unclear => ItemOutcome::Unclear(reason()),
    }
}

fn reason(answer: &Answer, message: Option<&str>, request: &HttpRequest) -> Reason {
    let status = reqwest::StatusCode::from_u16(answer.status);
    let status = status.map_or_else(|_| answer.status.to_string(), |status| status.to_string());
    let mut told = format!("{} answered {status}", answer.host);
    if let Some(message) =
        message.map(|message| presentable(message, request)).filter(|text| !text.is_empty())
    {
        told = format!("{told}: {message}");
    }
    Reason::new(format!("http_{}", answer.status), told)
}

/// What an answer says, as far as it may be shown: cut, on one line, without what was a credential.
fn presentable(message: &str, request: &HttpRequest) -> String {
    let mut text = message.to_owned();
    for (_, value) in request.headers.iter().chain(&request.query) {
        for word in value.split_whitespace().filter(|word| word.len() >= MIN_SECRET_BYTES) {
            text = text.replace(word, "***");
        }
    }
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

fn text(value: &Value, at: &str) -> Option<String> {
    match path::get(value, at)? {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// What becomes of an item whose call got no answer.
#[must_use]
pub fn unanswered(error: &ConnectorError) -> ItemOutcome {
    let reason = Reason::new(error.code.clone(), error.full());
    match error.kind {
        ErrorKind::Retry { after } => ItemOutcome::Transient { after, reason },
        ErrorKind::Reject => ItemOutcome::Rejected(reason),
        ErrorKind::Pause if error.code == super::auth::REFUSED => ItemOutcome::Auth(reason),
        ErrorKind::Pause => ItemOutcome::Config(reason),
    }
}
