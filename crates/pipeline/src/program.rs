//! Runs a program of the owner with a time limit.

use std::io::Write;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs a program until it ends or the time limit is reached. `input` is written to its standard input.
pub(crate) fn run(mut command: Command, input: &[u8], limit: Duration) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().map_err(text)?;
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        // On a thread of its own, as the program may not read its input. A broken pipe is ignored:
        // the exit status tells whether the program failed.
        thread::spawn(move || stdin.write_all(&input));
    }
    match wait(&mut child, limit).map_err(text)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(status.to_string()),
        None => {
            child.kill().and_then(|()| child.wait()).map_err(text)?;
            Err(format!("still running after {} s; stopped", limit.as_secs()))
        }
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_past_its_limit_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let done = folder.path().join("done");
        let script = format!("sleep 30; touch '{}'", done.display());
        let error = run(shell(&script), b"", Duration::from_millis(300)).unwrap_err();
        assert!(error.contains("still running"), "{error}");
        assert!(!done.exists());
    }

    #[test]
    fn a_program_gets_its_input_and_tells_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let got = folder.path().join("got");
        let (limit, copy) = (Duration::from_secs(600), format!("cat > '{}'", got.display()));
        run(shell(&copy), b"generation 3", limit).unwrap();
        assert_eq!(std::fs::read(&got).unwrap(), b"generation 3");
        assert!(run(shell("exit 3"), b"", limit).unwrap_err().contains('3'));
        // More than a pipe holds, and nobody reads it.
        run(shell("true"), &vec![b' '; 1 << 20], limit).unwrap();
        assert!(run(Command::new("/no/such/program"), b"", limit).is_err());
    }
}
