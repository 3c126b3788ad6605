//! Types of single values: counts where -1 means all, sizes, durations.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Unexpected};
use serde::{Deserialize, Serialize, Serializer};

/// The number of adapted decoder layers, counted from the last. YAML: `-1` or `0` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(from = "i64")]
pub enum NumLayers {
    /// Every decoder layer.
    All,
    /// The last `n` layers.
    Last(usize),
}

impl NumLayers {
    /// The number of layers if the key is absent, as in mlx-lm.
    pub const DEFAULT: usize = 16;
}

impl<'de> Deserialize<'de> for NumLayers {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match i64::deserialize(input)? {
            -1 | 0 => Ok(Self::All),
            n => count(n, &"a number of layers, or -1 for all").map(Self::Last),
        }
    }
}

impl Serialize for NumLayers {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => output.serialize_i64(-1),
            Self::Last(n) => output.serialize_u64(*n as u64),
        }
    }
}

/// The number of batches of an evaluation. YAML: `-1` for the whole split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(from = "i64")]
pub enum Batches {
    /// The whole split.
    All,
    /// At most this many batches; 0 disables the evaluation.
    AtMost(usize),
}

impl<'de> Deserialize<'de> for Batches {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        match i64::deserialize(input)? {
            -1 => Ok(Self::All),
            n => count(n, &"a number of batches, or -1 for the whole set").map(Self::AtMost),
        }
    }
}

impl Serialize for Batches {
    fn serialize<S: Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => output.serialize_i64(-1),
            Self::AtMost(n) => output.serialize_u64(*n as u64),
        }
    }
}

fn count<E: de::Error>(found: i64, expected: &dyn de::Expected) -> Result<usize, E> {
    usize::try_from(found).map_err(|_| E::invalid_value(Unexpected::Signed(found), expected))
}

/// A size in bytes. YAML: a number or a string such as `24GB` (10^9) or `24GiB` (2^30).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl de::Visitor<'_> for SizeVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as 24GB or 24GiB")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Bytes, E> {
                Ok(Bytes(count))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                bytesize::ByteSize::from_str(text)
                    .map(|size| Bytes(size.as_u64()))
                    .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        input.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "size such as `24GB`" })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).fmt(f)
    }
}

/// A duration such as `6h`, `1h 30m` or `90s`. Serialized as one number with its unit.
pub(super) mod duration {
    use super::*;

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(input)? else { return Ok(None) };
        jiff::SignedDuration::from_str(&text)
            .ok()
            .and_then(|signed| Duration::try_from(signed).ok())
            .map(Some)
            .ok_or_else(|| {
                de::Error::invalid_value(Unexpected::Str(&text), &"a duration such as 6h or 90m")
            })
    }

    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        output: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(|value| format!("{value:?}")).serialize(output)
    }
}
