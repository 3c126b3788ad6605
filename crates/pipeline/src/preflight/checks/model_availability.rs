//! Model Availability: the base model's files.

use chat_format::{Conversation, Message, RenderOptions, Supervision};
use models::Error as ModelError;

use crate::error::Error;
use crate::format;
use crate::preflight::attempt::Attempt;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// Whether opening the model failed because of its configuration rather than its tensors.
fn is_about_config(error: &Error) -> bool {
    match error {
        Error::Models(error) | Error::Train(lora_train::Error::Model(error)) => matches!(
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

/// The configuration is valid, and the architecture is supported.
pub(super) fn config_json(rehearsal: &Rehearsal<'_>) -> Finding {
    match &rehearsal.opened {
        Attempt::Failed(error) if !is_about_config(error) => {
            Finding::passed("a supported architecture; see safetensors")
        }
        opened => opened.judge(|opened| {
            let config = opened.model.config();
            Finding::passed(format!("{}, {} layers", config.architecture, config.num_layers))
        }),
    }
}

/// Every tensor of the model exists, is complete and has the right shape. Only headers are read.
pub(super) fn safetensors(rehearsal: &Rehearsal<'_>) -> Finding {
    match &rehearsal.opened {
        Attempt::Failed(error) if is_about_config(error) => Finding::not_run("needs config.json"),
        opened => opened.judge(|opened| {
            let weights = opened.model.config().num_weights() as u64;
            let file = if opened.base.path.is_file() { " in a GGUF file" } else { "" };
            Finding::passed(format!("{} weights{file}", format::count(weights)))
        }),
    }
}

/// The tokenizer loads and has no more tokens than the model.
pub(super) fn tokenizer(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.tokenizer.judge(|tokenizer| {
        let tokens = tokenizer.vocab_size();
        match rehearsal.opened.done().map(|opened| opened.model.config().vocab_size) {
            Some(known) if tokens > known => Finding::failed(format!(
                "expected at most the model's {known} tokens, found {tokens}"
            )),
            _ => Finding::passed(format!("{} tokens", format::count(tokens as u64))),
        }
    })
}

/// The model's chat template renders a conversation with trained tokens.
pub(super) fn chat_template(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.tokenizer.needed("the tokenizer", |tokenizer| {
        let chat = Conversation::new(vec![
            Message::system("You are windu."),
            Message::user("Scan the network"),
            Message::assistant("Running scan..."),
        ]);
        let supervision = Supervision::AssistantTurns;
        match tokenizer.training_row(&chat, &RenderOptions::default(), supervision) {
            Ok(row) if row.trained_tokens() == 0 => {
                Finding::failed("expected trained tokens in the answer, found none")
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
