//! Parquet files, with lists and structures as columns.

use std::borrow::Cow;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;
use ::parquet::file::reader::SerializedFileReader;
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use serde_json::Number;

use super::{broken, push};
use crate::jsonl::Block;
use crate::raw::{Fields, Raw};
use crate::{Error, Result};

/// Reads the rows of a file. The rows of a group are decoded page by page.
pub(crate) struct ParquetRows {
    path: PathBuf,
    rows: RowIter<'static>,
    /// The row being read, from 1.
    row: u64,
}

impl ParquetRows {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path);
        let file = file.map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let reader = guarded(|| SerializedFileReader::new(file));
        let reader = reader.map_err(|reason| broken(path, 1, reason))?;
        let rows = RowIter::from_file_into(Box::new(reader));
        Ok(ParquetRows { path: path.to_owned(), rows, row: 0 })
    }

    /// Fills an empty block with `wanted` bytes of rows or a little more.
    pub(crate) fn next_block(&mut self, wanted: usize, block: &mut Block) -> Result<()> {
        while block.bytes.len() < wanted {
            self.row += 1;
            let failed = |reason: String| broken(&self.path, self.row, reason);
            let row = guarded(|| self.rows.next().transpose()).map_err(failed)?;
            let Some(row) = row else { break };
            push(block, self.row, &fields(row)).map_err(|error| failed(error.to_string()))?;
        }
        Ok(())
    }
}

/// Runs the decoder, which panics over some damaged files.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the file is damaged".to_owned()),
    }
}

fn fields(row: Row) -> Fields<'static> {
    row.into_columns().into_iter().map(|(name, field)| (name.into(), value(field))).collect()
}

/// A value as JSON. Numbers that JSON lacks (infinite, or none at all) are null, as missing values are.
fn value(field: Field) -> Raw<'static> {
    let float = |number: f64| Number::from_f64(number).map_or(Raw::Null, Raw::Number);
    match field {
        Field::Null => Raw::Null,
        Field::Bool(value) => Raw::Bool(value),
        Field::Byte(value) => Raw::Number(value.into()),
        Field::Short(value) => Raw::Number(value.into()),
        Field::Int(value) => Raw::Number(value.into()),
        Field::Long(value) => Raw::Number(value.into()),
        Field::UByte(value) => Raw::Number(value.into()),
        Field::UShort(value) => Raw::Number(value.into()),
        Field::UInt(value) => Raw::Number(value.into()),
        Field::ULong(value) => Raw::Number(value.into()),
        Field::Float16(value) => float(value.into()),
        Field::Float(value) => float(value.into()),
        Field::Double(value) => float(value),
        Field::Str(text) => Raw::Text(text.into()),
        Field::Bytes(bytes) => Raw::Text(Cow::Owned(match std::str::from_utf8(bytes.data()) {
            Ok(text) => text.to_owned(),
            Err(_) => crate::base64::encode(bytes.data()),
        })),
        Field::Group(row) => Raw::Object(fields(row)),
        Field::ListInternal(list) => {
            Raw::Array(list.elements().iter().cloned().map(value).collect())
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let entry = |(key, field): &(Field, Field)| (key_of(key), value(field.clone()));
            Raw::Object(entries.map(entry).collect())
        }
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Raw::Text(field.to_string().into()),
    }
}

fn key_of(field: &Field) -> Cow<'static, str> {
    match field {
        Field::Str(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}
