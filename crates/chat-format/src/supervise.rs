//! Which tokens of a row are trained.

use std::ops::Range;

use crate::turns::{Rendering, common_prefix, name};
use crate::{ChatTokenizer, Conversation, Error, RenderOptions, Result, Role, Thinking};

/// Which tokens of a row are trained, unless a message's own [`Message::train`](crate::Message::train) says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Supervision {
    /// Every token but the first, which nothing predicts.
    All,
    /// Every assistant turn: its words and the token that ends it.
    #[default]
    AssistantTurns,
    /// The last assistant turn alone.
    LastTurn,
}

/// A row ready for training.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrainingRow {
    /// The whole row.
    pub tokens: Vec<u32>,
    /// The tokens to be predicted, as ranges of indices into `tokens`: ascending, disjoint, never index 0.
    pub trained: Vec<Range<usize>>,
}

impl TrainingRow {
    /// How many tokens are predicted.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().map(ExactSizeIterator::len).sum()
    }
}

impl ChatTokenizer {
    /// Renders a conversation once and marks the tokens to train.
    ///
    /// Each assistant turn is found by its own words in the rendering. A span begins where the generation prompt leaves off
    /// and ends with the token that ends the turn; it holds the turn's words and calls and no other message's. A turn into
    /// whose middle the template writes a tool's result has more than one span.
    ///
    /// Where the generation prompt opens and closes an empty thinking block that the template leaves out of finished turns
    /// (Gemma 4), the last turn gets it too, untrained: the row is then what the model sees when it is served.
    ///
    /// # Errors
    /// What the template refuses, and a turn that is to be trained but that the template leaves out, in whole or in part.
    pub fn training_row(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        supervision: Supervision,
    ) -> Result<TrainingRow> {
        let mut rendering = Rendering::new(self, conversation, options)?;
        let header = self.generation_prompt(options)?;
        let messages = &conversation.messages;
        let last = messages.iter().rposition(|message| message.role == Role::Assistant);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let wanted = supervision != Supervision::LastTurn || Some(index) == last;
            let counts = message.train.unwrap_or(wanted) != (supervision == Supervision::All);
            if message.role == Role::Assistant && counts {
                let turn = rendering.turn(self, index, message, &header)?;
                let after = spans.last().map_or(0, |span| span.end);
                let ascend = turn.iter().try_fold(after, |end, span| {
                    (span.start >= end && span.end > span.start).then_some(span.end)
                });
                if ascend.is_none() || turn.iter().any(|span| rendering.holds_other_text(span, index)) {
                    let reason = "the template mixes its words with another turn's";
                    return Err(Error::Turn { message: index, reason });
                }
                spans.extend(turn);
            }
        }
        if options.thinking == Thinking::Off && messages.last().map(|m| m.role) == Some(Role::Assistant) {
            self.add_empty_thinking(&mut rendering, messages.len() - 1, &header, &mut spans);
        }
        let cuts: Vec<usize> = spans.iter().flat_map(|span| [span.start, span.end]).collect();
        let (tokens, cuts) = self.encode_rendering(&rendering.text, &rendering.disguise, &cuts)?;
        let spans: Vec<_> = cuts.chunks_exact(2).map(|ends| ends[0].max(1)..ends[1]).collect();
        let trained = match supervision {
            // The spans are the turns to leave out.
            Supervision::All => gaps(&spans, 1..tokens.len()),
            _ => spans,
        };
        let trained = trained.into_iter().filter(|span| !span.is_empty()).collect();
        Ok(TrainingRow { tokens, trained })
    }

    /// A plain text as a row, trained throughout.
    pub fn text_row(&self, text: &str) -> Result<TrainingRow> {
        let tokens = self.text_tokens(text)?;
        let trained = (tokens.len() > 1).then_some(1..tokens.len());
        Ok(TrainingRow { tokens, trained: trained.into_iter().collect() })
    }

    /// Puts the empty thinking block of the generation prompt before the last turn's words, where the template has left it out.
    fn add_empty_thinking(
        &self,
        rendering: &mut Rendering,
        index: usize,
        header: &str,
        spans: &mut [Range<usize>],
    ) {
        let Some(begin) = rendering.beginning(index) else { return };
        let shared = common_prefix(header, &rendering.text[begin..]);
        let block = &header[shared..];
        let pieces = self.pieces(block);
        let mut controls = pieces.iter().filter(|piece| piece.control.is_some());
        let (Some(open), Some(close), None) = (controls.next(), controls.next(), controls.next())
        else {
            return;
        };
        let (open, close) = (&block[open.range.clone()], &block[close.range.clone()]);
        if shared == 0 || !block.starts_with(open) || open == close || name(open) != name(close) {
            return;
        }
        let at = begin + shared;
        rendering.text.insert_str(at, block);
        for span in spans.iter_mut().filter(|span| span.start >= at) {
            *span = span.start + block.len()..span.end + block.len();
        }
    }
}

/// What is left of `whole` between `spans`, which are ascending.
fn gaps(spans: &[Range<usize>], whole: Range<usize>) -> Vec<Range<usize>> {
    let starts = std::iter::once(whole.start).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(whole.end));
    starts.zip(ends).map(|(start, end)| start..end.max(start)).collect()
}
