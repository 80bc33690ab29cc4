#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A destination, or a model: the version of each row.
type Table = BTreeMap<u8, u8>;

fn key(number: u8) -> PartitionKey {
    PartitionKey([number; 16])
}

fn rows(model: &Table) -> Vec<Row> {
    let row = |(id, version): (&u8, &u8)| Row {
        key: key(*id),
        hash: key(*version),
        key_body: Bytes::copy_from_slice(&[*id]),
        sendable: true,
    };
    model.iter().map(row).collect()
}

/// A snapshot with the destination that it is about.
#[derive(Default)]
struct World {
    run: u64,
    snapshot: Vec<(PartitionKey, Known)>,
    destination: Table,
}

/// What becomes of a change.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Delivered,
    /// Delivered, but the outcome is lost.
    DeliveredUnheard,
    /// Neither delivered nor heard of.
    Lost,
    Rejected,
}

impl World {
    /// One run: the changes that were published and what they counted as. Each meets its fate.
    fn run(&mut self, mode: Mode, model: &Table, mut fate: impl FnMut() -> Fate) -> (Vec<Effect>, Counts) {
        self.run += 1;
        let new = rows(model);
        let (mut next, mut changes) = (Vec::new(), Vec::new());
        let known = std::mem::take(&mut self.snapshot);
        let counts = diff(mode, self.run, known, &new, |effect| match effect {
            Effect::Keep(key, known) => next.push((key, known)),
            other => changes.push(other),
        });
        assert!(next.windows(2).all(|pair| pair[0].0 < pair[1].0), "the snapshot stays sorted");
        let mut ended = BTreeMap::new();
        for change in &changes {
            let (id, version) = match change {
                Effect::Upsert(place) => (new[*place].key.0[0], Some(new[*place].hash)),
                Effect::Delete { key, .. } => (key.0[0], None),
                other => panic!("{other:?}"),
            };
            let fate = fate();
            if matches!(fate, Fate::Delivered | Fate::DeliveredUnheard) {
                match version {
                    Some(hash) => self.destination.insert(id, hash.0[0]),
                    None => self.destination.remove(&id),
                };
            }
            let disposition = match fate {
                Fate::Delivered => Disposition::Delivered,
                Fate::Rejected => Disposition::Rejected,
                Fate::DeliveredUnheard | Fate::Lost => continue,
            };
            ended.insert(key(id), Ended { run: self.run, hash: version.unwrap_or(key(id)), disposition });
        }
        let settled = |(key, known): (PartitionKey, Known)| match ended.get(&key) {
            Some(ended) => settle(known, *ended).map(|known| (key, known)),
            None => Some((key, known)),
        };
        self.snapshot = next.into_iter().filter_map(settled).collect();
        (changes, counts)
    }
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::collection::btree_map(0_u8..20, 0_u8..5, 0..15)
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Delivered), Just(Fate::DeliveredUnheard), Just(Fate::Lost), Just(Fate::Rejected),]
}

fn any_mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::Upsert),
        Just(Mode::Insert),
        Just(Mode::Update),
        Just(Mode::Mirror),
        Just(Mode::Full)
    ]
}

proptest! {
    #[test]
    fn delivered_changes_of_a_mirror_make_the_destination_equal_to_the_model(
        models in prop::collection::vec(any_table(), 1..6),
    ) {
        let mut world = World::default();
        for model in &models {
            world.run(Mode::Mirror, model, || Fate::Delivered);
            prop_assert_eq!(&world.destination, model);
        }
    }

    #[test]
    fn a_run_without_change_publishes_nothing(mode in any_mode(), model in any_table()) {
        prop_assume!(mode != Mode::Full);
        let mut world = World::default();
        world.run(mode, &model, || Fate::Delivered);
        let (changes, counts) = world.run(mode, &model, || Fate::Delivered);
        prop_assert_eq!(changes, []);
        prop_assert_eq!(counts, Counts { unchanged: model.len() as u64, ..Counts::default() });
    }

    #[test]
    fn whatever_is_lost_the_destination_converges(
        models in prop::collection::vec(any_table(), 1..6),
        fates in prop::collection::vec(any_fate(), 100),
        last in any_table(),
    ) {
        let mut world = World::default();
        let mut fates = fates.into_iter().cycle();
        for model in &models {
            world.run(Mode::Mirror, model, || fates.next().unwrap());
        }
        world.run(Mode::Mirror, &last, || Fate::Delivered);
        prop_assert_eq!(&world.destination, &last);
        let (changes, _) = world.run(Mode::Mirror, &last, || Fate::Delivered);
        prop_assert_eq!(changes, []);
    }

    #[test]
    fn only_a_mirror_deletes(
        mode in any_mode(), models in prop::collection::vec(any_table(), 1..6),
        fates in prop::collection::vec(any_fate(), 100),
    ) {
        prop_assume!(mode != Mode::Mirror);
        let mut world = World::default();
        let mut fates = fates.into_iter().cycle();
        for model in &models {
            let (_, counts) = world.run(mode, model, || fates.next().unwrap());
            prop_assert_eq!(counts.deletes, 0);
        }
    }

    #[test]
    fn upserts_bring_every_row_of_the_model(models in prop::collection::vec(any_table(), 1..6)) {
        let mut world = World::default();
        for model in &models {
            world.run(Mode::Upsert, model, || Fate::Delivered);
            for (id, version) in model {
                prop_assert_eq!(world.destination.get(id), Some(version));
            }
        }
    }
}

fn published(mode: Mode, before: &Table, now: &Table) -> Vec<u8> {
    let mut world = World::default();
    // What the first run publishes does not matter here: its rows are known afterwards.
    world.run(mode, before, || Fate::Delivered);
    let (changes, _) = world.run(mode, now, || Fate::Delivered);
    let new = rows(now);
    changes
        .iter()
        .map(|change| match change {
            Effect::Upsert(place) => new[*place].key.0[0],
            Effect::Delete { key, .. } => 100 + key.0[0],
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn each_mode_publishes_what_it_says() {
    // 1 is the same, 2 has changed, 3 is gone, 4 is new.
    let before = Table::from([(1, 1), (2, 1), (3, 1)]);
    let now = Table::from([(1, 1), (2, 2), (4, 1)]);
    assert_eq!(published(Mode::Upsert, &before, &now), [2, 4]);
    assert_eq!(published(Mode::Insert, &before, &now), [4]);
    assert_eq!(published(Mode::Update, &before, &now), [2]);
    assert_eq!(published(Mode::Mirror, &before, &now), [2, 103, 4]);
    assert_eq!(published(Mode::Full, &before, &now), [1, 2, 4]);
}

#[test]
fn a_rejected_row_comes_back_with_the_next_diff() {
    let model = Table::from([(1, 1)]);
    let mut world = World::default();
    world.run(Mode::Upsert, &model, || Fate::Rejected);
    let (changes, counts) = world.run(Mode::Upsert, &model, || Fate::Delivered);
    assert_eq!(changes, [Effect::Upsert(0)]);
    assert_eq!(counts.unknown_resent, 0, "how it ended was known");
}

#[test]
fn what_is_not_known_to_have_ended_is_sent_again_or_deleted_if_it_is_gone() {
    let mut world = World::default();
    world.run(Mode::Mirror, &Table::from([(1, 1), (2, 1)]), || Fate::Lost);
    let (changes, counts) = world.run(Mode::Mirror, &Table::from([(1, 1)]), || Fate::Delivered);
    assert_eq!(changes.len(), 2);
    assert!(matches!(&changes[1], Effect::Delete { key: deleted, .. } if *deleted == key(2)));
    assert_eq!(counts.unknown_resent, 2);
}

#[test]
fn rows_of_one_key_that_differ_are_all_rejected_and_leave_the_destination_alone() {
    let mut world = World::default();
    world.run(Mode::Mirror, &Table::from([(1, 1)]), || Fate::Delivered);
    let twice = [1, 2].map(|version| Row { hash: key(version), ..rows(&Table::from([(1, 0)]))[0].clone() });
    let before = world.snapshot.clone();
    let mut effects = Vec::new();
    let counts = diff(Mode::Mirror, 2, before.clone(), &twice, |effect| effects.push(effect));
    assert_eq!(counts, Counts { rejected: 2, ..Counts::default() });
    let kept = Effect::Keep(before[0].0, before[0].1.clone());
    assert_eq!(effects, [Effect::Reject(0), Effect::Reject(1), kept]);
}

#[test]
fn a_row_that_cannot_be_sent_leaves_the_destination_alone() {
    let mut world = World::default();
    world.run(Mode::Mirror, &Table::from([(1, 1)]), || Fate::Delivered);
    let row = Row { sendable: false, ..rows(&Table::from([(1, 2)]))[0].clone() };
    let mut effects = Vec::new();
    diff(Mode::Mirror, 2, world.snapshot.clone(), &[row], |effect| effects.push(effect));
    assert_eq!(effects[0], Effect::Reject(0));
    assert_eq!(effects[1], Effect::Keep(world.snapshot[0].0, world.snapshot[0].1.clone()));
}

#[test]
fn equal_rows_of_one_key_are_one_row() {
    let row = rows(&Table::from([(1, 1)]))[0].clone();
    let mut effects = Vec::new();
    let counts = diff(Mode::Upsert, 1, Vec::new(), &[row.clone(), row], |effect| effects.push(effect));
    assert_eq!((counts.upserts, counts.rejected), (1, 1));
    assert_eq!(effects[..2], [Effect::Reject(1), Effect::Upsert(0)]);
}

#[test]
fn an_outcome_of_an_older_run_says_nothing() {
    let state = State::Unknown { run: 2, op: ChangeOp::Upsert, hash: key(1) };
    let known = Known { state, key_body: Bytes::new() };
    let ended = Ended { run: 1, hash: key(1), disposition: Disposition::Rejected };
    assert_eq!(settle(known.clone(), ended), Some(known));
}
