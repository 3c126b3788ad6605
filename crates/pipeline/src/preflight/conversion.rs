//! Data Conversion: raw rows to clean ones.

use chat_format::{Conversation, Role, clean};
use serde_json::json;

use super::finding::Finding;
use super::scene::Scene;
use crate::report::words;

/// The rows are cleaned by the night's own stage, and the markup that the Council's data came in is
/// taken off as its owner showed it.
pub(super) fn qwen_token_stripping(scene: &Scene<'_>) -> Finding {
    scene.clean.judge(|clean| match example() {
        Ok(()) => Finding::passed(format!(
            "{} rows, {} blocks of reasoning taken out",
            words::count(clean.stage.rows),
            words::count(clean.stage.reasoning)
        )),
        Err(found) => Finding::failed(format!("a ChatML row became {found}")),
    })
}

/// The row of the seed, before and after.
fn example() -> Result<(), String> {
    let before = json!({ "messages": [{ "role": "user", "content":
        "<|im_start|>system\nYou are windu...<|im_end|>\n<|im_start|>user\nScan the network<|im_end|>\n\
         <|im_start|>assistant\n<think>\n\n</think>\nRunning scan...<|im_end|>" }] });
    let after = json!({ "messages": [
        { "role": "system", "content": "You are windu..." },
        { "role": "user", "content": "Scan the network" },
        { "role": "assistant", "content": "Running scan..." },
    ] });
    let (row, _) = clean::row(before, clean::Options::default()).map_err(|e| e.to_string())?;
    let found = serde_json::to_value(row).map_err(|e| e.to_string())?;
    if found == after { Ok(()) } else { Err(found.to_string()) }
}

/// Every clean row is a conversation that a model can learn an answer from.
pub(super) fn output_format(scene: &Scene<'_>) -> Finding {
    scene.clean.needed("the clean rows", |clean| {
        let wrong = |(index, row): (usize, &Conversation)| {
            Some(format!("clean row {}: {}", index + 1, malformed(row)?))
        };
        let problems: Vec<_> = clean.rows.iter().enumerate().filter_map(wrong).collect();
        Finding::of(&problems, "system, then user and assistant in turn")
    })
}

/// What is wrong with the order of a conversation's turns.
fn malformed(row: &Conversation) -> Option<String> {
    let turns = &row.messages;
    let starts = turns.iter().take_while(|turn| turn.role == Role::System).count();
    let asked = turns.get(starts).map(|turn| turn.role);
    if starts > 1 || asked != Some(Role::User) {
        let found = turns.iter().take(2).map(|t| t.role.as_str()).collect::<Vec<_>>().join(", ");
        return Some(format!("expected at most one system turn and then user, found {found}"));
    }
    if !turns.iter().any(|turn| turn.role == Role::Assistant) {
        return Some("expected an answer by assistant, found none".to_owned());
    }
    let empty = |turn: &&chat_format::Message| {
        turn.role == Role::Assistant && turn.content.trim().is_empty() && turn.tool_calls.is_empty()
    };
    turns.iter().find(empty).map(|_| "expected words in every answer, found none".to_owned())
}

/// No control token of any model is left in a clean row.
pub(super) fn no_leakage(scene: &Scene<'_>) -> Finding {
    scene.clean.needed("the clean rows", |clean| {
        let leak = |(index, row): (usize, &Conversation)| {
            let token = row.messages.iter().find_map(|turn| clean::leak(&turn.content))?;
            Some(format!("clean row {}: expected no control token, found {token}", index + 1))
        };
        let problems: Vec<_> = clean.rows.iter().enumerate().filter_map(leak).collect();
        let tokens = clean::control_tokens().count();
        Finding::of(&problems, format!("none of {tokens} control tokens in any row"))
    })
}
