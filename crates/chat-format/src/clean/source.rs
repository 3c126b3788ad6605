use super::inputs::{Format, InputFile};
use crate::Result;
use crate::jsonl::{Block, Reader};
use crate::table::CsvRows;
#[cfg(feature = "parquet")]
use crate::table::ParquetRows;

/// A file of rows in any format.
pub(super) enum Source {
    Json(Reader),
    Csv(CsvRows),
    #[cfg(feature = "parquet")]
    Parquet(ParquetRows),
}

impl Source {
    pub(super) fn open(file: &InputFile) -> Result<Self> {
        Ok(match file.format {
            Format::Json => Source::Json(Reader::open(&file.path)?),
            Format::Csv => Source::Csv(CsvRows::open(&file.path)?),
            #[cfg(feature = "parquet")]
            Format::Parquet => Source::Parquet(ParquetRows::open(&file.path)?),
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                let (path, line) = (file.path.clone(), 1);
                let reason = "Parquet is read with the feature `parquet` of chat-format".to_owned();
                return Err(crate::Error::Table { path, line, reason });
            }
        })
    }

    /// Fills an empty block with `wanted` bytes of rows or a little more. It is empty at the end of the file.
    pub(super) fn next_block(&mut self, wanted: usize, block: &mut Block) -> Result<()> {
        match self {
            Source::Json(reader) => reader.next_block(wanted, block),
            Source::Csv(rows) => rows.next_block(wanted, block),
            #[cfg(feature = "parquet")]
            Source::Parquet(rows) => rows.next_block(wanted, block),
        }
    }
}
