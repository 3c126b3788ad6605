//! The personas of generated rows: each agent's system prompt, as the real rows have it.
//!
//! A household's logs show the system prompt that an agent is served with. Generated rows use the same one, because a model
//! that learns to refuse under another prompt need not refuse under the one that it gets. For each agent, the first that
//! there is of: the entry in the file of personas (a YAML mapping from the agent's id to its system prompt); the prompt of
//! most of its rows; `persona` in the council file; "You are ID, ROLE agent of the council.".
//!
//! A row is an agent's if its key `agent` names it, or else if its system turn does (see [`recognise`]). Prompts that differ
//! in dates only (digits, weekdays, months) count as one; of these the most frequent is used.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

use chat_format::{Conversation, Role};
use eval::{Agent, Council};
use serde::Serialize;

use crate::grams::words;
use crate::{Error, Result, yaml};

/// The fewest rows that show an agent's persona. A single row may be somebody's experiment.
const FEWEST: usize = 3;

/// The persona that an agent's generated rows have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Persona {
    /// The agent.
    pub agent: String,
    /// Where the persona is from.
    pub from: PersonaSource,
    /// Its length in words.
    pub words: usize,
    /// The rows read that are the agent's and have a system turn.
    pub rows: usize,
    /// Those of them whose system turn is this persona, apart from dates.
    pub rows_with_it: usize,
    /// The different personas among them, apart from dates.
    pub forms: usize,
}

/// Where an agent's persona is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PersonaSource {
    /// The file of personas.
    File,
    /// Most of the agent's rows.
    Rows,
    /// The council file, because no row is recognised as the agent's.
    CouncilNoRows,
    /// The council file, because too few rows are the agent's.
    CouncilFewRows,
    /// The council file, because no persona is that of more than half of the agent's rows.
    CouncilNoMajority,
}

impl Persona {
    /// Whether the agent's rows do not agree on a persona.
    pub fn is_unclear(&self) -> bool {
        self.from == PersonaSource::CouncilNoMajority
    }
}

impl fmt::Display for Persona {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Persona { agent, from, words, rows, rows_with_it, forms } = self;
        write!(f, "{agent}: {words} words, ")?;
        match from {
            PersonaSource::File => {
                write!(f, "from the file of personas; {rows_with_it} of {rows} rows have it")
            }
            PersonaSource::Rows => write!(f, "that of {rows_with_it} of {rows} rows"),
            PersonaSource::CouncilNoRows => {
                write!(f, "from the council file: no row is recognised as this agent's")
            }
            PersonaSource::CouncilFewRows => write!(
                f,
                "from the council file: only {rows} of the rows show one, {FEWEST} are needed"
            ),
            PersonaSource::CouncilNoMajority => write!(
                f,
                "from the council file: the agent's {rows} rows have {forms} personas, none of them more than half"
            ),
        }
    }
}

/// Reads a file of personas and sets those of the council's agents. Returns the ids of the agents that have one.
///
/// # Errors
/// If the file is not a mapping from ids of agents to texts, names an unknown agent, or has a blank text.
pub(crate) fn load(path: &Path, council: &mut Council) -> Result<Vec<String>> {
    let personas: BTreeMap<String, String> = yaml::load(path)?;
    for (id, text) in &personas {
        let refuse = |expected: String, found: String| {
            Err(Error::Entry { path: path.to_path_buf(), entry: id.clone(), expected, found })
        };
        let Some(agent) = council.agents.iter_mut().find(|agent| agent.id == id.as_str()) else {
            let known: Vec<_> = council.agents.iter().map(|agent| agent.id.as_str()).collect();
            let expected = format!("an agent of the council: {}", known.join(", "));
            return refuse(expected, format!("{id:?}"));
        };
        let text = text.trim();
        if text.is_empty() {
            return refuse("a system prompt".to_owned(), "a blank text".to_owned());
        }
        agent.persona = Some(text.to_owned());
    }
    Ok(personas.into_keys().collect())
}

/// Sets the personas of the council's agents to those of the rows, but for the agents in `given`, and says where each
/// agent's is from.
pub(crate) fn choose(
    rows: &[Conversation],
    council: &mut Council,
    given: &[String],
) -> Vec<Persona> {
    // Rows share few prompts, and it takes long to recognise whose a prompt is: each is looked at once.
    let mut prompts: HashMap<(Option<&str>, &str), usize> = HashMap::new();
    for row in rows {
        let Some(system) = system(row) else { continue };
        let named = row.meta.get("agent").and_then(|value| value.as_str());
        *prompts.entry((named, system)).or_default() += 1;
    }
    let mut shown: HashMap<String, Shown<'_>> = HashMap::new();
    for ((named, system), rows) in prompts {
        if let Some(agent) = agent_of(named, system, council) {
            shown.entry(agent.id.to_string()).or_default().add(system, rows);
        }
    }
    let choose = |agent: &mut Agent| {
        let shown = shown.remove(agent.id.as_str()).unwrap_or_default();
        let given = given.iter().any(|id| agent.id == id.as_str());
        shown.persona(agent, given)
    };
    council.agents.iter_mut().map(choose).collect()
}

/// The personas of an agent's rows: by their text without digits, how often each text occurs.
#[derive(Default)]
struct Shown<'a>(BTreeMap<String, BTreeMap<&'a str, usize>>);

impl<'a> Shown<'a> {
    fn add(&mut self, system: &'a str, rows: usize) {
        *self.0.entry(form(system)).or_default().entry(system).or_default() += rows;
    }

    /// The number of rows with a form of persona.
    fn count(&self, form: &str) -> usize {
        self.0.get(form).map_or(0, |texts| texts.values().sum())
    }

    fn persona(&self, agent: &mut Agent, given: bool) -> Persona {
        let rows = self.0.values().flat_map(BTreeMap::values).sum::<usize>();
        let most = self.0.keys().max_by_key(|form| self.count(form));
        let majority = most.filter(|form| 2 * self.count(form) > rows);
        let from = match majority {
            _ if given => PersonaSource::File,
            _ if rows == 0 => PersonaSource::CouncilNoRows,
            Some(form) if self.count(form) >= FEWEST => {
                let texts = self.0.get(form).into_iter().flatten();
                agent.persona =
                    texts.max_by_key(|(_, rows)| **rows).map(|(text, _)| (*text).to_owned());
                PersonaSource::Rows
            }
            Some(_) => PersonaSource::CouncilFewRows,
            None => PersonaSource::CouncilNoMajority,
        };
        let text = agent.system_prompt();
        Persona {
            agent: agent.id.to_string(),
            from,
            words: text.split_whitespace().count(),
            rows,
            rows_with_it: self.count(&form(&text)),
            forms: self.0.len(),
        }
    }
}

/// A persona without dates: digits, weekdays and months are blanks, and white space is single spaces.
fn form(text: &str) -> String {
    let blank = |word: &str| {
        let name = word.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
        match DAYS_AND_MONTHS.contains(&&*name) || word.contains(|c: char| c.is_ascii_digit()) {
            true => "_".to_owned(),
            false => word.to_owned(),
        }
    };
    text.split_whitespace().map(blank).collect::<Vec<_>>().join(" ")
}

const DAYS_AND_MONTHS: [&str; 19] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// The words of a row's system turn.
fn system(row: &Conversation) -> Option<&str> {
    let system = row.messages.iter().find(|message| message.role == Role::System)?;
    Some(system.content.trim()).filter(|text| !text.is_empty())
}

/// The agent of a row: the one that its key `agent` names, or else its system turn.
fn agent_of<'c>(named: Option<&str>, system: &str, council: &'c Council) -> Option<&'c Agent> {
    let named = named.and_then(|name| {
        let same = |own: &str| own.to_lowercase() == name.trim().to_lowercase();
        council.agents.iter().find(|agent| agent.names().any(same))
    });
    named.or_else(|| recognise(system, council))
}

/// The agent whose persona a system turn is: the only one that its first sentence names, or the one that the sentence
/// names first behind "you are", "your name is" or "I am"; if the sentence names none, the only one that the whole turn
/// names. Names are compared as whole words, in capitals or not.
pub fn recognise<'c>(system: &str, council: &'c Council) -> Option<&'c Agent> {
    let end = system.find(['.', '!', '?', '\n']).unwrap_or(system.len());
    let first = words(&system[..end]);
    let named = |text: &[String]| -> Vec<&'c Agent> {
        let holds = |name: &str| {
            let name = words(name);
            !name.is_empty() && text.windows(name.len()).any(|part| part == name)
        };
        council.agents.iter().filter(|agent| agent.names().any(holds)).collect()
    };
    match named(&first)[..] {
        [only] => Some(only),
        [] => match named(&words(system))[..] {
            [only] => Some(only),
            _ => None,
        },
        _ => {
            let introduced = |agent: &&Agent| {
                let mut openings = agent
                    .names()
                    .flat_map(|name| OPENINGS.map(|opening| words(&format!("{opening} {name}"))));
                openings.any(|whole| first.windows(whole.len()).any(|part| part == whole))
            };
            let mut introduced = council.agents.iter().filter(introduced);
            introduced.next().filter(|_| introduced.next().is_none())
        }
    }
}

/// What introduces the agent among several names.
const OPENINGS: [&str; 6] = ["you are", "you're", "your name is", "I am", "I'm", "my name is"];

#[cfg(test)]
mod tests {
    use chat_format::Message;

    use super::*;

    fn council() -> Council {
        let agents = "
- { id: nell, name: Nell Oakes, role: kitchen, aliases: [Nelly], work: I cook, offers: [So?] }
- { id: moss, name: Moss, role: garden, work: I dig, offers: [So?] }
- { id: fritz, name: Fritz, role: workshop, persona: You are Fritz of the shed., work: I mend, offers: [So?] }
";
        yaml::parse(Path::new("council.yaml"), agents).unwrap()
    }

    #[test]
    fn an_agent_is_recognised_by_its_persona() {
        let council = council();
        for (system, agent) in [
            ("You are Nell.", Some("nell")),
            ("you are NELLY, who cooks. Ask Moss about herbs.", Some("nell")),
            ("You are Moss, a colleague of Fritz and Nell.", Some("moss")),
            ("You work with Nell; your name is Fritz!", Some("fritz")),
            ("Be brief. The user calls you Moss.", Some("moss")),
            ("Be brief. Nell and Moss may be asked.", None),
            ("Nell and Moss share this prompt.", None),
            ("You are Mossy, and nothing else.", None),
            ("You are a helpful assistant.", None),
            ("", None),
        ] {
            let found = recognise(system, &council).map(|agent| agent.id.as_str());
            assert_eq!(found, agent, "{system}");
        }
    }

    fn row(agent: Option<&str>, system: &str) -> Conversation {
        let turns = vec![Message::system(system), Message::user("Hm?"), Message::assistant("Ah.")];
        let mut row = Conversation::new(turns);
        row.meta.extend(agent.map(|agent| ("agent".to_owned(), agent.into())));
        row
    }

    #[test]
    fn the_persona_of_most_rows_is_used() {
        let mut rows = Vec::new();
        for day in 1..=4 {
            rows.push(row(None, &format!("You are Nell. Today is Friday, {day} May 2026.")));
        }
        rows.push(row(None, "You are Nell. Today is Monday, 1 June 2026."));
        rows.push(row(None, "You are Nell. Today is Monday, 1 June 2026."));
        rows.push(row(Some("Nell Oakes"), "Cook as if you were a pirate."));
        rows.extend((0..3).map(|i| row(Some("moss"), &format!("Version {}", ["a", "b", "c"][i]))));
        rows.push(row(Some("fritz"), "Mend."));
        let mut council = council();
        let chosen = choose(&rows, &mut council, &[]);
        let shown: Vec<_> =
            chosen.iter().map(|p| (p.from, p.rows, p.rows_with_it, p.forms)).collect();
        assert_eq!(
            shown,
            [
                (PersonaSource::Rows, 7, 6, 2),
                (PersonaSource::CouncilNoMajority, 3, 0, 3),
                (PersonaSource::CouncilFewRows, 1, 0, 1),
            ]
        );
        let prompts: Vec<_> = council.agents.iter().map(Agent::system_prompt).collect();
        assert_eq!(prompts[0], "You are Nell. Today is Monday, 1 June 2026.");
        assert_eq!(prompts[1], "You are moss, garden agent of the council.");
        assert_eq!(prompts[2], "You are Fritz of the shed.");
    }

    #[test]
    fn a_file_of_personas_wins_and_names_known_agents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("personas.yaml");
        let mut council = council();
        std::fs::write(&path, "nell: |\n  You are Nell, at last.\n").unwrap();
        let given = load(&path, &mut council).unwrap();
        let rows: Vec<_> = (0..5).map(|_| row(Some("nell"), "You are Nell.")).collect();
        let chosen = choose(&rows, &mut council, &given);
        assert_eq!((chosen[0].from, chosen[0].rows), (PersonaSource::File, 5));
        assert_eq!(council.agents[0].system_prompt(), "You are Nell, at last.");
        for (text, words) in [
            ("nelly: You", "expected an agent of the council: nell, moss, fritz, found \"nelly\""),
            ("nell: ' '", "expected a system prompt, found a blank text"),
            ("- nell", "personas.yaml:1"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = load(&path, &mut council).unwrap_err().to_string();
            assert!(error.contains("personas.yaml") && error.contains(words), "{error}");
        }
    }
}
