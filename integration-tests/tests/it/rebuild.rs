//! `millrace rebuild` beside a loader in another process: killed at any moment, and called again.

use std::time::Duration;

use crate::dice::Dice;
use crate::river::{River, Side};
use crate::sample::SETTLED;
use crate::stack::until;

/// Deaths of the rebuild, each at any moment of its work.
const DEATHS: usize = 3;

/// Within this time of its start it follows, waits for the loader to stand back, and swaps.
const AT_WORK: Duration = Duration::from_secs(12);

#[test]
fn tables_of_a_lake_are_made_anew_while_they_are_loaded() {
    check(River::of_lakes(), Dice::new("rebuild, lake"));
}

#[test]
fn tables_of_postgresql_are_made_anew_while_they_are_loaded() {
    let Some(river) = River::of_databases("rebuild") else { return };
    check(river, Dice::new("rebuild, PostgreSQL"));
}

fn check(mut river: River, mut dice: Dice) {
    river.send(SETTLED as usize);
    river.extract();
    river.load_once(Side::Disturbed);
    river.load_once(Side::Undisturbed);
    let mut loader = river.loader("loader", &[]);
    until("the loader is at work", || loader.log().contains("resumed connection=web--main").then_some(()));
    let rows = |river: &River| {
        let sql = "SELECT CAST(count(*) AS BIGINT) AS c FROM web.tracks";
        river.query(Side::Disturbed, sql)[0]["c"].as_u64().unwrap()
    };
    let mut most = rows(&river);
    for death in 1..=DEATHS {
        let mut rebuild = river.rebuild(&format!("rebuild-{death}"));
        river.send(3);
        // Not before: it waits for the end of a lease that the one before it has left.
        until("the rebuild is at work", || rebuild.log().contains("at work on the rebuild").then_some(()));
        std::thread::sleep(dice.moment(AT_WORK));
        rebuild.kill();
        let now = rows(&river);
        assert!(now >= most, "death {death}: there were {most} rows, and now {now}");
        most = now;
    }
    let mut last = river.rebuild("rebuild-last");
    river.send(3);
    let ended = until("the rebuild ends", || last.ended());
    assert!(ended.success(), "{}", last.log());
    let outcome = last.first_line();
    assert_eq!(outcome["done"], true, "{outcome}");
    let schemas = "SELECT DISTINCT table_schema AS s FROM information_schema.tables";
    let schemas = river.query(Side::Disturbed, schemas);
    assert!(!schemas.iter().any(|row| row["s"] == "web__rebuild"), "{schemas:?}");
    river.send(3);
    assert!(loader.stop(), "{}", loader.log());
    river.assert_whole();
}
