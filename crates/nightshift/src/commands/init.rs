//! Writes the files of a new household.
//!
//! ```sh
//! nightshift init ~/household
//! cd ~/household && nightshift preflight --config night.yaml
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use serde_json::json;
use tempfile::NamedTempFile;

use crate::Exit;

/// The files, in the order in which their owner changes them.
const FILES: [(&str, &str); 5] = [
    ("night.yaml", include_str!("../init/night.yaml")),
    ("council.yaml", include_str!("../init/council.yaml")),
    ("facts.yaml", include_str!("../init/facts.yaml")),
    ("exam.json", include_str!("../init/exam.json")),
    ("lora.yaml", include_str!("../init/lora.yaml")),
];

/// Writes the files of a new household: a night, its agents, their facts, an exam of 20 cases, a training recipe.
///
/// Asks nothing and never replaces a file. The night can run as it is, with the demo's model; the comments in the files
/// say what to change.
#[derive(Parser)]
pub struct Args {
    /// The folder; it is created if there is none.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Print one JSON object on stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A file that is there already, or that cannot be written.
pub fn run(args: Args) -> anyhow::Result<Exit> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir)
        .with_context(|| format!("{}: cannot create the folder", dir.display()))?;
    let paths = FILES.map(|(name, _)| dir.join(name));
    let found = paths.iter().filter(|path| path.symlink_metadata().is_ok());
    let found: Vec<_> = found.map(|path| path.display().to_string()).collect();
    if !found.is_empty() {
        bail!("{}: expected no file, as none is replaced; name another folder", found.join(", "));
    }
    for (path, (_, text)) in paths.iter().zip(FILES) {
        write_new(dir, path, text).with_context(|| format!("{}: cannot write", path.display()))?;
        errln!("{}", path.display());
    }
    let config = dir.join("night.yaml");
    if dir == Path::new(".") {
        errln!("next:");
    } else {
        errln!("next: cd {}", quoted(dir));
    }
    errln!("      nightshift preflight     rehearses the night, which takes minutes");
    errln!("      nightshift night         trains, examines and decides");
    if args.json {
        outln!("{}", json!({ "files": paths, "config": config }))?;
    }
    Ok(Exit::Done)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Writes a file that is whole or absent, and fails if there is one by now.
fn write_new(dir: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}
