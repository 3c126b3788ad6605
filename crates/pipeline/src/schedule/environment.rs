//! The environment variables of a job.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::error::{Error, Result};

/// Names that begin like this are a night's: ours, the seed's, those of the Hugging Face hub and of OpenBLAS.
const PREFIXES: [&str; 6] =
    ["NIGHTSHIFT_", "SANCTUM_", "HF_", "HUGGINGFACE_", "HUGGING_FACE_", "OPENBLAS_"];

/// Further names: whether the hub is asked, and the folders of home and cache.
const NAMES: [&str; 3] = ["TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", "XDG_DATA_HOME"];

/// The environment variables that a job gets in addition to the system's own, which do not include those of a shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Those of `variables` that a night reads.
    ///
    /// # Errors
    /// A value that is not UTF-8 or has control characters: no job file can hold it.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self> {
        let mut found = BTreeMap::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| is_read(name)) else { continue };
            let text = value.to_str().filter(|text| !text.contains(char::is_control));
            let text = text.ok_or_else(|| Error::Config {
                path: name.into(),
                reason: format!("expected text without control characters, found {value:?}"),
            })?;
            found.insert(name.to_owned(), text.to_owned());
        }
        Ok(Self(found))
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The same names, with the values of secrets hidden: for people and logs.
    pub fn without_secrets(&self) -> Self {
        let hidden = |(name, value): (&String, &String)| {
            let secret =
                ["TOKEN", "KEY", "SECRET", "PASSWORD"].iter().any(|word| name.contains(word));
            let value = if secret { "(hidden)".to_owned() } else { value.clone() };
            (name.clone(), value)
        };
        Self(self.0.iter().map(hidden).collect())
    }
}

fn is_read(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment> {
        Environment::of(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn only_what_a_night_reads_is_taken_and_secrets_are_hidden() {
        let given = of(&[
            ("SANCTUM_TRAIN_MODEL", "qwen"),
            ("HF_TOKEN", "a secret"),
            ("HF_HOME", "/models"),
            ("PATH", "/bin"),
            ("NIGHT", "no"),
        ]);
        let given = given.unwrap();
        let names: Vec<_> = given.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HF_HOME", "HF_TOKEN", "SANCTUM_TRAIN_MODEL"]);
        let shown = given.without_secrets();
        assert_eq!(shown.iter().nth(1), Some(("HF_TOKEN", "(hidden)")));
        assert_eq!(shown.iter().next(), Some(("HF_HOME", "/models")));
    }

    #[test]
    fn a_value_that_no_file_can_hold_is_an_error_with_its_name() {
        let error = of(&[("HF_HOME", "a\nb")]).unwrap_err().to_string();
        assert!(error.starts_with("HF_HOME: expected text without control characters"), "{error}");
        assert!(of(&[("PATH", "a\nb")]).is_ok());
    }
}
