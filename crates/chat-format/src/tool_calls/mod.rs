//! Tool calls in the notations models write them in.
//!
//! | Models | Notation |
//! |---|---|
//! | Hermes, Qwen up to 3, Llama 3, OpenAI | `{"name": "scan", "arguments": {"port": 22}}`, or with `parameters`, or inside `function` |
//! | Mistral up to Nemo, Phi 4 | a list of such objects |
//! | Qwen 3.5 | `<function=scan><parameter=port>22</parameter></function>` |
//! | Gemma 4 | `call:scan{port:22}`, text between `<\|"\|>` |
//! | Mistral since Small 3.2 | `scan[CALL_ID]id[ARGS]{"port": 22}` |
//! | DeepSeek | `scan<｜tool▁sep｜>{"port": 22}` |
//! | Llama 3's built-in tools | `scan.call(port="22")` |
//!
//! [`parse`] reads a text that is a call and nothing else, in the exact notation: what stands between a model's call
//! tokens. [`find`] searches an answer for calls and accepts the deviations that models make.
//!
//! Qwen 3.5 writes texts without quotes: `22` may be a number or a text. With the declarations of the tools
//! ([`parse_declared`], [`find_declared`]) an argument has the type that its schema says; without, whatever is valid JSON
//! is read as JSON.

mod declared;
mod notation;
mod result;

use serde_json::{Map, Value};

use crate::family::{self, Effect, Found};
use crate::raw::Raw;
use crate::{Problem, ToolCall, json};
pub use declared::function;
use notation::Syntax;
pub(crate) use result::ToolResult;

/// The calls that `text` consists of, in any of the notations; `None` if it is anything else.
///
/// ```
/// let calls = chat_format::tool_calls::parse(r#"{"name": "scan", "arguments": {"port": 22}}"#).unwrap();
/// assert_eq!(calls[0].name, "scan");
/// assert!(chat_format::tool_calls::parse("Call scan.").is_none());
/// ```
pub fn parse(text: &str) -> Option<Vec<ToolCall>> {
    parse_declared(text, &[])
}

/// As [`parse`], with arguments of the types that the schemas of `tools` declare.
///
/// ```
/// use serde_json::json;
///
/// let zip = json!({"type": "object", "properties": {"zip": {"type": "string"}}});
/// let tools = [json!({"type": "function", "function": {"name": "find", "parameters": zip}})];
/// let text = "<function=find>\n<parameter=zip>\n01234\n</parameter>\n</function>";
/// let calls = chat_format::tool_calls::parse_declared(text, &tools).unwrap();
/// assert_eq!(calls[0].arguments, json!({"zip": "01234"}));
/// ```
pub fn parse_declared(text: &str, tools: &[Value]) -> Option<Vec<ToolCall>> {
    let text = text.trim();
    json(text)
        .or_else(|| {
            let (call, rest) = notation::read(text, Syntax::Exact, tools)?;
            rest.is_empty().then(|| vec![call])
        })
        .or_else(|| {
            mistral(text).or_else(|| deepseek(text)).or_else(|| llama(text)).map(|call| vec![call])
        })
}

/// Every call in an answer, wherever it stands, in the order of the text.
///
/// Reads the JSON, Qwen 3.5 and Gemma 4 notations; those of Mistral and DeepSeek cannot be told from the text before
/// them. Accepted beyond [`parse`]: JSON calls nested in `tool_calls` or in lists, text without quotes, white space
/// between the parts of a call, and parts that are not arguments. A JSON object counts only if it has a name and an
/// object of arguments, because prose holds other objects with a `name`.
///
/// ```
/// let calls = chat_format::tool_calls::find("I will scan: call:scan{host: nas.lan, port: 22}.");
/// assert_eq!(calls[0].arguments, serde_json::json!({"host": "nas.lan", "port": 22}));
/// ```
pub fn find(text: &str) -> Vec<ToolCall> {
    find_declared(text, &[])
}

/// As [`find`], with arguments of the types that the schemas of `tools` declare.
pub fn find_declared(text: &str, tools: &[Value]) -> Vec<ToolCall> {
    let mut calls = Vec::new();
    let mut rest = text;
    let opens = |text: &str| text.starts_with(['{', '[']) || notation::opens(text);
    while let Some((start, _)) = rest.char_indices().find(|&(at, _)| opens(&rest[at..])) {
        let found = &rest[start..];
        rest = if let Some((value, after)) = json_prefix(found) {
            calls_in(&value, &mut calls);
            after
        } else if let Some((call, after)) = notation::read(found, Syntax::Lenient, tools) {
            calls.push(call);
            after
        } else {
            // All openings begin with a character of one byte.
            &found[1..]
        };
    }
    calls
}

/// Where the first token stands that opens a call, or a list of calls, in the markup of any family.
///
/// ```
/// assert_eq!(chat_format::tool_calls::opening("So: <tool_call>{"), Some(4));
/// ```
pub fn opening(text: &str) -> Option<usize> {
    let opens = |found: &Found| matches!(found.mark.effect, Effect::Call | Effect::Frame);
    family::find(text).find(opens).map(|found| found.start)
}

/// The JSON object or array that `text` begins with, and the text after it.
fn json_prefix(text: &str) -> Option<(Value, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Raw<'_>>();
    let value = values
        .next()?
        .ok()
        .map(Value::from)
        .filter(|value| value.is_object() || value.is_array())?;
    Some((value, text.get(values.byte_offset()..)?))
}

fn calls_in(value: &Value, calls: &mut Vec<ToolCall>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| calls_in(item, calls)),
        Value::Object(fields) => {
            fields.get("tool_calls").into_iter().for_each(|list| calls_in(list, calls));
            let function = fields.get("function").and_then(Value::as_object).unwrap_or(fields);
            let arguments = function.get("arguments").or_else(|| function.get("parameters"));
            if arguments.is_some_and(|arguments| !arguments.is_null()) {
                let call = ToolCall::try_from(value.clone()).ok();
                calls.extend(call.filter(|call| call.arguments.is_object()));
            }
        }
        _ => {}
    }
}

/// One call as a JSON object, or a list of them.
fn json(text: &str) -> Option<Vec<ToolCall>> {
    match json::parse(text.as_bytes()).ok()? {
        Value::Array(calls) if !calls.is_empty() => {
            calls.into_iter().map(|call| call.try_into().ok()).collect()
        }
        call => call.try_into().ok().map(|call| vec![call]),
    }
}

/// Reads `{"id", "type", "function": {"name", "arguments"}}`, or the inner object alone. Llama 3 calls the arguments
/// `parameters`. `at` is the place in the row that an error names.
pub(crate) fn from_json(mut value: Value, at: &str) -> Result<ToolCall, Problem> {
    let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
    if let Some(function) = value.get_mut("function") {
        value = function.take();
    }
    let name = match value.get_mut("name").map(Value::take) {
        Some(Value::String(name)) => name,
        Some(other) => return Err(Problem::value(format!("{at}.name"), "a text", &other)),
        None => return Err(Problem::missing(format!("{at}.name"), "the function's name")),
    };
    let key = if value.get("arguments").is_some() { "arguments" } else { "parameters" };
    let arguments = match value.get_mut(key).map(Value::take) {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) => decode_arguments(text),
        Some(arguments) => arguments,
    };
    Ok(ToolCall { id, name, arguments })
}

/// OpenAI encodes the arguments object as a JSON string. A string that is not a JSON object is kept as is.
pub(crate) fn decode_arguments(text: String) -> Value {
    json::parse_object(text.as_bytes()).map_or(Value::String(text), Value::Object)
}

impl TryFrom<Value> for ToolCall {
    type Error = Problem;

    fn try_from(value: Value) -> Result<Self, Problem> {
        from_json(value, "tool_call")
    }
}

/// `NAME[CALL_ID]id[ARGS]{...}` (Mistral since Small 3.2); the id is optional.
fn mistral(text: &str) -> Option<ToolCall> {
    let (name, arguments) = text.split_once("[ARGS]")?;
    let (name, id) = match name.split_once("[CALL_ID]") {
        Some((name, id)) => (name, Some(id.to_owned())),
        None => (name, None),
    };
    let arguments = json::parse_object(arguments.as_bytes())?;
    Some(ToolCall { id, ..ToolCall::new(name.trim(), arguments) })
}

/// `function<｜tool▁sep｜>NAME` and the arguments in a fenced block of JSON (DeepSeek R1), or `NAME<｜tool▁sep｜>{...}` (V3.1
/// and later).
fn deepseek(text: &str) -> Option<ToolCall> {
    let (kind, rest) = text.split_once("<｜tool▁sep｜>")?;
    let (name, arguments) = match rest.split_once("\n```json") {
        Some((name, block)) => (name, block.strip_suffix("```")?),
        None => (kind, rest),
    };
    Some(ToolCall::new(name.trim(), json::parse_object(arguments.trim().as_bytes())?))
}

/// `NAME.call(key="value", ...)` (Llama 3's built-in tools). All values are texts, and nothing in them is escaped.
fn llama(text: &str) -> Option<ToolCall> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let (name, rest) = text.split_once(".call(")?;
    let mut rest = rest.strip_suffix(')')?;
    let mut arguments = Map::new();
    while !rest.is_empty() {
        let (key, value) = rest.split_once("=\"")?;
        // A value ends at a quotation mark before the next key, or before the end.
        let ends = value.match_indices("\", ").map(|(at, _)| at);
        let next = ends
            .into_iter()
            .find(|at| value[at + 3..].split_once("=\"").is_some_and(|(key, _)| is_name(key)));
        let (value, after) = match next {
            Some(at) => (&value[..at], &value[at + 3..]),
            None => (value.strip_suffix('"')?, ""),
        };
        is_name(key).then(|| arguments.insert(key.to_owned(), value.into()))?;
        rest = after;
    }
    is_name(name).then(|| ToolCall::new(name, arguments))
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
        let call = &parse(r#"brave_search.call(query="the "NAS", up?", page="2")"#).unwrap()[0];
        assert_eq!(call.name, "brave_search");
        assert_eq!(call.arguments, json!({"query": "the \"NAS\", up?", "page": "2"}));
        let two = r#"[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]"#;
        assert_eq!(parse(two).map(|calls| calls.len()), Some(2));
    }

    #[test]
    fn other_texts_are_not_calls() {
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
            "x.call(a)",
            "x.call(a=\"b)",
            "print(\"x.call()\")",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse(&format!("call:x{{a:{}", "[".repeat(100_000))), None);
    }

    #[test]
    fn calls_in_answers() {
        let calls = |text| {
            let calls = find(text).into_iter();
            calls.map(|call| format!("{}{}", call.name, call.arguments)).collect::<Vec<_>>()
        };
        for (text, expected) in [
            ("none: {\"name\": \"x\"}, [1], {\"name\": \"x\", \"arguments\": null}", &[][..]),
            ("{\"name\": \"x\", \"arguments\": \"not an object\"}", &[]),
            ("call:{a:1} call:x y{a:1} call:x{a:1", &[]),
            ("<function=x><parameter=a>1</parameter>", &[]),
            ("one {\"name\": \"x\", \"arguments\": \"{\\\"a\\\": 1}\"} end", &[r#"x{"a":1}"#]),
            (
                "{\"tool_calls\": [{\"function\": {\"name\": \"x\", \"arguments\": {}}}]} call:y{}",
                &["x{}", "y{}"],
            ),
            ("call:x{ a : b c, d:, e , f:[1, g], }", &[r#"x{"a":"b c","d":"","f":[1,"g"]}"#]),
            ("call:x{a: <|\"|>b, c}<|\"|>, d: {e: True}}", &[r#"x{"a":"b, c}","d":{"e":true}}"#]),
            (
                "<function=x> so <parameter= a >\n 1 \n</parameter><parameter=b></function>",
                &[r#"x{"a":1}"#],
            ),
            ("<function=x><function=y></function>", &["y{}"]),
        ] {
            assert_eq!(calls(text), expected, "{text}");
        }
        assert!(find(&"call:x{a:[".repeat(1000)).is_empty());
    }
}
