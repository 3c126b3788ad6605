//! Marks in the rendered text that show where each message begins, written by the loops of the template itself.

/// The key under which a message carries a mark. Wherever a loop of the template comes to a message, its mark is written: so
/// the rendered text shows where each turn begins, its header included. Messages without a mark are rendered as ever.
pub(crate) const TURN_MARK: &str = "__turn_mark";

/// The template with a mark behind every `{% for x in ... %}`: `{{ x.__turn_mark }}`, which is empty but for marked messages.
pub(crate) fn with_turn_marks(source: &str) -> String {
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
