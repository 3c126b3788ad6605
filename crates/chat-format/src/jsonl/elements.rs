//! Reads the elements of arrays, and objects over several lines, one by one.
//!
//! Only strings and nesting are tracked; the JSON parser validates the rest. An element is sound if its brackets match and
//! another element, a comma, the end of its array or the end of the file follows. One that is not ends where an object begins
//! as the first one of the file did (`{"messages":`), or else with the file. Commas between elements may be missing, and arrays
//! may follow each other.

use std::io::BufRead;
use std::ops::ControlFlow;

use super::{LONGEST, Place, Reader};
use crate::{Problem, Result, json};

/// The most bytes of a file that are read again because of broken elements.
const MOST_AGAIN: u64 = 1 << 30;

/// Where a reader is among the elements of a file.
#[derive(Debug, Default)]
pub(super) struct Elements {
    /// How many elements of arrays came before.
    count: u64,
    /// Whether an array is open.
    inside: bool,
    /// How the first object or array among the elements begins, up to its first colon.
    head: Vec<u8>,
    /// How many bytes were read again.
    again: u64,
}

impl Reader {
    /// Reads the next element into `bytes`.
    pub(super) fn next_element(&mut self) -> Result<Option<(Place, Option<Problem>)>> {
        self.bytes.clear();
        let next = loop {
            match (self.skip_space()?, self.elements.inside) {
                (Some(b','), _) => {}
                (Some(b'['), false) => self.elements.inside = true,
                (Some(b']'), true) => self.elements.inside = false,
                (Some(next), _) => break next,
                (None, false) => return Ok(None),
                (None, true) => {
                    self.elements.inside = false;
                    let found = "the end of the file inside the array";
                    let problem = Problem::new("", "`]`, the end of the array", found);
                    return Ok(Some((Place::on_line(self.line), Some(problem))));
                }
            }
            self.input.consume(1);
        };
        let element = self.elements.inside.then_some(self.elements.count);
        self.elements.count += u64::from(self.elements.inside);
        let place = Place { line: self.line, element };
        let closed = match next {
            b'{' | b'[' => self.read_nested()?,
            _ => self.read_plain()?,
        };
        if self.elements.head.is_empty() && matches!(next, b'{' | b'[') {
            let colon = memchr::memchr(b':', &self.bytes).map_or(0, |colon| colon + 1);
            self.elements.head = self.bytes[..colon].to_vec();
        }
        let ends = closed && matches!(self.skip_space()?, None | Some(b',' | b']' | b'{' | b'['));
        if !ends || self.holds_others() {
            self.cut_element()?;
        }
        Ok(Some((place, None)))
    }

    /// Reads an object or an array. Returns whether it is closed.
    fn read_nested(&mut self) -> Result<bool> {
        let (mut open, mut in_text, mut escaped) = (Vec::new(), false, false);
        self.read_until(|buffer| {
            for (at, &byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    _ if in_text => {}
                    b'{' => open.push(b'}'),
                    b'[' => open.push(b']'),
                    b'}' | b']' => {
                        let fits = open.pop() == Some(byte);
                        if !fits || open.is_empty() {
                            return (at + 1, ControlFlow::Break(fits));
                        }
                    }
                    _ => {}
                }
            }
            (buffer.len(), ControlFlow::Continue(()))
        })
    }

    /// Reads a string, or whatever stands there, up to the end of an element. Returns whether it is all there.
    fn read_plain(&mut self) -> Result<bool> {
        let (mut first, mut in_text, mut escaped) = (true, false, false);
        let closed = self.read_until(|buffer| {
            for (at, &byte) in buffer.iter().enumerate() {
                let ends = json::is_space(byte) || b",[]{}".contains(&byte);
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    _ if ends && !in_text && !first => return (at, ControlFlow::Break(true)),
                    _ => {}
                }
                first = false;
            }
            (buffer.len(), ControlFlow::Continue(()))
        })?;
        // The file may end behind a number.
        Ok(closed || !in_text)
    }

    /// Appends bytes of the input as long as `read` goes on: it returns how many of those it is shown it takes. Returns what it
    /// breaks with; false at the end of the file, and once the element is too long.
    fn read_until(
        &mut self,
        mut read: impl FnMut(&[u8]) -> (usize, ControlFlow<bool>),
    ) -> Result<bool> {
        loop {
            let buffer = match self.input.fill_buf() {
                Ok(buffer) => buffer,
                Err(source) => return Err(self.damaged(&[], source)),
            };
            if buffer.is_empty() || self.bytes.len() > LONGEST {
                return Ok(false);
            }
            let (taken, flow) = read(buffer);
            let taken = &buffer[..taken];
            self.line += memchr::memchr_iter(b'\n', taken).count() as u64;
            self.bytes.extend_from_slice(taken);
            let taken = taken.len();
            self.input.consume(taken);
            if let ControlFlow::Break(closed) = flow {
                return Ok(closed);
            }
        }
    }

    /// Ends an element that is not sound. What follows is read again.
    fn cut_element(&mut self) -> Result<()> {
        let mut searched = 1;
        loop {
            if let Some(cut) = self.next_head(searched) {
                let rest = self.bytes.split_off(cut);
                self.line -= memchr::memchr_iter(b'\n', &rest).count() as u64;
                self.elements.again += rest.len() as u64;
                if self.elements.again > MOST_AGAIN {
                    return Err(self.broken("too many elements that are not closed"));
                }
                self.input.rewind(rest);
                return Ok(());
            }
            searched = self.bytes.len().saturating_sub(self.elements.head.len()).max(1);
            self.check_length(self.bytes.len())?;
            if !self.read_until(|buffer| (buffer.len(), ControlFlow::Break(true)))? {
                break;
            }
        }
        if self.elements.head.is_empty() {
            return Err(self.broken("text that is no element, and none before it"));
        }
        self.elements.inside = false;
        Ok(())
    }

    /// Whether the element is several: two that are not closed, and those in between, may look like a closed one.
    fn holds_others(&self) -> bool {
        let not_json = || serde_json::from_slice::<serde::de::IgnoredAny>(&self.bytes).is_err();
        self.next_head(1).is_some() && not_json()
    }

    /// Where, at byte `from` or later of the element, the next one seems to begin.
    fn next_head(&self, from: usize) -> Option<usize> {
        let head = Some(&self.elements.head[..]).filter(|head| !head.is_empty())?;
        let mut found = memchr::memmem::find_iter(self.bytes.get(from..)?, head);
        let follows = |at: &usize| {
            let before = json::trim(self.bytes.get(..*at).unwrap_or_default());
            matches!(before.last(), Some(b',' | b'}' | b']'))
        };
        found.by_ref().map(|at| from + at).find(follows)
    }
}
