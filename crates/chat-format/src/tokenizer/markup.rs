//! The control tokens of a vocabulary, and where a rendered text holds them.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, Tokenizer};

/// The control tokens: those the vocabulary marks as special, and those among its other added tokens that the template
/// writes (`<think>`, `<|channel>`: just as able to forge a turn). Added tokens that are only white space stay plain: they
/// are a compression of text, and must match inside it as in the reference tokenizer.
#[derive(Debug, Clone)]
pub(super) struct Markup {
    ids: BTreeSet<u32>,
    guarded: BTreeSet<char>,
    literals: AhoCorasick,
    /// What each literal of `literals` stands for.
    tokens: Vec<Control>,
}

#[derive(Debug, Clone)]
struct Control {
    id: u32,
    strips_before: bool,
    strips_after: bool,
}

/// A part of a rendered text: a control token, or text between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: Range<usize>,
    /// The control token.
    pub(crate) control: Option<u32>,
}

impl Markup {
    /// Finds the control tokens and switches them off in `tokenizer`.
    pub(super) fn find(tokenizer: &mut Tokenizer, template: &str) -> Result<Self, String> {
        let is_control = |token: &AddedToken| {
            let text = &token.content;
            token.special || (!text.trim().is_empty() && template.contains(text.as_str()))
        };
        let mut controls: Vec<(u32, AddedToken)> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| is_control(token))
            .collect();
        controls.sort_by_key(|(id, _)| *id);

        let newly_special: Vec<AddedToken> = controls
            .iter()
            .filter(|(_, token)| !token.special)
            .map(|(_, token)| token.clone().special(true))
            .collect();
        tokenizer.add_special_tokens(newly_special).map_err(|error| error.to_string())?;
        tokenizer.set_encode_special_tokens(true);

        let mut markup = Markup {
            ids: controls.iter().map(|(id, _)| *id).collect(),
            guarded: BTreeSet::new(),
            literals: AhoCorasick::new([""; 0]).map_err(|error| error.to_string())?,
            tokens: Vec::new(),
        };
        let mut literals = Vec::new();
        for (id, token) in controls {
            // A literal like `unused7` cannot be told from words, so it is never read as a control token.
            let Some((first, last)) = ends(&token.content) else { continue };
            markup.guarded.extend([first, last]);
            markup.tokens.push(Control {
                id,
                strips_before: token.lstrip,
                strips_after: token.rstrip,
            });
            literals.push(token.content);
        }
        markup.literals = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&literals)
            .map_err(|error| error.to_string())?;
        Ok(markup)
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        self.ids.contains(&id)
    }

    /// The characters that begin or end a control token.
    pub(super) fn guarded(&self) -> &BTreeSet<char> {
        &self.guarded
    }

    /// Cuts `text` at its control tokens.
    pub(super) fn split(&self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut done = 0;
        for found in self.literals.find_iter(text) {
            let Some(token) = self.tokens.get(found.pattern().as_usize()) else { continue };
            let mut before = &text[done.min(found.start())..found.start()];
            if token.strips_before {
                before = before.trim_end();
            }
            push_text(&mut pieces, done..done + before.len());
            pieces.push(Piece { range: found.range(), control: Some(token.id) });
            done = found.end();
            if token.strips_after {
                let after = &text[done..];
                done += after.len() - after.trim_start().len();
            }
        }
        push_text(&mut pieces, done..text.len());
        pieces
    }
}

fn push_text(pieces: &mut Vec<Piece>, range: Range<usize>) {
    if !range.is_empty() {
        pieces.push(Piece { range, control: None });
    }
}

/// The first and last character of a literal, if both are punctuation.
fn ends(literal: &str) -> Option<(char, char)> {
    let mark = |c: &char| !c.is_alphanumeric() && !c.is_whitespace() && *c != '_';
    Some((literal.chars().next().filter(mark)?, literal.chars().next_back().filter(mark)?))
}
