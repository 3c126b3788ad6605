//! Errors of the build script: what is wrong, and what to do about it.

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

    /// Prints the lines as errors, on which cargo fails the build. A panic would add a backtrace.
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
