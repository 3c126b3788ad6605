//! Answers that follow a grammar: JSON of a schema, or a call of a function.

mod calls;
mod form;
mod leaves;
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

use form::CallForm;

/// The most characters of a message about a schema.
const MESSAGE: usize = 300;
/// The stack of a thread that makes grammars, and of one that follows them, in bytes: the library recurses over schemas.
pub(crate) const STACK: usize = 64 << 20;

/// Makes grammars for the vocabulary of a model.
pub(crate) struct Grammars {
    tokenizer: Arc<ChatTokenizer>,
    /// Made for the first request that needs it.
    factory: OnceLock<Result<ParserFactory, String>>,
    call_form: OnceLock<Option<CallForm>>,
}

/// A grammar for the answers to one request.
#[derive(Clone)]
pub(crate) struct Grammar {
    start: Arc<Matcher>,
    stop_ids: Arc<[u32]>,
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
        self.grammar(TopLevelGrammar::from_json_schema(schema::with_options(schema)?))
    }

    /// Text that is a call of one of these functions, in the form that the model's template has for calls.
    ///
    /// # Errors
    /// A form that is not known, and parameters that [`json`](Self::json) refuses.
    pub fn call(&self, tools: &[Value]) -> Result<Grammar, String> {
        let form = self.call_form.get_or_init(|| CallForm::of(&self.tokenizer)).as_ref();
        let form = form.ok_or("the form of this model's calls is not known")?;
        let json = || schema::with_options(&schema::of_call(tools)?);
        self.grammar(match form {
            CallForm::Plain => TopLevelGrammar::from_json_schema(json()?),
            CallForm::Json { open, close } => TopLevelGrammar::from_lark(format!(
                "start: {open} \"\\n\" call \"\\n\" {close}\ncall: %json {}",
                json()?
            )),
            CallForm::Braces { open, close, quote } => {
                TopLevelGrammar::from_lark(calls::braces(tools, [open, close], quote)?)
            }
            CallForm::Tags { open, close } => {
                TopLevelGrammar::from_lark(calls::tags(tools, [open, close])?)
            }
        })
    }

    fn grammar(&self, grammar: TopLevelGrammar) -> Result<Grammar, String> {
        let factory = self.factory.get_or_init(|| factory(&self.tokenizer));
        let factory = factory.as_ref().map_err(Clone::clone)?;
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
            stop_ids: self.tokenizer.stop_ids().into(),
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
    /// What restricts one answer.
    pub fn constraint(&self) -> Box<dyn TokenConstraint> {
        Box::new(Following {
            matcher: self.start.deep_clone(),
            stop_ids: Arc::clone(&self.stop_ids),
            failed: Arc::clone(&self.failed),
        })
    }

    /// Whether an answer ended because the grammar could not be followed any further.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

/// The place in the grammar after the tokens of one answer.
struct Following {
    matcher: Matcher,
    stop_ids: Arc<[u32]>,
    failed: Arc<AtomicBool>,
}

impl TokenConstraint for Following {
    fn restrict(&mut self, logits: &mut [f32]) {
        let mask = self.matcher.compute_mask_or_eos();
        if let Err(error) = &mask {
            // The answer ends here, and is told to have failed.
            tracing::warn!("a grammar cannot be followed: {error}");
            self.failed.store(true, Relaxed);
        }
        for (id, logit) in (0..).zip(logits) {
            let allowed = match &mask {
                Ok(mask) => (id as usize) < mask.len() && mask.is_allowed(id),
                Err(_) => self.stop_ids.contains(&id),
            };
            if !allowed {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn accept(&mut self, token: u32) {
        if !self.matcher.is_stopped() && self.matcher.consume_token(token).is_err() {
            self.failed.store(true, Relaxed);
        }
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

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn following(schema: Value) -> Grammar {
        let environment = ApproximateTokEnv::single_byte_env();
        let factory = ParserFactory::new_simple(&environment).unwrap();
        let end = environment.tok_trie().eos_token();
        let parser = factory.create_parser(TopLevelGrammar::from_json_schema(schema));
        Grammar {
            start: Arc::new(Matcher::new(parser)),
            stop_ids: [end].into(),
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
        let end = grammar.stop_ids[0] as usize;
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
        assert_eq!(allowed(&mut *one), [grammar.stop_ids[0] as usize]);
        assert_eq!(allowed(&mut *other), [usize::from(b'1')]);
        assert!(!grammar.has_failed());
        other.accept(u32::from(b'x'));
        assert!(grammar.has_failed());
    }
}
