//! Exports of chat programs.

use chat_format::clean::{self, Notes, Options, Reasoning, Shape};
use serde_json::{Value, json};

fn read(raw: Value) -> (Value, Notes) {
    let options = Options::default().reasoning(Reasoning::Keep);
    let (chat, notes) =
        clean::row(raw.clone(), options).unwrap_or_else(|problem| panic!("{raw}: {problem}"));
    (json!(chat), notes)
}

fn refusal(raw: Value) -> String {
    clean::row(raw, Options::default()).unwrap_err().to_string()
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn call(id: &str, arguments: Value) -> Value {
    json!({"role": "assistant", "content": "", "tool_calls": [
        {"id": id, "type": "function", "function": {"name": "scan", "arguments": arguments}}]})
}

fn ignored(notes: &Notes) -> Vec<&str> {
    notes.ignored.keys().map(String::as_str).collect()
}

/// A chat as Open WebUI exports it: a question with two answers, of which the second was continued.
fn open_webui(answer: &str) -> Value {
    let node = |id: &str, parent: Value, children: Value, role: &str, content: &str| json!({"id": id, "parentId": parent, "childrenIds": children, "role": role, "content": content, "timestamp": 1});
    let mut first = node("b", json!("a"), json!([]), "assistant", "old");
    first["model"] = json!("qwen3:8b");
    let nodes = json!({
        "a": node("a", Value::Null, json!(["b", "c"]), "user", "q"),
        "b": first,
        "c": node("c", json!("a"), json!(["d"]), "assistant", answer),
        "d": node("d", json!("c"), json!(["e"]), "user", "r"),
        "e": node("e", json!("d"), json!([]), "assistant", "t"),
    });
    json!({"id": "x", "user_id": "u", "title": "Title", "archived": false, "chat": {
        "title": "Title", "models": ["qwen3:8b"], "params": {"system": "s"}, "tags": [], "files": [],
        "history": {"messages": nodes, "currentId": "e"},
        "messages": [{"id": "a", "role": "user", "content": "q"}]}})
}

#[test]
fn open_webui_follows_the_current_branch() {
    let (chat, notes) = read(open_webui("a"));
    let system = json!({"role": "system", "content": "s"});
    assert_eq!(
        chat["messages"],
        json!([system, user("q"), assistant("a"), user("r"), assistant("t")])
    );
    assert_eq!(chat["chat"], json!({"title": "Title", "models": ["qwen3:8b"]}));
    assert_eq!(chat["user_id"], "u");
    assert_eq!(
        ignored(&notes),
        [
            "chat.history.messages of other branches",
            "chat.history.messages[].timestamp",
            "chat.messages"
        ]
    );
    assert_eq!(notes.shapes, [(Shape::OpenWebUi, 1)].into());
    // Newer versions keep the pieces of an answer beside its text.
    let mut pieces = open_webui("");
    pieces["chat"]["history"]["messages"]["c"]["output"] = json!([
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]);
    assert_eq!(read(pieces).0["messages"], chat["messages"]);
    // A chat by itself, and one of an older version without a tree.
    let alone = open_webui("a")["chat"].clone();
    assert_eq!(read(alone).0["messages"], chat["messages"]);
    let flat = json!({"chat": {"messages": [user("q"), assistant("a")]}});
    assert_eq!(read(flat).0["messages"], json!([user("q"), assistant("a")]));
}

#[test]
fn open_webui_writes_reasoning_and_calls_into_its_answers() {
    let reasoning = "<details type=\"reasoning\" done=\"true\" duration=\"3\">\n<summary>Thought for 3 seconds</summary>\n> hm\n> a > b\n</details>\n";
    let escaped = "<details type=\"reasoning\" done=\"true\" duration=\"3\">\n<summary>Thought for 3 seconds</summary>\n&gt; hm\n&gt; a &gt; b\n</details>\n";
    let calls = "<details type=\"tool_calls\" done=\"true\" id=\"c1\" name=\"scan\" arguments=\"&quot;{\\&quot;port\\&quot;: 22}&quot;\" result=\"&quot;it&#x27;s open&quot;\" files=\"\" embeds=\"\">\n<summary>Tool Executed</summary>\n</details>\n";
    for reasoning in [reasoning, escaped] {
        let (chat, _) = read(open_webui(&format!("{reasoning}a")));
        let expected =
            json!({"role": "assistant", "content": "a", "reasoning_content": "hm\na > b"});
        assert_eq!(chat["messages"][2], expected);
    }
    let (chat, _) = read(open_webui(&format!("{reasoning}Let me look.\n{calls}{reasoning}Open.")));
    let mut first = call("c1", json!({"port": 22}));
    first["content"] = json!("Let me look.");
    first["reasoning_content"] = json!("hm\na > b");
    let result = json!({"role": "tool", "content": "it's open", "tool_call_id": "c1"});
    let last = json!({"role": "assistant", "content": "Open.", "reasoning_content": "hm\na > b"});
    assert_eq!(chat["messages"].as_array().unwrap()[2..5], [first, result, last]);
    // What people write about such blocks stays, and so does one in code or in other places.
    for text in [
        format!("```html\n{reasoning}```"),
        format!("It writes {reasoning}"),
        "<details>\n<summary>More</summary>\nwords\n</details>".to_owned(),
        "<details type=\"reasoning\" done=\"true\">never closed".to_owned(),
    ] {
        assert_eq!(read(open_webui(&text)).0["messages"][2]["content"], text.as_str());
    }
    let mut asked = open_webui("a");
    asked["chat"]["history"]["messages"]["d"]["content"] = json!(reasoning);
    assert_eq!(read(asked).0["messages"][3]["content"], reasoning);
}

#[test]
fn chats_that_cannot_be_read_are_refused_by_name() {
    let mut missing = open_webui("a");
    missing["chat"]["history"]["currentId"] = json!("z");
    assert!(
        refusal(missing).contains("`chat.history.messages.z`: expected a message, found nothing")
    );
    let mut circle = open_webui("a");
    circle["chat"]["history"]["messages"]["a"]["parentId"] = json!("e");
    assert!(
        refusal(circle).contains("`chat.history.messages.e`: expected a message, found nothing")
    );
    let mut failed = open_webui("a");
    failed["chat"]["history"]["messages"]["c"]["error"] = json!({"content": "out of memory"});
    assert!(refusal(failed).contains("expected an answer without an error"));
    let mut image = open_webui("a");
    image["chat"]["history"]["messages"]["a"]["files"] = json!([{"type": "image", "url": "data:"}]);
    assert!(refusal(image).contains("expected text, found an image"));
    let image = json!({"messages": [{"currentlySelected": 0, "versions": [{"type": "singleStep", "role": "user",
        "content": [{"type": "text", "text": "q"}, {"type": "file", "fileType": "image"}]}]}]});
    assert!(refusal(image).contains("found a part of type \"file\""));
    let version =
        json!({"messages": [{"currentlySelected": 3, "versions": [{"type": "singleStep"}]}]});
    assert!(
        refusal(version).contains("`messages[0].currentlySelected`: expected less than 1, found 3")
    );
}

#[test]
fn lm_studio_reads_the_selected_versions() {
    let text = |text: &str| json!([{"type": "text", "text": text, "tokensCount": 3}]);
    let thinking = json!({"type": "contentBlock", "stepIdentifier": "1", "content": text("hm"), "prefix": "<think>", "suffix": "</think>",
        "style": {"type": "thinking", "ended": true, "title": "Thought for 3 seconds"}, "shouldIncludeInContext": false});
    let block = |content: Value| json!({"type": "contentBlock", "content": content, "genInfo": {"stats": {}}});
    let request = json!([{"type": "toolCallRequest", "callId": 1, "toolCallRequestId": "c1", "name": "scan", "parameters": {"port": 22}}]);
    let result = json!([{"type": "toolCallResult", "toolCallId": "c1", "content": "open"}]);
    let debug = json!({"type": "debugInfoBlock", "debugInfo": "x"});
    let answer = json!({"type": "multiStep", "role": "assistant", "senderInfo": {"senderName": "qwen3"}, "steps": [
        thinking, block(text("Let me look.")), block(request), block(result), debug, block(text("Open."))]});
    let old = json!({"type": "multiStep", "role": "assistant", "steps": [block(text("old"))]});
    let raw = json!({"name": "Chat", "systemPrompt": "s", "tokenCount": 9, "messages": [
        {"versions": [{"type": "singleStep", "role": "user", "content": text("q"), "preprocessed": {"role": "user"}}], "currentlySelected": 0},
        {"versions": [old, answer], "currentlySelected": 1}]});
    let (chat, notes) = read(raw);
    let mut first = call("c1", json!({"port": 22}));
    first["content"] = json!("Let me look.");
    first["reasoning_content"] = json!("hm");
    let tool = json!({"role": "tool", "content": "open", "tool_call_id": "c1"});
    let system = json!({"role": "system", "content": "s"});
    assert_eq!(chat["messages"], json!([system, user("q"), first, tool, assistant("Open.")]));
    assert_eq!((&chat["name"], &chat["tokenCount"]), (&json!("Chat"), &json!(9)));
    let expected = [
        "messages[].content[].tokensCount",
        "messages[].versions not selected",
        "messages[].versions[].preprocessed",
        "messages[].versions[].senderInfo",
        "messages[].versions[].steps[] of type \"debugInfoBlock\"",
        "messages[].versions[].steps[].content[].callId",
        "messages[].versions[].steps[].content[].tokensCount",
        "messages[].versions[].steps[].genInfo",
        "messages[].versions[].steps[].style.ended",
        "messages[].versions[].steps[].style.title",
    ];
    assert_eq!(ignored(&notes), expected);
    assert_eq!(notes.shapes, [(Shape::LmStudio, 1)].into());
}

#[test]
fn chatgpt_follows_the_current_branch() {
    let node = |parent: Value, role: &str, content: Value| {
        json!({"parent": parent, "children": [], "message": {"id": "m", "author": {"role": role, "name": null, "metadata": {}},
            "content": content, "status": "finished_successfully", "weight": 1.0, "recipient": "all", "metadata": {"model_slug": "gpt-5"}}})
    };
    let text = |text: &str| json!({"content_type": "text", "parts": [text]});
    let mut hidden = node(
        json!("root"),
        "user",
        json!({"content_type": "user_editable_context", "user_profile": "I am Ada."}),
    );
    hidden["message"]["metadata"]["is_visually_hidden_from_conversation"] = json!(true);
    let mut code = node(
        json!("d"),
        "assistant",
        json!({"content_type": "code", "language": "python", "text": "1 + 1"}),
    );
    code["message"]["recipient"] = json!("python");
    let mut output =
        node(json!("e"), "tool", json!({"content_type": "execution_output", "text": "2"}));
    output["message"]["author"]["name"] = json!("python");
    let raw = json!({"title": "Title", "current_node": "h", "conversation_id": "x", "mapping": {
        "root": {"id": "root", "message": null, "parent": null, "children": ["a"]},
        "a": node(json!("root"), "system", text("")),
        "b": hidden,
        "c": node(json!("b"), "user", text("q")),
        "old": node(json!("c"), "assistant", text("old")),
        "d": node(json!("c"), "assistant", json!({"content_type": "thoughts", "thoughts": [{"summary": "S", "content": "hm"}]})),
        "e": code,
        "f": output,
        "g": node(json!("f"), "assistant", text("")),
        "h": node(json!("g"), "assistant", text("Two.")),
    }});
    let (chat, notes) = read(raw.clone());
    let called = json!({"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [
        {"type": "function", "function": {"name": "python", "arguments": "1 + 1"}}]});
    let tool = json!({"role": "tool", "content": "2", "name": "python"});
    assert_eq!(chat["messages"], json!([user("q"), called, tool, assistant("Two.")]));
    assert_eq!((&chat["title"], &chat["conversation_id"]), (&json!("Title"), &json!("x")));
    let expected = [
        "mapping of other branches",
        "mapping[].message hidden in the chat (user, user_editable_context)",
        "mapping[].message.content.thoughts[].summary",
        "mapping[].message.metadata",
    ];
    assert_eq!(ignored(&notes), expected);
    let mut image = raw;
    image["mapping"]["c"]["message"]["content"] = json!({"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer"}, "q"]});
    assert!(refusal(image).contains("found a part of type \"image_asset_pointer\""));
}

#[test]
fn claude_reads_blocks_and_attached_files() {
    let raw = json!({"uuid": "x", "name": "Title", "chat_messages": [
        {"uuid": "1", "sender": "human", "text": "q", "content": [{"type": "text", "text": "q", "start_timestamp": "t"}],
            "attachments": [{"file_name": "notes.txt", "extracted_content": "the notes"}], "files": []},
        {"uuid": "2", "sender": "assistant", "text": "a", "content": [
            {"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "c1", "name": "scan", "input": {"port": 22}},
            {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "open"}]},
            {"type": "token_budget"}, {"type": "text", "text": "Open."}]},
        {"uuid": "3", "sender": "human", "text": "r", "content": [], "created_at": "t"},
        {"uuid": "4", "sender": "assistant", "text": "t"}]});
    let (chat, notes) = read(raw);
    let mut first = call("c1", json!({"port": 22}));
    first["content"] = json!("Let me look.");
    first["reasoning_content"] = json!("hm");
    let tool = json!({"role": "tool", "content": "open", "tool_call_id": "c1"});
    let expected =
        json!([user("the notes\nq"), first, tool, assistant("Open."), user("r"), assistant("t")]);
    assert_eq!(chat["messages"], expected);
    let expected = [
        "chat_messages[].attachments",
        "chat_messages[].content[] token_budget",
        "chat_messages[].content[].start_timestamp",
        "chat_messages[].created_at",
        // It says other words than the blocks.
        "chat_messages[].text",
    ];
    assert_eq!(ignored(&notes), expected);
}
