//! Prints a fresh exam to read: each question with the answer that passes.
//!
//! ```sh
//! cargo run -p nightshift-enrich --example fresh -- fixtures/household.yaml fixtures/suites/household.json 70 99
//! ```

use std::error::Error;

use enrich::Household;
use enrich::household::{FreshWordings, Phrasings};
use eval::Suite;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [house, like, cases, seed] = arguments.as_slice() else {
        return Err("expected HOUSEHOLD SUITE CASES SEED".into());
    };
    let (wordings, phrasings) = (FreshWordings::embedded()?, Phrasings::embedded()?);
    let (like, cases, seed) = (Suite::load(like)?, cases.parse()?, seed.parse()?);
    let exam = Household::load(house)?.fresh_exam(&wordings, &phrasings, &like, cases, seed)?;
    for case in &exam.cases {
        println!("{}", case.id);
        case.turns.iter().for_each(|turn| println!("  Q {}", turn.content));
        println!("  A {}\n  {:?}\n", case.pass, case.rules);
    }
    Ok(())
}
