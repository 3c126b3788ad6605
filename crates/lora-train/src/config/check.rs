//! Validation: the ranges of all values, and keys that exclude each other.

use super::{FineTuneType, Retention, TrainConfig, TrainMode};
use crate::{Result, Schedule};

impl TrainConfig {
    /// Checks the range of every value, and keys that exclude each other. Reading a file does this
    /// already; call it after changing fields in code.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for the first invalid value.
    pub fn validate(&self) -> Result<()> {
        self.check_amounts()?;
        self.check_adapter()?;
        self.check_optimizer()?;
        self.check_nightshift()?;
        self.check_preference()?;
        self.check_exclusions()?;
        // Checks the arguments of the schedule.
        Schedule::new(self, self.updates(1)).map(drop)
    }

    fn check_amounts(&self) -> Result<()> {
        let counts = [
            ("batch_size", self.batch_size as u64),
            ("grad_accumulation_steps", self.grad_accumulation_steps as u64),
            ("iters", self.iters),
            ("steps_per_report", self.steps_per_report),
            ("steps_per_eval", self.steps_per_eval),
            ("save_every", self.save_every),
            ("nightshift.max_tokens_per_step", self.nightshift.max_tokens_per_step as u64),
        ];
        for (key, count) in counts {
            self.require(key, count >= 1, "at least 1", count)?;
        }
        let shortest = "at least 2 tokens: one input and one target";
        self.require("max_seq_length", self.max_seq_length >= 2, shortest, self.max_seq_length)
    }

    fn check_adapter(&self) -> Result<()> {
        let lora = &self.lora_parameters;
        self.require("lora_parameters.rank", lora.rank >= 1, "at least 1", lora.rank)?;
        let dropout = lora.dropout;
        let share = "at least 0 and below 1";
        self.require("lora_parameters.dropout", (0.0..1.0).contains(&dropout), share, dropout)?;
        for (key, value) in
            [("lora_parameters.scale", lora.scale), ("lora_parameters.alpha", lora.alpha)]
        {
            self.require_positive(key, value)?;
        }
        if let Some(keys) = &lora.keys {
            let some = "at least one linear layer; omit `keys` to adapt all";
            self.require("lora_parameters.keys", !keys.is_empty(), some, "an empty list")?;
        }
        self.check_alpha()
    }

    /// `scale` takes precedence over `alpha`. If they disagree, one of them is not what was intended.
    fn check_alpha(&self) -> Result<()> {
        let scaling = self.nightshift.scaling;
        let lora = &self.lora_parameters;
        let (Some(implied), Some(scale)) = (lora.alpha_scale(scaling), lora.scale) else {
            return Ok(());
        };
        let agrees = (implied - scale).abs() <= 1e-6 * scale;
        let expected = format!(
            "{implied}, which is {} = {}/{}; or only one of `alpha` and `scale`",
            scaling.formula(),
            lora.alpha.unwrap_or_default(),
            lora.rank,
        );
        self.require("lora_parameters.scale", agrees, expected, scale)
    }

    fn check_optimizer(&self) -> Result<()> {
        self.require_positive("learning_rate", Some(self.learning_rate))?;
        let all = &self.optimizer_config;
        let decays = [
            ("adam.betas", all.adam.betas.0),
            ("adam.betas", all.adam.betas.1),
            ("adamw.betas", all.adamw.betas.0),
            ("adamw.betas", all.adamw.betas.1),
            ("lion.betas", all.lion.betas.0),
            ("lion.betas", all.lion.betas.1),
            ("muon.momentum", all.muon.momentum),
            ("sgd.momentum", all.sgd.momentum),
            ("sgd.dampening", all.sgd.dampening),
            ("adafactor.beta_1", all.adafactor.beta_1.unwrap_or(0.0)),
        ];
        for (key, decay) in decays {
            let key = format!("optimizer_config.{key}");
            let inside = (0.0..1.0).contains(&decay);
            self.require(&key, inside, "at least 0 and below 1", decay)?;
        }
        let amounts = [
            ("adam.eps", all.adam.eps),
            ("adamw.eps", all.adamw.eps),
            ("adamw.weight_decay", all.adamw.weight_decay),
            ("lion.weight_decay", all.lion.weight_decay),
            ("muon.weight_decay", all.muon.weight_decay),
            ("sgd.weight_decay", all.sgd.weight_decay),
            ("adafactor.weight_decay", all.adafactor.weight_decay),
            ("adafactor.eps", all.adafactor.eps.0),
            ("adafactor.eps", all.adafactor.eps.1),
        ];
        for (key, amount) in amounts {
            let key = format!("optimizer_config.{key}");
            let sound = amount.is_finite() && amount >= 0.0;
            self.require(&key, sound, "a number of at least 0", amount)?;
        }
        let clip = all.adafactor.clip_threshold;
        self.require_positive("optimizer_config.adafactor.clip_threshold", Some(clip))?;
        let rate = all.adafactor.decay_rate;
        let key = "optimizer_config.adafactor.decay_rate";
        self.require(key, rate.is_finite() && rate < 0.0, "a number below 0", rate)?;
        let sgd = &all.sgd;
        let sound = !sgd.nesterov || (sgd.momentum > 0.0 && sgd.dampening == 0.0);
        let key = "optimizer_config.sgd.nesterov";
        self.require(key, sound, "false, or a momentum above 0 and no dampening", sgd.nesterov)
    }

    fn check_nightshift(&self) -> Result<()> {
        let ours = &self.nightshift;
        self.require_positive("nightshift.epochs", ours.epochs)?;
        self.require_positive("nightshift.max_grad_norm", ours.max_grad_norm)?;
        if let Some(share) = ours.warmup_share {
            let key = "nightshift.warmup_share";
            self.require(key, (0.0..1.0).contains(&share), "at least 0 and below 1", share)?;
        }
        if let Some(lanes) = ours.lanes {
            self.require("nightshift.lanes", lanes >= 1, "at least 1", lanes)?;
        }
        if let Some(limit) = ours.memory_limit {
            self.require("nightshift.memory_limit", limit.0 > 0, "more than 0 bytes", limit)?;
        }
        if let Some(budget) = ours.time_budget {
            let found = format!("{budget:?}");
            self.require("nightshift.time_budget", !budget.is_zero(), "more than 0 s", found)?;
        }
        if let Some(stop) = ours.early_stop {
            let key = "nightshift.early_stop.patience";
            self.require(key, stop.patience >= 1, "at least 1", stop.patience)?;
            let delta = stop.min_delta;
            let sound = delta.is_finite() && delta >= 0.0;
            let key = "nightshift.early_stop.min_delta";
            self.require(key, sound, "a number of at least 0", delta)?;
        }
        for (path, &rank) in &ours.rank_pattern {
            self.require(
                &format!("nightshift.rank_pattern.{path}"),
                rank >= 1,
                "at least 1",
                rank,
            )?;
        }
        if let Some(layers) = &ours.layers {
            let mut sorted = layers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let sound = !layers.is_empty() && sorted.len() == layers.len();
            let found = format!("{layers:?}");
            self.require("nightshift.layers", sound, "layer indices, each once", found)?;
        }
        self.require_positive("nightshift.kl.weight", ours.kl.map(|kl| kl.weight))?;
        self.check_retention()?;
        let kept = ours.keep_checkpoints;
        self.require("nightshift.keep_checkpoints", kept >= 1, "at least 1", kept)
    }

    fn check_retention(&self) -> Result<()> {
        let Some(Retention { rows, max_kl }) = self.nightshift.retention else { return Ok(()) };
        self.require("nightshift.retention.rows", rows >= 1, "at least 1", rows)?;
        let key = "nightshift.retention.max_kl";
        self.require_positive(key, max_kl)?;
        let kept = max_kl.is_none() || self.nightshift.eval_best;
        let expected = "`eval_best: true` beside it, for a final adapter within this limit";
        self.require(key, kept, expected, "none")
    }

    /// Keys that exclude each other, and values that are not supported.
    fn check_exclusions(&self) -> Result<()> {
        let ours = &self.nightshift;
        let both = |a: &str, b: &str| self.origin.has(a) && self.origin.has(b);
        let only_one = |ours: &str, theirs: &str| {
            self.require(ours, !both(ours, theirs), format!("only this or `{theirs}`"), "both")
        };
        only_one("nightshift.epochs", "iters")?;
        only_one("nightshift.layers", "num_layers")?;
        only_one("nightshift.warmup_share", "lr_schedule.warmup")?;
        let scheduled = ours.warmup_share.is_none() || self.lr_schedule.is_some();
        self.require("nightshift.warmup_share", scheduled, "an `lr_schedule`", "none")?;
        let low_rank = self.fine_tune_type != FineTuneType::Full;
        self.require("fine_tune_type", low_rank, "lora or dora", "full")?;
        let measured = !self.test || self.mode() == TrainMode::Sft;
        self.require(
            "test",
            measured,
            "false with pairs, of which no test loss is measured",
            true,
        )?;
        let local = self.hf_dataset.is_none();
        self.require("hf_dataset", local, "local files, in `data`", "a data set on a hub")
    }

    pub(super) fn require(
        &self,
        key: &str,
        holds: bool,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Result<()> {
        if holds { Ok(()) } else { Err(self.invalid(key, expected, found)) }
    }

    pub(super) fn require_positive(&self, key: &str, value: Option<f64>) -> Result<()> {
        let value = value.unwrap_or(1.0);
        let holds = value.is_finite() && value > 0.0;
        self.require(key, holds, "a finite number above 0", value)
    }
}
