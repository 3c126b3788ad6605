//! Beginnings of prompts whose caches are kept: system prompts, and the earlier turns of a chat.

use std::collections::VecDeque;

use models::PromptPrefix;

/// Shorter ones save less than keeping them costs.
const LEAST: usize = 32;
/// How many earlier prompts a new one is compared with.
const SEEN: usize = 64;

/// Caches of prompt beginnings, least recently used first.
///
/// The beginning that a prompt shares with an earlier one is kept when it is processed for the second
/// time: what occurred twice is likely to occur again, and what occurs once takes no memory. Entries
/// are found only by all of their tokens, because the state of a recurrent layer cannot be shortened.
#[derive(Debug)]
pub(crate) struct Prefixes {
    entries: VecDeque<Entry>,
    seen: VecDeque<(u64, Vec<u32>)>,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    /// [`Served::id`](crate::served::Served): keys and values depend on the adapter.
    served: u64,
    tokens: Vec<u32>,
    prefix: PromptPrefix,
}

/// How a prompt is to be processed.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// What is kept of its beginning.
    pub prefix: PromptPrefix,
    /// The length at which its beginning is worth keeping.
    pub keep_at: Option<usize>,
}

impl Prefixes {
    pub fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), seen: VecDeque::new(), limit }
    }

    /// How to process this prompt.
    pub fn plan(&mut self, served: u64, prompt: &[u32]) -> Plan {
        // The last token is processed in any case.
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let begins = |entry: &Entry| entry.served == served && usable.starts_with(&entry.tokens);
        let found = self.entries.iter().enumerate().filter(|(_, entry)| begins(entry));
        let longest = found.max_by_key(|(_, entry)| entry.tokens.len()).map(|(index, _)| index);
        let entry = longest.and_then(|index| self.entries.remove(index));
        let prefix = entry.as_ref().map(|entry| entry.prefix.clone()).unwrap_or_default();
        self.entries.extend(entry);

        let earlier = self.seen.iter().filter(|(other, _)| *other == served);
        let shared = earlier.map(|(_, earlier)| common(earlier, usable)).max().unwrap_or_default();
        let keep_at = (shared >= prefix.tokens() + LEAST).then_some(shared);
        if self.seen.len() >= SEEN {
            self.seen.pop_front();
        }
        self.seen.push_back((served, prompt.to_vec()));
        Plan { prefix, keep_at }
    }

    /// Keeps what is cached of these tokens, and forgets what was not used for the longest time.
    pub fn keep(&mut self, served: u64, tokens: &[u32], prefix: PromptPrefix) {
        self.entries.push_back(Entry { served, tokens: tokens.to_vec(), prefix });
        while self.bytes() > self.limit && self.entries.pop_front().is_some() {}
    }

    /// Forgets all of an adapter that is not served any more.
    pub fn forget(&mut self, served: u64) {
        self.entries.retain(|entry| entry.served != served);
        self.seen.retain(|(other, _)| *other != served);
    }

    /// Bytes of what is kept.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.prefix.bytes()).sum()
    }
}

/// The length of the common beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(system: u32, own: u32) -> Vec<u32> {
        [vec![system; 40], vec![own; 5]].concat()
    }

    #[test]
    fn what_two_prompts_share_is_worth_keeping() {
        let mut prefixes = Prefixes::new(1 << 20);
        let keep_at =
            |prefixes: &mut Prefixes, served, prompt: &[u32]| prefixes.plan(served, prompt).keep_at;
        assert_eq!(keep_at(&mut prefixes, 1, &prompt(7, 1)), None);
        assert_eq!(keep_at(&mut prefixes, 1, &prompt(8, 1)), None);
        assert_eq!(keep_at(&mut prefixes, 2, &prompt(7, 1)), None, "of another adapter");
        assert_eq!(keep_at(&mut prefixes, 1, &prompt(7, 2)), Some(40));
        assert_eq!(keep_at(&mut prefixes, 1, &prompt(7, 1)), Some(44), "all but the last token");
        assert_eq!(keep_at(&mut prefixes, 1, &[7; 20]), None, "too short");
        assert_eq!(keep_at(&mut prefixes, 1, &[]), None);
    }

    #[test]
    fn entries_are_found_by_adapter_and_all_their_tokens() {
        let mut prefixes = Prefixes::new(1 << 20);
        prefixes.keep(1, &[7; 40], PromptPrefix::default());
        prefixes.keep(1, &[7; 44], PromptPrefix::default());
        assert_eq!(prefixes.entries.len(), 2);
        prefixes.plan(1, &prompt(7, 3));
        assert_eq!(prefixes.entries.back().map(|entry| entry.tokens.len()), Some(40), "used last");
        prefixes.forget(1);
        assert_eq!((prefixes.entries.len(), prefixes.seen.len()), (0, 0));
    }
}
