//! Where rows are from: the key that names their file and line, and in an array the element.

use std::path::Path;

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

/// Adds the key to the clean row that `lines` ends with from byte `start`, in place of one that it may have.
pub(super) fn add(
    lines: &mut Vec<u8>,
    start: usize,
    file: &str,
    place: Place,
) -> serde_json::Result<()> {
    let row = lines.get(start..).unwrap_or_default();
    let key = format!("\"{SOURCE_ROW}\":");
    if memchr::memmem::find(row, key.as_bytes()).is_some() {
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
        lines.extend_from_slice(b", ");
        lines.extend_from_slice(key.as_bytes());
        lines.push(b' ');
        lines.extend(serde_json::to_vec(&format!("{file}:{place}"))?);
        lines.extend_from_slice(b"}\n");
    }
    Ok(())
}
