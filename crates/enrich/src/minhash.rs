//! Similar rows of large data sets: MinHash signatures find candidates, the exact Jaccard similarity decides.
//!
//! Broder, "On the resemblance and containment of documents" (1997); banding as in Leskovec, Rajaraman, Ullman, "Mining of
//! Massive Datasets", section 3.4.

use chat_format::{Conversation, Role};
use rayon::prelude::*;

use crate::grams::{mix, share, windows, word_hashes};

/// Words per gram.
const WORDS: usize = 3;

/// Rows per unit of parallel work.
const BLOCK: usize = 4096;

/// The set of word 3-grams of each row, in one allocation per [`BLOCK`] rows. Grams are 32-bit hashes: 1,000,000 rows of 40
/// words take 160 MB and their sketches 32 MB, and two of a row's grams collide too rarely to matter.
pub(crate) struct RowGrams {
    blocks: Vec<GramBlock>,
}

/// The ascending hashes of consecutive rows, where each row ends, and a sketch of each row.
struct GramBlock {
    hashes: Vec<u32>,
    ends: Vec<usize>,
    sketches: Vec<[u64; 4]>,
}

impl RowGrams {
    /// The grams of all turns but the system's: rows that share a persona are not similar because of it. Calls of tools
    /// count with name and arguments.
    pub fn of(rows: &[Conversation]) -> RowGrams {
        let blocks = rows.par_chunks(BLOCK).map(|rows| {
            let mut hashes = Vec::new();
            let mut ends = Vec::with_capacity(rows.len());
            let mut sketches = Vec::with_capacity(rows.len());
            let (mut words, mut grams) = (Vec::new(), Vec::new());
            for row in rows {
                words.clear();
                for message in row.messages.iter().filter(|message| message.role != Role::System) {
                    word_hashes(&message.content, &mut words);
                    for call in &message.tool_calls {
                        word_hashes(&call.name, &mut words);
                        word_hashes(&call.arguments.to_string(), &mut words);
                    }
                }
                grams.clear();
                grams.extend(windows(&words, WORDS).map(|gram| (gram >> 32) as u32));
                grams.sort_unstable();
                grams.dedup();
                hashes.extend_from_slice(&grams);
                ends.push(hashes.len());
                sketches.push(sketch(&grams));
            }
            hashes.shrink_to_fit();
            GramBlock { hashes, ends, sketches }
        });
        RowGrams { blocks: blocks.collect() }
    }

    /// The grams of a row, ascending, each once.
    pub fn row(&self, row: usize) -> &[u32] {
        let block = &self.blocks[row / BLOCK];
        let nth = row % BLOCK;
        let start = if nth == 0 { 0 } else { block.ends[nth - 1] };
        &block.hashes[start..block.ends[nth]]
    }

    fn sketch(&self, row: usize) -> &[u64; 4] {
        &self.blocks[row / BLOCK].sketches[row % BLOCK]
    }

    /// The Jaccard similarity of two rows if it is at least `least`.
    pub fn likeness(&self, a: usize, b: usize, least: f64) -> Option<f64> {
        let sketches = self.sketch(a).iter().zip(self.sketch(b));
        let (mut a, mut b) = (self.row(a), self.row(b));
        let (len_a, len_b) = (a.len(), b.len());
        let total = len_a + len_b;
        // Of `total` grams in two sets of Jaccard similarity `least`, `(1 - least) / (1 + least)` are in one set only.
        let may_differ = ((1.0 - least) / (1.0 + least) * total as f64 + 1e-9) as usize;
        // At least as many grams differ as the lengths and as the sketches do.
        let differ: u32 = sketches.map(|(a, b)| (a ^ b).count_ones()).sum();
        if a.len().abs_diff(b.len()).max(differ as usize) > may_differ {
            return None;
        }
        let mut differ = 0;
        while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
            differ += usize::from(x != y);
            if differ > may_differ {
                return None;
            }
            (a, b) = (if x <= y { rest_a } else { a }, if y <= x { rest_b } else { b });
        }
        differ += a.len() + b.len();
        let likeness = share((total - differ) / 2, len_a, len_b);
        (likeness >= least).then_some(likeness)
    }
}

/// The parities of the numbers of grams in 256 classes. Sketches differ in at most as many bits as there are grams in one
/// of the two sets only, which rules out most pairs of dissimilar rows without a look at their grams.
fn sketch(grams: &[u32]) -> [u64; 4] {
    let mut bits = [0; 4];
    for gram in grams {
        bits[(gram >> 30) as usize] ^= 1 << (gram >> 24 & 63);
    }
    bits
}

/// A locality-sensitive hash: `bands` keys a row, each of the minima of `width` hash functions. Two rows of Jaccard
/// similarity `s` have equal keys in at least one band with probability `1 - (1 - s^width)^bands`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bands {
    /// How many keys a row has.
    pub bands: usize,
    /// Minima per key.
    pub width: usize,
}

/// The probability with which a pair at the threshold may be missed.
const MISSED: f64 = 1e-6;

/// The maximum number of hash functions.
const MINIMA: usize = 400;

impl Bands {
    /// The widest bands, and so the fewest candidates, that miss a pair of that likeness with a probability of at most 1e-6.
    /// Below a likeness of 0.04 more is missed, for lack of hash functions.
    pub fn new(likeness: f64) -> Bands {
        let bands = |width: usize| {
            let found = likeness.powi(width as i32);
            let bands = (MISSED.ln() / (-found).ln_1p()).ceil().max(1.0) as usize;
            Bands { bands, width }
        };
        let cheap = |bands: &Bands| bands.bands <= MINIMA / bands.width;
        let widest = (1..=16).rev().map(bands).find(cheap);
        widest.unwrap_or(Bands { bands: MINIMA, width: 1 })
    }

    /// The key of one band.
    pub fn key(&self, grams: &[u32], band: usize) -> u32 {
        let first = band * self.width;
        let key = (first..first + self.width).fold(band as u64, |key, nth| {
            let salt = mix(nth as u64 + 1);
            let (factor, offset) = (salt as u32 | 1, (salt >> 32) as u32);
            let hashes = grams.iter().map(|gram| gram.wrapping_mul(factor).wrapping_add(offset));
            mix(key ^ u64::from(hashes.min().unwrap_or(0))).wrapping_add(1)
        });
        key as u32
    }
}
