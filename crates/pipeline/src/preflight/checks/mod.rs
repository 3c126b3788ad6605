//! The checks of a preflight, one file for each group, and the list of all of them.

mod benchmark;
mod data_conversion;
mod enrichment;
pub(super) mod machine;
mod model_availability;
mod pipeline_config;
mod tonight;
mod training_config;
mod training_runs;

use CheckGroup::{
    Benchmark, DataConversion, Enrichment, Machine, ModelAvailability, PipelineConfig, Tonight,
    TrainingConfig, TrainingRuns,
};

use super::finding::Finding;
use super::rehearsal::Rehearsal;
use super::report::CheckGroup;

/// One check: a function from the results of the rehearsal to a finding.
pub(super) struct Check {
    pub group: CheckGroup,
    pub name: &'static str,
    pub run: fn(&Rehearsal<'_>) -> Finding,
}

const fn check(group: CheckGroup, name: &'static str, run: fn(&Rehearsal<'_>) -> Finding) -> Check {
    Check { group, name, run }
}

/// All checks, in the order of the report: the seed's 21 under its names, then the others.
pub(super) const CHECKS: &[Check] = &[
    check(DataConversion, "Qwen token stripping", data_conversion::qwen_token_stripping),
    check(DataConversion, "output format", data_conversion::output_format),
    check(DataConversion, "no leakage", data_conversion::no_leakage),
    check(Enrichment, "OBLITERATUS/CL4R1T4S output", enrichment::output),
    check(Enrichment, "format", enrichment::format),
    check(Enrichment, "count", enrichment::count),
    check(TrainingConfig, "YAML validity", training_config::yaml_validity),
    check(TrainingConfig, "param ranges: LoRA", training_config::lora_ranges),
    check(TrainingConfig, "param ranges: schedule", training_config::schedule_ranges),
    check(ModelAvailability, "config.json", model_availability::config_json),
    check(ModelAvailability, "safetensors", model_availability::safetensors),
    check(ModelAvailability, "tokenizer", model_availability::tokenizer),
    check(ModelAvailability, "chat template", model_availability::chat_template),
    check(TrainingRuns, "2-iter execution", training_runs::two_iterations),
    check(TrainingRuns, "peak memory < 60GB", training_runs::peak_memory),
    check(PipelineConfig, "Default=gemma4", pipeline_config::default_gemma4),
    check(PipelineConfig, "paths", pipeline_config::paths),
    check(PipelineConfig, "qwen fallback", pipeline_config::qwen_fallback),
    check(PipelineConfig, "score fix", pipeline_config::score_fix),
    check(Benchmark, "Carmack eval exists", benchmark::exists),
    check(Benchmark, "Carmack eval loads", benchmark::loads),
    check(Machine, "disk", machine::disk),
    check(Machine, "memory", machine::memory),
    check(Machine, "lock", machine::lock),
    check(Machine, "clock", machine::clock),
    check(Machine, "schedule", machine::schedule),
    check(Tonight, "config lints", tonight::config_lints),
    check(Tonight, "adapter keys", tonight::adapter_keys),
    check(Tonight, "suite check", tonight::suite_check),
    check(Tonight, "contamination", tonight::contamination),
    check(Tonight, "dress rehearsal", tonight::dress_rehearsal),
    check(Tonight, "previous night", tonight::previous_night),
];
