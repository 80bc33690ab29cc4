//! The demo's config: the same file that a user would write.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::exit::Failure;

/// The demo's write key.
pub(super) const WRITE_KEY: &str = "demo-write-key";
/// The demo's webhook secret, decoded: it protects nothing.
pub(super) const SECRET: &[u8; 32] = b"the demo's secret, not a secret!";
/// The demo's sync.
pub(super) const SYNC: &str = "big-spenders";

/// The config's text. `receiver` is where the webhook sends to.
///
/// # Errors
/// The path of this program is not known.
pub(super) fn text(receiver: &str) -> Result<String, Failure> {
    let program = std::env::current_exe()?;
    let program =
        program.to_str().ok_or_else(|| Failure::Failed("this program's path is not UTF-8".to_owned()))?;
    let secret = format!("whsec_{}", STANDARD.encode(SECRET));
    Ok(format!(
        r#"workspace: demo
state: "${{MILLRACE_DATA_DIR}}/state"
ingest: {{ listen: "127.0.0.1:0" }}
admin: {{ listen: "127.0.0.1:0" }}
sources:
  - {{ id: web, kind: http, write_key: {WRITE_KEY}, privacy: strict }}
  - {{ id: crm, kind: airbyte, command: ["{program}", demo-source], settings: {{ count: 120 }}, privacy: strict, schedule: 1d }}
warehouses:
  - {{ id: lake, kind: lake, settings: {{ url: "${{MILLRACE_DATA_DIR}}/lake" }} }}
destinations:
  - {{ id: hook, kind: webhook, settings: {{ url: "{receiver}", secret: "{secret}", allow_private: true }} }}
connections:
  - {{ from: web, to: lake, schema: web, schedule: 500ms }}
  - {{ from: web, to: hook, when: "type == 'track' and event == 'Order Completed'" }}
  - {{ from: crm, to: lake, schema: crm, schedule: 500ms }}
syncs:
  - id: {SYNC}
    from: lake
    model: SELECT user_id, company, spend, seats FROM crm.customers WHERE spend > 500
    key: [user_id]
    to: hook
    mode: upsert
    map: {{ userId: user_id, traits.company: company, traits.spend: spend, traits.seats: seats }}
    schedule: manual
privacy:
  strict: {{ detect: all, action: mask }}
"#
    ))
}

/// The config as it is kept beside the data: with the folder's name instead of the variable.
pub(super) fn to_keep(text: &str, data_dir: &Path) -> String {
    let folder = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    text.replace("${MILLRACE_DATA_DIR}", &folder.display().to_string())
}
