//! Where rows go.

pub(crate) mod postgres;
