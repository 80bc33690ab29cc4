//! The edge: feeds the [`Flow`] with what is read and sent, and stores what it says.
//!
//! One engine serves one destination, as one member of its consumer group. It reads what there is room for,
//! sends what may be sent, and now and then stores what has ended; see `books` for the order of that. What
//! goes wrong with Kafka ends the membership: the engine joins again, and an error that only a person can
//! mend is shown by health until there is a word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use millrace_bus::{Assignment, Batch, Bus, BusError, GroupOptions, Positions, Publisher, Revocation, Start};
use millrace_connector::{Destination, ItemOutcome, Limits, Payload};
use millrace_event_model::{Control, DestinationId};
use millrace_service::{HealthHandle, SharedClock, Stop, crash_point};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::DeliverError;
use crate::admit::Read;
use crate::books::Books;
use crate::flow::{Flow, Ticket};
use crate::intake::{Heard, Intake, Topic, next_of};
use crate::ledger::Place;
use crate::progress::Position;
use crate::sends::Sends;
use crate::storing::{self, Storing};

/// Between two commits of the group's offsets, which only serve tools that show the lag.
const COMMIT_EVERY: Duration = Duration::from_secs(10);

/// What is not committed within this is committed the next time.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Beyond a request's own timeout, a revocation waits so long for it to be stored.
const DRAIN_MARGIN: Duration = Duration::from_secs(15);

/// How long an operator's error waits for a word before it is tried again.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(60);

/// The last word of the operators on each destination.
pub(crate) type Controls = Arc<BTreeMap<DestinationId, Control>>;

/// One destination, being served.
pub(crate) struct Engine {
    pub(crate) id: DestinationId,
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) limits: Limits,
    pub(crate) topics: Vec<(Topic, Start)>,
    pub(crate) instance: Option<String>,
    pub(crate) store_every: Duration,
    pub(crate) drain: Duration,
    pub(crate) bus: Bus,
    pub(crate) publisher: Publisher,
    pub(crate) clock: SharedClock,
    pub(crate) health: HealthHandle,
    pub(crate) controls: watch::Receiver<Controls>,
    pub(crate) flow: Flow,
    /// An operator has said to go on past what retention took.
    pub(crate) accept_expired: bool,
    /// The last word that was acted on.
    pub(crate) told: Option<Control>,
    /// What health was told last; `None` before it was told anything.
    pub(crate) told_health: Option<Option<String>>,
}

/// One membership.
struct Member {
    intakes: Vec<Intake>,
    books: Arc<Books>,
    sends: Sends,
    storing: Option<Storing>,
    leaving: Vec<Leaving>,
    /// The positions that were stored last.
    lows: BTreeMap<Place, i64>,
    stored_at: Instant,
    committed_at: Instant,
    turn: usize,
}

/// Partitions that wait for what is in flight.
struct Leaving {
    revocation: Revocation,
    places: Vec<Place>,
    until: Instant,
}

impl Engine {
    /// Serves the destination until the stop. What goes wrong is logged, shown by health and tried again.
    pub(crate) async fn run(mut self, stop: Stop) {
        let mut pauses = retry_pauses();
        loop {
            let joined_at = Instant::now();
            let Err(error) = self.member(&stop).await else { return };
            self.health.not_ready(error.full());
            self.told_health = Some(Some(error.full()));
            self.accept_expired = false;
            if joined_at.elapsed() > OPERATOR_PATIENCE {
                pauses = retry_pauses();
            }
            if error.is_retryable() {
                tracing::warn!(destination = %self.id, error = error.full(), "the membership ended; joining again");
                tokio::select! {
                    () = tokio::time::sleep(pauses.next().unwrap_or(OPERATOR_PATIENCE)) => {}
                    () = stop.requested() => return,
                }
                continue;
            }
            tracing::error!(destination = %self.id, error = error.full(), "the destination waits for an operator");
            tokio::select! {
                () = self.told_to_resume() => self.accept_expired = true,
                () = tokio::time::sleep(OPERATOR_PATIENCE) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// One membership, from joining to leaving.
    async fn member(&mut self, stop: &Stop) -> Result<(), DeliverError> {
        self.listen();
        self.destination.drain(false);
        let mut member = self.join().await?;
        self.report(None);
        let served = self.serve(&mut member, stop).await;
        // Whatever ended it: what is in flight may land, so that less is repeated. What only waits for its turn need not.
        self.destination.drain(true);
        let drained = tokio::time::timeout(self.drain, async {
            while let Some(answers) = member.sends.next().await {
                self.flow.landed(answers, self.clock.now());
            }
        });
        if drained.await.is_err() {
            tracing::warn!(destination = %self.id, calls = member.sends.len(), "not all calls came back in time");
        }
        if served.is_ok() {
            // After an error the partitions may be another's, and so is the word on them.
            self.store(&mut member, stop).await?;
            self.commit(&mut member).await;
        }
        self.flow.give_up_all();
        // Their poll threads wait for these.
        member.leaving.clear();
        for intake in member.intakes {
            intake.close().await;
        }
        served
    }

    async fn join(&mut self) -> Result<Member, DeliverError> {
        let names = self.topics.iter().map(|(topic, _)| topic.name(&self.bus)).collect::<Vec<_>>();
        let identity = self.bus.identity(names.first().map_or("", String::as_str)).await;
        let cluster = identity.map_err(|source| self.failed(source))?.cluster;
        let timeout = self.limits.timeout;
        let mut intakes = Vec::with_capacity(names.len());
        for ((topic, _), name) in self.topics.iter().zip(&names) {
            let mut options = GroupOptions::new(format!("deliver.{}", self.id));
            options.instance = self.instance.as_ref().map(|instance| format!("{instance}.{name}"));
            // Request timeout < drain < the longest pause between two polls.
            options.drain_timeout = timeout + DRAIN_MARGIN;
            options.max_poll_interval = options.max_poll_interval.max(options.drain_timeout * 2);
            intakes.push(topic.join(&self.bus, options).map_err(|source| self.failed(source))?);
        }
        let now = Instant::now();
        Ok(Member {
            intakes,
            books: Arc::new(Books {
                bus: self.bus.clone(),
                publisher: self.publisher.clone(),
                destination: self.id.clone(),
                topics: names,
                cluster,
            }),
            sends: Sends::default(),
            storing: None,
            leaving: Vec::new(),
            lows: BTreeMap::new(),
            stored_at: now,
            committed_at: now,
            turn: 0,
        })
    }

    async fn serve(&mut self, member: &mut Member, stop: &Stop) -> Result<(), DeliverError> {
        loop {
            self.send(member);
            self.let_go(member, stop).await?;
            if member.storing.is_none()
                && (self.flow.must_state() || member.stored_at.elapsed() >= self.store_every)
            {
                self.begin_storing(member);
            }
            if member.committed_at.elapsed() >= COMMIT_EVERY {
                self.commit(member).await;
            }
            self.report(member.storing.as_ref().and_then(Storing::trouble));
            let wait = self.wait(member);
            member.turn = member.turn.wrapping_add(1);
            tokio::select! {
                () = stop.requested() => return Ok(()),
                (topic, heard) = next_of(&mut member.intakes, self.flow.room(), member.turn) => {
                    let heard = heard.map_err(|source| self.failed(source))?;
                    self.heard(member, topic, heard, stop).await?;
                }
                Some(answers) = member.sends.next(), if member.sends.len() > 0 => self.landed(member, answers),
                stored = storing::done(&mut member.storing) => {
                    self.stored(member, stored).map_err(|source| self.failed(source))?;
                }
                changed = self.controls.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
            self.listen();
        }
    }

    /// Sends what may be sent, up to the destination's concurrency.
    fn send(&mut self, member: &mut Member) {
        while member.sends.len() < self.limits.concurrency
            && let Some(call) = self.flow.next_call(self.destination.as_ref(), self.clock.now())
        {
            crash_point("deliver-before-send");
            member.sends.start(Arc::clone(&self.destination), call, self.limits.timeout);
        }
    }

    /// This call has come back, and whichever others have.
    fn landed(&mut self, member: &mut Member, answers: Vec<(Ticket, ItemOutcome)>) {
        crash_point("deliver-answered");
        let now = self.clock.now();
        self.flow.landed(answers, now);
        while let Some(answers) = member.sends.next_ready() {
            self.flow.landed(answers, now);
        }
    }

    async fn heard(
        &mut self,
        member: &mut Member,
        topic: usize,
        heard: Heard,
        stop: &Stop,
    ) -> Result<(), DeliverError> {
        match heard {
            Heard::Events(batch) => self.read(topic, batch, Payload::Event),
            Heard::Changes(batch) => self.read(topic, batch, Payload::Change),
            Heard::Assigned(assignment) => self.take_over(member, topic, &assignment, stop).await?,
            Heard::Revoked(revocation) => {
                let place = |partition: &i32| Place { topic, partition: *partition };
                let places = revocation.partitions().iter().map(place).collect::<Vec<_>>();
                for place in &places {
                    self.flow.leave(*place);
                }
                let until = Instant::now() + self.limits.timeout;
                member.leaving.push(Leaving { revocation, places, until });
            }
        }
        Ok(())
    }

    fn read<M>(&mut self, topic: usize, batch: Batch<M>, payload: impl Fn(M) -> Payload) {
        let now = self.clock.now();
        for received in batch.records {
            self.flow.read(topic, Read::of(received, &payload), now);
        }
    }

    /// Reads how far the last owner got, and goes on there.
    async fn take_over(
        &mut self,
        member: &mut Member,
        topic: usize,
        assignment: &Assignment,
        stop: &Stop,
    ) -> Result<(), DeliverError> {
        let mut known = member.books.load(topic).await?;
        let start = self.topics.get(topic).map_or(Start::Earliest, |(_, start)| *start);
        let begun = loop {
            let from = known.iter().map(|(partition, position)| (*partition, position.low)).collect();
            match assignment.begin(&from, start).await {
                Ok(positions) => break positions,
                Err(BusError::OffsetGone { partition, low, .. }) if self.accept_expired => {
                    let Some(position) = known.get_mut(&partition) else { continue };
                    for range in position.advance(low) {
                        self.flow.expired(position.place, range, self.clock.now());
                    }
                }
                Err(source) => return Err(self.failed(source)),
            }
        };
        for (partition, low) in begun {
            let place = Place { topic, partition };
            let done = known.remove(&partition).map(|position| position.done).unwrap_or_default();
            self.flow.own(&Position { place, low, done });
        }
        // Where reading began for the first time is a position too: a start at the latest must not jump
        // ahead with a restart.
        self.store(member, stop).await
    }

    /// Gives up the partitions of which nothing is in flight any more, or must not be waited for.
    async fn let_go(&mut self, member: &mut Member, stop: &Stop) -> Result<(), DeliverError> {
        for leaving in std::mem::take(&mut member.leaving) {
            let in_flight: usize = leaving.places.iter().map(|place| self.flow.in_flight(*place)).sum();
            let lost = leaving.revocation.is_lost();
            if in_flight > 0 && !lost && Instant::now() < leaving.until {
                member.leaving.push(leaving);
                continue;
            }
            if !lost {
                self.store(member, stop).await?;
            }
            for place in &leaving.places {
                self.flow.give_up(*place);
                member.lows.remove(place);
            }
            leaving.revocation.finish();
        }
        Ok(())
    }

    /// Begins to store what has ended, and how far each partition has got. Meanwhile it goes on as far as
    /// the window reaches: what is not stored takes room in it.
    fn begin_storing(&mut self, member: &mut Member) {
        member.stored_at = Instant::now();
        let (statement, positions) = self.flow.state(self.clock.now());
        member.storing = Some(Storing::begin(&member.books, statement, positions));
    }

    fn stored(
        &mut self,
        member: &mut Member,
        stored: Result<Vec<(Place, i64)>, BusError>,
    ) -> Result<(), BusError> {
        member.storing = None;
        member.lows.extend(stored?);
        self.flow.stored();
        Ok(())
    }

    /// Stores all that has ended until now, and waits for it.
    async fn store(&mut self, member: &mut Member, stop: &Stop) -> Result<(), DeliverError> {
        // What is on its way comes first: positions are stored in their order.
        let on_its_way = usize::from(member.storing.is_some());
        for _ in 0..=on_its_way {
            if member.storing.is_none() {
                self.begin_storing(member);
            }
            tokio::select! {
                stored = storing::done(&mut member.storing) => {
                    self.stored(member, stored).map_err(|source| self.failed(source))?;
                }
                // The statement is lost with the process; its items are repeated.
                () = stopped_for(stop, self.drain) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Lets the group's offsets follow.
    async fn commit(&mut self, member: &mut Member) {
        member.committed_at = Instant::now();
        for (topic, intake) in member.intakes.iter().enumerate() {
            let of_topic = member.lows.iter().filter(|(place, _)| place.topic == topic);
            let positions = of_topic.map(|(place, low)| (place.partition, *low)).collect::<Positions>();
            if positions.is_empty() {
                continue;
            }
            match tokio::time::timeout(COMMIT_TIMEOUT, intake.commit(&positions)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(destination = %self.id, %error, "offsets are not committed")
                }
                Err(_) => tracing::debug!(destination = %self.id, "offsets are not committed in time"),
            }
        }
    }

    /// Until something is due, or the next statement.
    fn wait(&self, member: &Member) -> Duration {
        let next_store = match &member.storing {
            // Its end is waited for anyway.
            Some(_) => self.store_every,
            None => self.store_every.saturating_sub(member.stored_at.elapsed()),
        };
        if member.sends.len() >= self.limits.concurrency {
            // A call that comes back makes room.
            return next_store;
        }
        let now = self.clock.now();
        let due = self.flow.next_due(now).map(|due| (due - now).to_std().unwrap_or_default());
        // The runtime's clock has no shorter wait.
        due.map_or(next_store, |due| due.max(Duration::from_millis(1)).min(next_store))
    }

    /// Acts on the operators' last word, if it is a new one.
    fn listen(&mut self) {
        let word = self.controls.borrow_and_update().get(&self.id).cloned();
        if word == self.told {
            return;
        }
        if let Some(word) = &word {
            tracing::info!(destination = %self.id, ?word, "told by an operator");
            self.flow.told(word);
        }
        self.told = word;
    }

    async fn told_to_resume(&mut self) {
        loop {
            // Without operators there is nobody to wait for.
            if self.controls.changed().await.is_err() {
                return std::future::pending().await;
            }
            let before = self.told.clone();
            self.listen();
            if self.told != before && matches!(self.told, Some(Control::Resume { .. })) {
                return;
            }
        }
    }

    /// Tells health and the log how the destination is, when that has changed.
    fn report(&mut self, storing: Option<String>) {
        let trouble = storing.or_else(|| self.flow.trouble());
        if self.told_health.as_ref() == Some(&trouble) {
            return;
        }
        match &trouble {
            Some(why) => self.health.not_ready(why.as_str()),
            None => self.health.ready(),
        }
        match &trouble {
            Some(why) => tracing::warn!(destination = %self.id, why, "the destination is not well"),
            None => tracing::info!(destination = %self.id, "the destination is well"),
        }
        self.told_health = Some(trouble);
    }

    fn failed(&self, source: BusError) -> DeliverError {
        DeliverError::Bus { destination: self.id.clone(), source }
    }
}

/// Returns a while after the stop.
async fn stopped_for(stop: &Stop, drain: Duration) {
    stop.requested().await;
    tokio::time::sleep(drain).await;
}

/// Between two memberships.
fn retry_pauses() -> impl Iterator<Item = Duration> {
    use backon::BackoffBuilder as _;
    ExponentialBuilder::new().with_jitter().without_max_times().build()
}
