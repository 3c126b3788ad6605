//! What another program computed with a real checkpoint, in `fixtures/golden`.

use models::{Adapter, Completion, GenerateOptions, Generator, Model};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A prompt, and the tokens that are the most probable after it.
#[derive(Deserialize)]
pub struct Greedy {
    pub prompt: Vec<u32>,
    pub new: Vec<u32>,
}

pub fn golden<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("../../fixtures/golden/{name}");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Whether whole prompts take minutes, which is said.
pub fn is_slow(model: &Model) -> bool {
    let slow = model.computes_packed();
    if slow {
        eprintln!("skipped: takes minutes with native kernels on a CPU; tiny models run there");
    }
    slow
}

/// The answers to all prompts in one batch.
pub fn answers(model: &Model, golden: &[Greedy], options: &GenerateOptions) -> Vec<Completion> {
    let adapter = Adapter::none(model);
    let prompts: Vec<&[u32]> = golden.iter().map(|golden| golden.prompt.as_slice()).collect();
    Generator::new(model, &adapter).unwrap().generate(&prompts, options).unwrap()
}
