use std::ops::Range;

use mlx_rs::error::Exception;
use mlx_rs::ops::indexing::TryIndexOp;
use mlx_rs::{Array, transforms};

use crate::adapter::LayerAdapter;
use crate::nn::attention::{Attend, Beginning, HIDDEN};
use crate::nn::cache::{Cache, Columns};
use crate::generate::prefix::{Part, Split};
use crate::generate::sample::Sampler;
use crate::{Adapter, Completion, Error, FinishReason, GenerateOptions, Model, Result, Rows};

/// A batch of prompts on its way to completions, one token of every row at a time.
pub(crate) struct Decoder<'a> {
    model: &'a Model,
    adapter: &'a [LayerAdapter],
    ends: &'a LayerAdapter,
    options: &'a GenerateOptions,
    /// By `Layer::cache`; row `i` belongs to `rows[i]`.
    caches: Vec<Cache>,
    rows: Vec<Row>,
    done: Vec<(usize, Completion)>,
    /// All prompts end before this column.
    width: usize,
    /// The column that the next token of every row goes to.
    column: usize,
    /// Hides the columns before each prompt: `[rows, 1, 1, columns]`. None when there are none.
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
    /// Processes the prompts and chooses the first token after each.
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
            ends: adapter.ends(),
            options,
            caches: model.new_caches(prompts.len(), Columns { width, total: columns })?,
            rows: prompts.iter().map(row).collect(),
            done: Vec::new(),
            width,
            column: width,
            mask: None,
        };
        decoder.mask = decoder.mask(columns);
        let tokens: Vec<&[u32]> = prompts.iter().map(|(_, prompt)| *prompt).collect();
        let Split { beginnings, parts } = Split::of(&tokens);
        let kept = decoder.begin(&beginnings)?;
        let lengths = parts.iter().map(|part| part.own.len());
        for range in micro_batches(lengths, options.prompt_tokens_per_step) {
            let parts = parts.get(range.clone()).unwrap_or_default();
            let logits = decoder.prefill(parts, range.start, &kept)?;
            decoder.take(range, &logits, on_token)?;
        }
        Ok(decoder)
    }

    /// Goes on until every row is finished.
    pub fn run(mut self, on_token: &mut dyn FnMut(usize, u32)) -> Result<Vec<(usize, Completion)>> {
        loop {
            self.compact()?;
            if self.rows.is_empty() {
                return Ok(self.done);
            }
            let logits = self.step()?;
            self.take(0..self.rows.len(), &logits, on_token)?;
        }
    }

    /// Sends what several prompts begin with through the model, once. Returns what layers remember of
    /// each beginning, by `Layer::cache`.
    fn begin(&self, beginnings: &[&[u32]]) -> Result<Vec<Vec<Beginning>>> {
        let mut kept: Vec<Vec<Beginning>> = self.caches.iter().map(|_| Vec::new()).collect();
        let lengths = beginnings.iter().map(|tokens| tokens.len());
        for range in micro_batches(lengths, self.options.prompt_tokens_per_step) {
            let beginnings = beginnings.get(range).unwrap_or_default();
            let lengths: Vec<usize> = beginnings.iter().map(|tokens| tokens.len()).collect();
            let (tokens, rows) = (beginnings.concat(), Rows::new(lengths)?);
            let (mut flow, batch) = self.model.embed(&tokens, &rows, self.ends)?;
            for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
                let Some(kept) = kept.get_mut(layer.cache()) else { continue };
                let attend = Attend::Beginnings { kept: &mut *kept };
                flow = layer.forward_with(&flow, &batch, adapter, attend)?;
                let kept = kept.iter().flat_map(Beginning::arrays);
                transforms::eval(flow.carried.iter().chain([&flow.hidden]).chain(kept))?;
            }
        }
        Ok(kept)
    }

    /// Sends what is left of prompts, laid end to end, through the model into the caches, from row
    /// `first` on. Returns the logits after each.
    fn prefill(
        &mut self,
        parts: &[Part<'_>],
        first: usize,
        kept: &[Vec<Beginning>],
    ) -> Result<Array> {
        let lengths: Vec<usize> = parts.iter().map(|part| part.own.len()).collect();
        let tokens: Vec<u32> = parts.iter().flat_map(|part| part.own).copied().collect();
        let places = parts.iter().flat_map(|part| part.before..part.before + part.own.len());
        let rows = Rows::new(lengths)?;
        let places: Vec<usize> = places.collect();
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &places, self.ends)?;
        for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
            let number = layer.cache();
            let (Some(cache), Some(kept)) = (self.caches.get_mut(number), kept.get(number)) else {
                continue;
            };
            let beginning = |part: &Part<'_>| part.beginning.and_then(|index| kept.get(index));
            let beginnings: Vec<Option<&Beginning>> = parts.iter().map(beginning).collect();
            let (width, beginnings) = (self.width, beginnings.as_slice());
            let attend = Attend::Prompts { cache: &mut *cache, first, width, beginnings };
            flow = layer.forward_with(&flow, &batch, adapter, attend)?;
            // Layer by layer, so that the memory of one layer's intermediates is that of the next.
            let carried = flow.carried.iter().chain([&flow.hidden]);
            transforms::eval(carried.chain(cache.arrays()))?;
        }
        let ends = (0..parts.len()).filter_map(|row| rows.places(row).last());
        let ends: Vec<u32> = ends.map(|end| end as u32).collect();
        let ends = Array::from_slice(&ends, &[ends.len() as i32]);
        self.logits(&flow.hidden.take_axis(ends, 1)?)
    }

    /// Sends the last token of every row through the model. Returns the logits after each.
    fn step(&mut self) -> Result<Array> {
        let last = |row: &Row| row.tokens.last().copied().unwrap_or_default();
        let tokens: Vec<u32> = self.rows.iter().map(last).collect();
        let new = self.column - self.width;
        let positions: Vec<usize> = self.rows.iter().map(|row| row.prompt_length + new).collect();
        let rows = Rows::new(vec![1; tokens.len()])?;
        let (mut flow, batch) = self.model.embed_at(&tokens, &rows, &positions, self.ends)?;
        let seen = self.column as i32 + 1;
        let mask = match &self.mask {
            Some(mask) => Some(mask.try_index((.., .., .., ..seen))?),
            None => None,
        };
        for (layer, adapter) in self.model.layers().iter().zip(self.adapter) {
            let Some(cache) = self.caches.get_mut(layer.cache()) else { continue };
            let attend = Attend::Step { cache, column: self.column, mask: mask.as_ref() };
            flow = layer.forward_with(&flow, &batch, adapter, attend)?;
        }
        self.column += 1;
        self.logits(&flow.hidden)
    }

    /// `[1, n, H]` to `[n, vocabulary]`.
    fn logits(&self, hidden: &Array) -> Result<Array> {
        Ok(self.model.head().logits(hidden, self.ends)?.squeeze_axes(&[0])?)
    }

    /// Chooses the next token of each of these rows.
    fn take(
        &mut self,
        range: Range<usize>,
        logits: &Array,
        on_token: &mut dyn FnMut(usize, u32),
    ) -> Result<()> {
        let vocabulary = self.model.config().vocab_size;
        let logits = logits
            .try_as_slice::<f32>()
            .map_err(|error| Error::Mlx(Exception::custom(error.to_string())))?;
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

    /// Drops finished rows once they are a quarter: each time costs a copy of the caches, each
    /// finished row left in costs its share of a step.
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

    fn mask(&self, columns: usize) -> Option<Array> {
        let unused = |row: &Row| self.width - row.prompt_length;
        if self.rows.iter().all(|row| unused(row) == 0) {
            return None;
        }
        let values = self.rows.iter().flat_map(|row| {
            (0..columns).map(move |column| if column < unused(row) { HIDDEN } else { 0.0 })
        });
        Some(Array::from_iter(values, &[self.rows.len() as i32, 1, 1, columns as i32]))
    }
}

/// Consecutive prompts of at most so many tokens together; a longer one goes alone.
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
