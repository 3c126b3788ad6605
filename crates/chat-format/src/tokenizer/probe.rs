//! What a template writes around an assistant's turn, found by rendering short conversations.

use super::rendering::{Ending, common_prefix};
use super::text_controls::{Scaffold, WORD};
use super::{ChatTokenizer, Piece, RenderOptions};
use crate::turns::Rendering;
use crate::{Conversation, Message, Result, Role, ToolCall};

impl ChatTokenizer {
    /// Short conversations as the template writes them, without control tokens: with and without a system prompt, with a call and
    /// its result, with and without the header of the next turn.
    pub(super) fn scaffold(&self) -> Vec<Scaffold> {
        let word = |role| Message::new(role, WORD);
        let rounds = [Role::User, Role::Assistant, Role::User, Role::Assistant].map(word);
        let mut prompted = vec![word(Role::System)];
        prompted.extend(rounds.clone());
        let call = call();
        let mut result = word(Role::Tool);
        (result.tool_call_id, result.name) = (call.id.clone(), Some(call.name.clone()));
        let calling = Message { tool_calls: vec![call], ..Message::assistant("") };
        let tools = [word(Role::User), calling, result, word(Role::Assistant)];
        let chats = [&rounds[..], &prompted, &tools, &rounds[..3], &prompted[..2], &tools[..3]];
        let options = RenderOptions::default();
        let mut scaffold = Vec::new();
        for messages in chats {
            let calls = messages.iter().any(|message| !message.tool_calls.is_empty());
            for ending in [Ending::Complete, Ending::GenerationPrompt] {
                // Templates may refuse system prompts, or calls.
                let rendered = self.rendered(messages, &[], &options, ending);
                let Ok((text, _)) = rendered else { continue };
                let plain = self.pieces(&text).into_iter().filter(|piece| piece.control.is_none());
                let texts = plain.map(|Piece { range, .. }| text[range].to_owned());
                scaffold.extend(texts.map(|text| Scaffold { text, calls }));
            }
        }
        scaffold
    }

    /// What the template writes to ask for an assistant turn after a question, or after a tool's result.
    pub(crate) fn generation_prompt(&self, options: &RenderOptions, after: Role) -> Result<String> {
        let mut messages = vec![Message::user("hello")];
        if after == Role::Tool {
            let call = call();
            let mut result = Message::new(Role::Tool, "result");
            (result.tool_call_id, result.name) = (call.id.clone(), Some(call.name.clone()));
            messages.push(Message { tool_calls: vec![call], ..Message::assistant("") });
            messages.push(result);
        }
        let render =
            |ending| Ok::<_, crate::Error>(self.rendered(&messages, &[], options, ending)?.0);
        let (without, with) = (render(Ending::Complete)?, render(Ending::GenerationPrompt)?);
        if with == without {
            return Ok(self.standing_prompt(messages, options, &with).unwrap_or_default());
        }
        let shared = common_prefix(&without, &with);
        // Two control tokens may begin with the same characters.
        let cut = self.pieces(&with).into_iter().find(|piece| {
            piece.control.is_some() && piece.range.start < shared && shared < piece.range.end
        });
        Ok(with[cut.map_or(shared, |token| token.range.start)..].to_owned())
    }

    /// The generation prompt of a template that ends every rendering with it, asked or not (Command R7B). `rendering` is that of
    /// `messages`.
    fn standing_prompt(
        &self,
        mut messages: Vec<Message>,
        options: &RenderOptions,
        rendering: &str,
    ) -> Option<String> {
        let turn = messages.len();
        messages.push(Message::assistant(WORD));
        let options = options.clone().tools(Vec::new());
        let row = Rendering::new(self, &Conversation::new(messages), &options).ok()?;
        let (before, _) = row.text.split_at_checked(row.beginning(turn)?)?;
        rendering.strip_prefix(before).map(str::to_owned)
    }

    /// The control tokens after an assistant's words.
    pub(super) fn after_words(&self) -> Option<Vec<u32>> {
        self.controls_after(Message::assistant(WORD))
    }

    /// The control tokens after a call that has no result yet; `None` if the template does not write the call.
    pub(super) fn after_call(&self) -> Option<Vec<u32>> {
        self.controls_after(Message { tool_calls: vec![call()], ..Message::assistant("") })
    }

    /// The control tokens after the last [`WORD`] in a rendering that ends with this turn.
    fn controls_after(&self, turn: Message) -> Option<Vec<u32>> {
        let (messages, options) = ([Message::user("hello"), turn], RenderOptions::default());
        let (text, _) = self.rendered(&messages, &[], &options, Ending::Complete).ok()?;
        let after = text.rfind(WORD)? + WORD.len();
        let pieces = self.pieces(text.get(after..)?).into_iter();
        Some(pieces.filter_map(|piece| piece.control).collect())
    }
}

/// A call that holds [`WORD`] and nothing else. Mistral's templates ask for an id of nine characters.
fn call() -> ToolCall {
    let arguments = serde_json::json!({ WORD: WORD });
    ToolCall { id: Some("call00001".to_owned()), name: WORD.to_owned(), arguments }
}
