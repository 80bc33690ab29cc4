//! Requests of several items that become one.

use super::*;

#[test]
fn arrays_of_like_requests_become_one_and_each_element_has_its_owner() {
    let profile = joining(Join::arrays(&["contacts"], 100));
    let other =
        HttpRequest::post("http://vendor.test/contacts").json(&json!({"contacts": [{"id": 9}], "v": 3}));
    let calls = plan(&profile, &mut all_alone(vec![contacts(&[1, 2]), other, contacts(&[3])]));
    assert_eq!(calls.len(), 2, "a body that differs beside its array goes by itself");
    assert_eq!(body(&calls[0].request), json!({"contacts": [{"id": 1}, {"id": 2}, {"id": 3}], "v": 2}));
    assert_eq!(calls[0].items, [0, 2]);
    let owners: Vec<_> = (0..4).map(|index| calls[0].owner(Some("contacts"), index)).collect();
    assert_eq!(owners, [Some(0), Some(0), Some(1), None]);
    assert_eq!(calls[0].owner_by("id", &json!(3)), Some(1));
    assert_eq!(calls[1].items, [1]);
}

#[test]
fn a_body_that_is_an_array_joins_as_a_whole() {
    let array = |id: u32| {
        let mut request = HttpRequest::post("http://vendor.test/track");
        request.body = millrace_connector::RequestBody::JsonArray(json!([{"id": id}]).to_string().into());
        request
    };
    let calls = plan(&joining(Join::arrays(&["."], 100)), &mut all_alone(vec![array(1), array(2)]));
    assert_eq!(calls.len(), 1);
    assert_eq!(body(&calls[0].request), json!([{"id": 1}, {"id": 2}]));
    assert_eq!(calls[0].owner(None, 1), Some(1));
}

#[test]
fn arrays_in_the_fields_of_forms_join_where_the_other_fields_are_alike() {
    let form = |id: u32, code: &str| {
        let mut request = HttpRequest::post("http://vendor.test/events");
        let data = json!([{"id": id}]).to_string();
        let fields = [("data", data.as_str()), ("code", code)];
        let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
        request.body = millrace_connector::RequestBody::Form(fields.to_vec());
        request
    };
    let mut requests = all_alone(vec![form(1, "7"), form(2, "8"), form(3, "7")]);
    let calls = plan(&joining(Join::arrays(&["data"], 100)), &mut requests);
    let bodies: Vec<_> = calls.iter().map(|call| body(&call.request)).collect();
    let expected = [
        json!({"code": "7", "data": "[{\"id\":1},{\"id\":3}]"}),
        json!({"code": "8", "data": "[{\"id\":2}]"}),
    ];
    assert_eq!(bodies, expected);
    assert_eq!(calls[0].owner(None, 1), Some(1));
}

#[test]
fn bodies_are_wrapped_as_they_are() {
    let one = |id: u32| HttpRequest::post("http://vendor.test/e").json(&json!({"id": id}));
    let with = vec![("sent".to_owned(), json!(true))];
    let profile = joining(Join::Wrap { at: "batch".to_owned(), with, max: 2 });
    let calls = plan(&profile, &mut all_alone(vec![one(1), one(2), one(3)]));
    let bodies: Vec<_> = calls.iter().map(|call| body(&call.request)).collect();
    let expected =
        [json!({"sent": true, "batch": [{"id": 1}, {"id": 2}]}), json!({"sent": true, "batch": [{"id": 3}]})];
    assert_eq!(bodies, expected, "no array is longer than the vendor takes");
    assert_eq!(calls[0].owner(Some("batch"), 1), Some(1));
}

#[test]
fn a_call_is_never_larger_than_the_vendor_takes() {
    let profile = Profile { max_bytes: 70, ..joining(Join::arrays(&["contacts"], 100)) };
    let calls = plan(&profile, &mut all_alone((0..5).map(|id| contacts(&[id])).collect()));
    assert_eq!(calls.iter().map(|call| call.items.len()).collect::<Vec<_>>(), [2, 2, 1]);
}
