//! The champion registry: atomic, idempotent, audited, and never serving what it did not register.

use std::fs;
use std::path::Path;

use durable::Digest;
use pipeline::registry::{Promotion, Registry, Requester, adapter_digest};
use pipeline::{Error, Home};

struct Place {
    dir: tempfile::TempDir,
    home: Home,
    registry: Registry,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open(dir.path().join("home")).unwrap();
    Place { registry: Registry::new(&home), home, dir }
}

impl Place {
    fn adapter(&self, weights: &str) -> Digest {
        let folder = self.dir.path().join(format!("trained-{weights}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("adapter_config.json"), "{}").unwrap();
        fs::write(folder.join("adapters.safetensors"), weights).unwrap();
        // Left by training, no part of the adapter.
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
fn an_adapter_is_stored_whole_under_the_digest_of_its_listing() {
    let place = place();
    let adapter = place.adapter("a");
    let folder = place.registry.verified(adapter).unwrap();
    assert_eq!(adapter_digest(&folder).unwrap(), adapter);
    let listing = ["adapter_config.json", "adapters.safetensors"]
        .map(|name| format!("{}  {name}\n", durable::sha256_file(folder.join(name)).unwrap()));
    assert_eq!(durable::digest(listing.concat()), adapter);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    assert_eq!(place.adapter("a"), adapter, "storing it again changes nothing");
}

#[test]
fn a_night_promotes_at_most_once() {
    let place = place();
    let adapter = place.adapter("a");
    let promote = || place.registry.promote(adapter, night("0001", None), "won").unwrap();
    assert_eq!(promote(), Promotion::Done);
    assert_eq!(promote(), Promotion::AlreadyDone);
    place.registry.rollback("it was rude").unwrap();
    assert_eq!(promote(), Promotion::AlreadyDone, "a rollback is not undone by a restart");
    assert_eq!(place.champion(), None);
    let history = place.registry.state().unwrap().history;
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].night.as_deref(), history[0].reason.as_str()), (Some("0001"), "won"));
}

#[test]
fn a_night_cannot_replace_a_champion_it_never_met() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "by hand").unwrap();
    let outcome = place.registry.promote(b, night("0001", None), "beat the base").unwrap();
    assert_eq!(outcome, Promotion::ChampionChanged);
    assert_eq!(place.champion(), Some(a));
    let outcome = place.registry.promote(b, night("0002", Some(a)), "beat a").unwrap();
    assert_eq!(outcome, Promotion::Done);
}

#[test]
fn two_rollbacks_cancel_out() {
    let place = place();
    assert!(matches!(place.registry.rollback("?"), Err(Error::NothingToRollBack { .. })));
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "first").unwrap();
    place.registry.promote(b, Requester::Operator, "second").unwrap();
    assert_eq!(place.registry.rollback("back").unwrap().champion, Some(a));
    assert_eq!(place.registry.rollback("and forth").unwrap().champion, Some(b));
}

#[test]
fn adapters_go_by_alias_digest_or_prefix() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "first").unwrap();
    let full = a.to_string();
    for name in ["champion", &full, &full[..12]] {
        assert_eq!(place.registry.resolve(name).unwrap(), a, "{name}");
    }
    assert_eq!(place.registry.resolve("candidate").unwrap(), b);
    for name in ["previous", "", "zzzz", "0000"] {
        let message = place.registry.resolve(name).unwrap_err().to_string();
        assert!(message.contains(&full[..12]), "{name}: {message}");
    }
}

#[test]
fn a_damaged_adapter_never_serves() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "first").unwrap();
    place.registry.promote(b, Requester::Operator, "second").unwrap();
    damage(&place.registry.folder(a));
    assert!(matches!(place.registry.verified(a), Err(Error::Corrupt { .. })));
    assert!(matches!(place.registry.rollback("back"), Err(Error::Corrupt { .. })));
    assert!(matches!(
        place.registry.promote(a, Requester::Operator, "?"),
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(place.champion(), Some(b));
}

fn damage(adapter: &Path) {
    fs::write(adapter.join("adapters.safetensors"), "half").unwrap();
}

#[test]
fn every_call_leaves_an_audit_line() {
    let place = place();
    let adapter = place.adapter("a");
    place.registry.rollback("?").unwrap_err();
    place.registry.promote(adapter, night("0001", None), "won").unwrap();
    place.registry.verified(adapter).unwrap();
    damage(&place.registry.folder(adapter));
    place.registry.verified(adapter).unwrap_err();
    let calls: Vec<_> = place
        .audit()
        .iter()
        .map(|line| format!("{} {}", line["call"], line["outcome"]).replace('"', ""))
        .collect();
    assert_eq!(calls, ["nominate ok", "rollback error", "promote ok", "read ok", "read error"]);
}

#[test]
fn a_broken_registry_is_refused_and_left_as_it_is() {
    let place = place();
    let adapter = place.adapter("a");
    let path = place.home.path().join("registry.json");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..whole.len() / 2], b"", b"{\"version\":2}"] {
        fs::write(&path, damaged).unwrap();
        let error = place.registry.promote(adapter, Requester::Operator, "?").unwrap_err();
        assert!(error.to_string().contains("registry.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), damaged);
    }
}

#[cfg(unix)]
#[test]
fn a_home_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let place = place();
    let adapter = place.adapter("a");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = place.registry.folder(adapter);
    for dir in [place.home.path(), folder.as_path()] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    for file in ["registry.json", "audit.jsonl", "registry.lock"] {
        assert_eq!(mode(&place.home.path().join(file)), 0o600, "{file}");
    }
    assert_eq!(mode(&folder.join("adapters.safetensors")), 0o600);
}

#[test]
fn a_pinned_champion_stays_until_it_is_unpinned() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "first").unwrap();
    place.registry.pin("guests this week").unwrap();
    let by_night = night("0002", Some(a));
    assert_eq!(place.registry.promote(b, by_night, "won").unwrap(), Promotion::Pinned);
    let error = place.registry.promote(b, Requester::Operator, "?").unwrap_err().to_string();
    assert!(error.contains("guests this week"), "{error}");
    assert_eq!(place.champion(), Some(a));
    place.registry.unpin().unwrap();
    assert_eq!(place.registry.promote(b, by_night, "won").unwrap(), Promotion::Done);
    // The way back is open all the same.
    place.registry.pin("again").unwrap();
    assert_eq!(place.registry.rollback("rude").unwrap().champion, Some(a));
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    let registry = &place.registry;
    assert_eq!(registry.promote_dry_run(a, Requester::Operator).unwrap(), Promotion::Done);
    assert!(registry.rollback_dry_run().is_err());
    registry.promote(a, Requester::Operator, "first").unwrap();
    let before = fs::read(place.home.path().join("registry.json")).unwrap();
    assert_eq!(registry.promote_dry_run(b, night("1", None)).unwrap(), Promotion::ChampionChanged);
    assert_eq!(registry.rollback_dry_run().unwrap(), None);
    registry.prune_dry_run(0).unwrap();
    assert_eq!(fs::read(place.home.path().join("registry.json")).unwrap(), before);
    let dry = place.audit().iter().filter(|line| line["call"].to_string().contains("dry")).count();
    assert_eq!(dry, 5);
}

#[test]
fn retention_keeps_who_serves_who_served_and_who_waits() {
    let place = place();
    let all = ["a", "b", "c", "d", "e"].map(|weights| place.adapter(weights));
    place.registry.promote(all[0], Requester::Operator, "first").unwrap();
    place.registry.promote(all[1], Requester::Operator, "second").unwrap();
    // Age them apart: folders made within one tick of the clock have no order.
    for (age, adapter) in all.iter().rev().enumerate() {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(60 * age as u64);
        fs::File::open(place.registry.folder(*adapter)).unwrap().set_modified(then).unwrap();
    }
    assert_eq!(place.registry.prune_dry_run(2).unwrap(), [all[2]]);
    assert_eq!(place.registry.prune(0).unwrap(), [all[2], all[3]]);
    assert_eq!(place.registry.prune(0).unwrap(), []);
    for adapter in [all[0], all[1], all[4]] {
        place.registry.verified(adapter).unwrap();
    }
    // Without a registry that can be read, nobody knows what must stay.
    fs::write(place.home.path().join("registry.json"), "{").unwrap();
    place.registry.prune(0).unwrap_err();
    place.registry.verified(all[1]).unwrap();
}

#[test]
fn the_state_before_the_last_change_mends_a_broken_file() {
    let place = place();
    let (a, b) = (place.adapter("a"), place.adapter("b"));
    place.registry.promote(a, Requester::Operator, "first").unwrap();
    place.registry.promote(b, Requester::Operator, "second").unwrap();
    let file = |name: &str| place.home.path().join(name);
    fs::write(file("registry.json"), "").unwrap();
    let error = place.registry.state().unwrap_err().to_string();
    assert!(error.contains("registry.last.json"), "{error}");
    fs::copy(file("registry.last.json"), file("registry.json")).unwrap();
    assert_eq!(place.champion(), Some(a));
}
