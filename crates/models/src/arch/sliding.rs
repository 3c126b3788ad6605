//! Models whose layers attend through a window, except every few.

/// In `layer_types`, a layer that attends through the window.
pub(super) const SLIDING_ATTENTION: &str = "sliding_attention";

/// The attention of a layer: with the window, or full. As a number, the index of its rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Sliding = 0,
    Full = 1,
}

impl Kind {
    /// The attention window of such a layer in a model with this `window`.
    pub fn window(self, window: usize) -> Option<usize> {
        match self {
            Self::Sliding => Some(window),
            Self::Full => None,
        }
    }
}
