//! Reads YAML files, with errors that name line, column and key.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Reads and parses a file.
///
/// # Errors
/// If the file cannot be read; otherwise as [`parse`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    parse(path, &text)
}

/// Parses text; `path` is the file that errors name.
///
/// # Errors
/// [`Error::Yaml`] with line and column, the key on that line, and what was expected and found.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|place| (place.line(), place.column()));
        let place = place.filter(|(line, _)| *line > 0);
        let message = error.without_snippet().to_string();
        let found = place.and_then(|place| text_at(text, place));
        let problem = in_words(without_place(&message), found);
        let field = place.and_then(|(line, _)| field_on(text, line));
        let problem = match field {
            Some(field) if !problem.contains(field) => format!("{field}: {problem}"),
            _ => problem,
        };
        Error::Yaml { path: path.to_path_buf(), place, problem }
    })
}

/// The parser's message without the place at its end.
fn without_place(message: &str) -> &str {
    match message.rsplit_once(" at line ") {
        Some((problem, place)) if place.contains(", column ") => problem,
        _ => message,
    }
}

/// The parser's message with what was expected and what was found, in that order. `found` is the text at its place.
fn in_words(message: &str, found: Option<&str>) -> String {
    if let Some((found, expected)) =
        message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    {
        let found = if found == "sequence" { "a list" } else { found };
        return format!("expected {}, found {found}", collection(expected));
    }
    if let Some((unknown, expected)) =
        message.strip_prefix("unknown ").and_then(|rest| rest.split_once(", expected "))
    {
        let (kind, name) = unknown.split_once(' ').unwrap_or(("field", unknown));
        let kind = if kind == "variant" { "value" } else { "key" };
        let meant = most_like(name.trim_matches('`'), expected);
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean `{meant}`?"));
        return format!("expected {expected}, found the {kind} {name}{meant}");
    }
    match (message.strip_prefix("expected "), found) {
        (Some(expected), Some(found)) if !expected.contains("found") => {
            format!("expected {}, found {found:?}", collection(expected))
        }
        _ => message.to_owned(),
    }
}

/// The name in the list `expected` that is most like a misspelled one.
fn most_like<'a>(name: &str, expected: &'a str) -> Option<&'a str> {
    /// Unrelated words are below this Jaro-Winkler similarity.
    const UNRELATED: f64 = 0.75;
    let names = expected.strip_prefix("one of ").unwrap_or(expected).split(", ");
    let likeness = names.map(|known| (strsim::jaro_winkler(name, known), known));
    let (likeness, known) = likeness.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= UNRELATED).then_some(known)
}

/// YAML's collections by the names that people use.
fn collection(expected: &str) -> &str {
    match expected {
        "sequence start" | "a sequence" => "a list",
        "mapping start" => "a mapping",
        other => other,
    }
}

/// The beginning of the text at a line and a column, both from 1.
fn text_at(text: &str, (line, column): (u64, u64)) -> Option<&str> {
    const LENGTH: usize = 40;
    let nth = |number: u64| usize::try_from(number).ok()?.checked_sub(1);
    let line = text.lines().nth(nth(line)?)?;
    let (start, _) = line.char_indices().nth(nth(column)?)?;
    let rest = &line[start..];
    Some(rest.char_indices().nth(LENGTH).map_or(rest, |(end, _)| &rest[..end]))
}

/// The key on a line of block-style YAML.
fn field_on(text: &str, line: u64) -> Option<&str> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let (key, _) = line.trim_start_matches([' ', '-']).split_once(':')?;
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    (!key.is_empty() && key.chars().all(plain)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Budgets {
        wall_clock: Option<String>,
        when: Option<When>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum When {
        Skip,
        NextSeed,
    }

    #[test]
    fn a_misspelled_name_is_told_with_the_one_that_it_is_most_like() {
        for (text, expected) in [
            (
                "wallclock: 6h",
                "n.yaml:1:1: expected one of wall_clock, when, found the key `wallclock`; did you mean `wall_clock`?",
            ),
            ("zzz: 6h", "n.yaml:1:1: expected one of wall_clock, when, found the key `zzz`"),
            (
                "when: nextseed",
                "n.yaml:1:7: when: expected one of skip, next_seed, found the value `nextseed`; did you mean `next_seed`?",
            ),
        ] {
            let error = parse::<Budgets>(Path::new("n.yaml"), text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
