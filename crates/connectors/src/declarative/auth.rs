//! Credentials of an instance: what goes into each request, and what is made when it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millrace_service::Secret;
use millrace_transform::Scope;

use super::compile::LANGUAGE;
use super::spec::{Auth, Encoding};
use crate::http::{OAuth2, Signer};

/// A header or query parameter with a credential, and the signer.
pub(super) struct Credentials {
    pub(super) headers: Vec<(String, String)>,
    pub(super) query: Vec<(String, String)>,
    pub(super) signer: Signer,
}

/// Renders the credentials with the settings. The error names the template's key.
pub(super) fn credentials(auth: &Auth, settings: &Scope) -> Result<Credentials, String> {
    let text = |key: &str, template: &str| text(key, template, settings);
    let header = |name: &str, value: String| Credentials {
        headers: vec![(name.to_lowercase(), value)],
        query: Vec::new(),
        signer: Signer::None,
    };
    let signed = |signer: Signer| Credentials { headers: Vec::new(), query: Vec::new(), signer };
    Ok(match auth {
        Auth::None => signed(Signer::None),
        Auth::Bearer { token } => header("authorization", format!("Bearer {}", text("token", token)?)),
        Auth::Basic { username, password } => {
            let pair = format!("{}:{}", text("username", username)?, text("password", password)?);
            header("authorization", format!("Basic {}", STANDARD.encode(pair)))
        }
        Auth::Header { name, value } => header(name, text("value", value)?),
        Auth::Query { name, value } => Credentials {
            headers: Vec::new(),
            query: vec![(name.clone(), text("value", value)?)],
            signer: Signer::None,
        },
        Auth::Hmac { header, key, prefix, encoding } => signed(Signer::Hmac {
            key: Secret::from(text("key", key)?),
            header: header.to_lowercase(),
            prefix: prefix.clone(),
            base64: *encoding == Encoding::Base64,
        }),
        Auth::Oauth2Client { token_url, client_id, client_secret, scope } => signed(Signer::OAuth2(OAuth2 {
            token_url: text("token_url", token_url)?,
            client_id: text("client_id", client_id)?,
            client_secret: Secret::from(text("client_secret", client_secret)?),
            refresh_token: None,
            scope: scope.clone(),
            fields: Vec::new(),
        })),
        Auth::Oauth2Refresh { token_url, client_id, client_secret, refresh_token } => {
            signed(Signer::OAuth2(OAuth2 {
                token_url: text("token_url", token_url)?,
                client_id: text("client_id", client_id)?,
                client_secret: Secret::from(text("client_secret", client_secret)?),
                refresh_token: Some(Secret::from(text("refresh_token", refresh_token)?)),
                scope: None,
                fields: Vec::new(),
            }))
        }
    })
}

fn text(key: &str, template: &str, settings: &Scope) -> Result<String, String> {
    // It was compiled when the file was read, so only its values can be wrong.
    let template = LANGUAGE.template(template).map_err(|error| format!("http.auth.{key}: {error}"))?;
    match template.render(settings, str::to_owned) {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(missed)) => Err(format!("http.auth.{key} needs {missed}, which is not given")),
        Err(error) => Err(format!("http.auth.{key}: {error}")),
    }
}
