//! Groups of rows that are linked by similarity or by a shared key.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::minhash::{Bands, RowGrams};

/// A partition of rows into groups (union-find). The name of a group is its lowest row, so that groups do not depend on the
/// order in which they were joined.
pub(crate) struct Clusters(Vec<u32>);

impl Clusters {
    /// Each row alone.
    pub fn new(rows: usize) -> Clusters {
        Clusters((0..rows as u32).collect())
    }

    /// The lowest row of a row's group. Halves the path to it.
    fn lowest(&mut self, mut row: usize) -> usize {
        while self.0[row] as usize != row {
            self.0[row] = self.0[self.0[row] as usize];
            row = self.0[row] as usize;
        }
        row
    }

    /// Joins the groups of two rows.
    pub fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.lowest(a), self.lowest(b));
        self.0[a.max(b)] = a.min(b) as u32;
    }

    /// The rows of each group, ascending.
    pub fn groups(mut self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for row in 0..self.0.len() {
            groups.entry(self.lowest(row)).or_default().push(row);
        }
        groups.into_values().collect()
    }

    /// Joins all rows that are connected by pairs of at least that likeness. One band is in memory at a time.
    pub fn join_similar(&mut self, grams: &RowGrams, likeness: f64) {
        let bands = Bands::new(likeness);
        for band in 0..bands.bands {
            let key = |row| u64::from(bands.key(grams.row(row), band)) << 32 | row as u64;
            let mut keys: Vec<u64> = (0..self.0.len()).into_par_iter().map(key).collect();
            keys.par_sort_unstable();
            let runs: Vec<&[u64]> = keys.chunk_by(|a, b| a >> 32 == b >> 32).collect();
            let links = runs.into_par_iter().filter(|run| run.len() > 1).flat_map_iter(|run| {
                let rows = run.iter().map(|key| *key as u32 as usize);
                self.links(grams, likeness, rows.map(|row| (self.0[row], row)).collect())
            });
            for (a, b) in links.collect::<Vec<_>>() {
                self.join(a, b);
            }
            // Parents are lower than their rows: one ascending pass points every row at its group directly.
            for row in 0..self.0.len() {
                self.0[row] = self.0[self.0[row] as usize];
            }
        }
    }

    /// The pairs that connect rows with an equal key, given with their groups. Rows of one group are not compared with each
    /// other again, and one similar pair is enough for two groups.
    fn links(
        &self,
        grams: &RowGrams,
        likeness: f64,
        mut rows: Vec<(u32, usize)>,
    ) -> Vec<(usize, usize)> {
        rows.sort_unstable();
        let mut links = Vec::new();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for own in rows.chunk_by(|a, b| a.0 == b.0) {
            let own = own.iter().map(|(_, row)| *row);
            let link = |group: &Vec<usize>| {
                let mut pairs =
                    own.clone().flat_map(|row| group.iter().map(move |other| (*other, row)));
                pairs.find(|(a, b)| grams.likeness(*a, *b, likeness).is_some())
            };
            let mut home: Option<usize> = None;
            let mut nth = 0;
            while nth < groups.len() {
                match (link(&groups[nth]), home) {
                    (None, _) => nth += 1,
                    (Some(pair), None) => {
                        links.push(pair);
                        home = Some(nth);
                        nth += 1;
                    }
                    (Some(pair), Some(home)) => {
                        links.push(pair);
                        let joined = groups.swap_remove(nth);
                        groups[home].extend(joined);
                    }
                }
            }
            match home {
                Some(home) => groups[home].extend(own),
                None => groups.push(own.collect()),
            }
        }
        links
    }
}
