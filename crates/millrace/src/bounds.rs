//! The config of ingest's bounds and certificate, as the stage takes it; and what is wrong with it.

use millrace_ingest::{Counted, Limits, RateLimit, TlsFiles};
use millrace_service::config::{Config, ConfigError, IngestConfig, LimitsConfig, RateLimitConfig, Step};

/// The limits of the file, and the usual ones where it has none.
pub(crate) fn limits(config: &LimitsConfig) -> Limits {
    let usual = Limits::default();
    let size = |written: Option<millrace_service::config::Size>, usual| written.map_or(usual, |size| size.0);
    let count = |written: Option<millrace_service::config::Count>, usual| {
        written.and_then(|count| usize::try_from(count.0).ok()).unwrap_or(usual)
    };
    let period =
        |written: Option<millrace_service::config::Period>, usual| written.map_or(usual, |period| period.0);
    Limits {
        body_bytes: size(config.body_bytes, usual.body_bytes),
        event_bytes: size(config.event_bytes, usual.event_bytes),
        fields_per_event: count(config.fields_per_event, usual.fields_per_event),
        events_per_request: count(config.events_per_request, usual.events_per_request),
        connections: count(config.connections, usual.connections),
        head_timeout: period(config.head_timeout, usual.head_timeout),
        idle_timeout: period(config.idle_timeout, usual.idle_timeout),
        requests: count(config.requests, usual.requests),
        bytes_in_flight: size(config.bytes_in_flight, usual.bytes_in_flight),
        body_timeout: period(config.body_timeout, usual.body_timeout),
        ack_timeout: period(config.ack_timeout, usual.ack_timeout),
        queue_bytes: size(config.queue_bytes, usual.queue_bytes),
        linger: period(config.linger, usual.linger),
        lame_duck: period(config.lame_duck, usual.lame_duck),
        drain: period(config.drain, usual.drain),
    }
}

/// Where the certificate is.
pub(crate) fn tls(config: &IngestConfig) -> Option<TlsFiles> {
    config.tls.as_ref().map(|tls| TlsFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_ca: tls.client_ca.clone(),
    })
}

/// The limit of one source.
pub(crate) fn rate_limit(config: RateLimitConfig) -> Option<RateLimit> {
    let (counted, rate) = match (config.requests, config.events) {
        (Some(rate), _) => (Counted::Requests, rate),
        (None, rate) => (Counted::Events, rate?),
    };
    let amount = rate.amount.try_into().ok()?;
    let burst = config.burst.and_then(|burst| burst.0.try_into().ok()).unwrap_or(amount);
    Some(RateLimit { counted, amount, period: rate.period, burst })
}

/// Limits that contradict each other, and certificates that cannot be used.
pub(crate) fn judge(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut report = |section: &str, key: &str, message: String| {
        let path = [Step::from("ingest"), Step::from(section), Step::from(key)];
        errors.push(config.document.error(&path, message));
    };
    for conflict in limits(&config.ingest.limits).conflicts() {
        report("limits", conflict.limit, format!("`{}` {}", conflict.limit, conflict.problem));
    }
    if let Some(Err(error)) = tls(&config.ingest).map(|files| files.check()) {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        report("tls", error.file().key(), format!("{error}{cause}"));
    }
    errors
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use millrace_service::config::{Environment, Mode, parse};

    use super::*;

    #[test]
    fn certificates_and_limits_are_judged_each_with_its_place() {
        let text = "workspace: acme
ingest:
  tls: { certificate: cert.pem, key: key.pem }
  limits: { body_bytes: 100MB, event_bytes: 1MB, drain: 2s }
";
        let environment = Environment { variable: &|_| None, file: &|path| std::fs::read_to_string(path) };
        let config = parse("/nowhere/millrace.yaml", text, &environment, Mode::Service).unwrap();
        let errors = config.document.errors(judge(&config));
        assert_eq!(
            format!("{errors:?}"),
            "/nowhere/millrace.yaml has 5 errors
/nowhere/millrace.yaml:3:23: cannot read /nowhere/cert.pem: No such file or directory (os error 2)
/nowhere/millrace.yaml:4:11: `bytes_in_flight` must be at least 200000000, which is twice `body_bytes` (100000000): the largest body would never be taken
/nowhere/millrace.yaml:4:11: `queue_bytes` must be at least 200000000, which is twice `body_bytes` (100000000): the largest body would never be taken
/nowhere/millrace.yaml:4:45: `event_bytes` must not exceed 900KiB: the record of a larger event fits no topic
/nowhere/millrace.yaml:4:57: `drain` must be at least `ack_timeout` (4s), for which requests under way may wait"
        );
        assert_eq!(tls(&config.ingest).unwrap().key, Path::new("/nowhere/key.pem"));
    }

    #[test]
    fn a_burst_is_what_the_rate_allows_in_its_time_unless_it_is_given() {
        let text = r#"workspace: acme
sources:
  - { id: a, kind: http, write_key: a, rate_limit: { requests: 60/m } }
  - { id: b, kind: http, write_key: b, rate_limit: { events: 1000/s, burst: 5000 } }
"#;
        let environment = Environment { variable: &|_| None, file: &|path| std::fs::read_to_string(path) };
        let config = parse("millrace.yaml", text, &environment, Mode::Dev).unwrap();
        let limits: Vec<_> =
            config.sources.iter().map(|source| rate_limit(source.rate_limit.unwrap())).collect();
        let [Some(a), Some(b)] = limits[..] else { unreachable!("two limits: {limits:?}") };
        assert_eq!(
            (a.counted, a.amount.get(), a.period.as_secs(), a.burst.get()),
            (Counted::Requests, 60, 60, 60)
        );
        assert_eq!(
            (b.counted, b.amount.get(), b.period.as_secs(), b.burst.get()),
            (Counted::Events, 1000, 1, 5000)
        );
    }
}
