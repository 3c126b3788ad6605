//! Nothing is lost in silence: rows of every shape with further keys anywhere and values changed at random. Every word of a
//! row is in the clean row, or its key is named in the report, or the row is refused.

use std::fs;

use chat_format::clean::{self, Converter, Options, Reasoning};
use chat_format::jsonl;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::{Map, Value, json};

/// Rows of every shape. Each `W` becomes a word of its own.
fn shapes() -> Vec<Value> {
    let question = json!({"role": "user", "content": "W"});
    let answer = json!({"role": "assistant", "content": "W"});
    let call = json!({"id": "W", "type": "function", "function": {"name": "W", "arguments": {"port": "W"}}});
    let part = json!({"type": "text", "text": "W"});
    let node = |id: &str, parent: Value, role: &str| json!({"id": id, "parentId": parent, "childrenIds": [], "role": role, "content": "W"});
    let message = |role: &str, content: Value| json!({"author": {"role": role}, "content": content, "recipient": "all"});
    let said = json!({"content_type": "text", "parts": ["W"]});
    let thought = json!({"content_type": "thoughts", "thoughts": [{"content": "W"}]});
    let block = |content: Value| json!({"type": "contentBlock", "content": [content]});
    vec![
        json!({"messages": [{"role": "system", "content": "W"}, question, answer], "tools": [{"name": "W"}]}),
        json!({"messages": [question, {"role": "assistant", "content": "W", "reasoning_content": "W", "tool_calls": [call]},
            {"role": "tool", "content": "W", "name": "W", "tool_call_id": "W"}, answer]}),
        json!({"messages": [question, {"role": "assistant", "content": null, "function_call": {"name": "W", "arguments": "{\"a\": \"W\"}"}}]}),
        json!({"conversations": [{"from": "human", "value": "W"}, {"from": "gpt", "value": "W"}], "system": "W"}),
        json!({"conversations": [{"from": "human", "value": "W"}, {"from": "function_call", "value": "{\"name\": \"W\", \"arguments\": {\"a\": \"W\"}}"},
            {"from": "observation", "value": "W"}], "chosen": {"from": "gpt", "value": "W"}, "rejected": {"from": "gpt", "value": "W"}}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "value": "W"}]}, {"role": "assistant", "content": [
            {"type": "reasoning", "value": "W"}, {"type": "tool_call", "value": "{\"name\": \"W\", \"arguments\": {\"a\": \"W\"}}"}]}]}),
        json!({"instruction": "W", "input": "W", "output": "W", "history": [["W", "W"]]}),
        json!({"question": "W", "context": "W", "answer": "W"}),
        json!({"prompt": [question], "completion": [answer]}),
        json!({"prompt": "W", "response": "W"}),
        json!({"text": "<|im_start|>user\nW<|im_end|>\n<|im_start|>assistant\nW<|im_end|>"}),
        json!([question, answer]),
        json!({"system": "W", "messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": [part,
            {"type": "thinking", "thinking": "W"}, {"type": "tool_use", "id": "W", "name": "W", "input": {"a": "W"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "W", "content": [part]}, part]}, answer]}),
        json!({"request": {"model": "W", "messages": [question]}, "response": {"choices": [{"index": 0, "message": answer}]}}),
        json!({"messages": [question], "response": {"content": [part], "role": "assistant"}}),
        json!({"request": {"input": [{"role": "user", "content": "W"}], "instructions": "W"}, "response": {"output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "W"}]},
            {"type": "function_call", "call_id": "W", "name": "W", "arguments": "{\"a\": \"W\"}"},
            {"type": "function_call_output", "call_id": "W", "output": "W"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "W"}]}]}}),
        json!({"title": "W", "chat": {"title": "W", "params": {"system": "W"}, "messages": [question], "history": {"currentId": "c", "messages": {
            "a": node("a", Value::Null, "user"), "b": node("b", json!("a"), "assistant"), "c": node("c", json!("a"), "assistant")}}}}),
        json!({"title": "W", "current_node": "d", "mapping": {"a": {"message": null, "parent": null}, "b": {"message": message("user", said.clone()), "parent": "a"},
            "c": {"message": message("assistant", thought), "parent": "b"}, "d": {"message": message("assistant", said.clone()), "parent": "c"},
            "e": {"message": message("user", said), "parent": "a"}}}),
        json!({"name": "W", "chat_messages": [{"sender": "human", "text": "W", "content": [], "attachments": [{"extracted_content": "W"}]},
            {"sender": "assistant", "content": [part]}]}),
        json!({"name": "W", "systemPrompt": "W", "messages": [
            {"currentlySelected": 0, "versions": [{"type": "singleStep", "role": "user", "content": [part]}]},
            {"currentlySelected": 1, "versions": [{"role": "assistant", "steps": [block(part.clone())]}, {"type": "multiStep", "role": "assistant", "steps": [
                {"type": "contentBlock", "style": {"type": "thinking"}, "content": [part]}, {"type": "debugInfoBlock", "debugInfo": "W"},
                block(json!({"type": "toolCallRequest", "callId": "W", "name": "W", "parameters": {"a": "W"}})),
                block(json!({"type": "toolCallResult", "callId": "W", "content": "W"})), block(part)]}]}]}),
    ]
}

/// Keys whose values say how a row is put together. They hold no words.
const STRUCTURE: [&str; 23] = [
    "type",
    "role",
    "from",
    "sender",
    "id",
    "uuid",
    "status",
    "parent",
    "parentId",
    "children",
    "childrenIds",
    "currentId",
    "current_node",
    "currentlySelected",
    "content_type",
    "recipient",
    "language",
    "weight",
    "end_turn",
    "signature",
    "call_id",
    "callId",
    "tool_use_id",
];

struct Change {
    random: StdRng,
    words: u32,
    /// How likely a further key or another value is at each place.
    rate: f64,
}

impl Change {
    fn word(&mut self) -> String {
        self.words += 1;
        format!("w{:05}x", self.words)
    }

    fn value(&mut self) -> Value {
        match self.random.random_range(0..9) {
            0 => Value::Null,
            1 => json!(7),
            2 => json!([self.word()]),
            3 => json!({"deep": self.word(), "type": "text", "text": self.word()}),
            4 => json!(true),
            _ => json!(self.word()),
        }
    }

    fn row(&mut self, value: Value) -> Value {
        if self.random.random_bool(self.rate / 4.0) {
            return self.value();
        }
        match value {
            Value::String(text) => {
                let pieces: Vec<&str> = text.split('W').collect();
                let mut out = pieces[0].to_owned();
                for piece in &pieces[1..] {
                    out += &self.word();
                    out += piece;
                }
                Value::String(out)
            }
            Value::Array(items) => items.into_iter().map(|item| self.row(item)).collect(),
            Value::Object(fields) => {
                let mut fields: Map<String, Value> =
                    fields.into_iter().map(|(key, value)| (key, self.row(value))).collect();
                if self.random.random_bool(self.rate) {
                    let known = [
                        "name", "content", "text", "input", "id", "tools", "error", "files",
                        "thinking", "history", "output",
                    ];
                    let key = match self.random.random_range(0..3) {
                        0 => known[self.random.random_range(0..known.len())].to_owned(),
                        _ => format!("key{}", self.random.next_u32() % 1000),
                    };
                    let value = self.value();
                    fields.entry(key).or_insert(value);
                }
                Value::Object(fields)
            }
            other => other,
        }
    }
}

/// The words of a value, each with the keys above it.
fn words(value: &Value, keys: &mut Vec<String>, found: &mut Vec<(String, Vec<String>)>) {
    match value {
        Value::String(text) => {
            let parts = text.split(|c: char| !c.is_ascii_alphanumeric());
            let words = parts
                .filter(|part| part.len() == 7 && part.starts_with('w') && part.ends_with('x'));
            found.extend(words.map(|word| (word.to_owned(), keys.clone())));
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, keys, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                keys.push(key.clone());
                words(value, keys, found);
                keys.pop();
            }
        }
        _ => {}
    }
}

/// Whether a path of the report, like `messages[].content[].id` or `mapping of other branches`, names one of the keys.
fn names(path: &str, keys: &[String]) -> bool {
    let has = |names: &[&str]| keys.iter().any(|key| names.contains(&key.as_str()));
    if path.starts_with("reasoning of ") {
        return has(&["thinking", "reasoning", "reasoning_content"]);
    }
    let (path, whole) = match path.split_once(' ') {
        Some((path, _)) => (path, true),
        None => (path, false),
    };
    let mut parts = path.split('.').map(|part| part.trim_end_matches("[]"));
    match whole {
        true => parts.all(|part| {
            part == "response" || part == "content" || keys.iter().any(|key| key == part)
        }),
        false => parts.next_back().is_some_and(|last| keys.iter().any(|key| key == last)),
    }
}

#[test]
fn every_word_is_kept_or_named_or_refused() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("SEED={seed}");
    let cases: u64 =
        std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    let options = Options::default().reasoning(Reasoning::Keep);
    let (mut clean, mut refused) = (0, 0);
    for case in 0..cases {
        for (index, shape) in shapes().into_iter().enumerate() {
            let rate = [0.0, 0.1, 0.5][case as usize % 3];
            let random = StdRng::seed_from_u64(seed.wrapping_add(case));
            let mut change = Change { random, words: 0, rate };
            let raw = change.row(shape);
            let Ok((chat, notes)) = clean::row(raw.clone(), options) else {
                assert!(rate > 0.0, "shape {index} is read: {raw}");
                refused += 1;
                continue;
            };
            clean += 1;
            let out = json!(chat).to_string();
            let mut found = Vec::new();
            words(&raw, &mut Vec::new(), &mut found);
            for (word, keys) in found {
                if keys.iter().any(|key| STRUCTURE.contains(&key.as_str())) {
                    continue;
                }
                let named = notes.ignored.keys().any(|path| names(path, &keys));
                assert!(
                    out.contains(&word) || named,
                    "{word} under {keys:?}, case {case} of shape {index}\n{raw}\n{out}\n{:?}",
                    notes.ignored
                );
            }
        }
    }
    println!("{clean} rows clean, {refused} refused");
    assert!(clean > refused / 4);
}

/// Files that are cut, spoiled or mixed: every line is written or set aside with its own bytes, and nothing else happens.
#[test]
fn every_line_is_written_or_set_aside() {
    let seed: u64 = rand::random();
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for _ in 0..60 {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        for shape in shapes() {
            let mut change =
                Change { random: StdRng::seed_from_u64(random.next_u64()), words: 0, rate: 0.1 };
            let mut line = change.row(shape).to_string().into_bytes();
            line.resize(line.len().max(3), b' ');
            match random.random_range(0..8) {
                0 => line.truncate(random.random_range(1..line.len())),
                1 => {
                    let at = random.random_range(1..line.len());
                    line[at] = 0;
                }
                2 => line.splice(1..1, b"\"n\": NaN, ".iter().copied()).for_each(drop),
                3 => line.splice(1..1, b"\"h\": \"\\ud83d\", ".iter().copied()).for_each(drop),
                4 => line.splice(1..1, b"\"b\": \"\xff\", ".iter().copied()).for_each(drop),
                _ => {}
            }
            lines.push(line);
        }
        let ends: [&[u8]; 2] = [b"\n", b"\r\n"];
        let mut file = lines.join(ends[random.random_range(0..2)]);
        if random.random_bool(0.5) {
            file.splice(0..0, b"\xef\xbb\xbf".iter().copied()).for_each(drop);
        }
        fs::write(path("raw"), &file).unwrap();
        let converter = Converter::new(Options::default()).refused(path("refused.jsonl"));
        let report = converter.convert(path("raw"), path("clean.jsonl")).unwrap();
        assert_eq!(report.rows as usize, lines.len());
        assert_eq!(
            jsonl::Reader::open(path("clean.jsonl")).unwrap().count() as u64,
            report.written
        );
        let aside: Vec<Value> = jsonl::Reader::open(path("refused.jsonl"))
            .unwrap()
            .map(|row| row.unwrap().value)
            .collect();
        assert_eq!(
            (aside.len() as u64, report.written + report.refused),
            (report.refused, report.rows)
        );
        for entry in aside {
            let line = &lines[entry["line"].as_u64().unwrap() as usize - 1];
            match entry["text"].as_str() {
                Some(text) => assert_eq!(text.as_bytes().trim_ascii(), line.trim_ascii()),
                None => assert!(std::str::from_utf8(line).is_err()),
            }
        }
    }
}
