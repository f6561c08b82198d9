//! The sending half of the message stream: records kept until they are acknowledged. Spec: SPEC §2.5.
//!
//! Messages are laid one behind the other in one stream of bytes with 64-bit offsets. Nothing is copied before a frame
//! is filled, and after a resumption the stream continues from any offset.

use std::collections::VecDeque;

use bytes::Bytes;

use super::config::{BUFFER_MIN, WINDOW_MAX};
use super::{Channel, LinkError};
use crate::rest::Rest as _;

/// Bytes before a message in the stream: channel, length.
pub(crate) const RECORD_HEADER: usize = 3;
/// The least record. Shorter messages are padded: what a peer makes us hold is then at most twice what it sent.
pub(crate) const RECORD_MIN: usize = 64;

/// Bytes of the stream that a message of `len` bytes takes.
pub(crate) const fn record_len(len: usize) -> usize {
    if len + RECORD_HEADER < RECORD_MIN {
        RECORD_MIN
    } else {
        len + RECORD_HEADER
    }
}

#[derive(Debug)]
struct Record {
    channel: Channel,
    body: Bytes,
}

impl Record {
    fn len(&self) -> usize {
        record_len(self.body.len())
    }

    /// Copies the record's bytes from `at` on; returns how many.
    fn copy(&self, at: usize, out: &mut [u8]) -> usize {
        let len = u16::try_from(self.body.len())
            .expect("checked when it was pushed")
            .to_be_bytes();
        let n = out.len().min(self.len() - at);
        let out = &mut out[..n];
        let mut done = 0;
        let head = [self.channel.0, len[0], len[1]];
        if at < RECORD_HEADER {
            let k = n.min(RECORD_HEADER - at);
            out[..k].copy_from_slice(&head[at..at + k]);
            done = k;
        }
        let from = (at + done).saturating_sub(RECORD_HEADER).min(self.body.len());
        let k = (n - done).min(self.body.len() - from);
        out[done..done + k].copy_from_slice(&self.body[from..from + k]);
        out[done + k..].fill(0);
        n
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Outgoing {
    queue: VecDeque<Record>,
    /// Offset of the first byte of the first record held.
    base: u64,
    /// What the other end's program has taken.
    acked: u64,
    /// The next byte to send.
    next: u64,
    /// Behind the last byte accepted.
    end: u64,
    /// The record that `next` is in, and how much of it was sent.
    cursor: (usize, usize),
    limit: u32,
    peer_window: u32,
}

impl Outgoing {
    pub(crate) const fn new(limit: u32) -> Self {
        Self {
            queue: VecDeque::new(),
            base: 0,
            acked: 0,
            next: 0,
            end: 0,
            cursor: (0, 0),
            limit,
            peer_window: BUFFER_MIN,
        }
    }

    /// Bytes that the other end's program has taken.
    pub(crate) const fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes accepted and not acknowledged.
    pub(crate) const fn buffered(&self) -> u64 {
        self.end - self.acked
    }

    /// Everything accepted was put into frames.
    pub(crate) const fn is_drained(&self) -> bool {
        self.next == self.end
    }

    /// Whether a frame could carry data now.
    pub(crate) fn can_send(&self) -> bool {
        self.room() > 0
    }

    fn room(&self) -> usize {
        let allowed = self.end.min(self.acked + u64::from(self.peer_window));
        usize::try_from(allowed.saturating_sub(self.next)).unwrap_or(usize::MAX)
    }

    /// Accepts a message if it fits the buffer.
    pub(crate) fn push(&mut self, channel: Channel, body: Bytes) -> Result<(), LinkError> {
        if body.len() > super::MESSAGE_MAX {
            return Err(LinkError::TooLong {
                bound: super::MESSAGE_MAX,
                got: body.len(),
            });
        }
        let (buffered, bound) = (self.buffered(), u64::from(self.limit));
        if buffered + record_len(body.len()) as u64 > bound {
            return Err(LinkError::Full { buffered, bound });
        }
        self.push_control(channel, body);
        Ok(())
    }

    /// Accepts a message of the link itself, whatever the buffer holds: there are only ever a few.
    pub(crate) fn push_control(&mut self, channel: Channel, body: Bytes) {
        self.end += record_len(body.len()) as u64;
        self.queue.push_back(Record { channel, body });
    }

    /// Puts the next bytes of the stream into `out`; returns how many.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.room());
        let mut done = 0;
        while done < n {
            let (index, at) = self.cursor;
            let record = &self.queue[index];
            let copied = record.copy(at, &mut out[done..n]);
            self.cursor = if at + copied == record.len() {
                (index + 1, 0)
            } else {
                (index, at + copied)
            };
            done += copied;
        }
        self.next += n as u64;
        n
    }

    /// The other end has taken the stream up to `consumed`. Returns whether that made room.
    ///
    /// # Errors
    /// It claims bytes that were never sent, or takes back what it said.
    pub(crate) fn ack(&mut self, consumed: u64) -> Result<bool, LinkError> {
        if consumed > self.next {
            return Err(LinkError::Violation {
                rule: "acknowledge only what was sent",
                wanted: self.next,
                got: consumed,
            });
        }
        if consumed < self.acked {
            return Err(LinkError::Violation {
                rule: "an acknowledgement never steps back from",
                wanted: self.acked,
                got: consumed,
            });
        }
        let freed = consumed > self.acked;
        self.acked = consumed;
        while let Some(len) = self.queue.front().map(|record| record.len() as u64)
            && self.base + len <= self.acked
        {
            self.base += len;
            self.queue.pop_front();
            self.cursor.0 -= 1;
        }
        self.queue.rest(); // an idle link holds no buffers
        Ok(freed)
    }

    /// A connection begins: the other end has the stream up to `received` and takes `window` bytes ahead.
    ///
    /// # Errors
    /// It claims what was never sent, or lost what it acknowledged, or its window is outside the bounds.
    pub(crate) fn start(&mut self, received: u64, window: u32) -> Result<(), LinkError> {
        if received > self.end || received < self.acked {
            return Err(LinkError::Violation {
                rule: "resume within what was sent",
                wanted: self.end,
                got: received,
            });
        }
        if !(BUFFER_MIN..=WINDOW_MAX).contains(&window) {
            return Err(LinkError::Violation {
                rule: "a window between 128 KiB and 16 MiB",
                wanted: u64::from(WINDOW_MAX),
                got: u64::from(window),
            });
        }
        self.peer_window = window;
        self.next = received;
        let mut left = received - self.base;
        self.cursor = (0, 0);
        while left > 0 {
            let len = self.queue[self.cursor.0].len() as u64;
            if left < len {
                self.cursor.1 = usize::try_from(left).expect("below the length of a record");
                break;
            }
            left -= len;
            self.cursor.0 += 1;
        }
        Ok(())
    }

    /// Messages that are not acknowledged, in order: nobody knows whether they arrived.
    pub(crate) fn take_unknown(&mut self) -> Vec<(Channel, Bytes)> {
        let unknown = std::mem::take(&mut self.queue);
        self.base = self.end;
        self.acked = self.end;
        self.next = self.end;
        self.cursor = (0, 0);
        unknown
            .into_iter()
            .filter(|record| record.channel != Channel::CONTROL)
            .map(|record| (record.channel, record.body))
            .collect()
    }
}
