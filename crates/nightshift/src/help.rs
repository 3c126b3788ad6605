//! The end of every `--help`: exit codes and environment variables.

use clap::Command;

/// What an exit code means.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done; of a night: promoted"),
    ("1", "the gate or a check said no"),
    ("2", "bad input or configuration"),
    ("3", "a budget ran out; the progress is saved"),
    ("141", "the reader of stdout closed the pipe"),
];

/// The variables that a command reads.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("SANCTUM_TRAIN_MODEL", "which of the night file's models to train"),
    ("NIGHTSHIFT_SERVE_TOKEN", "the token that the server asks for"),
    ("NIGHTSHIFT_KERNELS", "native, native-f32 or blas, in place of the device's default"),
    ("NIGHTSHIFT_CACHE", "the folder for the demo's model and fetched files"),
    ("HF_HOME, HF_HUB_CACHE", "where models of the Hugging Face hub are kept"),
    ("HF_ENDPOINT, HF_TOKEN", "which hub is asked, and with which token"),
    ("HF_HUB_OFFLINE", "1: the hub is never asked"),
    (
        "OPENBLAS_CORETYPE",
        "the processor that OpenBLAS computes for, if it recognizes the wrong one",
    ),
    ("NO_COLOR", "no colours"),
];

/// The command and its subcommands, each with the notes at the end of `--help`.
pub(crate) fn with_notes(command: Command) -> Command {
    command.after_long_help(notes()).mut_subcommands(with_notes)
}

fn notes() -> String {
    let list = |title: &str, rows: &[(&str, &str)]| {
        let lines = rows.iter().map(|(name, meaning)| format!("  {name:<24} {meaning}\n"));
        format!("{title}\n{}", lines.collect::<String>())
    };
    let codes = list("Exit codes:", EXIT_CODES);
    format!("{codes}\n{}", list("Environment:", VARIABLES).trim_end())
}
