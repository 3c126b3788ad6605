//! The fields of a request's body, with errors that name the field.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// A JSON object. A field that is null counts as absent.
#[derive(Debug)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => {
                let found = super::error::shown(&other);
                Err(ApiError::bad_request(format!("expected a JSON object, found {found}")))
            }
            Err(error) => Err(ApiError::bad_request(format!("expected JSON: {error}"))),
        }
    }

    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Removes a field.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    pub fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("a number from {} to {}", range.start(), range.end());
                Err(ApiError::field(name, &expected, value))
            }
        }
    }

    pub fn count(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = match *range.end() {
                    usize::MAX => format!("an integer of at least {}", range.start()),
                    end => format!("an integer from {} to {end}", range.start()),
                };
                Err(ApiError::field(name, &expected, value))
            }
        }
    }

    /// Any integer, as 64 bits.
    pub fn seed(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let signed = || value.as_i64().map(i64::cast_unsigned);
        match value.as_u64().or_else(signed) {
            Some(seed) => Ok(Some(seed)),
            None => Err(ApiError::field(name, "an integer", value)),
        }
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        self.typed(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// A text, or a list of at most so many, none of them empty.
    pub fn texts(&self, name: &str, most: usize) -> Result<Vec<String>, ApiError> {
        let texts = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) if items.len() <= most => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        let full = |texts: &Vec<String>| texts.iter().all(|text| !text.is_empty());
        let expected = format!("a text or a list of at most {most} texts, none empty");
        let texts = self.typed(name, &expected, |value| texts(value).filter(full))?;
        Ok(texts.unwrap_or_default())
    }

    /// Refuses a field that is there with another value than one that changes nothing.
    pub fn refuse(
        &self,
        name: &str,
        neutral: &str,
        is_neutral: impl FnOnce(&Value) -> bool,
    ) -> Result<(), ApiError> {
        match self.get(name) {
            Some(value) if !is_neutral(value) => Err(ApiError::unsupported(name, neutral)),
            _ => Ok(()),
        }
    }

    fn typed<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| ApiError::field(name, expected, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(result: Result<impl std::fmt::Debug, ApiError>) -> String {
        result.unwrap_err().body()["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn errors_name_field_expectation_and_finding() {
        let fields = Fields::parse(
            br#"{"temperature": "hot", "n": 0, "seed": -3, "stop": ["a", ""], "top_p": null, "x": 1.5}"#,
        );
        let fields = fields.unwrap();
        assert_eq!(
            message(fields.number("temperature", 0.0..=2.0)),
            r#"temperature: expected a number from 0 to 2, found "hot""#
        );
        assert_eq!(
            message(fields.count("n", 1..=8)),
            "n: expected an integer from 1 to 8, found 0"
        );
        assert_eq!(
            message(fields.count("x", 1..=8)),
            "x: expected an integer from 1 to 8, found 1.5"
        );
        assert_eq!(fields.seed("seed").unwrap(), Some(u64::MAX - 2));
        assert!(message(fields.texts("stop", 4)).contains("none empty, found an array of 2"));
        assert_eq!(fields.number("top_p", 0.0..=1.0).unwrap(), None);
        assert_eq!(fields.flag("absent").unwrap(), None);
    }

    #[test]
    fn bodies_that_are_no_objects() {
        for body in [&b""[..], b"[]", b"{", b"\xff\xfe", b"{\"a\": \"\\ud800\"}", b"nul"] {
            assert!(Fields::parse(body).is_err(), "{body:?}");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(message(Fields::parse(deep.as_bytes())).contains("recursion"));
        let long = format!("{{\"n\": \"{}\"}}", "é\\n".repeat(1000));
        let shown = message(Fields::parse(long.as_bytes()).unwrap().count("n", 1..=2));
        assert!(shown.len() < 200 && !shown.contains('\n'), "{shown}");
    }
}
