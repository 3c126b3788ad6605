//! Reads prompts from two list literals of a Python file; comments between the strings give tiers and topics.

use std::path::Path;

use super::{Label, Prompt};
use crate::{Error, Result};

const LISTS: [(&str, Label); 2] =
    [("BUILTIN_HARMFUL", Label::Harmful), ("BUILTIN_HARMLESS", Label::Benign)];

/// The prompts of both lists, the harmful ones first.
pub(super) fn prompts(path: &Path, text: &str) -> Result<Vec<Prompt>> {
    let mut prompts = Vec::new();
    for (name, label) in LISTS {
        let start = list_start(text, name).ok_or_else(|| Error::Source {
            path: path.to_path_buf(),
            line: 1,
            column: 1,
            expected: format!("a list {name} = ["),
            found: "no such assignment".into(),
        })?;
        Lexer { path, text, at: start, tier: None, topic: None }.list(label, &mut prompts)?;
    }
    Ok(prompts)
}

/// The byte offset after the bracket that opens the list assigned to `name`.
fn list_start(text: &str, name: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix(name) {
            // `NAME = [`, or with an annotation, `NAME: list[str] = [`.
            let (before, value) = rest.split_once('=')?;
            if before.trim_start().is_empty() || before.trim_start().starts_with(':') {
                let bracket = value.find('[')?;
                return Some(offset + line.len() - value.len() + bracket + 1);
            }
        }
        offset += line.len();
    }
    None
}

struct Lexer<'a> {
    path: &'a Path,
    text: &'a str,
    at: usize,
    tier: Option<u8>,
    topic: Option<String>,
}

impl Lexer<'_> {
    /// Reads strings up to the closing bracket. Adjacent strings without a comma are concatenated, as in Python.
    fn list(&mut self, label: Label, prompts: &mut Vec<Prompt>) -> Result<()> {
        let mut open: Option<Prompt> = None;
        loop {
            let start = self.at;
            match self.next() {
                Some(']') => {
                    prompts.extend(open);
                    return Ok(());
                }
                Some(',') => match open.take() {
                    Some(prompt) => prompts.push(prompt),
                    None => return Err(self.error(start, "a string", "`,`")),
                },
                Some('#') => self.comment(),
                Some(quote @ ('"' | '\'')) => {
                    let text = self.string(quote, start)?;
                    match &mut open {
                        Some(prompt) => prompt.text.push_str(&text),
                        None => {
                            let category = self.topic.clone();
                            let (line, _) = self.place(start);
                            open = Some(Prompt { text, label, category, tier: self.tier, line });
                        }
                    }
                }
                Some(c) if c.is_whitespace() => {}
                Some(c) => {
                    return Err(self.error(start, "a string, `,` or `]`", &format!("{c:?}")));
                }
                None => return Err(self.error(start, "`]`", "the end of the file")),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.text.get(self.at..)?.chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// `# === TIER n: ... ===` and `# -- topic --` say what the strings below are.
    fn comment(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        self.at += line.len();
        let words = line.trim().trim_matches(|c: char| c == '=' || c == '-' || c.is_whitespace());
        if let Some(tier) = words.strip_prefix("TIER ") {
            let digits: String = tier.chars().take_while(char::is_ascii_digit).collect();
            self.tier = digits.parse().ok();
            self.topic = None;
        } else if line.trim().starts_with("--") && !words.is_empty() {
            self.topic = Some(words.to_owned());
        }
    }

    fn string(&mut self, quote: char, start: usize) -> Result<String> {
        if self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with([quote; 2].iter().collect::<String>().as_str()))
        {
            return Err(self.error(start, "a string on one line", "triple quotes"));
        }
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                Some(c) if c == quote => return Ok(text),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('\\' | '\'' | '"')) => text.push(c),
                    other => {
                        let found =
                            other.map_or("the end of the file".into(), |c| format!("\\{c}"));
                        return Err(self.error(
                            at,
                            "an escape among \\n \\t \\\\ \\' \\\"",
                            &found,
                        ));
                    }
                },
                Some('\n') | None => {
                    return Err(self.error(start, "a string that ends on its line", "none"));
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn place(&self, offset: usize) -> (u64, u64) {
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        (before.matches('\n').count() as u64 + 1, column as u64 + 1)
    }

    fn error(&self, offset: usize, expected: &str, found: &str) -> Error {
        let (line, column) = self.place(offset);
        Error::Source {
            path: self.path.to_path_buf(),
            line,
            column,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }
}
