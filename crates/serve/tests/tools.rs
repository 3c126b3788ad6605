//! Calls of tools and reasoning, told apart from the words.

mod support;

use serde_json::{Value, json};
use serve::Server;
use support::{Checkpoint, chat, question, serve, streamed};

/// A template with a form for tools, as of Hermes and Qwen, that opens the reasoning if asked.
const TEMPLATE: &str = "\
{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}\
{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
{% for call in m.tool_calls %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}";

const CALL: &str =
    "\n{\"name\": \"scan\", \"arguments\": {\"host\": \"nas\", \"ports\": [22, 443]}}\n";

fn tools() -> Value {
    let parameters = json!({ "type": "object", "properties": { "host": { "type": "string" } } });
    json!([{ "type": "function", "function": { "name": "scan", "description": "d", "parameters": parameters } }])
}

/// The first answer's message and finish reason, from the whole response and from a streamed one: they
/// must agree.
fn answer(server: &Server, body: &Value) -> (Value, String) {
    let whole = chat(server, body).json();
    let choice = &whole["choices"][0];
    let mut body = body.clone();
    body["stream"] = json!(true);
    let (objects, done) = streamed(server, "/v1/chat/completions", &body);
    assert!(done);
    let (mut words, mut reasoning, mut calls, mut finish) =
        (String::new(), String::new(), Vec::new(), String::new());
    for choice in objects.iter().flat_map(|object| object["choices"].as_array().unwrap()) {
        let delta = &choice["delta"];
        words += delta["content"].as_str().unwrap_or_default();
        reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            assert_eq!(call["index"], calls.len());
            calls.push(call["function"].clone());
        }
        finish += choice["finish_reason"].as_str().unwrap_or_default();
    }
    let message = &choice["message"];
    assert_eq!(message["content"].as_str().unwrap_or_default(), words);
    assert_eq!(message["reasoning_content"].as_str().unwrap_or_default(), reasoning);
    let functions = message["tool_calls"].as_array().into_iter().flatten();
    assert_eq!(functions.map(|call| call["function"].clone()).collect::<Vec<_>>(), calls);
    assert_eq!(choice["finish_reason"], finish);
    (message.clone(), finish)
}

#[test]
fn a_call() {
    let pieces = ["I look.", "<tool_call>", CALL, "</tool_call>"];
    let server = serve(Checkpoint::reciting(&pieces, TEMPLATE).base(), |_| {});
    let (message, finish) = answer(&server, &question("?", json!({ "tools": tools() })));
    assert_eq!((&message["content"], finish.as_str()), (&json!("I look."), "tool_calls"));
    let calls = message["tool_calls"].as_array().unwrap();
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("scan")));
    assert!(call["id"].as_str().unwrap().starts_with("call_"));
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({ "host": "nas", "ports": [22, 443] }));

    // The conversation goes on, as OpenAI's clients send it.
    let messages = json!([
        { "role": "user", "content": "?" },
        { "role": "assistant", "content": null, "tool_calls": calls },
        { "role": "tool", "tool_call_id": call["id"], "content": "open: 22" },
    ]);
    let reply = chat(&server, &json!({ "messages": messages, "tools": tools() }));
    assert_eq!(reply.status, 200, "{}", reply.body);

    // Without tools, or if none may be called, all of it is words.
    for more in [json!({}), json!({ "tools": tools(), "tool_choice": "none" })] {
        let (message, finish) = answer(&server, &question("?", more));
        assert_eq!((&message["content"], finish.as_str()), (&json!(pieces.concat()), "stop"));
        assert!(message.get("tool_calls").is_none());
    }
}

#[test]
fn several_calls_and_one_that_is_cut_short() {
    let pieces = [
        "<tool_call>",
        CALL,
        "</tool_call>\n<tool_call>",
        "{\"name\": \"b\", \"arguments\": {}}",
        " </tool_call>",
    ];
    let server = serve(Checkpoint::reciting(&pieces, TEMPLATE).base(), |_| {});
    let names = |more: Value| {
        let mut more = more;
        more["tools"] = tools();
        let (message, _) = answer(&server, &question("?", more));
        let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
        calls.iter().map(|call| call["function"]["name"].to_string()).collect::<String>()
    };
    assert_eq!(names(json!({})), "\"scan\"\"b\"");
    assert_eq!(names(json!({ "parallel_tool_calls": false })), "\"scan\"");
    let (message, finish) =
        answer(&server, &question("?", json!({ "tools": tools(), "max_tokens": 2 })));
    // Complete but for its last token.
    assert_eq!(finish, "length");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "scan");
}

/// A model whose template has no form for tools is told to answer with JSON, and does.
#[test]
fn a_call_without_marks() {
    let plain = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                 {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let server = serve(Checkpoint::reciting(&[CALL], plain).base(), |_| {});
    let (message, finish) = answer(&server, &question("?", json!({ "tools": tools() })));
    assert_eq!((&message["content"], finish.as_str()), (&Value::Null, "tool_calls"));
    assert_eq!(message["tool_calls"][0]["function"]["name"], "scan");
    let other = json!([{ "type": "function", "function": { "name": "other" } }]);
    let (message, _) = answer(&server, &question("?", json!({ "tools": other })));
    assert_eq!(message["content"], CALL, "no function of that name");
}

#[test]
fn reasoning() {
    let pieces = ["<think>", "\nThe ports", " are three.\n", "</think>", "\n\n", "Three."];
    let server = serve(Checkpoint::reciting(&pieces, TEMPLATE).base(), |_| {});
    let (message, _) = answer(&server, &question("?", json!({})));
    assert_eq!(message["content"], "Three.");
    assert_eq!(message["reasoning_content"], "\nThe ports are three.\n");

    // The template opens the reasoning.
    let server = serve(Checkpoint::reciting(&pieces[1..], TEMPLATE).base(), |_| {});
    for more in [
        json!({ "chat_template_kwargs": { "enable_thinking": true } }),
        json!({ "reasoning_effort": "high" }),
    ] {
        let (message, _) = answer(&server, &question("?", more));
        assert_eq!(message["content"], "Three.");
        assert_eq!(
            message["reasoning_content"],
            "The ports are three.\n".replacen("The", "\nThe", 1)
        );
    }
    let (message, _) = answer(&server, &question("?", json!({ "reasoning_effort": "none" })));
    assert_eq!(message["content"], pieces[1..].concat());
}
