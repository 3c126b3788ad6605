//! The subject and the negated auxiliary of a statement: "I can't", "we are not allowed to".

use super::words::{ADVERBS, GIVE};

/// Who does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// "I".
    Speaker,
    /// "We", or nobody named ("Cannot comply."): only verbs of giving decline.
    Unclear,
    /// "That", "those keys", ...: only what cannot be told or given.
    Thing,
}

impl Subject {
    /// The subject that the words begin with, and the words from its auxiliary on.
    pub(super) fn read<'w, 'a>(
        words: &'w [&'a str],
        first: bool,
    ) -> Option<(Subject, &'w [&'a str])> {
        let (word, rest) = words.split_first()?;
        let unclear =
            ["cannot", "can't", "won't", "unable", "unwilling", "not", "shan't", "refusing", "can"];
        match *word {
            "i" => Some((Subject::Speaker, rest)),
            "we" => Some((Subject::Unclear, rest)),
            "i'm" | "i'll" | "i'd" | "im" => Some((Subject::Speaker, words)),
            "we're" | "we'll" | "we'd" => Some((Subject::Unclear, words)),
            word if first && unclear.contains(&word) => Some((Subject::Unclear, words)),
            "cannot" | "can't" | "won't" | "must" | "may" | "will" => Some((Subject::Thing, words)),
            _ => None,
        }
    }
}

/// Why it is not done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Force {
    /// "Can't", "unable".
    Unable,
    /// "Won't", "not allowed", "must not".
    Unwilling,
    /// "Don't", "never".
    Habit,
    /// "Couldn't", "wouldn't", "don't want to": what happened or would be wise, unless it is about giving.
    Conditional,
    /// "Would never".
    Advice,
}

fn skip_adverbs<'w, 'a>(mut words: &'w [&'a str]) -> &'w [&'a str] {
    while let Some((word, rest)) = words.split_first() {
        if !ADVERBS.contains(word) {
            break;
        }
        words = rest;
    }
    words
}

/// The negation that the words begin with, and the words from the verb on.
pub(super) fn negation<'w, 'a>(words: &'w [&'a str]) -> Option<(Force, &'w [&'a str])> {
    let words = skip_adverbs(words);
    let (first, rest) = words.split_first()?;
    let next = skip_adverbs(rest).first().copied().unwrap_or_default();
    let after_next = || skip_adverbs(rest).get(1..).unwrap_or_default();
    let (force, verbs) = match (*first, next) {
        ("can", "not" | "neither" | "never") => (Force::Unable, after_next()),
        ("can't" | "cannot" | "cant", _) => (Force::Unable, rest),
        ("couldn't" | "could", _) if is_emphatic(words) => (Force::Unwilling, rest.get(1..)?),
        ("couldn't", _) => (Force::Conditional, rest),
        ("could", "not") => (Force::Conditional, after_next()),
        ("wouldn't", _) => (Force::Conditional, rest),
        ("would" | "i'd" | "we'd", "not") => (Force::Conditional, after_next()),
        ("would" | "i'd" | "we'd", "never") => (Force::Advice, after_next()),
        (
            "will" | "shall" | "would" | "may" | "must" | "should" | "dare" | "ought" | "i'll"
            | "i'd" | "we'll" | "we'd",
            "not" | "never" | "neither",
        ) => (Force::Unwilling, after_next()),
        ("won't" | "shan't" | "mustn't" | "shouldn't" | "wont", _) => (Force::Unwilling, rest),
        ("unable", _) => (Force::Unable, rest),
        ("unwilling" | "refusing", _) => (Force::Unwilling, rest),
        ("am" | "are" | "i'm" | "we're" | "im", "unable") => (Force::Unable, after_next()),
        ("am" | "are" | "i'm" | "we're" | "im", "unwilling") => (Force::Unwilling, after_next()),
        ("am" | "are" | "i'm" | "we're" | "im" | "was", "not" | "never") => {
            return state(after_next());
        }
        ("not", _) => return state(rest),
        ("don't" | "do" | "dont", _) if *first != "do" || next == "not" => {
            let verbs = if *first == "do" { after_next() } else { rest };
            match skip_adverbs(verbs).first().copied() {
                Some("want" | "wish" | "intend" | "plan" | "mean" | "care") => {
                    (Force::Conditional, skip_adverbs(verbs).get(1..)?)
                }
                _ => (Force::Habit, verbs),
            }
        }
        ("never", _) => (Force::Habit, rest),
        _ => return None,
    };
    let mut verbs = skip_adverbs(verbs);
    // "I won't be able to help" and "I won't be helping".
    if let ["be", "able", "to", rest @ ..] = verbs {
        verbs = skip_adverbs(rest);
    } else if let ["be", verb, ..] = verbs
        && GIVE.contains(base(verb))
        && verb.ends_with("ing")
    {
        verbs = verbs.get(1..)?;
    }
    // "I can't and won't help": the second auxiliary says nothing new.
    match verbs.first().copied() {
        Some("and" | "or" | "nor") if negation(verbs.get(1..)?).is_some() => {
            negation(verbs.get(1..)?)
        }
        _ => Some((force, verbs)),
    }
}

/// "I couldn't possibly", "I could never".
fn is_emphatic(words: &[&str]) -> bool {
    matches!(words, ["couldn't", "possibly" | "ever" | "in", ..] | ["could", "never", ..])
}

/// "I'm not STATE to VERB".
fn state<'w, 'a>(words: &'w [&'a str]) -> Option<(Force, &'w [&'a str])> {
    let (state, rest) = skip_adverbs(words).split_first()?;
    let force = match *state {
        "able" | "equipped" | "qualified" => Force::Unable,
        "allowed" | "permitted" | "authorised" | "authorized" | "willing" | "prepared"
        | "designed" | "comfortable" | "going" | "about" | "supposed" | "cleared" | "free"
        | "inclined" | "here" | "meant" | "made" | "built" | "programmed" | "ready" | "gonna"
        | "doing" | "helping" | "sharing" | "giving" | "playing" | "writing" | "telling"
        | "answering" | "handing" | "falling" | "entitled" | "trained" | "set" | "opening"
        | "in" => Force::Unwilling,
        _ => return None,
    };
    if matches!(*state, "in") && !matches!(rest.get(..2), Some(["a", "position"])) {
        return None;
    }
    if state.ends_with("ing") && !matches!(*state, "willing" | "going") {
        return Some((force, words_from(words, state)));
    }
    let to = rest.iter().take(3).position(|word| matches!(*word, "to" | "with" | "for" | "of"));
    // "I'm not able." stands for the request, "I'm not going anywhere" for nothing.
    let verbs = match (to, rest.first()) {
        (Some(at), _) => rest.get(at + 1..).unwrap_or_default(),
        (None, None) if *state != "going" => rest,
        (None, Some(verb)) if verb.ends_with("ing") => rest,
        _ => return None,
    };
    Some((force, skip_adverbs(verbs)))
}

fn words_from<'w, 'a>(words: &'w [&'a str], word: &str) -> &'w [&'a str] {
    let at = words.iter().position(|found| *found == word).unwrap_or(0);
    words.get(at..).unwrap_or_default()
}

/// "Sharing" as "share".
pub(super) fn base(verb: &str) -> &str {
    match verb {
        "doing" => "do",
        "helping" => "help",
        "sharing" => "share",
        "giving" => "give",
        "providing" => "provide",
        "telling" => "tell",
        "writing" => "write",
        "playing" => "play",
        "answering" => "answer",
        "discussing" => "discuss",
        "handing" => "hand",
        "opening" => "open",
        verb => verb,
    }
}
