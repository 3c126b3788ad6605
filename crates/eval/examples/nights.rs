//! What does the gate let through? Simulated nights, with the gate as it is.
//!
//! ```text
//! cargo run --release -p eval --example nights -- [NIGHTS] [CASES...]
//! ```
//!
//! **The model of a night.** A case has one, two or three rules and a chance `p` of meeting each; over
//! the cases `p` is U-shaped (arcsine), for most questions are either known or not. A run's score is
//! the share of rules met, drawn anew for every run, so that two runs of equally good models tie on
//! 68 % of the cases (one long-running nightly reports 63 % of its own exam). A true change of `d`
//! turns failed rules into met ones (or back) until the expected score has moved by `d`.

use std::env::args;

use eval::{
    Agent, Category, Evidence, ExamOptions, ExamRun, Finish, Gate, Host, Manifest, Policy, Record,
    SCORING_VERSION, Score, Subject, SuiteId, Tier,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

/// How the candidate truly differs from the champion on a case.
type Change = fn(&Case) -> f64;

struct Case {
    index: usize,
    category: Category,
    agent: Agent,
    tier: Tier,
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
    let numbers: Vec<usize> = args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let nights = numbers.first().copied().unwrap_or(2_000);
    let sizes = numbers.get(1..).filter(|s| !s.is_empty()).unwrap_or(&[109, 160, 200, 240]);
    // Fewer resamples than on a real night move a probability by a hundredth at most.
    let one_seed = Policy { resamples: 1_000, ..Policy::default() };
    let two_seeds = Policy { seeds: 2, held_out: 0.85, ..one_seed.clone() };
    for (name, policy) in [("default policy", one_seed), ("two seeds, held_out 0.85", two_seeds)] {
        println!("\n{name}: nights promoted of {nights}, by number of cases (2 of 3 held out)\n");
        let head: String = sizes.iter().map(|s| format!("{s:>8}")).collect();
        println!("{:<22}{head}   wanted", "");
        for (scenario, wanted, change) in SCENARIOS {
            let mut line = String::new();
            for &size in sizes {
                let promoted = promoted(&policy, size, nights, change)?;
                line += &format!("{:>7.1}%", 100.0 * promoted as f64 / nights as f64);
            }
            println!("{scenario:<22}{line}   {wanted}");
        }
    }
    Ok(())
}

fn promoted(policy: &Policy, size: usize, nights: usize, change: Change) -> eval::Result<usize> {
    let gate = Gate::new(policy.clone())?;
    let verdicts = (0..nights).into_par_iter().map(|night| {
        let mut rng = ChaCha8Rng::seed_from_u64(night as u64);
        let cases: Vec<Case> = (0..size).map(|index| case(index, &mut rng)).collect();
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

fn case(index: usize, rng: &mut ChaCha8Rng) -> Case {
    Case {
        index,
        category: Category::ALL[index % 7],
        agent: Agent::ALL[index / 7 % 8],
        tier: [Tier::HeldOut, Tier::HeldOut, Tier::Gold][index % 3],
        rules: [1, 1, 2, 3][(uniform(rng) * 4.0) as usize % 4],
        chance: (uniform(rng) * std::f64::consts::FRAC_PI_2).sin().powi(2),
    }
}

/// The mean chance is one half, so a share of `2 d` of the failed (or met) rules moves the mean by `d`.
fn run(name: &str, cases: &[Case], change: Change, rng: &mut ChaCha8Rng) -> ExamRun {
    let records = cases.iter().map(|case| {
        let flip = 2.0 * change(case);
        let met = (0..case.rules)
            .filter(|_| {
                let met = uniform(rng) < case.chance;
                let turned = uniform(rng) < flip.abs();
                if turned { flip > 0.0 } else { met }
            })
            .count();
        record(case, met as f64 / f64::from(case.rules))
    });
    ExamRun { records: records.collect(), manifest: manifest(name, cases.len()) }
}

fn record(case: &Case, value: f64) -> Record {
    Record {
        case: format!("case-{}", case.index),
        category: case.category,
        agent: case.agent,
        tier: case.tier,
        weight: 1.0,
        seed: 0,
        prompt: durable::digest(case.index.to_le_bytes()),
        question: String::new(),
        answer: String::new(),
        finish: Finish::Stop,
        prompt_tokens: 0,
        tokens: 0,
        latency_ms: 0,
        score: Score { value, rules: Vec::new(), failure: None },
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
