//! Cuts rows of any length into chunks of one length, and back.

use mlx_rs::{Array, ops};

use crate::Result;
use crate::nn::ends;

/// Rows, longest first, cut into chunks, the chunks sorted by their index. The rows that have an `n`th
/// chunk are the first of those with an `n-1`th, so the `n`th chunks of all rows are computed
/// together. The last chunk of a row is padded.
#[derive(Debug)]
pub(super) struct Layout {
    chunk: i32,
    /// For each index of a chunk, how many rows have it.
    rows: Vec<i32>,
    /// `None` where chunks are full and of one row, so that no token moves.
    moves: Option<Moves>,
    /// The row at each place of the order, and the place of each row.
    by_length: Array,
    by_row: Array,
}

#[derive(Debug)]
struct Moves {
    /// The token at each place.
    sources: Array,
    /// The place of each token.
    places: Array,
    /// `[chunks, 1, 1, C, 1]`: 1 for tokens of the row, 0 for padding.
    valid: Array,
}

impl Layout {
    /// For rows of these lengths, in chunks of `chunk` tokens, or fewer if no row has as many.
    pub fn new(lengths: &[usize], chunk: usize) -> Self {
        let longest = lengths.iter().copied().max().unwrap_or(1);
        let chunk = chunk.min(longest.next_power_of_two());
        let starts: Vec<usize> = (lengths.iter())
            .scan(0, |next, length| Some(std::mem::replace(next, *next + length)))
            .collect();
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
        let mut place_of_row = vec![0; order.len()];
        for (place, &row) in order.iter().enumerate() {
            place_of_row[row] = place;
        }

        let total: usize = lengths.iter().sum();
        let (mut rows, mut sources, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        let mut places = vec![0; total];
        for from in (0..).step_by(chunk) {
            let active = order.iter().take_while(|&&row| lengths[row] > from);
            let mut count = 0;
            for &row in active {
                count += 1;
                for position in from..from + chunk {
                    let real = position < lengths[row];
                    let token = starts[row] + position.min(lengths[row] - 1);
                    if real {
                        places[token] = sources.len();
                    }
                    sources.push(token);
                    valid.push(if real { 1.0f32 } else { 0.0 });
                }
            }
            if count == 0 {
                break;
            }
            rows.push(count);
        }
        let indices = |list: &[usize]| {
            Array::from_iter(list.iter().map(|&index| index as u32), &[list.len() as i32])
        };
        let still = sources.iter().copied().eq(0..total);
        let moves = (!still).then(|| Moves {
            sources: indices(&sources),
            places: indices(&places),
            valid: Array::from_slice(
                &valid,
                &[(valid.len() / chunk) as i32, 1, 1, chunk as i32, 1],
            ),
        });
        let (by_length, by_row) = (indices(&order), indices(&place_of_row));
        Self { chunk: chunk as i32, rows, moves, by_length, by_row }
    }

    /// Tokens of a chunk.
    pub fn chunk(&self) -> i32 {
        self.chunk
    }

    /// Arrays of rows `[rows, ..]`, longest row first.
    pub fn longest_first(&self, by_row: &Array) -> Result<Array> {
        Ok(by_row.take_axis(&self.by_length, 0)?)
    }

    /// The reverse of [`longest_first`](Self::longest_first).
    pub fn in_order(&self, by_length: &Array) -> Result<Array> {
        Ok(by_length.take_axis(&self.by_row, 0)?)
    }

    /// The chunks of `[1, T, Hk * G, ..]`, one array `[rows, Hk, G, C, D]` for each index.
    pub fn to_chunks(&self, tokens: &Array, key_heads: i32) -> Result<Vec<Array>> {
        self.cut(&self.arranged(tokens, key_heads)?)
    }

    /// The same with zeros in the padding.
    pub fn to_chunks_or_zero(&self, tokens: &Array, key_heads: i32) -> Result<Vec<Array>> {
        let arranged = self.arranged(tokens, key_heads)?;
        match &self.moves {
            Some(moves) => self.cut(&arranged.multiply(&moves.valid)?),
            None => self.cut(&arranged),
        }
    }

    fn arranged(&self, tokens: &Array, key_heads: i32) -> Result<Array> {
        let (length, heads) = (tokens.dim(1), tokens.dim(2));
        let flat = tokens.reshape(&[length, -1])?;
        let moved = match &self.moves {
            Some(moves) => flat.take_axis(&moves.sources, 0)?,
            None => flat,
        };
        let split =
            moved.reshape(&[-1, self.chunk, key_heads, heads / key_heads, moved.dim(1) / heads])?;
        Ok(split.transpose_axes(&[0, 2, 3, 1, 4])?.contiguous()?)
    }

    fn cut(&self, arranged: &Array) -> Result<Vec<Array>> {
        let cuts = ends(self.rows.iter().map(|&rows| rows as usize));
        Ok(arranged.split_at_indices(&cuts, 0)?)
    }

    /// The reverse of [`to_chunks`](Self::to_chunks), in the given shape.
    pub fn to_tokens(&self, chunks: &[Array], shape: &[i32]) -> Result<Array> {
        let joined = ops::concatenate(chunks, 0)?.transpose_axes(&[0, 3, 1, 2, 4])?;
        let flat = joined.reshape(&[joined.dim(0) * self.chunk, -1])?;
        let moved = match &self.moves {
            Some(moves) => flat.take_axis(&moves.places, 0)?,
            None => flat,
        };
        Ok(moved.reshape(shape)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tokens of one number each, over two heads, go into chunks and back.
    #[test]
    fn tokens_find_their_way_back() {
        for lengths in [vec![1], vec![4], vec![8], vec![3, 9, 1, 4], vec![2, 2], vec![5, 8]] {
            let layout = Layout::new(&lengths, 4);
            let total: usize = lengths.iter().sum();
            let shape = [1, total as i32, 2, 3];
            let tokens = Array::from_iter((0..total as i32 * 6).map(|i| i as f32 + 1.0), &shape);
            for chunks in [
                layout.to_chunks(&tokens, 2).unwrap(),
                layout.to_chunks_or_zero(&tokens, 1).unwrap(),
            ] {
                let rows: Vec<i32> = chunks.iter().map(|chunk| chunk.dim(0)).collect();
                assert_eq!(rows, layout.rows, "{lengths:?}");
                let back = layout.to_tokens(&chunks, &shape).unwrap();
                assert_eq!(back.as_slice::<f32>(), tokens.as_slice::<f32>(), "{lengths:?}");
            }
            let zeroed = layout.to_chunks_or_zero(&tokens, 2).unwrap();
            let sum = |arrays: &[Array]| -> f32 {
                arrays.iter().map(|a| a.sum(None).unwrap().item_exact::<f32>()).sum()
            };
            assert_eq!(sum(&zeroed), sum(std::slice::from_ref(&tokens)), "{lengths:?}");
        }
    }
}
