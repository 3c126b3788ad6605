//! Keeps the texts of messages from being encoded as control tokens.
//!
//! A template joins its own control tokens and the texts of messages into one string, in which they cannot be told apart.
//! So before rendering, every character that begins or ends the literal of a control token (mostly `<` and `>`) is
//! replaced, in all texts, by a private-use character that occurs neither there nor in the template. A literal in the
//! rendering can then only come from the template. The rendering is split at these literals, the pieces between them get
//! their original characters back, and each is encoded with control tokens disabled. Each character is replaced by one
//! character, so templates that trim, split or measure texts work as usual.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use crate::{Error, Result};

const PRIVATE_USE: [std::ops::RangeInclusive<char>; 2] =
    ['\u{F0000}'..='\u{FFFFD}', '\u{100000}'..='\u{10FFFD}'];

/// The characters to replace, each with its replacement.
#[derive(Debug)]
pub(crate) struct Disguise {
    pairs: Vec<(char, char)>,
    spare: Vec<char>,
}

impl Disguise {
    /// Chooses stand-ins for `guarded`, and `spare` further characters, that occur neither in `outside` nor in the
    /// template.
    pub(crate) fn choose(
        guarded: &BTreeSet<char>,
        outside: &Value,
        template: &str,
        spare: usize,
    ) -> Result<Self> {
        let mut taken = HashSet::new();
        let mut note = |text: &str| taken.extend(text.chars().filter(|&c| c >= '\u{F0000}'));
        note(template);
        visit(outside, &mut note);
        let mut free = PRIVATE_USE.into_iter().flatten().filter(|c| !taken.contains(c));
        let pairs = guarded
            .iter()
            .map(|&hidden| free.next().map(|stand_in| (hidden, stand_in)))
            .collect::<Option<Vec<_>>>();
        let pairs = pairs.ok_or(Error::NoStandIn)?;
        Ok(Disguise { pairs, spare: free.take(spare).collect() })
    }

    /// Further characters that occur neither in the texts nor in the template.
    pub(crate) fn spare(&self) -> &[char] {
        &self.spare
    }

    /// Hides the guarded characters in every text inside `outside`, keys of objects included.
    pub(crate) fn hide(&self, outside: Value) -> Value {
        match outside {
            Value::String(text) => Value::String(self.hide_text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.hide(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(key, value)| (self.hide_text(&key), self.hide(value)))
                .collect(),
            other => other,
        }
    }

    /// Gives a piece of rendered text its characters back.
    pub(crate) fn reveal(&self, text: &str) -> String {
        text.chars().map(|c| self.hidden(c).unwrap_or(c)).collect()
    }

    /// As [`reveal`](Self::reveal), and where in the result the characters are that were hidden, ascending: all of these come
    /// from outside.
    pub(crate) fn reveal_places(&self, text: &str) -> (String, Vec<usize>) {
        let (mut revealed, mut places) = (String::with_capacity(text.len()), Vec::new());
        for c in text.chars() {
            let hidden = self.hidden(c);
            places.extend(hidden.map(|_| revealed.len()));
            revealed.push(hidden.unwrap_or(c));
        }
        (revealed, places)
    }

    fn hidden(&self, stand_in: char) -> Option<char> {
        self.pairs.iter().find(|pair| pair.1 == stand_in).map(|pair| pair.0)
    }

    fn hide_text(&self, text: &str) -> String {
        let hide = |c| self.pairs.iter().find(|pair| pair.0 == c).map_or(c, |pair| pair.1);
        text.chars().map(hide).collect()
    }
}

fn visit(value: &Value, note: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => note(text),
        Value::Array(items) => items.iter().for_each(|item| visit(item, note)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            note(key);
            visit(value, note);
        }),
        _ => {}
    }
}
