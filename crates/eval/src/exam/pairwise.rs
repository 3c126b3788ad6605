//! A blind judge of pairs of answers: a second opinion on which of two runs answers better.
//!
//! The judge sees a question and two answers without names, in both orders. Only an answer that it prefers in both is
//! preferred; otherwise the pair is a tie. Its verdicts are a column for people: neither scores nor the gate use them.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

use durable::Digest;
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::run::{self, ExamRun};
use crate::error::Result;
use crate::scoring::Text;

/// The better of two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// The first one.
    First,
    /// The second one.
    Second,
    /// Neither.
    Tie,
}

impl Preference {
    /// The preference for the answers in the other order.
    fn swapped(self) -> Preference {
        match self {
            Preference::First => Preference::Second,
            Preference::Second => Preference::First,
            Preference::Tie => Preference::Tie,
        }
    }

    /// The preference that scores express.
    fn of_scores(first: f64, second: f64) -> Preference {
        if first > second {
            Preference::First
        } else if second > first {
            Preference::Second
        } else {
            Preference::Tie
        }
    }
}

/// Says which of two answers to a request is better, without knowing whose they are.
pub trait PairJudge {
    /// The judge and the version of its instruction, such as "qwen3, prompt 1": what a cached verdict is valid for.
    fn name(&self) -> String;

    /// The better answer; none if the judge's reply cannot be read as one preference.
    fn prefer(
        &mut self,
        request: &str,
        first: &str,
        second: &str,
    ) -> std::result::Result<Option<Preference>, Box<dyn StdError + Send + Sync>>;
}

/// The verdict on one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PairOpinion {
    /// The case.
    pub case: String,
    /// The seed of the sampling.
    pub seed: u64,
    /// What the judge prefers: `first` is the candidate's answer. None if a reply could not be read or the judge failed.
    pub judge: Option<Preference>,
    /// What the rules prefer, by the scores.
    pub rules: Preference,
    /// Whether the judge preferred the answer in the same place in both orders, and so its place rather than it.
    pub by_place: bool,
    /// Why there is no verdict, if the judge failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A judge's verdicts on all pairs of two runs; [`Display`](fmt::Display) prints the counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Comparison {
    /// The judge.
    pub by: String,
    /// The verdicts, in the candidate's order. Pairs of equal answers are not asked about.
    pub pairs: Vec<PairOpinion>,
    /// Pairs of equal answers.
    pub equal: usize,
    /// Answers without a counterpart to the same question in the other run.
    pub unpaired: usize,
    /// Pairs that were not asked about because the judge had failed too often in a row.
    pub skipped: usize,
}

/// How often a judge may fail in a row before the rest is skipped.
const FAILURES_IN_A_ROW: usize = 3;

/// Asks a judge about every pair of answers of two runs to the same question.
///
/// Replies are cached in the file `cache`, one line each, by the digest of judge, question and both answers in their order;
/// an interrupted comparison continues after them. A judge that fails is not asked again for that pair, its error is in the
/// verdict, and after three failures in a row the rest is skipped and counted.
///
/// # Errors
/// If the cache cannot be read or written.
pub fn compare(
    candidate: &ExamRun,
    champion: &ExamRun,
    judge: &mut dyn PairJudge,
    cache: impl AsRef<Path>,
    on_pair: &mut dyn FnMut(&PairOpinion),
) -> Result<Comparison> {
    let mut replies = Replies::load(cache.as_ref())?;
    let key = |record: &Record| (record.case.clone(), record.seed, record.prompt);
    let others: HashMap<_, &Record> = champion.records.iter().map(|r| (key(r), r)).collect();
    let by = judge.name();
    let mut found = Comparison { by, pairs: Vec::new(), equal: 0, unpaired: 0, skipped: 0 };
    let mut failures = 0;
    for record in &candidate.records {
        let Some(other) = others.get(&key(record)) else {
            found.unpaired += 1;
            continue;
        };
        let (first, second) = (Text::of_answer(&record.answer), Text::of_answer(&other.answer));
        if first.shown() == second.shown() {
            found.equal += 1;
            continue;
        }
        if failures >= FAILURES_IN_A_ROW {
            found.skipped += 1;
            continue;
        }
        let rules = Preference::of_scores(record.score.value, other.score.value);
        let answers = [first.shown(), second.shown()];
        let asked = replies.ask(judge, &found.by, &record.question, answers)?;
        failures = if asked.is_err() { failures + 1 } else { 0 };
        let opinion = verdict(record, rules, asked);
        on_pair(&opinion);
        found.pairs.push(opinion);
    }
    Ok(found)
}

/// What the judge said of a pair in its order, and of the same pair swapped.
type BothOrders = std::result::Result<[Option<Preference>; 2], String>;

fn verdict(record: &Record, rules: Preference, asked: BothOrders) -> PairOpinion {
    let (judge, by_place, error) = match asked {
        Err(error) => (None, false, Some(error)),
        Ok([Some(straight), Some(swapped)]) => {
            let agrees = straight == swapped.swapped();
            let by_place = straight == swapped && straight != Preference::Tie;
            (Some(if agrees { straight } else { Preference::Tie }), by_place, None)
        }
        Ok(_) => (None, false, None),
    };
    PairOpinion { case: record.case.clone(), seed: record.seed, judge, rules, by_place, error }
}

/// One reply in the cache.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    /// The digest of what was asked, and of whom.
    asked: Digest,
    /// None for a reply that could not be read.
    prefers: Option<Preference>,
}

/// The replies that are known, and the file that keeps them.
struct Replies<'p> {
    path: &'p Path,
    known: HashMap<Digest, Option<Preference>>,
}

impl<'p> Replies<'p> {
    fn load(path: &'p Path) -> Result<Self> {
        let replies: Vec<Reply> = run::read_lines(path, |_| Ok(()))?;
        // A killed process leaves an incomplete line. Were it kept, the next reply would end it, and it could not be read.
        if path.exists() {
            run::write_lines(path, &replies)?;
        }
        let known = replies.into_iter().map(|reply| (reply.asked, reply.prefers)).collect();
        Ok(Replies { path, known })
    }

    /// The replies to both orders.
    fn ask(
        &mut self,
        judge: &mut dyn PairJudge,
        by: &str,
        question: &str,
        [first, second]: [&str; 2],
    ) -> Result<BothOrders> {
        let mut replies = [None; 2];
        for (reply, [first, second]) in replies.iter_mut().zip([[first, second], [second, first]]) {
            let asked = digest(&[by, question, first, second]);
            *reply = match self.known.get(&asked) {
                Some(known) => *known,
                None => match judge.prefer(question, first, second) {
                    Ok(prefers) => self.keep(Reply { asked, prefers })?,
                    Err(error) => return Ok(Err(error.to_string())),
                },
            };
        }
        Ok(Ok(replies))
    }

    fn keep(&mut self, reply: Reply) -> Result<Option<Preference>> {
        durable::append_line(self.path, &run::to_line(&reply))?;
        self.known.insert(reply.asked, reply.prefers);
        Ok(reply.prefers)
    }
}

fn digest(parts: &[&str]) -> Digest {
    let mut bytes = Vec::new();
    for part in parts {
        // The length prefix keeps two different splits from giving the same bytes.
        bytes.extend((part.len() as u64).to_le_bytes());
        bytes.extend(part.as_bytes());
    }
    durable::digest(bytes)
}

impl Comparison {
    /// Pairs for which the test holds.
    fn count(&self, test: impl Fn(&PairOpinion) -> bool) -> usize {
        self.pairs.iter().filter(|pair| test(pair)).count()
    }

    /// Verdicts in which the judge prefers what the rules prefer, ties included.
    pub fn agreed(&self) -> usize {
        self.count(|pair| pair.judge == Some(pair.rules))
    }

    /// Pairs with a verdict.
    pub fn judged(&self) -> usize {
        self.count(|pair| pair.judge.is_some())
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefers = |which| self.count(|pair| pair.judge == Some(which));
        let opposed = self.count(|pair| {
            let against = pair.rules.swapped();
            pair.rules != Preference::Tie && pair.judge == Some(against)
        });
        let failed = self.count(|pair| pair.error.is_some());
        let unread = self.count(|pair| pair.judge.is_none() && pair.error.is_none());
        writeln!(f, "judge                {}", self.by)?;
        writeln!(f, "pairs judged         {}", self.judged())?;
        writeln!(f, "candidate better     {}", prefers(Preference::First))?;
        writeln!(f, "champion better      {}", prefers(Preference::Second))?;
        writeln!(f, "tie                  {}", prefers(Preference::Tie))?;
        writeln!(f, "  of them by place   {}", self.count(|pair| pair.by_place))?;
        writeln!(f, "agrees with rules    {} of {}", self.agreed(), self.judged())?;
        writeln!(f, "opposes the rules    {opposed}")?;
        writeln!(f, "equal answers        {}", self.equal)?;
        writeln!(f, "unreadable replies   {unread}")?;
        writeln!(f, "failures             {failed}")?;
        writeln!(f, "not asked            {}", self.skipped + self.unpaired)
    }
}
