//! Placeholder doc, replaced by the first slice.
