//! YAML to a typed value, with errors that name the line and the key.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Spanned};

use crate::{Error, Result};

/// The file a configuration came from, and the line of each key in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    file: Option<PathBuf>,
    /// By dotted path: `lora_parameters.rank`.
    lines: BTreeMap<String, u64>,
}

impl Origin {
    /// Whether the file has this key (a dotted path).
    pub fn has(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// Where this key (a dotted path) stands, as exactly as is known.
    pub fn place(&self, key: &str) -> Place {
        Place { file: self.file.clone(), line: self.lines.get(key).copied() }
    }

    /// The last key that begins on a line or above it.
    fn key_on(&self, line: u64) -> Option<&str> {
        let above = self.lines.iter().filter(|(_, at)| **at <= line);
        above.max_by_key(|(_, at)| **at).map(|(key, _)| key.as_str())
    }
}

/// A place in a configuration; displays as `file:line`, or what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The file, if the configuration was read from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, if the key stands in the file.
    pub line: Option<u64>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}", file.display()),
            (Some(file), None) => write!(f, "{}", file.display()),
            (None, _) => f.write_str("configuration"),
        }
    }
}

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

/// Turns the parser's error into one that names the key and what stands there.
fn locate(error: serde_saphyr::Error, text: &str, origin: &Origin) -> Error {
    use serde_saphyr::Error as Yaml;

    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    let place = Place { file: origin.file.clone(), line };
    let key = line.and_then(|line| origin.key_on(line)).unwrap_or("(document)").to_owned();
    let setting = |expected: String, found: String| Error::Setting {
        place: place.clone(),
        key: key.clone(),
        expected,
        found,
    };
    match error.without_snippet() {
        Yaml::SerdeUnknownField { field, expected, .. } => Error::UnknownKey {
            place,
            key: field.clone(),
            closest: closest(field, expected).map(str::to_owned),
        },
        Yaml::SerdeMissingField { field, .. } => {
            setting(format!("`{field}` in it"), "no such key".to_owned())
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
            setting("it once".to_owned(), "it once more".to_owned())
        }
        other => Error::Yaml { place, message: other.to_string() },
    }
}

/// What is written on a line after its first `key:`, without a comment.
fn source_of(text: &str, line: u64) -> String {
    let index = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let written = text.lines().nth(index).unwrap_or_default();
    let value = written.split_once(": ").map_or(written, |(_, value)| value);
    format!("`{}`", value.split(" #").next().unwrap_or(value).trim())
}

/// The known key that a mistyped one most probably means.
fn closest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    /// Below this, two keys have little more in common than two random words.
    const LEAST_LIKENESS: f64 = 0.75;
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(key, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= LEAST_LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Walks a document and notes the line of every mapping key under its dotted path.
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
