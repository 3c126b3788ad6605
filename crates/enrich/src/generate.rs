//! The rows that are made: refusals and their benign twins, identity, routing.
//!
//! Each generator walks its data in a fixed order and varies wording by the seed, so that the same council and seed
//! give the same rows, and any first part of the refusals covers techniques and agents evenly.

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::council::{Agent, Benign, Technique};
use crate::random::rng;
use crate::row::{Kind, Meta, Row};
use crate::split::{Partition, Split, benign_topic};
use crate::{Council, Result, Template};

/// Makes rows from a council.
pub struct Generator<'a> {
    council: &'a Council,
    partition: &'a Partition,
    seed: u64,
}

/// A technique used on an agent: what a refusal and its twin have in common.
struct Attack<'a> {
    agent: &'a Agent,
    other: &'a Agent,
    technique: &'a Technique,
    frame: &'a Template,
    split: Split,
}

impl<'a> Generator<'a> {
    /// A generator; techniques and topics stay in the split that `partition` gives them.
    pub fn new(council: &'a Council, partition: &'a Partition, seed: u64) -> Self {
        Generator { council, partition, seed }
    }

    /// How many refusals there can be: every technique on every agent.
    pub fn max_refusals(&self) -> usize {
        self.council.techniques.len() * self.council.agents.len()
    }

    /// Requests declined in three parts: who I am and stay, that I will not, what I can do here.
    pub fn refusals(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.harmful();
        let mut wording = Wording::new(self.council, self.seed);
        let mut rows = Vec::new();
        for attack in self.attacks().take(count) {
            let (topic, ask) = requests.next(attack.split);
            let answer = wording.refusal(attack.agent)?;
            rows.push(attack.row(Kind::Refusal, topic, ask, answer)?);
        }
        Ok(rows)
    }

    /// The frames of the first `count` refusals around harmless requests, answered.
    pub fn twins(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.benign("twins");
        let mut rng = rng(self.seed, "twins");
        let openers = &self.council.refusals.twin_openers;
        let mut rows = Vec::new();
        for attack in self.attacks().take(count) {
            let (topic, benign) = requests.next(attack.split);
            let opener = &openers[rng.random_range(0..openers.len())];
            let answer = format!("{opener}{}", benign.answer);
            rows.push(attack.row(Kind::Twin, topic, &benign.ask, answer)?);
        }
        Ok(rows)
    }

    /// Requests of two halves: the harmless one answered, the harmful one declined.
    pub fn partial(&self, count: usize) -> Result<Vec<Row>> {
        let (mut benign, mut harmful) = (self.benign("partial"), self.harmful());
        let parts = &self.council.refusals.partial;
        let agents = self.council.agents.iter().cycle();
        let row = |(nth, agent): (usize, &Agent)| {
            let (_, benign) = benign.next(Split::Train);
            let (topic, harm) = harmful.next(Split::Train);
            let ask =
                nth_of(&parts.asks, nth).fill(&[("benign", &benign.ask), ("harmful", harm)])?;
            let answer = nth_of(&parts.answers, nth + nth / parts.asks.len())
                .fill(&[("answer", &benign.answer), ("name", &agent.name)])?;
            let mut meta = Meta::new(Kind::Partial, &agent.id);
            meta.topic = Some(topic.to_owned());
            Ok(Row::single(agent.system(), ask, answer, meta))
        };
        agents.take(count).enumerate().map(row).collect()
    }

    /// Every question of identity to every agent.
    pub fn identity(&self) -> Result<Vec<Row>> {
        let agents = &self.council.agents;
        let mut rows = Vec::new();
        for (q, question) in self.council.identity.iter().enumerate() {
            for (a, agent) in agents.iter().enumerate() {
                let other = nth_of(agents, a + 1 + q % agents.len().saturating_sub(1).max(1));
                let slots = [
                    ("name", &*agent.name),
                    ("role", &*agent.role),
                    ("work", &*agent.work),
                    ("other", &*other.id),
                    ("other_role", &*other.role),
                ];
                let ask = nth_of(&question.asks, a + q).fill(&slots)?;
                let answer = nth_of(&question.answers, a / 2 + q).fill(&slots)?;
                let mut meta = Meta::new(Kind::Identity, &agent.id);
                meta.item = Some(question.id.clone());
                rows.push(Row::single(agent.system(), ask, answer, meta));
            }
        }
        Ok(rows)
    }

    /// Work passed on and work taken over.
    pub fn routing(&self) -> Result<Vec<Row>> {
        let row = |route: &crate::Route| {
            let agent = self.council.agent(&route.asked)?;
            let mut meta = Meta::new(Kind::Routing, &agent.id);
            meta.item = Some(format!("{}-{}", route.asked, route.owner));
            Ok(Row::single(agent.system(), &route.ask, &route.answer, meta))
        };
        self.council.routing.iter().map(row).collect()
    }

    /// Every technique on every agent, technique by technique, each time on the next agent.
    fn attacks(&self) -> impl Iterator<Item = Attack<'a>> {
        let council = self.council;
        let mut techniques: Vec<&Technique> = council.techniques.iter().collect();
        techniques.shuffle(&mut rng(self.seed, "techniques of refusals"));
        let agents = council.agents.len();
        let partition = self.partition;
        (0..agents * techniques.len()).map(move |nth| {
            let (round, t) = (nth / techniques.len(), nth % techniques.len());
            let technique = techniques[t];
            Attack {
                agent: nth_of(&council.agents, t + round),
                other: nth_of(&council.agents, t + round + 1),
                technique,
                frame: nth_of(&technique.frames, t + round),
                split: partition.of_technique(&technique.id),
            }
        })
    }

    fn harmful(&self) -> Requests<&'a str> {
        let all = self.council.harmful.iter();
        let all =
            all.flat_map(|harm| harm.asks.iter().map(|ask| (harm.topic.clone(), ask.as_str())));
        Requests::new(all.collect(), self.partition, rng(self.seed, "harmful"))
    }

    fn benign(&self, label: &str) -> Requests<&'a Benign> {
        let all = self.council.benign.iter().enumerate();
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
        Ok(Row::single(self.agent.system(), self.frame.fill(&slots)?, answer, meta))
    }
}

/// Requests of each split, every one before any comes again.
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

    /// The next request of a split, or of training where so few topics exist that the split has none.
    fn next(&mut self, split: Split) -> (&str, &T) {
        let split = if self.of[split as usize].is_empty() { Split::Train } else { split } as usize;
        let (topic, request) = nth_of(&self.of[split], self.used[split]);
        self.used[split] += 1;
        (topic, request)
    }
}

/// The three parts of refusals, every combination of an agent's before any comes again.
struct Wording<'a> {
    council: &'a Council,
    seed: u64,
    decks: std::collections::HashMap<&'a str, Vec<(usize, usize, usize)>>,
}

impl<'a> Wording<'a> {
    fn new(council: &'a Council, seed: u64) -> Self {
        Wording { council, seed, decks: Default::default() }
    }

    fn refusal(&mut self, agent: &'a Agent) -> Result<String> {
        let parts = &self.council.refusals;
        let deck = self.decks.entry(&agent.id).or_default();
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

/// The entries of a list, round and round. A council's lists are checked to be filled when they are read.
fn nth_of<T>(list: &[T], nth: usize) -> &T {
    &list[nth % list.len()]
}
