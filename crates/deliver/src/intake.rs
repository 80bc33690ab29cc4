//! The topics that a destination reads, events and changes alike.

use millrace_bus::{
    Assignment, Batch, Bus, BusError, GroupEvent, GroupOptions, GroupReader, Positions, Revocation,
};
use millrace_event_model::topics::{CHANGES, EVENTS};
use millrace_event_model::{Change, Event, Lane};

/// One topic.
#[derive(Debug, Clone)]
pub(crate) enum Topic {
    Events(Lane),
    Changes,
}

/// A membership of its consumer group.
#[derive(Debug)]
pub(crate) enum Intake {
    Events(GroupReader<Event>),
    Changes(GroupReader<Change>),
}

/// What a member hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Assigned(Assignment),
    Revoked(Revocation),
    Events(Batch<Event>),
    Changes(Batch<Change>),
}

impl Topic {
    pub(crate) fn name(&self, bus: &Bus) -> String {
        match self {
            Self::Events(lane) => EVENTS.lane(bus.workspace(), lane).as_str().to_owned(),
            Self::Changes => CHANGES.of(bus.workspace()).as_str().to_owned(),
        }
    }

    pub(crate) fn join(&self, bus: &Bus, options: GroupOptions) -> Result<Intake, BusError> {
        match self {
            Self::Events(lane) => bus.group(&EVENTS.lane(bus.workspace(), lane), options).map(Intake::Events),
            Self::Changes => bus.group(&CHANGES.of(bus.workspace()), options).map(Intake::Changes),
        }
    }
}

impl Intake {
    /// The next thing to hear; at most `room` records. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, room: usize) -> Result<Heard, BusError> {
        match self {
            Self::Events(reader) => Ok(heard(reader.next(room).await?, Heard::Events)),
            Self::Changes(reader) => Ok(heard(reader.next(room).await?, Heard::Changes)),
        }
    }

    pub(crate) async fn commit(&self, positions: &Positions) -> Result<(), BusError> {
        match self {
            Self::Events(reader) => reader.commit(positions).await,
            Self::Changes(reader) => reader.commit(positions).await,
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Events(reader) => reader.close().await,
            Self::Changes(reader) => reader.close().await,
        }
    }
}

fn heard<M>(event: GroupEvent<M>, read: impl Fn(Batch<M>) -> Heard) -> Heard {
    match event {
        GroupEvent::Assigned(assignment) => Heard::Assigned(assignment),
        GroupEvent::Revoked(revocation) => Heard::Revoked(revocation),
        GroupEvent::Records(batch) => read(batch),
    }
}

/// The next thing that any of them hears, and which one. `turn` says whose turn it is, so that a busy
/// topic does not starve another. Waits for ever where there is none.
pub(crate) async fn next_of(
    intakes: &mut [Intake],
    room: usize,
    turn: usize,
) -> (usize, Result<Heard, BusError>) {
    if intakes.is_empty() {
        return std::future::pending().await;
    }
    let count = intakes.len();
    let mut waiting = intakes.iter_mut().map(|intake| Box::pin(intake.next(room))).collect::<Vec<_>>();
    waiting.rotate_left(turn % count);
    let (heard, which, _) = futures::future::select_all(waiting).await;
    ((which + turn) % count, heard)
}
