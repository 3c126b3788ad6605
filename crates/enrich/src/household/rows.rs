//! Training rows: every entry of the household in several wordings.

use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::Map;

use super::{Fact, Household, Phrasings, Scenario, Tool, Topic};
use crate::council::Agent;
use crate::grams::{Grams, Index};
use crate::random::rng;
use crate::row::{Exchange, Kind, Meta, Row};
use crate::{Council, Error, Result, Template};

/// Above this likeness (Jaccard of word 3-grams) a row says nothing that another has not said.
const TOO_ALIKE: f64 = 0.7;
/// Wordings of a fact for each one of anything else: a value has to be learnt by heart, while who answers for what, what a
/// sign means and how a call looks are learnt from all their rows together.
const FACT_WORDINGS: usize = 2;
/// How often a tool is asked for with different words and arguments.
const CALLS: usize = 9;

/// A row and how early it is wanted: the core before the rest, first wordings before further ones.
struct Candidate {
    late: bool,
    round: usize,
    row: Row,
}

impl Household {
    /// Phrases the household as exactly `count` rows, no two of them near duplicates.
    ///
    /// Fewer rows mean fewer wordings of the core entries, not fewer entries: a small model learns a few things
    /// well rather than many badly. The same seed gives the same rows.
    pub fn rows(
        &self,
        council: &Council,
        phrasings: &Phrasings,
        count: usize,
        seed: u64,
    ) -> Result<Vec<Row>> {
        let pool = Pool { house: self, council, phrasings, seed };
        let mut candidates = pool.candidates()?;
        candidates.shuffle(&mut rng(seed, "order"));
        candidates.sort_by_key(|candidate| (candidate.late, candidate.round));
        let distinct = distinct(candidates);
        if distinct.len() < count {
            return Err(Error::TooManyRows { asked: count, available: distinct.len() });
        }
        let mut rows: Vec<Row> = distinct.into_iter().take(count).collect();
        rows.shuffle(&mut rng(seed, "rows"));
        Ok(rows)
    }
}

struct Pool<'a> {
    house: &'a Household,
    council: &'a Council,
    phrasings: &'a Phrasings,
    seed: u64,
}

impl Pool<'_> {
    fn candidates(&self) -> Result<Vec<Candidate>> {
        let mut candidates = Vec::new();
        for fact in &self.house.facts {
            self.rounds(&mut candidates, fact.core, FACT_WORDINGS, self.fact(fact)?);
        }
        for topic in &self.house.topics {
            self.rounds(&mut candidates, topic.core, 1, self.topic(topic)?);
        }
        for scenario in &self.house.scenarios {
            self.rounds(&mut candidates, scenario.core, 1, self.scenario(scenario)?);
        }
        for tool in &self.house.tools {
            self.rounds(&mut candidates, tool.core, 1, self.tool(tool)?);
        }
        for dialogue in self.dialogues()? {
            self.rounds(&mut candidates, false, 1, vec![dialogue]);
        }
        Ok(candidates)
    }

    fn rounds(&self, candidates: &mut Vec<Candidate>, core: bool, at_once: usize, rows: Vec<Row>) {
        let numbered = rows.into_iter().enumerate();
        candidates.extend(numbered.map(|(nth, row)| Candidate {
            late: !core,
            round: nth / at_once,
            row,
        }));
    }

    /// Every way of asking for a fact, in an order of its own.
    fn fact(&self, fact: &Fact) -> Result<Vec<Row>> {
        let agent = self.council.agent(&fact.agent)?;
        let phrasings = self.phrasings.of_kind(self.house, &fact.kind)?;
        let slots = [("of", fact.of.as_str()), ("value", fact.value.as_str())];
        let mut rng = rng(self.seed, &format!("fact {}", fact.id));
        let mut asks: Vec<_> = phrasings.asks.iter().enumerate().collect();
        asks.shuffle(&mut rng);
        let first = rng.random_range(0..phrasings.answers.len());
        let row = |(round, (i, ask)): (usize, (usize, &Template))| {
            let answer = turn(&phrasings.answers, first + round).fill(&slots)?;
            let meta = self.meta(Kind::Fact, agent, &fact.id, format!("{}-{i}", fact.kind));
            Ok(Row::single(agent.system(), ask.fill(&slots)?, answer, meta))
        };
        asks.into_iter().enumerate().map(row).collect()
    }

    /// Who answers for a matter: asked of others, passed on by others, accepted by the agent itself.
    fn topic(&self, topic: &Topic) -> Result<Vec<Row>> {
        let owner = self.council.agent(&topic.agent)?;
        let mut rng = rng(self.seed, &format!("topic {}", topic.of));
        let mut others: Vec<&Agent> =
            self.council.agents.iter().filter(|agent| agent.id != owner.id).collect();
        others.shuffle(&mut rng);
        let slots = [("topic", &*topic.of), ("agent", &*owner.id), ("role", &*owner.role)];
        let words = &self.phrasings.topics;
        let mut plans: Vec<_> = (words.asks.iter().enumerate())
            .map(|(i, ask)| (format!("topic-ask-{i}"), ask, &words.answers, false))
            .collect();
        for (i, ask) in words.requests.iter().enumerate() {
            plans.push((format!("topic-pass-{i}"), ask, &words.passed_on, false));
        }
        plans.shuffle(&mut rng);
        let mine = turn(&words.requests, rng.random_range(0..words.requests.len()));
        plans.insert(1.min(plans.len()), ("topic-own".into(), mine, &words.accepted, true));
        let first = rng.random_range(0..12);
        let row = |(round, (phrasing, ask, answers, own)): (
            usize,
            (String, &Template, &Vec<Template>, bool),
        )| {
            let asked = if own || others.is_empty() { owner } else { turn(&others, round) };
            let answer = turn(answers, first + round).fill(&slots)?;
            let meta = self.meta(Kind::Topic, asked, &topic.of, phrasing);
            Ok(Row::single(asked.system(), ask.fill(&slots)?, answer, meta))
        };
        plans.into_iter().enumerate().map(row).collect()
    }

    /// Every sign of a scenario.
    fn scenario(&self, scenario: &Scenario) -> Result<Vec<Row>> {
        let agent = self.council.agent(&scenario.agent)?;
        let slots = [("cause", scenario.cause.as_str()), ("fix", scenario.fix.as_str())];
        let words = &self.phrasings.scenarios;
        let mut rng = rng(self.seed, &format!("scenario {}", scenario.id));
        let mut signs: Vec<_> = scenario.signs.iter().enumerate().collect();
        signs.shuffle(&mut rng);
        let first = rng.random_range(0..words.asks.len());
        let row = |(round, (i, sign)): (usize, (usize, &String))| {
            let ask = format!("{sign} {}", turn(&words.asks, first + round));
            let answer = turn(&words.answers, first + round).fill(&slots)?;
            let phrasing = format!("{}-{i}", scenario.id);
            let meta = self.meta(Kind::Scenario, agent, &scenario.id, phrasing);
            Ok(Row::single(agent.system(), ask, answer, meta))
        };
        signs.into_iter().enumerate().map(row).collect()
    }

    /// Calls of a tool, words and arguments varied independently.
    fn tool(&self, tool: &Tool) -> Result<Vec<Row>> {
        let agent = self.council.agent(&tool.agent)?;
        let mut rng = rng(self.seed, &format!("tool {}", tool.name));
        let first = rng.random_range(0..tool.asks.len());
        let row = |round: usize| {
            let mut arguments = Map::new();
            let mut slots = Vec::new();
            for argument in &tool.args {
                let choice = turn(&argument.from, rng.random_range(0..argument.from.len()));
                slots.push((argument.name.as_str(), choice.say.as_str()));
                arguments.insert(argument.name.clone(), choice.is.clone());
            }
            let i = (first + round) % tool.asks.len();
            let ask = turn(&tool.asks, i).fill(&slots)?;
            let meta = self.meta(Kind::Tool, agent, &tool.name, format!("{}-{i}", tool.name));
            Ok(Row::single(agent.system(), ask, tool.call(&arguments), meta))
        };
        (0..CALLS).map(row).collect()
    }

    /// Conversations of two facts that one agent knows.
    fn dialogues(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for agent in &self.council.agents {
            let mut rng = rng(self.seed, &format!("dialogues {}", agent.id));
            let mut facts: Vec<_> =
                self.house.facts.iter().filter(|fact| fact.agent == agent.id).collect();
            facts.shuffle(&mut rng);
            for pair in facts.chunks_exact(2) {
                let mut exchanges = Vec::new();
                for fact in pair {
                    exchanges.push(self.exchange(fact, rng.random_range(0..64))?);
                }
                let meta = Meta::new(Kind::Dialogue, &agent.id);
                rows.push(Row { system: agent.system(), exchanges, meta });
            }
        }
        Ok(rows)
    }

    fn exchange(&self, fact: &Fact, nth: usize) -> Result<Exchange> {
        let phrasings = self.phrasings.of_kind(self.house, &fact.kind)?;
        let slots = [("of", fact.of.as_str()), ("value", fact.value.as_str())];
        Ok(Exchange {
            user: turn(&phrasings.asks, nth).fill(&slots)?,
            assistant: turn(&phrasings.answers, nth / 2).fill(&slots)?,
        })
    }

    fn meta(&self, kind: Kind, agent: &Agent, item: &str, phrasing: String) -> Meta {
        let mut meta = Meta::new(kind, &agent.id);
        meta.item = Some(item.to_owned());
        meta.phrasing = Some(phrasing);
        meta
    }
}

/// The entries of a list in turn, round and round. Lists are checked to be filled when they are read.
fn turn<T>(list: &[T], nth: usize) -> &T {
    &list[nth % list.len()]
}

/// Keeps the first of rows that are alike.
fn distinct(candidates: Vec<Candidate>) -> Vec<Row> {
    let mut kept = Index::default();
    let rows = candidates.into_iter().map(|candidate| candidate.row);
    let new = |row: &Row| {
        let grams = Grams::of(&row.said(), 3);
        let new = kept.near(&grams, TOO_ALIKE).is_empty();
        if new {
            kept.add(&grams);
        }
        new
    };
    rows.filter(new).collect()
}
