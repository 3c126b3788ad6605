use std::io::{self, BufRead, Read};

use crate::input::Input;

/// An input of which a part can be read again.
pub(super) struct Rewind {
    /// The bytes to read before the input, and how many of them are read.
    again: Vec<u8>,
    done: usize,
    input: Input,
}

impl Rewind {
    pub(super) fn new(input: Input) -> Self {
        Rewind { again: Vec::new(), done: 0, input }
    }

    /// Puts bytes in front of those that are not read yet.
    pub(super) fn rewind(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(self.again.get(self.done..).unwrap_or_default());
        (self.again, self.done) = (bytes, 0);
    }
}

impl Read for Rewind {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut again = self.again.get(self.done..).unwrap_or_default();
        if again.is_empty() {
            return self.input.read(out);
        }
        let read = again.read(out)?;
        self.done += read;
        Ok(read)
    }
}

impl BufRead for Rewind {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.again.get(self.done..) {
            Some(again) if !again.is_empty() => Ok(again),
            _ => self.input.fill_buf(),
        }
    }

    fn consume(&mut self, amount: usize) {
        let again = amount.min(self.again.len() - self.done);
        self.done += again;
        self.input.consume(amount - again);
    }
}
