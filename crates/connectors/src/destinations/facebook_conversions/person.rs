//! Who it was, as Meta matches people: each value in Meta's normal form, then its SHA-256.
//!
//! The forms are those of
//! <https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters>.

use millrace_connector::Document;
use serde_json::{Map, Value};
use url::Url;

use crate::destinations::shared::fields::{EMAIL, Line, PHONE, USER_ID, fill, pick_text};
use crate::destinations::shared::hashing::sha256;
use crate::destinations::shared::times;

/// A parameter, the paths of its value, and its normal form.
type Hashed = (&'static str, &'static [&'static str], fn(&str) -> String);

const HASHED: &[Hashed] = &[
    ("em", EMAIL, lower),
    ("ph", PHONE, digits),
    (
        "fn",
        &[
            "traits.firstname",
            "traits.firstName",
            "traits.first_name",
            "context.traits.firstname",
            "context.traits.firstName",
            "context.traits.first_name",
        ],
        letters,
    ),
    (
        "ln",
        &[
            "traits.lastname",
            "traits.lastName",
            "traits.last_name",
            "context.traits.lastname",
            "context.traits.lastName",
            "context.traits.last_name",
        ],
        letters,
    ),
    ("ge", &["traits.gender", "context.traits.gender"], initial),
    (
        "db",
        &["traits.birthday", "traits.dateOfBirth", "context.traits.birthday", "context.traits.dateOfBirth"],
        digits,
    ),
    (
        "ct",
        &["traits.address.city", "traits.city", "context.traits.address.city", "context.traits.city"],
        letters,
    ),
    (
        "st",
        &["traits.address.state", "traits.state", "context.traits.address.state", "context.traits.state"],
        letters,
    ),
    (
        "zp",
        &[
            "traits.address.zip",
            "traits.address.postalCode",
            "traits.zip",
            "context.traits.address.zip",
            "context.traits.address.postalCode",
            "context.traits.zip",
        ],
        postcode,
    ),
    (
        "country",
        &[
            "traits.address.country",
            "traits.country",
            "context.traits.address.country",
            "context.traits.country",
        ],
        letters,
    ),
];

/// Where a full name stands, for people whose parts of it are not told.
const NAME: &[&str] = &["traits.name", "context.traits.name"];

/// These are no secret of the person, or not one that a hash would keep.
const PLAIN: &[Line] = &[
    ("client_ip_address", &["context.ip", "request_ip"]),
    ("client_user_agent", &["context.userAgent"]),
    ("fbc", &["context.fbc", "properties.fbc", "traits.fbc", "context.traits.fbc"]),
    ("fbp", &["context.fbp", "properties.fbp", "traits.fbp", "context.traits.fbp"]),
    ("subscription_id", &["properties.subscription_id", "context.traits.subscription_id"]),
    ("lead_id", &["properties.lead_id", "context.traits.lead_id"]),
    ("fb_login_id", &["properties.fb_login_id", "context.traits.fb_login_id"]),
];

/// All that is known. `hashed`: the client has hashed what is personal itself.
pub(super) fn describe(document: &Document, external_id: bool, hashed: bool) -> Map<String, Value> {
    let mut person = Map::new();
    let mut add = |name: &str, value: &str, normal: fn(&str) -> String| {
        let value = if hashed || is_hash(value) { value.to_owned() } else { normal(value) };
        match value.is_empty() {
            true => {}
            false if hashed || is_hash(&value) => drop(person.insert(name.to_owned(), value.into())),
            false => drop(person.insert(name.to_owned(), sha256(&value).into())),
        }
    };
    if external_id {
        let id = pick_text(document, USER_ID).or_else(|| pick_text(document, &["anonymousId"]));
        add("external_id", id.as_deref().unwrap_or_default(), str::to_owned);
    }
    if let Some(name) = pick_text(document, NAME) {
        let (first, last) = name.trim().split_once(char::is_whitespace).unwrap_or((name.trim(), ""));
        add("fn", first, letters);
        add("ln", last, letters);
    }
    for (name, paths, normal) in HASHED {
        if let Some(value) = pick_text(document, paths) {
            add(name, &value, *normal);
        }
    }
    fill(&mut person, document, PLAIN);
    if !person.contains_key("fbc")
        && let Some(click) = click(document)
    {
        person.insert("fbc".to_owned(), click.into());
    }
    person
}

/// The click on an advertisement that led to the page, in the form of Meta's own cookie.
fn click(document: &Document) -> Option<String> {
    let page = Url::parse(document.text("context.page.url")?).ok()?;
    let (_, id) = page.query_pairs().find(|(name, id)| name == "fbclid" && !id.is_empty())?;
    Some(format!("fb.1.{}.{id}", times::happened(document)?))
}

/// 64 hexadecimal digits: somebody has hashed it already.
fn is_hash(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn lower(value: &str) -> String {
    value.trim().to_lowercase()
}

/// Lower case without blanks and punctuation.
fn letters(value: &str) -> String {
    value.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect()
}

fn digits(value: &str) -> String {
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').to_owned()
}

/// `f` or `m`.
fn initial(value: &str) -> String {
    lower(value).chars().take(1).filter(|c| matches!(c, 'f' | 'm')).collect()
}

/// Of American codes the first five digits; what follows the dash is left out.
fn postcode(value: &str) -> String {
    let code = value.split('-').next().unwrap_or_default();
    lower(code).chars().filter(|c| !c.is_whitespace()).collect()
}
