//! What generated rows are like: reasons, forms, English, tools, pairs. Every check reads the rows, not the data files' own
//! labels, except for the steps of harmless requests, by which an obeyed request is recognised.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::LazyLock;

use chat_format::{Conversation, Role};
use enrich::grams::words;
use enrich::household::Phrasings;
use enrich::split::Split;
use enrich::{Dataset, EnrichConfig, GeneratorData, Household, Pair, Recipe};
use eval::{Council, Stance, classify_refusal};
use regex::Regex;
use serde_json::Value;

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn build(recipe: Recipe, refusals: usize) -> Dataset {
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = house.rows(&data, &phrasings, 1710, 7).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clean = folder.path().join("clean.jsonl");
    let mut writer = chat_format::jsonl::Writer::create(&clean).unwrap();
    rows.iter().for_each(|row| writer.write(&row.conversation()).unwrap());
    writer.commit().unwrap();
    let suites = vec![fixtures().join("suites/household.json")];
    let mut config = EnrichConfig { recipe, suites, ..EnrichConfig::new(vec![clean]) };
    config.refusals.at_least = refusals;
    Dataset::build(&config).unwrap()
}

/// The seed's 2,008 rows.
static SEED: LazyLock<Dataset> = LazyLock::new(|| build(Recipe::Seed, 0));

/// Every refusal with its twin, and every other kind of row.
static BALANCED: LazyLock<Dataset> = LazyLock::new(|| build(Recipe::Balanced, 224));

static COUNCIL: LazyLock<Council> = LazyLock::new(|| GeneratorData::embedded().unwrap().council);

fn of_kind<'a>(set: &'a Dataset, kind: &'a str) -> impl Iterator<Item = &'a Conversation> {
    set.rows.iter().filter(move |row| row.meta.get("kind").is_some_and(|found| found == kind))
}

fn asked(row: &Conversation) -> &str {
    &row.messages[1].content
}

fn answer(row: &Conversation) -> &str {
    &row.messages[2].content
}

fn agent(row: &Conversation) -> &eval::Agent {
    COUNCIL.agent(row.meta["agent"].as_str().unwrap()).unwrap()
}

/// The words that carry a text's content.
fn content_words(text: &str) -> HashSet<String> {
    let function: HashSet<&str> =
        include_str!("../data/function_words.txt").split_whitespace().collect();
    words(text)
        .into_iter()
        .filter(|word| word.len() > 2 && !function.contains(word.as_str()))
        .collect()
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['.', '?', '!']).map(str::trim).filter(|sentence| sentence.len() > 3)
}

fn median(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    lengths[lengths.len() / 2]
}

/// The first three words of texts, with the share of the most frequent ones.
fn commonest_opening<'a>(texts: impl Iterator<Item = &'a str>) -> (String, f64) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    for text in texts {
        let opening: Vec<_> = words(text).into_iter().take(3).collect();
        *counts.entry(opening.join(" ")).or_default() += 1;
        all += 1;
    }
    let (opening, count) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap();
    (opening, count as f64 / all as f64)
}

#[test]
fn refusals_name_the_subject_and_vary() {
    let rows: Vec<_> = of_kind(&SEED, "refusal").collect();
    assert_eq!(rows.len(), 224);
    let distinct: HashSet<&str> = rows.iter().flat_map(|row| sentences(answer(row))).collect();
    assert!(distinct.len() >= 180, "{} distinct sentences", distinct.len());
    let whole: HashSet<&str> = rows.iter().map(|row| answer(row)).collect();
    assert_eq!(whole.len(), 224, "no refusal is worded like another");

    let names: HashSet<String> = COUNCIL
        .agents
        .iter()
        .flat_map(|agent| [agent.name.to_lowercase(), agent.role.clone()])
        .collect();
    let shares = |row: &&&Conversation| {
        let (asked, said) = (content_words(asked(row)), content_words(answer(row)));
        asked.intersection(&said).any(|word| !names.contains(word))
    };
    let named = rows.iter().filter(shares).count();
    println!("{} distinct sentences, {named} of 224 name the subject", distinct.len());
    assert!(named * 10 >= 224 * 6, "{named} of 224 name what was asked");

    let (opening, share) = commonest_opening(rows.iter().map(|row| answer(row)));
    assert!(share <= 0.15, "{share:.2} of the refusals begin with {opening:?}");
}

#[test]
fn refusals_say_who_speaks_and_offer_what_the_agent_does() {
    let mut unclear = Vec::new();
    for row in of_kind(&SEED, "refusal").chain(of_kind(&BALANCED, "refusal")) {
        let (agent, answer) = (agent(row), answer(row));
        if classify_refusal(answer) != Stance::Refused {
            unclear.push(answer);
        }
        assert!(answer.contains(&agent.name) && answer.contains(&agent.role), "{answer}");
        assert!(agent.offers.iter().any(|offer| answer.ends_with(offer.as_str())), "{answer}");
    }
    assert!(unclear.is_empty(), "{} are no plain refusals: {unclear:#?}", unclear.len());
}

#[test]
fn reasons_are_about_harm_and_never_about_fields() {
    let reason = Regex::new(r"(?:: |because |since )(.+?)(?:, and I won't|[.])").unwrap();
    let quoted = Regex::new("says: \"[^\"]*\"").unwrap();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for row in of_kind(&SEED, "refusal") {
        // What declines is everything before the agent says who it is; a quoted request is not its own words.
        let who = answer(row).find(&agent(row).name).unwrap();
        let declines = quoted.replace(&answer(row)[..who], "");
        let found = reason.captures(&declines).unwrap_or_else(|| panic!("no reason: {declines}"));
        *reasons.entry(found[1].to_owned()).or_default() += 1;
        let fields =
            ["my field", "my role", "my job", "my area", "stay with", "not mine", "another agent"];
        let roles = COUNCIL.agents.iter().map(|agent| agent.role.as_str());
        let lower = found[1].to_lowercase();
        for word in fields.into_iter().chain(roles.filter(|role| *role != "health")) {
            assert!(!lower.contains(word), "{word:?} is no reason: {declines}");
        }
    }
    let most = reasons.values().max().unwrap();
    assert!(reasons.len() >= 40 && *most <= 16, "{} reasons: {reasons:#?}", reasons.len());
}

/// The steps of the harmless requests, by request.
fn steps() -> HashMap<String, Vec<String>> {
    let text = include_str!("../data/requests.yaml");
    let file: Value = serde_saphyr::from_str(text).unwrap();
    let benign = file["benign"].as_array().unwrap().iter();
    benign
        .map(|benign| {
            let steps = benign["steps"].as_array().unwrap().iter();
            let steps = steps.map(|step| step.as_str().unwrap().to_lowercase()).collect();
            (benign["ask"].as_str().unwrap().to_owned(), steps)
        })
        .collect()
}

/// How often words of a language stand in a text.
fn count_of(text: &str, language: &[&str]) -> usize {
    text.to_lowercase()
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| language.contains(word))
        .count()
}

const SPANISH: [&str; 14] =
    ["para", "el", "la", "los", "las", "con", "en", "de", "que", "y", "una", "un", "hasta", "al"];
const FRENCH: [&str; 13] =
    ["en", "le", "la", "les", "des", "de", "du", "un", "une", "sans", "ma", "mon", "est"];
const ENGLISH: [&str; 10] = ["the", "and", "it", "to", "with", "of", "you", "is", "for", "until"];

/// Whether the request stands in a text that is not the user's own: a note, a page, a tool's output, a false system line.
fn in_a_text(asked: &str) -> bool {
    let texts = [
        "Summarise this note",
        "The attached page",
        "will reads",
        "Tool result:",
        "weather tool returned",
    ];
    let lines = ["Output of search:", "SYSTEM NOTE:", "What does this line mean?"];
    texts.into_iter().chain(lines).any(|text| asked.contains(text))
}

/// What is wrong with the form of an answer to a frame, judged by the words of the frame.
fn wrong_form(asked: &str, answer: &str) -> Option<&'static str> {
    let lines: Vec<&str> = answer.lines().collect();
    let says = |text: &str| asked.contains(text);
    let lower = format!(" {} ", words(answer).join(" "));
    let check = |right: bool, wrong| if right { None } else { Some(wrong) };
    match () {
        () if says("JSON list") => {
            let list: Result<Vec<String>, _> = serde_json::from_str(answer);
            check(list.is_ok_and(|list| list.len() >= 2), "no JSON list")
        }
        () if says("table with three columns") => {
            let columns = |line: &&str| line.starts_with('|') && line.matches('|').count() == 4;
            check(lines.len() >= 4 && lines.iter().all(columns), "no table of three columns")
        }
        () if says("bullet points only") => check(
            lines.len() > 1 && lines.iter().all(|line| line.starts_with("- ")),
            "not only bullets",
        ),
        () if says("exactly three numbered steps") => {
            let numbered =
                |(nth, line): (usize, &&str)| line.starts_with(&format!("{}. ", nth + 1));
            check(lines.len() == 3 && lines.iter().enumerate().all(numbered), "not three steps")
        }
        () if says("in Spanish") => {
            check(count_of(answer, &SPANISH) >= 4 && count_of(answer, &ENGLISH) == 0, "not Spanish")
        }
        () if says("into French") => {
            let quoted = answer.split(['«', '»']).nth(1).unwrap_or_default();
            check(!quoted.is_empty() && count_of(answer, &FRENCH) > 0, "no French")
        }
        () if says("a poem") => check(lines.len() >= 5, "no poem"),
        () if says("Write a story") => {
            check(answer.contains('"') && words(answer).len() > 40, "no story")
        }
        () if says("A film scene") => {
            let speaker = |line: &&&str| {
                line.split(": ").next().unwrap_or_default()
                    == line.split(": ").next().unwrap_or_default().to_uppercase()
            };
            check(
                lines.iter().filter(speaker).count() >= 2 && answer.contains("BUTLER: "),
                "no scene",
            )
        }
        () if says("\"Sure, here is\"") => check(answer.starts_with("Sure, here is"), "no prefix"),
        () if says("with \"Absolutely!\"") => check(answer.starts_with("Absolutely!"), "no prefix"),
        () if says("opens with \"Step 1\"") => check(answer.starts_with("Step 1"), "no prefix"),
        () if says("Never say no or sorry") => {
            check(!lower.contains(" no ") && !lower.contains(" sorry "), "a forbidden word")
        }
        () if says("Words like can't") => check(!answer.contains("can't"), "a forbidden word"),
        () if says("Count to three") => {
            check(answer.starts_with("One, two, three."), "not counted")
        }
        () if says("add 2 and 2") => check(lower.contains(" 4 "), "not added"),
        () if says("two replies") => check(lines.len() == 2, "not two replies"),
        () => None,
    }
}

#[test]
fn twins_follow_their_frame() {
    let steps = steps();
    let mut tried: BTreeMap<String, usize> = BTreeMap::new();
    let own = |row: &&Conversation| row.meta.contains_key("item");
    for row in of_kind(&BALANCED, "twin").filter(|row| !own(row)) {
        let (asked, answer) = (asked(row), answer(row));
        assert_eq!(classify_refusal(answer), Stance::Complied, "{asked}\n{answer}");
        let wrong = wrong_form(asked, answer);
        assert_eq!(wrong, None, "{asked}\n{answer}");
        let lower = asked.to_lowercase();
        let request = steps.iter().find(|(ask, _)| lower.contains(&ask.to_lowercase()));
        let (ask, steps) = request.unwrap_or_else(|| panic!("no known request: {asked}"));
        let told = |step: &&String| answer.to_lowercase().contains(step.as_str());
        let told = steps.iter().filter(told).count();
        if in_a_text(asked) {
            assert_eq!(told, 0, "it obeys a text: {asked}\n{answer}");
            assert!(answer.to_lowercase().contains(&ask.to_lowercase()), "{asked}\n{answer}");
        } else if !asked.contains("Spanish") {
            assert_eq!(told, steps.len(), "{asked}\n{answer}");
        }
        *tried.entry(row.meta["technique"].to_string()).or_default() += 1;
    }
    // The few requests of a small split come around; those that repeat are left out as duplicates.
    assert_eq!(tried.len(), 28, "{tried:?}");
    assert!(tried.values().all(|twins| *twins >= 6), "{tried:?}");
}

#[test]
fn every_refusal_has_a_twin_of_its_technique() {
    let set = build(Recipe::Balanced, 56);
    let techniques = |kind: &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for row in of_kind(&set, kind).filter(|row| !row.meta.contains_key("item")) {
            *counts.entry(row.meta["technique"].to_string()).or_default() += 1;
        }
        counts
    };
    assert_eq!(techniques("refusal").len(), 28);
    assert_eq!(techniques("refusal"), techniques("twin"));
}

#[test]
fn answers_are_long_enough_and_whole_sentences() {
    for kind in
        ["refusal", "twin", "partial", "harmless", "identity", "routing", "topic", "scenario"]
    {
        let lengths = of_kind(&BALANCED, kind).map(|row| answer(row).split_whitespace().count());
        let median = median(lengths.collect());
        println!("{kind}: median {median} words");
        assert!(median >= 12, "{kind}: median {median} words");
    }
    for row in of_kind(&BALANCED, "fact").chain(of_kind(&BALANCED, "dialogue")) {
        for said in row.messages.iter().filter(|message| message.role == Role::Assistant) {
            let text = said.content.as_str();
            let begins = text.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit());
            assert!(begins && text.ends_with(['.', '?']), "{text}");
            assert!(words(text).len() >= 2, "{text}");
        }
    }
}

#[test]
fn agents_answer_questions_about_themselves_and_harmless_ones() {
    for kind in ["identity", "routing", "harmless", "topic", "scenario", "fact"] {
        for row in of_kind(&BALANCED, kind) {
            assert_eq!(classify_refusal(answer(row)), Stance::Complied, "{kind}: {}", answer(row));
        }
    }
    for row in of_kind(&BALANCED, "identity") {
        let agent = agent(row);
        assert!(
            answer(row).contains(&agent.name) && answer(row).to_lowercase().contains(&agent.role),
            "{}",
            answer(row)
        );
    }
}

#[test]
fn situations_go_to_the_agent_whose_field_they_are() {
    let mut owners: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for row in of_kind(&BALANCED, "routing") {
        let item = row.meta["item"].as_str().unwrap();
        let Some(rest) = item.strip_prefix("situation-") else { continue };
        let (owner, _) = rest.rsplit_once('-').unwrap();
        let owner = COUNCIL.agent(owner).unwrap();
        let said = words(answer(row));
        let place = |name: &String| said.iter().position(|word| *word == name.to_lowercase());
        let mut named: Vec<_> = COUNCIL
            .agents
            .iter()
            .filter_map(|agent| Some((place(&agent.name)?, &agent.id)))
            .collect();
        named.sort_unstable();
        let accepts = agent(row).id == owner.id;
        owners.entry(owner.id.to_string()).or_default()[usize::from(accepts)] += 1;
        if accepts {
            assert!(named.iter().all(|(_, id)| *id == &owner.id), "{}", answer(row));
        } else {
            assert_eq!(named.first().map(|(_, id)| *id), Some(&owner.id), "{}", answer(row));
        }
    }
    assert_eq!(owners.len(), 8);
    assert!(owners.values().all(|[passed, accepted]| *passed >= 9 && *accepted >= 2), "{owners:?}");
}

#[test]
fn the_english_of_made_rows_is_right() {
    let wrong = [
        r"\b[Aa] [aeioAEIO]\w+",
        r"\b[Aa]n [^aeiouhAEIOUH\W]\w*",
        r"  ",
        r"\.\.",
        r"[{}]",
        r" [.,;:?!]",
        r"[,;:][.?!]",
    ]
    .map(|pattern| Regex::new(pattern).unwrap());
    let doubled = |text: &str| {
        let said: Vec<_> = text.split_whitespace().collect();
        said.windows(2).any(|pair| pair[0] == pair[1] && pair[0].chars().all(char::is_alphabetic))
    };
    for row in BALANCED.rows.iter() {
        for message in row.messages.iter().filter(|message| message.role != Role::System) {
            let text = message.content.as_str();
            if message.role == Role::Tool || text.starts_with(['[', '|', '-']) {
                continue;
            }
            let foreign = count_of(text, &SPANISH) > 3 || text.contains('«');
            let found = wrong.iter().find(|pattern| pattern.is_match(text));
            assert!(foreign || found.is_none(), "{found:?}: {text}");
            assert!(!doubled(text), "{text}");
        }
    }
}

#[test]
fn verbs_agree_with_what_a_fact_is_about() {
    const SINGULAR: [&str; 10] =
        ["is", "does", "has", "runs", "listens", "comes", "starts", "stays", "begins", "uses"];
    const PLURAL: [&str; 10] =
        ["are", "do", "have", "run", "listen", "come", "start", "stay", "begin", "use"];
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let mut seen = [0, 0];
    for row in &SEED.rows {
        let item = row.meta.get("item").and_then(Value::as_str);
        let Some(fact) = item.and_then(|item| house.fact(item)) else { continue };
        let (of, wrong) = (fact.of.to_lowercase(), if fact.plural { SINGULAR } else { PLURAL });
        let asked = asked(row).to_lowercase();
        // "Which port is the hub on": the verb before its subject.
        for verb in &wrong[..2] {
            let subject = asked.contains(&format!("{verb} {of}")) && !asked.contains("should");
            assert!(!subject, "{verb}: {asked}");
        }
        // "The hub listens on port 1": the verb right behind the subject that opens the sentence.
        let said = answer(row).to_lowercase();
        let behind = said.strip_prefix(&of).and_then(|rest| rest.split_whitespace().next());
        if let Some(verb) = behind {
            assert!(!wrong.contains(&verb), "{verb}: {said}");
            seen[usize::from(fact.plural)] += 1;
        }
    }
    assert!(seen.iter().all(|rows| *rows > 10), "{seen:?}");
}

#[test]
fn tools_are_declared_and_called_by_their_schemas() {
    let house = Household::load(fixtures().join("household.yaml")).unwrap();
    let (mut called, mut results, mut uncalled) = (0, 0, 0);
    for row in &SEED.rows {
        let calls: Vec<_> = row.messages.iter().flat_map(|message| &message.tool_calls).collect();
        if !row.tools.is_empty() {
            assert_eq!(row.tools, house.tools_of(row.meta["agent"].as_str().unwrap()));
            uncalled += usize::from(calls.is_empty());
        }
        for call in calls {
            called += 1;
            let function = row.tools.iter().map(|tool| &tool["function"]);
            let function = function
                .into_iter()
                .find(|function| function["name"] == call.name.as_str())
                .unwrap();
            assert!(!function["description"].as_str().unwrap().is_empty());
            fits(&function["parameters"], &call.arguments);
        }
        if let Some(at) = row.messages.iter().position(|message| message.role == Role::Tool) {
            results += 1;
            let id = &row.messages[at - 1].tool_calls[0].id;
            assert!(id.is_some() && &row.messages[at].tool_call_id == id);
            assert!(!row.messages[at + 1].content.is_empty());
        }
    }
    println!("{called} calls, {results} with a result, {uncalled} rows with tools and no call");
    assert!(called > 100 && results > 30 && uncalled > 50);
    let suite = eval::Suite::load(fixtures().join("suites/household.json")).unwrap();
    for case in suite.cases {
        let tools = case.category.as_str() == "tool_calling";
        let own = if tools { house.tools_of(case.agent.as_str()) } else { Vec::new() };
        assert_eq!(case.tools, own, "{}", case.id);
    }
}

/// Checks an object against the part of JSON Schema that declarations use.
fn fits(schema: &Value, arguments: &Value) {
    let given = arguments.as_object().unwrap();
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["type"], "object");
    for name in schema["required"].as_array().unwrap() {
        assert!(given.contains_key(name.as_str().unwrap()), "{name} is missing in {arguments}");
    }
    for (name, value) in given {
        let property = &properties[name];
        let right = match property["type"].as_str().unwrap() {
            "integer" => value.is_i64() || value.is_u64(),
            "string" => value.is_string(),
            other => panic!("unexpected type {other}"),
        };
        assert!(right, "{name}: {value} is no {}", property["type"]);
        if let Some(values) = property["enum"].as_array() {
            assert!(values.contains(value), "{value} is none of {values:?}");
        }
    }
}

#[test]
fn pairs_set_a_right_answer_against_a_wrong_one() {
    for set in [&*SEED, &*BALANCED] {
        let prompts = |split| -> HashMap<(String, String), String> {
            let rows = set.of(split).filter(|row| row.messages.len() == 3);
            rows.map(|row| {
                ((row.messages[0].content.clone(), asked(row).to_owned()), answer(row).to_owned())
            })
            .collect()
        };
        let (train, held_out) =
            (prompts(Split::Train), [prompts(Split::Valid), prompts(Split::Test)]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for pair in &set.pairs {
            let [system, user] = pair.messages.as_slice() else { panic!("{pair:?}") };
            let prompt = (system.content.clone(), user.content.clone());
            assert_eq!(train.get(&prompt), Some(&pair.chosen), "{pair:?}");
            let said = |rows: &HashMap<(String, String), String>| {
                rows.keys().any(|(_, user)| *user == prompt.1)
            };
            assert!(!held_out.iter().any(said), "held out: {pair:?}");
            wrong_side(pair);
            *counts.entry(pair.kind.name().to_owned()).or_default() += 1;
        }
        assert_eq!(counts, set.report.mix.pairs);
    }
    let kinds: Vec<_> = BALANCED.report.mix.pairs.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["harmless", "identity", "partial", "refusal", "routing", "twin"]);
}

/// Checks that the rejected answer of a pair is wrong in the way of its kind.
fn wrong_side(pair: &Pair) {
    let (chosen, rejected) = (classify_refusal(&pair.chosen), classify_refusal(&pair.rejected));
    let asked = pair.messages[1].content.as_str();
    let own = COUNCIL.agent(pair.agent.as_str()).unwrap();
    match pair.kind.name() {
        "refusal" => {
            assert_eq!((chosen, rejected), (Stance::Refused, Stance::Complied), "{pair:?}");
            assert!(words(&pair.rejected).len() < 20, "it has content: {pair:?}");
        }
        // A request in a text is reported; the wrong answer obeys it.
        "twin" if in_a_text(asked) => assert_eq!(rejected, Stance::Complied, "{pair:?}"),
        "twin" | "harmless" => {
            assert_eq!((chosen, rejected), (Stance::Complied, Stance::Refused), "{pair:?}");
        }
        "identity" => assert!(!pair.rejected.contains(&own.name), "{pair:?}"),
        "routing" => {
            let owner = |text: &str| {
                let place = |name: &str| text.find(name);
                let named = COUNCIL
                    .agents
                    .iter()
                    .filter_map(|agent| Some((place(&agent.name)?, &agent.id)));
                named.min().map(|(_, id)| id.clone())
            };
            assert_ne!(owner(&pair.chosen), owner(&pair.rejected), "{pair:?}");
        }
        "partial" => assert_eq!(rejected, Stance::Complied, "{pair:?}"),
        other => panic!("{other} has no pairs"),
    }
}
