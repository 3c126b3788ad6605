//! Which tokens of a row are trained.

use std::ops::Range;

use crate::tokenizer::{Ending, common_prefix};
use crate::{ChatTokenizer, Conversation, Message, RenderOptions, Result, Role, Thinking};

/// Which tokens of a row are trained, unless a message's own [`Message::train`] says otherwise.
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
    /// Renders a conversation and marks the tokens to train.
    ///
    /// An assistant turn starts where the rendering of the whole row leaves the prompt that would have asked for it, found by
    /// their *common prefix*: prompts may end in something that the finished row lacks (an empty thinking block),
    /// and comparing lengths would cut into the answer. It ends with the template's end-of-turn token.
    ///
    /// A row is rendered as it will be served: where the generation prompt opens and closes an empty thinking block
    /// that the template leaves out of finished turns (Gemma 4), the last turn gets it too, untrained.
    pub fn training_row(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
        supervision: Supervision,
    ) -> Result<TrainingRow> {
        let row = Row::new(self, conversation, options)?;
        let messages = &conversation.messages;
        let last = messages.iter().rposition(|message| message.role == Role::Assistant);
        let mut spans = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            let wanted = match supervision {
                Supervision::All => true,
                Supervision::AssistantTurns => true,
                Supervision::LastTurn => Some(index) == last,
            };
            let counts = message.train.unwrap_or(wanted) != (supervision == Supervision::All);
            if message.role == Role::Assistant && counts {
                spans.push(row.turn(index)?);
            }
        }
        let length = row.tokens.len();
        let trained = match supervision {
            // The spans are the turns to leave out.
            Supervision::All => gaps(&spans, 1..length),
            _ => spans,
        };
        let trained = trained.into_iter().filter(|span| !span.is_empty()).collect();
        Ok(TrainingRow { tokens: row.tokens, trained })
    }

    /// A plain text as a row, trained throughout.
    pub fn text_row(&self, text: &str) -> Result<TrainingRow> {
        let tokens = self.text_tokens(text)?;
        let trained = (tokens.len() > 1).then_some(1..tokens.len());
        Ok(TrainingRow { tokens, trained: trained.into_iter().collect() })
    }
}

/// A rendered conversation, as it will be served.
struct Row<'a> {
    tokenizer: &'a ChatTokenizer,
    conversation: &'a Conversation,
    options: &'a RenderOptions,
    tokens: Vec<u32>,
    /// Where the empty thinking block was put in, if it was.
    block: Option<Range<usize>>,
}

impl<'a> Row<'a> {
    fn new(
        tokenizer: &'a ChatTokenizer,
        conversation: &'a Conversation,
        options: &'a RenderOptions,
    ) -> Result<Self> {
        let mut row = Row { tokenizer, conversation, options, tokens: Vec::new(), block: None };
        row.tokens = row.render(&conversation.messages, Ending::Complete)?;
        let [earlier @ .., last] = &conversation.messages[..] else { return Ok(row) };
        if last.role == Role::Assistant && options.thinking == Thinking::Off {
            let prompt = row.render(earlier, Ending::GenerationPrompt)?;
            let start = common_prefix(&prompt, &row.tokens);
            let block = &prompt[start..];
            // Opened and closed again. A block left open belongs to a template that always thinks.
            let controls = block.iter().filter(|&&id| tokenizer.is_control(id)).count();
            if controls > 0 && controls % 2 == 0 {
                row.tokens.splice(start..start, block.iter().copied());
                row.block = Some(start..start + block.len());
            }
        }
        Ok(row)
    }

    /// The tokens of one assistant turn.
    fn turn(&self, index: usize) -> Result<Range<usize>> {
        let messages = &self.conversation.messages;
        let is_last = index + 1 == messages.len();
        let start = match &self.block {
            Some(block) if is_last => block.end,
            _ => {
                let prompt = self.render(&messages[..index], Ending::GenerationPrompt)?;
                common_prefix(&prompt, &self.tokens)
            }
        };
        // A turn that calls a tool may end without an end-of-turn token. Then it ends where the row leaves a rendering that
        // stops here; unless that differs from the start on, because templates drop thinking from earlier turns.
        let limit = match is_last {
            true => self.tokens.len(),
            false => {
                let so_far = self.render(&messages[..=index], Ending::Complete)?;
                match common_prefix(&so_far, &self.tokens) {
                    limit if limit > start => limit,
                    _ => self.tokens.len(),
                }
            }
        };
        let stops = self.tokenizer.stop_ids();
        let words = self.tokens.get(start..limit).unwrap_or_default();
        let stop = words.iter().position(|id| stops.contains(id));
        Ok(start..stop.map_or(limit.max(start), |stop| start + stop + 1))
    }

    fn render(&self, messages: &[Message], ending: Ending) -> Result<Vec<u32>> {
        let tools = match self.conversation.tools.is_empty() {
            true => &self.options.tools,
            false => &self.conversation.tools,
        };
        self.tokenizer.tokens(messages, tools, self.options, ending)
    }
}

/// What is left of `whole` between `spans`, which are ascending.
fn gaps(spans: &[Range<usize>], whole: Range<usize>) -> Vec<Range<usize>> {
    let starts = std::iter::once(whole.start).chain(spans.iter().map(|span| span.end));
    let ends = spans.iter().map(|span| span.start).chain(std::iter::once(whole.end));
    starts.zip(ends).map(|(start, end)| start..end.max(start)).collect()
}
