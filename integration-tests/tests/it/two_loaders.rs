//! Two live loaders of one connection: the older one wakes up late, with work in hand, and is refused.

use std::time::Duration;

use crate::dice::Dice;
use crate::river::{River, Side};
use crate::sample::SETTLED;
use crate::stack::{PATIENCE, Process, until};

/// Times that a loader is stopped, taken over from, and woken, in one test.
const ROUNDS: usize = 5;

/// A loader is stopped at a moment of this span, in which it loads again and again.
const BUSY: Duration = Duration::from_millis(1_200);

/// What a loader says whose commit was refused, or who has noticed before it tried.
const REFUSED: &str = "has taken over";
const LOST: &str = "the lease is lost";

#[test]
fn an_older_loader_of_a_lake_is_refused_when_it_wakes() {
    check(River::of_lakes(), Dice::new("two_loaders, lake"));
}

#[test]
fn an_older_loader_of_plain_files_adds_nothing_when_it_wakes() {
    check(River::of_plain_files(), Dice::new("two_loaders, plain files"));
}

#[test]
fn an_older_loader_of_postgresql_is_refused_when_it_wakes() {
    let Some(river) = River::of_databases("two_loaders") else { return };
    check(river, Dice::new("two_loaders, PostgreSQL"));
}

/// Each new loader has the name of the last: that is a restart whose former self still lives, and it gets
/// the lease at once.
fn check(mut river: River, mut dice: Dice) {
    settle(&mut river);
    let mut older = river.loader("loader-0", &[]);
    wait_for(&older, "resumed connection=web--main");
    let mut refusals = 0;
    for round in 1..=ROUNDS {
        // Stopped at any moment: reading, in the middle of a load, or between two.
        river.send(3);
        std::thread::sleep(dice.moment(BUSY));
        older.signal("STOP");
        river.send(3);
        let newer = river.loader(&format!("loader-{round}"), &[]);
        // A loader that was stopped in its transaction holds the fence: then the newer one waits for it.
        let loaded = river.loaded(Side::Disturbed);
        let took_over = within(Duration::from_secs(5), || river.loaded(Side::Disturbed) > loaded);
        println!("round {round}: the newer loader {} first", if took_over { "loads" } else { "waits" });
        older.signal("CONT");
        // It comes back with what it had, or reads what has come since; neither may be loaded again.
        until("the older loader is refused", || {
            river.send(1);
            let log = older.log();
            (log.contains(REFUSED) || log.contains(LOST)).then_some(())
        });
        refusals += usize::from(older.log().contains(REFUSED));
        assert!(older.stop(), "{}", older.log());
        wait_for(&newer, "resumed connection=web--main");
        older = newer;
    }
    assert!(refusals > 0, "no commit was refused; all have noticed before");
    assert!(older.stop(), "{}", older.log());
    river.assert_whole();
}

/// The hardest moment: it holds the fence and has written its rows, and its commit has not been sent.
#[test]
fn a_loader_that_stops_in_its_transaction_loads_once() {
    let Some(mut river) = River::of_databases("frozen") else { return };
    settle(&mut river);
    let mut older = river.loader("older", &[]);
    wait_for(&older, "resumed connection=web--main");
    river.database(Side::Disturbed).execute("BEGIN; LOCK TABLE web.tracks IN ACCESS EXCLUSIVE MODE");
    river.send(3);
    let waiting = |river: &River| {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        (river.query(Side::Disturbed, sql).len() == 1).then_some(())
    };
    until("the older loader waits in its transaction", || waiting(&river));
    older.signal("STOP");
    river.database(Side::Disturbed).execute("COMMIT");
    until("nothing holds up the stopped loader's transaction", || waiting(&river).is_none().then_some(()));
    river.send(3);
    let mut newer = river.loader("newer", &[]);
    until("the newer loader waits for the fence", || waiting(&river));
    assert!(!newer.log().contains("resumed connection=web--main"), "{}", newer.log());
    older.signal("CONT");
    wait_for(&newer, "resumed connection=web--main");
    until("the older loader is refused", || {
        river.send(1);
        older.log().contains(REFUSED).then_some(())
    });
    assert!(older.stop() && newer.stop(), "{}\n{}", older.log(), newer.log());
    river.assert_whole();
}

/// Two names: the second stands by until the first has been silent for the life of a lease.
#[test]
fn a_standby_takes_over_when_the_lease_has_expired() {
    let mut river = River::of_lakes();
    settle(&mut river);
    let mut first = river.loader("first", &[("MILLRACE_INSTANCE", "first")]);
    wait_for(&first, "resumed connection=web--main");
    let mut second = river.loader(
        "second",
        &[("MILLRACE_INSTANCE", "second"), ("MILLRACE_LOG", "info,millrace_warehouse_loader=debug")],
    );
    wait_for(&second, "standing by");
    river.send(3);
    first.signal("STOP");
    river.send(3);
    wait_for(&second, "resumed connection=web--main");
    river.send(3);
    first.signal("CONT");
    until("the first is refused", || {
        river.send(1);
        let log = first.log();
        (log.contains(REFUSED) || log.contains(LOST)).then_some(())
    });
    // Both live on; the first stands by.
    river.send(10);
    let made = river.sample.made();
    until("the second has loaded all", || (river.loaded(Side::Disturbed) == made).then_some(()));
    assert!(second.is_running());
    assert!(first.stop() && second.stop(), "{}\n{}", first.log(), second.log());
    river.assert_whole();
}

fn settle(river: &mut River) {
    river.send(SETTLED as usize);
    river.extract();
    river.load_once(Side::Disturbed);
    river.load_once(Side::Undisturbed);
}

fn wait_for(loader: &Process, word: &str) {
    let logged = within(PATIENCE, || loader.log().contains(word));
    assert!(logged, "the loader has not said {word:?} but:\n{}", loader.log());
}

/// Whether it becomes true in this time.
fn within(time: Duration, mut look: impl FnMut() -> bool) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        if look() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
