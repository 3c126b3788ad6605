//! What a finished night leaves behind and nobody needs.

use std::fs;
use std::path::Path;

use jiff::civil::Date;

use crate::config::Retention;
use crate::files;
use crate::home::Home;
use crate::registry::Registry;
use crate::served_chats::{self, DeletedChats};
use crate::stages::StageName;
use crate::stages::prefer::Trained;
use crate::summary::Summary;

/// The leftovers of a night and of those before it. The night is complete: what cannot be deleted is logged.
pub(crate) struct Leftovers<'a> {
    pub retention: &'a Retention,
    pub home: &'a Home,
    /// The night's id.
    pub id: &'a str,
    /// The night's folder.
    pub dir: &'a Path,
    pub today: Date,
}

impl Leftovers<'_> {
    /// Deletes the chats that are older than the configuration keeps them.
    pub fn delete_old_chats(&self) -> Option<DeletedChats> {
        let days = self.retention.chats?;
        match served_chats::delete_old(&self.home.chats(), days, self.today) {
            Ok(deleted) => Some(deleted),
            Err(error) => {
                tracing::warn!("old chats are not deleted: {error}");
                None
            }
        }
    }

    /// Deletes checkpoints and old adapters, and keeps the night's adapter once. Checkpoints of a partial training stay: the
    /// next night on the same inputs goes on from there.
    pub fn clean_up(&self, registry: &Registry, summary: &Summary, trained: Trained<'_>) {
        let trainings = [StageName::Train, StageName::Prefer].map(|it| self.dir.join(it.as_str()));
        // The best adapter is the one of the training, in another place.
        let needless =
            trainings.iter().flat_map(|dir| ["checkpoints", "best"].map(|it| dir.join(it)));
        let removed = needless
            .filter(|folder| !summary.partial && folder.exists())
            .try_for_each(|folder| fs::remove_dir_all(folder).map_err(|e| e.to_string()));
        const WEIGHTS: &str = "adapters.safetensors";
        let candidate = trained.candidate();
        let once = files::store_once(
            &registry.folder(candidate.adapter).join(WEIGHTS),
            &self.dir.join(&candidate.folder).join(WEIGHTS),
        );
        let pruned = self.retention.apply(self.home, registry, self.id, self.today);
        for (what, result) in [
            ("checkpoints", removed),
            ("storing the adapter once", once.map_err(|e| e.to_string())),
            ("retention", pruned.map_err(|e| e.to_string())),
        ] {
            if let Err(error) = result {
                tracing::warn!(what, error, "cleanup failed");
            }
        }
    }
}
