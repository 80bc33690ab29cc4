//! The owner of all that a process spawns.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use crate::Stop;

type Failure = Box<dyn Error + Send + Sync>;

/// Named tasks that stop together: the first that fails triggers the stop of all.
///
/// Dropping it aborts what still runs; [`Tasks::join`] is the orderly way.
#[derive(Debug)]
pub struct Tasks {
    stop: Stop,
    running: JoinSet<Result<(), Failure>>,
    names: HashMap<Id, String>,
}

/// A task that did not end well.
#[derive(Debug, thiserror::Error)]
#[error("{task} {problem}")]
pub struct TaskError {
    /// Its name.
    pub task: String,
    /// `failed`, `panicked`, or that it did not stop in time.
    pub problem: String,
    /// What it returned.
    #[source]
    pub source: Option<Failure>,
}

impl Tasks {
    /// No tasks yet; `stop` is triggered when one fails.
    #[must_use]
    pub fn new(stop: Stop) -> Self {
        Self { stop, running: JoinSet::new(), names: HashMap::new() }
    }

    /// Spawns a task. It is to return soon after the stop was requested.
    pub fn spawn<E: Into<Failure>>(
        &mut self,
        name: impl Into<String>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.running.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name.into());
    }

    /// Awaits all tasks, and returns what went wrong, in the order in which it did. `drain` bounds the
    /// time between the stop and the end: what still runs then is aborted and reported.
    pub async fn join(mut self, drain: Duration) -> Vec<TaskError> {
        let mut errors = Vec::new();
        let stop = self.stop.clone();
        let overdue = async move {
            stop.requested().await;
            tokio::time::sleep(drain).await;
        };
        tokio::pin!(overdue);
        loop {
            tokio::select! {
                ended = self.running.join_next_with_id() => {
                    let Some(ended) = ended else { return errors };
                    if let Some(error) = self.judge(ended) {
                        self.stop.trigger();
                        errors.push(error);
                    }
                }
                () = &mut overdue => {
                    self.running.shutdown().await;
                    let problem = format!("did not stop within {drain:?}");
                    errors.extend(self.names.into_values().map(|task| {
                        TaskError { task, problem: problem.clone(), source: None }
                    }));
                    return errors;
                }
            }
        }
    }

    fn judge(&mut self, ended: Result<(Id, Result<(), Failure>), JoinError>) -> Option<TaskError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let task = self.names.remove(&id).unwrap_or_default();
        match ended {
            Ok((_, Ok(()))) => None,
            Ok((_, Err(source))) => {
                Some(TaskError { task, problem: "failed".to_owned(), source: Some(source) })
            }
            Err(error) => {
                let problem = if error.is_panic() { "panicked" } else { "was aborted" };
                Some(TaskError { task, problem: problem.to_owned(), source: Some(error.into()) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]

    use std::io;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    async fn until(stop: Stop) -> io::Result<()> {
        stop.requested().await;
        Ok(())
    }

    #[tokio::test]
    async fn the_first_failure_stops_all_and_is_returned() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("steady", until(stop.clone()));
        tasks.spawn("bad", async { Err(io::Error::other("no")) });
        let errors = tasks.join(LONG).await;
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["bad failed"]);
        assert!(stop.is_requested());
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_like_any_other() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("steady", until(stop.clone()));
        tasks.spawn::<io::Error>("clumsy", async { panic!("oh") });
        let errors = tasks.join(LONG).await;
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), ["clumsy panicked"]);
    }

    #[tokio::test]
    async fn what_does_not_stop_in_time_is_aborted_and_named() {
        let stop = Stop::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("stubborn", std::future::pending::<io::Result<()>>());
        tasks.spawn("steady", until(stop.clone()));
        stop.trigger();
        let errors = tasks.join(Duration::from_millis(20)).await;
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["stubborn did not stop within 20ms"]
        );
    }

    #[tokio::test]
    async fn tasks_that_end_by_themselves_need_no_stop() {
        let mut tasks = Tasks::new(Stop::new());
        tasks.spawn("once", async { io::Result::Ok(()) });
        assert!(tasks.join(LONG).await.is_empty());
    }
}
