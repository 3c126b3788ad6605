//! A model folder in Hugging Face's layout, with a byte-level vocabulary of 256 letters and Qwen 3.5's control tokens.
#![cfg(feature = "tokenizers")]

mod common;

use std::fs;
use std::path::Path;

use chat_format::{
    ChatTokenizer, Conversation, Message, RenderOptions, Supervision, Thinking, ToolCall,
};
use common::{byte_level, one_turn, two_turns, vocabularies};
use serde_json::json;
use tokenizers::AddedToken;

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn write_folder(folder: &Path) {
    let mut tokenizer = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]);
    // As in Qwen's own files, these are added but not special.
    let tags = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<table>"];
    tokenizer
        .add_tokens(tags.map(|token| AddedToken::from(token, false).normalized(false)))
        .unwrap();
    tokenizer.save(folder.join("tokenizer.json"), false).unwrap();
    let config = r#"{"bos_token": null, "eos_token": {"content": "<|im_end|>"}}"#;
    fs::write(folder.join("tokenizer_config.json"), config).unwrap();
    fs::write(folder.join("generation_config.json"), r#"{"eos_token_id": [258, 256]}"#).unwrap();
}

fn open(template: &str) -> ChatTokenizer {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path());
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    ChatTokenizer::open(folder.path()).unwrap()
}

fn qwen() -> Option<ChatTokenizer> {
    let template = vocabularies()?.join("Qwen3.5-4B.jinja");
    Some(open(&fs::read_to_string(template).unwrap()))
}

fn trained(tokenizer: &ChatTokenizer, chat: &Conversation, thinking: Thinking) -> Vec<String> {
    let options = RenderOptions::default().thinking(thinking);
    let row = tokenizer.training_row(chat, &options, Supervision::AssistantTurns).unwrap();
    let text = |span: &std::ops::Range<usize>| {
        row.tokens[span.clone()].iter().map(|&id| tokenizer.token(id)).collect::<String>()
    };
    row.trained.iter().map(text).collect()
}

#[test]
fn ids_come_from_the_folders_files() {
    let tokenizer = open(CHATML);
    assert_eq!(tokenizer.vocab_size(), 264);
    assert_eq!(tokenizer.eos_id(), Some(258));
    assert_eq!(tokenizer.stop_ids(), [256, 258]);
    assert_eq!(tokenizer.bos_id(), None);
}

#[test]
fn the_template_is_found_in_the_config_too() {
    let folder = tempfile::tempdir().unwrap();
    write_folder(folder.path());
    let tokenizer = ChatTokenizer::open(folder.path()).unwrap();
    let error = tokenizer.prompt_tokens(&[Message::user("q")], &RenderOptions::default());
    assert!(error.unwrap_err().to_string().contains("expected a chat template"));

    let named = json!({"eos_token": "<|im_end|>", "chat_template": [
        {"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]});
    fs::write(folder.path().join("tokenizer_config.json"), named.to_string()).unwrap();
    let tokenizer = ChatTokenizer::open(folder.path()).unwrap();
    let prompt = tokenizer.prompt_tokens(&[Message::user("q")], &RenderOptions::default()).unwrap();
    assert_eq!(prompt.iter().filter(|&&id| id == 257).count(), 2);
}

/// `special_tokens_map.json` counts where `tokenizer_config.json` names no such token, and tokens that only
/// `tokenizer_config.json` or `added_tokens.json` list have the ids that these give them.
#[test]
fn special_tokens_are_found_in_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: serde_json::Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    let text = |token: &str| json!(token);
    let object = |token: &str| json!({ "content": token, "lstrip": false });
    let (im_start, endoftext) = ("<|im_start|>", "<|endoftext|>");
    for (config, map, expected) in [
        (json!({}), json!({ "bos_token": text(im_start) }), Some(257)),
        (json!({ "bos_token": null }), json!({ "bos_token": object(im_start) }), Some(257)),
        (
            json!({ "bos_token": object(endoftext) }),
            json!({ "bos_token": text(im_start) }),
            Some(256),
        ),
        (json!({ "bos_token": text(endoftext) }), json!({}), Some(256)),
        (json!({}), json!({}), None),
    ] {
        write_folder(folder.path());
        fs::write(
            folder.path().join("chat_template.jinja"),
            "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}",
        )
        .unwrap();
        write("tokenizer_config.json", config.clone());
        write("special_tokens_map.json", map.clone());
        let tokenizer = ChatTokenizer::open(folder.path()).unwrap();
        assert_eq!(tokenizer.bos_id(), expected, "{config} {map}");
        let prompt = tokenizer.prompt_tokens(&[Message::user("q")], &RenderOptions::default());
        assert_eq!(
            prompt.unwrap().first().copied() == expected,
            expected.is_some(),
            "{config} {map}"
        );
    }
    write(
        "tokenizer_config.json",
        json!({ "eos_token": "<end>", "added_tokens_decoder": {
            "257": { "content": im_start, "special": true },
            "264": { "content": "<end>", "special": true, "normalized": false },
        } }),
    );
    write("added_tokens.json", json!({ "<note>": 265, "<|im_end|>": 258 }));
    let tokenizer = ChatTokenizer::open(folder.path()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos_id()), (266, Some(264)));
    assert_eq!(tokenizer.token(265), "<note>");
    // A token that cannot have the id that the model knows it by.
    for (id, expected) in
        [(json!(9), "found 9"), (json!(300), "found 300"), (json!("x"), "found \"x\"")]
    {
        write("added_tokens.json", json!({ "<odd>": id }));
        let error = ChatTokenizer::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("<odd>") && error.contains(expected), "{error}");
    }
}

#[test]
fn broken_folders_say_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let message = || ChatTokenizer::open(folder.path()).map(drop).unwrap_err().to_string();
    assert!(message().ends_with("expected tokenizer.json"), "{}", message());
    fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
    assert!(message().contains("tokenizer.json: tokenizer: "), "{}", message());
    write_folder(folder.path());
    fs::write(folder.path().join("tokenizer_config.json"), "{\n 7}").unwrap();
    assert!(message().contains("tokenizer_config.json:2:2: expected JSON"), "{}", message());
    fs::write(folder.path().join("model.gguf"), "GGUF").unwrap();
    let error = ChatTokenizer::open(folder.path().join("model.gguf")).map(drop).unwrap_err();
    assert!(error.to_string().contains("file ends inside the version"), "{error}");
}

#[test]
fn tags_the_template_writes_are_control_tokens_and_others_are_not() {
    let Some(tokenizer) = qwen() else { return };
    assert_eq!(tokenizer.encode("<think>").unwrap().len(), "<think>".len());
    assert_eq!(tokenizer.encode("<table>").unwrap(), [263]);
}

#[test]
fn spans_with_thinking_off_and_on() {
    let Some(tokenizer) = qwen() else { return };
    let (first, second) = ("RunningĠscan...<|im_end|>", "AllĠquiet.<|im_end|>");
    let off = Thinking::Off;
    assert_eq!(trained(&tokenizer, &one_turn(), off), [first]);
    assert_eq!(trained(&tokenizer, &two_turns(), off), [first, second]);

    // The prompt stops after `<think>` and a line end, which the row's blank line shares no token with in a real vocabulary
    // but does in this one of single bytes.
    let mut chat = two_turns();
    let answered = format!("Ċ</think>ĊĊ{second}");
    assert_eq!(trained(&tokenizer, &chat, Thinking::On), [first, &answered]);
    chat.messages[4].reasoning_content = Some("Look.".to_owned());
    let thought = format!("Look.Ċ</think>ĊĊ{second}");
    assert_eq!(trained(&tokenizer, &chat, Thinking::On), [first, &thought]);
    assert_eq!(trained(&tokenizer, &chat, off), [first, second]);
}

#[test]
fn turns_are_found_in_templates_that_look_at_whole_messages_or_compare_names() {
    let prompt = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let whole = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + (m | tojson) + '<|im_end|>\n' }}{% endfor %}";
    let tokenizer = open(&format!("{whole}{prompt}"));
    let answer = |words: &str| {
        let space = words.replace(' ', "Ġ");
        format!("{{\"role\":Ġ\"assistant\",Ġ\"content\":Ġ\"{space}\"}}<|im_end|>")
    };
    let spans = trained(&tokenizer, &two_turns(), Thinking::Off);
    assert_eq!(spans, [answer("Running scan..."), answer("All quiet.")]);

    let known = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% for c in m.tool_calls %}{{ 'known ' if c.function.name == 'scan' }}{{ c.function.arguments | tojson }}{% endfor %}{{ m.content + '<|im_end|>\n' }}{% endfor %}";
    let tokenizer = open(&format!("{known}{prompt}"));
    let mut chat = one_turn();
    let arguments = serde_json::from_str(r#"{"host": "nas"}"#).unwrap();
    chat.messages[2].tool_calls = vec![ToolCall::new("scan", arguments)];
    let spans = trained(&tokenizer, &chat, Thinking::Off);
    assert_eq!(spans, ["knownĠ{\"host\":Ġ\"nas\"}RunningĠscan...<|im_end|>"]);
}
