//! The vendor's rate, kept for each request: a batch whose requests are not alike makes several.
//!
//! A batch is promised turns for all of its requests before the first is sent, so that items are not left half
//! done. What there are no turns for within the batch's time is not sent. A call takes its turn when it has come and
//! not before: what one batch cannot use yet, since it awaits answers, another may, but for what an older one needs
//! to be through in its time.

mod book;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millrace_connector::Rate;
use millrace_service::{SharedClock, later};
use tokio::sync::watch;

use book::{Book, Place, Turn};

/// A turn may be taken so much later than it was promised: timers and the machine are no more exact than that, and
/// a call of the batch that has its turn may wait for one of its others to end. What comes later still is not sent.
pub(super) const LATE: Duration = Duration::from_secs(2);

/// The turns of one destination.
pub(super) struct Limiter {
    rate: Rate,
    clock: SharedClock,
    book: Mutex<Book>,
    /// Turns were given back: those of others come sooner.
    given_back: watch::Sender<()>,
}

impl Limiter {
    pub(super) fn new(rate: Rate, clock: SharedClock) -> Self {
        Self { rate, clock, book: Mutex::new(Book::new(rate)), given_back: watch::Sender::new(()) }
    }

    /// Turns within this time from now, as many of the wanted ones as there are.
    pub(super) fn promise(&self, wanted: usize, within: Duration) -> Promise<'_> {
        let now = self.clock.now();
        let (batch, granted, next) = self.book().promise(wanted, now, later(now, within));
        Promise { limiter: self, batch, granted, after: (next - now).to_std().unwrap_or_default() }
    }

    /// The vendor's rate.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Nothing in it can be half done by who panicked.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns of a batch. What is not taken is given back when it is dropped.
pub(super) struct Promise<'l> {
    limiter: &'l Limiter,
    batch: u64,
    /// How many there were.
    pub(super) granted: usize,
    /// How long it takes until there is one more than these.
    pub(super) after: Duration,
}

impl Promise<'_> {
    /// Waits for the turn of one request. `false`: it does not come in the batch's time, since those before it came
    /// late. Dropping the future leaves the line.
    pub(super) async fn turn(&self) -> bool {
        let line = InLine { limiter: self.limiter, place: self.limiter.book().line_up(self.batch) };
        loop {
            // Before looking, so that nothing is missed between looking and waiting.
            let mut given_back = self.limiter.given_back.subscribe();
            let now = self.limiter.clock.now();
            let at = match line.limiter.book().take(line.place, now) {
                Turn::Taken => return true,
                Turn::Comes(at) => at,
                Turn::TooLate => return false,
            };
            tokio::select! {
                () = tokio::time::sleep((at - now).to_std().unwrap_or_default()) => {}
                // It has a sender as long as there is a limiter.
                _ = given_back.changed() => {}
            }
        }
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.limiter.book().give_back(self.batch);
        self.limiter.given_back.send_replace(());
    }
}

/// One that waits for its turn.
struct InLine<'l> {
    limiter: &'l Limiter,
    place: Place,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.limiter.book().leave(self.place);
    }
}

#[cfg(test)]
mod tests;
