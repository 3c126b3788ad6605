//! Continuous batching: sequences join and leave a batch between steps.

use std::fmt;

use mlx_rs::{Array, transforms};

use super::sample::Sampler;
use crate::nn::{AttentionMode, Cache, MASKED, Prefix, Rows};
use crate::{Adapter, Error, Model, Result};

/// The column at which the first sequence of an empty batch ends. Longer sequences that join later need
/// columns before those of the others.
const ORIGIN: usize = 1 << 32;

/// A prompt that is processed in chunks, so that a long one does not hold up the steps of a batch.
///
/// See [`ContinuousBatch`].
#[derive(Debug)]
pub struct Prompt {
    tokens: Vec<u32>,
    processed: PromptPrefix,
    /// The logits after the last token, once all are processed.
    logits: Option<Vec<f32>>,
}

/// What layers cache of the first tokens of a prompt: prompts that begin with the same tokens need not
/// process them again. Valid for one model with one adapter.
#[derive(Clone, Default)]
pub struct PromptPrefix {
    tokens: usize,
    /// By `Layer::cache`; empty without tokens.
    kept: Vec<Prefix>,
}

/// A batch of sequences that generate one token each at a time, and that join and leave between steps.
///
/// All sequences share one adapter. What a sequence generates does not depend on the others, beside the
/// rounding of sums in another order.
///
/// ```no_run
/// use models::{Adapter, ContinuousBatch, GenerateOptions, Model, Prompt, Sampler};
///
/// let model = Model::open("SmolLM2-135M-Instruct.Q4_1.gguf")?;
/// let mut batch = ContinuousBatch::new(&model, &Adapter::none(&model))?;
/// let mut prompt = Prompt::new(vec![504, 3575, 282, 4649, 314]);
/// while !prompt.is_processed() {
///     batch.process(&mut [&mut prompt], 128)?;
/// }
/// let first = batch.join(&prompt, Sampler::new(&GenerateOptions::default(), 0))?;
/// let second = batch.step()?[0];
/// println!("{first} {second}");
/// # Ok::<(), models::Error>(())
/// ```
#[derive(Debug)]
pub struct ContinuousBatch {
    model: Model,
    adapter: Adapter,
    /// By `Layer::cache`; row `i` belongs to `sequences[i]`.
    caches: Vec<Cache>,
    sequences: Vec<Sequence>,
    /// The column that the next token of every sequence goes to.
    column: usize,
}

#[derive(Debug)]
struct Sequence {
    /// How many tokens are in the caches: those in the columns before [`ContinuousBatch::column`].
    cached: usize,
    /// The last token, which is not in the caches yet.
    last: u32,
    sampler: Sampler,
}

impl Prompt {
    /// A prompt of which nothing is processed.
    pub fn new(tokens: Vec<u32>) -> Self {
        Self::after(PromptPrefix::default(), tokens)
    }

    /// A prompt whose first tokens are those of `prefix`. At least one token is processed again, because
    /// the next is sampled after it.
    pub fn after(prefix: PromptPrefix, tokens: Vec<u32>) -> Self {
        let processed = if prefix.tokens < tokens.len() { prefix } else { PromptPrefix::default() };
        Self { tokens, processed, logits: None }
    }

    /// All tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many are processed.
    pub fn processed(&self) -> usize {
        self.processed.tokens
    }

    /// Whether all are.
    pub fn is_processed(&self) -> bool {
        self.logits.is_some()
    }

    /// A copy of what layers cache of the processed tokens.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn prefix(&self) -> Result<PromptPrefix> {
        let kept = self.processed.kept.iter().map(Prefix::detached).collect::<Result<_>>()?;
        Ok(PromptPrefix { tokens: self.processed.tokens, kept })
    }

    fn rest(&self) -> &[u32] {
        self.tokens.get(self.processed.tokens..).unwrap_or_default()
    }
}

impl PromptPrefix {
    /// How many tokens it is of.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        self.kept.iter().flat_map(Prefix::arrays).map(Array::nbytes).sum()
    }
}

impl fmt::Debug for PromptPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptPrefix").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl ContinuousBatch {
    /// An empty batch for a model with an adapter.
    ///
    /// # Errors
    /// [`Error::Adapter`] if the adapter does not have one entry per layer.
    pub fn new(model: &Model, adapter: &Adapter) -> Result<Self> {
        adapter.for_model(model)?;
        let mut batch = Self {
            model: model.clone(),
            adapter: adapter.clone(),
            caches: Vec::new(),
            sequences: Vec::new(),
            column: ORIGIN,
        };
        batch.clear()?;
        Ok(batch)
    }

    /// How many sequences there are.
    pub fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// How many tokens the longest sequence has in the caches.
    fn longest(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.cached).max().unwrap_or_default()
    }

    /// Bytes of the caches.
    pub fn cache_bytes(&self) -> usize {
        self.caches.iter().flat_map(Cache::arrays).map(Array::nbytes).sum()
    }

    /// Processes the next tokens of prompts, at most so many in all, those of the first prompt first.
    /// The prompts must be new or processed by batches with the same adapter.
    ///
    /// # Errors
    /// [`Error::Token`] for a token that is not in the vocabulary.
    pub fn process(&self, prompts: &mut [&mut Prompt], mut most: usize) -> Result<()> {
        let mut parts = Vec::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let count = prompt.rest().len().min(most);
            most -= count;
            if count > 0 {
                parts.push((index, count));
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let (kept, logits) = {
            let parts =
                parts.iter().filter_map(|&(index, count)| Some((prompts.get(index)?, count)));
            self.forward(&parts.map(|(prompt, count)| (&**prompt, count)).collect::<Vec<_>>())?
        };
        let mut kept: Vec<_> = kept.into_iter().map(Vec::into_iter).collect();
        for ((index, count), logits) in parts.into_iter().zip(logits) {
            let Some(prompt) = prompts.get_mut(index) else { continue };
            let kept = kept.iter_mut().filter_map(Iterator::next).collect();
            prompt.processed = PromptPrefix { tokens: prompt.processed.tokens + count, kept };
            prompt.logits = logits;
        }
        Ok(())
    }

    /// Processes so many further tokens of each prompt. Returns by cache what it has of each prompt
    /// then, and the logits after each prompt that is complete.
    #[expect(clippy::type_complexity, reason = "used once")]
    fn forward(
        &self,
        parts: &[(&Prompt, usize)],
    ) -> Result<(Vec<Vec<Prefix>>, Vec<Option<Vec<f32>>>)> {
        let chunk = |&(prompt, count): &(&Prompt, usize)| prompt.rest()[..count].to_vec();
        let tokens: Vec<u32> = parts.iter().flat_map(chunk).collect();
        let place = |(prompt, count): &(&Prompt, usize)| {
            prompt.processed.tokens..prompt.processed.tokens + count
        };
        let positions: Vec<usize> = parts.iter().flat_map(place).collect();
        let rows = Rows::new(parts.iter().map(|(_, count)| *count).collect::<Vec<_>>())?;
        let embeddings = self.adapter.embeddings();
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &positions, embeddings)?;
        let mut kept: Vec<Vec<Prefix>> = self.caches.iter().map(|_| Vec::new()).collect();
        let adapters = self.adapter.for_model(&self.model)?;
        for (layer, adapter) in self.model.layers().iter().zip(adapters) {
            let number = layer.cache();
            let Some(kept) = kept.get_mut(number) else { continue };
            let before: Vec<Option<&Prefix>> =
                parts.iter().map(|(prompt, _)| prompt.processed.kept.get(number)).collect();
            let mode = AttentionMode::Prefixes { before: &before, kept: &mut *kept };
            flow = layer.forward_with(&flow, &batch, adapter, mode)?;
            let kept = kept.iter().flat_map(Prefix::arrays);
            transforms::eval(flow.carried.iter().chain([&flow.hidden]).chain(kept))?;
        }
        let complete = |&(prompt, count): &(&Prompt, usize)| prompt.rest().len() == count;
        let ends = (0..parts.len()).filter(|&row| complete(&parts[row]));
        let ends: Vec<u32> =
            ends.filter_map(|row| rows.places(row).last()).map(|end| end as u32).collect();
        if ends.is_empty() {
            return Ok((kept, parts.iter().map(|_| None).collect()));
        }
        let ends = Array::from_slice(&ends, &[ends.len() as i32]);
        let mut logits = self.logits(&flow.hidden.take_axis(ends, 1)?)?.into_iter();
        let of = |part| if complete(part) { logits.next() } else { None };
        Ok((kept, parts.iter().map(of).collect()))
    }

    /// Adds a sequence after this prompt. Returns its first token. The sequence is the last of the
    /// batch; a prompt can be joined several times, with different samplers.
    ///
    /// # Errors
    /// [`Error::Argument`] if the prompt is not processed.
    pub fn join(&mut self, prompt: &Prompt, mut sampler: Sampler) -> Result<u32> {
        let Some(logits) = &prompt.logits else {
            return Err(Error::Argument {
                name: "prompt",
                expected: "all tokens processed".into(),
                found: format!("{} of {}", prompt.processed(), prompt.tokens.len()),
            });
        };
        let cached = prompt.tokens.len();
        let rows = self.sequences.len();
        let start = self.column - cached.max(self.longest());
        for ((cache, row), shape) in
            self.caches.iter_mut().zip(&prompt.processed.kept).zip(self.model.cache_shapes())
        {
            cache.reserve(shape, rows + 1, start..self.column + 1)?;
            cache.push(rows, row, self.column)?;
            transforms::eval(cache.arrays())?;
        }
        let last = sampler.pick(logits);
        self.sequences.push(Sequence { cached, last, sampler });
        Ok(last)
    }

    /// Removes a sequence; the last one takes its place, as in [`Vec::swap_remove`]. Does nothing if
    /// there is no such sequence.
    ///
    /// # Errors
    /// If memory runs out.
    pub fn leave(&mut self, index: usize) -> Result<()> {
        let rows = self.sequences.len();
        if index >= rows {
            return Ok(());
        }
        self.sequences.swap_remove(index);
        if self.sequences.is_empty() {
            return self.clear();
        }
        for cache in &mut self.caches {
            cache.swap_remove(index, rows)?;
            transforms::eval(cache.arrays())?;
        }
        Ok(())
    }

    /// Generates the next token of every sequence, in their order.
    ///
    /// # Errors
    /// If memory runs out. The batch cannot be used any more then.
    pub fn step(&mut self) -> Result<Vec<u32>> {
        if self.sequences.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<u32> = self.sequences.iter().map(|sequence| sequence.last).collect();
        let positions: Vec<usize> = self.sequences.iter().map(|sequence| sequence.cached).collect();
        let columns = self.column - self.longest()..self.column + 1;
        for (cache, shape) in self.caches.iter_mut().zip(self.model.cache_shapes()) {
            cache.reserve(shape, tokens.len(), columns.clone())?;
        }
        let mask = self.mask(columns.len())?;
        let rows = Rows::new(vec![1; tokens.len()])?;
        let embeddings = self.adapter.embeddings();
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &positions, embeddings)?;
        let adapters = self.adapter.for_model(&self.model)?;
        for (layer, adapter) in self.model.layers().iter().zip(adapters) {
            let Some(cache) = self.caches.get_mut(layer.cache()) else { continue };
            let columns = columns.clone();
            let mode = AttentionMode::Step { cache, columns, mask: mask.as_ref() };
            flow = layer.forward_with(&flow, &batch, adapter, mode)?;
        }
        let logits = self.logits(&flow.hidden)?;
        self.column += 1;
        let sample = |(sequence, logits): (&mut Sequence, Vec<f32>)| {
            sequence.cached += 1;
            sequence.last = sequence.sampler.pick(&logits);
            sequence.last
        };
        Ok(self.sequences.iter_mut().zip(logits).map(sample).collect())
    }

    /// Frees the caches.
    fn clear(&mut self) -> Result<()> {
        let dtype = self.model.backend().dtype();
        let empty = |shape| Cache::without_rows(shape, dtype);
        self.caches = self.model.cache_shapes().into_iter().map(empty).collect::<Result<_>>()?;
        self.column = ORIGIN;
        Ok(())
    }

    /// Hides the columns before each sequence: `[sequences, 1, 1, columns]`. `None` if all have one
    /// length.
    fn mask(&self, columns: usize) -> Result<Option<Array>> {
        let unused = |sequence: &Sequence| columns - 1 - sequence.cached;
        if self.sequences.iter().all(|sequence| unused(sequence) == 0) {
            return Ok(None);
        }
        let values = self.sequences.iter().flat_map(|sequence| {
            let unused = unused(sequence);
            (0..columns).map(move |column| if column < unused { MASKED } else { 0.0 })
        });
        let shape = [self.sequences.len() as i32, 1, 1, columns as i32];
        Ok(Some(Array::from_iter(values, &shape).as_dtype(self.model.backend().dtype())?))
    }

    /// The logits of hidden states `[1, n, H]`.
    fn logits(&self, hidden: &Array) -> Result<Vec<Vec<f32>>> {
        let logits = self.model.head().logits(hidden, self.adapter.embeddings())?;
        let vocabulary = self.model.config().vocab_size;
        let rows = logits.try_as_slice::<f32>()?.chunks_exact(vocabulary);
        Ok(rows.map(<[f32]>::to_vec).collect())
    }
}
