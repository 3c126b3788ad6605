//! What a person sees when the build cannot go on: one problem, one remedy.

/// A reason to stop the build.
#[derive(Debug)]
pub struct Failure {
    problem: String,
    remedy: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: remedy.into() }
    }

    /// Cargo prints these lines and fails the build; a panic would bury them under its own noise.
    pub fn report(&self) {
        for line in self.to_string().lines() {
            println!("cargo::error={line}");
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nWhat to do: {}", self.problem, self.remedy)
    }
}
