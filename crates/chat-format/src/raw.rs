//! JSON values that borrow from the input: strings without escapes are slices, objects are lists in the input's order. Most
//! of a row passes through cleaning unchanged, so building maps and copying strings would be wasted work.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Number, Value};

/// Any JSON value.
#[derive(Debug, Clone, Default)]
pub(crate) enum Raw<'a> {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    Array(Vec<Raw<'a>>),
    Object(Fields<'a>),
}

impl<'a> Raw<'a> {
    /// The field of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Raw<'a>> {
        match self {
            Raw::Object(fields) => fields.get(key),
            _ => None,
        }
    }

    /// Whether the value says nothing: null, false, or empty.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Raw::Null | Raw::Bool(false) => true,
            Raw::Text(text) => text.is_empty(),
            Raw::Array(items) => items.is_empty(),
            Raw::Object(fields) => fields.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The fields of an object, in the order of the input, without duplicate keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Raw<'a>)>);

/// The parser reads integers from here on as floating-point numbers.
const BEYOND_INTEGERS: f64 = 9_223_372_036_854_775_808.0;

/// Up to this many fields, duplicate keys are searched for one by one; beyond it, with a set.
const FEW: usize = 32;

impl<'a> Fields<'a> {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// Removes a field; the others keep their order.
    pub(crate) fn take(&mut self, key: &str) -> Option<Raw<'a>> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// Removes a field if it is a text.
    pub(crate) fn take_text(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let text =
            |(name, value): &(Cow<'_, str>, Raw<'_>)| name == key && matches!(value, Raw::Text(_));
        match self.0.remove(self.0.iter().position(text)?) {
            (_, Raw::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a field if it is a text.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Raw<'a>> {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value))
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Raw<'a>> {
        self.0.iter_mut().find_map(|(name, value)| (name == key).then_some(value))
    }

    pub(crate) fn insert(&mut self, key: &'static str, value: Raw<'a>) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((Cow::Borrowed(key), value)),
        }
    }

    /// Renames the fields that `name` has another name for, unless that is taken.
    pub(crate) fn rename(&mut self, name: impl Fn(&str) -> Option<String>) {
        for at in 0..self.0.len() {
            let name = self.0.get(at).and_then(|(key, _)| name(key));
            if let Some(name) = name.filter(|name| !self.has(name))
                && let Some((key, _)) = self.0.get_mut(at)
            {
                *key = name.into();
            }
        }
    }

    /// An object of lists as a list of objects, if the lists are of one length.
    pub(crate) fn transposed(self) -> Result<Vec<Raw<'a>>, Self> {
        let length = |value: &Raw<'_>| match value {
            Raw::Array(items) => Some(items.len()),
            _ => None,
        };
        let first = self.0.first().and_then(|(_, value)| length(value));
        let Some(rows) =
            first.filter(|first| self.0.iter().all(|(_, v)| length(v) == Some(*first)))
        else {
            return Err(self);
        };
        let mut objects: Vec<Fields<'a>> = (0..rows).map(|_| Fields::default()).collect();
        for (key, value) in self.0 {
            let Raw::Array(items) = value else { continue };
            for (object, item) in objects.iter_mut().zip(items) {
                object.0.push((key.clone(), item));
            }
        }
        Ok(objects.into_iter().map(Raw::Object).collect())
    }

    /// Keeps the fields that `test` holds for.
    pub(crate) fn retain(&mut self, test: impl Fn(&str, &Raw<'a>) -> bool) {
        self.0.retain(|(key, value)| test(key, value));
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Raw<'a>)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

/// The keys must differ.
impl<'a> FromIterator<(Cow<'a, str>, Raw<'a>)> for Fields<'a> {
    fn from_iter<I: IntoIterator<Item = (Cow<'a, str>, Raw<'a>)>>(fields: I) -> Self {
        Fields(fields.into_iter().collect())
    }
}

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl From<Map<String, Value>> for Fields<'_> {
    fn from(map: Map<String, Value>) -> Self {
        Fields(map.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<Fields<'_>> for Map<String, Value> {
    fn from(fields: Fields<'_>) -> Self {
        fields.0.into_iter().map(|(key, value)| (key.into_owned(), value.into())).collect()
    }
}

impl From<Value> for Raw<'_> {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Raw::Null,
            Value::Bool(value) => Raw::Bool(value),
            Value::Number(value) => Raw::Number(value),
            Value::String(text) => Raw::Text(text.into()),
            Value::Array(items) => Raw::Array(items.into_iter().map(Raw::from).collect()),
            Value::Object(fields) => Raw::Object(fields.into()),
        }
    }
}

impl From<Raw<'_>> for Value {
    fn from(raw: Raw<'_>) -> Self {
        match raw {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Number(value) => Value::Number(value),
            Raw::Text(text) => Value::String(text.into_owned()),
            Raw::Array(items) => Value::Array(items.into_iter().map(Value::from).collect()),
            Raw::Object(fields) => Value::Object(fields.into()),
        }
    }
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Raw::Null => serializer.serialize_unit(),
            Raw::Bool(value) => serializer.serialize_bool(*value),
            Raw::Number(value) => value.serialize(serializer),
            Raw::Text(text) => serializer.serialize_str(text),
            Raw::Array(items) => serializer.collect_seq(items),
            Raw::Object(fields) => fields.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

/// Decimal digits that every number of 64 bits keeps.
const SAFE_DIGITS: usize = 15;

/// The digits of the shortest decimal number that is read as this one.
fn digits(value: f64) -> usize {
    let shortest = format!("{value:e}");
    shortest.split('e').next().unwrap_or_default().bytes().filter(u8::is_ascii_digit).count()
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Raw<'de>, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw<'de>, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw<'de>, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw<'de>, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Raw<'de>, E> {
        // So is an integer that does not fit into 64 bits; its last digits are lost here. A float as people write it, such as
        // 6.02e23, has few digits; the nearest one to a long integer nearly always has as many as there can be.
        if value.abs() >= BEYOND_INTEGERS && digits(value) > SAFE_DIGITS {
            return Err(E::custom(
                "a number beyond 64 bits, which would be rounded; as a text it is kept",
            ));
        }
        Ok(Number::from_f64(value).map_or(Raw::Null, Raw::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw<'de>, E> {
        Ok(Raw::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Raw<'de>, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Raw::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Raw<'de>, A::Error> {
        let mut fields: Vec<(Cow<'de, str>, Raw<'de>)> = Vec::with_capacity(6);
        while let Some((Key(key), value)) = entries.next_entry()? {
            if fields.iter().take(FEW).any(|(name, _)| *name == key) {
                return Err(twice(&key));
            }
            fields.push((key, value));
        }
        if fields.len() > FEW {
            let mut keys = HashSet::new();
            if let Some((key, _)) = fields.iter().find(|(key, _)| !keys.insert(key)) {
                return Err(twice(key));
            }
        }
        Ok(Raw::Object(Fields(fields)))
    }
}

/// Most parsers keep the last of the values, and the others are lost without a word.
fn twice<E: Error>(key: &str) -> E {
    E::custom(format!("the key {} twice in one object", crate::problem::quote(key)))
}

/// A key, borrowed if it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(AnyValue)? {
            Raw::Text(key) => Ok(Key(key)),
            _ => Err(D::Error::custom("expected a key")),
        }
    }
}
