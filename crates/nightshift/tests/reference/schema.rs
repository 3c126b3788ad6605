//! A JSON schema as Markdown: one table for each mapping, with a row for each key.

use std::fmt::Write as _;

use regex::Regex;
use serde_json::{Map, Value};

/// The keys of a file, as tables.
pub struct Tables<'a> {
    definitions: Option<&'a Map<String, Value>>,
    /// Mappings that are named in a table and follow it: their path and schema.
    named: Vec<(String, &'a Map<String, Value>)>,
    /// How many of them are written.
    written: usize,
    links: Regex,
    text: String,
}

/// The tables of a file whose schema is `root`: the first under the heading `title`, those of inner mappings under their
/// paths, which begin with `prefix`.
pub fn tables(title: &str, prefix: &str, root: &Value) -> String {
    let definitions = root.get("$defs").and_then(Value::as_object);
    let links = Regex::new(r"\[([^\]]+)\]\([^)]*\)|\[(`[^`]+`)\]").unwrap();
    let mut tables =
        Tables { definitions, named: Vec::new(), written: 0, links, text: String::new() };
    let root = root.as_object().unwrap();
    writeln!(tables.text, "## {title}\n").unwrap();
    if root.contains_key("properties") {
        tables.mapping(prefix, root);
    } else {
        let kind = tables.kind(root, prefix);
        writeln!(tables.text, "The file is a {kind}.").unwrap();
    }
    while let Some((path, schema)) = tables.named.get(tables.written).cloned() {
        tables.written += 1;
        writeln!(tables.text, "\n### `{path}`\n").unwrap();
        if let Some(about) = schema.get("description") {
            let about = tables.words(about);
            writeln!(tables.text, "{about}\n").unwrap();
        }
        match variants(schema) {
            Some(variants) => tables.variants(&path, variants),
            None => tables.mapping(&path, schema),
        }
    }
    tables.text
}

impl<'a> Tables<'a> {
    fn mapping(&mut self, path: &str, schema: &'a Map<String, Value>) {
        self.text += "| key | value | default | |\n|---|---|---|---|\n";
        let required: Vec<_> = list(schema, "required").filter_map(Value::as_str).collect();
        for (key, value) in schema["properties"].as_object().unwrap() {
            let value = value.as_object();
            let kind = value.map_or("anything".into(), |it| self.kind(it, &join(path, key)));
            let default = match value.and_then(|it| it.get("default")) {
                _ if required.contains(&key.as_str()) => "required".to_owned(),
                Some(Value::Object(_) | Value::Null) | None => String::new(),
                Some(Value::String(text)) => format!("`{text}`"),
                Some(other) => format!("`{other}`"),
            };
            let about = value.map_or(String::new(), |it| self.about(it));
            writeln!(self.text, "| `{key}` | {kind} | {default} | {about} |").unwrap();
        }
    }

    /// What may stand there. A mapping with keys of its own is put on the list of those that have a table.
    fn kind(&mut self, schema: &'a Map<String, Value>, path: &str) -> String {
        let schema = self.resolved(schema);
        if schema.contains_key("properties") || variants(schema).is_some() {
            return self.link(schema, path);
        }
        if let Some(constant) = schema.get("const") {
            return format!("`{}`", bare(constant));
        }
        let choices: Vec<_> = ["anyOf", "oneOf"]
            .into_iter()
            .flat_map(|key| list(schema, key))
            .filter_map(Value::as_object)
            .filter(|choice| choice.get("type").is_none_or(|kind| kind != "null"))
            .collect();
        if !choices.is_empty() {
            let mut kinds: Vec<_> =
                choices.into_iter().map(|choice| self.choice(choice, path)).collect();
            kinds.dedup();
            return either(kinds);
        }
        if schema.contains_key("enum") {
            return either(list(schema, "enum").map(|it| format!("`{}`", bare(it))).collect());
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && format.contains(' ')
        {
            return format.to_owned();
        }
        let kinds: Vec<_> = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(kind)) => vec![kind.as_str()],
            _ => return "anything".to_owned(),
        };
        let kinds = kinds.into_iter().filter(|kind| *kind != "null");
        either(kinds.map(|kind| self.basic(kind, schema, path)).collect())
    }

    /// A link to the table of a mapping. What has a table already has no second one.
    fn link(&mut self, schema: &'a Map<String, Value>, path: &str) -> String {
        let known = self.named.iter().find(|(_, other)| std::ptr::eq(*other, schema));
        let path = known.map_or(path, |(path, _)| path).to_owned();
        let anchor = path.replace('.', "").to_lowercase();
        if known.is_none() {
            self.named.push((path, schema));
        }
        format!("[mapping](#{anchor})")
    }

    /// Mappings of which one key tells which it is: a row for each.
    fn variants(&mut self, path: &str, variants: Vec<(&'a str, &'a Map<String, Value>)>) {
        self.text += "| key | further keys | |\n|---|---|---|\n";
        for (tag, variant) in variants {
            let keys = variant["properties"].as_object().unwrap();
            let required: Vec<_> = list(variant, "required").filter_map(Value::as_str).collect();
            let constant = bare(&keys[tag]["const"]);
            let further = keys.iter().filter(|(key, _)| *key != tag).map(|(key, value)| {
                let value = value.as_object();
                let kind = value.map_or("anything".into(), |it| self.kind(it, &join(path, key)));
                let about = value.map_or(String::new(), |it| self.about(it));
                let optional = if required.contains(&key.as_str()) { "" } else { "optional " };
                format!("`{key}` ({optional}{kind}): {about}")
            });
            let further = further.collect::<Vec<_>>().join("<br>");
            let about = variant.get("description").map_or(String::new(), |it| self.words(it));
            writeln!(self.text, "| `{tag}: {constant}` | {further} | {about} |").unwrap();
        }
    }

    /// One of several forms. A mapping with a single key is written out, as it is an alternative to a word.
    fn choice(&mut self, schema: &'a Map<String, Value>, path: &str) -> String {
        match schema.get("properties").and_then(Value::as_object) {
            Some(keys) if keys.len() == 1 => {
                let (key, value) = keys.iter().next().unwrap();
                let value = value.as_object().map_or("anything".into(), |it| self.kind(it, path));
                format!("`{{{key}: {}}}`", value.replace('`', ""))
            }
            _ => self.kind(schema, path),
        }
    }

    fn basic(&mut self, kind: &str, schema: &'a Map<String, Value>, path: &str) -> String {
        match kind {
            "array" => match schema.get("items").and_then(Value::as_object) {
                Some(items) => match self.kind(items, &join(path, "entry")) {
                    kind if ["text", "integer", "number"].contains(&&*kind) => {
                        format!("list of {kind}s")
                    }
                    kind => format!("list of: {kind}"),
                },
                None => "list".to_owned(),
            },
            "object" => match schema.get("additionalProperties").and_then(Value::as_object) {
                Some(values) => {
                    let path = join(path, "NAME");
                    format!("mapping from names to: {}", self.kind(values, &path))
                }
                None => "mapping".to_owned(),
            },
            "string" => "text".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            other => other.to_owned(),
        }
    }

    fn resolved(&self, schema: &'a Map<String, Value>) -> &'a Map<String, Value> {
        let optional = list(schema, "anyOf").filter_map(Value::as_object);
        let optional: Vec<_> = optional.filter(|it| it.contains_key("$ref")).collect();
        let reference = match (&optional[..], list(schema, "anyOf").count()) {
            ([one], 2) if list(schema, "anyOf").any(|it| it["type"] == "null") => *one,
            _ => schema,
        };
        let name = reference.get("$ref").and_then(Value::as_str);
        let name = name.and_then(|name| name.strip_prefix("#/$defs/"));
        let found = name.and_then(|name| self.definitions?.get(name)?.as_object());
        found.map_or(schema, |found| self.resolved(found))
    }

    /// The description of a key, or else of its type, with what each word of a choice means.
    fn about(&self, schema: &'a Map<String, Value>) -> String {
        let kind = self.resolved(schema);
        let about = schema.get("description").or_else(|| kind.get("description"));
        let mut text = about.map_or(String::new(), |about| self.words(about));
        let words = list(kind, "oneOf").filter_map(|choice| {
            let about = choice.get("description")?;
            Some(format!("`{}`: {}", bare(choice.get("const")?), self.words(about)))
        });
        for word in words {
            text = format!("{text} {word}");
        }
        text.trim().to_owned()
    }

    /// A doc comment as one paragraph, without links to Rust items.
    fn words(&self, about: &Value) -> String {
        let text = about.as_str().unwrap_or_default();
        let text = text.split("```").step_by(2).collect::<Vec<_>>().join(" ");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        self.links.replace_all(&text, "$1$2").into_owned()
    }
}

/// The mappings of a choice and the key that tells which it is, if a schema is such a choice.
fn variants<'a>(schema: &'a Map<String, Value>) -> Option<Vec<(&'a str, &'a Map<String, Value>)>> {
    let tagged = |choice: &'a Value| {
        let keys = choice.get("properties")?.as_object()?;
        let (tag, _) = keys.iter().find(|(_, value)| value.get("const").is_some())?;
        Some((tag.as_str(), choice.as_object()?))
    };
    let choices = list(schema, "oneOf").map(tagged).collect::<Option<Vec<_>>>()?;
    (!choices.is_empty()).then_some(choices)
}

fn list<'a>(schema: &'a Map<String, Value>, key: &str) -> impl Iterator<Item = &'a Value> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn either(kinds: Vec<String>) -> String {
    match kinds.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "anything".to_owned(),
    }
}
