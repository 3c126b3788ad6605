//! Answers that must be JSON of a schema, or a call of a function.

mod support;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use serve::Server;
use support::schema::{TEXTS, is_of, schema};
use support::{Checkpoint, chat, question, serve, streamed, text};

fn formatted(schema: &Value, more: Value) -> Value {
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let mut body = question("?", json!({ "response_format": format, "max_tokens": 1500 }));
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A model of random weights, so that nothing but the grammar makes it right.
#[test]
fn every_completed_answer_is_of_its_schema() {
    const CASES: u32 = 48;
    let server = serve(Checkpoint::random(5).base(), |_| {});
    let completed = Cell::new(0);
    let mut runner = TestRunner::new_with_rng(
        Config { cases: CASES, ..Config::default() },
        prop::test_runner::TestRng::deterministic_rng(prop::test_runner::RngAlgorithm::ChaCha),
    );
    let cases = (schema(&TEXTS), any::<u32>(), prop::sample::select(&[0.0, 0.7, 1.5][..]));
    let outcome = runner.run(&cases, |(schema, seed, temperature)| {
        let more = json!({ "seed": seed, "temperature": temperature, "n": 2 });
        let reply = chat(&server, &formatted(&schema, more));
        prop_assert_eq!(reply.status, 200, "{}: {}", schema, reply.body);
        for choice in reply.json()["choices"].as_array().unwrap() {
            if choice["finish_reason"] != "stop" {
                continue;
            }
            let text = choice["message"]["content"].as_str().unwrap_or_default();
            let value: Value = serde_json::from_str(text)
                .map_err(|error| TestCaseError::fail(format!("{schema}: {text:?}: {error}")))?;
            prop_assert!(is_of(&value, &schema), "{}: {}", schema, text);
            completed.set(completed.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap();
    let completed = completed.get();
    println!("{completed} of {} answers completed", 2 * CASES);
    assert!(completed >= CASES, "{completed} of {} answers completed", 2 * CASES);
}

#[test]
fn json_streamed_beside_free_answers() {
    let checkpoint = Checkpoint::saying("on duty.");
    let server = serve(checkpoint.base(), |_| {});
    let rank = json!({ "enum": ["knight", "master"] });
    let schema = json!({
        "type": "object", "properties": { "rank": rank, "of": rank }, "required": ["rank", "of"],
        "additionalProperties": false,
    });
    let free = || text(&chat(&server, &question("?", json!({}))).json()).to_owned();
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..4).map(|_| scope.spawn(free)).collect();
        let body = formatted(&schema, json!({}));
        let whole = chat(&server, &body).json();
        let value: Value = serde_json::from_str(text(&whole)).unwrap();
        assert!(value["rank"].is_string() && value["of"].is_string(), "{whole}");
        let format = json!({ "type": "json_object" });
        let any = question("?", json!({ "response_format": format, "max_tokens": 30 }));
        assert!(text(&chat(&server, &any).json()).trim_start().starts_with('{'));
        let mut body = body;
        body["stream"] = json!(true);
        let (objects, done) = streamed(&server, "/v1/chat/completions", &body);
        let deltas = objects.iter().map(|object| object["choices"][0]["delta"]["content"].as_str());
        assert_eq!((deltas.flatten().collect::<String>().as_str(), done), (text(&whole), true));
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), "on duty."));
    });
}

/// As Pydantic writes schemas: whether there may be other properties, they do not say.
#[test]
fn nothing_is_added_to_what_a_schema_names() {
    let server = serve(Checkpoint::random(5).base(), |_| {});
    let schema = json!({
        "title": "Knight", "type": "object", "required": ["rank", "of"], "properties": {
            "rank": { "title": "Rank", "enum": ["knight", "master"] },
            "of": { "anyOf": [{ "$ref": "#/$defs/Order" }, { "type": "null" }] },
        },
        "$defs": { "Order": {
            "type": "object", "properties": { "old": { "type": "boolean" } }, "required": ["old"],
        } },
    });
    for seed in 0..6 {
        let more = json!({ "seed": seed, "temperature": 1.5 });
        let answer = chat(&server, &formatted(&schema, more)).json();
        let value: Value = serde_json::from_str(text(&answer)).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&value), ["rank", "of"], "{answer}");
        assert!(value["of"].is_null() || keys(&value["of"]) == ["old"], "{answer}");
    }
}

#[test]
fn references_within_a_schema() {
    let server = serve(Checkpoint::random(5).base(), |_| {});
    let schema = json!({
        "$defs": { "rank": { "enum": ["knight", "master"] } },
        "type": "object", "properties": { "rank": { "$ref": "#/$defs/rank" } },
        "required": ["rank"], "additionalProperties": false,
    });
    let answer = chat(&server, &formatted(&schema, json!({}))).json();
    let value: Value = serde_json::from_str(text(&answer)).unwrap();
    assert!(["knight", "master"].contains(&value["rank"].as_str().unwrap()), "{answer}");
}

#[test]
fn what_is_refused() {
    let server = serve(Checkpoint::random(5).base(), |_| {});
    let tool = json!({ "type": "function", "function": { "name": "scan" } });
    let nested = |depth: usize| {
        let null = json!({ "type": "null" });
        (0..depth).fold(null, |inner, _| json!({ "type": "array", "items": inner }))
    };
    for (body, status, words) in [
        (formatted(&json!(7), json!({})), 400, "expected a JSON schema, found 7"),
        (formatted(&json!({ "type": "wizard" }), json!({})), 400, "wizard"),
        (formatted(&json!({ "$ref": "https://example.org/x" }), json!({})), 400, "ref"),
        (formatted(&json!({ "$ref": "#/$defs/none" }), json!({})), 400, "none"),
        (formatted(&json!({ "not": { "type": "null" } }), json!({})), 400, "not"),
        (formatted(&json!({ "enum": [] }), json!({})), 400, ""),
        (formatted(&json!({ "type": "string", "pattern": "(" }), json!({})), 400, ""),
        (formatted(&json!({}), json!({ "tools": [tool] })), 400, "beside `tools`"),
        (formatted(&nested(60), json!({ "max_tokens": 9 })), 200, ""),
        (formatted(&nested(70), json!({ "max_tokens": 9 })), 400, "at most 64 levels"),
    ] {
        let reply = chat(&server, &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.body);
        assert!(reply.body.contains(words) && reply.body.len() < 2000, "{body}: {}", reply.body);
    }
}

/// Schemas that would take long, or much memory: they are refused or kept to, and others are answered meanwhile.
#[test]
fn hostile_schemas() {
    let server = serve(Checkpoint::saying("on duty.").base(), |_| {});
    let nested = |depth: usize, key: &str| {
        (0..depth)
            .fold(json!({ "type": "null" }), |inner, _| json!({ key: [inner.clone(), inner] }))
    };
    let many: Map<String, Value> =
        (0..200).map(|name| (format!("p{name}"), json!({ "type": "string" }))).collect();
    let more: Map<String, Value> = (0..3000).map(|name| (format!("p{name}"), json!({}))).collect();
    let chain: Map<String, Value> = (0..190)
        .map(|at| (format!("a{at}"), json!({ "$ref": format!("#/$defs/a{}", at + 1) })))
        .chain([("a190".to_owned(), json!({ "type": "null" }))])
        .collect();
    let wide = (0..20).fold(json!({}), |inner, _| {
        let mut fields = many.clone();
        fields.insert("p0".to_owned(), inner);
        json!({ "type": "object", "properties": fields })
    });
    let loops = json!({ "$defs": { "a": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" });
    let tree = json!({
        "$defs": { "n": { "anyOf": [{ "type": "null" }, { "type": "array", "items": { "$ref": "#/$defs/n" } }] } },
        "$ref": "#/$defs/n",
    });
    for (name, schema) in [
        ("a long text", json!({ "type": "string", "minLength": 1_000_000_000 })),
        ("many items", json!({ "type": "array", "minItems": 1_000_000_000, "items": {} })),
        ("repetitions", json!({ "type": "string", "pattern": "^((a{1000}){1000}){1000}$" })),
        ("backtracking", json!({ "type": "string", "pattern": "^(a+)+(b|c+)*(d?)+$" })),
        ("choices", nested(12, "anyOf")),
        ("all of", nested(10, "allOf")),
        ("one of", nested(6, "oneOf")),
        ("properties", json!({ "type": "object", "properties": many })),
        ("more properties", json!({ "type": "object", "properties": more })),
        ("nested properties", wide),
        (
            "words",
            json!({ "enum": (0..4000).map(|word| format!("word {word}")).collect::<Vec<_>>() }),
        ),
        ("a long word", json!({ "const": "x".repeat(1_000_000) })),
        ("a long pattern", json!({ "type": "string", "pattern": "(a?b|c)".repeat(20_000) })),
        (
            "a deep pattern",
            json!({ "type": "string", "pattern": "(".repeat(20_000) + &")".repeat(20_000) }),
        ),
        (
            "a long name",
            json!({ "type": "object", "required": ["n".repeat(300_000)], "properties": {} }),
        ),
        ("references", json!({ "$defs": chain, "$ref": "#/$defs/a0" })),
        ("a reference to itself", loops),
        ("a tree", tree),
        (
            "numbers",
            json!({ "type": "number", "multipleOf": 0.0001, "minimum": -1e300, "maximum": 1e300 }),
        ),
        (
            "options",
            json!({ "type": "null", "x-guidance": { "lenient": true, "whitespace_pattern": "(" } }),
        ),
    ] {
        let begun = std::time::Instant::now();
        let reply = chat(&server, &formatted(&schema, json!({ "max_tokens": 6 })));
        println!("{name}: {} in {:?}: {:.150}", reply.status, begun.elapsed(), reply.body);
        assert!([200, 400].contains(&reply.status), "{name}: {}", reply.body);
        assert!(reply.body.len() < 2000, "{name}: {}", reply.body);
        assert_eq!(text(&chat(&server, &question("?", json!({}))).json()), "on duty.");
    }
}

/// A template with a form for calls, as of Hermes and Qwen.
const HERMES: &str = "\
{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
{% for call in m.tool_calls %}<tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>\n{% endif %}{% endif %}";
/// One with another form.
const OTHER: &str = "\
{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\
{% for call in m.tool_calls %}[{{ call.function.name }}{{ call.function.arguments }}]{% endfor %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

fn tools() -> Value {
    let host = json!({ "enum": ["nas", "router"] });
    let parameters = json!({
        "type": "object", "properties": { "host": { "$ref": "#/$defs/host" } }, "required": ["host"],
        "additionalProperties": false, "$defs": { "host": host },
    });
    json!([
        { "type": "function", "function": { "name": "scan", "parameters": parameters } },
        { "type": "function", "function": { "name": "stop" } },
    ])
}

fn called(server: &Server, choice: Value) -> (String, Value) {
    let more = json!({ "tools": tools(), "tool_choice": choice, "max_tokens": 400 });
    let reply = chat(server, &question("?", more)).json();
    let answer = &reply["choices"][0];
    assert_eq!(answer["finish_reason"], "tool_calls", "{reply}");
    assert!(answer["message"]["content"].as_str().is_none_or(str::is_empty), "{reply}");
    let calls = answer["message"]["tool_calls"].as_array().unwrap();
    let [call] = &calls[..] else { panic!("{reply}") };
    let function = &call["function"];
    let arguments = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    (function["name"].as_str().unwrap().to_owned(), arguments)
}

/// Models that would never call by themselves.
#[test]
fn a_function_that_must_be_called() {
    let named = |name: &str| json!({ "type": "function", "function": { "name": name } });
    let plain = Checkpoint::saying("no.");
    let marked = Checkpoint::reciting(&["no", "<tool_call>", "</tool_call>"], HERMES);
    for checkpoint in [plain, marked] {
        let server = serve(checkpoint.base(), |_| {});
        let (name, arguments) = called(&server, named("scan"));
        assert_eq!(name, "scan");
        assert!(["nas", "router"].contains(&arguments["host"].as_str().unwrap()), "{arguments}");
        let (name, arguments) = called(&server, json!("required"));
        assert!(["scan", "stop"].contains(&name.as_str()) && arguments.is_object(), "{name}");
    }
    let server = serve(Checkpoint::reciting(&["no"], OTHER).base(), |_| {});
    let refused = |server: &Server, more: Value| {
        let reply = chat(server, &question("?", more));
        assert_eq!(reply.status, 400, "{}", reply.body);
        reply.error()
    };
    let more = |choice: Value| json!({ "tools": tools(), "tool_choice": choice });
    let error = refused(&server, more(json!("required")));
    assert!(error.contains("tool_choice: the form of this model's calls is not known"), "{error}");
    let error = refused(&server, more(named("fly")));
    assert!(error.contains("the name of one of `tools`"), "{error}");
}

/// A model that would only reason: what it must say comes after the reasoning that the template opens.
#[test]
fn what_must_be_said_follows_the_reasoning() {
    let server = serve(Checkpoint::reciting(&["hm. ", "</think>", "no"], HERMES).base(), |_| {});
    let rank = json!({
        "type": "object", "properties": { "rank": { "enum": ["knight"] } }, "required": ["rank"],
        "additionalProperties": false,
    });
    let thinking = |more: Value| {
        let mut body = question("?", json!({ "reasoning_effort": "high", "max_tokens": 400 }));
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let answer = |more: Value| chat(&server, &thinking(more)).json()["choices"][0].clone();

    let called = answer(json!({ "tools": tools(), "tool_choice": "required" }));
    assert_eq!(called["message"]["reasoning_content"].as_str().unwrap().trim(), "hm.", "{called}");
    assert!(called["message"]["content"].is_null(), "{called}");
    assert_eq!(called["message"]["tool_calls"].as_array().unwrap().len(), 1, "{called}");
    assert_eq!(called["finish_reason"], "tool_calls", "{called}");

    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": rank } });
    let said = answer(json!({ "response_format": format }));
    assert_eq!(said["message"]["reasoning_content"].as_str().unwrap().trim(), "hm.", "{said}");
    let value: Value = serde_json::from_str(said["message"]["content"].as_str().unwrap()).unwrap();
    assert_eq!(value, json!({ "rank": "knight" }));
    let mut body = thinking(json!({ "response_format": format, "stream": true }));
    let (objects, done) = streamed(&server, "/v1/chat/completions", &body);
    let deltas = objects.iter().map(|it| it["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.flatten().collect::<String>(), said["message"]["content"].as_str().unwrap());
    assert!(done);
    // Reasoning that takes all tokens is cut short, and nothing is made up after it.
    body["max_tokens"] = json!(1);
    body["stream"] = json!(false);
    let cut = chat(&server, &body).json()["choices"][0].clone();
    assert_eq!(
        (cut["finish_reason"].as_str(), cut["message"]["content"].as_str()),
        (Some("length"), Some(""))
    );
}
