//! The champion registry: atomic, idempotent, audited, and protected against changed adapters.

mod support;

use std::fs;
use std::path::Path;

use durable::Digest;
use pipeline::registry::{BaseRegistry, Promotion, Registry, Requester, adapter_digest};
use pipeline::{Error, Home};

struct TestRegistry {
    dir: tempfile::TempDir,
    home: Home,
    registry: BaseRegistry,
}

fn test_registry() -> TestRegistry {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    let registry = Registry::new(&home).of(durable::digest("base"), "models/base");
    TestRegistry { registry, home, dir }
}

impl TestRegistry {
    fn adapter(&self, weights: &str) -> Digest {
        let folder = self.dir.path().join(format!("trained-{weights}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("adapter_config.json"), "{}").unwrap();
        fs::write(folder.join("adapters.safetensors"), weights).unwrap();
        // A file of the training that is not part of the adapter.
        fs::write(folder.join("metrics.jsonl"), weights).unwrap();
        self.registry.nominate(&folder).unwrap()
    }

    fn champion(&self) -> Option<Digest> {
        self.registry.state().unwrap().champion
    }

    fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.home.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn night(id: &str, against: Option<Digest>) -> Requester<'_> {
    Requester::Night { id, against }
}

#[test]
fn an_adapter_is_stored_under_the_digest_of_its_listing() {
    let test = test_registry();
    let adapter = test.adapter("a");
    let folder = test.registry.verified(adapter).unwrap();
    assert_eq!(adapter_digest(&folder).unwrap(), adapter);
    let listing = ["adapter_config.json", "adapters.safetensors"]
        .map(|name| format!("{}  {name}\n", durable::sha256_file(folder.join(name)).unwrap()));
    assert_eq!(durable::digest(listing.concat()), adapter);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    assert_eq!(test.adapter("a"), adapter, "storing it again changes nothing");
}

#[test]
fn a_night_promotes_at_most_once() {
    let test = test_registry();
    let adapter = test.adapter("a");
    let promote = || test.registry.promote(adapter, night("0001", None), "won").unwrap();
    assert_eq!(promote(), Promotion::Done);
    assert_eq!(promote(), Promotion::AlreadyDone);
    test.registry.rollback("it was rude").unwrap();
    assert_eq!(promote(), Promotion::AlreadyDone, "a rollback is not undone by a restart");
    assert_eq!(test.champion(), None);
    let history = test.registry.state().unwrap().history;
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].night.as_deref(), history[0].reason.as_str()), (Some("0001"), "won"));
}

#[test]
fn a_night_cannot_replace_a_champion_it_was_not_compared_with() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "by hand").unwrap();
    let outcome = test.registry.promote(b, night("0001", None), "beat the base").unwrap();
    assert_eq!(outcome, Promotion::ChampionChanged);
    assert_eq!(test.champion(), Some(a));
    let outcome = test.registry.promote(b, night("0002", Some(a)), "beat a").unwrap();
    assert_eq!(outcome, Promotion::Done);
}

#[test]
fn a_rollback_goes_back_to_the_last_good_champion_and_never_to_one_that_failed() {
    let test = test_registry();
    assert!(matches!(test.registry.rollback("?"), Err(Error::NothingToRollBack { .. })));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|weights| test.adapter(weights));
    let promote = |adapter| {
        let outcome = test.registry.promote(adapter, Requester::Operator, "better").unwrap();
        assert_eq!(outcome, Promotion::Done);
    };
    let back = || test.registry.rollback("rude").unwrap();
    [a, b, c].into_iter().for_each(promote);
    assert_eq!(back().champion, Some(b));
    promote(d);
    assert_eq!(test.registry.state().unwrap().previous, Some(b));
    assert_eq!(back().champion, Some(b), "not c, which failed");
    assert_eq!(back().champion, Some(a));
    let state = back();
    assert_eq!((state.champion, state.previous), (None, None), "the base model serves");
    assert_eq!(state.failed(), [a, b, c, d].into());
    assert!(matches!(test.registry.rollback("?"), Err(Error::NothingToRollBack { .. })));

    // No night makes one of them champion again; a person may.
    let by_night = test.registry.promote(a, night("0009", None), "won").unwrap();
    assert_eq!((by_night, test.champion()), (Promotion::FailedBefore, None));
    promote(a);
    promote(test.adapter("e"));
    assert_eq!(back().champion, None, "what failed is never restored");
}

#[test]
fn a_withdrawn_champion_did_not_fail() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "first").unwrap();
    test.registry.promote(b, night("0002", Some(a)), "won").unwrap();
    let state = test.registry.withdraw("the server does not answer").unwrap();
    assert_eq!((state.champion, state.previous), (Some(a), None));
    assert!(state.failed().is_empty());
    assert_eq!(test.registry.promote(b, night("0003", Some(a)), "won").unwrap(), Promotion::Done);
}

#[test]
fn adapters_are_found_by_alias_digest_or_prefix() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "first").unwrap();
    let full = a.to_string();
    for name in ["champion", &full, &full[..12]] {
        assert_eq!(test.registry.resolve(name).unwrap(), a, "{name}");
    }
    assert_eq!(test.registry.resolve("candidate").unwrap(), b);
    for name in ["previous", "", "zzzz", "0000"] {
        let message = test.registry.resolve(name).unwrap_err().to_string();
        assert!(message.contains(&full[..12]), "{name}: {message}");
    }
}

#[test]
fn a_damaged_adapter_is_never_champion() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "first").unwrap();
    test.registry.promote(b, Requester::Operator, "second").unwrap();
    damage(&test.registry.folder(a));
    assert!(matches!(test.registry.verified(a), Err(Error::Corrupt { .. })));
    assert!(matches!(
        test.registry.promote(a, Requester::Operator, "?"),
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(test.champion(), Some(b));
    // A rollback passes it over, and says so.
    let state = test.registry.rollback("back").unwrap();
    assert_eq!(state.champion, None);
    let reason = &state.history.last().unwrap().reason;
    let passed = format!("passed over {}", &a.to_string()[..12]);
    assert!(reason.starts_with("back; ") && reason.contains(&passed), "{reason}");
}

/// The bytes are right, and they are not those of an adapter of this base model.
#[test]
fn a_rollback_passes_over_what_does_not_load() {
    let tiny = support::Tiny::new();
    let test = test_registry();
    let registry = Registry::new(&test.home).find(tiny.path("model").to_str()).unwrap();
    let adapter = |weights: &str| {
        test.adapter(weights);
        registry.nominate(&test.dir.path().join(format!("trained-{weights}"))).unwrap()
    };
    let (a, b) = (adapter("a"), adapter("b"));
    registry.promote(a, Requester::Operator, "first").unwrap();
    registry.promote(b, Requester::Operator, "second").unwrap();
    assert_eq!(registry.rollback_dry_run().unwrap(), None);
    let state = registry.rollback("rude").unwrap();
    assert_eq!(state.champion, None);
    assert!(state.history[2].reason.contains("passed over"), "{}", state.history[2].reason);
}

fn damage(adapter: &Path) {
    fs::write(adapter.join("adapters.safetensors"), "half").unwrap();
}

#[test]
fn every_call_leaves_an_audit_line() {
    let test = test_registry();
    let adapter = test.adapter("a");
    test.registry.rollback("?").unwrap_err();
    test.registry.promote(adapter, night("0001", None), "won").unwrap();
    test.registry.verified(adapter).unwrap();
    damage(&test.registry.folder(adapter));
    test.registry.verified(adapter).unwrap_err();
    let calls: Vec<_> = test
        .audit()
        .iter()
        .map(|line| format!("{} {}", line["call"], line["outcome"]).replace('"', ""))
        .collect();
    assert_eq!(calls, ["nominate ok", "rollback error", "promote ok", "read ok", "read error"]);
}

#[test]
fn a_damaged_registry_is_an_error_and_not_overwritten() {
    let test = test_registry();
    let adapter = test.adapter("a");
    let path = test.home.path().join("registry.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{\"version\":2}", b"{\"version\":3}"] {
        fs::write(&path, damaged).unwrap();
        let error = test.registry.promote(adapter, Requester::Operator, "?").unwrap_err();
        assert!(error.to_string().contains("registry.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[cfg(unix)]
#[test]
fn a_home_is_accessible_only_to_its_owner() {
    use std::os::unix::fs::PermissionsExt;

    let test = test_registry();
    let adapter = test.adapter("a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = test.registry.folder(adapter);
    for dir in [test.home.path(), folder.as_path()] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    for file in ["registry.json", "audit.jsonl", "registry.lock"] {
        assert_eq!(mode(&test.home.path().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&folder.join("adapters.safetensors")), 0o600);
}

#[test]
fn a_pinned_champion_stays_until_it_is_unpinned() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "first").unwrap();
    test.registry.pin("guests this week").unwrap();
    let by_night = night("0002", Some(a));
    assert_eq!(test.registry.promote(b, by_night, "won").unwrap(), Promotion::Pinned);
    let error = test.registry.promote(b, Requester::Operator, "?").unwrap_err().to_string();
    assert!(error.contains("guests this week"), "{error}");
    assert_eq!(test.champion(), Some(a));
    test.registry.unpin().unwrap();
    assert_eq!(test.registry.promote(b, by_night, "won").unwrap(), Promotion::Done);
    // A rollback works all the same.
    test.registry.pin("again").unwrap();
    assert_eq!(test.registry.rollback("rude").unwrap().champion, Some(a));
}

#[test]
fn a_dry_run_changes_nothing() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    let registry = &test.registry;
    assert_eq!(registry.promote_dry_run(a, Requester::Operator).unwrap(), Promotion::Done);
    assert!(registry.rollback_dry_run().is_err());
    registry.promote(a, Requester::Operator, "first").unwrap();
    let before = fs::read(test.home.path().join("registry.json")).unwrap();
    assert_eq!(registry.promote_dry_run(b, night("1", None)).unwrap(), Promotion::ChampionChanged);
    assert_eq!(registry.rollback_dry_run().unwrap(), None);
    registry.all().prune_dry_run(0).unwrap();
    assert_eq!(fs::read(test.home.path().join("registry.json")).unwrap(), before);
    let dry = test.audit().iter().filter(|line| line["call"].to_string().contains("dry")).count();
    assert_eq!(dry, 5);
}

#[test]
fn pruning_keeps_champion_previous_and_candidate() {
    let test = test_registry();
    let registry = test.registry.all();
    let all = ["a", "b", "c", "d", "e"].map(|weights| test.adapter(weights));
    test.registry.promote(all[0], Requester::Operator, "first").unwrap();
    test.registry.promote(all[1], Requester::Operator, "second").unwrap();
    // Give them different ages, as the clock may be too coarse.
    for (age, adapter) in all.iter().rev().enumerate() {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * age as u64);
        fs::File::open(test.registry.folder(*adapter)).unwrap().set_modified(then).unwrap();
    }
    assert_eq!(registry.prune_dry_run(2).unwrap(), [all[2]]);
    assert_eq!(registry.prune(0).unwrap(), [all[2], all[3]]);
    assert_eq!(registry.prune(0).unwrap(), []);
    for adapter in [all[0], all[1], all[4]] {
        test.registry.verified(adapter).unwrap();
    }
    // Without a readable registry nothing is deleted.
    fs::write(test.home.path().join("registry.json"), "{").unwrap();
    registry.prune(0).unwrap_err();
    test.registry.verified(all[1]).unwrap();
}

#[test]
fn the_copy_of_the_last_state_repairs_a_damaged_file() {
    let test = test_registry();
    let (a, b) = (test.adapter("a"), test.adapter("b"));
    test.registry.promote(a, Requester::Operator, "first").unwrap();
    test.registry.promote(b, Requester::Operator, "second").unwrap();
    let file = |name: &str| test.home.path().join(name);
    fs::write(file("registry.json"), "").unwrap();
    let error = test.registry.state().unwrap_err().to_string();
    assert!(error.contains("registry.last.json"), "{error}");
    fs::copy(file("registry.last.json"), file("registry.json")).unwrap();
    assert_eq!(test.champion(), Some(a));
}
