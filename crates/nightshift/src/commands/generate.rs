//! Generates the answer to a prompt and prints it as it is generated.
//!
//! ```sh
//! nightshift generate --model MODEL --prompt "What is the capital of France?"
//! ```

use std::time::Instant;

use chat_format::{ChatTokenizer, Message, RenderOptions};
use clap::Parser;
use models::{FinishReason, GenerateOptions, Generator};
use serde_json::json;

use crate::{Exit, ModelArgs, show_warnings};

/// Answers a prompt with the model's own chat template.
#[derive(Parser)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The user's message.
    #[arg(long)]
    prompt: String,
    /// The system prompt.
    #[arg(long)]
    system: Option<String>,
    /// The most new tokens.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    /// Sampling temperature; 0 for greedy decoding.
    #[arg(long, default_value_t = 0.0)]
    temperature: f32,
    /// Nucleus sampling: the smallest set of tokens with this total probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Sample from this many of the most probable tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// The seed for sampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object to stdout at the end.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Whatever stops it.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    show_warnings();
    let tokenizer = ChatTokenizer::open(&args.model.model)?;
    let (model, adapter) = args.model.open()?;
    let messages: Vec<Message> =
        args.system.iter().map(Message::system).chain([Message::user(&args.prompt)]).collect();
    let prompt = tokenizer.prompt_tokens(&messages, &RenderOptions::default())?;
    let options = GenerateOptions {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        seed: args.seed,
        stop_ids: tokenizer.stop_ids().to_vec(),
        ..Default::default()
    };
    let (mut tokens, mut shown, mut printed) = (Vec::new(), 0, Ok(()));
    let start = Instant::now();
    let completions =
        Generator::new(&model, &adapter)?.stream(&[&prompt], &options, &mut |_, token| {
            tokens.push(token);
            // An incomplete character, which may take several tokens, decodes to U+FFFD.
            let text = tokenizer.decode(&tokens).unwrap_or_default();
            if !args.json && printed.is_ok() && !text.ends_with('\u{fffd}') {
                printed = out!("{}", text.get(shown..).unwrap_or_default());
                shown = text.len();
            }
        })?;
    printed?;
    let rate = tokens.len() as f64 / start.elapsed().as_secs_f64();
    let finish = match completions.first().map(|completion| completion.finish) {
        Some(FinishReason::Length) => "length",
        _ => "stop",
    };
    if args.json {
        let text = tokenizer.decode(&tokens)?;
        outln!(
            "{}",
            json!({ "text": text, "tokens": tokens, "finish": finish,
                    "prompt_tokens": prompt.len(), "tokens_per_second": rate })
        )?;
    } else {
        outln!("")?;
        errln!("{} + {} tokens, {rate:.1} tok/s, {finish}", prompt.len(), tokens.len());
    }
    Ok(Exit::Done)
}
