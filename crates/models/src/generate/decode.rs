use std::ops::Range;

use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, transforms};

use super::prefix::{Part, SharedPrefixes};
use super::sample::Sampler;
use super::{Completion, FinishReason, GenerateOptions};
use crate::nn::{AttentionMode, Cache, Columns, LayerAdapter, MASKED, Prefix, Rows};
use crate::{Adapter, Model, Result};

/// Decodes a batch of prompts, one token of every row at a time.
pub(super) struct Decoder<'a> {
    model: &'a Model,
    adapter: &'a [LayerAdapter],
    /// Updates of embedding and output matrix.
    embeddings: &'a LayerAdapter,
    options: &'a GenerateOptions,
    /// By `Layer::cache`; row `i` belongs to `rows[i]`.
    caches: Vec<Cache>,
    rows: Vec<Row>,
    done: Vec<(usize, Completion)>,
    /// All prompts end before this column.
    width: usize,
    /// The column that the next token of every row goes to.
    column: usize,
    /// Masks the columns before each prompt: `[rows, 1, 1, columns]`. `None` if all have one length.
    mask: Option<Array>,
}

struct Row {
    number: usize,
    prompt_length: usize,
    tokens: Vec<u32>,
    finish: Option<FinishReason>,
    sampler: Sampler,
}

impl<'a> Decoder<'a> {
    /// Processes the prompts and samples the first token after each.
    pub fn start(
        model: &'a Model,
        adapter: &'a Adapter,
        prompts: &[(usize, &[u32])],
        options: &'a GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<Self> {
        let width = prompts.iter().map(|(_, prompt)| prompt.len()).max().unwrap_or_default();
        let columns = width + options.max_tokens;
        let row = |&(number, prompt): &(usize, &[u32])| Row {
            number,
            prompt_length: prompt.len(),
            tokens: Vec::new(),
            finish: (options.max_tokens == 0).then_some(FinishReason::Length),
            sampler: Sampler::new(options, number),
        };
        let mut decoder = Self {
            model,
            adapter: adapter.for_model(model)?,
            embeddings: adapter.embeddings(),
            options,
            caches: model.new_caches(prompts.len(), Columns { width, total: columns })?,
            rows: prompts.iter().map(row).collect(),
            done: Vec::new(),
            width,
            column: width,
            mask: None,
        };
        decoder.mask = decoder.mask(columns)?;
        let tokens: Vec<&[u32]> = prompts.iter().map(|(_, prompt)| *prompt).collect();
        let SharedPrefixes { prefixes, parts } = SharedPrefixes::find(&tokens);
        let kept = decoder.process_prefixes(&prefixes)?;
        let lengths = parts.iter().map(|part| part.own.len());
        for range in micro_batches(lengths, options.prompt_tokens_per_step) {
            let parts = parts.get(range.clone()).unwrap_or_default();
            let logits = decoder.prefill(parts, range.start, &kept)?;
            decoder.sample(range, &logits, on_token)?;
        }
        Ok(decoder)
    }

    /// Decodes until every row is finished.
    pub fn run(mut self, on_token: &mut dyn FnMut(usize, u32)) -> Result<Vec<(usize, Completion)>> {
        loop {
            self.compact()?;
            if self.rows.is_empty() {
                return Ok(self.done);
            }
            let logits = self.step()?;
            self.sample(0..self.rows.len(), &logits, on_token)?;
        }
    }

    /// Processes shared prefixes, each once. Returns what layers cache of each, by `Layer::cache`.
    fn process_prefixes(&self, prefixes: &[&[u32]]) -> Result<Vec<Vec<Prefix>>> {
        let mut kept: Vec<Vec<Prefix>> = self.caches.iter().map(|_| Vec::new()).collect();
        let lengths = prefixes.iter().map(|tokens| tokens.len());
        for range in micro_batches(lengths, self.options.prompt_tokens_per_step) {
            let prefixes = prefixes.get(range).unwrap_or_default();
            let lengths: Vec<usize> = prefixes.iter().map(|tokens| tokens.len()).collect();
            let (tokens, rows) = (prefixes.concat(), Rows::new(lengths)?);
            let (mut flow, batch) = self.model.embed(&tokens, &rows, self.embeddings)?;
            for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
                let Some(kept) = kept.get_mut(layer.cache()) else { continue };
                let mode = AttentionMode::Prefixes { before: &[], kept: &mut *kept };
                flow = layer.forward_with(&flow, &batch, adapter, mode)?;
                let kept = kept.iter().flat_map(Prefix::arrays);
                transforms::eval(flow.carried.iter().chain([&flow.hidden]).chain(kept))?;
            }
        }
        Ok(kept)
    }

    /// Processes prompts after their prefixes, filling the caches from row `first` on. Returns the
    /// logits after each prompt.
    fn prefill(&mut self, parts: &[Part<'_>], first: usize, kept: &[Vec<Prefix>]) -> Result<Array> {
        let lengths: Vec<usize> = parts.iter().map(|part| part.own.len()).collect();
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.own).copied().collect();
        let positions = parts.iter().flat_map(|part| part.before..part.before + part.own.len());
        let rows = Rows::new(lengths)?;
        let positions: Vec<usize> = positions.collect();
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &positions, self.embeddings)?;
        for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
            let number = layer.cache();
            let (Some(cache), Some(kept)) = (self.caches.get_mut(number), kept.get(number)) else {
                continue;
            };
            let prefix = |part: &Part<'_>| part.prefix.and_then(|index| kept.get(index));
            let prefixes: Vec<Option<&Prefix>> = parts.iter().map(prefix).collect();
            let (width, prefixes) = (self.width, prefixes.as_slice());
            let mode = AttentionMode::Prompts { cache: &mut *cache, first, width, prefixes };
            flow = layer.forward_with(&flow, &batch, adapter, mode)?;
            // Layer by layer, so that only one layer's intermediates are in memory.
            let carried = flow.carried.iter().chain([&flow.hidden]);
            transforms::eval(carried.chain(cache.arrays()))?;
        }
        let ends = (0..parts.len()).filter_map(|row| rows.places(row).last());
        let ends: Vec<u32> = ends.map(|end| end as u32).collect();
        let ends = Array::from_slice(&ends, &[ends.len() as i32]);
        self.logits(&flow.hidden.take_axis(ends, 1)?)
    }

    /// Processes the last token of every row. Returns the logits after each.
    fn step(&mut self) -> Result<Array> {
        let last = |row: &Row| row.tokens.last().copied().unwrap_or_default();
        let tokens: Vec<u32> = self.rows.iter().map(last).collect();
        let new = self.column - self.width;
        let positions: Vec<usize> = self.rows.iter().map(|row| row.prompt_length + new).collect();
        let rows = Rows::new(vec![1; tokens.len()])?;
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &positions, self.embeddings)?;
        let seen = self.column as i32 + 1;
        let mask = match &self.mask {
            Some(mask) => Some(mask.try_index((.., .., .., ..seen))?),
            None => None,
        };
        for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
            let Some(cache) = self.caches.get_mut(layer.cache()) else { continue };
            let columns = 0..self.column + 1;
            let mode = AttentionMode::Step { cache, columns, mask: mask.as_ref() };
            flow = layer.forward_with(&flow, &batch, adapter, mode)?;
            // Weights that are read or dequantized for each use are released before the next layer's.
            if layer.transient_weight_bytes(layer.residency()) > 0 {
                transforms::eval(flow.carried.iter().chain([&flow.hidden]))?;
            }
        }
        self.column += 1;
        self.logits(&flow.hidden)
    }

    /// `[1, n, H]` to `[n, vocabulary]`.
    fn logits(&self, hidden: &Array) -> Result<Array> {
        Ok(self.model.head().logits(hidden, self.embeddings)?.squeeze_axes(&[0])?)
    }

    /// Samples the next token of each of these rows.
    fn sample(
        &mut self,
        range: Range<usize>,
        logits: &Array,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<()> {
        let vocabulary = self.model.config().vocab_size;
        let logits = logits.try_as_slice::<f32>()?;
        let rows = self.rows.get_mut(range).unwrap_or_default();
        for (row, logits) in rows.iter_mut().zip(logits.chunks_exact(vocabulary)) {
            if row.finish.is_some() {
                continue;
            }
            let token = row.sampler.pick(logits);
            if self.options.stop_ids.contains(&token) {
                row.finish = Some(FinishReason::Stop);
                continue;
            }
            row.tokens.push(token);
            on_token(row.number, token);
            if row.tokens.len() >= self.options.max_tokens {
                row.finish = Some(FinishReason::Length);
            }
        }
        Ok(())
    }

    /// Drops finished rows once they are a quarter of all: dropping copies the caches, and a finished
    /// row that stays costs its share of a step.
    fn compact(&mut self) -> Result<()> {
        let active = self.rows.iter().filter(|row| row.finish.is_none()).count();
        if active * 4 > self.rows.len() * 3 {
            return Ok(());
        }
        let mut kept = Vec::with_capacity(active);
        for (index, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            match row.finish {
                Some(finish) => {
                    self.done.push((row.number, Completion { tokens: row.tokens, finish }));
                }
                None => {
                    kept.push(index as u32);
                    self.rows.push(row);
                }
            }
        }
        if kept.is_empty() {
            return Ok(());
        }
        let kept = Array::from_slice(&kept, &[active as i32]);
        for cache in &mut self.caches {
            cache.keep(&kept)?;
            transforms::eval(cache.arrays())?;
        }
        if let Some(mask) = &mut self.mask {
            *mask = mask.take_axis(&kept, 0)?;
        }
        Ok(())
    }

    fn mask(&self, columns: usize) -> Result<Option<Array>> {
        let unused = |row: &Row| self.width - row.prompt_length;
        if self.rows.iter().all(|row| unused(row) == 0) {
            return Ok(None);
        }
        let values = self.rows.iter().flat_map(|row| {
            (0..columns).map(move |column| if column < unused(row) { MASKED } else { 0.0 })
        });
        let mask = Array::from_iter(values, &[self.rows.len() as i32, 1, 1, columns as i32]);
        // MLX's attention takes a mask of the type of the queries.
        Ok(Some(mask.as_dtype(self.model.backend().dtype())?))
    }
}

/// Ranges of consecutive prompts of at most `most` tokens together; a longer one is alone.
fn micro_batches(lengths: impl Iterator<Item = usize>, most: usize) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    for (index, length) in lengths.enumerate() {
        match ranges.last_mut() {
            Some(range) if tokens + length <= most => range.end = index + 1,
            _ => {
                tokens = 0;
                ranges.push(index..index + 1);
            }
        }
        tokens += length;
    }
    ranges
}
