use std::path::Path;

use serde::Serialize;

use crate::jsonl::Writer;
use crate::{Problem, Result, base64};

/// Writes the rows that are left out, with what is wrong with them.
#[derive(Debug)]
pub(super) struct SetAside(Writer);

#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    line: u64,
    field: &'a str,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

impl SetAside {
    pub(super) fn create(path: &Path) -> Result<Self> {
        Ok(SetAside(Writer::create(path)?))
    }

    pub(super) fn add(
        &mut self,
        file: &str,
        line: u64,
        problem: &Problem,
        row: &[u8],
    ) -> Result<()> {
        let text = std::str::from_utf8(row).ok();
        let Problem { field, expected, found } = problem;
        self.0.write(&Entry {
            file,
            line,
            field,
            reason: format!("expected {expected}, found {found}"),
            text,
            base64: text.is_none().then(|| base64::encode(row)),
        })
    }

    pub(super) fn commit(self) -> Result<()> {
        self.0.commit()
    }
}
