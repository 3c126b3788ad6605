//! Bad configurations: each error names file, line or field, what was expected and what was found.

use enrich::{EnrichConfig, GeneratorData, GeneratorFiles, Household};

fn error(yaml: &str) -> String {
    yaml.parse::<EnrichConfig>().unwrap_err().to_string()
}

#[test]
fn a_bad_configuration_says_where_and_why() {
    for (yaml, says) in [
        ("inputs: [a]\nsede: 3", &["config:2", "sede"][..]),
        ("inputs: [a]\nseed: soon", &["config:2", "seed"]),
        ("inputs: [a]\nrecipe: best", &["config:2", "recipe", "best"]),
        ("inputs: [a]\nsplit:\n  valid: 0.6\n  test: 0.6", &["split.valid + split.test", "1.2"]),
        ("inputs: [a]\nrefusals: {share: 4}", &["refusals.share", "0 to 1", "4"]),
        ("inputs: [a]\nsuites: [x", &["config:"]),
    ] {
        let error = error(yaml);
        for part in says {
            assert!(error.contains(part), "{yaml:?}: {error:?} does not say {part:?}");
        }
    }
}

#[test]
fn a_data_set_needs_an_input() {
    let error = enrich::Dataset::build(&"seed: 1".parse().unwrap()).unwrap_err().to_string();
    assert!(error.starts_with("inputs: expected at least one file"), "{error}");
}

#[test]
fn bad_data_files_say_where_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let techniques = file("t.yaml", "- {id: a, frames: []}");
    let files = GeneratorFiles { techniques: Some(techniques), ..Default::default() };
    let error = GeneratorData::load(&files).unwrap_err().to_string();
    assert!(error.contains("t.yaml") && error.contains("a.frames"), "{error}");

    let agents = file("a.yaml", "- id: solo\n  nam: Solo\n");
    let files = GeneratorFiles { agents: Some(agents), ..Default::default() };
    let error = GeneratorData::load(&files).unwrap_err().to_string();
    assert!(error.contains("a.yaml:2") && error.contains("nam"), "{error}");

    let house = file(
        "h.yaml",
        "name: x\nsatellite: y\nfacts: [{id: a, agent: b, kind: port, of: c, value: 1}, {id: a, agent: b, kind: port, of: c, value: 2}]\ntopics: []\nscenarios: []\ntools: []\n",
    );
    let error = Household::load(house).unwrap_err().to_string();
    assert!(error.contains("h.yaml"), "{error}");
}
