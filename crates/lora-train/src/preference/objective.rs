//! The losses of one pair, in f64.

/// The log-probability of an answer's tokens after its prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Sum over the tokens, by the model that is trained.
    pub sum: f64,
    /// Sum over the tokens, by the reference model; ignored by losses without one.
    pub reference: f64,
    /// The number of tokens, at least 1.
    pub tokens: usize,
}

/// The number by which a loss compares two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// `ln p - ln p_ref`.
    LogRatio,
    /// `(ln p - ln p_ref) / tokens`.
    MeanLogRatio,
    /// `ln p`.
    Sum,
    /// `ln p / tokens`.
    Mean,
    /// `ln(q / (1 - q))` with `q = exp(ln p / tokens)`.
    LogOdds,
}

/// A loss of a pair, as a function of the difference `D` of two scores. `s` is the logistic function and
/// `b` the objective's beta.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Preference {
    /// `-ln s(b D)`: DPO (arXiv:2305.18290) of log-ratios, CPO (arXiv:2401.08417) of sums.
    Sigmoid(Score),
    /// `-(1 - e) ln s(b D - g) - e ln s(g - b D)` with the margin `g` and the share of flipped labels
    /// `e`: SimPO (arXiv:2405.14734) of means.
    Margin {
        /// What is compared.
        score: Score,
        /// `g`.
        gamma: f64,
        /// `e`.
        label_smoothing: f64,
    },
    /// `max(0, 1 - b D)` (arXiv:2309.06657).
    Hinge(Score),
    /// `(D - 1 / (2 b))^2`: IPO (arXiv:2310.12036) of mean log-ratios.
    Square(Score),
    /// `(-(1 - e) ln s(b D) + e ln s(-b D)) / (1 - 2 e)` of log-ratios: robust DPO (arXiv:2403.00409).
    Robust {
        /// `e`, the share of flipped labels.
        label_smoothing: f64,
    },
    /// `-ln s(b D) + d max(0, ln p_ref(chosen) - ln p(chosen))` of log-ratios: DPO-positive
    /// (arXiv:2402.13228) as mlx-lm-lora computes it.
    Positive {
        /// `d`.
        delta: f64,
    },
    /// `-b ln s(D)` of log-odds: the second term of ORPO (arXiv:2403.07691), whose first is
    /// [`Objective::with_nll`].
    OddsRatio,
}

/// A loss of each answer alone, as a function of its log-ratio and the objective's
/// [baseline](Objective::with_baseline) `k`: `w (1 - s(b (C - k)))` of chosen and `w (1 - s(b (k - R)))` of
/// rejected answers. That of a pair is the mean of both.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unpaired {
    /// `w` of chosen answers.
    pub desirable_weight: f64,
    /// `w` of rejected answers.
    pub undesirable_weight: f64,
    /// What log-ratios are compared with.
    pub baseline: Baseline,
}

/// What the log-ratios of answers are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Baseline {
    /// An estimate of the divergence from the reference model: KTO (arXiv:2402.01306).
    Divergence,
    /// 0: the unpaired form of APO-zero (arXiv:2408.06266).
    Zero,
}

/// What is minimized: the mean over the pairs of an update of a weighted sum of losses, plus the mean
/// negative log-likelihood of the tokens of the chosen answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    beta: f64,
    terms: Vec<(Preference, f64)>,
    unpaired: Option<Unpaired>,
    nll: f64,
    baseline: f64,
}

/// The loss of a pair and its derivatives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairLoss {
    /// The loss, without the negative log-likelihood.
    pub loss: f64,
    /// With respect to the chosen answer's `sum`: the same for the log-probability of each token.
    pub chosen: f64,
    /// With respect to the rejected answer's `sum`.
    pub rejected: f64,
}

impl Objective {
    /// An objective without a term.
    pub fn new(beta: f64) -> Self {
        Self { beta, terms: Vec::new(), unpaired: None, nll: 0.0, baseline: 0.0 }
    }

    /// Adds a loss with this weight.
    #[must_use]
    pub fn with(mut self, preference: Preference, weight: f64) -> Self {
        self.terms.push((preference, weight));
        self
    }

    /// Adds a loss of each answer alone.
    #[must_use]
    pub fn with_unpaired(self, unpaired: Unpaired) -> Self {
        Self { unpaired: Some(unpaired), ..self }
    }

    /// Sets the estimate of the divergence from the reference model: the mean log-ratio of answers to other
    /// prompts than theirs. A negative one counts as 0.
    #[must_use]
    pub fn with_baseline(self, baseline: f64) -> Self {
        Self { baseline: baseline.max(0.0), ..self }
    }

    /// The estimate of the divergence; `None` if no loss compares with it.
    pub fn baseline(&self) -> Option<f64> {
        let unpaired = self.unpaired?;
        (unpaired.baseline == Baseline::Divergence).then_some(self.baseline)
    }

    /// Sets the weight of the chosen answers' negative log-likelihood.
    #[must_use]
    pub fn with_nll(self, nll: f64) -> Self {
        Self { nll, ..self }
    }

    /// The weight of the chosen answers' negative log-likelihood, per token.
    pub fn nll(&self) -> f64 {
        self.nll
    }

    /// Whether a loss compares with a reference model.
    pub fn needs_reference(&self) -> bool {
        let score = |(preference, _): &(Preference, f64)| preference.score();
        self.unpaired.is_some() || self.terms.iter().map(score).any(|score| score.uses_reference())
    }

    /// The loss of a pair and its derivatives.
    pub fn pair(&self, chosen: Answer, rejected: Answer) -> PairLoss {
        let mut total = PairLoss::default();
        for (preference, weight) in &self.terms {
            let PairLoss { loss, chosen, rejected } = preference.pair(self.beta, chosen, rejected);
            total.loss += weight * loss;
            total.chosen += weight * chosen;
            total.rejected += weight * rejected;
        }
        if let Some(unpaired) = &self.unpaired {
            let baseline = self.baseline().unwrap_or_default();
            let (loss, slope) = unpaired.chosen(self.beta, chosen, baseline);
            let (other_loss, other_slope) = unpaired.rejected(self.beta, rejected, baseline);
            total.loss += (loss + other_loss) / 2.0;
            total.chosen += slope / 2.0;
            total.rejected += other_slope / 2.0;
        }
        total
    }

    /// An answer's implicit reward: beta times the score that the first loss compares. For ORPO it is
    /// beta times the mean log-probability.
    pub fn reward(&self, answer: Answer) -> f64 {
        let score = match self.terms.first().map(|(preference, _)| preference.score()) {
            None if self.unpaired.is_some() => Score::LogRatio,
            None | Some(Score::LogOdds) => Score::Mean,
            // Mean log-ratios are compared, but rewards are reported of whole answers.
            Some(Score::MeanLogRatio) => Score::LogRatio,
            Some(score) => score,
        };
        self.beta * score.of(answer).0
    }
}

impl Preference {
    fn score(&self) -> Score {
        match *self {
            Self::Sigmoid(score) | Self::Hinge(score) | Self::Square(score) => score,
            Self::Margin { score, .. } => score,
            Self::Robust { .. } | Self::Positive { .. } => Score::LogRatio,
            Self::OddsRatio => Score::LogOdds,
        }
    }

    fn pair(&self, beta: f64, chosen: Answer, rejected: Answer) -> PairLoss {
        let score = self.score();
        let [(a, a_slope), (b, b_slope)] = [score.of(chosen), score.of(rejected)];
        let (loss, slope) = self.of_difference(beta, a - b);
        let mut pair = PairLoss { loss, chosen: slope * a_slope, rejected: -slope * b_slope };
        if let Self::Positive { delta } = *self {
            let fall = chosen.reference - chosen.sum;
            if fall > 0.0 {
                pair.loss += delta * fall;
                pair.chosen -= delta;
            }
        }
        pair
    }

    /// The loss of a difference of scores, and its derivative.
    fn of_difference(&self, beta: f64, difference: f64) -> (f64, f64) {
        let x = beta * difference;
        match *self {
            Self::Sigmoid(_) | Self::Positive { .. } => (-ln_sigmoid(x), -beta * sigmoid(-x)),
            Self::Margin { gamma, label_smoothing: e, .. } => {
                let x = x - gamma;
                let loss = -(1.0 - e) * ln_sigmoid(x) - e * ln_sigmoid(-x);
                (loss, beta * (e * sigmoid(x) - (1.0 - e) * sigmoid(-x)))
            }
            Self::Hinge(_) if x < 1.0 => (1.0 - x, -beta),
            Self::Hinge(_) => (0.0, 0.0),
            Self::Square(_) => {
                let apart = difference - 1.0 / (2.0 * beta);
                (apart * apart, 2.0 * apart)
            }
            Self::Robust { label_smoothing: e } => {
                let loss = -(1.0 - e) * ln_sigmoid(x) + e * ln_sigmoid(-x);
                let slope = -beta * ((1.0 - e) * sigmoid(-x) + e * sigmoid(x));
                (loss / (1.0 - 2.0 * e), slope / (1.0 - 2.0 * e))
            }
            Self::OddsRatio => (-beta * ln_sigmoid(difference), -beta * sigmoid(-difference)),
        }
    }
}

impl Unpaired {
    /// The loss of a chosen answer and its derivative with respect to `sum`.
    fn chosen(&self, beta: f64, answer: Answer, baseline: f64) -> (f64, f64) {
        let x = beta * (answer.sum - answer.reference - baseline);
        let weight = self.desirable_weight;
        (weight * sigmoid(-x), -weight * beta * sigmoid(x) * sigmoid(-x))
    }

    /// The same of a rejected answer.
    fn rejected(&self, beta: f64, answer: Answer, baseline: f64) -> (f64, f64) {
        let x = beta * (baseline - (answer.sum - answer.reference));
        let weight = self.undesirable_weight;
        (weight * sigmoid(-x), weight * beta * sigmoid(x) * sigmoid(-x))
    }
}

impl Score {
    fn uses_reference(self) -> bool {
        matches!(self, Self::LogRatio | Self::MeanLogRatio)
    }

    /// The score of an answer and its derivative with respect to `sum`.
    fn of(self, Answer { sum, reference, tokens }: Answer) -> (f64, f64) {
        let tokens = tokens.max(1) as f64;
        match self {
            Self::LogRatio => (sum - reference, 1.0),
            Self::MeanLogRatio => ((sum - reference) / tokens, tokens.recip()),
            Self::Sum => (sum, 1.0),
            Self::Mean => (sum / tokens, tokens.recip()),
            Self::LogOdds => {
                // A probability of 1 has no finite odds.
                let mean = (sum / tokens).min(-1e-6);
                (mean - ln_1m_exp(mean), -mean.exp_m1().recip() / tokens)
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => 1.0 / (1.0 + (-x).exp()),
        false => x.exp() / (1.0 + x.exp()),
    }
}

/// `ln(sigmoid(x))`.
fn ln_sigmoid(x: f64) -> f64 {
    match x >= 0.0 {
        true => -(-x).exp().ln_1p(),
        false => x - x.exp().ln_1p(),
    }
}

/// `ln(1 - exp(x))` of a negative `x`.
fn ln_1m_exp(x: f64) -> f64 {
    match x < -std::f64::consts::LN_2 {
        true => (-x.exp()).ln_1p(),
        false => (-x.exp_m1()).ln(),
    }
}
