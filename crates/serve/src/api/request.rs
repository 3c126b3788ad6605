//! What clients ask for, read from the body of a request.

use std::sync::Arc;
use std::time::Instant;

use chat_format::{ChatTokenizer, Conversation, RenderOptions, Thinking, tool_calls};
use models::GenerateOptions;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::Fields;
use crate::answer::{Wanted, leaves_reasoning_open};
use crate::grammar::{Grammar, Grammars, Reasoning};
use crate::options::{Limits, Sampling};
use crate::served::{Catalog, Served};

/// A request for answers, chat or not.
#[derive(Debug)]
pub(crate) struct Request {
    pub served: Arc<Served>,
    pub input: Input,
    pub choices: usize,
    pub sampling: GenerateOptions,
    pub wanted: Wanted,
    /// What the answer must be, if not any text.
    pub form: Option<Form>,
    /// Whether the answer is sent while it is generated.
    pub stream: bool,
    /// Whether a streamed answer ends with its usage.
    pub usage: bool,
    /// For the log of chats.
    pub metadata: Map<String, Value>,
    pub since: Instant,
}

/// What an answer must be.
#[derive(Debug)]
pub(crate) enum Form {
    /// JSON of this schema.
    Json(Value),
    /// A call of one of these functions.
    Call(Vec<Value>),
}

/// What the answer continues.
#[derive(Debug)]
pub(crate) enum Input {
    Chat { chat: Conversation, thinking: Thinking },
    Text(String),
    Tokens(Vec<u32>),
}

/// A prompt as the model sees it.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub tokens: Vec<u32>,
    /// The token that opens the reasoning, if the prompt ends with it.
    pub opened: Option<String>,
}

/// What a request is read with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub catalog: &'a Catalog,
    pub tokenizer: &'a ChatTokenizer,
    pub limits: &'a Limits,
    pub sampling: &'a Sampling,
}

impl Reading<'_> {
    /// A body of `/v1/chat/completions`.
    pub fn chat(&self, body: &[u8]) -> Result<Request, ApiError> {
        let mut fields = Fields::parse(body)?;
        refuse_unsupported(&fields)?;
        for (name, neutral) in [("functions", "`tools`"), ("function_call", "`tool_choice`")] {
            fields.refuse(name, neutral, |_| false)?;
        }
        let text_only = |value: &Value| value.as_array().is_some_and(|kinds| kinds == &["text"]);
        fields.refuse("modalities", r#"["text"]"#, text_only)?;
        fields.refuse("audio", "nothing", |_| false)?;
        fields.refuse("logprobs", "false", |value| value == false)?;
        fields.refuse("top_logprobs", "0", |value| value == 0)?;
        let schema = response_format(&mut fields)?;
        let (tools, forced) = self.tools(&mut fields)?;
        if schema.is_some() && !tools.is_empty() {
            let expected = r#"{"type": "text"} beside `tools`, or `tool_choice` "none""#;
            return Err(ApiError::unsupported("response_format", expected));
        }
        let form = schema.map(Form::Json).or(forced.map(Form::Call));
        let chat = self.conversation(&mut fields, tools)?;
        let one_call = fields.flag("parallel_tool_calls")? == Some(false);
        let wanted = Wanted {
            tools: chat.tools.clone().into(),
            one_call,
            reasoning: true,
            ..Wanted::default()
        };
        let thinking = thinking(&fields)?;
        let request = self.finish(fields, Input::Chat { chat, thinking }, wanted)?;
        Ok(Request { form, ..request })
    }

    /// A body of `/v1/completions`.
    pub fn completion(&self, body: &[u8]) -> Result<Request, ApiError> {
        let mut fields = Fields::parse(body)?;
        refuse_unsupported(&fields)?;
        fields.refuse("echo", "false", |value| value == false)?;
        fields.refuse("suffix", "nothing", |value| value == "")?;
        fields.refuse("logprobs", "nothing", |_| false)?;
        let n = fields.count("n", 1..=self.limits.choices)?.unwrap_or(1);
        fields.refuse("best_of", "the value of n", |value| value == n)?;
        let expected = "a text, or a list of tokens";
        let prompt = fields.take("prompt").unwrap_or_default();
        let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let input = match &prompt {
            Value::String(text) => Input::Text(text.clone()),
            Value::Array(items) => match &items[..] {
                [Value::String(text)] => Input::Text(text.clone()),
                items => {
                    // Of a list of prompts, one is supported.
                    let items = match items {
                        [Value::Array(only)] => only.as_slice(),
                        items => items,
                    };
                    let tokens: Option<Vec<u32>> = items.iter().map(token).collect();
                    let tokens = tokens.filter(|tokens| !tokens.is_empty());
                    Input::Tokens(
                        tokens.ok_or_else(|| ApiError::field("prompt", expected, &prompt))?,
                    )
                }
            },
            other => return Err(ApiError::field("prompt", expected, other)),
        };
        self.finish(fields, input, Wanted::default())
    }

    /// What both kinds of request have.
    fn finish(
        &self,
        mut fields: Fields,
        input: Input,
        wanted: Wanted,
    ) -> Result<Request, ApiError> {
        let name = fields.text("model")?;
        let served = self.catalog.find(name.as_deref()).ok_or_else(|| {
            ApiError::model(name.as_deref().unwrap_or_default(), &self.catalog.names())
        })?;
        let Sampling { temperature, top_p, max_tokens } = *self.sampling;
        let most = match fields.count("max_completion_tokens", 1..=usize::MAX)? {
            Some(most) => Some(most),
            None => fields.count("max_tokens", 1..=usize::MAX)?,
        };
        let temperature_given = fields.number("temperature", 0.0..=2.0)?.map(|t| t as f32);
        let sampling = GenerateOptions {
            max_tokens: most.unwrap_or(max_tokens),
            temperature: temperature_given.unwrap_or(temperature),
            top_p: fields.number("top_p", 0.0..=1.0)?.map_or(top_p, |top_p| top_p as f32),
            top_k: fields.count("top_k", 0..=usize::MAX)?.unwrap_or(0),
            seed: fields.seed("seed")?.unwrap_or_else(fresh_seed),
            stop_ids: self.tokenizer.stop_ids().to_vec(),
            ..GenerateOptions::default()
        };
        let stream = fields.flag("stream")?.unwrap_or_default();
        if !stream && fields.get("stream_options").is_some() {
            return Err(ApiError::unsupported("stream_options", "nothing without `stream`"));
        }
        let usage = fields.get("stream_options").and_then(|options| options.get("include_usage"));
        Ok(Request {
            served,
            input,
            choices: fields.count("n", 1..=self.limits.choices)?.unwrap_or(1),
            sampling,
            wanted: Wanted { stop: fields.texts("stop", 4)?, ..wanted },
            form: None,
            stream,
            usage: usage.and_then(Value::as_bool).unwrap_or_default(),
            metadata: match fields.take("metadata") {
                None => Map::new(),
                Some(Value::Object(metadata)) => metadata,
                Some(other) => return Err(ApiError::field("metadata", "an object", &other)),
            },
            since: Instant::now(),
        })
    }

    /// The tools, and those of which one must be called, if any must.
    fn tools(&self, fields: &mut Fields) -> Result<(Vec<Value>, Option<Vec<Value>>), ApiError> {
        let tools = match fields.take("tools") {
            None => Vec::new(),
            Some(Value::Array(tools)) => tools,
            Some(other) => return Err(ApiError::field("tools", "a list of functions", &other)),
        };
        if let Some((index, tool)) =
            tools.iter().enumerate().find(|(_, tool)| name_of(tool).is_none())
        {
            let param = format!("tools[{index}]");
            return Err(ApiError::field(&param, "a function with a name", tool));
        }
        let Some(choice) = fields.get("tool_choice") else { return Ok((tools, None)) };
        let forced: Vec<Value> = match choice.as_str() {
            Some("auto") => return Ok((tools, None)),
            Some("none") => return Ok((Vec::new(), None)),
            Some("required") => tools.clone(),
            _ => {
                let name = choice["function"]["name"].as_str().or(choice["name"].as_str());
                let is_meant = |tool: &&Value| name.is_some() && name_of(tool) == name;
                tools.iter().filter(is_meant).cloned().collect()
            }
        };
        if forced.is_empty() {
            let expected = r#""auto", "none", "required" or the name of one of `tools`"#;
            return Err(ApiError::field("tool_choice", expected, choice));
        }
        Ok((tools, Some(forced)))
    }

    fn conversation(
        &self,
        fields: &mut Fields,
        tools: Vec<Value>,
    ) -> Result<Conversation, ApiError> {
        let messages = fields.take("messages").unwrap_or_default();
        let count = messages.as_array().map_or(0, Vec::len);
        if count > self.limits.messages {
            let expected = format!("at most {} messages", self.limits.messages);
            return Err(ApiError::field("messages", &expected, &messages));
        }
        let row = json!({ "messages": messages, "tools": tools });
        Conversation::try_from(row).map_err(|problem| {
            let message = problem.to_string();
            ApiError::of_param(&problem.field, message)
        })
    }
}

impl Request {
    /// Renders and encodes the prompt. Takes time in proportion to its length.
    pub fn render(&self, tokenizer: &ChatTokenizer, limits: &Limits) -> Result<Rendered, ApiError> {
        let failed = |error: chat_format::Error| ApiError::of_param("messages", error.to_string());
        let rendered = match &self.input {
            Input::Chat { chat, thinking } => {
                let options =
                    RenderOptions::default().thinking(*thinking).tools(chat.tools.clone());
                let tokens = tokenizer.prompt_tokens(&chat.messages, &options).map_err(failed)?;
                let opened = opened_reasoning(tokenizer, &tokens);
                Rendered { tokens, opened }
            }
            Input::Text(text) => {
                let mut tokens = tokenizer.text_tokens(text).map_err(failed)?;
                // The end of text is for training.
                if tokens.last().copied() == tokenizer.eos_id() {
                    tokens.pop();
                }
                Rendered { tokens, opened: None }
            }
            Input::Tokens(tokens) => {
                let size = tokenizer.vocab_size();
                if let Some(token) = tokens.iter().find(|&&token| token as usize >= size) {
                    let expected = format!("tokens below {size}");
                    return Err(ApiError::field("prompt", &expected, &Value::from(*token)));
                }
                Rendered { tokens: tokens.clone(), opened: None }
            }
        };
        let count = rendered.tokens.len();
        if count >= limits.context_tokens {
            return Err(ApiError::context(count, limits.context_tokens));
        }
        if count == 0 {
            return Err(ApiError::of_param(
                "prompt",
                "prompt: expected at least one token, found none",
            ));
        }
        Ok(rendered)
    }
}

impl Request {
    /// What the answers must follow, if anything.
    pub fn grammar(
        &self,
        rendered: &Rendered,
        grammars: &Grammars,
    ) -> Result<Option<Grammar>, ApiError> {
        let Some(form) = &self.form else { return Ok(None) };
        let (field, grammar) = match form {
            Form::Json(schema) => (SCHEMA, grammars.json(schema)),
            Form::Call(tools) => ("tool_choice", grammars.call(tools)),
        };
        let refused = |problem: String| ApiError::of_param(field, format!("{field}: {problem}"));
        let grammar = grammar.map_err(refused)?;
        Ok(Some(grammar.after(match (&rendered.opened, &self.input) {
            (Some(text), _) => Reasoning::Opened(text.clone()),
            (None, Input::Chat { thinking: Thinking::On, .. }) => Reasoning::Allowed,
            _ => Reasoning::No,
        })))
    }
}

const SCHEMA: &str = "response_format.json_schema.schema";

/// The schema that the answer must have, if it must be JSON.
fn response_format(fields: &mut Fields) -> Result<Option<Value>, ApiError> {
    let Some(format) = fields.take("response_format") else { return Ok(None) };
    match format["type"].as_str() {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({ "type": "object" }))),
        Some("json_schema") => match &format["json_schema"]["schema"] {
            schema @ Value::Object(_) => Ok(Some(schema.clone())),
            other => Err(ApiError::field(SCHEMA, "a JSON schema", other)),
        },
        _ => {
            let expected = "`text`, `json_object` or `json_schema`";
            Err(ApiError::field("response_format.type", expected, &format["type"]))
        }
    }
}

/// What OpenAI's interface has and this server does not, for both kinds of request. Ignoring it would
/// change answers silently.
fn refuse_unsupported(fields: &Fields) -> Result<(), ApiError> {
    let zero = |value: &Value| value.as_f64() == Some(0.0);
    let one = |value: &Value| value.as_f64() == Some(1.0);
    fields.refuse("frequency_penalty", "0", zero)?;
    fields.refuse("presence_penalty", "0", zero)?;
    fields.refuse("repetition_penalty", "1", one)?;
    fields.refuse("min_p", "0", zero)?;
    // As other servers restrict answers, and what only OpenAI's models have.
    let guided = ["grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar"];
    for name in guided {
        fields.refuse(name, "`response_format`", |_| false)?;
    }
    fields.refuse("web_search_options", "nothing", |_| false)?;
    let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    fields.refuse("logit_bias", "{}", empty)
}

/// Whether the model shall think: `chat_template_kwargs.enable_thinking`, or `reasoning_effort`.
fn thinking(fields: &Fields) -> Result<Thinking, ApiError> {
    let enabled =
        fields.get("chat_template_kwargs").and_then(|options| options.get("enable_thinking"));
    let thinks = match (enabled, fields.text("reasoning_effort")?) {
        (Some(Value::Bool(enabled)), _) => *enabled,
        (Some(other), _) => {
            let param = "chat_template_kwargs.enable_thinking";
            return Err(ApiError::field(param, "true or false", other));
        }
        (None, Some(effort)) => effort != "none",
        (None, None) => false,
    };
    Ok(if thinks { Thinking::On } else { Thinking::Off })
}

/// The name of the function that a tool declares.
fn name_of(tool: &Value) -> Option<&str> {
    tool_calls::function(tool).get("name")?.as_str().filter(|name| !name.is_empty())
}

/// The token that opens the reasoning, if a prompt ends with it.
fn opened_reasoning(tokenizer: &ChatTokenizer, prompt: &[u32]) -> Option<String> {
    // Enough for `<think>` and white space after it in bytes, if the vocabulary has no token for it.
    const MOST: usize = 16;
    let tail = prompt.get(prompt.len().saturating_sub(MOST)..)?;
    (1..=tail.len()).find_map(|length| {
        let ids = &tail[tail.len() - length..];
        let text: String = ids
            .iter()
            .map(|&id| match tokenizer.is_control(id) {
                true => tokenizer.token(id),
                false => tokenizer.decode(&[id]).unwrap_or_default(),
            })
            .collect();
        (!text.starts_with(char::is_whitespace) && leaves_reasoning_open(&text)).then_some(text)
    })
}

fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
