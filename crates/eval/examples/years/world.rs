//! The simulated world: exams, models, actors and a year of nights.

use eval::gate::{FreshExam, Mark, PairedCase, PairedEvidence, Reference};
use eval::{AgentId, BestScores, CategoryId, Gate, Policy, Rule, Suite, Tier};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use statrs::distribution::{Beta, ContinuousCDF, Normal};

pub const SUITE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/suites/household.json");
pub const NIGHTS: usize = 365;
pub const SEED_SPREAD: f64 = 0.025;
/// The share of requests that deserve an answer and are refused all the same.
const REFUSALS: f64 = 0.01;
/// A loss that must not be served.
const WORSE: f64 = 0.02;
/// What a champion may gain before the standing exam is drawn anew.
const MEASURABLE: f64 = 0.25;

/// Who brings a candidate every night.
#[derive(Clone, Copy)]
pub enum Actor {
    /// As good as the champion, plus this; `spread` adds the luck of training seeds.
    Shift { by: f64, spread: f64 },
    /// As good as the first champion of the year, with the luck of training seeds: one recipe, trained every night.
    SameRecipe,
    /// 90 % as good, 5 % worse by 0.04, 5 % better by 0.08.
    Mixed,
    /// Has learnt half of the standing exam by heart; worse by 0.05 on anything else.
    Memoriser,
    /// Refuses this share of everything; the rest is better by 0.15.
    Refuses(f64),
    /// Scores this share in every category: echoes of the question, lists of keywords.
    Games(f64),
    /// As good as the champion; keeps whatever change of its answers to the standing exam raised their mean.
    Climber,
}

pub const ACTORS: [(&str, Actor); 11] = [
    ("no change", Actor::Shift { by: 0.0, spread: 0.0 }),
    ("same recipe every night", Actor::SameRecipe),
    ("-0.02 drift", Actor::Shift { by: -0.02, spread: SEED_SPREAD }),
    ("-0.04", Actor::Shift { by: -0.04, spread: SEED_SPREAD }),
    ("90/5/5 world", Actor::Mixed),
    ("memoriser", Actor::Memoriser),
    ("always refuses", Actor::Refuses(1.0)),
    ("refuses half", Actor::Refuses(0.5)),
    ("echoes the question", Actor::Games(0.0)),
    ("stuffs keywords", Actor::Games(0.05)),
    ("climbs on verdicts", Actor::Climber),
];

/// A case as the simulation needs it.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    category: &'a CategoryId,
    agent: &'a AgentId,
    tier: Tier,
    cluster: usize,
    asks_refusal: bool,
}

pub struct Exam<'a> {
    pub slots: Vec<Slot<'a>>,
    pub clusters: usize,
}

impl<'a> Exam<'a> {
    fn of(suite: &'a Suite) -> Exam<'a> {
        let mut names: Vec<&str> = Vec::new();
        let slots = suite.cases.iter().map(|case| {
            let name = case.cluster.as_deref().unwrap_or(&case.id);
            let cluster = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            Slot {
                category: &case.category,
                agent: &case.agent,
                tier: case.tier,
                cluster,
                asks_refusal: case.rules.iter().any(|rule| matches!(rule, Rule::Refusal {})),
            }
        });
        Exam { slots: slots.collect(), clusters: names.len() }
    }

    /// Every case `times` times.
    fn repeated(&self, times: usize) -> Exam<'a> {
        let again = |slot: &Slot<'a>| std::iter::repeat_n(*slot, times);
        Exam { slots: self.slots.iter().flat_map(again).collect(), clusters: self.clusters }
    }

    /// Every case `times` times, twice as often if it asks for a refusal, none of them seen by anybody.
    fn fresh(&self, times: usize) -> Exam<'a> {
        let again = |slot: &Slot<'a>| {
            let times = if slot.asks_refusal { 2 * times } else { times };
            std::iter::repeat_n(Slot { tier: Tier::HeldOut, ..*slot }, times)
        };
        Exam { slots: self.slots.iter().flat_map(again).collect(), clusters: self.clusters }
    }
}

/// How a model of the champion's quality does on the cases of an exam.
struct Abilities {
    chances: Vec<f64>,
    rules: Vec<usize>,
    together: Vec<bool>,
}

const RULES: usize = 3;

/// Random numbers with the quantiles that the model needs.
struct Chance<'a> {
    rng: ChaCha8Rng,
    beta: &'a [f64],
    /// The share of a cluster's cases that are known or not together; pairs correlate by its square.
    together: f64,
}

impl Chance<'_> {
    fn uniform(&mut self) -> f64 {
        f64::from(self.rng.next_u32()) / 4_294_967_296.0
    }

    fn happens(&mut self, share: f64) -> bool {
        self.uniform() < share
    }

    fn pick(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }

    fn ability(&mut self) -> f64 {
        self.beta[self.pick(self.beta.len())]
    }

    fn normal(&mut self, spread: f64) -> f64 {
        if spread == 0.0 {
            return 0.0;
        }
        spread * Normal::standard().inverse_cdf(self.uniform().clamp(1e-9, 1.0 - 1e-9))
    }

    fn abilities(&mut self, exam: &Exam<'_>) -> Abilities {
        let clusters: Vec<f64> = (0..exam.clusters).map(|_| self.ability()).collect();
        let together: Vec<bool> = exam.slots.iter().map(|_| self.happens(self.together)).collect();
        let chances = exam.slots.iter().zip(&together);
        let chances = chances.map(|(slot, together)| match together {
            true => clusters[slot.cluster],
            false => self.ability(),
        });
        let chances = chances.collect();
        let rules = exam.slots.iter().map(|_| [1, 1, 2, 3][self.pick(4)]).collect();
        Abilities { chances, rules, together }
    }

    /// The marks of a model that is better by `shift`: a share of `2 shift` of the failed rules is met, as the mean chance
    /// is one half.
    fn marks(&mut self, exam: &Exam<'_>, of: &Abilities, shift: f64) -> Vec<Mark> {
        let flip = (2.0 * shift.abs()).min(1.0);
        let luck: Vec<[(f64, bool); RULES]> = (0..exam.clusters)
            .map(|_| std::array::from_fn(|_| (self.uniform(), self.happens(flip))))
            .collect();
        let marks = exam.slots.iter().enumerate().map(|(i, slot)| {
            let met = (0..of.rules[i]).filter(|&rule| {
                let (luck, turned) = match of.together[i] {
                    true => luck[slot.cluster][rule],
                    false => (self.uniform(), self.happens(flip)),
                };
                if turned { shift > 0.0 } else { luck < of.chances[i] }
            });
            let met = met.count();
            if !slot.asks_refusal && self.happens(REFUSALS) {
                return Mark { score: 0.0, refused: true };
            }
            Mark { score: met as f64 / of.rules[i] as f64, refused: false }
        });
        marks.collect()
    }

    /// Refuses a share of all cases.
    fn refuse(&mut self, exam: &Exam<'_>, marks: &mut [Mark], share: f64) {
        for (slot, mark) in exam.slots.iter().zip(marks) {
            if self.happens(share) {
                let score = if slot.asks_refusal { 1.0 } else { 0.0 };
                *mark = Mark { score, refused: true };
            }
        }
    }

    fn flat(&mut self, exam: &Exam<'_>, share: f64) -> Vec<Mark> {
        let score = |_| Mark { score: f64::from(u8::from(self.happens(share))), refused: false };
        exam.slots.iter().map(score).collect()
    }
}

pub struct World<'a> {
    suite: &'a Suite,
    gate: Gate,
    policy: Policy,
    pub standing: Exam<'a>,
    pub fresh: Exam<'a>,
    beta: Vec<f64>,
    /// The correlation of two cases of a cluster.
    correlation: f64,
}

/// What a year came to.
#[derive(Default)]
pub struct Year {
    pub promotions: usize,
    pub not_better: usize,
    /// Whether an adapter served that is worse by [`WORSE`] than the one before or than the best one before.
    pub worse_served: bool,
    pub fresh_exams: usize,
    pub first: Option<usize>,
    /// Equal scores on the standing exam, a night on average.
    pub ties: f64,
}

/// The state of a year.
struct State {
    abilities: Abilities,
    champion: Vec<Mark>,
    base: Vec<Mark>,
    best: BestScores,
    /// The champion's true gain over the first one.
    quality: f64,
    /// The part of it since the standing exam was drawn.
    gained: f64,
    climbed: Option<Vec<Mark>>,
}

impl<'a> World<'a> {
    pub fn new(
        suite: &'a Suite,
        policy: Policy,
        standing: usize,
        times: usize,
        correlation: f64,
    ) -> eval::Result<World<'a>> {
        let one = Exam::of(suite);
        let quantiles = Beta::new(0.7, 0.7).expect("a distribution");
        let beta = (0..1024).map(|i| quantiles.inverse_cdf((f64::from(i) + 0.5) / 1024.0));
        let (gate, beta) = (Gate::new(policy.clone())?, beta.collect());
        let (fresh, standing) = (one.fresh(times), one.repeated(standing));
        Ok(World { suite, gate, policy, standing, fresh, beta, correlation })
    }

    /// One year of an actor's nights; ends after the first promotion if `until_promoted`.
    pub fn year(&self, actor: Actor, seed: u64, until_promoted: bool) -> eval::Result<Year> {
        let mut chance = self.chance(seed);
        let mut state = self.begin(0.0, &mut chance);
        let (mut year, mut highest, mut failed) = (Year::default(), 0.0_f64, 0);
        for night in 1..=NIGHTS {
            let (shift, standing) = self.candidate(actor, &mut state, &mut chance);
            let ties = standing.iter().zip(&state.champion).filter(|(a, b)| a.score == b.score);
            year.ties += ties.count() as f64 / standing.len() as f64 / NIGHTS as f64;
            let pending = FreshExam::Pending(String::new());
            if failed >= self.policy.failed_exams_a_year()
                || !self.gate.passes(&self.evidence(&state, &standing, pending))?
            {
                continue;
            }
            year.fresh_exams += 1;
            let fresh = FreshExam::Taken(self.fresh_exam(actor, shift, &mut chance));
            if !self.gate.passes(&self.evidence(&state, &standing, fresh))? {
                failed += 1;
                continue;
            }
            year.promotions += 1;
            year.not_better += usize::from(shift <= 0.0);
            state.quality += shift;
            highest = highest.max(state.quality);
            year.worse_served |= shift <= -WORSE || state.quality <= highest - WORSE;
            year.first.get_or_insert(night);
            if until_promoted {
                break;
            }
            state.gained += shift;
            state.best.raise(&self.means(&standing));
            (state.champion, state.climbed) = (standing, None);
            if state.gained > MEASURABLE {
                state = self.begin(state.quality, &mut chance);
            }
        }
        Ok(year)
    }

    fn chance(&self, seed: u64) -> Chance<'_> {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Chance { rng, beta: &self.beta, together: self.correlation.sqrt() }
    }

    /// Draws a standing exam, with a champion and a base model that have taken it.
    fn begin(&self, quality: f64, chance: &mut Chance<'_>) -> State {
        let abilities = chance.abilities(&self.standing);
        let champion = chance.marks(&self.standing, &abilities, 0.0);
        let base = chance.marks(&self.standing, &abilities, -0.2);
        let best = self.means(&champion);
        State { abilities, champion, base, best, quality, gained: 0.0, climbed: None }
    }

    /// How often each rule fails for a candidate that is better by `shift`, on both exams of one night.
    pub fn failures(&self, shift: f64, seed: u64) -> eval::Result<Vec<String>> {
        let mut chance = self.chance(seed);
        let state = self.begin(0.0, &mut chance);
        let standing = chance.marks(&self.standing, &state.abilities, shift);
        let actor = Actor::Shift { by: shift, spread: 0.0 };
        let fresh = FreshExam::Taken(self.fresh_exam(actor, shift, &mut chance));
        let verdict = self.gate.judge(&self.evidence(&state, &standing, fresh))?;
        Ok(verdict.failed().map(|rule| rule.rule.clone()).collect())
    }

    /// A candidate's true gain over the champion, and its marks on the standing exam.
    fn candidate(
        &self,
        actor: Actor,
        state: &mut State,
        chance: &mut Chance<'_>,
    ) -> (f64, Vec<Mark>) {
        let exam = &self.standing;
        let shift = match actor {
            Actor::Shift { by, spread } => by + chance.normal(spread),
            Actor::SameRecipe => chance.normal(SEED_SPREAD) - state.quality,
            Actor::Mixed => {
                let kind = chance.uniform();
                let by = if kind < 0.9 {
                    0.0
                } else if kind < 0.95 {
                    -0.04
                } else {
                    0.08
                };
                by + chance.normal(SEED_SPREAD)
            }
            Actor::Memoriser => -0.05,
            Actor::Refuses(_) | Actor::Games(_) => -0.3,
            Actor::Climber => 0.0,
        };
        let of = &state.abilities;
        let marks = match actor {
            Actor::Memoriser => {
                let mut marks = chance.marks(exam, of, shift);
                for mark in &mut marks {
                    if chance.happens(0.5) {
                        *mark = Mark { score: 1.0, refused: false };
                    }
                }
                marks
            }
            Actor::Refuses(share) => {
                let mut marks = chance.marks(exam, of, 0.15);
                chance.refuse(exam, &mut marks, share);
                marks
            }
            Actor::Games(share) => chance.flat(exam, share),
            Actor::Climber => self.climb(state, chance),
            _ => chance.marks(exam, of, state.gained + shift),
        };
        (shift, marks)
    }

    /// Changes a tenth of the answers at random and keeps the change if the verdict shows a higher mean.
    fn climb(&self, state: &mut State, chance: &mut Chance<'_>) -> Vec<Mark> {
        let sum = |marks: &[Mark]| marks.iter().map(|mark| mark.score).sum::<f64>();
        let now = state.climbed.get_or_insert_with(|| state.champion.clone());
        let other = chance.marks(&self.standing, &state.abilities, state.gained);
        let mut tried = now.clone();
        for (mark, other) in tried.iter_mut().zip(other) {
            if chance.happens(0.1) {
                *mark = other;
            }
        }
        if sum(&tried) > sum(now) {
            now.clone_from(&tried);
        }
        tried
    }

    /// The fresh exam of a night.
    fn fresh_exam(&self, actor: Actor, shift: f64, chance: &mut Chance<'_>) -> Vec<PairedCase<'_>> {
        let exam = &self.fresh;
        let abilities = chance.abilities(exam);
        let champion = chance.marks(exam, &abilities, 0.0);
        let base = chance.marks(exam, &abilities, -0.2);
        let candidate = match actor {
            Actor::Refuses(share) => {
                let mut marks = chance.marks(exam, &abilities, 0.15);
                chance.refuse(exam, &mut marks, share);
                marks
            }
            Actor::Games(share) => chance.flat(exam, share),
            _ => chance.marks(exam, &abilities, shift),
        };
        paired(exam, &candidate, &champion, &base)
    }

    fn evidence<'e>(
        &'e self,
        state: &'e State,
        standing: &[Mark],
        fresh: FreshExam<Vec<PairedCase<'e>>>,
    ) -> PairedEvidence<'e> {
        PairedEvidence {
            council: self.suite.council(),
            against: Reference::Champion,
            standing: paired(&self.standing, standing, &state.champion, &state.base),
            fresh,
            best: Some(&state.best),
            drifts: None,
            checks: &[],
            scoring_version: 0,
        }
    }

    fn means(&self, marks: &[Mark]) -> BestScores {
        let mut best = BestScores::default();
        for category in &self.suite.council().categories {
            let slots = self.standing.slots.iter().zip(marks);
            let of = slots.filter(|(slot, _)| *slot.category == category.id);
            let scores: Vec<f64> = of.map(|(_, mark)| mark.score).collect();
            if !scores.is_empty() {
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                best.categories.insert(category.id.clone(), mean);
            }
        }
        best
    }
}

fn paired<'a>(
    exam: &Exam<'a>,
    candidate: &[Mark],
    champion: &[Mark],
    base: &[Mark],
) -> Vec<PairedCase<'a>> {
    let marks = candidate.iter().zip(champion).zip(base);
    let cases =
        exam.slots.iter().zip(marks).map(|(slot, ((candidate, champion), base))| PairedCase {
            category: slot.category,
            agent: slot.agent,
            tier: slot.tier,
            cluster: slot.cluster,
            weight: 1.0,
            asks_refusal: slot.asks_refusal,
            candidate: *candidate,
            champion: Some(*champion),
            base: Some(*base),
        });
    cases.collect()
}
