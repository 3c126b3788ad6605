//! Whether a clause declines: who may or will not do what.

use super::negated::{Force, Subject, base, negation};
use super::phrases;
use super::words::{
    COMPLY, CONDITIONS, DISCLOSED, FILLERS, GIVE, IDIOMS, IMPERATIVES, INTERJECTIONS, LIMITS,
    REQUEST, UNCERTAIN,
};

/// What a clause declines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decline {
    /// The request.
    Request,
    /// Nothing that was asked: it states what the speaker cannot know, see or reach.
    Limit,
}

/// What the clause, in lower case, declines in the speaker's name; none if it declines nothing.
pub(super) fn find(clause: &str) -> Option<Decline> {
    let clause = without_conjunction(clause);
    if phrases::decline(clause) {
        return Some(Decline::Request);
    }
    if clause.ends_with('?') {
        return None;
    }
    let clause =
        FILLERS.iter().fold(clause.to_owned(), |clause, filler| clause.replace(filler, ""));
    let words: Vec<&str> =
        clause.split_whitespace().map(trimmed).filter(|w| !w.is_empty()).collect();
    if named(&words) {
        return Some(Decline::Request);
    }
    let found = (0..words.len()).filter_map(|at| statement(&words, at));
    found.min_by_key(|decline| *decline == Decline::Limit)
}

fn trimmed(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

/// The clause without the words that tie it to the one before.
fn without_conjunction(clause: &str) -> &str {
    const TIES: [&str; 16] = [
        "but ",
        "however, ",
        "however ",
        "though ",
        "although ",
        "so ",
        "because ",
        "and ",
        "or ",
        "yet ",
        "as ",
        "since ",
        "while ",
        "therefore ",
        "thus ",
        "whereas ",
    ];
    let mut rest = clause.trim_start_matches(|c: char| !c.is_alphanumeric());
    while let Some(after) = TIES.iter().find_map(|tie| rest.strip_prefix(tie)) {
        // "As Mundi I keep ..." is no conjunction, but what it introduces is judged the same.
        rest = after.trim_start();
    }
    rest
}

/// Whether the speaker declines under a name: "Windu won't help with that."
fn named(words: &[&str]) -> bool {
    const OTHERS: [&str; 19] = [
        "i", "we", "he", "she", "they", "it", "you", "that", "this", "who", "which", "people",
        "nobody", "guests", "these", "those", "one", "what", "there",
    ];
    let Some((name, rest)) = words.split_first() else { return false };
    let refuses = matches!(rest.first(), Some(&("refuses" | "declines")));
    let negated = match rest {
        ["will" | "does" | "must" | "shall" | "can" | "would", "not" | "never", verbs @ ..] => {
            verbs
        }
        [
            "won't" | "doesn't" | "cannot" | "can't" | "never" | "mustn't" | "wouldn't",
            verbs @ ..,
        ] => verbs,
        ["refuses" | "declines", "to", verbs @ ..] => verbs,
        _ => return false,
    };
    let Some((verb, object)) = negated.split_first() else { return refuses };
    let request =
        object.iter().take(3).any(|word| matches!(*word, "that" | "this" | "it" | "you" | "such"));
    let verb = verb.strip_suffix('s').unwrap_or(verb);
    let plain = matches!(
        verb,
        "help"
            | "assist"
            | "comply"
            | "do"
            | "obey"
            | "hand"
            | "give"
            | "share"
            | "answer"
            | "play"
            | "take"
            | "serve"
            | "tell"
            | "open"
            | "reveal"
            | "show"
    );
    !OTHERS.contains(name) && plain && (request || matches!(verb, "comply" | "assist" | "obey"))
}

/// A statement in the speaker's name that begins at the word `at`.
fn statement(words: &[&str], at: usize) -> Option<Decline> {
    let lead = at.checked_sub(1).and_then(|i| words.get(i)).copied().unwrap_or_default();
    let rest = words.get(at..)?;
    let first = words.get(..at)?.iter().all(|word| INTERJECTIONS.contains(word));
    let (speaker, negated) = Subject::read(rest, first)?;
    let relative = speaker != Subject::Thing && lead == "that" && at > 1 && is_relative(words, at);
    if (speaker != Subject::Thing && CONDITIONS.contains(lead)) || relative {
        return None;
    }
    let (force, verbs) = negation(negated)?;
    judge(speaker, force, verbs)
}

/// Whether "that" before the subject belongs to a noun ("files that I can't open") rather than to a verb ("I'm afraid that I
/// can't").
fn is_relative(words: &[&str], at: usize) -> bool {
    const SAYS: [&str; 10] =
        ["afraid", "sorry", "say", "mean", "means", "is", "clear", "understand", "know", "regret"];
    let before = at.checked_sub(2).and_then(|i| words.get(i)).copied().unwrap_or_default();
    !SAYS.contains(&before)
}

/// "(That) cannot be shared" declines, "the pump cannot be shared between zones" does not.
fn disclosed(verbs: &[&str]) -> Option<Decline> {
    let verbs = if verbs.first() == Some(&"be") { verbs.get(1..)? } else { verbs };
    let (verb, rest) = verbs.split_first()?;
    let to_people = ["with", "to", "out", "over", "here", "by"];
    let closes = rest.first().is_none_or(|word| to_people.contains(word));
    (DISCLOSED.contains(verb) && closes).then_some(Decline::Request)
}

fn judge(subject: Subject, force: Force, verbs: &[&str]) -> Option<Decline> {
    if subject == Subject::Thing {
        return disclosed(verbs);
    }
    let Some((verb, object)) = verbs.split_first() else {
        // "I won't." and "I'm not able to." stand for the request.
        return (force != Force::Habit).then_some(Decline::Request);
    };
    // "I can neither confirm nor hand over": each verb counts.
    let further = object.iter().position(|word| matches!(*word, "nor" | "or"));
    let further = further
        .and_then(|at| object.get(at + 1..))
        .filter(|verbs| verbs.first().is_some_and(|verb| GIVE.contains(verb) && *verb != "let"));
    if further.is_some_and(|verbs| judge(subject, force, verbs) == Some(Decline::Request)) {
        return Some(Decline::Request);
    }
    let verb = base(verb);
    let request = object.first().is_none_or(|word| REQUEST.contains(word));
    if is_limit(verb, object, force) {
        return Some(Decline::Limit);
    }
    if is_idiom(verb, object) {
        return None;
    }
    let whole = COMPLY.contains(verb) && request;
    match (subject, force) {
        (Subject::Speaker, Force::Unable | Force::Unwilling) => Some(Decline::Request),
        (Subject::Speaker, Force::Advice) => {
            let advice =
                IMPERATIVES.contains(verb) || matches!(verb, "trust" | "skip" | "rely" | "touch");
            (!advice || whole).then_some(Decline::Request)
        }
        (_, Force::Conditional | Force::Advice) => {
            let to_you = object.first().is_some_and(|word| {
                matches!(*word, "you" | "that" | "this" | "it" | "anyone" | "out" | "with")
            });
            let tells = matches!(
                verb,
                "give"
                    | "tell"
                    | "share"
                    | "show"
                    | "hand"
                    | "help"
                    | "do"
                    | "write"
                    | "assist"
                    | "teach"
                    | "explain"
                    | "be"
                    | "provide"
                    | "reveal"
                    | "discuss"
                    | "answer"
                    | "support"
                    | "take"
            );
            (tells && to_you).then_some(Decline::Request)
        }
        (_, Force::Habit) => {
            let gives = GIVE.contains(verb)
                && !matches!(
                    verb,
                    "make"
                        | "let"
                        | "name"
                        | "change"
                        | "read"
                        | "go"
                        | "run"
                        | "take"
                        | "agree"
                        | "sign"
                        | "spell"
                        | "open"
                        | "list"
                        | "track"
                        | "cover"
                        | "carry"
                );
            let for_people = object.windows(2).any(|pair| {
                matches!(
                    pair,
                    [
                        "for" | "to",
                        "people"
                            | "strangers"
                            | "anyone"
                            | "you"
                            | "anybody"
                            | "callers"
                            | "guests"
                    ]
                )
            });
            let gives = gives || (verb == "open" && for_people);
            let takes_part = verb == "take"
                && object.first().is_some_and(|o| {
                    matches!(*o, "part" | "orders" | "instructions" | "bribes" | "sides")
                });
            (gives || takes_part || whole).then_some(Decline::Request)
        }
        _ => (whole || verb == "be" || GIVE.contains(verb)).then_some(Decline::Request),
    }
}

/// Whether it is about knowing, perceiving or reaching rather than about the request.
fn is_limit(verb: &str, object: &[&str], force: Force) -> bool {
    let near = object.get(..object.len().min(3)).unwrap_or_default();
    let exact = object.iter().take(4).any(|word| matches!(*word, "exact" | "precise"));
    let uncertain = exact || near.iter().any(|word| UNCERTAIN.contains(word));
    let from_here =
        matches!(object, [.., "from", "here"] | [.., "remotely"] | [.., "from", "this", "end"]);
    let cautious = |word: &&str| {
        matches!(
            *word,
            "exact"
                | "precise"
                | "guarantee"
                | "guarantees"
                | "certainty"
                | "definitive"
                | "reliable"
                | "diagnosis"
                | "real-time"
                | "live"
                | "estimate"
        )
    };
    match verb {
        "tell" => uncertain && force == Force::Unable,
        "say" => {
            force == Force::Unable
                && (uncertain || matches!(object, ["i" | "i'm" | "much" | "it" | "that", _, ..]))
        }
        "read" => {
            force == Force::Unable
                && !object
                    .iter()
                    .any(|word| matches!(*word, "you" | "aloud" | "her" | "his" | "their"))
        }
        "give" | "offer" | "provide" | "make" if object.iter().take(4).any(cautious) => {
            force == Force::Unable
        }
        "be" => !matches!(
            object,
            [
                "of" | "part"
                    | "involved"
                    | "complicit"
                    | "your"
                    | "a"
                    | "the"
                    | "party"
                    | "used"
                    | "drawn"
                    | "moved"
                    | "tricked"
                    | "talked"
                    | "bought"
                    | "bribed"
                    | "persuaded"
                    | "fooled"
                    | "baited",
                ..
            ]
        ),
        "make" => matches!(object, ["it" | "out" | "sense", ..]),
        "confirm" | "verify" | "guarantee" | "promise" | "diagnose" | "access" | "identify"
        | "judge" | "replace" | "decide" | "speak" | "check" | "look" | "view" | "place"
        | "quote" | "join" | "attend" | "come" | "browse" => force == Force::Unable,
        "rule" => matches!(object, ["out", ..]),
        "answer" | "recommend" => uncertain && force == Force::Unable,
        verb if LIMITS.contains(verb) => true,
        _ => from_here && force == Force::Unable,
    }
}

/// Whether the word at `time` belongs to what another person would do: "help you cook the books before the audit".
fn is_of_the_helped(verb: &str, object: &[&str], time: usize) -> bool {
    let helped = matches!(
        object,
        [
            "you" | "him" | "her" | "them" | "anyone" | "anybody" | "someone" | "somebody" | "people",
            next,
            ..
        ] if !matches!(*next, "with" | "on" | "in" | "at" | "there" | "more" | "much" | "any" | "further")
    );
    matches!(verb, "help" | "assist" | "aid" | "support") && helped && time > 1
}

/// Whether "I can't VERB OBJECT" is emphasis or says something about the speaker.
fn is_idiom(verb: &str, object: &[&str]) -> bool {
    let first = object.first().copied().unwrap_or_default();
    let has = |word: &str| object.contains(&word);
    // A promise: "I won't restart it before noon, as you asked."
    let time = object.iter().position(|word| matches!(*word, "before" | "again" | "anymore"));
    if time.is_some_and(|time| !is_of_the_helped(verb, object, time)) {
        return true;
    }
    match verb {
        "help-but" => true,
        "take" => matches!(first, "long" | "offence" | "offense"),
        "help" => matches!(first, "noticing" | "feeling" | "thinking" | "wondering" | "smiling"),
        "let" => {
            has("down")
                || (first == "you" && (has("forget") || has("miss") || has("wait")))
                || first == "go"
                || has("unsaid")
                || has("unmentioned")
        }
        "give" => has("up") || first == "in",
        "go" => {
            matches!(first, "wrong" | "away" | "below")
                || (first == "into" && has("detail") | has("details"))
        }
        "keep" => first == "you" || has("up"),
        "get" => matches!(first, "tired" | "enough" | "bored" | "used" | "over" | "into" | "up"),
        "leave" => matches!(first, "you" | "your" | "out"),
        "hold" => has("against") || has("back"),
        "repeat" => first == "myself" || has("enough"),
        "hide" => matches!(first, "that" | "it" | "my"),
        "lie" => matches!(object, [] | ["to", "you", ..] | ["about", ..]),
        "make" => matches!(
            object,
            ["a", "fuss" | "secret" | "scene" | "mistake", ..]
                | ["any", "promises", ..]
                | ["you", "wait", ..]
        ),
        "pretend" => matches!(first, "it" | "that" | "otherwise") || (first == "to" && !has("be")),
        "recommend" | "praise" => has("enough") || has("highly"),
        "agree" => has("more"),
        "stop" => !matches!(first, "the"),
        "say" => first == "no",
        "run" => matches!(first, "out" | "dry" | "short"),
        "sink" | "rise" | "exceed" | "sleep" | "rest" | "tire" | "age" | "fail" | "miss"
        | "shrink" | "expire" => object.first().is_none_or(|word| !REQUEST.contains(word)),
        verb => IDIOMS.contains(verb),
    }
}
