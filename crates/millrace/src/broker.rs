//! The embedded broker, where it is built in.

use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// A running embedded broker.
pub(crate) struct Broker {
    #[cfg(feature = "embedded-broker")]
    inner: millrace_broker::EmbeddedBroker,
}

impl Broker {
    /// Starts it on a folder.
    ///
    /// # Errors
    /// The folder cannot be used, or this binary was built without the broker.
    #[cfg(feature = "embedded-broker")]
    pub(crate) async fn start(folder: PathBuf, port: Option<u16>) -> Result<Self, Failure> {
        let started =
            tokio::task::spawn_blocking(move || millrace_broker::EmbeddedBroker::start(&folder, port)).await;
        match started {
            Ok(Ok(inner)) => Ok(Self { inner }),
            Ok(Err(error)) => Err(Failure::Failed(error.to_string())),
            Err(error) => Err(Failure::Failed(format!("the embedded broker could not be started: {error}"))),
        }
    }

    /// Says that there is none.
    #[cfg(not(feature = "embedded-broker"))]
    pub(crate) async fn start(_: PathBuf, _: Option<u16>) -> Result<Self, Failure> {
        Err(Failure::Usage(
            "this binary was built without the embedded broker: name a Kafka with `kafka:` in the config"
                .to_owned(),
        ))
    }

    /// Where a broker that another process runs on this folder listens.
    pub(crate) fn running(folder: &Path) -> Option<String> {
        #[cfg(feature = "embedded-broker")]
        return millrace_broker::EmbeddedBroker::running(folder);
        #[cfg(not(feature = "embedded-broker"))]
        return Some(folder).and(None);
    }

    /// Where clients connect.
    pub(crate) fn bootstrap(&self) -> String {
        #[cfg(feature = "embedded-broker")]
        return self.inner.bootstrap();
        #[cfg(not(feature = "embedded-broker"))]
        return String::new();
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        #[cfg(feature = "embedded-broker")]
        self.inner.stop().await;
    }
}
