//! Which requests go out as one: pure.

use std::collections::{HashMap, HashSet};
use std::iter::Peekable;
use std::vec;

use bytes::Bytes;
use millrace_connector::{HttpRequest, Prepared, RequestBody};
use millrace_event_model::PartitionKey;
use serde_json::{Map, Value};

use super::path;
use super::profile::{Join, JoinRule, Profile};

/// One HTTP call: a request, and whose items it carries.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is sent.
    pub request: HttpRequest,
    /// The items, by their place in the batch, each once, in sending order.
    pub items: Vec<usize>,
    /// For each array that was joined its path, and which of `items` gave each element.
    elements: Vec<(String, Vec<usize>)>,
}

impl Call {
    fn alone(item: usize, request: HttpRequest) -> Self {
        Self { request, items: vec![item], elements: Vec::new() }
    }

    /// Which of [`Self::items`] gave an element of the array at this path; of the only array where the
    /// path is `None`.
    #[must_use]
    pub fn owner(&self, array: Option<&str>, index: usize) -> Option<usize> {
        if self.items.len() == 1 {
            return Some(0);
        }
        let elements = match array {
            Some(array) => &self.elements.iter().find(|(path, _)| path == array)?.1,
            None => &self.elements.first()?.1,
        };
        elements.get(index).copied()
    }

    /// Which of [`Self::items`] gave the element that has this value at a path.
    #[must_use]
    pub fn owner_by(&self, element: &str, id: &Value) -> Option<usize> {
        if self.items.len() == 1 {
            return Some(0);
        }
        let (RequestBody::Json(body) | RequestBody::JsonArray(body)) = &self.request.body else {
            return None;
        };
        let body: Value = serde_json::from_slice(body).ok()?;
        for (array, owners) in &self.elements {
            let elements = path::get(&body, array).and_then(Value::as_array)?;
            let found = elements.iter().position(|one| path::get(one, element) == Some(id));
            if let Some(owner) = found.and_then(|index| owners.get(index)) {
                return Some(*owner);
            }
        }
        None
    }
}

/// What is not yet sent of an item.
#[derive(Debug, Clone)]
pub(super) struct Unsent {
    /// The item's place in the batch.
    pub(super) item: usize,
    /// The item's key.
    pub(super) key: PartitionKey,
    requests: Peekable<vec::IntoIter<HttpRequest>>,
}

impl Unsent {
    pub(super) fn new(item: usize, Prepared { key, requests, .. }: Prepared) -> Self {
        Self { item, key, requests: requests.into_iter().peekable() }
    }

    /// How many requests it has.
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_done(&mut self) -> bool {
        self.requests.peek().is_none()
    }

    /// What the next request gives to a call, if it is of its like and there is room.
    fn joins(&mut self, rules: &[JoinRule], call: &Joined<'_>, max_bytes: usize) -> Option<Part> {
        let request = self.requests.peek()?;
        let (join, part) = joinable(rules, request)?;
        call.takes(request, join, &part, max_bytes).then_some(part)
    }
}

/// Takes the next request of each item, with those behind it that fit into the same call, and joins what
/// may be joined. An item is in one call alone: calls are under way at once, and its requests have an
/// order. So have the items of a key, where the profile says so: one behind another is in the same call, or
/// waits for the next round. The calls are in the order of their first items, and the elements of a call in the
/// order of its requests.
#[must_use]
pub(super) fn plan(profile: &Profile, batch: &mut [Unsent]) -> Vec<Call> {
    let mut calls: Vec<(usize, Call)> = Vec::new();
    // Of each kind the last that has room.
    let mut open: Vec<Joined<'_>> = Vec::new();
    let mut forerunners = Forerunners::default();
    for unsent in batch {
        let item = unsent.item;
        let way = if profile.ordered { forerunners.followed_by(unsent.key) } else { Way::Free };
        if way == Way::Shut {
            continue;
        }
        let Some(request) = unsent.requests.peek() else { continue };
        let joinable = joinable(&profile.joins, request);
        if let Way::Into(call) = way
            && !joins(&open, call, request, joinable.as_ref(), profile.max_bytes)
        {
            continue;
        }
        let Some(request) = unsent.requests.next() else { continue };
        let Some((join, part)) = joinable else {
            calls.push((item, Call::alone(item, request)));
            continue;
        };
        let like = open.iter().rposition(|call| call.is_like(&request, join, &part));
        let full =
            like.filter(|at| open.get(*at).is_some_and(|call| !call.has_room(&part, profile.max_bytes)));
        // One that is full, or the one that has waited longest, makes room for a new one.
        let shut = full.or((like.is_none() && open.len() >= MOST_OPEN).then_some(0));
        if let Some(at) = shut {
            calls.push(open.remove(at).call());
        }
        let at = match like.filter(|_| full.is_none()) {
            Some(at) => at,
            None => {
                open.push(Joined::new(item, request, join, &part));
                open.len() - 1
            }
        };
        let Some(joined) = open.get_mut(at) else { continue };
        joined.add(item, part);
        while let Some(part) = unsent.joins(&profile.joins, joined, profile.max_bytes) {
            joined.add(item, part);
            unsent.requests.next();
        }
        if profile.ordered && unsent.is_done() {
            forerunners.may_be_joined(unsent.key, joined.first_item);
        }
    }
    calls.extend(open.into_iter().map(Joined::call));
    calls.sort_unstable_by_key(|(first, _)| *first);
    calls.into_iter().map(|(_, call)| call).collect()
}

/// All calls that the batch makes if all goes well, in the order of their sending; none of items of which nothing is
/// sent in the first so many `rounds`, since others of their keys come before them.
#[must_use]
pub(super) fn plan_all(profile: &Profile, batch: &[Unsent], rounds: usize) -> Vec<Call> {
    let mut left = batch.to_vec();
    let mut calls = Vec::with_capacity(left.len());
    let mut begun = HashSet::new();
    for round in 1.. {
        if left.is_empty() {
            break;
        }
        let planned = plan(profile, &mut left);
        begun.extend(planned.iter().flat_map(|call| call.items.iter().copied()));
        calls.extend(planned);
        left.retain_mut(|unsent| !unsent.is_done() && (round < rounds || begun.contains(&unsent.item)));
    }
    calls
}

/// Of each key that has an item in this round the call that another of its items may join, by the first item of
/// the call; `None`: the others wait.
#[derive(Default)]
struct Forerunners(HashMap<PartitionKey, Option<usize>>);

/// How an item may go out in this round, for the order of its key.
#[derive(PartialEq, Eq)]
enum Way {
    /// In any call.
    Free,
    /// In the call of this first item.
    Into(usize),
    /// In none.
    Shut,
}

impl Forerunners {
    /// The way of the next item of a key. Those behind it wait, until it is known that [they may join
    /// it](Self::may_be_joined).
    fn followed_by(&mut self, key: PartitionKey) -> Way {
        match self.0.insert(key, None) {
            None => Way::Free,
            Some(Some(call)) => Way::Into(call),
            Some(None) => Way::Shut,
        }
    }

    /// All that an item has is in this call.
    fn may_be_joined(&mut self, key: PartitionKey, call: usize) {
        self.0.insert(key, Some(call));
    }
}

/// Whether a request joins the open call of this first item.
fn joins(
    open: &[Joined<'_>],
    first_item: usize,
    request: &HttpRequest,
    joinable: Option<&(&Join, Part)>,
    max_bytes: usize,
) -> bool {
    let call = open.iter().find(|call| call.first_item == first_item);
    call.zip(joinable).is_some_and(|(call, (join, part))| call.takes(request, join, part, max_bytes))
}

/// What one request gives to a call.
enum Part {
    /// Its body, as bytes.
    Whole(Bytes),
    /// Arrays of its body, and the body without them.
    Arrays { rest: Value, arrays: Vec<(String, Vec<Value>)>, bytes: usize },
}

impl Part {
    fn bytes(&self) -> usize {
        match self {
            Self::Whole(body) => body.len(),
            Self::Arrays { bytes, .. } => *bytes,
        }
    }

    fn rest(&self) -> Option<&Value> {
        match self {
            Self::Whole(_) => None,
            Self::Arrays { rest, .. } => Some(rest),
        }
    }
}

fn joinable<'p>(rules: &'p [JoinRule], request: &HttpRequest) -> Option<(&'p Join, Part)> {
    let rule = rules.iter().find(|rule| request.url.ends_with(&rule.path))?;
    let part = match (&rule.join, &request.body) {
        (Join::Wrap { .. }, RequestBody::Json(body)) => Part::Whole(body.clone()),
        (Join::Arrays { at, .. }, RequestBody::Json(body) | RequestBody::JsonArray(body)) => {
            arrays(at, serde_json::from_slice(body).ok()?, body.len())?
        }
        (Join::Arrays { at, .. }, RequestBody::Form(fields)) => {
            arrays(at, of_form(at, fields), request.body.len())?
        }
        _ => return None,
    };
    Some((&rule.join, part))
}

/// Takes the arrays out of a body. `None`: it has none of them.
fn arrays(at: &[String], mut rest: Value, bytes: usize) -> Option<Part> {
    let mut arrays = Vec::new();
    for array in at {
        if let Some(Value::Array(elements)) = path::take(&mut rest, array) {
            arrays.push((array.clone(), elements));
        }
    }
    (!arrays.is_empty()).then_some(Part::Arrays { rest, arrays, bytes })
}

/// A form as an object. Its arrays are JSON in the fields of these names; all else is text.
fn of_form(at: &[String], fields: &[(String, String)]) -> Value {
    let value = |name: &String, text: &String| match at.contains(name) {
        true => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())),
        false => Value::from(text.as_str()),
    };
    Value::Object(fields.iter().map(|(name, text)| (name.clone(), value(name, text))).collect())
}

/// The form that [`of_form`] read.
fn to_form(body: Value) -> RequestBody {
    let Value::Object(fields) = body else { return RequestBody::None };
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    RequestBody::Form(fields.into_iter().map(|(name, value)| (name, text(value))).collect())
}

/// Calls that are being joined at once: more kinds of requests are looked for in vain among so many, and those of
/// the oldest kind are joined no further.
const MOST_OPEN: usize = 64;

/// A call that is being joined.
struct Joined<'p> {
    first_item: usize,
    first: HttpRequest,
    join: &'p Join,
    /// What a body has beside the arrays.
    rest: Option<Value>,
    items: Vec<usize>,
    parts: Vec<(usize, Part)>,
    counts: HashMap<String, usize>,
    bytes: usize,
}

impl<'p> Joined<'p> {
    fn new(first_item: usize, first: HttpRequest, join: &'p Join, part: &Part) -> Self {
        let (items, parts) = (Vec::new(), Vec::new());
        let rest = part.rest().cloned();
        Self { first_item, first, join, rest, items, parts, counts: HashMap::new(), bytes: 0 }
    }

    /// Whether a request differs in nothing but what it gives.
    fn is_like(&self, request: &HttpRequest, join: &Join, part: &Part) -> bool {
        let HttpRequest { method, url, headers, query, .. } = &self.first;
        std::ptr::eq(self.join, join)
            && *url == request.url
            && *method == request.method
            && *headers == request.headers
            && *query == request.query
            && self.rest.as_ref() == part.rest()
    }

    /// Whether a request is of its like, and there is room.
    fn takes(&self, request: &HttpRequest, join: &Join, part: &Part, max_bytes: usize) -> bool {
        self.is_like(request, join, part) && self.has_room(part, max_bytes)
    }

    fn has_room(&self, part: &Part, max_bytes: usize) -> bool {
        let max = self.join.max();
        let fits = match part {
            Part::Whole(_) => self.parts.len() < max,
            Part::Arrays { arrays, .. } => arrays.iter().all(|(path, elements)| {
                self.counts.get(path).copied().unwrap_or_default() + elements.len() <= max
            }),
        };
        fits && self.bytes.saturating_add(part.bytes()) <= max_bytes
    }

    fn add(&mut self, item: usize, part: Part) {
        self.bytes = self.bytes.saturating_add(part.bytes());
        if let Part::Arrays { arrays, .. } = &part {
            for (path, elements) in arrays {
                *self.counts.entry(path.clone()).or_default() += elements.len();
            }
        }
        let place = match self.items.iter().position(|one| *one == item) {
            Some(place) => place,
            None => {
                self.items.push(item);
                self.items.len() - 1
            }
        };
        self.parts.push((place, part));
    }

    /// The call, behind the item that was its first.
    fn call(self) -> (usize, Call) {
        let Self { first_item, mut first, join, items, parts, .. } = self;
        let (body, elements) = match join {
            Join::Wrap { at, with, .. } => wrapped(at, with, parts),
            Join::Arrays { .. } => {
                let (body, elements) = concatenated(parts);
                (written(body, &first.body), elements)
            }
        };
        first.body = body;
        (first_item, Call { request: first, items, elements })
    }
}

/// For each array its path, and which of the call's items gave each element.
type Owners = Vec<(String, Vec<usize>)>;

/// Byte for byte: what the mapper wrote is not read again.
fn wrapped(at: &str, with: &[(String, Value)], parts: Vec<(usize, Part)>) -> (RequestBody, Owners) {
    let mut body = Vec::new();
    let whole = at == path::WHOLE;
    if !whole {
        body.push(b'{');
        for (name, value) in with {
            body.extend_from_slice(format!("{}:{value},", Value::from(name.as_str())).as_bytes());
        }
        body.extend_from_slice(format!("{}:", Value::from(at)).as_bytes());
    }
    let mut owners = Vec::with_capacity(parts.len());
    for (place, part) in parts {
        let Part::Whole(bytes) = part else { continue };
        body.push(if owners.is_empty() { b'[' } else { b',' });
        body.extend_from_slice(&bytes);
        owners.push(place);
    }
    body.push(b']');
    if whole {
        return (RequestBody::JsonArray(body.into()), vec![(at.to_owned(), owners)]);
    }
    body.push(b'}');
    (RequestBody::Json(body.into()), vec![(at.to_owned(), owners)])
}

/// The body in the format of the first.
fn written(body: Value, like: &RequestBody) -> RequestBody {
    match like {
        RequestBody::Form(_) => to_form(body),
        RequestBody::JsonArray(_) => RequestBody::JsonArray(Bytes::from(body.to_string())),
        _ => RequestBody::Json(Bytes::from(body.to_string())),
    }
}

fn concatenated(parts: Vec<(usize, Part)>) -> (Value, Owners) {
    let mut joined: Vec<(String, Vec<Value>, Vec<usize>)> = Vec::new();
    let mut body = Value::Object(Map::new());
    for (place, part) in parts {
        let Part::Arrays { rest, arrays, .. } = part else { continue };
        body = rest;
        for (path, elements) in arrays {
            let owners = std::iter::repeat_n(place, elements.len());
            match joined.iter_mut().find(|(known, ..)| *known == path) {
                Some((_, all, all_owners)) => {
                    all_owners.extend(owners);
                    all.extend(elements);
                }
                None => joined.push((path, elements, owners.collect())),
            }
        }
    }
    let mut owners = Vec::with_capacity(joined.len());
    for (path, elements, places) in joined {
        path::put(&mut body, &path, Value::Array(elements));
        owners.push((path, places));
    }
    (body, owners)
}
