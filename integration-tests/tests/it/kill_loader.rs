//! The kill test: a loader dies again and again, at each crash point and at any moment, while events, records
//! and full refreshes keep coming. In the end the warehouse holds what an undisturbed one holds, row by row.

use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::crash_points::{self, CrashPoint};
use crate::dice::Dice;
use crate::river::{River, Side};
use crate::sample::SETTLED;
use crate::stack::{Process, rounds, until};

const SIGABRT: i32 = 6;

/// Deaths at any moment, for each warehouse; `just kill-loader` wants more.
const AT_RANDOM: usize = 20;

/// The same where values conflict.
const AT_RANDOM_WITH_CONFLICTS: usize = 6;

/// A loader lives at most so long where it dies at random: some loads, and mostly in the middle of one.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);

/// It dies at the first pass of each point, and at one of so many after it.
const LATER_PASSES: u64 = 3;

#[test]
fn a_lake_is_as_if_the_loader_had_never_been_killed() {
    check(River::of_lakes(), &crash_points::of_lakes(), Dice::new("kill_loader, lake"));
}

#[test]
fn plain_files_are_as_if_the_loader_had_never_been_killed() {
    check(River::of_plain_files(), &crash_points::of_plain_files(), Dice::new("kill_loader, plain files"));
}

#[test]
fn postgresql_is_as_if_the_loader_had_never_been_killed() {
    let Some(river) = River::of_databases("kill") else { return };
    check(river, &crash_points::of_postgresql(), Dice::new("kill_loader, PostgreSQL"));
}

#[test]
fn where_values_conflict_a_lake_keeps_each_however_often_the_loader_is_killed() {
    check_conflicts(River::of_lakes(), Dice::new("kill_loader, lake, conflicts"));
}

#[test]
fn where_values_conflict_postgresql_keeps_each_however_often_the_loader_is_killed() {
    let Some(river) = River::of_databases("conflicts") else { return };
    check_conflicts(river, Dice::new("kill_loader, PostgreSQL, conflicts"));
}

fn check(mut river: River, points: &[CrashPoint], mut dice: Dice) {
    let (began, at_random) = (Instant::now(), rounds(AT_RANDOM));
    // The first value that a column sees makes its type, so both warehouses see the same ones first.
    river.send(SETTLED as usize);
    river.extract();
    river.load_once(Side::Disturbed);
    river.load_once(Side::Undisturbed);

    let mut deaths = Vec::new();
    for point in points {
        deaths.push((point, 1));
        deaths.push((point, 2 + dice.below(LATER_PASSES)));
    }
    for round in 0..deaths.len().max(at_random) {
        if round % 2 == 0 {
            river.extract();
        }
        river.send(2);
        if let Some((point, pass)) = deaths.get(round) {
            die_at(&mut river, round, point, *pass);
        }
        if round < at_random {
            die_at_random(&mut river, round, &mut dice);
        }
    }
    println!(
        "{} deaths at {} points, {at_random} at random, {} events, {} records: {:.0} s",
        deaths.len(),
        points.len(),
        river.sample.made(),
        river.elt_rows,
        began.elapsed().as_secs_f64()
    );
    river.assert_whole();
    println!("compared after {:.0} s", began.elapsed().as_secs_f64());

    // The comparison has to be able to fail: one more event in one of the two.
    river.send(1);
    river.load_once(Side::Undisturbed);
    let found = river.contents(Side::Disturbed).differences(&river.contents(Side::Undisturbed));
    assert!(found.iter().any(|line| line.starts_with("web.tracks: 0 times, not 1")), "{found:?}");
}

fn check_conflicts(river: River, mut dice: Dice) {
    let mut river = river.with_conflicts();
    river.extract();
    // No loader may live to its first load, and a warehouse that has loaded nothing cannot be asked what it has.
    river.send(2);
    river.load_once(Side::Disturbed);
    for round in 0..rounds(AT_RANDOM_WITH_CONFLICTS) {
        river.send(2);
        die_at_random(&mut river, round, &mut dice);
    }
    river.assert_kept();
}

/// The loader gets the next events until it has come to the point.
fn die_at(river: &mut River, round: usize, point: &CrashPoint, pass: u64) {
    let name = &point.name;
    let at = format!("{name}:{pass}");
    let mut loader = river.loader(&format!("load-{round}"), &[("MILLRACE_CRASH_AT", &at)]);
    let ended = until(&format!("the loader dies {at}"), || {
        // Some points are passed only on the way to a new column.
        river.sample.add_column();
        river.send(1);
        loader.ended()
    });
    let log = loader.log();
    assert_eq!(ended.signal(), Some(SIGABRT), "{at}: {ended}\n{log}");
    assert!(
        log.contains(&format!("dying at the crash point that the environment asked for point=\"{name}\"")),
        "{log}"
    );
}

/// The loader is killed while events come: soon after its start, or soon after it has begun to load.
fn die_at_random(river: &mut River, round: usize, dice: &mut Dice) {
    let mut loader = river.loader(&format!("load-random-{round}"), &[]);
    if dice.below(3) > 0 {
        until("the loader has resumed", || loader.log().contains("resumed").then_some(()));
    }
    let (life, born) = (dice.moment(LONGEST_LIFE), Instant::now());
    while born.elapsed() < life {
        river.send(1);
        sleep(life.saturating_sub(born.elapsed()).min(Duration::from_millis(50)));
    }
    assert_alive(&mut loader);
    loader.kill();
}

fn assert_alive(loader: &mut Process) {
    assert!(loader.is_running(), "the loader ended by itself:\n{}", loader.log());
}
