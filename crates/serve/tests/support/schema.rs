//! Schemas of every kind, and values held against them.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Whether a value is of a schema: independent of the library, for the schemas below.
pub fn is_of(value: &Value, schema: &Value) -> bool {
    if let Some(values) = schema["enum"].as_array() {
        return values.contains(value);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        return schemas.iter().any(|schema| is_of(value, schema));
    }
    let limit = |key: &str| schema[key].as_u64().unwrap() as usize;
    match (schema["type"].as_str().unwrap(), value) {
        ("null", Value::Null) | ("boolean", Value::Bool(_)) => true,
        ("integer", Value::Number(number)) => {
            // `-0` is an integer too.
            let range = schema["minimum"].as_f64().unwrap()..=schema["maximum"].as_f64().unwrap();
            number.as_f64().is_some_and(|number| number.fract() == 0.0 && range.contains(&number))
        }
        ("string", Value::String(text)) => text.chars().count() <= limit("maxLength"),
        ("array", Value::Array(items)) => {
            (limit("minItems")..=limit("maxItems")).contains(&items.len())
                && items.iter().all(|item| is_of(item, &schema["items"]))
        }
        ("object", Value::Object(fields)) => {
            let known = schema["properties"].as_object().unwrap();
            let required = schema["required"].as_array().unwrap();
            required.iter().all(|name| fields.contains_key(name.as_str().unwrap()))
                && fields
                    .iter()
                    .all(|(name, value)| known.get(name).is_some_and(|of| is_of(value, of)))
        }
        _ => false,
    }
}

/// Texts that are easily spoiled.
pub const TEXTS: [&str; 8] = ["yes", "no", "ü", "a \"b\"", "\\", "", "<|im_end|>", "日本"];

/// Schemas with properties of these names.
pub fn schema(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let text = prop::sample::select(&TEXTS[..]);
    let names = prop::sample::select(names);
    let leaf = prop_oneof![
        Just(json!({ "type": "null" })),
        Just(json!({ "type": "boolean" })),
        (-50i64..50, 0i64..2000).prop_map(
            |(low, span)| json!({ "type": "integer", "minimum": low, "maximum": low + span })
        ),
        (0u64..12).prop_map(|most| json!({ "type": "string", "maxLength": most })),
        prop::collection::vec(text, 1..4).prop_map(|values| json!({ "enum": values })),
    ];
    leaf.prop_recursive(3, 12, 3, move |inner| {
        let fields = prop::collection::vec((names.clone(), inner.clone(), any::<bool>()), 0..3);
        prop_oneof![
            (inner.clone(), 0u64..2, 0u64..3).prop_map(|(items, low, more)| {
                json!({ "type": "array", "items": items, "minItems": low, "maxItems": low + more })
            }),
            prop::collection::vec(inner, 1..3).prop_map(|schemas| json!({ "anyOf": schemas })),
            fields.prop_map(|fields| {
                let (mut properties, mut required) = (Map::new(), Vec::new());
                for (name, schema, needed) in fields {
                    if properties.insert(name.to_owned(), schema).is_none() && needed {
                        required.push(name);
                    }
                }
                json!({
                    "type": "object", "properties": properties, "required": required,
                    "additionalProperties": false,
                })
            }),
        ]
    })
}
