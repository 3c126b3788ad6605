use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An agent of the council: whom a case addresses, or to whom an answer should send the asker.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Agent {
    /// Coordination, synthesis, the morning briefing.
    Yoda,
    /// Security.
    Windu,
    /// Infrastructure and efficiency.
    Quigon,
    /// Health; private.
    Cilghal,
    /// Finance; private.
    Mundi,
    /// Contacts, mail, calendar, records.
    Jocasta,
    /// Operations and incidents.
    Mothma,
    /// The second property.
    Ahsoka,
}

impl Agent {
    /// Every agent, in the council's order.
    pub const ALL: [Agent; 8] = [
        Agent::Yoda,
        Agent::Windu,
        Agent::Quigon,
        Agent::Cilghal,
        Agent::Mundi,
        Agent::Jocasta,
        Agent::Mothma,
        Agent::Ahsoka,
    ];

    /// The agent's id, as suites and data rows spell it.
    pub fn id(self) -> &'static str {
        self.names()[0]
    }

    /// The words by which an answer may call the agent; the id comes first. "Ki-Adi-Mundi",
    /// "Mon Mothma" or "Mace Windu" need no entry: they contain the id as a word.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Agent::Yoda => &["yoda"],
            Agent::Windu => &["windu"],
            Agent::Quigon => &["quigon", "qui-gon", "qui gon"],
            Agent::Cilghal => &["cilghal"],
            Agent::Mundi => &["mundi"],
            Agent::Jocasta => &["jocasta"],
            Agent::Mothma => &["mothma"],
            Agent::Ahsoka => &["ahsoka"],
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id())
    }
}
