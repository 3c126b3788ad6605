//! What does the gate let through? Simulated nights, with the gate as it is.
//!
//! ```text
//! cargo run --release -p nightshift-eval --example nights -- [NIGHTS] [SUITE]
//! ```
//!
//! **The model of a night.** The cases are the suite's, with their categories, agents and tiers. A
//! case has one, two or three rules and a chance `p` of meeting each; over the cases `p` is U-shaped
//! (arcsine), for most questions are either known or not. A run's score is the share of rules met,
//! drawn anew for every run, so that two runs of equally good models tie on 68 % of the cases (one
//! long-running nightly reports 63 % of its own exam). A true change of `d` turns failed rules into
//! met ones (or back) until the expected score has moved by `d`.

use std::env::args;

use eval::{
    Agent, Category, Evidence, ExamOptions, ExamRun, Finish, Gate, Host, Manifest, Policy, Record,
    SCORING_VERSION, Score, Subject, Suite, SuiteId, Tier,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/suites/household.json");

/// How the candidate truly differs from the champion on a case.
type Change = fn(&eval::Case) -> f64;

struct Case<'a> {
    of: &'a eval::Case,
    rules: u32,
    chance: f64,
}

const SCENARIOS: [(&str, &str, Change); 7] = [
    ("no true change", "<= 5 %", |_| 0.0),
    ("+0.08 everywhere", ">= 70 %", |_| 0.08),
    ("+0.08 held-out only", ">= 70 %", |c| if c.tier == Tier::HeldOut { 0.08 } else { 0.0 }),
    ("memoriser", "0", |c| if c.tier == Tier::HeldOut { -0.05 } else { 0.15 }),
    ("always refuses", "0", |c| match c.category {
        Category::Jailbreak | Category::Identity => 1.0,
        _ => -1.0,
    }),
    ("one agent -0.30", "<= 1 %", |c| if c.agent == Agent::Mundi { -0.3 } else { 0.0 }),
    ("same, others +0.08", "<= 1 %", |c| if c.agent == Agent::Mundi { -0.3 } else { 0.08 }),
];

fn main() -> eval::Result<()> {
    let nights = args().nth(1).and_then(|nights| nights.parse().ok()).unwrap_or(2_000);
    let suite = args().nth(2).unwrap_or_else(|| SUITE.to_owned());
    let whole = Suite::load(suite)?;
    let suites = [whole.tagged("core")?, whole];
    // Fewer resamples than on a real night move a probability by a hundredth at most.
    let one_seed = Policy { resamples: 1_000, ..Policy::default() };
    let two_seeds = Policy { seeds: 2, held_out: 0.85, ..one_seed.clone() };
    for (name, policy) in [("default policy", one_seed), ("two seeds, held_out 0.85", two_seeds)] {
        println!("\n{name}: nights promoted of {nights}, by number of cases (held out)\n");
        let head: String = suites.iter().map(|s| format!("{:>12}", size(s))).collect();
        println!("{:<22}{head}   wanted", "");
        for (scenario, wanted, change) in SCENARIOS {
            let mut line = String::new();
            for suite in &suites {
                let promoted = promoted(&policy, suite, nights, change)?;
                line += &format!("{:>11.1}%", 100.0 * promoted as f64 / nights as f64);
            }
            println!("{scenario:<22}{line}   {wanted}");
        }
    }
    Ok(())
}

fn size(suite: &Suite) -> String {
    let held_out = suite.cases.iter().filter(|case| case.tier == Tier::HeldOut).count();
    format!("{} ({held_out})", suite.cases.len())
}

fn promoted(policy: &Policy, suite: &Suite, nights: usize, change: Change) -> eval::Result<usize> {
    let gate = Gate::new(policy.clone())?;
    let verdicts = (0..nights).into_par_iter().map(|night| {
        let mut rng = ChaCha8Rng::seed_from_u64(night as u64);
        let cases: Vec<Case> = suite.cases.iter().map(|of| case(of, &mut rng)).collect();
        let champion = run("champion", &cases, |_| 0.0, &mut rng);
        let candidates: Vec<ExamRun> = (0..policy.seeds)
            .map(|seed| run(&format!("seed-{seed}"), &cases, change, &mut rng))
            .collect();
        let evidence = Evidence {
            candidates: candidates.iter().collect(),
            ..Evidence::new(&champion, &champion)
        };
        Ok(usize::from(gate.decide(&evidence)?.promotes()))
    });
    verdicts.sum()
}

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0
}

fn case<'a>(of: &'a eval::Case, rng: &mut ChaCha8Rng) -> Case<'a> {
    Case {
        of,
        rules: [1, 1, 2, 3][(uniform(rng) * 4.0) as usize % 4],
        chance: (uniform(rng) * std::f64::consts::FRAC_PI_2).sin().powi(2),
    }
}

/// The mean chance is one half, so a share of `2 d` of the failed (or met) rules moves the mean by `d`.
fn run(name: &str, cases: &[Case<'_>], change: Change, rng: &mut ChaCha8Rng) -> ExamRun {
    let records = cases.iter().map(|case| {
        let flip = 2.0 * change(case.of);
        let met = (0..case.rules)
            .filter(|_| {
                let met = uniform(rng) < case.chance;
                let turned = uniform(rng) < flip.abs();
                if turned { flip > 0.0 } else { met }
            })
            .count();
        record(case.of, met as f64 / f64::from(case.rules))
    });
    ExamRun { records: records.collect(), manifest: manifest(name, cases.len()) }
}

fn record(case: &eval::Case, value: f64) -> Record {
    Record {
        case: case.id.clone(),
        category: case.category,
        agent: case.agent,
        tier: case.tier,
        weight: case.weight,
        seed: 0,
        prompt: durable::digest(&case.id),
        question: String::new(),
        answer: String::new(),
        finish: Finish::Stop,
        prompt_tokens: 0,
        tokens: 0,
        latency_ms: 0,
        score: Score { value, rules: Vec::new(), failure: None },
        opinion: None,
    }
}

fn manifest(adapter: &str, cases: usize) -> Manifest {
    let (name, version) = ("simulated".to_owned(), "1".to_owned());
    Manifest {
        subject: Subject {
            model: "simulated".into(),
            model_digest: None,
            adapter: Some(adapter.into()),
            adapter_digest: None,
        },
        suite: SuiteId { name, version, digest: durable::digest("simulated"), cases },
        scoring_version: SCORING_VERSION,
        options: ExamOptions::default(),
        eval_version: String::new(),
        host: Host { os: String::new(), arch: String::new(), cpus: 1 },
    }
}
