//! Pinned artefacts: downloaded once, hash-checked, cached.
