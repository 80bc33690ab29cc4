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
        let decimals: Vec<u16> =
            mantissa.bytes().filter(u8::is_ascii_digit).map(|digit| u16::from(digit - b'0')).collect();
        let exponent: i16 = exponent.parse().unwrap_or_default();
        Self::from_decimals(value < 0.0, &decimals, exponent + 1)
    }

    /// From decimal digits with `before` of them before the point.
    fn from_decimals(negative: bool, decimals: &[u16], before: i16) -> Self {
        let padding = (4 - before.rem_euclid(4)) % 4;
        let mut padded = vec![0; usize::from(padding.unsigned_abs())];
        padded.extend_from_slice(decimals);
        padded.resize(padded.len().next_multiple_of(4), 0);
        let digits =
            padded.chunks(4).map(|four| four.iter().fold(0, |sum, digit| sum * 10 + digit)).collect();
        // A double has at most 17 digits and an exponent of at most 324: all of this is small.
        let after = i16::try_from(decimals.len()).unwrap_or(i16::MAX) - before;
        Self {
            sign: if negative { NEGATIVE } else { POSITIVE },
            weight: (before + padding) / 4 - 1,
            scale: after.max(0).unsigned_abs(),
            digits,
        }
    }

    /// Writes the wire form.
    pub(super) fn write(&self, out: &mut BytesMut) {
        // At most 5 digits of a double.
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
        for digit in &self.digits {
            value = value.checked_mul(BASE)?.checked_add(i128::from(*digit))?;
        }
        let last_weight = i32::from(self.weight) - i32::try_from(self.digits.len()).ok()? + 1;
        let exponent = 4 * last_weight + i32::from(scale);
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        let shifted = if exponent >= 0 {
            value.checked_mul(power)?
        } else if value % power == 0 {
            value / power
        } else {
            return None;
        };
        Some(if self.sign == NEGATIVE { -shifted } else { shifted })
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
    fn decimals_keep_every_digit() {
        let number = Numeric { sign: NEGATIVE, weight: 0, scale: 2, digits: vec![12, 3400] };
        assert_eq!(number.to_unscaled(2), Some(-1234));
        assert_eq!(number.to_unscaled(4), Some(-123_400));
        assert_eq!(number.to_unscaled(1), None);
        assert_eq!(Numeric::from_f64(f64::NAN).to_unscaled(2), None);
    }
}
