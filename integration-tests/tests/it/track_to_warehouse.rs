//! The main journey: an event goes in by HTTP and comes out of the warehouse, whatever is killed between.

use serde_json::json;

use crate::http::Http;
use crate::stack::{Site, until};

pub(crate) const CONFIG: &str = r#"
workspace: test
state: "{dir}/state"
ingest: { listen: "127.0.0.1:0" }
admin: { listen: "127.0.0.1:0" }
sources:
  - { id: web, kind: http, write_key: test-write-key, privacy: strict }
warehouses:
  - { id: lake, kind: lake, settings: { url: "{dir}/lake" } }
connections:
  - { from: web, to: lake, schema: web, schedule: 200ms }
privacy:
  strict: { detect: all, action: mask }
"#;

const ORDERS: &str = "SELECT id, user_id, event, sku, price, note FROM web.order_placed ORDER BY id";

#[test]
fn an_event_reaches_the_warehouse_once_though_all_is_killed_mid_load() {
    let (site, http) = (Site::new(CONFIG), Http::new());
    let mut dev = site.dev();
    let order = |number: usize| {
        json!({"messageId": format!("m{number}"), "userId": "u1", "event": "Order Placed",
               "properties": {"sku": format!("s{number}"), "price": number, "note": "call +1 415 555 2671"}})
    };
    for number in 0..3 {
        assert_eq!(http.event(&dev.ingest, "/v1/track", &order(number)).status, 200);
    }
    until("the first orders are there", || (site.query(ORDERS).len() == 3).then_some(()));
    // The client sends one again and some more; the process dies while they are being loaded.
    for number in 2..6 {
        assert_eq!(http.event(&dev.ingest, "/v1/track", &order(number)).status, 200);
    }
    dev.process.kill();
    let dev = site.dev();
    until("all orders are there", || (site.query(ORDERS).len() >= 6).then_some(()));
    // A later event is there too, so nothing is on its way any more.
    http.event(&dev.ingest, "/v1/track", &order(9));
    until("the last order is there", || (site.query(ORDERS).len() >= 7).then_some(()));
    insta::assert_json_snapshot!(site.query(ORDERS));
}
