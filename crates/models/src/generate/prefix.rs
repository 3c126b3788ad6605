//! What prompts have in common: the beginning that several of them share is processed once.

use crate::nn::rows::in_common;

/// Each pass through the model has a price of its own; fewer tokens than this do not pay for one.
const LEAST_SAVED: usize = 64;

/// A prompt after the beginning that it shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'p> {
    /// Which of the [beginnings](Split::beginnings); none if it shares nothing.
    pub beginning: Option<usize>,
    /// Tokens of that beginning.
    pub before: usize,
    /// The rest: never empty, for the next token is chosen after it.
    pub own: &'p [u32],
}

/// Prompts cut into shared beginnings and what is their own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Split<'p> {
    /// Beginnings of two or more prompts each.
    pub beginnings: Vec<&'p [u32]>,
    /// One for each prompt, in their order.
    pub parts: Vec<Part<'p>>,
}

impl<'p> Split<'p> {
    /// The cut that leaves the fewest tokens to process, with at most one beginning for a prompt.
    pub fn of(prompts: &[&'p [u32]]) -> Self {
        let whole = |&own: &&'p [u32]| Part { beginning: None, before: 0, own };
        let mut split = Self { beginnings: Vec::new(), parts: prompts.iter().map(whole).collect() };
        // In this order prompts with a common beginning are neighbours.
        let mut order: Vec<usize> = (0..prompts.len()).collect();
        order.sort_by_key(|&index| prompts[index]);
        for Group { members, shared } in groups(prompts, &order) {
            for &index in &order[members.clone()] {
                let (beginning, before) = (Some(split.beginnings.len()), shared);
                let own = &prompts[index][shared..];
                split.parts[index] = Part { beginning, before, own };
            }
            split.beginnings.push(&prompts[order[members.start]][..shared]);
        }
        split
    }
}

/// Neighbours in sorted order, and how many tokens all of them begin with.
struct Group {
    members: std::ops::Range<usize>,
    shared: usize,
}

/// The groups that save the most: a group of `n` saves its shared tokens `n - 1` times.
///
/// `best[end]` is the most that the first `end` prompts can save, and the last group it takes.
fn groups(prompts: &[&[u32]], order: &[usize]) -> Vec<Group> {
    let common: Vec<usize> =
        order.windows(2).map(|pair| short_of_all(prompts[pair[0]], prompts[pair[1]])).collect();
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

/// How many tokens two prompts begin with, short of a whole prompt.
fn short_of_all(a: &[u32], b: &[u32]) -> usize {
    in_common(a, b).min(a.len().saturating_sub(1)).min(b.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first `length` of numbers that are another agent's for each `agent`, then `own`.
    fn prompt(agent: u32, length: u32, own: &[u32]) -> Vec<u32> {
        (0..length).map(|i| 1000 * agent + i).chain(own.iter().copied()).collect()
    }

    #[test]
    fn each_agents_prompts_share_their_beginning() {
        let prompts = [
            prompt(1, 40, &[1, 2]),
            prompt(2, 50, &[7]),
            prompt(1, 40, &[3]),
            prompt(3, 60, &[9]),
            prompt(2, 50, &[8, 8]),
            prompt(1, 40, &[4]),
        ];
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let Split { mut beginnings, parts } = Split::of(&prompts);
        for (prompt, part) in prompts.iter().zip(&parts) {
            let beginning = part.beginning.map_or(&[][..], |index| beginnings[index]);
            assert_eq!([beginning, part.own].concat(), *prompt);
            assert_eq!(beginning.len(), part.before);
        }
        beginnings.sort();
        assert_eq!(beginnings, [&prompt(1, 40, &[])[..], &prompt(2, 50, &[])[..]]);
        assert_eq!(parts[3].beginning, None);
    }

    #[test]
    fn the_cut_saves_the_most() {
        // Ten begin with 20 tokens; of those, three with 60. Apart, they save 6 x 20 + 2 x 60;
        // together only 9 x 20.
        let long = prompt(1, 60, &[]);
        let prompts: Vec<Vec<u32>> =
            (0..10).map(|i| [&long[..if i < 3 { 60 } else { 20 }], &[i, i][..]].concat()).collect();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let Split { beginnings, parts } = Split::of(&prompts);
        let mut lengths: Vec<usize> = beginnings.iter().map(|tokens| tokens.len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [20, 60]);
        let left: usize = parts.iter().map(|part| part.own.len()).sum();
        assert_eq!(left, 20);
    }

    #[test]
    fn what_saves_little_is_left_alone_and_no_prompt_is_used_up() {
        let few = [vec![1, 2, 3, 4], vec![1, 2, 3, 5], vec![]];
        let few: Vec<&[u32]> = few.iter().map(Vec::as_slice).collect();
        assert_eq!(Split::of(&few).beginnings.len(), 0);
        assert_eq!(Split::of(&[]).parts, []);
        let same = prompt(1, 90, &[]);
        let Split { beginnings, parts } = Split::of(&[&same, &same[..80], &same]);
        assert!(parts.iter().all(|part| !part.own.is_empty()));
        assert!(!beginnings.is_empty());
    }
}
