//! The kill test: a loader dies again and again, at named points and at any moment, while events, records and
//! full refreshes keep coming. In the end the warehouse holds what an undisturbed one holds, row by row.

use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::river::{River, Side};
use crate::sample::SETTLED;
use crate::stack::{Process, until};

const SIGABRT: i32 = 6;

/// Where a loader into a lake dies. A load that was announced and not sealed is done again by the next
/// loader, which dies in the middle of that, too.
const IN_A_LAKE: [&str; 16] = [
    "before-poll:1",
    "before-poll:4",
    "after-poll:2",
    "before-stage:1",
    "after-stage:2",
    "before-commit:2",
    "before-intent:1",
    "after-intent:1",
    "between-tables:1",
    "between-tables:6",
    "before-seal:1",
    "before-seal:1",
    "after-seal:1",
    "after-commit:1",
    "between-tables:14",
    "after-seal:4",
];

/// Where a loader into PostgreSQL dies.
const IN_POSTGRES: [&str; 14] = [
    "before-poll:1",
    "before-poll:4",
    "after-poll:2",
    "before-stage:1",
    "after-stage:1",
    "after-stage:3",
    "before-commit:2",
    "between-tables:1",
    "between-tables:9",
    "before-sql-commit:1",
    "before-sql-commit:3",
    "after-sql-commit:1",
    "after-sql-commit:2",
    "after-commit:1",
];

/// Deaths at any moment, for each test.
const AT_RANDOM: usize = 9;

/// A loader lives at most so long where it dies at random: some loads, and mostly in the middle of one.
const LONGEST_LIFE: Duration = Duration::from_millis(1_500);

#[test]
fn a_lake_is_as_if_the_loader_had_never_been_killed() {
    check(River::of_lakes(), &IN_A_LAKE, Dice::new("kill_loader, lake"));
}

#[test]
fn postgresql_is_as_if_the_loader_had_never_been_killed() {
    let Some(river) = River::of_databases("kill") else { return };
    check(river, &IN_POSTGRES, Dice::new("kill_loader, PostgreSQL"));
}

fn check(mut river: River, points: &[&str], mut dice: Dice) {
    let began = Instant::now();
    // The first value that a column sees makes its type, so both warehouses see the same ones first.
    river.send(SETTLED as usize);
    river.extract();
    river.load_once(Side::Disturbed);
    river.load_once(Side::Undisturbed);

    let rounds = points.len().max(AT_RANDOM);
    for round in 0..rounds {
        if round % 2 == 0 {
            river.extract();
        }
        river.send(2);
        if let Some(point) = points.get(round) {
            die_at(&mut river, round, point);
        }
        if round < AT_RANDOM {
            die_at_random(&mut river, round, &mut dice);
        }
    }
    println!(
        "{} deaths, {} events, {} records: {:.0} s",
        points.len() + AT_RANDOM,
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

/// The loader gets the next events until it has come to the point.
fn die_at(river: &mut River, round: usize, point: &str) {
    let mut loader = river.loader(&format!("load-{round}"), &[("MILLRACE_CRASH_AT", point)]);
    let ended = until(&format!("the loader dies {point}"), || {
        river.send(1);
        loader.ended()
    });
    let log = loader.log();
    assert_eq!(ended.signal(), Some(SIGABRT), "{point}: {ended}\n{log}");
    let (name, _) = point.split_once(':').unwrap();
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
