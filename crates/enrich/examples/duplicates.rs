//! Measures near-duplicate removal and near-twin groups on generated chats.
//!
//! ```sh
//! cargo run --release -p nightshift-enrich --example duplicates -- 1000000
//! ```

use std::time::Instant;

use chat_format::{Conversation, Message};
use enrich::duplicates::Duplicates;

/// A word list of realistic skew: low ranks are frequent.
const WORDS: u64 = 20_000;

/// A splitmix64 generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A word whose rank is drawn with a density of 1 / rank.
    fn word(&mut self) -> String {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        format!("w{}", (WORDS as f64).powf(unit) as u64)
    }

    fn words(&mut self, n: u64) -> Vec<String> {
        (0..n).map(|_| self.word()).collect()
    }
}

/// Chats of a question of 4 to 23 words and an answer of 4 to 43 words. Of twenty, one repeats an earlier chat with one word
/// changed, one repeats it exactly, and four fill a template of 30 words with three words of their own.
fn rows(count: usize) -> Vec<Conversation> {
    let mut random = Random(7);
    let templates: Vec<_> = (0..100).map(|_| random.words(30)).collect();
    let mut rows: Vec<Conversation> = Vec::with_capacity(count);
    let system = Message::system("You are the agent of a household. Answer briefly.");
    while rows.len() < count {
        let earlier = random.below(rows.len().max(1) as u64) as usize;
        let row = match (random.below(20), rows.get(earlier)) {
            (0, Some(row)) => row.clone(),
            (1, Some(row)) => {
                let mut row = row.clone();
                let said = &mut row.messages[2].content;
                let changed = said.rsplit_once(' ').map(|(rest, _)| rest.to_owned());
                *said = format!("{} {}", changed.unwrap_or_default(), random.word());
                row
            }
            (2..6, _) => {
                let mut words = templates[random.below(100) as usize].clone();
                for at in [5, 15, 25] {
                    words[at] = format!("v{}", random.below(1_000_000));
                }
                let question = Message::user(words[..12].join(" "));
                let answer = Message::assistant(words[12..].join(" "));
                Conversation::new(vec![system.clone(), question, answer])
            }
            _ => {
                let (question, answer) = (4 + random.below(20), 4 + random.below(40));
                let question = Message::user(random.words(question).join(" "));
                let answer = Message::assistant(random.words(answer).join(" "));
                Conversation::new(vec![system.clone(), question, answer])
            }
        };
        rows.push(row);
    }
    rows
}

/// A field of `/proc/self/status` in MB; none on other systems than Linux.
fn memory(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1000.0)
}

fn report(what: &str, rows: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    print!("{what}: {seconds:.1} s, {:.0} rows/s", rows as f64 / seconds);
    if let Some(peak) = memory("VmHWM:") {
        print!(", peak memory {peak:.0} MB");
    }
    println!();
}

fn main() {
    let count = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(100_000);
    let started = Instant::now();
    let rows = rows(count);
    report("generated", count, started);
    let started = Instant::now();
    let found = Duplicates::default().find(&rows);
    report("near-duplicates", count, started);
    println!("{} of {count} rows duplicate an earlier one", found.len());
    let started = Instant::now();
    let groups = enrich::split::near_twins(&rows);
    report("near-twin groups", count, started);
    println!(
        "{} groups, the largest of {} rows",
        groups.len(),
        groups.iter().map(Vec::len).max().unwrap_or(0)
    );
}
