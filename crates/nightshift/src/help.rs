//! The end of every `--help`: exit codes and environment variables.

use clap::Command;

/// What an exit code means.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "done; of a night: promoted"),
    ("1", "the gate or a check said no"),
    ("2", "bad input or configuration"),
    ("3", "a budget ran out; the progress is saved"),
    ("4", "of preflight: no check failed, but some did not run"),
    ("5", "of a night: nothing has changed since the last one"),
    (
        "130, 143",
        "stopped by SIGINT (Ctrl-C) or SIGTERM; a night or a training has saved its progress",
    ),
    ("141", "the reader of stdout closed the pipe"),
];

/// The variables that a command reads.
pub(crate) const VARIABLES: &[(&str, &str)] = &[
    ("SANCTUM_TRAIN_MODEL", "which of the night file's models to train"),
    ("NIGHTSHIFT_SERVE_TOKEN", "the token that the server asks for"),
    ("NIGHTSHIFT_KERNELS", "native, native-f32 or blas, in place of the device's default"),
    ("MLX_RANK, MLX_HOSTFILE", "which of several training processes this is, and their addresses"),
    ("NIGHTSHIFT_RANK_TIMEOUT", "seconds without a sign of life after which a process is lost: 30"),
    ("NIGHTSHIFT_CACHE", "the folder for the demo's model and fetched files"),
    ("HF_HOME, HF_HUB_CACHE", "where models of the Hugging Face hub are kept"),
    ("HF_ENDPOINT, HF_TOKEN", "which hub is asked, and with which token"),
    ("HF_TOKEN_PATH", "the file of the token"),
    ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1: no token is read from a file"),
    ("HF_HUB_OFFLINE", "1: the hub is never asked"),
    ("OPENBLAS_CORETYPE", "the processor that OpenBLAS assumes, such as HASWELL"),
    ("NO_COLOR", "no colours"),
];

/// The command and its subcommands, each with the notes at the end of `--help`.
pub(crate) fn with_notes(command: Command) -> Command {
    command.after_long_help(notes()).mut_subcommands(with_notes)
}

fn notes() -> String {
    let list = |title: &str, rows: &[(&str, &str)]| {
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let lines = rows.iter().map(|(name, meaning)| format!("  {name:<width$}  {meaning}\n"));
        format!("{title}\n{}", lines.collect::<String>())
    };
    let codes = list("Exit codes:", EXIT_CODES);
    format!("{codes}\n{}", list("Environment:", VARIABLES).trim_end())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::{EXIT_CODES, VARIABLES};

    #[test]
    fn every_exit_code_is_in_the_page_about_trouble() {
        let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/trouble.md");
        let guide = fs::read_to_string(guide).unwrap();
        let (table, _) = guide.split_once("## Classes").unwrap();
        let told: BTreeSet<&str> = table
            .lines()
            .filter_map(|line| line.split(" | ").nth(1))
            .flat_map(|codes| codes.split(", "))
            .collect();
        let codes = EXIT_CODES.iter().flat_map(|(codes, _)| codes.split(", "));
        let missing: Vec<_> = codes.filter(|code| *code != "0" && !told.contains(code)).collect();
        assert!(missing.is_empty(), "{missing:?} are not among {told:?}");
    }

    /// The quoted names of our variables in the sources below `folder`.
    fn collect(folder: &Path, found: &mut BTreeSet<String>) {
        for item in fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                // Variables of tests, which start themselves again, are nobody else's.
                let ours = |word: &&str| {
                    !word.starts_with("NIGHTSHIFT_TEST_")
                        && ["NIGHTSHIFT_", "SANCTUM_", "HF_"]
                            .iter()
                            .any(|start| word.len() > start.len() && word.starts_with(start))
                        && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                };
                found.extend(text.split('"').filter(ours).map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_variable_that_is_read_is_in_the_help() {
        let (crates, mut found) =
            (Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), BTreeSet::new());
        for item in fs::read_dir(crates).unwrap() {
            let source = item.unwrap().path().join("src");
            if source.is_dir() {
                collect(&source, &mut found);
            }
        }
        let told: BTreeSet<&str> =
            VARIABLES.iter().flat_map(|(names, _)| names.split(", ")).collect();
        assert!(found.len() > 8, "{found:?}");
        let missing: Vec<_> = found.iter().filter(|name| !told.contains(name.as_str())).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
