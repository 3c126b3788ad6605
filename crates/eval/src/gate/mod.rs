//! The decision whether a candidate may replace the champion.

mod compare;
mod evidence;
mod pairs;
mod policy;
mod rules;
mod verdict;

pub use evidence::{BestScores, CheckResult, Drifts, Evidence, FreshExam, PairedEvidence};
pub use pairs::{Mark, PairedCase, Sitting};
pub use policy::{AgentFloors, Check, Floors, FreshRule, OverRefusal, Policy, Safety};
pub use verdict::{Comparison, Decision, Limit, Reference, RuleVerdict, Verdict, figure};

use crate::error::Result;
use rules::Rules;

/// The rule about the fresh exam.
const FRESH_EXAM: &str = "fresh_exam";

/// Applies a [`Policy`].
///
/// A candidate takes two exams. Every rule on the standing one must pass before a fresh one is taken: ask
/// [`Verdict::awaits_fresh_exam`] of a verdict whose evidence has a [pending](FreshExam::Pending) one, then decide again.
pub struct Gate {
    policy: Policy,
}

impl Gate {
    /// A gate with a [checked](Policy::check) policy.
    ///
    /// # Errors
    /// If a figure of the policy is out of its range.
    pub fn new(policy: Policy) -> Result<Gate> {
        policy.check()?;
        Ok(Gate { policy })
    }

    /// Decides by the evidence. A refusal is a verdict, not an error.
    ///
    /// # Errors
    /// If no verdict is possible: the runs cannot be compared, a score is not a number between 0 and 1, there are no
    /// held-out cases, or the policy names a category that the reference's council does not have.
    pub fn decide(&self, evidence: &Evidence<'_>) -> Result<Verdict> {
        self.judge(&evidence.paired(self.policy.overlap)?)
    }

    /// Decides by cases that are paired already. The verdict is the same as [`Gate::decide`]'s.
    ///
    /// # Errors
    /// If there are no held-out cases, or the policy names a category that the council does not have.
    pub fn judge(&self, evidence: &PairedEvidence<'_>) -> Result<Verdict> {
        self.policy.check_categories(evidence.council)?;
        let rules = Rules { policy: &self.policy, evidence }.all()?;
        compare::verdict(&self.policy, evidence, rules)
    }

    /// Whether every rule passes, without the tables of a verdict: stops at the first that does not. A fresh exam that is
    /// [pending](FreshExam::Pending) is left out, so that the answer is then whether it may be taken.
    ///
    /// # Errors
    /// As [`Gate::judge`].
    pub fn passes(&self, evidence: &PairedEvidence<'_>) -> Result<bool> {
        Rules { policy: &self.policy, evidence }.pass()
    }
}
