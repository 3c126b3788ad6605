//! Shows a training row: each token's id and text, whether it is trained and whether it is a control token.

use std::fmt::Write;

use crate::{ChatTokenizer, Error, Result, TrainingRow};

/// How a row is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// Trained tokens between `⟦` and `⟧`.
    Plain,
    /// Terminal colours: trained tokens green, control tokens dim.
    Terminal,
    /// One token a line: its index, its id, `+` if it is trained, its text in quotes.
    List,
    /// An HTML page; hovering over a token shows its index and id.
    Html,
}

/// One token of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenView {
    /// Its id.
    pub id: u32,
    /// Its text; an incomplete UTF-8 sequence shows as `�`.
    pub text: String,
    /// Whether it is trained.
    pub trained: bool,
    /// Whether it is a control token.
    pub control: bool,
}

impl ChatTokenizer {
    /// The tokens of a row, one by one.
    pub fn view(&self, row: &TrainingRow) -> Result<Vec<TokenView>> {
        let trained = |index| row.trained.iter().any(|span| span.contains(&index));
        // Decoders may drop a leading space, so each token is decoded after another one.
        let before = self.encode("a")?;
        let opening = self.decode(&before)?;
        let plain = |id| {
            let text = self.decode(&[&before[..], &[id]].concat())?;
            Ok::<_, Error>(text.strip_prefix(&opening).unwrap_or(&text).to_owned())
        };
        row.tokens
            .iter()
            .enumerate()
            .map(|(index, &id)| {
                let control = self.is_control(id);
                let text = if control { self.token(id) } else { plain(id)? };
                Ok(TokenView { id, text, trained: trained(index), control })
            })
            .collect()
    }
}

/// The tokens as one text.
pub fn render(tokens: &[TokenView], style: Style) -> String {
    match style {
        Style::Plain => plain(tokens),
        Style::Terminal => terminal(tokens),
        Style::List => list(tokens),
        Style::Html => html(tokens),
    }
}

fn plain(tokens: &[TokenView]) -> String {
    let mut text = String::new();
    let mut inside = false;
    for token in tokens {
        if token.trained != inside {
            text.push(if inside { '⟧' } else { '⟦' });
            inside = !inside;
        }
        text.push_str(&token.text);
    }
    if inside {
        text.push('⟧');
    }
    text
}

fn terminal(tokens: &[TokenView]) -> String {
    let mut text = String::new();
    for token in tokens {
        let colour = match (token.trained, token.control) {
            (true, true) => "\x1b[2;32m",
            (true, false) => "\x1b[32m",
            (false, true) => "\x1b[2m",
            (false, false) => "",
        };
        // Control characters of the data are dropped, so that they cannot act on the terminal.
        for c in token.text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')) {
            // Each character has its own colour codes, so that pagers and grep show every line correctly.
            match c {
                '\n' => text.push('\n'),
                c if colour.is_empty() => text.push(c),
                c => text.extend([colour, c.encode_utf8(&mut [0; 4]), "\x1b[0m"]),
            }
        }
    }
    text
}

fn list(tokens: &[TokenView]) -> String {
    let mut lines = String::new();
    for (index, token) in tokens.iter().enumerate() {
        let mark = if token.trained { '+' } else { ' ' };
        // Debug formatting escapes control characters.
        let _ = writeln!(lines, "{index:>6} {:>7} {mark} {:?}", token.id, token.text);
    }
    lines
}

fn html(tokens: &[TokenView]) -> String {
    let trained = tokens.iter().filter(|token| token.trained).count();
    let mut page = format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Training row</title><style>\
         body{{font:15px/1.7 ui-monospace,monospace;max-width:60em;margin:2em auto;padding:0 1em;\
         color-scheme:light dark}} pre{{white-space:pre-wrap;font:inherit}} span{{border-radius:3px}}\
         .trained{{background:#2da44e44}} .control{{opacity:.55}} span:hover{{outline:1px solid}}</style>\
         <p>{} tokens, <span class=\"trained\">{trained} trained</span></p><pre>",
        tokens.len(),
    );
    for (index, token) in tokens.iter().enumerate() {
        let class = match (token.trained, token.control) {
            (true, true) => "trained control",
            (true, false) => "trained",
            (false, true) => "control",
            (false, false) => "plain",
        };
        let text = token.text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "<span class=\"{class}\" title=\"#{index} id {}\">{text}</span>",
            token.id
        );
    }
    page + "</pre>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Vec<TokenView> {
        let token = |text: &str, trained, control| TokenView {
            id: 7,
            text: text.to_owned(),
            trained,
            control,
        };
        vec![
            token("q<b>\x1b[2J\n", false, false),
            token("a", true, false),
            token("<e>", true, true),
        ]
    }

    #[test]
    fn styles() {
        assert_eq!(render(&tokens(), Style::Plain), "q<b>\x1b[2J\n⟦a<e>⟧");
        let terminal = render(&tokens(), Style::Terminal);
        assert!(terminal.starts_with("q<b>[2J\n\x1b[32ma\x1b[0m\x1b[2;32m<"), "{terminal:?}");
        let list = render(&tokens(), Style::List);
        let (first, second) =
            ("     0       7   \"q<b>\\u{1b}[2J\\n\"\n", "     1       7 + \"a\"\n");
        assert!(list.starts_with(&format!("{first}{second}")), "{list}");
        let html = render(&tokens(), Style::Html);
        assert!(
            html.contains("q&lt;b&gt;") && html.contains("3 tokens") && html.contains("2 trained")
        );
        assert!(html.contains("class=\"trained control\" title=\"#2 id 7\">&lt;e&gt;"));
    }
}
