//! Warnings about the settings of a data set: what was asked for and is not there, and what has no effect.

use crate::mix::Warning;
use crate::personas::Persona;
use crate::{EnrichConfig, GeneratorData, Recipe, RefusalQuota};

/// Files from which no rows are made without a recipe, and those that the seed's recipe does not use.
const OF_RECIPES: [&str; 7] =
    ["techniques", "requests", "identity", "routing", "situations", "harmless", "refusals"];
const OF_BALANCED: [&str; 2] = ["situations", "harmless"];

/// What is out of the ordinary in the household's own files and in the personas of the rows.
pub(crate) fn household(
    config: &EnrichConfig,
    data: &GeneratorData,
    personas: &[Persona],
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if config.recipe == Recipe::None {
        return warnings;
    }
    if data.foreign_routes > 0 {
        warnings.push(Warning::ForeignRoutes { routes: data.foreign_routes });
    }
    if data.foreign_situations > 0 && config.recipe == Recipe::Balanced {
        warnings.push(Warning::ForeignSituations { situations: data.foreign_situations });
    }
    let unclear = personas.iter().filter(|persona| persona.is_unclear());
    warnings
        .extend(unclear.map(|persona| Warning::UnclearPersona { persona: persona.to_string() }));
    warnings
}

/// Whether the balanced recipe gives the refusals that were asked for, of `read` rows and at most `most` refusals.
pub(crate) fn refusals(config: &EnrichConfig, read: usize, most: usize) -> Option<Warning> {
    let RefusalQuota { share, .. } = config.refusals;
    let asked = (share * read as f64).round() as usize;
    match config.recipe {
        Recipe::Balanced if config.refusals.count(read, most) == 0 => Some(Warning::NoRefusals),
        Recipe::Balanced if asked > most => Some(Warning::FewerRefusals { asked, made: most }),
        _ => None,
    }
}

/// The settings that have no effect.
pub(crate) fn without_effect(config: &EnrichConfig) -> Vec<Warning> {
    let because = match config.recipe {
        Recipe::None => "the recipe is `none`",
        Recipe::Seed => "the recipe is `seed`",
        Recipe::Balanced => "",
    };
    let unused: &[&str] = match config.recipe {
        Recipe::None => &OF_RECIPES,
        Recipe::Seed => &OF_BALANCED,
        Recipe::Balanced => &[],
    };
    let mut warnings = Vec::new();
    let mut warn = |setting: &str, because| {
        warnings.push(Warning::NoEffect { setting: setting.to_owned(), because });
    };
    for (key, file) in config.council.entries() {
        if file.is_some() && unused.contains(&key) {
            warn(&format!("household.{key}"), because);
        }
    }
    if config.council.phrasings.is_some() && config.council.facts.is_none() {
        warn("household.phrasings", "there is no `household.facts`");
    }
    if config.recipe != Recipe::Balanced && config.refusals != RefusalQuota::default() {
        warn("refusals", because);
    }
    if config.recipe == Recipe::None && !config.sources.is_empty() {
        warn("sources", because);
    }
    warnings
}
