/// Values that exist while a layer is differentiated, beside the outputs of its linear layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Activations {
    /// Kept for the backward pass, for each token.
    pub kept_per_token: usize,
    /// Alive at one time, independent of the number of rows.
    pub at_once: usize,
}

/// Memory of the activations of one layer in training; see
/// [`Layer::footprint`](crate::layers::Layer::footprint).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Bytes kept from the forward to the backward pass.
    pub kept: u64,
    /// Bytes of the attention scores of one tile, their softmax and the gradients of both, alive while
    /// a row longer than a tile is computed.
    pub tile: u64,
}

/// The size of a micro-batch, for [`Footprint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Tokens computed, shared prefixes once.
    pub tokens: usize,
    /// Tokens of all rows, shared prefixes once for each row.
    pub row_tokens: usize,
    /// Tokens of the longest row.
    pub longest: usize,
}
