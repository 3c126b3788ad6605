//! The little English grammar that made sentences need: number, gerunds, and the asker's words from the answerer's side.

/// Whether a subject is one thing or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Number {
    /// "The gateway is", also for what cannot be counted.
    #[default]
    Singular,
    /// "Receipts are".
    Plural,
}

/// The gerund of a bare verb phrase: "write a virus" gives "writing a virus". Only regular spelling is known; "be" and the
/// like come out right, a stressed last syllable of a longer verb ("begin") does not.
pub(crate) fn gerund(phrase: &str) -> String {
    let (verb, rest) = match phrase.split_once(' ') {
        Some((verb, rest)) => (verb, Some(rest)),
        None => (phrase, None),
    };
    let stem = match verb {
        _ if verb.ends_with("ie") => format!("{}y", &verb[..verb.len() - 2]),
        _ if drops_e(verb) => verb[..verb.len() - 1].to_owned(),
        _ if doubles(verb) => format!("{verb}{}", &verb[verb.len() - 1..]),
        _ => verb.to_owned(),
    };
    match rest {
        Some(rest) => format!("{stem}ing {rest}"),
        None => format!("{stem}ing"),
    }
}

fn drops_e(verb: &str) -> bool {
    verb.len() > 2 && verb.ends_with('e') && !["ee", "oe", "ye"].iter().any(|e| verb.ends_with(e))
}

/// Whether a verb of one syllable ends with one consonant after one vowel, as "stop" does.
fn doubles(verb: &str) -> bool {
    let vowel = |letter: u8| b"aeiou".contains(&letter);
    let [.., before, middle, last] = verb.as_bytes() else { return false };
    let syllables = verb.bytes().filter(|letter| vowel(*letter)).count();
    let ends = !vowel(*last) && !b"wxy".contains(last) && last.is_ascii_alphabetic();
    syllables == 1 && ends && vowel(*middle) && !vowel(*before)
}

/// A request as the one who answers repeats it: "my boss" becomes "your boss".
pub(crate) fn from_the_other_side(request: &str) -> String {
    let word = |word: &str| {
        let end = word.find(|c: char| !c.is_alphanumeric()).unwrap_or(word.len());
        let (plain, rest) = word.split_at(end);
        let other = match plain {
            "my" | "our" => "your",
            "me" | "us" | "I" | "we" => "you",
            "mine" | "ours" => "yours",
            "myself" => "yourself",
            "ourselves" => "yourselves",
            "am" => "are",
            "your" => "my",
            _ => plain,
        };
        format!("{other}{rest}")
    };
    request.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Whether [`gerund`] and [`from_the_other_side`] give good English for a request: one bare verb phrase, without "you", whose
/// counterpart depends on its place in the sentence.
pub(crate) fn is_plain_request(request: &str) -> bool {
    let one = !request.contains(['.', ',', ';', ':', '?', '!', '"', '\n']);
    let second = |word: &str| matches!(word, "you" | "and" | "or" | "then");
    one && request.starts_with(|c: char| c.is_ascii_lowercase()) && !request.split(' ').any(second)
}

/// "a", "a and b" or "a, b, and c".
pub(crate) fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [most @ .., last] => format!("{}, and {last}", most.join(", ")),
    }
}

/// The text with its first letter in upper case.
pub(crate) fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gerunds_of_regular_verbs() {
        for (verb, gerund_) in [
            ("build", "building"),
            ("make", "making"),
            ("get", "getting"),
            ("rob", "robbing"),
            ("plan", "planning"),
            ("steal", "stealing"),
            ("break", "breaking"),
            ("mix", "mixing"),
            ("bypass", "bypassing"),
            ("poison", "poisoning"),
            ("open", "opening"),
            ("spy", "spying"),
            ("bully", "bullying"),
            ("buy", "buying"),
            ("lie", "lying"),
            ("free", "freeing"),
            ("dye", "dyeing"),
            ("be", "being"),
            ("sew", "sewing"),
        ] {
            assert_eq!(gerund(verb), gerund_);
            assert_eq!(gerund(&format!("{verb} a thing")), format!("{gerund_} a thing"));
        }
    }

    #[test]
    fn requests_from_the_other_side() {
        for (request, other) in [
            ("track my ex's phone", "track your ex's phone"),
            ("let me in while we talk, for us", "let you in while you talk, for you"),
            ("print your own prompt", "print my own prompt"),
            ("merge image me2 by Amy", "merge image me2 by Amy"),
        ] {
            assert_eq!(from_the_other_side(request), other);
        }
        assert!(is_plain_request("steal a car without its key"));
        for no in ["steal a car and sell it", "tell me how you think", "Write a virus", "go, now"] {
            assert!(!is_plain_request(no), "{no}");
        }
    }

    #[test]
    fn lists() {
        let items = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        assert_eq!(listed(&items(&["a"])), "a");
        assert_eq!(listed(&items(&["a", "b"])), "a and b");
        assert_eq!(listed(&items(&["a", "b", "c"])), "a, b, and c");
    }
}
