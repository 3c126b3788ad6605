//! The night: stages, journal, lock, champion registry, report.
