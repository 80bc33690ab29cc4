//! What a file says of the vendor's API, as a [`Profile`].

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use millrace_connector::{HttpRequest, Rate};
use millrace_transform::{Expression, Scope};
use serde_json::Value;

use super::compile::{Compiled, LANGUAGE};
use super::mapper::percent_encoded;
use super::spec::{Batch, Ordering};
use crate::http::{AnswerRule, Check, Find, ItemResults, Join, JoinRule, Predicate, Profile, Signer};

/// Bytes of a batch where the file does not say: what most vendors take.
const DEFAULT_BATCH_BYTES: usize = 1_000_000;

/// What an instance adds to the file.
pub(super) struct Of<'i> {
    pub(super) settings: &'i Scope,
    pub(super) base_url: &'i str,
    pub(super) headers: &'i [(String, String)],
    pub(super) query: &'i [(String, String)],
    pub(super) signer: Signer,
}

/// The profile of an instance. The error says which part of the file has no value.
pub(super) fn profile(compiled: &Compiled, instance: Of<'_>) -> Result<Profile, String> {
    let spec = &compiled.spec;
    let mut profile = Profile::new(check(compiled, &instance)?);
    profile.signer = instance.signer;
    if let Some(timeout) = spec.http.timeout {
        profile.timeout = timeout.0;
    }
    if let Some(concurrency) = spec.concurrency {
        profile.concurrency = concurrency.max(1);
    }
    profile.rate = spec.rate_limit.as_ref().and_then(|limit| {
        let calls = NonZeroU32::new(limit.requests)?;
        Some(Rate { calls, per: limit.per.0 })
    });
    profile.ordered = spec.ordering == Ordering::User;
    if let Some(batch) = &spec.batch {
        profile.max_items = batch.max_items;
        profile.max_bytes = batch.max_bytes.map_or(DEFAULT_BATCH_BYTES, |size| size.0);
        profile.max_wait = batch.max_wait.map_or(Duration::ZERO, |wait| wait.0);
        let wrap = batch.wrap.as_ref().map(|at| wrapped(at, batch, instance.settings)).transpose()?;
        let arrays = compiled.actions.iter().filter_map(|action| {
            let array = action.array.clone()?;
            Some(JoinRule::path(action.path.tail(), Join::Arrays { at: vec![array], max: batch.max_items }))
        });
        profile.joins = arrays.chain(wrap).collect();
    }
    profile.hosts = match spec.http.allow_hosts.is_empty() {
        true => host_of(instance.base_url).into_iter().collect(),
        false => spec.http.allow_hosts.clone(),
    };
    profile.answers = answers(compiled);
    profile.items = items(compiled);
    Ok(profile)
}

fn wrapped(at: &str, batch: &Batch, settings: &Scope) -> Result<JoinRule, String> {
    let mut with = Vec::with_capacity(batch.with.len());
    for (name, source) in &batch.with {
        let told = |problem: String| format!("batch.with.{name}: {problem}");
        let expression = LANGUAGE.compile(source).map_err(|error| told(error.to_string()))?;
        with.push((name.clone(), expression.evaluate(settings).map_err(|error| told(error.to_string()))?));
    }
    let join = Join::Wrap { at: at.to_owned(), with, max: batch.max_items };
    Ok(JoinRule { path: String::new(), join })
}

fn host_of(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn check(compiled: &Compiled, instance: &Of<'_>) -> Result<Check, String> {
    let Some(check) = &compiled.spec.check else {
        return Ok(Check::Reach(format!("{}/", instance.base_url)));
    };
    let path = LANGUAGE.template(&check.path).map_err(|error| format!("check.path: {error}"))?;
    let path = path
        .render_full(instance.settings, percent_encoded)
        .map_err(|error| format!("check.path: {error}"))?;
    let path = path.map_err(|missed| format!("check.path needs {missed}, which is not given"))?;
    let mut request = HttpRequest::new(check.method.to_uppercase(), format!("{}{path}", instance.base_url));
    request.headers.extend_from_slice(instance.headers);
    request.query.extend_from_slice(instance.query);
    Ok(Check::Ask { request, expect: check.expect.clone() })
}

fn answers(compiled: &Compiled) -> Vec<AnswerRule> {
    let rules = compiled.spec.errors.iter().zip(&compiled.errors);
    rules
        .map(|(rule, when)| AnswerRule {
            status: rule.status.0.clone(),
            when: when.as_ref().map(|when| predicate(when, "body")),
            class: rule.class,
            message: rule.message.clone(),
        })
        .collect()
}

fn items(compiled: &Compiled) -> Option<ItemResults> {
    let result = compiled.spec.result.as_ref()?;
    let find = match (&result.index, &result.id) {
        (Some(index), _) => Find::Index { index: index.clone(), array: None },
        (None, Some(id)) => Find::Id { entry: id.entry.clone(), element: id.element.clone() },
        (None, None) => Find::Position,
    };
    let classes = compiled.classes.iter().zip(&result.classes);
    Some(ItemResults {
        status: result.status.0.clone(),
        at: result.per_record.clone(),
        find,
        ok: compiled.ok.as_ref().map(|ok| predicate(ok, "entry")),
        classes: classes.map(|(when, rule)| (predicate(when, "entry"), rule.class)).collect(),
        message: result.error.clone(),
    })
}

/// An expression over a value: its fields by name, and the whole under `whole`.
fn predicate(expression: &Arc<Expression>, whole: &'static str) -> Predicate {
    let expression = Arc::clone(expression);
    Arc::new(move |value: &Value| {
        let none = serde_json::Map::new();
        let fields = value.as_object().unwrap_or(&none);
        expression.holds(&Scope::new(fields, &[(whole, value)]))
    })
}
