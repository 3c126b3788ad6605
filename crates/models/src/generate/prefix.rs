//! Finds shared prefixes of prompts, which are processed once.

use crate::nn::rows::common_prefix;

/// A pass through the model has a fixed cost, which saving fewer tokens than this does not pay for.
const LEAST_SAVED: usize = 64;

/// A prompt after its shared prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'p> {
    /// Index into [`SharedPrefixes::prefixes`]; `None` if it shares nothing.
    pub prefix: Option<usize>,
    /// Length of the prefix.
    pub before: usize,
    /// The rest. Never empty: the next token is sampled after it.
    pub own: &'p [u32],
}

/// Prompts split into shared prefixes and the rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SharedPrefixes<'p> {
    /// Prefixes of two or more prompts each.
    pub prefixes: Vec<&'p [u32]>,
    /// One per prompt, in their order.
    pub parts: Vec<Part<'p>>,
}

impl<'p> SharedPrefixes<'p> {
    /// The split that leaves the fewest tokens to process, with at most one prefix per prompt.
    pub fn find(prompts: &[&'p [u32]]) -> Self {
        let whole = |&own: &&'p [u32]| Part { prefix: None, before: 0, own };
        let mut split = Self { prefixes: Vec::new(), parts: prompts.iter().map(whole).collect() };
        // Sorted, prompts with a common prefix are neighbours.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&index| prompts[index]);
        for Group { members, shared } in groups(prompts, &order) {
            for &index in &order[members.clone()] {
                let (prefix, before) = (Some(split.prefixes.len()), shared);
                let own = &prompts[index][shared..];
                split.parts[index] = Part { prefix, before, own };
            }
            split.prefixes.push(&prompts[order[members.start]][..shared]);
        }
        split
    }
}

/// Neighbours in sorted order, and the length of their common prefix.
struct Group {
    members: std::ops::Range<usize>,
    shared: usize,
}

/// The groups that save the most: a group of `n` saves its shared tokens `n - 1` times.
///
/// Dynamic programming: `best[end]` is the most that the first `end` prompts can save, and the last
/// group of that solution.
fn groups(prompts: &[&[u32]], order: &[usize]) -> Vec<Group> {
    let common: Vec<usize> =
        order.windows(2).map(|pair| proper_prefix(prompts[pair[0]], prompts[pair[1]])).collect();
    let mut best = vec![(0, Group { members: 0..0, shared: 0 })];
    for end in 1..=order.len() {
        let (saved, _) = best[end - 1];
        let mut choice = (saved, Group { members: end - 1..end, shared: 0 });
        let mut shared = usize::MAX;
        for start in (0..end - 1).rev() {
            shared = shared.min(common[start]);
            if shared == 0 {
                break;
            }
            let saved = best[start].0 + shared * (end - start - 1);
            if saved > choice.0 {
                choice = (saved, Group { members: start..end, shared });
            }
        }
        best.push(choice);
    }
    let mut groups = Vec::new();
    while let Some((saved, group)) = best.pop() {
        if groups.is_empty() && saved < LEAST_SAVED {
            break;
        }
        best.truncate(group.members.start + 1);
        if group.shared > 0 {
            groups.push(group);
        } else if group.members.is_empty() {
            break;
        }
    }
    groups
}

/// The length of the common prefix of two prompts, at most one token less than either.
fn proper_prefix(a: &[u32], b: &[u32]) -> usize {
    common_prefix(a, b).min(a.len().saturating_sub(1)).min(b.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `length` tokens that depend on the agent, then `own`.
    fn prompt(agent: u32, length: u32, own: &[u32]) -> Vec<u32> {
        (0..length).map(|i| 1000 * agent + i).chain(own.iter().copied()).collect()
    }

    #[test]
    fn prompts_of_an_agent_share_their_prefix() {
        let prompts = [
            prompt(1, 40, &[1, 2]),
            prompt(2, 50, &[7]),
            prompt(1, 40, &[3]),
            prompt(3, 60, &[9]),
            prompt(2, 50, &[8, 8]),
            prompt(1, 40, &[4]),
        ];
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let SharedPrefixes { mut prefixes, parts } = SharedPrefixes::find(&prompts);
        for (prompt, part) in prompts.iter().zip(&parts) {
            let prefix = part.prefix.map_or(&[][..], |index| prefixes[index]);
            assert_eq!([prefix, part.own].concat(), *prompt);
            assert_eq!(prefix.len(), part.before);
        }
        prefixes.sort();
        assert_eq!(prefixes, [&prompt(1, 40, &[])[..], &prompt(2, 50, &[])[..]]);
        assert_eq!(parts[3].prefix, None);
    }

    #[test]
    fn the_cut_saves_the_most() {
        // Ten share 20 tokens; of those, three share 60. As two groups they save 6 x 20 + 2 x 60, as
        // one only 9 x 20.
        let long = prompt(1, 60, &[]);
        let prompts: Vec<Vec<u32>> =
            (0..10).map(|i| [&long[..if i < 3 { 60 } else { 20 }], &[i, i][..]].concat()).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let SharedPrefixes { prefixes, parts } = SharedPrefixes::find(&prompts);
        let mut lengths: Vec<usize> = prefixes.iter().map(|tokens| tokens.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [20, 60]);
        let left: usize = parts.iter().map(|part| part.own.len()).sum();
        assert_eq!(left, 20);
    }

    #[test]
    fn short_prefixes_are_ignored_and_no_prompt_becomes_empty() {
        let few = [vec![1, 2, 3, 4], vec![1, 2, 3, 5], vec![]];
        let few: Vec<&[u32]> = few.iter().map(Vec::as_slice).collect();
        assert_eq!(SharedPrefixes::find(&few).prefixes.len(), 0);
        assert_eq!(SharedPrefixes::find(&[]).parts, []);
        let same = prompt(1, 90, &[]);
        let SharedPrefixes { prefixes, parts } = SharedPrefixes::find(&[&same, &same[..80], &same]);
        assert!(parts.iter().all(|part| !part.own.is_empty()));
        assert!(!prefixes.is_empty());
    }
}
