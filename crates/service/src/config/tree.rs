//! The YAML document as a tree in which every key and value knows its place.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::ConfigError;
use super::interpolate::{Environment, interpolate};

/// A value with its place in the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Bytes of the file.
    pub(super) span: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Large(u64),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Map(Mapping),
    /// There was something that has been reported already.
    Broken,
}

/// A string.
#[derive(Debug, Clone, Default)]
pub(super) struct Text {
    /// With its references resolved.
    pub(super) text: String,
    /// As it stands in the file, if that differs.
    pub(super) written: Option<String>,
    /// Without quotes in the file: what a reference gives may then be a number or a boolean.
    pub(super) plain: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Mapping {
    pub(super) entries: Vec<(Key, Node)>,
    /// Keys that were there but have been reported already: they are not missing.
    pub(super) reported: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) span: Range<usize>,
}

/// A step into the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an element of a list, from 0.
    Index(usize),
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Node {
    /// Reads a document. An empty one is a mapping without entries.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        let parsed: Result<Option<Self>, _> = serde_saphyr::from_str(text);
        match parsed {
            Ok(Some(node)) if !matches!(node.value, Value::Null) => Ok(node),
            Ok(_) => Ok(Self { value: Value::Map(Mapping::default()), span: 0..0 }),
            Err(error) => Err(syntax_error(text, error.without_snippet())),
        }
    }

    /// Resolves the references of all strings. What cannot be resolved is reported and left broken.
    pub(super) fn interpolate(
        &mut self,
        source: &str,
        environment: &Environment<'_>,
        errors: &mut Vec<ConfigError>,
    ) {
        match &mut self.value {
            Value::Text(text) => {
                text.plain =
                    !source.get(self.span.clone()).unwrap_or_default().starts_with(['"', '\'', '|', '>']);
                match interpolate(&text.text, environment) {
                    Ok(None) => {}
                    Ok(Some(resolved)) => text.written = Some(std::mem::replace(&mut text.text, resolved)),
                    Err(unresolved) => {
                        let mut error = ConfigError::new(self.span.clone(), unresolved.message);
                        error.help = unresolved.help;
                        errors.push(error);
                        self.value = Value::Broken;
                    }
                }
            }
            Value::List(elements) => {
                for element in elements {
                    element.interpolate(source, environment, errors);
                }
            }
            Value::Map(mapping) => {
                for (_, value) in &mut mapping.entries {
                    value.interpolate(source, environment, errors);
                }
            }
            _ => {}
        }
    }

    /// The value of a key of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, value)| value)
    }

    /// A key of a mapping, with its place, and the value.
    pub(super) fn entry(&self, key: &str) -> Option<&(Key, Self)> {
        let Value::Map(mapping) = &self.value else { return None };
        mapping.entries.iter().find(|(other, _)| other.name == key)
    }

    /// The elements of a list but for the broken ones: as many as were read, in the same order.
    pub(super) fn elements(&self) -> impl Iterator<Item = &Self> {
        let elements = if let Value::List(elements) = &self.value { elements.as_slice() } else { &[] };
        elements.iter().filter(|element| !matches!(element.value, Value::Broken))
    }

    /// The text of a string.
    pub(super) fn text(&self) -> Option<&Text> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// A message about this node with what came from a reference in it taken back: it may be a secret.
    pub(super) fn as_written(&self, message: &str) -> String {
        let resolved = self.text().and_then(|text| Some((text.text.as_str(), text.written.as_deref()?)));
        match resolved {
            Some((text, written)) if !text.is_empty() => message.replace(text, written),
            _ => message.to_owned(),
        }
    }

    /// Takes out what has been reported, so that the rest can be read.
    pub(super) fn discard(&mut self, path: &[Step]) {
        match (&mut self.value, path) {
            (value, []) => *value = Value::Broken,
            (Value::Map(mapping), [Step::Key(key)]) => {
                mapping.entries.retain(|(other, _)| other.name != *key);
                mapping.reported.push(key.clone());
            }
            (Value::Map(mapping), [Step::Key(key), rest @ ..]) => {
                let found = mapping.entries.iter_mut().find(|(other, _)| other.name == *key);
                if let Some((_, value)) = found {
                    value.discard(rest);
                }
            }
            (Value::List(elements), [Step::Index(index), rest @ ..]) => {
                if let Some(element) = elements.get_mut(*index) {
                    element.discard(rest);
                }
            }
            _ => {}
        }
    }

    /// The node at a path, or the nearest one above it.
    pub(super) fn nearest(&self, path: &[Step]) -> &Self {
        let next = match (&self.value, path.first()) {
            (Value::Map(_), Some(Step::Key(key))) => self.get(key),
            (Value::List(elements), Some(Step::Index(index))) => elements.get(*index),
            _ => None,
        };
        match (next, path) {
            (Some(node), [_, rest @ ..]) => node.nearest(rest),
            _ => self,
        }
    }
}

/// What the parser says, at its place. The words about the place itself are cut off, since it is shown.
fn syntax_error(text: &str, error: &serde_saphyr::Error) -> ConfigError {
    let location = error.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
    let start = byte_of(text, location.line(), location.column());
    if let serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } = error {
        return ConfigError::new(start..start + key.len(), format!("the key {key:?} is there twice"));
    }
    let rendered = error.render();
    let message = rendered.lines().next().unwrap_or("invalid YAML");
    let message = message.split_once(" at line ").map_or(message, |(before, _)| before);
    ConfigError::new(start..start, message)
}

/// The byte at a line and column that are counted from 1; the last one where they lie outside.
fn byte_of(text: &str, line: u64, column: u64) -> usize {
    let [line, column] = [line, column].map(|number| usize::try_from(number).unwrap_or(1).saturating_sub(1));
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let inside = text.get(before..).unwrap_or_default();
    let offset = inside.char_indices().nth(column).map_or(inside.len(), |(byte, _)| byte);
    before + offset
}

fn range<T>(spanned: &Spanned<T>) -> Range<usize> {
    let span = spanned.referenced.span();
    let start = usize::try_from(span.byte_offset().unwrap_or(0)).unwrap_or(0);
    let length = usize::try_from(span.byte_len().unwrap_or(0)).unwrap_or(0);
    start..start + length
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let span = range(&spanned);
        Ok(Self { value: spanned.value, span })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Large(value), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(Text { text: value.to_owned(), ..Text::default() }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Value::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut mapping = Mapping::default();
        while let Some(key) = access.next_key::<Spanned<String>>()? {
            let span = range(&key);
            let value = access.next_value()?;
            mapping.entries.push((Key { name: key.value, span }, value));
        }
        Ok(Value::Map(mapping))
    }
}
