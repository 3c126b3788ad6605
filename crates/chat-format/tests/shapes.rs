//! The shapes in which data sets and logs store a conversation.

#[path = "common/chats.rs"]
mod chats;

use chat_format::Role;
use chat_format::clean::{self, Options, Reasoning, Shape};
use serde_json::{Value, json};

use chats::{chat, clean, content, turns};

#[test]
fn every_shape_is_read_and_other_keys_are_kept() {
    let cases = [
        (
            Shape::Messages,
            json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}], "agent": "windu"}),
        ),
        (
            Shape::Conversations,
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "agent": "windu"}),
        ),
        (
            Shape::Conversations,
            json!({"conversation": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "agent": "windu"}),
        ),
        (Shape::Alpaca, json!({"instruction": "q", "input": "", "output": "a", "agent": "windu"})),
        (Shape::PromptCompletion, json!({"prompt": "q", "completion": "a", "agent": "windu"})),
        (
            Shape::PromptCompletion,
            json!({"prompt": [{"role": "user", "content": "q"}], "completion": "a", "agent": "windu"}),
        ),
        (
            Shape::Text,
            json!({"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>", "agent": "windu"}),
        ),
    ];
    for (shape, raw) in cases {
        let (chat, notes) = clean::row(raw.clone(), Options::default()).unwrap();
        assert_eq!(turns(&chat), [(Role::User, "q"), (Role::Assistant, "a")], "{raw}");
        assert_eq!(chat.meta["agent"], "windu");
        assert_eq!(notes.shapes, [(shape, 1)].into());
    }
}

/// Shapes of logs, servers and older interfaces, each with the clean messages as JSON.
#[test]
fn nothing_of_a_conversation_is_lost() {
    let question = json!({"role": "user", "content": "q"});
    let answer = json!({"role": "assistant", "content": "a"});
    let plain = json!([question, answer]);
    let system = json!({"role": "system", "content": "s"});
    let call = json!({"type": "function", "function": {"name": "scan", "arguments": {"port": 22}}});
    let called = json!({"role": "assistant", "content": "", "tool_calls": [call]});
    let mut with_id = call.clone();
    with_id["id"] = json!("t1");
    let thinking =
        json!([question, {"role": "assistant", "content": "a", "reasoning_content": "hm"}]);
    let cases = [
        ("a bare list", plain.clone(), plain.clone()),
        (
            "capital roles",
            json!({"conversations": [{"from": "Human", "value": "q"}, {"from": "ChatGPT", "value": "a"}]}),
            plain.clone(),
        ),
        ("ai", json!({"messages": [question, {"role": "AI", "content": "a"}]}), plain.clone()),
        (
            "null columns",
            json!({"messages": null, "prompt": "q", "completion": "a", "text": null}),
            plain.clone(),
        ),
        (
            "developer",
            json!({"messages": [{"role": "developer", "content": "s"}, question, answer]}),
            json!([system, question, answer]),
        ),
        (
            "system beside messages",
            json!({"system": "s", "messages": plain}),
            json!([system, question, answer]),
        ),
        (
            "system beside a prompt",
            json!({"system": [{"type": "text", "text": "s"}], "prompt": "q", "completion": "a"}),
            json!([system, question, answer]),
        ),
        (
            "a rendered prompt and its completion",
            json!({"prompt": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n<think>\n", "completion": "hm</think>a<|im_end|>"}),
            thinking.clone(),
        ),
        (
            "history",
            json!({"instruction": "i", "input": "q", "output": "a", "history": [["x", "y"]]}),
            json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}, {"role": "user", "content": "i\n\nq"}, answer]),
        ),
        (
            "thinking",
            json!({"messages": [question, {"role": "assistant", "content": "a", "thinking": "hm"}]}),
            thinking.clone(),
        ),
        (
            "reasoning",
            json!({"messages": [question, {"role": "assistant", "content": "a", "reasoning": "hm"}]}),
            thinking.clone(),
        ),
        (
            "parts",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "input_text", "text": "r"}]}, answer]}),
            json!([{"role": "user", "content": "q\nr"}, answer]),
        ),
        (
            "function_call",
            json!({"messages": [question, {"role": "assistant", "content": null, "function_call": {"name": "scan", "arguments": "{\"port\": 22}"}}, {"role": "function", "name": "scan", "content": ""}, answer]}),
            json!([question, called, {"role": "tool", "content": "", "name": "scan"}, answer]),
        ),
        (
            "a turn that is a call",
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "{\"name\": \"scan\", \"arguments\": {\"port\": 22}}"}, {"from": "observation", "value": "ok"}, {"from": "gpt", "value": "a"}]}),
            json!([question, called, {"role": "tool", "content": "ok"}, answer]),
        ),
        (
            "an answer that OpenAI calls a refusal",
            json!({"messages": [question, {"role": "assistant", "content": null, "refusal": "a"}]}),
            plain.clone(),
        ),
        (
            "a turn of several calls",
            json!({"messages": [question, {"role": "tool_call", "content": [{"name": "scan", "arguments": {"port": 22}}, {"name": "scan", "arguments": {"port": 22}}]}, {"role": "tool", "content": "ok"}, answer]}),
            json!([question, {"role": "assistant", "content": "", "tool_calls": [call, call]}, {"role": "tool", "content": "ok"}, answer]),
        ),
        (
            "parts with values",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "value": "q"}], "loss_weight": 0.0}, {"role": "assistant", "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "a"}, {"type": "tool_call", "value": "{\"name\": \"scan\", \"arguments\": {\"port\": 22}}"}]}]}),
            json!([{"role": "user", "content": "q", "train": false}, {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [call]}]),
        ),
        (
            "the better of two answers",
            json!({"prompt": "q", "chosen": "a", "rejected": "b"}),
            plain.clone(),
        ),
        (
            "the better of two answers as a turn",
            json!({"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "a"}, "rejected": {"from": "gpt", "value": "b"}}),
            plain.clone(),
        ),
        (
            "the better of two answers as messages",
            json!({"prompt": [question], "chosen": [answer], "rejected": [{"role": "assistant", "content": "b"}]}),
            plain.clone(),
        ),
        (
            "words about an image",
            json!({"messages": [{"role": "user", "content": "<image>"}, answer], "images": []}),
            json!([{"role": "user", "content": "<image>"}, answer]),
        ),
        (
            "marked-up words beside a call",
            json!({"messages": [question, {"role": "assistant", "content": "<think>hm</think>a", "tool_calls": [call]}]}),
            json!([question, {"role": "assistant", "content": "a", "reasoning_content": "hm", "tool_calls": [call]}]),
        ),
        (
            "a marked-up call and its result",
            json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "<tool_call>\n{\"name\": \"scan\", \"arguments\": {\"port\": 22}}\n</tool_call>"}, {"from": "tool", "value": "<tool_response>\nok\n</tool_response>"}, {"from": "gpt", "value": "a"}]}),
            json!([question, called, {"role": "tool", "content": "ok"}, answer]),
        ),
        (
            "Anthropic",
            json!({"system": "s", "messages": [question,
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "x"}, {"type": "text", "text": "b"}, {"type": "tool_use", "id": "t1", "name": "scan", "input": {"port": 22}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "ok"}]}, {"type": "text", "text": "and?"}]},
                answer]}),
            json!([system, question,
                {"role": "assistant", "content": "b", "reasoning_content": "hm", "tool_calls": [with_id]},
                {"role": "tool", "content": "ok", "tool_call_id": "t1"}, {"role": "user", "content": "and?"}, answer]),
        ),
        (
            "a log of OpenAI's",
            json!({"request": {"model": "m", "messages": [system, question]}, "response": {"id": "r", "choices": [{"index": 0, "message": answer}]}}),
            json!([system, question, answer]),
        ),
        (
            "a log of Anthropic's",
            json!({"request": {"system": "s", "messages": [question]}, "response": {"role": "assistant", "content": [{"type": "text", "text": "a"}]}}),
            json!([system, question, answer]),
        ),
        (
            "a log of Ollama's",
            json!({"request": {"messages": [question]}, "response": {"message": answer, "done": true}}),
            plain.clone(),
        ),
        (
            "a log with the response beside the messages",
            json!({"messages": [system, question], "response": {"choices": [{"message": answer}]}}),
            json!([system, question, answer]),
        ),
        (
            "a log of OpenAI's Responses",
            json!({"request": {"instructions": "s", "input": "q"}, "response": {"output": [
                {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
                {"type": "function_call", "id": "f", "call_id": "t1", "name": "scan", "arguments": "{\"port\": 22}"},
                {"type": "function_call_output", "call_id": "t1", "output": "ok"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}]}}),
            json!([system, question,
                {"role": "assistant", "content": "b", "reasoning_content": "hm", "tool_calls": [with_id]},
                {"role": "tool", "content": "ok", "tool_call_id": "t1"}, answer]),
        ),
        (
            "Llama 4",
            json!({"text": "<|begin_of_text|><|header_start|>system<|header_end|>\n\ns<|eot|><|header_start|>user<|header_end|>\n\nq<|eot|><|header_start|>assistant<|header_end|>\n\na<|eot|>"}),
            json!([system, question, answer]),
        ),
        (
            "Llama 4's call",
            json!({"text": "<|begin_of_text|><|header_start|>user<|header_end|>\n\nq<|eot|><|header_start|>assistant<|header_end|>\n\n<|python_start|>{\"name\": \"scan\", \"parameters\": {\"port\": 22}}<|python_end|><|eom|><|header_start|>ipython<|header_end|>\n\nok<|eot|><|header_start|>assistant<|header_end|>\n\na<|eot|>"}),
            json!([question, called, {"role": "tool", "content": "ok"}, answer]),
        ),
        (
            "Llama 3's built-in tools",
            json!({"messages": [question, {"role": "assistant", "content": "<|python_tag|>scan.call(port=\"22\")<|eom_id|>"}, {"role": "ipython", "content": "ok"}, answer]}),
            json!([question, {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "scan", "arguments": {"port": "22"}}}]}, {"role": "tool", "content": "ok"}, answer]),
        ),
        (
            "thinking tags",
            json!({"messages": [question, {"role": "assistant", "content": "<thinking>\nhm\n</thinking>\n\na"}]}),
            thinking.clone(),
        ),
        (
            "harmony",
            json!({"text": "<|start|>system<|message|>s<|end|><|start|>user<|message|>q<|end|><|start|>assistant<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.scan <|constrain|>json<|message|>{\"port\": 22}<|call|><|start|>functions.scan to=assistant<|channel|>commentary<|message|>ok<|end|><|start|>assistant<|channel|>final<|message|>a<|return|>"}),
            json!([system, question, {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]}, {"role": "tool", "content": "ok", "name": "scan"}, answer]),
        ),
        (
            "a harmony answer",
            json!({"messages": [question, {"role": "assistant", "content": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>a"}]}),
            thinking.clone(),
        ),
        (
            "harmony messages",
            json!({"messages": [question, {"role": "assistant", "channel": "analysis", "content": "hm"}, {"role": "assistant", "channel": "final", "content": "a"}]}),
            thinking,
        ),
    ];
    for (name, raw, expected) in cases {
        let options = Options::default().reasoning(Reasoning::Keep);
        let (chat, notes) =
            clean::row(raw, options).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(json!(chat)["messages"], expected, "{name}");
        assert_eq!(notes.ignored, [].into(), "{name}");
    }
    let tools = json!([{"type": "function", "function": {"name": "scan"}}]);
    for (key, value) in [
        ("tools", tools.clone()),
        ("tools", json!(tools.to_string())),
        ("functions", json!([{"name": "scan"}])),
    ] {
        for shape in ["messages", "conversations"] {
            let chat = clean(json!({(shape): plain, (key): value}));
            assert_eq!((json!(chat.tools), chat.meta.len()), (tools.clone(), 0));
        }
    }
    // What is not part of the conversation is kept; what a message holds beside it is named.
    let log = clean(
        json!({"request": {"model": "m", "messages": [question]}, "response": {"message": answer, "done": true}, "agent": "x"}),
    );
    assert_eq!(
        json!(log.meta),
        json!({"agent": "x", "request": {"model": "m"}, "response": {"done": true}})
    );
    let log = clean(
        json!({"request": {"messages": [question]}, "response": {"choices": "odd", "message": answer}}),
    );
    assert_eq!(json!(log.meta), json!({"response": {"choices": "odd"}}));
    let raw = json!({"messages": [question, {"role": "assistant", "content": [{"type": "text", "text": "a", "cache_control": {}}], "time": 7, "audio": null}]});
    let (_, notes) = clean::row(raw, Options::default()).unwrap();
    let ignored: Vec<_> = notes.ignored.into_keys().collect();
    assert_eq!(ignored, ["messages[].content[].cache_control", "messages[].time"]);
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let question = json!({"role": "user", "content": "q"});
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (raw, expected) in [
        (
            part(json!({"type": "image_url", "image_url": {}})),
            "`messages[0].content[0]`: expected a text part, found a part of type \"image_url\"",
        ),
        (
            part(json!({"type": "input_audio", "input_audio": {}})),
            "found a part of type \"input_audio\"",
        ),
        (
            json!({"messages": [{"role": "user", "content": "<image>Who?"}], "images": ["1.jpg"]}),
            "`images`: expected messages of text alone, found `<image>`",
        ),
        (
            json!({"conversations": [{"from": "human", "value": "<image>\nWho?"}], "image": "1.jpg"}),
            "`image`: expected messages of text alone, found `<image>`",
        ),
        (
            json!({"messages": [{"role": "user", "content": "Who?", "images": ["iVBORw0="]}]}),
            "`messages[0].images`: expected a message of text alone, found images",
        ),
        (
            json!({"conversations": [{"from": "function_call", "value": "scan(22)"}]}),
            "`conversations[0].content`: expected a call as JSON, with `name` and `arguments`, found \"scan(22)\"",
        ),
        (
            json!({"messages": [question], "tools": "scan"}),
            "`tools`: expected an array of declarations, found \"scan\"",
        ),
        (
            json!({"messages": [{"role": "system", "content": "s"}, question], "system": "t"}),
            "`system`: expected no system message beside it",
        ),
        (
            json!({"instruction": "q", "output": "a", "history": [["x"]]}),
            "`history[0]`: expected a question and its answer",
        ),
        (
            json!({"request": {"messages": [question]}, "response": {}}),
            "`response`: expected `choices`, `message` or `content`",
        ),
        (
            json!({"prompt": "<|im_start|>user\nq<|im_end|>", "completion": "a"}),
            "`prompt`: expected a rendered prompt that ends where the assistant's turn begins",
        ),
        (
            json!({"text": "<|start|>narrator<|message|>x<|end|>"}),
            "found a message of \"narrator\"",
        ),
    ] {
        let message = clean::row(raw.clone(), Options::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{raw}: {message}");
    }
}

#[test]
fn rows_that_cannot_be_cleaned_say_why() {
    let cases = [
        (json!([1]), "expected a JSON object, found an array of 1"),
        (
            json!({"agent": "x"}),
            "expected `messages`, `conversations`, `instruction`, `prompt`, `question` or `text`, found `agent`",
        ),
        (json!({"messages": "hi"}), "`messages`: expected an array of messages, found \"hi\""),
        (
            json!({"prompt": "Hi", "completion": "Go away.", "label": false}),
            "`label`: expected true, for an answer to imitate, found false",
        ),
        (
            json!({"messages": [{"role": "user", "content": "Hi"}], "kto_tag": false}),
            "`kto_tag`: expected true, for an answer to imitate, found false",
        ),
        (
            json!({"messages": []}),
            "`messages`: expected at least one message, found an empty array",
        ),
        (
            json!({"messages": [{"role": "narrator", "content": "x"}]}),
            "`messages[0].role`: expected one of system, user, assistant, tool, found \"narrator\"",
        ),
        (
            json!({"messages": [{"role": "user"}]}),
            "`messages[0].content`: expected a text, found nothing",
        ),
        (
            json!({"messages": [{"role": "user", "content": 7}]}),
            "`messages[0].content`: expected a text, found 7",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}),
            "`messages[0].content[0]`: expected a text part, found a part of type \"image\"",
        ),
        (
            // Once, the empty turn was left out, and turns without an answer stood side by side.
            json!({"messages": [{"role": "user", "content": ""}]}),
            "`messages[0].content`: expected words in every turn of the user, found an empty turn",
        ),
        (
            json!({"messages": [{"role": "system", "content": " "}]}),
            "expected at least one message with words, found none",
        ),
        (chat("q", " \u{a0}\n\u{200b}"), "an answer in every assistant turn, found an empty turn"),
        (chat("q", "<|im_end|>  "), "an answer in every assistant turn, found an empty turn"),
        (chat("q", "<think>hm"), "an answer in every assistant turn, found reasoning only"),
        (
            content("<|im_start|>user\n[INST] q [/INST] a</s><|im_end|>"),
            "expected a conversation in one markup",
        ),
        (
            json!({"text": "plain"}),
            "`text`: expected a conversation in a model's markup, found plain text",
        ),
        (json!({"instruction": "q"}), "`output`: expected a text, found nothing"),
        (
            content("<|im_start|>narrator\nOnce<|im_end|>"),
            "expected a turn of system, user, assistant or tool, found a turn of \"narrator\"",
        ),
        (
            content("<|im_start|>user\nq<|im_end|>lost<|im_start|>assistant\na<|im_end|>"),
            "expected words inside turns only, found \"lost\"",
        ),
        (
            content("<|im_start|>user\nq<|im_end|><|im_start|>assistant\n<think>hm<|im_end|>"),
            "expected an answer in every assistant turn, found reasoning only",
        ),
    ];
    for (raw, expected) in cases {
        let message = clean::row(raw.clone(), Options::default()).unwrap_err().to_string();
        assert!(message.contains(expected), "{raw}: {message}");
    }
}

#[test]
fn tool_calls_are_read_from_any_notation() {
    let expected =
        json!({"type": "function", "function": {"name": "scan", "arguments": {"host": "nas"}}});
    for call in [
        "<|im_start|>assistant\nOn it.\n<tool_call>\n{\"name\": \"scan\", \"arguments\": {\"host\": \"nas\"}}\n</tool_call><|im_end|>",
        "<|turn>model\nOn it.<|tool_call>call:scan{host:<|\"|>nas<|\"|>}<tool_call|><turn|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\nOn it.<|python_tag|>{\"name\": \"scan\", \"parameters\": {\"host\": \"nas\"}}<|eom_id|>",
        "<|assistant|>On it.<|tool_call|>[{\"name\": \"scan\", \"arguments\": {\"host\": \"nas\"}}]<|/tool_call|><|end|>",
        "[INST]Hi[/INST]On it.[TOOL_CALLS][{\"name\": \"scan\", \"arguments\": {\"host\": \"nas\"}}]</s>",
        "[INST]Hi[/INST]On it.[TOOL_CALLS]scan[ARGS]{\"host\": \"nas\"}</s>",
    ] {
        let chat = clean(content(call));
        let answer = chat.messages.last().unwrap();
        assert_eq!(answer.content, "On it.", "{call}");
        assert_eq!(json!(answer.tool_calls), json!([expected]), "{call}");
    }
    let openai = json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "scan", "arguments": "{\"host\": \"nas\"}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"}]});
    let chat = clean(openai);
    assert_eq!(chat.messages[0].tool_calls[0].arguments, json!({"host": "nas"}));
    assert_eq!(chat.messages[1].tool_call_id.as_deref(), Some("c1"));
}
