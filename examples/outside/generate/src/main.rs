//! Generates five tokens with the demo model and prints their ids.

use models::{Adapter, GenerateOptions, Generator, Model};

/// "The capital of France is" in the demo model's vocabulary.
const PROMPT: [u32; 5] = [504, 3575, 282, 4649, 314];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Model::open(fetch::demo_model(&mut |_| ())?)?;
    let options = GenerateOptions { max_tokens: 5, ..Default::default() };
    let adapter = Adapter::none(&model);
    let completions = Generator::new(&model, &adapter)?.generate(&[PROMPT], &options)?;
    println!("{:?}", completions[0].tokens);
    Ok(())
}
