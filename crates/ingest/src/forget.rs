//! Whom to forget: the operators' words about suppressed users, heard from the first one on.
//!
//! Until all that was said before the start is heard, no event is taken: it might be of somebody who asked
//! to be forgotten. Afterwards what is known stays in force while Kafka is away.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use millrace_bus::{Bus, BusError, CancellationToken};
use millrace_event_model::topics::CONTROL;
use millrace_privacy::{Full, Suppressions};
use millrace_service::HealthHandle;
use tokio::sync::watch;

use crate::error::Refusal;

/// After an error the words are heard again, from the first one on.
const PAUSE: Duration = Duration::from_secs(1);

/// Clients that come right after the start are kept waiting for so long, which is usually long enough to know,
/// before they are told to come again.
const HEAD_START: Duration = Duration::from_secs(3);

/// The users that are suppressed now.
pub(crate) struct Forgotten {
    /// None: not known. A request has what it began with; the rare word that comes in between copies the set.
    users: watch::Sender<Option<Arc<Suppressions>>>,
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
        Self { users: watch::Sender::new(None), health }
    }

    /// Those of this moment.
    pub(crate) fn users(&self) -> Result<Arc<Suppressions>, Refusal> {
        self.users.borrow().clone().ok_or(Refusal::Unprepared)
    }

    /// Returns when they are known, or it takes too long.
    pub(crate) async fn head_start(&self) {
        let mut users = self.users.subscribe();
        // The sender is this object's own, so it is there; and whether it was in time shows in `users`.
        let _ = tokio::time::timeout(HEAD_START, users.wait_for(Option::is_some)).await;
    }

    /// Hears the operators. Never returns.
    pub(crate) async fn watch(&self, bus: &Bus) -> Infallible {
        let mut told = false;
        loop {
            let Err(deaf) = self.follow(bus, &mut told).await;
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(error = %deaf, "the words about suppressed users cannot be heard; trying again");
            }
            if matches!(deaf, Deaf::Full(_)) {
                self.users.send_replace(None);
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
        self.users.send_replace(Some(Arc::new(users)));
        self.health.ready();
        *told = false;
        loop {
            let words = match operators.next(&never).await {
                Ok(words) => words,
                // Kafka's absence is told by the component that stores events.
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if words.is_empty() {
                continue;
            }
            let mut heard = Ok(());
            self.users.send_modify(|users| {
                let Some(users) = users.as_mut() else { return };
                heard = words.iter().try_for_each(|word| Arc::make_mut(users).hear(word));
            });
            heard?;
        }
    }
}
