//! Object stores by URL: which kind, and made of the environment and options.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};

/// How often a request is tried again, and for how long: whoever called tries again too, and says so
/// meanwhile.
const RETRIES: usize = 5;
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Whose protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    S3,
    Google,
    Azure,
}

impl Kind {
    /// The kind that a URL's scheme means, if it means one.
    pub(crate) fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "s3" | "s3a" => Some(Self::S3),
            "gs" => Some(Self::Google),
            "az" | "azure" | "adl" | "abfs" | "abfss" => Some(Self::Azure),
            _ => None,
        }
    }
}

/// The store of a URL's bucket, the URL of the bucket, and the path within it. The text of an error never
/// holds a value of an option: it may be a secret.
pub(crate) fn open(
    kind: Kind,
    location: &str,
    options: &BTreeMap<String, String>,
) -> Result<(Arc<dyn ObjectStore>, String, Path), String> {
    let (scheme, rest) = location.split_once("://").unwrap_or_default();
    let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(format!("no bucket is named; use one such as {scheme}://bucket/path"));
    }
    let prefix = Path::parse(path.trim_end_matches('/')).map_err(|error| error.to_string())?;
    let base = format!("{scheme}://{bucket}");
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    let objects: Arc<dyn ObjectStore> = match kind {
        Kind::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(&base).with_retry(retry);
            for (key, value) in options {
                builder = builder.with_config(option::<AmazonS3ConfigKey>(key)?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        Kind::Google => {
            let mut builder = GoogleCloudStorageBuilder::from_env().with_url(&base).with_retry(retry);
            for (key, value) in options {
                builder = builder.with_config(option::<GoogleConfigKey>(key)?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
        Kind::Azure => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(&base).with_retry(retry);
            for (key, value) in options {
                builder = builder.with_config(option::<AzureConfigKey>(key)?, value);
            }
            Arc::new(builder.build().map_err(|error| error.to_string())?)
        }
    };
    Ok((objects, base, prefix))
}

fn option<K: FromStr>(key: &str) -> Result<K, String> {
    key.to_ascii_lowercase()
        .parse()
        .map_err(|_| format!("there is no option {key:?}; they are those of the crate object_store"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn options(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_scheme_is_opened_with_the_options_of_its_store() {
        let cases = [
            (
                "s3://bucket/a/b",
                options(&[("region", "eu-central-1"), ("skip_signature", "true")]),
                "s3://bucket",
            ),
            ("gs://bucket/a/b/", options(&[("skip_signature", "true")]), "gs://bucket"),
            (
                "az://container/a/b",
                options(&[("account_name", "me"), ("skip_signature", "true")]),
                "az://container",
            ),
            ("abfss://c@me.dfs.core.windows.net/a/b", options(&[]), "abfss://c@me.dfs.core.windows.net"),
        ];
        for (location, options, base) in cases {
            let scheme = location.split_once("://").unwrap().0;
            let (_, found, prefix) = open(Kind::of(scheme).unwrap(), location, &options).unwrap();
            assert_eq!((found.as_str(), prefix.as_ref()), (base, "a/b"));
        }
    }

    #[test]
    fn what_cannot_be_opened_says_why_and_shows_no_value() {
        let unknown = options(&[("regoin", "hidden")]);
        let error = open(Kind::S3, "s3://bucket", &unknown).unwrap_err();
        assert!(error.contains("\"regoin\"") && !error.contains("hidden"), "{error}");
        let error = open(Kind::S3, "s3:///path", &BTreeMap::new()).unwrap_err();
        assert!(error.contains("no bucket is named"), "{error}");
    }
}
