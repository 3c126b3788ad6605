//! Negative controls: corrupted data sets, whose adapter a trustworthy gate must refuse.

use chat_format::{Conversation, Message, Role};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::random;
use crate::split::Split;

/// How the training rows are corrupted on purpose, to verify that the gate refuses the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Control {
    /// Permutes the last answers of the training rows, so that every question has another row's answer: the style can be
    /// learnt, the facts cannot.
    ShuffledAnswers,
}

impl Control {
    /// Corrupts the training rows; validation and test rows stay as they are.
    pub(crate) fn apply(self, rows: &mut [Conversation], splits: &[Split], seed: u64) {
        let Control::ShuffledAnswers = self;
        let trained = rows.iter_mut().zip(splits).filter(|(_, split)| **split == Split::Train);
        let mut answers: Vec<&mut Message> =
            trained.filter_map(|(row, _)| last_answer(row)).collect();
        answers.shuffle(&mut random::rng(seed, "control"));
        // One cyclic permutation, so that no answer stays in place.
        let mut places = answers.into_iter();
        let Some(first) = places.next() else { return };
        for place in places {
            std::mem::swap(first, place);
        }
    }
}

fn last_answer(row: &mut Conversation) -> Option<&mut Message> {
    row.messages.iter_mut().rfind(|message| message.role == Role::Assistant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_moves_and_none_is_lost() {
        let row = |i: usize| {
            let (question, answer) = (format!("question {i}"), format!("answer {i}"));
            Conversation::new(vec![Message::user(question), Message::assistant(answer)])
        };
        let before: Vec<_> = (0..40).map(row).collect();
        let splits: Vec<_> =
            (0..40).map(|i| if i % 4 == 0 { Split::Valid } else { Split::Train }).collect();
        let mut after = before.clone();
        Control::ShuffledAnswers.apply(&mut after, &splits, 7);
        for ((old, new), split) in before.iter().zip(&after).zip(&splits) {
            assert_eq!(old.messages[0], new.messages[0]);
            assert_eq!(old == new, *split == Split::Valid, "{new:?}");
        }
        let answers = |rows: &[Conversation]| {
            let mut all: Vec<_> = rows.iter().map(|r| r.messages[1].content.clone()).collect();
            all.sort();
            all
        };
        assert_eq!(answers(&before), answers(&after));
    }
}
