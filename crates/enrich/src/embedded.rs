//! The data that is built into this crate and `eval`, as one digest.

use std::sync::LazyLock;

use durable::Digest;
use eval::Council;

/// Each file of `data/`.
macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../data/", $name)))),*]
    };
}

const FILES: [(&str, &str); 11] = files!(
    "fresh.yaml",
    "function_words.txt",
    "harmless.yaml",
    "identity.yaml",
    "neutral.yaml",
    "phrasings.yaml",
    "refusals.yaml",
    "requests.yaml",
    "routing.yaml",
    "situations.yaml",
    "techniques.yaml",
);

static DIGEST: LazyLock<Digest> =
    LazyLock::new(|| durable::digest(format!("{FILES:?} {:?}", Council::built_in())));

/// The digest of the data that rows and exams are made from where a household has no file of its own: phrasings,
/// requests, the council. A part of the key of whatever is kept of a data set.
pub fn embedded_data() -> Digest {
    *DIGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_file_is_part_of_the_digest() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
        let files = std::fs::read_dir(folder).unwrap();
        let mut found: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        assert_eq!(found, FILES.map(|(name, _)| name));
    }
}
