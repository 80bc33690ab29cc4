//! Where deliver sends to: one folder per destination. Fork [`webhook`]; one that speaks HTTP needs only
//! what [`crate::http`] says.

#[cfg(test)]
mod corpus;
pub mod mapper;
pub mod webhook;
