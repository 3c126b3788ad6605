//! The control tokens of the model families, as one table.
//!
//! A family is a list of control tokens, each with its effect. The cleaner searches for all of them at once and acts on
//! the effects, so one file may mix families. No other module spells a token, but for the notations of
//! [tool calls](crate::tool_calls).

use std::sync::LazyLock;

use crate::Role;

/// The meaning of a control token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Beginning of text. Text between it and the first turn is a system message.
    Begin,
    /// Starts a turn of this role and ends the previous one.
    Turn(Role),
    /// Starts a turn. The role follows, up to one of these strings.
    Header(&'static [&'static str]),
    /// Ends a turn.
    End,
    /// Starts the assistant's reasoning. This label may follow the token, and is removed.
    Think(&'static str),
    /// Ends the reasoning.
    EndThink,
    /// Starts a tool call.
    Call,
    /// Ends a tool call.
    EndCall,
    /// Starts a tool result inside another turn.
    Response,
    /// Ends a tool result.
    EndResponse,
    /// Stands at the ends of a turn around lists of calls or results, or switches thinking on. It carries no text.
    Frame,
    /// Any other control token: padding, media, the quotes of tool arguments.
    Other,
}

/// A family: its name in reports, and its control tokens.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    marks: &'static [(&'static str, Effect)],
}

use Effect::{
    Begin, Call, End, EndCall, EndResponse, EndThink, Frame, Header, Other, Response, Think, Turn,
};
use Role::{Assistant, System, Tool, User};

/// All families, the most common first.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        name: "ChatML",
        marks: &[
            ("<|im_start|>", Header(&["\n", "<|im_sep|>"])),
            ("<|im_end|>", End),
            ("<|im_sep|>", Other),
            ("<|endoftext|>", End),
            ("<think>", Think("")),
            ("</think>", EndThink),
            ("<tool_call>", Call),
            ("</tool_call>", EndCall),
            ("<tool_response>", Response),
            ("</tool_response>", EndResponse),
            ("<|object_ref_start|>", Other),
            ("<|object_ref_end|>", Other),
            ("<|box_start|>", Other),
            ("<|box_end|>", Other),
            ("<|quad_start|>", Other),
            ("<|quad_end|>", Other),
            ("<|vision_start|>", Other),
            ("<|vision_end|>", Other),
            ("<|vision_pad|>", Other),
            ("<|image_pad|>", Other),
            ("<|video_pad|>", Other),
            ("<|fim_prefix|>", Other),
            ("<|fim_middle|>", Other),
            ("<|fim_suffix|>", Other),
            ("<|fim_pad|>", Other),
            ("<|repo_name|>", Other),
            ("<|file_sep|>", Other),
        ],
    },
    Family {
        name: "Gemma",
        marks: &[
            ("<start_of_turn>", Header(&["\n"])),
            ("<end_of_turn>", End),
            ("<bos>", Begin),
            ("<eos>", End),
            ("<pad>", Other),
            ("<unk>", Other),
            ("<mask>", Other),
            ("<start_of_image>", Other),
            ("<end_of_image>", Other),
        ],
    },
    Family {
        name: "Gemma 4",
        marks: &[
            ("<|turn>", Header(&["\n"])),
            ("<turn|>", End),
            ("<|channel>", Think("thought")),
            ("<channel|>", EndThink),
            ("<|think|>", Frame),
            ("<|tool_call>", Call),
            ("<tool_call|>", EndCall),
            ("<|tool>", Other),
            ("<tool|>", Other),
            ("<|tool_response>", Response),
            ("<tool_response|>", EndResponse),
            ("<|\"|>", Other),
            ("<|image>", Other),
            ("<image|>", Other),
            ("<|image|>", Other),
            ("<|audio>", Other),
            ("<audio|>", Other),
            ("<|audio|>", Other),
            ("<|video|>", Other),
        ],
    },
    Family {
        name: "Llama 3",
        marks: &[
            ("<|start_header_id|>", Header(&["<|end_header_id|>"])),
            ("<|end_header_id|>", Other),
            ("<|eot_id|>", End),
            ("<|eom_id|>", End),
            ("<|begin_of_text|>", Begin),
            ("<|end_of_text|>", End),
            ("<|python_tag|>", Call),
            ("<|finetune_right_pad_id|>", Other),
        ],
    },
    // `<|begin_of_text|>` and `<|end_of_text|>` are the same as Llama 3's, `<|image|>` is Gemma 4's.
    Family {
        name: "Llama 4",
        marks: &[
            ("<|header_start|>", Header(&["<|header_end|>"])),
            ("<|header_end|>", Other),
            ("<|eot|>", End),
            ("<|eom|>", End),
            ("<|step|>", End),
            ("<|python_start|>", Call),
            ("<|python_end|>", EndCall),
            ("<|image_start|>", Other),
            ("<|image_end|>", Other),
            ("<|tile_x_separator|>", Other),
            ("<|tile_y_separator|>", Other),
            ("<|patch|>", Other),
            ("<|finetune_right_pad|>", Other),
        ],
    },
    // Tags that models are told to think between, and tuned on; no vocabulary has them.
    Family {
        name: "Thinking tags",
        marks: &[("<thinking>", Think("")), ("</thinking>", EndThink)],
    },
    // Both write `[INST]`; Llama 2 writes its system prompt inside the first user turn.
    Family {
        name: "Llama 2 and Mistral",
        marks: &[
            ("[INST]", Turn(User)),
            ("[/INST]", Turn(Assistant)),
            ("<<SYS>>", Turn(System)),
            ("<</SYS>>", Turn(User)),
            ("[SYSTEM_PROMPT]", Turn(System)),
            ("[/SYSTEM_PROMPT]", End),
            ("[TOOL_RESULTS]", Response),
            ("[TOOL_CONTENT]", Other),
            ("[/TOOL_RESULTS]", EndResponse),
            // Tool declarations become a system message, as in the families that write them into the system turn.
            ("[AVAILABLE_TOOLS]", Turn(System)),
            ("[/AVAILABLE_TOOLS]", End),
            ("[TOOL_CALLS]", Call),
            ("[CALL_ID]", Other),
            ("[ARGS]", Other),
            ("[THINK]", Think("")),
            ("[/THINK]", EndThink),
            ("<s>", Begin),
            ("</s>", End),
        ],
    },
    Family {
        name: "Phi",
        marks: &[
            ("<|system|>", Turn(System)),
            ("<|user|>", Turn(User)),
            ("<|assistant|>", Turn(Assistant)),
            ("<|tool|>", Turn(Tool)),
            ("<|/tool|>", Other),
            ("<|tool_response|>", Turn(Tool)),
            ("<|tool_call|>", Call),
            ("<|/tool_call|>", EndCall),
            ("<|end|>", End),
        ],
    },
    Family {
        name: "DeepSeek",
        marks: &[
            ("<｜begin▁of▁sentence｜>", Begin),
            ("<｜User｜>", Turn(User)),
            ("<｜Assistant｜>", Turn(Assistant)),
            ("<｜end▁of▁sentence｜>", End),
            ("<｜▁pad▁｜>", Other),
            ("<｜tool▁calls▁begin｜>", Frame),
            ("<｜tool▁calls▁end｜>", Frame),
            ("<｜tool▁call▁begin｜>", Call),
            ("<｜tool▁call▁end｜>", EndCall),
            ("<｜tool▁sep｜>", Other),
            ("<｜tool▁outputs▁begin｜>", Frame),
            ("<｜tool▁outputs▁end｜>", Frame),
            ("<｜tool▁output▁begin｜>", Response),
            ("<｜tool▁output▁end｜>", EndResponse),
        ],
    },
    // Its headers hold more than a role, so `clean::harmony` reads them. `<|end|>` is the same as Phi's.
    Family {
        name: HARMONY,
        marks: &[
            ("<|start|>", Other),
            ("<|channel|>", Other),
            ("<|message|>", Other),
            ("<|constrain|>", Other),
            ("<|call|>", Other),
            ("<|return|>", Other),
        ],
    },
];

/// The name of the family that `clean::harmony` reads.
pub(crate) const HARMONY: &str = "Harmony";

/// One control token of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Index into the table.
    pub(crate) id: usize,
    pub(crate) literal: &'static str,
    pub(crate) effect: Effect,
    /// Index into [`FAMILIES`].
    pub(crate) family: usize,
}

/// A control token in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) mark: &'static Mark,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Found {
    /// Where the text after the token begins, behind the label of a reasoning token.
    pub(crate) fn content_start(&self, text: &str) -> usize {
        match self.mark.effect {
            Effect::Think(label) if text[self.end..].starts_with(label) => self.end + label.len(),
            _ => self.end,
        }
    }
}

struct Searcher {
    marks: Vec<Mark>,
    /// The tokens by their second and third byte (see [`group`]), in the order of the table.
    groups: Vec<Vec<Mark>>,
    /// The length of the longest token.
    longest: usize,
}

static SEARCHER: LazyLock<Searcher> = LazyLock::new(|| {
    let entries = FAMILIES.iter().enumerate();
    let entries = entries.flat_map(|(family, entry)| entry.marks.iter().map(move |m| (family, m)));
    let marks: Vec<Mark> = entries
        .enumerate()
        .map(|(id, (family, &(literal, effect)))| Mark { id, literal, effect, family })
        .collect();
    let mut groups = vec![Vec::new(); 256];
    for mark in &marks {
        if let Some(group) = group(mark.literal.as_bytes()).and_then(|at| groups.get_mut(at)) {
            group.push(*mark);
        }
    }
    let longest = marks.iter().map(|mark| mark.literal.len()).max().unwrap_or(0);
    Searcher { marks, groups, longest }
});

/// The group of the tokens that `text` may begin with.
fn group(text: &[u8]) -> Option<usize> {
    let [_, second, third, ..] = text else { return None };
    Some(usize::from(second ^ third.rotate_left(3)))
}

impl Searcher {
    /// The control token that `text` begins with. There is at most one, because no token is the beginning of another.
    fn opening(&self, text: &[u8]) -> Option<&Mark> {
        self.groups.get(group(text)?)?.iter().find(|mark| {
            let literal = mark.literal.as_bytes();
            // The last byte tells most apart.
            text.get(literal.len() - 1) == literal.last() && text.starts_with(literal)
        })
    }
}

/// The whole table.
pub(crate) fn all() -> &'static [Mark] {
    &SEARCHER.marks
}

/// All control tokens of all families in `text`, from left to right.
pub(crate) fn find(text: &str) -> Marks<'_> {
    Marks { text: text.as_bytes(), at: 0 }
}

/// The control token that begins at byte `at` of `text`.
pub(crate) fn starting(text: &str, at: usize) -> Option<Found> {
    let rest = text.as_bytes().get(at..).filter(|rest| matches!(rest, [b'<' | b'[', ..]))?;
    let mark = SEARCHER.opening(rest)?;
    Some(Found { mark, start: at, end: at + mark.literal.len() })
}

/// Whether `text` contains a control token of any family.
pub(crate) fn is_in(text: &str) -> bool {
    find(text).next().is_some()
}

/// See [`find`].
pub(crate) struct Marks<'t> {
    text: &'t [u8],
    at: usize,
}

impl Iterator for Marks<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        // Every control token begins with one of these two characters (a test checks the table).
        while let Some(next) = memchr::memchr2(b'<', b'[', self.text.get(self.at..)?) {
            let start = self.at + next;
            self.at = start + 1;
            if let Some(mark) = SEARCHER.opening(&self.text[start..]) {
                self.at = start + mark.literal.len();
                return Some(Found { mark, start, end: self.at });
            }
        }
        self.at = self.text.len();
        None
    }
}

/// The control token that `text` ends with. There is at most one, because no token is a suffix of another.
pub(crate) fn ending(text: &str) -> Option<&'static Mark> {
    let text = text.as_bytes();
    if !matches!(text.last(), Some(b'>' | b']')) {
        return None;
    }
    let mut rest = &text[text.len().saturating_sub(SEARCHER.longest)..];
    while let Some(next) = memchr::memchr2(b'<', b'[', rest) {
        rest = &rest[next..];
        match SEARCHER.opening(rest) {
            Some(mark) if mark.literal.len() == rest.len() => return Some(mark),
            _ => rest = &rest[1..],
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sound() {
        let searcher = &*SEARCHER;
        for (index, mark) in searcher.marks.iter().enumerate() {
            let literal = mark.literal;
            assert!(literal.starts_with(['<', '[']), "{literal} begins otherwise");
            assert!(literal.ends_with(['>', ']']), "{literal} ends otherwise");
            assert!(literal.len() > 2, "{literal} is too short to be grouped");
            let found = find(literal).next().map(|found| found.mark.id);
            assert_eq!(found, Some(index), "{literal}");
            for text in [literal.to_owned(), format!("< [a] <|{literal}")] {
                assert_eq!(ending(&text).map(|mark| mark.id), Some(index), "{text}");
                assert!(ending(&format!("{text} ")).is_none());
            }
            for other in &searcher.marks[index + 1..] {
                let (a, b) = (literal, other.literal);
                assert!(!a.ends_with(b) && !b.ends_with(a), "{a} and {b} end alike");
                assert!(!a.starts_with(b) && !b.starts_with(a), "{a} and {b} begin alike");
            }
        }
    }

    proptest::proptest! {
        /// Both searches find what a comparison with the whole table finds.
        #[test]
        fn tokens_are_found_wherever_they_are(
            parts in proptest::collection::vec((0..all().len(), 0..40_usize, "[<\\[|a>\\]/]{0,2}"), 0..6),
        ) {
            // Tokens, some of them torn, one behind the other.
            let torn = |&(id, kept, ref between): &(usize, usize, String)| {
                let literal = all()[id].literal;
                let end = (0..=kept.min(literal.len())).rev().find(|&at| literal.is_char_boundary(at));
                format!("{}{between}", &literal[..end.unwrap_or(0)])
            };
            let text: String = parts.iter().map(torn).collect();
            let (mut at, mut expected) = (0, Vec::new());
            while let Some(next) = text[at..].chars().next() {
                let mark = all().iter().find(|mark| text[at..].starts_with(mark.literal));
                expected.extend(mark.map(|mark| (at, mark.id)));
                at += mark.map_or(next.len_utf8(), |mark| mark.literal.len());
            }
            let found: Vec<_> = find(&text).map(|found| (found.start, found.mark.id)).collect();
            proptest::prop_assert_eq!(found, expected);
            let last = all().iter().find(|mark| text.ends_with(mark.literal)).map(|mark| mark.id);
            proptest::prop_assert_eq!(ending(&text).map(|mark| mark.id), last);
        }
    }
}
