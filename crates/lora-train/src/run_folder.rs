//! The files of a run in its `adapter_path`.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Checkpoint};
use crate::metrics::Record;
use crate::{Error, Result};
use models::Group;

const METRICS: &str = "metrics.jsonl";
const BAD_ROWS: &str = "bad-rows.jsonl";
const CHECKPOINTS: &str = "checkpoints";
const BEST: &str = "best";

/// `adapters.safetensors` and `adapter_config.json` (written by [`models::Adapter::save`]), `metrics.jsonl`,
/// `bad-rows.jsonl`, `checkpoints/STEP.safetensors`, and `best/` with the adapter of the lowest
/// validation loss.
pub(crate) struct RunFolder {
    root: PathBuf,
    keep: usize,
    /// False on a rank other than 0, which writes nothing.
    writes: bool,
}

impl RunFolder {
    /// Creates the folder. `keep` is the number of checkpoints to keep. Only rank 0 of `group` writes to it.
    pub(crate) fn create(root: &Path, keep: usize, group: &Group) -> Result<Self> {
        let writes = group.is_first();
        let checkpoints = writes.then(|| root.join(CHECKPOINTS));
        for folder in checkpoints.into_iter().chain([root.to_owned()]) {
            fs::create_dir_all(&folder)
                .map_err(|source| Error::Folder { path: folder.clone(), source })?;
        }
        Ok(Self { root: root.to_owned(), keep, writes })
    }

    /// The newest checkpoint whose updates are recorded in `metrics.jsonl`, and its path. A run that went on from another one
    /// would have a gap in its metrics.
    pub(crate) fn newest(&self) -> Result<Option<(PathBuf, Checkpoint)>> {
        for path in checkpoint::list(&self.root.join(CHECKPOINTS))?.into_iter().rev() {
            let checkpoint = Checkpoint::load(&path)?;
            if self.has_records(checkpoint.state.metrics_bytes) {
                return Ok(Some((path, checkpoint)));
            }
            tracing::warn!(
                "{}: passed over, as records of its updates are missing in {METRICS} or damaged",
                path.display()
            );
        }
        Ok(None)
    }

    /// Whether so many bytes at the beginning of `metrics.jsonl` are there, and are records.
    fn has_records(&self, bytes: u64) -> bool {
        let Ok(text) = fs::read(self.root.join(METRICS)) else { return bytes == 0 };
        let beginning = usize::try_from(bytes).ok().and_then(|bytes| text.get(..bytes));
        let is_record = |line: &[u8]| serde_json::from_slice::<Record>(line).is_ok();
        let lines = |text: &[u8]| {
            text.split(|byte| *byte == b'\n').all(|line| line.is_empty() || is_record(line))
        };
        beginning.is_some_and(lines)
    }

    /// Removes checkpoints, metrics and bad rows of an earlier run.
    pub(crate) fn clear(&self) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        let mut old = checkpoint::list(&self.root.join(CHECKPOINTS))?;
        old.extend([METRICS, BAD_ROWS].map(|name| self.root.join(name)));
        old.into_iter().try_for_each(|path| remove(&path))
    }

    /// Writes a checkpoint, then removes the oldest ones beyond the number to keep.
    pub(crate) fn save_checkpoint(&self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        let folder = self.root.join(CHECKPOINTS);
        let path = checkpoint.save(&folder)?;
        let all = checkpoint::list(&folder)?;
        let surplus = all.len().saturating_sub(self.keep.max(1));
        all.iter().take(surplus).try_for_each(|path| remove(path))?;
        Ok(path)
    }

    /// The folder of the adapter of the lowest validation loss, created if necessary.
    pub(crate) fn best(&self) -> Result<PathBuf> {
        let path = self.root.join(BEST);
        fs::create_dir_all(&path).map_err(|source| Error::Folder { path: path.clone(), source })?;
        Ok(path)
    }

    /// Appends a line to `metrics.jsonl`.
    pub(crate) fn record(&self, record: &Record) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        let line = serde_json::to_string(record).map_err(Error::Json)?;
        Ok(durable::append_line(self.root.join(METRICS), &line)?)
    }

    /// Length of `metrics.jsonl` in bytes.
    pub(crate) fn metrics_bytes(&self) -> u64 {
        fs::metadata(self.root.join(METRICS)).map_or(0, |metadata| metadata.len())
    }

    /// Truncates `metrics.jsonl` to its length at a checkpoint; the later records will be made again.
    pub(crate) fn rewind_metrics(&self, bytes: u64) -> Result<()> {
        let path = self.root.join(METRICS);
        if !self.writes || self.metrics_bytes() <= bytes {
            return Ok(());
        }
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(bytes));
        cut.map_err(|source| Error::Folder { path, source })
    }

    /// Appends the rows of a non-finite update to `bad-rows.jsonl`; returns its path.
    pub(crate) fn report_bad_rows(&self, error: &Error) -> Result<PathBuf> {
        let path = self.root.join(BAD_ROWS);
        if let (Error::NotFinite { step, what, value, rows }, true) = (error, self.writes) {
            let value = value.to_string();
            let line =
                serde_json::json!({ "step": step, "what": what, "value": value, "rows": rows });
            durable::append_line(&path, &line.to_string())?;
        }
        Ok(path)
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Folder { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
