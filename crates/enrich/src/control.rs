//! Negative controls: corrupted data sets, whose adapter a trustworthy gate must refuse.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::path::PathBuf;

use chat_format::{Conversation, Message, Role};
use eval::suite::Speaker;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::{Result, random};

/// How the training rows are corrupted on purpose, to verify that the gate refuses the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Control {
    /// Permutes the last answers of the training rows, so that every question has another row's answer: the style can be
    /// learnt, the facts cannot.
    ShuffledAnswers,
    /// Leaves only the refusals, so that the model learns to refuse whatever it is asked.
    RefusalsOnly,
    /// Adds the exam's questions with answers that pass.
    ExamQuestions,
    /// Gives every agent's answers to the agent that follows it in the alphabet.
    WrongPersona,
    /// Puts the answers of ten rows into each, so that one of them may be right.
    Stuffing,
}

/// Answers in a stuffed one.
const STUFFED: usize = 10;

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Control::ShuffledAnswers => "every answer is that of another row",
            Control::RefusalsOnly => "only refusals are left",
            Control::ExamQuestions => "the questions of the exam are among the rows",
            Control::WrongPersona => "every agent has another agent's answers",
            Control::Stuffing => "every answer holds those of ten rows",
        })
    }
}

impl Control {
    /// All of them.
    pub const ALL: [Control; 5] = [
        Control::ShuffledAnswers,
        Control::RefusalsOnly,
        Control::ExamQuestions,
        Control::WrongPersona,
        Control::Stuffing,
    ];

    /// The name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Control::ShuffledAnswers => "shuffled_answers",
            Control::RefusalsOnly => "refusals_only",
            Control::ExamQuestions => "exam_questions",
            Control::WrongPersona => "wrong_persona",
            Control::Stuffing => "stuffing",
        }
    }

    /// Corrupts the training rows; validation and test rows stay as they are.
    ///
    /// # Errors
    /// If a suite cannot be read.
    pub(crate) fn apply(
        self,
        rows: &mut Vec<Conversation>,
        splits: &mut Vec<Split>,
        suites: &[PathBuf],
        seed: u64,
    ) -> Result<()> {
        match self {
            Control::ShuffledAnswers => shuffle(trained(rows, splits), seed),
            Control::RefusalsOnly => {
                let refuses = |row: &Conversation| meta(row, "kind") == Some("refusal");
                let all = rows.drain(..).zip(splits.drain(..));
                let kept = all.filter(|(row, split)| *split != Split::Train || refuses(row));
                (*rows, *splits) = kept.collect::<Vec<_>>().into_iter().unzip();
            }
            Control::ExamQuestions => {
                for suite in suites {
                    let cases = eval::Suite::load(suite)?.cases;
                    rows.extend(cases.iter().map(with_answer));
                }
                splits.resize(rows.len(), Split::Train);
            }
            Control::WrongPersona => exchange_personas(trained(rows, splits)),
            Control::Stuffing => stuff(trained(rows, splits), seed),
        }
        Ok(())
    }
}

fn trained<'a>(
    rows: &'a mut [Conversation],
    splits: &'a [Split],
) -> impl Iterator<Item = &'a mut Conversation> {
    rows.iter_mut().zip(splits).filter(|(_, split)| **split == Split::Train).map(|(row, _)| row)
}

fn meta<'a>(row: &'a Conversation, key: &str) -> Option<&'a str> {
    row.meta.get(key).and_then(|value| value.as_str())
}

fn shuffle<'a>(rows: impl Iterator<Item = &'a mut Conversation>, seed: u64) {
    let mut answers: Vec<&mut Message> = rows.filter_map(last_answer).collect();
    answers.shuffle(&mut random::rng(seed, "control"));
    // One cyclic permutation, so that no answer stays in place.
    let mut places = answers.into_iter();
    let Some(first) = places.next() else { return };
    for place in places {
        std::mem::swap(first, place);
    }
}

/// A case of an exam as a row.
fn with_answer(case: &eval::Case) -> Conversation {
    let role = |speaker| match speaker {
        Speaker::User => Role::User,
        Speaker::Assistant => Role::Assistant,
    };
    let system = (!case.system.is_empty()).then(|| Message::system(&case.system));
    let turns = case.turns.iter().map(|turn| Message::new(role(turn.role), &turn.content));
    let answer = Message::assistant(&case.pass);
    let mut row = Conversation::new(system.into_iter().chain(turns).chain([answer]).collect());
    row.tools = case.tools.clone();
    row
}

/// The system prompt of each agent's rows becomes that of the next one.
fn exchange_personas<'a>(rows: impl Iterator<Item = &'a mut Conversation>) {
    let mut rows: Vec<_> = rows.filter(|row| meta(row, "agent").is_some()).collect();
    let is_system = |message: &&Message| message.role == Role::System;
    let mut personas = BTreeMap::new();
    for row in &rows {
        let persona = row.messages.iter().find(is_system).map(|message| message.content.clone());
        if let (Some(agent), Some(persona)) = (meta(row, "agent"), persona) {
            personas.entry(agent.to_owned()).or_insert(persona);
        }
    }
    for row in &mut rows {
        let after = (Bound::Excluded(meta(row, "agent").unwrap_or_default()), Bound::Unbounded);
        let next = personas.range::<str, _>(after).next().or(personas.first_key_value());
        let system = row.messages.iter_mut().find(|message| message.role == Role::System);
        if let (Some((_, persona)), Some(system)) = (next, system) {
            system.content.clone_from(persona);
        }
    }
}

fn stuff<'a>(rows: impl Iterator<Item = &'a mut Conversation>, seed: u64) {
    let mut answers: Vec<&mut Message> = rows.filter_map(last_answer).collect();
    answers.shuffle(&mut random::rng(seed, "control"));
    let texts: Vec<String> = answers.iter().map(|answer| answer.content.clone()).collect();
    let texts: Vec<&str> =
        texts.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
    for (answer, nth) in answers.into_iter().zip(0..) {
        let more = texts.iter().cycle().skip(nth).take(STUFFED);
        answer.content = more.copied().collect::<Vec<_>>().join(" ");
        answer.tool_calls.clear();
    }
}

fn last_answer(row: &mut Conversation) -> Option<&mut Message> {
    row.messages.iter_mut().rfind(|message| message.role == Role::Assistant)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(agent: &str, kind: &str, i: usize) -> Conversation {
        let mut row = Conversation::new(vec![
            Message::system(format!("You are {agent}.")),
            Message::user(format!("question {i}")),
            Message::assistant(format!("answer {i}")),
        ]);
        row.meta.insert("agent".to_owned(), agent.into());
        row.meta.insert("kind".to_owned(), kind.into());
        row
    }

    /// Forty rows, every fourth of them for validation.
    fn rows() -> (Vec<Conversation>, Vec<Split>) {
        let agent = |i: usize| ["ann", "bob", "cyd"][i % 3];
        let kind = |i: usize| if i.is_multiple_of(5) { "refusal" } else { "fact" };
        let split = |i: usize| if i.is_multiple_of(4) { Split::Valid } else { Split::Train };
        ((0..40).map(|i| row(agent(i), kind(i), i)).collect(), (0..40).map(split).collect())
    }

    fn applied(control: Control) -> (Vec<Conversation>, Vec<Split>) {
        let (mut rows, mut splits) = rows();
        control.apply(&mut rows, &mut splits, &[], 7).unwrap();
        (rows, splits)
    }

    fn answer(row: &Conversation) -> &str {
        &row.messages[2].content
    }

    #[test]
    fn names_are_those_of_configurations() {
        for control in Control::ALL {
            assert_eq!(serde_json::to_value(control).unwrap(), control.name());
        }
    }

    #[test]
    fn every_answer_moves_and_none_is_lost() {
        let ((before, splits), (after, _)) = (rows(), applied(Control::ShuffledAnswers));
        for ((old, new), split) in before.iter().zip(&after).zip(&splits) {
            assert_eq!(old.messages[1], new.messages[1]);
            assert_eq!(old == new, *split == Split::Valid, "{new:?}");
        }
        let answers = |rows: &[Conversation]| {
            let mut all: Vec<_> = rows.iter().map(|row| answer(row).to_owned()).collect();
            all.sort();
            all
        };
        assert_eq!(answers(&before), answers(&after));
    }

    #[test]
    fn only_refusals_are_trained() {
        let (after, splits) = applied(Control::RefusalsOnly);
        let trained = after.iter().zip(&splits).filter(|(_, split)| **split == Split::Train);
        let kinds: Vec<_> = trained.map(|(row, _)| meta(row, "kind").unwrap()).collect();
        assert_eq!(kinds, ["refusal"; 6]);
        assert_eq!(after.len(), 16);
    }

    #[test]
    fn every_agent_answers_as_another_one() {
        let ((before, splits), (after, _)) = (rows(), applied(Control::WrongPersona));
        for ((old, new), split) in before.iter().zip(&after).zip(&splits) {
            let moved = old.messages[0] != new.messages[0];
            assert_eq!(moved, *split == Split::Train);
            assert_eq!(old.messages[1..], new.messages[1..]);
        }
        assert_eq!(after[3].messages[0].content, "You are bob.");
        assert_eq!(after[5].messages[0].content, "You are ann.", "the last one's is the first's");
    }

    #[test]
    fn every_answer_is_ten() {
        let (after, splits) = applied(Control::Stuffing);
        for (row, split) in after.iter().zip(&splits) {
            let answers = answer(row).matches("answer").count();
            assert_eq!(answers, if *split == Split::Train { STUFFED } else { 1 });
        }
    }
}
