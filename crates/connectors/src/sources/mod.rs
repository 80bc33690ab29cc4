//! Where ELT reads from.

pub(crate) mod airbyte;
