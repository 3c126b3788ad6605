//! promptfoo's configuration files: prompts, and tests with variables and assertions.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::{Case, Speaker, Turn};
use super::{LeftOut, case, unique_ids};
use crate::error::{Error, Result};
use crate::scoring::Rule;

/// The most cases that lists of variable values are expanded to.
const MAX_COMBINATIONS: usize = 1000;

type Vars = Map<String, Value>;

/// What of a configuration is read; the rest (providers, output) does not concern the exam.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    prompts: Value,
    #[serde(default)]
    tests: Value,
    #[serde(default)]
    scenarios: Value,
    #[serde(default, rename = "defaultTest")]
    default_test: Value,
}

/// A prompt and its place in the file.
struct Prompt {
    at: String,
    text: String,
}

/// The cases of all prompts with all tests, and what is left out of them.
pub(super) fn cases(path: &Path, text: &str) -> Result<(Vec<Case>, Vec<LeftOut>)> {
    // As in YAML 1.2, which promptfoo reads: `Yes` is a text.
    let options = serde_saphyr::options! { strict_booleans: true };
    let config: Config = serde_saphyr::from_str_with_options(text, options)
        .map_err(|e| Error::Yaml { path: path.to_path_buf(), problem: e.to_string() })?;
    let mut import = Import {
        folder: path.parent().unwrap_or(Path::new("")),
        cases: Vec::new(),
        left_out: Vec::new(),
    };
    let prompts = import.prompts(&config.prompts);
    if !config.scenarios.is_null() {
        import.leave("scenarios", None, "scenarios are not read");
    }
    let default = import.test("defaultTest", &config.default_test);
    match &config.tests {
        Value::Array(tests) => {
            for (i, test) in tests.iter().enumerate() {
                import.add(&format!("tests[{i}]"), test, &default, &prompts);
            }
        }
        Value::Null => import.leave("tests", None, "expected a list of tests, found none"),
        other => import.leave(
            "tests",
            None,
            &format!("expected a list of tests in the file, found {other}"),
        ),
    }
    unique_ids(&mut import.cases);
    Ok((import.cases, import.left_out))
}

/// What a test gives.
#[derive(Default)]
struct Test<'t> {
    vars: Vars,
    assertions: Vec<(String, &'t Value)>,
}

struct Import<'p> {
    folder: &'p Path,
    cases: Vec<Case>,
    left_out: Vec<LeftOut>,
}

impl Import<'_> {
    fn leave(&mut self, test: &str, part: Option<String>, reason: &str) {
        let left = LeftOut { test: test.to_owned(), part, reason: reason.to_owned() };
        // The same part is named once, however many prompts and values the test has.
        if !self.left_out.contains(&left) {
            self.left_out.push(left);
        }
    }

    fn prompts(&mut self, prompts: &Value) -> Vec<Prompt> {
        let list = match prompts {
            Value::Array(list) => list.iter().collect(),
            Value::Null => Vec::new(),
            one => vec![one],
        };
        let mut found = Vec::new();
        for (i, prompt) in list.into_iter().enumerate() {
            let at = format!("prompts[{i}]");
            let text = prompt
                .as_str()
                .or_else(|| prompt.get("raw").or(prompt.get("id")).and_then(Value::as_str));
            match text
                .ok_or_else(|| format!("expected a text, found {prompt}"))
                .and_then(|text| self.prompt(text))
            {
                Ok(text) => found.push(Prompt { at, text }),
                Err(reason) => self.leave(&at, None, &reason),
            }
        }
        found
    }

    /// The text of a prompt, read from its file if it names one.
    fn prompt(&self, text: &str) -> std::result::Result<String, String> {
        let text_file =
            |name: &str| name.ends_with(".txt") || name.ends_with(".json") || name.ends_with(".md");
        let file = match text.strip_prefix("file://") {
            Some(name) if text_file(name) => name,
            Some(_) => {
                return Err(format!(
                    "only .txt, .md and .json prompt files are read, found {text}"
                ));
            }
            None if text_file(text) && !text.contains(char::is_whitespace) => text,
            None => return Ok(text.to_owned()),
        };
        let inside = || {
            let folder =
                if self.folder.as_os_str().is_empty() { Path::new(".") } else { self.folder };
            let folder = folder.canonicalize().ok()?;
            folder.join(file).canonicalize().ok().filter(|path| path.starts_with(&folder))
        };
        let path = inside().ok_or_else(|| {
            format!("expected a file in the configuration's folder, found {file:?}")
        })?;
        std::fs::read_to_string(path).map_err(|e| format!("{file}: {e}"))
    }

    /// The variables and assertions of a test; names what else it has.
    fn test<'t>(&mut self, at: &str, test: &'t Value) -> Test<'t> {
        let mut found = Test::default();
        let Some(fields) = test.as_object() else {
            if !test.is_null() {
                self.leave(at, None, &format!("expected a test, found {test}"));
            }
            return found;
        };
        for (key, value) in fields {
            match (key.as_str(), value) {
                ("vars", Value::Object(vars)) => found.vars = vars.clone(),
                ("assert", Value::Array(list)) => {
                    let named = list
                        .iter()
                        .enumerate()
                        .map(|(i, value)| (format!("{at}.assert[{i}]"), value));
                    found.assertions = named.collect();
                }
                ("description" | "metadata", _) | (_, Value::Null) => {}
                _ => self.leave(at, Some(key.clone()), "the key is not used"),
            }
        }
        found
    }

    /// Adds the cases of a test: one for every prompt and every combination of listed values.
    fn add(&mut self, at: &str, value: &Value, default: &Test<'_>, prompts: &[Prompt]) {
        let test = self.test(at, value);
        let mut vars = default.vars.clone();
        vars.extend(test.vars);
        let assertions: Vec<_> =
            default.assertions.iter().chain(&test.assertions).cloned().collect();
        if assertions.is_empty() {
            return self.leave(at, None, "the test has no assertion");
        }
        let Some(combinations) = combinations(&vars) else {
            return self.leave(
                at,
                None,
                &format!("the values of its variables give more than {MAX_COMBINATIONS} cases"),
            );
        };
        let id = value
            .get("description")
            .and_then(Value::as_str)
            .map_or_else(|| at.to_owned(), str::to_owned);
        for prompt in prompts {
            for vars in &combinations {
                self.add_one(at, &id, prompt, vars, &assertions);
            }
        }
    }

    fn add_one(
        &mut self,
        at: &str,
        id: &str,
        prompt: &Prompt,
        vars: &Vars,
        assertions: &[(String, &Value)],
    ) {
        let rendered = render(&prompt.text, vars).and_then(|text| chat(&text));
        let (system, turns) = match rendered {
            Ok(chat) => chat,
            Err(reason) => return self.leave(at, Some(prompt.at.clone()), &reason),
        };
        let mut rules = Vec::new();
        for (place, assertion) in assertions {
            match rules_of(assertion, vars) {
                Ok(found) => rules.extend(found),
                Err(reason) => {
                    let kind = assertion.get("type").and_then(Value::as_str).unwrap_or("no type");
                    let (test, part) = place.rsplit_once('.').unwrap_or((at, place));
                    self.leave(test, Some(format!("{part} ({kind})")), &reason);
                }
            }
        }
        if rules.is_empty() {
            self.leave(at, Some(prompt.at.clone()), "none of its assertions can be expressed");
        } else {
            self.cases.push(case(id.to_owned(), system, turns, rules));
        }
    }
}

/// Every combination of the variables' values, of which a list gives several; none if there are too many.
fn combinations(vars: &Vars) -> Option<Vec<Vars>> {
    let mut all = vec![Vars::new()];
    for (name, value) in vars {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        if all.len().checked_mul(values.len())? > MAX_COMBINATIONS {
            return None;
        }
        let extended = all.iter().flat_map(|known| {
            values.iter().map(move |value| {
                let mut vars = known.clone();
                vars.insert(name.clone(), value.clone());
                vars
            })
        });
        all = extended.collect();
    }
    Some(all)
}

/// The template with its `{{ variables }}` replaced.
fn render(template: &str, vars: &Vars) -> std::result::Result<String, String> {
    if template.contains("{%") || template.contains("{#") {
        return Err("template statements are not read".to_owned());
    }
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or("a variable is not closed")?;
        text.push_str(before);
        match vars.get(name.trim()) {
            Some(Value::String(value)) if value.starts_with("file://") => {
                return Err(format!("the variable {:?} is a file", name.trim()));
            }
            Some(Value::String(value)) => text.push_str(value),
            Some(Value::Null) => {}
            Some(value) => text.push_str(&value.to_string()),
            None => {
                return Err(format!("expected a variable of the test, found {:?}", name.trim()));
            }
        }
        rest = after;
    }
    Ok(text + rest)
}

/// A prompt as a system prompt and turns: a chat if it is a JSON list of messages.
fn chat(prompt: &str) -> std::result::Result<(String, Vec<Turn>), String> {
    #[derive(Deserialize)]
    struct Message {
        role: String,
        content: String,
    }
    let user = |content: &str| vec![Turn { role: Speaker::User, content: content.to_owned() }];
    let Ok(messages) = serde_json::from_str::<Vec<Message>>(prompt) else {
        let turns = user(prompt.trim());
        return if prompt.trim().is_empty() {
            Err("the prompt is empty".to_owned())
        } else {
            Ok((String::new(), turns))
        };
    };
    let (mut system, mut turns) = (String::new(), Vec::new());
    for message in messages {
        let role = match message.role.as_str() {
            "system" | "developer" if turns.is_empty() && system.is_empty() => {
                system = message.content;
                continue;
            }
            "user" => Speaker::User,
            "assistant" => Speaker::Assistant,
            other => return Err(format!("a message of the role {other:?} stands where none can")),
        };
        turns.push(Turn { role, content: message.content });
    }
    match turns.last() {
        Some(Turn { role: Speaker::User, .. }) => Ok((system, turns)),
        _ => Err("the chat does not end with the user's message".to_owned()),
    }
}

/// The rules of an assertion.
fn rules_of(assertion: &Value, vars: &Vars) -> std::result::Result<Vec<Rule>, String> {
    let fields =
        assertion.as_object().ok_or_else(|| format!("expected an assertion, found {assertion}"))?;
    let known = ["type", "value", "weight", "metric", "description"];
    if let Some(key) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("the key {key:?} cannot be expressed"));
    }
    if fields.get("weight").is_some_and(|weight| weight.as_f64() != Some(1.0)) {
        return Err("a weight cannot be expressed".to_owned());
    }
    let kind = fields.get("type").and_then(Value::as_str).ok_or("expected a type, found none")?;
    let value = fields.get("value").unwrap_or(&Value::Null);
    let (negated, kind) = match kind.strip_prefix("not-") {
        Some(kind) => (true, kind),
        None => (false, kind),
    };
    let patterns = match kind {
        "is-refusal" if negated => return Ok(vec![Rule::NoRefusal {}]),
        "is-refusal" => return Ok(vec![Rule::Refusal {}]),
        "is-json" | "contains-json" if !value.is_null() => {
            return Err("a JSON schema cannot be expressed".to_owned());
        }
        "is-json" | "contains-json" if negated => {
            return Err("its opposite cannot be expressed".to_owned());
        }
        "is-json" => return Ok(vec![Rule::Json { whole: true }]),
        "contains-json" => return Ok(vec![Rule::Json { whole: false }]),
        "regex" => vec![format!("(?-i){}", one_text(value, vars)?)],
        "contains" => vec![exactly(&one_text(value, vars)?)],
        "icontains" => vec![regex::escape(&one_text(value, vars)?)],
        "equals" => vec![format!(r"\A\s*{}\s*\z", exactly(one_text(value, vars)?.trim()))],
        "starts-with" => vec![format!(r"\A\s*{}", exactly(&one_text(value, vars)?))],
        "contains-any" => vec![any(value, vars, &exactly)?],
        "icontains-any" => vec![any(value, vars, &regex::escape)?],
        "contains-all" if !negated => {
            texts(value, vars)?.iter().map(|text| exactly(text)).collect()
        }
        "icontains-all" if !negated => {
            texts(value, vars)?.iter().map(|text| regex::escape(text)).collect()
        }
        _ => return Err("this kind of assertion cannot be expressed".to_owned()),
    };
    let rule =
        |pattern| if negated { Rule::RegexNone { pattern } } else { Rule::Regex { pattern } };
    let rules: Vec<Rule> = patterns.into_iter().map(rule).collect();
    rules.iter().try_for_each(Rule::check).map_err(|e| e.to_string())?;
    Ok(rules)
}

/// A pattern of the text as it is written; patterns of rules ignore case otherwise.
fn exactly(text: &str) -> String {
    format!("(?-i:{})", regex::escape(text))
}

fn any(
    value: &Value,
    vars: &Vars,
    pattern: &dyn Fn(&str) -> String,
) -> std::result::Result<String, String> {
    let patterns: Vec<String> = texts(value, vars)?.iter().map(|text| pattern(text)).collect();
    Ok(format!("(?:{})", patterns.join("|")))
}

fn one_text(value: &Value, vars: &Vars) -> std::result::Result<String, String> {
    let text = match value {
        Value::String(text) => render(text, vars)?,
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        other => return Err(format!("expected a text, found {other}")),
    };
    if text.starts_with("file://") {
        return Err(format!("the value is a file: {text}"));
    }
    if text.trim().is_empty() { Err("expected a text, found none".to_owned()) } else { Ok(text) }
}

/// A list of texts, or a text of several separated by commas.
fn texts(value: &Value, vars: &Vars) -> std::result::Result<Vec<String>, String> {
    let list = match value {
        Value::Array(list) => list
            .iter()
            .map(|value| one_text(value, vars))
            .collect::<std::result::Result<Vec<_>, _>>()?,
        one => one_text(one, vars)?.split(',').map(|text| text.trim().to_owned()).collect(),
    };
    if list.is_empty() || list.iter().any(|text| text.is_empty()) {
        return Err("expected a list of texts, found an empty one".to_owned());
    }
    Ok(list)
}
