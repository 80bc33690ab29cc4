//! What is true of a vendor's API, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millrace_connector::{HttpRequest, Rate};
use millrace_service::Secret;
use serde_json::Value;

use super::call::Call;
use super::client::Answer;

/// How an API wants to be spoken to, and what its answers mean. Start from [`Profile::new`] and name what
/// is different: `Profile { concurrency: 4, ..Profile::new(check) }`.
#[derive(Debug, Clone)]
pub struct Profile {
    /// What proves that the settings work.
    pub check: Check,
    /// How long an answer may take, from the first byte of the connection.
    pub timeout: Duration,
    /// Calls of the destination under way at once.
    pub concurrency: usize,
    /// How often the vendor may be called: requests, also where a batch makes several. Checks, token requests
    /// and the one request that is repeated with a renewed token are not counted.
    pub rate: Option<Rate>,
    /// Whether the vendor minds the order of one person's items.
    pub ordered: bool,
    /// Items in one batch; more than one needs [`Self::joins`].
    pub max_items: usize,
    /// Bytes of the bodies of a batch together.
    pub max_bytes: usize,
    /// How long a batch waits for more items.
    pub max_wait: Duration,
    /// How requests that are alike become one; the first rule that fits a request counts, and a request
    /// that none fits goes alone.
    pub joins: Vec<JoinRule>,
    /// The hosts that may be called: `api.example.com`, or `*.example.com` for all below it. Empty: any,
    /// within what the guard allows.
    pub hosts: Vec<String>,
    /// What answers mean where the table of [`super::judge`] is not right; the first that fits counts.
    pub answers: Vec<AnswerRule>,
    /// Where an answer tells of each item by itself.
    pub items: Option<ItemResults>,
    /// Reads answers that data cannot describe, before all other rules.
    pub read: Option<ReadAnswer>,
    /// What is added to a request when it is sent, and never shown in a preview.
    pub signer: Signer,
}

impl Profile {
    /// One item a request, in order, eight at once, 15 seconds each, any host.
    #[must_use]
    pub fn new(check: Check) -> Self {
        Self {
            check,
            timeout: Duration::from_secs(15),
            concurrency: 8,
            rate: None,
            ordered: true,
            max_items: 1,
            max_bytes: usize::MAX,
            max_wait: Duration::ZERO,
            joins: Vec::new(),
            hosts: Vec::new(),
            answers: Vec::new(),
            items: None,
            read: None,
            signer: Signer::None,
        }
    }
}

/// A request that changes nothing.
#[derive(Debug, Clone)]
pub enum Check {
    /// `HEAD` of this address: any answer proves name, network and TLS, and nothing about credentials.
    Reach(String),
    /// This request must be answered by one of these statuses; none: any 2xx. 401 and 403 say that the
    /// credentials are refused.
    Ask {
        /// With its credentials.
        request: HttpRequest,
        /// What is well.
        expect: Vec<u16>,
    },
}

/// A way to join, and whose requests.
#[derive(Debug, Clone)]
pub struct JoinRule {
    /// What the path of the address must end with; empty: every request.
    pub path: String,
    /// The way.
    pub join: Join,
}

impl JoinRule {
    /// A rule for every request.
    #[must_use]
    pub fn all(join: Join) -> Vec<Self> {
        vec![Self { path: String::new(), join }]
    }

    /// A rule for the requests whose path ends like this.
    #[must_use]
    pub fn path(path: impl Into<String>, join: Join) -> Self {
        Self { path: path.into(), join }
    }
}

/// How the bodies of requests that are else alike become one.
#[derive(Debug, Clone)]
pub enum Join {
    /// The arrays at these paths are concatenated; all else in the bodies must be equal. The path `.` is
    /// the body itself, a [`millrace_connector::RequestBody::JsonArray`]. In a form they are JSON in the
    /// fields of these names.
    Arrays {
        /// Names joined by dots.
        at: Vec<String>,
        /// Elements that each array may have.
        max: usize,
    },
    /// The bodies become the elements of an array.
    Wrap {
        /// The name of its field; `.`: the body is the array.
        at: String,
        /// Fields beside it.
        with: Vec<(String, Value)>,
        /// Elements that it may have.
        max: usize,
    },
}

impl Join {
    /// Concatenates the arrays at these paths, up to so many elements each.
    #[must_use]
    pub fn arrays(at: &[&str], max: usize) -> Self {
        Self::Arrays { at: at.iter().map(|path| (*path).to_owned()).collect(), max }
    }

    /// `{at: [bodies]}`, up to so many.
    #[must_use]
    pub fn wrap(at: &str, max: usize) -> Self {
        Self::Wrap { at: at.to_owned(), with: Vec::new(), max }
    }

    /// How many elements an array may have.
    pub(super) fn max(&self) -> usize {
        match self {
            Self::Arrays { max, .. } | Self::Wrap { max, .. } => *max,
        }
    }
}

/// What becomes of an item; the names of the YAML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The vendor has it.
    Success,
    /// The vendor leaves it out on purpose: it needs no sending.
    Filtered,
    /// The vendor will never take it: it goes to the dead letters.
    Rejected,
    /// Too many calls: tried again, after `Retry-After` where the answer has it, and slower.
    Throttled,
    /// It may work later: tried again, after `Retry-After` where the answer has it.
    Transient,
    /// The credentials are refused: the destination pauses and keeps everything.
    Auth,
    /// A setting is wrong: the destination pauses and keeps everything.
    Config,
    /// The call was too large: tried with fewer items.
    Oversize,
    /// One of the items is bad, and the answer does not say which: tried with fewer items.
    Unclear,
}

/// What is asked of a JSON value: of an answer, or of one entry in it.
pub type Predicate = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// A rule of answers.
#[derive(Clone)]
pub struct AnswerRule {
    /// Statuses, from and to; empty: any.
    pub status: Vec<(u16, u16)>,
    /// What must be true of the body; a body that is no JSON is `null`.
    pub when: Option<Predicate>,
    /// What the answer means for all items of the call.
    pub class: Class,
    /// Where in the body a message stands that may be told; it is cut to a bound. It is shown to people:
    /// name no field that repeats what was sent.
    pub message: Option<String>,
}

impl AnswerRule {
    /// A status means this.
    #[must_use]
    pub fn status(status: u16, class: Class) -> Self {
        Self { status: vec![(status, status)], when: None, class, message: None }
    }

    /// Where this is true of the body.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// With the message at this path.
    #[must_use]
    pub fn telling(mut self, path: &str) -> Self {
        self.message = Some(path.to_owned());
        self
    }
}

impl fmt::Debug for AnswerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerRule")
            .field("status", &self.status)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

/// An answer that has an array with an entry for items, or for those that failed.
#[derive(Clone)]
pub struct ItemResults {
    /// Statuses whose bodies have it, from and to; empty: any 2xx.
    pub status: Vec<(u16, u16)>,
    /// Path of the array.
    pub at: String,
    /// Which item an entry is about.
    pub find: Find,
    /// Whether the item of an entry was taken; `None`: an entry is always a failure. Items without an
    /// entry were taken.
    pub ok: Option<Predicate>,
    /// What a failure means, by what is true of its entry; none fits: rejected.
    pub classes: Vec<(Predicate, Class)>,
    /// Path in the entry of a message that may be told.
    pub message: Option<String>,
}

impl fmt::Debug for ItemResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemResults").field("at", &self.at).field("find", &self.find).finish_non_exhaustive()
    }
}

/// Which item an entry of an answer is about.
#[derive(Debug, Clone)]
pub enum Find {
    /// The n-th entry is the n-th element that was sent.
    Position,
    /// The element's number, from 0, stands in the entry at this path; and, where bodies have several
    /// arrays, the array's path at the other.
    Index {
        /// Path of the number.
        index: String,
        /// Path of the name of the array.
        array: Option<String>,
    },
    /// The entry at this path and the element at the other have the same value.
    Id {
        /// Path in the entry.
        entry: String,
        /// Path in the element.
        element: String,
    },
}

/// What an answer says of one item: what it means, and a message that may be told.
pub type Verdict = (Class, Option<String>);

/// Reads an answer: one verdict for each of [`Call::items`], in their order. `None`: the other rules apply.
pub type ReadAnswer = fn(&Answer, &Call) -> Option<Vec<Verdict>>;

/// Credentials that are made when a request is sent.
#[derive(Debug, Clone, Default)]
pub enum Signer {
    /// The mapper's headers and query are all there is.
    #[default]
    None,
    /// A bearer token of OAuth 2, renewed before it expires and once when the vendor answers 401.
    OAuth2(OAuth2),
    /// A header with a keyed hash of the body.
    Hmac {
        /// The key, as text.
        key: Secret,
        /// The header, lower case.
        header: String,
        /// What stands before the hash: `sha256=`.
        prefix: String,
        /// Base64 in place of hexadecimal digits.
        base64: bool,
    },
}

/// Where tokens come from (RFC 6749 §4.4 and §6).
#[derive(Debug, Clone)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: String,
    /// The client's name.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: Secret,
    /// With it: the grant `refresh_token`; else `client_credentials`.
    pub refresh_token: Option<Secret>,
    /// What is asked for.
    pub scope: Option<String>,
    /// Further fields of the token request, such as `audience`.
    pub fields: Vec<(String, String)>,
}
