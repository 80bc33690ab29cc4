//! Where deliver sends to: one folder per destination. Fork [`webhook`].

#[cfg(test)]
mod corpus;
mod guard;
pub mod mapper;
pub mod webhook;
