//! Loss and gradients of one micro-batch, with the layers evaluated one at a time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mlx_rs::error::Exception;
use mlx_rs::ops::zeros_like;
use mlx_rs::{Array, Dtype, stop_gradient, transforms};
use models::Model;
use models::layers::{Batch, Flow, LayerAdapter};

use super::chunks::Chunks;
use super::criterion::{Criterion, Totals};
use super::divergence::{Anchored, divergence};
use super::inputs::LayerInputs;
use super::layout::{Block, DropoutSeed, GradientDepth, Layout};
use super::loss::{HeadLoss, HeadValues, LossMode, cross_entropy};
use super::output::AdaptedHead;
use super::plan::Plan;
use super::positions::{at, scattered};
use crate::batch::MicroBatch;
use crate::{Result, Tensors};

/// What all micro-batches of an update have in common.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    /// The adapted linear layers.
    pub(crate) layout: Layout,
    /// The LoRA factors.
    pub(crate) factors: Tensors,
    /// Among others, how many bytes of intermediates are kept instead of recomputed.
    pub(crate) plan: Plan,
    /// Chunk sizes of the loss.
    pub(crate) chunks: Chunks,
    /// For layer inputs that are offloaded to a file.
    pub(crate) folder: Arc<Path>,
    /// The seed of the update's dropout; `None` for the loss alone.
    pub(crate) dropout: Option<DropoutSeed>,
    /// What the gradients are of.
    pub(crate) criterion: Criterion,
    /// Counts of the whole update.
    pub(crate) totals: Totals,
}

impl Pass {
    /// The loss at each target of `micro`.
    pub(crate) fn losses(&self, model: &Model, micro: &MicroBatch) -> Result<HeadValues> {
        let factors = self.layout.factors(Block::Embeddings, &self.factors)?;
        let embeddings = self.layout.updates(Block::Embeddings, &factors, None)?;
        let (flow, batch) = self.embed(model, micro, &embeddings)?;
        let stack = LayerStack { pass: self, model, batch: &batch, dropout: None };
        let flow = stack.forward(flow, 0..model.layers().len(), |_| Ok(()))?;
        self.head(model, &embeddings, micro, &flow.hidden, LossMode::Eval)?.evaluate()
    }

    /// The loss at each target of `micro`, and the divergence at each anchor. Adds the gradients of what
    /// is minimized to `sums`.
    pub(crate) fn gradients(
        &self,
        model: &Model,
        micro: &MicroBatch,
        sums: &mut Tensors,
    ) -> Result<HeadValues> {
        let first_row = micro.rows.first().copied().unwrap_or_default();
        let dropout = self.dropout.map(|seed| seed.mix(first_row as u64));
        let factors = self.layout.factors(Block::Embeddings, &self.factors)?;
        let embeddings = self.layout.updates(Block::Embeddings, &factors, dropout)?;
        let (flow, batch) = self.embed(model, micro, &embeddings)?;
        let lowest = self.layout.lowest_layer();
        let keep_from = self.plan.keep_from(model, micro).max(lowest);
        let stack = LayerStack { pass: self, model, batch: &batch, dropout };
        // No backward pass goes below the lowest adapter, so these inputs are not kept.
        let flow = stack.forward(flow, 0..lowest.min(keep_from), |_| Ok(()))?;
        let base = self.base_at_anchors(model, micro, &flow)?;
        let mut inputs = LayerInputs::new(self.plan.inputs, &self.folder)?;
        let flow = stack.forward(flow, lowest..keep_from, |flow| inputs.push(flow))?;

        let weights = self.criterion.weights(micro, self.totals);
        let mode = LossMode::Train(&weights);
        let top = stack.segment(keep_from..model.layers().len());
        let mut head_gradients = None;
        let (values, mut cotangents) = top.forward_backward(flow, sums, |hidden| {
            let mut loss = self.head(model, &embeddings, micro, hidden, mode)?;
            if let Some(base) = &base {
                let held = self.divergence(model, &embeddings, micro, hidden, base)?;
                loss = loss.with_divergence(held)?;
            }
            head_gradients = loss.update_gradients.take();
            Ok(loss)
        })?;
        for layer in (lowest..keep_from).rev() {
            let Some(input) = inputs.pop()? else { break };
            cotangents = stack.segment(layer..layer + 1).backward(input, cotangents, sums)?;
        }
        // Only an adapted embedding needs the gradient with respect to the first layer's input.
        cotangents.truncate(if self.adapts_embedding() { usize::MAX } else { 0 });
        cotangents.extend(head_gradients.into_iter().flatten());
        self.backward_to_embeddings(model, micro, dropout, &cotangents, sums)?;
        Ok(values)
    }

    /// The base model's hidden states at the anchors of `micro`, `[n, H]`; `None` without anchors. Only the rows with
    /// anchors are computed, from `flow` on, the input of the lowest adapted layer, if that is the base model's.
    fn base_at_anchors(
        &self,
        model: &Model,
        micro: &MicroBatch,
        flow: &Flow,
    ) -> Result<Option<Array>> {
        if micro.anchors.is_empty() {
            return Ok(None);
        }
        let (anchored, places) = micro.anchored()?;
        let layout = self.layout.without_adapter();
        let base = Pass { layout, factors: Tensors::new(), dropout: None, ..self.clone() };
        let (embedded, batch) = base.embed(model, &anchored, &LayerAdapter::default())?;
        // What is carried belongs to all rows.
        let (from, flow) = match self.adapts_embedding() || !flow.carried.is_empty() {
            true => (0, embedded),
            false => {
                let hidden = at(&flow.hidden, &places)?.expand_dims(0)?;
                (self.layout.lowest_layer(), Flow::new(hidden))
            }
        };
        let stack = LayerStack { pass: &base, model, batch: &batch, dropout: None };
        let flow = stack.forward(flow, from..model.layers().len(), |_| Ok(()))?;
        let hidden = at_anchors(&flow.hidden, &anchored)?;
        hidden.eval()?;
        Ok(Some(hidden))
    }

    /// The divergence from the base model at the anchors, with its gradient with respect to `hidden`.
    fn divergence(
        &self,
        model: &Model,
        embeddings: &LayerAdapter,
        micro: &MicroBatch,
        hidden: &Array,
        base_hidden: &Array,
    ) -> Result<HeadLoss> {
        let weights: Vec<f32> = micro.anchors.iter().map(|anchor| anchor.weight).collect();
        let weights = Array::from_slice(&weights, &[weights.len() as i32, 1]);
        let own = at_anchors(hidden, micro)?;
        let anchored = Anchored { hidden: &own, base_hidden, weights: &weights };
        let head = AdaptedHead::new(model.head(), embeddings)?;
        let mut loss = divergence(&head, anchored, self.chunks)?;
        if let Some(gradient) = loss.gradient.take() {
            let positions: Vec<u32> = micro.anchors.iter().map(|anchor| anchor.position).collect();
            loss.gradient = Some(scattered(gradient, &positions, hidden)?);
        }
        Ok(loss)
    }

    fn adapts_embedding(&self) -> bool {
        self.layout.depth() == GradientDepth::Embedding
    }

    /// The input of the first layer. An adapted embedding also changes the per-layer inputs, which
    /// are then carried along with the hidden states so that their gradients are summed over layers.
    fn embed(
        &self,
        model: &Model,
        micro: &MicroBatch,
        embeddings: &LayerAdapter,
    ) -> Result<(Flow, Batch)> {
        let (mut flow, batch) = model.embed(&micro.tokens, &micro.layout, embeddings)?;
        if self.adapts_embedding() {
            flow.carried.extend(batch.inputs().cloned());
        }
        Ok((flow, batch))
    }

    /// Adds the gradients of the factors of embedding and output matrix to `sums`. `cotangents` are
    /// those of the first layer's input if the embedding is adapted, then those of the output
    /// matrix's `A` and `B` if it is. Tied matrices share their factors, whose gradients add up.
    fn backward_to_embeddings(
        &self,
        model: &Model,
        micro: &MicroBatch,
        dropout: Option<DropoutSeed>,
        cotangents: &[Array],
        sums: &mut Tensors,
    ) -> Result<()> {
        if cotangents.is_empty() {
            return Ok(());
        }
        let factors = self.layout.factors(Block::Embeddings, &self.factors)?;
        let function = |factors: &[Array]| {
            let embeddings = self.layout.updates(Block::Embeddings, factors, dropout)?;
            let mut outputs = Vec::new();
            if self.adapts_embedding() {
                outputs.extend(self.embed(model, micro, &embeddings)?.0.into_arrays());
            }
            if let Some(update) = model.head().update(&embeddings)? {
                outputs.extend([update.a, update.b]);
            }
            Ok(outputs)
        };
        let (_, gradients) = transforms::fallible_vjp(function, &factors, cotangents)?;
        add(self.layout.names(Block::Embeddings).zip(gradients), sums)?;
        let changed = self.layout.names(Block::Embeddings).filter_map(|name| sums.get(name));
        Ok(transforms::eval(changed)?)
    }

    /// The loss at the trained positions, the only ones that go through the head; in training with
    /// its gradient with respect to `hidden`.
    fn head(
        &self,
        model: &Model,
        embeddings: &LayerAdapter,
        micro: &MicroBatch,
        hidden: &Array,
        mode: LossMode<'_>,
    ) -> Result<HeadLoss> {
        let (positions, tokens): (Vec<u32>, Vec<u32>) =
            micro.targets.iter().map(|target| (target.position, target.token)).unzip();
        let trained = at(hidden, &positions)?;
        let head = AdaptedHead::new(model.head(), embeddings)?;
        let mut loss = cross_entropy(&head, &trained, &tokens, mode, self.chunks)?;
        if let Some(gradient) = loss.gradient.take() {
            loss.gradient = Some(scattered(gradient, &positions, hidden)?);
        }
        Ok(loss)
    }
}

fn at_anchors(hidden: &Array, micro: &MicroBatch) -> Result<Array> {
    let positions: Vec<u32> = micro.anchors.iter().map(|anchor| anchor.position).collect();
    at(hidden, &positions)
}

/// The decoder layers, applied to one micro-batch.
#[derive(Clone, Copy)]
struct LayerStack<'a> {
    pass: &'a Pass,
    model: &'a Model,
    batch: &'a Batch,
    dropout: Option<DropoutSeed>,
}

impl<'a> LayerStack<'a> {
    /// Computes these layers one after the other, and calls `visit` with the input of each.
    fn forward(
        self,
        mut flow: Flow,
        layers: Range<usize>,
        mut visit: impl FnMut(&Flow) -> Result<()>,
    ) -> Result<Flow> {
        for index in layers {
            visit(&flow)?;
            let segment = self.segment(index..index + 1);
            flow = segment.forward(flow, &segment.factors(&self.pass.factors)?)?;
            // The backward pass begins with the last layer, so that one is needed again.
            self.read_ahead((index + 1).min(self.model.layers().len() - 1));
            transforms::eval(flow.carried.iter().chain([&flow.hidden]))?;
        }
        Ok(flow)
    }

    /// Starts reading the weights of a streamed layer while another one is computed.
    fn read_ahead(self, layer: usize) {
        if let Some(layer) = self.model.layers().get(layer) {
            layer.read_ahead();
        }
    }

    fn segment(self, layers: Range<usize>) -> Segment<'a> {
        Segment { stack: self, layers }
    }
}

/// Consecutive layers that are differentiated together.
struct Segment<'a> {
    stack: LayerStack<'a>,
    layers: Range<usize>,
}

impl Segment<'_> {
    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.layers.clone().map(Block::Layer)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.blocks().flat_map(|block| self.stack.pass.layout.names(block))
    }

    fn factors(&self, tensors: &Tensors) -> Result<Vec<Array>> {
        let mut factors = Vec::new();
        for block in self.blocks() {
            factors.extend(self.stack.pass.layout.factors(block, tensors)?);
        }
        Ok(factors)
    }

    /// The segment as a function of its input and its factors.
    fn forward(&self, mut flow: Flow, mut factors: &[Array]) -> Result<Flow> {
        let LayerStack { pass, batch, .. } = self.stack;
        let inputs = match batch.inputs() {
            Some(_) if pass.adapts_embedding() => flow.carried.pop(),
            _ => None,
        };
        let own = inputs.as_ref().map(|inputs| batch.with_inputs(inputs));
        let batch = own.as_ref().unwrap_or(batch);
        for index in self.layers.clone() {
            let (block, layout) = (Block::Layer(index), &pass.layout);
            let (own, rest) = factors.split_at(layout.names(block).count());
            factors = rest;
            let adapter = layout.updates(block, own, self.stack.dropout)?;
            if let Some(layer) = self.stack.model.layers().get(index) {
                flow = layer.forward(&flow, batch, &adapter)?;
            }
        }
        flow.carried.extend(inputs);
        Ok(flow)
    }

    /// Whether the gradient with respect to the segment's input is needed.
    fn needs_input_gradient(&self) -> bool {
        match self.stack.pass.layout.depth() {
            GradientDepth::Embedding => true,
            GradientDepth::Layer(lowest) => self.layers.start > lowest,
        }
    }

    /// Recomputes the segment and returns the gradient with respect to its input, given that of its
    /// output. The gradients of its factors are added to `sums`.
    fn backward(
        &self,
        input: Flow,
        cotangents: Vec<Array>,
        sums: &mut Tensors,
    ) -> Result<Vec<Array>> {
        let gradients = self.vjp(input, sums, &cotangents, |flow| Ok(flow.into_arrays()))?;
        if let Some(below) =
            self.layers.start.checked_sub(1).filter(|_| self.needs_input_gradient())
        {
            self.stack.read_ahead(below);
        }
        self.evaluate(gradients, sums)
    }

    /// Forward and backward pass through the segment and `head` without recomputation. Returns the
    /// values of the loss and the gradient with respect to the segment's input.
    ///
    /// The differentiated function is the sum of `output * stop_gradient(dloss/doutput)`. Its graph
    /// contains forward pass, head and backward pass; evaluated in this order, each of them keeps in
    /// memory only what the following ones use.
    fn forward_backward(
        &self,
        input: Flow,
        sums: &mut Tensors,
        mut head: impl FnMut(&Array) -> Result<HeadLoss>,
    ) -> Result<(HeadValues, Vec<Array>)> {
        let missing = || Exception::custom("the loss was computed without its gradient");
        if self.layers.is_empty() {
            let loss = head(&input.hidden)?;
            let gradient = loss.gradient.clone().ok_or_else(missing)?;
            let carried = input.carried.iter().map(zeros_like);
            let gradients = [Ok(gradient)].into_iter().chain(carried).collect::<Result<_, _>>()?;
            return Ok((loss.evaluate()?, self.evaluate(gradients, sums)?));
        }
        let mut top = None;
        let gradients = self.vjp(input, sums, &[Array::from_f32(1.0)], |flow| {
            let loss = head(&stop_gradient(&flow.hidden)?)?;
            let gradient = loss.gradient.clone().ok_or_else(missing)?.as_dtype(Dtype::Float32)?;
            let product =
                flow.hidden.as_dtype(Dtype::Float32)?.multiply(stop_gradient(gradient)?)?;
            top = Some((flow.hidden, loss));
            Ok(vec![product.sum(None)?])
        })?;
        let (hidden, loss) = top.ok_or_else(missing)?;
        hidden.eval()?;
        drop(hidden);
        Ok((loss.evaluate()?, self.evaluate(gradients, sums)?))
    }

    /// The vector-Jacobian product of `end` of the segment's output, not evaluated: the gradient with
    /// respect to the input is returned, those of the factors are added to `sums`.
    fn vjp(
        &self,
        input: Flow,
        sums: &mut Tensors,
        cotangents: &[Array],
        mut end: impl FnMut(Flow) -> Result<Vec<Array>>,
    ) -> Result<Vec<Array>> {
        let constant = input.clone();
        let mut primals =
            if self.needs_input_gradient() { input.into_arrays() } else { Vec::new() };
        let inputs = primals.len();
        primals.extend(self.factors(&self.stack.pass.factors)?);
        let function = |arrays: &[Array]| {
            let (flow, factors) = arrays.split_at(inputs);
            let flow = Flow::from_arrays(flow.iter().cloned()).unwrap_or_else(|| constant.clone());
            Ok(end(self.forward(flow, factors)?)?)
        };
        let (_, mut gradients) = transforms::fallible_vjp(function, &primals, cotangents)?;
        add(self.names().zip(gradients.split_off(inputs)), sums)?;
        Ok(gradients)
    }

    /// Evaluates the gradients of the input together with those of the factors.
    fn evaluate(&self, gradients: Vec<Array>, sums: &Tensors) -> Result<Vec<Array>> {
        let changed = self.names().filter_map(|name| sums.get(name));
        transforms::eval(gradients.iter().chain(changed))?;
        Ok(gradients)
    }
}

/// Adds gradients to the sums of these names.
pub(super) fn add<S: AsRef<str>>(
    gradients: impl Iterator<Item = (S, Array)>,
    sums: &mut Tensors,
) -> Result<()> {
    for (name, gradient) in gradients {
        let sum = match sums.get(name.as_ref()) {
            Some(sum) => sum.add(gradient)?,
            None => gradient,
        };
        sums.insert(name.as_ref().to_owned(), sum);
    }
    Ok(())
}
