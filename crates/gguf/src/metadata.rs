use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// One metadata value. All integer types of the format are widened to one type and all float types to another; the getters
/// of [`Metadata`] check that a value fits the requested type.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// Any integer type of the format.
    Int(i128),
    /// `f32` or `f64`.
    Float(f64),
    /// Text.
    String(String),
    /// An array of truth values.
    Bools(Vec<bool>),
    /// An array of any integer type up to 32 bits, or of 64-bit values that fit.
    Ints(Vec<i64>),
    /// An array of `f32` or `f64`.
    Floats(Vec<f64>),
    /// An array of text.
    Strings(Vec<String>),
}

impl Value {
    /// A short description for error messages.
    fn describe(&self) -> String {
        match self {
            Value::Bool(value) => format!("the bool {value}"),
            Value::Int(value) => format!("the integer {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::String(value) => match value.char_indices().nth(40) {
                Some((cut, _)) => format!("the text {:?}...", &value[..cut]),
                None => format!("the text {value:?}"),
            },
            Value::Bools(items) => format!("an array of {} bools", items.len()),
            Value::Ints(items) => format!("an array of {} integers", items.len()),
            Value::Floats(items) => format!("an array of {} numbers", items.len()),
            Value::Strings(items) => format!("an array of {} texts", items.len()),
        }
    }
}

/// The key/value pairs of a file.
///
/// The typed getters fail with [`Error::MissingKey`] or [`Error::WrongType`].
#[derive(Debug, Clone)]
pub struct Metadata {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, Value>,
}

impl Metadata {
    /// The value at `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Whether `key` is present.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The file these pairs came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "a text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// An integer of any stored width that fits in 32 unsigned bits.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "an unsigned 32-bit integer", |value| match value {
            Value::Int(value) => u32::try_from(*value).ok(),
            _ => None,
        })
    }

    /// A floating-point number.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "a number", |value| match value {
            Value::Float(value) => Some(*value as f32),
            _ => None,
        })
    }

    /// An array of texts.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        self.typed(key, "an array of texts", |value| match value {
            Value::Strings(items) => Some(items.as_slice()),
            _ => None,
        })
    }

    /// An array of integers that fit in 32 signed bits.
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>> {
        self.typed(key, "an array of 32-bit integers", |value| match value {
            Value::Ints(items) => items.iter().map(|&item| i32::try_from(item).ok()).collect(),
            _ => None,
        })
    }

    /// An array of floating-point numbers.
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        self.typed(key, "an array of numbers", |value| match value {
            Value::Floats(items) => Some(items.iter().map(|&item| item as f32).collect()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let path = || self.path.clone();
        let Some(value) = self.values.get(key) else {
            return Err(Error::MissingKey { path: path(), key: key.to_owned(), expected });
        };
        convert(value).ok_or_else(|| Error::WrongType {
            path: path(),
            key: key.to_owned(),
            expected,
            found: value.describe(),
        })
    }
}
