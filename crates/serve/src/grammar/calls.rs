//! Grammars of calls whose arguments are not one JSON object: Gemma 4's braces and Qwen 3.5's tags.
//!
//! Every call that a grammar allows is valid for its function's schema. Not every valid call is allowed: properties come in
//! one order, without others beside those that the schema names, and numbers without limits have at most 18 digits. What a
//! schema demands and a grammar cannot ensure is refused.

use chat_format::tool_calls;
use serde_json::{Map, Value};

use super::leaves::{Kind, Leaf};
use super::values::{Property, Values, bare, properties};
use super::{quoted, schema};

/// The longest grammar, in bytes.
const LENGTH: usize = 4 << 20;
/// What ends a parameter in tags.
const END: &str = "\n</parameter>\n";
/// What texts without JSON's quotation marks may not contain: the reader would take it for the end of the text or the call.
const BRACES_END: [&str; 3] = ["<|\"|>", "<|tool_call>", "<tool_call|>"];
const TAGS_END: [&str; 3] = ["</parameter>", "<tool_call>", "</tool_call>"];

/// Calls in Gemma 4's form, `call:NAME{key:value}` between two marks. Texts stand between two `quote`s.
///
/// # Errors
/// Parameters that are too large, or that demand what a grammar cannot ensure.
pub(super) fn braces(tools: &[Value], marks: [&str; 2], quote: &str) -> Result<String, String> {
    grammar(tools, marks, (Some(quote), &BRACES_END), |values, name| {
        let parameters = values.parameters()?;
        let arguments = match properties(parameters)?.is_empty() {
            true => quoted("{}"),
            false => values.object(parameters)?,
        };
        Ok(format!("{} {arguments}", quoted(&format!("call:{}", bare(name, &["{"])?))))
    })
}

/// Calls in Qwen 3.5's form, `<function=NAME>` with a tag for each parameter between two marks.
///
/// # Errors
/// As [`braces`].
pub(super) fn tags(tools: &[Value], marks: [&str; 2]) -> Result<String, String> {
    grammar(tools, marks, (None, &TAGS_END), |values, name| {
        let mut call = quoted(&format!("\n<function={}>\n", bare(name, &[">"])?));
        for Property { name, schema, required } in properties(values.parameters()?)? {
            let value = argument(values, schema).map_err(|error| format!("{name}: {error}"))?;
            let tag = quoted(&format!("<parameter={}>\n", bare(name, &[">"])?));
            let optional = if required { "" } else { "?" };
            call += &format!(" ({tag} {value}){optional}");
        }
        Ok(format!("{call} {}", quoted("</function>\n")))
    })
}

/// A call of one of these functions between two marks.
fn grammar(
    tools: &[Value],
    [open, close]: [&str; 2],
    (quote, forbidden): (Option<&str>, &[&str]),
    call: impl Fn(&mut Values<'_>, &str) -> Result<String, String>,
) -> Result<String, String> {
    let (mut calls, mut rules) = (Vec::new(), String::new());
    for (index, tool) in tools.iter().enumerate() {
        let name = tool_calls::function(tool)["name"].as_str().unwrap_or_default();
        let parameters = schema::parameters(tool);
        schema::check_size(&parameters)?;
        let mut values = Values::new(&parameters, format!("f{index}"), quote, forbidden);
        calls.push(call(&mut values, name).map_err(|error| format!("{name}: {error}"))?);
        rules += &values.into_rules();
        if rules.len() > LENGTH {
            return Err("expected simpler parameters".to_owned());
        }
    }
    Ok(format!("start: {open} call {close}\ncall: {}\n{rules}", calls.join(" | ")))
}

/// A parameter's value in a tag, and the end of the tag. Texts have no quotation marks; other values are JSON.
fn argument<'a>(values: &mut Values<'a>, schema: &'a Value) -> Result<String, String> {
    let leaves = values.leaves(schema)?;
    let is_other = |leaf: &Leaf<'_>| match leaf {
        Leaf::Any | Leaf::Of(Kind::Integer | Kind::Number | Kind::Array | Kind::Object, _) => true,
        Leaf::Only(value) => !value.is_string(),
        Leaf::Of(..) => false,
    };
    let mixed = leaves.iter().any(is_other);
    // Text beside other values must not be read as one of them.
    let begin = if mixed { r" & /([^\[{\-0-9\s](?s:.*))?/" } else { "" };
    let (mut words, mut others) = (Vec::new(), Vec::new());
    for leaf in leaves {
        match leaf {
            Leaf::Of(Kind::String, fields) => {
                words.push(format!("({}{begin})", values.characters(fields)?));
            }
            Leaf::Of(Kind::Null, _) => words.push(quoted("null")),
            Leaf::Of(Kind::Boolean, _) => words.extend(["true", "false"].map(quoted)),
            Leaf::Only(Value::String(text))
                if mixed && serde_json::from_str::<Value>(text).is_ok() =>
            {
                return Err(format!(
                    "a call in this model's form cannot tell the text {text:?} from other values"
                ));
            }
            Leaf::Only(Value::String(text)) => words.push(quoted(bare(text, &TAGS_END)?)),
            Leaf::Only(value) if !value.is_array() && !value.is_object() => {
                words.push(quoted(&value.to_string()));
            }
            Leaf::Any => {
                words.push(format!("({}{begin})", values.characters(&Map::new())?));
                others.push(values.any());
            }
            other => others.push(values.leaf(other)?),
        }
    }
    let end = quoted(END);
    let mut alternatives = Vec::new();
    if !words.is_empty() {
        // One terminal: where a word ends is only known at the end of the parameter.
        alternatives.push(values.terminal(&format!("({}) {end}", words.join(" | "))));
    }
    if !others.is_empty() {
        alternatives.push(format!("({}) {end}", others.join(" | ")));
    }
    Ok(format!("({})", alternatives.join(" | ")))
}
