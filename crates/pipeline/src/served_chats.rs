//! Raw rows from the chats that a server has recorded in the home.
//!
//! `chats/DATE.jsonl` has one object a line: a chat with its `id` and `messages`, or `feedback` about the
//! chat with this id: `good` (thumbs) and `correction` (what the answer should have been).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chat_format::jsonl::Writer;
use durable::Digest;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::chat_pairs::{self, Chat};
use crate::config::Days;
use crate::error::{Error, Result, io_error};
use crate::files;

/// The files of recorded chats that a night reads.
#[derive(Debug, Serialize)]
pub(crate) struct ServedChats {
    /// Name and digest of each, oldest first.
    files: Vec<(String, Digest)>,
    #[serde(skip)]
    folder: PathBuf,
}

/// The file of pairs beside that of rows.
pub(crate) const PAIRS: &str = "chats-pairs.jsonl";

/// What was deleted because of its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeletedChats {
    /// Files of chats, one a day.
    pub files: usize,
    /// The chats in them.
    pub chats: usize,
}

/// Deletes the files of chats that are older than so many days before `today`.
///
/// # Errors
/// If one cannot be read or deleted; the others before it are.
pub(crate) fn delete_old(folder: &Path, days: Days, today: Date) -> Result<DeletedChats> {
    let first = first_of(days, today);
    let mut deleted = DeletedChats::default();
    for (_, path) in dated(folder)?.into_iter().filter(|(date, _)| *date < first) {
        let bytes = std::fs::read(&path).map_err(io_error(&path, "read"))?;
        let lines = bytes.split(|byte| *byte == b'\n');
        deleted.chats += lines.filter(|line| line.starts_with(b"{\"id\":")).count();
        std::fs::remove_file(&path).map_err(io_error(&path, "delete"))?;
        deleted.files += 1;
    }
    Ok(deleted)
}

fn first_of(days: Days, today: Date) -> Date {
    today.saturating_sub(jiff::Span::new().days(i64::from(days.0)))
}

/// The files of chats with their dates, oldest first.
fn dated(folder: &Path) -> Result<Vec<(Date, PathBuf)>> {
    let date = |path: &Path| {
        let json = path.extension().is_some_and(|ending| ending == "jsonl");
        path.file_stem()?.to_str()?.parse::<Date>().ok().filter(|_| json)
    };
    let paths = if folder.is_dir() { files::list(folder)? } else { Vec::new() };
    let mut files: Vec<_> =
        paths.into_iter().filter_map(|path| Some((date(&path)?, path))).collect();
    files.sort();
    Ok(files)
}

impl ServedChats {
    /// The files of the last days before `today`. Today's are left for the next night: they still grow,
    /// and a night that is started again must find the same rows.
    ///
    /// `None` if there is none.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn locate(folder: PathBuf, days: Days, today: Date) -> Result<Option<Self>> {
        let first = first_of(days, today);
        let mut paths = dated(&folder)?;
        paths.retain(|(date, _)| first <= *date && *date < today);
        let paths: Vec<PathBuf> = paths.into_iter().map(|(_, path)| path).collect();
        if paths.is_empty() {
            return Ok(None);
        }
        let file = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, durable::sha256_file(&path)?))
        };
        Ok(Some(Self { files: paths.into_iter().map(file).collect::<Result<_>>()?, folder }))
    }

    /// That there is no file of these days.
    pub fn none(days: Days) -> String {
        format!("data.chats: expected chats of the last {days} before today, found none")
    }

    /// Writes the rows to `dir/chats.jsonl`: corrected answers instead of the given ones. Answers that
    /// somebody found bad, and those that were cut short, are left out and listed in
    /// `dir/chats-left-out.jsonl`, unless they were corrected. What was found good and bad about one prompt
    /// is a pair in `dir/chats-pairs.jsonl`.
    ///
    /// # Errors
    /// A line that is not JSON.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join("chats.jsonl");
        let mut rows = Writer::create(&path)?;
        let mut left_out = Writer::create(dir.join("chats-left-out.jsonl"))?;
        let mut pairs = Writer::create(dir.join(PAIRS))?;
        let chats = self.read()?;
        chat_pairs::of(chats.values()).iter().try_for_each(|pair| pairs.write(pair))?;
        pairs.commit()?;
        for (id, chat) in chats {
            match chat.into_row() {
                Ok(row) => rows.write(&row)?,
                Err(reason) => left_out.write(&json!({ "id": id, "reason": reason }))?,
            }
        }
        rows.commit()?;
        left_out.commit()?;
        Ok(path)
    }

    /// All chats, by id.
    fn read(&self) -> Result<BTreeMap<String, Chat>> {
        let mut chats: BTreeMap<String, Chat> = BTreeMap::new();
        for (name, _) in &self.files {
            let path = self.folder.join(name);
            let text = std::fs::read_to_string(&path).map_err(io_error(&path, "read"))?;
            // A line without its end was not written whole.
            let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            for (index, line) in lines.enumerate() {
                let refused = |found: String| Error::Record {
                    path: path.clone(),
                    line: Some(index + 1),
                    expected: "a chat with an id, or feedback about one",
                    found,
                };
                let line: Map<String, Value> =
                    serde_json::from_str(line).map_err(|error| refused(error.to_string()))?;
                let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
                if let Some(id) = text("feedback") {
                    let chat = chats.entry(id).or_default();
                    chat.good = line.get("good").and_then(Value::as_bool).or(chat.good);
                    chat.correction = text("correction").or(chat.correction.take());
                } else if let Some(id) = text("id") {
                    chats.entry(id).or_default().row = line;
                } else {
                    return Err(refused("neither".to_owned()));
                }
            }
        }
        Ok(chats)
    }
}

impl Chat {
    /// The row of this chat, or why it has none.
    fn into_row(self) -> std::result::Result<Value, &'static str> {
        let Self { mut row, good, correction } = self;
        let cut_short = row.get("finish_reason").is_some_and(|reason| reason == "length");
        let messages = row.get_mut("messages").and_then(Value::as_array_mut);
        let Some(messages) = messages else {
            return Err("feedback about a chat of an earlier day");
        };
        match correction {
            Some(correction) => {
                messages.pop();
                messages.push(json!({ "role": "assistant", "content": correction }));
            }
            None if good == Some(false) => return Err("somebody found the answer bad"),
            None if cut_short => return Err("the answer was cut short"),
            None => {}
        }
        let kept = ["messages", "tools", "agent"];
        row.retain(|key, value| kept.contains(&key.as_str()) && !value.is_null());
        Ok(Value::Object(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(days: &[(&str, &[Value])], today: &str) -> Result<[Vec<Value>; 2]> {
        let home = tempfile::tempdir().unwrap();
        for (day, lines) in days {
            let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(home.path().join(format!("{day}.jsonl")), lines).unwrap();
        }
        std::fs::write(home.path().join("notes.txt"), "mine").unwrap();
        let days = Days(30);
        let chats = ServedChats::locate(home.path().to_owned(), days, today.parse().unwrap())?;
        chats.unwrap().write(home.path())?;
        Ok(["chats.jsonl", "chats-left-out.jsonl"].map(|name| {
            let text = std::fs::read_to_string(home.path().join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }))
    }

    fn chat(id: &str, answer: &str, finish: &str) -> Value {
        let messages = [
            json!({ "role": "user", "content": "?" }),
            json!({ "role": "assistant", "content": answer }),
        ];
        json!({ "id": id, "agent": "windu", "generation": 3, "finish_reason": finish, "messages": messages })
    }

    #[test]
    fn corrected_answers_are_rows_and_bad_ones_are_not() {
        let monday = [
            chat("a", "one", "stop"),
            chat("b", "two", "stop"),
            chat("c", "three", "length"),
            chat("d", "four", "length"),
        ];
        let tuesday = [
            json!({ "feedback": "a", "good": true }),
            json!({ "feedback": "b", "good": false }),
            json!({ "feedback": "d", "good": false, "correction": "4" }),
            json!({ "feedback": "z", "good": true }),
        ];
        let today = [chat("e", "five", "stop")];
        let old = [chat("o", "old", "stop")];
        let days: &[(&str, &[Value])] = &[
            ("2026-03-02", &monday),
            ("2026-03-03", &tuesday),
            ("2026-03-04", &today),
            ("2026-01-01", &old),
        ];
        let [rows, left_out] = rows(days, "2026-03-04").unwrap();
        let answers: Vec<_> =
            rows.iter().map(|row| row["messages"][1]["content"].as_str().unwrap()).collect();
        assert_eq!(answers, ["one", "4"]);
        assert_eq!(rows[0]["agent"], "windu");
        assert!(rows[0].get("generation").is_none() && rows[0].get("id").is_none());
        let reasons: Vec<_> = left_out.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(reasons, ["b", "c", "z"]);
    }

    #[test]
    fn old_chats_are_deleted_and_counted() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).unwrap();
        let feedback = json!({ "feedback": "a", "good": true });
        let chats = format!("{}\n{feedback}\n{}\n", chat("a", "1", "stop"), chat("b", "2", "stop"));
        for day in ["2026-03-04", "2026-03-03", "2026-02-02", "2026-02-01", "2025-12-31"] {
            write(&format!("{day}.jsonl"), &chats);
        }
        write("notes.jsonl", "mine");
        write("2020-01-01.txt", "mine");
        let deleted = delete_old(home.path(), Days(30), "2026-03-04".parse().unwrap()).unwrap();
        assert_eq!(deleted, DeletedChats { files: 2, chats: 4 });
        let mut left: Vec<_> = std::fs::read_dir(home.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let kept = [
            "2020-01-01.txt",
            "2026-02-02.jsonl",
            "2026-03-03.jsonl",
            "2026-03-04.jsonl",
            "notes.jsonl",
        ];
        assert_eq!(left, kept);
        let again = delete_old(&home.path().join("none"), Days(1), "2026-03-04".parse().unwrap());
        assert_eq!(again.unwrap(), DeletedChats::default());
    }

    #[test]
    fn no_chats_and_lines_that_are_none() {
        let home = tempfile::tempdir().unwrap();
        for folder in ["", "none"] {
            let today = "2026-03-04".parse().unwrap();
            assert!(
                ServedChats::locate(home.path().join(folder), Days(30), today).unwrap().is_none()
            );
        }
        let error =
            rows(&[("2026-03-03", &[json!({ "x": 1 })])], "2026-03-04").unwrap_err().to_string();
        assert!(error.contains("2026-03-03.jsonl:1: expected a chat with an id"), "{error}");
    }
}
