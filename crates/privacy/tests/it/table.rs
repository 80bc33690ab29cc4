//! What is personal data and what is not, as data. Under `redact`, so that a result is easy to read.

use super::{scan, scanner};

/// An input, and what becomes of it.
const FOUND: &[(&str, &str)] = &[
    // E-mail addresses.
    (r#"{"email":"jane@example.com"}"#, r#"{"email":"[email]"}"#),
    (r#"{"traits":{"email":"JANE.DOE+news@Mail.Example.CO.UK"}}"#, r#"{"traits":{"email":"[email]"}}"#),
    (r#"{"note":"write to jane@example.com, please"}"#, r#"{"note":"write to [email], please"}"#),
    (r#"{"note":"jane@example.com."}"#, r#"{"note":"[email]."}"#),
    (r#"{"note":"<jane@example.com>;'bob@example.org'"}"#, r#"{"note":"<[email]>;'[email]'"}"#),
    (r#"{"note":"\"Jane\" <jane_d@sub.example.museum>"}"#, r#"{"note":"\"Jane\" <[email]>"}"#),
    (r#"{"e":"o'brien@example.ie"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"jane\u0040example.com"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"\u006aane@example\u002ecom"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"jane@example.com\nbob@example.com"}"#, r#"{"e":"[email]\n[email]"}"#),
    (r#"{"e":"mailto:jane@example.com?subject=x"}"#, r#"{"e":"mailto:[email]?subject=x"}"#),
    (r#"{"url":"https://x.test/?email=a@b.co&x=1"}"#, r#"{"url":"https://x.test/?email=[email]&x=1"}"#),
    (r#"{"url":"https://x.test/?email=a%40b.co&x=1"}"#, r#"{"url":"https://x.test/?email=[email]&x=1"}"#),
    (r#"{"url":"https:\/\/x.test\/?e=a%40b.co"}"#, r#"{"url":"https:\/\/x.test\/?e=[email]"}"#),
    (
        r#"{"url":"https://x.test/?to=https%3A%2F%2Fy.test%2F%3Femail%3Djane%40example.com"}"#,
        r#"{"url":"https://x.test/?to=https%3A%2F%2Fy.test%2F%3Femail%3D[email]"}"#,
    ),
    (r#"{"url":"/?e=jane%2Btag%40example.com"}"#, r#"{"url":"/?e=[email]"}"#),
    (r#"{"url":"/?u=%2F%3Fe%3Djane%2540example.com"}"#, r#"{"url":"/?u=%2F%3Fe%3D[email]"}"#),
    (r#"{"url":"ftp://x.test/~jane@example.com/file"}"#, r#"{"url":"ftp://x.test/~[email]/file"}"#),
    (r#"{"q":"email:jane@example.com"}"#, r#"{"q":"email:[email]"}"#),
    (r#"{"e":"müller@exämple.de"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"m%C3%BCller%40example.de"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"jane@xn--exmple-cua.xn--p1ai"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"иван@почта.рф"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"请联系jane@example.com谢谢"}"#, r#"{"e":"请联系[email]谢谢"}"#),
    (r#"{"e":"用户@例子.广告"}"#, r#"{"e":"[email]"}"#),
    (r#"{"e":"😀jane@example.com😀"}"#, r#"{"e":"😀[email]😀"}"#),
    (r#"{"e":"\ud83d\ude00jane@example.com"}"#, r#"{"e":"\ud83d\ude00[email]"}"#),
    (r#"{"e":["a@b.co",{"x":["c@d.io"]}]}"#, r#"{"e":["[email]",{"x":["[email]"]}]}"#),
    (r#"["a@b.co"]"#, r#"["[email]"]"#),
    (r#""a@b.co""#, r#""[email]""#),
    (r#"{"payload":"{\"email\":\"a@b.co\"}"}"#, r#"{"payload":"{\"email\":\"[email]\"}"}"#),
    (r#"{"payload":"{\"e\":\"a\\u0040b.co\"}"}"#, r#"{"payload":"{\"e\":\"[email]\"}"}"#),
    (r#"{"payload":"{\"e\":\"x\\na@b.co\"}"}"#, r#"{"payload":"{\"e\":\"x\\n[email]\"}"}"#),
    (r#"{"x":"https://user:pw@host.example.com/"}"#, r#"{"x":"https://user:[email]/"}"#),
    (r#"{"e":"a@b.co@c.io"}"#, r#"{"e":"[email]"}"#),
    (r#"{ "e" : "a@b.co" , "f" : 1.50 }"#, r#"{ "e" : "[email]" , "f" : 1.50 }"#),
    (
        r#"{"userId":"u","properties":{"userId":"a@b.co"}}"#,
        r#"{"userId":"u","properties":{"userId":"[email]"}}"#,
    ),
    (r#"{"e":"jane@example.com4155552671"}"#, r#"{"e":"[email]4155552671"}"#),
    (r#"{"e":"jane@example.com-2026 bob@my-host.example.org-"}"#, r#"{"e":"[email]-2026 [email]-"}"#),
    // In keys.
    (r#"{"opened a@b.co":1,"opened c@d.co":2}"#, r#"{"opened [email]":1,"opened [email 2]":2}"#),
    (r#"{"jane@example.com":1}"#, r#"{"masked_email":1}"#),
    (r#"{"a@b.co":1,"c@d.co":2}"#, r#"{"masked_email":1,"masked_email_2":2}"#),
    (r#"{"jane\u0040example.com":{"a@b.co":"a@b.co"}}"#, r#"{"masked_email":{"masked_email_2":"[email]"}}"#),
    (r#"{"opened a@b.co":true}"#, r#"{"opened [email]":true}"#),
    (r#"{"4111111111111111":true}"#, r#"{"masked_card":true}"#),
    (r#"{"+14155552671":true}"#, r#"{"masked_phone":true}"#),
    (r#"{"byPhone":{"4155552671":1}}"#, r#"{"byPhone":{"masked_phone":1}}"#),
    // Cards.
    (r#"{"x":"4111111111111111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4111 1111 1111 1111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4111-1111-1111-1111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4111.1111.1111.1111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4111 - 1111 - 1111 - 1111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4111\u002011111111\u00201111"}"#, r#"{"x":"[card]"}"#),
    ("{\"x\":\"4111\u{a0}1111\u{a0}1111\u{a0}1111\"}", r#"{"x":"[card]"}"#),
    (r#"{"x":"\u0034111111111111111"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"card 4111 1111 1111 1111 12/27 123"}"#, r#"{"x":"card [card] 12/27 123"}"#),
    (r#"{"x":"order 12345 4242424242424242"}"#, r#"{"x":"order 12345 [card]"}"#),
    (r#"{"x":"4111111111111111,5555555555554444"}"#, r#"{"x":"[card],[card]"}"#),
    (r#"{"x":"pay with 4111111111111111."}"#, r#"{"x":"pay with [card]."}"#),
    (r#"{"x":4111111111111111}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":[1,4111111111111111 ,2]}"#, r#"{"x":[1,"[card]" ,2]}"#),
    (r#"{"x":4.111111111111111E15}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":4.111111111111111e+15}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":4111111111111111.0}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":378282246310005}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"3782 822463 10005"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"3782.822463.10005"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"30569309025904"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"6011111111111117"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"3530111333300000"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"6200000000000005"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"2223003122003222"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4539000000000000003"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"4222222222222"}"#, r#"{"x":"[card]"}"#),
    (r#"{"x":"501800000009"}"#, r#"{"x":"[card]"}"#),
    (r#"{"card_number":4006000000060}"#, r#"{"card_number":"[card]"}"#),
    (r#"{"url":"https://x.test/pay?pan=4111111111111111"}"#, r#"{"url":"https://x.test/pay?pan=[card]"}"#),
    (r#"{"url":"/pay?pan=4111%201111%201111%201111"}"#, r#"{"url":"/pay?pan=[card]"}"#),
    (r#"{"payload":"{\"pan\":4111111111111111}"}"#, r#"{"payload":"{\"pan\":[card]}"}"#),
    (r#"{"phone":"4111 1111 1111 1111"}"#, r#"{"phone":"[card]"}"#),
    // Telephone numbers.
    (r#"{"x":"+14155552671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"call +1 (415) 555-2671 now"}"#, r#"{"x":"call [phone] now"}"#),
    (r#"{"x":"+44 20 7946 0958"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+44 (0)20 7946 0958"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+49.15112345678"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+33-6-12-34-56-78"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+33 6 12 34 56 78, +33 6 12 34 56 79"}"#, r#"{"x":"[phone], [phone]"}"#),
    (r#"{"x":"+86 138 0013 8000"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+354 581 2345"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"+7 912 345-67-89"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"\u002b14155552671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"url":"/?p=%2B14155552671"}"#, r#"{"url":"/?p=[phone]"}"#),
    (r#"{"url":"tel:+1-415-555-2671"}"#, r#"{"url":"tel:[phone]"}"#),
    (r#"{"x":"(415) 555-2671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"call (415) 555-2671."}"#, r#"{"x":"call [phone]."}"#),
    (r#"{"x":"(415) 555-2671(415) 555-2672"}"#, r#"{"x":"[phone][phone]"}"#),
    (r#"{"x":"415-555-2671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"415.555.2671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"x":"1-415-555-2671 x12"}"#, r#"{"x":"[phone] x12"}"#),
    (r#"{"x":"415 555 2671"}"#, r#"{"x":"[phone]"}"#),
    (r#"{"phone":"4155552671"}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phone":4155552671}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phone":14155552671}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phone":1.4155552671E10}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"traits":{"phoneNumber":"020 7946 0958"}}"#, r#"{"traits":{"phoneNumber":"[phone]"}}"#),
    (r#"{"mobile_phone":"07700 900123"}"#, r#"{"mobile_phone":"[phone]"}"#),
    (r#"{"phone":"030/1234567"}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phone":"0049 151 12345678"}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phone":"555-2671"}"#, r#"{"phone":"[phone]"}"#),
    (r#"{"phones":["4155552671",4155552672]}"#, r#"{"phones":["[phone]","[phone]"]}"#),
    (r#"{"phone":{"home":"4155552671","id":12345678}}"#, r#"{"phone":{"home":"[phone]","id":12345678}}"#),
    (r#"{"phone":"4155552671 4155552672"}"#, r#"{"phone":"[phone] [phone]"}"#),
    (r#"{"Phone":"+1 415 555 2671 ext 5"}"#, r#"{"Phone":"[phone] ext 5"}"#),
    (r#"{"pho\u006ee":"4155552671"}"#, r#"{"pho\u006ee":"[phone]"}"#),
    // Addresses of the network, in fields named for them.
    (r#"{"context":{"ip":"203.0.113.7"}}"#, r#"{"context":{"ip":"[ip]"}}"#),
    (r#"{"request_ip":"2001:db8:1:2::7"}"#, r#"{"request_ip":"[ip]"}"#),
    (r#"{"ipAddress":"203.0.113.7:443"}"#, r#"{"ipAddress":"[ip]"}"#),
    // Several kinds together, and what stands around them.
    (
        r#"{"a":"jane@example.com +14155552671 4111111111111111","b":null,"c":[true,false,-1.5e-3]}"#,
        r#"{"a":"[email] [phone] [card]","b":null,"c":[true,false,-1.5e-3]}"#,
    ),
];

/// Left as it is, byte for byte.
const LEFT_ALONE: &[&str] = &[
    // Identity and ids.
    r#"{"userId":"jane@example.com","anonymousId":"+14155552671"}"#,
    r#"{"groupId":"a@b.co","previousId":"a@b.co","messageId":"a@b.co"}"#,
    r#"{"userId":4111111111111111}"#,
    r#"{"user\u0049d":"jane@example.com"}"#,
    r#"{"messageId":"0dbae9ba-4380-48b0-9510-368a276853ee"}"#,
    r#"{"x":"41111111-1111-1111-1111-411111111111"}"#,
    r#"{"x":"12345678-1234-1234-1234-501800000009"}"#,
    r#"{"phone":"12345678-1234-1234-1234-123456789012"}"#,
    r#"{"x":"deadbeef4111111111111111"}"#,
    r#"{"x":"4111111111111111abcdef"}"#,
    r#"{"x":"node-next-1764000000000-4155552671"}"#,
    r#"{"x":"ord_4111111111111111"}"#,
    r#"{"x":"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}"#,
    r#"{"x":"GA1.2.1234567890.1764000000"}"#,
    r#"{"x":"ABC-415-555-2671"}"#,
    r#"{"x":"/p/415-555-2671"}"#,
    r##"{"x":"#415-555-2671"}"##,
    r#"{"id":4155552671}"#,
    r#"{"id":"14155552671"}"#,
    r#"{"id":12345678901234567890123}"#,
    r#"{"id":1234567890123456789}"#,
    // Numbers that fail a check.
    r#"{"order":"4111111111111112"}"#,
    r#"{"order":4111111111111112}"#,
    r#"{"order":"4111 1111 1111 1112"}"#,
    r#"{"order":"9111111111111110"}"#,
    r#"{"x":"0000000000000000"}"#,
    r#"{"x":"41111111111111111111111"}"#,
    r#"{"ean":"4006000000060"}"#,
    r#"{"upc":501200000062}"#,
    r#"{"isbn":"978-3-16-148410-0"}"#,
    r#"{"imei":"490154203237518"}"#,
    // Times.
    r#"{"timestamp":"2026-11-24T20:37:15.900763+00:00"}"#,
    r#"{"timestamp":"2026-11-24T20:37:15+0530"}"#,
    r#"{"timestamp":"2026-11-24 20:37:15"}"#,
    r#"{"timestamp":"20261124203715"}"#,
    r#"{"t":1764000000}"#,
    r#"{"t":1764000000000}"#,
    r#"{"t":1764000000000000}"#,
    r#"{"t":1764000000000000000}"#,
    r#"{"t":"1764000000000"}"#,
    r#"{"t":1764000000.123456}"#,
    r#"{"phone_verified_at":1764000000}"#,
    r#"{"phone":"2026-11-24"}"#,
    r#"{"last_phone_call":"2026-11-24T20:37:15Z"}"#,
    r#"{"tz":"+0100","offset":"UTC+05:30"}"#,
    // Amounts, versions, places, agents.
    r#"{"price":1999999.99,"total":"1.234.567,89","cents":123456789}"#,
    r#"{"price":"$4155552671"}"#,
    r#"{"rows":"300 250 1200 600"}"#,
    r#"{"version":"10.15.7","build":"20.1.4155552671"}"#,
    r#"{"lat":52.520008,"lon":13.404954}"#,
    r#"{"lat":52.52000812345678}"#,
    r#"{"at":"52.520008, 13.404954"}"#,
    r#"{"at":"+52.520008,+013.404954"}"#,
    r#"{"at":"+40.6894-074.0447/"}"#,
    r#"{"ll":"@52.5200066,13.404954,15z"}"#,
    r#"{"fraction":0.4111111111111111}"#,
    r#"{"fraction":"0.4111111111111111"}"#,
    r#"{"n":-4111111111111111}"#,
    r#"{"n":4111111111111111.5}"#,
    r#"{"n":1e400,"m":123456789e-3}"#,
    r#"{"ua":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.6099.109 Safari/537.36"}"#,
    r#"{"ua":"Dalvik/2.1.0 (Linux; U; Android 13; SM-G991B Build/TP1A.220624.014)"}"#,
    r#"{"size":"1920x1080","phoneModel":"SM-G9910000000"}"#,
    r#"{"version":"1.2.3.4","dns":"8.8.8.8"}"#,
    r#"{"ip_version":"203.0.113.7"}"#,
    r#"{"ip":"unknown"}"#,
    r#"{"ip":""}"#,
    // URLs and names with an `@`.
    r#"{"url":"https://example.com/products/12345?utm_source=mail&utm_id=4155552671"}"#,
    r#"{"url":"https://cdn.example.com/npm/react@18.2.0/index.js"}"#,
    r#"{"url":"https://cdn.example.com/npm/@scope/pkg@1.0.0-beta.js"}"#,
    r#"{"url":"https://cdn.example.com/lodash@4.17.21.min.js"}"#,
    r#"{"url":"https://cdn.example.com/logo@2x.png"}"#,
    r#"{"url":"https://maps.example.com/@52.5200066,13.404954,15z"}"#,
    r#"{"url":"git@github.com:org/repo.git"}"#,
    r#"{"handle":"@jane","at":"jane@localhost","half":"jane@"}"#,
    r#"{"handle":"@example.com","v":"user@192.168.1.1","dots":"jane@example..com"}"#,
    r#"{"text":"50% off @ home. Call us 24/7"}"#,
    r#"{"text":"100%40 is not an address"}"#,
    // Not in need of anything.
    r#"{}"#,
    r#"[]"#,
    r#" { "a" : [ ] , "b" : "\u00e9\n\t\"\\\/" } "#,
    r#"{"a":"\ud800","b":"\\u0040"}"#,
    r#"{"a":null,"b":true,"c":[[[[]]]]}"#,
    r#"{"phone":"none","phone2":null,"phone3":"12345","mobile":true,"tel":123456}"#,
    r#"{"phone":"SM-991234567"}"#,
];

#[test]
fn personal_data_is_found_wherever_it_stands() {
    let strict = scanner(r#"{"detect":"all","action":"redact"}"#);
    let mut wrong = Vec::new();
    for (input, expected) in FOUND {
        let (output, findings) = scan(&strict, input);
        if output != *expected || findings.is_empty() {
            wrong.push(format!("{input}\n  gave     {output}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), FOUND.len(), wrong.join("\n"));
}

#[test]
fn what_is_not_personal_data_is_left_alone() {
    let strict = scanner(r#"{"detect":"all","action":"redact"}"#);
    let mut wrong = Vec::new();
    for input in LEFT_ALONE {
        let (output, findings) = scan(&strict, input);
        if output != *input || !findings.is_empty() {
            wrong.push(format!("{input}\n  gave {output} {findings:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), LEFT_ALONE.len(), wrong.join("\n"));
}

#[test]
fn the_table_is_as_long_as_it_must_be() {
    assert!(FOUND.len() + LEFT_ALONE.len() >= 120, "{} cases", FOUND.len() + LEFT_ALONE.len());
}
