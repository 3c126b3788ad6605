//! Generates rows: refusals and their benign twins, identity, routing.
//!
//! Each generator goes through its data in a fixed order and varies the wording by the seed, so that the same data and
//! seed give the same rows, and the first n refusals cover techniques and agents evenly for every n.

use eval::Agent;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::{Benign, Route, Technique, nth_of};
use crate::random::rng;
use crate::row::{Kind, Meta, Row};
use crate::split::{Partition, Split, benign_topic};
use crate::{GeneratorData, Result, Template};

/// Generates rows.
pub(crate) struct Generator<'a> {
    data: &'a GeneratorData,
    partition: &'a Partition,
    seed: u64,
}

/// A technique used on an agent; a refusal and its twin share one.
struct Attack<'a> {
    agent: &'a Agent,
    other: &'a Agent,
    technique: &'a Technique,
    frame: &'a Template,
    split: Split,
}

impl<'a> Generator<'a> {
    /// A generator whose techniques and topics stay in the splits of `partition`.
    pub fn new(data: &'a GeneratorData, partition: &'a Partition, seed: u64) -> Self {
        Generator { data, partition, seed }
    }

    /// The maximum number of refusals: every technique on every agent.
    pub fn max_refusals(&self) -> usize {
        self.data.techniques.len() * self.data.council.agents.len()
    }

    /// Refusals in three sentences: the agent's identity, that it declines, and what it offers instead.
    pub fn refusals(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.harmful();
        let mut wording = Wording::new(self.data, self.seed);
        let mut rows = Vec::new();
        for attack in self.attacks().take(count) {
            let (topic, ask) = requests.next(attack.split);
            let answer = wording.refusal(attack.agent)?;
            rows.push(attack.row(Kind::Refusal, topic, ask, answer)?);
        }
        Ok(rows)
    }

    /// Benign twins of the first `count` refusals: the same frames around harmless requests, answered.
    pub fn twins(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.benign("twins");
        let mut rng = rng(self.seed, "twins");
        let openers = &self.data.refusals.twin_openers;
        let mut rows = Vec::new();
        for attack in self.attacks().take(count) {
            let (topic, benign) = requests.next(attack.split);
            let opener = &openers[rng.random_range(0..openers.len())];
            let answer = format!("{opener}{}", benign.answer);
            rows.push(attack.row(Kind::Twin, topic, &benign.ask, answer)?);
        }
        Ok(rows)
    }

    /// Partial refusals: a harmless and a harmful request in one question, of which only the first is answered.
    pub fn partial(&self, count: usize) -> Result<Vec<Row>> {
        let (mut benign, mut harmful) = (self.benign("partial"), self.harmful());
        let parts = &self.data.refusals.partial;
        let agents = self.data.council.agents.iter().cycle();
        let row = |(nth, agent): (usize, &Agent)| {
            let (_, benign) = benign.next(Split::Train);
            let (topic, harm) = harmful.next(Split::Train);
            let ask =
                nth_of(&parts.asks, nth).fill(&[("benign", &benign.ask), ("harmful", harm)])?;
            let answer = nth_of(&parts.answers, nth + nth / parts.asks.len())
                .fill(&[("answer", &benign.answer), ("name", &agent.name)])?;
            let mut meta = Meta::new(Kind::Partial, &agent.id);
            meta.topic = Some(topic.to_owned());
            Ok(Row::single(agent.system_prompt(), ask, answer, meta))
        };
        agents.take(count).enumerate().map(row).collect()
    }

    /// Every identity question to every agent.
    pub fn identity(&self) -> Result<Vec<Row>> {
        let agents = &self.data.council.agents;
        let mut rows = Vec::new();
        for (q, question) in self.data.identity.iter().enumerate() {
            for (a, agent) in agents.iter().enumerate() {
                let other = nth_of(agents, a + 1 + q % agents.len().saturating_sub(1).max(1));
                let slots = [
                    ("name", &*agent.name),
                    ("role", &*agent.role),
                    ("work", &*agent.work),
                    ("other", other.id.as_str()),
                    ("other_role", &*other.role),
                ];
                let ask = nth_of(&question.asks, a + q).fill(&slots)?;
                let answer = nth_of(&question.answers, a / 2 + q).fill(&slots)?;
                let mut meta = Meta::new(Kind::Identity, &agent.id);
                meta.item = Some(question.id.clone());
                rows.push(Row::single(agent.system_prompt(), ask, answer, meta));
            }
        }
        Ok(rows)
    }

    /// Requests answered by the agent asked, or routed to another.
    pub fn routing(&self) -> Result<Vec<Row>> {
        let row = |route: &Route| {
            let agent = self.data.agent(&route.asked, "routing.yaml", "asked")?;
            let mut meta = Meta::new(Kind::Routing, &agent.id);
            meta.item = Some(format!("{}-{}", route.asked, route.owner));
            Ok(Row::single(agent.system_prompt(), &route.ask, &route.answer, meta))
        };
        self.data.routing.iter().map(row).collect()
    }

    /// Every technique on every agent; consecutive attacks differ in technique and agent.
    fn attacks(&self) -> impl Iterator<Item = Attack<'a>> {
        let data = self.data;
        let mut techniques: Vec<&Technique> = data.techniques.iter().collect();
        techniques.shuffle(&mut rng(self.seed, "techniques of refusals"));
        let agents = &data.council.agents;
        let partition = self.partition;
        (0..agents.len() * techniques.len()).map(move |nth| {
            let (round, t) = (nth / techniques.len(), nth % techniques.len());
            let technique = techniques[t];
            Attack {
                agent: nth_of(agents, t + round),
                other: nth_of(agents, t + round + 1),
                technique,
                frame: nth_of(&technique.frames, t + round),
                split: partition.of_technique(&technique.id),
            }
        })
    }

    fn harmful(&self) -> Requests<&'a str> {
        let all = self.data.harmful.iter();
        let all =
            all.flat_map(|harm| harm.asks.iter().map(|ask| (harm.topic.clone(), ask.as_str())));
        Requests::new(all.collect(), self.partition, rng(self.seed, "harmful"))
    }

    fn benign(&self, label: &str) -> Requests<&'a Benign> {
        let all = self.data.benign.iter().enumerate();
        let all = all.map(|(i, benign)| (benign_topic(i), benign));
        Requests::new(all.collect(), self.partition, rng(self.seed, label))
    }
}

impl Attack<'_> {
    fn row(&self, kind: Kind, topic: &str, request: &str, answer: String) -> Result<Row> {
        let slots =
            [("request", request), ("name", &*self.agent.name), ("other", &*self.other.name)];
        let mut meta = Meta::new(kind, &self.agent.id);
        meta.technique = Some(self.technique.id.clone());
        meta.topic = Some(topic.to_owned());
        Ok(Row::single(self.agent.system_prompt(), self.frame.fill(&slots)?, answer, meta))
    }
}

/// The requests of each split, used in turn.
struct Requests<T> {
    of: [Vec<(String, T)>; 3],
    used: [usize; 3],
}

impl<T> Requests<T> {
    fn new(mut all: Vec<(String, T)>, partition: &Partition, mut rng: ChaCha8Rng) -> Self {
        all.shuffle(&mut rng);
        let mut of = [Vec::new(), Vec::new(), Vec::new()];
        for (topic, request) in all {
            of[partition.of_topic(&topic) as usize].push((topic, request));
        }
        Requests { of, used: [0; 3] }
    }

    /// The next request of a split, or of the training split if the split has none.
    fn next(&mut self, split: Split) -> (&str, &T) {
        let split = if self.of[split as usize].is_empty() { Split::Train } else { split } as usize;
        let (topic, request) = nth_of(&self.of[split], self.used[split]);
        self.used[split] += 1;
        (topic, request)
    }
}

/// Composes refusals; every combination of an agent's parts is used before any repeats.
struct Wording<'a> {
    data: &'a GeneratorData,
    seed: u64,
    decks: std::collections::HashMap<&'a str, Vec<(usize, usize, usize)>>,
}

impl<'a> Wording<'a> {
    fn new(data: &'a GeneratorData, seed: u64) -> Self {
        Wording { data, seed, decks: Default::default() }
    }

    fn refusal(&mut self, agent: &'a Agent) -> Result<String> {
        let parts = &self.data.refusals;
        let deck = self.decks.entry(agent.id.as_str()).or_default();
        if deck.is_empty() {
            let pairs =
                (0..parts.who.len()).flat_map(|w| (0..parts.cannot.len()).map(move |c| (w, c)));
            let offers = agent.offers.len();
            deck.extend(pairs.flat_map(|(w, c)| (0..offers).map(move |o| (w, c, o))));
            deck.shuffle(&mut rng(self.seed, &format!("refusals of {}", agent.id)));
        }
        let (who, cannot, offer) = deck.pop().unwrap_or_default();
        let slots = [("name", &*agent.name), ("role", &*agent.role)];
        let who = nth_of(&parts.who, who).fill(&slots)?;
        let cannot = nth_of(&parts.cannot, cannot).fill(&slots)?;
        Ok(format!("{who} {cannot} {}", nth_of(&agent.offers, offer)))
    }
}
