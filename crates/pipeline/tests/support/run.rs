//! Runs the tiny night.

use pipeline::{Event, Night, NightConfig, Summary};

use crate::support::Tiny;

pub fn run(tiny: &Tiny) -> Summary {
    let config = NightConfig::load(tiny.path("night.yaml")).unwrap();
    Night::start_or_resume(config).unwrap().run(&mut |_: Event<'_>| ()).unwrap()
}
