//! Deserializing YAML, with errors that name the line and the key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Spanned};

use super::location::{Location, Origin};
use crate::error::{Error, Result};

/// Reads `text` twice: once for the lines of its keys, once for its values.
pub(super) fn parse<T: DeserializeOwned>(text: &str, file: PathBuf) -> Result<(T, Origin)> {
    let mut origin = Origin { file: Some(file), lines: BTreeMap::new() };
    let options = serde_saphyr::options! {
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let mut lines = BTreeMap::new();
    let read =
        serde_saphyr::with_deserializer_from_str_with_options(text, options.clone(), |yaml| {
            KeyLines { prefix: "", lines: &mut lines }.deserialize(yaml)
        });
    origin.lines = lines;
    read.map_err(|error| locate(error, text, &origin))?;
    let value = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| locate(error, text, &origin))?;
    Ok((value, origin))
}

/// Adds line, key and the value found there to an error of the parser.
fn locate(error: serde_saphyr::Error, text: &str, origin: &Origin) -> Error {
    use serde_saphyr::Error as Yaml;

    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    let location = Location { file: origin.file.clone(), line };
    let key = line.and_then(|line| origin.key_on(line)).unwrap_or("(document)").to_owned();
    let setting = |expected: String, found: String| Error::Setting {
        location: location.clone(),
        key: key.clone(),
        expected,
        found,
    };
    match error.without_snippet() {
        Yaml::SerdeUnknownField { field, expected, .. } => Error::UnknownKey {
            location,
            key: field.clone(),
            closest: closest(field, expected).map(str::to_owned),
        },
        Yaml::SerdeMissingField { field, .. } => {
            setting(format!("a key `{field}`"), "none".to_owned())
        }
        Yaml::SerdeUnknownVariant { variant, expected, .. } => {
            setting(format!("one of {}", expected.join(", ")), variant.clone())
        }
        Yaml::SerdeInvalidType { unexpected, expected, .. }
        | Yaml::SerdeInvalidValue { unexpected, expected, .. } => {
            setting(expected.clone(), unexpected.clone())
        }
        Yaml::InvalidScalar { ty, .. } => {
            setting((*ty).to_owned(), source_of(text, line.unwrap_or(0)))
        }
        Yaml::DuplicateMappingKey { .. } => {
            setting("one such key".to_owned(), "another".to_owned())
        }
        other => Error::Yaml { location, message: other.to_string() },
    }
}

/// The text of a line after its first `key:`, without a comment.
fn source_of(text: &str, line: u64) -> String {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let line = text.lines().nth(index).unwrap_or_default();
    let value = line.split_once(": ").map_or(line, |(_, value)| value);
    format!("`{}`", value.split(" #").next().unwrap_or(value).trim())
}

/// The known key that is most similar to a misspelled one.
fn closest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Unrelated words are below this Jaro-Winkler similarity.
    const MIN_SIMILARITY: f64 = 0.75;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A visitor that collects the line of every mapping key by its dotted path.
struct KeyLines<'a> {
    prefix: &'a str,
    lines: &'a mut BTreeMap<String, u64>,
}

impl<'de> DeserializeSeed<'de> for KeyLines<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyLines<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let path = match self.prefix {
                "" => key.value,
                prefix => format!("{prefix}.{}", key.value),
            };
            self.lines.insert(path.clone(), key.referenced.line());
            map.next_value_seed(KeyLines { prefix: &path, lines: self.lines })?;
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        while items
            .next_element_seed(KeyLines { prefix: self.prefix, lines: self.lines })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
