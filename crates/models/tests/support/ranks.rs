//! Starts the ranks of a group as processes of this machine.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Far beyond every limit of time, on a busy machine too: a test that waits so long hangs.
const PATIENCE: Duration = Duration::from_secs(1800);

/// The addresses of a group on this machine.
pub struct Hosts {
    folder: tempfile::TempDir,
    size: usize,
    /// Of `NIGHTSHIFT_RANK_TIMEOUT`.
    timeout: u64,
}

impl Hosts {
    pub fn new(size: usize) -> Self {
        Self::with_timeout(size, 30)
    }

    /// Ranks that are lost after so many seconds of silence.
    pub fn with_timeout(size: usize, timeout: u64) -> Self {
        let hosts = Self { folder: tempfile::tempdir().unwrap(), size, timeout };
        let addresses: Vec<[String; 1]> =
            free_ports(size).iter().map(|port| [format!("127.0.0.1:{port}")]).collect();
        std::fs::write(hosts.file(), serde_json::to_string(&addresses).unwrap()).unwrap();
        hosts
    }

    pub fn file(&self) -> PathBuf {
        self.folder.path().join("hosts.json")
    }

    /// A program as a rank.
    pub fn rank(&self, rank: usize, mut program: Command) -> Command {
        program
            .env("MLX_RANK", rank.to_string())
            .env("MLX_HOSTFILE", self.file())
            .env("NIGHTSHIFT_RANK_TIMEOUT", self.timeout.to_string());
        program
    }

    /// Starts every rank.
    pub fn start(&self, program: impl Fn(usize) -> Command) -> Vec<Running> {
        (0..self.size).map(|rank| Running::start(self.rank(rank, program(rank)))).collect()
    }

    /// Runs every rank to its end.
    pub fn run(&self, program: impl Fn(usize) -> Command) -> Vec<Output> {
        self.start(program).into_iter().map(Running::end).collect()
    }
}

/// Ports that nobody listens at, below those that the system gives to outgoing connections.
fn free_ports(count: usize) -> Vec<u16> {
    use std::hash::{BuildHasher, RandomState};
    let seed = RandomState::new().hash_one(std::process::id());
    let candidates =
        (0..10_000).map(|step| 15_000 + ((seed.wrapping_add(step * 7)) % 15_000) as u16);
    let free = candidates.filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    free.take(count).collect()
}

/// A running process whose output is collected. Killed when dropped.
pub struct Running {
    child: Child,
    output: Vec<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        fn collect(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = stream.read_to_end(&mut bytes);
                bytes
            })
        }
        let output =
            vec![collect(child.stdout.take().unwrap()), collect(child.stderr.take().unwrap())];
        Self { child, output }
    }

    /// Sends a signal: `KILL`, `STOP`, `CONT`, `TERM`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the process.
    pub fn end(mut self) -> Output {
        let start = Instant::now();
        while !self.has_ended() {
            assert!(start.elapsed() < PATIENCE, "a rank hangs");
            thread::sleep(Duration::from_millis(10));
        }
        let status = self.child.wait().unwrap();
        let mut output =
            std::mem::take(&mut self.output).into_iter().map(|read| read.join().unwrap());
        let (stdout, stderr) = (output.next().unwrap(), output.next().unwrap());
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process wrote, for messages.
pub fn text(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}\n{out}\n{err}", output.status)
}
