//! Gemma 4 and Qwen3.5 through HTTP: tiny checkpoints of random weights with the published chat templates.
//!
//! Where the templates cannot be fetched, the tests say so and pass.

mod support;

use std::path::PathBuf;

use chat_format::{ChatTokenizer, Message, RenderOptions, Thinking};
use models::{Adapter, GenerateOptions, Generator};
use serde_json::{Value, json};
use serve::{Champion, Server};
use support::{Checkpoint, chat, question, serve, streamed};

/// A family's name, its tiny shape, and what its vocabulary and template need.
struct Family {
    name: &'static str,
    config: Value,
    controls: &'static [&'static str],
    template: &'static str,
}

/// Sliding and full attention, a shared projection of keys and values, experts.
fn gemma4() -> Family {
    let config = json!({
        "model_type": "gemma4", "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
            "sliding_window": 16, "sliding_window_pattern": 3, "num_kv_shared_layers": 0,
            "hidden_size_per_layer_input": 0, "max_position_embeddings": 2048,
            "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32,
        },
    });
    let controls = &[
        "<bos>",
        "<turn|>",
        "<|turn>",
        "<|channel>",
        "<channel|>",
        "<|think|>",
        "<|tool>",
        "<tool|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        "<|\"|>",
    ];
    Family { name: "gemma4", config, controls, template: "google-gemma-4-31B-it.jinja" }
}

/// Three layers of linear attention and one of full attention.
fn qwen35() -> Family {
    let config = json!({
        "model_type": "qwen3_5", "text_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
            "linear_value_head_dim": 8, "tie_word_embeddings": true,
        },
    });
    let controls = &[
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
    ];
    Family { name: "qwen35", config, controls, template: "Qwen3.5-4B.jinja" }
}

impl Family {
    fn checkpoint(&self, templates: &std::path::Path) -> Checkpoint {
        let template = std::fs::read_to_string(templates.join(self.template)).unwrap();
        Checkpoint::of_family(self.config.clone(), self.controls, &template)
    }
}

fn templates() -> Option<PathBuf> {
    fetch::if_reachable(fetch::vocabularies(&mut |_| {})).unwrap()
}

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
        // Their calls have other forms than the known ones.
        let tools = json!([{ "type": "function", "function": { "name": "scan" } }]);
        let forced = json!({ "tools": tools, "tool_choice": "required" });
        let refused = chat(server, &question("?", forced));
        assert_eq!(refused.status, 400, "{name}: {}", refused.body);
        assert!(refused.error().contains("tool_choice"), "{name}: {}", refused.body);
        // With thinking the prompt is that of the template with thinking.
        let tokenizer = ChatTokenizer::open(checkpoint.path()).unwrap();
        let options = RenderOptions::default().thinking(Thinking::On);
        let expected = tokenizer.prompt_tokens(&[Message::user("?")], &options).unwrap().len();
        let more = json!({ "chat_template_kwargs": { "enable_thinking": true }, "max_tokens": 4 });
        let answer = chat(server, &question("?", more)).json();
        assert_eq!(answer["usage"]["prompt_tokens"], expected, "{name}");
    });
}
