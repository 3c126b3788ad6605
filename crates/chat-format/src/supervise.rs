//! Which tokens of a row are trained.

use std::ops::Range;

use crate::turns::{Rendering, is_pair};
use crate::{ChatTokenizer, Conversation, Error, Message, RenderOptions, Result, Role, Thinking};

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
    fn new(tokens: Vec<u32>, mut trained: Vec<Range<usize>>) -> Self {
        trained.retain(|span| !span.is_empty());
        Self { tokens, trained }
    }

    /// How many tokens are predicted.
    pub fn trained_tokens(&self) -> usize {
        self.trained.iter().map(ExactSizeIterator::len).sum()
    }
}

impl ChatTokenizer {
    /// Renders a conversation and marks the tokens to train.
    ///
    /// Each assistant turn is found by its own words in the rendering. A span begins where the generation prompt ends and
    /// ends with the token that ends the turn; it holds the turn's words and calls and no other message's. A turn into which
    /// the template writes a tool's result has more than one span.
    ///
    /// If the generation prompt opens and closes an empty thinking block that the template leaves out of finished turns
    /// (Gemma 4), the last turn gets it too, untrained: the row is then what the model sees when it is served. Some templates ask
    /// with other tokens than those of finished turns all the same (DeepSeek R1's always opens reasoning): the row is then what
    /// the template renders. The test `supervision` lists them.
    ///
    /// # Errors
    /// What the template refuses, and a turn to train that the template leaves out, in whole or in part.
    pub fn training_row(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        supervision: Supervision,
    ) -> Result<TrainingRow> {
        let conversation = &*self.with_written_tools(conversation, options);
        let last = last_turn(conversation);
        let all = supervision == Supervision::All;
        let row =
            Supervisor::new(self, conversation, options)?.row(conversation, |index, message| {
                let wanted = supervision != Supervision::LastTurn || Some(index) == last;
                message.train.unwrap_or(wanted) != all
            })?;
        let (tokens, spans) = row.encode()?;
        // Under `All`, the spans are the turns to leave out.
        let trained = if all { gaps(&spans, 1..tokens.len()) } else { spans };
        Ok(TrainingRow::new(tokens, trained))
    }

    /// The rows that train a conversation's turns, each in the context in which the model is asked for it.
    ///
    /// Templates may render a turn in another way once others follow: without its reasoning, or without the empty thinking block
    /// of the generation prompt. In one row, such a turn would be trained in a context that is never served. So a turn whose
    /// context in the whole row is not that of a row which ends with it becomes such a row. The last row is that of the whole
    /// conversation.
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
        let conversation = &*self.with_written_tools(conversation, options);
        let last = last_turn(conversation);
        let wanted = |_, message: &Message| message.train.unwrap_or(true);
        let supervisor = Supervisor::new(self, conversation, options)?;
        let mut whole = supervisor.row(conversation, wanted)?;
        let mut rows = Vec::new();
        for (index, _) in whole.turns.clone() {
            if Some(index) == last {
                continue;
            }
            let mut alone = conversation.clone();
            alone.messages.truncate(index + 1);
            // What does not stand alone (a greeting, under some templates) is trained where it is.
            let Ok(alone) = supervisor.row(&alone, |turn, _| turn == index) else { continue };
            if alone.context(index) != whole.context(index) {
                whole.turns.retain(|(turn, _)| *turn != index);
                rows.push(alone);
            }
        }
        if !whole.turns.is_empty() || rows.is_empty() {
            rows.push(whole);
        }
        let row = |row: SupervisedRow| {
            row.encode().map(|(tokens, spans)| TrainingRow::new(tokens, spans))
        };
        rows.into_iter().map(row).collect()
    }

    /// A plain text as a row, trained throughout.
    pub fn text_row(&self, text: &str) -> Result<TrainingRow> {
        let tokens = self.text_tokens(text)?;
        let whole = 1..tokens.len();
        Ok(TrainingRow::new(tokens, vec![whole]))
    }
}

fn last_turn(conversation: &Conversation) -> Option<usize> {
    conversation.messages.iter().rposition(|message| message.role == Role::Assistant)
}

/// What the rows of a conversation have in common.
struct Supervisor<'a> {
    tokenizer: &'a ChatTokenizer,
    options: &'a RenderOptions,
    /// What the template writes to ask for an assistant turn after a question.
    after_question: String,
    /// The same after a tool's result.
    after_result: String,
}

impl<'a> Supervisor<'a> {
    fn new(
        tokenizer: &'a ChatTokenizer,
        conversation: &Conversation,
        options: &'a RenderOptions,
    ) -> Result<Self> {
        let after_question = tokenizer.generation_prompt(options, Role::User)?;
        let tools = conversation.messages.iter().any(|message| message.role == Role::Tool);
        let after_result = tools.then(|| tokenizer.generation_prompt(options, Role::Tool).ok());
        let after_result = after_result.flatten().unwrap_or_else(|| after_question.clone());
        Ok(Self { tokenizer, options, after_question, after_result })
    }

    /// Renders a conversation and finds the assistant turns that `counts`.
    fn row(
        &self,
        conversation: &Conversation,
        counts: impl Fn(usize, &Message) -> bool,
    ) -> Result<SupervisedRow<'a>> {
        let Self { tokenizer, options, .. } = *self;
        let rendering = Rendering::new(tokenizer, conversation, options)?;
        let mut row = SupervisedRow { tokenizer, rendering, turns: Vec::new() };
        let messages = &conversation.messages;
        let mut done = 0;
        for (index, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant || !counts(index, message) {
                continue;
            }
            let header = self.header(messages, index);
            let spans = row.rendering.turn(tokenizer, index, message, header)?;
            for span in &spans {
                if span.start < done {
                    let reason = "the template writes it before the turn that it follows";
                    return Err(Error::Turn { message: index, reason });
                }
                done = span.end;
            }
            row.turns.push((index, spans));
        }
        if let (Thinking::Off, Some(last)) = (options.thinking, messages.len().checked_sub(1))
            && messages[last].role == Role::Assistant
        {
            row.add_empty_thinking(last, self.header(messages, last));
        }
        Ok(row)
    }

    /// What the template writes to ask for the turn `index`.
    fn header(&self, messages: &[Message], index: usize) -> &str {
        match index.checked_sub(1).map(|before| messages[before].role) {
            Some(Role::Tool) => &self.after_result,
            _ => &self.after_question,
        }
    }
}

/// A rendered conversation with the ranges of the assistant turns that are supervised.
struct SupervisedRow<'a> {
    tokenizer: &'a ChatTokenizer,
    rendering: Rendering,
    /// The ranges of each turn, by the number of its message: ascending and disjoint.
    turns: Vec<(usize, Vec<Range<usize>>)>,
}

impl SupervisedRow<'_> {
    /// Puts the empty thinking block of the generation prompt before the words of the last turn, if the template has left it
    /// out or left it unopened.
    fn add_empty_thinking(&mut self, index: usize, header: &str) {
        let Some(begin) = self.rendering.beginning(index) else { return };
        let shared = self.rendering.shared_header(header, begin, self.rendering.text.len());
        let block = &header[shared..];
        let pieces = self.tokenizer.pieces(block);
        let controls = pieces.iter().filter(|piece| piece.control.is_some());
        let controls: Vec<&str> = controls.map(|piece| &block[piece.range.clone()]).collect();
        let [open, close] = controls[..] else { return };
        if shared == 0 || !block.starts_with(open) || !is_pair(open, close) {
            return;
        }
        let at = begin + shared;
        let missing = &block[..block.len() - self.rendering.end_of_block(at, block)];
        self.rendering.text.insert_str(at, missing);
        for span in self.turns.iter_mut().flat_map(|(_, spans)| spans) {
            if span.start >= at {
                *span = span.start + missing.len()..span.end + missing.len();
            }
        }
    }

    /// What the model has read when it writes a turn.
    fn context(&self, index: usize) -> Option<String> {
        let (_, spans) = self.turns.iter().find(|(turn, _)| *turn == index)?;
        let end = spans.first()?.start;
        Some(self.rendering.disguise.reveal(&self.rendering.text[..end]))
    }

    /// The tokens of the row, and the turns' ranges as indices of tokens.
    fn encode(&self) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let Rendering { text, disguise, .. } = &self.rendering;
        let spans = self.turns.iter().flat_map(|(_, spans)| spans);
        let cuts: Vec<usize> = spans.flat_map(|span| [span.start, span.end]).collect();
        let (tokens, cuts) = self.tokenizer.encode_rendering(text, disguise, &cuts)?;
        // Nothing predicts the first token.
        let spans = cuts.chunks_exact(2).map(|ends| ends[0].max(1)..ends[1]).collect();
        Ok((tokens, spans))
    }
}

/// What is left of `whole` between `spans`, which are ascending.
fn gaps(spans: &[Range<usize>], whole: Range<usize>) -> Vec<Range<usize>> {
    let starts = std::iter::once(whole.start).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(whole.end));
    starts.zip(ends).map(|(start, end)| start..end.max(start)).collect()
}
