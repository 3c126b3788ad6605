//! Preference pairs from what people thought of recorded chats.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

/// What is known of a chat.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub row: Map<String, Value>,
    /// Thumbs up or down.
    pub good: Option<bool>,
    /// What the answer should have been.
    pub correction: Option<String>,
}

/// A prompt with a better and a worse answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ChatPair {
    messages: Vec<Value>,
    chosen: String,
    rejected: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Value>,
}

/// The answers to one prompt.
#[derive(Default)]
struct Answers {
    prompt: Vec<Value>,
    agent: Option<Value>,
    /// Texts that were found good, or that somebody wrote instead.
    good: Vec<String>,
    bad: Vec<String>,
}

/// The pairs of chats: a corrected answer with its correction, and answers to one prompt of which some were found good
/// and others bad. Each bad answer is in one pair. Chats with calls of tools have none.
pub(crate) fn of<'a>(chats: impl Iterator<Item = &'a Chat>) -> Vec<ChatPair> {
    let mut prompts: BTreeMap<String, Answers> = BTreeMap::new();
    let mut pairs = Vec::new();
    for chat in chats {
        let Some((prompt, answer)) = chat.exchange() else { continue };
        let agent = chat.row.get("agent").filter(|agent| !agent.is_null()).cloned();
        if let Some(correction) = &chat.correction {
            if correction.trim() != answer.trim() {
                let (chosen, rejected) = (correction.clone(), answer.to_owned());
                pairs.push(ChatPair { messages: prompt.to_vec(), chosen, rejected, agent });
            }
            continue;
        }
        let Some(good) = chat.good else { continue };
        let answers = prompts.entry(Value::from(prompt).to_string()).or_default();
        (answers.prompt, answers.agent) = (prompt.to_vec(), agent);
        let side = if good { &mut answers.good } else { &mut answers.bad };
        if !side.iter().any(|one| one == answer) {
            side.push(answer.to_owned());
        }
    }
    pairs.extend(prompts.into_values().flat_map(Answers::pairs));
    pairs
}

impl Answers {
    fn pairs(self) -> Vec<ChatPair> {
        let Self { prompt, agent, good, bad } = self;
        // Who found one text good and bad tells nothing.
        let both = |text: &String| good.contains(text) && bad.contains(text);
        let chosen: Vec<_> = good.iter().filter(|text| !both(text)).collect();
        let rejected = bad.iter().filter(|text| !both(text));
        let pair = |(chosen, rejected): (&&String, &String)| ChatPair {
            messages: prompt.clone(),
            chosen: (*chosen).clone(),
            rejected: rejected.clone(),
            agent: agent.clone(),
        };
        chosen.iter().cycle().zip(rejected).map(pair).collect()
    }
}

impl Chat {
    /// The prompt and the answer, if both are words.
    fn exchange(&self) -> Option<(&[Value], &str)> {
        let has_calls = |message: &Value| message.get("tool_calls").is_some();
        let messages = self.row.get("messages")?.as_array()?;
        let (last, prompt) = messages.split_last()?;
        let answer = last["content"].as_str().filter(|text| !text.trim().is_empty())?;
        (!prompt.is_empty() && !messages.iter().any(has_calls)).then_some((prompt, answer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(question: &str, answer: &str, good: Option<bool>, correction: Option<&str>) -> Chat {
        let messages = json!([
            { "role": "user", "content": question }, { "role": "assistant", "content": answer },
        ]);
        let row = Map::from_iter([
            ("messages".to_owned(), messages),
            ("agent".to_owned(), json!("windu")),
        ]);
        Chat { row, good, correction: correction.map(str::to_owned) }
    }

    fn pairs(chats: &[Chat]) -> Vec<(String, String, String)> {
        let of = |pair: ChatPair| {
            let question = pair.messages[0]["content"].as_str().unwrap().to_owned();
            (question, pair.chosen, pair.rejected)
        };
        super::of(chats.iter()).into_iter().map(of).collect()
    }

    #[test]
    fn corrections_and_ratings_of_one_prompt_are_pairs() {
        let (up, down) = (Some(true), Some(false));
        let owned =
            |texts: [&str; 3]| (texts[0].to_owned(), texts[1].to_owned(), texts[2].to_owned());
        for (chats, expected) in [
            (vec![chat("a", "1", down, Some("2"))], vec![["a", "2", "1"]]),
            (vec![chat("a", "1", None, Some("2"))], vec![["a", "2", "1"]]),
            (vec![chat("a", "1", down, Some(" 1"))], vec![]),
            (vec![chat("a", "1", up, None), chat("a", "2", down, None)], vec![["a", "1", "2"]]),
            (vec![chat("a", "1", up, None), chat("b", "2", down, None)], vec![]),
            (vec![chat("a", "1", up, None), chat("a", "1", down, None)], vec![]),
            (vec![chat("a", "1", up, None), chat("a", "2", None, None)], vec![]),
            (
                vec![
                    chat("a", "1", up, None),
                    chat("a", "2", down, None),
                    chat("a", "3", down, None),
                    chat("a", "3", down, None),
                    chat("a", "", down, None),
                ],
                vec![["a", "1", "2"], ["a", "1", "3"]],
            ),
        ] {
            let expected: Vec<_> = expected.into_iter().map(owned).collect();
            assert_eq!(pairs(&chats), expected, "{chats:?}");
        }
        let mut called = chat("a", "1", None, Some("2"));
        called.row["messages"][1]["tool_calls"] = json!([{}]);
        assert_eq!(pairs(&[called]), []);
    }
}
