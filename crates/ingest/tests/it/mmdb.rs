//! Databases in MaxMind's format, made for a test (MaxMind DB File Format Specification 2.0).

use std::net::IpAddr;

/// A value of the data section.
pub(crate) enum Data {
    Text(&'static str),
    Double(f64),
    /// Bits of the type, and the number.
    Number(u8, u64),
    List(Vec<Data>),
    Map(Vec<(&'static str, Data)>),
}

use Data::{Double, List, Map, Number, Text};

/// What the field `names` of a place holds.
fn names(english: &'static str) -> Data {
    Map(vec![("names", Map(vec![("de", Text("Anderswo")), ("en", Text(english))]))])
}

/// A record as GeoLite2's cities have it; the city's name tells it apart.
pub(crate) fn place(city: &'static str) -> Data {
    Map(vec![
        ("city", names(city)),
        ("country", Map(vec![("iso_code", Text("GB"))])),
        (
            "location",
            Map(vec![
                ("accuracy_radius", Number(16, 100)),
                ("latitude", Double(51.75)),
                ("longitude", Double(-1.25)),
                ("time_zone", Text("Europe/London")),
            ]),
        ),
        ("postal", Map(vec![("code", Text("OX1"))])),
        ("subdivisions", List(vec![names("England"), names("Oxfordshire")])),
    ])
}

/// A record of a database that knows countries only.
pub(crate) fn country() -> Data {
    Map(vec![("country", Map(vec![("iso_code", Text("FR"))]))])
}

#[derive(Clone, Copy)]
enum Branch {
    Nothing,
    Node(usize),
    Record(usize),
}

/// The database that knows these addresses.
pub(crate) fn database(known: &[(&str, Data)]) -> Vec<u8> {
    let mut nodes = vec![[Branch::Nothing; 2]];
    let mut records = Vec::new();
    for (address, data) in known {
        let bits = match address.parse().unwrap() {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let bit = |depth: usize| (bits >> (127 - depth) & 1) as usize;
        let mut at = 0;
        for depth in 0..127 {
            let next = match nodes[at][bit(depth)] {
                Branch::Node(next) => next,
                _ => {
                    nodes.push([Branch::Nothing; 2]);
                    nodes.len() - 1
                }
            };
            nodes[at][bit(depth)] = Branch::Node(next);
            at = next;
        }
        nodes[at][bit(127)] = Branch::Record(records.len());
        write(data, &mut records);
    }
    let mut file = Vec::new();
    for branch in nodes.iter().flatten() {
        let value = match branch {
            Branch::Nothing => nodes.len(),
            Branch::Node(node) => *node,
            Branch::Record(at) => nodes.len() + 16 + at,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(records);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", Number(16, 2)),
        ("binary_format_minor_version", Number(16, 0)),
        ("build_epoch", Number(64, 1_764_000_000)),
        ("database_type", Text("Test-City")),
        ("description", Map(vec![("en", Text("made for a test"))])),
        ("ip_version", Number(16, 6)),
        ("languages", List(vec![Text("en")])),
        ("node_count", Number(32, nodes.len() as u64)),
        ("record_size", Number(16, 24)),
    ]);
    write(&metadata, &mut file);
    file
}

fn write(data: &Data, to: &mut Vec<u8>) {
    match data {
        Text(text) => {
            head(2, text.len(), to);
            to.extend(text.as_bytes());
        }
        Double(number) => {
            head(3, 8, to);
            to.extend(number.to_be_bytes());
        }
        Number(bits, number) => {
            let bytes = number.to_be_bytes();
            let digits = &bytes[(number.leading_zeros() / 8) as usize..];
            let kind = match bits {
                16 => 5,
                32 => 6,
                _ => 9,
            };
            head(kind, digits.len(), to);
            to.extend(digits);
        }
        List(items) => {
            head(11, items.len(), to);
            items.iter().for_each(|item| write(item, to));
        }
        Map(fields) => {
            head(7, fields.len(), to);
            for (name, value) in fields {
                write(&Text(name), to);
                write(value, to);
            }
        }
    }
}

/// Type and size; nothing here is longer than 28.
fn head(kind: u8, size: usize, to: &mut Vec<u8>) {
    let size = u8::try_from(size).unwrap();
    assert!(size < 29, "longer values have another head");
    if kind > 7 {
        to.extend([size, kind - 7]);
    } else {
        to.push(kind << 5 | size);
    }
}
