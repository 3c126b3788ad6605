//! The parser. Every length is checked against the remaining bytes before it is used, and buffers grow with the bytes
//! that were read, not with the lengths in the header.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::{Error, Gguf, Metadata, Result, Tensor, TensorType, Value};

// Real models stay far below these limits.
const MAX_KEYS: u64 = 1 << 16;
const MAX_TENSORS: u64 = 1 << 20;
const MAX_STRING: u64 = 1 << 24;
const MAX_ARRAY: u64 = 1 << 24;
const MAX_DIMS: u64 = 4;

const DEFAULT_ALIGNMENT: u64 = 32;

pub(crate) fn read(path: &Path) -> Result<Gguf> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut header = Header { input: BufReader::new(file), path: path.to_owned(), offset: 0, size };

    let magic = header.bytes::<4>(|| "the magic number".into())?;
    if &magic != b"GGUF" {
        return Err(Error::BadMagic { path: header.path, found: magic });
    }
    let version = header.u32(|| "the version".into())?;
    if !(2..=3).contains(&version) {
        return Err(Error::Version { path: header.path, found: version });
    }
    let tensor_count = header.count("the number of tensors", MAX_TENSORS)?;
    let key_count = header.count("the number of metadata keys", MAX_KEYS)?;
    let metadata = header.metadata(key_count)?;
    let mut tensors = header.tensor_table(tensor_count)?;
    header.place_data(&metadata, &mut tensors)?;
    Ok(Gguf { path: header.path, version, metadata, tensors })
}

struct Header {
    input: BufReader<File>,
    path: PathBuf,
    offset: u64,
    size: u64,
}

impl Header {
    fn metadata(&mut self, count: u64) -> Result<Metadata> {
        let mut values = BTreeMap::new();
        for index in 0..count {
            let key = self.string(|| format!("metadata key {index}"))?;
            let value = self.value(&key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(self.duplicate("metadata key", key));
            }
        }
        Ok(Metadata { path: self.path.clone(), values })
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(|| format!("the type of `{key}`"))?;
        match kind {
            8 => Ok(Value::String(self.string(|| format!("the value of `{key}`"))?)),
            9 => self.array(key),
            _ => self.scalar(key, kind),
        }
    }

    fn array(&mut self, key: &str) -> Result<Value> {
        let kind = self.u32(|| format!("the element type of `{key}`"))?;
        let count = self.count(&format!("the length of the array `{key}`"), MAX_ARRAY)?;
        if kind == 8 {
            let mut items = Vec::new();
            for index in 0..count {
                items.push(self.string(|| format!("element {index} of `{key}`"))?);
            }
            return Ok(Value::Strings(items));
        }
        let (mut bools, mut ints, mut floats) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            match self.scalar(key, kind)? {
                Value::Bool(item) => bools.push(item),
                Value::Int(item) => ints.push(i64::try_from(item).map_err(|_| {
                    self.bad_value(key, "integers of at most 63 bits", item.to_string())
                })?),
                Value::Float(item) => floats.push(item),
                _ => return Err(self.bad_value(key, "an array of plain values", kind.to_string())),
            }
        }
        Ok(match kind {
            7 => Value::Bools(bools),
            6 | 12 => Value::Floats(floats),
            _ => Value::Ints(ints),
        })
    }

    fn scalar(&mut self, key: &str, kind: u32) -> Result<Value> {
        let what = || format!("the value of `{key}`");
        Ok(match kind {
            0 => Value::Int(u8::from_le_bytes(self.bytes(what)?).into()),
            1 => Value::Int(i8::from_le_bytes(self.bytes(what)?).into()),
            2 => Value::Int(u16::from_le_bytes(self.bytes(what)?).into()),
            3 => Value::Int(i16::from_le_bytes(self.bytes(what)?).into()),
            4 => Value::Int(u32::from_le_bytes(self.bytes(what)?).into()),
            5 => Value::Int(i32::from_le_bytes(self.bytes(what)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.bytes(what)?).into()),
            7 => match self.bytes(what)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(self.bad_value(key, "a bool (0 or 1)", other.to_string())),
            },
            10 => Value::Int(u64::from_le_bytes(self.bytes(what)?).into()),
            11 => Value::Int(i64::from_le_bytes(self.bytes(what)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.bytes(what)?)),
            other => return Err(self.bad_value(key, "a value type", format!("type {other}"))),
        })
    }

    /// Reads the table. Ranges are relative to the data section, whose offset is known only afterwards.
    fn tensor_table(&mut self, count: u64) -> Result<Vec<Tensor>> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for index in 0..count {
            let name = self.string(|| format!("the name of tensor {index}"))?;
            let tensor = self.tensor(name)?;
            if !names.insert(tensor.name.clone()) {
                return Err(self.duplicate("tensor", tensor.name));
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn tensor(&mut self, name: String) -> Result<Tensor> {
        let what = || format!("the entry of tensor `{name}`");
        let rank = self.u32(what)?;
        if u64::from(rank) > MAX_DIMS {
            return Err(self.bad_tensor(&name, "at most 4 dimensions", rank.to_string()));
        }
        let mut dims = Vec::new();
        for _ in 0..rank {
            dims.push(u64::from_le_bytes(self.bytes(what)?));
        }
        let id = self.u32(what)?;
        let start = u64::from_le_bytes(self.bytes(what)?);
        let kind = TensorType::from_id(id)
            .ok_or_else(|| self.bad_tensor(&name, "a known element type", format!("type {id}")))?;
        let row = dims.first().copied().unwrap_or(1);
        if row % kind.block_elements() != 0 {
            let found = format!("{dims:?} of {kind}");
            return Err(self.bad_tensor(&name, "rows of whole blocks", found));
        }
        // Checked arithmetic here makes the later arithmetic on ranges safe.
        let end = dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
            .and_then(|elements| (elements / kind.block_elements()).checked_mul(kind.block_bytes()))
            .and_then(|bytes| start.checked_add(bytes))
            .ok_or_else(|| self.bad_tensor(&name, "a size below 2^64", format!("{dims:?}")))?;
        Ok(Tensor { name, dims, kind, range: start..end })
    }

    /// Turns offsets into absolute ranges and checks them against the file and each other.
    fn place_data(&self, metadata: &Metadata, tensors: &mut [Tensor]) -> Result<()> {
        let key = "general.alignment";
        let alignment = match metadata.has(key) {
            true => u64::from(metadata.u32(key)?),
            false => DEFAULT_ALIGNMENT,
        };
        if !alignment.is_power_of_two() {
            return Err(self.bad_value(key, "a power of two", alignment.to_string()));
        }
        let data = self.offset.next_multiple_of(alignment);
        for tensor in tensors.iter_mut() {
            let (start, end) = (tensor.range.start, tensor.range.end);
            if start % alignment != 0 {
                let found = format!("offset {start}, alignment {alignment}");
                return Err(self.bad_tensor(&tensor.name, "an aligned offset", found));
            }
            let place = |offset: u64| data.checked_add(offset).filter(|&at| at <= self.size);
            let (Some(first), Some(last)) = (place(start), place(end)) else {
                return Err(Error::OutOfFile {
                    path: self.path.clone(),
                    tensor: tensor.name.clone(),
                    start: data.saturating_add(start),
                    end: data.saturating_add(end),
                    size: self.size,
                });
            };
            tensor.range = first..last;
        }
        self.check_overlaps(tensors)
    }

    fn check_overlaps(&self, tensors: &[Tensor]) -> Result<()> {
        let mut order: Vec<&Tensor> = tensors.iter().filter(|t| !t.range.is_empty()).collect();
        order.sort_by_key(|tensor| tensor.range.start);
        for (first, second) in order.iter().zip(order.iter().skip(1)) {
            if second.range.start < first.range.end {
                return Err(Error::Overlap {
                    path: self.path.clone(),
                    first: first.name.clone(),
                    second: second.name.clone(),
                });
            }
        }
        Ok(())
    }

    fn count(&mut self, what: &str, limit: u64) -> Result<u64> {
        let found = u64::from_le_bytes(self.bytes(|| what.to_owned())?);
        self.at_most(what, found, limit)
    }

    fn u32(&mut self, what: impl Fn() -> String) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    fn string(&mut self, what: impl Fn() -> String) -> Result<String> {
        let length = u64::from_le_bytes(self.bytes(&what)?);
        if length > MAX_STRING {
            self.at_most(&format!("the length of {}", what()), length, MAX_STRING)?;
        }
        let start = self.offset;
        self.require(length, &what)?;
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes);
        self.advance(read.map(|read| read as u64), length, &what)?;
        String::from_utf8(bytes).map_err(|_| Error::NotUtf8 {
            path: self.path.clone(),
            what: what(),
            offset: start,
        })
    }

    fn bytes<const N: usize>(&mut self, what: impl Fn() -> String) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.require(N as u64, &what)?;
        let read = match self.input.read_exact(&mut bytes) {
            Ok(()) => Ok(N as u64),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error),
        };
        self.advance(read, N as u64, &what)?;
        Ok(bytes)
    }

    fn at_most(&self, what: &str, found: u64, limit: u64) -> Result<u64> {
        if found <= limit {
            return Ok(found);
        }
        Err(Error::TooLarge { path: self.path.clone(), what: what.to_owned(), found, limit })
    }

    fn require(&self, needed: u64, what: &impl Fn() -> String) -> Result<()> {
        let left = self.size.saturating_sub(self.offset);
        if needed <= left { Ok(()) } else { Err(self.truncated(needed, left, what)) }
    }

    /// Advances after a read. A file that shrank meanwhile is truncated.
    fn advance(
        &mut self,
        read: std::io::Result<u64>,
        needed: u64,
        what: &impl Fn() -> String,
    ) -> Result<()> {
        let read = read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        if read < needed {
            return Err(self.truncated(needed, read, what));
        }
        self.offset += read;
        Ok(())
    }

    fn truncated(&self, needed: u64, left: u64, what: &impl Fn() -> String) -> Error {
        let (path, what, offset) = (self.path.clone(), what(), self.offset);
        Error::Truncated { path, what, offset, needed, left }
    }

    fn duplicate(&self, what: &'static str, name: String) -> Error {
        Error::Duplicate { path: self.path.clone(), what, name }
    }

    fn bad_value(&self, key: &str, expected: &'static str, found: String) -> Error {
        Error::BadValue { path: self.path.clone(), key: key.to_owned(), expected, found }
    }

    fn bad_tensor(&self, tensor: &str, expected: &'static str, found: String) -> Error {
        Error::BadTensor { path: self.path.clone(), tensor: tensor.to_owned(), expected, found }
    }
}
