//! Files as a stream of bytes, compressed or not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

pub(crate) type Input = Box<dyn BufRead + Send>;

const BUFFER: usize = 1 << 18;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file. gzip and zstd are known by their first bytes, whatever the file is called.
pub(crate) fn open(path: &Path) -> io::Result<Input> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let start = file.fill_buf()?;
    if start.starts_with(GZIP) {
        let plain = MultiGzDecoder::new(file);
        return Ok(Box::new(BufReader::with_capacity(BUFFER, plain)));
    }
    if start.starts_with(ZSTD) {
        let plain = Frames::start(file)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER, plain)));
    }
    Ok(Box::new(file))
}

/// All frames of a zstd file: parallel compressors write many, and the decoder stops after one.
struct Frames(Option<StreamingDecoder<BufReader<File>, FrameDecoder>>);

impl Frames {
    fn start(file: BufReader<File>) -> io::Result<Self> {
        Ok(Frames(Some(StreamingDecoder::new(file).map_err(io::Error::other)?)))
    }
}

impl Read for Frames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(frame) = &mut self.0 {
            let read = frame.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            if let Some(mut rest) = self.0.take().map(StreamingDecoder::into_inner)
                && !rest.fill_buf()?.is_empty()
            {
                *self = Frames::start(rest)?;
            }
        }
        Ok(0)
    }
}
