//! Which tokens of a row are trained.

use std::ops::Range;

use crate::tokenizer::common_prefix;
use crate::turns::{Rendering, name};
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
        let messages = &conversation.messages;
        let tools = messages.iter().any(|message| message.role == Role::Tool);
        let plain = self.generation_prompt(options, Role::User)?;
        let behind_tools = match tools {
            true => self.generation_prompt(options, Role::Tool).unwrap_or_else(|_| plain.clone()),
            false => String::new(),
        };
        let header = |index: usize| match index.checked_sub(1).map(|before| messages[before].role) {
            Some(Role::Tool) => behind_tools.as_str(),
            _ => plain.as_str(),
        };
        let last = messages.iter().rposition(|message| message.role == Role::Assistant);
        let mut spans: Vec<Range<usize>> = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let wanted = supervision != Supervision::LastTurn || Some(index) == last;
            let counts = message.train.unwrap_or(wanted) != (supervision == Supervision::All);
            if message.role == Role::Assistant && counts {
                let turn = rendering.turn(self, index, message, header(index))?;
                let after = spans.last().map_or(0, |span| span.end);
                let ascend = turn.iter().try_fold(after, |end, span| {
                    (span.start >= end && span.end > span.start).then_some(span.end)
                });
                if ascend.is_none()
                    || turn.iter().any(|span| rendering.holds_other_text(span, index))
                {
                    let reason = "the template mixes its words with another turn's";
                    return Err(Error::Turn { message: index, reason });
                }
                spans.extend(turn);
            }
        }
        if options.thinking == Thinking::Off
            && messages.last().map(|m| m.role) == Some(Role::Assistant)
        {
            let last = messages.len() - 1;
            self.add_empty_thinking(&mut rendering, last, header(last), &mut spans);
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

    /// The rows that train a conversation's turns each in the context in which the model is asked for it.
    ///
    /// Templates may render a turn in another way once others follow: without its reasoning, or without the empty thinking block
    /// that the generation prompt holds. Trained in one row, such a turn would learn from a context that is never served. So a turn
    /// whose context in the whole row is not the prompt that asks for it becomes a row of its own, which ends with it.
    /// The last row is that of the whole conversation.
    ///
    /// # Errors
    /// As [`training_row`](Self::training_row).
    pub fn training_rows(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        supervision: Supervision,
    ) -> Result<Vec<TrainingRow>> {
        if supervision != Supervision::AssistantTurns {
            return Ok(vec![self.training_row(conversation, options, supervision)?]);
        }
        let mut whole = conversation.clone();
        let mut rows = Vec::new();
        let last = whole.messages.iter().rposition(|message| message.role == Role::Assistant);
        for index in 0..whole.messages.len() {
            let message = &conversation.messages[index];
            let trained = message.role == Role::Assistant && message.train.unwrap_or(true);
            if !trained || Some(index) == last {
                continue;
            }
            let mut alone = Conversation {
                messages: conversation.messages[..=index].to_vec(),
                ..conversation.clone()
            };
            alone.messages[index].train = Some(true);
            let alone = self.training_row(&alone, options, Supervision::LastTurn);
            // What does not stand alone (a greeting, under some templates) is trained where it stands.
            let (Ok(alone), Ok(beside)) = (alone, self.only_turn(conversation, index, options))
            else {
                continue;
            };
            let context = |row: &TrainingRow| {
                row.trained.first().map(|span| row.tokens[..span.start].to_vec())
            };
            if context(&alone) != context(&beside) {
                whole.messages[index].train = Some(false);
                rows.push(alone);
            }
        }
        let whole = self.training_row(&whole, options, supervision)?;
        if !whole.trained.is_empty() || rows.is_empty() {
            rows.push(whole);
        }
        Ok(rows)
    }

    /// The row of a whole conversation in which one turn alone is trained.
    fn only_turn(
        &self,
        conversation: &Conversation,
        index: usize,
        options: &RenderOptions,
    ) -> Result<TrainingRow> {
        let mut chat = conversation.clone();
        for (number, message) in chat.messages.iter_mut().enumerate() {
            message.train = Some(number == index);
        }
        self.training_row(&chat, options, Supervision::AssistantTurns)
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
