//! Messages rendered with the model's template, and renderings encoded.

use serde_json::Value;

use super::text_controls::Placed;
use super::{ChatTokenizer, Piece, RenderOptions, Thinking};
use crate::disguise::Disguise;
use crate::template::{ChatTemplate, TemplateInput};
use crate::{Error, Message, Result, Role};

/// How a rendering ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// After the last message.
    Complete,
    /// With the header of the assistant's next turn.
    GenerationPrompt,
}

impl ChatTokenizer {
    /// Renders messages. The texts in the rendering are disguised.
    pub(super) fn rendered(
        &self,
        messages: &[Message],
        tools: &[Value],
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<(String, Disguise)> {
        let views = messages.iter().map(|message| self.template_view(message, options)).collect();
        let ([messages, tools], disguise) = self.disguised(views, tools, 0)?;
        Ok((self.render(messages, tools, options, ending)?, disguise))
    }

    /// Messages and tools as the template sees them, with all texts disguised. `spare` characters are left for marks.
    pub(crate) fn disguised(
        &self,
        messages: Vec<Value>,
        tools: &[Value],
        spare: usize,
    ) -> Result<([Value; 2], Disguise)> {
        let mut both = Value::Array(vec![Value::Array(messages), Value::Array(tools.to_vec())]);
        let source = self.template()?.source();
        let guarded = self.markup.guarded() | self.text_controls.guarded();
        let disguise = Disguise::choose(&guarded, &both, source, spare)?;
        Ok(([0, 1].map(|index| disguise.hide(both[index].take())), disguise))
    }

    /// Renders disguised messages.
    pub(crate) fn render(
        &self,
        messages: Value,
        tools: Value,
        options: &RenderOptions,
        ending: Ending,
    ) -> Result<String> {
        self.template()?.render(&TemplateInput {
            tools,
            messages,
            bos_token: self.bos.as_ref().map_or("", |(_, text)| text),
            eos_token: self.eos.as_ref().map_or("", |(_, text)| text),
            add_generation_prompt: ending == Ending::GenerationPrompt,
            enable_thinking: options.thinking == Thinking::On,
            date: options.date.or(self.date).unwrap_or_else(|| jiff::Zoned::now().date()),
        })
    }

    /// A message as templates expect it: absent parts are absent keys.
    pub(crate) fn template_view(&self, message: &Message, options: &RenderOptions) -> Value {
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

    /// A rendering split at its control tokens.
    pub(crate) fn pieces(&self, text: &str) -> Vec<Piece> {
        self.markup.split(text)
    }

    /// The tokens of a rendering, and for each of the ascending byte offsets `cuts` the token that begins there. Where a token
    /// would extend over a cut, the text is encoded in two parts, as it is when a model continues a prompt.
    pub(crate) fn encode_rendering(
        &self,
        text: &str,
        disguise: &Disguise,
        cuts: &[usize],
    ) -> Result<(Vec<u32>, Vec<usize>)> {
        let (mut tokens, mut found) = (Vec::new(), Vec::with_capacity(cuts.len()));
        for piece in self.pieces(text) {
            let cuts = cuts[found.len()..].iter().take_while(|&&cut| cut < piece.range.end);
            let Some(id) = piece.control else {
                let text = &text[piece.range.clone()];
                // A stand-in may be longer in bytes than the character that it replaces.
                let offset = |cut: &usize| {
                    disguise.reveal(&text[..cut.saturating_sub(piece.range.start)]).len()
                };
                let cuts: Vec<usize> = cuts.map(offset).collect();
                let (text, outside) = disguise.reveal_places(text);
                let spelled = self.text_controls.spelled(&text, &outside);
                if cuts.is_empty() && spelled.is_empty() {
                    tokens.extend(self.encode(&text)?);
                    continue;
                }
                let mut placed = self.encode_in_parts(&text, &cuts)?;
                for spelled in &spelled {
                    let split = self.text_controls.split(&mut placed, &text, spelled, &self.plain);
                    let found = || Error::TextControl { text: text[spelled.range.clone()].into() };
                    split.ok_or_else(found)?;
                }
                let at = |cut: usize| placed.partition_point(|token| token.range.start < cut);
                found.extend(cuts.into_iter().map(|cut| tokens.len() + at(cut)));
                tokens.extend(placed.into_iter().map(|token| token.id));
                continue;
            };
            let cuts = cuts.count();
            found.extend(std::iter::repeat_n(tokens.len(), cuts));
            tokens.push(id);
        }
        found.resize(cuts.len(), tokens.len());
        Ok((tokens, found))
    }

    /// The tokens of a text, none of which extends over one of the ascending `cuts`.
    fn encode_in_parts(&self, text: &str, cuts: &[usize]) -> Result<Vec<Placed>> {
        let encoding = self.plain.encode(text, false).map_err(|e| self.failed(e))?;
        let offsets = encoding.get_offsets();
        let extends_over = |cut: &usize| offsets.iter().any(|&(from, to)| from < *cut && *cut < to);
        if let Some((&last, earlier)) = cuts.split_last()
            && cuts.iter().any(extends_over)
        {
            let mut placed = self.encode_in_parts(&text[..last], earlier)?;
            let rest = self.encode_in_parts(&text[last..], &[])?.into_iter();
            placed.extend(rest.map(|Placed { id, range }| Placed {
                id,
                range: last + range.start..last + range.end,
            }));
            return Ok(placed);
        }
        let ids = self.checked(encoding.get_ids().to_vec())?.into_iter();
        Ok(ids.zip(offsets).map(|(id, &(from, to))| Placed { id, range: from..to }).collect())
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template
            .as_ref()
            .ok_or_else(|| Error::Missing { path: self.path.clone(), expected: "a chat template" })
    }
}

/// The length in bytes of the common prefix of two texts.
pub(crate) fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}
