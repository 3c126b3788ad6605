//! Control sequences that a template writes as plain text, because the vocabulary has no token for them: `[INST]` and
//! `<<SYS>>` under Llama 2's template, `### Response:`, `USER:`.
//!
//! A text from outside that spells one would become the same tokens. So there one of its tokens is replaced by two shorter
//! ones with the same characters: the text stays as it is, and it is not divided into tokens as the template's own sequence.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;
use tokenizers::Tokenizer;

/// A word that templates do not write by themselves.
pub(super) const WORD: &str = "nightshift";

/// A piece of a rendering between two control tokens, with [`WORD`] for every text of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scaffold {
    pub(super) text: String,
    /// Whether it is of a chat with a call, whose texts are not all messages.
    pub(super) calls: bool,
}

/// The control sequences without tokens of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct TextControls {
    search: Option<AhoCorasick>,
    guarded: BTreeSet<char>,
    /// How the template's own sequences are divided, by sequence.
    divisions: Vec<BTreeSet<Division>>,
}

/// Where tokens end inside a sequence, in characters from its start.
type Division = Vec<usize>;

/// A token and the bytes of the text that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) id: u32,
    pub(super) range: Range<usize>,
}

/// A place that spells a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) range: Range<usize>,
    sequence: usize,
}

impl TextControls {
    /// Collects the sequences in what a template writes around the texts of messages.
    pub(super) fn find(scaffold: &[Scaffold], tokenizer: &Tokenizer) -> tokenizers::Result<Self> {
        let literals = literals(scaffold);
        if literals.is_empty() {
            return Ok(TextControls::default());
        }
        let guarded = literals.iter().flat_map(|literal| guards(literal)).collect();
        let literals: Vec<String> = literals.iter().map(|literal| spaced(literal).0).collect();
        let mut controls = TextControls {
            search: Some(AhoCorasick::new(&literals)?),
            guarded,
            divisions: vec![BTreeSet::new(); literals.len()],
        };
        for Scaffold { text, .. } in scaffold {
            let encoding = tokenizer.encode(text.as_str(), false)?;
            let ids = encoding.get_ids().iter().zip(encoding.get_offsets());
            let placed = ids.map(|(&id, &(from, to))| Placed { id, range: from..to });
            let placed: Vec<Placed> = placed.collect();
            for Spelled { range, sequence } in controls.all(text) {
                controls.divisions[sequence].insert(division(&placed, text, &range));
            }
        }
        Ok(controls)
    }

    /// The characters by which a text from outside that spells a sequence is told from the template's own.
    pub(super) fn guarded(&self) -> &BTreeSet<char> {
        &self.guarded
    }

    /// The places in `text` that spell a sequence with at least one of the bytes `outside`, the shortest first.
    pub(super) fn spelled(&self, text: &str, outside: &[usize]) -> Vec<Spelled> {
        if outside.is_empty() {
            return Vec::new();
        }
        let mut spelled = self.all(text);
        spelled.retain(|Spelled { range, .. }| {
            let first = outside.partition_point(|&at| at < range.start);
            outside.get(first).is_some_and(|&at| at < range.end)
        });
        spelled.sort_by_key(|spelled| (spelled.range.len(), spelled.range.start));
        spelled
    }

    /// All places in `text` that spell a sequence.
    fn all(&self, text: &str) -> Vec<Spelled> {
        let Some(search) = &self.search else { return Vec::new() };
        let (spaced, places) = spaced(text);
        let place = |at: usize| places.get(at).copied().unwrap_or(text.len());
        let found = search.find_overlapping_iter(&spaced).map(|found| Spelled {
            range: place(found.start())..place(found.end()),
            sequence: found.pattern().as_usize(),
        });
        found.collect()
    }

    /// Splits one of the tokens of `text` so that a place is divided unlike the template's own sequence. `None` if no token can
    /// be split.
    pub(super) fn split(
        &self,
        tokens: &mut Vec<Placed>,
        text: &str,
        Spelled { range, sequence }: &Spelled,
        tokenizer: &Tokenizer,
    ) -> Option<()> {
        let own = self.divisions.get(*sequence)?;
        let inside =
            |token: &Placed| range.start < token.range.end && token.range.start < range.end;
        let mut candidates: Vec<usize> =
            (0..tokens.len()).filter(|&index| inside(&tokens[index])).collect();
        candidates.sort_by_key(|&index| std::cmp::Reverse(tokens[index].range.len()));
        let now = division(tokens, text, range);
        for index in candidates {
            for halves in halves(&tokens[index], text, tokenizer) {
                let mut split = tokens.clone();
                split.splice(index..=index, halves);
                let divided = division(&split, text, range);
                if divided != now && !own.contains(&divided) {
                    *tokens = split;
                    return Some(());
                }
            }
        }
        None
    }
}

/// Where tokens end inside a range of a text.
fn division(tokens: &[Placed], text: &str, range: &Range<usize>) -> Division {
    let ends = tokens.iter().map(|token| token.range.end);
    let inside = ends.filter(|&end| range.start < end && end < range.end);
    let characters = |end| text.get(range.start..end).map(|part| part.chars().count());
    inside.filter_map(characters).collect()
}

/// The pairs of tokens with the characters of one, the most even first. None for a token of one character, and for one that is
/// written otherwise in the vocabulary than in the text, but for spaces and a space that is put before the text.
fn halves(token: &Placed, text: &str, tokenizer: &Tokenizer) -> Vec<[Placed; 2]> {
    let Range { start, end } = token.range;
    let written = tokenizer.id_to_token(token.id).unwrap_or_default();
    let characters = text.get(start..end).unwrap_or_default();
    let added = written.chars().count().saturating_sub(characters.chars().count());
    let plain = |c: char| if matches!(c, '▁' | 'Ġ') { ' ' } else { c };
    let same = written.chars().skip(added).map(plain).eq(characters.chars().map(plain));
    let spaces = written.chars().take(added).all(|c| plain(c) == ' ');
    if !same || !spaces {
        return Vec::new();
    }
    let cuts = written.char_indices().map(|(at, _)| at).skip(added);
    let places = characters.char_indices().map(|(at, _)| start + at);
    let mut cuts: Vec<(usize, usize)> = cuts.zip(places).skip(1).collect();
    cuts.sort_by_key(|(cut, _)| cut.abs_diff(written.len() / 2));
    let pair = |(cut, place): (usize, usize)| {
        let (first, second) = written.split_at(cut);
        let (first, second) = (tokenizer.token_to_id(first)?, tokenizer.token_to_id(second)?);
        let halves = [(first, start..place), (second, place..end)];
        Some(halves.map(|(id, range)| Placed { id, range }))
    };
    cuts.into_iter().filter_map(pair).collect()
}

/// A text with a space for every `▁`, as which SentencePiece encodes a space, and where its bytes are in the text.
fn spaced(text: &str) -> (String, Vec<usize>) {
    let (mut spaced, mut places) = (String::with_capacity(text.len()), Vec::new());
    for (at, c) in text.char_indices() {
        let before = spaced.len();
        spaced.push(if c == '▁' { ' ' } else { c });
        places.extend((before..spaced.len()).map(|_| at));
    }
    (spaced, places)
}

/// What looks like a control token, and whatever stands between the texts of two messages, if that is no control token.
fn literals(scaffold: &[Scaffold]) -> BTreeSet<String> {
    let mut literals = BTreeSet::new();
    for Scaffold { text, calls } in scaffold {
        let parts: Vec<&str> = text.split(WORD).collect();
        literals.extend(parts.iter().flat_map(|part| bracketed(part)).map(str::to_owned));
        if let ([_, between @ .., _], false) = (&parts[..], calls) {
            let between = between.iter().map(|part| part.trim());
            let marks_words =
                |part: &&str| part.contains(is_mark) && part.contains(char::is_alphabetic);
            literals.extend(between.filter(marks_words).map(str::to_owned));
        }
    }
    literals
}

/// The parts of a text that look like `[INST]`, `<<SYS>>`, `</tools>` or `<|user|>`.
fn bracketed(text: &str) -> impl Iterator<Item = &str> {
    let inner = |c: char| c.is_alphanumeric() || "|｜▁_-/:.".contains(c);
    text.char_indices().filter_map(move |(start, open)| {
        let close = match open {
            '<' => '>',
            '[' => ']',
            _ => return None,
        };
        let rest = &text[start..];
        let name = rest.trim_start_matches(open);
        let end = rest.len() - name.trim_start_matches(inner).len();
        let (opening, name) = (rest.len() - name.len(), &rest[rest.len() - name.len()..end]);
        let closing = rest[end..].len() - rest[end..].trim_start_matches(close).len();
        let first = !text[..start].ends_with(open);
        let fits = first && opening == closing && name.contains(char::is_alphabetic);
        fits.then(|| &rest[..end + closing])
    })
}

fn is_mark(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace() && c != '_'
}

/// The characters of a literal to guard: those at its ends that are punctuation, or else its last punctuation.
fn guards(literal: &str) -> Vec<char> {
    let ends = [literal.chars().next(), literal.chars().next_back()];
    let ends: Vec<char> = ends.into_iter().flatten().filter(|c| is_mark(*c)).collect();
    match ends.is_empty() {
        true => literal.chars().rfind(|c| is_mark(*c)).into_iter().collect(),
        false => ends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_looks_like_control_tokens() {
        let text =
            "[INST] <<SYS>>\nBe.\n<</SYS>>\n\na [1] [] < b <|user|>x</tools> [\"a\"] <<a> [/INST]";
        let found: Vec<_> = bracketed(text).collect();
        assert_eq!(found, ["[INST]", "<<SYS>>", "<</SYS>>", "<|user|>", "</tools>", "[/INST]"]);
    }

    #[test]
    fn separators_are_what_stands_between_two_texts() {
        let scaffold = |text: &str, calls| Scaffold { text: text.replace('W', WORD), calls };
        let scaffold = [
            scaffold("A chat.\n\nUSER: W\n\nASSISTANT: W", false),
            scaffold("W\nW.", false),
            scaffold("{\"name\": \"W\", \"arguments\": {\"W\"", true),
        ];
        assert_eq!(literals(&scaffold), BTreeSet::from(["ASSISTANT:".to_owned()]));
        assert_eq!(guards("ASSISTANT:"), [':']);
    }
}
