//! Takes an answer apart while it is generated.

use std::sync::Arc;

use chat_format::{ToolCall, clean, reasoning, tool_calls};
use serde_json::Value;

use super::held::incomplete;

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Texts before which the answer ends. They count in the words, not in the reasoning before them.
    pub stop: Vec<String>,
    /// The functions that the model may call; without any, nothing is read as a call.
    pub tools: Arc<[Value]>,
    /// Only the first call.
    pub one_call: bool,
    /// Whether reasoning is told apart; else all is words.
    pub reasoning: bool,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta {
    Reasoning(String),
    Words(String),
    Calls(Vec<ToolCall>),
}

/// Reads one answer, piece by piece. What was sent stays valid: text that may be the beginning of a mark
/// or of a stop text is held back until that is decided, and a call until it is complete.
#[derive(Debug)]
pub(crate) struct Reader {
    wanted: Wanted,
    text: String,
    state: State,
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Whether the text from here on is reasoning is not decided.
    Undecided { from: usize },
    /// Reasoning from `from` on, of which what is before `sent` is sent.
    Reasoning { from: usize, sent: usize },
    /// Words from `from` on.
    Words { from: usize, sent: usize },
}

impl Reader {
    /// `opened` is the token that opens the reasoning, if the prompt ends with it.
    pub fn new(wanted: Wanted, opened: Option<&str>) -> Self {
        let state = match wanted.reasoning {
            true => State::Undecided { from: 0 },
            false => State::Words { from: 0, sent: 0 },
        };
        let opened = opened.filter(|_| wanted.reasoning).unwrap_or_default();
        let mut reader = Self { wanted, text: String::new(), state, stopped: false };
        if !opened.is_empty() {
            reader.push(opened);
        }
        reader
    }

    /// Whether a stop text ended the answer.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What may be sent after this piece.
    pub fn push(&mut self, piece: &str) -> Vec<Delta> {
        if self.stopped {
            return Vec::new();
        }
        self.text += piece;
        let mut deltas = Vec::new();
        while self.advance(&mut deltas) {}
        deltas
    }

    /// What is left when the answer is complete.
    pub fn finish(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        match self.state {
            State::Undecided { from } => {
                deltas.extend(words(&self.text[from..]));
            }
            State::Reasoning { sent, .. } => deltas.extend(thought(&self.text[sent..])),
            State::Words { from, sent } => self.finish_words(from, sent, &mut deltas),
        }
        deltas
    }

    /// Sends what is decided. Returns whether there may be more.
    fn advance(&mut self, deltas: &mut Vec<Delta>) -> bool {
        match self.state {
            State::Undecided { from } => {
                let rest = &self.text[from..];
                let begun = rest.trim_start();
                if reasoning::opens(rest) {
                    if reasoning::opens_partly(rest) {
                        return false;
                    }
                    let split = reasoning::first_block(rest);
                    let inner = split.reasoning.map_or(rest.len(), |inner| offset(rest, inner));
                    self.state = State::Reasoning { from, sent: from + inner };
                    return true;
                }
                if begun.is_empty() || incomplete(begun, clean::control_tokens()) == begun.len() {
                    return false;
                }
                // White space after the reasoning is not part of the words.
                let from = if from > 0 { self.text.len() - begun.len() } else { from };
                self.state = State::Words { from, sent: from };
                true
            }
            State::Reasoning { from, sent } => {
                let rest = &self.text[from..];
                let split = reasoning::first_block(rest);
                let Some(inner) = split.reasoning else { return false };
                let end = offset(rest, inner) + inner.len();
                let closed = end < rest.len();
                let held = if closed { 0 } else { incomplete(inner, clean::control_tokens()) };
                let end = from + end - held;
                deltas.extend(self.text.get(sent..end).and_then(thought));
                self.state = match closed {
                    true => State::Undecided { from: self.text.len() - split.answer.len() },
                    false => State::Reasoning { from, sent: end.max(sent) },
                };
                closed
            }
            State::Words { from, sent } => {
                self.stop(sent);
                let end = match self.stopped {
                    true => self.text.len(),
                    false => self.text.len() - self.held(sent),
                };
                let end = self.call(from).map_or(end, |call| end.min(call)).max(sent);
                deltas.extend(self.text.get(sent..end).and_then(words));
                self.state = State::Words { from, sent: end };
                false
            }
        }
    }

    /// Cuts the text before a stop text.
    fn stop(&mut self, sent: usize) {
        let rest = &self.text[sent..];
        let first = self.wanted.stop.iter().filter_map(|stop| rest.find(stop.as_str())).min();
        if let Some(at) = first {
            self.text.truncate(sent + at);
            self.stopped = true;
        }
    }

    /// How much of the end may be the beginning of a stop text or of a call.
    fn held(&self, sent: usize) -> usize {
        let rest = &self.text[sent..];
        let stop = incomplete(rest, self.wanted.stop.iter().map(String::as_str));
        match self.wanted.tools.is_empty() {
            true => stop,
            false => stop.max(incomplete(rest, clean::control_tokens())),
        }
    }

    /// Where a call may begin.
    fn call(&self, from: usize) -> Option<usize> {
        if self.wanted.tools.is_empty() {
            return None;
        }
        let rest = &self.text[from..];
        let begun = rest.trim_start();
        // Calls of models whose template has no form for them: JSON and nothing else.
        if begun.starts_with(['{', '[']) || begun.is_empty() {
            return Some(from);
        }
        tool_calls::opening(rest).map(|at| from + at)
    }

    fn finish_words(&self, from: usize, sent: usize, deltas: &mut Vec<Delta>) {
        let rest = &self.text[sent..];
        let mut calls = match self.call(from) {
            Some(_) => calls(&self.text[from..], &self.wanted.tools),
            None => Vec::new(),
        };
        if self.wanted.one_call {
            calls.truncate(1);
        }
        if calls.is_empty() {
            deltas.extend(words(rest));
        } else {
            deltas.push(Delta::Calls(calls));
        }
    }
}

/// Whether a text begins with reasoning that it does not close.
pub(crate) fn leaves_reasoning_open(text: &str) -> bool {
    let inner = reasoning::first_block(text).reasoning.filter(|_| reasoning::opens(text));
    inner.is_some_and(|inner| offset(text, inner) + inner.len() == text.len())
}

/// The calls that a text consists of or ends with.
fn calls(text: &str, tools: &[Value]) -> Vec<ToolCall> {
    let marked = clean::answer(text, tools).tool_calls;
    if !marked.is_empty() {
        return marked;
    }
    // Without marks, or with words after them: only calls of functions that there are, because other
    // JSON occurs in prose.
    let known = |call: &ToolCall| {
        tools.iter().any(|tool| tool_calls::function(tool)["name"] == call.name.as_str())
    };
    let found = tool_calls::find_declared(text, tools);
    if found.iter().all(known) { found } else { Vec::new() }
}

fn words(text: &str) -> Option<Delta> {
    (!text.is_empty()).then(|| Delta::Words(text.to_owned()))
}

fn thought(text: &str) -> Option<Delta> {
    (!text.is_empty()).then(|| Delta::Reasoning(text.to_owned()))
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(stop: &[&str], functions: &[&str]) -> Wanted {
        let stop = stop.iter().map(|&text| text.to_owned()).collect();
        let tools = functions.iter().map(|name| json!({ "function": { "name": name } })).collect();
        Wanted { stop, tools, one_call: false, reasoning: true }
    }

    /// Reasoning, words and calls of a text that arrives in pieces of so many characters.
    fn read(text: &str, size: usize, wanted: &Wanted, opened: Option<&str>) -> [String; 3] {
        let mut reader = Reader::new(wanted.clone(), opened);
        let characters: Vec<char> = text.chars().collect();
        let mut deltas = Vec::new();
        for piece in characters.chunks(size) {
            deltas.extend(reader.push(&piece.iter().collect::<String>()));
        }
        deltas.extend(reader.finish());
        let mut read = [const { String::new() }; 3];
        for delta in deltas {
            match delta {
                Delta::Reasoning(text) => read[0] += &text,
                Delta::Words(text) => read[1] += &text,
                Delta::Calls(calls) => {
                    read[2] += &calls
                        .iter()
                        .map(|c| format!("{}{}", c.name, c.arguments))
                        .collect::<String>();
                }
            }
        }
        read
    }

    /// However an answer is cut into pieces, the same is read.
    #[test]
    fn pieces_of_any_size() {
        let scan = "<tool_call>\n{\"name\": \"scan\", \"arguments\": {\"port\": 22}}\n</tool_call>";
        let called = r#"scan{"port":22}"#;
        let with_words = format!("I look. {scan}");
        let thinking = format!("<think>\nports\n</think>\n\n{scan}");
        let bare = r#"{"name": "scan", "arguments": {"port": 22}}"#;
        let gemma = "<|channel>thought\nports<channel|>So: 3.";
        for (text, stop, functions, expected) in [
            ("Port 22.", &[][..], &[][..], ["", "Port 22.", ""]),
            ("", &[], &[], ["", "", ""]),
            ("  \n", &[], &[], ["", "  \n", ""]),
            ("<think>the port</think>\n\nPort 22.", &[], &[], ["the port", "Port 22.", ""]),
            ("<think>the port", &[], &[], ["the port", "", ""]),
            ("<think>a</think>\n<think>b</think>c", &[], &[], ["ab", "c", ""]),
            ("a < b <thin", &[], &[], ["", "a < b <thin", ""]),
            ("<thin", &[], &[], ["", "<thin", ""]),
            ("It opens with <think>.", &[], &[], ["", "It opens with <think>.", ""]),
            (gemma, &[], &[], ["\nports", "So: 3.", ""]),
            ("one two three", &["two"], &[], ["", "one ", ""]),
            ("one two three", &["three", "two"], &[], ["", "one ", ""]),
            ("one tw", &["two"], &[], ["", "one tw", ""]),
            ("<think>two</think>one two", &["two"], &[], ["two", "one ", ""]),
            (scan, &[], &["scan"], ["", "", called]),
            (scan, &[], &[], ["", scan, ""]),
            (&with_words, &[], &["scan"], ["", "I look. ", called]),
            (&thinking, &[], &["scan"], ["\nports\n", "", called]),
            (bare, &[], &["scan"], ["", "", called]),
            (bare, &[], &["other"], ["", bare, ""]),
            ("{\"a\": 1} is JSON.", &[], &["scan"], ["", "{\"a\": 1} is JSON.", ""]),
            ("see <tool_call> there", &[], &["scan"], ["", "see <tool_call> there", ""]),
        ] {
            let wanted = wanted(stop, functions);
            for size in 1..=text.chars().count().max(1) {
                let found = read(text, size, &wanted, None);
                assert_eq!(found, expected, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn reasoning_that_the_prompt_opens() {
        let wanted = wanted(&[], &[]);
        for size in 1..12 {
            let found = read("ports</think>\n3", size, &wanted, Some("<think>"));
            assert_eq!(found, ["ports", "3", ""], "pieces of {size}");
        }
        let plain = Wanted { reasoning: false, ..wanted };
        assert_eq!(read("<think>a</think>b", 2, &plain, None)[1], "<think>a</think>b");
    }

    #[test]
    fn a_stopped_answer_stays_stopped() {
        let mut reader = Reader::new(wanted(&["END"], &[]), None);
        assert_eq!(reader.push("so far. EN"), [Delta::Words("so far. ".into())]);
        assert_eq!(reader.push("D more"), []);
        assert!(reader.is_stopped());
        assert_eq!(reader.push("and more"), []);
        assert_eq!(reader.finish(), []);
    }

    #[test]
    fn only_the_first_call() {
        let call = |name: &str| {
            format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{}}}}</tool_call>")
        };
        let text = call("a") + &call("b");
        let mut wanted = wanted(&[], &["a", "b"]);
        assert_eq!(read(&text, 5, &wanted, None)[2], "a{}b{}");
        wanted.one_call = true;
        assert_eq!(read(&text, 5, &wanted, None)[2], "a{}");
    }
}
