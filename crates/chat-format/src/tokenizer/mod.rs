//! A model's tokenizer and chat template as one thing: [`ChatTokenizer`].

mod gguf;
mod hf;
mod markup;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::disguise::Disguise;
use crate::template::{ChatTemplate, TemplateInput};
use crate::{Error, Message, Result, Role, ToolCall};
use markup::Markup;

pub(crate) use markup::Piece;

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
    /// What ends a turn that calls a tool, where the template has a token of its own for that.
    call_stop: Option<u32>,
    /// Whether the template writes the calls of a turn without words only if its content is null.
    null_beside_calls: bool,
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
            call_stop: None,
            null_beside_calls: false,
            date: None,
        };
        this.stop_ids.extend(this.eos_id());
        this.stop_ids.extend(&this.extra_stops);
        this.stop_ids.extend(this.end_of_turn());
        this.stop_ids.sort_unstable();
        this.stop_ids.dedup();
        if this.behind_call().is_none() {
            this.null_beside_calls = true;
            this.null_beside_calls = this.behind_call().is_some();
        }
        this.call_stop = this.end_of_call();
        Ok(this)
    }

    /// The tokens that ask the model for the next assistant turn after `messages`.
    pub fn prompt_tokens(&self, messages: &[Message], options: &RenderOptions) -> Result<Vec<u32>> {
        self.tokens(messages, &options.tools, options, Ending::GenerationPrompt)
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
    pub(crate) fn ends_turn(&self, id: u32) -> bool {
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

    /// Renders messages with the model's template and encodes the result.
    fn tokens(
        &self,
        messages: &[Message],
        tools: &[Value],
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<Vec<u32>> {
        let views = messages.iter().map(|message| self.view_of(message, options)).collect();
        let (mut scene, disguise) = self.hidden(views, tools, 0)?;
        let text = self.render(scene[0].take(), scene[1].take(), options, ending)?;
        Ok(self.encode_rendering(&text, &disguise, &[])?.0)
    }

    /// The template's view of messages and tools (an array of the two), with all text from outside in disguise.
    pub(crate) fn hidden(
        &self,
        views: Vec<Value>,
        tools: &[Value],
        spare: usize,
    ) -> Result<(Value, Disguise)> {
        let outside = Value::Array(vec![Value::Array(views), Value::Array(tools.to_vec())]);
        let source = self.template()?.source();
        let disguise = Disguise::choose(self.markup.guarded(), &outside, source, spare)?;
        Ok((disguise.hide(outside), disguise))
    }

    /// Renders messages whose text is in disguise.
    pub(crate) fn render(
        &self,
        messages: Value,
        tools: Value,
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<String> {
        Ok(self.template()?.render(&TemplateInput {
            tools,
            messages,
            bos_token: self.bos.as_ref().map_or("", |(_, text)| text),
            eos_token: self.eos.as_ref().map_or("", |(_, text)| text),
            add_generation_prompt: ending == Ending::GenerationPrompt,
            enable_thinking: options.thinking == Thinking::On,
            date: options.date.or(self.date).unwrap_or_else(|| jiff::Zoned::now().date()),
        })?)
    }

    /// A rendered text cut at its control tokens.
    pub(crate) fn pieces(&self, text: &str) -> Vec<Piece> {
        self.markup.split(text)
    }

    /// The tokens of a rendered text, and for each of the ascending byte offsets `cuts` the token that begins there. Where
    /// a token would reach over a cut, the text is encoded in two parts, as it is when a model continues a prompt.
    pub(crate) fn encode_rendering(
        &self,
        text: &str,
        disguise: &Disguise,
        cuts: &[usize],
    ) -> Result<(Vec<u32>, Vec<usize>)> {
        let (mut tokens, mut found) = (Vec::new(), Vec::with_capacity(cuts.len()));
        for piece in self.markup.split(text) {
            let inside = |cut: &&usize| **cut < piece.range.end;
            let cuts: Vec<usize> = cuts[found.len()..].iter().take_while(inside).copied().collect();
            match piece.control {
                Some(id) => {
                    found.extend(cuts.iter().map(|_| tokens.len()));
                    tokens.push(id);
                }
                None => {
                    let text = &text[piece.range.clone()];
                    let cuts = cuts.iter().map(|cut| cut.saturating_sub(piece.range.start));
                    // A stand-in may be longer in bytes than what it stands for.
                    let cuts: Vec<usize> =
                        cuts.map(|cut| disguise.reveal(&text[..cut]).len()).collect();
                    self.encode_in_parts(&disguise.reveal(text), &cuts, &mut tokens, &mut found)?;
                }
            }
        }
        found.resize(cuts.len(), tokens.len());
        Ok((tokens, found))
    }

    fn encode_in_parts(
        &self,
        text: &str,
        cuts: &[usize],
        tokens: &mut Vec<u32>,
        found: &mut Vec<usize>,
    ) -> Result<()> {
        let Some((&last, earlier)) = cuts.split_last() else {
            tokens.extend(self.encode(text)?);
            return Ok(());
        };
        let encoding = self.plain.encode(text, false).map_err(|e| self.failed(e))?;
        let offsets = encoding.get_offsets();
        let reaches_over =
            |cut: usize| offsets.iter().any(|&(start, end)| start < cut && cut < end);
        if cuts.iter().any(|&cut| reaches_over(cut)) {
            self.encode_in_parts(&text[..last], earlier, tokens, found)?;
            found.push(tokens.len());
            tokens.extend(self.encode(&text[last..])?);
            return Ok(());
        }
        let at = |&cut: &usize| tokens.len() + offsets.partition_point(|&(start, _)| start < cut);
        found.extend(cuts.iter().map(at));
        tokens.extend(self.checked(encoding.get_ids().to_vec())?);
        Ok(())
    }

    /// What the template writes to ask for an assistant turn, behind a question or behind a tool's result.
    pub(crate) fn generation_prompt(
        &self,
        options: &RenderOptions,
        behind: Role,
    ) -> Result<String> {
        const ID: &str = "call00001";
        let mut messages = vec![Message::user("hello")];
        if behind == Role::Tool {
            let (id, arguments) = (Some(ID.to_owned()), serde_json::json!({ "a": "b" }));
            let call = ToolCall { id: id.clone(), name: "tool".to_owned(), arguments };
            messages.push(Message { tool_calls: vec![call], ..Message::assistant("") });
            let name = Some("tool".to_owned());
            messages.push(Message { tool_call_id: id, name, ..Message::new(Role::Tool, "result") });
        }
        let render = |ending| {
            let views = messages.iter().map(|message| self.view_of(message, options)).collect();
            let (mut scene, _) = self.hidden(views, &[], 0)?;
            self.render(scene[0].take(), scene[1].take(), options, ending)
        };
        let (without, with) = (render(Ending::Complete)?, render(Ending::GenerationPrompt)?);
        let shared = common_prefix(&without, &with);
        // Two control tokens may begin with the same characters.
        let cut = |piece: &Piece| piece.range.start < shared && shared < piece.range.end;
        let control = |piece: &Piece| piece.control.is_some() && cut(piece);
        let shared = self.pieces(&with).into_iter().find(control).map_or(shared, |p| p.range.start);
        Ok(with[shared..].to_owned())
    }

    /// What ends a turn that calls a tool, where that is not what closes the call.
    fn end_of_call(&self) -> Option<u32> {
        let controls = self.behind_call()?;
        (controls.len() > 1).then(|| controls.last().copied()).flatten()
    }

    /// The control tokens behind a call that nothing has answered yet; `None` if the template does not write it.
    fn behind_call(&self) -> Option<Vec<u32>> {
        const WORD: &str = "nightshift";
        let arguments = serde_json::json!({ WORD: WORD });
        let call = ToolCall { id: Some("1".to_owned()), name: WORD.to_owned(), arguments };
        let turn = Message { tool_calls: vec![call], ..Message::assistant("") };
        self.controls_behind(WORD, [Message::user("hello"), turn])
    }

    /// The control token that follows an assistant's words, found by looking at a rendered turn.
    fn end_of_turn(&self) -> Option<u32> {
        const WORD: &str = "nightshift";
        let turns = [Message::user("hello"), Message::assistant(WORD)];
        self.controls_behind(WORD, turns)?.first().copied()
    }

    /// The control tokens behind the last place where a word stands in a rendered conversation.
    fn controls_behind(&self, word: &str, turns: [Message; 2]) -> Option<Vec<u32>> {
        let options = RenderOptions::default();
        let views = turns.iter().map(|turn| self.view_of(turn, &options)).collect();
        let (mut scene, _) = self.hidden(views, &[], 0).ok()?;
        let scene = (scene[0].take(), scene[1].take());
        let text = self.render(scene.0, scene.1, &options, Ending::Complete).ok()?;
        let after = text.rfind(word)? + word.len();
        Some(
            self.pieces(text.get(after..)?).into_iter().filter_map(|piece| piece.control).collect(),
        )
    }

    /// A message as templates expect it: absent parts are absent keys.
    pub(crate) fn view_of(&self, message: &Message, options: &RenderOptions) -> Value {
        let mut view = serde_json::json!({ "role": message.role, "content": message.content });
        if self.null_beside_calls && message.content.is_empty() && !message.tool_calls.is_empty() {
            view["content"] = Value::Null;
        }
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

    fn template(&self) -> Result<&ChatTemplate> {
        self.template
            .as_ref()
            .ok_or_else(|| Error::Missing { path: self.path.clone(), expected: "a chat template" })
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

/// How a rendering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After the last message.
    Complete,
    /// With the header of the assistant's next turn.
    GenerationPrompt,
}

/// How many bytes two texts have in common at their beginning.
pub(crate) fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}
