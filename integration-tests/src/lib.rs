//! Journeys over the built binary; see `tests/it`.
