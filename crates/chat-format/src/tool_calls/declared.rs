//! The types that tools declare for their arguments.

use serde_json::Value;

/// The most parts of a schema that are read for one argument: references may go in circles.
const PARTS: usize = 1_000;

/// The function that a tool declares: OpenAI puts it under `function`, others declare it alone.
///
/// ```
/// let tool = serde_json::json!({"type": "function", "function": {"name": "scan"}});
/// assert_eq!(chat_format::tool_calls::function(&tool)["name"], "scan");
/// ```
pub fn function(tool: &Value) -> &Value {
    tool.get("function").unwrap_or(tool)
}

/// The schema of a function's parameters.
#[derive(Clone, Copy)]
pub(super) struct Parameters<'a>(&'a Value);

impl<'a> Parameters<'a> {
    /// Those of the function with this name, if it is declared.
    pub(super) fn of(tools: &'a [Value], name: &str) -> Option<Self> {
        let declared = tools.iter().map(function).find(|function| function["name"] == name)?;
        declared.get("parameters").map(Self)
    }

    /// The argument `key`, written as `text` without quotes: `read` if its schema allows that, else the text if it allows
    /// that, else `read`.
    pub(super) fn typed(self, key: &str, text: &str, read: Value) -> Value {
        let Some(schema) = self.0.get("properties").and_then(|all| all.get(key)) else {
            return read;
        };
        // Text in quotation marks is text that has quotation marks.
        let allows = |value: &Value| self.allows(schema, value, &mut { PARTS });
        let as_text = Value::String(text.to_owned());
        let keeps = !read.is_string() && allows(&read);
        if !keeps && allows(&as_text) { as_text } else { read }
    }

    /// Whether a schema's types and lists of values allow a value; other keywords are not looked at.
    fn allows(self, schema: &Value, value: &Value, parts: &mut usize) -> bool {
        let Some(left) = parts.checked_sub(1) else { return true };
        *parts = left;
        let list = |key: &str| schema.get(key).and_then(Value::as_array);
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| self.target(to));
        target.is_none_or(|target| self.allows(target, value, parts))
            && schema.get("type").is_none_or(|kind| is_of(value, kind))
            && schema.get("const").is_none_or(|only| only == value)
            && list("enum").is_none_or(|values| values.contains(value))
            && ["anyOf", "oneOf"]
                .into_iter()
                .filter_map(list)
                .all(|schemas| schemas.iter().any(|schema| self.allows(schema, value, parts)))
            && list("allOf").is_none_or(|schemas| {
                schemas.iter().all(|schema| self.allows(schema, value, parts))
            })
    }

    fn target(self, reference: &str) -> Option<&'a Value> {
        self.0.pointer(reference.strip_prefix('#')?)
    }
}

/// Whether a value has a type, or one of a list of types.
fn is_of(value: &Value, kind: &Value) -> bool {
    match kind {
        Value::Array(kinds) => kinds.iter().any(|kind| is_of(value, kind)),
        Value::String(kind) => match kind.as_str() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => true,
        },
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find_declared, parse_declared};
    use serde_json::{Value, json};

    /// The value of a parameter with this schema that Qwen 3.5 writes as `text`.
    fn read(schema: Value, text: &str) -> Value {
        let parameters = json!({
            "type": "object", "properties": {"a": schema},
            "$defs": {"code": {"type": "string"}, "loop": {"$ref": "#/$defs/loop"}},
        });
        let tools = [json!({"name": "f", "parameters": parameters})];
        let call = format!("<function=f>\n<parameter=a>\n{text}\n</parameter>\n</function>");
        let [exact, lenient] =
            [parse_declared(&call, &tools).unwrap(), find_declared(&call, &tools)];
        assert_eq!(exact, lenient, "{call}");
        exact[0].arguments["a"].clone()
    }

    #[test]
    fn arguments_without_quotes_have_their_declared_types() {
        let either = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        for (schema, text, expected) in [
            (json!({"type": "string"}), "01234", json!("01234")),
            (json!({"type": "string"}), "22", json!("22")),
            (json!({"type": "string"}), "1e3", json!("1e3")),
            (json!({"type": "string"}), "true", json!("true")),
            (json!({"type": "string"}), "None", json!("None")),
            (json!({"type": "string"}), "[1, 2]", json!("[1, 2]")),
            (json!({"type": "string"}), "\"quoted\"", json!("\"quoted\"")),
            (json!({"type": "integer"}), "22", json!(22)),
            (json!({"type": "integer"}), "soon", json!("soon")),
            (json!({"type": "boolean"}), "True", json!(true)),
            (json!({"type": "array"}), "[\"</parameter>\"]", json!(["</parameter>"])),
            (json!({"type": ["string", "integer"]}), "22", json!(22)),
            (either.clone(), "null", json!(null)),
            (either, "22", json!("22")),
            (json!({"enum": ["1", "2"]}), "1", json!("1")),
            (json!({"enum": ["a"]}), "\"a\"", json!("a")),
            (json!({"$ref": "#/$defs/code"}), "7", json!("7")),
            (json!({"$ref": "#/$defs/loop"}), "7", json!(7)),
            (json!({"$ref": "#/$defs/none"}), "7", json!(7)),
            (json!({}), "7", json!(7)),
            (json!({}), "seven", json!("seven")),
        ] {
            assert_eq!(read(schema.clone(), text), expected, "{schema}: {text}");
        }
    }
}
