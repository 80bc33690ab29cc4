//! The list: a connector is one line here and nothing else outside its folder.

use millrace_connector::{DestinationEntry, Registry, SourceEntry, WarehouseEntry};

use crate::{destinations, sources, warehouses};

const SOURCES: &[SourceEntry] = &[sources::airbyte::ENTRY];

fn all_destinations() -> Vec<DestinationEntry> {
    vec![
        destinations::amplitude::entry(),
        destinations::braze::entry(),
        destinations::customerio::entry(),
        destinations::facebook_conversions::entry(),
        destinations::ga4::entry(),
        destinations::kafka::entry(),
        destinations::klaviyo::entry(),
        destinations::mixpanel::entry(),
        destinations::object_storage::entry(),
        destinations::webhook::entry(),
    ]
}

const WAREHOUSES: &[WarehouseEntry] = &[millrace_lake::ENTRY, warehouses::postgres::ENTRY];

/// All connectors that are built in.
#[must_use]
pub fn registry() -> Registry {
    Registry { sources: SOURCES, destinations: all_destinations(), warehouses: WAREHOUSES }
}
