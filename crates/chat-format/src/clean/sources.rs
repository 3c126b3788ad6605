//! Where rows are from: the key that names their file and line, and in an array the element.

use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde_json::Value;

use super::SOURCE_ROW;
use crate::json;
use crate::jsonl::Place;
use crate::raw::Raw;

/// The name of a file in rows and lists: its path below `base`, or else the whole path.
pub(super) fn name(file: &Path, base: Option<&Path>) -> String {
    let below = base.and_then(|base| file.strip_prefix(base).ok());
    let name = below.filter(|name| !name.as_os_str().is_empty()).unwrap_or(file);
    name.to_string_lossy().into_owned()
}

/// The beginning of the values of a file's rows, as JSON: its name without the closing quotation mark.
pub(super) fn beginning(name: &str) -> String {
    let mut text = Value::from(name).to_string();
    text.pop();
    text
}

/// The key as it is written.
static KEY: LazyLock<String> = LazyLock::new(|| format!("\"{SOURCE_ROW}\": "));

static FINDER: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new(KEY.trim_end()));

/// Adds the key to the clean row that `lines` ends with from byte `start`, in place of one that it may have. `file` is the
/// [`beginning`] of the value.
pub(super) fn add(
    lines: &mut Vec<u8>,
    start: usize,
    file: &str,
    place: Place,
) -> serde_json::Result<()> {
    let row = lines.get(start..).unwrap_or_default();
    if FINDER.find(row).is_some() {
        let Raw::Object(mut fields) = serde_json::from_slice(row)? else { return Ok(()) };
        fields.take(SOURCE_ROW);
        let mut row = Vec::new();
        json::write(&mut row, &Raw::Object(fields))?;
        lines.truncate(start);
        lines.extend(row);
        lines.push(b'\n');
    }
    if lines.ends_with(b"}\n") {
        lines.truncate(lines.len() - 2);
        let key = KEY.as_str();
        writeln!(lines, ", {key}{file}:{place}\"}}").map_err(serde_json::Error::io)?;
    }
    Ok(())
}
