//! Users to forget: `suppress`, `unsuppress`, `suppressions list`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use millrace_bus::{Bus, CancellationToken};
use millrace_event_model::topics::CONTROL;
use millrace_event_model::{Control, KeyHasher, PartitionKey, SourceId, visible};
use millrace_privacy::Suppressions;
use millrace_service::config::{Config, Mode};
use millrace_state::{Store, existing_workspace_key};
use serde_json::json;

use super::operate::say;
use crate::cli::{Output, Place, UserArgs};
use crate::exit::Failure;
use crate::installation::{Installation, read_config};
use crate::output;

/// `millrace suppress USER_ID`.
pub(crate) async fn suppress(
    place: &Place,
    args: &UserArgs,
    reason: String,
    output: Output,
) -> Result<(), Failure> {
    let (bus, user) = named(place, args).await?;
    let mut suppressions = Suppressions::default();
    let mut heed = |word: &Control| suppressions.hear(word).map_err(|full| Failure::Failed(full.to_string()));
    hear(&bus, |word| heed(&word)).await?;
    let word = Control::Suppress { user, source: args.source.clone(), reason, at: Utc::now() };
    // One too many would make ingest take no events at all.
    heed(&word)?;
    say(&bus, &word, "user.suppressed", &word.subject()).await?;
    let json = json!({"user": user, "source": args.source, "suppressed": true});
    let text =
        format!("no more events of this user are stored ({}); what is stored already stays", word.subject());
    output::result(output, &json, text);
    Ok(())
}

/// `millrace unsuppress USER_ID`.
pub(crate) async fn unsuppress(place: &Place, args: &UserArgs, output: Output) -> Result<(), Failure> {
    let (bus, user) = named(place, args).await?;
    let word = Control::Unsuppress { user, source: args.source.clone(), at: Utc::now() };
    say(&bus, &word, "user.unsuppressed", &word.subject()).await?;
    let json = json!({"user": user, "source": args.source, "suppressed": false});
    output::result(output, &json, format!("events of this user are stored again ({})", word.subject()));
    Ok(())
}

/// `millrace suppressions list [USER_ID]`.
pub(crate) async fn list(place: &Place, user_id: Option<&str>, output: Output) -> Result<(), Failure> {
    let config = read_config(place, Mode::Dev)?;
    let only = match user_id {
        Some(id) => Some(user(&config, id).await?),
        None => None,
    };
    let bus = Installation::attach(&config, place)?;
    let mut present = BTreeMap::new();
    hear(&bus, |word| {
        heed(&mut present, word);
        Ok(())
    })
    .await?;
    let mut present: Vec<Suppressed> = present.into_values().collect();
    present.retain(|suppressed| only.is_none_or(|only| suppressed.user == only));
    present.sort_by_key(|suppressed| suppressed.at);
    if output == Output::Json {
        for Suppressed { user, source, reason, at } in &present {
            output::line(json!({"user": user, "source": source, "reason": reason, "at": at}).to_string());
        }
        return Ok(());
    }
    let count = present.len();
    let rows = present.into_iter().map(|suppressed| {
        vec![
            suppressed.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            suppressed.user.to_hex(),
            suppressed.source.map_or("all".to_owned(), String::from),
            suppressed.reason,
        ]
    });
    output::line(output::table(&["since", "user", "source", "why"], rows));
    output::line(format!("({count} suppressions)"));
    Ok(())
}

/// Kafka, and the user as it is named there.
async fn named(place: &Place, args: &UserArgs) -> Result<(Bus, PartitionKey), Failure> {
    let config = read_config(place, Mode::Dev)?;
    if let Some(id) = &args.source
        && !config.sources.iter().any(|source| source.id == *id)
    {
        let known: Vec<&str> = config.sources.iter().map(|source| source.id.as_str()).collect();
        return Err(Failure::Usage(format!(
            "there is no source {:?} in the config; there are: {}",
            id.as_str(),
            known.join(", ")
        )));
    }
    let user = user(&config, &args.user_id).await?;
    Ok((Installation::attach(&config, place)?, user))
}

/// The user's keyed hash, as ingest will make it of the id in an event.
async fn user(config: &Config, id: &str) -> Result<PartitionKey, Failure> {
    let id = visible(Cow::Borrowed(id));
    if id.is_empty() {
        return Err(Failure::Usage("the user id is empty".to_owned()));
    }
    let store = Store::open(&config.state)?.child(config.workspace.as_str());
    let key = existing_workspace_key(&store).await?.ok_or_else(|| {
        Failure::Usage(format!(
            "the state in {} has no workspace key, so nothing has run on it: a user would be named in a way that nobody knows. Is it the state of the running installation?",
            config.state
        ))
    })?;
    Ok(KeyHasher::new(&key).user(&id))
}

/// All that the operators have said until now, in order.
async fn hear(bus: &Bus, mut heed: impl FnMut(Control) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut operators = bus.follow(&CONTROL.of(bus.workspace())).await?;
    let never = CancellationToken::new();
    while !operators.is_current() {
        for word in operators.next(&never).await? {
            heed(word)?;
        }
    }
    Ok(())
}

/// A user who is suppressed now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Suppressed {
    user: PartitionKey,
    source: Option<SourceId>,
    reason: String,
    at: DateTime<Utc>,
}

/// Of each user and source the last word counts.
fn heed(present: &mut BTreeMap<String, Suppressed>, word: Control) {
    let subject = word.subject();
    match word {
        Control::Suppress { user, source, reason, at } => {
            present.insert(subject, Suppressed { user, source, reason, at });
        }
        Control::Unsuppress { .. } => {
            present.remove(&subject);
        }
        Control::Pause { .. } | Control::Resume { .. } => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_user_and_source_is_listed() {
        let at = DateTime::UNIX_EPOCH;
        let user = KeyHasher::new(&[7; 32]).user("jane");
        let suppress = |source: Option<&str>, reason: &str| {
            let source = source.map(|id| id.parse().unwrap());
            Control::Suppress { user, source, reason: reason.to_owned(), at }
        };
        let words = vec![
            suppress(None, "first"),
            suppress(Some("web"), "at web"),
            suppress(None, "second"),
            Control::Pause { destination: "hook".parse().unwrap(), reason: "x".to_owned(), at },
        ];
        let reasons = |words: Vec<Control>| {
            let mut present = BTreeMap::new();
            words.into_iter().for_each(|word| heed(&mut present, word));
            present.into_values().map(|one| one.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(words.clone()), ["second", "at web"]);
        let taken_back = [words, vec![Control::Unsuppress { user, source: None, at }]].concat();
        assert_eq!(reasons(taken_back), ["at web"]);
    }
}
