//! Training on pairs of answers: the keys of mlx-lm-lora 5.10 and TRL 1.16, and the objective they
//! stand for.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserializer, IntoDeserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::TrainConfig;
use crate::Result;
use crate::preference::{Baseline, Objective, Preference, Score, Unpaired};

/// The `train_mode` key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TrainMode {
    /// Supervised fine-tuning: cross-entropy of rows.
    #[default]
    Sft,
    /// Direct preference optimization and its variants (`loss_type`), with a reference model.
    Dpo,
    /// Contrastive preference optimization and its variants, without a reference model.
    Cpo,
    /// SimPO: `cpo` with `loss_type: simpo` and `cpo_alpha: 0`.
    SimPo,
    /// Odds ratio preference optimization, without a reference model.
    Orpo,
    /// Kahneman-Tversky optimization: chosen and rejected answers each alone, with a reference model.
    Kto,
}

impl fmt::Display for TrainMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sft => "sft",
            Self::Dpo => "dpo",
            Self::Cpo => "cpo",
            Self::SimPo => "simpo",
            Self::Orpo => "orpo",
            Self::Kto => "kto",
        })
    }
}

/// The name of a loss in TRL or mlx-lm-lora.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LossName {
    /// Logistic loss.
    Sigmoid,
    /// Logistic loss of scores per token.
    SigmoidNorm,
    /// Hinge loss.
    Hinge,
    /// Squared loss of scores per token.
    Ipo,
    /// Logistic loss that allows for flipped labels (`label_smoothing`).
    Robust,
    /// Logistic loss with a penalty (`delta`) for chosen answers that become less likely.
    Dpop,
    /// Logistic loss of mean log-probabilities with a margin (`simpo_gamma`).
    #[serde(rename = "simpo")]
    SimPo,
    /// Negative log-likelihood of the chosen answers.
    Sft,
    /// Each answer against an estimate of the divergence from the reference model.
    Kto,
    /// Each answer against the reference model.
    ApoZeroUnpaired,
}

/// One loss, or several whose weighted sum is minimized.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LossNames {
    /// One.
    One(LossName),
    /// Several.
    Several(Vec<LossName>),
}

/// By hand, so that an unknown name is refused with the known ones.
impl<'de> Deserialize<'de> for LossNames {
    fn deserialize<D: Deserializer<'de>>(input: D) -> std::result::Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = LossNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a loss, or a list of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> std::result::Result<LossNames, E> {
                LossName::deserialize(name.into_deserializer()).map(LossNames::One)
            }

            fn visit_seq<S: SeqAccess<'de>>(
                self,
                mut names: S,
            ) -> std::result::Result<LossNames, S::Error> {
                let mut all = Vec::new();
                while let Some(name) = names.next_element()? {
                    all.push(name);
                }
                Ok(LossNames::Several(all))
            }
        }

        input.deserialize_any(Names)
    }
}

/// What a preference loss compares with: `nightshift.reference`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reference {
    /// The model at the start of the run: with the adapter of `resume_adapter_file`, if there is one.
    #[default]
    Start,
    /// The base model without an adapter.
    Base,
}

impl LossNames {
    fn list(&self) -> Vec<LossName> {
        match self {
            Self::One(name) => vec![*name],
            Self::Several(names) => names.clone(),
        }
    }
}

impl fmt::Display for LossName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sigmoid => "sigmoid",
            Self::SigmoidNorm => "sigmoid_norm",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::Robust => "robust",
            Self::Dpop => "dpop",
            Self::SimPo => "simpo",
            Self::Sft => "sft",
            Self::Kto => "kto",
            Self::ApoZeroUnpaired => "apo_zero_unpaired",
        })
    }
}

impl TrainMode {
    /// The losses that `loss_type` may name, the default first; none if there is no choice.
    fn losses(self) -> &'static [LossName] {
        use LossName::{Dpop, Hinge, Ipo, Robust, Sft, Sigmoid, SigmoidNorm, SimPo};
        match self {
            Self::Dpo => &[Sigmoid, SigmoidNorm, Hinge, Ipo, Robust, Dpop, Sft],
            Self::Cpo => &[Sigmoid, Hinge, Ipo, SimPo],
            Self::Kto => &[LossName::Kto, LossName::ApoZeroUnpaired],
            Self::Sft | Self::SimPo | Self::Orpo => &[],
        }
    }
}

impl TrainConfig {
    /// What the rows of the data are: `sft` unless `train_mode` says otherwise.
    pub fn mode(&self) -> TrainMode {
        self.train_mode.unwrap_or_default()
    }

    /// The preference loss that the configuration asks for; `None` for supervised fine-tuning.
    pub fn objective(&self) -> Option<Objective> {
        let objective = Objective::new(self.beta.unwrap_or(Self::DEFAULT_BETA));
        let mode = self.mode();
        let weights = self.loss_weights.iter().flatten().copied().chain(std::iter::repeat(1.0));
        match mode {
            TrainMode::Sft => None,
            TrainMode::Orpo => Some(objective.with(Preference::OddsRatio, 1.0).with_nll(1.0)),
            TrainMode::SimPo => {
                Some(objective.with(self.simpo(), 1.0).with_nll(self.cpo_alpha.unwrap_or_default()))
            }
            TrainMode::Kto => {
                let baseline = match self.losses().contains(&LossName::Kto) {
                    true => Baseline::Divergence,
                    false => Baseline::Zero,
                };
                Some(objective.with_unpaired(Unpaired {
                    desirable_weight: self.desirable_weight.unwrap_or(1.0),
                    undesirable_weight: self.undesirable_weight.unwrap_or(1.0),
                    baseline,
                }))
            }
            TrainMode::Cpo => {
                let nll = self.cpo_alpha.unwrap_or(1.0);
                Some(
                    self.losses()
                        .into_iter()
                        .fold(objective, |sum, name| sum.with(self.cpo(name), 1.0).with_nll(nll)),
                )
            }
            TrainMode::Dpo => {
                let terms = self.losses().into_iter().zip(weights);
                Some(terms.fold(objective, |sum, (name, weight)| match self.dpo(name) {
                    Some(preference) => sum.with(preference, weight),
                    None => {
                        let before = sum.nll();
                        sum.with_nll(before + weight)
                    }
                }))
            }
        }
    }

    /// `beta` if it is absent, as in TRL and mlx-lm-lora.
    pub(crate) const DEFAULT_BETA: f64 = 0.1;

    fn losses(&self) -> Vec<LossName> {
        let named = self.loss_type.as_ref().map(LossNames::list);
        let named = named.or_else(|| self.dpo_cpo_loss_type.map(|name| vec![name]));
        named.unwrap_or_else(|| self.mode().losses().first().copied().into_iter().collect())
    }

    /// The loss of DPO with this name; `None` for the likelihood of the chosen answers.
    fn dpo(&self, name: LossName) -> Option<Preference> {
        Some(match name {
            LossName::Sft => return None,
            LossName::SigmoidNorm => Preference::Sigmoid(Score::MeanLogRatio),
            LossName::Hinge => Preference::Hinge(Score::LogRatio),
            LossName::Ipo => Preference::Square(Score::MeanLogRatio),
            LossName::Robust => Preference::Robust { label_smoothing: self.smoothing() },
            LossName::Dpop => Preference::Positive { delta: self.delta.unwrap_or(50.0) },
            LossName::Sigmoid | LossName::SimPo | LossName::Kto | LossName::ApoZeroUnpaired => {
                Preference::Sigmoid(Score::LogRatio)
            }
        })
    }

    /// The loss of CPO with this name.
    fn cpo(&self, name: LossName) -> Preference {
        match name {
            LossName::SimPo => self.simpo(),
            LossName::Hinge => Preference::Hinge(Score::Sum),
            LossName::Ipo => Preference::Square(Score::Mean),
            _ => Preference::Margin {
                score: Score::Sum,
                gamma: 0.0,
                label_smoothing: self.smoothing(),
            },
        }
    }

    fn simpo(&self) -> Preference {
        let gamma = self.simpo_gamma.unwrap_or(0.5);
        Preference::Margin { score: Score::Mean, gamma, label_smoothing: self.smoothing() }
    }

    fn smoothing(&self) -> f64 {
        self.label_smoothing.unwrap_or_default()
    }

    /// Checks the keys of preference training.
    pub(super) fn check_preference(&self) -> Result<()> {
        self.require_positive("beta", self.beta)?;
        self.require_positive("desirable_weight", self.desirable_weight)?;
        self.require_positive("undesirable_weight", self.undesirable_weight)?;
        let amounts = [
            ("delta", self.delta),
            ("cpo_alpha", self.cpo_alpha),
            ("simpo_gamma", self.simpo_gamma),
        ];
        for (key, value) in amounts {
            let value = value.unwrap_or_default();
            let sound = value.is_finite() && value >= 0.0;
            self.require(key, sound, "a finite number of at least 0", value)?;
        }
        let smoothing = self.smoothing();
        let share = "at least 0 and below 0.5";
        self.require("label_smoothing", (0.0..0.5).contains(&smoothing), share, smoothing)?;
        self.check_losses()?;
        self.check_reference()
    }

    fn check_losses(&self) -> Result<()> {
        let mode = self.mode();
        let (key, other) = ("loss_type", "dpo_cpo_loss_type");
        let both = self.loss_type.is_some() && self.dpo_cpo_loss_type.is_some();
        self.require(key, !both, format!("only this or `{other}`"), "both")?;
        let names = self.losses();
        if !mode.losses().is_empty() {
            let key = if self.dpo_cpo_loss_type.is_some() { other } else { key };
            let known: Vec<String> = mode.losses().iter().map(LossName::to_string).collect();
            let expected = format!("one of {} with this `train_mode`", known.join(", "));
            for name in &names {
                self.require(key, mode.losses().contains(name), expected.clone(), name)?;
            }
            let compares = names.iter().any(|name| *name != LossName::Sft);
            self.require(key, compares, "a loss that compares two answers", "none")?;
            let several = mode == TrainMode::Dpo || names.len() == 1;
            self.require(key, several, "one loss with this `train_mode`", "several")?;
        }
        let Some(weights) = &self.loss_weights else { return Ok(()) };
        let sound = weights.len() == names.len() && weights.iter().all(|weight| weight.is_finite());
        let expected = format!("{} finite numbers, one for each loss", names.len());
        self.require("loss_weights", sound, expected, format!("{weights:?}"))
    }

    /// The reference is the model that is trained, with or without an adapter: no second one is loaded.
    fn check_reference(&self) -> Result<()> {
        let Some(path) = &self.reference_model_path else { return Ok(()) };
        let same = self.model.as_ref() == Some(path);
        let expected = "the value of `model`, or no such key";
        self.require("reference_model_path", same, expected, path.display())?;
        let base = self.nightshift.reference.unwrap_or(Reference::Base) == Reference::Base;
        let expected = "base, or no `reference_model_path`, which is the base model";
        self.require("nightshift.reference", base, expected, "start")
    }

    /// What a loss with a reference compares with.
    pub fn reference(&self) -> Reference {
        let named = self.reference_model_path.as_ref().map(|_| Reference::Base);
        self.nightshift.reference.or(named).unwrap_or_default()
    }

    /// Keys in the file that this `train_mode` does not read, each with what is done instead.
    pub(crate) fn unread_preference_keys(&self) -> Vec<(&'static str, String)> {
        let mode = self.mode();
        let names = self.losses();
        let is = |name| names.contains(&name);
        let chooses = !mode.losses().is_empty();
        let simpo = mode == TrainMode::SimPo || is(LossName::SimPo);
        let smooths =
            simpo || is(LossName::Robust) || mode == TrainMode::Cpo && is(LossName::Sigmoid);
        let (dpo, kto) = (mode == TrainMode::Dpo, mode == TrainMode::Kto);
        let read = [
            ("beta", mode != TrainMode::Sft),
            ("loss_type", chooses),
            ("dpo_cpo_loss_type", chooses),
            ("loss_weights", dpo),
            ("label_smoothing", smooths),
            ("delta", is(LossName::Dpop)),
            ("cpo_alpha", matches!(mode, TrainMode::Cpo | TrainMode::SimPo)),
            ("simpo_gamma", simpo),
            ("desirable_weight", kto),
            ("undesirable_weight", kto),
            ("reference_model_path", dpo || kto),
            ("nightshift.reference", dpo || kto),
            ("nightshift.reference_cache", dpo || kto),
        ];
        let unread = read.into_iter().filter(|(_, read)| !read);
        let of_others =
            unread.map(|(key, _)| (key, "this `train_mode` and loss do not read it".to_owned()));
        let of_rows = ["mask_prompt", "completion_feature", "text_feature"]
            .into_iter()
            .filter(|_| mode != TrainMode::Sft)
            .map(|key| (key, "pairs have a loss on their answers alone".to_owned()));
        of_others.chain(of_rows).filter(|(key, _)| self.origin.has(key)).collect()
    }
}
