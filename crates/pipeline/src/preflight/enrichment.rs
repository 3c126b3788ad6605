//! Enrichment: clean rows to a training set.

use chat_format::{Conversation, Role};

use super::finding::Finding;
use super::scene::Scene;
use crate::report::words;
use crate::stages::enrich::Splits;

/// The largest share of rows that may be repeats or too near to the exam; a set with far more of
/// them once destroyed an adapter.
const LEFT_OUT: f64 = 0.25;

/// The kinds of rows that recipes make.
const MADE: [&str; 5] = ["refusal", "twin", "partial", "identity", "routing"];

/// The recipe reads its sources and makes rows of them.
pub(super) fn output(scene: &Scene<'_>) -> Finding {
    scene.enriched.judge(|enriched| {
        let Splits { made, mix, .. } = &enriched.splits;
        let kinds = mix.iter().filter(|(kind, _)| MADE.contains(&kind.as_str()));
        let kinds: Vec<_> = kinds.map(|(kind, rows)| format!("{rows} {kind}")).collect();
        match made {
            0 => Finding::failed("expected rows made by the recipe, found none"),
            _ => Finding::passed(format!("{made} made; {}", kinds.join(", "))),
        }
    })
}

/// Every row that is trained on asks something and is answered.
pub(super) fn format(scene: &Scene<'_>) -> Finding {
    scene.enriched.needed("the training set", |enriched| {
        let wrong = |(index, row): (usize, &Conversation)| {
            let last = row.messages.last().map(|turn| turn.role);
            let asks = row.messages.iter().any(|turn| turn.role == Role::User);
            match asks && last == Some(Role::Assistant) {
                true => None,
                false => Some(format!(
                    "train.jsonl:{}: expected a question and, last, an answer; found {}",
                    index + 1,
                    last.map_or("nothing", Role::as_str)
                )),
            }
        };
        let problems: Vec<_> = enriched.rows.iter().enumerate().filter_map(wrong).collect();
        let rows = words::count(enriched.rows.len() as u64);
        Finding::of(&problems, format!("{rows} rows end in an answer"))
    })
}

/// What came in and what was made is there, but for the little that was left out.
pub(super) fn count(scene: &Scene<'_>) -> Finding {
    let (Some(clean), Some(enriched)) = (scene.clean.done(), scene.enriched.done()) else {
        return Finding::skipped("needs the training set");
    };
    let splits = &enriched.splits;
    let came = clean.stage.rows as usize + splits.made;
    let there: usize = splits.mix.iter().map(|(_, rows)| rows).sum();
    let sum = format!(
        "{} came, {} made, {} left out: {}",
        words::count(clean.stage.rows),
        splits.made,
        splits.left_out,
        words::count(there as u64)
    );
    if came != there + splits.left_out {
        return Finding::failed(format!(
            "expected {} rows; {sum}",
            came.saturating_sub(splits.left_out)
        ));
    }
    let share = splits.left_out as f64 / came.max(1) as f64;
    if share > LEFT_OUT {
        let percent = 100.0 * share;
        return Finding::failed(format!("{percent:.0} % repeat others or the exam; {sum}"));
    }
    Finding::passed(sum)
}
