//! Groups of real processes, over MLX's ring on this machine.

#[path = "support/ranks.rs"]
mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mlx_rs::Array;
use models::{Error, Group, RankError};
use support::{Hosts, Running, text};

/// The variable with the work of a child process, which executes the test `as_a_rank`.
const WORK: &str = "MODELS_RANKS_WORK";
/// The variable with a folder for the children.
const FOLDER: &str = "MODELS_RANKS_FOLDER";
/// The variable with the number of exchanges of the soak, 1,000 by name.
const ROUNDS: &str = "MODELS_RANKS_ROUNDS";

fn child(work: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "as_a_rank", "--nocapture"]).env(WORK, work).env(FOLDER, folder);
    command
}

/// The child processes run this; in the test run itself it does nothing.
#[test]
fn as_a_rank() {
    let Ok(work) = std::env::var(WORK) else { return };
    let group = match Group::from_env() {
        Ok(group) => group,
        Err(error) => return println!("not joined: {error}"),
    };
    match work.as_str() {
        "exchange" => exchange(&group),
        "differ" => differ(&group),
        "soak" => soak(&group),
        "forever" => forever(&group),
        _ => panic!("{work}"),
    }
}

fn folder() -> PathBuf {
    std::env::var_os(FOLDER).unwrap().into()
}

fn exchange(group: &Group) {
    let (rank, size) = (group.rank(), group.size());
    let of = |rank: usize, count: usize| -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + rank * 17) % 101) as f32 - 50.0).collect()
    };
    for count in [1, 2, 3, 5, 1000, 700_001] {
        let all: Vec<Vec<f32>> = (0..size).map(|rank| of(rank, count)).collect();
        let own = Array::from_slice(&all[rank], &[count as i32]);
        let fold = |start: f32, f: fn(f32, f32) -> f32| -> Vec<f32> {
            (0..count).map(|i| all.iter().map(|own| own[i]).fold(start, f)).collect()
        };
        // Whole numbers: their sums are exact in any order.
        let sum = group.all_sum(&own).unwrap();
        assert!(sum.as_slice::<f32>() == fold(0.0, |a, b| a + b), "{count}");
        let most = group.all_max(&own).unwrap();
        assert!(most.as_slice::<f32>() == fold(f32::MIN, f32::max), "{count}");
        let least = group.all_min(&own).unwrap();
        assert!(least.as_slice::<f32>() == fold(f32::MAX, f32::min), "{count}");
        let gathered = group.all_gather(&own).unwrap();
        assert!(gathered.as_slice::<f32>() == all.concat(), "{count}");
    }
    // An array that is not evaluated yet, and not laid out in order.
    let turned = Array::from_slice(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2]).transpose().unwrap();
    let sum = group.all_sum(&turned.add(Array::from_f32(1.0)).unwrap()).unwrap();
    let expected = [2.0, 4.0, 3.0, 5.0].map(|x| x * size as f32);
    assert_eq!(sum.as_slice::<f32>(), expected);

    let numbers = group.gather([rank as u64, u64::MAX, (-0.5f64).to_bits()]).unwrap();
    let expected: Vec<[u64; 3]> =
        (0..size).map(|rank| [rank as u64, u64::MAX, (-0.5f64).to_bits()]).collect();
    assert_eq!(numbers, expected);
    let lengths: Vec<usize> =
        group.gather_bytes(vec![7; 3 * rank]).unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, (0..size).map(|rank| 3 * rank).collect::<Vec<_>>());
    assert_eq!(group.gather_bytes(vec![]).unwrap(), vec![Vec::<u8>::new(); size]);
    for count in [0usize, 1, 4, 1_000_003] {
        let bytes: Vec<u8> = (0..count).map(|i| (i * 7) as u8).collect();
        let own = if group.is_first() { bytes.clone() } else { vec![9; rank] };
        assert!(group.broadcast(own).unwrap() == bytes, "{count}");
    }
    assert!(group.any(rank + 1 == size).unwrap() && !group.any(false).unwrap());
    assert_eq!(
        group.sum([1, rank as u64]).unwrap(),
        [size, size * (size - 1) / 2].map(|n| n as u64)
    );
    group.barrier().unwrap();
}

fn differ(group: &Group) {
    let own = if group.rank() == 1 { "b" } else { "a" };
    let same = ("model".to_owned(), "x".to_owned());
    group.check_same(std::slice::from_ref(&same)).unwrap();
    let error = group.check_same(&[same, ("data".into(), own.into())]).unwrap_err();
    assert_eq!(error.to_string(), "rank 1: data: expected that of rank 0, a, found b");
}

/// Sums of the shapes of an adapter's gradients, in the pattern of training.
fn soak(group: &Group) {
    let rounds = std::env::var(ROUNDS).map_or(20, |rounds| rounds.parse().unwrap());
    let values = vec![group.rank() as f32 + 0.25; 800_003];
    let own = Array::from_slice(&values, &[values.len() as i32]);
    let expected = (0..group.size()).map(|rank| rank as f32 + 0.25).sum::<f32>();
    for _ in 0..rounds {
        assert_eq!(group.sum([1, 2, 3]).unwrap()[0], group.size() as u64);
        let sum = group.all_sum(&own).unwrap();
        assert!(sum.as_slice::<f32>().iter().all(|&value| value == expected));
        group.gather_bytes(vec![1; 40 * (1 + group.rank())]).unwrap();
    }
    println!("{rounds} rounds");
}

fn forever(group: &Group) {
    let own = Array::from_slice(&vec![1.0f32; 100_000], &[100_000]);
    for round in 0u64.. {
        if let Err(error) = group.all_sum(&own) {
            assert!(matches!(error, Error::Rank(RankError::Lost { .. })), "{error}");
            println!("stopped: {error}");
            std::process::exit(2);
        }
        if round == 3 {
            std::fs::write(folder().join(group.rank().to_string()), "").unwrap();
        }
    }
}

fn all_succeed(outputs: &[Output]) {
    for (rank, output) in outputs.iter().enumerate() {
        assert!(output.status.success(), "rank {rank}: {}", text(output));
    }
}

#[test]
fn ranks_exchange_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    for size in [2, 3, 4] {
        all_succeed(&Hosts::new(size).run(|_| child("exchange", folder.path())));
    }
}

#[test]
fn a_rank_with_something_else_is_named() {
    let folder = tempfile::tempdir().unwrap();
    all_succeed(&Hosts::new(3).run(|_| child("differ", folder.path())));
}

/// MLX's ring has hung at three ranks and more (ml-explore/mlx#4475).
#[test]
fn many_exchanges_of_three() {
    let folder = tempfile::tempdir().unwrap();
    let outputs = Hosts::new(3).run(|_| child("soak", folder.path()));
    all_succeed(&outputs);
    assert!(text(&outputs[0]).contains(" rounds"), "{}", text(&outputs[0]));
}

/// Every rank but the lost one ends with an error that names it: whichever it is, killed or stopped.
#[test]
fn a_lost_rank_is_named() {
    for (size, lost, signal) in [(3, 2, "KILL"), (3, 0, "KILL"), (2, 1, "STOP"), (3, 0, "STOP")] {
        let folder = tempfile::tempdir().unwrap();
        let hosts = Hosts::with_timeout(size, 5);
        let mut ranks = hosts.start(|_| child("forever", folder.path()));
        let exchanging = |rank: usize| folder.path().join(rank.to_string()).exists();
        while !(0..size).all(exchanging) {
            assert!(!ranks.iter_mut().any(Running::has_ended), "a rank has ended early");
            std::thread::sleep(Duration::from_millis(10));
        }
        ranks[lost].signal(signal);
        let victim = ranks.remove(lost);
        for output in ranks.into_iter().map(Running::end) {
            let said = text(&output);
            assert_eq!(output.status.code(), Some(2), "{signal} {lost} of {size}: {said}");
            let how = if signal == "STOP" { "not heard for" } else { "its connection is closed" };
            let expected = format!("stopped: rank {lost} is lost: {how}");
            assert!(said.contains(&expected), "{signal} {lost} of {size}: {said}");
        }
        drop(victim);
    }
}

#[test]
fn a_rank_without_partners_gives_up() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = Hosts::with_timeout(2, 1);
    let output = Running::start(hosts.rank(0, child("exchange", folder.path()))).end();
    let said = text(&output);
    assert!(said.contains("not joined: rank 0: cannot join the other ranks"), "{said}");
    assert!(said.contains("no connection with rank 1 at 127.0.0.1:"), "{said}");
}

#[test]
fn an_address_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let hosts = Hosts::new(2);
    let addresses: Vec<Vec<String>> =
        serde_json::from_slice(&std::fs::read(hosts.file()).unwrap()).unwrap();
    let _taken = TcpListener::bind(&addresses[0][0]).unwrap();
    let said = text(&Running::start(hosts.rank(0, child("exchange", folder.path()))).end());
    let expected =
        format!("{}: the address is in use, or not one of this machine", addresses[0][0]);
    assert!(said.contains(&expected), "{said}");
}
