//! Where deliver sends to: one folder per destination. Fork [`webhook`]; one that speaks HTTP needs only
//! what [`crate::http`] says.

pub mod amplitude;
#[allow(dead_code, reason = "an entry of the registry builds it as soon as the HTTP half is there")]
pub mod braze;
#[cfg(test)]
mod corpus;
pub mod customerio;
pub mod facebook_conversions;
pub mod ga4;
pub mod kafka;
#[allow(dead_code, reason = "an entry of the registry builds it as soon as the HTTP half is there")]
pub mod klaviyo;
pub mod mapper;
#[allow(dead_code, reason = "an entry of the registry builds it as soon as the HTTP half is there")]
pub mod mixpanel;
pub mod object_storage;
#[allow(dead_code, reason = "only mappings use it")]
mod shared;
pub mod webhook;
