//! Checks the facts of a household against its other files.

use std::path::Path;

use super::{Household, Phrasings};
use crate::{GeneratorData, Result};

impl Household {
    /// Refuses agents that the council does not have, and kinds of facts without phrasings; `path` is the file that errors
    /// name.
    pub(crate) fn check_against(
        &self,
        data: &GeneratorData,
        phrasings: &Phrasings,
        path: &Path,
    ) -> Result<()> {
        let facts = self.facts.iter().map(|fact| (&fact.agent, format!("facts.{}", fact.id)));
        let topics = self.topics.iter().map(|topic| (&topic.agent, format!("topics.{}", topic.of)));
        let scenarios = self.scenarios.iter();
        let scenarios = scenarios.map(|cause| (&cause.agent, format!("scenarios.{}", cause.id)));
        let tools = self.tools.iter().map(|tool| (&tool.agent, format!("tools.{}", tool.name)));
        let file = path.display().to_string();
        for (agent, entry) in facts.chain(topics).chain(scenarios).chain(tools) {
            data.agent(agent, &file, &format!("{entry}.agent"))?;
        }
        for fact in &self.facts {
            let known = phrasings.of_kind(self, &fact.kind);
            known.map_err(|error| error.in_file(path, &format!("facts.{}.kind", fact.id)))?;
        }
        Ok(())
    }
}
