//! The log of the libraries: in a night's file, or its warnings on stderr.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes the log of the libraries to `path`, one JSON object per line. A file that cannot be opened is
/// ignored.
pub(crate) fn log_to(path: &Path) {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let Ok(file) = options.open(path) else { return };
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(Mutex::new(file));
    // An error of its own would go to stderr with a macro that panics if that is closed.
    let log = log.log_internal_errors(false).with_max_level(tracing::Level::INFO);
    // Fails if a subscriber is set already, which then stays.
    let _ = log.try_init();
}

/// Prints the warnings of the libraries to stderr.
pub(crate) fn show_warnings() {
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let log = log.with_writer(std::io::stderr).log_internal_errors(false).event_format(Plain);
    // Fails if a subscriber is set already, which then stays.
    let _ = log.try_init();
}

/// `warning: MESSAGE` in one line, like the commands' own. Messages have names of files, which may have
/// any characters.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        writeln!(writer, "warning: {}", text.replace(char::is_control, " "))
    }
}
