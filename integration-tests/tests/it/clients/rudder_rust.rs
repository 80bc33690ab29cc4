//! Every call of the crate `rudderanalytics`, as its documentation shows them.

use rudderanalytics::client::RudderAnalytics;
use rudderanalytics::message::{Alias, Batch, BatchMessage, Group, Identify, Message, Page, Screen, Track};
use serde_json::json;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let client = RudderAnalytics::load(arguments[1].clone(), arguments[2].clone());
    let user_id = Some("sdk-user".to_owned());
    let identify = Identify {
        user_id: user_id.clone(),
        traits: Some(json!({"plan": "team", "email": "sdk@mail.example", "seats": 4})),
        ..Default::default()
    };
    let track = Track {
        user_id: user_id.clone(),
        event: "SDK Event".to_owned(),
        properties: Some(json!({"count": 7, "price": 1.5, "nested": {"deep": true}})),
        ..Default::default()
    };
    let page = Page {
        user_id: user_id.clone(),
        name: "SDK Page".to_owned(),
        properties: Some(json!({"path": "/docs"})),
        ..Default::default()
    };
    let screen = Screen {
        user_id: user_id.clone(),
        name: "SDK Screen".to_owned(),
        properties: Some(json!({"tab": "home"})),
        ..Default::default()
    };
    let group = Group {
        user_id: user_id.clone(),
        group_id: "sdk-group".to_owned(),
        traits: Some(json!({"employees": 12})),
        ..Default::default()
    };
    let alias =
        Alias { user_id: "sdk-user".to_owned(), previous_id: "sdk-before".to_owned(), ..Default::default() };
    // The SDK has a route of its own for each type, and one for batches.
    let calls = [
        Message::Identify(identify),
        Message::Track(track.clone()),
        Message::Page(page),
        Message::Screen(screen),
        Message::Group(group),
        Message::Alias(alias),
        Message::Batch(Batch { batch: vec![BatchMessage::Track(track)], ..Default::default() }),
    ];
    for call in &calls {
        client.send(call).expect("ingest takes the call");
    }
}
