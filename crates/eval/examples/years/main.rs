//! Simulates years of nights and prints how often the gate errs and how soon it promotes.
//!
//! ```text
//! cargo run --release -p nightshift-eval --example years -- years=200 times=3 correlation=0.1 standing=1 held_out=0.8
//! ```
//!
//! **The model.** Cases, categories, agents, tiers and clusters are the suite's. The fresh exam has every case `times` times (3,
//! and twice that if it asks for a refusal), phrased anew in the same cluster, and is drawn anew every night. A case has one,
//! two or three rules and a probability of meeting each, Beta(0.7, 0.7) over the cases: two runs of equally good models then
//! tie on 63 % of the cases, as one production exam reports, and their difference on 246 cases has a standard error of 0.029.
//! Some cases of a cluster share its probability and its luck (a fact is known or not, however it is asked), so that any two
//! correlate by `correlation` (0.1). A true change of `d` turns failed rules into met ones (or back) until the expected score
//! has moved by `d`; training seeds add a spread of 0.025 to it. The champion keeps its answers to the standing exam, also the
//! lucky ones, as a cache does. Models refuse 1 % of what deserves an answer. The base model is 0.2 worse than the first
//! champion. `standing` repeats the cases of the standing exam in the same way, to try a larger one. Once a champion has gained 0.25, exam, champion and floors are drawn anew, as no exam can measure without end.
//!
//! The decisions are the crate's own: [`eval::Gate::passes`] on paired cases, with the budget of the policy.

mod world;

use std::collections::BTreeMap;
use std::env::args;

use eval::{Policy, Suite};
use rayon::prelude::*;
use world::{ACTORS, Actor, NIGHTS, SEED_SPREAD, SUITE, World, Year};

/// A mean over years and its Monte-Carlo standard error.
fn mean(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

fn shown((mean, error): (f64, f64)) -> String {
    format!("{mean:.3} ({error:.3})")
}

fn main() -> eval::Result<()> {
    let argument = |name: &str| {
        args().find_map(|text| text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let number = |name: &str, default: f64| {
        argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let suite = Suite::load(argument("suite").unwrap_or_else(|| SUITE.to_owned()))?;
    let years = number("years", 200.0) as u64;
    let correlation = number("correlation", 0.1);
    let (standing, times) = (number("standing", 1.0) as usize, number("times", 3.0) as usize);
    let held_out = number("held_out", Policy::default().held_out);
    let policy = Policy { held_out, ..Policy::of_council(suite.council()) };
    let world = World::new(&suite, policy, standing, times, correlation)?;
    println!(
        "{years} years of {NIGHTS} nights each; standing exam {} cases in {} clusters, fresh exam {} cases, correlation \
         within a cluster {correlation}. Means a year, Monte-Carlo standard errors in parentheses.\n",
        world.standing.slots.len(),
        world.standing.clusters,
        world.fresh.slots.len(),
    );
    println!(
        "| candidates | ties | fresh exams | promotions | of them not better | P(worse by 0.02 ever serves) |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, actor) in ACTORS {
        let simulated = |seed| world.year(actor, seed, false);
        let simulated: Vec<Year> =
            (0..years).into_par_iter().map(simulated).collect::<eval::Result<_>>()?;
        let column = |of: fn(&Year) -> f64| shown(mean(simulated.iter().map(of)));
        println!(
            "| {name} | {:.2} | {} | {} | {} | {} |",
            mean(simulated.iter().map(|year| year.ties)).0,
            column(|year| year.fresh_exams as f64),
            column(|year| year.promotions as f64),
            column(|year| year.not_better as f64),
            column(|year| f64::from(u8::from(year.worse_served))),
        );
    }
    let better = Actor::Shift { by: 0.08, spread: SEED_SPREAD };
    let found = (0..years * 5).into_par_iter().map(|seed| world.year(better, seed, true));
    let found: Vec<Year> = found.collect::<eval::Result<_>>()?;
    for nights in [1, 2, 3] {
        let within =
            found.iter().map(|year| f64::from(u8::from(year.first.is_some_and(|n| n <= nights))));
        println!("\n+0.08 is promoted within {nights} nights: {}", shown(mean(within)));
    }
    let nights = years * 5;
    let failures = (0..nights).into_par_iter().map(|seed| world.failures(0.08, seed));
    let failures: Vec<Vec<String>> = failures.collect::<eval::Result<_>>()?;
    let mut counts = BTreeMap::<&str, usize>::new();
    failures.iter().flatten().for_each(|rule| *counts.entry(rule).or_default() += 1);
    println!("\nRules that refuse +0.08, in % of nights (both exams taken):");
    for (rule, count) in counts {
        println!("  {rule:<28}{:>6.1}", 100.0 * count as f64 / nights as f64);
    }
    Ok(())
}
