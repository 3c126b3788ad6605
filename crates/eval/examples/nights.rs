//! Simulates nights to measure which candidates the gate promotes.
//!
//! ```text
//! cargo run --release -p nightshift-eval --example nights -- [NIGHTS] [SUITE]
//! ```
//!
//! **The model of a night.** The cases are the suite's, with their categories, agents and tiers. A case has one, two or
//! three rules and a probability `p` of meeting each; over the cases `p` has an arcsine (U-shaped) distribution, because
//! most questions are either known or not. A run's score is the share of rules met, sampled independently for every run,
//! so that two runs of equally good models tie on 68 % of the cases (one production exam reports 63 %). A true change of
//! `d` turns failed rules into met ones (or back) until the expected score has moved by `d`.

use std::env::args;
use std::time::Duration;

use eval::{
    Answer, Evidence, ExamOptions, ExamRun, Finish, Gate, Manifest, Policy, Record, Score, Subject,
    Suite, Tier,
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
    ("always refuses", "0", |c| match c.category.as_str() {
        "jailbreak" | "identity" => 1.0,
        _ => -1.0,
    }),
    ("one agent -0.30", "<= 1 %", |c| if c.agent == "mundi" { -0.3 } else { 0.0 }),
    ("same, others +0.08", "<= 1 %", |c| if c.agent == "mundi" { -0.3 } else { 0.08 }),
];

fn main() -> eval::Result<()> {
    let nights = args().nth(1).and_then(|nights| nights.parse().ok()).unwrap_or(2_000);
    let suite = args().nth(2).unwrap_or_else(|| SUITE.to_owned());
    let whole = Suite::load(suite)?;
    let suites = [whole.tagged("core")?, whole];
    // Fewer resamples than on a real night change a probability by at most 0.01.
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
    let manifest = |adapter: &str| {
        let subject = Subject {
            model: "simulated".into(),
            model_digest: None,
            adapter: Some(adapter.into()),
            adapter_digest: None,
        };
        Manifest::new(subject, suite, ExamOptions::default())
    };
    let champion_manifest = manifest("champion");
    let manifests: Vec<_> =
        (0..policy.seeds).map(|seed| manifest(&format!("seed-{seed}"))).collect();
    let verdicts = (0..nights).into_par_iter().map(|night| {
        let mut rng = ChaCha8Rng::seed_from_u64(night as u64);
        let cases: Vec<Case> = suite.cases.iter().map(|of| case(of, &mut rng)).collect();
        let champion = run(&champion_manifest, &cases, |_| 0.0, &mut rng);
        let candidates: Vec<ExamRun> =
            manifests.iter().map(|manifest| run(manifest, &cases, change, &mut rng)).collect();
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
fn run(manifest: &Manifest, cases: &[Case<'_>], change: Change, rng: &mut ChaCha8Rng) -> ExamRun {
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
    ExamRun { records: records.collect(), manifest: manifest.clone() }
}

fn record(case: &eval::Case, value: f64) -> Record {
    let answer = Answer {
        text: String::new(),
        finish: Finish::Stop,
        prompt_tokens: 0,
        tokens: 0,
        latency: Duration::ZERO,
    };
    Record::new(case, 0, answer, Score::of_value(value))
}
