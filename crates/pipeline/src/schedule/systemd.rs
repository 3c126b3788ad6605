use super::{File, Job, Schedule};

pub(super) fn files(schedule: &Schedule) -> Vec<File> {
    let jobs = schedule.jobs().iter();
    jobs.flat_map(|job| [service(schedule, job), timer(job)]).collect()
}

fn service(schedule: &Schedule, job: &Job) -> File {
    let command: Vec<_> = schedule.command(job).iter().map(|word| quoted(word)).collect();
    // A path setting is one word to the end of its line: no quotes, but `%` still counts.
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
    // `Persistent` runs on waking what was slept through.
    let text = format!(
        "[Unit]\n\
         Description=Nightshift: {}\n\
         \n\
         [Timer]\n\
         OnCalendar=*-*-* {:02}:{:02}:00\n\
         Persistent=true\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n",
        job.purpose, job.hour, job.minute,
    );
    File { name: format!("{}.timer", job.label()), text }
}

/// A word that reaches the program as it stands: in quotes, and with what `systemd.service(5)`
/// would expand written twice.
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
    use super::quoted;

    #[test]
    fn words_survive_what_systemd_expands() {
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
