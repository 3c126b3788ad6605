//! The fast path and the full parser write the same.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clean::report::Counts;
use crate::clean::{Clean, Notes, shape};

/// The clean line and the notes; `None` if the fast path gave up.
fn fast(row: &[u8], options: Options) -> Option<(String, Notes)> {
    let (mut out, mut tally) = (b"before".to_vec(), Tally::default());
    let done = clean(row, options, &mut out, &mut tally);
    let added = String::from_utf8(out).unwrap().split_off(6);
    if done.is_none() {
        assert_eq!(added, "");
    }
    done.map(|()| (added, notes(&tally)))
}

fn full(row: &[u8], options: Options) -> Result<(String, Notes), String> {
    let raw = serde_json::from_slice(row).map_err(|error| error.to_string())?;
    let mut tally = Tally::default();
    let chat = shape::read(raw, &mut tally).map_err(|problem| problem.to_string())?;
    let clean = Clean::new(&chat, options, &mut tally);
    let clean = clean.map_err(|problem| problem.to_string())?;
    let mut out = Vec::new();
    json::write(&mut out, &clean).unwrap();
    Ok((String::from_utf8(out).unwrap() + "\n", notes(&tally)))
}

fn notes(tally: &Tally) -> Notes {
    let mut counts = Counts::default();
    counts.add(tally);
    counts.into()
}

fn same(row: &[u8]) -> bool {
    let both = [Origin::Forget, Origin::Keep].map(|origin| {
        let options = Options::default().origin(origin);
        let found = fast(row, options)?;
        assert_eq!(Ok(found), full(row, options), "{}", String::from_utf8_lossy(row));
        Some(())
    });
    assert_eq!(both[0], both[1]);
    both[0].is_some()
}

#[test]
fn ordinary_rows_go_the_short_way() {
    let words = "a \\ \"b\" \\n é\t{1}\n\u{a0}";
    let chats = [
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nW<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\nW<|im_end|>\n",
        "<bos><start_of_turn>user\nW<end_of_turn>\n<start_of_turn>model\nW<end_of_turn>\n",
        "<bos><|turn>user\nW<turn|>\n<|turn>model\n<|channel>thought\nhm<channel|>W<turn|>\n",
        "<|start_header_id|>user<|end_header_id|>\n\nW<|eot_id|>",
        "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nW [/INST] W </s><s>[INST] W [/INST] W</s>",
        "<|user|>\nW<|end|>\n<|assistant|>\nW<|end|>\n<|endoftext|>",
        "<｜User｜>W<｜Assistant｜>W<｜end▁of▁sentence｜>",
        "W",
        "<think>W</think>W",
        // A token that is text.
        "<|im_start|>user\nW <s> W<|im_end|>\n<|im_start|>assistant\nW <pad> W<|im_end|>\n",
    ];
    for chat in chats {
        let content = chat.replace('W', words);
        for meta in [
            json!({}),
            json!({"markup": "x"}),
            json!({"kind": "a\\\n", "n": -12, "ok": true, "no": null}),
        ] {
            let turn = [
                json!({"role": "assistant", "content": content}),
                json!({"from": "gpt", "value": content}),
            ];
            for (key, turn) in ["messages", "conversations"].into_iter().zip(turn) {
                let (meta, list) = (meta.as_object().unwrap(), json!({key: [turn]}));
                let list = list.as_object().unwrap();
                for parts in [[meta, list], [list, meta]] {
                    let row: serde_json::Map<String, Value> =
                        parts.into_iter().flat_map(Clone::clone).collect();
                    assert!(same(json!(row).to_string().as_bytes()), "{row:?}");
                }
            }
        }
    }
}

#[test]
fn whatever_is_out_of_the_ordinary_goes_the_long_way() {
    let row =
        |content: &str| format!(r#"{{"messages":[{{"role":"user","content":"{content}"}}]}}"#);
    let odd = [
        row("").as_str(),
        &row(r"\u003cs>"),
        &row(r"a\/b"),
        &row("a\tb"),
        &row(r#"a <|\"|> b"#),
        &row("<|im_start|>user\\nq"),
        &row("<|im_start|>narrator\\nq<|im_end|>"),
        &row(r"<|im_start|>user\n`<|im_end|>`<|im_end|>"),
        &row("<s>"),
        r#"{"messages":[{"role":"user","content":"q"}],"tools":[]}"#,
        r#"{"messages":[{"role":"user","content":"q"}],"a":1.0}"#,
        r#"{"messages":[{"role":"user","content":"q"}],"a":-0}"#,
        r#"{"messages":[{"role":"user","content":"q"}],"a":1,"a":2}"#,
        r#"{"messages":[{"role":"user","content":"q"}],"system":"s"}"#,
        r#"{"messages":[{"role":"user","content":"q"}],}"#,
        r#"{"messages":[{"role":"user","content":"q"}]} x"#,
        r#"{"messages":[{"role":"user","content":"q","name":"n"}]}"#,
        r#"{"messages":[]}"#,
    ]
    .map(|row| fast(row.as_bytes(), Options::default()).map(|_| row.to_owned()));
    assert_eq!(odd, [const { None }; 18]);
}

/// Texts as data sets hold them, tidy or not.
fn texts() -> impl Strategy<Value = String> {
    let tokens: Vec<_> = family::all().iter().map(|mark| mark.literal.to_owned()).collect();
    let turns = [
        "<|im_start|>user\n",
        "<|im_start|>assistant\n",
        "<|im_end|>\n",
        "<think>",
        "</think>",
        "<|turn>model\n",
        "<turn|>",
        "[INST]",
        "[/INST]",
        "</s>",
    ];
    let piece = prop_oneof![
        6 => prop::sample::select(turns.map(str::to_owned).to_vec()),
        1 => prop::sample::select(tokens),
        4 => "[a-z \\n\\\\\"<\\[é\u{a0}]{0,8}",
    ];
    prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn both_ways_end_at_the_same_row(
        chats in prop::collection::vec((prop::sample::select(vec!["system", "user", "gpt", "tool", "x"]), texts()), 1..3),
        kind in texts(),
        cut in any::<prop::sample::Index>(),
        edit in prop::option::of((any::<prop::sample::Index>(), prop::sample::select(b" \"\\{}[],:n0\xff\n".to_vec()))),
        whole in prop::bool::weighted(0.8),
        (list, role, content) in prop::sample::select(vec![
            ("messages", "role", "content"),
            ("conversations", "from", "value"),
            ("conversations", "from", "content"),
        ]),
    ) {
        let messages: Vec<Value> =
            chats.iter().map(|(name, text)| json!({role: name, content: text})).collect();
        let row = json!({"id": kind.len(), list: messages, "kind": kind});
        let mut row = row.to_string().into_bytes();
        if let Some((at, byte)) = edit {
            let at = at.index(row.len());
            row[at] = byte;
        }
        if !whole {
            row.truncate(cut.index(row.len()));
        }
        same(&row);
    }
}
