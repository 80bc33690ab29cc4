//! What Kafka holds against what the books say.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use millrace_connector::{ConnectorError, Count, Load, LoadReport, TableLoad, TableName, Warehouse};
use millrace_event_model::{ConnectionId, Disposition};
use millrace_lake::Lake;
use millrace_service::Stop;
use millrace_warehouse_loader::{BalanceLine, Filter, Kind, Verdict, balance};
use serde_json::json;

use crate::around::{Around, Wrapped};
use crate::messages::{at, mixed, track};
use crate::stack::{Stack, connection};

async fn lines(stack: &Stack, warehouse: &Arc<Wrapped<Books>>) -> Vec<BalanceLine> {
    let connections = [connection(Arc::clone(warehouse) as _, Kind::Events)];
    let (from, until) = (at(0), at(7_200));
    balance(&stack.bus, &stack.state, &connections, from, until, &Stop::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_balance_with_kafka_and_a_wrong_book_is_noticed() {
    let stack = Stack::start().await;
    let warehouse = Arc::new(Wrapped(Books { lake: stack.lake("lake"), change: AtomicI64::new(0) }));
    let mut not_json = track(30, "ann", "x", json!({}));
    not_json.body = "{".into();
    let mut of_another = track(31, "ann", "Elsewhere", json!({}));
    of_another.source = "app".parse().unwrap();
    let mut events = mixed(20);
    // Another hour.
    events.extend([events[1].clone(), not_json, of_another, track(3_700, "ann", "Late", json!({}))]);
    stack.publish(&events).await;
    let mut loaded = connection(Arc::clone(&warehouse) as _, Kind::Events);
    loaded.when = Some(Arc::new(Filter::compile("type != 'page'").unwrap()));
    stack.load(loaded).await.unwrap();
    stack.publish(&[track(3_800, "ann", "Later", json!({}))]).await;

    let told = |lines: &[BalanceLine]| -> Vec<_> {
        lines.iter().map(|line| (line.received, line.in_flight, line.verdict)).collect()
    };
    let balanced = lines(&stack, &warehouse).await;
    assert_eq!(told(&balanced), [(22, 0, Verdict::Balanced), (2, 1, Verdict::Balanced)]);
    let items: Vec<_> = balanced[0].items.iter().map(|(end, items)| (end.as_str(), *items)).collect();
    assert_eq!(items, [("loaded", 15), ("filtered", 5), ("duplicate", 1), ("rejected", 1)]);

    warehouse.change.store(-1, Ordering::SeqCst);
    assert_eq!(lines(&stack, &warehouse).await[0].verdict, Verdict::Missing(1));
    warehouse.change.store(2, Ordering::SeqCst);
    assert_eq!(lines(&stack, &warehouse).await[0].verdict, Verdict::TooMany(2));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_has_its_books_and_is_not_whole_is_waited_for() {
    let stack = Stack::start().await;
    let lake = stack.lake("lake");
    stack.publish(&mixed(8)).await;
    stack.load(connection(lake.clone(), Kind::Events)).await.unwrap();
    stack.publish(&mixed(12)[8..]).await;
    let halfway = connection(Arc::new(Wrapped(Halfway(stack.lake("lake")))), Kind::Events);
    stack.load(halfway).await.unwrap_err();
    let connections = [connection(lake, Kind::Events)];
    let ask = async || balance(&stack.bus, &stack.state, &connections, at(0), at(7_200), &Stop::new()).await;
    assert_eq!(ask().await.unwrap()[0].verdict, Verdict::Moving);
    stack.load(connection(stack.lake("lake"), Kind::Events)).await.unwrap();
    assert_eq!(ask().await.unwrap()[0].verdict, Verdict::Balanced);
    stack.stop().await;
}

/// A lake whose loads come to their last table and no further.
struct Halfway(Arc<Lake>);

#[async_trait]
impl Around for Halfway {
    fn inner(&self) -> &dyn Warehouse {
        &*self.0
    }

    async fn load(&self, mut load: Load) -> Result<LoadReport, ConnectorError> {
        let rows = load.tables[0].clone();
        let name = TableName { table: "zz_missing".to_owned(), ..rows.name.clone() };
        load.tables.push(TableLoad { name, ..rows });
        self.0.load(load).await
    }
}

/// A lake whose books can be falsified.
struct Books {
    lake: Arc<Lake>,
    /// Added to what was loaded in the first hour.
    change: AtomicI64,
}

#[async_trait]
impl Around for Books {
    fn inner(&self) -> &dyn Warehouse {
        &*self.lake
    }

    async fn counts(
        &self,
        connection: &ConnectionId,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<Count>, ConnectorError> {
        let mut counts = self.lake.counts(connection, from, until).await?;
        let first = counts.iter().map(|count| count.hour).min();
        let loaded =
            |count: &&mut Count| count.disposition == Disposition::Loaded && Some(count.hour) == first;
        if let Some(count) = counts.iter_mut().find(loaded) {
            count.items = count.items.saturating_add_signed(self.change.load(Ordering::SeqCst));
        }
        Ok(counts)
    }
}
