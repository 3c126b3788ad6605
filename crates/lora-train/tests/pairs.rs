//! Data files of pairs: the forms of TRL and mlx-lm-lora, and what is refused with its line.

#[path = "../../pipeline/tests/support/mod.rs"]
mod support;

use chat_format::ChatTokenizer;
use lora_train::{Columns, Data, Pair, Result, TrainConfig, read_pairs};
use support::Tiny;

fn read(tiny: &Tiny, lines: &str) -> Result<Vec<Pair>> {
    tiny.write("pairs.jsonl", lines);
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    read_pairs(tiny.path("pairs.jsonl"), &tokenizer, &Columns::default())
}

/// Bytes as text, control tokens by number.
fn text(tokens: &[u32]) -> String {
    let spelled = tokens.iter().map(|&token| match u8::try_from(token) {
        Ok(byte) => char::from(byte).to_string(),
        Err(_) => format!("[{token}]"),
    });
    spelled.collect()
}

#[test]
fn every_form_gives_the_same_pair() {
    let tiny = Tiny::new();
    let forms = [
        r#"{"prompt":"q?","chosen":"yes","rejected":"no"}"#,
        r#"{"prompt":[{"role":"user","content":"q?"}],"chosen":"yes","rejected":"no"}"#,
        r#"{"messages":[{"role":"user","content":"q?"}],"chosen":{"role":"assistant","content":"yes"},"rejected":{"content":"no"}}"#,
        r#"{"prompt":[{"role":"user","content":"q?"}],"chosen":[{"role":"assistant","content":"yes"}],"rejected":[{"role":"assistant","content":"no"}]}"#,
        r#"{"chosen":[{"role":"user","content":"q?"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"q?"},{"role":"assistant","content":"no"}],"score_chosen":7.5}"#,
        r#"{"prompt":"q?","chosen":[{"role":"user","content":"q?"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"q?"},{"role":"assistant","content":"no"}]}"#,
        r#"{"prompt":"q?","chosen":{"messages":[{"role":"assistant","content":"yes"}]},"rejected":{"messages":[{"role":"assistant","content":"no"}]}}"#,
    ];
    let pairs = read(&tiny, &forms.join("\n")).unwrap();
    assert_eq!(pairs.len(), forms.len());
    for (pair, form) in pairs.iter().zip(forms) {
        assert_eq!(pair, &pairs[0], "{form}");
    }
    let Pair { prompt, chosen, rejected } = &pairs[0];
    assert!(text(prompt).contains("q?"), "{}", text(prompt));
    assert!(text(chosen).starts_with("yes[") && text(rejected).starts_with("no["), "{pairs:?}");
    assert_eq!(chosen.last(), rejected.last(), "both end with the token that ends a turn");
}

#[test]
fn system_prompts_turns_and_other_names_are_rendered() {
    let tiny = Tiny::new();
    let lines = [
        r#"{"system":"be brief","prompt":"q?","chosen":"yes","rejected":"no"}"#,
        r#"{"prompt":[{"role":"system","content":"be brief"},{"role":"user","content":"q?"}],"chosen":"yes","rejected":"no"}"#,
        r#"{"messages":[{"role":"user","content":"a?"},{"role":"assistant","content":"b"},{"role":"user","content":"q?"}],"chosen":"yes","rejected":"no"}"#,
    ];
    let pairs = read(&tiny, &lines.join("\n")).unwrap();
    assert_eq!(pairs[0], pairs[1]);
    assert!(text(&pairs[0].prompt).contains("be brief"));
    let turns = text(&pairs[2].prompt);
    assert!(turns.contains("a?") && turns.contains("b") && turns.contains("q?"), "{turns}");

    tiny.write("train.jsonl", r#"{"question":"q?","chosen":"yes","rejected":"no"}"#);
    let yaml =
        format!("data: {}\ntrain_mode: orpo\nprompt_feature: question", tiny.path("").display());
    let config = TrainConfig::from_yaml(&yaml, "run.yaml").unwrap();
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let data = Data::open(&config, &tokenizer).unwrap();
    assert_eq!((data.train.examples(), data.train.rows().len()), (1, 2));
    assert!(data.valid.is_none());
}

#[test]
fn what_is_not_a_pair_is_refused_with_its_line_and_field() {
    let tiny = Tiny::new();
    let good = r#"{"prompt":"q?","chosen":"yes","rejected":"no"}"#;
    for (line, expected) in [
        (r#"{"chosen":"yes","rejected":"no"}"#, "expected `prompt` or `messages`, found neither"),
        (
            r#"{"prompt":"q?","chosen":"yes"}"#,
            "`rejected`: expected a string, a message or messages, found nothing",
        ),
        (
            r#"{"prompt":"q?","chosen":"yes","rejected":3}"#,
            "`rejected`: expected a string, a message or messages, found a number",
        ),
        (
            r#"{"prompt":7,"chosen":"yes","rejected":"no"}"#,
            "`prompt`: expected a string or messages, found a number",
        ),
        (r#"{"prompt":"q?","chosen":[],"rejected":"no"}"#, "found an empty list"),
        (
            r#"{"prompt":"q?","messages":[],"chosen":"yes","rejected":"no"}"#,
            "`prompt`: expected only this or `messages`, found both",
        ),
        (
            r#"{"chosen":[{"role":"user","content":"q?"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"r?"},{"role":"assistant","content":"no"}]}"#,
            "`rejected`: expected the messages before the answer of `chosen`, found others",
        ),
        (
            r#"{"prompt":"other","chosen":[{"role":"user","content":"q?"},{"role":"assistant","content":"yes"}],"rejected":[{"role":"user","content":"q?"},{"role":"assistant","content":"no"}]}"#,
            "`chosen`: expected the prompt's messages before the answer",
        ),
        (
            r#"{"chosen":[{"role":"assistant","content":"yes"},{"role":"user","content":"why?"}],"rejected":[{"role":"assistant","content":"yes"},{"role":"user","content":"ok"}]}"#,
            "`chosen`: expected an assistant's message at the end, found another role's",
        ),
        (
            r#"{"prompt":"q?","system":4,"chosen":"yes","rejected":"no"}"#,
            "`system`: expected a string, found a number",
        ),
        (r#"{"prompt":"q?","chosen":{"role":"wizard","content":"yes"},"rejected":"no"}"#, "role"),
    ] {
        let error = read(&tiny, &format!("{good}\n\n{line}\n")).unwrap_err().to_string();
        assert!(error.contains("pairs.jsonl:3: "), "{line}: {error}");
        assert!(error.contains(expected), "{line}: {error}");
    }
}

/// A template that writes the last answer's header in another way than the prompt's.
#[test]
fn an_answer_that_does_not_begin_with_the_prompt_is_refused_by_name() {
    let tiny = Tiny::new();
    let template = "{% for m in messages %}{% if loop.last and m.role == 'assistant' %}<|im_start|>final\n{{ m.content }}<|im_end|>{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    tiny.write("pairs.jsonl", r#"{"prompt":"q?","chosen":"yes","rejected":"no"}"#);
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let tokenizer = tokenizer.with_template(template).unwrap();
    let error = read_pairs(tiny.path("pairs.jsonl"), &tokenizer, &Columns::default());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("pairs.jsonl:1: "), "{error}");
    assert!(error.contains("`chosen`") || error.contains("turn"), "{error}");
}

#[test]
fn text_of_a_row_never_becomes_a_control_token() {
    let tiny = Tiny::new();
    let line = r#"{"prompt":"<|im_end|>q?","chosen":"yes<|im_end|>more","rejected":"no"}"#;
    let [Pair { prompt, chosen, .. }] = &read(&tiny, line).unwrap()[..] else { panic!("one") };
    let tokenizer = ChatTokenizer::open(tiny.path("model")).unwrap();
    let controls =
        |tokens: &[u32]| tokens.iter().filter(|&&token| tokenizer.is_control(token)).count();
    assert_eq!(controls(chosen), 1, "the end of the turn: {}", text(chosen));
    let plain = &read(&tiny, r#"{"prompt":"q?","chosen":"yes","rejected":"no"}"#).unwrap()[0];
    assert_eq!(controls(prompt), controls(&plain.prompt));
}
