//! What a source does with each kind of personal data.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// A kind of personal data that the scanner recognises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// The number of a payment card.
    Card,
    /// The client's network address: of the request, and in fields named for it (`context.ip`).
    Ip,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Email, Self::Phone, Self::Card, Self::Ip];

    /// The name in policies, findings and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Ip => "ip",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens to a value that was found. `docs/privacy.md` shows each one's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing: the kind is not looked for.
    Keep,
    /// A partial form that a person who knows the value recognises.
    Mask,
    /// The kind's name in brackets.
    Redact,
    /// A keyed hash: the same value gives the same text in all sources of the workspace.
    Hash,
    /// An address without its host part: /24 for IPv4, /48 for IPv6.
    Truncate,
}

impl Action {
    const ALL: [Self; 5] = [Self::Keep, Self::Mask, Self::Redact, Self::Hash, Self::Truncate];

    /// The name in policies and findings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Mask => "mask",
            Self::Redact => "redact",
            Self::Hash => "hash",
            Self::Truncate => "truncate",
        }
    }
}

/// How much of a place is kept that was looked up by the client's address: a part of the world says less of
/// a person the larger it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Precision {
    /// None of it.
    Nothing,
    /// The country.
    Country,
    /// And the region, such as a state, with its time zone.
    Region,
    /// And the city.
    City,
    /// And the postal code and coordinates.
    Point,
}

impl Precision {
    const ALL: [Self; 5] = [Self::Nothing, Self::Country, Self::Region, Self::City, Self::Point];

    /// The name in policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Country => "country",
            Self::Region => "region",
            Self::City => "city",
            Self::Point => "point",
        }
    }
}

/// One action per kind, and how much of the client's place is kept. Written in the config as `{ detect: all, action: mask }`, as one action per kind
/// (`{ email: hash, card: redact }`), or as both: a kind named alone wins. A kind named by neither is kept.
/// `geo: city` says how precise places may be; without it, [`Policy::place`] follows what becomes of `ip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    actions: [Action; Kind::ALL.len()],
    place: Option<Precision>,
}

/// The policy says something that cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A name that is no kind.
    #[error("unknown kind of personal data {0:?}: known are email, phone, card, ip (or all)")]
    UnknownKind(String),
    /// A name that is no action.
    #[error("unknown privacy action {0:?}: known are keep, mask, redact, hash, truncate")]
    UnknownAction(String),
    /// A name that is no part of the world.
    #[error("unknown precision {0:?}: geo is one of nothing, country, region, city, point")]
    UnknownPrecision(String),
    /// In the design, not in this version.
    #[error("the privacy action {0:?} is not built in yet; hash keeps people apart and cannot be undone")]
    NotBuiltIn(String),
    /// Truncating anything but an address would leave an arbitrary part of it readable.
    #[error("{0} cannot be truncated, only ip can; use mask, redact or hash")]
    CannotTruncate(Kind),
    /// `detect` without `action` or the other way round.
    #[error("\"detect\" and \"action\" belong together: {0:?} is missing")]
    Missing(&'static str),
}

/// Actions that the design names and this version lacks.
const NOT_BUILT_IN: [&str; 3] = ["seal", "tokenise", "drop"];

impl Policy {
    /// Leaves everything as it was sent.
    #[must_use]
    pub fn keep_all() -> Self {
        Self { actions: [Action::Keep; Kind::ALL.len()], place: None }
    }

    /// Masks every kind: the built-in policy `strict`.
    #[must_use]
    pub fn mask_all() -> Self {
        Self { actions: [Action::Mask; Kind::ALL.len()], place: None }
    }

    /// The same policy with another action for one kind.
    ///
    /// # Errors
    /// [`PolicyError::CannotTruncate`].
    pub fn with(mut self, kind: Kind, action: Action) -> Result<Self, PolicyError> {
        if action == Action::Truncate && kind != Kind::Ip {
            return Err(PolicyError::CannotTruncate(kind));
        }
        self.set(kind, action);
        Ok(self)
    }

    /// What to do with a kind.
    #[must_use]
    pub fn action(&self, kind: Kind) -> Action {
        self.actions.get(kind.index()).copied().unwrap_or(Action::Keep)
    }

    /// How much is kept of the place where the client's address is. Unless the policy says, it follows what
    /// the policy does to addresses: whoever does not want the address kept does not want the city either.
    #[must_use]
    pub fn place(&self) -> Precision {
        self.place.unwrap_or(match self.action(Kind::Ip) {
            Action::Keep => Precision::Point,
            Action::Mask | Action::Truncate | Action::Hash => Precision::Region,
            Action::Redact => Precision::Country,
        })
    }

    /// Whether there is nothing to look for, and nothing to leave out.
    #[must_use]
    pub fn keeps_all(&self) -> bool {
        self.actions.iter().all(|action| *action == Action::Keep) && self.place() == Precision::Point
    }

    /// Names this policy's content in the header of each event: the configured name and a hash of the
    /// actions, so that an edit under the same name is visible.
    #[must_use]
    pub fn version(&self, name: &str) -> String {
        let mut hasher = blake3::Hasher::new();
        for kind in Kind::ALL {
            hasher.update(kind.as_str().as_bytes()).update(b"=");
            hasher.update(self.action(kind).as_str().as_bytes()).update(b";");
        }
        if let Some(place) = self.place {
            hasher.update(b"geo=").update(place.as_str().as_bytes()).update(b";");
        }
        let hash = hasher.finalize();
        format!("{name}@{}", hash.to_hex().get(..8).unwrap_or_default())
    }

    fn set(&mut self, kind: Kind, action: Action) {
        if let Some(slot) = self.actions.get_mut(kind.index()) {
            *slot = action;
        }
    }
}

/// The policy as it is written.
#[derive(Deserialize)]
struct Written {
    detect: Option<Detect>,
    action: Option<String>,
    geo: Option<String>,
    #[serde(flatten)]
    kinds: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Detect {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<Written> for Policy {
    type Error = PolicyError;

    fn try_from(written: Written) -> Result<Self, PolicyError> {
        let mut policy = Self::keep_all();
        match (&written.detect, &written.action) {
            (Some(detect), Some(action)) => {
                let action = parse_action(action)?;
                for kind in detected(detect)? {
                    policy = policy.with(kind, action)?;
                }
            }
            (Some(_), None) => return Err(PolicyError::Missing("action")),
            (None, Some(_)) => return Err(PolicyError::Missing("detect")),
            (None, None) => {}
        }
        for (name, action) in &written.kinds {
            let kind = Kind::named(name).ok_or_else(|| PolicyError::UnknownKind(name.clone()))?;
            policy = policy.with(kind, parse_action(action)?)?;
        }
        if let Some(name) = &written.geo {
            let known = Precision::ALL.into_iter().find(|precision| precision.as_str() == name);
            policy.place = Some(known.ok_or_else(|| PolicyError::UnknownPrecision(name.clone()))?);
        }
        Ok(policy)
    }
}

fn detected(detect: &Detect) -> Result<Vec<Kind>, PolicyError> {
    let names = match detect {
        Detect::One(name) => std::slice::from_ref(name),
        Detect::Many(names) => names.as_slice(),
    };
    let mut kinds = Vec::new();
    for name in names {
        if name == "all" {
            kinds.extend(Kind::ALL);
            continue;
        }
        kinds.push(Kind::named(name).ok_or_else(|| PolicyError::UnknownKind(name.clone()))?);
    }
    Ok(kinds)
}

fn parse_action(name: &str) -> Result<Action, PolicyError> {
    if NOT_BUILT_IN.contains(&name) {
        return Err(PolicyError::NotBuiltIn(name.to_owned()));
    }
    let known = Action::ALL.into_iter().find(|action| action.as_str() == name);
    known.ok_or_else(|| PolicyError::UnknownAction(name.to_owned()))
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Written::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Policy, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_policy_is_written_for_all_kinds_or_for_each() {
        assert_eq!(parse(r#"{"detect":"all","action":"mask"}"#).unwrap(), Policy::mask_all());
        let each = parse(r#"{"email":"hash","card":"redact","ip":"truncate"}"#).unwrap();
        assert_eq!(each.action(Kind::Email), Action::Hash);
        assert_eq!(each.action(Kind::Card), Action::Redact);
        assert_eq!(each.action(Kind::Ip), Action::Truncate);
        assert_eq!(each.action(Kind::Phone), Action::Keep);
        let both = parse(r#"{"detect":["email","phone"],"action":"redact","phone":"keep"}"#).unwrap();
        assert_eq!(both.action(Kind::Email), Action::Redact);
        assert_eq!(both.action(Kind::Phone), Action::Keep);
        assert!(parse("{}").unwrap().keeps_all());
    }

    #[test]
    fn what_cannot_be_done_is_an_error_that_says_what_can() {
        for (json, message) in [
            (r#"{"mail":"mask"}"#, "unknown kind of personal data \"mail\""),
            (r#"{"detect":["iban"],"action":"mask"}"#, "unknown kind of personal data \"iban\""),
            (r#"{"email":"erase"}"#, "unknown privacy action \"erase\""),
            (r#"{"email":"seal"}"#, "not built in yet"),
            (r#"{"email":"truncate"}"#, "email cannot be truncated"),
            (r#"{"geo":"street"}"#, "unknown precision \"street\""),
            (r#"{"detect":"all"}"#, "\"action\" is missing"),
            (r#"{"action":"mask"}"#, "\"detect\" is missing"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }

    #[test]
    fn a_place_is_as_precise_as_the_address_unless_the_policy_says() {
        for (json, expected) in [
            ("{}", Precision::Point),
            (r#"{"email":"mask"}"#, Precision::Point),
            (r#"{"detect":"all","action":"mask"}"#, Precision::Region),
            (r#"{"ip":"truncate"}"#, Precision::Region),
            (r#"{"ip":"hash"}"#, Precision::Region),
            (r#"{"ip":"redact"}"#, Precision::Country),
            (r#"{"ip":"redact","geo":"city"}"#, Precision::City),
            (r#"{"geo":"nothing"}"#, Precision::Nothing),
        ] {
            assert_eq!(parse(json).unwrap().place(), expected, "{json}");
        }
        assert!(!parse(r#"{"geo":"country"}"#).unwrap().keeps_all(), "there is something to leave out");
        let (bare, named) = (parse("{}").unwrap(), parse(r#"{"geo":"city"}"#).unwrap());
        assert_ne!(bare.version("p"), named.version("p"));
    }

    #[test]
    fn a_version_changes_with_the_policy() {
        let strict = Policy::mask_all();
        assert_eq!(strict.version("strict"), strict.clone().version("strict"));
        assert!(strict.version("strict").starts_with("strict@"));
        assert_ne!(strict.version("strict"), Policy::keep_all().version("strict"));
    }
}
