//! Champions whose files are damaged.

use pipeline::{Error, Outcome};

use crate::damage::{damage, files};
use crate::support::Tiny;
use crate::{champion_and_promotions, registry, rounds, run, undisturbed};

#[test]
fn a_damaged_champion_is_an_error_until_it_is_rolled_back() {
    for mut round in rounds("champion", 3) {
        let tiny = Tiny::new();
        run(&tiny).unwrap();
        let champion = undisturbed().champion;
        let folder = registry(&tiny).folder(champion);
        let path = round.one_of(&files(&folder)).clone();
        let Some(what) = damage(&mut round, &path) else { continue };
        let what = format!("round {}: {what}", round.number);
        let error = run(&tiny).unwrap_err();
        assert!(
            matches!(error, Error::Corrupt { .. } | Error::Io { .. } | Error::Durable(_)),
            "{what}: {error:?}"
        );
        assert!(error.to_string().contains(&champion.to_string()), "{what}: {error}");
        let state = registry(&tiny).state().unwrap();
        assert_eq!((state.champion, state.history.len()), (Some(champion), 1), "{what}");
        // After the rollback the night resumes against the base model. Its adapter is the same and replaces the damaged copy.
        registry(&tiny).rollback("damaged").unwrap();
        let summary = run(&tiny).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(summary.night.starts_with("0002-") && summary.scores.champion.is_none(), "{what}");
        assert_eq!(summary.outcome, Outcome::Promoted, "{what}");
        assert_eq!(champion_and_promotions(&tiny), (Some(champion), 2), "{what}");
    }
}
