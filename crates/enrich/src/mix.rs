//! The composition of a data set, and warnings about it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use chat_format::clean::Personal;
use chat_format::{Conversation, Role, clean};
use serde::Serialize;

use crate::grams::words;
use crate::split::Split;
use crate::{Control, Pair};

/// The numbers of rows by kind, agent, markup family and split.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Mix {
    /// All rows.
    pub rows: usize,
    /// By kind; `other` for rows without one.
    pub by_kind: BTreeMap<String, usize>,
    /// By the agent that answers; `other` for rows without one.
    pub by_agent: BTreeMap<String, usize>,
    /// By the family of the markup that `convert` recorded or that is still in the text; `none` otherwise.
    pub by_family: BTreeMap<String, usize>,
    /// By split.
    pub by_split: BTreeMap<Split, usize>,
    /// Pairs of a right and a wrong answer, by kind.
    pub pairs: BTreeMap<String, usize>,
    /// What is out of proportion.
    pub warnings: Vec<Warning>,
}

/// A warning about the composition or content of the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "about", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Warning {
    /// Too many identity rows, which displace knowledge: such a set once cost a model two thirds of its score.
    Persona {
        /// Their share.
        share: f64,
    },
    /// Too many refusals: more than a few percent add little safety and cause over-refusal.
    Refusals {
        /// Their share.
        share: f64,
    },
    /// Refusals without benign twins, from which a model learns to refuse the frame rather than the request.
    NoTwins {
        /// How many refusals there are.
        refusals: usize,
    },
    /// One agent has a multiple of an even share of the rows.
    Agent {
        /// The agent.
        agent: String,
        /// Its share.
        share: f64,
    },
    /// Many answers begin with the same words.
    Opening {
        /// Their first three words.
        words: String,
        /// Their share.
        share: f64,
    },
    /// Many of the rows read are duplicates.
    Repetition {
        /// Their share.
        share: f64,
    },
    /// A split has less than half of its share, because most rows are connected as near-twins and stay together.
    Split {
        /// The split.
        split: Split,
        /// Its rows.
        rows: usize,
        /// Its share of all rows.
        expected: usize,
    },
    /// Control tokens are left in the text: the rows have not been cleaned.
    Markup {
        /// The family.
        family: &'static str,
        /// How many rows contain its tokens.
        rows: usize,
    },
    /// Built-in routing examples were left out, because the council does not have their agents.
    ForeignRoutes {
        /// How many.
        routes: usize,
    },
    /// Built-in situations were left out, because the council is the household's own.
    ForeignSituations {
        /// How many.
        situations: usize,
    },
    /// No refusals are generated, and so nothing that balances them.
    NoRefusals,
    /// The share of refusals asks for more than there are.
    FewerRefusals {
        /// How many it asks for.
        asked: usize,
        /// How many there are: every technique on every agent.
        made: usize,
    },
    /// The facts give fewer rows than were asked for.
    FewerFacts {
        /// How many were asked for.
        asked: usize,
        /// How many there are.
        made: usize,
    },
    /// Prompts of a source are not used.
    PromptsLeftOut {
        /// The source.
        file: PathBuf,
        /// Its prompts.
        prompts: usize,
        /// Those that are used.
        used: usize,
    },
    /// A setting has no effect on the rows.
    NoEffect {
        /// Its key.
        setting: String,
        /// Why.
        because: &'static str,
    },
    /// The rows do not agree on an agent's persona.
    UnclearPersona {
        /// The [persona](crate::personas::Persona) in words.
        persona: String,
    },
    /// The rows are corrupted on purpose.
    Control {
        /// How.
        control: Control,
    },
    /// Rows are too similar to exam questions, and were kept because the splits are used as they are.
    KeptLeaks {
        /// How many.
        rows: usize,
    },
    /// Rows seem to contain personal data or secrets.
    Private {
        /// Which.
        kind: Personal,
        /// How many rows.
        rows: usize,
        /// The first of them, by file and line, or for a generated row what it teaches.
        first: Vec<String>,
    },
}

const PERSONA: f64 = 0.5;
const REFUSALS: f64 = 0.08;
const AGENT: f64 = 2.5;
const OPENING: f64 = 0.05;

impl Mix {
    /// Counts rows and warns of what is out of proportion.
    pub fn of(rows: &[Conversation], splits: &[Split]) -> Mix {
        let mut mix = Mix { rows: rows.len(), ..Mix::default() };
        let mut openings: BTreeMap<String, usize> = BTreeMap::new();
        let mut left: BTreeMap<&'static str, usize> = BTreeMap::new();
        for row in rows {
            let meta = |key: &str| row.meta.get(key).and_then(|value| value.as_str());
            *mix.by_kind.entry(meta("kind").unwrap_or("other").to_owned()).or_default() += 1;
            *mix.by_agent.entry(meta("agent").unwrap_or("other").to_owned()).or_default() += 1;
            let still = row.messages.iter().find_map(|message| clean::markup(&message.content));
            let family = still.or(meta(clean::MARKUP)).unwrap_or("none");
            *mix.by_family.entry(family.to_owned()).or_default() += 1;
            if let Some(family) = still {
                *left.entry(family).or_default() += 1;
            }
            if let Some(opening) = opening(row) {
                *openings.entry(opening).or_default() += 1;
            }
        }
        for split in splits {
            *mix.by_split.entry(*split).or_default() += 1;
        }
        mix.warn(openings);
        let left = left.into_iter().map(|(family, rows)| Warning::Markup { family, rows });
        mix.warnings.extend(left);
        mix
    }

    /// Counts pairs.
    pub(crate) fn with_pairs(mut self, pairs: &[Pair]) -> Mix {
        for pair in pairs {
            *self.pairs.entry(pair.kind.name().to_owned()).or_default() += 1;
        }
        self
    }

    /// The share of rows of a kind.
    pub fn share(&self, kind: &str) -> f64 {
        self.part(self.by_kind.get(kind).copied().unwrap_or(0))
    }

    fn part(&self, count: usize) -> f64 {
        if self.rows == 0 { 0.0 } else { count as f64 / self.rows as f64 }
    }

    fn warn(&mut self, openings: BTreeMap<String, usize>) {
        let mut warnings = Vec::new();
        let persona = self.share("identity");
        if persona > PERSONA {
            warnings.push(Warning::Persona { share: persona });
        }
        let share = self.share("refusal");
        if share > REFUSALS {
            warnings.push(Warning::Refusals { share });
        }
        let count = |kind: &str| self.by_kind.get(kind).copied().unwrap_or(0);
        if count("refusal") > 0 && count("twin") == 0 {
            warnings.push(Warning::NoTwins { refusals: count("refusal") });
        }
        for (agent, count) in &self.by_agent {
            let share = self.part(*count);
            if self.by_agent.len() > 1 && share * self.by_agent.len() as f64 > AGENT {
                warnings.push(Warning::Agent { agent: agent.clone(), share });
            }
        }
        for (words, count) in openings {
            let share = self.part(count);
            if share > OPENING && count > 1 {
                warnings.push(Warning::Opening { words, share });
            }
        }
        self.warnings = warnings;
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: &f64| format!("{:.1} %", share * 100.0);
        match self {
            Warning::Persona { share } => {
                write!(
                    f,
                    "{} of the rows are about who the agent is; more than {} crowds out knowledge",
                    percent(share),
                    percent(&PERSONA)
                )
            }
            Warning::Refusals { share } => {
                write!(
                    f,
                    "{} of the rows are refusals; more than {} teaches refusing as such",
                    percent(share),
                    percent(&REFUSALS)
                )
            }
            Warning::NoTwins { refusals } => {
                write!(
                    f,
                    "{refusals} refusals and no benign twin: the frame itself will be refused"
                )
            }
            Warning::Agent { agent, share } => {
                write!(f, "{} of the rows belong to {agent}", percent(share))
            }
            Warning::Opening { words, share } => {
                write!(f, "{} of the answers begin with {words:?}", percent(share))
            }
            Warning::Repetition { share } => {
                write!(f, "{} of the rows that came in repeated others", percent(share))
            }
            Warning::Split { split, rows, expected } => write!(
                f,
                "{split} has {rows} rows instead of {expected}: most rows are near-twins of each other and stay in training"
            ),
            Warning::Markup { family, rows } => {
                write!(f, "{rows} rows still hold {family} markup: convert them first")
            }
            Warning::ForeignRoutes { routes } => write!(
                f,
                "{routes} built-in routing examples name agents that the council does not have and were left out; \
                 `household.routing` names a file of your own"
            ),
            Warning::ForeignSituations { situations } => write!(
                f,
                "{situations} built-in situations were left out, because the council is your own; `household.situations` names \
                 a file of your own"
            ),
            Warning::NoRefusals => f.write_str(
                "no refusals were asked for, so there are no twins, partial refusals or alarming harmless questions either",
            ),
            Warning::FewerRefusals { asked, made } => write!(
                f,
                "{made} refusals instead of {asked}: every technique is used once on every agent, and there are no more"
            ),
            Warning::FewerFacts { asked, made } => {
                write!(f, "{made} rows about facts instead of {asked}: more cannot be phrased without repetition")
            }
            Warning::PromptsLeftOut { file, prompts, used } => write!(
                f,
                "{used} of {prompts} prompts in {} are used: the others are benign, questions, or more than one sentence",
                file.display()
            ),
            Warning::NoEffect { setting, because } => {
                write!(f, "`{setting}` has no effect on the rows: {because}")
            }
            Warning::UnclearPersona { persona } => write!(f, "persona of {persona}"),
            Warning::Control { control } => {
                write!(f, "negative control: {control}; an adapter from these rows must be refused")
            }
            Warning::KeptLeaks { rows } => write!(
                f,
                "{rows} rows are too similar to exam questions; they were kept, because the splits are used as they are"
            ),
            Warning::Private { kind, rows, first } => {
                let seem = if *rows == 1 { "row seems" } else { "rows seem" };
                write!(f, "{rows} {seem} to hold {kind}: {}", first.join(", "))?;
                match rows.saturating_sub(first.len()) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// The first three words of a row's first answer; none for tool calls, which all begin with the same words.
fn opening(row: &Conversation) -> Option<String> {
    let answer = row.messages.iter().find(|message| message.role == Role::Assistant)?;
    let words = words(&answer.content);
    (words.len() > 3 && !answer.content.starts_with('{')).then(|| words[..3].join(" "))
}
