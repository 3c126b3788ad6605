//! Opens plain, gzip and zstd files as streams of text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

pub(crate) type Input = Box<dyn BufRead + Send>;

const BUFFER: usize = 1 << 18;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Opens a file. gzip and zstd are recognised by their first bytes, not by the name of the file.
pub(crate) fn open(path: &Path) -> io::Result<Input> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path)?);
    let start = file.fill_buf()?;
    if start.starts_with(GZIP) {
        return Ok(buffered("gzip", MultiGzDecoder::new(file)));
    }
    if start.starts_with(ZSTD) {
        return Ok(buffered("zstd", Frames { file, decoder: FrameDecoder::new(), inside: false }));
    }
    Ok(Box::new(file))
}

/// Whether a file begins with a byte order mark of UTF-16.
pub(crate) fn is_utf16(start: &[u8]) -> bool {
    matches!(start, [0xff, 0xfe, ..] | [0xfe, 0xff, ..])
}

fn buffered(format: &'static str, plain: impl Read + Send + 'static) -> Input {
    Box::new(BufReader::with_capacity(BUFFER, Unpacked { format, plain, bytes: 0 }))
}

/// Counts the decompressed bytes, so that the error of a corrupt file says how far it could be read.
struct Unpacked<R> {
    format: &'static str,
    plain: R,
    bytes: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Unpacked { format, plain, bytes } = self;
        let read = plain.read(out).map_err(|error| {
            let found = format!("damaged {format} after {bytes} bytes of text: {error}");
            io::Error::new(error.kind(), found)
        })?;
        *bytes += read as u64;
        Ok(read)
    }
}

/// Reads all frames of a zstd file; parallel compressors write many.
struct Frames<R> {
    file: R,
    decoder: FrameDecoder,
    /// Whether a frame has been started and not ended.
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    /// Starts the next frame, if there is one.
    fn start(&mut self) -> io::Result<()> {
        use FrameDecoderError::ReadFrameHeaderError as Header;
        match self.decoder.init(&mut self.file) {
            Ok(()) => self.inside = true,
            // Skippable frames hold metadata of some compressors.
            Err(Header(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let mut note = (&mut self.file).take(length.into());
                if io::copy(&mut note, &mut io::sink())? < length.into() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    fn decode(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            let one = BlockDecodingStrategy::UptoBlocks(1);
            self.decoder.decode_blocks(&mut self.file, one).map_err(io::Error::other)?;
        }
        self.decoder.read(out)
    }

    /// Ends the frame. The decoder computes the checksum but does not compare it.
    fn end(&mut self) -> io::Result<()> {
        self.inside = false;
        match (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum()) {
            (Some(written), Some(computed)) if written != computed => {
                Err(io::Error::other("its checksum does not match"))
            }
            _ => Ok(()),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.inside {
                let read = self.decode(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
                self.end()?;
            }
            if self.file.fill_buf()?.is_empty() {
                return Ok(0);
            }
            self.start()?;
        }
    }
}
