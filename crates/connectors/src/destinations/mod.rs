//! Where deliver sends to: one folder per destination. Fork [`webhook`].

mod guard;
pub mod mapper;
pub mod webhook;
