//! Several base models in one registry: random sequences of operations, and registries of version 1.

#[path = "support/run.rs"]
mod run;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use durable::Digest;
use pipeline::registry::{
    Action, BaseRegistry, BaseState, Promotion, Registry, Requester, State, adapter_digest,
};
use pipeline::{Error, Event, Home, Night, NightConfig, Outcome};
use proptest::prelude::*;
use serde_json::{Value, json};
use support::Tiny;

/// Adapters of each base model.
const ADAPTERS: usize = 3;

struct House {
    dir: tempfile::TempDir,
    registry: Registry,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::new(&Home::open(dir.path().join("home")).unwrap());
        Self { dir, registry }
    }

    fn base(&self, name: &str) -> BaseRegistry {
        self.registry.of(durable::digest(name), self.dir.path().join("models").join(name))
    }

    /// A folder with an adapter; its configuration has these keys.
    fn trained(&self, weights: &str, config: &Value) -> PathBuf {
        let folder = self.dir.path().join(weights);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        fs::write(folder.join("adapters.safetensors"), weights).unwrap();
        folder
    }

    fn nominate(&self, base: &str, weights: &str) -> Digest {
        self.base(base).nominate(&self.trained(weights, &json!({}))).unwrap()
    }

    fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join("home").join(name)
    }

    fn state(&self) -> State {
        self.registry.state().unwrap()
    }
}

/// Something that happens to a registry.
#[derive(Debug, Clone)]
enum Operation {
    Nominate(usize),
    PromoteByHand(usize),
    /// The night compared with the current champion, or with none.
    PromoteByNight {
        adapter: usize,
        night: u8,
        against_current: bool,
    },
    Rollback,
    Withdraw,
    Pin,
    Unpin,
    Prune(usize),
    /// A stored adapter changes on disk.
    Damage(usize),
}

fn operation() -> impl Strategy<Value = (usize, Operation)> {
    use Operation as O;
    let adapter = || 0..ADAPTERS;
    let of_night = (adapter(), 0..4_u8, any::<bool>());
    let operation = prop_oneof![
        2 => adapter().prop_map(O::Nominate),
        6 => adapter().prop_map(O::PromoteByHand),
        4 => of_night.prop_map(|(adapter, night, against_current)| {
            O::PromoteByNight { adapter, night, against_current }
        }),
        5 => Just(O::Rollback),
        1 => Just(O::Withdraw),
        1 => Just(O::Pin),
        4 => Just(O::Unpin),
        1 => (0..4_usize).prop_map(O::Prune),
        1 => adapter().prop_map(O::Damage),
    ];
    (0..3_usize, operation)
}

/// The digest of an adapter of a base model, whether it was nominated or not.
fn adapter(house: &House, base: usize, nth: usize) -> (Digest, PathBuf) {
    let folder = house.trained(&format!("{base}-{nth}"), &json!({}));
    (adapter_digest(&folder).unwrap(), folder)
}

fn apply(house: &House, base: usize, operation: &Operation) {
    use Operation as O;
    let registry = house.base(&base.to_string());
    // Many of them are refused: what was never nominated, a pinned champion.
    let _ = match operation {
        O::Nominate(nth) => registry.nominate(&adapter(house, base, *nth).1).map(drop),
        O::PromoteByHand(nth) => {
            let (digest, _) = adapter(house, base, *nth);
            registry.promote(digest, Requester::Operator, "by hand").map(drop)
        }
        O::PromoteByNight { adapter: nth, night, against_current } => {
            let current = registry.state().unwrap().champion;
            let against = current.filter(|_| *against_current);
            let night = format!("{night:04}");
            let by = Requester::Night { id: &night, against };
            registry.promote(adapter(house, base, *nth).0, by, "won").map(drop)
        }
        O::Rollback => registry.rollback("rude").map(drop),
        O::Withdraw => registry.withdraw("no server").map(drop),
        O::Pin => registry.pin("guests").map(drop),
        O::Unpin => registry.unpin().map(drop),
        O::Prune(keep) => house.registry.prune(*keep).map(drop),
        O::Damage(nth) => {
            let file = registry.folder(adapter(house, base, *nth).0).join("adapters.safetensors");
            if file.exists() {
                fs::write(file, "half").unwrap();
            }
            Ok(())
        }
    };
}

/// What an operation on another base model must not change. Pruning forgets what it deletes.
fn served(state: &BaseState) -> BaseState {
    let mut served = state.clone();
    served.adapters.clear();
    served
}

fn aliases(state: &State) -> BTreeSet<Digest> {
    let of = |it: &BaseState| [it.champion, it.candidate, it.previous];
    state.bases.values().flat_map(of).flatten().collect()
}

fn check(
    house: &House,
    base: usize,
    operation: &Operation,
    before: &State,
    stored: &BTreeSet<Digest>,
) {
    use Operation as O;
    let after = house.state();
    let own = durable::digest(base.to_string());
    for (digest, of_base) in before.bases.iter().filter(|(digest, _)| **digest != own) {
        assert_eq!(served(&after.bases[digest]), served(of_base), "of another base model");
    }
    let (was, is) = (
        before.bases.get(&own).cloned().unwrap_or_default(),
        after.bases.get(&own).cloned().unwrap_or_default(),
    );
    let (failed_before, failed) = (was.failed(), is.failed());
    assert!(failed.is_superset(&failed_before), "what failed stays failed");
    if is.champion != was.champion {
        if let Some(champion) = is.champion {
            house.registry.verified(champion).expect("a champion that was just made is intact");
            let by_hand = matches!(operation, O::PromoteByHand(_));
            assert!(by_hand || !failed.contains(&champion), "what failed is not restored");
        }
        assert_eq!(is.history.len(), was.history.len() + 1);
    }
    assert_eq!(is.generation - was.generation, (is.history.len() - was.history.len()) as u64);
    assert_eq!(is.history.last().and_then(|change| change.champion), is.champion);
    if let Some(previous) = is.previous {
        assert!(!failed.contains(&previous) && is.champion != Some(previous));
    }
    if let (O::Rollback, true) = (operation, is.history.len() > was.history.len()) {
        let change = is.history.last().unwrap();
        let left = was.champion.unwrap();
        assert!(change.action == Action::Withdraw || failed.contains(&left));
    }
    if let O::Prune(_) = operation {
        for kept in aliases(before).intersection(stored) {
            assert!(house.registry.folder(*kept).is_dir(), "pruned {kept}");
        }
    }
}

fn stored(house: &House) -> BTreeSet<Digest> {
    let items = fs::read_dir(house.home("adapters")).unwrap();
    let names = items.map(|item| item.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.parse().ok()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Operations on one base model never change another. A champion that is made is intact. What failed serves again only
    /// if a person promotes it. Pruning keeps the aliases of every base model.
    #[test]
    fn base_models_are_apart_and_what_failed_never_returns(
        operations in proptest::collection::vec(operation(), 1..90)
    ) {
        let house = House::new();
        // The third base model is new.
        for (base, nth) in (0..2).flat_map(|base| (0..ADAPTERS).map(move |nth| (base, nth))) {
            apply(&house, base, &Operation::Nominate(nth));
        }
        for (base, operation) in &operations {
            let (before, stored) = (house.state(), stored(&house));
            apply(&house, *base, operation);
            check(&house, *base, operation, &before, &stored);
        }
        // What is on disk is what was said.
        let again = Registry::new(&Home::open(house.home("")).unwrap());
        prop_assert_eq!(again.state().unwrap(), house.state());
    }
}

#[test]
fn an_adapter_serves_only_on_the_base_model_that_it_was_trained_on() {
    let house = House::new();
    let adapter = house.nominate("gemma", "a");
    house.nominate("qwen", "b");
    let qwen = house.base("qwen");
    let error = qwen.promote(adapter, Requester::Operator, "?").unwrap_err();
    assert!(matches!(error, Error::OtherBase { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("an adapter of qwen") && text.contains("was trained on gemma"), "{text}");
    assert!(matches!(qwen.resolve(&adapter.to_string()), Err(Error::UnknownAdapter { .. })));
}

#[test]
fn a_base_model_is_found_by_name_path_or_digest_and_alone_without() {
    let house = House::new();
    let find = |name: Option<&str>| house.registry.find(name).map(|base| base.base());
    let error = find(None).unwrap_err().to_string();
    assert!(error.contains("no night has run here"), "{error}");
    house.nominate("gemma", "a");
    assert_eq!(find(None).unwrap(), durable::digest("gemma"));
    house.nominate("qwen", "b");
    let digest = durable::digest("qwen").to_string();
    let path = house.dir.path().join("models/qwen");
    for name in ["qwen", &digest, &digest[..8], path.to_str().unwrap()] {
        assert_eq!(find(Some(name)).unwrap(), durable::digest("qwen"), "{name}");
    }
    for name in [None, Some("llama"), Some("")] {
        let error = find(name).unwrap_err().to_string();
        assert!(error.contains("gemma (") && error.contains("qwen ("), "{name:?}: {error}");
    }
    // A model at a path is read, whether a night has used it or not, and whatever was there before.
    let new = house.dir.path().join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("config.json"), "{}").unwrap();
    let before = find(new.to_str()).unwrap();
    assert_eq!(before, models::model_digest(&new).unwrap());
    house.registry.of(before, &new).pin("guests").unwrap();
    assert_eq!(find(new.to_str()).unwrap(), before);
    fs::write(new.join("config.json"), "{ }").unwrap();
    assert_ne!(find(new.to_str()).unwrap(), before);
    assert_eq!(find(Some("new")).unwrap(), before);
}

/// A registry of version 1, with adapters that are stored.
struct Old {
    house: House,
    adapters: BTreeMap<&'static str, Digest>,
}

impl Old {
    fn new(names: &[&'static str]) -> Self {
        let house = House::new();
        let adapters = names.iter().map(|name| (*name, house.nominate("any", name))).collect();
        Self { house, adapters }
    }

    fn digest(&self, name: &str) -> Value {
        json!(self.adapters.get(name))
    }

    /// Each change is `promote` or `rollback`, the new champion, and the one before; `-` for the base model.
    fn write(&self, changes: &[(&str, &str, &str)], candidate: &str, bests: &[&str]) {
        let change = |(action, champion, previous): &(&str, &str, &str)| {
            json!({
                "at": "2026-04-08T05:00:00Z", "action": action, "champion": self.digest(champion),
                "previous": self.digest(previous), "night": null, "reason": "better",
            })
        };
        let best = |base: &&str| {
            let exam = json!({ "base": durable::digest(base), "suite": durable::digest("suite"), "scoring_version": 2 });
            json!({ "exam": exam, "scores": { "categories": { "domain": 0.5 } } })
        };
        let (champion, previous) = changes.last().map_or(("-", "-"), |last| (last.1, last.2));
        let state = json!({
            "version": 1, "champion": self.digest(champion), "candidate": self.digest(candidate),
            "previous": self.digest(previous), "pinned": "guests",
            "history": changes.iter().map(change).collect::<Vec<_>>(),
            "best": bests.iter().map(best).collect::<Vec<_>>(),
        });
        fs::write(self.house.home("registry.json"), state.to_string()).unwrap();
    }

    /// A night on a base model whose candidate was this adapter.
    fn night(&self, number: u32, base: &str, adapter: &str) {
        let run = self.house.home(&format!("nights/{number:04}-2026-04-08/exam/candidate"));
        fs::create_dir_all(&run).unwrap();
        let subject = json!({
            "model": base, "model_digest": durable::digest(base), "adapter": "candidate",
            "adapter_digest": self.digest(adapter),
        });
        fs::write(run.join("manifest.json"), json!({ "subject": subject }).to_string()).unwrap();
    }

    fn of(&self, base: &str) -> BaseState {
        self.house.base(base).state().unwrap()
    }

    fn alias(&self, name: &str) -> Option<Digest> {
        self.adapters.get(name).copied()
    }
}

/// The demo and a Gemma in one home: the second champion replaced the first, which served on another base model.
#[test]
fn champions_of_a_version_1_file_go_to_their_base_models() {
    let old = Old::new(&["s", "g"]);
    old.night(1, "demo.gguf", "s");
    old.night(2, "gemma", "g");
    old.write(&[("promote", "s", "-"), ("promote", "g", "s")], "g", &["demo.gguf", "gemma"]);
    let before = fs::read(old.house.home("registry.json")).unwrap();
    let (demo, gemma) = (old.of("demo.gguf"), old.of("gemma"));
    assert_eq!((demo.champion, demo.candidate, demo.previous), (old.alias("s"), None, None));
    assert_eq!(
        (gemma.champion, gemma.candidate, gemma.previous),
        (old.alias("g"), old.alias("g"), None)
    );
    assert_eq!(demo.name(), "demo");
    for of_base in [&demo, &gemma] {
        assert_eq!((of_base.history.len(), of_base.best.len(), of_base.generation), (1, 1, 2));
        assert_eq!(of_base.pinned.as_deref(), Some("guests"));
    }
    assert_eq!(
        fs::read(old.house.home("registry.json")).unwrap(),
        before,
        "reading changes nothing"
    );

    // The first change writes the new form, and keeps the old one.
    old.house.base("gemma").unpin().unwrap();
    assert_eq!(fs::read(old.house.home("registry.v1.json")).unwrap(), before);
    let written: Value =
        serde_json::from_slice(&fs::read(old.house.home("registry.json")).unwrap()).unwrap();
    assert_eq!(written["version"], 2);
    assert_eq!(old.of("demo.gguf"), demo);
    assert_eq!(old.house.base("gemma").rollback("rude").unwrap().champion, None);
    assert_eq!(old.of("demo.gguf").champion, old.alias("s"));
    old.house.base("demo.gguf").unpin().unwrap();
    assert_eq!(fs::read(old.house.home("registry.v1.json")).unwrap(), before, "it stays");
}

#[test]
fn rollbacks_of_a_version_1_file_are_understood() {
    let back = [("promote", "a", "-"), ("promote", "b", "a"), ("rollback", "a", "b")];
    let undone = [back[0], back[1], back[2], ("rollback", "b", "a")];
    let to_base = [("promote", "a", "-"), ("rollback", "-", "a")];
    for (changes, champion, previous, failed) in
        [(&back[..], "a", "-", &["b"][..]), (&undone, "b", "a", &[]), (&to_base, "-", "-", &["a"])]
    {
        let old = Old::new(&["a", "b"]);
        // The best scores tell the only base model.
        old.write(changes, "b", &["gemma"]);
        let gemma = old.of("gemma");
        let failed = failed.iter().filter_map(|name| old.alias(name)).collect();
        assert_eq!((gemma.champion, gemma.previous), (old.alias(champion), old.alias(previous)));
        assert_eq!((gemma.failed(), gemma.generation), (failed, changes.len() as u64));
        assert!(old.house.state().unplaced.is_empty());
    }
}

#[test]
fn an_adapters_configuration_tells_its_base_model() {
    let mut old = Old::new(&[]);
    for (weights, model) in [("a", "/elsewhere/gemma"), ("b", "qwen.gguf")] {
        let folder = old.house.trained(weights, &json!({ "model": model }));
        let adapter = old.house.base("any").nominate(&folder).unwrap();
        old.adapters.insert(weights, adapter);
    }
    fs::create_dir_all(old.house.home("serving")).unwrap();
    for base in ["gemma", "qwen"] {
        let path = old.house.dir.path().join("models").join(base);
        let content = json!({ "base": { "path": path, "sha256": durable::digest(base) } });
        let file = format!("serving/{base}.json");
        // As version 1 wrote it, for all base models.
        let whole = json!({
            "version": 1, "base": content["base"], "generation": 2, "since": null, "verdict": "better",
            "adapter": { "folder": format!("adapters/{}", old.adapters["b"]), "digest": old.adapters["b"] },
        });
        fs::write(old.house.home(&file), whole.to_string()).unwrap();
    }
    old.write(&[("promote", "a", "-"), ("promote", "b", "a")], "b", &[]);
    assert_eq!(
        (old.of("gemma").champion, old.of("qwen").champion),
        (old.alias("a"), old.alias("b"))
    );
    // With the next change, servers of each base model are told of its own champion.
    old.house.base("gemma").unpin().unwrap();
    let told = |base: &str| -> Value {
        let path = old.house.home(&format!("serving/{base}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    assert_eq!(told("gemma")["adapter"]["digest"], old.digest("a"));
    assert_eq!(
        (&told("qwen")["adapter"]["digest"], &told("qwen")["generation"]),
        (&old.digest("b"), &json!(2))
    );
}

#[test]
fn an_adapter_of_no_known_base_model_is_kept_and_said() {
    let old = Old::new(&["a", "b"]);
    old.write(&[("promote", "a", "-")], "b", &[]);
    let state = old.house.state();
    assert!(state.bases.is_empty());
    let both = BTreeSet::from([old.adapters["a"], old.adapters["b"]]);
    assert_eq!((state.unplaced, state.pinned.as_deref()), (both.clone(), Some("guests")));
    assert!(pipeline::registry::unplaced(old.adapters["a"]).contains("champion promote"));
    assert_eq!(old.house.registry.prune(0).unwrap(), []);
    // The pin holds for whatever base model comes.
    let gemma = old.house.base("gemma");
    assert!(matches!(
        gemma.promote(old.adapters["a"], Requester::Operator, "?"),
        Err(Error::Pinned { .. })
    ));
    gemma.unpin().unwrap();
    let done = gemma.promote(old.adapters["a"], Requester::Operator, "its base").unwrap();
    assert_eq!(done, Promotion::Done);
    assert_eq!(old.house.state().unplaced, [old.adapters["b"]].into());
}

/// A night that stopped goes on with another model: it compares with the champion of that one, and neither loses its own.
#[test]
fn a_night_that_goes_on_with_another_model_compares_with_its_champion() {
    let (tiny, other) = (Tiny::new(), Tiny::qwen());
    assert_eq!(run::run(&tiny).outcome, Outcome::Promoted);
    tiny.edit("lora.yaml", "iters: 12", "iters: 13\nresume_adapter_file: nowhere.safetensors");
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    let night = Night::start_or_resume(config).unwrap();
    night.run(&mut |_: Event<'_>| ()).unwrap_err();

    tiny.edit("lora.yaml", "iters: 13\nresume_adapter_file: nowhere.safetensors", "iters: 60");
    fs::rename(other.path("model"), tiny.path("another")).unwrap();
    tiny.edit("night.yaml", "model: model", "model: another");
    let summary = run::run(&tiny);
    assert!(summary.night.starts_with("0002-") && summary.scores.champion.is_none());
    assert_eq!(summary.outcome, Outcome::Promoted, "{}", summary.verdict);
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap());
    let champion = |name: &str| registry.find(Some(name)).unwrap().state().unwrap().champion;
    let both = ["model", "another"].map(|name| champion(name).unwrap());
    assert_ne!(both[0], both[1]);

    // The next night with the first model compares with the first champion, and leaves the other one as it is.
    tiny.edit("night.yaml", "model: another", "model: model");
    tiny.edit("lora.yaml", "iters: 60", "iters: 11");
    let summary = run::run(&tiny);
    assert!(summary.scores.champion.is_some());
    assert_eq!(champion("another"), Some(both[1]));
    assert_eq!(registry.state().unwrap().bases.len(), 2);
}

/// The manifests of a real night are understood.
#[test]
fn a_night_of_version_1_is_placed_by_its_exam() {
    let tiny = Tiny::new();
    assert_eq!(run::run(&tiny).outcome, Outcome::Promoted);
    let registry = Registry::new(&Home::open(tiny.path("home")).unwrap());
    let state = registry.state().unwrap();
    let (base, of_base) = state.bases.first_key_value().unwrap();
    assert_eq!(*base, models::model_digest(&tiny.path("model")).unwrap());
    let old = json!({
        "version": 1, "champion": of_base.champion, "candidate": of_base.candidate,
        "previous": null, "history": of_base.history,
        "best": of_base.best.iter().map(|best| {
            let mut best = json!(best);
            best["exam"]["base"] = json!(base);
            best
        }).collect::<Vec<_>>(),
    });
    fs::remove_dir_all(tiny.path("home/serving")).unwrap();
    fs::write(tiny.path("home/registry.json"), old.to_string()).unwrap();
    let mut migrated = registry.state().unwrap().bases[base].clone();
    assert_eq!(migrated.path, Path::new("model"), "only the name is known");
    migrated.path.clone_from(&of_base.path);
    assert_eq!(migrated, *of_base);
    // The next night, with another policy, compares with it, and knows the path again.
    tiny.edit("gate.yaml", "margin: 0.3", "margin: 0.31");
    assert!(run::run(&tiny).scores.champion.is_some());
    assert_eq!(registry.state().unwrap().bases[base].path, of_base.path);
}
