//! Benchmark: the suite of the exam.

use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;

/// The suite is a file and can be opened.
pub(super) fn exists(rehearsal: &Rehearsal<'_>) -> Finding {
    let path = &rehearsal.config.exam.suite;
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(file) if file.is_file() => {
            Finding::passed(path.file_name().unwrap_or_default().to_string_lossy())
        }
        Ok(_) => Finding::failed(format!("{}: expected a file, found a folder", path.display())),
        Err(error) => Finding::failed(format!("{}: {error}", path.display())),
    }
}

/// The suite loads: every case is valid, and its sample answers are scored as expected.
pub(super) fn loads(rehearsal: &Rehearsal<'_>) -> Finding {
    if !rehearsal.config.exam.suite.exists() {
        return Finding::not_run("needs the suite's file");
    }
    rehearsal.suite.judge(|suite| {
        Finding::passed(format!("{} {}, {} cases", suite.name, suite.version, suite.cases.len()))
    })
}
