//! A model's own chat template, rendered the way Hugging Face's `apply_chat_template` does.

mod tags;

use std::borrow::Cow;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State, context};

use crate::{Message, json};

pub(crate) use tags::TURN_MARK;

const NAME: &str = "chat_template";

/// A model's chat template.
///
/// A control token that a message's text spells looks like one of the template's own in the rendering. Where texts are
/// not trusted, use `ChatTokenizer` (feature `tokenizers`), which keeps the two apart.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
}

/// The variables a template sees, by the names Hugging Face gives them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TemplateInput<'a> {
    /// The messages, as an array of objects.
    pub messages: serde_json::Value,
    /// Declarations of the functions the model may call, as an array of JSON schemas.
    pub tools: serde_json::Value,
    /// The text of the beginning-of-text token.
    pub bos_token: &'a str,
    /// The text of the end-of-text token.
    pub eos_token: &'a str,
    /// Whether the rendering ends with the header of the assistant's next turn.
    pub add_generation_prompt: bool,
    /// Whether the model thinks before it answers.
    pub enable_thinking: bool,
    /// The date that `strftime_now` formats.
    pub date: jiff::civil::Date,
}

impl TemplateInput<'_> {
    /// These messages, without tools, special tokens, generation prompt or thinking.
    pub fn new(messages: &[Message], date: jiff::civil::Date) -> Self {
        TemplateInput {
            messages: serde_json::json!(messages),
            tools: serde_json::Value::Null,
            bos_token: "",
            eos_token: "",
            add_generation_prompt: false,
            enable_thinking: false,
            date,
        }
    }
}

impl ChatTemplate {
    /// Compiles a Jinja template.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Template`] if it does not compile.
    pub fn new(source: &str) -> crate::Result<Self> {
        let mut env = Environment::new();
        // An error names its line; the texts of a conversation do not belong in messages and logs.
        env.set_debug(false);
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", tojson);
        // As in Jinja2, `none` is not iterable.
        env.add_test("iterable", |value: Value| {
            !value.is_none() && !value.is_undefined() && value.try_iter().is_ok()
        });
        env.add_function("raise_exception", raise_exception);
        env.add_function("strftime_now", strftime_now);
        env.add_template_owned(NAME, tags::prepare(source))?;
        Ok(ChatTemplate { env, source: source.to_owned() })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Template`] if the template refuses the messages or uses what is not there.
    pub fn render(&self, input: &TemplateInput) -> crate::Result<String> {
        let tools = match &input.tools {
            serde_json::Value::Array(tools) if !tools.is_empty() => Value::from(Serde(tools)),
            _ => Value::from(()),
        };
        Ok(self.env.get_template(NAME)?.render(context! {
            messages => Value::from(Serde(&*with_reasoning(&input.messages))),
            tools => tools,
            bos_token => input.bos_token,
            eos_token => input.eos_token,
            add_generation_prompt => input.add_generation_prompt,
            enable_thinking => input.enable_thinking,
            __date => input.date.to_string(),
        })?)
    }
}

/// Messages whose reasoning is under each of the names that templates read it by (gpt-oss and LFM2.5: `thinking`), as transformers
/// passes it since version 5.
fn with_reasoning(messages: &serde_json::Value) -> Cow<'_, serde_json::Value> {
    const NAMES: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
    fn reasoning(message: &serde_json::Value) -> Option<&serde_json::Value> {
        NAMES.iter().map(|name| &message[*name]).find(|text| !text.is_null())
    }
    if !messages.as_array().into_iter().flatten().any(|message| reasoning(message).is_some()) {
        return Cow::Borrowed(messages);
    }
    let mut messages = messages.clone();
    for message in messages.as_array_mut().into_iter().flatten() {
        let reasoning = reasoning(message).cloned();
        if let (Some(reasoning), Some(fields)) = (reasoning, message.as_object_mut()) {
            fields.entry("thinking").or_insert_with(|| reasoning.clone());
            fields.insert("reasoning_content".to_owned(), reasoning);
        }
    }
    Cow::Owned(messages)
}

/// Python's `json.dumps(value, ensure_ascii=False)`, without the HTML escapes of minijinja's own filter.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        None => options.get::<Option<usize>>("indent")?,
        given => given,
    };
    let ascii = options.get::<Option<bool>>("ensure_ascii")?;
    options.assert_all_used()?;
    let text = json::dumps(value, indent).map_err(|error| {
        Error::new(ErrorKind::BadSerialization, "tojson: no JSON form").with_source(error)
    })?;
    Ok(if ascii == Some(true) { json::escape_non_ascii(&text) } else { text })
}

fn raise_exception(message: String) -> Result<String, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The date comes from the caller, so that renderings are reproducible.
fn strftime_now(state: &State, format: &str) -> Result<String, Error> {
    let bad = |reason: String| Error::new(ErrorKind::InvalidOperation, reason);
    let date = state.lookup("__date").map(|date| date.to_string()).unwrap_or_default();
    let date: jiff::civil::Date = date.parse().map_err(|_| bad(format!("no date in {date:?}")))?;
    jiff::fmt::strtime::format(format, date.at(0, 0, 0, 0))
        .map_err(|error| bad(format!("strftime_now({format:?}): {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str) -> crate::Result<String> {
        ChatTemplate::new(source)?.render(&TemplateInput {
            messages: json!([{"role": "user", "content": "1 < 2 \"ü\""}]),
            tools: json!([]),
            bos_token: "<s>",
            eos_token: "</s>",
            add_generation_prompt: true,
            enable_thinking: false,
            date: jiff::civil::date(2026, 4, 8),
        })
    }

    #[test]
    fn python_habits_work() {
        let cases = [
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "1 < 2 \"ü\""}"#),
            ("{{ [1, 2] | tojson(indent=2) }}", "[\n  1,\n  2\n]"),
            ("{{ strftime_now('%d %b %Y') }}", "08 Apr 2026"),
            ("{{ messages[0].content.split('<')[0].strip() }}", "1"),
            ("{{ messages[0].get('nothing') is none }}", "True"),
            ("{% generation %}x{% endgeneration %}", "x"),
            ("{% raw %}{%}{% endraw %}", "{%}"),
            ("{%- if tools %}a{% else %}b{% endif %}", "b"),
            ("  {% if true %}\nline\n  {% endif %}\n", "line\n"),
            ("{{ enable_thinking is defined and enable_thinking is false }}", "True"),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn reasoning_has_all_its_names() {
        let source =
            "{% for m in messages %}{{ m.thinking }}|{{ m.reasoning_content }};{% endfor %}";
        let mut input = TemplateInput::new(&[], jiff::civil::date(2026, 4, 8));
        input.messages = json!([{ "reasoning_content": "a" }, { "thinking": "b" }, { "reasoning": "c" },
            { "thinking": "d", "reasoning_content": "e" }, { "reasoning_content": null }, {}]);
        let text = ChatTemplate::new(source).unwrap().render(&input).unwrap();
        assert_eq!(text, "a|a;b|b;c|c;d|e;|None;|;");
    }

    #[test]
    fn a_template_can_refuse() {
        let error = render("{{ raise_exception('Conversation roles must alternate') }}");
        assert!(format!("{:#}", error.unwrap_err()).contains("roles must alternate"));
    }
}
