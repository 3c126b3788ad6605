//! Tensors in files: listed from the headers, read when they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::{Add, Bound, Range};
use std::path::Path;
use std::sync::Arc;

use gguf::Affine;
use half::{bf16, f16};
use mlx_rs::{Array, Dtype};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Differences;
use crate::{Error, Result};

/// The tensors of one or more files, by name. Reading is plain file access, without MLX operations: any
/// thread may do it.
///
/// Invariant: a tensor never replaces another one. The second of a name is kept apart as
/// [doubled](Self::doubled), for the error.
#[derive(Debug, Default)]
pub(crate) struct Store {
    entries: BTreeMap<String, Entry>,
    doubled: BTreeMap<String, Doubled>,
}

/// The files of a tensor that is there twice; one file if two of its names mean the same tensor.
type Doubled = [Arc<Path>; 2];

/// Position, type and shape of a tensor in a file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where its rows are: in one piece of a file, or in several, one after the other.
    pub pieces: Vec<Piece>,
    /// Bytes of a row in the file; of one value for a scalar.
    pub row_bytes: usize,
    pub shape: Vec<usize>,
    pub encoding: Encoding,
    /// Row `i` of the tensor is row `order[i]` of the file, if set.
    pub order: Option<Arc<[u32]>>,
    /// Whether 1 is added to each value: some checkpoints store `weight - 1`.
    pub add_one: bool,
}

/// Consecutive rows in a file.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub file: Arc<Path>,
    /// Offset of the first byte in the file.
    pub start: u64,
    /// How many; of the whole of a tensor, `None`.
    pub rows: Option<usize>,
}

/// How the values of a tensor are stored.
#[derive(Clone, Debug)]
pub(crate) enum Encoding {
    /// Values of this type, in row-major order.
    Plain(Dtype),
    /// One part of GGUF's quantized blocks, of which MLX's affine quantization has an array each.
    Blocks(Affine, Part),
    /// A type that is not supported, by its name.
    Unknown(String),
}

/// One of the three arrays of affine quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Packed,
    Scales,
    Biases,
}

impl Encoding {
    /// The type of the values once read.
    pub fn dtype(&self) -> Option<Dtype> {
        match self {
            Self::Plain(dtype) => Some(*dtype),
            Self::Blocks(_, Part::Packed) => Some(Dtype::Uint32),
            Self::Blocks(affine, _) if affine.has_f16_scales() => Some(Dtype::Float16),
            Self::Blocks(..) => Some(Dtype::Float32),
            Self::Unknown(_) => None,
        }
    }
}

impl Entry {
    /// The file, the first one of several.
    pub fn file(&self) -> Arc<Path> {
        self.pieces.first().map_or_else(|| Path::new("").into(), |piece| Arc::clone(&piece.file))
    }

    /// Type and shape, for messages.
    pub fn describe(&self) -> String {
        match &self.encoding {
            Encoding::Unknown(name) => format!("{name} {:?}", self.shape),
            known => format!("{:?} {:?}", known.dtype().unwrap_or(Dtype::Float32), self.shape),
        }
    }

    /// Bytes in memory once read.
    pub fn bytes(&self) -> u64 {
        let each = match self.encoding.dtype() {
            Some(Dtype::Float32 | Dtype::Uint32) => 4,
            Some(Dtype::Float16 | Dtype::Bfloat16) => 2,
            Some(Dtype::Uint8) => 1,
            _ => 0,
        };
        self.shape.iter().product::<usize>() as u64 * each
    }
}

impl Store {
    /// Adds a tensor.
    pub fn insert(&mut self, name: String, entry: Entry) {
        if let Some(first) = self.entries.get(&name) {
            let files = [first.file(), entry.file()];
            self.doubled.entry(name).or_insert(files);
            return;
        }
        self.entries.insert(name, entry);
    }

    /// The tensors that are there more than once.
    pub fn doubled(&self) -> &BTreeMap<String, Doubled> {
        &self.doubled
    }

    /// Removes the tensors for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
        self.doubled.retain(|name, _| keep(name));
    }

    /// Renames every tensor to what `new` returns for its name, or removes it for `None`.
    pub fn rename(&mut self, new: impl Fn(&str) -> Option<String>) {
        let doubled = std::mem::take(&mut self.doubled).into_iter();
        self.doubled = doubled.filter_map(|(name, files)| Some((new(&name)?, files))).collect();
        for (name, entry) in std::mem::take(&mut self.entries) {
            if let Some(name) = new(&name) {
                self.insert(name, entry);
            }
        }
    }

    /// Renames a tensor, if it is there.
    pub fn move_to(&mut self, name: &str, new: String) {
        if let Some(entry) = self.entries.remove(name) {
            self.insert(new, entry);
        }
    }

    /// Reshapes a stack `[count, rows, columns]` to one matrix `[count * rows, columns]`.
    pub fn flatten(&mut self, name: &str, count: usize) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let &[stacked, rows, columns] = entry.shape.as_slice()
            && stacked == count
            && rows > 0
        {
            entry.shape = vec![count * rows, columns];
            entry.row_bytes /= rows;
        }
    }

    /// Swaps the last two axes, one of which must have length 1, so that no value moves.
    pub fn swap_last_axes(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let [.., a, b] = entry.shape.as_mut_slice() {
            std::mem::swap(a, b);
        }
    }

    /// Adds 1 to the values of these tensors when they are read.
    pub fn add_one(&mut self, to: impl Fn(&str) -> bool) {
        let entries = self.entries.iter_mut().filter(|(name, _)| to(name));
        entries.for_each(|(_, entry)| entry.add_one = true);
    }

    /// Splits a tensor in two: each of its `count` equal blocks of rows consists of rows of the first
    /// followed by as many of the second.
    pub fn split(&mut self, name: &str, halves: [String; 2], count: usize) {
        let Some(entry) = self.entries.remove(name) else { return };
        let rows = entry.shape.first().copied().unwrap_or_default();
        let half = rows / count.max(1) / 2;
        for (part, name) in halves.into_iter().enumerate() {
            let starts = (0..count).map(|block| (2 * block + part) * half);
            let order = starts.flat_map(|start| start as u32..(start + half) as u32).collect();
            let shape = [&[count * half], entry.shape.get(1..).unwrap_or_default()].concat();
            let half = Entry { shape, order: Some(order), ..entry.clone() };
            self.insert(name, half);
        }
    }

    /// Lays tensors under each other, of the same type and shape, as one of the name `whole`. Without any of them nothing is
    /// done, and where they differ they stay, to be reported as unexpected.
    pub fn stack(&mut self, parts: &[String], whole: String) {
        let found: Option<Vec<&Entry>> = parts.iter().map(|name| self.entries.get(name)).collect();
        let Some(entries @ [first, ..]) = found.as_deref() else { return };
        let like_first = |entry: &&Entry| {
            let plain = matches!((&entry.encoding, &first.encoding), (Encoding::Plain(a), Encoding::Plain(b)) if a == b);
            plain && entry.shape == first.shape && entry.order.is_none() && entry.pieces.len() == 1
        };
        let &[rows, ref row @ ..] = first.shape.as_slice() else { return };
        if !entries.iter().all(like_first) {
            return;
        }
        let piece = |piece: &Piece| Piece { rows: Some(rows), ..piece.clone() };
        let pieces = entries.iter().flat_map(|entry| entry.pieces.iter().map(piece)).collect();
        let shape = [&[rows * entries.len()], row].concat();
        let stacked = Entry { pieces, shape, ..(*first).clone() };
        parts.iter().for_each(|name| drop(self.entries.remove(name)));
        self.insert(whole, stacked);
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The tensors whose names start with `prefix`.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let from = self.entries.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        let named = from.map(|(name, entry)| (name.as_str(), entry));
        named.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// Sets the order of a tensor's rows.
    pub fn reorder(&mut self, name: &str, order: &Arc<[u32]>) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.order = Some(Arc::clone(order));
        }
    }

    /// Reads a whole tensor.
    pub fn read(&self, name: &str) -> Result<Array> {
        let entry = self.find(name)?;
        let rows = entry.shape.first().copied().unwrap_or(1);
        match &entry.order {
            None => entry.read(name, &[0..rows]),
            Some(order) => {
                // Consecutive rows are read together.
                let runs = order.chunk_by(|&row, &next| row + 1 == next);
                let range = |run: &[u32]| {
                    let first = run.first().map_or(0, |&row| row as usize);
                    first..first + run.len()
                };
                entry.read(name, &runs.map(range).collect::<Vec<_>>())
            }
        }
    }

    /// Reads all tensors.
    pub fn read_all(&self) -> Result<BTreeMap<String, Array>> {
        self.entries.keys().map(|name| Ok((name.clone(), self.read(name)?))).collect()
    }

    /// Reads some rows of a tensor, in the file's order.
    pub fn read_rows(&self, name: &str, rows: &[Range<usize>]) -> Result<Array> {
        self.find(name)?.read(name, rows)
    }

    fn find(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).ok_or_else(|| {
            let path = self.entries.values().next().map(|entry| entry.file().to_path_buf());
            let differences = Differences { missing: vec![name.to_owned()], ..Default::default() };
            Error::Tensors { path: path.unwrap_or_default(), differences: Box::new(differences) }
        })
    }
}

impl Entry {
    fn read(&self, name: &str, rows: &[Range<usize>]) -> Result<Array> {
        let count: usize = rows.iter().map(Range::len).sum();
        let mut shape: Vec<i32> = self.shape.iter().map(|&n| n as i32).collect();
        if let Some(first) = shape.first_mut() {
            *first = count as i32;
        }
        Ok(match &self.encoding {
            Encoding::Plain(Dtype::Float32) => {
                Array::from_slice(&self.floats::<f32>(name, rows)?, &shape)
            }
            Encoding::Plain(Dtype::Float16) => {
                Array::from_slice(&self.floats::<f16>(name, rows)?, &shape)
            }
            Encoding::Plain(Dtype::Bfloat16) => {
                Array::from_slice(&self.floats::<bf16>(name, rows)?, &shape)
            }
            Encoding::Plain(Dtype::Uint32) => Array::from_slice(&self.values::<u32>(rows)?, &shape),
            Encoding::Plain(Dtype::Uint8) => Array::from_slice(&self.values::<u8>(rows)?, &shape),
            Encoding::Blocks(affine, part) => {
                let blocks = self.values::<u8>(rows)?;
                let levels = match part {
                    Part::Packed => return Ok(Array::from_slice(&affine.packed(&blocks), &shape)),
                    Part::Scales => affine.scales(&blocks),
                    Part::Biases => affine.biases(&blocks),
                };
                if affine.has_f16_scales() {
                    let levels = levels.into_iter().map(f16::from_f32).collect();
                    Array::from_slice(&self.checked(name, levels)?, &shape)
                } else {
                    Array::from_slice(&self.checked(name, levels)?, &shape)
                }
            }
            // Unreachable for a checked checkpoint: the comparison with the expected tensors refuses it.
            Encoding::Plain(_) | Encoding::Unknown(_) => {
                let reason = format!("{} is not a supported type", self.describe());
                return Err(self.failed(std::io::Error::other(reason)));
            }
        })
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.file().to_path_buf(), source }
    }

    /// [`values`](Self::values), checked, plus 1 if the file stores `value - 1`.
    fn floats<T>(&self, name: &str, rows: &[Range<usize>]) -> Result<Vec<T>>
    where
        T: Float + FromBytes + IntoBytes + Add<Output = T> + From<i8>,
    {
        let mut values = self.checked(name, self.values::<T>(rows)?)?;
        if self.add_one {
            values.iter_mut().for_each(|value| *value = *value + T::from(1));
        }
        Ok(values)
    }

    /// The values, if all of them are finite: a single other one makes every output NaN.
    fn checked<T: Float>(&self, name: &str, values: Vec<T>) -> Result<Vec<T>> {
        // Without a branch per value, so that checking is as fast as reading.
        if values.iter().fold(true, |finite, value| finite & value.is_finite()) {
            return Ok(values);
        }
        let bad = values.iter().enumerate().find(|(_, value)| !value.is_finite());
        let (position, found) = bad.map_or((0, f32::NAN), |(i, &value)| (i, value.into()));
        let (path, tensor) = (self.file().to_path_buf(), name.to_owned());
        Err(Error::NotFinite { path, tensor, position, found })
    }

    /// Reads rows of the file, one range after the other.
    fn values<T>(&self, rows: &[Range<usize>]) -> Result<Vec<T>>
    where
        T: FromBytes + IntoBytes + Clone,
    {
        let bytes = rows.iter().map(Range::len).sum::<usize>() * self.row_bytes;
        let mut values = vec![T::new_zeroed(); bytes / size_of::<T>()];
        let mut rest = values.as_mut_bytes();
        let mut open: Option<(&Path, File)> = None;
        for (piece, range) in rows.iter().flat_map(|range| self.places(range.clone())) {
            let length = (range.len() * self.row_bytes).min(rest.len());
            let (now, later) = rest.split_at_mut(length);
            let start = piece.start + (range.start * self.row_bytes) as u64;
            let mut file = match open.take() {
                Some((path, file)) if path == &*piece.file => file,
                _ => File::open(&piece.file).map_err(|source| piece.failed(source))?,
            };
            let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(now));
            read.map_err(|source| piece.failed(source))?;
            open = Some((&piece.file, file));
            rest = later;
        }
        Ok(values)
    }

    /// The pieces that a range of rows lies in, with the rows of each.
    fn places(&self, range: Range<usize>) -> impl Iterator<Item = (&Piece, Range<usize>)> {
        let mut before = 0;
        self.pieces.iter().filter_map(move |piece| {
            let first = before;
            before = piece.rows.map_or(usize::MAX, |rows| first.saturating_add(rows));
            let (start, end) = (range.start.max(first), range.end.min(before));
            (start < end).then(|| (piece, start - first..end - first))
        })
    }
}

impl Piece {
    fn failed(&self, source: std::io::Error) -> Error {
        Error::Read { path: self.file.to_path_buf(), source }
    }
}

/// Floating-point types that checkpoints use.
trait Float: Copy + Into<f32> {
    fn is_finite(self) -> bool;
}

impl Float for f32 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for f16 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}

impl Float for bf16 {
    fn is_finite(self) -> bool {
        self.is_finite()
    }
}
