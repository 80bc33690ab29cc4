//! RudderStack's own cases, where their corpora are at hand: in the folder that `MILLRACE_CORPORA` names,
//! else in `../shared/corpora` beside the checkout. They are not part of this repository; without them
//! these tests say that they are skipped.
//!
//! A destination is one line of [`CORPORA`]. To look into it: `MILLRACE_CORPUS=am` runs one file and tells
//! every difference, `MILLRACE_CORPUS=am:12` one case of it with its input and what was made of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
#![allow(clippy::print_stdout, reason = "what came of the cases is for people, with --nocapture")]

mod compare;

use std::path::{Path, PathBuf};

use millrace_connector::{DestinationEntry, Document, HttpRequest};
use serde_json::{Value, json};

use super::{amplitude, braze, customerio, facebook_conversions, ga4, klaviyo, mixpanel};

/// The cases of one destination.
struct Corpus {
    /// The file's name without `.json`.
    file: &'static str,
    /// How many of its cases pass at least. Raise it with the code; less is a regression.
    floor: usize,
    /// The requests of an event under a `Config` of RudderStack's; an error as its text.
    requests: fn(config: &Value, event: &Document) -> Result<Vec<HttpRequest>, String>,
    /// Fields that the other side makes up, so that no case can know them: names, at any depth.
    made_up: &'static [&'static str],
    /// Cases whose requests are made in another order on purpose: `docs/connectors/parity.md` says of each
    /// why. They pass if nothing else differs; any other case fails by its order too.
    reordered: &'static [usize],
}

const CORPORA: &[Corpus] = &[
    Corpus {
        file: "am",
        floor: 46,
        requests: |config, event| made(&amplitude::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "braze",
        floor: 27,
        requests: |config, event| made(&braze::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "customerio",
        floor: 41,
        requests: |config, event| made(&customerio::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "facebook_conversions",
        floor: 10,
        requests: |config, event| made(&facebook_conversions::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "ga4",
        floor: 59,
        requests: |config, event| made(&ga4::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "klaviyo",
        floor: 20,
        requests: |config, event| made(&klaviyo::entry(), config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "mp",
        floor: 34,
        requests: |config, event| made(&mixpanel::entry(), config, event),
        made_up: &[],
        reordered: &[5, 33],
    },
    Corpus {
        file: "posthog",
        floor: 7,
        requests: |config, event| built("posthog", config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "http",
        floor: 8,
        requests: |config, event| built("http", config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "slack",
        floor: 1,
        requests: |config, event| built("slack", config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "webhook",
        floor: 13,
        requests: |config, event| built("webhook", config, event),
        made_up: &[],
        reordered: &[],
    },
    Corpus {
        file: "segment",
        floor: 3,
        requests: |config, event| built("segment", config, event),
        made_up: &[],
        reordered: &[],
    },
];

/// What a destination makes of an event, as `millrace preview requests` shows it.
fn made(entry: &DestinationEntry, config: &Value, event: &Document) -> Result<Vec<HttpRequest>, String> {
    crate::rudder::requests(entry, config, event.fields().clone())
}

/// What the destination of a kind makes of an event.
fn built(kind: &str, config: &Value, event: &Document) -> Result<Vec<HttpRequest>, String> {
    made(crate::registry().destination_entry(kind).unwrap(), config, event)
}

/// Differences that are told of one failing case; all of them where one destination is asked for.
const TOLD: usize = 3;

#[test]
fn requests_are_those_of_rudderstack() {
    let asked = std::env::var("MILLRACE_CORPUS").unwrap_or_default();
    let (file, number) = asked.split_once(':').unwrap_or((&asked, ""));
    let mut regressions = Vec::new();
    for corpus in CORPORA.iter().filter(|corpus| file.is_empty() || corpus.file == file) {
        let Some(cases) = cases(corpus.file) else { continue };
        let told = if file.is_empty() { TOLD } else { usize::MAX };
        if let Ok(number) = number.parse::<usize>() {
            show(corpus, &cases[number]);
            continue;
        }
        let tally = tally(corpus, &cases, told);
        if tally.passed < corpus.floor {
            regressions
                .push(format!("{}: {} cases pass, there were {}", corpus.file, tally.passed, corpus.floor));
        }
        if tally.reordered != corpus.reordered {
            let text = format!("{}: {:?} pass in another order", corpus.file, tally.reordered);
            regressions.push(format!("{text}, and {:?} are known to", corpus.reordered));
        }
    }
    assert!(regressions.is_empty(), "{regressions:#?}");
}

/// What came of a destination's cases.
#[derive(Default)]
struct Tally {
    passed: usize,
    /// Those of the passed whose requests come in another order.
    reordered: Vec<usize>,
}

/// Prints what came of a destination's cases.
fn tally(corpus: &Corpus, cases: &[Value], told: usize) -> Tally {
    let mut tally = Tally::default();
    let (mut mocked, mut mocked_passed) = (0, 0);
    for (number, case) in cases.iter().enumerate() {
        let is_mocked = case["mocked"] == true;
        let mark = if is_mocked { " (mocked)" } else { "" };
        let title = case["description"].as_str().unwrap_or_default();
        let outcome = judge(corpus, case);
        let is_reordered = matches!(outcome, Outcome::Reordered) && corpus.reordered.contains(&number);
        mocked += usize::from(is_mocked);
        if is_reordered || matches!(outcome, Outcome::Same) {
            tally.passed += 1;
            mocked_passed += usize::from(is_mocked);
        }
        if is_reordered {
            println!("  {}:{number}{mark} {title}: passes in another order", corpus.file);
            tally.reordered.push(number);
            continue;
        }
        let differences = outcome.differences();
        if !differences.is_empty() {
            println!("  {}:{number}{mark} {title}", corpus.file);
        }
        for difference in differences.iter().take(told) {
            println!("      {difference}");
        }
    }
    let (passed, all, reordered) = (tally.passed, cases.len(), tally.reordered.len());
    let order =
        if reordered == 0 { String::new() } else { format!(", {reordered} of them in another order") };
    println!("{}: {passed} of {all} cases pass{order} ({mocked_passed} of {mocked} mocked)", corpus.file);
    tally
}

/// How the answer to a case stands to what it expects.
enum Outcome {
    Same,
    /// The same requests, in another order.
    Reordered,
    Different(Vec<String>),
}

impl Outcome {
    fn differences(self) -> Vec<String> {
        match self {
            Self::Same => Vec::new(),
            Self::Reordered => vec!["the same requests, in another order".to_owned()],
            Self::Different(differences) => differences,
        }
    }
}

fn judge(corpus: &Corpus, case: &Value) -> Outcome {
    let expected = case["output"]["response"]["body"].as_array().cloned().unwrap_or_default();
    let answers = answers(corpus, case);
    if let Some(error) = expected.iter().find_map(|output| output["error"].as_str())
        && !answers.iter().any(Result::is_err)
    {
        return Outcome::Different(vec![format!("not refused: {error}")]);
    }
    let mut requests = Vec::new();
    for answer in answers {
        match answer {
            Ok(made) => requests.extend(made),
            Err(_) if expected.iter().any(|output| output.get("error").is_some()) => {}
            Err(error) => return Outcome::Different(vec![format!("refused: {error}")]),
        }
    }
    let outputs: Vec<&Value> = expected.iter().filter_map(|output| output.get("output")).collect();
    if outputs.len() != requests.len() {
        let text = format!("{} requests instead of {}", requests.len(), outputs.len());
        return Outcome::Different(vec![text]);
    }
    let differences = compare::in_order(&outputs, &requests, corpus.made_up);
    if differences.is_empty() {
        return Outcome::Same;
    }
    if compare::are_in_any_order(&outputs, requests, corpus.made_up) {
        return Outcome::Reordered;
    }
    Outcome::Different(differences)
}

/// What is made of each input of a case.
fn answers(corpus: &Corpus, case: &Value) -> Vec<Result<Vec<HttpRequest>, String>> {
    let inputs = case["input"]["request"]["body"].as_array().cloned().unwrap_or_default();
    let answer = |input: &Value| {
        let message = input["message"].as_object().cloned().unwrap_or_default();
        (corpus.requests)(&input["destination"]["Config"], &Document::complete(message))
    };
    inputs.iter().map(answer).collect()
}

/// Prints all of one case.
fn show(corpus: &Corpus, case: &Value) {
    println!("{:#}\nEXPECTED {:#}", case["input"]["request"]["body"], case["output"]["response"]["body"]);
    for answer in answers(corpus, case) {
        println!("ANSWER {:#}", answer.map_or_else(|error| json!({ "error": error }), |made| json!(made)));
    }
    println!("DIFFERENCES {:#?}", judge(corpus, case).differences());
}

/// The cases of a file that are about events to requests.
fn cases(name: &str) -> Option<Vec<Value>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora");
    let folder = std::env::var_os("MILLRACE_CORPORA").map_or(beside, PathBuf::from);
    let Ok(text) = std::fs::read(folder.join("destinations").join(format!("{name}.json"))) else {
        println!("SKIPPED {name}: not in {}/destinations", folder.display());
        return None;
    };
    let file: Value = serde_json::from_slice(&text).unwrap();
    let all = file["cases"].as_array().unwrap().iter();
    let mut cases: Vec<Value> = all.filter(|case| case["feature"] == "processor").cloned().collect();
    let answers = long_texts(&file["network"]);
    for case in &mut cases {
        if answers.iter().any(|answer| is_of_an_answer(case, answer)) {
            case["mocked"] = true.into();
        }
    }
    Some(cases)
}

/// Whether a case expects what only an answer of the vendor's could tell.
fn is_of_an_answer(case: &Value, answer: &str) -> bool {
    case["output"].to_string().contains(answer) && !case["input"].to_string().contains(answer)
}

/// The ids in the answers of a file's mocks: texts that are too long to be met by chance.
fn long_texts(mocks: &Value) -> Vec<String> {
    match mocks {
        Value::String(text) if text.len() >= 20 && !text.contains([' ', '/', '"']) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(long_texts).collect(),
        Value::Object(fields) => {
            let answered = fields.iter().filter(|(name, _)| *name != "httpReq");
            answered.flat_map(|(_, value)| long_texts(value)).collect()
        }
        _ => Vec::new(),
    }
}
