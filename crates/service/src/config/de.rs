//! Reads typed values out of the tree, and goes on after an error, so that all errors come at once.
//!
//! Serde stops at the first error. [`read`] notes it, takes the offending key or element out of the tree
//! and reads again, until nothing is left to complain about: at most once for each node of the file.

use std::fmt;
use std::ops::Range;

use serde::de::value::{StrDeserializer, StringDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};

use super::error::ConfigError;
use super::tree::{Key, Mapping, Node, Step, Text, Value};

/// Reads a `T` out of the tree, and takes out of it whatever is reported.
pub(super) fn read<T: DeserializeOwned>(root: &mut Node, errors: &mut Vec<ConfigError>) -> Option<T> {
    loop {
        let mut failure = match T::deserialize(Reader { node: &*root }) {
            Ok(value) => return Some(value),
            Err(failure) => failure,
        };
        failure.path.reverse();
        if let Some(error) = failure.report(root) {
            errors.push(error);
        }
        if failure.path.is_empty() {
            return None;
        }
        root.discard(&failure.path);
    }
}

/// Why a value could not be read, and where.
#[derive(Debug)]
struct Failure {
    what: What,
    span: Option<Range<usize>>,
    /// From the value up to the root.
    path: Vec<Step>,
}

#[derive(Debug)]
enum What {
    Message {
        message: String,
        help: Option<String>,
    },
    Missing(&'static str),
    /// It was reported before.
    Broken,
}

impl Failure {
    fn new(message: String, help: Option<String>) -> Self {
        Self { what: What::Message { message, help }, span: None, path: Vec::new() }
    }

    fn broken() -> Self {
        Self { what: What::Broken, span: None, path: Vec::new() }
    }

    /// At a node, unless it is known to be deeper. Text that came from a reference is taken out of the
    /// message: it may be a secret.
    fn at(mut self, node: &Node) -> Self {
        if self.span.is_none() {
            self.span = Some(node.span.clone());
            if let What::Message { message, .. } = &mut self.what {
                *message = node.as_written(message);
            }
        }
        self
    }

    fn under(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    fn report(&self, root: &Node) -> Option<ConfigError> {
        let span = self.span.clone().unwrap_or(0..0);
        match &self.what {
            What::Broken => None,
            What::Message { message, help } => {
                let mut error = ConfigError::new(span, message.clone());
                error.help.clone_from(help);
                Some(error)
            }
            What::Missing(field) => {
                let reported = match &root.nearest(&self.path).value {
                    Value::Map(mapping) => mapping.reported.iter().any(|name| name == field),
                    _ => false,
                };
                if reported { None } else { Some(ConfigError::new(span, format!("{field:?} is missing"))) }
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Message { message, .. } => f.write_str(message),
            What::Missing(field) => write!(f, "{field:?} is missing"),
            What::Broken => f.write_str("reported before"),
        }
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let scalar = matches!(found, Unexpected::Signed(_) | Unexpected::Unsigned(_) | Unexpected::Bool(_));
        let help = (scalar && expected.to_string().contains("string")).then(|| "put it in quotes".to_owned());
        Self::new(format!("expected {}, found {}", in_yaml_terms(expected), kind_of(&found)), help)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(
            format!("expected {}, which this {} is not", in_yaml_terms(expected), kind_of(&found)),
            None,
        )
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.join(", ");
        let help = match closest(field, expected) {
            Some(meant) => format!("did you mean {meant:?}? the keys here are {known}"),
            None => format!("the keys here are {known}"),
        };
        Self::new(format!("unknown key {field:?}"), Some(help))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = closest(variant, expected).map(|meant| format!("did you mean {meant:?}?"));
        Self::new(format!("{variant:?} is not one of {}", expected.join(", ")), help)
    }

    fn missing_field(field: &'static str) -> Self {
        Self { what: What::Missing(field), span: None, path: Vec::new() }
    }
}

/// What serde's derived code expects, in the words of YAML.
fn in_yaml_terms(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        name if name.starts_with("struct ") => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

/// What was found, without its content: that may be a secret.
fn kind_of(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a mapping",
        Unexpected::Unit | Unexpected::Option => "nothing",
        _ => "something else",
    }
}

/// The name that was probably meant: the nearest that is less than half another word.
pub(super) fn closest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &&str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    let nearest = known.iter().copied().min_by_key(distance)?;
    let limit = (name.chars().count().max(nearest.chars().count()) / 2).min(4);
    if distance(&nearest) <= limit { Some(nearest) } else { None }
}

/// A node as serde reads it.
#[derive(Clone, Copy)]
struct Reader<'t> {
    node: &'t Node,
}

impl<'t> Reader<'t> {
    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => visitor.visit_i64(*value),
            Value::Large(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visit_resolved(text, visitor),
            Value::List(elements) => visitor.visit_seq(Elements { elements, next: 0 }),
            Value::Map(mapping) => visitor.visit_map(Entries { mapping, next: 0, value: None }),
            Value::Broken => Err(Failure::broken()),
        }
    }
}

/// A string, or what YAML would make of it where a reference without quotes gave it.
fn visit_resolved<'de, V: Visitor<'de>>(text: &Text, visitor: V) -> Result<V::Value, Failure> {
    if text.plain && text.written.is_some() {
        if let Ok(value) = text.text.parse::<bool>() {
            return visitor.visit_bool(value);
        }
        if let Ok(value) = text.text.parse::<i64>() {
            return visitor.visit_i64(value);
        }
        let looks_like_a_number = text.text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if let (true, Ok(value)) = (looks_like_a_number, text.text.parse::<f64>()) {
            return visitor.visit_f64(value);
        }
    }
    visitor.visit_str(&text.text)
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.visit(visitor).map_err(|failure| failure.at(self.node))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Text(text) => {
                visitor.visit_str(&text.text).map_err(|failure: Failure| failure.at(self.node))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self).map_err(|failure| failure.at(self.node))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value {
            // A key whose elements are all commented out.
            Value::Null => visitor.visit_seq(Elements { elements: &[], next: 0 }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value {
            Value::Null => {
                let empty = Mapping::default();
                visitor
                    .visit_map(Entries { mapping: &empty, next: 0, value: None })
                    .map_err(|failure| failure.at(self.node))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        if let Value::List(_) = self.node.value {
            // Serde's derived code would read the elements as fields in their order.
            let error: Failure = de::Error::invalid_type(Unexpected::Seq, &visitor);
            return Err(error.at(self.node));
        }
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Some(text) = self.node.text() else { return self.deserialize_any(visitor) };
        let variant: StrDeserializer<'_, Failure> = text.text.as_str().into_deserializer();
        visitor.visit_enum(variant).map_err(|failure| failure.at(self.node))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier ignored_any
    }
}

struct Elements<'t> {
    elements: &'t [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        while let Some(node) = self.elements.get(self.next) {
            let index = self.next;
            self.next += 1;
            if matches!(node.value, Value::Broken) {
                continue;
            }
            let read = seed.deserialize(Reader { node });
            return read.map(Some).map_err(|failure| failure.at(node).under(Step::Index(index)));
        }
        Ok(None)
    }
}

struct Entries<'t> {
    mapping: &'t Mapping,
    next: usize,
    value: Option<&'t (Key, Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some(entry) = self.mapping.entries.get(self.next) else { return Ok(None) };
        self.next += 1;
        self.value = Some(entry);
        let (key, _) = entry;
        let name: StringDeserializer<Failure> = key.name.clone().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|mut failure| {
            failure.span = Some(key.span.clone());
            failure.under(Step::Key(key.name.clone()))
        })
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let Some((key, node)) = self.value.take() else { return Err(Failure::broken()) };
        seed.deserialize(Reader { node })
            .map_err(|failure| failure.at(node).under(Step::Key(key.name.clone())))
    }
}
