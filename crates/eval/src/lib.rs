//! The exam: suites, scoring, refusal judging, statistics, the promotion gate.
