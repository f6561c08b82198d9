//! A window over a stream: what is looked at stays in memory, what is taken goes.

use std::io::{ErrorKind, Read};

use super::error::{CaptureError, Place};

/// What is read at once, in bytes.
const CHUNK: usize = 64 * 1024;

/// The window. It grows to what is asked for, so callers bound that first.
pub(super) struct Window<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) const fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// Bytes that were taken.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `len` bytes, or fewer at the end of the stream. They stay.
    pub(super) fn peek(&mut self, len: usize, place: Place) -> Result<&[u8], CaptureError> {
        if self.end - self.start < len {
            self.fill(len, place)?;
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + len)])
    }

    fn fill(&mut self, len: usize, place: Place) -> Result<(), CaptureError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let wanted = len.max(CHUNK);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        while self.end < len {
            match self.inner.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CaptureError::Io { place, error }),
            }
        }
        Ok(())
    }

    /// Takes the next `len` bytes, all of which must be there.
    pub(super) fn take(
        &mut self,
        len: usize,
        what: &'static str,
        place: Place,
    ) -> Result<&[u8], CaptureError> {
        let got = self.peek(len, place)?.len();
        if got < len {
            return Err(CaptureError::Truncated {
                place,
                what,
                wanted: len as u64,
                got: got as u64,
            });
        }
        let start = self.start;
        self.start += len;
        self.offset += len as u64;
        Ok(&self.buffer[start..start + len])
    }

    /// Takes the next `len` bytes and keeps none, however many they are.
    pub(super) fn skip(&mut self, len: u64, what: &'static str, place: Place) -> Result<(), CaptureError> {
        let mut left = len;
        while left > 0 {
            let step = left.min(CHUNK as u64) as usize;
            if self.peek(step, place)?.len() < step {
                return Err(CaptureError::Truncated {
                    place,
                    what,
                    wanted: len,
                    got: len - left + (self.end - self.start) as u64,
                });
            }
            self.start += step;
            self.offset += step as u64;
            left -= step as u64;
        }
        Ok(())
    }
}
