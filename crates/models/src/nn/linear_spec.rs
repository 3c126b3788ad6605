/// Name and size of a linear layer, as adapters address it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinearSpec {
    /// Its path below the decoder layer, for instance `self_attn.q_proj`.
    pub path: &'static str,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// Number of experts, if it is a stack of them of which each token uses a few.
    pub experts: Option<usize>,
    /// How often each token uses it: of a stack, the experts that are chosen for it.
    pub uses: usize,
}

impl LinearSpec {
    /// A single layer, without experts.
    pub(crate) fn new(path: &'static str, in_features: usize, out_features: usize) -> Self {
        Self { path, in_features, out_features, experts: None, uses: 1 }
    }

    /// A stack of `count` experts, of which each token uses `chosen`.
    pub(crate) fn stacked(self, count: usize, chosen: usize) -> Self {
        Self { experts: Some(count), uses: chosen, ..self }
    }

    /// Number of weights.
    pub fn weights(&self) -> usize {
        self.experts.unwrap_or(1) * self.in_features * self.out_features
    }

    /// The shapes of `A` and `B` in an adapter of this rank (see [`Lora`](crate::layers::Lora)).
    #[doc(hidden)]
    pub fn factor_shapes(&self, rank: usize) -> [Vec<i32>; 2] {
        let Self { in_features, out_features, experts, .. } = *self;
        let shapes = match experts {
            None => [vec![in_features, rank], vec![rank, out_features]],
            Some(experts) => [vec![experts, rank, in_features], vec![experts, out_features, rank]],
        };
        shapes.map(|shape| shape.into_iter().map(|size| size as i32).collect())
    }
}
