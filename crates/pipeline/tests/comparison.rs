//! The page that compares two exam runs.

#[path = "../../eval/tests/common/mod.rs"]
mod common;

use common::{answered, run, suite};
use eval::{Evidence, Gate, Policy, Tier};
use pipeline::report::comparison_page;

#[test]
fn the_page_shows_every_visible_case_and_escapes_what_models_write() {
    let suite = suite(56);
    let champion = run(&suite, "the champion", |i| i % 2 == 0);
    let mut candidate = answered(&suite, "the candidate", |i| {
        if i == 3 {
            "<script>alert('hi')</script> & \"more\"".into()
        } else {
            suite.cases[i].pass.clone()
        }
    });
    let verdict = Gate::new(Policy::default())
        .unwrap()
        .decide(&Evidence::new(&candidate, &champion))
        .unwrap();
    let opinion = serde_json::json!({ "by": "another model", "stance": "refused" });
    candidate.records[1].opinion = serde_json::from_value(opinion).unwrap();
    let page = comparison_page(&champion, &candidate, Some(&verdict)).unwrap();
    if let Some(path) = std::env::var_os("NIGHTSHIFT_PAGE") {
        std::fs::write(path, &page).unwrap();
    }
    // Every second case is held out: counted, not shown.
    assert_eq!(page.matches("<article ").count(), 28);
    for (case, run) in suite.cases.iter().zip(&candidate.records) {
        let shown = page.contains(&format!("<b>{}</b>", case.id));
        assert_eq!(shown, case.tier != Tier::HeldOut, "{}", case.id);
        if !shown {
            assert!(!page.contains(&format!("{}<", run.question)), "{}", case.id);
        }
    }
    assert!(page.contains("Held-out cases") && page.contains("better 27"), "{page}");
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"));
    assert!(page.contains("another model says: refused"));
    assert!(page.contains(&verdict.reason) && page.contains("the champion"));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "the page must load nothing: {outside}");
    }
}

#[test]
fn runs_with_no_case_in_common_have_no_page() {
    let one = run(&suite(10), "one", |_| true);
    let mut other = one.clone();
    other.records.iter_mut().for_each(|r| r.case += "-other");
    assert!(comparison_page(&one, &other, None).is_err());
}
