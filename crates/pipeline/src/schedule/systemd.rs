//! systemd user units.

use super::{File, Job, Schedule, StartTime};

pub(super) fn files(schedule: &Schedule) -> Vec<File> {
    let jobs = schedule.jobs().iter();
    jobs.flat_map(|job| [service(schedule, job), timer(job)]).collect()
}

fn service(schedule: &Schedule, job: &Job) -> File {
    let command: Vec<_> = schedule.command(job).iter().map(|word| quoted(word)).collect();
    // A path extends to the end of the line and is not quoted, but `%` is expanded in it.
    let folder = schedule.folder().to_string_lossy().replace('%', "%%");
    let text = format!(
        "[Unit]\n\
         Description=Nightshift: {}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         WorkingDirectory={folder}\n\
         ExecStart={}\n\
         Nice=10\n\
         IOSchedulingClass=idle\n\
         UMask=0077\n",
        job.purpose,
        command.join(" "),
    );
    File { name: format!("{}.service", job.label()), text }
}

fn timer(job: &Job) -> File {
    let line =
        |time: &StartTime| format!("OnCalendar=*-*-* {:02}:{:02}:00\n", time.hour, time.minute);
    let times: String = job.times.iter().map(line).collect();
    // `Persistent` runs a missed job after the machine wakes up.
    let text = format!(
        "[Unit]\n\
         Description=Nightshift: {}\n\
         \n\
         [Timer]\n\
         {times}\
         Persistent=true\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        job.purpose,
    );
    File { name: format!("{}.timer", job.label()), text }
}

/// Quotes an argument so that systemd passes it unchanged; see `systemd.service(5)`.
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' | '$' => quoted.extend([character, character]),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    //! systemd user units.

    use super::quoted;

    #[test]
    fn arguments_are_quoted_for_systemd() {
        for (word, expected) in [
            ("/opt/nightly", r#""/opt/nightly""#),
            ("/a b/100 %", r#""/a b/100 %%""#),
            (r#"$HOME"\"#, r#""$$HOME\"\\""#),
            ("two\nlines", r#""two\nlines""#),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
