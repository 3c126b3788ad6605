//! Model Availability: the base model's files.

use chat_format::{Conversation, Message, RenderOptions, Supervision};
use models::Error as ModelError;

use super::finding::Finding;
use super::scene::{Scene, Tried};
use crate::error::Error;
use crate::report::words;

/// Whether the model was refused for what its configuration says, and not for its tensors.
fn is_about_config(error: &Error) -> bool {
    match error {
        Error::Models(error) => matches!(
            error,
            ModelError::NotAModel { .. }
                | ModelError::Config { .. }
                | ModelError::UnsupportedArchitecture { .. }
                | ModelError::Json { .. }
                | ModelError::Read { .. }
        ),
        _ => true,
    }
}

/// The model says what it is, and it is something that can be trained here.
pub(super) fn config_json(scene: &Scene<'_>) -> Finding {
    match &scene.opened {
        Tried::Failed(error) if !is_about_config(error) => {
            Finding::passed("a known architecture; see safetensors")
        }
        opened => opened.judge(|opened| {
            let config = opened.model.config();
            Finding::passed(format!("{}, {} layers", config.architecture, config.num_layers))
        }),
    }
}

/// Every tensor that the model needs is there, whole and of the right shape. Headers are read,
/// weights are not.
pub(super) fn safetensors(scene: &Scene<'_>) -> Finding {
    match &scene.opened {
        Tried::Failed(error) if is_about_config(error) => Finding::skipped("needs config.json"),
        opened => opened.judge(|opened| {
            let weights = opened.model.config().num_weights() as u64;
            let file = if opened.base.path.is_file() { " in a GGUF file" } else { "" };
            Finding::passed(format!("{} weights{file}", words::count(weights)))
        }),
    }
}

/// The vocabulary is read, and is this model's.
pub(super) fn tokenizer(scene: &Scene<'_>) -> Finding {
    scene.tokenizer.judge(|tokenizer| {
        let tokens = tokenizer.vocab_size();
        match scene.opened.done().map(|opened| opened.model.config().vocab_size) {
            Some(known) if tokens > known => Finding::failed(format!(
                "expected at most the model's {known} tokens, found {tokens}"
            )),
            _ => Finding::passed(format!("{} tokens", words::count(tokens as u64))),
        }
    })
}

/// The model's own template renders a conversation, and leaves an answer to train on.
pub(super) fn chat_template(scene: &Scene<'_>) -> Finding {
    scene.tokenizer.needed("the tokenizer", |tokenizer| {
        let chat = Conversation::new(vec![
            Message::system("You are windu."),
            Message::user("Scan the network"),
            Message::assistant("Running scan..."),
        ]);
        let supervision = Supervision::AssistantTurns;
        match tokenizer.training_row(&chat, &RenderOptions::default(), supervision) {
            Ok(row) if row.trained_tokens() == 0 => {
                Finding::failed("expected an answer to train on, found no token of it")
            }
            Ok(row) => Finding::passed(format!(
                "{} tokens, {} of them trained",
                row.tokens.len(),
                row.trained_tokens()
            )),
            Err(error) => Finding::failed(error),
        }
    })
}
