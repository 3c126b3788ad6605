//! The sizes in which positions and vocabulary go through the head.

use std::ops::Range;

/// The most logits of a chunk: 32 MiB in f32, in each lane.
const MAX_LOGITS: usize = 8 << 20;
/// With fewer positions in a chunk, reading and dequantizing the weights costs more than the matrix
/// product.
const MIN_POSITIONS: usize = 512;

/// The size of a chunk, in positions and in tokens of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunks {
    positions: usize,
    vocabulary: usize,
}

impl Chunks {
    /// The whole vocabulary and as many positions as [`MAX_LOGITS`] allows; part of the vocabulary if
    /// those would be fewer than [`MIN_POSITIONS`].
    pub(crate) fn of(vocabulary: usize) -> Self {
        let positions = (MAX_LOGITS / vocabulary.max(1)).max(MIN_POSITIONS);
        Self { positions, vocabulary: vocabulary.min(MAX_LOGITS / positions).max(1) }
    }

    #[cfg(test)]
    pub(super) fn for_tests(positions: usize, vocabulary: usize) -> Self {
        Self { positions, vocabulary }
    }

    /// The size of the chunks, `[positions, vocabulary]`, for this number of positions.
    pub(crate) fn sizes(self, positions: usize) -> (usize, usize) {
        (self.positions.min(positions), self.vocabulary)
    }

    /// Half as many positions: for a loss with twice as many logits.
    pub(super) fn halved(self) -> Self {
        Self { positions: self.positions.div_ceil(2), ..self }
    }

    pub(super) fn of_positions(self, count: i32) -> impl Iterator<Item = Range<i32>> {
        let step = self.positions.max(1);
        (0..count).step_by(step).map(move |start| start..(start + step as i32).min(count))
    }

    pub(super) fn of_vocabulary(self, size: usize) -> impl Iterator<Item = Range<usize>> {
        let step = self.vocabulary;
        (0..size).step_by(step).map(move |start| start..(start + step).min(size))
    }

    /// How often the weights are read for this number of positions.
    pub(crate) fn rounds(self, positions: usize) -> usize {
        positions.div_ceil(self.positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_bound_the_logits() {
        for vocabulary in [1, 49_152, 262_144, 100_000_000] {
            let Chunks { positions, vocabulary: tokens } = Chunks::of(vocabulary);
            assert!(positions * tokens <= MAX_LOGITS && tokens >= 1, "{vocabulary}");
        }
    }
}
