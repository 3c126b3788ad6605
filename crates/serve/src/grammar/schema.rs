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

/// Keywords by which what one schema says of an object depends on another.
const COMBINED: [&str; 6] =
    ["allOf", "not", "if", "dependentSchemas", "unevaluatedProperties", "propertyNames"];
/// Keywords beside `properties` that allow, or need, further ones.
const OPEN: [&str; 6] =
    ["additionalProperties", "patternProperties", "minProperties", "anyOf", "oneOf", "$ref"];

/// Forbids properties beside those that an object's schema names, where it does not say: clients seldom do, and a model may
/// add them without end. What is still allowed is valid for the schema as it was. One that combines schemas of one object
/// stays as it is.
fn close_objects(schema: &mut Value) {
    let mut combines = false;
    visit(schema, &mut |fields| {
        combines |= COMBINED.iter().any(|key| fields.contains_key(*key));
        let named = fields.contains_key("properties");
        combines |= named && ["anyOf", "oneOf", "$ref"].iter().any(|key| fields.contains_key(*key));
    });
    if combines {
        return;
    }
    visit(schema, &mut |fields| {
        let Some(Value::Object(named)) = fields.get("properties") else { return };
        let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
        let names_all = required
            .into_iter()
            .all(|name| name.as_str().is_some_and(|name| named.contains_key(name)));
        if !named.is_empty() && names_all && OPEN.iter().all(|key| !fields.contains_key(*key)) {
            fields.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    });
}

/// Calls `each` for a schema and the schemas in it, of which there are no more than [`check_size`] allows.
fn visit(schema: &mut Value, each: &mut impl FnMut(&mut Map<String, Value>)) {
    let mut rest = vec![schema];
    while let Some(schema) = rest.pop() {
        let Value::Object(fields) = schema else { continue };
        each(fields);
        for (key, value) in fields {
            match (key.as_str(), value) {
                (
                    "properties" | "patternProperties" | "$defs" | "definitions",
                    Value::Object(inner),
                ) => {
                    rest.extend(inner.values_mut());
                }
                ("anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(inner)) => {
                    rest.extend(inner.iter_mut());
                }
                ("items" | "additionalProperties", inner) => rest.push(inner),
                _ => {}
            }
        }
    }
}

/// The schema with our choices where it may have options of the library.
///
/// # Errors
/// A schema that is too large, or is none.
pub(super) fn with_options(schema: &Value) -> Result<Value, String> {
    check_size(schema)?;
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        _ => return Err("expected a schema: an object, or true".to_owned()),
    };
    close_objects(&mut schema);
    let options = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE });
    schema["x-guidance"] = options;
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(mut schema: Value) -> Value {
        close_objects(&mut schema);
        schema
    }

    #[test]
    fn objects_that_name_properties_have_no_others() {
        let place = json!({ "type": "object", "properties": { "lat": {} } });
        let closed_place =
            json!({ "type": "object", "properties": { "lat": {} }, "additionalProperties": false });
        assert_eq!(closed(place.clone()), closed_place);
        for around in [
            |inner: &Value| json!({ "type": "array", "items": inner }),
            |inner: &Value| json!({ "anyOf": [{ "type": "null" }, inner] }),
            |inner: &Value| json!({ "$defs": { "a": inner }, "$ref": "#/$defs/a" }),
            |inner: &Value| json!({ "type": "object", "additionalProperties": inner }),
        ] {
            assert_eq!(closed(around(&place)), around(&closed_place));
        }
    }

    #[test]
    fn objects_that_may_have_others_stay_open() {
        let place = json!({ "type": "object", "properties": { "lat": {} } });
        for open in [
            json!({ "type": "object" }),
            json!({ "type": "object", "properties": {} }),
            json!({ "properties": { "a": {} }, "additionalProperties": true }),
            json!({ "properties": { "a": {} }, "required": ["b"] }),
            json!({ "properties": { "a": {} }, "patternProperties": { "^x": {} } }),
            json!({ "properties": { "a": {} }, "minProperties": 2 }),
            json!({ "allOf": [place, { "properties": { "lon": {} } }] }),
            json!({ "properties": { "a": {} }, "anyOf": [place] }),
            json!({ "$ref": "#/$defs/a", "properties": { "a": {} }, "$defs": { "a": place } }),
            // No schemas.
            json!({ "const": place }),
            json!({ "enum": [place], "default": place, "examples": [place] }),
        ] {
            assert_eq!(closed(open.clone()), open);
        }
    }
}
