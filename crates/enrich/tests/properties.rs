//! What holds for any rows: duplicates, leaks and splits do not depend on system turns, nothing similar is torn apart, and
//! nothing depends on the number of threads.

use std::path::PathBuf;

use chat_format::{Conversation, Message, Role, jsonl};
use enrich::duplicates::Duplicates;
use enrich::grams::{Grams, words};
use enrich::leaks::{ExamQuestions, Leaks, Measure};
use enrich::mix::Warning;
use enrich::split::{Split, near_twins};
use enrich::{Dataset, EnrichConfig};
use eval::suite::Speaker;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tempfile::TempDir;

fn suite() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/suites/household.json")
}

fn exam() -> ExamQuestions {
    let mut exam = ExamQuestions::default();
    exam.read(suite()).unwrap();
    exam
}

/// The suite's questions that are long enough to be recognised inside a longer message.
fn questions() -> Vec<String> {
    let cases = eval::Suite::load(suite()).unwrap().cases;
    let turns = cases.into_iter().flat_map(|case| case.turns);
    let asked = turns.filter(|turn| turn.role == Speaker::User).map(|turn| turn.content);
    asked.filter(|question| Grams::of(question, 3).hashes().len() >= 4).collect()
}

/// Invented words, few enough to repeat and many enough to differ.
fn text(length: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let word = (0..400_u32).prop_map(|word| format!("word{word}"));
    proptest::collection::vec(word, length).prop_map(|words| words.join(" "))
}

fn row(system: &str, user: &str, assistant: &str) -> Conversation {
    let messages = [Message::system(system), Message::user(user), Message::assistant(assistant)];
    Conversation::new(messages.into())
}

/// Rows of which some are earlier ones with a few words changed, with system prompts of very different lengths.
fn rows(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Conversation>> {
    let edits = proptest::collection::vec((any::<Index>(), 0..400_u32), 0..6);
    let fresh = (text(4..15), text(3..30), text(0..300), edits, any::<Index>(), any::<bool>());
    proptest::collection::vec(fresh, count).prop_map(|drawn| {
        let mut rows: Vec<Conversation> = Vec::new();
        for (user, assistant, system, edits, earlier, copies) in drawn {
            let (mut user, mut assistant) = (user, assistant);
            if copies && !rows.is_empty() {
                let of = &rows[earlier.index(rows.len())];
                user = of.messages[1].content.clone();
                let mut said: Vec<_> = of.messages[2].content.split(' ').collect();
                let changes: Vec<_> = edits
                    .iter()
                    .map(|(at, word)| (at.index(said.len()), format!("word{word}")))
                    .collect();
                changes.iter().for_each(|(at, word)| said[*at] = word);
                assistant = said.join(" ");
            }
            rows.push(row(&system, &user, &assistant));
        }
        rows
    })
}

/// The 3-grams of each row's turns but the system's.
fn grams(rows: &[Conversation]) -> Vec<Grams> {
    let of = |row: &Conversation| {
        let turns = row.messages.iter().filter(|message| message.role != Role::System);
        Grams::of(&turns.map(|turn| turn.content.as_str()).collect::<Vec<_>>().join("\n"), 3)
    };
    rows.iter().map(of).collect()
}

fn config(folder: &TempDir, rows: &[Conversation], seed: u64) -> EnrichConfig {
    let clean = folder.path().join("clean.jsonl");
    let mut writer = jsonl::Writer::create(&clean).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.commit().unwrap();
    EnrichConfig { seed, suites: vec![suite()], ..EnrichConfig::new(vec![clean]) }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn system_prompts_change_nothing_that_is_found(
        rows in rows(2..40),
        order in proptest::collection::vec(any::<Index>(), 40),
        planted in select(questions()),
    ) {
        let mut rows = rows;
        rows[0].messages[1].content.push_str(&format!(". {planted}"));
        let mut shuffled = rows.clone();
        for (row, from) in shuffled.iter_mut().zip(&order) {
            row.messages[0] = rows[from.index(rows.len())].messages[0].clone();
        }
        let mut without = rows.clone();
        without.iter_mut().for_each(|row| drop(row.messages.remove(0)));
        let exam = exam();
        let found = |rows: &[Conversation]| {
            let leaks = exam.leaks(rows, &Leaks::default()).unwrap();
            (Duplicates::default().find(rows), leaks, near_twins(rows))
        };
        let expected = found(&rows);
        prop_assert!(!expected.1.is_empty());
        prop_assert_eq!(&found(&shuffled), &expected);
        prop_assert_eq!(&found(&without), &expected);
    }

    #[test]
    fn rows_equal_but_for_the_system_turn_are_duplicates(
        rows in rows(1..20),
        of in any::<Index>(),
        system in text(0..300),
        at in 0.01..=1.0,
    ) {
        let mut rows = rows;
        let mut copy = rows[of.index(rows.len())].clone();
        copy.messages[0] = Message::system(&system);
        rows.push(copy);
        let found = Duplicates { likeness: at }.find(&rows);
        let last = found.last().map(|duplicate| duplicate.row);
        prop_assert_eq!(last, Some(rows.len() - 1));
    }

    #[test]
    fn what_is_left_out_and_what_is_kept_is_as_by_comparing_all_pairs(rows in rows(2..60)) {
        let found = Duplicates::default().find(&rows);
        let grams = grams(&rows);
        let mut kept: Vec<usize> = Vec::new();
        let mut expected = Vec::new();
        for row in 0..rows.len() {
            match kept.iter().find(|of| grams[**of].jaccard(&grams[row]) >= 0.85) {
                Some(of) => expected.push((row, *of)),
                None => kept.push(row),
            }
        }
        let found: Vec<_> = found.iter().map(|duplicate| (duplicate.row, duplicate.of)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_question_inside_any_longer_text_is_found(
        question in select(questions()),
        before in text(0..200),
        after in text(0..200),
        role in select(vec![Role::User, Role::Assistant, Role::Tool]),
        upper in any::<bool>(),
    ) {
        let asked = if upper { question.to_uppercase() } else { question };
        let mut chat = row("", "word1 word2 word3", "word4 word5");
        let mut message = chat.messages[1].clone();
        message.role = role;
        message.content = format!("{before}\n{asked} {after}");
        chat.messages.push(message);
        let exam = exam();
        let leaks = exam.leaks(std::slice::from_ref(&chat), &Leaks::default()).unwrap();
        prop_assert_eq!(leaks.len(), 1, "{:?}", chat);
        chat.messages[3].content = format!("{before} {after}");
        prop_assert!(exam.leaks(&[chat], &Leaks::default()).unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn no_near_twins_lie_across_the_split(rows in rows(100..160), seed in any::<u64>()) {
        let mut rows = rows;
        for (nth, row) in rows.iter_mut().enumerate() {
            row.meta.insert("topic".into(), format!("topic {}", nth % 3).into());
        }
        let folder = TempDir::new().unwrap();
        let set = Dataset::build(&config(&folder, &rows, seed)).unwrap();
        let grams = grams(&set.rows);
        for i in 0..set.rows.len() {
            for j in 0..i {
                let torn = set.splits[i] != set.splits[j] && grams[i].jaccard(&grams[j]) >= 0.5;
                prop_assert!(!torn, "{:?}\n{:?}", set.rows[i], set.rows[j]);
            }
        }
        for split in [Split::Valid, Split::Test] {
            let share = set.of(split).count() as f64 / set.rows.len() as f64;
            prop_assert!((0.03..0.08).contains(&share), "{split}: {share}");
        }
    }

    #[test]
    fn neither_time_nor_threads_change_the_bytes(rows in rows(1..60), seed in any::<u64>()) {
        let folder = TempDir::new().unwrap();
        let config = config(&folder, &rows, seed);
        let written = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let out = folder.path().join(format!("{threads}"));
            pool.install(|| Dataset::build(&config).unwrap().write(&out, &config).unwrap());
            ["train.jsonl", "valid.jsonl", "test.jsonl", "report.json", "manifest.json"]
                .map(|file| std::fs::read(out.join(file)).unwrap())
        };
        prop_assert_eq!(written(1), written(3));
    }
}

#[test]
fn unrelated_rows_that_share_a_persona_are_kept() {
    let persona = (0..300).map(|nth| format!("trait{nth} ")).collect::<String>();
    let facts = [
        ("Which port is the hub on?", "Port 8123."),
        ("Who waters the plants?", "Edda does, on Tuesdays."),
        ("Is the garage closed?", "It is."),
        ("How warm is the cellar?", "12 degrees."),
        ("Any mail today?", "Two letters and a parcel."),
    ];
    let rows = facts.map(|(user, assistant)| row(&persona, user, assistant));
    assert_eq!(Duplicates::default().find(&rows), []);
    assert_eq!(near_twins(&rows).len(), rows.len());
}

#[test]
fn rows_that_are_all_near_twins_stay_in_training_with_a_warning() {
    let said = "degrees is what the sensor beside the door of that room says at this very minute";
    let rows: Vec<_> =
        (0..3000).map(|n| row("", &format!("Room {n}?"), &format!("{n} {said}"))).collect();
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &rows, 7);
    (config.refusals.share, config.refusals.at_least) = (0.0, 0);
    let set = Dataset::build(&config).unwrap();
    assert_eq!(near_twins(&rows).len(), 1);
    let (rows, expected) = (set.of(Split::Valid).count(), 159);
    assert!(rows * 2 < expected, "{rows}");
    let warning = Warning::Split { split: Split::Valid, rows, expected };
    assert!(set.report.mix.warnings.contains(&warning), "{:?}", set.report.mix);
}

#[test]
fn text_without_spaces_is_compared_by_characters() {
    let asked = "星期六早上花园里的水泵几点开始工作？";
    let answer = "水泵在早上六点半开始工作，七点一刻停止，周日休息。";
    let rows = [row("", asked, answer), row("", &asked.replace("星期六", "周六"), answer)];
    assert_eq!(Duplicates { likeness: 0.7 }.find(&rows).len(), 1);
    let mut exam = ExamQuestions::default();
    exam.add("exam", "pump", asked);
    let long = format!("你好，昨天下了大雨，我们没有浇水。{asked}我想早点起床，谢谢你的帮助。");
    let leaks = exam.leaks(&[row("", &long, "好的。")], &Leaks::default()).unwrap();
    assert_eq!(leaks.len(), 1);
}

#[test]
fn rows_that_differ_in_their_calls_only_are_not_duplicates() {
    let call = |name: &str| -> Conversation {
        let row = serde_json::json!({"messages": [
            {"role": "user", "content": "Off, please."},
            {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": name, "arguments": "{}"}},
            ]},
        ]});
        serde_json::from_value(row).unwrap()
    };
    assert_eq!(Duplicates::default().find(&[call("light_off"), call("alarm_off")]), []);
    assert_eq!(Duplicates::default().find(&[call("light_off"), call("light_off")]).len(), 1);
}

#[test]
fn a_contained_question_is_named_with_its_measure_and_may_be_allowed() {
    let question = "On which evening does the piano teacher come to the house?";
    let mut exam = ExamQuestions::default();
    exam.add("exam", "piano", question);
    exam.add("exam", "short", "Who are you?");
    let notes: String =
        (0..40).map(|nth| format!("Room {nth} had {} degrees. ", nth + 9)).collect();
    let asked = |text: &str| row("", &format!("{notes}{text} {notes}"), "Noted.");
    let found = |rows: &[Conversation], rule: &Leaks| exam.leaks(rows, rule).unwrap();
    let rule = Leaks::default();

    let [leak] = &found(&[asked("Well."), asked(question)], &rule)[..] else { panic!() };
    assert_eq!((leak.row, leak.case.as_str(), leak.by), (1, "piano", Measure::Containment));
    assert_eq!(leak.likeness, 1.0);
    let changed = question.replace("teacher", "trainer");
    let [leak] = &found(&[asked(&changed)], &rule)[..] else { panic!() };
    assert!(words(question).len() > 10 && leak.likeness < 1.0);
    // Common phrases do not count, nor what the system turn says.
    assert_eq!(found(&[asked("I wonder who are you going to call.")], &rule), []);
    assert_eq!(found(&[row(question, "Any news?", "None.")], &rule), []);

    let folder = TempDir::new().unwrap();
    let allowlist = folder.path().join("allowed.yaml");
    std::fs::write(&allowlist, "- {case: piano, reason: it is asked all the time}").unwrap();
    let rule = Leaks { allowlist: Some(allowlist), ..rule };
    assert_eq!(found(&[asked(question)], &rule), []);
}
