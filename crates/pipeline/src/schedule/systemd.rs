//! systemd user units.

use super::{File, JOBS, Job, JobCommand, Schedule, StartTime};

pub(super) fn files(schedule: &Schedule) -> Vec<File> {
    JOBS.iter().flat_map(|job| [service(schedule, job), timer(job)]).collect()
}

fn service(schedule: &Schedule, job: &Job) -> File {
    let command: Vec<_> = schedule.command(job).iter().map(|word| argument(word)).collect();
    // A path extends to the end of the line and is not quoted, but `%` is expanded in it.
    let folder = schedule.folder().to_string_lossy().replace('%', "%%");
    let variables = schedule.environment.iter();
    let variables: String = variables
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
        .collect();
    // A night that ends with a refusal has worked, and so has one with nothing new, or that was stopped and can be resumed.
    let success = match job.command {
        JobCommand::Night => "1 5 143",
        JobCommand::Preflight => "143",
    };
    let text = format!(
        "[Unit]\n\
         Description=Nightshift: {}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         WorkingDirectory={folder}\n\
         {variables}\
         ExecStart={}\n\
         SuccessExitStatus={success}\n\
         TimeoutStopSec=10min\n\
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

/// Quotes an argument of a command, in which `$` stands for a variable; see `systemd.service(5)`.
fn argument(word: &str) -> String {
    quoted(word).replace('$', "$$")
}

/// Quotes a word so that systemd reads it unchanged; see `systemd.syntax(7)`.
fn quoted(word: &str) -> String {
    let mut quoted = String::from("\"");
    for character in word.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted.extend(['%', '%']),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// The program in a service's file: the first argument of its command.
pub(super) fn program(unit: &str) -> Option<String> {
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=\""))?;
    let (mut program, mut characters) = (String::new(), command.chars());
    loop {
        match characters.next()? {
            '"' => return Some(program),
            '\\' => match characters.next()? {
                'n' => program.push('\n'),
                other => program.push(other),
            },
            doubled @ ('%' | '$') => {
                characters.next()?;
                program.push(doubled);
            }
            other => program.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    //! systemd user units.

    use super::{argument, quoted};

    #[test]
    fn arguments_are_quoted_for_systemd() {
        for (word, expected) in [
            ("/opt/nightly", r#""/opt/nightly""#),
            ("/a b/100 %", r#""/a b/100 %%""#),
            (r#"$HOME"\"#, r#""$$HOME\"\\""#),
            ("two\nlines", r#""two\nlines""#),
        ] {
            assert_eq!(argument(word), expected);
        }
        assert_eq!(quoted("A=$HOME 5 %"), r#""A=$HOME 5 %%""#);
    }
}
