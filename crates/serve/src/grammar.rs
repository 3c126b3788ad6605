//! Answers that follow a grammar: JSON of a schema, or a call of a function.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use chat_format::{ChatTokenizer, Message, RenderOptions, ToolCall};
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use models::TokenConstraint;
use serde_json::{Map, Value, json};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

/// White space between the parts of a JSON value: enough for indented text, but not for ever.
const WHITE_SPACE: &str = r"[ \n]{0,20}";
/// The most characters of a message about a schema.
const MESSAGE: usize = 300;
/// The most values in a schema, its deepest nesting, and the most keys of an object: the library recurses over them.
const VALUES: usize = 5_000;
const DEPTH: usize = 64;
const KEYS: usize = 200;
/// For that recursion, in bytes; of a thread that makes grammars, and of one that follows them.
pub(crate) const STACK: usize = 64 << 20;

/// Makes grammars for the vocabulary of a model.
pub(crate) struct Grammars {
    tokenizer: Arc<ChatTokenizer>,
    /// Made for the first request that needs it.
    factory: OnceLock<Result<ParserFactory, String>>,
    call_form: OnceLock<Option<CallForm>>,
}

/// How a model writes a call.
enum CallForm {
    /// A JSON object with `name` and `arguments`, and nothing else.
    Plain,
    /// The same between two marks, each on a line: in the notation of grammars.
    Marked { open: String, close: String },
}

impl CallForm {
    /// The form that the chat template has, if it is one of these.
    fn of(tokenizer: &ChatTokenizer) -> Option<Self> {
        const CALL: &str = r#"{"name": "probe", "arguments": {"a": "b"}}"#;
        const MARKS: [&str; 2] = ["<tool_call>", "</tool_call>"];
        if !tokenizer.tool_forms().calls {
            return Some(Self::Plain);
        }
        let call = ToolCall::new("probe", Map::from_iter([("a".to_owned(), json!("b"))]));
        let mut called = Message::assistant("");
        called.tool_calls.push(call);
        let chat = [Message::user("?"), called, Message::user("?")];
        let prompt = tokenizer.prompt_tokens(&chat, &RenderOptions::default()).ok()?;
        let written = |&id: &u32| match tokenizer.is_control(id) {
            true => tokenizer.token(id),
            false => tokenizer.decode(&[id]).unwrap_or_default(),
        };
        let text: String = prompt.iter().map(written).collect();
        let [open, close] = MARKS.map(|mark| mark_of(tokenizer, mark));
        let marked = format!("{}\n{CALL}\n{}", MARKS[0], MARKS[1]);
        text.contains(&marked).then_some(Self::Marked { open, close })
    }
}

/// A mark in the notation of grammars: a control token by its id, or text.
fn mark_of(tokenizer: &ChatTokenizer, mark: &str) -> String {
    let ids = 0..u32::try_from(tokenizer.vocab_size()).unwrap_or(u32::MAX);
    let mut ids = ids.filter(|&id| tokenizer.is_control(id) && tokenizer.token(id) == mark);
    ids.next().map_or_else(|| format!("\"{mark}\""), |id| format!("<[{id}]>"))
}

/// A schema for a call of one of these functions.
fn call_schema(tools: &[Value]) -> Result<Value, String> {
    let (mut calls, mut shared) = (Vec::new(), Map::new());
    for tool in tools {
        let function = tool.get("function").unwrap_or(tool);
        let mut parameters = function.get("parameters").cloned().unwrap_or_else(|| json!({}));
        // References are from the root of the document.
        for key in ["$defs", "definitions"] {
            let Some(Value::Object(own)) = parameters.as_object_mut().and_then(|it| it.remove(key))
            else {
                continue;
            };
            let all = shared.entry(key).or_insert_with(|| json!({}));
            for (name, definition) in own {
                if all.get(&name).is_some_and(|other| *other != definition) {
                    return Err(format!("expected one {key}.{name} in all tools, found two"));
                }
                all[name] = definition;
            }
        }
        if parameters == json!({}) {
            parameters = json!({ "type": "object" });
        }
        calls.push(json!({
            "type": "object", "additionalProperties": false, "required": ["name", "arguments"],
            "properties": { "name": { "const": function["name"] }, "arguments": parameters },
        }));
    }
    shared.insert("anyOf".to_owned(), Value::Array(calls));
    Ok(Value::Object(shared))
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
        self.grammar(TopLevelGrammar::from_json_schema(with_options(schema)?))
    }

    /// Text that is a call of one of these functions, in the form that the model's template has for calls.
    ///
    /// # Errors
    /// A form that is not known, and parameters that [`json`](Self::json) refuses.
    pub fn call(&self, tools: &[Value]) -> Result<Grammar, String> {
        let form = self.call_form.get_or_init(|| CallForm::of(&self.tokenizer)).as_ref();
        let form = form.ok_or("the form of this model's calls is not known")?;
        let schema = with_options(&call_schema(tools)?)?;
        self.grammar(match form {
            CallForm::Plain => TopLevelGrammar::from_json_schema(schema),
            CallForm::Marked { open, close } => TopLevelGrammar::from_lark(format!(
                "start: {open} \"\\n\" call \"\\n\" {close}\ncall: %json {schema}"
            )),
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

/// Refuses a schema that is too large.
fn check_size(schema: &Value) -> Result<(), String> {
    let (mut rest, mut count) = (vec![(schema, 1)], 0);
    while let Some((value, depth)) = rest.pop() {
        count += 1;
        let keys = value.as_object().map_or(0, Map::len);
        for (most, found, what) in
            [(VALUES, count, "values"), (DEPTH, depth, "levels"), (KEYS, keys, "keys in an object")]
        {
            if found > most {
                return Err(format!("expected a schema of at most {most} {what}, found more"));
            }
        }
        match value {
            Value::Object(fields) => rest.extend(fields.values().map(|inner| (inner, depth + 1))),
            Value::Array(items) => rest.extend(items.iter().map(|inner| (inner, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// The schema with our choices where it may have options of the library.
fn with_options(schema: &Value) -> Result<Value, String> {
    check_size(schema)?;
    let mut schema = match schema {
        Value::Object(schema) => schema.clone(),
        Value::Bool(true) => Map::new(),
        _ => return Err("expected a schema: an object, or true".to_owned()),
    };
    let options = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE });
    schema.insert("x-guidance".to_owned(), options);
    Ok(Value::Object(schema))
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
