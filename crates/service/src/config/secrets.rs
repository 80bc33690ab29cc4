//! Secrets that stand in the file itself.
//!
//! A config file is committed, copied and mailed. Outside `dev` a secret therefore comes from the
//! environment or a file, and a default inside a reference counts as standing in the file.

use super::error::ConfigError;
use super::interpolate::literal_part;
use super::tree::{Node, Text, Value};

/// Names whose values are secrets, and ends of such names (`hook_secret`, `sasl.password`), in lower case
/// without `_`, `-` and `.`.
const SECRET_NAMES: [&str; 11] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "apikey",
    "writekey",
    "privatekey",
    "accesskey",
    "secretkey",
    "authorization",
];

/// Reports each literal secret under the node.
pub(super) fn find_literals(node: &Node, errors: &mut Vec<ConfigError>) {
    visit_literals(node, &mut |secret, message| errors.push(refuse(secret, &message)));
}

/// The text with a `*` for each byte of a literal secret: errors show lines of the file.
pub(super) fn hide(text: &str, root: &Node) -> String {
    let mut shown = text.as_bytes().to_vec();
    visit_literals(root, &mut |secret, _| {
        for byte in shown.get_mut(secret.span.clone()).unwrap_or_default() {
            if *byte != b'\n' {
                *byte = b'*';
            }
        }
    });
    // Spans begin and end between characters, so what is left is whole characters.
    String::from_utf8_lossy(&shown).into_owned()
}

/// Calls `found` with each literal secret and what to say of it.
fn visit_literals(node: &Node, found: &mut impl FnMut(&Node, String)) {
    match &node.value {
        Value::List(elements) => {
            for element in elements {
                visit_literals(element, found);
            }
        }
        Value::Map(mapping) => {
            for (key, value) in &mapping.entries {
                if is_secret(&key.name) {
                    visit_secret(&key.name, value, found);
                } else {
                    visit_literals(value, found);
                }
            }
        }
        Value::Text(text) if has_password(&literal_part(written(text))) => {
            found(node, "a password stands in this URL".to_owned());
        }
        _ => {}
    }
}

/// The value of a secret's name: a scalar, or a list of them while one is being rotated.
fn visit_secret(name: &str, node: &Node, found: &mut impl FnMut(&Node, String)) {
    let literal = match &node.value {
        Value::List(elements) => {
            for element in elements {
                visit_secret(name, element, found);
            }
            return;
        }
        Value::Map(_) => return visit_literals(node, found),
        Value::Text(text) => !literal_part(written(text)).is_empty(),
        Value::Int(_) | Value::Large(_) | Value::Float(_) => true,
        _ => false,
    };
    if literal {
        found(node, format!("{name:?} is a secret and stands in the file"));
    }
}

fn written(text: &Text) -> &str {
    text.written.as_deref().unwrap_or(&text.text)
}

fn refuse(node: &Node, message: &str) -> ConfigError {
    ConfigError::new(node.span.clone(), message).help(
        "outside dev a secret comes from the environment or a file: ${NAME} or ${file:/run/secrets/name}",
    )
}

fn is_secret(name: &str) -> bool {
    let bare: String =
        name.chars().filter(|c| !matches!(c, '_' | '-' | '.')).collect::<String>().to_lowercase();
    SECRET_NAMES.iter().any(|secret| bare.ends_with(secret))
}

/// `scheme://user:password@host`.
fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_ends_like_a_secret_is_one() {
        for name in
            ["secret", "write_key", "api-key", "apiKey", "client_secret", "sasl.password", "AUTH_TOKEN"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["key", "primary_key", "url", "max_tokens", "secrets_folder", "user"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_found_and_a_reference_is_none() {
        assert!(has_password(&literal_part("postgres://me:hunter2@db/x")));
        assert!(has_password(&literal_part("postgres://me:${PW:-hunter2}@db/x")));
        for fine in ["postgres://me:${PW}@db/x", "postgres://me@db/x", "http://h:80/a@b", "a:b@c", "${URL}"] {
            assert!(!has_password(&literal_part(fine)), "{fine}");
        }
    }
}
