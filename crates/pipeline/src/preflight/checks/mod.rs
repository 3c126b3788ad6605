//! The checks of a preflight, one file for each group, and the list of all of them.

mod benchmark;
mod data_conversion;
mod enrichment;
pub(super) mod machine;
mod model_availability;
mod pipeline_config;
mod preference;
mod time;
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
use crate::format;

/// A check: its group, its name (see [`name`]), and a function from the results of the rehearsal to a finding.
type Check = (CheckGroup, &'static str, fn(&Rehearsal<'_>) -> Finding);

/// All checks, in the order of the report: the seed's 21, which have its names with its night file, then the others.
pub(super) const CHECKS: &[Check] = &[
    (DataConversion, "Qwen token stripping", data_conversion::qwen_token_stripping),
    (DataConversion, "output format", data_conversion::output_format),
    (DataConversion, "no leakage", data_conversion::no_leakage),
    (Enrichment, "OBLITERATUS/CL4R1T4S output", enrichment::output),
    (Enrichment, "format", enrichment::format),
    (Enrichment, "count", enrichment::count),
    (TrainingConfig, "YAML validity", training_config::yaml_validity),
    (TrainingConfig, "param ranges: LoRA", training_config::lora_ranges),
    (TrainingConfig, "param ranges: schedule", training_config::schedule_ranges),
    (ModelAvailability, "config.json", model_availability::config_json),
    (ModelAvailability, "safetensors", model_availability::safetensors),
    (ModelAvailability, "tokenizer", model_availability::tokenizer),
    (ModelAvailability, "chat template", model_availability::chat_template),
    (TrainingRuns, "2-iter execution", training_runs::two_iterations),
    (TrainingRuns, "peak memory < {limit}", training_runs::peak_memory),
    (PipelineConfig, "Default={default}", pipeline_config::default_model),
    (PipelineConfig, "paths", pipeline_config::paths),
    (PipelineConfig, "{others} fallback", pipeline_config::fallback),
    (PipelineConfig, "score fix", pipeline_config::score_fix),
    (Benchmark, "Carmack eval exists", benchmark::exists),
    (Benchmark, "Carmack eval loads", benchmark::loads),
    (Machine, "disk", machine::disk),
    (Machine, "memory", machine::memory),
    (Machine, "lock", machine::lock),
    (Machine, "clock", machine::clock),
    (Machine, "time", time::time_plan),
    (Machine, "schedule", machine::schedule),
    (Machine, "notifications", machine::notifications),
    (Tonight, "config lints", tonight::config_lints),
    (Tonight, "preference training", preference::preference_training),
    (Tonight, "adapter keys", tonight::adapter_keys),
    (Tonight, "suite check", tonight::suite_check),
    (Tonight, "contamination", tonight::contamination),
    (Tonight, "dress rehearsal", tonight::dress_rehearsal),
    (Tonight, "previous night", tonight::previous_night),
];

/// The name of a check: names and limits of the household come from its file.
pub(super) fn name(check: &str, rehearsal: &Rehearsal<'_>) -> String {
    let file = rehearsal.file;
    let limit = training_runs::limit(&rehearsal.config);
    let short = |bytes| format::bytes(bytes).replace(".0 ", "").replace(' ', "");
    let limit = limit.map_or("unknown".to_owned(), short);
    let name = check.replace("{default}", &file.default_model()).replace("{limit}", &limit);
    name.replace("{others}", &pipeline_config::fallbacks(file).join("/")).trim().to_owned()
}
