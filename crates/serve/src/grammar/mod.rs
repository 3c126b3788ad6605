//! Answers that follow a grammar: JSON of a schema, or a call of a function.

mod calls;
mod following;
mod form;
mod leaves;
mod numbers;
mod schema;
mod values;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use chat_format::ChatTokenizer;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use models::TokenConstraint;
use serde_json::Value;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

pub(crate) use following::Reasoning;
use following::{Following, Tokens};
use form::CallForm;
use numbers::Numbers;

/// The most characters of a message about a schema.
const MESSAGE: usize = 300;
/// The stack of a thread that makes grammars, and of one that follows them, in bytes: the library recurses over schemas.
pub(crate) const STACK: usize = 64 << 20;

/// Makes grammars for the vocabulary of a model.
pub(crate) struct Grammars {
    tokenizer: Arc<ChatTokenizer>,
    /// Made for the first request that needs it.
    factory: OnceLock<Result<(ParserFactory, Arc<Tokens>), String>>,
    call_form: OnceLock<Option<CallForm>>,
}

/// A grammar for the answers to one request.
#[derive(Clone)]
pub(crate) struct Grammar {
    start: Arc<Matcher>,
    tokens: Arc<Tokens>,
    /// Where numbers must be limited beside the grammar.
    numbers: Option<Numbers>,
    reasoning: Reasoning,
    failed: Arc<AtomicBool>,
}

impl Grammars {
    pub fn new(tokenizer: &Arc<ChatTokenizer>) -> Self {
        Self {
            tokenizer: Arc::clone(tokenizer),
            factory: OnceLock::new(),
            call_form: OnceLock::new(),
        }
    }

    /// Text that is a JSON value of this schema.
    ///
    /// # Errors
    /// A schema that is invalid, has keywords that are not supported, or is too large.
    pub fn json(&self, schema: &Value) -> Result<Grammar, String> {
        let grammar = TopLevelGrammar::from_json_schema(schema::with_options(schema)?);
        self.grammar(grammar, Some(Numbers::default()))
    }

    /// Text that is a call of one of these functions, in the form that the model's template has for calls.
    ///
    /// # Errors
    /// A form that is not known, and parameters that [`json`](Self::json) refuses.
    pub fn call(&self, tools: &[Value]) -> Result<Grammar, String> {
        let form = self.call_form.get_or_init(|| CallForm::of(&self.tokenizer)).as_ref();
        let form = form.ok_or("the form of this model's calls is not known")?;
        let json = || schema::with_options(&schema::of_call(tools)?);
        let own = |grammar| (TopLevelGrammar::from_lark(grammar), None);
        let of_json = |grammar| (grammar, Some(Numbers::default()));
        let (grammar, numbers) = match form {
            CallForm::Plain => of_json(TopLevelGrammar::from_json_schema(json()?)),
            CallForm::Json { open, close } => of_json(TopLevelGrammar::from_lark(format!(
                "start: {open} \"\\n\" call \"\\n\" {close}\ncall: %json {}",
                json()?
            ))),
            CallForm::Braces { open, close, quote } => {
                own(calls::braces(tools, [open, close], quote)?)
            }
            CallForm::Tags { open, close } => own(calls::tags(tools, [open, close])?),
        };
        self.grammar(grammar, numbers)
    }

    fn grammar(
        &self,
        grammar: TopLevelGrammar,
        numbers: Option<Numbers>,
    ) -> Result<Grammar, String> {
        let factory = self.factory.get_or_init(|| {
            let factory = factory(&self.tokenizer)?;
            let tokens = Arc::new(Tokens::new(&factory, self.tokenizer.stop_ids()));
            Ok((factory, tokens))
        });
        let (factory, tokens) = factory.as_ref().map_err(Clone::clone)?;
        let start = || {
            let mut matcher = Matcher::new(factory.create_parser(grammar));
            // What cannot be satisfied shows with the first token.
            if let Some(error) = matcher.get_error() {
                return Err(shortened(&error));
            }
            let impossible = |error| shortened(&format!("no answer can follow it: {error}"));
            let possible = matcher.compute_mask_or_eos().map_err(impossible);
            possible.map(|_| matcher)
        };
        let matcher = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".into()).stack_size(STACK);
            let thread = thread.spawn_scoped(scope, start).map_err(|error| error.to_string())?;
            thread.join().unwrap_or_else(|_| Err("expected a simpler schema".to_owned()))
        })?;
        Ok(Grammar {
            start: Arc::new(matcher),
            tokens: Arc::clone(tokens),
            numbers,
            reasoning: Reasoning::No,
            failed: Arc::default(),
        })
    }
}

fn factory(tokenizer: &ChatTokenizer) -> Result<ParserFactory, String> {
    let stop_ids = tokenizer.stop_ids();
    let Some(&end) = stop_ids.first() else {
        return Err("this model has no token that ends an answer".to_owned());
    };
    let control = |id: usize| {
        let name = tokenizer.token(u32::try_from(id).unwrap_or(u32::MAX));
        [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
    };
    let tokens = tokenizer.token_bytes().into_iter().enumerate();
    let words: Vec<Vec<u8>> =
        tokens.map(|(id, bytes)| bytes.unwrap_or_else(|| control(id))).collect();
    let count = u32::try_from(words.len()).map_err(|error| error.to_string())?;
    let trie = TokTrie::from(&TokRxInfo::new(count, end), &words).with_eos_tokens(stop_ids);
    let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
    // Its messages quote the whole schema else.
    factory.limits_mut().verbose_errors = false;
    factory.quiet();
    Ok(factory)
}

/// Text in the notation of grammars.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn shortened(message: &str) -> String {
    let line = message.replace(char::is_control, " ");
    match line.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Grammar {
    /// The same, after reasoning.
    pub fn after(self, reasoning: Reasoning) -> Self {
        Self { reasoning, ..self }
    }

    /// What restricts one answer.
    pub fn constraint(&self) -> Box<dyn TokenConstraint> {
        let (matcher, tokens) = (self.start.deep_clone(), Arc::clone(&self.tokens));
        let (numbers, failed) = (self.numbers.clone(), Arc::clone(&self.failed));
        Box::new(Following::new(matcher, tokens, &self.reasoning, numbers, failed))
    }

    /// Whether an answer ended because the grammar could not be followed any further.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("failed", &self.failed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn end() -> u32 {
        ApproximateTokEnv::single_byte_env().tok_trie().eos_token()
    }

    fn following(schema: Value) -> Grammar {
        let environment = ApproximateTokEnv::single_byte_env();
        let factory = ParserFactory::new_simple(&environment).unwrap();
        let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        Grammar {
            start: Arc::new(Matcher::new(parser)),
            tokens: Arc::new(Tokens::new(&factory, &[end()])),
            numbers: Some(Numbers::default()),
            reasoning: Reasoning::No,
            failed: Arc::default(),
        }
    }

    fn allowed(constraint: &mut dyn TokenConstraint) -> Vec<usize> {
        let mut logits = [0.0; 300];
        constraint.restrict(&mut logits);
        (0..logits.len()).filter(|&id| logits[id] == 0.0).collect()
    }

    #[test]
    fn a_grammar_that_fails_ends_its_answer_and_says_so() {
        let grammar = following(json!({ "type": "wizard" }));
        let end = end() as usize;
        assert!(!grammar.has_failed());
        assert_eq!(allowed(&mut *grammar.constraint()), [end]);
        assert!(grammar.has_failed());
    }

    #[test]
    fn answers_of_one_grammar_do_not_share_their_place() {
        let grammar = following(json!({ "const": 17 }));
        let (mut one, mut other) = (grammar.constraint(), grammar.constraint());
        assert_eq!(allowed(&mut *one), [usize::from(b'1')]);
        one.accept(u32::from(b'1'));
        assert_eq!(allowed(&mut *one), [usize::from(b'7')]);
        one.accept(u32::from(b'7'));
        assert_eq!(allowed(&mut *one), [end() as usize]);
        assert_eq!(allowed(&mut *other), [usize::from(b'1')]);
        assert!(!grammar.has_failed());
        other.accept(u32::from(b'x'));
        assert!(grammar.has_failed());
    }

    /// What is written when this byte comes wherever it may, and else the first that may.
    fn longest(schema: Value, preferred: u8) -> String {
        let grammar = following(schema);
        let mut answer = grammar.constraint();
        let mut text = String::new();
        while text.len() < 60 {
            let allowed = allowed(&mut *answer);
            let next = if allowed.contains(&usize::from(preferred)) {
                preferred
            } else {
                match u8::try_from(allowed[0]) {
                    Ok(byte) if usize::from(byte) != end() as usize => byte,
                    _ => return text,
                }
            };
            answer.accept(u32::from(next));
            text.push(char::from(next));
        }
        text
    }

    #[test]
    fn numbers_end_unless_the_schema_demands_more_digits() {
        let number = longest(json!({ "type": "integer" }), b'9');
        assert_eq!(number, "9".repeat(18));
        let demanded = json!({ "const": 123_456_789_012_345_678_901.0_f64 });
        let written = longest(demanded.clone(), b'x');
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), demanded["const"]);
    }

    #[test]
    fn reasoning_comes_before_the_grammar() {
        let grammar = following(json!({ "const": 17 }));
        let say = |answer: &mut dyn TokenConstraint, text: &str| {
            text.bytes().for_each(|byte| answer.accept(u32::from(byte)));
        };
        let opened = grammar.clone().after(Reasoning::Opened("<think>\n".into()));
        let mut answer = opened.constraint();
        let any = allowed(&mut *answer);
        assert!(any.len() > 250 && !any.contains(&(end() as usize)), "{any:?}");
        say(&mut *answer, "1e999 \"</think");
        assert_eq!(allowed(&mut *answer), any);
        say(&mut *answer, ">");
        let next = |byte: u8| usize::from(byte);
        assert_eq!(allowed(&mut *answer), [next(b'\n'), next(b'1')]);
        say(&mut *answer, "\n\n");
        assert_eq!(allowed(&mut *answer), [next(b'1')]);
        say(&mut *answer, "17");
        assert_eq!(allowed(&mut *answer), [end() as usize]);
        // Without a token that opens reasoning there is none.
        let mut answer = grammar.after(Reasoning::Allowed).constraint();
        assert_eq!(allowed(&mut *answer), [next(b'1')]);
    }
}
