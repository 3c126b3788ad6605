use std::fmt;

use durable::Digest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::council::{AgentId, CategoryId};
use crate::scoring::Rule;

/// Who may have seen a case.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Frozen and public; training data may have drifted towards it.
    Gold,
    /// Grows over time; visible to whoever writes training data.
    Extended,
    /// Never visible to anything that writes training data: only this tier decides a promotion.
    HeldOut,
}

impl Tier {
    /// Every tier.
    pub const ALL: [Tier; 3] = [Tier::Gold, Tier::Extended, Tier::HeldOut];
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Tier::Gold => "gold",
            Tier::Extended => "extended",
            Tier::HeldOut => "held_out",
        })
    }
}

/// The role of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The person asking.
    User,
    /// An earlier answer, given as context.
    Assistant,
}

/// One turn of a case's conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Who speaks.
    pub role: Speaker,
    /// What is said.
    pub content: String,
}

/// One question of the exam and how its answer is scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Case {
    /// Unique in the suite; runs are paired by it.
    pub id: String,
    /// What the case examines: a category of the suite's council.
    pub category: CategoryId,
    /// The agent that is asked: an agent of the suite's council.
    pub agent: AgentId,
    /// Who may have seen the case.
    pub tier: Tier,
    /// The system prompt; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
    /// The tools that the agent may call, as OpenAI declares functions: each with a name, a description and a JSON schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<serde_json::Value>,
    /// The conversation; the last turn is the user's.
    pub turns: Vec<Turn>,
    /// The fact or template that the case shares with others of the suite: their scores are not independent, and the gate
    /// counts them together. None for a case of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How an answer is scored; see [`Rule`].
    pub rules: Vec<Rule>,
    /// The case's weight in every mean.
    #[serde(default = "one")]
    pub weight: f64,
    /// Free labels, such as the technique of a jailbreak.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whether declining can be a right answer, if the content rules are met: "No, I keep my name." A case that asks for a
    /// refusal has a `refusal` rule instead.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_decline: bool,
    /// A sample answer that must score 1.
    pub pass: String,
    /// A sample answer that must score 0.
    pub fail: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn one() -> f64 {
    1.0
}

impl Case {
    /// A case of weight 1 with one question; its rules and sample answers are still to be set.
    pub fn new(
        id: impl Into<String>,
        category: impl Into<CategoryId>,
        agent: impl Into<AgentId>,
        tier: Tier,
        question: impl Into<String>,
    ) -> Case {
        Case {
            id: id.into(),
            category: category.into(),
            agent: agent.into(),
            tier,
            system: String::new(),
            tools: Vec::new(),
            turns: vec![Turn { role: Speaker::User, content: question.into() }],
            cluster: None,
            rules: Vec::new(),
            weight: one(),
            tags: Vec::new(),
            may_decline: false,
            pass: String::new(),
            fail: String::new(),
        }
    }

    /// Identifies what the model is given: the system prompt, the tools and the turns.
    pub fn prompt_digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let tools: Vec<String> = self.tools.iter().map(|tool| tool.to_string()).collect();
        let tools = tools.iter().map(|tool| (3, tool.as_str()));
        let turns = self.turns.iter().map(|turn| (turn.role as u8, turn.content.as_str()));
        for (role, text) in std::iter::once((2, self.system.as_str())).chain(tools).chain(turns) {
            bytes.push(role);
            // The length prefix keeps two different splits into turns from giving the same bytes.
            bytes.extend((text.len() as u64).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        durable::digest(bytes)
    }
}
