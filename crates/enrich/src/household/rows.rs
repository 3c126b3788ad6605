//! Training rows: every entry of the household in several phrasings.

use chat_format::ToolCall;
use eval::Agent;
use rand::RngExt;
use rand::seq::SliceRandom;
use serde_json::Map;

use super::{Fact, Household, Phrasings, Scenario, Tool, Topic};
use crate::data::nth_of;
use crate::grams::{Grams, Index};
use crate::random::rng;
use crate::row::{Call, Exchange, Kind, Meta, Row};
use crate::{Error, GeneratorData, Result, Template};

/// The similarity (Jaccard of word 3-grams) from which a row is left out as a near duplicate.
const TOO_ALIKE: f64 = 0.7;
/// Phrasings of a fact per round; other entries have one. A fact's value must be memorised from its own rows, while
/// responsibilities, causes and call formats are learnt from many rows together.
const FACT_WORDINGS: usize = 2;
/// Calls of a tool per round: a format is learnt from many examples.
const CALL_WORDINGS: usize = 2;
/// Rows per tool, with different words and arguments.
const CALLS: usize = 10;
/// Of the calls, every third goes on with the tool's result and a closing answer.
const RESULTS: usize = 3;
/// Of the questions about facts, one in so many declares the agent's tools, none of which is to be called.
const UNCALLED: u32 = 8;

/// A row and its priority: core entries before others, first phrasings before further ones.
struct Candidate {
    late: bool,
    round: usize,
    row: Row,
}

impl Household {
    /// Exactly `count` rows about the household, without near duplicates. The same seed gives the same rows.
    ///
    /// With fewer rows, the core entries have fewer phrasings and the other entries are left out first.
    ///
    /// # Errors
    /// If there are not enough distinct rows, or an entry names an unknown agent or kind.
    pub fn rows(
        &self,
        data: &GeneratorData,
        phrasings: &Phrasings,
        count: usize,
        seed: u64,
    ) -> Result<Vec<Row>> {
        let rows = self.rows_up_to(data, phrasings, count, seed)?;
        if rows.len() < count {
            return Err(Error::TooManyRows { asked: count, available: rows.len() });
        }
        Ok(rows)
    }

    /// As [`rows`](Self::rows), but all distinct rows if there are fewer than `count`.
    pub(crate) fn rows_up_to(
        &self,
        data: &GeneratorData,
        phrasings: &Phrasings,
        count: usize,
        seed: u64,
    ) -> Result<Vec<Row>> {
        let pool = Pool { house: self, data, phrasings, seed };
        let mut candidates = pool.candidates()?;
        candidates.shuffle(&mut rng(seed, "order"));
        candidates.sort_by_key(|candidate| (candidate.late, candidate.round));
        let mut rows = distinct(candidates);
        rows.truncate(count);
        rows.shuffle(&mut rng(seed, "rows"));
        Ok(rows)
    }
}

struct Pool<'a> {
    house: &'a Household,
    data: &'a GeneratorData,
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
            self.rounds(&mut candidates, tool.core, CALL_WORDINGS, self.tool(tool)?);
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

    /// Every phrasing of a fact, in random order.
    fn fact(&self, fact: &Fact) -> Result<Vec<Row>> {
        let agent = self.agent(&fact.agent, "facts", &fact.id)?;
        let phrasings = self.phrasings.of_kind(self.house, &fact.kind)?;
        let slots = [("of", fact.of.as_str()), ("value", fact.value.as_str())];
        let mut rng = rng(self.seed, &format!("fact {}", fact.id));
        let mut asks: Vec<_> = phrasings.asks.iter().enumerate().collect();
        asks.shuffle(&mut rng);
        let first = rng.random_range(0..phrasings.answers.len());
        let row = |(round, (i, ask)): (usize, (usize, &Template))| {
            let answer = nth_of(&phrasings.answers, first + round);
            let answer = answer.fill_for(fact.number(), &slots)?;
            let meta = self.meta(Kind::Fact, agent, &fact.id, format!("{}-{i}", fact.kind));
            let ask = ask.fill_for(fact.number(), &slots)?;
            let mut row = Row::single(agent.system_prompt(), ask, answer, meta);
            if rng.random_range(0..UNCALLED) == 0 {
                row.tools = self.house.tools_of(agent.id.as_str());
            }
            Ok(row)
        };
        asks.into_iter().enumerate().map(row).collect()
    }

    /// Rows about a topic: other agents say who is responsible or route requests, the responsible agent accepts one.
    fn topic(&self, topic: &Topic) -> Result<Vec<Row>> {
        let owner = self.agent(&topic.agent, "topics", &topic.of)?;
        let mut rng = rng(self.seed, &format!("topic {}", topic.of));
        let mut others: Vec<&Agent> =
            self.data.council.agents.iter().filter(|agent| agent.id != owner.id).collect();
        others.shuffle(&mut rng);
        let slots = [("topic", &*topic.of), ("agent", &*owner.name), ("role", &*owner.role)];
        let words = &self.phrasings.topics;
        let mut plans: Vec<_> = (words.asks.iter().enumerate())
            .map(|(i, ask)| (format!("topic-ask-{i}"), ask, &words.answers, false))
            .collect();
        for (i, ask) in words.requests.iter().enumerate() {
            plans.push((format!("topic-pass-{i}"), ask, &words.passed_on, false));
        }
        plans.shuffle(&mut rng);
        let mine = nth_of(&words.requests, rng.random_range(0..words.requests.len()));
        plans.insert(1.min(plans.len()), ("topic-own".into(), mine, &words.accepted, true));
        let first = rng.random_range(0..12);
        let row = |(round, (phrasing, ask, answers, own)): (
            usize,
            (String, &Template, &Vec<Template>, bool),
        )| {
            let asked = if own || others.is_empty() { owner } else { nth_of(&others, round) };
            let answer = nth_of(answers, first + round).fill(&slots)?;
            let meta = self.meta(Kind::Topic, asked, &topic.of, phrasing);
            Ok(Row::single(asked.system_prompt(), ask.fill(&slots)?, answer, meta))
        };
        plans.into_iter().enumerate().map(row).collect()
    }

    /// Every symptom of a scenario.
    fn scenario(&self, scenario: &Scenario) -> Result<Vec<Row>> {
        let agent = self.agent(&scenario.agent, "scenarios", &scenario.id)?;
        let words = &self.phrasings.scenarios;
        let slots = [
            ("cause", scenario.cause.as_str()),
            ("because", scenario.because.as_deref().unwrap_or_default()),
            ("fix", &scenario.fix),
        ];
        let answers = if scenario.because.is_some() { &words.answers } else { &words.brief };
        let mut rng = rng(self.seed, &format!("scenario {}", scenario.id));
        let mut signs: Vec<_> = scenario.signs.iter().enumerate().collect();
        signs.shuffle(&mut rng);
        let first = rng.random_range(0..words.asks.len());
        let row = |(round, (i, sign)): (usize, (usize, &String))| {
            let ask = format!("{sign} {}", nth_of(&words.asks, first + round));
            let answer = nth_of(answers, first + round).fill(&slots)?;
            let phrasing = format!("{}-{i}", scenario.id);
            let meta = self.meta(Kind::Scenario, agent, &scenario.id, phrasing);
            Ok(Row::single(agent.system_prompt(), ask, answer, meta))
        };
        signs.into_iter().enumerate().map(row).collect()
    }

    /// Calls of a tool, with words and arguments varied independently. All tools of the agent are declared.
    fn tool(&self, tool: &Tool) -> Result<Vec<Row>> {
        let agent = self.agent(&tool.agent, "tools", &tool.name)?;
        let mut rng = rng(self.seed, &format!("tool {}", tool.name));
        let first = rng.random_range(0..tool.asks.len());
        let tools = self.house.tools_of(agent.id.as_str());
        let row = |round: usize| {
            let mut arguments = Map::new();
            let mut slots = Vec::new();
            for argument in &tool.args {
                let choice = nth_of(&argument.from, rng.random_range(0..argument.from.len()));
                slots.push((argument.name.as_str(), choice.say.as_str()));
                arguments.insert(argument.name.clone(), choice.is.clone());
            }
            let i = (first + round) % tool.asks.len();
            let ask = nth_of(&tool.asks, i).fill(&slots)?;
            let meta = self.meta(Kind::Tool, agent, &tool.name, format!("{}-{i}", tool.name));
            let done = tool.done.as_ref().filter(|_| round % RESULTS == RESULTS - 1);
            let result = done.map(|_| tool.result.clone().unwrap_or_else(|| "{}".to_owned()));
            let call = Call { call: ToolCall::new(&tool.name, arguments), result };
            let assistant = done.map(|done| done.fill(&slots)).transpose()?.unwrap_or_default();
            let exchange = Exchange { user: ask, call: Some(call), assistant };
            Ok(Row {
                tools: tools.clone(),
                ..Row::new(agent.system_prompt(), vec![exchange], meta)
            })
        };
        (0..CALLS).map(row).collect()
    }

    /// Conversations about two facts that one agent knows.
    fn dialogues(&self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for agent in &self.data.council.agents {
            let mut rng = rng(self.seed, &format!("dialogues {}", agent.id));
            let mut facts: Vec<_> =
                self.house.facts.iter().filter(|fact| agent.id == fact.agent.as_str()).collect();
            facts.shuffle(&mut rng);
            for pair in facts.chunks_exact(2) {
                let mut exchanges = Vec::new();
                for fact in pair {
                    exchanges.push(self.exchange(fact, rng.random_range(0..64))?);
                }
                let meta = Meta::new(Kind::Dialogue, &agent.id);
                rows.push(Row::new(agent.system_prompt(), exchanges, meta));
            }
        }
        Ok(rows)
    }

    fn exchange(&self, fact: &Fact, nth: usize) -> Result<Exchange> {
        let phrasings = self.phrasings.of_kind(self.house, &fact.kind)?;
        let slots = [("of", fact.of.as_str()), ("value", fact.value.as_str())];
        let fill = |template: &Template| template.fill_for(fact.number(), &slots);
        let ask = fill(nth_of(&phrasings.asks, nth))?;
        Ok(Exchange::said(ask, fill(nth_of(&phrasings.answers, nth / 2))?))
    }

    fn agent(&self, id: &str, list: &str, entry: &str) -> Result<&Agent> {
        let file = format!("household {}", self.house.name);
        self.data.agent(id, &file, &format!("{list}.{entry}.agent"))
    }

    fn meta(&self, kind: Kind, agent: &Agent, item: &str, phrasing: String) -> Meta {
        let mut meta = Meta::new(kind, &agent.id);
        meta.item = Some(item.to_owned());
        meta.phrasing = Some(phrasing);
        meta
    }
}

/// Keeps the first of each group of near duplicates.
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
