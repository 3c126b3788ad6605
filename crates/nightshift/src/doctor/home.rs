//! The home: its lock, its unfinished night, its registry.

use std::path::Path;

use pipeline::{Error, Home, Lock, Registry, UnfinishedNight};

use super::finding::Finding;

pub(super) fn examine(folder: &Path) -> Vec<Finding> {
    if !folder.exists() {
        let found = format!("{}: not there yet", folder.display());
        return vec![Finding::good("home", found)];
    }
    let home = match Home::open(folder) {
        Ok(home) => home,
        Err(error) => {
            return vec![Finding::problem(
                "home",
                error,
                "name another with --home or the key `home`",
            )];
        }
    };
    let found = Finding::good("home", home.path().display());
    vec![found, lock(&home), night(&home), registry(&home)]
}

fn lock(home: &Home) -> Finding {
    match Lock::acquire(&home.path().join("night.lock")) {
        Ok(_) => Finding::good("lock", "free"),
        Err(Error::Busy { holder, .. }) => {
            Finding::good("lock", format!("held by {holder}: a night runs"))
        }
        Err(error) => Finding::problem("lock", error, "give yourself access to the home's files"),
    }
}

fn night(home: &Home) -> Finding {
    match UnfinishedNight::of(home) {
        Ok(None) => Finding::good("last night", "finished, or none yet"),
        Ok(Some(night)) => {
            let why = night.stopped_by.unwrap_or_else(|| "between two stages".to_owned());
            Finding::advice(
                "last night",
                format!("{} is unfinished ({why})", night.id),
                "the next start resumes it; `nightshift abandon` gives it up",
            )
        }
        Err(error) => Finding::problem(
            "last night",
            error,
            "move that night's folder out of `nights`; the next start begins another",
        ),
    }
}

fn registry(home: &Home) -> Finding {
    match Registry::new(home).state() {
        Ok(_) => Finding::good("registry", "readable"),
        Err(error) => Finding::problem(
            "registry",
            error,
            "in the home, `cp registry.last.json registry.json` restores the state before the last change",
        ),
    }
}
