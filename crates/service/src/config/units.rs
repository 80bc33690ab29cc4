//! Values that people write with a unit, and lists of which one element may stand alone.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Secret;
use crate::schedule::parse_interval;

/// A number of bytes: `4096000`, or `900KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub usize);

/// A number of things, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u32);

/// A length of time: `500ms`, `30s`, `5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

/// So many in some time: `1000/s`, `60/m`, `5000/h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least one.
    pub amount: u32,
    /// In how long.
    pub period: Duration,
}

/// Addresses: `10.0.0.0/8`, `fd00::/8`, or one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(pub IpNet);

/// One key, or a list of those that are good at the same time.
#[derive(Debug, Clone)]
pub struct WriteKeys(Vec<Secret>);

impl WriteKeys {
    /// At least one; the first is the one to use.
    #[must_use]
    pub fn all(&self) -> &[Secret] {
        &self.0
    }

    /// The one to use.
    #[must_use]
    pub fn first(&self) -> &str {
        self.0.first().map_or("", Secret::expose)
    }
}

const SIZES: [(&str, usize); 5] =
    [("", 1), ("KB", 1000), ("KiB", 1024), ("MB", 1_000_000), ("MiB", 1024 * 1024)];

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let bytes = SIZES.iter().find(|(name, _)| *name == unit.trim())?.1;
        number.parse::<usize>().ok()?.checked_mul(bytes).filter(|size| *size > 0).map(Self)
    }
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (amount, unit) = text.split_once('/')?;
        let period = parse_interval(&format!("1{}", unit.trim()))?;
        let amount = amount.trim().parse().ok().filter(|amount| *amount > 0)?;
        Some(Self { amount, period })
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| single()).ok().map(Self)
    }
}

/// Reads a whole number or a string.
struct Written<T> {
    what: &'static str,
    number: fn(u64) -> Option<T>,
    text: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        let number = u64::try_from(value).ok().and_then(self.number);
        number.ok_or_else(|| E::custom(format_args!("{value} is not {}", self.what)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        (self.number)(value).ok_or_else(|| E::custom(format_args!("{value} is not {}", self.what)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        (self.text)(value).ok_or_else(|| E::custom(format_args!("{value:?} is not {}", self.what)))
    }
}

/// `Deserialize` and `JsonSchema` for values that are a number or a text.
macro_rules! written {
    ($name:ident, $what:literal, $types:tt, $number:expr, $text:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Written { what: $what, number: $number, text: $text })
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "description": concat!("Must be ", $what, ".") })
            }
        }
    };
}

written!(
    Size,
    "a number of bytes above 0, such as 4096000, 900KiB or 4MB",
    ["integer", "string"],
    |number| usize::try_from(number).ok().filter(|size| *size > 0).map(Size),
    Size::parse
);
written!(
    Count,
    "a whole number above 0",
    ["integer"],
    |number| u32::try_from(number).ok().filter(|count| *count > 0).map(Count),
    |_| None
);
written!(Period, "a length of time above 0, such as 500ms, 30s or 5m", ["string"], |_| None, |text| {
    parse_interval(text.trim()).map(Period)
});
written!(Rate, "a rate above 0, such as 1000/s, 60/m or 5000/h", ["string"], |_| None, Rate::parse);
written!(
    Network,
    "a network such as 10.0.0.0/8 or fd00::/8, or an address",
    ["string"],
    |_| None,
    Network::parse
);

struct WriteKeysVisitor;

impl<'de> Visitor<'de> for WriteKeysVisitor {
    type Value = WriteKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key (a string), or a list of keys")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<WriteKeys, E> {
        Ok(WriteKeys(vec![Secret::from(key)]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<WriteKeys, A::Error> {
        let mut keys = Vec::new();
        while let Some(key) = list.next_element()? {
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(A::Error::custom("a list of keys needs at least one"));
        }
        Ok(WriteKeys(keys))
    }
}

impl<'de> Deserialize<'de> for WriteKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WriteKeysVisitor)
    }
}

impl JsonSchema for WriteKeys {
    fn schema_name() -> Cow<'static, str> {
        "WriteKeys".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let key = generator.subschema_for::<Secret>();
        json_schema!({ "anyOf": [key, { "type": "array", "items": key, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_with_their_units() {
        for (text, bytes) in [
            ("4096000", Some(4_096_000)),
            ("900KiB", Some(921_600)),
            ("4 MB", Some(4_000_000)),
            ("0", None),
            ("1TB", None),
            ("-1", None),
            ("", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Size::parse(text).map(|size| size.0), bytes, "{text}");
        }
        for (text, rate) in [
            ("1000/s", Some((1000, 1))),
            ("60 / m", Some((60, 60))),
            ("5000/h", Some((5000, 3600))),
            ("0/s", None),
            ("1000", None),
            ("1000/", None),
            ("1000/fortnight", None),
            ("-1/s", None),
        ] {
            let parsed = Rate::parse(text).map(|rate| (rate.amount, rate.period.as_secs()));
            assert_eq!(parsed, rate, "{text}");
        }
    }
}
