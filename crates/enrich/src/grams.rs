//! Word n-grams: what duplicates and leaks are measured by.

/// The words of a text: runs of letters and digits in lower case.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The set of a text's word n-grams, each as a 64-bit hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grams(Vec<u64>);

impl Grams {
    /// The n-grams of a text. A text of fewer words is one gram of its own, so that short texts
    /// can still be equal.
    pub fn of(text: &str, n: usize) -> Grams {
        let words = words(text);
        if words.len() <= n {
            return Grams(vec![hash(&words)]);
        }
        let mut grams: Vec<u64> = words.windows(n).map(hash).collect();
        grams.sort_unstable();
        grams.dedup();
        Grams(grams)
    }

    /// The hashes, ascending, each once.
    pub fn hashes(&self) -> &[u64] {
        &self.0
    }

    /// The share of grams that two texts have in common (Jaccard).
    ///
    /// ```
    /// use enrich::grams::Grams;
    ///
    /// let a = Grams::of("Which port does the hub listen on?", 3);
    /// let b = Grams::of("which port does the NAS listen on", 3);
    /// assert!(a.jaccard(&a) == 1.0 && a.jaccard(&b) < 0.5);
    /// ```
    pub fn jaccard(&self, other: &Grams) -> f64 {
        let (mut a, mut b) = (self.0.as_slice(), other.0.as_slice());
        let mut common = 0;
        while let ([x, rest_a @ ..], [y, rest_b @ ..]) = (a, b) {
            common += usize::from(x == y);
            (a, b) = (if x <= y { rest_a } else { a }, if y <= x { rest_b } else { b });
        }
        let all = self.0.len() + other.0.len() - common;
        if all == 0 { 0.0 } else { common as f64 / all as f64 }
    }
}

/// FNV-1a with a final mix: the same on every machine and with every compiler, which
/// the standard library's hasher does not promise.
fn hash(words: &[String]) -> u64 {
    let bytes = words.iter().flat_map(|word| word.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(hash)
}

/// Spreads every bit over all of the word (the finalizer of splitmix64).
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
