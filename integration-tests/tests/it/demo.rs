//! `millrace demo`: the first thing that a new user runs.

use std::time::Instant;

use crate::stack::Site;

#[test]
fn the_demo_runs_the_whole_river_and_every_count_adds_up() {
    let site = Site::new("");
    let began = Instant::now();
    let output = site.run(&["demo"]);
    let text = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    println!("the demo took {:.1} s", began.elapsed().as_secs_f64());
    assert!(output.status.success(), "{text}\n{log}");
    for stage in ["1  ingest", "2  extract", "3  warehouse-loader", "4  deliver", "5  reverse ETL"] {
        assert!(text.contains(stage), "{stage} is missing:\n{text}");
    }
    assert!(text.contains("Every count adds up."), "{text}");
}
