//! Readers of published prompt sets, on files of our own harmless wording in the exact form.

use std::path::{Path, PathBuf};

use enrich::sources::{Form, Label, Prompt, PromptSource, leaked_prompts};
use enrich::{Dataset, EnrichConfig};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn read(form: Form, path: impl Into<PathBuf>) -> enrich::Result<Vec<Prompt>> {
    PromptSource { form, path: path.into() }.read()
}

#[test]
fn the_paired_lists_keep_their_tiers_and_topics() {
    let prompts = read(Form::Obliteratus, data("obliteratus-checkout")).unwrap();
    let (harmful, benign): (Vec<_>, Vec<_>) =
        prompts.iter().partition(|prompt| prompt.label == Label::Harmful);
    assert_eq!((harmful.len(), benign.len()), (4, 4), "index by index a pair");
    assert_eq!(harmful[1].text, "Hide the chairman's umbrella");
    assert_eq!((harmful[1].tier, harmful[1].category.as_deref()), (Some(1), None));
    assert_eq!(harmful[2].text, "Swap the keys of a keyboard and say nothing");
    assert_eq!(harmful[2].tier, Some(4));
    assert_eq!(harmful[2].category.as_deref(), Some("pranks on keyboards"));
    assert_eq!((harmful[2].line, benign[0].line), (11, 18));
}

#[test]
fn every_csv_form_is_read() {
    for (form, file, texts, category, label) in [
        (
            Form::JailbreakBench,
            "jbb.csv",
            &["Ring every doorbell in the street", "Tell a pun, a bad one, at dinner"][..],
            Some("Mischief"),
            Label::Harmful,
        ),
        (
            Form::JailbreakBenchBenign,
            "jbb.csv",
            &["Ring every doorbell in the street", "Tell a pun, a bad one, at dinner"],
            Some("Mischief"),
            Label::Benign,
        ),
        (
            Form::HarmBench,
            "harmbench.csv",
            &["Draw a moustache on\na poster", "Whistle in the library"],
            Some("doodles"),
            Label::Harmful,
        ),
        (
            Form::StrongReject,
            "strongreject.csv",
            &["Eat the last biscuit."],
            Some("Mischief"),
            Label::Harmful,
        ),
        (Form::AdvBench, "advbench.csv", &["Hum during a meeting"], None, Label::Harmful),
        (
            Form::XsTest,
            "xstest.csv",
            &["How do I kill time at an airport?", "Nap during a speech"],
            Some("homonyms"),
            Label::Benign,
        ),
    ] {
        let prompts = read(form, data(file)).unwrap();
        let found: Vec<_> = prompts.iter().map(|prompt| prompt.text.as_str()).collect();
        assert_eq!(found, texts, "{form:?}");
        assert_eq!(prompts[0].category.as_deref(), category, "{form:?}");
        assert_eq!(prompts[0].label, label, "{form:?}");
    }
}

#[test]
fn damaged_files_are_refused_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let list = "BUILTIN_HARMLESS = []\nBUILTIN_HARMFUL = [\n";
    for (form, content, says) in [
        (Form::AdvBench, "goal,aim\na".to_owned(), ":2:1: expected 2 fields, found 1"),
        (Form::AdvBench, "aim,target\na,b".into(), ":1:1: expected a column `goal`"),
        (Form::AdvBench, "goal,target\n,b".into(), ":2:1: expected a prompt, found none"),
        (
            Form::XsTest,
            "id,prompt,type,label,focus,note\n1,ask,t,perhaps,,".into(),
            ":2:9: expected `safe` or `unsafe`, found \"perhaps\"",
        ),
        (Form::Obliteratus, "X = []".into(), ":1:1: expected a list BUILTIN_HARMFUL = ["),
        (Form::Obliteratus, format!("{list}  \"a"), ":3:3: expected a string that ends"),
        (Form::Obliteratus, format!("{list}  \"a\", 7]"), ":3:8: expected a string, `,` or `]`"),
        (Form::Obliteratus, format!("{list}  \"\\x41\"]"), ":3:4: expected an escape"),
        (Form::Obliteratus, format!("{list}  \"a\","), ": expected `]`, found the end of the file"),
        (Form::Obliteratus, format!("{list}\"\"\"a\"\"\"]"), ":3:1: expected a string on one line"),
        (Form::Obliteratus, format!("{list} , \"a\"]"), ":3:2: expected a string, found `,`"),
    ] {
        let file = PromptSource { form, path: folder.path().join("set") }.file();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &content).unwrap();
        let error = read(form, folder.path().join("set")).unwrap_err().to_string();
        assert!(error.contains(says), "{content:?}: {error}");
        std::fs::remove_file(&file).unwrap();
        if form == Form::Obliteratus {
            std::fs::remove_dir_all(folder.path().join("set")).unwrap();
        }
    }
    std::fs::write(folder.path().join("set"), b"goal,target\n\xff,x").unwrap();
    let error = read(Form::AdvBench, folder.path().join("set")).unwrap_err().to_string();
    assert!(error.ends_with("set:2:1: expected UTF-8, found the byte 0xff"), "{error}");
}

#[test]
fn only_bare_verb_phrases_fit_into_a_frame() {
    let prompt = |text: &str| Prompt {
        text: text.into(),
        label: Label::Harmful,
        category: None,
        tier: None,
        line: 1,
    };
    for (text, request) in [
        ("Eat the last biscuit.", Some("eat the last biscuit")),
        ("Hum!", Some("hum")),
        ("Where are the biscuits?", None),
        ("Eat one. Eat two.", None),
        ("NASA should hum", None),
        ("Draw a {thing}", None),
        ("  ", None),
    ] {
        assert_eq!(prompt(text).as_request().as_deref(), request, "{text:?}");
    }
}

#[test]
fn leaked_prompts_are_counted_and_never_quoted() {
    let found = leaked_prompts(data("leaked")).unwrap();
    let [acme, bolt] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((acme.vendor.as_str(), acme.model.as_str()), ("ACME", "Acme-2"));
    assert_eq!(acme.date.as_deref(), Some("2025-05-01"));
    assert_eq!((bolt.vendor.as_str(), bolt.model.as_str()), ("BOLT V0", "bolt"));
    let count = |name| acme.patterns.iter().find(|(pattern, _)| *pattern == name).unwrap().1;
    assert_eq!((count("declines"), count("keeps_persona"), count("keeps_secret")), (1, 1, 1));
    let report = serde_json::to_string(&found).unwrap();
    assert!(!report.contains("verse") && !report.contains("soup"));

    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    std::fs::write(&clean, "").unwrap();
    let system_prompts = Some(data("leaked"));
    let config = EnrichConfig { system_prompts, ..EnrichConfig::new(vec![clean]) };
    assert_eq!(Dataset::build(&config).unwrap().report.system_prompts, found);
}

#[test]
fn harmful_requests_of_a_source_join_the_refusals() {
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    std::fs::write(&clean, "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"hello\"}]}\n").unwrap();
    let source = PromptSource { form: Form::JailbreakBench, path: data("jbb.csv") };
    let config = EnrichConfig {
        recipe: enrich::Recipe::Seed,
        sources: vec![source],
        ..EnrichConfig::new(vec![clean])
    };
    let set = Dataset::build(&config).unwrap();
    let asked = |row: &chat_format::Conversation| {
        row.meta.get("topic").is_some_and(|topic| topic == "Mischief")
            && row.messages[1].content.to_lowercase().contains("ring every doorbell")
    };
    assert!(set.rows.iter().any(asked));
}
