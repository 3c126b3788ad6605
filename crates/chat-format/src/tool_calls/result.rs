use serde_json::Value;

use super::notation;

/// The result of a tool call, read from the notations that hold more than the text.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ToolResult {
    /// The function that was called.
    pub(crate) name: Option<String>,
    /// The id of the call.
    pub(crate) call_id: Option<String>,
    /// The text, without the notation around it.
    pub(crate) content: Option<String>,
}

impl ToolResult {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        gemma(text).or_else(|| mistral(text))
    }
}

/// `response:NAME{value:<|"|>text<|"|>}` (Gemma 4).
fn gemma(text: &str) -> Option<ToolResult> {
    let (name, rest) = text.strip_prefix("response:")?.split_once('{')?;
    let (fields, rest) = notation::fields(rest)?;
    let content = match fields.get("value").filter(|_| fields.len() == 1) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => serde_json::to_string(&fields).ok()?,
    };
    let result = ToolResult { name: Some(name.to_owned()), content: Some(content), call_id: None };
    rest.trim().is_empty().then_some(result)
}

/// `id[TOOL_CONTENT]text` (Mistral Small 3.2), or `{"content": text, "call_id": "id"}` without quotes around the text (Nemo).
fn mistral(text: &str) -> Option<ToolResult> {
    let (id, content) = match text.split_once("[TOOL_CONTENT]") {
        Some(parts) => parts,
        None => {
            let fields = text.strip_prefix("{\"content\": ")?.strip_suffix("\"}")?;
            let (content, id) = fields.rsplit_once(", \"call_id\": \"")?;
            (id, content)
        }
    };
    Some(ToolResult { name: None, call_id: Some(id.to_owned()), content: Some(content.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results() {
        let (name, id) = (Some("scan".to_owned()), Some("a1".to_owned()));
        for (text, name, call_id, content) in [
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
            let (name, call_id) = (name.clone(), call_id.clone());
            let content = Some(content.to_owned());
            let expected = ToolResult { name, call_id, content };
            assert_eq!(ToolResult::parse(text), Some(expected), "{text}");
        }
        assert_eq!(ToolResult::parse("22 open"), None);
    }
}
