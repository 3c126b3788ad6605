//! Several processes that work on one run, on one machine or on several.

mod error;
mod launch;
mod watch;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use mlx_rs::{Array, Dtype};
use rand::RngExt;

pub use error::{Loss, RankError};
use launch::Launch;
use watch::{BEAT, Watch};

use crate::ext::{Collective, ConnectedGroup};
use crate::{Error, Result};

/// The processes of a run, numbered from 0, that exchange data through MLX's own distributed backends: the ring over
/// sockets, JACCL, NCCL. One process alone is a group too, in which nothing is exchanged.
///
/// The operations are collective: every rank calls them in the same order. They end within a limit of time. A rank that
/// dies, or gives no sign of life for 30 seconds, ends them on the others with an error that names it. The variable
/// `NIGHTSHIFT_RANK_TIMEOUT` sets another number of seconds; joining takes 4 times as long at most, and waiting for a
/// rank that is alive 60 times.
#[derive(Clone, Debug, Default)]
pub struct Group(Option<Arc<Ranks>>);

#[derive(Debug)]
struct Ranks {
    rank: usize,
    size: usize,
    /// To the thread that the backend was joined on.
    calls: std::sync::Mutex<Sender<Call>>,
    watch: Watch,
    timeout: Timeout,
}

type Call = Box<dyn FnOnce(&ConnectedGroup) + Send>;

/// Seconds after which a silent rank is lost.
#[derive(Clone, Copy, Debug)]
struct Timeout(u64);

const TIMEOUT: &str = "NIGHTSHIFT_RANK_TIMEOUT";

impl Timeout {
    fn from_variable(value: Option<String>) -> std::result::Result<Self, RankError> {
        let Some(value) = value else { return Ok(Self(30)) };
        match value.trim().parse() {
            Ok(seconds @ 1..=86_400) => Ok(Self(seconds)),
            _ => Err(RankError::Launch {
                place: TIMEOUT.into(),
                expected: "a number of seconds from 1 to 86400".into(),
                found: format!("{value:?}"),
            }),
        }
    }

    /// Until all ranks are connected, and for an exchange that all have begun.
    fn joining(self) -> Duration {
        Duration::from_secs(4 * self.0)
    }

    /// For a rank that is alive but does not come to an exchange: it may be computing.
    fn late(self) -> Duration {
        Duration::from_secs(60 * self.0)
    }
}

impl Group {
    /// One process.
    pub fn alone() -> Self {
        Self::default()
    }

    /// Joins the group that `mlx.launch`, or a plain environment, describes: `MLX_RANK` with `MLX_HOSTFILE` (the ring),
    /// `MLX_IBV_DEVICES` and `MLX_JACCL_COORDINATOR` (JACCL), or `MLX_WORLD_SIZE`, `NCCL_HOST_IP` and `NCCL_PORT`
    /// (NCCL). Without these variables the process is [alone](Self::alone). To be called once a process.
    ///
    /// # Errors
    /// [`RankError::Launch`] for wrong variables or a wrong hostfile, [`RankError::Join`] if the ranks do not come
    /// together in time.
    pub fn from_env() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        match Launch::from_variables(variable)? {
            None => Ok(Self::alone()),
            Some(launch) => Self::join(&launch, Timeout::from_variable(variable(TIMEOUT))?),
        }
    }

    fn join(launch: &Launch, timeout: Timeout) -> Result<Self> {
        let fail = |reason: String| RankError::Join { rank: launch.rank, reason };
        let backend = launch.backend;
        if !ConnectedGroup::is_available(backend) {
            let name = backend.to_string_lossy();
            return Err(fail(format!("this MLX library has no backend `{name}`")).into());
        }
        let (calls, inbox) = channel::<Call>();
        let (joined, joining) = channel();
        thread::spawn(move || match ConnectedGroup::join(backend) {
            Ok(group) => {
                let _ = joined.send(Ok((group.rank(), group.size())));
                inbox.into_iter().for_each(|call| call(&group));
            }
            Err(error) => {
                let _ = joined.send(Err(error.to_string()));
            }
        });
        let (rank, size) = match joining.recv_timeout(timeout.joining()) {
            Ok(Ok(place)) => place,
            Ok(Err(message)) => return Err(fail(explained(launch, &message)).into()),
            Err(_) => {
                let (seconds, who) = (timeout.joining().as_secs(), launch.neighbours());
                let reason =
                    format!("no connection with {who} within {seconds} s: are all ranks started?");
                return Err(fail(reason).into());
            }
        };
        let ranks = |watch| Ranks { rank, size, calls: calls.clone().into(), watch, timeout };
        let blind = Self(Some(Arc::new(ranks(Watch::blind(rank, size)))));
        let watch = blind.watch(launch).map_err(|error| match error {
            Error::Rank(RankError::Exchange { reason }) => {
                fail(format!("one was lost before all were connected: {reason}")).into()
            }
            error => error,
        })?;
        Ok(Self(Some(Arc::new(ranks(watch)))))
    }

    /// Connects with rank 0, which tells the others where it listens. Ranks of which no address is known are not watched.
    fn watch(&self, launch: &Launch) -> Result<Watch> {
        let (rank, size) = (self.rank(), self.size());
        let Some(host) = launch.first_host() else { return Ok(Watch::blind(rank, size)) };
        let timeout = Timeout::from_variable(std::env::var(TIMEOUT).ok())?;
        let failed = |error: std::io::Error| RankError::Join {
            rank,
            reason: format!("the channel for signs of life of rank 0 at {host}: {error}"),
        };
        let listener = match rank {
            0 => Some(TcpListener::bind((host, 0)).map_err(failed)?),
            _ => None,
        };
        let port = listener.as_ref().map(|listener| listener.local_addr().map(|it| it.port()));
        let port = port.transpose().map_err(failed)?.unwrap_or_default();
        let offered = [u64::from(port), rand::rng().random_range(16..=u64::MAX)];
        let [port, token] = self.gather(offered)?[0];
        let watch = match listener {
            Some(listener) => Watch::serve(&listener, token, size, timeout.0, timeout.joining()),
            None => Watch::connect(&format!("{host}:{port}"), token, rank, size, timeout.0),
        };
        Ok(watch.map_err(failed)?)
    }

    /// This process's number, counted from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |ranks| ranks.rank)
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |ranks| ranks.size)
    }

    /// Whether this is the rank that writes what all have made: rank 0.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The elementwise sum of the arrays of all ranks, the same bytes on each of them.
    ///
    /// # Errors
    /// [`RankError::Lost`] or [`RankError::Exchange`] if another rank is lost.
    pub fn all_sum(&self, array: &Array) -> Result<Array> {
        self.collective(Collective::Sum, array)
    }

    /// The elementwise maximum over all ranks.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn all_max(&self, array: &Array) -> Result<Array> {
        self.collective(Collective::Max, array)
    }

    /// The elementwise minimum over all ranks.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn all_min(&self, array: &Array) -> Result<Array> {
        self.collective(Collective::Min, array)
    }

    /// The arrays of all ranks, concatenated along the first axis in the order of the ranks.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn all_gather(&self, array: &Array) -> Result<Array> {
        self.collective(Collective::Gather, array)
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn barrier(&self) -> Result<()> {
        self.gather([0; 1]).map(drop)
    }

    /// The numbers of every rank, by rank. An `f64` travels as its bits.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn gather<const N: usize>(&self, own: [u64; N]) -> Result<Vec<[u64; N]>> {
        if self.0.is_none() || N == 0 {
            return Ok(vec![own; self.size()]);
        }
        let bytes: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = self.gather_words(&bytes)?;
        let ranks = all.chunks_exact(8 * N).map(|own| {
            let mut numbers = own.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
            std::array::from_fn(|_| numbers.next().unwrap_or_default())
        });
        Ok(ranks.collect())
    }

    /// The bytes of every rank, by rank; each may have another number of them.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.0.is_none() {
            return Ok(vec![own]);
        }
        let lengths: Vec<usize> =
            self.gather([own.len() as u64])?.into_iter().map(|[length]| length as usize).collect();
        let longest = lengths.iter().copied().max().unwrap_or_default().next_multiple_of(4);
        if longest == 0 {
            return Ok(vec![Vec::new(); lengths.len()]);
        }
        let mut padded = own;
        padded.resize(longest, 0);
        let all = self.gather_words(&padded)?;
        Ok(all
            .chunks_exact(longest)
            .zip(lengths)
            .map(|(own, length)| own[..length].to_vec())
            .collect())
    }

    /// Rank 0's bytes, on every rank.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn broadcast(&self, own: Vec<u8>) -> Result<Vec<u8>> {
        if self.0.is_none() {
            return Ok(own);
        }
        let length = self.gather([own.len() as u64])?[0][0] as usize;
        let mut all = if self.is_first() { own } else { vec![0; length] };
        all.resize(length.next_multiple_of(4), 0);
        // The sum of rank 0's words and zeros. In parts, to limit memory.
        for part in all.chunks_mut(1 << 26) {
            let sum = self.all_sum(&words(part))?;
            part.as_chunks_mut()
                .0
                .iter_mut()
                .zip(read(&sum)?)
                .for_each(|(to, word)| *to = word.to_le_bytes());
        }
        all.truncate(length);
        Ok(all)
    }

    /// The sums of the numbers of all ranks.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn sum<const N: usize>(&self, own: [u64; N]) -> Result<[u64; N]> {
        let all = self.gather(own)?;
        Ok(std::array::from_fn(|index| all.iter().map(|numbers| numbers[index]).sum()))
    }

    /// Whether it is so on any rank.
    ///
    /// # Errors
    /// As [`all_sum`](Self::all_sum).
    pub fn any(&self, own: bool) -> Result<bool> {
        Ok(self.sum([u64::from(own)])? != [0])
    }

    /// Fails on every rank if one of them has something else than rank 0. Of each thing a name and its value.
    ///
    /// # Errors
    /// [`RankError::Differs`] names the first such rank and thing; otherwise as [`all_sum`](Self::all_sum).
    pub fn check_same(&self, things: &[(String, String)]) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        let own = serde_json::to_vec(things).unwrap_or_default();
        let all = self.gather_bytes(own)?;
        let all: Vec<Vec<(String, String)>> =
            all.iter().map(|bytes| serde_json::from_slice(bytes).unwrap_or_default()).collect();
        for (rank, found) in all.iter().enumerate() {
            let names = all[0].iter().chain(found).map(|(name, _)| name);
            for name in names {
                let of = |things: &[(String, String)]| {
                    let found = things.iter().find(|(other, _)| other == name);
                    found.map_or("none".to_owned(), |(_, value)| value.clone())
                };
                let (expected, found) = (of(&all[0]), of(found));
                if expected != found {
                    return Err(
                        RankError::Differs { rank, what: name.clone(), expected, found }.into()
                    );
                }
            }
        }
        Ok(())
    }

    /// The bytes of all ranks in order; as many on each, a multiple of 4.
    fn gather_words(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let all = self.all_gather(&words(bytes))?;
        Ok(read(&all)?.iter().flat_map(|word| word.to_le_bytes()).collect())
    }

    fn collective(&self, operation: Collective, array: &Array) -> Result<Array> {
        let Some(ranks) = &self.0 else { return Ok(array.clone()) };
        // An unevaluated array would run on the stream of the thread that made it.
        array.eval()?;
        let array = array.clone();
        ranks.run(move |group| group.run(operation, &array))
    }
}

impl Ranks {
    /// Runs `work` on the group's thread and waits for it, as long as no rank is lost.
    fn run(
        &self,
        work: impl FnOnce(&ConnectedGroup) -> Result<Array> + Send + 'static,
    ) -> Result<Array> {
        let (answer, answers) = channel();
        let call: Call = Box::new(move |group| {
            let _ = answer.send(work(group));
        });
        let gone =
            || RankError::Exchange { reason: "the thread that exchanges it has ended".into() };
        let calls = self.calls.lock().map_err(|_| gone())?;
        let number = self.watch.begin();
        calls.send(call).map_err(|_| gone())?;
        match self.wait(&answers, number) {
            Some(Ok(array)) => Ok(array),
            Some(Err(error)) => Err(self.blamed(error)),
            None => Err(self.loss().unwrap_or_else(gone).into()),
        }
    }

    /// The answer; `None` if a rank is lost, or the time is up.
    fn wait(&self, answers: &Receiver<Result<Array>>, number: u64) -> Option<Result<Array>> {
        const STEP: Duration = Duration::from_millis(100);
        // Counted in steps, so that the time in which this process was stopped does not count.
        let (mut late, mut stuck) = (Duration::ZERO, Duration::ZERO);
        // A rank that has ended after its last exchange is no loss for that one.
        let mut grace = 2 * BEAT;
        loop {
            match answers.recv_timeout(STEP) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            late += STEP;
            if self.watch.lost().is_some() {
                grace = grace.saturating_sub(STEP);
                if grace.is_zero() {
                    return None;
                }
                continue;
            }
            let behind = self.watch.behind(number);
            stuck = if behind.is_none() { stuck + STEP } else { Duration::ZERO };
            // Rank 0 knows who is late, so the others wait for its word.
            let limit =
                self.timeout.late() + if self.rank == 0 { Duration::ZERO } else { 10 * BEAT };
            if late >= limit || stuck >= self.timeout.joining() {
                let seconds = late.as_secs();
                match behind.filter(|_| self.rank == 0) {
                    Some(rank) => self.watch.declare((rank, Loss::Late(seconds))),
                    None => {
                        let reason = format!(
                            "an exchange that all ranks have begun does not end in {seconds} s"
                        );
                        return Some(Err(RankError::Exchange { reason }.into()));
                    }
                }
            }
        }
    }

    /// The lost rank. Rank 0 first gives the others the time to read of it.
    fn loss(&self) -> Option<RankError> {
        let (rank, how) = self.watch.lost()?;
        if self.rank == 0 {
            thread::sleep(BEAT / 2);
        }
        Some(RankError::Lost { rank, how })
    }

    /// What to say of a failed exchange: MLX does not know which rank is lost, but the watch soon does.
    fn blamed(&self, error: Error) -> Error {
        if matches!(error, Error::Rank(_)) {
            return error;
        }
        for _ in 0..30 {
            if let Some(lost) = self.loss() {
                return lost.into();
            }
            thread::sleep(BEAT / 10);
        }
        RankError::Exchange { reason: error.to_string() }.into()
    }
}

/// What MLX's message about a failed connection means.
fn explained(launch: &Launch, message: &str) -> String {
    let own = launch.addresses.get(launch.rank).map_or("its address", String::as_str);
    match message {
        text if text.contains("Couldn't bind") || text.contains("Couldn't listen") => {
            format!("{own}: the address is in use, or not one of this machine ({message})")
        }
        text if text.contains("Couldn't connect") => {
            format!("nobody answers: {}: are all ranks started? ({message})", launch.neighbours())
        }
        _ => message.to_owned(),
    }
}

fn words(bytes: &[u8]) -> Array {
    let words: Vec<u32> =
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    Array::from_slice(&words, &[words.len() as i32])
}

fn read(array: &Array) -> Result<&[u32]> {
    debug_assert_eq!(array.dtype(), Dtype::Uint32);
    Ok(array.try_as_slice()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_exchanges_nothing() {
        let group = Group::alone();
        assert_eq!((group.rank(), group.size(), group.is_first()), (0, 1, true));
        let array = Array::from_slice(&[1.0f32, 2.0], &[2]);
        for found in [group.all_sum(&array), group.all_max(&array), group.all_gather(&array)] {
            assert_eq!(found.unwrap().as_slice::<f32>(), [1.0, 2.0]);
        }
        assert_eq!(group.gather([1, 2]).unwrap(), [[1, 2]]);
        assert_eq!(group.gather_bytes(vec![1]).unwrap(), [[1]]);
        assert_eq!(group.broadcast(vec![1, 2, 3]).unwrap(), [1, 2, 3]);
        assert!(group.any(true).unwrap() && !group.any(false).unwrap());
        group.check_same(&[("a".into(), "b".into())]).unwrap();
        group.barrier().unwrap();
    }

    #[test]
    fn a_wrong_time_limit_is_named() {
        for wrong in ["", "0", "-1", "soon"] {
            let error = Timeout::from_variable(Some(wrong.into())).unwrap_err().to_string();
            assert!(error.starts_with("NIGHTSHIFT_RANK_TIMEOUT: expected"), "{error}");
        }
    }
}
