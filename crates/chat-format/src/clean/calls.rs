//! Tool calls as models write them inside their markup.

use serde_json::{Map, Value};

use crate::ToolCall;

/// Reads a call, or a list of calls, in any of the known notations.
pub(super) fn parse(text: &str) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    json(text)
        .or_else(|| {
            xml(text).or_else(|| gemma(text)).or_else(|| mistral(text)).map(|call| vec![call])
        })
        .or_else(|| deepseek(text).map(|call| vec![call]))
}

/// `{"name": ..., "arguments": {...}}` (Hermes, Qwen up to 3), or a list of such objects (Mistral up to Nemo, Phi 4).
fn json(text: &str) -> Option<Vec<ToolCall>> {
    match serde_json::from_str(text).ok()? {
        Value::Array(calls) if !calls.is_empty() => {
            calls.into_iter().map(|call| call.try_into().ok()).collect()
        }
        call => call.try_into().ok().map(|call| vec![call]),
    }
}

/// `<function=NAME> <parameter=KEY> value </parameter> </function>`, as Qwen 3.5 writes it.
fn xml(text: &str) -> Option<ToolCall> {
    let body = text.strip_prefix("<function=")?.strip_suffix("</function>")?;
    let (name, mut rest) = body.split_once('>')?;
    let mut arguments = Map::new();
    while let Some(parameter) = rest.trim_start().strip_prefix("<parameter=") {
        let (key, after) = parameter.split_once('>')?;
        let (value, after) = after.split_once("</parameter>")?;
        let value = value.strip_prefix('\n').unwrap_or(value);
        let value = value.strip_suffix('\n').unwrap_or(value);
        arguments.insert(key.to_owned(), literal(value));
        rest = after;
    }
    let complete = rest.trim().is_empty() && !name.is_empty();
    complete.then(|| call(name, arguments))
}

/// Texts stand without quotes there, so only what is unmistakably JSON, or one of Python's constants, is read as such.
fn literal(text: &str) -> Value {
    match text {
        "True" => Value::Bool(true),
        "False" => Value::Bool(false),
        "None" => Value::Null,
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    }
}

fn call(name: &str, arguments: Map<String, Value>) -> ToolCall {
    ToolCall { id: None, name: name.trim().to_owned(), arguments: Value::Object(arguments) }
}

/// `call:NAME{key:<|"|>text<|"|>,other:1}`, as Gemma 4 writes it.
fn gemma(text: &str) -> Option<ToolCall> {
    let (name, rest) = text.strip_prefix("call:")?.split_once('{')?;
    let mut parser = Gemma { rest };
    let arguments = parser.object()?;
    parser.rest.trim().is_empty().then(|| call(name, arguments))
}

/// `NAME[CALL_ID]id[ARGS]{...}`, as Mistral writes it since Small 3.2; the id may be absent.
fn mistral(text: &str) -> Option<ToolCall> {
    let (name, arguments) = text.split_once("[ARGS]")?;
    let (name, id) = match name.split_once("[CALL_ID]") {
        Some((name, id)) => (name, Some(id.to_owned())),
        None => (name, None),
    };
    let arguments: Map<String, Value> = serde_json::from_str(arguments).ok()?;
    Some(ToolCall { id, ..call(name, arguments) })
}

/// `function<｜tool▁sep｜>NAME` and the arguments as a block of JSON, as DeepSeek's R1 writes it, or `NAME<｜tool▁sep｜>{...}`, as
/// its successors do.
fn deepseek(text: &str) -> Option<ToolCall> {
    let (kind, rest) = text.split_once("<｜tool▁sep｜>")?;
    let (name, arguments) = match rest.split_once("\n```json") {
        Some((name, block)) => (name, block.strip_suffix("```")?),
        None => (kind, rest),
    };
    Some(call(name, serde_json::from_str(arguments.trim()).ok()?))
}

/// What a tool's result says besides its words.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// The function that answers.
    pub(super) name: Option<String>,
    /// The call it answers.
    pub(super) call_id: Option<String>,
    /// The words, without the notation around them.
    pub(super) said: Option<String>,
}

/// Reads the result of a tool in one of the notations that hold more than words.
pub(super) fn result(text: &str) -> Option<Answer> {
    gemma_result(text).or_else(|| mistral_result(text))
}

/// `response:NAME{value:<|"|>text<|"|>}`, as Gemma 4 writes it.
fn gemma_result(text: &str) -> Option<Answer> {
    let (name, rest) = text.strip_prefix("response:")?.split_once('{')?;
    let mut parser = Gemma { rest };
    let fields = parser.object()?;
    let said = match fields.get("value").filter(|_| fields.len() == 1) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => serde_json::to_string(&fields).ok()?,
    };
    let answer = Answer { name: Some(name.to_owned()), said: Some(said), call_id: None };
    parser.rest.trim().is_empty().then_some(answer)
}

/// `id[TOOL_CONTENT]text` as Mistral Small 3.2 writes it, `{"content": text, "call_id": "id"}` as Nemo does (without quotes around
/// the text).
fn mistral_result(text: &str) -> Option<Answer> {
    let (id, said) = match text.split_once("[TOOL_CONTENT]") {
        Some(parts) => parts,
        None => {
            let fields = text.strip_prefix("{\"content\": ")?.strip_suffix("\"}")?;
            let (said, id) = fields.rsplit_once(", \"call_id\": \"")?;
            (id, said)
        }
    };
    Some(Answer { name: None, call_id: Some(id.to_owned()), said: Some(said.to_owned()) })
}

const QUOTE: &str = "<|\"|>";
/// Arguments nest a few levels; a text that nests more is no call.
const DEEPEST: usize = 32;

struct Gemma<'a> {
    rest: &'a str,
}

impl Gemma<'_> {
    /// Reads up to the closing brace; the opening one has been read.
    fn object(&mut self) -> Option<Map<String, Value>> {
        self.object_within(DEEPEST)
    }

    fn object_within(&mut self, depth: usize) -> Option<Map<String, Value>> {
        let mut fields = Map::new();
        if self.eat("}") {
            return Some(fields);
        }
        loop {
            let key = match self.eat(QUOTE) {
                true => self.until(QUOTE)?,
                false => {
                    let end = self.rest.find(':')?;
                    self.take(end)
                }
            };
            if !self.eat(":") {
                return None;
            }
            fields.insert(key, self.value(depth.checked_sub(1)?)?);
            if self.eat("}") {
                return Some(fields);
            }
            if !self.eat(",") {
                return None;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if self.eat(QUOTE) {
            return self.until(QUOTE).map(Value::String);
        }
        if self.eat("{") {
            return self.object_within(depth).map(Value::Object);
        }
        if self.eat("[") {
            let mut items = Vec::new();
            if self.eat("]") {
                return Some(Value::Array(items));
            }
            loop {
                items.push(self.value(depth.checked_sub(1)?)?);
                if self.eat("]") {
                    return Some(Value::Array(items));
                }
                if !self.eat(",") {
                    return None;
                }
            }
        }
        let end = self.rest.find([',', '}', ']'])?;
        serde_json::from_str(self.take(end).trim()).ok()
    }

    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, end: &str) -> Option<String> {
        let at = self.rest.find(end)?;
        let text = self.take(at);
        self.eat(end);
        Some(text)
    }

    fn take(&mut self, length: usize) -> String {
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn notations() {
        let arguments = json!({"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}});
        let cases = [
            r#"{"name": "scan", "arguments": {"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}}"#,
            "<function=scan>\n<parameter=host>\nnas.lan\n</parameter>\n<parameter=ports>\n[22, 443]\n</parameter>\n<parameter=deep>\n{\"dry\": true}\n</parameter>\n</function>",
            r#"call:scan{host:<|"|>nas.lan<|"|>,ports:[22,443],deep:{dry:true}}"#,
            "function<｜tool▁sep｜>scan\n```json\n{\"host\": \"nas.lan\", \"ports\": [22, 443], \"deep\": {\"dry\": true}}\n```",
            r#"scan<｜tool▁sep｜>{"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}"#,
            r#"scan[ARGS]{"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}"#,
            r#"scan[CALL_ID]a1[ARGS]{"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}"#,
            r#"[{"name": "scan", "arguments": {"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}, "id": "a1"}]"#,
            r#"{"name": "scan", "parameters": {"host": "nas.lan", "ports": [22, 443], "deep": {"dry": true}}}"#,
        ];
        for text in cases {
            let calls = parse(text).unwrap_or_else(|| panic!("{text}"));
            let [call] = &calls[..] else { panic!("{calls:?}") };
            assert_eq!((call.name.as_str(), &call.arguments), ("scan", &arguments), "{text}");
            assert_eq!(call.id.as_deref(), text.contains("a1").then_some("a1"), "{text}");
        }
        let two = r#"[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]"#;
        assert_eq!(parse(two).map(|calls| calls.len()), Some(2));
    }

    #[test]
    fn results() {
        let (name, id) = (Some("scan".to_owned()), Some("a1".to_owned()));
        for (text, name, call_id, said) in [
            (r#"response:scan{value:<|"|>22 open<|"|>}"#, &name, &None, "22 open"),
            ("response:scan{value:22}", &name, &None, "22"),
            (
                r#"response:scan{open:[22],host:<|"|>nas<|"|>}"#,
                &name,
                &None,
                r#"{"open":[22],"host":"nas"}"#,
            ),
            ("a1[TOOL_CONTENT]22 open", &None, &id, "22 open"),
            (r#"{"content": 22 open, "call_id": "a1"}"#, &None, &id, "22 open"),
        ] {
            let (name, call_id, said) = (name.clone(), call_id.clone(), Some(said.to_owned()));
            assert_eq!(result(text), Some(Answer { name, call_id, said }), "{text}");
        }
        assert_eq!(result("22 open"), None);
    }

    #[test]
    fn what_is_no_call() {
        for text in [
            "",
            "hello",
            "call:x{",
            "call:x{a:}",
            "<function=x>",
            "{\"arguments\": {}}",
            "[1]",
            "[]",
            "x[ARGS]1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("call:x{{a:{}", "[".repeat(100_000))), None);
    }
}
