//! Limits of the numbers in a JSON text: within them, every reader takes them for finite numbers.

/// The most digits before the point, after it, and of the exponent.
const DIGITS: [u8; 3] = [18, 17, 2];

/// The place in a JSON text, as far as its numbers are concerned.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// Within quotation marks.
    quoted: bool,
    /// After a backslash.
    escaped: bool,
    part: usize,
    /// Digits of this part of a number.
    digits: u8,
}

impl Numbers {
    /// Goes on by these bytes. Returns whether every number is within the limits.
    pub fn advance(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|&byte| self.step(byte))
    }

    fn step(&mut self, byte: u8) -> bool {
        if self.quoted {
            self.quoted = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return true;
        }
        match byte {
            b'0'..=b'9' => {
                self.digits = self.digits.saturating_add(1);
                return DIGITS.get(self.part).is_some_and(|most| self.digits <= *most);
            }
            b'.' => (self.part, self.digits) = (1, 0),
            b'e' | b'E' if self.digits > 0 => (self.part, self.digits) = (2, 0),
            // The sign of an exponent, or of a number that begins.
            b'+' | b'-' => {}
            _ => *self = Self { quoted: byte == b'"', ..Self::default() },
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_a_float_holds() {
        for (text, within) in [
            ("-123456789012345678", true),
            ("1234567890123456789", false),
            ("[0.12345678901234567, 1e99, 2E-99, 3.5e+07]", true),
            ("0.123456789012345678", false),
            ("1e100", false),
            ("1E-100", false),
            ("-0.5e+999", false),
            (r#"{"1e999": "1e999 \" 1e999", "b": true}"#, true),
            (r#"{"a\\": 1e999}"#, false),
            (r#"["\\\"1e999", 1e999]"#, false),
            ("[true, false, 12]", true),
        ] {
            for cut in 0..=text.len() {
                let mut numbers = Numbers::default();
                let (one, other) = text.as_bytes().split_at(cut);
                assert_eq!(
                    numbers.advance(one) && numbers.advance(other),
                    within,
                    "{text} at {cut}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_within_the_limits_is_finite(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
            if Numbers::default().advance(text.as_bytes()) {
                prop_assert!(text.parse::<f64>().is_ok_and(f64::is_finite), "{}", text);
            }
        }
    }
}
