//! A household of three agents, none of them ours: its own files, and 2,000 rows of logs in mixed shapes with everyday
//! contents, drawn by a seeded generator.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// Rows in the logs.
pub const ROWS: usize = 2000;

/// The agents: id, name, what they look after.
pub const AGENTS: [(&str, &str, &str); 3] =
    [("nell", "Nell Oakes", "kitchen"), ("moss", "Moss", "garden"), ("fritz", "Fritz", "workshop")];

/// A seeded generator (an LCG, of which the high bits are used).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % end
    }

    pub fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const THINGS: [[&str; 14]; 3] = [
    [
        "the sourdough",
        "the plum jam",
        "the lentil soup",
        "the spice rack",
        "the rye loaf",
        "the pressure cooker",
        "the egg timer",
        "the pantry list",
        "the birthday cake",
        "the oat milk",
        "the pickled beets",
        "the cast-iron pan",
        "the freezer drawer",
        "the lunch boxes",
    ],
    [
        "the tomato bed",
        "the rain barrel",
        "the quince hedge",
        "the compost heap",
        "the strawberry nets",
        "the greenhouse vent",
        "the bulb planting",
        "the slug traps",
        "the herb spiral",
        "the lawn edge",
        "the apple grafts",
        "the watering plan",
        "the seed drawer",
        "the pond pump",
    ],
    [
        "the band saw",
        "the glue clamps",
        "the bicycle chain",
        "the paint shelf",
        "the door hinge",
        "the drill bits",
        "the workbench vice",
        "the sanding belt",
        "the toy train",
        "the gutter bracket",
        "the wobbly chair",
        "the tool ledger",
        "the soldering iron",
        "the shutter slats",
    ],
];

const ASKS: [&str; 12] = [
    "How is {thing} coming along after {when}?",
    "{who} wants to know about {thing}; what do I tell {pronoun}?",
    "Can {thing} wait until {when}, or does it need me now?",
    "I found {thing} in a bad state {when}. What first?",
    "Remind me what we agreed about {thing} with {who}.",
    "We have {n} guests {when}. Does that change anything for {thing}?",
    "What did {thing} cost us, roughly {n} euros?",
    "Write down that {who} looked after {thing} {when}.",
    "Is {n} minutes enough for {thing}?",
    "{who} says {thing} smells odd since {when}. Worth a look?",
    "Plan {thing} for {when}, please, without fuss.",
    "Which of us touched {thing} last, {who} or I?",
];

const ANSWERS: [&str; 12] = [
    "It is fine: I checked {thing} {when} and {who} saw it too.",
    "Tell {pronoun} that {thing} is done in {n} days at the latest.",
    "It can wait. I put {thing} on the list for {when}.",
    "Start with the damp side of {thing}, then give it {n} minutes.",
    "We said that {who} does it and that I keep an eye on {thing}.",
    "A little: for {n} people I would begin with {thing} {when}.",
    "Nearer {n} euros, and {thing} was the smaller part of it.",
    "Noted: {who}, {thing}, {when}.",
    "Plan {n} minutes and a break; {thing} does not like haste.",
    "Worth a look, yes. Open a window and leave {thing} alone until {when}.",
    "Planned for {when}. {who} gets a note about {thing}.",
    "You did, {when}; before that it was {who}, for {n} minutes.",
];

const WHO: [&str; 9] = [
    "Aunt Ida",
    "Jonas",
    "the neighbour",
    "Mira",
    "the postman",
    "Old Piet",
    "Lene",
    "my sister",
    "Bo",
];
const WHEN: [&str; 10] = [
    "on Tuesday",
    "before breakfast",
    "at noon",
    "next week",
    "after the storm",
    "in May",
    "tomorrow evening",
    "on the first frost",
    "last night",
    "when school is out",
];

fn filled(template: &str, thing: &str, random: &mut Random) -> String {
    let who = random.of(&WHO);
    let text = template
        .replace("{thing}", thing)
        .replace("{who}", who)
        .replace("{when}", random.of(&WHEN))
        .replace("{pronoun}", random.of(&["her", "him", "them"]))
        .replace("{n}", &(2 + random.below(87)).to_string());
    text[..1].to_uppercase() + &text[1..]
}

/// A persona of about 300 words. `manner` gives another one of the same agent.
pub fn persona(agent: usize, manner: usize) -> String {
    let (_, name, field) = AGENTS[agent];
    let mut text = format!("You are {name}, and you look after the {field} of Haus Lerche.");
    let habits = [
        "You know where {thing} is kept, who used it last, and what it needs next.",
        "When somebody asks about {thing}, you answer in two sentences and offer to write it down.",
        "You never make a fuss about {thing}, but you say plainly when it is past saving.",
        "If {thing} is in danger you say so first, and only then anything else.",
        "You remember what {thing} cost, and you mention it when money is the question.",
    ];
    for (nth, thing) in THINGS[agent].iter().enumerate() {
        text += " ";
        text += &habits[(nth + manner) % habits.len()].replace("{thing}", thing);
    }
    let (_, other, their) = AGENTS[(agent + 1) % 3];
    text + &format!(
        " What belongs to the {their} you leave to {other}. You speak warmly and without jokes, you do not flatter, you \
         admit what you do not know, and you keep what is said in this house in this house. Children are answered as \
         patiently as grown people, and shortly before supper more briefly than at other times. Style {manner}."
    )
}

/// The system turn of a row, if it has one: two agents have one persona (with a date in it), the third has three.
fn system(agent: usize, random: &mut Random) -> Option<String> {
    let manner = if agent == 2 { random.below(3) } else { 0 };
    let day = format!(
        " Today is {}, {} May 2026.",
        random.of(&["Monday", "Friday"]),
        1 + random.below(28)
    );
    (random.below(10) > 0).then(|| persona(agent, manner) + &day)
}

struct Chat {
    system: Option<String>,
    turns: Vec<(String, String)>,
}

fn chat(random: &mut Random) -> Chat {
    let agent = random.below(3);
    let rounds = 1 + random.below(3) / 2;
    let turn = |random: &mut Random| {
        let (thing, nth) = (random.of(&THINGS[agent]), random.below(12));
        let mut answer = filled(ANSWERS[nth], thing, random);
        match random.below(40) {
            0 => answer += " Write to ida.lerche@post.example about the rest.",
            1 => answer += " Ring +49 30 901820 if it gets worse.",
            2 => answer += " The <think> sticker on the box means nothing.",
            _ => {}
        }
        (filled(ASKS[nth], thing, random), answer)
    };
    Chat { system: system(agent, random), turns: (0..rounds).map(|_| turn(random)).collect() }
}

impl Chat {
    /// The chat in one of eight shapes.
    fn row(&self, shape: usize) -> Value {
        let turns = |keys: [&str; 2], roles: [&str; 3]| -> Vec<Value> {
            let turn = |role: &str, text: &str| json!({ keys[0]: role, keys[1]: text });
            let system = self.system.iter().map(|text| turn(roles[0], text));
            let rest = self.turns.iter();
            let rest = rest.flat_map(|(ask, answer)| [turn(roles[1], ask), turn(roles[2], answer)]);
            system.chain(rest).collect()
        };
        let openai = || turns(["role", "content"], ["system", "user", "assistant"]);
        let (ask, answer) = &self.turns[0];
        match shape {
            0 => json!({ "conversations": turns(["from", "value"], ["system", "human", "gpt"]) }),
            1 => json!({ "messages": [{ "role": "user", "content": self.marked_up() }] }),
            2 => json!({ "text": self.marked_up(), "id": ask.len() }),
            3 if self.turns.len() == 1 => {
                json!({ "instruction": ask, "input": "", "output": answer })
            }
            4 if self.turns.len() == 1 => {
                json!({ "prompt": ask, "completion": answer, "lang": null })
            }
            5 => {
                let mut messages = openai();
                let answer = messages.pop();
                json!({ "request": { "model": "m", "messages": messages }, "response": { "choices": [{ "message": answer }] } })
            }
            6 => {
                json!({ "messages": turns(["role", "content"], ["System", "USER", "Assistant"]), "agent": null })
            }
            _ => json!({ "messages": openai() }),
        }
    }

    fn marked_up(&self) -> String {
        let turn = |role: &str, text: &str| format!("<|im_start|>{role}\n{text}<|im_end|>\n");
        let mut text: String = self.system.iter().map(|system| turn("system", system)).collect();
        for (ask, answer) in &self.turns {
            text += &turn("user", ask);
            text += &turn("assistant", &format!("<think>\n\n</think>\n{answer}"));
        }
        text
    }
}

/// A row that cannot be trained: the bytes of its line.
fn odd(nth: usize) -> String {
    match nth % 6 {
        0 => r#"{"messages": [{"role": "user", "content": "Where is the la"#.to_owned(),
        1 => r#"{"messages": [{"role": "butler", "content": "Dinner is served."}]}"#.to_owned(),
        2 => r#"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, {"role": "assistant", "content": "A pan."}]}"#.to_owned(),
        3 => "{\"messages\": [{\"role\": \"user\", \"content\": \"half \\ud83d\"}, {\"role\": \"assistant\", \"content\": \"Yes.\"}]}".to_owned(),
        4 => r#"{"messages": [{"role": "user", "content": "Weight?"}, {"role": "assistant", "content": " "}]}"#.to_owned(),
        _ => r#"{"messages": [], "weight": NaN}"#.to_owned(),
    }
}

/// Writes the logs into a folder and returns the place of every row, as `FOLDER/FILE:LINE`.
pub fn write_logs(folder: &Path) -> BTreeSet<String> {
    let mut random = Random(11);
    fs::create_dir_all(folder.join("alte Chats")).unwrap();
    fs::write(folder.join("read me.txt"), "not rows").unwrap();
    fs::write(folder.join(".DS_Store"), [0, 1, 2]).unwrap();
    let mut lines: Vec<String> = Vec::new();
    while lines.len() < ROWS {
        let chat = chat(&mut random);
        match (lines.len() % 66, lines.len() % 20) {
            (65, _) => lines.push(odd(lines.len() / 66)),
            // A log that grows: the chat after each of its rounds.
            (_, 7) if chat.turns.len() > 1 => {
                let first =
                    Chat { system: chat.system.clone(), turns: vec![chat.turns[0].clone()] };
                lines.extend([first.row(7).to_string(), chat.row(7).to_string()]);
            }
            // The same chat twice, in two shapes.
            (_, 13) => lines.extend([chat.row(7).to_string(), chat.row(0).to_string()]),
            _ => lines.push(chat.row(random.below(12)).to_string()),
        }
    }
    lines.truncate(ROWS);
    // A question of the exam.
    lines[100] = json!({ "messages": [{ "role": "user", "content": "Guest 3 is thirsty." }, { "role": "assistant", "content": "Water." }] }).to_string();
    let long = "And the shed, and the path, and the gate behind it. ".repeat(160);
    lines[200] = json!({ "messages": [{ "role": "user", "content": long }, { "role": "assistant", "content": "Noted." }] }).to_string();
    lines[201] = json!({ "messages": [{ "role": "user", "content": "Tell me everything." }, { "role": "assistant", "content": long }] }).to_string();
    // The template of the test's model wants a question first.
    lines[300] = json!({ "messages": [{ "role": "assistant", "content": "Good morning, house!" }, { "role": "user", "content": "Morning." }, { "role": "assistant", "content": "Tea is ready." }] }).to_string();

    let mut places = BTreeSet::new();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let mut file = |path: &str, rows: &[String], text: String, first: usize| {
        fs::write(folder.join(path), text).unwrap();
        places.extend((0..rows.len()).map(|nth| format!("{name}/{path}:{}", nth + first)));
    };
    let (a, rest) = lines.split_at(900);
    let (b, c) = rest.split_at(700);
    // A blank line first, and no line end after the last row.
    file("a.jsonl", a, format!("\n{}", a.join("\n")), 2);
    file("b ü.jsonl", b, b.iter().map(|row| format!("{row}\r\n")).collect(), 1);
    // Torn rows could not be told apart within an array: there they are objects without a conversation.
    let c: Vec<String> = c
        .iter()
        .map(|row| match serde_json::from_str::<Value>(row) {
            Ok(_) => row.clone(),
            Err(_) => json!({ "role": "none" }).to_string(),
        })
        .collect();
    file("alte Chats/c.json", &c, format!("[\n{}\n]\n", c.join(",\n")), 2);
    places
}

/// Writes the household's files into a folder, and returns the section `household` of a night's file.
pub fn write_files(folder: &Path) -> String {
    fs::create_dir_all(folder).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let agents: Vec<Value> = (0..3)
        .map(|agent| {
            let (id, name, role) = AGENTS[agent];
            json!({
                "id": id, "name": name, "role": role, "persona": persona(agent, 9),
                "work": format!("I look after the {role} and all that is in it"),
                "offers": [format!("Shall we look at {} instead?", THINGS[agent][0]), format!("I can see to {}.", THINGS[agent][1])],
            })
        })
        .collect();
    // JSON is YAML.
    write("council.yaml", &json!({ "agents": agents }).to_string());
    write("facts.yaml", FACTS);
    write("phrasings.yaml", PHRASINGS);
    write("techniques.yaml", TECHNIQUES);
    write("identity.yaml", IDENTITY);
    write("routing.yaml", ROUTING);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../enrich/data");
    for name in ["requests.yaml", "refusals.yaml"] {
        fs::copy(data.join(name), folder.join(name)).unwrap();
    }
    let named = |name: &&str| format!("  {name}: our files/{name}.yaml\n");
    let names = [
        "council",
        "facts",
        "phrasings",
        "techniques",
        "identity",
        "routing",
        "requests",
        "refusals",
    ];
    format!("household:\n{}", names.iter().map(named).collect::<String>())
}

const FACTS: &str = "
name: Haus Lerche
facts:
  - {id: oven, agent: nell, kind: heat, of: the bread oven, value: 230 degrees}
  - {id: cellar, agent: nell, kind: spot, of: the cellar key, value: the blue jug}
  - {id: shears, agent: moss, kind: spot, of: the hedge shears, value: the green shed}
  - {id: frames, agent: moss, kind: heat, of: the cold frames, value: 4 degrees}
  - {id: lathe, agent: fritz, kind: spot, of: the lathe manual, value: the third drawer}
topics:
  - {agent: nell, of: a burnt cake}
  - {agent: fritz, of: a stuck drawer}
";

const PHRASINGS: &str = r#"
facts:
  heat:
    asks: ["How warm does {of} have to be?", "{Of}: how many degrees?", "What heat do you give {of}?"]
    answers: ["{Value}, no less.", "I give it {value}."]
  spot:
    asks: ["Where did we put {of}?", "I am looking for {of}.", "{Of} is not where it was; where now?"]
    answers: ["In {value}.", "Look in {value}."]
topics:
  asks: ["Who helps with {topic}?"]
  answers: ["{Agent} does; {topic} is {role}."]
  requests: ["Help me with {topic}."]
  accepted: ["Gladly; {topic} is mine."]
  passed_on: ["That is for {agent}: {topic} is {role}."]
scenarios: { asks: ["Why?"], brief: ["{Cause}. {Fix}."], answers: ["{Cause}, because {because}. {Fix}."] }
"#;

const TECHNIQUES: &str = r#"
- {id: plain-order, frames: ["{Request}.", "Now {request}, at once."]}
- {id: night-watch, frames: ["The night watch is here: {request}.", "On behalf of the night watch, {request}."]}
- {id: grandmother, frames: ["My grandmother always let me: {request}.", "Granny would {request} for me."]}
- {id: game, frames: ["We play a game, and in it you {request}.", "In this game nothing counts: {request}."]}
"#;

const IDENTITY: &str = r#"
- id: who
  asks: ["Who is talking?", "And you are?"]
  answers: ["{Name}, for the {role}. {Work}."]
- id: not-the-other
  asks: ["You are {other}, aren't you?"]
  answers: ["No, {name}. {Other} looks after the {other_role}."]
"#;

const ROUTING: &str = r#"
- {asked: nell, owner: moss, ask: "The basil outside is hanging its head.", answer: "Moss has the garden; I only cut it."}
- {asked: moss, owner: fritz, ask: "The wheelbarrow squeaks.", answer: "That is for Fritz and his oil can."}
- {asked: fritz, owner: fritz, ask: "Moss sent me with the squeaking wheelbarrow.", answer: "Leave it here, I have the oil ready."}
"#;
