//! Who the agents are and how they can be pressed: the data behind every generator.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sources::{Label, Prompt};
use crate::{Error, Result, Source, Template, yaml};

/// One member of the council.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// How rows and other agents call it.
    pub id: String,
    /// How it calls itself.
    pub name: String,
    /// Its field, in one or two words.
    pub role: String,
    /// What it does, as a clause in the first person.
    pub work: String,
    /// What it offers when it has to say no.
    pub offers: Vec<String>,
}

impl Agent {
    /// The system prompt, the same in training and in the exam.
    ///
    /// ```
    /// let council = enrich::Council::embedded()?;
    /// assert_eq!(council.agent("windu")?.system(), "You are windu, security agent of the council.");
    /// # Ok::<(), enrich::Error>(())
    /// ```
    pub fn system(&self) -> String {
        format!("You are {}, {} agent of the council.", self.id, self.role)
    }
}

/// A way of pressing an agent into what it must not do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Technique {
    /// Its name in rows and reports.
    pub id: String,
    /// Frames with a slot for the request.
    pub frames: Vec<Template>,
}

/// A harmless request and what a helpful agent answers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Benign {
    /// The request, a bare verb phrase.
    pub ask: String,
    /// The answer.
    pub answer: String,
}

/// Harmful requests of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Harm {
    /// The kind of harm.
    pub topic: String,
    /// Requests, bare verb phrases.
    pub asks: Vec<String>,
}

/// A question about who an agent is.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentityQuestion {
    /// Its name in rows and reports.
    pub id: String,
    /// Ways of asking it.
    pub asks: Vec<Template>,
    /// Ways of answering it.
    pub answers: Vec<Template>,
}

/// Work passed on, or taken over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The agent that is asked.
    pub asked: String,
    /// The agent whose matter it is.
    pub owner: String,
    /// The question.
    pub ask: String,
    /// The answer.
    pub answer: String,
}

/// The parts that refusals are made of.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    /// Who I am and stay.
    pub who: Vec<Template>,
    /// That I will not.
    pub cannot: Vec<Template>,
    /// How the answer to a benign twin may open.
    pub twin_openers: Vec<String>,
    /// Requests of two halves.
    pub partial: Partial,
}

/// Requests of two halves, one answered and one declined.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partial {
    /// Ways of asking for both.
    pub asks: Vec<Template>,
    /// Ways of answering one and declining the other.
    pub answers: Vec<Template>,
}

/// Files that replace the built-in data, each on its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CouncilFiles {
    /// The agents.
    pub agents: Option<PathBuf>,
    /// The techniques.
    pub techniques: Option<PathBuf>,
    /// Harmful and benign requests.
    pub requests: Option<PathBuf>,
    /// The questions of identity.
    pub identity: Option<PathBuf>,
    /// The routing examples.
    pub routing: Option<PathBuf>,
    /// The parts of refusals.
    pub refusals: Option<PathBuf>,
}

impl CouncilFiles {
    /// The files that are given.
    pub(crate) fn given(&self) -> impl Iterator<Item = &PathBuf> {
        let Self { agents, techniques, requests, identity, routing, refusals } = self;
        [agents, techniques, requests, identity, routing, refusals].into_iter().flatten()
    }

    pub(crate) fn given_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let Self { agents, techniques, requests, identity, routing, refusals } = self;
        [agents, techniques, requests, identity, routing, refusals].into_iter().flatten()
    }

    /// Those that are given, for the manifest; `council` was read from them.
    pub(crate) fn sources(&self, council: &Council) -> Result<Vec<Source>> {
        let files = [
            (&self.agents, council.agents.len()),
            (&self.techniques, council.techniques.len()),
            (&self.requests, council.harmful.len() + council.benign.len()),
            (&self.identity, council.identity.len()),
            (&self.routing, council.routing.len()),
            (&self.refusals, council.refusals.who.len()),
        ];
        let given = files.into_iter().filter_map(|(file, entries)| Some((file.clone()?, entries)));
        given
            .map(|(file, entries)| {
                Ok(Source { sha256: durable::sha256_file(&file)?, file, entries })
            })
            .collect()
    }
}

/// Everything the generators draw on.
#[derive(Clone, Debug, PartialEq)]
pub struct Council {
    /// The members.
    pub agents: Vec<Agent>,
    /// The techniques that training uses.
    pub techniques: Vec<Technique>,
    /// What must be refused, by kind.
    pub harmful: Vec<Harm>,
    /// What must not be refused.
    pub benign: Vec<Benign>,
    /// Questions about who an agent is.
    pub identity: Vec<IdentityQuestion>,
    /// Work passed on.
    pub routing: Vec<Route>,
    /// The parts of refusals.
    pub refusals: Refusals,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    harmful: std::collections::BTreeMap<String, Vec<String>>,
    benign: Vec<Benign>,
}

/// Reads one data file: the user's if there is one, else the built-in.
macro_rules! data {
    ($given:expr, $name:literal) => {
        match &$given {
            Some(path) => yaml::load(path),
            None => yaml::parse(Path::new($name), include_str!(concat!("../data/", $name))),
        }
    };
}

impl Council {
    /// The council that comes with the crate.
    pub fn embedded() -> Result<Council> {
        Council::load(&CouncilFiles::default())
    }

    /// The council with some of its files replaced.
    pub fn load(files: &CouncilFiles) -> Result<Council> {
        let requests: Requests = data!(files.requests, "requests.yaml")?;
        let harmful = requests.harmful.into_iter().map(|(topic, asks)| Harm { topic, asks });
        let council = Council {
            agents: data!(files.agents, "agents.yaml")?,
            techniques: data!(files.techniques, "techniques.yaml")?,
            harmful: harmful.collect(),
            benign: requests.benign,
            identity: data!(files.identity, "identity.yaml")?,
            routing: data!(files.routing, "routing.yaml")?,
            refusals: data!(files.refusals, "refusals.yaml")?,
        };
        council.check(files)?;
        Ok(council)
    }

    /// The agent of that id.
    pub fn agent(&self, id: &str) -> Result<&Agent> {
        self.agents.iter().find(|agent| agent.id == id).ok_or_else(|| {
            let known: Vec<_> = self.agents.iter().map(|agent| agent.id.as_str()).collect();
            Error::Entry {
                path: "agents.yaml".into(),
                entry: "id".into(),
                expected: format!("one of {}", known.join(", ")),
                found: id.to_owned(),
            }
        })
    }

    /// Adds the harmful prompts that fit into a frame, by their category, and says how many did. Benign prompts come without
    /// an answer, so there is nothing to learn from them.
    pub fn add_harmful(&mut self, prompts: &[Prompt]) -> usize {
        let mut added = 0;
        for prompt in prompts.iter().filter(|prompt| prompt.label == Label::Harmful) {
            let Some(ask) = prompt.as_request() else { continue };
            let topic = prompt.category.as_deref().unwrap_or("uncategorised");
            match self.harmful.iter_mut().find(|harm| harm.topic == topic) {
                Some(harm) => harm.asks.push(ask),
                None => self.harmful.push(Harm { topic: topic.to_owned(), asks: vec![ask] }),
            }
            added += 1;
        }
        added
    }

    /// Refuses data that a generator could not draw on: empty lists, ids used twice.
    fn check(&self, files: &CouncilFiles) -> Result<()> {
        let agents = named(&files.agents, "agents.yaml");
        unique(&agents, self.agents.iter().map(|agent| agent.id.as_str()))?;
        for agent in &self.agents {
            filled(&agents, format!("{}.offers", agent.id), agent.offers.len())?;
        }
        let techniques = named(&files.techniques, "techniques.yaml");
        unique(&techniques, self.techniques.iter().map(|technique| technique.id.as_str()))?;
        for technique in &self.techniques {
            filled(&techniques, format!("{}.frames", technique.id), technique.frames.len())?;
        }
        let requests = named(&files.requests, "requests.yaml");
        filled(&requests, "harmful".into(), self.harmful.len())?;
        filled(&requests, "benign".into(), self.benign.len())?;
        for harm in &self.harmful {
            filled(&requests, format!("harmful.{}", harm.topic), harm.asks.len())?;
        }
        let identity = named(&files.identity, "identity.yaml");
        unique(&identity, self.identity.iter().map(|question| question.id.as_str()))?;
        for question in &self.identity {
            filled(&identity, format!("{}.asks", question.id), question.asks.len())?;
            filled(&identity, format!("{}.answers", question.id), question.answers.len())?;
        }
        for route in &self.routing {
            self.agent(&route.asked)?;
            self.agent(&route.owner)?;
        }
        let refusals = named(&files.refusals, "refusals.yaml");
        let parts = &self.refusals;
        filled(&refusals, "who".into(), parts.who.len())?;
        filled(&refusals, "cannot".into(), parts.cannot.len())?;
        filled(&refusals, "twin_openers".into(), parts.twin_openers.len())?;
        filled(&refusals, "partial.asks".into(), parts.partial.asks.len())?;
        filled(&refusals, "partial.answers".into(), parts.partial.answers.len())
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

/// Refuses an empty list of ids and ids used twice.
pub(crate) fn unique<'a>(path: &Path, ids: impl Iterator<Item = &'a str>) -> Result<()> {
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
    filled(path, "the list".into(), seen.len())
}
