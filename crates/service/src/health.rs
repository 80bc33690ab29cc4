//! Which parts of a process are ready, and why the others are not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

/// The state of all components of a process. Clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Component>>>);

/// One component's say in the matter.
#[derive(Debug, Clone)]
pub struct HealthHandle {
    health: Health,
    name: String,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// All components are ready.
    pub ready: bool,
    /// Each by name.
    pub components: BTreeMap<String, Component>,
}

/// The state of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Component {
    /// Whether it does its work.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Health {
    /// No components yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A component, which is not ready until it says so.
    #[must_use]
    pub fn component(&self, name: &str) -> HealthHandle {
        let handle = HealthHandle { health: self.clone(), name: name.to_owned() };
        handle.not_ready("starting");
        handle
    }

    /// The present state. A process without components is ready.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let components = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Readiness { ready: components.values().all(|component| component.ready), components }
    }
}

impl HealthHandle {
    /// It does its work.
    pub fn ready(&self) {
        self.set(Component { ready: true, reason: None });
    }

    /// It cannot, for this reason: a sentence that names the thing, without payload or secret.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(Component { ready: false, reason: Some(reason.into()) });
    }

    fn set(&self, component: Component) {
        let mut components = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        components.insert(self.name.clone(), component);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_all_its_components_are() {
        let health = Health::default();
        assert!(health.readiness().ready);
        let (loader, deliver) = (health.component("loader"), health.component("deliver"));
        loader.ready();
        assert!(!health.readiness().ready, "a component starts not ready");
        deliver.ready();
        assert!(health.readiness().ready);
        loader.not_ready("kafka is away");
        let readiness = health.readiness();
        assert!(!readiness.ready);
        assert_eq!(readiness.components["loader"].reason.as_deref(), Some("kafka is away"));
    }
}
