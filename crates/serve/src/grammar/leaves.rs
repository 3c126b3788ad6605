//! A schema as a list of alternatives, each of one type.

use serde_json::{Map, Value};

/// The most references and choices in a row: more are taken to be a circle.
const DEPTH: usize = 32;
/// Keywords that demand nothing.
const ANNOTATIONS: [&str; 13] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords that a grammar ensures, and the type whose values they limit.
const KEYWORDS: [(&str, Kind); 14] = [
    ("properties", Kind::Object),
    ("required", Kind::Object),
    ("additionalProperties", Kind::Object),
    ("items", Kind::Array),
    ("minItems", Kind::Array),
    ("maxItems", Kind::Array),
    ("minLength", Kind::String),
    ("maxLength", Kind::String),
    ("pattern", Kind::String),
    ("minimum", Kind::Number),
    ("maximum", Kind::Number),
    ("exclusiveMinimum", Kind::Number),
    ("exclusiveMaximum", Kind::Number),
    ("multipleOf", Kind::Number),
];

/// A type of JSON schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// An alternative of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) enum Leaf<'a> {
    /// Any value.
    Any,
    /// This value.
    Only(&'a Value),
    /// A value of this type, within the keywords of the schema that limit the type.
    Of(Kind, &'a Map<String, Value>),
}

/// The alternatives of a schema, which refers to parts of `root`.
///
/// # Errors
/// Keywords that a grammar cannot ensure, and a schema that no value follows.
pub(super) fn leaves<'a>(schema: &'a Value, root: &'a Value) -> Result<Vec<Leaf<'a>>, String> {
    let mut leaves = Vec::new();
    collect(schema, root, DEPTH, &mut leaves)?;
    if leaves.is_empty() {
        return Err("expected a schema that some value follows, found none".to_owned());
    }
    Ok(leaves)
}

fn collect<'a>(
    schema: &'a Value,
    root: &'a Value,
    depth: usize,
    leaves: &mut Vec<Leaf<'a>>,
) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("expected no references in a circle, found one")?;
    let fields = match schema {
        Value::Bool(true) => {
            leaves.push(Leaf::Any);
            return Ok(());
        }
        Value::Object(fields) => fields,
        other => return Err(format!("expected a schema: an object, or true; found {other}")),
    };
    if let Some(reference) = fields.get("$ref") {
        refuse_all_but(fields, &["$ref"])?;
        let path = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
        let target = path.and_then(|path| root.pointer(path)).ok_or_else(|| {
            format!("$ref: expected a part of the function's parameters, found {reference}")
        })?;
        return collect(target, root, depth, leaves);
    }
    if let Some(Value::Array(schemas)) = fields.get("anyOf") {
        refuse_all_but(fields, &["anyOf"])?;
        return schemas.iter().try_for_each(|schema| collect(schema, root, depth, leaves));
    }
    if let Some([only]) = fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        refuse_all_but(fields, &["allOf"])?;
        return collect(only, root, depth, leaves);
    }
    let kinds = kinds(fields)?;
    let listed = match (fields.get("enum"), fields.get("const")) {
        (Some(Value::Array(values)), None) => Some(values.as_slice()),
        (None, Some(only)) => Some(std::slice::from_ref(only)),
        _ => None,
    };
    if let Some(values) = listed {
        refuse_all_but(fields, &["enum", "const", "type"])?;
        let fits = |value: &&Value| {
            kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind.has(value)))
        };
        leaves.extend(values.iter().filter(fits).map(Leaf::Only));
        return Ok(());
    }
    let known: Vec<&str> = KEYWORDS.iter().map(|(keyword, _)| *keyword).collect();
    refuse_all_but(fields, &[&known, &["type"][..]].concat())?;
    // Without a type, the one that the keywords limit.
    let limited = || KEYWORDS.iter().find(|(keyword, _)| fields.contains_key(*keyword));
    match kinds.or_else(|| limited().map(|(_, kind)| vec![*kind])) {
        Some(kinds) => leaves.extend(kinds.into_iter().map(|kind| Leaf::Of(kind, fields))),
        None => leaves.push(Leaf::Any),
    }
    Ok(())
}

/// Refuses keywords that demand something, but for these.
fn refuse_all_but(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    let is_known = |key: &str| known.contains(&key) || ANNOTATIONS.contains(&key);
    match fields.keys().find(|key| !is_known(key)) {
        None => Ok(()),
        Some(key) => {
            Err(format!("a call in this model's form cannot be made to follow `{key}` here"))
        }
    }
}

/// The types that a schema names.
fn kinds(fields: &Map<String, Value>) -> Result<Option<Vec<Kind>>, String> {
    let names = match fields.get("type") {
        None => return Ok(None),
        Some(Value::Array(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
    };
    let kind = |name: &Value| {
        Kind::of(name.as_str().unwrap_or_default())
            .ok_or_else(|| format!("type: expected a type of JSON, found {name}"))
    };
    names.iter().map(kind).collect::<Result<_, _>>().map(Some)
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "string" => Self::String,
            "array" => Self::Array,
            "object" => Self::Object,
            _ => return None,
        })
    }

    fn has(self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
        }
    }
}
