use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use millrace_connector::ErrorKind;

use super::server::{Database, OwnServer, connect};
use super::*;

fn one_row(start: i64) -> Load {
    let schema = columns(&[("n", FieldType::Int)]);
    let values = [row(&[("n", Cell::Int(start))])];
    load(start, start + 1, vec![rows("numbers", &schema, &values, WriteMode::Append)])
}

async fn create_numbers(warehouse: &Postgres) {
    create(warehouse, "numbers", &columns(&[("n", FieldType::Int)])).await;
}

async fn numbers(warehouse: &Postgres) -> Value {
    select(warehouse, "SELECT n FROM shop.numbers ORDER BY n").await
}

#[tokio::test]
async fn the_older_of_two_loaders_is_refused() {
    let Some(database) = Database::create().await else { return };
    let (old, new) = (postgres(&database.url), postgres(&database.url));
    old.resume(&connection(), 1, &kafka()).await.unwrap();
    create_numbers(&old).await;
    old.load(one_row(0)).await.unwrap();

    let resume = new.resume(&connection(), 2, &kafka()).await.unwrap();
    assert_eq!(resume.positions, BTreeMap::from([(0, 1)]));
    let error = old.load(one_row(1)).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "stale_epoch"));
    let error = old.resume(&connection(), 1, &kafka()).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "stale_epoch"));
    new.load(Load { epoch: 2, ..one_row(1) }).await.unwrap();
    assert_eq!(numbers(&new).await, json!([{"n": 0}, {"n": 1}]));
}

#[tokio::test]
async fn a_batch_is_never_loaded_twice() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    let error = warehouse.load(one_row(0)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "our tables are not there: {}", error.full());
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    create_numbers(&warehouse).await;
    warehouse.load(one_row(0)).await.unwrap();
    for again in [one_row(0), one_row(5)] {
        let error = warehouse.load(again).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "position_moved"));
    }
    // A partition that was never read joins at any offset.
    let mut next = one_row(1);
    next.ranges.push(OffsetRange { partition: 3, start: 500, end: 510 });
    warehouse.load(next).await.unwrap();
    assert_eq!(numbers(&warehouse).await, json!([{"n": 0}, {"n": 1}]));
    let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    assert_eq!(resume.positions, BTreeMap::from([(0, 2), (3, 510)]));
}

#[tokio::test]
async fn positions_of_another_kafka_are_refused() {
    let Some(database) = Database::create().await else { return };
    let warehouse = postgres(&database.url);
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    let other = KafkaIdentity { topic_id: "recreated".to_owned(), ..kafka() };
    let error = warehouse.resume(&connection(), 2, &other).await.unwrap_err();
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Pause, "other_kafka"));
    let resume = warehouse.resume(&connection(), 1, &kafka()).await;
    assert!(resume.is_ok(), "the refused one has not raised the fence");
}

/// Waits until `condition` holds, by asking the server.
async fn wait_for(client: &tokio_postgres::Client, condition: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !client.query_one(condition, &[]).await.unwrap().get::<_, bool>(0) {
        assert!(Instant::now() < deadline, "waited in vain for {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_connection_killed_in_the_middle_of_a_load_leaves_nothing() {
    let Some(database) = Database::create().await else { return };
    let warehouse = std::sync::Arc::new(postgres(&database.url));
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    create_numbers(&warehouse).await;
    create(&warehouse, "locked", &columns(&[("n", FieldType::Int)])).await;
    // The load has written its first table and waits for the second, which we hold.
    let client = database.client().await;
    client.batch_execute("BEGIN; LOCK TABLE shop.locked IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut tables = one_row(0).tables;
    let mut second = tables[0].clone();
    second.name = table_name("locked");
    tables.push(second);
    let loading = tokio::spawn({
        let warehouse = warehouse.clone();
        async move { warehouse.load(load(0, 1, tables)).await }
    });
    let other = database.client().await;
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";
    wait_for(&other, waits).await;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted";
    other.query(kill, &[]).await.unwrap();
    let error = loading.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "{}", error.full());
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(numbers(&warehouse).await, json!([]));
    let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    assert!(resume.positions.is_empty());
    warehouse.load(one_row(0)).await.unwrap();
    assert_eq!(numbers(&warehouse).await, json!([{"n": 0}]));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let Some(server) = OwnServer::start() else { return };
    let url = &server.url;
    let warehouse = postgres(url);
    warehouse.check().await.unwrap();
    warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    create_numbers(&warehouse).await;
    warehouse.load(one_row(0)).await.unwrap();

    server.run("stop");
    let error = warehouse.load(one_row(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "{}", error.full());
    let error = warehouse.check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Retry { after: None }, "{}", error.full());

    server.run("start");
    let resume = warehouse.resume(&connection(), 1, &kafka()).await.unwrap();
    assert_eq!(
        resume.positions,
        BTreeMap::from([(0, 1)]),
        "what was committed outlives a crash of the server"
    );
    warehouse.load(one_row(1)).await.unwrap();
    assert_eq!(numbers(&warehouse).await, json!([{"n": 0}, {"n": 1}]));

    let absent = format!("{}/no_such_database", url.rsplit_once('/').unwrap().0);
    assert_eq!(postgres(&absent).check().await.unwrap_err().kind, ErrorKind::Pause);
}

/// Makes a certificate for 127.0.0.1 that nobody has signed but itself.
fn certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("server.crt"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("server.key"), made.signing_key.serialize_pem()).unwrap();
    let only_its_owner = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join("server.key"), only_its_owner).unwrap();
}

#[tokio::test]
async fn tls_is_used_and_required_tls_is_checked() {
    let Some(server) = OwnServer::start() else { return };
    let data = server.data();
    certificate(&data);
    // PostgreSQL wants the key to be its own.
    let owner = std::fs::metadata(data.join("PG_VERSION")).unwrap();
    for file in ["server.key", "server.crt"] {
        std::os::unix::fs::chown(data.join(file), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let client = connect(&server.url).await;
    client.execute("ALTER SYSTEM SET ssl = on", &[]).await.unwrap();
    client.execute("SELECT pg_reload_conf()", &[]).await.unwrap();
    wait_for(&client, "SELECT current_setting('ssl')::boolean").await;

    let authority = data.join("server.crt");
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let checked = format!("sslmode=verify-full&sslrootcert={}", authority.display());
    for (parameters, expected) in [("", true), ("sslmode=disable", false), (checked.as_str(), true)] {
        let warehouse = postgres(&format!("{}?{parameters}", server.url));
        assert_eq!(select(&warehouse, encrypted).await, json!([{ "ssl": expected }]), "{parameters}");
    }
    let error = postgres(&format!("{}?sslmode=require", server.url)).check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Pause, "nobody known has signed it: {}", error.full());
    // The name counts too: the certificate is for the address.
    let other_name = server.url.replace("127.0.0.1", "localhost");
    let error = postgres(&format!("{other_name}?{checked}")).check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Pause, "{}", error.full());
}
