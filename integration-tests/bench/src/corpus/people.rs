//! Who causes the events, and what personal data they leave in them.

use fastrand::Rng;

use super::{one_in_hundred, pick};

const PEOPLE: usize = 100_000;

/// A few people cause most events.
const ZIPF_EXPONENT: f64 = 1.05;

/// Draws people by Zipf's law.
pub(crate) struct People {
    /// For each rank, the weight of it and of all before it.
    cumulated: Vec<f64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) user_id: String,
    pub(crate) anonymous_id: String,
}

impl People {
    pub(crate) fn new() -> Self {
        let mut total = 0.0;
        let weight = |rank: usize| (rank as f64).powf(-ZIPF_EXPONENT);
        let cumulated = (1..=PEOPLE)
            .map(|rank| {
                total += weight(rank);
                total
            })
            .collect();
        Self { cumulated }
    }

    pub(crate) fn pick(&self, rng: &mut Rng) -> Person {
        let total = self.cumulated.last().copied().unwrap_or_default();
        let drawn = rng.f64() * total;
        let rank = self.cumulated.partition_point(|sum| *sum < drawn);
        // The same person has the same ids, and neighbours have ids that look nothing alike.
        let spread = (rank as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let other = spread.rotate_left(23).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let anonymous_id = format!(
            "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
            spread >> 32,
            spread >> 16 & 0xffff,
            spread & 0xfff,
            other >> 52,
            other & 0xffff_ffff_ffff
        );
        Person { user_id: format!("user-{rank:06}"), anonymous_id }
    }
}

/// One finding in an event: under a field of its own, or inside of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Personal {
    pub(super) field: &'static str,
    pub(super) text: String,
}

/// 15 % of the events have some: e-mail addresses and telephone numbers most, then cards (with a valid
/// check digit), addresses of machines, bank accounts, social security numbers.
pub(super) fn personal(rng: &mut Rng) -> Option<Personal> {
    if !one_in_hundred(rng, 15) {
        return None;
    }
    let (field, value) = match rng.u32(..100) {
        0..40 => ("email", email(rng)),
        40..65 => ("phone", format!("+1 415 555 {:04}", rng.u32(..10_000))),
        65..80 => ("card_number", card(rng)),
        80..90 => ("ip", format!("203.0.113.{}", rng.u8(1..255))),
        90..95 => ("iban", iban(rng)),
        _ => ("ssn", format!("{:03}-{:02}-{:04}", rng.u32(100..600), rng.u32(10..99), rng.u32(1000..9999))),
    };
    if one_in_hundred(rng, 50) && field != "ip" {
        return Some(Personal { field: "note", text: format!("please use {value} from now on") });
    }
    Some(Personal { field, text: value })
}

fn email(rng: &mut Rng) -> String {
    let first = pick(rng, &["jane", "ali", "wei", "olga", "tom", "maria", "kofi", "ines"]);
    let last = pick(rng, &["doe", "khan", "li", "ivanova", "smith", "garcia", "mensah", "weber"]);
    format!("{first}.{last}{}@example.com", rng.u32(..1000))
}

/// Sixteen digits from a test range, the last one by Luhn.
fn card(rng: &mut Rng) -> String {
    let digits: Vec<u32> = format!("411111{:09}", rng.u64(..1_000_000_000))
        .chars()
        .filter_map(|digit| digit.to_digit(10))
        .collect();
    let doubled = |digit: u32| if digit * 2 > 9 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 0 { doubled(*digit) } else { *digit })
        .sum();
    let mut text: String = digits.iter().map(ToString::to_string).collect();
    text.push_str(&((10 - sum % 10) % 10).to_string());
    text
}

/// Of Germany, with valid check digits.
fn iban(rng: &mut Rng) -> String {
    let account = format!("50010517{:010}", rng.u64(..10_000_000_000));
    // "DE00" behind the account, letters as numbers from 10.
    let number: u128 = format!("{account}131400").parse().unwrap_or_default();
    format!("DE{:02}{account}", 98 - number % 97)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_passes_luhn_and_an_account_its_check() {
        let mut rng = Rng::with_seed(1);
        for _ in 0..100 {
            let card = card(&mut rng);
            let sum: u32 = card
                .chars()
                .rev()
                .filter_map(|digit| digit.to_digit(10))
                .enumerate()
                .map(|(place, digit)| match (place % 2, digit * 2) {
                    (0, _) => digit,
                    (_, twice) if twice > 9 => twice - 9,
                    (_, twice) => twice,
                })
                .sum();
            assert!(card.len() == 16 && sum.is_multiple_of(10), "{card}");
            let iban = iban(&mut rng);
            let number: u128 = format!("{}1314{}", &iban[4..], &iban[2..4]).parse().unwrap_or_default();
            assert!(iban.len() == 22 && number % 97 == 1, "{iban}");
        }
    }

    #[test]
    fn the_first_of_a_hundred_thousand_cause_most() {
        let people = People::new();
        let mut rng = Rng::with_seed(1);
        let first = format!("user-{:06}", 0);
        let drawn = (0..10_000).filter(|_| people.pick(&mut rng).user_id == first).count();
        assert!((500..1500).contains(&drawn), "{drawn}");
    }
}
