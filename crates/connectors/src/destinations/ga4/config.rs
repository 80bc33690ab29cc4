//! The settings of Google Analytics 4.

use millrace_service::Secret;
use schemars::JsonSchema;
use serde::Deserialize;

/// Events of Google Analytics 4, by its Measurement Protocol.
///
/// Google answers that all is well whatever it is sent, so what it would drop is rejected here, with a
/// reason. `validate` asks its validation server instead.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The Measurement Protocol API secret of the data stream.
    pub api_secret: Secret,
    /// The measurement id of a web data stream, such as `G-ABC123`. Either this or `firebase_app_id`.
    #[serde(default)]
    pub measurement_id: Option<String>,
    /// The app id of Firebase, of a data stream of an app. Its events name the app's instance by an
    /// external id of the type `ga4AppInstanceId`.
    #[serde(default)]
    pub firebase_app_id: Option<String>,
    /// Keeps the data of the call within the European Union.
    #[serde(default)]
    pub eu: bool,
    /// Leaves out page events: where Google's own tag counts page views already.
    #[serde(default)]
    pub block_page_views: bool,
    /// Sends all of `context.page` with a page view, not only its address, title and referrer.
    #[serde(default)]
    pub extend_page_views: bool,
    /// The name of an event that carries user properties when an identify, or a row of reverse ETL,
    /// arrives, such as `login`. Without it those are left out: Google takes user properties with an
    /// event alone.
    #[serde(default)]
    pub identify_event: Option<String>,
    /// Traits that are never sent as user properties, such as `email`.
    #[serde(default)]
    pub ignored_traits: Vec<String>,
    /// Sends to Google's validation server: nothing is recorded, and what is wrong with an event is the
    /// reason of its rejection. For trying out a connection.
    #[serde(default)]
    pub validate: bool,
}

/// The kind of data stream, with its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream<'s> {
    /// A website's measurement id.
    Web(&'s str),
    /// An app's id at Firebase.
    App(&'s str),
}

impl Settings {
    /// The data stream.
    ///
    /// # Errors
    /// There is none, or two.
    pub(super) fn stream(&self) -> Result<Stream<'_>, String> {
        match (self.measurement_id.as_deref(), self.firebase_app_id.as_deref()) {
            (Some(id), None) => Ok(Stream::Web(id)),
            (None, Some(id)) => Ok(Stream::App(id)),
            (None, None) => Err("measurement_id is missing, or firebase_app_id for an app".to_owned()),
            (Some(_), Some(_)) => {
                Err("measurement_id and firebase_app_id: one destination feeds one data stream".to_owned())
            }
        }
    }

    /// Where events are sent to.
    pub(super) fn url(&self) -> &'static str {
        match (self.eu, self.validate) {
            (false, false) => "https://www.google-analytics.com/mp/collect",
            (false, true) => "https://www.google-analytics.com/debug/mp/collect",
            (true, false) => "https://region1.google-analytics.com/mp/collect",
            (true, true) => "https://region1.google-analytics.com/debug/mp/collect",
        }
    }
}
