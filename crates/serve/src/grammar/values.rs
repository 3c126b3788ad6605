//! Grammars of values, as JSON or in Gemma 4's form.

use std::collections::HashMap;
use std::fmt::Write;

use llguidance::regex_to_lark;
use serde_json::{Map, Value};

use super::leaves::{Kind, Leaf, leaves};
use super::quoted;

/// The longest text that a grammar counts, in characters, and the longest list.
const TEXT: u64 = 1 << 16;
const ITEMS: u64 = 1 << 12;
/// Numbers without limits: with more digits or larger exponents they may not fit a float.
const INTEGER: &str = "/(0|-?[1-9][0-9]{0,17})/";
const NUMBER: &str = r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+\-]?[0-9]{1,2})?/";
/// Names of properties that a schema does not give.
const NAME: &str = "[A-Za-z_][A-Za-z0-9_]{0,63}";

/// A property of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Property<'a> {
    pub name: &'a str,
    pub schema: &'a Value,
    pub required: bool,
}

/// Writes rules for the values of the schemas of one function.
pub(super) struct Values<'a> {
    root: &'a Value,
    /// Gemma 4's quotation mark; without one, values are JSON.
    quote: Option<&'a str>,
    /// What texts without JSON's quotation marks may not contain.
    forbidden: &'a [&'a str],
    /// Begins the names of the rules.
    prefix: String,
    count: usize,
    rules: String,
    /// The rules of schemas, by the schemas' addresses: schemas may contain themselves.
    known: HashMap<usize, String>,
    any: Option<String>,
}

impl<'a> Values<'a> {
    /// For schemas that refer to parts of `root`.
    pub fn new(
        root: &'a Value,
        prefix: String,
        quote: Option<&'a str>,
        forbidden: &'a [&'a str],
    ) -> Self {
        let (count, rules, known) = (0, String::new(), HashMap::new());
        Self { root, quote, forbidden, prefix, count, rules, known, any: None }
    }

    /// The rules that were written.
    pub fn into_rules(self) -> String {
        self.rules
    }

    /// The only alternative of the parameters of a function.
    pub fn parameters(&self) -> Result<&'a Map<String, Value>, String> {
        match self.leaves(self.root)?[..] {
            [Leaf::Of(Kind::Object, fields)] => Ok(fields),
            _ => Err("expected parameters of type object".to_owned()),
        }
    }

    /// The alternatives of a schema.
    pub fn leaves(&self, schema: &'a Value) -> Result<Vec<Leaf<'a>>, String> {
        leaves(schema, self.root)
    }

    /// The rule of a schema's values.
    pub fn rule(&mut self, schema: &'a Value) -> Result<String, String> {
        let address = std::ptr::from_ref(schema).addr();
        if let Some(name) = self.known.get(&address) {
            return Ok(name.clone());
        }
        let name = self.name();
        self.known.insert(address, name.clone());
        let leaves = self.leaves(schema)?;
        let bodies: Result<Vec<_>, _> = leaves.into_iter().map(|leaf| self.leaf(leaf)).collect();
        self.write(&name, &bodies?.join(" | "));
        Ok(name)
    }

    /// The values of an alternative.
    pub fn leaf(&mut self, leaf: Leaf<'a>) -> Result<String, String> {
        let (kind, fields) = match leaf {
            Leaf::Any => return Ok(self.any()),
            Leaf::Only(value) => return self.only(value),
            Leaf::Of(kind, fields) => (kind, fields),
        };
        match kind {
            Kind::Null => Ok(quoted("null")),
            Kind::Boolean => Ok("(\"true\" | \"false\")".to_owned()),
            Kind::Integer => Ok(self.number("integer", INTEGER, fields)),
            Kind::Number => Ok(self.number("number", NUMBER, fields)),
            Kind::String => self.text(fields),
            Kind::Array => self.array(fields),
            Kind::Object => self.object(fields),
        }
    }

    fn number(&mut self, kind: &str, unlimited: &str, fields: &Map<String, Value>) -> String {
        let keys = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
        let schema = limited(kind, fields, &keys);
        match schema.len() {
            1 => unlimited.to_owned(),
            _ => self.define(&format!("%json {}", Value::Object(schema))),
        }
    }

    fn text(&mut self, fields: &Map<String, Value>) -> Result<String, String> {
        let Some(quote) = self.quote else {
            let schema = limited("string", fields, &["minLength", "maxLength", "pattern"]);
            return Ok(self.define(&format!("%json {}", Value::Object(schema))));
        };
        let text = self.terminal(&self.characters(fields)?);
        Ok(format!("{quote} {text} {quote}"))
    }

    /// The characters of a text without quotation marks, as a part of a terminal.
    pub fn characters(&self, fields: &Map<String, Value>) -> Result<String, String> {
        let least = count(fields, "minLength")?.unwrap_or(0);
        let most = count(fields, "maxLength")?;
        if least > most.unwrap_or(TEXT).min(TEXT) {
            return Err(format!("minLength: expected at most {TEXT} and maxLength, found {least}"));
        }
        let most = most.map(|most| most.min(TEXT).to_string()).unwrap_or_default();
        let forbidden: Vec<_> = self.forbidden.iter().map(|text| escaped(text)).collect();
        let forbidden = forbidden.join("|");
        let mut all = format!("/(?s:.){{{least},{most}}}/ & ~/(?s:.*)({forbidden})(?s:.*)/");
        if let Some(pattern) = fields.get("pattern") {
            let Some(pattern) = pattern.as_str() else {
                return Err(format!("pattern: expected a regular expression, found {pattern}"));
            };
            let begin = if pattern.starts_with('^') { "" } else { "(?s:.*)" };
            let end =
                if pattern.ends_with('$') && !pattern.ends_with("\\$") { "" } else { "(?s:.*)" };
            let pattern = regex_to_lark(pattern, "dw");
            write!(all, " & /{begin}({pattern}){end}/").map_err(|error| error.to_string())?;
        }
        Ok(format!("({all})"))
    }

    fn array(&mut self, fields: &'a Map<String, Value>) -> Result<String, String> {
        let least = count(fields, "minItems")?.unwrap_or(0);
        let most = count(fields, "maxItems")?;
        if least > most.unwrap_or(ITEMS).min(ITEMS) {
            return Err(format!("minItems: expected at most {ITEMS} and maxItems, found {least}"));
        }
        if most == Some(0) {
            return Ok(quoted("[]"));
        }
        let item = match fields.get("items") {
            Some(items) => self.rule(items)?,
            None => self.any(),
        };
        let (_, comma) = self.separators();
        let more = match (least.saturating_sub(1), most.map(|most| most.min(ITEMS) - 1)) {
            (_, Some(0)) => String::new(),
            (least, most) => {
                let most = most.map(|most| most.to_string()).unwrap_or_default();
                format!("({comma} {item}){{{least},{most}}}")
            }
        };
        let optional = if least == 0 { "?" } else { "" };
        Ok(format!("\"[\" ({item} {more}){optional} \"]\""))
    }

    /// The values of an object's schema.
    pub fn object(&mut self, fields: &'a Map<String, Value>) -> Result<String, String> {
        let mut properties = properties(fields)?;
        if properties.is_empty() {
            return self.map(fields.get("additionalProperties"));
        }
        if self.quote.is_some() {
            // The order in which the template writes them.
            properties.sort_by_key(|property| property.name.to_lowercase());
        }
        let (colon, comma) = self.separators();
        // What follows before the first property that is there, and after it.
        let (mut first, mut next) = (quoted(""), quoted(""));
        for Property { name, schema, required } in properties.into_iter().rev() {
            let value = self.rule(schema).map_err(|error| format!("{name}: {error}"))?;
            let key = self.key(name)?;
            let (no_first, no_next) = match required {
                true => (String::new(), String::new()),
                false => (format!(" | {first}"), format!(" | {next}")),
            };
            first = self.define(&format!("{key} {colon} {value} {next}{no_first}"));
            next = self.define(&format!("{comma} {key} {colon} {value} {next}{no_next}"));
        }
        Ok(format!("\"{{\" {first} \"}}\""))
    }

    /// An object whose properties have no given names.
    fn map(&mut self, values: Option<&'a Value>) -> Result<String, String> {
        let value = match values {
            Some(Value::Bool(false)) => return Ok(quoted("{}")),
            Some(schema) => self.rule(schema)?,
            None => self.any(),
        };
        let (colon, comma) = self.separators();
        let name = match self.quote {
            Some(_) => format!("/{NAME}/"),
            None => format!("/\"{NAME}\"/"),
        };
        let field = format!("{name} {colon} {value}");
        Ok(format!("\"{{\" ({field} ({comma} {field})*)? \"}}\""))
    }

    /// Any value.
    pub fn any(&mut self) -> String {
        if let Some(name) = &self.any {
            return name.clone();
        }
        let name = self.name();
        self.any = Some(name.clone());
        let unlimited = Map::new();
        // Without limits, none of them can be refused.
        let text = self.text(&unlimited).unwrap_or_default();
        let map = self.map(None).unwrap_or_default();
        let (_, comma) = self.separators();
        let list = format!("\"[\" ({name} ({comma} {name})*)? \"]\"");
        let rule = format!("{text} | {NUMBER} | \"true\" | \"false\" | \"null\" | {list} | {map}");
        self.write(&name, &rule);
        name
    }

    /// One value.
    fn only(&self, value: &Value) -> Result<String, String> {
        let Some(quote) = self.quote else { return Ok(quoted(&value.to_string())) };
        let joined = |parts: Vec<String>| parts.join(" \",\" ");
        match value {
            Value::String(text) => {
                Ok(format!("{quote} {} {quote}", quoted(bare(text, self.forbidden)?)))
            }
            Value::Array(items) => {
                let items: Result<_, String> = items.iter().map(|item| self.only(item)).collect();
                Ok(format!("\"[\" {} \"]\"", joined(items?)))
            }
            Value::Object(fields) => {
                let field = |(name, value): (&String, &Value)| {
                    Ok(format!("{} \":\" {}", self.key(name)?, self.only(value)?))
                };
                let fields: Result<_, String> = fields.iter().map(field).collect();
                Ok(format!("\"{{\" {} \"}}\"", joined(fields?)))
            }
            scalar => Ok(quoted(&scalar.to_string())),
        }
    }

    fn key(&self, name: &str) -> Result<String, String> {
        match self.quote {
            Some(_) => bare(name, &[":", "<"]).map(quoted),
            None => Ok(quoted(&quoted(name))),
        }
    }

    /// Between a name and its value, and between items.
    fn separators(&self) -> (&'static str, &'static str) {
        match self.quote {
            Some(_) => ("\":\"", "\",\""),
            None => ("/: ?/", "/, ?/"),
        }
    }

    /// A new rule.
    pub fn define(&mut self, body: &str) -> String {
        let name = self.name();
        self.write(&name, body);
        name
    }

    /// A new terminal: text that the grammar reads as one piece.
    pub fn terminal(&mut self, body: &str) -> String {
        let name = self.name().to_uppercase();
        self.write(&name, body);
        name
    }

    fn name(&mut self) -> String {
        self.count += 1;
        format!("{}v{}", self.prefix, self.count)
    }

    fn write(&mut self, name: &str, body: &str) {
        self.rules.push_str(&format!("{name}: {body}\n"));
    }
}

/// The properties that a schema names.
pub(super) fn properties(fields: &Map<String, Value>) -> Result<Vec<Property<'_>>, String> {
    let required: Vec<&str> = match fields.get("required") {
        None => Vec::new(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(other) => return Err(format!("required: expected a list of names, found {other}")),
    };
    let properties = match fields.get("properties") {
        None => Vec::new(),
        Some(Value::Object(properties)) => properties
            .iter()
            .map(|(name, schema)| Property {
                name,
                schema,
                required: required.contains(&name.as_str()),
            })
            .collect(),
        Some(other) => return Err(format!("properties: expected an object, found {other}")),
    };
    let known = |name: &str| properties.iter().any(|property| property.name == name);
    match required.iter().find(|name| !known(name)) {
        None => Ok(properties),
        Some(name) => Err(format!("required: expected names of `properties`, found {name:?}")),
    }
}

/// Text that is written without quotation marks, and may not contain what ends it.
pub(super) fn bare<'t>(text: &'t str, ends: &[&str]) -> Result<&'t str, String> {
    match ends.iter().find(|end| text.contains(**end)) {
        None => Ok(text),
        Some(end) => Err(format!(
            "a call in this model's form cannot hold {text:?}: expected no {end:?} in it"
        )),
    }
}

/// A regular expression for this text. (An escaped `<` or `>` is the edge of a word.)
fn escaped(text: &str) -> String {
    let escape = |c: char| [r"\.+*?()|[]{}^$/".contains(c).then_some('\\'), Some(c)];
    text.chars().flat_map(escape).flatten().collect()
}

/// A schema of this type with those of these keywords that there are.
fn limited(kind: &str, fields: &Map<String, Value>, keys: &[&str]) -> Map<String, Value> {
    let mut schema = Map::from_iter([("type".to_owned(), kind.into())]);
    let there = keys.iter().filter_map(|key| fields.get_key_value(*key));
    schema.extend(there.map(|(key, value)| (key.clone(), value.clone())));
    schema
}

fn count(fields: &Map<String, Value>, key: &str) -> Result<Option<u64>, String> {
    let Some(value) = fields.get(key) else { return Ok(None) };
    let count = value
        .as_u64()
        .ok_or_else(|| format!("{key}: expected an integer of at least 0, found {value}"));
    count.map(Some)
}
