//! `${NAME}`, `${NAME:-default}`, `${NAME:?message}` and `${file:/path}` within one scalar.
//!
//! It works on scalars that the YAML parser has already cut out, so whatever a variable holds stays one
//! scalar: it cannot become a key, a list or another document. `$${` stands for `${`.

use std::path::Path;

/// Where references are looked up. The two lookups are functions so that a test needs neither the
/// process's environment nor files.
pub struct Environment<'a> {
    /// The value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The content of a file, as text.
    pub file: &'a dyn Fn(&Path) -> std::io::Result<String>,
}

/// A reference that cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// A piece of a scalar.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Variable { name: &'a str, or: Or<'a> },
    File(&'a str),
}

/// What a variable that is not set gives.
#[derive(Debug, PartialEq, Eq)]
enum Or<'a> {
    Error,
    Default(&'a str),
    Message(&'a str),
}

/// The text with its references resolved, or none if it has none.
pub(super) fn interpolate(text: &str, environment: &Environment<'_>) -> Result<Option<String>, Unresolved> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut resolved = String::with_capacity(text.len());
    for piece in pieces(text)? {
        match piece {
            Piece::Literal(literal) => resolved.push_str(literal),
            Piece::Variable { name, or } => resolved.push_str(&variable(name, &or, environment)?),
            Piece::File(path) => resolved.push_str(&file(path, environment)?),
        }
    }
    Ok(Some(resolved))
}

/// What of the text would stand in the config file itself: its literal parts and the defaults of its
/// references.
pub(super) fn literal_part(text: &str) -> String {
    let Ok(pieces) = pieces(text) else { return text.to_owned() };
    let literal = |piece: Piece<'_>| match piece {
        Piece::Literal(literal) | Piece::Variable { or: Or::Default(literal), .. } => literal.to_owned(),
        Piece::Variable { .. } | Piece::File(_) => String::new(),
    };
    pieces.into_iter().map(literal).collect()
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Unresolved> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find("${") {
        let (before, from_dollar) = rest.split_at(dollar);
        if let Some(literal) = before.strip_suffix('$') {
            pieces.push(Piece::Literal(literal));
            pieces.push(Piece::Literal("${"));
            rest = from_dollar.trim_start_matches('$').strip_prefix('{').unwrap_or_default();
            continue;
        }
        pieces.push(Piece::Literal(before));
        let inside = from_dollar.strip_prefix("${").unwrap_or_default();
        let Some((reference, after)) = inside.split_once('}') else {
            return Err(malformed("a reference that begins with ${ is not closed"));
        };
        pieces.push(parse_reference(reference)?);
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

fn parse_reference(reference: &str) -> Result<Piece<'_>, Unresolved> {
    if let Some(path) = reference.strip_prefix("file:") {
        return Ok(Piece::File(path));
    }
    let name_length =
        reference.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, operator) = reference.split_at(name_length);
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    let or = match operator {
        "" => Or::Error,
        _ => match (operator.strip_prefix(":-"), operator.strip_prefix(":?")) {
            (Some(default), _) => Or::Default(default),
            (_, Some(message)) => Or::Message(message),
            _ => return Err(malformed("a reference is malformed")),
        },
    };
    if !starts_well || reference.contains("${") {
        return Err(malformed("a reference is malformed"));
    }
    Ok(Piece::Variable { name, or })
}

fn malformed(message: &str) -> Unresolved {
    let help = "the forms are ${NAME}, ${NAME:-default}, ${NAME:?message} and ${file:/path}, \
                without another reference inside; $${ stands for ${ itself";
    Unresolved { message: message.to_owned(), help: Some(help.to_owned()) }
}

/// Without a default a variable must be set; with one, or with a message, it must not be empty either.
fn variable(name: &str, or: &Or<'_>, environment: &Environment<'_>) -> Result<String, Unresolved> {
    let value = (environment.variable)(name);
    match (value, or) {
        (Some(value), Or::Error) => Ok(value),
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Or::Default(default)) => Ok((*default).to_owned()),
        (_, Or::Message(message)) => Err(Unresolved {
            message: format!("the environment variable {name} is not set: {message}"),
            help: None,
        }),
        (None, Or::Error) => Err(Unresolved {
            message: format!("the environment variable {name} is not set"),
            help: Some(format!("set it, or give a default where it is no secret: ${{{name}:-default}}")),
        }),
    }
}

/// A file's text without the newline that editors put at its end.
fn file(path: &str, environment: &Environment<'_>) -> Result<String, Unresolved> {
    match (environment.file)(Path::new(path)) {
        Ok(content) => {
            let line = content.strip_suffix('\n').unwrap_or(&content);
            Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
        }
        Err(error) => {
            Err(Unresolved { message: format!("cannot read the file {path:?}: {error}"), help: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn resolve(text: &str) -> Result<Option<String>, String> {
        let variable = |name: &str| match name {
            "KEY" => Some("k-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${KEY}".to_owned()),
            _ => None,
        };
        let file = |path: &Path| match path.to_str() {
            Some("/run/secrets/x") => Ok("from a file\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        interpolate(text, &Environment { variable: &variable, file: &file }).map_err(|error| error.message)
    }

    #[test]
    fn each_form_gives_what_compose_gives() {
        for (text, expected) in [
            ("${KEY}", "k-1"),
            ("a ${KEY} b ${KEY}", "a k-1 b k-1"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b?c}", "a:-b?c"),
            ("${KEY:-d}", "k-1"),
            ("${KEY:?must be there}", "k-1"),
            ("${file:/run/secrets/x}", "from a file"),
            ("$${KEY}", "${KEY}"),
            ("x$${KEY} ${KEY}", "x${KEY} k-1"),
            ("${NESTED}", "${KEY}"),
        ] {
            assert_eq!(resolve(text), Ok(Some(expected.to_owned())), "{text}");
        }
        for plain in ["", "$KEY", "{KEY}", "a $ b", "$$"] {
            assert_eq!(resolve(plain), Ok(None), "{plain}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_an_error() {
        for (text, expected) in [
            ("${NONE}", "the environment variable NONE is not set"),
            ("${NONE:?ask the owner}", "the environment variable NONE is not set: ask the owner"),
            ("${EMPTY:?ask}", "the environment variable EMPTY is not set: ask"),
            ("${KEY", "a reference that begins with ${ is not closed"),
            ("${}", "a reference is malformed"),
            ("${1A}", "a reference is malformed"),
            ("${KEY+x}", "a reference is malformed"),
            ("${NONE:-${KEY}}", "a reference is malformed"),
        ] {
            assert_eq!(resolve(text), Err(expected.to_owned()), "{text}");
        }
        let missing = resolve("${file:/nothing}");
        assert!(matches!(missing, Err(text) if text.starts_with("cannot read the file \"/nothing\"")));
    }

    #[test]
    fn a_default_is_a_literal() {
        assert_eq!(literal_part("${KEY}"), "");
        assert_eq!(literal_part("${file:/x}"), "");
        assert_eq!(literal_part("${KEY:-hunter2}"), "hunter2");
        assert_eq!(literal_part("a${KEY}b"), "ab");
    }
}
