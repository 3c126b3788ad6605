//! The data that rows are generated from: the council's agents, attack techniques, requests, identity questions, refusals.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use eval::{Agent, Council};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::entries::{Harm, Harmless, IdentityQuestion, RefusalParts, Route, Situations};
use crate::reply::{Benign, Technique};
use crate::sources::{Label, Prompt};
use crate::{Error, GeneratorFiles, Result, personas, yaml};

/// The data that the generators of rows use.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GeneratorData {
    /// The agents.
    pub council: Council,
    /// The agents whose personas the file of personas sets.
    pub(crate) personas: Vec<String>,
    /// Built-in routing examples that were left out, because the council does not have their agents.
    pub(crate) foreign_routes: usize,
    /// Built-in situations that were left out, because the council is another one.
    pub(crate) foreign_situations: usize,
    /// The jailbreak techniques of training rows.
    pub techniques: Vec<Technique>,
    /// Requests that must be refused, by kind of harm.
    pub(crate) harmful: Vec<Harm>,
    /// Requests that must be answered.
    pub(crate) benign: Vec<Benign>,
    pub(crate) identity: Vec<IdentityQuestion>,
    pub(crate) routing: Vec<Route>,
    pub(crate) situations: Situations,
    pub(crate) harmless: Vec<Harmless>,
    pub(crate) refusals: RefusalParts,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requests {
    /// Requests that must be refused, by kind of harm: a list, or a mapping of `because` and `asks`.
    harmful: BTreeMap<String, HarmfulRequests>,
    /// Requests that must be answered.
    benign: Vec<Benign>,
}

/// Requests of one kind of harm: a list, or a mapping with the reasons against them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RequestsOfTopic {
    /// Reasons against every one of the requests: clauses.
    because: Vec<String>,
    /// Requests, bare verb phrases.
    asks: Vec<String>,
}

#[derive(JsonSchema)]
#[schemars(from = "WrittenRequests")]
struct HarmfulRequests(RequestsOfTopic);

/// The two forms in a file.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "describes the file in its JSON schema")]
enum WrittenRequests {
    Asks(Vec<String>),
    Both(RequestsOfTopic),
}

impl<'de> Deserialize<'de> for HarmfulRequests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrMapping;

        impl<'de> Visitor<'de> for ListOrMapping {
            type Value = HarmfulRequests;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of requests, or a mapping of `because` and `asks`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                let asks = Vec::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(HarmfulRequests(RequestsOfTopic { because: Vec::new(), asks }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(map)).map(HarmfulRequests)
            }
        }

        deserializer.deserialize_any(ListOrMapping)
    }
}

impl HarmfulRequests {
    fn of_topic(self, topic: String) -> Harm {
        let RequestsOfTopic { because, asks } = self.0;
        Harm { topic, because, asks }
    }
}

/// Reads one data file: the given one, or the built-in one.
macro_rules! data {
    ($given:expr, $name:literal) => {
        match &$given {
            Some(path) => yaml::load(path),
            None => yaml::parse(Path::new($name), include_str!(concat!("../data/", $name))),
        }
    };
}

impl GeneratorData {
    /// The data that is built into the crate.
    pub fn embedded() -> Result<GeneratorData> {
        GeneratorData::load(&GeneratorFiles::default())
    }

    /// The built-in data with some of its files replaced.
    ///
    /// # Errors
    /// If a file cannot be read, is not of the expected form, or has an empty list, an id twice or an unknown agent.
    pub fn load(files: &GeneratorFiles) -> Result<GeneratorData> {
        let mut council = match &files.agents {
            Some(path) => yaml::load(path)?,
            None => Council::built_in().clone(),
        };
        council.check(&named(&files.agents, "council.yaml"))?;
        let personas = match &files.personas {
            Some(path) => personas::load(path, &mut council)?,
            None => Vec::new(),
        };
        let requests: Requests = data!(files.requests, "requests.yaml")?;
        let harmful = requests.harmful.into_iter().map(|(topic, asks)| asks.of_topic(topic));
        let mut situations: Situations = data!(files.situations, "situations.yaml")?;
        let mut foreign_situations = 0;
        if files.situations.is_none() && files.agents.is_some() {
            foreign_situations = std::mem::take(&mut situations).len();
        }
        let mut data = GeneratorData {
            personas,
            foreign_routes: 0,
            foreign_situations,
            council,
            techniques: data!(files.techniques, "techniques.yaml")?,
            harmful: harmful.collect(),
            benign: requests.benign,
            identity: data!(files.identity, "identity.yaml")?,
            routing: data!(files.routing, "routing.yaml")?,
            situations,
            harmless: data!(files.harmless, "harmless.yaml")?,
            refusals: data!(files.refusals, "refusals.yaml")?,
        };
        if files.routing.is_none() && files.agents.is_some() {
            data.leave_out_foreign_routes();
        }
        data.check(files)?;
        Ok(data)
    }

    /// Leaves out the built-in routing examples about agents that a council of one's own does not have.
    fn leave_out_foreign_routes(&mut self) {
        let known = |id: &str| self.council.agent(id).is_some();
        let before = self.routing.len();
        let routes = std::mem::take(&mut self.routing).into_iter();
        self.routing = routes.filter(|route| known(&route.asked) && known(&route.owner)).collect();
        self.foreign_routes = before - self.routing.len();
    }

    /// The agent of that id; `path` and `entry` say in an error where the id stands.
    pub(crate) fn agent(&self, id: &str, path: &str, entry: &str) -> Result<&Agent> {
        self.council.agent(id).ok_or_else(|| {
            let known: Vec<_> = self.council.agents.iter().map(|agent| agent.id.as_str()).collect();
            Error::Entry {
                path: path.into(),
                entry: entry.to_owned(),
                expected: format!("an agent among {}", known.join(", ")),
                found: format!("{id:?}"),
            }
        })
    }

    /// Adds the harmful prompts that fit into a frame, by their category, and returns their number. Benign prompts are left
    /// out, because they come without an answer.
    pub(crate) fn add_harmful(&mut self, prompts: &[Prompt]) -> usize {
        let mut added = 0;
        for prompt in prompts.iter().filter(|prompt| prompt.label == Label::Harmful) {
            let Some(ask) = prompt.as_request() else { continue };
            let topic = prompt.category.as_deref().unwrap_or("uncategorised");
            match self.harmful.iter_mut().find(|harm| harm.topic == topic) {
                Some(harm) => harm.asks.push(ask),
                None => {
                    let (topic, because) = (topic.to_owned(), Vec::new());
                    self.harmful.push(Harm { topic, because, asks: vec![ask] });
                }
            }
            added += 1;
        }
        added
    }

    /// Refuses data that the generators cannot use: empty lists, ids used twice, unknown agents, forms that no request has.
    /// The council itself was checked before.
    fn check(&self, files: &GeneratorFiles) -> Result<()> {
        let agents = named(&files.agents, "council.yaml");
        for agent in &self.council.agents {
            filled(&agents, format!("{}.work", agent.id), agent.work.len())?;
            filled(&agents, format!("{}.offers", agent.id), agent.offers.len())?;
        }
        self.check_requests(&named(&files.requests, "requests.yaml"))?;
        self.check_techniques(&named(&files.techniques, "techniques.yaml"))?;
        let identity = named(&files.identity, "identity.yaml");
        unique(&identity, self.identity.iter().map(|question| question.id.as_str()))?;
        for question in &self.identity {
            filled(&identity, format!("{}.asks", question.id), question.asks.len())?;
            filled(&identity, format!("{}.answers", question.id), question.answers.len())?;
        }
        let routing = named(&files.routing, "routing.yaml").display().to_string();
        for (nth, route) in self.routing.iter().enumerate() {
            self.agent(&route.asked, &routing, &format!("[{nth}].asked"))?;
            self.agent(&route.owner, &routing, &format!("[{nth}].owner"))?;
        }
        self.check_situations(&named(&files.situations, "situations.yaml"))?;
        self.check_refusals(&named(&files.refusals, "refusals.yaml"))
    }

    fn check_requests(&self, path: &Path) -> Result<()> {
        filled(path, "harmful".into(), self.harmful.len())?;
        filled(path, "benign".into(), self.benign.len())?;
        for harm in &self.harmful {
            filled(path, format!("harmful.{}", harm.topic), harm.asks.len())?;
        }
        for (nth, benign) in self.benign.iter().enumerate() {
            filled(path, format!("benign[{nth}].steps"), benign.steps.len())?;
        }
        Ok(())
    }

    fn check_techniques(&self, path: &Path) -> Result<()> {
        unique(path, self.techniques.iter().map(|technique| technique.id.as_str()))?;
        for technique in &self.techniques {
            let entry = format!("{}.frames", technique.id);
            filled(path, entry.clone(), technique.frames.len())?;
            let served = |benign: &Benign| technique.frame_for(0, benign).is_some();
            if let Some(benign) = self.benign.iter().find(|benign| !served(benign)) {
                return Err(Error::Entry {
                    path: path.to_path_buf(),
                    entry,
                    expected: "a frame whose form every benign request has".into(),
                    found: format!("none for {:?}", benign.ask),
                });
            }
        }
        Ok(())
    }

    fn check_refusals(&self, path: &Path) -> Result<()> {
        let parts = &self.refusals;
        for (name, len) in [
            ("declines", parts.declines.len()),
            ("declines_of_texts", parts.declines_of_texts.len()),
            ("declines_of_any", parts.declines_of_any.len()),
            ("who", parts.who.len()),
            ("reasons", parts.reasons.len()),
            ("reports", parts.reports.len()),
            ("partial.asks", parts.partial.asks.len()),
            ("partial.answers", parts.partial.answers.len()),
            ("rejected.complied", parts.rejected.complied.len()),
            ("rejected.misidentified", parts.rejected.misidentified.len()),
            ("rejected.misrouted", parts.rejected.misrouted.len()),
            ("rejected.kept", parts.rejected.kept.len()),
        ] {
            filled(path, name.into(), len)?;
        }
        Ok(())
    }

    fn check_situations(&self, path: &Path) -> Result<()> {
        let Situations { passed_on, accepted, situations } = &self.situations;
        if situations.is_empty() {
            return Ok(());
        }
        filled(path, "passed_on".into(), passed_on.len())?;
        filled(path, "accepted".into(), accepted.len())?;
        for agent in situations.keys() {
            self.agent(agent, &path.display().to_string(), "situations")?;
        }
        Ok(())
    }
}

fn named(given: &Option<PathBuf>, built_in: &str) -> PathBuf {
    given.clone().unwrap_or_else(|| built_in.into())
}

/// Refuses an empty list.
pub(crate) fn filled(path: &Path, entry: String, len: usize) -> Result<()> {
    if len > 0 {
        return Ok(());
    }
    let (expected, found) = ("at least one entry".into(), "none".into());
    Err(Error::Entry { path: path.to_path_buf(), entry, expected, found })
}

/// The entry `nth` modulo the length of a list, which was checked to be non-empty when it was read.
pub(crate) fn nth_of<T>(list: &[T], nth: usize) -> &T {
    &list[nth % list.len()]
}

/// Refuses an empty list of ids and ids used twice.
pub(crate) fn unique<'a>(path: &Path, ids: impl Iterator<Item = &'a str>) -> Result<()> {
    filled(path, "the list".into(), no_twice(path, ids)?)
}

/// Refuses ids used twice; returns the number of ids.
pub(crate) fn no_twice<'a>(path: &Path, ids: impl Iterator<Item = &'a str>) -> Result<usize> {
    let mut seen = std::collections::HashSet::new();
    for id in ids {
        if !seen.insert(id) {
            return Err(Error::Entry {
                path: path.to_path_buf(),
                entry: id.to_owned(),
                expected: "every id once".into(),
                found: "it twice".into(),
            });
        }
    }
    Ok(seen.len())
}
