//! Gemma 4 and Qwen3.5 through HTTP: tiny checkpoints of random weights with the published chat templates.
//!
//! Where the templates cannot be fetched, the tests say so and pass.

mod support;

use chat_format::{ChatTokenizer, Message, RenderOptions, Thinking};
use models::{Adapter, GenerateOptions, Generator};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use serve::{Champion, Server};
use support::families::{Family, gemma4, qwen35, templates};
use support::schema::{is_of, schema};
use support::{Checkpoint, chat, question, serve, streamed};

/// Both families, each with a running server; none without the templates.
fn each(check: impl Fn(&Family, &Checkpoint, &Server)) {
    let Some(templates) = templates() else { return };
    for family in [gemma4(), qwen35()] {
        let checkpoint = family.checkpoint(&templates);
        let server = serve(checkpoint.base(), |_| {});
        check(&family, &checkpoint, &server);
    }
}

fn parts(message: &Value) -> String {
    let part = |key: &str| message[key].as_str().unwrap_or_default();
    format!("{}|{}", part("reasoning_content"), part("content"))
}

/// What a generator without a server says, as text with its control tokens.
fn alone(checkpoint: &Checkpoint, adapter: Option<&tempfile::TempDir>, asked: &str) -> Vec<u32> {
    let model = checkpoint.model();
    let tokenizer = ChatTokenizer::open(checkpoint.path()).unwrap();
    let prompt =
        tokenizer.prompt_tokens(&[Message::user(asked)], &RenderOptions::default()).unwrap();
    let stop_ids = tokenizer.stop_ids().to_vec();
    let options = GenerateOptions { max_tokens: 24, stop_ids, ..GenerateOptions::default() };
    let adapter = Adapter::open(adapter.map(|folder| folder.path()), &model).unwrap();
    let completions =
        Generator::new(&model, &adapter).unwrap().generate(&[prompt], &options).unwrap();
    completions[0].tokens.clone()
}

#[test]
fn prompts_are_those_of_the_template_and_answers_those_of_the_model() {
    each(|family, checkpoint, server| {
        let tokenizer = ChatTokenizer::open(checkpoint.path()).unwrap();
        let adapter = checkpoint.random_adapter(3);
        for (generation, adapter) in [(0, None), (1, Some(&adapter))] {
            if let Some(folder) = adapter {
                server.swap(&Champion::new(folder.path(), generation)).unwrap();
            }
            for asked in ["Who are you?", "a", &"Is the garden gate closed? ".repeat(9)] {
                let body = question(asked, json!({ "max_tokens": 24 }));
                let whole = chat(server, &body).json();
                let tokens = alone(checkpoint, adapter, asked);
                let name = family.name;
                let rendered =
                    tokenizer.prompt_tokens(&[Message::user(asked)], &RenderOptions::default());
                assert_eq!(whole["usage"]["prompt_tokens"], rendered.unwrap().len(), "{name}");
                assert_eq!(whole["usage"]["completion_tokens"], tokens.len(), "{name}: {whole}");
                let message = &whole["choices"][0]["message"];
                // A random model says control tokens too, which are told apart or spelled out.
                if !tokens.iter().any(|&token| tokenizer.is_control(token)) {
                    assert_eq!(
                        parts(message),
                        format!("|{}", tokenizer.decode(&tokens).unwrap()),
                        "{name}"
                    );
                }
                let mut body = body;
                body["stream"] = json!(true);
                let (objects, done) = streamed(server, "/v1/chat/completions", &body);
                let joined = |key: &str| -> String {
                    let deltas = objects.iter().map(|it| it["choices"][0]["delta"][key].as_str());
                    deltas.flatten().collect()
                };
                let streamed = format!("{}|{}", joined("reasoning_content"), joined("content"));
                assert_eq!((streamed, done), (parts(message), true), "{name}");
            }
        }
    });
}

#[test]
fn many_at_once_get_what_each_gets_alone() {
    each(|family, _, server| {
        let ask = |number: usize| {
            let body = question(&"who? ".repeat(1 + 7 * (number % 5)), json!({ "max_tokens": 16 }));
            parts(&chat(server, &body).json()["choices"][0]["message"])
        };
        let alone: Vec<String> = (0..5).map(ask).collect();
        let together: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..20).map(|number| scope.spawn(move || ask(number))).collect();
            asked.into_iter().map(|answer| answer.join().unwrap()).collect()
        });
        for (number, answer) in together.iter().enumerate() {
            assert_eq!(*answer, alone[number % 5], "{}: {number}", family.name);
        }
    });
}

#[test]
fn schemas_and_thinking() {
    each(|family, checkpoint, server| {
        let name = family.name;
        let schema = json!({
            "type": "object", "properties": { "rank": { "enum": ["knight", "master"] } },
            "required": ["rank"], "additionalProperties": false,
        });
        let format =
            json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
        let more =
            json!({ "response_format": format, "max_tokens": 900, "temperature": 1, "seed": 2 });
        let answer = chat(server, &question("Which rank?", more)).json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop", "{name}: {answer}");
        let value: Value =
            serde_json::from_str(choice["message"]["content"].as_str().unwrap()).unwrap();
        assert!(
            ["knight", "master"].contains(&value["rank"].as_str().unwrap()),
            "{name}: {answer}"
        );
        // With thinking the prompt is that of the template with thinking.
        let tokenizer = ChatTokenizer::open(checkpoint.path()).unwrap();
        let options = RenderOptions::default().thinking(Thinking::On);
        let expected = tokenizer.prompt_tokens(&[Message::user("?")], &options).unwrap().len();
        let more = json!({ "chat_template_kwargs": { "enable_thinking": true }, "max_tokens": 4 });
        let answer = chat(server, &question("?", more)).json();
        assert_eq!(answer["usage"]["prompt_tokens"], expected, "{name}");
    });
}

fn tool(name: &str, parameters: &Value) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": parameters } })
}

/// The only call of each answer to a request that must call: name and arguments.
fn forced(server: &Server, tools: &Value, more: &Value) -> Vec<(String, Value)> {
    let mut body = question("?", json!({ "tools": tools, "max_tokens": 1900, "temperature": 1 }));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = chat(server, &body);
    assert_eq!(reply.status, 200, "{tools}: {}", reply.body);
    let call = |choice: &Value| {
        let message = &choice["message"];
        assert_eq!(choice["finish_reason"], "tool_calls", "{tools}: {choice}");
        assert!(message["content"].is_null(), "{tools}: {choice}");
        let [call] = &message["tool_calls"].as_array().unwrap()[..] else { panic!("{choice}") };
        let function = &call["function"];
        let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
        (function["name"].as_str().unwrap().to_owned(), arguments)
    };
    reply.json()["choices"].as_array().unwrap().iter().map(call).collect()
}

/// Random weights at temperature 1, so that nothing but the grammar makes a call of it.
#[test]
fn every_forced_call_is_valid_for_its_schema() {
    const NAMES: [&str; 5] = ["host", "Port", "dry_run", "x", "a b"];
    const CASES: u32 = 50;
    each(|family, _, server| {
        let mut runner = TestRunner::new_with_rng(
            Config { cases: CASES, failure_persistence: None, ..Config::default() },
            TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        );
        let cases = (schema(&NAMES), schema(&NAMES), any::<[bool; 2]>(), any::<u32>());
        let outcome = runner.run(&cases, |(one, other, [required, named], seed)| {
            let parameters = json!({
                "type": "object", "properties": { "one": one, "other": other },
                "required": if required { vec!["one", "other"] } else { vec![] },
                "additionalProperties": false,
            });
            let tools = json!([tool("scan", &parameters), tool("stop", &json!({}))]);
            let choice = match named {
                true => json!({ "type": "function", "function": { "name": "scan" } }),
                false => json!("required"),
            };
            let more = json!({ "tool_choice": choice, "seed": seed });
            for (called, arguments) in forced(server, &tools, &more) {
                let valid = match called.as_str() {
                    "scan" => is_of(&arguments, &parameters),
                    _ => !named && arguments == json!({}),
                };
                prop_assert!(valid, "{}: {} of {}", family.name, arguments, parameters);
            }
            Ok(())
        });
        outcome.unwrap();
    });
}

/// With thinking, the call or the JSON follows the reasoning, if the model reasons.
#[test]
fn what_is_forced_may_follow_reasoning() {
    let parameters = json!({
        "type": "object", "properties": { "host": { "enum": ["nas", "router"] }, "port": { "type": "integer" } },
        "required": ["host", "port"], "additionalProperties": false,
    });
    let call = json!({ "tools": [tool("scan", &parameters)], "tool_choice": "required" });
    let format =
        json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": parameters } });
    let format = json!({ "response_format": format });
    each(|family, _, server| {
        for (what, reads) in [(&call, "tool_calls"), (&format, "content")] {
            let (mut reasoned, mut completed) = (0, 0);
            for seed in 0..8 {
                let more = json!({
                    "chat_template_kwargs": { "enable_thinking": true }, "max_tokens": 1500,
                    "temperature": 1, "n": 3, "seed": seed,
                });
                let mut body = question("?", more);
                body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
                let reply = chat(server, &body);
                assert_eq!(reply.status, 200, "{}: {}", family.name, reply.body);
                for choice in reply.json()["choices"].as_array().unwrap() {
                    let (message, shown) =
                        (&choice["message"], format!("{}: {choice}", family.name));
                    reasoned += usize::from(message["reasoning_content"].is_string());
                    if choice["finish_reason"] == "length" {
                        continue;
                    }
                    let text = match reads {
                        "content" => &message["content"],
                        _ => &message["tool_calls"][0]["function"]["arguments"],
                    };
                    let text = text.as_str().unwrap_or_else(|| panic!("{shown}"));
                    let value: Value = serde_json::from_str(text).unwrap();
                    assert!(
                        ["nas", "router"].contains(&value["host"].as_str().unwrap()),
                        "{shown}"
                    );
                    let port = value["port"].as_f64().unwrap_or_else(|| panic!("{shown}"));
                    assert!(
                        port.fract() == 0.0 && value.as_object().unwrap().len() == 2,
                        "{shown}"
                    );
                    assert!(reads == "content" || message["content"].is_null(), "{shown}");
                    completed += 1;
                }
            }
            println!("{}: {reads}: {completed} of 24 completed, {reasoned} reasoned", family.name);
            // Qwen 3.5's template opens the reasoning, Gemma 4 decides.
            assert!(completed >= 12, "{}: {reads}: {completed}", family.name);
            assert!(family.name == "gemma4" || reasoned == 24, "{}: {reasoned}", family.name);
        }
    });
}

/// Schemas as tools have them: references, maps, texts with patterns, numbers without limits, any value.
#[test]
fn forced_calls_of_tools_as_people_declare_them() {
    let parameters = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Search", "type": "object",
        "properties": {
            "zip": { "type": "string", "pattern": "^[0-9]{5}$", "description": "Where?" },
            "limit": { "type": "integer", "minimum": 1, "maximum": 50, "default": 10 },
            "near": { "anyOf": [{ "$ref": "#/$defs/Place" }, { "type": "null" }] },
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 5 }, "maxItems": 3 },
            "weights": { "type": "object", "additionalProperties": { "type": "number" } },
            "note": { "type": ["string", "null"], "maxLength": 8 },
            "code": { "anyOf": [{ "type": "string", "maxLength": 4 }, { "type": "integer" }] },
        },
        "required": ["zip", "near", "weights", "note", "code"],
        "$defs": { "Place": {
            "type": "object", "required": ["lat"],
            "properties": { "lat": { "type": "number" }, "inside": { "$ref": "#/$defs/Place" } },
        } },
    });
    fn is_place(value: &Value) -> bool {
        value["lat"].is_number() && value.get("inside").is_none_or(is_place)
    }
    let tools = json!([tool("search", &parameters)]);
    each(|family, _, server| {
        for seed in 0..10 {
            let more = json!({ "tool_choice": "required", "seed": seed, "n": 5 });
            for (_, arguments) in forced(server, &tools, &more) {
                let shown = format!("{}: {arguments}", family.name);
                let zip = arguments["zip"].as_str().unwrap_or_else(|| panic!("{shown}"));
                assert!(zip.len() == 5 && zip.bytes().all(|b| b.is_ascii_digit()), "{shown}");
                let limit = arguments.get("limit");
                assert!(limit.is_none_or(|limit| (1..=50).contains(&limit.as_i64().unwrap())));
                assert!(arguments["near"].is_null() || is_place(&arguments["near"]), "{shown}");
                let weights = arguments["weights"].as_object().unwrap();
                assert!(weights.values().all(Value::is_number), "{shown}");
                assert!(arguments["note"].is_null() || arguments["note"].is_string(), "{shown}");
                let code = &arguments["code"];
                let text = code.as_str().is_some_and(|text| text.chars().count() <= 4);
                assert!(text || code.as_f64().is_some_and(|it| it.fract() == 0.0), "{shown}");
            }
        }
    });
}

#[test]
fn what_a_call_cannot_be_made_to_follow_is_refused_by_name() {
    each(|family, _, server| {
        let many: Map<String, Value> = (0..201).map(|at| (format!("p{at}"), json!({}))).collect();
        let many = json!({ "type": "object", "properties": many });
        for (schema, word) in [
            (json!({ "type": "string", "format": "date" }), "`format`"),
            (json!({ "oneOf": [{ "type": "null" }] }), "`oneOf`"),
            (json!({ "type": "object", "minProperties": 2 }), "`minProperties`"),
            (json!({ "type": "string", "enum": ["a"], "maxLength": 3 }), "`maxLength`"),
            (json!({ "type": "wizard" }), "wizard"),
            (json!({ "$ref": "https://example.org/x" }), "$ref"),
            (json!({ "$ref": "#/properties/a" }), "circle"),
            (json!({ "enum": [] }), "no"),
            (json!({ "type": "string", "pattern": "(" }), ""),
            (json!({ "type": "string", "minLength": 1_000_000 }), "minLength"),
            (many, "200 keys"),
        ] {
            let parameters = json!({ "type": "object", "properties": { "a": schema } });
            let tools = [tool("scan", &parameters)];
            let body = question("?", json!({ "tools": tools, "tool_choice": "required" }));
            let refused = chat(server, &body);
            let shown = format!("{}: {schema}: {}", family.name, refused.body);
            assert_eq!(refused.status, 400, "{shown}");
            assert!(refused.error().contains(word), "{shown}");
            assert!(refused.error().starts_with("tool_choice: "), "{shown}");
        }
    });
}
