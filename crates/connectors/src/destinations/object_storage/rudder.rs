//! RudderStack's `Config` of its destination S3 as our settings.

use millrace_event_model::Reason;
use serde_json::{Map, Value};

use crate::destinations::shared::rudder::{self, Config};

/// Our settings.
pub(super) fn settings(config: &Value) -> Result<Value, Reason> {
    let config = Config(config);
    if config.on("roleBasedAuth") {
        let told = "roleBasedAuth: give the process the role itself, and leave the keys out";
        return Err(Reason::new("unsupported_option", told));
    }
    let url = config.text("bucketName").map(|bucket| match config.text("prefix") {
        Some(prefix) => format!("s3://{bucket}/{}", prefix.trim_matches('/')),
        None => format!("s3://{bucket}"),
    });
    let names = [("access_key_id", "accessKeyID"), ("secret_access_key", "accessKey"), ("region", "region")];
    let options =
        names.iter().filter_map(|(ours, theirs)| Some(((*ours).to_owned(), config.text(theirs)?.into())));
    Ok(rudder::settings([
        ("url", url.map(Value::from)),
        ("storage_options", Some(Value::Object(options.collect::<Map<_, _>>()))),
    ]))
}
