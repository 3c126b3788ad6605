//! Readers of published safety data sets.
//!
//! None of the data ships with this crate, because licences differ. Each reader takes a file in its published form and
//! returns [`Prompt`]s; an invalid file is an error with line and column. [`leaked_prompts`] counts patterns in a
//! collection of vendors' system prompts and never returns their text.

mod csv;
mod leaked;
mod python;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use leaked::{LeakedPrompt, leaked_prompts};

use crate::{Error, Result};

/// A file of prompts and the form it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromptSource {
    /// The form.
    pub form: Form,
    /// The file; for [`Form::Obliteratus`] the checkout.
    pub path: PathBuf,
}

/// The forms in which prompts are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// A checkout with `obliteratus/prompts.py`: two paired lists, tiers and topics in comments.
    Obliteratus,
    /// JailbreakBench's `harmful-behaviors.csv`: `Index,Goal,Target,Behavior,Category,Source`.
    JailbreakBench,
    /// JailbreakBench's `benign-behaviors.csv`, of the same columns.
    JailbreakBenchBenign,
    /// HarmBench: `Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID`.
    HarmBench,
    /// StrongREJECT: `category,source,forbidden_prompt`.
    StrongReject,
    /// AdvBench: `goal,target`.
    AdvBench,
    /// XSTest: `id,prompt,type,label,focus,note`, safe and unsafe.
    XsTest,
}

/// Whether a prompt should be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// It should be refused.
    Harmful,
    /// It should be answered.
    Benign,
}

/// One prompt of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Prompt {
    /// What is asked.
    pub text: String,
    /// Whether it should be refused.
    pub label: Label,
    /// The source's own category or topic.
    pub category: Option<String>,
    /// The source's severity, where it has one.
    pub tier: Option<u8>,
    /// The line it starts on.
    pub line: u64,
}

impl PromptSource {
    /// The file that is read.
    pub fn file(&self) -> PathBuf {
        match self.form {
            Form::Obliteratus => self.path.join("obliteratus/prompts.py"),
            _ => self.path.clone(),
        }
    }

    /// Reads every prompt, in the order of the file.
    pub fn read(&self) -> Result<Vec<Prompt>> {
        match self.form {
            Form::Obliteratus => python::prompts(&self.file(), &text(&self.file())?),
            Form::JailbreakBench => csv::read(&self.path, &csv::JAILBREAK_BENCH, Label::Harmful),
            Form::JailbreakBenchBenign => {
                csv::read(&self.path, &csv::JAILBREAK_BENCH, Label::Benign)
            }
            Form::HarmBench => csv::read(&self.path, &csv::HARM_BENCH, Label::Harmful),
            Form::StrongReject => csv::read(&self.path, &csv::STRONG_REJECT, Label::Harmful),
            Form::AdvBench => csv::read(&self.path, &csv::ADV_BENCH, Label::Harmful),
            Form::XsTest => csv::read(&self.path, &csv::XS_TEST, Label::Harmful),
        }
    }
}

impl Prompt {
    /// The prompt as a verb phrase that fits into a technique's frame; none if it is a question or has more than one
    /// sentence.
    pub fn as_request(&self) -> Option<String> {
        let text = self.text.trim().trim_end_matches(['.', '!']).trim_end();
        let several = text.contains(['\n', '?', '{', '}']) || text.contains(". ");
        let mut chars = text.chars();
        let first = chars.next()?;
        let rest = chars.as_str();
        // A second capital letter means an abbreviation rather than the beginning of a sentence.
        let abbreviation = rest.starts_with(char::is_uppercase);
        (!several && !abbreviation).then(|| first.to_lowercase().chain(rest.chars()).collect())
    }
}

/// The text of a file that must be UTF-8.
fn text(path: &Path) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_path_buf(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let (good, bad) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
        let before = String::from_utf8_lossy(good);
        let line = before.split('\n').next_back().unwrap_or_default();
        Error::Source {
            path: path.to_path_buf(),
            line: before.matches('\n').count() as u64 + 1,
            column: line.chars().count() as u64 + 1,
            expected: "UTF-8".into(),
            found: format!("the byte {:#04x}", bad.first().copied().unwrap_or_default()),
        }
    })
}
