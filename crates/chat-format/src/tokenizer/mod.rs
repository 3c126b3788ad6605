//! A model's tokenizer and chat template as one thing: [`ChatTokenizer`].

mod gguf;
mod hf;
mod markup;
mod probe;
mod rendering;
mod text_controls;
mod token_bytes;
mod tools;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::template::ChatTemplate;
use crate::{Conversation, Error, Message, Result};
use markup::Markup;

pub(crate) use markup::Piece;
pub(crate) use rendering::{Ending, common_prefix};
use text_controls::TextControls;
pub use tools::ToolForms;

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
    /// The date for templates that print one. Absent: the tokenizer's ([`ChatTokenizer::with_date`]), else today's.
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
/// even where it spells one. What a template writes as plain text to control the model (`[INST]` under Llama 2's) is encoded
/// with other tokens where a text from outside spells it, and decodes to the same characters.
#[derive(Debug, Clone)]
pub struct ChatTokenizer {
    path: PathBuf,
    /// With every control token switched off.
    plain: Tokenizer,
    markup: Markup,
    /// What the template writes as plain text to control the model.
    text_controls: TextControls,
    template: Option<ChatTemplate>,
    bos: Option<(u32, String)>,
    eos: Option<(u32, String)>,
    adds_bos: bool,
    extra_stops: Vec<u32>,
    stop_ids: Vec<u32>,
    /// What ends a turn that calls a tool, where the template has a token of its own for that.
    call_stop: Option<u32>,
    /// Whether the template writes the calls of a turn without words only if its content is null.
    null_beside_calls: bool,
    /// What the template writes of tools.
    tool_forms: ToolForms,
    /// The date for templates that print one, where [`RenderOptions`] have none.
    date: Option<jiff::civil::Date>,
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

    /// The same tokenizer with a fixed date for templates that print one. Without it they print today's: what is trained, and
    /// what is asked in an exam, would then differ from one day to the next.
    pub fn with_date(self, date: jiff::civil::Date) -> Self {
        ChatTokenizer { date: Some(date), ..self }
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
        Ok(ChatTokenizer { date: self.date, ..Self::assemble(self.path, parts)? })
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
            text_controls: TextControls::default(),
            template,
            bos,
            eos,
            adds_bos,
            extra_stops,
            stop_ids: Vec::new(),
            call_stop: None,
            null_beside_calls: false,
            tool_forms: ToolForms::default(),
            date: None,
        };
        let controls = TextControls::find(&this.scaffold(), &this.plain);
        this.text_controls = controls.map_err(|error| this.failed(error))?;
        this.stop_ids.extend(this.eos_id());
        this.stop_ids.extend(&this.extra_stops);
        let end_of_turn = this.after_words().and_then(|controls| controls.first().copied());
        this.stop_ids.extend(end_of_turn);
        this.stop_ids.sort_unstable();
        this.stop_ids.dedup();
        let mut after_call = this.after_call();
        if after_call.is_none() {
            this.null_beside_calls = true;
            after_call = this.after_call();
            this.null_beside_calls = after_call.is_some();
        }
        this.tool_forms = this.probe_tool_forms(after_call.is_some());
        // The first token closes the call; the turn ends with a further one, if there is one.
        this.call_stop = after_call.and_then(|controls| controls.get(1..)?.last().copied());
        Ok(this)
    }

    /// The tokens that ask the model for the next assistant turn after `messages`.
    pub fn prompt_tokens(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<u32>> {
        let chat =
            Conversation { tools: options.tools.clone(), ..Conversation::new(messages.to_vec()) };
        let chat = self.with_written_tools(&chat, options);
        let (text, disguise) =
            self.rendered(&chat.messages, &chat.tools, options, Ending::GenerationPrompt)?;
        Ok(self.encode_rendering(&text, &disguise, &[])?.0)
    }

    /// `text` as tokens, none of them a control token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.plain.encode_fast(text, false).map_err(|e| self.failed(e))?;
        self.checked(encoding.get_ids().to_vec())
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
        self.plain.decode(tokens, true).map_err(|e| self.failed(e))
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

    /// Whether a token ends an assistant's turn, or a part of one that waits for a tool.
    pub fn ends_turn(&self, id: u32) -> bool {
        self.stop_ids.contains(&id) || self.call_stop == Some(id)
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

    fn failed(&self, error: tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }

    fn checked(&self, tokens: Vec<u32>) -> Result<Vec<u32>> {
        match tokens.iter().find(|&&id| self.markup.contains(id)) {
            None => Ok(tokens),
            Some(&id) => Err(Error::ControlToken { token: self.token(id), id }),
        }
    }
}
