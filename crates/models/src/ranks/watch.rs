//! Tells which rank is lost. MLX's backends wait for a stopped process for ever, and do not say whose connection was
//! closed. So every rank keeps a connection to rank 0 and sends a sign of life over it once a second, with the number
//! of exchanges it has begun; rank 0 tells the others whom it has lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use super::error::Loss;

/// How often a rank gives a sign of life.
pub(super) const BEAT: Duration = Duration::from_secs(1);

/// A lost rank.
pub(super) type Lost = (usize, Loss);

/// The signs of life of the ranks, while this value lives.
#[derive(Debug, Clone)]
pub(super) struct Watch(Arc<State>);

#[derive(Debug)]
struct State {
    rank: usize,
    /// Seconds without a sign of life after which a rank is lost. Counted by the reads that time out, so that a process
    /// that was stopped itself, or a machine that slept, does not take the others for lost when it goes on.
    silence: u64,
    /// The exchanges that each rank has begun, as far as known: rank 0 knows all, the others their own.
    begun: Vec<AtomicU64>,
    lost: Mutex<Option<Lost>>,
    /// Connections to write to.
    peers: Mutex<Vec<TcpStream>>,
}

impl Watch {
    /// Rank 0's side. `listener` is where the others connect, each first sending `token` and its number.
    ///
    /// # Errors
    /// If not all of them connect within `limit`.
    pub(super) fn serve(
        listener: &TcpListener,
        token: u64,
        size: usize,
        silence: u64,
        limit: Duration,
    ) -> std::io::Result<Self> {
        let watch = Self::new(0, size, silence);
        listener.set_nonblocking(true)?;
        let mut waited = Duration::ZERO;
        let mut connected = vec![false; size];
        while connected[1..].contains(&false) {
            match listener.accept() {
                Ok((peer, _)) => {
                    if let Some(rank) = greeted(&peer, token).filter(|&rank| rank < size) {
                        connected[rank] = true;
                        watch.follow(rank, peer)?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && waited < limit => {
                    let pause = Duration::from_millis(20);
                    thread::sleep(pause);
                    waited += pause;
                }
                Err(error) => return Err(error),
            }
        }
        watch.start_beating();
        Ok(watch)
    }

    /// The side of another rank.
    ///
    /// # Errors
    /// If rank 0 cannot be reached at `address`.
    pub(super) fn connect(
        address: &str,
        token: u64,
        rank: usize,
        size: usize,
        silence: u64,
    ) -> std::io::Result<Self> {
        let watch = Self::new(rank, size, silence);
        let mut peer = TcpStream::connect(address)?;
        peer.write_all(&Frame { kind: token, rank, value: 0 }.to_bytes())?;
        watch.follow(0, peer)?;
        watch.start_beating();
        Ok(watch)
    }

    /// Of ranks whose signs of life cannot be watched.
    pub(super) fn blind(rank: usize, size: usize) -> Self {
        Self::new(rank, size, u64::MAX)
    }

    fn new(rank: usize, size: usize, silence: u64) -> Self {
        let begun = (0..size).map(|_| AtomicU64::new(0)).collect();
        let (lost, peers) = (Mutex::default(), Mutex::default());
        Self(Arc::new(State { rank, silence, begun, lost, peers }))
    }

    /// The first rank that was lost.
    pub(super) fn lost(&self) -> Option<Lost> {
        *lock(&self.0.lost)
    }

    /// Counts an exchange that this rank begins; returns its number.
    pub(super) fn begin(&self) -> u64 {
        self.0.begun[self.0.rank].fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The first rank that is not known to have begun exchange `number`. Only rank 0 knows.
    pub(super) fn behind(&self, number: u64) -> Option<usize> {
        self.0.begun.iter().position(|begun| begun.load(Ordering::SeqCst) < number)
    }

    /// Declares a rank lost, and tells the others.
    pub(super) fn declare(&self, lost: Lost) {
        self.0.declare(lost);
    }

    /// Reads what `peer` sends, on a thread of its own.
    fn follow(&self, rank: usize, peer: TcpStream) -> std::io::Result<()> {
        peer.set_nonblocking(false)?;
        peer.set_nodelay(true)?;
        peer.set_read_timeout(Some(BEAT))?;
        // A peer that does not read is not waited for.
        peer.set_write_timeout(Some(BEAT))?;
        lock(&self.0.peers).push(peer.try_clone()?);
        let state = Arc::downgrade(&self.0);
        thread::spawn(move || read(peer, rank, &state));
        Ok(())
    }

    fn start_beating(&self) {
        let state = Arc::downgrade(&self.0);
        thread::spawn(move || {
            while let Some(state) = state.upgrade() {
                let value = state.begun[state.rank].load(Ordering::SeqCst);
                state.send(Frame { kind: ALIVE, rank: state.rank, value });
                drop(state);
                thread::sleep(BEAT);
            }
        });
    }
}

impl State {
    fn declare(&self, (rank, how): Lost) {
        let mut lost = lock(&self.lost);
        if lost.is_some() {
            return;
        }
        let (kind, value) = match how {
            Loss::Closed => (CLOSED, 0),
            Loss::Silent(seconds) => (SILENT, seconds),
            Loss::Late(seconds) => (LATE, seconds),
        };
        // Before anyone here sees it and ends the process.
        self.send(Frame { kind, rank, value });
        *lost = Some((rank, how));
    }

    /// Sends to all peers. That one of them is gone is noticed by the one who reads from it.
    fn send(&self, frame: Frame) {
        let bytes = frame.to_bytes();
        for mut peer in lock(&self.peers).iter() {
            let _ = peer.write_all(&bytes);
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        for peer in lock(&self.peers).iter() {
            let _ = peer.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Reads the frames of `rank` until its connection ends or the watch does.
fn read(mut peer: TcpStream, rank: usize, state: &Weak<State>) {
    let (mut bytes, mut filled, mut silent) = ([0; Frame::BYTES], 0, 0);
    loop {
        let result = peer.read(&mut bytes[filled..]);
        let Some(state) = state.upgrade() else { return };
        match result {
            Ok(0) => return state.declare((rank, Loss::Closed)),
            Ok(count) => {
                (filled, silent) = (filled + count, 0);
                if filled == Frame::BYTES {
                    filled = 0;
                    heard(&state, rank, Frame::from_bytes(bytes));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                silent += BEAT.as_secs();
                if silent >= state.silence {
                    return state.declare((rank, Loss::Silent(silent)));
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return state.declare((rank, Loss::Closed)),
        }
    }
}

fn heard(state: &State, from: usize, frame: Frame) {
    let how = match frame.kind {
        ALIVE => return state.begun[from].store(frame.value, Ordering::SeqCst),
        CLOSED => Loss::Closed,
        SILENT => Loss::Silent(frame.value),
        LATE => Loss::Late(frame.value),
        _ => return,
    };
    if frame.rank < state.begun.len() {
        state.declare((frame.rank, how));
    }
}

/// The rank of a process that connects; `None` of a stranger.
fn greeted(mut peer: &TcpStream, token: u64) -> Option<usize> {
    let mut bytes = [0; Frame::BYTES];
    peer.set_nonblocking(false).ok()?;
    peer.set_read_timeout(Some(5 * BEAT)).ok()?;
    peer.read_exact(&mut bytes).ok()?;
    let greeting = Frame::from_bytes(bytes);
    (greeting.kind == token).then_some(greeting.rank)
}

const ALIVE: u64 = 0;
const CLOSED: u64 = 1;
const SILENT: u64 = 2;
const LATE: u64 = 3;

/// What is sent: a kind, the rank it is about, a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame {
    kind: u64,
    rank: usize,
    value: u64,
}

impl Frame {
    const BYTES: usize = 24;

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.kind, self.rank as u64, self.value];
        bytes
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(words)
            .for_each(|(part, word)| *part = word.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let mut words = bytes.as_chunks().0.iter().map(|part| u64::from_le_bytes(*part));
        let mut word = || words.next().unwrap_or_default();
        Self { kind: word(), rank: word() as usize, value: word() }
    }
}

/// What the mutex guards is sound after a panic too: each change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Watches of three ranks, in this process.
    fn three(silence: u64) -> [Watch; 3] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Strangers: one with another token, one that says nothing.
        TcpStream::connect(&address).unwrap().write_all(&[7; Frame::BYTES]).unwrap();
        drop(TcpStream::connect(&address).unwrap());
        let join = |rank| {
            let address = address.clone();
            thread::spawn(move || Watch::connect(&address, 42, rank, 3, silence).unwrap())
        };
        let others = [join(1), join(2)];
        let first = Watch::serve(&listener, 42, 3, silence, LIMIT).unwrap();
        let [one, two] = others.map(|other| other.join().unwrap());
        [first, one, two]
    }

    fn wait<T>(mut what: impl FnMut() -> Option<T>) -> T {
        for _ in 0..6000 {
            if let Some(found) = what() {
                return found;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("waited for a minute");
    }

    #[test]
    fn a_closed_connection_is_known_to_all() {
        let [zero, one, two] = three(1000);
        assert_eq!((zero.lost(), one.lost()), (None, None));
        drop(two);
        for watch in [&zero, &one] {
            assert_eq!(wait(|| watch.lost()), (2, Loss::Closed));
        }
        // Nobody else takes the blame afterwards.
        drop(zero);
        thread::sleep(Duration::from_millis(50));
        assert_eq!(one.lost(), Some((2, Loss::Closed)));
    }

    #[test]
    fn the_end_of_rank_0_is_known() {
        let [zero, one, two] = three(1000);
        drop(zero);
        for watch in [&one, &two] {
            assert_eq!(wait(|| watch.lost()), (0, Loss::Closed));
        }
    }

    /// A process that is stopped keeps its connection and says nothing.
    #[test]
    fn a_silent_rank_is_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        silent.write_all(&Frame { kind: 42, rank: 1, value: 0 }.to_bytes()).unwrap();
        let watch = Watch::serve(&listener, 42, 2, 2, LIMIT).unwrap();
        assert_eq!(wait(|| watch.lost()), (1, Loss::Silent(2)));
    }

    #[test]
    fn rank_0_knows_who_is_behind() {
        let [zero, one, two] = three(1000);
        assert_eq!((zero.begin(), one.begin()), (1, 1));
        assert_eq!(wait(|| zero.behind(1).filter(|&rank| rank == 2)), 2);
        two.begin();
        wait(|| zero.behind(1).is_none().then_some(()));
        zero.declare((2, Loss::Late(9)));
        assert_eq!(wait(|| one.lost()), (2, Loss::Late(9)));
    }

    #[test]
    fn not_all_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(Watch::serve(&listener, 1, 2, 1, Duration::from_millis(50)).is_err());
    }
}
