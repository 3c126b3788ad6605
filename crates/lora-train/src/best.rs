//! Which adapter of a run is the best one.

use serde::{Deserialize, Serialize};

use crate::config::{EarlyStop, Nightshift, Retention};

/// What is measured of an adapter during a run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Measured {
    /// Updates made before.
    pub step: u64,
    /// The validation loss, if there are validation rows or pairs.
    pub loss: Option<f64>,
    /// With `nightshift.retention`, the mean divergence from the base model, in nats a token.
    pub kl: Option<f64>,
}

impl Measured {
    /// Whether the adapter may be the best one: its divergence is at most `nightshift.retention.max_kl`.
    pub(crate) fn is_eligible(&self, settings: &Nightshift) -> bool {
        let ceiling = settings.retention.and_then(|Retention { max_kl, .. }| max_kl);
        match (ceiling, self.kl) {
            (Some(ceiling), Some(kl)) => kl <= ceiling,
            _ => true,
        }
    }

    /// Whether the adapter is better than the best one so far. Without validation rows the later one is.
    pub(crate) fn improves_on(&self, best: Option<&Self>, settings: &Nightshift) -> bool {
        let needed = settings.early_stop.map_or(0.0, |EarlyStop { min_delta, .. }| min_delta);
        let lower = match (self.loss, best.and_then(|best| best.loss)) {
            (Some(loss), Some(best)) => loss < best - needed,
            (Some(loss), None) => loss.is_finite(),
            (None, _) => true,
        };
        lower && self.is_eligible(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(loss: f64, kl: f64) -> Measured {
        Measured { step: 1, loss: Some(loss), kl: Some(kl) }
    }

    #[test]
    fn an_adapter_above_the_ceiling_never_improves() {
        let mut settings = Nightshift::default();
        let (near, far) = (measured(2.0, 0.1), measured(1.0, 0.3));
        assert!(far.improves_on(Some(&near), &settings), "without a ceiling");
        settings.retention = Some(Retention { max_kl: Some(0.2), ..Retention::default() });
        assert!(near.improves_on(None, &settings));
        assert!(!far.improves_on(Some(&near), &settings) && !far.improves_on(None, &settings));
        assert!(measured(1.9, 0.2).improves_on(Some(&near), &settings), "at the ceiling");
        assert!(!measured(1.0, f64::NAN).improves_on(Some(&near), &settings));
        assert!(!measured(f64::NAN, 0.0).improves_on(None, &settings));
        settings.early_stop = Some(EarlyStop { min_delta: 0.5, ..EarlyStop::new(1) });
        assert!(!measured(1.6, 0.0).improves_on(Some(&near), &settings));
    }

    #[test]
    fn without_validation_rows_the_later_one_is_better() {
        let retention = Some(Retention { max_kl: Some(0.2), ..Retention::default() });
        let settings = Nightshift { retention, ..Nightshift::default() };
        let at = |kl| Measured { step: 1, loss: None, kl: Some(kl) };
        assert!(at(0.2).improves_on(Some(&at(0.1)), &settings));
        assert!(!at(0.3).improves_on(Some(&at(0.1)), &settings));
    }
}
