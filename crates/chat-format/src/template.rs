//! The model's own chat template, rendered the way Hugging Face's `apply_chat_template` does.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State, context};

use crate::json;

const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    env: Environment<'static>,
    source: String,
}

/// What a template sees.
pub(crate) struct Scene<'a> {
    pub(crate) messages: serde_json::Value,
    pub(crate) tools: serde_json::Value,
    pub(crate) bos_token: &'a str,
    pub(crate) eos_token: &'a str,
    pub(crate) add_generation_prompt: bool,
    pub(crate) enable_thinking: bool,
    pub(crate) date: jiff::civil::Date,
}

impl Template {
    pub(crate) fn new(source: &str) -> Result<Self, Error> {
        let mut env = Environment::new();
        env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("tojson", tojson);
        // As in Jinja2: nothing is not something to walk through.
        env.add_test("iterable", |value: Value| {
            !value.is_none() && !value.is_undefined() && value.try_iter().is_ok()
        });
        env.add_function("raise_exception", raise_exception);
        env.add_function("strftime_now", strftime_now);
        env.add_template_owned(NAME, with_turn_marks(&without_generation_tags(source)))?;
        Ok(Template { env, source: source.to_owned() })
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn render(&self, scene: &Scene) -> Result<String, Error> {
        let tools = match &scene.tools {
            serde_json::Value::Array(tools) if !tools.is_empty() => Value::from(Serde(tools)),
            _ => Value::from(()),
        };
        self.env.get_template(NAME)?.render(context! {
            messages => Value::from(Serde(&scene.messages)),
            tools => tools,
            bos_token => scene.bos_token,
            eos_token => scene.eos_token,
            add_generation_prompt => scene.add_generation_prompt,
            enable_thinking => scene.enable_thinking,
            __date => scene.date.to_string(),
        })
    }
}

/// `{% generation %}` marks the assistant's words for Hugging Face's trainer and prints nothing; the engine does not know it.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(end) = rest[start + 2..].find("%}").map(|end| start + end + 4) else { break };
        let tag = &rest[start..end];
        out.push_str(&rest[..start]);
        match tag[2..tag.len() - 2].trim_matches('-').trim() {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// The key under which a message carries a mark. Wherever a loop of the template comes to a message, its mark is written: so
/// the rendered text shows where each turn begins, its header included. Messages without a mark are rendered as ever.
pub(crate) const TURN_MARK: &str = "__turn_mark";

fn with_turn_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while !rest.is_empty() {
        let start = tag_start(rest);
        let end = tag_end(rest, start);
        let tag = &rest[start..end];
        out.push_str(&rest[..start]);
        match loop_variable(tag) {
            Some((variable, open, trim)) => {
                let mark = format!("{{{{ {variable}.{TURN_MARK} }}}}");
                out.push_str(&format!("{open}%}}{{% if true %}}{mark}{{% endif {trim}%}}"));
            }
            None => out.push_str(tag),
        }
        rest = &rest[end..];
        if tag.trim_matches(['{', '%', '}', '-', '+', ' ']) == "raw" {
            let end = rest.find("endraw").unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out
}

/// Where the next tag, expression or comment begins.
fn tag_start(text: &str) -> usize {
    ["{%", "{{", "{#"].iter().filter_map(|open| text.find(open)).min().unwrap_or(text.len())
}

/// Where the tag, expression or comment that begins at `start` ends; quoted strings inside may hold anything.
fn tag_end(text: &str, start: usize) -> usize {
    let close = match text.as_bytes().get(start + 1) {
        Some(b'%') => "%}",
        Some(b'{') => "}}",
        Some(b'#') => "#}",
        _ => return text.len(),
    };
    let mut quote = None;
    let mut characters = text[start + 2..].char_indices();
    while let Some((at, c)) = characters.next() {
        let at = start + 2 + at;
        match quote {
            Some(_) if c == '\\' => {
                characters.next();
            }
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return at + close.len(),
            None if close != "#}" && (c == '"' || c == '\'') => quote = Some(c),
            None => {}
        }
    }
    text.len()
}

/// The variable of a `{% for x in ... %}` tag, the tag up to its end, and the mark for trimming that stands there.
fn loop_variable(tag: &str) -> Option<(&str, &str, &str)> {
    let body = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let (trim, open) = match body.chars().next_back()? {
        '-' => ("-", &tag[..tag.len() - 3]),
        '+' => ("+", &tag[..tag.len() - 3]),
        _ => ("", &tag[..tag.len() - 2]),
    };
    let body = body.trim_matches(['-', '+']).trim();
    let (variable, rest) =
        body.strip_prefix("for")?.trim_start().split_once(char::is_whitespace)?;
    let name = variable.chars().all(|c| c.is_alphanumeric() || c == '_');
    (name && body.starts_with("for ") && rest.trim_start().starts_with("in "))
        .then_some((variable, open, trim))
}

/// Python's `json.dumps(value, ensure_ascii=False)`, without the HTML escapes of the engine's own filter.
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

/// The date comes from the caller, so that the same row renders the same way tomorrow.
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

    fn render(source: &str) -> Result<String, Error> {
        Template::new(source)?.render(&Scene {
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
    fn a_template_can_refuse() {
        let error = render("{{ raise_exception('Conversation roles must alternate') }}");
        assert!(format!("{:#}", error.unwrap_err()).contains("roles must alternate"));
    }
}
