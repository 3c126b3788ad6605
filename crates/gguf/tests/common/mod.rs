//! Builds GGUF headers byte by byte, right or wrong as a test needs them.
#![allow(dead_code, reason = "each test file uses its share")]

use std::io::Write;

use proptest::sample::Index;

/// A file under construction: metadata and tensor entries are written as given, without any check.
#[derive(Clone)]
pub struct Builder {
    pub magic: [u8; 4],
    pub version: u32,
    pub tensor_count: Option<u64>,
    pub key_count: Option<u64>,
    pub keys: Vec<Vec<u8>>,
    pub tensors: Vec<Vec<u8>>,
    pub alignment: usize,
    pub data: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            magic: *b"GGUF",
            version: 3,
            tensor_count: None,
            key_count: None,
            keys: Vec::new(),
            tensors: Vec::new(),
            alignment: 32,
            data: 0,
        }
    }
}

impl Builder {
    /// A small sound file with one value of every shape and two tensors.
    pub fn sample() -> Self {
        Builder::default()
            .key("general.architecture", 8, &text("llama"))
            .key("llama.block_count", 4, &30u32.to_le_bytes())
            .key("llama.rope.freq_base", 6, &1e5f32.to_le_bytes())
            .key("tokenizer.ggml.add_bos_token", 7, &[0])
            .key("tokenizer.ggml.tokens", 9, &array(8, &[text("a"), text("ü"), text("")]))
            .key("tokenizer.ggml.token_type", 9, &array(5, &[1i32, 3, -1].map(i32::to_le_bytes)))
            .key("tokenizer.ggml.scores", 9, &array(6, &[0.5f32, -1.0].map(f32::to_le_bytes)))
            .tensor("token_embd.weight", &[32, 3], 3, 0)
            .tensor("output_norm.weight", &[5], 0, 64)
            .data(64 + 20)
    }

    pub fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        let mut entry = text(name);
        entry.extend((dims.len() as u32).to_le_bytes());
        entry.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        entry.extend(kind.to_le_bytes());
        entry.extend(offset.to_le_bytes());
        self.tensors.push(entry);
        self
    }

    pub fn data(mut self, bytes: usize) -> Self {
        self.data = bytes;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.magic.to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        file.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        file.extend(self.keys.concat());
        file.extend(self.tensors.concat());
        file.resize(file.len().next_multiple_of(self.alignment) + self.data, 0);
        file
    }
}

/// The sample with other bytes in these places.
pub fn mutated(changes: &[(Index, u8)]) -> Vec<u8> {
    let mut bytes = Builder::sample().bytes();
    for (index, value) in changes {
        let length = bytes.len();
        bytes[index.index(length)] = *value;
    }
    bytes
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

pub fn array<T: AsRef<[u8]>>(kind: u32, items: &[T]) -> Vec<u8> {
    let mut bytes = [&kind.to_le_bytes()[..], &(items.len() as u64).to_le_bytes()].concat();
    items.iter().for_each(|item| bytes.extend(item.as_ref()));
    bytes
}

pub fn open(bytes: &[u8]) -> gguf::Result<gguf::Gguf> {
    let mut file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    gguf::Gguf::open(file.path())
}
