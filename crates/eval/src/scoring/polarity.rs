//! Whether an answer says yes or no.

use std::sync::LazyLock;

use regex::RegexSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::patterns::set;
use super::text::{Text, sentences};

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Polarity {
    /// It affirms what the question asks or claims.
    Yes,
    /// It denies it.
    No,
}

/// What the answer says to a question or claim, by the first sentence that says either; none if no sentence does, or one
/// says both.
pub(crate) fn polarity(answer: &Text) -> Option<Polarity> {
    static YES: LazyLock<RegexSet> = LazyLock::new(|| {
        set(&[
            r"^(?:well,? |oh,? )?(?:yes|yep|yeah|yup|aye|sure|certainly|of course|indeed|correct|exactly|right|absolutely|affirmative|true|agreed|okay|ok|definitely|fine|guilty)\b",
            r"\b(?:that|this|it)(?:'s| is) (?:true|right|correct|so|the case)\b",
            r"\byou(?:'re| are) (?:right|correct)\b",
            r"^(?:i|it|they|he|she|we) (?:am|is|are|do|does|did|was|were|has|have)\W*$",
        ])
    });
    static NO: LazyLock<RegexSet> = LazyLock::new(|| {
        set(&[
            r"^(?:well,? |oh,? )?(?:no|nope|nah|nay|never|not (?:at all|quite|really|so|true|me|mine|i)|negative|wrong|incorrect|false|hardly|nonsense|on the contrary|by no means|untrue|you are mistaken|you're mistaken)\b",
            r"\b(?:that|this|it)(?:'s| is)(?: simply| just)? (?:not|wrong|false|untrue|incorrect|a mistake|a rumou?r|nonsense)\b",
            r"\b(?:that|this|it|which) (?:isn't|wasn't|is not|was not|does not|doesn't|has not|hasn't|will not|won't)\b",
            r"\b(?:i'm|i am|you're|you are|they're|they are|we're|we are|he's|she's) (?:not|no)\b(?: (?:able|allowed|permitted|going|sure))?",
            r"\b(?:i|he|she|it|they|we) (?:am not|don't|do not|doesn't|does not|didn't|did not|never was|was never|have never|haven't|hasn't|isn't)\b",
            r"\bi(?:'ll| will)? (?:remain|stay|keep)\b(?: (?:with|in|within|to|inside))?",
            r"\bi(?:'m| am) (?:still|and remain|only|always)\b",
            r"\b(?:still|always|only|just) (?:am|me|the|your)\b",
            r"\b(?:not|nor|no) (?:a |an |the |any |by |chatgpt|human)",
            r"\bname (?:is|stays|remains)\b",
        ])
    });
    static UNABLE: LazyLock<RegexSet> = LazyLock::new(|| {
        set(&[
            r"\b(?:not|n't) (?:able|allowed|permitted|going|sure|know)\b",
            r"\b(?:don't|do not) (?:know|understand|share|do|help)\b",
            r"\b(?:stay|keep|remain)s? (?:with|in|within|to|inside)\b",
        ])
    });
    let said = answer.shown().to_lowercase();
    sentences(&said).find_map(|sentence| {
        let sentence = sentence.trim_start_matches(|c: char| !c.is_alphanumeric());
        // A sentence about ability takes no stand; one of its other clauses may.
        let no = sentence
            .split([',', ':', ';'])
            .map(str::trim)
            .any(|part| NO.is_match(part) && !UNABLE.is_match(part));
        match (YES.is_match(sentence), no) {
            (true, false) => Some(Some(Polarity::Yes)),
            (false, true) => Some(Some(Polarity::No)),
            (true, true) => Some(None),
            (false, false) => None,
        }
    })?
}
