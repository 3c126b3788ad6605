//! A copy of the program for the jobs, which outlives `cargo clean` and the next build.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use memchr::{memchr, memmem, memrchr};

use crate::error::{Error, Result, io_error};

/// The library of `mlx-sys` that every program is linked to, by its absolute path in cargo's target folder. Its own
/// run-time path leads to MLX and OpenBLAS, in the folder `site` beside its own.
const LIBRARY: &str =
    if cfg!(target_os = "macos") { "libnightshift_mlx.dylib" } else { "libnightshift_mlx.so" };

/// The folder above that of the file which the loader has at hand.
const ABOVE: &str = if cfg!(target_os = "macos") { "@loader_path/.." } else { "$ORIGIN/.." };

/// The program that an example needs beside it: `preflight`, for `nightly`. Others, as `nightshift`, need none.
pub(super) fn companion(program: &Path) -> Option<PathBuf> {
    let is_nightly = program.file_stem().is_some_and(|name| name == "nightly");
    is_nightly.then(|| program.with_file_name("preflight"))
}

/// A program, and where its copy is: `ROOT/VERSION-DIGEST/bin`, with `lib` and `site` beside it.
#[derive(Debug)]
pub struct ProgramCopy {
    program: PathBuf,
    /// Another program that belongs to it.
    companion: Option<PathBuf>,
    /// The folder with `lib` and `site`; `None` for a program that needs no library of ours.
    libraries: Option<PathBuf>,
    folder: PathBuf,
}

impl ProgramCopy {
    /// The folder of the user's copies: `nightshift-program` in the data folder; `None` if the user has none.
    pub fn default_root() -> Option<PathBuf> {
        dirs::data_dir().map(|data| data.join("nightshift-program"))
    }

    /// Finds what `program` needs, and where its copy below `root` belongs. Another program or another library has
    /// another folder. A program that is such a copy stays where it is.
    ///
    /// # Errors
    /// A program or library that cannot be read.
    pub fn plan(program: &Path, root: &Path) -> Result<Self> {
        let program = program.canonicalize().map_err(io_error(program, "find the program"))?;
        let whole_root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let bytes = fs::read(&program).map_err(io_error(&program, "read"))?;
        let libraries = libraries(&program, &bytes)?;
        let companion = companion(&program);
        if let Some(path) = &companion {
            same_libraries(path, libraries.as_deref())?;
        }
        let folder =
            match program.strip_prefix(&whole_root).ok().and_then(|rest| rest.iter().next()) {
                Some(version) => whole_root.join(version),
                None => {
                    let digest = digest(&bytes, companion.as_deref(), libraries.as_deref())?;
                    root.join(format!("{}-{}", env!("CARGO_PKG_VERSION"), digest.short()))
                }
            };
        Ok(Self { program, companion, libraries, folder })
    }

    /// The folder with the libraries without which the program does not start; `None` if it needs none of ours.
    pub fn libraries(&self) -> Option<&Path> {
        self.libraries.as_deref()
    }

    /// The program of the copy.
    pub fn program(&self) -> PathBuf {
        self.folder.join("bin").join(self.program.file_name().unwrap_or_default())
    }

    /// Makes the copy, unless it is there: in a temporary folder, which is renamed once the copy starts.
    ///
    /// # Errors
    /// A file that cannot be copied, or a copy that does not start.
    pub fn make(&self) -> Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        let root = self.folder.parent().unwrap_or(Path::new("/"));
        crate::files::private_dir(root)?;
        let scratch = tempfile::Builder::new().prefix(".tmp-").tempdir_in(root);
        let scratch = scratch.map_err(io_error(root, "create a folder in"))?;
        let (bin, lib) = (scratch.path().join("bin"), scratch.path().join("lib"));
        if let Some(from) = &self.libraries {
            crate::files::private_dir(&lib)?;
            relocated(&from.join("lib").join(LIBRARY), &lib.join(LIBRARY), Some(from))?;
            let site = from.join("site");
            if site.is_dir() {
                copy_tree(&site, &scratch.path().join("site"))?;
            }
        }
        crate::files::private_dir(&bin)?;
        for program in [Some(&self.program), self.companion.as_ref()].into_iter().flatten() {
            let copied = bin.join(program.file_name().unwrap_or_default());
            relocated(program, &copied, self.libraries.as_deref())?;
            starts(&copied)?;
        }
        match fs::rename(scratch.path(), &self.folder) {
            Err(_) if self.folder.is_dir() => Ok(()), // another process has made it
            Err(error) => Err(io_error(&self.folder, "write")(error)),
            Ok(()) => {
                let _ = scratch.keep();
                File::open(root).and_then(|root| root.sync_all()).map_err(io_error(root, "write"))
            }
        }
    }

    /// Removes older copies, except the newest of them, from which a night may still run.
    ///
    /// # Errors
    /// A folder that cannot be listed or removed.
    pub fn remove_older(&self) -> Result<()> {
        let root = self.folder.parent().unwrap_or(Path::new("/"));
        let mut older = crate::files::list(root)?;
        older.retain(|path| *path != self.folder && path.is_dir());
        older.sort_by_key(|path| path.metadata().and_then(|about| about.modified()).ok());
        older.pop();
        let remove = |path: &PathBuf| fs::remove_dir_all(path).map_err(io_error(path, "remove"));
        older.iter().try_for_each(remove)
    }
}

/// The folder with the libraries that a program is linked to.
fn libraries(program: &Path, bytes: &[u8]) -> Result<Option<PathBuf>> {
    let ending = format!("/lib/{LIBRARY}\0");
    for end in memmem::find_iter(bytes, &ending) {
        let start = memrchr(0, bytes.get(..end).unwrap_or_default()).map_or(0, |zero| zero + 1);
        let Some(folder) = bytes.get(start..end).and_then(|path| std::str::from_utf8(path).ok())
        else {
            continue;
        };
        if folder == ABOVE {
            return Ok(program.parent().and_then(Path::parent).map(Path::to_path_buf));
        }
        if folder.starts_with('/') {
            let library = Path::new(folder).join("lib").join(LIBRARY);
            library.metadata().map_err(io_error(&library, "find a library of the program"))?;
            return Ok(Some(folder.into()));
        }
    }
    Ok(None)
}

/// Fails unless a program uses the libraries in `expected`.
fn same_libraries(program: &Path, expected: Option<&Path>) -> Result<()> {
    let bytes = fs::read(program).map_err(io_error(program, "read"))?;
    if libraries(program, &bytes)?.as_deref() == expected {
        return Ok(());
    }
    let reason =
        "expected a program of the same build as `nightly`, found another: build both".to_owned();
    Err(Error::Config { path: program.to_path_buf(), reason })
}

/// A digest of the programs, the library they are linked to, and the names and sizes of the other libraries.
fn digest(
    program: &[u8],
    companion: Option<&Path>,
    libraries: Option<&Path>,
) -> Result<durable::Digest> {
    let mut listing = durable::digest(program).to_string();
    if let Some(companion) = companion {
        listing += &durable::sha256_file(companion)?.to_string();
    }
    if let Some(folder) = libraries {
        listing += &durable::sha256_file(folder.join("lib").join(LIBRARY))?.to_string();
        let site = folder.join("site");
        let mut files = Vec::new();
        if site.is_dir() {
            walk(&site, &mut |path, about| {
                files.push(format!("{} {}", path.display(), about.len()));
                Ok(())
            })?;
        }
        files.sort();
        listing += &files.join("\n");
    }
    Ok(durable::digest(listing))
}

/// Copies a file. Paths in `folder` that are strings of their own in it, as the loader reads them, become relative to the
/// copy; they only get shorter, so nothing in the file moves.
fn relocated(from: &Path, to: &Path, folder: Option<&Path>) -> Result<()> {
    let mut bytes = fs::read(from).map_err(io_error(from, "read"))?;
    let changed = match folder.and_then(Path::to_str) {
        Some(folder) => relocate(&mut bytes, folder),
        None => false,
    };
    durable::write(to, &bytes)?;
    let permissions = from.metadata().map_err(io_error(from, "read"))?.permissions();
    fs::set_permissions(to, permissions).map_err(io_error(to, "make executable"))?;
    if changed && cfg!(target_os = "macos") {
        // A changed file has no valid signature, and Apple silicon starts nothing without one.
        run(Command::new("codesign").args(["--force", "--sign", "-"]).arg(to), to)?;
    }
    Ok(())
}

/// Replaces `folder` in lists of paths by [`ABOVE`]; returns whether there were any.
fn relocate(bytes: &mut [u8], folder: &str) -> bool {
    let inside = format!("{folder}/");
    let places: Vec<usize> = memmem::find_iter(bytes, &inside).collect();
    let mut changed = false;
    for start in places {
        let begins = start.checked_sub(1).is_none_or(|before| bytes.get(before) == Some(&0));
        let Some(rest) = bytes.get_mut(start..).filter(|_| begins) else { continue };
        let length = memchr(0, rest).unwrap_or(rest.len());
        let Some(old) = rest.get_mut(..length) else { continue };
        let Ok(text) = std::str::from_utf8(old) else { continue };
        let relative =
            text.split(':').map(|path| path.strip_prefix(&inside)).collect::<Option<Vec<_>>>();
        let Some(relative) = relative else { continue };
        let new =
            relative.iter().map(|path| format!("{ABOVE}/{path}")).collect::<Vec<_>>().join(":");
        if new.len() > old.len() {
            continue;
        }
        old.fill(0);
        old.iter_mut().zip(new.bytes()).for_each(|(old, new)| *old = new);
        changed = true;
    }
    changed
}

/// Runs the copy, so that one that cannot start is found now and not at one in the night.
fn starts(program: &Path) -> Result<()> {
    run(Command::new(program).arg("--help"), program)
}

fn run(command: &mut Command, path: &Path) -> Result<()> {
    let mut output = command.output();
    // Another thread that starts a program at this moment has our file open for writing until that has begun.
    for _ in 0..20 {
        if !matches!(&output, Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy) {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        output = command.output();
    }
    let output = output.map_err(io_error(path, "run"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Error::Config {
            path: path.to_path_buf(),
            reason: format!(
                "expected a program that starts, found: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        }),
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    walk(from, &mut |path, _| {
        let target = to.join(path.strip_prefix(from).unwrap_or(path));
        crate::files::private_dir(target.parent().unwrap_or(to))?;
        fs::copy(path, &target).map_err(io_error(&target, "write"))?;
        File::open(&target).and_then(|file| file.sync_all()).map_err(io_error(&target, "write"))
    })
}

/// Calls `visit` for every file below `folder`. Links to files count as files.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    for path in crate::files::list(folder)? {
        let about = path.metadata().map_err(io_error(&path, "read"))?;
        match about.is_dir() {
            true => walk(&path, visit)?,
            false => visit(&path, &about)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_strings_are_relocated_and_nothing_moves() {
        let folder = "/home/luke/target/release/build/mlx-sys-0123456789abcdef/out";
        let needed = format!("{folder}/lib/{LIBRARY}");
        let paths = format!("{folder}/site/mlx/lib:{folder}/site/blas/lib");
        let message = format!("cannot open {folder}/bindings.rs");
        let mixed = format!("{folder}/site:/opt/mlx/lib");
        let mut bytes = format!("\0{needed}\0{paths}\0{message}\0{mixed}\0end").into_bytes();
        let length = bytes.len();
        assert!(relocate(&mut bytes, folder));
        assert_eq!(bytes.len(), length);
        let text = String::from_utf8(bytes).unwrap();
        let strings: Vec<_> = text.split('\0').filter(|text| !text.is_empty()).collect();
        let expected = [
            format!("{ABOVE}/lib/{LIBRARY}"),
            format!("{ABOVE}/site/mlx/lib:{ABOVE}/site/blas/lib"),
            message,
            mixed,
            "end".to_owned(),
        ];
        assert_eq!(strings, expected);
        assert!(!relocate(&mut text.into_bytes(), "/another/folder"));
    }
    /// A script in place of a program, which answers `--help` with this code.
    fn script(folder: &Path, code: u8) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;

        let path = folder.join(format!("script-{code}"));
        fs::write(&path, format!("#!/bin/sh\necho broken >&2\nexit {code}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_program_that_does_not_start_leaves_no_copy() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let copy = ProgramCopy::plan(&script(folder.path(), 3), &root).unwrap();
        let error = copy.make().unwrap_err().to_string();
        assert!(error.contains("expected a program that starts, found: broken"), "{error}");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn the_newest_of_the_older_copies_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for (name, age) in [("oldest", 3), ("newest", 1), ("older", 2)] {
            let path = root.join(name);
            fs::create_dir_all(&path).unwrap();
            let then = std::time::SystemTime::now() - std::time::Duration::from_secs(1000 * age);
            File::open(&path).unwrap().set_modified(then).unwrap();
        }
        let copy = ProgramCopy::plan(&script(folder.path(), 0), &root).unwrap();
        copy.make().unwrap();
        copy.remove_older().unwrap();
        let left: Vec<_> = crate::files::list(&root).unwrap();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(root.join("newest").is_dir() && copy.program().is_file());
    }
}
