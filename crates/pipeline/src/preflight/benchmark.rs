//! Benchmark: the exam's file.

use super::finding::Finding;
use super::scene::Scene;

/// The suite is a file that can be read.
pub(super) fn exists(scene: &Scene<'_>) -> Finding {
    let path = &scene.config.exam.suite;
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(file) if file.is_file() => {
            Finding::passed(path.file_name().unwrap_or_default().to_string_lossy())
        }
        Ok(_) => Finding::failed(format!("{}: expected a file, found none", path.display())),
        Err(error) => Finding::failed(format!("{}: {error}", path.display())),
    }
}

/// The suite loads: every case is sound, and its own samples are judged as they should be.
pub(super) fn loads(scene: &Scene<'_>) -> Finding {
    if !scene.config.exam.suite.exists() {
        return Finding::skipped("needs the suite's file");
    }
    scene.suite.judge(|suite| {
        Finding::passed(format!("{} {}, {} cases", suite.name, suite.version, suite.cases.len()))
    })
}
