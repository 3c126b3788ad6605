//! Tools as plain text, for templates that have no form for them.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::ChatTokenizer;
use super::rendering::Ending;
use super::text_controls::WORD;
use crate::{Conversation, Message, RenderOptions, Role, ToolCall};

/// What a template writes of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolForms {
    /// Whether it writes declarations.
    pub declarations: bool,
    /// Whether it writes calls.
    pub calls: bool,
}

impl ChatTokenizer {
    /// What the template writes of tools. What it does not write is rendered as plain text:
    ///
    /// - declarations: one JSON object a line, at the end of the system message, or before the first message if there is none;
    /// - calls: a JSON object with `name` and `arguments`, one a line, in the assistant's words;
    /// - results of such calls: a user's message, "Result of NAME: ...".
    pub fn tool_forms(&self) -> ToolForms {
        self.tool_forms
    }

    /// Finds out what the template writes of tools; `calls` is whether it writes a call.
    pub(super) fn probe_tool_forms(&self, calls: bool) -> ToolForms {
        let tool = json!({"type": "function", "function": {
            "name": WORD,
            "description": WORD,
            "parameters": {
                "type": "object",
                "properties": {WORD: {"type": "string", "description": WORD}},
                "required": [WORD],
            },
        }});
        let (system, user) = (Message::system("hello"), Message::user("hello"));
        let options = RenderOptions::default();
        let written = |messages: &[Message]| {
            let tools = std::slice::from_ref(&tool);
            let text = self.rendered(messages, tools, &options, Ending::GenerationPrompt);
            text.is_ok_and(|(text, _)| text.contains(WORD))
        };
        let declarations = written(&[system, user.clone()]) || written(&[user]);
        ToolForms { declarations, calls }
    }

    /// The conversation with its tools as text where the template has no form for them.
    pub(crate) fn with_written_tools<'a>(
        &self,
        conversation: &'a Conversation,
        options: &RenderOptions,
    ) -> Cow<'a, Conversation> {
        let tools = match conversation.tools.is_empty() {
            true => &options.tools,
            false => &conversation.tools,
        };
        let ToolForms { declarations, calls } = self.tool_forms;
        let declares = !declarations && !tools.is_empty();
        let called =
            |message: &Message| !message.tool_calls.is_empty() || message.role == Role::Tool;
        if !declares && (calls || !conversation.messages.iter().any(called)) {
            return Cow::Borrowed(conversation);
        }
        let mut written = conversation.clone();
        if !calls {
            write_calls(&mut written.messages);
        }
        if declares {
            declare(&mut written.messages, tools, calls);
            written.tools.clear();
        }
        Cow::Owned(written)
    }
}

/// Puts declarations before the first words of a conversation, or after those of a system message. `native` is whether the
/// template has its own form for calls.
fn declare(messages: &mut Vec<Message>, tools: &[Value], native: bool) {
    let tools = tools.iter().map(|tool| tool.get("function").unwrap_or(tool).to_string());
    let mut text =
        tools.fold("You can call these tools:".to_owned(), |text, tool| text + "\n" + &tool);
    if !native {
        text += "\nTo call one, answer only with JSON: {\"name\": NAME, \"arguments\": {...}}";
    }
    match messages.first_mut() {
        Some(first) if first.role == Role::System && !first.content.is_empty() => {
            first.content = format!("{}\n\n{text}", first.content);
        }
        Some(first) if first.role == Role::System => first.content = text,
        Some(first) if first.role == Role::User => {
            first.content = format!("{text}\n\n{}", first.content);
        }
        _ => messages.insert(0, Message::system(text)),
    }
}

/// Writes calls as JSON into their turns and results as messages of the user, those of one turn together.
fn write_calls(messages: &mut Vec<Message>) {
    let mut written: Vec<Message> = Vec::with_capacity(messages.len());
    let mut calls: Vec<ToolCall> = Vec::new();
    let mut results = false;
    for mut message in messages.drain(..) {
        if message.role == Role::Tool {
            let text = result(&message, &calls);
            match written.last_mut().filter(|_| results) {
                Some(before) => before.content = format!("{}\n{text}", before.content),
                None => written.push(Message { train: message.train, ..Message::user(text) }),
            }
            results = true;
            continue;
        }
        results = false;
        if !message.tool_calls.is_empty() {
            calls = std::mem::take(&mut message.tool_calls);
            let call = |call: &ToolCall| {
                json!({"name": call.name, "arguments": call.arguments}).to_string()
            };
            let words = Some(message.content).filter(|words| !words.trim().is_empty());
            let lines: Vec<String> = words.into_iter().chain(calls.iter().map(call)).collect();
            message.content = lines.join("\n");
        }
        written.push(message);
    }
    *messages = written;
}

/// A result with the name of the tool that it is from.
fn result(message: &Message, calls: &[ToolCall]) -> String {
    let by_id = |call: &&ToolCall| call.id.is_some() && call.id == message.tool_call_id;
    let only = || calls.first().filter(|_| calls.len() == 1);
    let call = || calls.iter().find(by_id).or_else(only).map(|call| call.name.as_str());
    match message.name.as_deref().or_else(call) {
        Some(name) => format!("Result of {name}: {}", message.content),
        None => format!("Result: {}", message.content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_results_become_words() {
        let call = |id: &str, name: &str| ToolCall {
            id: Some(id.to_owned()),
            name: name.to_owned(),
            arguments: json!({"n": 1}),
        };
        let result = |id: &str, text: &str| Message {
            tool_call_id: Some(id.to_owned()),
            ..Message::new(Role::Tool, text)
        };
        let mut messages = vec![
            Message::user("go"),
            Message {
                tool_calls: vec![call("1", "a"), call("2", "b")],
                ..Message::assistant("so:")
            },
            result("2", "two"),
            result("1", "one"),
            Message::assistant("done"),
        ];
        write_calls(&mut messages);
        declare(&mut messages, &[json!({"type": "function", "function": {"name": "a"}})], false);
        let said: Vec<_> = messages.iter().map(|m| (m.role, m.content.as_str())).collect();
        let form = "To call one, answer only with JSON: {\"name\": NAME, \"arguments\": {...}}";
        let first = format!("You can call these tools:\n{{\"name\":\"a\"}}\n{form}\n\ngo");
        let calls = "so:\n{\"arguments\":{\"n\":1},\"name\":\"a\"}\n{\"arguments\":{\"n\":1},\"name\":\"b\"}";
        let found = crate::tool_calls::find(said[1].1);
        assert_eq!(found.len(), 2);
        assert_eq!(said[0], (Role::User, first.as_str()));
        assert!(said[1].1.len() == calls.len() && said[1].1.starts_with("so:\n{"), "{}", said[1].1);
        assert_eq!(said[2], (Role::User, "Result of b: two\nResult of a: one"));
        assert_eq!(said[3], (Role::Assistant, "done"));
        assert!(messages.iter().all(|message| message.tool_calls.is_empty()));
    }
}
