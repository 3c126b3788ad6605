//! Preference losses: functions of the log-probabilities of a chosen and a rejected answer to the same
//! prompt, and their derivatives.
//!
//! Formulas and names are those of TRL 1.16 (`DPOTrainer`, `CPOTrainer`, `ORPOTrainer`, `KTOTrainer`) and, for
//! `dpop`, of mlx-lm-lora 5.10.
//!
//! ```
//! use lora_train::preference::{Answer, Objective, Preference, Score};
//!
//! let dpo = Objective::new(0.1).with(Preference::Sigmoid(Score::LogRatio), 1.0);
//! let chosen = Answer { sum: -12.0, reference: -14.0, tokens: 5 };
//! let rejected = Answer { sum: -20.0, reference: -19.0, tokens: 7 };
//! let found = dpo.pair(chosen, rejected);
//! let difference = 0.1 * (2.0 - -1.0f64);
//! assert!((found.loss - (-difference).exp().ln_1p()).abs() < 1e-12);
//! assert!(found.chosen < 0.0, "a likelier chosen answer lowers the loss");
//! ```

mod metrics;
mod objective;

pub use metrics::PreferenceMetrics;
pub use objective::{Answer, Baseline, Objective, PairLoss, Preference, Score, Unpaired};
