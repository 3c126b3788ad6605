//! Generates rows: refusals and their benign twins, identity, routing.
//!
//! Each generator goes through its data in a fixed order and varies the wording by the seed, so that the same data and
//! seed give the same rows, and the first n refusals cover techniques and agents evenly for every n.

use chat_format::{Conversation, Role};
use eval::Agent;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::data::nth_of;
use crate::entries::Route;
use crate::random::rng;
use crate::reply::{Benign, Frame, Reply, Technique, plain};
use crate::row::{Kind, Meta, Row};
use crate::split::{Partition, Split, benign_topic};
use crate::wording::{Declined, Wording};
use crate::{GeneratorData, Result};

/// Of the situations of an agent, every fourth is put to the agent itself.
const ACCEPTED: usize = 4;
/// The longest question, in bytes, of a row read that is put into a frame.
const LONGEST_QUESTION: usize = 160;

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
    /// The number of the technique's frame.
    frame: usize,
    split: Split,
}

/// A short question and its answer in a row that was read.
struct Asked<'a> {
    agent: &'a str,
    system: &'a str,
    question: &'a str,
    answer: &'a str,
}

impl<'a> Asked<'a> {
    /// The question of a row: one line, which ends with a question mark, and is answered in words.
    fn of(row: &'a Conversation) -> Option<Self> {
        let [system, user, answer] = row.messages.as_slice() else { return None };
        let roles = [&system.role, &user.role, &answer.role];
        let plain = roles == [&Role::System, &Role::User, &Role::Assistant]
            && row.tools.is_empty()
            && answer.tool_calls.is_empty();
        let question = user.content.as_str();
        let short = question.len() <= LONGEST_QUESTION && !question.contains(['\n', '"']);
        let agent = row.meta.get("agent")?.as_str()?;
        let (system, answer) = (&system.content, &answer.content);
        (plain && short && question.ends_with('?')).then_some(Asked {
            agent,
            system,
            question,
            answer,
        })
    }
}

/// A harmful request and the reasons against it.
#[derive(Clone, Copy)]
struct Harmful<'a> {
    because: &'a [String],
    ask: &'a str,
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

    /// Refusals in three sentences: that the agent declines, what and why; who it is; what it offers instead.
    pub fn refusals(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.harmful();
        let mut wording = self.wording("refusals");
        let mut rows = Vec::new();
        for attack in self.attacks().take(count) {
            let (topic, harmful) = requests.next(attack.split);
            let frame = nth_of(&attack.technique.frames, attack.frame);
            let source = match &frame.twin {
                Reply::Report(source) => Some(source.as_str()),
                _ => None,
            };
            let declined = harmful.declined(topic, source);
            let answer = wording.refusal(attack.agent, declined)?;
            let row = attack.row(Kind::Refusal, topic, frame, harmful.ask, answer)?;
            rows.push(row.rejecting(wording.complied(declined)?));
        }
        Ok(rows)
    }

    /// Benign twins of the first `count` refusals: the same frames around harmless requests, answered in the form that the
    /// frame asks for.
    pub fn twins(&self, count: usize) -> Result<Vec<Row>> {
        let mut requests = self.benign("twins");
        let mut wording = self.wording("twins");
        let reports = &self.data.refusals.reports;
        let mut rows = Vec::new();
        for (nth, attack) in self.attacks().take(count).enumerate() {
            let (topic, benign) = requests.next(attack.split);
            let first = nth_of(&attack.technique.frames, attack.frame);
            let frame = attack.technique.frame_for(attack.frame, benign).unwrap_or(first);
            let refusal = Declined { topic, because: &[], ask: &benign.ask, source: None };
            let (answer, wrong) = match &frame.twin {
                Reply::Report(source) => {
                    let slots = [("source", source.as_str()), ("quoted", &benign.ask)];
                    (nth_of(reports, nth).fill(&slots)?, plain(benign, nth))
                }
                form => (
                    form.answer(benign, &attack.agent.name, nth),
                    wording.refusal(attack.agent, refusal)?,
                ),
            };
            let row = attack.row(Kind::Twin, topic, frame, &benign.ask, answer)?;
            rows.push(row.rejecting(wrong));
        }
        Ok(rows)
    }

    /// Benign twins from the rows read: a question of theirs in the frame of an attack, with the row's own answer.
    pub fn own_twins<'r>(
        &self,
        rows: impl Iterator<Item = &'r Conversation>,
        count: usize,
    ) -> Result<Vec<Row>> {
        let mut asked: Vec<_> = rows.filter_map(Asked::of).collect();
        asked.shuffle(&mut rng(self.seed, "own twins"));
        let frames: Vec<_> = self.attacks().filter_map(|attack| attack.plain()).collect();
        if frames.is_empty() {
            return Ok(Vec::new());
        }
        let mut wording = self.wording("own twins");
        let mut rows = Vec::new();
        for (nth, asked) in asked.into_iter().take(count).enumerate() {
            let (technique, frame) = nth_of(&frames, nth);
            let agents = &self.data.council.agents;
            let Some(at) = agents.iter().position(|agent| agent.id.as_str() == asked.agent) else {
                continue;
            };
            let (agent, other) = (&agents[at], nth_of(agents, at + 1));
            let request = format!("answer this: {}", asked.question);
            let slots = [("request", &*request), ("name", &*agent.name), ("other", &*other.name)];
            let ask = frame.say.fill(&slots)?;
            let ask = ask.trim_end_matches('.').to_owned();
            let mut meta = Meta::new(Kind::Twin, &agent.id);
            meta.technique = Some(technique.id.clone());
            meta.item = Some(format!("own-{nth:02}"));
            let refusal = Declined { topic: "own", because: &[], ask: &request, source: None };
            let wrong = wording.refusal(agent, refusal)?;
            rows.push(Row::single(asked.system, ask, asked.answer, meta).rejecting(wrong));
        }
        Ok(rows)
    }

    /// Partial refusals: a harmless and a harmful request in one question, of which only the first is answered.
    pub fn partial(&self, count: usize) -> Result<Vec<Row>> {
        let (mut benign, mut harmful) = (self.benign("partial"), self.harmful());
        let mut wording = self.wording("partial");
        let asks = &self.data.refusals.partial.asks;
        let mut rows = Vec::new();
        for (nth, agent) in self.data.council.agents.iter().cycle().take(count).enumerate() {
            let (_, benign) = benign.next(Split::Train);
            let (topic, harm) = harmful.next(Split::Train);
            let ask = nth_of(asks, nth).fill(&[("benign", &benign.ask), ("harmful", harm.ask)])?;
            let (answer, declined) = (plain(benign, 0), harm.declined(topic, None));
            let wrong = format!("{answer} {}", wording.complied(declined)?);
            let answer = wording.partial(&answer, declined)?;
            let mut meta = Meta::new(Kind::Partial, &agent.id);
            meta.topic = Some(topic.to_owned());
            rows.push(Row::single(agent.system_prompt(), ask, answer, meta).rejecting(wrong));
        }
        Ok(rows)
    }

    /// Harmless questions that sound alarming, answered.
    pub fn harmless(&self) -> Result<Vec<Row>> {
        let mut wording = self.wording("harmless");
        let mut rows = Vec::new();
        for (nth, question) in self.data.harmless.iter().enumerate() {
            let agent = nth_of(&self.data.council.agents, nth);
            let refusal =
                Declined { topic: "harmless", because: &[], ask: &question.ask, source: None };
            let wrong = wording.refusal(agent, refusal)?;
            let mut meta = Meta::new(Kind::Harmless, &agent.id);
            meta.item = Some(format!("harmless-{nth:02}"));
            let (ask, answer) = (&question.ask, &question.answer);
            rows.push(Row::single(agent.system_prompt(), ask, answer, meta).rejecting(wrong));
        }
        Ok(rows)
    }

    /// Every identity question to every agent.
    pub fn identity(&self) -> Result<Vec<Row>> {
        let agents = &self.data.council.agents;
        let wrong = &self.data.refusals.rejected.misidentified;
        let mut rows = Vec::new();
        for (q, question) in self.data.identity.iter().enumerate() {
            for (a, agent) in agents.iter().enumerate() {
                let other = nth_of(agents, a + 1 + q % agents.len().saturating_sub(1).max(1));
                let slots = [
                    ("name", &*agent.name),
                    ("role", &*agent.role),
                    ("work", &*agent.work),
                    ("other", &*other.name),
                    ("other_role", &*other.role),
                ];
                let ask = nth_of(&question.asks, a + q).fill(&slots)?;
                let answer = nth_of(&question.answers, a / 2 + q).fill(&slots)?;
                let mut meta = Meta::new(Kind::Identity, &agent.id);
                meta.item = Some(question.id.clone());
                let row = Row::single(agent.system_prompt(), ask, answer, meta);
                rows.push(row.rejecting(nth_of(wrong, a + q).fill(&slots)?));
            }
        }
        Ok(rows)
    }

    /// Requests answered by the agent asked, or routed to another.
    pub fn routing(&self) -> Result<Vec<Row>> {
        let row = |(nth, route): (usize, &Route)| {
            let agent = self.data.agent(&route.asked, "routing.yaml", "asked")?;
            let owner = self.data.agent(&route.owner, "routing.yaml", "owner")?;
            let mut meta = Meta::new(Kind::Routing, &agent.id);
            meta.item = Some(format!("{}-{}", route.asked, route.owner));
            let row = Row::single(agent.system_prompt(), &route.ask, &route.answer, meta);
            Ok(row.rejecting(self.misrouted(nth, agent, owner)?))
        };
        self.data.routing.iter().enumerate().map(row).collect()
    }

    /// Situations put to an agent, which hands them over by name or accepts them.
    pub fn situations(&self) -> Result<Vec<Row>> {
        let words = &self.data.situations;
        let agents = &self.data.council.agents;
        let owners = agents
            .iter()
            .filter_map(|agent| Some((agent, words.situations.get(agent.id.as_str())?)));
        let mut rows = Vec::new();
        for (owner, situations) in owners {
            let others: Vec<&Agent> = agents.iter().filter(|agent| agent.id != owner.id).collect();
            for (nth, ask) in situations.iter().enumerate() {
                let accepts = nth % ACCEPTED == ACCEPTED - 1 || others.is_empty();
                let asked = if accepts { owner } else { nth_of(&others, rows.len()) };
                let answers = if accepts { &words.accepted } else { &words.passed_on };
                let slots = [("agent", &*owner.name), ("role", &*owner.role)];
                let answer = nth_of(answers, rows.len()).fill(&slots)?;
                let mut meta = Meta::new(Kind::Routing, &asked.id);
                meta.item = Some(format!("situation-{}-{nth:02}", owner.id));
                let row = Row::single(asked.system_prompt(), ask, answer, meta);
                rows.push(row.rejecting(self.misrouted(rows.len(), asked, owner)?));
            }
        }
        Ok(rows)
    }

    /// A wrong route for a request to `asked` that belongs to `owner`: another agent or, every other time, keeping what is
    /// not one's own.
    fn misrouted(&self, nth: usize, asked: &Agent, owner: &Agent) -> Result<String> {
        let parts = &self.data.refusals.rejected;
        let agents = self.data.council.agents.iter();
        let wrong: Vec<_> =
            agents.filter(|agent| agent.id != owner.id && agent.id != asked.id).collect();
        if wrong.is_empty() || (nth % 2 == 1 && asked.id != owner.id) {
            let slots = [("name", &*asked.name), ("role", &*asked.role)];
            return nth_of(&parts.kept, nth / 2).fill(&slots);
        }
        let wrong = nth_of(&wrong, nth);
        let slots = [("wrong", &*wrong.name), ("wrong_role", &*wrong.role)];
        nth_of(&parts.misrouted, nth / 2).fill(&slots)
    }

    fn wording(&self, label: &str) -> Wording<'a> {
        Wording::new(&self.data.refusals, self.seed, label)
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
                frame: t + round,
                split: partition.of_technique(&technique.id),
            }
        })
    }

    fn harmful(&self) -> Requests<Harmful<'a>> {
        let all = self.data.harmful.iter().flat_map(|harm| {
            let request = |ask: &'a String| Harmful { because: &harm.because, ask };
            harm.asks.iter().map(move |ask| (harm.topic.clone(), request(ask)))
        });
        Requests::new(all.collect(), self.partition, rng(self.seed, "harmful"))
    }

    fn benign(&self, label: &str) -> Requests<&'a Benign> {
        let all = self.data.benign.iter().enumerate();
        let all = all.map(|(i, benign)| (benign_topic(i), benign));
        Requests::new(all.collect(), self.partition, rng(self.seed, label))
    }
}

impl<'a> Harmful<'a> {
    fn declined(self, topic: &'a str, source: Option<&'a str>) -> Declined<'a> {
        Declined { topic, because: self.because, ask: self.ask, source }
    }
}

impl<'a> Attack<'a> {
    /// The technique and frame, if the technique is for training and the frame ends with the request and asks for no form.
    fn plain(&self) -> Option<(&'a Technique, &'a Frame)> {
        let frame = nth_of(&self.technique.frames, self.frame);
        let last = frame.say.as_str().to_lowercase().ends_with("{request}.");
        let plain = self.split == Split::Train && frame.twin == Reply::Plain && last;
        plain.then_some((self.technique, frame))
    }

    fn row(
        &self,
        kind: Kind,
        topic: &str,
        frame: &Frame,
        request: &str,
        answer: String,
    ) -> Result<Row> {
        let slots =
            [("request", request), ("name", &*self.agent.name), ("other", &*self.other.name)];
        let mut meta = Meta::new(kind, &self.agent.id);
        meta.technique = Some(self.technique.id.clone());
        meta.topic = Some(topic.to_owned());
        Ok(Row::single(self.agent.system_prompt(), frame.say.fill(&slots)?, answer, meta))
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
