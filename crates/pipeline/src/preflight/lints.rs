//! The lints of a recipe, by what the night file allows.

use std::collections::BTreeMap;

use lora_train::lint::{Lint, LintCode, Severity};

pub(super) struct Lints {
    /// Warnings that are not allowed, with the names by which they can be.
    pub warnings: Vec<String>,
    /// Names of warnings that are allowed, with the reasons, and of allowed ones that there are none of.
    pub allowed: Vec<String>,
    /// The number of notes.
    pub notes: usize,
}

impl Lints {
    pub fn of(lints: &[Lint], allow: &BTreeMap<LintCode, String>) -> Self {
        let warnings = || lints.iter().filter(|lint| lint.severity == Severity::Warning);
        let refused = warnings().filter(|lint| !allow.contains_key(&lint.code));
        let allowed =
            allow.iter().map(|(code, reason)| match warnings().any(|it| it.code == *code) {
                true => format!("{code} ({reason})"),
                false => format!("{code} (not needed)"),
            });
        Self {
            warnings: refused.map(|lint| format!("{}: {}", lint.code, lint.message)).collect(),
            allowed: allowed.collect(),
            notes: lints.iter().filter(|lint| lint.severity == Severity::Note).count(),
        }
    }
}
