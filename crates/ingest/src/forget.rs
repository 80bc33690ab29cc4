//! Whom to forget: the operators' words about suppressed users, heard from the first one on.
//!
//! Until all that was said before the start is heard, no event is taken: it might be of somebody who asked
//! to be forgotten. Afterwards what is known stays in force while Kafka is away.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use millrace_bus::{Bus, BusError, CancellationToken};
use millrace_event_model::topics::CONTROL;
use millrace_privacy::{Full, Suppressions};
use millrace_service::HealthHandle;

use crate::error::Refusal;

/// After an error the words are heard again, from the first one on.
const PAUSE: Duration = Duration::from_secs(1);

/// The users that are suppressed now.
pub(crate) struct Forgotten {
    /// None: not known. A request has what it began with; the rare word that comes in between copies the set.
    users: RwLock<Option<Arc<Suppressions>>>,
    health: HealthHandle,
}

/// Why the words are not heard any more.
#[derive(Debug, thiserror::Error)]
enum Deaf {
    #[error("the operators' topic cannot be read")]
    Bus(#[from] BusError),
    #[error("{0}; unsuppress some, or run without")]
    Full(#[from] Full),
}

impl Forgotten {
    pub(crate) fn new(health: HealthHandle) -> Self {
        health.not_ready("the suppressed users are not known yet");
        Self { users: RwLock::new(None), health }
    }

    /// Those of this moment.
    pub(crate) fn users(&self) -> Result<Arc<Suppressions>, Refusal> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.clone().ok_or(Refusal::Unprepared)
    }

    /// Hears the operators. Never returns.
    pub(crate) async fn watch(&self, bus: &Bus) -> Infallible {
        let mut told = false;
        loop {
            let Err(deaf) = self.follow(bus, &mut told).await;
            // Kafka's absence is told once, and by the component that stores events as well.
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(error = %deaf, "the words about suppressed users cannot be heard; trying again");
            }
            if matches!(deaf, Deaf::Full(_)) {
                self.set(None);
            }
            if self.users().is_err() {
                self.health.not_ready(deaf.to_string());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn follow(&self, bus: &Bus, told: &mut bool) -> Result<Infallible, Deaf> {
        let never = CancellationToken::new();
        let mut operators = bus.follow(&CONTROL.of(bus.workspace())).await?;
        // Beside what is known: on the way, old words come again that later ones have taken back.
        let mut users = Suppressions::default();
        while !operators.is_current() {
            for word in operators.next(&never).await? {
                users.hear(&word)?;
            }
        }
        tracing::info!(users = users.count(), "the suppressed users are known");
        self.set(Some(users));
        self.health.ready();
        *told = false;
        loop {
            for word in operators.next(&never).await? {
                let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
                if let Some(users) = users.as_mut() {
                    Arc::make_mut(users).hear(&word)?;
                }
            }
        }
    }

    fn set(&self, users: Option<Suppressions>) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = users.map(Arc::new);
    }
}
