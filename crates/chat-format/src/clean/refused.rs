use std::path::Path;

use serde::Serialize;

use crate::jsonl::Writer;
use crate::{Problem, Result};

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
        file: &Path,
        line: u64,
        problem: &Problem,
        row: &[u8],
    ) -> Result<()> {
        let text = std::str::from_utf8(row).ok();
        let Problem { field, expected, found } = problem;
        self.0.write(&Entry {
            file: &file.to_string_lossy(),
            line,
            field,
            reason: format!("expected {expected}, found {found}"),
            text,
            base64: text.is_none().then(|| base64(row)),
        })
    }

    pub(super) fn commit(self) -> Result<()> {
        self.0.commit()
    }
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit > group.len() { '=' } else { char::from(DIGITS[at]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_of_the_rfc() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
