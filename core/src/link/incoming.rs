//! The receiving half of the message stream: records put together again, until the program takes them. Spec: SPEC §2.5.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::zeros;
use super::outgoing::{RECORD_HEADER, record_len};
use super::{Channel, LinkError};
use crate::rest::Rest as _;

/// Memory reserved for a message before its bytes are here.
const RESERVE_MAX: usize = 8 * 1024;

#[derive(Debug)]
struct Ready {
    channel: Channel,
    body: Bytes,
    /// Bytes of the stream that end with this message: its record, and those of the link's own behind it.
    cost: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Bytes of the stream received.
    received: u64,
    /// Bytes of the stream that the program has taken.
    consumed: u64,
    window: u32,
    head: [u8; RECORD_HEADER],
    /// How much of the current record is here.
    at: usize,
    body: Vec<u8>,
    ready: VecDeque<Ready>,
}

impl Incoming {
    pub(crate) const fn new(window: u32) -> Self {
        Self {
            received: 0,
            consumed: 0,
            window,
            head: [0; RECORD_HEADER],
            at: 0,
            body: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) const fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    /// Takes the next bytes of the stream. Messages of the link itself go to `control`, others wait for [`Incoming::pop`].
    ///
    /// # Errors
    /// More than the window, padding that is not zero, or what `control` refuses.
    pub(crate) fn push(
        &mut self,
        mut data: &[u8],
        mut control: impl FnMut(&[u8]) -> Result<(), LinkError>,
    ) -> Result<(), LinkError> {
        let ahead = self.received + data.len() as u64 - self.consumed;
        if ahead > u64::from(self.window) {
            return Err(LinkError::Violation {
                rule: "send no more than the window",
                wanted: u64::from(self.window),
                got: ahead,
            });
        }
        while !data.is_empty() {
            let used = self.advance(data)?;
            self.received += used as u64;
            data = &data[used..];
            if self.at >= RECORD_HEADER && self.at == record_len(self.body_len()) {
                self.finish(&mut control)?;
            }
        }
        Ok(())
    }

    fn body_len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.head[1], self.head[2]]))
    }

    /// Takes bytes of one part of the current record: header, body or padding.
    fn advance(&mut self, data: &[u8]) -> Result<usize, LinkError> {
        let take = |left: usize| data.len().min(left);
        let used = if self.at < RECORD_HEADER {
            let n = take(RECORD_HEADER - self.at);
            self.head[self.at..self.at + n].copy_from_slice(&data[..n]);
            n
        } else if self.body.len() < self.body_len() {
            if self.body.is_empty() {
                self.body.reserve_exact(self.body_len().min(RESERVE_MAX));
            }
            let n = take(self.body_len() - self.body.len());
            self.body.extend_from_slice(&data[..n]);
            n
        } else {
            let n = take(record_len(self.body_len()) - self.at);
            zeros(&data[..n])?;
            n
        };
        self.at += used;
        Ok(used)
    }

    /// A record is complete.
    fn finish(&mut self, control: &mut impl FnMut(&[u8]) -> Result<(), LinkError>) -> Result<(), LinkError> {
        let cost = std::mem::take(&mut self.at) as u64;
        let body = std::mem::take(&mut self.body);
        let channel = Channel(self.head[0]);
        if channel != Channel::CONTROL {
            self.ready.push_back(Ready {
                channel,
                body: Bytes::from(body),
                cost,
            });
            return Ok(());
        }
        // What is acknowledged is a prefix of the stream: the link's own records count with the message before them.
        match self.ready.back_mut() {
            Some(before) => before.cost += cost,
            None => self.consumed += cost,
        }
        control(&body)
    }

    /// The next message for the program.
    pub(crate) fn pop(&mut self) -> Option<(Channel, Bytes)> {
        let ready = self.ready.pop_front()?;
        self.consumed += ready.cost;
        self.ready.rest(); // an idle link holds no buffers
        Some((ready.channel, ready.body))
    }

    pub(crate) fn has_message(&self) -> bool {
        !self.ready.is_empty()
    }
}
