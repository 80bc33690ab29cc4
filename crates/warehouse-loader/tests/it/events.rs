//! Events of one connection into the lake.

use std::sync::Arc;

use millrace_event_model::topics::DEAD_LETTERS;
use millrace_service::{Schedule, Stop, Window};
use millrace_warehouse_loader::{Error, Filter, Kind, LoadLimits, Start};
use serde_json::json;

use crate::messages::{event, identify, mixed, track};
use crate::stack::{Stack, books, connection, contents, eventually, query, run_once};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_event_ends_in_exactly_one_way_and_is_counted_so() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let mut conflict = track(1, "ann", "Order Placed", json!({"total": 8}));
    conflict.received_at = crate::messages::at(5);
    let mut not_json = track(3, "ann", "x", json!({}));
    not_json.body = "{".into();
    let mut of_another = track(9, "ann", "Elsewhere", json!({}));
    of_another.source = "app".parse().unwrap();
    stack
        .publish(&[
            track(1, "ann", "Order Placed", json!({"total": 7})),
            conflict,
            identify(2, "ann", json!({"email": "***"})),
            identify(2, "ann", json!({"email": "***"})),
            not_json,
            event(4, "ann", json!({"type": "page", "name": "Home"})),
            of_another,
        ])
        .await;
    let connection = || {
        let mut connection = connection(lake.clone(), Kind::Events);
        connection.when = Some(Arc::new(Filter::compile("type != 'page'").unwrap()));
        connection
    };

    let report = stack.load(connection()).await.unwrap();
    let counts = (report.loaded, report.duplicates, report.rejected, report.filtered);
    assert_eq!(counts, (2, 2, 1, 1));
    assert_eq!(report.tables.keys().collect::<Vec<_>>(), ["identifies", "order_placed", "tracks", "users"]);
    let again = stack.load(connection()).await.unwrap();
    assert_eq!((again.loaded, again.batches), (0, 0), "a second run finds nothing new");

    let orders = query(&*lake, "SELECT total, event, user_id FROM web.order_placed").await;
    assert_eq!(orders, ["event=order_placed total=7 user_id=ann"]);
    assert_eq!(query(&*lake, "SELECT id, email FROM web.users").await, ["email=*** id=ann"]);
    let expected = [
        "conflicts=0 disposition=duplicate items=2",
        "conflicts=0 disposition=filtered items=1",
        "conflicts=0 disposition=loaded items=2",
        "conflicts=0 disposition=rejected items=1",
    ];
    let expected =
        expected.map(|line| line.replace("conflicts=0 disposition=dup", "conflicts=1 disposition=dup"));
    assert_eq!(books(&*lake).await, expected);

    let letters = stack.bus.read_all(&DEAD_LETTERS.of(stack.bus.workspace())).await.unwrap();
    let letter = letters[0].message.as_ref().unwrap();
    assert_eq!(
        (letters.len(), letter.subject.as_str(), letter.reason.code.as_str()),
        (1, "web--lake", "invalid_json")
    );
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_do_not_depend_on_how_events_fall_into_batches() {
    let stack = Stack::start().await;
    stack.publish(&mixed(200)).await;
    let (whole, pieces) = (stack.lake("whole"), stack.lake("pieces"));
    stack.load(connection(whole.clone(), Kind::Events)).await.unwrap();
    let mut small = connection(pieces.clone(), Kind::Events);
    small.id = "web--pieces".parse().unwrap();
    let limits = LoadLimits { max_records: 17, ..LoadLimits::default() };
    let report = run_once(stack.limited("test", small, limits)).await.unwrap();
    assert!(report.batches > 5, "{report:?}");
    assert_eq!(contents(&*pieces).await, contents(&*whole).await);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_begins_at_the_latest_misses_nothing_between_its_first_two_runs() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let connection = || {
        let mut connection = connection(lake.clone(), Kind::Events);
        connection.start = Start::Latest;
        connection
    };
    stack.publish(&[track(1, "ann", "Before", json!({}))]).await;
    assert_eq!(stack.load(connection()).await.unwrap().loaded, 0);
    stack.publish(&[track(2, "ann", "After", json!({}))]).await;
    assert_eq!(stack.load(connection()).await.unwrap().loaded, 1);
    assert_eq!(query(&*lake, "SELECT event FROM web.tracks").await, ["event=after"]);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_loads_what_comes_and_one_that_stands_by_takes_over() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let stop = Stop::new();
    let service = stack.service("first", connection(lake.clone(), Kind::Events));
    let running = tokio::spawn(service.run(stop.clone()));
    stack.publish(&mixed(40)).await;
    let count = async |wanted: usize| {
        let tables = millrace_connector::Warehouse::describe(&*lake, "web").await.unwrap();
        tables.contains_key("pages") && query(&*lake, "SELECT id FROM web.pages").await.len() == wanted
    };
    eventually("the first load", || count(10)).await;
    assert!(stack.health.readiness().ready, "{:?}", stack.health.readiness());

    let other = || connection(Arc::clone(&lake) as _, Kind::Events);
    let refused = run_once(stack.service("second", other())).await.unwrap_err();
    assert!(matches!(refused, Error::Held { ref holder, .. } if holder == "first"), "{refused}");
    stop.trigger();
    running.await.unwrap().unwrap();

    stack.publish(&mixed(44)[40..]).await;
    let report = run_once(stack.service("second", other())).await.unwrap();
    assert_eq!(report.loaded, 4);
    assert!(count(11).await);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_live_loaders_the_older_is_refused_and_nothing_is_doubled() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let connection = || connection(lake.clone(), Kind::Events);
    let stop = Stop::new();
    let older = tokio::spawn(stack.service("same", connection()).run(stop.clone()));
    stack.publish(&mixed(8)).await;
    eventually("the first load", async || {
        millrace_connector::Warehouse::describe(&*lake, "web").await.unwrap().contains_key("pages")
    })
    .await;
    // A process that comes back under its own name takes the lease at once; the older one lives on, and
    // each load is a race that the fence decides.
    for round in 1..4 {
        let newer = stack.service("same", connection());
        stack.publish(&mixed(8 * (round + 1))[usize::try_from(8 * round).unwrap()..]).await;
        run_once(newer).await.unwrap();
    }
    assert_eq!(query(&*lake, "SELECT DISTINCT id FROM web.pages").await.len(), 8);
    assert_eq!(query(&*lake, "SELECT id FROM web.pages").await.len(), 8);
    assert_eq!(books(&*lake).await, ["conflicts=0 disposition=loaded items=32"]);
    stop.trigger();
    older.await.unwrap().unwrap();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_loaded_in_an_excluded_window_and_a_full_load_waits_for_no_schedule() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(8)).await;
    let (hour, now) = (chrono::TimeDelta::hours(1), chrono::Utc::now());
    let window = format!("{}-{}", (now - hour).format("%H:%M"), (now + hour).format("%H:%M"));
    let mut excluded = connection(lake.clone(), Kind::Events);
    excluded.timing.exclude = vec![Window::parse(&window).unwrap()];
    let report = stack.load(excluded).await.unwrap();
    assert!(report.excluded_until.is_some_and(|until| until > now && until <= now + hour), "{report:?}");
    assert_eq!((report.loaded, report.run), (0, None));

    let mut slow = connection(lake.clone(), Kind::Events);
    slow.schedule = Schedule::Every(std::time::Duration::from_secs(3600));
    slow.timing.max_records = Some(8);
    let stop = Stop::new();
    let running = tokio::spawn(stack.service("test", slow).run(stop.clone()));
    eventually("a load of eight", async || {
        let tables = millrace_connector::Warehouse::describe(&*lake, "web").await.unwrap();
        tables.contains_key("pages")
    })
    .await;
    stop.trigger();
    running.await.unwrap().unwrap();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_connection_is_named() {
    let stack = Stack::start().await;
    let service = stack.service("test", connection(stack.lake("lake"), Kind::Events));
    let error = service.run_once(&["app--lake".parse().unwrap()], Stop::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no connection app--lake to a warehouse");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_of_one_warehouse_merge_the_same_users_and_lose_no_value() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    let users: Vec<String> = (0..4).map(|user| format!("user-{user}")).collect();
    let mut events = Vec::new();
    for number in 0..40_i64 {
        let user = &users[usize::try_from(number).unwrap() % users.len()];
        events.push(identify(number, user, json!({"email": format!("{number}@web")})));
        let mut of_app = identify(number, user, json!({"plan": format!("plan-{number}")}));
        of_app.source = "app".parse().unwrap();
        events.push(of_app);
    }
    stack.publish(&events).await;
    let web = connection(lake.clone(), Kind::Events);
    let mut app = connection(lake.clone(), Kind::Events);
    (app.id, app.source) = ("app--lake".parse().unwrap(), "app".parse().unwrap());
    // Many small loads, so that the two meet.
    let limits = LoadLimits { max_records: 9, ..LoadLimits::default() };
    let service = |holder, connection| stack.limited(holder, connection, limits);
    let (web, app) = tokio::join!(run_once(service("a", web)), run_once(service("b", app)));
    assert_eq!((web.unwrap().loaded, app.unwrap().loaded), (40, 40));
    let merged = query(&*lake, "SELECT id, email, plan FROM web.users ORDER BY id").await;
    let expected: Vec<String> = (0..4)
        .map(|user| format!("email={}@web id=user-{user} plan=plan-{}", 36 + user, 36 + user))
        .collect();
    assert_eq!(merged, expected);
    stack.stop().await;
}
