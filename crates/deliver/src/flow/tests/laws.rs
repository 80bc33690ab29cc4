//! The laws of the flow, against any script of answers.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What the other side makes of a call.
#[derive(Debug, Clone, Copy)]
enum Say {
    Yes,
    /// To every item its own: by its place in the call.
    Mixed(u8),
    TooLarge,
    Unclear,
    Throttled,
    Broken,
    /// The rate has no room.
    NotSent,
    /// A person must act; who then says resume.
    Refused,
}

#[derive(Debug, Clone)]
enum Step {
    Read {
        key: u8,
        length: usize,
    },
    Send,
    Land(prop::sample::Index, Say),
    Wait(i64),
    /// The partition goes and comes back from its position.
    Lose,
}

fn say() -> impl Strategy<Value = Say> {
    prop_oneof![
        4 => Just(Say::Yes),
        2 => any::<u8>().prop_map(Say::Mixed),
        1 => Just(Say::TooLarge),
        1 => Just(Say::Unclear),
        1 => Just(Say::Throttled),
        1 => Just(Say::Broken),
        1 => Just(Say::NotSent),
        1 => Just(Say::Refused),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..5_u8, 0..40_usize).prop_map(|(key, length)| Step::Read { key, length }),
        4 => Just(Step::Send),
        4 => (any::<prop::sample::Index>(), say()).prop_map(|(which, say)| Step::Land(which, say)),
        1 => (1..200_i64).prop_map(Step::Wait),
        1 => Just(Step::Lose),
    ]
}

fn answer(say: Say, number: usize) -> ItemOutcome {
    let reason = || Reason::new("test", "as the script says");
    match say {
        Say::Yes => ItemOutcome::Delivered,
        Say::Mixed(seed) => match (usize::from(seed) + number) % 5 {
            0 => ItemOutcome::Rejected(reason()),
            1 => ItemOutcome::Transient { after: None, reason: reason() },
            2 => ItemOutcome::Filtered(reason()),
            3 => ItemOutcome::NotSent { after: Duration::from_secs(1) },
            _ => ItemOutcome::Delivered,
        },
        Say::TooLarge => ItemOutcome::Oversize(reason()),
        Say::Unclear => ItemOutcome::Unclear(reason()),
        Say::Throttled => ItemOutcome::Throttled { after: Some(Duration::from_secs(3)), reason: reason() },
        Say::Broken => ItemOutcome::Transient { after: Some(Duration::from_secs(2)), reason: reason() },
        Say::NotSent => ItemOutcome::NotSent { after: Duration::from_secs(4) },
        Say::Refused => ItemOutcome::Auth(reason()),
    }
}

struct World {
    flow: Flow,
    limits: Limits,
    /// By offset: key and body's length.
    log: Vec<(u8, usize)>,
    /// Read since the partition was last assigned, so far.
    next: i64,
    under_way: Vec<Vec<Ticket>>,
    ended: BTreeMap<i64, usize>,
    now: i64,
}

const BODY: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

impl World {
    fn new(limits: Limits) -> Self {
        let mut flow = flow_within(limits);
        flow.bounds = Bounds { active: 1_000, parked: 1_000, bytes: 1_000_000 };
        flow.retry = RetryPolicy { min_attempts: 3, give_up_after: Duration::ZERO, ..RetryPolicy::default() };
        Self { flow, limits, log: Vec::new(), next: 0, under_way: Vec::new(), ended: BTreeMap::new(), now: 0 }
    }

    fn read_all(&mut self) {
        while let Some((key, length)) = self.log.get(self.next as usize).copied() {
            read(&mut self.flow, self.next, NewEvent { body: &BODY[..length], ..event(self.next, key) });
            self.next += 1;
        }
    }

    fn send(&mut self) -> Result<(), TestCaseError> {
        while self.under_way.len() < self.limits.concurrency
            && let Some(call) = self.flow.next_call(&Pure, at(self.now))
        {
            let bytes = call.iter().flat_map(|(_, prepared)| &prepared.requests).map(|r| r.body.len());
            let bytes = bytes.sum::<usize>();
            prop_assert!(!call.is_empty() && call.len() <= self.limits.max_items, "{} items", call.len());
            prop_assert!(call.len() == 1 || bytes <= self.limits.max_bytes, "{bytes} bytes");
            let call = call.into_iter().map(|(ticket, _)| ticket).collect::<Vec<_>>();
            let busy = self.under_way.iter().flatten().map(|ticket| ticket.offset).collect::<Vec<_>>();
            let mut in_call = Vec::new();
            for ticket in &call {
                let key = self.log[ticket.offset as usize].0;
                if self.limits.ordered {
                    let of_key = |offset: &i64| self.log[*offset as usize].0 == key;
                    prop_assert!(!busy.iter().any(of_key), "two calls have items of a key");
                    let alone = self.limits.together || !in_call.iter().any(of_key);
                    prop_assert!(alone, "two of a key in a call");
                    let mut before = (0..ticket.offset).filter(of_key);
                    let sent = |offset| self.ended.contains_key(&offset) || in_call.contains(&offset);
                    prop_assert!(before.all(sent), "order");
                }
                prop_assert!(!self.ended.contains_key(&ticket.offset), "what has ended is not sent again");
                in_call.push(ticket.offset);
            }
            self.under_way.push(call);
        }
        Ok(())
    }

    fn land(&mut self, which: usize, say: Say) -> Result<(), TestCaseError> {
        let call = self.under_way.remove(which);
        let answers = call.into_iter().enumerate();
        let answers = answers.map(|(number, ticket)| (ticket, answer(say, number))).collect();
        self.flow.landed(answers, at(self.now));
        if matches!(say, Say::Refused) {
            self.flow.told(&Control::Resume { destination: "hook".parse().unwrap(), at: at(self.now) });
        }
        self.state()
    }

    /// Takes the statement, and looks that each item in it ends once and that the position covers no other.
    fn state(&mut self) -> Result<(), TestCaseError> {
        let (statement, positions) = self.flow.state(at(self.now));
        self.flow.stored();
        for outcome in statement.outcomes {
            let range = match outcome.origin {
                Origin::Events { first, last, .. } => first..=last,
                Origin::Event { offset, .. } => offset..=offset,
                Origin::Change { .. } => continue,
            };
            for offset in range {
                *self.ended.entry(offset).or_default() += 1;
                prop_assert_eq!(self.ended[&offset], 1, "each item ends once");
            }
        }
        for position in positions.iter().filter(|position| position.place == PLACE) {
            let covered = |offset: i64| {
                offset < position.low
                    || position.done.iter().any(|(start, end)| (*start..*end).contains(&offset))
            };
            let stated = (0..self.next).filter(|offset| covered(*offset)).collect::<BTreeSet<_>>();
            let ended = self.ended.keys().copied().collect::<BTreeSet<_>>();
            prop_assert_eq!(stated, ended, "the position covers what has ended and nothing else");
        }
        Ok(())
    }

    fn lose(&mut self) -> Result<(), TestCaseError> {
        self.state()?;
        let position = Position {
            place: PLACE,
            low: 0,
            done: self.ended.keys().map(|offset| (*offset, offset + 1)).collect(),
        };
        self.flow.own(&position);
        // Their answers say nothing of the items any more; whoever has the partition sends them again.
        for call in std::mem::take(&mut self.under_way) {
            let answers = call.into_iter().map(|ticket| (ticket, answer(Say::Broken, 0))).collect();
            self.flow.landed(answers, at(self.now));
        }
        self.next = 0;
        self.read_all();
        Ok(())
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Read { key, length } => {
                self.log.push((key, length));
                self.read_all();
            }
            Step::Send => self.send()?,
            Step::Land(which, say) => {
                if !self.under_way.is_empty() {
                    self.land(which.index(self.under_way.len()), say)?;
                }
            }
            Step::Wait(seconds) => self.now += seconds,
            Step::Lose => self.lose()?,
        }
        Ok(())
    }

    /// Whatever happened, once the other side is well everything comes to its end.
    fn finish(mut self) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            if self.ended.len() == self.log.len() {
                return Ok(());
            }
            self.now += 3_600;
            self.send()?;
            while !self.under_way.is_empty() {
                self.land(0, Say::Yes)?;
            }
        }
        prop_assert!(false, "{} of {} ended", self.ended.len(), self.log.len());
        Ok(())
    }
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..8_usize, 20..100_usize, 0..4_u64, 1..4_usize, any::<bool>(), any::<[bool; 2]>()).prop_map(
        |(max_items, max_bytes, wait, concurrency, rated, [ordered, together])| Limits {
            max_items,
            max_bytes,
            max_wait: Duration::from_secs(wait),
            rate: rated.then_some(Rate {
                calls: std::num::NonZeroU32::new(3).unwrap(),
                per: Duration::from_secs(10),
            }),
            ordered,
            together,
            ..Limits::single(concurrency, Duration::from_secs(1))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing is lost, each item has one end, a call is within the limits, items of a key go one after the
    /// other, and a position covers exactly what has ended.
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(
        limits in limits(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new(limits);
        for step in steps {
            world.step(step)?;
        }
        world.finish()?;
    }
}
