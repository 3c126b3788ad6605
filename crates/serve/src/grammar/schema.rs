//! JSON schemas as the grammar library takes them.

use chat_format::tool_calls;
use serde_json::{Map, Value, json};

/// White space between the parts of a JSON value: enough for indented text, but not for ever.
const WHITE_SPACE: &str = r"[ \n]{0,20}";
/// The most values in a schema, its deepest nesting, and the most keys of an object: the library recurses over them.
const VALUES: usize = 5_000;
const DEPTH: usize = 64;
const KEYS: usize = 200;

/// The schema of a function's parameters: any object if it has none.
pub(super) fn parameters(tool: &Value) -> Value {
    let parameters = tool_calls::function(tool).get("parameters");
    match parameters.filter(|parameters| **parameters != json!({})) {
        Some(parameters) => parameters.clone(),
        None => json!({ "type": "object" }),
    }
}

/// A schema for a JSON object with the name and the arguments of a call of one of these functions.
pub(super) fn of_call(tools: &[Value]) -> Result<Value, String> {
    let (mut calls, mut shared) = (Vec::new(), Map::new());
    for tool in tools {
        let mut parameters = parameters(tool);
        // References are from the root of the document.
        for key in ["$defs", "definitions"] {
            let Some(Value::Object(own)) = parameters.as_object_mut().and_then(|it| it.remove(key))
            else {
                continue;
            };
            let all = shared.entry(key).or_insert_with(|| json!({}));
            for (name, definition) in own {
                if all.get(&name).is_some_and(|other| *other != definition) {
                    return Err(format!("expected one {key}.{name} in all tools, found two"));
                }
                all[name] = definition;
            }
        }
        let name = &tool_calls::function(tool)["name"];
        calls.push(json!({
            "type": "object", "additionalProperties": false, "required": ["name", "arguments"],
            "properties": { "name": { "const": name }, "arguments": parameters },
        }));
    }
    shared.insert("anyOf".to_owned(), Value::Array(calls));
    Ok(Value::Object(shared))
}

/// Refuses a schema that is too large.
pub(super) fn check_size(schema: &Value) -> Result<(), String> {
    let (mut rest, mut count) = (vec![(schema, 1)], 0);
    while let Some((value, depth)) = rest.pop() {
        count += 1;
        let keys = value.as_object().map_or(0, Map::len);
        for (most, found, what) in
            [(VALUES, count, "values"), (DEPTH, depth, "levels"), (KEYS, keys, "keys in an object")]
        {
            if found > most {
                return Err(format!("expected a schema of at most {most} {what}, found more"));
            }
        }
        match value {
            Value::Object(fields) => rest.extend(fields.values().map(|inner| (inner, depth + 1))),
            Value::Array(items) => rest.extend(items.iter().map(|inner| (inner, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// The schema with our choices where it may have options of the library.
///
/// # Errors
/// A schema that is too large, or is none.
pub(super) fn with_options(schema: &Value) -> Result<Value, String> {
    check_size(schema)?;
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        Value::Bool(true) => Map::new(),
        _ => return Err("expected a schema: an object, or true".to_owned()),
    };
    let options = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE });
    schema.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(schema))
}
