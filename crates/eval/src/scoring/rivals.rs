//! Answers that say everything: a list of values, of agents, of causes.

use std::sync::Arc;

use super::credit::{CompiledCase, Judged};
use super::refusal;
use super::text::Text;

/// The cases of the same category that have other answers than this one, one for each answer.
///
/// An answer that meets several of them beside its own case lists answers instead of choosing one.
pub(super) struct Rivals<'a>(Vec<Arc<CompiledCase<'a>>>);

impl<'a> Rivals<'a> {
    pub(super) fn none() -> Self {
        Rivals(Vec::new())
    }

    /// The rivals of each case, in their order.
    pub(super) fn of_each(cases: &[Arc<CompiledCase<'a>>]) -> Vec<Self> {
        let passes: Vec<Text> = cases.iter().map(|case| Text::of(&case.case.pass)).collect();
        // `met[a][b]`: the passing sample of `a` meets the rules of `b`.
        let met: Vec<Vec<bool>> = passes
            .iter()
            .zip(cases)
            .map(|(answer, own)| {
                let judged = Judged { stance: refusal::stance(answer, &own.question), answer };
                let meets = |case: &Arc<CompiledCase<'a>>| {
                    case.case.category == own.case.category && case.is_met_by(&judged)
                };
                cases.iter().map(meets).collect()
            })
            .collect();
        let meets =
            |a: usize, b: usize| met.get(a).and_then(|row| row.get(b)).copied().unwrap_or(false);
        let of = |own: usize| {
            let mut chosen: Vec<usize> = Vec::new();
            for (other, case) in cases.iter().enumerate() {
                // Only cases with content can be met, and a passing sample that meets both is the same answer.
                let comparable =
                    cases.get(own).is_some_and(|own| own.case.category == case.case.category)
                        && meets(other, other);
                let same = |a: usize| meets(a, other) || meets(other, a);
                if comparable && !same(own) && !chosen.iter().any(|&known| same(known)) {
                    chosen.push(other);
                }
            }
            Rivals(chosen.into_iter().filter_map(|at| cases.get(at).cloned()).collect())
        };
        (0..cases.len()).map(of).collect()
    }

    /// Whether the answer meets at least two rivals, or four if it is long: a long answer may touch another question.
    pub(super) fn are_met_by(&self, judged: &Judged<'_>) -> bool {
        let limit = 2 + (judged.answer.words().count() / 20).min(2);
        self.0.iter().filter(|case| case.is_met_by(judged)).take(limit).count() >= limit
    }
}
