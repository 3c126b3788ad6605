use super::inputs::{Format, InputFile};
use crate::Result;
use crate::jsonl::{Block, Reader};
use crate::table::CsvRows;
#[cfg(feature = "parquet")]
use crate::table::ParquetRows;

/// The rows of a file in any format.
pub(super) enum FileRows {
    Json(Reader),
    Csv(CsvRows),
    #[cfg(feature = "parquet")]
    Parquet(ParquetRows),
}

impl FileRows {
    pub(super) fn open(file: &InputFile) -> Result<Self> {
        Ok(match file.format {
            Format::Json => FileRows::Json(Reader::open(&file.path)?),
            Format::Csv => FileRows::Csv(CsvRows::open(&file.path)?),
            #[cfg(feature = "parquet")]
            Format::Parquet => FileRows::Parquet(ParquetRows::open(&file.path)?),
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
            FileRows::Json(reader) => reader.next_block(wanted, block),
            FileRows::Csv(rows) => rows.next_block(wanted, block),
            #[cfg(feature = "parquet")]
            FileRows::Parquet(rows) => rows.next_block(wanted, block),
        }
    }
}
