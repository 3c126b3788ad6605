//! The messy rows clean up to exactly what was generated.

use std::collections::BTreeMap;
use std::path::Path;

use chat_format::clean::{self, Options};
use chat_format::jsonl;
use enrich::household::{Phrasings, write_raw};
use enrich::{GeneratorData, Household};

#[test]
fn raw_rows_clean_up_to_the_rows_they_were_made_from() {
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/household.yaml");
    let (data, phrasings) = (GeneratorData::embedded().unwrap(), Phrasings::embedded().unwrap());
    let rows = Household::load(facts).unwrap().rows(&data, &phrasings, 1710, 7).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("raw.jsonl");
    write_raw(&path, &rows, 7).unwrap();

    let mut shapes = BTreeMap::new();
    let mut thoughts = 0;
    let raw: Vec<_> = jsonl::Reader::open(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(raw.len(), rows.len());
    for (raw, row) in raw.into_iter().zip(&rows) {
        let text = raw.value.to_string();
        thoughts += usize::from(text.contains("<think>"));
        for shape in ["messages", "conversations", "text"] {
            *shapes.entry(shape).or_insert(0) += usize::from(raw.value.get(shape).is_some());
        }
        let (clean, _) = clean::row(raw.value, Options::default()).unwrap();
        assert_eq!(clean, row.conversation(), "line {}: {text}", raw.line);
    }
    assert!(shapes.values().all(|count| *count > 50), "{shapes:?}");
    assert!(thoughts > 1400, "{thoughts}");
}
