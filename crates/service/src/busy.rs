//! Threads for work of many milliseconds, beside those that wait for networks.
//!
//! There are as many as cores. The threads of tokio's own pool for blocking work would be as many as there is
//! work at once; each of them keeps memory for the largest that it ever did, and more of them do nothing sooner.

use std::future::Future;
use std::num::NonZero;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// For each thread, these and the binary's own: parsers and query plans go down with what they are given, and frames
/// of a build without optimisation are large.
pub const STACK_BYTES: usize = 16 * 1024 * 1024;

/// How long a thread that did something that blocks waits for more. Reading and writing files takes one for each that
/// is under way, of which a checkpoint of a lake's table has dozens; threads wait in turn, so with tokio's ten seconds all
/// of them were there for good, each with memory of its own.
const KEPT_WAITING: Duration = Duration::from_millis(500);

/// Never dropped: the process ends with it.
static THREADS: OnceLock<Option<Runtime>> = OnceLock::new();

/// How many threads there are: into more parts than these no work need be divided.
#[must_use]
pub fn busy_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs work that computes for long, or a future that does between its waits; what such a future waits for is
/// looked at when a thread is free, some tens of milliseconds later at worst. It runs to its end even if the handle
/// is dropped, but the end of the process does not wait for it: it must be harmless to be cut off. Where no threads
/// can be had it runs among the caller's.
pub fn spawn_busy<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let threads = THREADS.get_or_init(|| {
        let mut threads = Builder::new_multi_thread();
        threads
            .worker_threads(busy_threads())
            .thread_name("busy")
            .thread_stack_size(STACK_BYTES)
            .thread_keep_alive(KEPT_WAITING)
            .enable_all();
        threads.build().ok()
    });
    match threads {
        Some(threads) => threads.spawn(work),
        None => tokio::spawn(work),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn busy_work_keeps_nobody_from_its_turn() {
        let (go, wait) = std::sync::mpsc::channel();
        let working = spawn_busy(async move {
            wait.recv().unwrap();
            std::thread::current().name().map(str::to_owned)
        });
        tokio::task::yield_now().await;
        // On this thread, which is the runtime's only one, it would wait for ever.
        go.send(()).unwrap();
        assert_eq!(working.await.unwrap().as_deref(), Some("busy"));
    }
}
