//! Files that are either whole or absent: atomic writes, digests, append-only logs.
