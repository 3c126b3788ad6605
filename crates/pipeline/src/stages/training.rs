//! The stages `train` and `prefer`.

use super::enrich::Splits;
use super::prefer::{Prefer, Preferred};
use super::train::{Train, TrainedAdapter};
use crate::base_model::BaseModel;
use crate::error::Result;
use crate::memory_fallback::MemoryFallback;
use crate::preference::Recipes;
use crate::runner::Runner;
use crate::stages::StageName;

/// The trainings of a night.
pub(crate) struct Training<'a> {
    pub model: &'a BaseModel,
    pub splits: &'a Splits,
    /// The largest share of rows that the model's chat template may refuse.
    pub max_refused_share: f64,
    pub recipes: &'a Recipes,
}

impl Training<'_> {
    /// Trains the rows, and then the preference pairs if there is a recipe for it.
    pub fn run(
        &self,
        runner: &mut Runner<'_>,
        fallback: &mut MemoryFallback,
    ) -> Result<(TrainedAdapter, Option<Preferred>)> {
        let Self { model, splits, max_refused_share, recipes } = *self;
        let supervised = &recipes.supervised;
        let stage = (StageName::Train, supervised);
        let trained = fallback.within_memory(runner, stage, |runner, recipe| {
            runner.run(&Train { model, splits, recipe, max_refused_share })
        })?;
        let preferred = recipes.preference.as_ref().map(|recipe| {
            let (stage, trained) = ((StageName::Prefer, recipe), &trained);
            fallback.within_memory(runner, stage, |runner, recipe| {
                runner.run(&Prefer {
                    model,
                    splits,
                    trained,
                    recipe,
                    supervised,
                    max_refused_share,
                })
            })
        });
        let preferred = preferred.transpose()?;
        Ok((trained, preferred))
    }
}
