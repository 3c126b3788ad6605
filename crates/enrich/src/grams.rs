//! Word n-grams and their Jaccard similarity, by which duplicates and leaks are found.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

/// The words of a text: runs of letters and digits in lower case; in scripts that put no spaces between words (Chinese,
/// Japanese, Thai, ...) each character.
///
/// ```
/// assert_eq!(enrich::grams::words("Port 80, 天气?"), ["port", "80", "天", "气"]);
/// ```
pub fn words(text: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    split(text, |letter| match letter {
        Some(letter) => word.push(letter),
        None => words.push(std::mem::take(&mut word)),
    });
    words
}

/// Calls `each` with the letters of every word of a text, in lower case, and with none after a word. Nothing is allocated.
fn split(text: &str, mut each: impl FnMut(Option<char>)) {
    let mut inside = false;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            each(Some(c.to_ascii_lowercase()));
            inside = true;
            continue;
        }
        let letter = !c.is_ascii() && c.is_alphanumeric();
        let alone = letter && unspaced(c);
        if inside && (alone || !letter) {
            each(None);
        }
        if letter {
            c.to_lowercase().for_each(|c| each(Some(c)));
        }
        if alone {
            each(None);
        }
        inside = letter && !alone;
    }
    if inside {
        each(None);
    }
}

/// Whether a letter belongs to a script that puts no spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
fn unspaced(letter: char) -> bool {
    matches!(letter, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// The set of a text's word n-grams, each as a 64-bit hash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grams(Vec<u64>);

impl Grams {
    /// The n-grams of a text. A text of at most `n` words is one gram, so that short texts can be equal.
    pub fn of(text: &str, n: usize) -> Grams {
        let mut words = Vec::new();
        word_hashes(text, &mut words);
        Grams::sorted(windows(&words, n).collect())
    }

    /// The 4-grams of a text's sentence structure: function words are kept, a number becomes `#` and every other word `*`.
    /// Replacing nouns and verbs does not change them. Empty for a text whose structure is too short to be distinctive.
    ///
    /// ```
    /// use enrich::grams::Grams;
    ///
    /// let a = Grams::of_build("How many wrong passwords will lock an account for the night?");
    /// let b = Grams::of_build("How many missed heartbeats will wake an owner for the alarm?");
    /// assert_eq!(a.jaccard(&b), 1.0);
    /// assert!(Grams::of_build("Which port is it?").hashes().is_empty());
    /// ```
    pub fn of_build(text: &str) -> Grams {
        let words: Vec<String> = words(text).into_iter().map(blank).collect();
        let tells = |gram: &&[String]| gram.iter().any(|word| word != "*" && word != "#");
        let grams = Grams::sorted(words.windows(4).filter(tells).map(hash).collect());
        if grams.0.len() < LEAST_BUILD { Grams::default() } else { grams }
    }

    fn sorted(mut grams: Vec<u64>) -> Grams {
        grams.sort_unstable();
        grams.dedup();
        Grams(grams)
    }

    /// The hashes, ascending, each once.
    pub fn hashes(&self) -> &[u64] {
        &self.0
    }

    /// The Jaccard similarity of the two sets: shared grams divided by grams of either, between 0 and 1.
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
        share(common, self.0.len(), other.0.len())
    }
}

/// An inverted index of texts by their grams, which finds similar texts without comparing all pairs.
///
/// ```
/// use enrich::grams::{Grams, Index};
///
/// let mut index = Index::default();
/// index.add(&Grams::of("which port does the hub listen on", 3));
/// index.add(&Grams::of("who waters the plants in summer", 3));
/// let near = index.near(&Grams::of("which port does the hub use", 3), 0.3);
/// assert_eq!(near.len(), 1);
/// assert_eq!(near[0].0, 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// How many grams each text has.
    sizes: Vec<usize>,
    /// The texts that have a gram.
    with: HashMap<u64, Vec<usize>>,
}

impl Index {
    /// Adds a text. Texts are numbered as they come, from 0.
    pub fn add(&mut self, grams: &Grams) {
        for gram in grams.hashes() {
            self.with.entry(*gram).or_default().push(self.sizes.len());
        }
        self.sizes.push(grams.hashes().len());
    }

    /// The numbers of the texts whose Jaccard similarity to `grams` is at least `likeness`, each with its similarity. Texts
    /// that share no gram are never found.
    pub fn near(&self, grams: &Grams, likeness: f64) -> Vec<(usize, f64)> {
        let size = grams.hashes().len();
        self.shared(grams, |common, of| {
            let alike = share(common, size, of);
            (alike >= likeness).then_some(alike)
        })
    }

    /// The numbers of the texts of at least `grams_at_least` grams of which `grams` contains at least that share, each with
    /// its share.
    ///
    /// ```
    /// use enrich::grams::{Grams, Index};
    ///
    /// let mut index = Index::default();
    /// index.add(&Grams::of("Which port does the hub listen on?", 3));
    /// let long = Grams::of("Before I forget: which port does the hub listen on? The app asks for it.", 3);
    /// assert_eq!(index.within(&long, 0.8, 4), [(0, 1.0)]);
    /// assert!(index.near(&long, 0.5).is_empty());
    /// ```
    pub fn within(&self, grams: &Grams, share: f64, grams_at_least: usize) -> Vec<(usize, f64)> {
        self.shared(grams, |common, of| {
            let contained = common as f64 / of as f64;
            (of >= grams_at_least && contained >= share).then_some(contained)
        })
    }

    /// The texts that share grams, each with the measure of how many it shares and how many it has.
    fn shared(
        &self,
        grams: &Grams,
        measure: impl Fn(usize, usize) -> Option<f64>,
    ) -> Vec<(usize, f64)> {
        let mut common: BTreeMap<usize, usize> = BTreeMap::new();
        for text in grams.hashes().iter().filter_map(|gram| self.with.get(gram)).flatten() {
            *common.entry(*text).or_default() += 1;
        }
        let found = common
            .into_iter()
            .filter_map(|(text, common)| Some((text, measure(common, *self.sizes.get(text)?)?)));
        found.collect()
    }
}

/// Jaccard similarity from the sizes of the intersection and of both sets.
pub(crate) fn share(common: usize, a: usize, b: usize) -> f64 {
    let all = a + b - common;
    if all == 0 { 0.0 } else { common as f64 / all as f64 }
}

/// The minimum number of structure grams; shorter sentences have the structure of too many others.
const LEAST_BUILD: usize = 5;

static FUNCTION_WORDS: LazyLock<HashSet<&str>> =
    LazyLock::new(|| include_str!("../data/function_words.txt").split_whitespace().collect());

fn blank(word: String) -> String {
    match word {
        word if FUNCTION_WORDS.contains(word.as_str()) => word,
        word if word.starts_with(|c: char| c.is_ascii_digit()) => "#".to_owned(),
        _ => "*".to_owned(),
    }
}

/// FNV-1a over characters with a final mix. Unlike the standard library's hasher, it gives the same value on every machine
/// and with every compiler.
fn hash(words: &[String]) -> u64 {
    mix(words.iter().flat_map(|word| word.chars().chain(['\0'])).fold(FNV, fnv))
}

/// Appends the hash of each of a text's [words]; several times as fast as hashing the words.
pub(crate) fn word_hashes(text: &str, hashes: &mut Vec<u64>) {
    let mut word = FNV;
    split(text, |letter| match letter {
        Some(letter) => word = fnv(word, letter),
        None => hashes.push(mix(std::mem::replace(&mut word, FNV))),
    });
}

/// The hash of each n-gram of words given by their hashes; of at most `n` words, one hash of all.
pub(crate) fn windows(words: &[u64], n: usize) -> impl Iterator<Item = u64> + '_ {
    let n = n.clamp(1, words.len().max(1));
    let all = words.is_empty().then_some(0);
    all.into_iter().chain(
        words
            .windows(n)
            .map(|gram| gram.iter().fold(0, |hash, word| mix(hash ^ *word).wrapping_add(1))),
    )
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, c: char) -> u64 {
    (hash ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3)
}

/// The finalizer of splitmix64: every input bit affects every output bit.
pub(crate) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
