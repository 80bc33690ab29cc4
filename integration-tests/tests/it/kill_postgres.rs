//! PostgreSQL dies under a loader that lives on: in the middle of COPY, before COMMIT, and in the middle of it.
//! What it holds in the end is what an undisturbed database holds, row by row.
//!
//! The loader's line passes through the test, which so knows the moment to the byte. Whether a COMMIT that was
//! on its way was kept is up to the server's log on disk; the loader has to find out.

use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::postgres::Database;
use crate::postgres_server::PostgresServer;
use crate::river::{River, Side};
use crate::sample::SETTLED;
use crate::stack::{rounds, until};
use crate::wire::{Line, Moment, Order};

/// Deaths of the server; `just kill-postgres` wants more.
const ROUNDS: usize = 5;

/// A COPY is cut after fewer bytes: some loads copy more at once, and the rest is counted on with the next.
const CUT_WITHIN: u64 = 12_000;

/// A server that has been sent COMMIT dies this soon, before or after it has made it durable.
const COMMITTING: Duration = Duration::from_millis(4);

#[derive(Debug, Default)]
struct Deaths {
    in_copy: usize,
    before_commit: usize,
    /// COMMIT was on its way, and the rows are there after the recovery, or are not.
    kept: usize,
    undone: usize,
}

#[test]
fn the_rows_are_as_if_postgresql_had_never_been_killed() {
    let Some(server) = PostgresServer::start() else { return };
    let (mut dice, began) = (Dice::new("kill_postgres"), Instant::now());
    let databases =
        vec![Database::on(&server.url, "kill_disturbed"), Database::on(&server.url, "kill_undisturbed")];
    let line = Line::to(server.address());
    let mut river = River::of_these(databases, Some(&line.address));
    river.send(SETTLED as usize);
    river.extract();
    river.load_once(Side::Disturbed);
    river.load_once(Side::Undisturbed);

    let mut loader = river.loader("loader", &[]);
    let (mut deaths, rounds) = (Deaths::default(), rounds(ROUNDS));
    for round in 0..rounds {
        if round % 3 == 0 {
            river.extract();
        }
        // Each kind in turn, the one that has two ends twice.
        match round % 4 {
            0 => {
                die_at(&mut river, &server, &line, Moment::InCopy(dice.below(CUT_WITHIN) as usize));
                deaths.in_copy += 1;
            }
            1 => {
                die_at(&mut river, &server, &line, Moment::AtCommit);
                deaths.before_commit += 1;
            }
            _ if die_committing(&mut river, &server, &line, dice.moment(COMMITTING)) => deaths.kept += 1,
            _ => deaths.undone += 1,
        }
        // One load in peace: a loader that fails again and again waits longer and longer.
        let before = booked(&river);
        until("the loader goes on by itself", || {
            river.send(1);
            assert!(loader.is_running(), "{}", loader.log());
            (booked(&river) > before).then_some(())
        });
    }
    println!("{rounds} deaths of PostgreSQL in {:.0} s: {deaths:?}", began.elapsed().as_secs_f64());
    assert_eq!(deaths.in_copy + deaths.before_commit + deaths.kept + deaths.undone, rounds);
    assert!(loader.stop(), "{}", loader.log());
    river.assert_whole();
}

/// The server dies while the line is held, and what was held back is lost.
fn die_at(river: &mut River, server: &PostgresServer, line: &Line, moment: Moment) {
    line.hold_at(moment);
    let held = line.wait(|| river.send(2));
    server.kill();
    held.decide(Order::Break);
    server.start_again();
    river.reconnect();
}

/// The server dies so long after it was sent COMMIT. Returns whether the rows are there.
fn die_committing(river: &mut River, server: &PostgresServer, line: &Line, after: Duration) -> bool {
    line.hold_at(Moment::AtCommit);
    let held = line.wait(|| river.send(2));
    let before = booked(river);
    held.decide(Order::PassOnAndFallSilent);
    std::thread::sleep(after);
    server.kill();
    server.start_again();
    river.reconnect();
    booked(river) > before
}

/// Items in the books. Another connection's load may add to them between two looks: this is for the figures
/// that are printed, not for the proof.
fn booked(river: &River) -> u64 {
    let rows =
        river.database(Side::Disturbed).rows("SELECT COALESCE(sum(items), 0)::bigint FROM _millrace.counts");
    rows[0][0].as_deref().unwrap().parse().unwrap()
}
