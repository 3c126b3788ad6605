//! Where notifications go, and what is in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// Where notifications go. Nothing leaves the machine unless a `webhook` is set.
///
/// A notification has figures, names of checks and rules, and the kind of an error. What was said in conversations, and
/// messages of errors, which may quote a row, are only in it with [`include_conversations`](Self::include_conversations).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// A program and its arguments. The text is added as the last argument; the whole message is
    /// written to its standard input as JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// An `http` or `https` URL to which the message is posted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Secret>,
    /// The form of what is posted to the webhook. Default `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<WebhookFormat>,
    /// Sent to the webhook as `Authorization: Bearer TOKEN`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// Whether to show a desktop notification; macOS only.
    pub desktop: bool,
    /// Whether questions, answers, and the messages of errors, which may quote a row, are sent too.
    pub include_conversations: bool,
}

/// The form of a notification that is posted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum WebhookFormat {
    /// A JSON object with the text as `line` and the figures behind it.
    #[default]
    Json,
    /// The text, as `text/plain`.
    Text,
    /// A message for an incoming webhook of Slack, or of a server that understands the same, such as Mattermost.
    Slack,
    /// A message for a webhook of Discord.
    Discord,
    /// A message for a topic of ntfy.
    Ntfy,
}

impl Notify {
    /// What is wrong with the combination of keys.
    pub(super) fn problem(&self) -> Option<String> {
        let needs = |key: &str| Some(format!("notify.{key}: belongs to a `webhook`, found none"));
        match self {
            Self { webhook: None, format: Some(_), .. } => needs("format"),
            Self { webhook: None, token: Some(_), .. } => needs("token"),
            _ => None,
        }
    }

    /// The variables of the environment that are needed and not set.
    pub(crate) fn unset(&self) -> Vec<String> {
        let keys = [("webhook", &self.webhook), ("token", &self.token)];
        let problem = |(key, secret): (&str, &Option<Secret>)| {
            let error = secret.as_ref()?.reveal().err()?;
            Some(format!("notify.{key}: {error}"))
        };
        keys.into_iter().filter_map(problem).collect()
    }
}
