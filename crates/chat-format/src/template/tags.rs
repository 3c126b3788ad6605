//! Changes to a template's source before it is compiled.

use std::borrow::Cow;

/// The key under which a message carries a mark. The template writes it wherever one of its loops comes to the message, so the
/// rendering shows where each turn begins, its header included. A message without a mark is rendered as always.
pub(crate) const TURN_MARK: &str = "__turn_mark";

/// The source with every tag rewritten that minijinja does not know or that has to write a mark.
pub(super) fn prepare(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while !rest.is_empty() {
        let start = tag_start(rest);
        let end = tag_end(rest, start);
        let tag = &rest[start..end];
        out.push_str(&rest[..start]);
        out.push_str(&rewritten(tag));
        rest = &rest[end..];
        if keyword(tag) == Some("raw") {
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

/// Where the tag, expression or comment that begins at `start` ends. Quoted strings inside it may hold anything.
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

fn rewritten(tag: &str) -> Cow<'_, str> {
    match keyword(tag) {
        // These mark assistant text for Hugging Face's trainer and print nothing.
        Some("generation") => tag.replacen("generation", "if true", 1).into(),
        Some("endgeneration") => tag.replacen("endgeneration", "endif", 1).into(),
        Some("for") => with_mark(tag).map_or(tag.into(), Cow::from),
        _ => tag.into(),
    }
}

/// The first word of a `{% ... %}` tag.
fn keyword(tag: &str) -> Option<&str> {
    inside(tag)?.split_whitespace().next()
}

/// What stands in a `{% ... %}` tag, without the signs that trim white space.
fn inside(tag: &str) -> Option<&str> {
    Some(tag.strip_prefix("{%")?.strip_suffix("%}")?.trim_matches(['-', '+']).trim())
}

/// A `{% for x in ... %}` tag, and behind it `{{ x.__turn_mark }}`, which is empty except for marked messages. The mark stands
/// between tags, so that white space around it is trimmed as it is around the loop's own tag.
fn with_mark(tag: &str) -> Option<String> {
    let mut words = inside(tag)?.split_whitespace().skip(1);
    let (variable, next) = (words.next()?, words.next()?);
    if next != "in" || !variable.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let body = tag.strip_suffix("%}")?;
    let open = body.strip_suffix(['-', '+']).unwrap_or(body);
    let trim = &body[open.len()..];
    let mark = format!("{{{{ {variable}.{TURN_MARK} }}}}");
    Some(format!("{open}%}}{{% if true %}}{mark}{{% endif {trim}%}}"))
}
