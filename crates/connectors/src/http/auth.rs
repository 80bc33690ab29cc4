//! Credentials that are made when a request is sent: OAuth 2 tokens and keyed hashes.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, Mac};
use millrace_connector::{ConnectorError, HttpRequest, RequestBody};
use millrace_service::Secret;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::{Mutex, MutexGuard};

use super::client::{Answer, Client};
use super::profile::{OAuth2, Signer};

/// The code of an error that says: the credentials are refused.
pub(super) const REFUSED: &str = "credentials_refused";

/// A token is renewed so long before it ends, so that none ends on the way.
const RENEW_BEFORE: TimeDelta = TimeDelta::seconds(60);

/// How long a token is taken to be good whose answer does not say.
const UNSAID_LIFE: TimeDelta = TimeDelta::minutes(30);

/// A token that says it is good for longer is renewed after so long all the same: one that lives for ever
/// would be none the worse for it, and no calendar has so many years as a number can say.
const MAX_LIFE_SECONDS: i64 = 365 * 24 * 60 * 60;

/// Signs the requests of one destination.
#[derive(Debug)]
pub(super) struct Credentials {
    signer: Signer,
    /// Held while a token is fetched, so that only one is fetched at a time.
    token: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    token: Option<Token>,
    /// Where the vendor gives a new refresh token with each token, the last one. It is not kept over a
    /// restart: such vendors let the first one be used again, or the operator must renew it.
    refresh: Option<Secret>,
}

#[derive(Debug, Clone)]
struct Token {
    text: Secret,
    until: DateTime<Utc>,
}

/// What a request needs before it is sent: a token, where there are any.
pub(super) struct Ready(Option<Token>);

impl Ready {
    /// The token, or the one that came in its place while the request waited for its turn.
    fn newest(&self, held: &Mutex<Held>) -> Option<Token> {
        let newer = held.try_lock().ok().and_then(|held| held.token.clone());
        newer.or_else(|| self.0.clone())
    }
}

impl Credentials {
    pub(super) fn new(signer: Signer) -> Self {
        Self { signer, token: Mutex::default() }
    }

    /// Gets a token, where one is needed and there is none. A request may be sent with it for [`RENEW_BEFORE`].
    /// `None`: until then others were getting one.
    pub(super) async fn ready(
        &self,
        client: &Client,
        until: Instant,
    ) -> Result<Option<Ready>, ConnectorError> {
        let Signer::OAuth2(oauth) = &self.signer else { return Ok(Some(Ready(None))) };
        // Only the wait for others ends then: the answer to a request for a token may be the one that tells how to get
        // the next.
        let Ok(held) = tokio::time::timeout_at(until.into(), self.token.lock()).await else {
            return Ok(None);
        };
        Ok(Some(Ready(Some(current(held, client, oauth, None).await?))))
    }

    /// Sends with the credentials; a token that is refused is renewed once.
    pub(super) async fn send(
        &self,
        client: &Client,
        request: &HttpRequest,
        ready: &Ready,
    ) -> Result<Answer, ConnectorError> {
        match &self.signer {
            Signer::Hmac { key, header, prefix, base64 } => {
                let hash = hash(key, &request.body, *base64);
                client.send(request, &[(header, format!("{prefix}{hash}"))]).await
            }
            Signer::OAuth2(oauth) => {
                let token = match ready.newest(&self.token) {
                    Some(token) => token,
                    None => self.token(client, oauth, None).await?,
                };
                let answer = client.send(request, &[("authorization", bearer(&token))]).await?;
                if answer.status != 401 {
                    return Ok(answer);
                }
                let renewed = self.token(client, oauth, Some(&token)).await?;
                client.send(request, &[("authorization", bearer(&renewed))]).await
            }
            Signer::None => client.send(request, &[]).await,
        }
    }

    async fn token(
        &self,
        client: &Client,
        oauth: &OAuth2,
        refused: Option<&Token>,
    ) -> Result<Token, ConnectorError> {
        current(self.token.lock().await, client, oauth, refused).await
    }
}

/// The token, fetched where there is none, it is about to end, or it is the one that was refused.
async fn current(
    mut held: MutexGuard<'_, Held>,
    client: &Client,
    oauth: &OAuth2,
    refused: Option<&Token>,
) -> Result<Token, ConnectorError> {
    if let Some(token) = &held.token
        && token.until > client.now()
        && refused.is_none_or(|refused| refused.text.expose() != token.text.expose())
    {
        return Ok(token.clone());
    }
    let request = token_request(oauth, held.refresh.as_ref());
    let answer = client.send(&request, &[]).await?;
    let body = answer.json().unwrap_or(Value::Null);
    let Some(text) = body.get("access_token").and_then(Value::as_str).filter(|_| answer.status < 300) else {
        return Err(no_token(&answer));
    };
    if let Some(refresh) = body.get("refresh_token").and_then(Value::as_str) {
        held.refresh = Some(Secret::from(refresh));
    }
    let token = Token { text: Secret::from(text), until: client.now() + life(&body) };
    held.token = Some(token.clone());
    Ok(token)
}

/// How long the token of an answer is used.
fn life(body: &Value) -> TimeDelta {
    let said = body.get("expires_in").and_then(Value::as_i64);
    let life = said.map_or(UNSAID_LIFE, |seconds| TimeDelta::seconds(seconds.clamp(0, MAX_LIFE_SECONDS)));
    (life - RENEW_BEFORE).max(TimeDelta::zero())
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.text.expose())
}

fn token_request(oauth: &OAuth2, newer: Option<&Secret>) -> HttpRequest {
    let mut form = vec![
        ("client_id".to_owned(), oauth.client_id.clone()),
        ("client_secret".to_owned(), oauth.client_secret.expose().to_owned()),
    ];
    match newer.or(oauth.refresh_token.as_ref()).filter(|_| oauth.refresh_token.is_some()) {
        Some(refresh) => {
            form.push(("grant_type".to_owned(), "refresh_token".to_owned()));
            form.push(("refresh_token".to_owned(), refresh.expose().to_owned()));
        }
        None => form.push(("grant_type".to_owned(), "client_credentials".to_owned())),
    }
    if let Some(scope) = &oauth.scope {
        form.push(("scope".to_owned(), scope.clone()));
    }
    form.extend(oauth.fields.iter().cloned());
    let mut request = HttpRequest::post(&oauth.token_url).header("accept", "application/json");
    request.body = RequestBody::Form(form);
    request
}

fn no_token(answer: &Answer) -> ConnectorError {
    let told = format!("the token endpoint at {} answered {} and gave no token", answer.host, answer.status);
    match answer.status {
        200..=299 if !answer.complete => {
            ConnectorError::retry("no_token", format!("{told}: its body is cut off, or too long"))
        }
        408 | 425 | 429 | 500..=599 => {
            let mut error = ConnectorError::retry("no_token", told);
            error.kind = millrace_connector::ErrorKind::Retry { after: answer.retry_after };
            error
        }
        _ => ConnectorError::pause(
            REFUSED,
            format!("{told}: check client_id, client_secret and refresh token"),
        ),
    }
}

fn hash(key: &Secret, body: &RequestBody, base64: bool) -> String {
    // HMAC takes keys of any length: this cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()) else { return String::new() };
    match body {
        RequestBody::Json(bytes) | RequestBody::JsonArray(bytes) => mac.update(bytes),
        RequestBody::Xml(text) => mac.update(text.as_bytes()),
        // Forms are encoded when they are sent; no vendor signs one.
        RequestBody::None | RequestBody::Form(_) => {}
    }
    let hash = mac.finalize().into_bytes();
    match base64 {
        true => STANDARD.encode(hash),
        false => hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
