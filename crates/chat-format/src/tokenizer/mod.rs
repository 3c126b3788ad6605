//! A model's tokenizer and chat template as one thing: [`ChatTokenizer`].

mod gguf;
mod hf;
mod markup;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::disguise::Disguise;
use crate::template::{ChatTemplate, TemplateInput};
use crate::{Error, Message, Result, Role};
use markup::{Markup, Piece};

/// Whether the model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Thinking {
    /// It answers at once. Reasoning in the data is not rendered.
    #[default]
    Off,
    /// It thinks first. Reasoning in the data is rendered if the template supports it.
    On,
}

/// How conversations are rendered.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RenderOptions {
    /// Whether the model thinks before it answers. Off by default.
    pub thinking: Thinking,
    /// Declarations of the functions the model may call, as JSON schemas. Those of a
    /// [`Conversation`](crate::Conversation) replace them.
    pub tools: Vec<Value>,
    /// The date for templates that print one; today by default.
    pub date: Option<jiff::civil::Date>,
}

impl RenderOptions {
    /// Sets whether the model thinks before it answers.
    pub fn thinking(self, thinking: Thinking) -> Self {
        RenderOptions { thinking, ..self }
    }

    /// Sets the declarations of the functions the model may call.
    pub fn tools(self, tools: Vec<Value>) -> Self {
        RenderOptions { tools, ..self }
    }

    /// Sets the date for templates that print one.
    pub fn date(self, date: jiff::civil::Date) -> Self {
        RenderOptions { date: Some(date), ..self }
    }
}

/// Text to tokens and back, for one model, by its own vocabulary and its own chat template.
///
/// Control tokens in what it returns were always put there by the template: text from outside is encoded as plain text
/// even where it spells one.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    path: PathBuf,
    /// With every control token switched off.
    plain: Tokenizer,
    markup: Markup,
    template: Option<ChatTemplate>,
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
    adds_bos: bool,
    extra_stops: Vec<u32>,
    stop_ids: Vec<u32>,
}

/// What the two kinds of model file yield.
struct Parts {
    tokenizer: Tokenizer,
    template: Option<String>,
    bos: Option<u32>,
    eos: Option<u32>,
    adds_bos: bool,
    /// Ids besides `eos` that the model's files say end an answer.
    stops: Vec<u32>,
}

impl ChatTokenizer {
    /// Opens the tokenizer of a model: a `.gguf` file, or a folder with `tokenizer.json` and the chat template in
    /// `chat_template.jinja` or `tokenizer_config.json`.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        let path = model.as_ref();
        let parts = if path.is_dir() { hf::read(path)? } else { gguf::read(path)? };
        Self::assemble(path.to_owned(), parts)
    }

    /// The same tokenizer with another chat template.
    pub fn with_template(self, source: &str) -> Result<Self> {
        let parts = Parts {
            tokenizer: self.plain,
            template: Some(source.to_owned()),
            bos: self.bos.map(|(id, _)| id),
            eos: self.eos.map(|(id, _)| id),
            adds_bos: self.adds_bos,
            stops: self.extra_stops,
        };
        Self::assemble(self.path, parts)
    }

    fn assemble(path: PathBuf, parts: Parts) -> Result<Self> {
        let Parts { mut tokenizer, template, bos, eos, adds_bos, stops: extra_stops } = parts;
        let template = template.as_deref().map(ChatTemplate::new).transpose()?;
        let source = template.as_ref().map_or("", ChatTemplate::source);
        let markup = Markup::find(&mut tokenizer, source)
            .map_err(|reason| Error::Tokenizer { path: path.clone(), reason })?;
        let named = |id: Option<u32>| id.and_then(|id| Some((id, tokenizer.id_to_token(id)?)));
        let (bos, eos) = (named(bos), named(eos));
        let mut this = ChatTokenizer {
            path,
            plain: tokenizer,
            markup,
            template,
            bos,
            eos,
            adds_bos,
            extra_stops,
            stop_ids: Vec::new(),
        };
        this.stop_ids.extend(this.eos_id());
        this.stop_ids.extend(&this.extra_stops);
        this.stop_ids.extend(this.end_of_turn());
        this.stop_ids.sort_unstable();
        this.stop_ids.dedup();
        Ok(this)
    }

    /// The tokens that ask the model for the next assistant turn after `messages`.
    pub fn prompt_tokens(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<u32>> {
        self.tokens(messages, &options.tools, options, Ending::GenerationPrompt)
    }

    /// `text` as tokens, none of them a control token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = |error: tokenizers::Error| Error::Tokenizer {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let tokens = self.plain.encode_fast(text, false).map_err(tokenizer)?.get_ids().to_vec();
        match tokens.iter().find(|&&id| self.markup.contains(id)) {
            None => Ok(tokens),
            Some(&id) => Err(Error::ControlToken { token: self.token(id), id }),
        }
    }

    /// A plain text as a training row's tokens: the beginning-of-text token where the model wants one, the text, and the
    /// end-of-text token.
    pub fn text_tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens: Vec<u32> = self.bos_id().filter(|_| self.adds_bos).into_iter().collect();
        tokens.extend(self.encode(text)?);
        tokens.extend(self.eos_id());
        Ok(tokens)
    }

    /// Tokens as text, control tokens left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.plain
            .decode(tokens, true)
            .map_err(|e| Error::Tokenizer { path: self.path.clone(), reason: e.to_string() })
    }

    /// One token as it is written in the vocabulary.
    pub fn token(&self, id: u32) -> String {
        self.plain.id_to_token(id).unwrap_or_else(|| format!("[{id}]"))
    }

    /// Whether `id` is a control token: marked so in the vocabulary, or written by the template.
    pub fn is_control(&self, id: u32) -> bool {
        self.markup.contains(id)
    }

    /// The ids that end an answer: end of text, and the end of a turn as the template writes it.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// How many tokens the vocabulary has.
    pub fn vocab_size(&self) -> usize {
        self.plain.get_vocab_size(true)
    }

    /// The end-of-text token.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos.as_ref().map(|(id, _)| *id)
    }

    /// The beginning-of-text token.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos.as_ref().map(|(id, _)| *id)
    }

    /// Renders messages with the model's template and encodes the result.
    pub(crate) fn tokens(
        &self,
        messages: &[Message],
        tools: &[Value],
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<Vec<u32>> {
        let (text, disguise) = self.render(messages, tools, options, ending)?;
        let mut tokens = Vec::new();
        for piece in self.markup.split(&text) {
            match piece {
                Piece::Control(id) => tokens.push(id),
                Piece::Text(range) => tokens.extend(self.encode(&disguise.reveal(&text[range]))?),
            }
        }
        Ok(tokens)
    }

    fn render(
        &self,
        messages: &[Message],
        tools: &[Value],
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<(String, Disguise)> {
        let template = self.template.as_ref().ok_or_else(|| Error::Missing {
            path: self.path.clone(),
            expected: "a chat template",
        })?;
        let messages = messages.iter().map(|message| template_view(message, options)).collect();
        let outside = Value::Array(vec![Value::Array(messages), Value::Array(tools.to_vec())]);
        let disguise = Disguise::choose(self.markup.guarded(), &outside, template.source())?;
        let mut hidden = disguise.hide(outside);
        let text = template.render(&TemplateInput {
            tools: hidden[1].take(),
            messages: hidden[0].take(),
            bos_token: self.bos.as_ref().map_or("", |(_, text)| text),
            eos_token: self.eos.as_ref().map_or("", |(_, text)| text),
            add_generation_prompt: ending == Ending::GenerationPrompt,
            enable_thinking: options.thinking == Thinking::On,
            date: options.date.unwrap_or_else(|| jiff::Zoned::now().date()),
        })?;
        Ok((text, disguise))
    }

    /// The control token that follows an assistant's words, found by looking at a rendered turn.
    fn end_of_turn(&self) -> Option<u32> {
        const WORD: &str = "nightshift";
        let turns = [Message::user("hello"), Message::assistant(WORD)];
        let rendered = self.render(&turns, &[], &RenderOptions::default(), Ending::Complete);
        let (text, _) = rendered.ok()?;
        let after = text.rfind(WORD)? + WORD.len();
        self.markup.split(text.get(after..)?).into_iter().find_map(|piece| match piece {
            Piece::Control(id) => Some(id),
            Piece::Text(_) => None,
        })
    }
}

/// How a rendering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After the last message.
    Complete,
    /// With the header of the assistant's next turn.
    GenerationPrompt,
}

/// A message as templates expect it: absent parts are absent keys.
fn template_view(message: &Message, options: &RenderOptions) -> Value {
    let mut view = serde_json::json!({ "role": message.role, "content": message.content });
    let keep_reasoning = options.thinking == Thinking::On && message.role == Role::Assistant;
    if let (true, Some(reasoning)) = (keep_reasoning, &message.reasoning_content) {
        view["reasoning_content"] = reasoning.clone().into();
    }
    if !message.tool_calls.is_empty() {
        view["tool_calls"] = serde_json::json!(message.tool_calls);
    }
    if let Some(name) = &message.name {
        view["name"] = name.clone().into();
    }
    if let Some(id) = &message.tool_call_id {
        view["tool_call_id"] = id.clone().into();
    }
    view
}

/// The longest common beginning of two token sequences.
pub(crate) fn common_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
