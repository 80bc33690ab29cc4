//! Which place an event gets: pure, but for the look-up.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use millrace_event_model::Geo;
use millrace_privacy::{Precision, Scanner};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::geo::Locator;
use crate::identity;

/// The places of one request's events, of which most come from one address.
pub(crate) struct Places<'r> {
    locator: Option<&'r Locator>,
    scanner: Option<&'r Scanner>,
    last: Option<(IpAddr, Option<Arc<str>>)>,
}

impl<'r> Places<'r> {
    pub(crate) fn new(locator: Option<&'r Locator>, scanner: Option<&'r Scanner>) -> Self {
        Self { locator, scanner, last: None }
    }

    /// The place of an event as JSON, as precise as the policy allows. `context` is the event's, before the
    /// policy; the address is the one in it, else the first one of `others`, as at RudderStack. None where the
    /// client says itself where it is.
    pub(crate) fn of_event(
        &mut self,
        context: Option<&str>,
        others: [Option<Cow<'_, str>>; 2],
    ) -> Option<Arc<str>> {
        let locator = self.locator?;
        let said = said(context)?;
        let addresses = [said.ip.map(RawValue::get).and_then(identity::string)].into_iter().chain(others);
        let address = addresses.flatten().find(|text| !text.trim().is_empty())?;
        let address = address.trim().parse::<IpAddr>().ok()?.to_canonical();
        if let Some((last, place)) = &self.last
            && *last == address
        {
            return place.clone();
        }
        let place = locator.locate(address).and_then(|found| self.kept(found, address));
        let place = place.map(|kept| Arc::from(kept.to_json()));
        self.last = Some((address, place.clone()));
        place
    }

    /// What the policy leaves of a place; none if it is nothing.
    fn kept(&self, found: Geo, address: IpAddr) -> Option<Geo> {
        let precision = self.scanner.map_or(Precision::Point, |scanner| scanner.policy().place());
        let kept = limited(found, precision);
        if kept == Geo::default() {
            return None;
        }
        let address = address.to_string();
        let ip = match self.scanner {
            Some(scanner) => scanner.request_ip(&address),
            None => Some(address),
        };
        Some(Geo { ip, ..kept })
    }
}

fn limited(found: Geo, precision: Precision) -> Geo {
    let from = |least: Precision, text: Option<String>| text.filter(|_| precision >= least);
    Geo {
        ip: None,
        country: from(Precision::Country, found.country),
        region: from(Precision::Region, found.region),
        timezone: from(Precision::Region, found.timezone),
        city: from(Precision::City, found.city),
        postal: from(Precision::Point, found.postal),
        location: from(Precision::Point, found.location),
    }
}

/// What a context says of the client's place.
#[derive(Deserialize, Default)]
struct Said<'c> {
    #[serde(borrow, default)]
    ip: Option<&'c RawValue>,
    #[serde(borrow, default)]
    geo: Option<&'c RawValue>,
}

/// None where nothing is to be added: the context says it itself, or is no object that could.
fn said(context: Option<&str>) -> Option<Said<'_>> {
    let Some(context) = context.filter(|json| *json != "null") else { return Some(Said::default()) };
    // A list of two would be read as the two fields.
    let object = Some(context).filter(|json| json.starts_with('{'))?;
    let said: Said<'_> = serde_json::from_str(object).ok()?;
    said.geo.is_none().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn everything() -> Geo {
        let text = |text: &str| Some(text.to_owned());
        Geo {
            ip: None,
            city: text("Boxford"),
            country: text("GB"),
            region: text("England"),
            postal: text("OX1"),
            location: text("51.750000,-1.250000"),
            timezone: text("Europe/London"),
        }
    }

    #[test]
    fn a_place_is_as_precise_as_the_policy_allows() {
        for (precision, expected) in [
            (Precision::Nothing, "{}"),
            (Precision::Country, r#"{"country":"GB"}"#),
            (Precision::Region, r#"{"country":"GB","region":"England","timezone":"Europe/London"}"#),
            (
                Precision::City,
                r#"{"city":"Boxford","country":"GB","region":"England","timezone":"Europe/London"}"#,
            ),
        ] {
            assert_eq!(limited(everything(), precision).to_json(), expected);
        }
        assert_eq!(limited(everything(), Precision::Point), everything());
    }

    #[test]
    fn what_the_client_says_of_its_place_stands() {
        for (context, free) in [
            (None, true),
            (Some("null"), true),
            (Some("{}"), true),
            (Some(r#"{"ip":12,"geo":null}"#), true),
            (Some(r#"{"geo":{}}"#), false),
            (Some(r#"{"geo":"home"}"#), false),
            (Some(r#""text""#), false),
            (Some("[1]"), false),
        ] {
            assert_eq!(said(context).is_some(), free, "{context:?}");
        }
    }
}
