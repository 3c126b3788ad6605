//! One micro-batch, forward and backward, layer by layer.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use mlx_rs::error::Exception;
use mlx_rs::ops::zeros_like;
use mlx_rs::{Array, Dtype, stop_gradient, transforms};
use models::layers::{Batch, Flow};
use models::{LayerAdapter, Model};

use super::inputs::Inputs;
use super::layout::{Draw, Layout, Lowest, Place};
use super::loss::{Chunks, HeadLoss, Want, add_by_index, cross_entropy};
use super::output::AdaptedHead;
use super::plan::Plan;
use crate::batch::MicroBatch;
use crate::{Result, Tensors};

/// What every micro-batch of an update shares.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    /// Where the adapter sits.
    pub(crate) layout: Layout,
    /// Its factors.
    pub(crate) factors: Tensors,
    /// Which layers keep their intermediates from the forward to the backward pass; the others
    /// are computed a second time.
    pub(crate) plan: Plan,
    /// How the head walks positions and vocabulary.
    pub(crate) chunks: Chunks,
    /// Where inputs go that do not stay in memory.
    pub(crate) folder: Arc<Path>,
    /// Seed of the run and number of the update, which dropout depends on.
    pub(crate) moment: (u64, u64),
}

impl Pass {
    /// The loss at each target of `micro`.
    pub(crate) fn losses(&self, model: &Model, micro: &MicroBatch) -> Result<Vec<f32>> {
        let factors = self.layout.factors(Place::Ends, &self.factors)?;
        let ends = self.layout.updates(Place::Ends, &factors, None)?;
        let (flow, batch) = self.enter(model, micro, &ends)?;
        let trip = Trip { pass: self, model, batch: &batch, draw: None };
        let flow = trip.climb(flow, 0..model.layers().len(), |_| Ok(()))?;
        self.head(model, &ends, micro, &flow.hidden, Want::Loss)?.evaluate()
    }

    /// The same, and adds the gradients of `factor` times their sum to `sums`.
    pub(crate) fn gradients(
        &self,
        model: &Model,
        micro: &MicroBatch,
        factor: f32,
        sums: &mut Tensors,
    ) -> Result<Vec<f32>> {
        let (seed, step) = self.moment;
        let draw = Some(Draw::new(seed, step, micro.rows.first().copied().unwrap_or_default()));
        let factors = self.layout.factors(Place::Ends, &self.factors)?;
        let ends = self.layout.updates(Place::Ends, &factors, draw)?;
        let (flow, batch) = self.enter(model, micro, &ends)?;
        let lowest = self.layout.lowest_layer();
        let keep_from = self.plan.keep_from(model, micro).max(lowest);
        let trip = Trip { pass: self, model, batch: &batch, draw };
        // Below the lowest adapter there is nothing to differentiate, hence nothing to remember.
        let flow = trip.climb(flow, 0..lowest.min(keep_from), |_| Ok(()))?;
        let mut inputs = Inputs::new(self.plan.inputs, &self.folder)?;
        let flow = trip.climb(flow, lowest..keep_from, |flow| inputs.push(flow))?;

        let want = Want::Gradient(factor);
        let top = trip.segment(keep_from..model.layers().len());
        let mut of_update = None;
        let (losses, mut cotangents) = top.with_head(flow, sums, |hidden| {
            let mut loss = self.head(model, &ends, micro, hidden, want)?;
            of_update = loss.update.take();
            Ok(loss)
        })?;
        for layer in (lowest..keep_from).rev() {
            let Some(input) = inputs.pop()? else { break };
            cotangents = trip.segment(layer..layer + 1).pull_back(input, cotangents, sums)?;
        }
        // Nobody needs those of what enters the layers but an adapted embedding.
        cotangents.truncate(if self.reaches_embedding() { usize::MAX } else { 0 });
        cotangents.extend(of_update.into_iter().flatten());
        self.pull_back_to_ends(model, micro, draw, &cotangents, sums)?;
        Ok(losses)
    }

    fn reaches_embedding(&self) -> bool {
        self.layout.lowest() == Lowest::Embedding
    }

    /// What enters the first layer. If the embedding is adapted, then so is what layers get beside the
    /// hidden states: it travels with them, for its gradients to be added up.
    fn enter(
        &self,
        model: &Model,
        micro: &MicroBatch,
        ends: &LayerAdapter,
    ) -> Result<(Flow, Batch)> {
        let (mut flow, batch) = model.embed(&micro.tokens, &micro.layout, ends)?;
        if self.reaches_embedding() {
            flow.carried.extend(batch.inputs().cloned());
        }
        Ok((flow, batch))
    }

    /// Takes the gradients of what enters the first layer, if the embedding is adapted, and of the
    /// output matrix's update, if it is, back to the factors of both: they are the same ones where
    /// the two matrices are one.
    fn pull_back_to_ends(
        &self,
        model: &Model,
        micro: &MicroBatch,
        draw: Option<Draw>,
        cotangents: &[Array],
        sums: &mut Tensors,
    ) -> Result<()> {
        if cotangents.is_empty() {
            return Ok(());
        }
        let factors = self.layout.factors(Place::Ends, &self.factors)?;
        let function = |factors: &[Array]| {
            let ends = self.layout.updates(Place::Ends, factors, draw)?;
            let mut outputs = Vec::new();
            if self.reaches_embedding() {
                outputs.extend(self.enter(model, micro, &ends)?.0.into_arrays());
            }
            if let Some(update) = model.head().update(&ends)? {
                outputs.extend([update.a, update.b]);
            }
            Ok(outputs)
        };
        let (_, gradients) = transforms::fallible_vjp(function, &factors, cotangents)?;
        add(self.layout.names(Place::Ends), gradients, sums)?;
        let touched = self.layout.names(Place::Ends).filter_map(|name| sums.get(name));
        Ok(transforms::eval(touched)?)
    }

    /// The loss at the supervised positions, the only ones that go through the head, and (if
    /// wanted) its gradient with respect to `hidden`.
    fn head(
        &self,
        model: &Model,
        ends: &LayerAdapter,
        micro: &MicroBatch,
        hidden: &Array,
        want: Want,
    ) -> Result<HeadLoss> {
        let width = hidden.dim(-1);
        let flat = hidden.reshape(&[-1, width])?;
        let (places, tokens): (Vec<u32>, Vec<u32>) =
            micro.targets.iter().map(|target| (target.place, target.token)).unzip();
        let chosen = flat.take_axis(Array::from_slice(&places, &[places.len() as i32]), 0)?;
        let head = AdaptedHead::new(model.head(), ends)?;
        let mut loss = cross_entropy(&head, &chosen, &tokens, want, self.chunks)?;
        if let Some(gradient) = loss.gradient.take() {
            let spread = add_by_index(gradient, &places, micro.tokens.len())?;
            loss.gradient = Some(spread.reshape(hidden.shape())?.as_dtype(hidden.dtype())?);
        }
        Ok(loss)
    }
}

/// One micro-batch on its way through the layers.
#[derive(Clone, Copy)]
struct Trip<'a> {
    pass: &'a Pass,
    model: &'a Model,
    batch: &'a Batch,
    draw: Option<Draw>,
}

impl<'a> Trip<'a> {
    /// Forward through some layers, one evaluation each.
    fn climb(
        self,
        mut flow: Flow,
        layers: Range<usize>,
        mut visit: impl FnMut(&Flow) -> Result<()>,
    ) -> Result<Flow> {
        for index in layers {
            visit(&flow)?;
            let segment = self.segment(index..index + 1);
            flow = segment.forward(flow, &segment.factors(&self.pass.factors)?)?;
            // After the last layer comes the way back, which begins with it.
            self.read_ahead((index + 1).min(self.model.layers().len() - 1));
            transforms::eval(flow.carried.iter().chain([&flow.hidden]))?;
        }
        Ok(flow)
    }

    /// Lets a layer be read that will be needed next, while the present one computes.
    fn read_ahead(self, layer: usize) {
        if let Some(layer) = self.model.layers().get(layer) {
            layer.read_ahead();
        }
    }

    fn segment(self, layers: Range<usize>) -> Segment<'a> {
        Segment { trip: self, layers }
    }
}

/// Consecutive layers that are differentiated together.
struct Segment<'a> {
    trip: Trip<'a>,
    layers: Range<usize>,
}

impl Segment<'_> {
    fn places(&self) -> impl Iterator<Item = Place> {
        self.layers.clone().map(Place::Layer)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.places().flat_map(|place| self.trip.pass.layout.names(place))
    }

    fn factors(&self, tensors: &Tensors) -> Result<Vec<Array>> {
        let mut factors = Vec::new();
        for place in self.places() {
            factors.extend(self.trip.pass.layout.factors(place, tensors)?);
        }
        Ok(factors)
    }

    /// The segment as a function of its input and its factors.
    fn forward(&self, mut flow: Flow, mut factors: &[Array]) -> Result<Flow> {
        let Trip { pass, batch, .. } = self.trip;
        let inputs = match batch.inputs() {
            Some(_) if pass.reaches_embedding() => flow.carried.pop(),
            _ => None,
        };
        let own = inputs.as_ref().map(|inputs| batch.with_inputs(inputs));
        let batch = own.as_ref().unwrap_or(batch);
        for index in self.layers.clone() {
            let (place, layout) = (Place::Layer(index), &pass.layout);
            let (own, rest) = factors.split_at(layout.names(place).count());
            factors = rest;
            let adapter = layout.updates(place, own, self.trip.draw)?;
            if let Some(layer) = self.trip.model.layers().get(index) {
                flow = layer.forward(&flow, batch, &adapter)?;
            }
        }
        flow.carried.extend(inputs);
        Ok(flow)
    }

    /// Whether anyone below needs the gradient of the input.
    fn passes_on(&self) -> bool {
        match self.trip.pass.layout.lowest() {
            Lowest::Embedding => true,
            Lowest::Layer(lowest) => self.layers.start > lowest,
        }
    }

    /// Computes the segment again and takes the gradient of its output back to its input and,
    /// added to `sums`, to its factors.
    fn pull_back(
        &self,
        input: Flow,
        cotangents: Vec<Array>,
        sums: &mut Tensors,
    ) -> Result<Vec<Array>> {
        let gradients =
            self.differentiate(input, sums, &cotangents, |flow| Ok(flow.into_arrays()))?;
        if let Some(below) = self.layers.start.checked_sub(1).filter(|_| self.passes_on()) {
            self.trip.read_ahead(below);
        }
        self.evaluate(gradients, sums)
    }

    /// Runs the segment and `head` on its output, and takes the head's gradient back without
    /// computing anything twice. Returns the losses beside the gradient of the input.
    ///
    /// What is differentiated is the product of the output and its gradient, the latter taken for
    /// a constant: so the one graph holds forward pass, head and backward pass. Evaluated in this
    /// order, each part leaves in memory only what later ones refer to.
    fn with_head(
        &self,
        input: Flow,
        sums: &mut Tensors,
        mut head: impl FnMut(&Array) -> Result<HeadLoss>,
    ) -> Result<(Vec<f32>, Vec<Array>)> {
        let nothing = || Exception::custom("the head gave no gradient");
        if self.layers.is_empty() {
            let loss = head(&input.hidden)?;
            let gradient = loss.gradient.clone().ok_or_else(nothing)?;
            let carried = input.carried.iter().map(zeros_like);
            let gradients = [Ok(gradient)].into_iter().chain(carried).collect::<Result<_, _>>()?;
            return Ok((loss.evaluate()?, self.evaluate(gradients, sums)?));
        }
        let mut top = None;
        let gradients = self.differentiate(input, sums, &[Array::from_f32(1.0)], |flow| {
            let loss = head(&stop_gradient(&flow.hidden)?)?;
            let gradient = loss.gradient.clone().ok_or_else(nothing)?.as_dtype(Dtype::Float32)?;
            let product =
                flow.hidden.as_dtype(Dtype::Float32)?.multiply(stop_gradient(gradient)?)?;
            top = Some((flow.hidden, loss));
            Ok(vec![product.sum(None)?])
        })?;
        let (hidden, loss) = top.ok_or_else(nothing)?;
        hidden.eval()?;
        drop(hidden);
        Ok((loss.evaluate()?, self.evaluate(gradients, sums)?))
    }

    /// Builds the gradients of `end` of the segment: those of the input are returned, those of the
    /// factors added to `sums`.
    fn differentiate(
        &self,
        input: Flow,
        sums: &mut Tensors,
        cotangents: &[Array],
        mut end: impl FnMut(Flow) -> Result<Vec<Array>>,
    ) -> Result<Vec<Array>> {
        let fixed = input.clone();
        let mut primals = if self.passes_on() { input.into_arrays() } else { Vec::new() };
        let flowing = primals.len();
        primals.extend(self.factors(&self.trip.pass.factors)?);
        let function = |arrays: &[Array]| {
            let (flow, factors) = arrays.split_at(flowing);
            let flow = Flow::from_arrays(flow.iter().cloned()).unwrap_or_else(|| fixed.clone());
            Ok(end(self.forward(flow, factors)?)?)
        };
        let (_, mut gradients) = transforms::fallible_vjp(function, &primals, cotangents)?;
        add(self.names(), gradients.split_off(flowing), sums)?;
        Ok(gradients)
    }

    /// Computes the gradients of the input, together with those of the factors.
    fn evaluate(&self, gradients: Vec<Array>, sums: &Tensors) -> Result<Vec<Array>> {
        let touched = self.names().filter_map(|name| sums.get(name));
        transforms::eval(gradients.iter().chain(touched))?;
        Ok(gradients)
    }
}

/// Adds gradients to the sums of these names.
fn add<'a>(
    names: impl Iterator<Item = &'a str>,
    gradients: Vec<Array>,
    sums: &mut Tensors,
) -> Result<()> {
    for (name, gradient) in names.zip(gradients) {
        let sum = match sums.get(name) {
            Some(sum) => sum.add(gradient)?,
            None => gradient,
        };
        sums.insert(name.to_owned(), sum);
    }
    Ok(())
}
