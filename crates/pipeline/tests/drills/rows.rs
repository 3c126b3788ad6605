//! Raw rows that nobody can read.

use std::fs;

use pipeline::Outcome;

use crate::support::Tiny;
use crate::{champion_and_promotions, completes, rounds, run, undisturbed, watched};

/// Lines that are no conversation.
const BAD: [&[u8]; 13] = [
    b"torn",
    b"{\"messages\": [{\"role\": \"user\", \"content\": \"half",
    b"{\"messages\": 7}",
    b"{\"messages\": []}",
    b"{\"messages\": [{\"role\": \"wizard\", \"content\": \"who\"}]}",
    b"{}",
    b"[]",
    b"null",
    b"\xff\x00\x01\xfe",
    b"\0\0\0\0",
    b"{\"messages\": NaN}",
    b"{\"messages\": [{\"role\": \"assistant\", \"content\": \"\\ud800\"}]}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Bad rows among good ones are set aside, counted and listed, and the others train as without them. More than the allowed
/// share is an error with file and line before anything is trained, and the same night goes on once they are gone.
#[test]
fn bad_rows_are_set_aside_or_stop_the_night() {
    for mut round in rounds("rows", 6) {
        let tiny = Tiny::new();
        let good = fs::read(tiny.path("raw.jsonl")).unwrap();
        let mut lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
        let count = 1 + round.draw(8);
        let bad: Vec<Vec<u8>> = (0..count).map(|_| [*round.one_of(&BAD), b"\n"].concat()).collect();
        for line in &bad {
            let at = round.draw(lines.len() + 1);
            lines.insert(at, line);
        }
        let shown: Vec<_> = bad.iter().map(|line| String::from_utf8_lossy(line)).collect();
        let what = format!("round {}: {shown:?}", round.number);
        fs::write(tiny.path("raw.jsonl"), lines.concat()).unwrap();

        let mut trained = false;
        let error = watched(&tiny, &mut |event| {
            trained |=
                matches!(event, pipeline::Event::StageBegun { stage: pipeline::StageName::Train });
        });
        let error = error.unwrap_err();
        let said = error.to_string();
        assert!(error.exit_code() == 2 && said.contains("raw.jsonl:"), "{what}: {said}");
        assert!(said.contains("max_refused_share") && !trained, "{what}: {said}");
        if round.draw(2) == 0 {
            fs::write(tiny.path("raw.jsonl"), &good).unwrap();
            completes(&tiny, &what);
            continue;
        }
        tiny.edit("night.yaml", "data:", "max_refused_share: 0.5\ndata:");
        let summary = run(&tiny).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(summary.outcome, Outcome::Promoted, "{what}");
        assert_eq!(champion_and_promotions(&tiny), (Some(undisturbed().champion), 1), "{what}");
        let refused = fs::read(summary.paths.night.join("convert/refused.jsonl")).unwrap();
        let listed = refused.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        assert_eq!(listed, count, "{what}: {}", String::from_utf8_lossy(&refused));
    }
}
