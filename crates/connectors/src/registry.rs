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
