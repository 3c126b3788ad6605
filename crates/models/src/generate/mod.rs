//! Generation: prompts to completions, many at a time.

mod continuous;
mod decode;
mod lanes;
mod prefix;
mod sample;

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};

use mlx_sys::SharedCpu;

use crate::{Adapter, Error, Model, Result};
pub use continuous::{ContinuousBatch, Prompt, PromptPrefix};
use decode::Decoder;
pub(crate) use sample::log_sum_exp;
pub use sample::{Sampler, TokenConstraint};

/// How to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// New tokens per prompt, at most.
    pub max_tokens: usize,
    /// 0 is greedy decoding; 1 samples from the model's distribution.
    pub temperature: f32,
    /// Sample only from the most probable tokens whose probabilities add up to this; 1 is off.
    pub top_p: f32,
    /// Sample only from this many most probable tokens; 0 is off.
    pub top_k: usize,
    /// Seed of the random numbers. Each prompt has its own stream.
    pub seed: u64,
    /// Token ids that end a completion, without being part of it.
    pub stop_ids: Vec<u32>,
    /// Memory for caches, in bytes; prompts that do not fit wait.
    pub cache_bytes: usize,
    /// Prompt tokens of a micro-batch: limits the memory of prefill.
    pub prompt_tokens_per_step: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            temperature: 0.0,
            top_p: 1.0,
            top_k: 0,
            seed: 0,
            stop_ids: Vec::new(),
            cache_bytes: 1 << 30,
            prompt_tokens_per_step: 512,
        }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model generated one of the stop ids.
    Stop,
    /// It reached [`GenerateOptions::max_tokens`].
    Length,
}

/// The completion of one prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The new tokens, without the stop id.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Completes prompts, many at a time.
///
/// ```no_run
/// use models::{Adapter, GenerateOptions, Generator, Model};
///
/// let model = Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let adapter = Adapter::none(&model);
/// let options = GenerateOptions { max_tokens: 48, stop_ids: vec![2], ..Default::default() };
/// let prompts = vec![vec![504, 3575, 282, 4649, 314], vec![1, 9690, 198]];
/// for completion in Generator::new(&model, &adapter)?.generate(&prompts, &options)? {
///     println!("{:?}: {:?}", completion.finish, completion.tokens);
/// }
/// # Ok::<(), models::Error>(())
/// ```
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a Model,
    adapter: &'a Adapter,
}

/// The number of threads that answer `rows` prompts of a model in parallel.
#[doc(hidden)]
pub fn generation_lanes(model: &Model, rows: usize) -> usize {
    lanes::count(model.backend(), rows)
}

/// A prompt and its index.
type Numbered<'a> = (usize, &'a [u32]);

impl<'a> Generator<'a> {
    /// For a model with an adapter.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the adapter does not have one entry per layer.
    pub fn new(model: &'a Model, adapter: &'a Adapter) -> Result<Self> {
        adapter.for_model(model)?;
        Ok(Self { model, adapter })
    }

    /// One completion for each prompt, in their order.
    ///
    /// # Errors
    /// A prompt without tokens, or with one beyond the vocabulary.
    pub fn generate<P: AsRef<[u32]>>(
        &self,
        prompts: &[P],
        options: &GenerateOptions,
    ) -> Result<Vec<Completion>> {
        self.stream(prompts, options, &mut |_, _| {})
    }

    /// Like [`generate`](Self::generate), calling `on_token` with the prompt's index and the token as
    /// each one is generated.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn stream<P: AsRef<[u32]>>(
        &self,
        prompts: &[P],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<Vec<Completion>> {
        let mut prompts: Vec<Numbered> = prompts.iter().map(AsRef::as_ref).enumerate().collect();
        if let Some((number, _)) = prompts.iter().find(|(_, prompt)| prompt.is_empty()) {
            return Err(Error::Argument {
                name: "prompts",
                expected: "at least one token in each".into(),
                found: format!("none in prompt {number}"),
            });
        }
        // Prompts of similar length share a batch, so that little of its cache is unused.
        prompts.sort_by_key(|(_, prompt)| std::cmp::Reverse(prompt.len()));
        let lanes = lanes::count(self.model.backend(), prompts.len());
        let batches = self.batches(&prompts, options, lanes);
        let mut completions = match lanes {
            1 => self.sequential(batches, options, on_token)?,
            _ => self.parallel(lanes, batches, options, on_token)?,
        };
        completions.sort_by_key(|(number, _)| *number);
        Ok(completions.into_iter().map(|(_, completion)| completion).collect())
    }

    /// Batches of equal size: at least one per lane, and as many as the memory of the caches requires.
    fn batches<'p>(
        &self,
        prompts: &[Numbered<'p>],
        options: &GenerateOptions,
        lanes: usize,
    ) -> VecDeque<Vec<Numbered<'p>>> {
        let longest = prompts.first().map_or(0, |(_, prompt)| prompt.len());
        let tokens = longest + options.max_tokens;
        let row = self.model.cache_bytes(tokens);
        let rows = (options.cache_bytes / lanes / row.max(1)).max(1);
        let count = prompts.len().div_ceil(rows).next_multiple_of(lanes).max(1);
        let size = prompts.len().div_ceil(count).max(1);
        prompts.chunks(size).map(<[_]>::to_vec).collect()
    }

    fn sequential<'p>(
        &self,
        batches: impl IntoIterator<Item = Vec<Numbered<'p>>>,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<Vec<(usize, Completion)>> {
        let mut completions = Vec::new();
        for batch in batches {
            let decoder = Decoder::start(self.model, self.adapter, &batch, options, on_token)?;
            completions.extend(decoder.run(on_token)?);
        }
        Ok(completions)
    }

    /// Each lane takes the next batch when it has finished one. `on_token` is called on this thread.
    fn parallel(
        &self,
        lanes: usize,
        batches: VecDeque<Vec<Numbered>>,
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<Vec<(usize, Completion)>> {
        let _cpu = SharedCpu::among(lanes);
        let queue = &Mutex::new(batches);
        let (tokens, arriving) = mpsc::channel();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..lanes)
                .map(|_| {
                    let (model, adapter) = (self.model.clone(), self.adapter.clone());
                    let tokens = tokens.clone();
                    scope.spawn(move || {
                        let lane = Generator { model: &model, adapter: &adapter };
                        let mut send = |number, token| {
                            // The receiver outlives all lanes.
                            let _ = tokens.send((number, token));
                        };
                        let mut completions = Vec::new();
                        while let Some(batch) = queue.lock().ok().and_then(|mut q| q.pop_front()) {
                            completions.extend(lane.sequential([batch], options, &mut send)?);
                        }
                        Ok::<_, Error>(completions)
                    })
                })
                .collect();
            drop(tokens);
            arriving.iter().for_each(|(number, token)| on_token(number, token));
            let mut completions = Vec::new();
            for worker in workers {
                match worker.join() {
                    Ok(result) => completions.extend(result?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(completions)
        })
    }
}
