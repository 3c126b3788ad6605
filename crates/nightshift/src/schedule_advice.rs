//! When scheduled jobs do not run.

use pipeline::schedule::System;

/// When the jobs do not run although they are loaded.
pub(crate) fn advice(system: System, lingers: Option<bool>) -> Option<&'static str> {
    match (system, lingers) {
        (System::Launchd, _) => {
            Some("the jobs run while you are logged in, also behind the lock screen")
        }
        (System::Systemd, Some(true)) => None,
        (System::Systemd, Some(false)) => Some(
            "the jobs run only while you are logged in; `loginctl enable-linger` lets them run always",
        ),
        (System::Systemd, None) => Some(
            "unknown whether the jobs run while you are logged out; see `loginctl show-user`, and `loginctl enable-linger`",
        ),
    }
}
