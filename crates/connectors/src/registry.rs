//! The list: a connector is one line here and nothing else outside its folder.

use millrace_connector::{DestinationEntry, Registry, SourceEntry, WarehouseEntry};

use crate::{declarative, destinations, sources, warehouses};

const SOURCES: &[SourceEntry] = &[sources::airbyte::ENTRY];

fn all_destinations() -> Vec<DestinationEntry> {
    let mut entries = vec![
        destinations::amplitude::entry(),
        destinations::braze::entry(),
        destinations::customerio::entry(),
        destinations::facebook_conversions::entry(),
        destinations::ga4::entry(),
        destinations::http::entry(),
        destinations::kafka::entry(),
        destinations::klaviyo::entry(),
        destinations::mixpanel::entry(),
        destinations::object_storage::entry(),
        destinations::slack::entry(),
        destinations::webhook::entry(),
    ];
    entries.extend(declarative::built_in().iter().map(|file| file.entry()));
    entries.sort_by(|one, other| one.kind.cmp(&other.kind));
    entries
}

const WAREHOUSES: &[WarehouseEntry] = &[millrace_lake::ENTRY, warehouses::postgres::ENTRY];

/// All connectors that are built in.
#[must_use]
pub fn registry() -> Registry {
    Registry { sources: SOURCES, destinations: all_destinations(), warehouses: WAREHOUSES }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn events_call_an_instance_by_its_kind_and_rudderstacks_display_name() {
        let none = json!({});
        let at = |url: &str| json!({ "url": url });
        let registry = registry();
        let of_destination = |kind: &str, settings: &Value| -> Vec<String> {
            let entry = registry.destination_entry(kind);
            entry.into_iter().flat_map(|entry| entry.names(settings)).map(str::to_owned).collect()
        };
        for (kind, settings, expected) in [
            ("amplitude", &none, &["Amplitude"][..]),
            ("braze", &none, &["Braze"]),
            ("customerio", &none, &["Customer IO"]),
            ("facebook_conversions", &none, &["Facebook Conversions"]),
            ("ga4", &none, &["Google Analytics 4 (GA4)", "Google Analytics 4"]),
            ("http", &none, &["HTTP Webhook"]),
            ("kafka", &none, &["Apache Kafka"]),
            ("klaviyo", &none, &["Klaviyo"]),
            ("mixpanel", &none, &["Mixpanel"]),
            ("object_storage", &at("s3://bucket/raw"), &["Amazon S3"]),
            ("object_storage", &at("gs://bucket/raw"), &["Google Cloud Storage"]),
            ("object_storage", &at("az://container"), &["Azure Blob Storage"]),
            ("object_storage", &at("./files"), &[]),
            ("posthog", &none, &["PostHog"]),
            ("segment", &none, &["Segment"]),
            ("slack", &none, &["Slack"]),
            ("webhook", &none, &["Webhook"]),
        ] {
            assert_eq!(of_destination(kind, settings), [&[kind], expected].concat(), "{kind} {settings}");
        }
        for (kind, settings, expected) in [
            ("lake", at("s3://bucket/lake"), &["S3 Datalake"][..]),
            ("lake", at("gs://bucket/lake"), &["Google Cloud Storage Datalake"]),
            ("lake", at("abfss://c@a.dfs.core.windows.net/lake"), &["Azure Datalake"]),
            ("lake", at("./data/lake"), &[]),
            ("postgres", none.clone(), &["Postgres"]),
        ] {
            let entry = registry.warehouse_entry(kind);
            let names: Vec<&str> = entry.into_iter().flat_map(|entry| entry.names(&settings)).collect();
            assert_eq!(names, [&[kind], expected].concat(), "{kind} {settings}");
        }
        let unnamed = registry.destinations.iter().filter(|entry| entry.rudder.is_none());
        let unnamed: Vec<&str> = unnamed.map(|entry| entry.kind.as_ref()).collect();
        let told =
            "give it its name in RudderStack (`rudder`) and a line above; if it is not there, name it here";
        assert_eq!(unnamed, Vec::<&str>::new(), "{told}");
    }
}
