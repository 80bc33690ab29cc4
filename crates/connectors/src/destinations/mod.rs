//! Where deliver sends to: one folder per destination. Fork [`webhook`]; one that speaks HTTP needs only
//! what [`crate::http`] says.

pub mod amplitude;
pub mod braze;
#[cfg(test)]
mod corpus;
pub mod customerio;
pub mod facebook_conversions;
pub mod ga4;
pub mod http;
pub mod kafka;
pub mod klaviyo;
pub mod mapper;
pub mod mixpanel;
pub mod object_storage;
pub(crate) mod shared;
#[cfg(test)]
pub mod skeleton;
pub mod slack;
#[cfg(test)]
mod trial;
pub mod webhook;
