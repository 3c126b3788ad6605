//! Answers in OpenAI's form.

use chat_format::ToolCall;
use serde_json::{Map, Value, json};

use super::running::{Answer, Finish, Running, Update, Usage};
use crate::answer::Delta;
use crate::served::Served;

/// Which of the two interfaces is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What all objects of one response have in common.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub kind: Kind,
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    pub model: String,
    pub fingerprint: String,
}

impl Head {
    pub fn new(kind: Kind, id: &str, served: &Served) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        Self {
            kind,
            id: format!("{prefix}-{id}"),
            created: jiff::Timestamp::now().as_second(),
            model: served.name.clone(),
            fingerprint: served.fingerprint.clone(),
        }
    }

    fn object(&self, name: &str, choices: Value) -> Value {
        json!({
            "id": self.id, "object": name, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices,
        })
    }

    /// The whole response.
    pub fn whole(&self, running: &Running) -> Value {
        let choices = running.answers.iter().enumerate().map(|(index, answer)| {
            let finish = answer.finish.map(Finish::name);
            match self.kind {
                Kind::Chat => json!({
                    "index": index, "message": self.message(index, answer), "logprobs": null,
                    "finish_reason": finish,
                }),
                Kind::Text => json!({
                    "index": index, "text": answer.words, "logprobs": null, "finish_reason": finish,
                }),
            }
        });
        let name = match self.kind {
            Kind::Chat => "chat.completion",
            Kind::Text => "text_completion",
        };
        let mut object = self.object(name, choices.collect());
        object["usage"] = usage(running.usage);
        object
    }

    /// An answer as a message.
    pub fn message(&self, choice: usize, answer: &Answer) -> Value {
        let Answer { reasoning, words, calls, .. } = answer;
        let content =
            if words.is_empty() && !calls.is_empty() { Value::Null } else { json!(words) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !reasoning.is_empty() {
            message["reasoning_content"] = json!(reasoning);
        }
        if !calls.is_empty() {
            let calls = calls.iter().enumerate();
            message["tool_calls"] = calls.map(|(at, call)| self.call(choice, at, call)).collect();
        }
        message
    }

    fn call(&self, choice: usize, at: usize, call: &ToolCall) -> Value {
        let id =
            || format!("call_{}_{choice}_{at}", self.id.rsplit('-').next().unwrap_or_default());
        let id = call.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(id);
        let arguments = match &call.arguments {
            Value::String(text) => text.clone(),
            object => object.to_string(),
        };
        json!({ "id": id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
    }

    /// The first object of a streamed answer.
    pub fn first(&self, choice: usize) -> Option<Value> {
        let delta = json!({ "role": "assistant", "content": "" });
        (self.kind == Kind::Chat).then(|| self.chunk(choice, &delta, None))
    }

    /// The objects of new pieces of a streamed answer.
    pub fn chunks(&self, update: &Update) -> Vec<Value> {
        let choice = update.choice;
        let mut chunks: Vec<Value> = update
            .deltas
            .iter()
            .map(|delta| self.chunk(choice, &self.delta(choice, delta), None))
            .collect();
        if let Some(finish) = update.finish {
            chunks.push(self.chunk(choice, &Value::Object(Map::new()), Some(finish)));
        }
        chunks
    }

    /// The object with the usage of a streamed response.
    pub fn usage(&self, running: &Running) -> Value {
        let mut object = self.object(self.chunk_name(), json!([]));
        object["usage"] = usage(running.usage);
        object
    }

    fn chunk_name(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "chat.completion.chunk",
            Kind::Text => "text_completion",
        }
    }

    fn chunk(&self, choice: usize, delta: &Value, finish: Option<Finish>) -> Value {
        let finish = finish.map(Finish::name);
        let choice = match self.kind {
            Kind::Chat => json!({
                "index": choice, "delta": delta, "logprobs": null, "finish_reason": finish,
            }),
            Kind::Text => json!({
                "index": choice, "text": delta["content"].as_str().unwrap_or_default(),
                "logprobs": null, "finish_reason": finish,
            }),
        };
        self.object(self.chunk_name(), json!([choice]))
    }

    fn delta(&self, choice: usize, delta: &Delta) -> Value {
        match delta {
            Delta::Reasoning(text) => json!({ "reasoning_content": text }),
            Delta::Words(text) => json!({ "content": text }),
            Delta::Calls(calls) => {
                let call = |(at, call)| {
                    let mut call = self.call(choice, at, call);
                    call["index"] = json!(at);
                    call
                };
                json!({ "tool_calls": calls.iter().enumerate().map(call).collect::<Vec<_>>() })
            }
        }
    }
}

fn usage(usage: Usage) -> Value {
    let Usage { prompt, cached, completion } = usage;
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}
