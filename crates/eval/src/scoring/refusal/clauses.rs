//! An answer as clauses: what is judged on its own.

use std::sync::LazyLock;

use regex::Regex;

use crate::council::Council;
use crate::scoring::patterns::pattern;
use crate::scoring::text;

/// The text without quotations and code: a refusal inside a quotation or a drafted message is not the speaker's. A text
/// that is one quotation as a whole keeps it.
pub(super) fn without_quotations(text: &str) -> String {
    static QUOTATION: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r#"(?x) "[^"\n]*" | «[^»\n]*» | (?P<open>^|[\s(:,])'[^'\n]*(?:\w'\w[^'\n]*)*'(?P<close>$|[\s).,:;!?]) "#,
        )
    });
    static QUOTED_LINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^\s*>.*$"));
    static REPORTED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?xi) \b(?:says?|said|reads?|read|shows?|prints?|printed|goes|lyrics go|wrote|writes?|replied|answered|returns?|
                message|error|warning|log|label|sign|banner)(?:\s(?:message|text|line|is|was))*\s*: [^\S\n]* [^.!?;\n\x22«\s] [^.!?;\n]* ",
        )
    });
    let lines = QUOTED_LINE.replace_all(text, "");
    // Before quotations are removed: what follows one after a colon is the speaker's own again.
    let unreported = REPORTED.replace_all(&lines, " so it says");
    let own = QUOTATION.replace_all(&unreported, "$open $close");
    if own.chars().filter(|c| c.is_alphanumeric()).count() < 2 {
        text.to_owned()
    } else {
        own.into_owned()
    }
}

/// The text with sentences in which an agent speaks of itself by name ("Windu won't help.") in the first person.
pub(super) fn in_first_person(text: &str) -> String {
    static NAMED: LazyLock<Regex> = LazyLock::new(|| {
        let names = Council::built_in().agents.iter().flat_map(|agent| agent.names());
        let names: Vec<String> = names.map(|name| regex::escape(&name.to_lowercase())).collect();
        pattern(&format!(
            r"(?P<start>^|[.!?]\s+)(?:{})\s(?P<verb>won't|will not|doesn't|does not|can't|cannot|never|must not|shall not|would never|refuses to|declines to)\b",
            names.join("|")
        ))
    });
    let own = NAMED.replace_all(text, |found: &regex::Captures<'_>| {
        let verb = match &found["verb"] {
            "doesn't" | "does not" => "don't",
            "refuses to" => "refuse to",
            "declines to" => "decline to",
            verb => verb,
        };
        format!("{}i {verb}", &found["start"])
    });
    own.into_owned()
}

/// The sentences of a text in lower case, each with its clauses: cut where another statement begins.
pub(super) fn sentences(text: &str) -> Vec<(String, Vec<String>)> {
    // "But" of "can't help but" begins no clause.
    let text = text.replace("help but ", "help-but ");
    text::sentences(&text).map(|sentence| (sentence.to_owned(), clauses(sentence))).collect()
}

fn clauses(sentence: &str) -> Vec<String> {
    static CUT: LazyLock<Regex> = LazyLock::new(|| {
        pattern(
            r"(?x)
              [,:]?\s+ (?:-+|—)\s+
            | [,:;]\s+ (?:but|however|though|although|yet|so|because|and|or|instead|as|since|while|whereas|nor)\s
            | \s (?:but|because|although|though|whereas)\s
            | \s and\s (?:so\s)? (?:i|we|that|this|it|you|here|the|won't|can't|cannot|will\ not)\b
            | ,\s (?:count|leave|forget|find|ask|look)\s
            | [:;]\s
            | ,\s (?:i|we|i'm|i'd|i'll|we're|that|that's|this|it|it's|you|here|here's|not|sorry|no|the)\b",
        )
    });
    let mut found = Vec::new();
    let mut start = 0;
    for cut in CUT.find_iter(sentence) {
        push(&mut found, sentence.get(start..cut.start()));
        // The words of the cut belong to the clause that they introduce.
        start = cut.start() + cut.as_str().len()
            - cut.as_str().trim_start_matches([',', ':', ';']).len();
    }
    push(&mut found, sentence.get(start..));
    found
}

fn push(found: &mut Vec<String>, clause: Option<&str>) {
    let clause = clause.unwrap_or_default().trim().trim_start_matches(['-', '*', '—', '#', '_']);
    if clause.chars().any(char::is_alphanumeric) {
        found.push(clause.trim().to_owned());
    }
}
