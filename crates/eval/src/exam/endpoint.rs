//! An endpoint with OpenAI's chat completions API.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// A model behind such an endpoint.
pub(super) struct Endpoint {
    agent: ureq::Agent,
    url: String,
    pub(super) model: String,
    key: Option<String>,
}

/// The part of a completion that is read.
#[derive(Deserialize)]
struct ChatCompletion {
    choices: [Choice; 1],
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

impl Endpoint {
    /// The model at an address such as `http://localhost:8080/v1`, which may take `timeout` for one answer.
    pub(super) fn new(address: &str, model: impl Into<String>, timeout: Duration) -> Endpoint {
        let url = format!("{}/chat/completions", address.trim_end_matches('/'));
        Endpoint { agent: agent(timeout), url, model: model.into(), key: None }
    }

    pub(super) fn with_timeout(self, timeout: Duration) -> Endpoint {
        Endpoint { agent: agent(timeout), ..self }
    }

    pub(super) fn with_key(self, key: impl Into<String>) -> Endpoint {
        Endpoint { key: Some(key.into()), ..self }
    }

    /// The model's reply to an object of texts. JSON quoting keeps the texts from posing as each other or as the
    /// instruction, and escapes in place of `<` and `[` from becoming control tokens of the model's template.
    pub(super) fn reply(
        &self,
        instruction: &str,
        data: &Value,
    ) -> Result<String, Box<dyn StdError + Send + Sync>> {
        let data = data.to_string().replace('<', "\\u003c").replace('[', "\\u005b");
        let mut call = self.agent.post(&self.url);
        if let Some(key) = &self.key {
            call = call.header("authorization", format!("Bearer {key}"));
        }
        let mut response = call.send_json(json!({
            "model": self.model,
            "temperature": 0,
            "messages": [
                { "role": "system", "content": instruction },
                { "role": "user", "content": data },
            ],
        }))?;
        let ChatCompletion { choices: [choice] } = response.body_mut().read_json()?;
        Ok(choice.message.content)
    }
}

fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(timeout)).build().into()
}

/// Without the key.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url).field("model", &self.model).finish()
    }
}
