//! Data Conversion: cleaning of the raw rows.

use chat_format::{Conversation, Role, clean};
use serde_json::json;

use crate::format;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// The stage `convert` succeeds, and a row in ChatML markup is cleaned as specified.
pub(super) fn qwen_token_stripping(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.clean.judge(|clean| match check_example() {
        Ok(()) => Finding::passed(format!(
            "{} rows, {} reasoning blocks removed",
            format::count(clean.stage.rows),
            format::count(clean.stage.reasoning)
        )),
        Err(found) => Finding::failed(format!("unexpected result for a ChatML row: {found}")),
    })
}

/// Cleans the seed's example row and compares the result.
fn check_example() -> Result<(), String> {
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

/// Every clean row is a conversation with an answer.
pub(super) fn output_format(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.clean.needed("the clean rows", |clean| {
        let wrong = |(index, row): (usize, &Conversation)| {
            Some(format!("clean row {}: {}", index + 1, problem(row)?))
        };
        let problems: Vec<_> = clean.rows.iter().enumerate().filter_map(wrong).collect();
        Finding::of(&problems, "every row has a user turn and an answer")
    })
}

/// The problem with the turns of a conversation, if there is one.
fn problem(row: &Conversation) -> Option<String> {
    let turns = &row.messages;
    let starts = turns.iter().take_while(|turn| turn.role == Role::System).count();
    let asked = turns.get(starts).map(|turn| turn.role);
    if starts > 1 || asked != Some(Role::User) {
        let found = turns.iter().take(2).map(|t| t.role.as_str()).collect::<Vec<_>>().join(", ");
        return Some(format!("expected at most one system turn, then a user turn; found {found}"));
    }
    if !turns.iter().any(|turn| turn.role == Role::Assistant) {
        return Some("expected an assistant turn, found none".to_owned());
    }
    let empty = |turn: &&chat_format::Message| {
        turn.role == Role::Assistant && turn.content.trim().is_empty() && turn.tool_calls.is_empty()
    };
    turns.iter().find(empty).map(|_| "expected text in every answer, found an empty one".to_owned())
}

/// No clean row has markup left: turn markers, or an end token behind the last word. Control tokens
/// that a text only mentions are plain text.
pub(super) fn no_leakage(rehearsal: &Rehearsal<'_>) -> Finding {
    rehearsal.clean.needed("the clean rows", |clean| {
        let leak = |(index, row): (usize, &Conversation)| {
            let token = row.messages.iter().find_map(|turn| clean::leak(&turn.content))?;
            Some(format!("clean row {}: expected no markup left, found {token}", index + 1))
        };
        let problems: Vec<_> = clean.rows.iter().enumerate().filter_map(leak).collect();
        Finding::of(&problems, "no row has turn markers or an end token left")
    })
}
