//! Paths in a configuration file.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Resolves the paths of a configuration file: relative to its folder, with `~` as the user's home.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PathResolver<'a> {
    /// The configuration file.
    pub file: &'a Path,
}

impl PathResolver<'_> {
    /// The path that `path` under `key` stands for.
    ///
    /// # Errors
    /// `~` for a user without a home folder, and `~NAME`.
    pub fn resolve(&self, key: &str, path: &Path) -> Result<PathBuf> {
        self.resolve_with(key, path, dirs::home_dir())
    }

    fn resolve_with(&self, key: &str, path: &Path, home: Option<PathBuf>) -> Result<PathBuf> {
        let mut parts = path.components();
        let Some(Component::Normal(first)) = parts.next() else { return Ok(self.join(path)) };
        if !first.as_encoded_bytes().starts_with(b"~") {
            return Ok(self.join(path));
        }
        let refuse = |expected: &str| {
            let (path, found) = (self.file.to_path_buf(), path.display());
            let reason = format!("{key}: expected {expected}, found {found}");
            Err(Error::Config { path, reason })
        };
        match home {
            _ if first != "~" => {
                refuse("a path; of those with `~`, only `~/` (your own home) is understood")
            }
            None => refuse("a path without `~`, because this user has no home folder"),
            Some(home) => Ok(home.join(parts.as_path())),
        }
    }

    fn join(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_users_home_or_an_error() {
        let resolver = PathResolver { file: Path::new("/conf/night.yaml") };
        let home = Some(PathBuf::from("/home/luke"));
        let resolve = |path: &str, home: &Option<PathBuf>| {
            resolver.resolve_with("home", Path::new(path), home.clone())
        };
        for (path, expected) in [
            ("nights", "/conf/nights"),
            ("/nights", "/nights"),
            ("~", "/home/luke"),
            ("~/", "/home/luke"),
            ("~/nights", "/home/luke/nights"),
            ("~//nights/~", "/home/luke/nights/~"),
            ("./~/nights", "/conf/./~/nights"),
            ("../a b/ü", "/conf/../a b/ü"),
        ] {
            assert_eq!(resolve(path, &home).unwrap(), Path::new(expected), "{path}");
        }
        for (path, home, words) in [
            ("~leia/nights", &home, "only `~/`"),
            ("~~", &home, "only `~/`"),
            ("~/nights", &None, "no home folder"),
        ] {
            let error = resolve(path, home).unwrap_err().to_string();
            assert!(error.starts_with("/conf/night.yaml: home: expected a path"), "{error}");
            assert!(error.contains(words) && error.contains(path), "{error}");
        }
    }
}
