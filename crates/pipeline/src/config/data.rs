//! Where a night's rows come from, and what becomes of them.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use chat_format::clean::{Personal, Scrub};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where the raw rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenSource", into = "WrittenSource")]
pub enum DataSource {
    /// `raw`: files of chats in any supported format, folders of such files, or a folder with the splits of a data set.
    Raw(RawPaths),
    /// `household`: rows generated from a household's facts.
    Household {
        /// The facts file.
        facts: PathBuf,
        /// Number of rows.
        rows: usize,
        /// Seed of the generator.
        seed: u64,
    },
    /// `chats`: what a server has recorded in the home's `chats` on so many days before today, such as `30d`. Corrected
    /// answers replace those that were given.
    Chats(Days),
    /// `raw` and `chats` together.
    RawAndChats {
        /// The files and folders.
        raw: RawPaths,
        /// The days.
        chats: Days,
    },
}

/// A source as a configuration has it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenSource {
    /// A file of chats in any supported format, a folder of such files, a folder with the splits of a data set, or a list of
    /// files and folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<RawPaths>,
    /// Rows that are generated from a household's facts; never beside other rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    household: Option<WrittenHousehold>,
    /// The days before today whose chats, as a server recorded them in the home's `chats`, are rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    chats: Option<Days>,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WrittenHousehold {
    /// The facts file.
    facts: PathBuf,
    /// Number of rows.
    rows: usize,
    /// Seed of the generator.
    #[serde(default)]
    seed: u64,
}

impl TryFrom<WrittenSource> for DataSource {
    type Error = &'static str;

    fn try_from(written: WrittenSource) -> Result<Self, &'static str> {
        match written {
            WrittenSource { raw: Some(raw), household: None, chats: None } => Ok(Self::Raw(raw)),
            WrittenSource { raw: None, household: None, chats: Some(days) } => {
                Ok(Self::Chats(days))
            }
            WrittenSource { raw: Some(raw), household: None, chats: Some(chats) } => {
                Ok(Self::RawAndChats { raw, chats })
            }
            WrittenSource { raw: None, household: Some(it), chats: None } => {
                Ok(Self::Household { facts: it.facts, rows: it.rows, seed: it.seed })
            }
            WrittenSource { household: Some(_), .. } => {
                Err("data: expected `household` alone, found it beside other rows")
            }
            _ => Err("data: expected `raw`, `chats` or both, or `household`; found none"),
        }
    }
}

impl From<DataSource> for WrittenSource {
    fn from(source: DataSource) -> Self {
        let mut written = Self { raw: None, household: None, chats: None };
        match source {
            DataSource::Raw(raw) => written.raw = Some(raw),
            DataSource::Household { facts, rows, seed } => {
                written.household = Some(WrittenHousehold { facts, rows, seed });
            }
            DataSource::Chats(days) => written.chats = Some(days),
            DataSource::RawAndChats { raw, chats } => {
                (written.raw, written.chats) = (Some(raw), Some(chats));
            }
        }
        written
    }
}

impl DataSource {
    /// The files and folders of raw rows, if there are any.
    pub(crate) fn raw(&self) -> Option<&RawPaths> {
        match self {
            Self::Raw(raw) | Self::RawAndChats { raw, .. } => Some(raw),
            Self::Household { .. } | Self::Chats(_) => None,
        }
    }

    /// The days whose chats are rows, if any are.
    pub(crate) fn chats(&self) -> Option<Days> {
        match self {
            Self::Chats(days) | Self::RawAndChats { chats: days, .. } => Some(*days),
            Self::Raw(_) | Self::Household { .. } => None,
        }
    }
}

/// A number of days, written as `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(inline, extend("format" = "days such as `30d`"))]
pub struct Days(#[schemars(with = "String")] pub u16);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}d", self.0)
    }
}

impl Serialize for Days {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days =
            text.strip_suffix('d').and_then(|days| days.parse().ok()).filter(|days| *days > 0);
        days.map(Self).ok_or_else(|| {
            de::Error::custom(format!("expected a number of days such as `30d`, found {text:?}"))
        })
    }
}

/// A path of raw rows, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RawPaths {
    /// One file or folder.
    One(PathBuf),
    /// Several files and folders, in order.
    Several(Vec<PathBuf>),
}

impl<'de> Deserialize<'de> for RawPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrList;

        impl<'de> Visitor<'de> for PathOrList {
            type Value = RawPaths;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a list of paths")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<RawPaths, E> {
                Ok(RawPaths::One(path.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawPaths, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(RawPaths::Several)
            }
        }

        deserializer.deserialize_any(PathOrList)
    }
}

impl RawPaths {
    /// The paths, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Path> {
        let paths = match self {
            RawPaths::One(path) => std::slice::from_ref(path),
            RawPaths::Several(paths) => paths,
        };
        paths.iter().map(PathBuf::as_path)
    }

    /// The same paths, each passed through `resolve`.
    pub(super) fn resolved<E>(
        &self,
        resolve: impl Fn(&Path) -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        Ok(match self {
            RawPaths::One(path) => RawPaths::One(resolve(path)?),
            RawPaths::Several(paths) => {
                RawPaths::Several(paths.iter().map(|path| resolve(path)).collect::<Result<_, E>>()?)
            }
        })
    }
}

/// What is added to raw rows; without a choice, the balanced recipe with its defaults. The splits of an enriched data set are
/// used as they are, whatever is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "PathBuf", into = "PathBuf")]
pub enum Enrichment {
    /// `none`: nothing. The rows are trained as they are, with `valid.jsonl` for validation if the data has one.
    None,
    /// `seed`: the seed's 224 refusals, 64 identity and 10 routing rows; rows that repeat others are kept.
    Seed,
    /// `balanced`: the default recipe of the `enrich` crate.
    Balanced,
    /// A recipe: a YAML file of the `enrich` crate.
    File(PathBuf),
}

impl From<PathBuf> for Enrichment {
    fn from(path: PathBuf) -> Self {
        match path.to_str() {
            Some("none") => Self::None,
            Some("seed") => Self::Seed,
            Some("balanced") => Self::Balanced,
            _ => Self::File(path),
        }
    }
}

impl From<Enrichment> for PathBuf {
    fn from(enrichment: Enrichment) -> Self {
        match enrichment {
            Enrichment::None => "none".into(),
            Enrichment::Seed => "seed".into(),
            Enrichment::Balanced => "balanced".into(),
            Enrichment::File(path) => path,
        }
    }
}

/// The choice as it is written in a configuration.
impl fmt::Display for Enrichment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&PathBuf::from(self.clone()).to_string_lossy())
    }
}

/// The kinds of personal data that are replaced by placeholders: `all`, `none` (the default), or a list of `email`, `phone`,
/// `iban`, `card`, `ip`, `mac` and `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubKinds(Vec<Personal>);

impl ScrubKinds {
    /// The kinds as the option of a [`Converter`](chat_format::clean::Converter).
    pub fn scrub(&self) -> Scrub {
        self.0.iter().fold(Scrub::NONE, |scrub, kind| scrub.with(*kind))
    }

    fn parse(name: &str) -> Option<Personal> {
        Personal::ALL.into_iter().find(|kind| name_of(*kind) == name)
    }
}

/// The name of a kind in a configuration: its placeholder in lower case, without brackets.
fn name_of(kind: Personal) -> String {
    kind.placeholder().trim_matches(['[', ']']).to_lowercase()
}

impl JsonSchema for ScrubKinds {
    fn schema_name() -> Cow<'static, str> {
        "ScrubKinds".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let kinds = json_schema!({ "type": "string", "enum": Personal::ALL.map(name_of) });
        json_schema!({ "anyOf": [
            { "type": "string", "enum": ["all", "none"] },
            { "type": "array", "items": kinds },
        ] })
    }
}

impl Serialize for ScrubKinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.len() {
            0 => serializer.serialize_str("none"),
            n if n == Personal::ALL.len() => serializer.serialize_str("all"),
            _ => serializer.collect_seq(self.0.iter().map(|kind| name_of(*kind))),
        }
    }
}

impl<'de> Deserialize<'de> for ScrubKinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Kinds)
    }
}

struct Kinds;

impl Kinds {
    fn expected(found: &str) -> String {
        let kinds = Personal::ALL.map(name_of).join(", ");
        format!("expected `all`, `none` or a list of {kinds}; found {found:?}")
    }
}

impl<'de> Visitor<'de> for Kinds {
    type Value = ScrubKinds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`all`, `none` or a list of kinds of personal data")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ScrubKinds, E> {
        match text {
            "all" => Ok(ScrubKinds(Personal::ALL.to_vec())),
            "none" => Ok(ScrubKinds::default()),
            other => Err(E::custom(Kinds::expected(other))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ScrubKinds, A::Error> {
        let mut kinds = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            let kind = ScrubKinds::parse(&name);
            let kind = kind.ok_or_else(|| de::Error::custom(Kinds::expected(&name)))?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(ScrubKinds(kinds))
    }
}
