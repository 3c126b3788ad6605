//! Tool calls as models write them inside their markup.

use serde_json::{Map, Value};

use crate::ToolCall;

/// Reads a call in any of the known notations.
pub(super) fn parse(text: &str) -> Option<ToolCall> {
    let text = text.trim();
    json(text).or_else(|| xml(text)).or_else(|| gemma(text)).or_else(|| deepseek(text))
}

/// `{"name": ..., "arguments": {...}}`, as Hermes and Qwen up to 3 write it.
fn json(text: &str) -> Option<ToolCall> {
    serde_json::from_str::<Value>(text).ok().and_then(|value| ToolCall::try_from(value).ok())
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

/// `response:NAME{value:<|"|>text<|"|>}`, as Gemma 4 writes the result of a call: the function's name, and what it said.
pub(super) fn result(text: &str) -> Option<(String, String)> {
    let (name, rest) = text.strip_prefix("response:")?.split_once('{')?;
    let mut parser = Gemma { rest };
    let fields = parser.object()?;
    let said = match fields.get("value").filter(|_| fields.len() == 1) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => serde_json::to_string(&fields).ok()?,
    };
    parser.rest.trim().is_empty().then(|| (name.to_owned(), said))
}

/// `function<｜tool▁sep｜>NAME` and the arguments as a block of JSON, as DeepSeek writes it.
fn deepseek(text: &str) -> Option<ToolCall> {
    let (_, call) = text.split_once("<｜tool▁sep｜>")?;
    let (name, arguments) = call.split_once('\n')?;
    let arguments = arguments.trim().strip_prefix("```json")?.strip_suffix("```")?;
    let arguments = serde_json::from_str(arguments).ok()?;
    Some(ToolCall { id: None, name: name.to_owned(), arguments })
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
        ];
        for text in cases {
            let call = parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((call.name.as_str(), &call.arguments), ("scan", &arguments), "{text}");
        }
    }

    #[test]
    fn results() {
        for (text, said) in [
            (r#"response:scan{value:<|"|>22 open<|"|>}"#, "22 open"),
            ("response:scan{value:22}", "22"),
            (r#"response:scan{open:[22],host:<|"|>nas<|"|>}"#, r#"{"open":[22],"host":"nas"}"#),
        ] {
            assert_eq!(result(text), Some(("scan".to_owned(), said.to_owned())), "{text}");
        }
        assert_eq!(result("22 open"), None);
    }

    #[test]
    fn what_is_no_call() {
        for text in
            ["", "hello", "call:x{", "call:x{a:}", "<function=x>", "{\"arguments\": {}}", "[1]"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("call:x{{a:{}", "[".repeat(100_000))), None);
    }
}
