//! PostgreSQL's `numeric` on the wire, to and from doubles and decimals.
//!
//! A cast of the server from `float8` keeps 15 digits only, so `0.1 + 0.2` would come back as `0.3`. Here
//! a double becomes the shortest decimal that reads back as the same double.
//!
//! The form: count of base-10000 digits, weight of the first, sign, digits to show after the point, then
//! the digits; value = Σ digit[i] · 10000^(weight − i).

use bytes::{BufMut, BytesMut};

const BASE: i128 = 10_000;
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// What the server holds before and after the point.
/// <https://www.postgresql.org/docs/current/datatype-numeric.html>
const MAX_WHOLE_DIGITS: usize = 131_072;
const MAX_FRACTION_DIGITS: usize = 16_383;

fn decimal_digits(text: &str) -> Vec<u16> {
    text.bytes().filter(u8::is_ascii_digit).map(|digit| u16::from(digit - b'0')).collect()
}

/// Appends a value of a COPY: its length and its wire form.
pub(super) fn put(out: &mut BytesMut, value: &Numeric) {
    out.put_i32(value.wire_bytes());
    value.write(out);
}

/// As [`put`], the shortest decimal that reads back as `value`.
///
/// Most numbers of people have at most four digits after the point and fifteen in all: these are one
/// multiplication away from a whole number, whose digits to the base 10,000 are the wire's. The shortest decimal
/// of so few digits is the only one, so this is no other result than the long way's.
pub(super) fn put_f64(out: &mut BytesMut, value: f64) {
    const FEW_DIGITS: f64 = 1e15;
    let shifted = (value * 1e4).round();
    let exact = shifted.abs() < FEW_DIGITS && shifted / 1e4 == value;
    if !exact {
        return put(out, &Numeric::from_f64(value));
    }
    put_shifted(out, shifted as i64);
}

/// As [`put`].
pub(super) fn put_i64(out: &mut BytesMut, value: i64) {
    if let Some(shifted) = value.checked_mul(10_000) {
        return put_shifted(out, shifted);
    }
    // A whole number is a decimal.
    if let Some(value) = Numeric::from_text(&value.to_string()) {
        put(out, &value);
    }
}

/// Appends 10^-4 of a number.
fn put_shifted(out: &mut BytesMut, shifted: i64) {
    /// 2^63 has this many digits to the base 10,000.
    const DIGITS: usize = 5;
    let mut digits = [0_u16; DIGITS];
    let mut rest = shifted.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = u16::try_from(rest % 10_000).unwrap_or_default();
        rest /= 10_000;
    }
    let fraction = digits.last().copied().unwrap_or_default();
    let scale = match fraction {
        0 => 0_u16,
        _ if fraction.is_multiple_of(1_000) => 1,
        _ if fraction.is_multiple_of(100) => 2,
        _ if fraction.is_multiple_of(10) => 3,
        _ => 4,
    };
    let first = digits.iter().position(|digit| *digit != 0).unwrap_or(DIGITS);
    let end = digits.iter().rposition(|digit| *digit != 0).map_or(DIGITS, |last| last + 1);
    let shown = digits.get(first..end).unwrap_or_default();
    let (count, weight) = (shown.len() as u16, if shown.is_empty() { 0 } else { 3 - first as i16 });
    out.put_i32(8 + 2 * i32::from(count));
    out.put_u16(count);
    out.put_i16(weight);
    out.put_u16(if shifted < 0 { NEGATIVE } else { POSITIVE });
    out.put_u16(scale);
    for digit in shown {
        out.put_u16(*digit);
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numeric {
    sign: u16,
    weight: i16,
    scale: u16,
    digits: Vec<u16>,
}

/// The bytes are no `numeric`.
#[derive(Debug, thiserror::Error)]
#[error("malformed numeric")]
pub(super) struct Malformed;

impl Numeric {
    /// The shortest decimal that reads back as `value`. NaN and the infinities stay what they are.
    pub(super) fn from_f64(value: f64) -> Self {
        let special = |sign| Self { sign, weight: 0, scale: 0, digits: Vec::new() };
        if value.is_nan() {
            return special(NAN);
        }
        if value.is_infinite() {
            return special(if value > 0.0 { INFINITY } else { MINUS_INFINITY });
        }
        if value == 0.0 {
            return special(POSITIVE);
        }
        let text = format!("{:e}", value.abs());
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let decimals = decimal_digits(mantissa);
        let exponent: i32 = exponent.parse().unwrap_or_default();
        // A double has at most 17 digits and an exponent of at most 324: all of this is small.
        let after = i32::try_from(decimals.len()).unwrap_or(i32::MAX) - (exponent + 1);
        let scale = u16::try_from(after.max(0)).unwrap_or(u16::MAX);
        Self::from_decimals(value < 0.0, &decimals, exponent + 1, scale)
    }

    /// A decimal as [`Cell::Decimal`](millrace_columnar::Cell::Decimal) has it; `None` where the text is none
    /// or the server cannot hold it.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !plain(whole) || !plain(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > MAX_WHOLE_DIGITS || fraction.len() > MAX_FRACTION_DIGITS {
            return None;
        }
        let mut decimals = decimal_digits(whole);
        decimals.extend(decimal_digits(fraction));
        let (before, scale) = (i32::try_from(whole.len()).ok()?, u16::try_from(fraction.len()).ok()?);
        Some(Self::from_decimals(negative, &decimals, before, scale))
    }

    /// From decimal digits with `before` of them before the point, and `scale` to show after it.
    fn from_decimals(negative: bool, decimals: &[u16], before: i32, scale: u16) -> Self {
        let padding = (4 - before.rem_euclid(4)) % 4;
        let mut padded = vec![0; usize::try_from(padding).unwrap_or_default()];
        padded.extend_from_slice(decimals);
        padded.resize(padded.len().next_multiple_of(4), 0);
        let mut digits: Vec<u16> =
            padded.chunks(4).map(|four| four.iter().fold(0, |sum, digit| sum * 10 + digit)).collect();
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        let end = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        digits.truncate(end);
        if digits.is_empty() {
            return Self { sign: POSITIVE, weight: 0, scale, digits };
        }
        let weight = (before + padding) / 4 - 1 - i32::try_from(zeros).unwrap_or(i32::MAX);
        Self {
            sign: if negative { NEGATIVE } else { POSITIVE },
            // At most 131,072 digits before the point are 32,768 of these.
            weight: i16::try_from(weight).unwrap_or(i16::MAX),
            scale,
            digits,
        }
    }

    /// How long the wire form is.
    fn wire_bytes(&self) -> i32 {
        // At most 36,864 digits.
        i32::try_from(8 + 2 * self.digits.len()).unwrap_or(i32::MAX)
    }

    /// Writes the wire form.
    pub(super) fn write(&self, out: &mut BytesMut) {
        out.put_u16(u16::try_from(self.digits.len()).unwrap_or_default());
        out.put_i16(self.weight);
        out.put_u16(self.sign);
        out.put_u16(self.scale);
        for digit in &self.digits {
            out.put_u16(*digit);
        }
    }

    /// Reads the wire form.
    pub(super) fn read(raw: &[u8]) -> Result<Self, Malformed> {
        let words: Vec<u16> = raw
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |word, byte| (word << 8) | u16::from(*byte)))
            .collect();
        let [count, weight, sign, scale, digits @ ..] = words.as_slice() else { return Err(Malformed) };
        if !raw.len().is_multiple_of(2) || digits.len() != usize::from(*count) {
            return Err(Malformed);
        }
        Ok(Self { sign: *sign, weight: weight.cast_signed(), scale: *scale, digits: digits.to_vec() })
    }

    /// The nearest double; `None` for a whole number that no double is: an id, for example, would become
    /// another one.
    pub(super) fn to_f64(&self) -> Option<f64> {
        match self.sign {
            NAN => return Some(f64::NAN),
            INFINITY => return Some(f64::INFINITY),
            MINUS_INFINITY => return Some(f64::NEG_INFINITY),
            _ => {}
        }
        let digits: String = self.digits.iter().map(|digit| format!("{digit:04}")).collect();
        let exponent = 4 * (i64::from(self.weight) + 1) - i64::try_from(digits.len()).unwrap_or(i64::MAX);
        let minus = if self.sign == NEGATIVE { "-" } else { "" };
        let value: f64 = format!("{minus}0{digits}e{exponent}").parse().ok()?;
        let whole = self.trimmed().len() <= usize::try_from(i64::from(self.weight) + 1).unwrap_or_default();
        if whole && Self::from_f64(value).trimmed() != self.trimmed() {
            return None;
        }
        Some(value)
    }

    /// The digits without zeros at the end.
    fn trimmed(&self) -> &[u16] {
        let end = self.digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        self.digits.get(..end).unwrap_or_default()
    }

    /// The value times 10^`scale`, as Arrow holds decimals; `None` where that is no whole number of at
    /// most 38 digits.
    pub(super) fn to_unscaled(&self, scale: u8) -> Option<i128> {
        if self.sign != POSITIVE && self.sign != NEGATIVE {
            return None;
        }
        let mut value: i128 = 0;
        // The power of ten that a digit stands for. Of the last the wire shows zeros beyond the scale: they go before
        // they are counted, for with them the number may be longer than 38 digits.
        let mut place = 4 * i32::from(self.weight) + i32::from(scale);
        for digit in self.digits.iter().copied().map(i128::from) {
            let beyond = 10_i128.pow((-place).clamp(0, 4).unsigned_abs());
            if digit % beyond != 0 {
                return None;
            }
            value = value.checked_mul(BASE / beyond)?.checked_add(digit / beyond)?;
            place -= 4;
        }
        if value != 0 {
            let zeros = (place + 4).max(0).unsigned_abs();
            value = value.checked_mul(10_i128.checked_pow(zeros)?)?;
        }
        Some(if self.sign == NEGATIVE { -value } else { value })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through_the_wire(value: &Numeric) -> Numeric {
        let mut bytes = BytesMut::new();
        value.write(&mut bytes);
        Numeric::read(&bytes).unwrap()
    }

    proptest! {
        #[test]
        fn every_double_survives(value in any::<f64>()) {
            let back = through_the_wire(&Numeric::from_f64(value)).to_f64().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()), "{value} became {back}");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_writes_what_the_long_way_does(whole in any::<i64>(), digits in 0_i32..20, divisor in 0_i32..8) {
            let value = (whole % 10_i64.pow(digits.unsigned_abs().min(18))) as f64 / 10_f64.powi(divisor);
            let (mut short, mut long) = (BytesMut::new(), BytesMut::new());
            put_f64(&mut short, value);
            put(&mut long, &Numeric::from_f64(value));
            prop_assert_eq!(&short, &long, "{}", value);
            put_i64(&mut short, whole);
            put(&mut long, &Numeric::from_text(&whole.to_string()).unwrap());
            prop_assert_eq!(short, long, "{}", whole);
        }

        #[test]
        fn every_decimal_survives(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{0,18})?") {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let unscaled: i128 = text.replace('.', "").parse().unwrap();
            let back = through_the_wire(&Numeric::from_text(&text).unwrap());
            prop_assert_eq!(back.to_unscaled(u8::try_from(scale).unwrap()), Some(unscaled), "{}", text);
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for bad in ["", "-", ".5", "1e5", "+1", "1.2.3", "NaN", &"9".repeat(131_073)] {
            assert_eq!(Numeric::from_text(bad), None, "{bad:?}");
        }
        assert_eq!(Numeric::from_text("-0.00").unwrap().to_unscaled(2), Some(0));
    }

    #[test]
    fn known_values_have_the_servers_form() {
        let form = |value: f64| {
            let numeric = Numeric::from_f64(value);
            (numeric.sign, numeric.weight, numeric.scale, numeric.digits)
        };
        assert_eq!(form(12.5), (POSITIVE, 0, 1, vec![12, 5000]));
        assert_eq!(form(-0.001), (NEGATIVE, -1, 3, vec![10]));
        assert_eq!(form(12_345_678.0), (POSITIVE, 1, 0, vec![1234, 5678]));
        assert_eq!(form(0.0), (POSITIVE, 0, 0, vec![]));
    }

    #[test]
    fn a_whole_number_beyond_doubles_is_not_rounded() {
        let number = |digits: Vec<u16>, weight| Numeric { sign: POSITIVE, weight, scale: 0, digits };
        assert_eq!(number(vec![9007, 1992, 5474, 993], 3).to_f64(), None);
        assert_eq!(number(vec![1], 5).to_f64(), Some(1e20));
    }

    #[test]
    fn a_decimal_of_38_digits_is_read_whatever_the_zeros_behind_it() {
        for text in
            ["2000000000000000000.00000000000000001", "-99999999999999999999999999999999999999", "0.1"]
        {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let back = through_the_wire(&Numeric::from_text(text).unwrap());
            let unscaled: i128 = text.replace('.', "").parse().unwrap();
            assert_eq!(back.to_unscaled(u8::try_from(scale).unwrap()), Some(unscaled), "{text}");
        }
    }

    #[test]
    fn decimals_keep_every_digit() {
        let number = Numeric { sign: NEGATIVE, weight: 0, scale: 2, digits: vec![12, 3400] };
        assert_eq!(number.to_unscaled(2), Some(-1234));
        assert_eq!(number.to_unscaled(4), Some(-123_400));
        assert_eq!(number.to_unscaled(1), None);
        assert_eq!(Numeric::from_f64(f64::NAN).to_unscaled(2), None);
    }
}
