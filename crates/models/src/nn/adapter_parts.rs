//! What an update of a linear layer consists of, and what its tensors are called.

use mlx_rs::Array;
use serde::{Deserialize, Serialize};

use crate::{LinearSpec, Lora};

/// Last parts of the tensors' names, as in mlx-lm's adapter files.
const A: &str = "lora_a";
const B: &str = "lora_b";
const MAGNITUDE: &str = "m";

/// What an adapter's updates consist of: `fine_tune_type` in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "String")]
pub enum AdapterKind {
    /// The two low-rank factors.
    Lora,
    /// Those, and the length of each row.
    Dora,
}

impl TryFrom<String> for AdapterKind {
    type Error = String;

    /// Unlike the derived one it names the key: serde knows only the line.
    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "lora" => Ok(Self::Lora),
            "dora" => Ok(Self::Dora),
            found => Err(format!("fine_tune_type: expected lora or dora, found {found}")),
        }
    }
}

impl LinearSpec {
    /// The last parts of the names of an update's tensors, and their shapes, in the order `A`, `B`,
    /// magnitude (see [`Lora`]).
    pub fn parts(&self, kind: AdapterKind, rank: usize) -> Vec<(&'static str, Vec<i32>)> {
        let [a, b] = self.factor_shapes(rank);
        let mut parts = vec![(A, a), (B, b)];
        if kind == AdapterKind::Dora {
            parts.push((MAGNITUDE, vec![self.out_features as i32]));
        }
        parts
    }
}

impl Lora {
    /// The arrays, named as in [`LinearSpec::parts`].
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let magnitude = self.magnitude.iter().map(|magnitude| (MAGNITUDE, magnitude));
        [(A, &self.a), (B, &self.b)].into_iter().chain(magnitude)
    }

    pub(crate) fn kind(&self) -> AdapterKind {
        if self.magnitude.is_some() { AdapterKind::Dora } else { AdapterKind::Lora }
    }
}
