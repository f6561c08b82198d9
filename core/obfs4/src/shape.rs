//! The outline of what is sent: where bursts end, and how long to wait between writes.
//!
//! A burst is what one call to send takes: payload frames, then padding up to a length drawn from the bridge's distribution,
//! modulo a segment. With [`IatMode::None`] it is one write. With [`IatMode::Enabled`] it is cut into segments, with
//! [`IatMode::Paranoid`] into pieces whose every length is drawn, with padding when there is not enough for the last; after
//! each comes a pause, also drawn.
//!
//! obfs4proxy's paranoid loop has no end for some seeds: it stops on a length of 0, and never comes out even when all lengths
//! are short (one length of 2, for example). A bridge chooses the seed, so here a burst ends after [`PADDINGS_MAX`] attempts
//! with what is left. Source: `Write` and `padBurst` of obfs4proxy 0.0.14.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::CryptoRng;

use crate::bridge::IatMode;
use crate::dist::WeightedDist;
use crate::drbg::Seed;
use crate::frame::{Encoder, FRAME_MAX, FrameError};
use crate::packet::{PACKET_OVERHEAD, PAYLOAD_MAX, payload_header};

/// One step of the distribution of delays.
const DELAY_STEP: Duration = Duration::from_micros(100);
/// How often one burst is padded at most.
const PADDINGS_MAX: u32 = 16;

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Least time since the write before it.
    pub(crate) pause: Duration,
    pub(crate) bytes: Vec<u8>,
}

/// The outline of one end of one connection.
pub(crate) struct Shape {
    mode: IatMode,
    seed: Seed,
    /// Made from the seed when something is sent: who only connects, or sends seed after seed, costs no work.
    tables: Option<Tables>,
    /// The pause that the last write asks for.
    pause: Duration,
}

struct Tables {
    lengths: WeightedDist,
    delays: WeightedDist,
}

impl Shape {
    pub(crate) const fn new(mode: IatMode, seed: Seed) -> Self {
        Self {
            mode,
            seed,
            tables: None,
            pause: Duration::ZERO,
        }
    }

    /// Takes another seed: the server's, when it comes.
    pub(crate) fn reseed(&mut self, seed: Seed) {
        self.seed = seed;
        self.tables = None;
    }

    fn tables(&mut self) -> &Tables {
        self.tables.get_or_insert_with(|| Tables {
            lengths: WeightedDist::lengths(&self.seed),
            delays: WeightedDist::delays(&self.seed),
        })
    }

    fn length(&mut self, rng: &mut impl CryptoRng) -> usize {
        usize::from(self.tables().lengths.sample(rng))
    }

    /// Appends to `out` the writes of one burst that carries `payload`.
    ///
    /// # Errors
    /// [`FrameError::Exhausted`]; the connection is over then.
    pub(crate) fn burst(
        &mut self,
        payload: &[u8],
        encoder: &mut Encoder,
        rng: &mut impl CryptoRng,
        out: &mut VecDeque<Chunk>,
    ) -> Result<(), FrameError> {
        let frames = payload.len().div_ceil(PAYLOAD_MAX);
        let mut wire = Vec::with_capacity(payload.len() + frames * PACKET_OVERHEAD + 2 * FRAME_MAX);
        for part in payload.chunks(PAYLOAD_MAX) {
            encoder.seal(&[&payload_header(part.len()), part], 0, &mut wire)?;
        }
        if self.mode != IatMode::Paranoid {
            pad(wire.len(), self.length(rng), encoder, &mut wire)?;
        }
        match self.mode {
            IatMode::None => self.write(wire, rng, out),
            IatMode::Enabled => wire
                .chunks(FRAME_MAX)
                .for_each(|piece| self.write(piece.to_vec(), rng, out)),
            IatMode::Paranoid => self.paranoid(wire, encoder, rng, out)?,
        }
        Ok(())
    }

    /// Where a burst of `len` bytes of frames may end, modulo a segment.
    #[cfg(test)]
    pub(crate) fn ends_for_test(&mut self, len: usize) -> Vec<usize> {
        let end = |target: u16| {
            let target = usize::from(target);
            match (target + FRAME_MAX - len % FRAME_MAX) % FRAME_MAX {
                1..=PACKET_OVERHEAD => target + PACKET_OVERHEAD,
                _ => target % FRAME_MAX,
            }
        };
        self.tables().lengths.values().iter().map(|t| end(*t)).collect()
    }

    /// What tells two distributions apart.
    #[cfg(test)]
    pub(crate) fn lengths_for_test(&mut self) -> Vec<u16> {
        self.tables().lengths.values().to_vec()
    }

    fn paranoid(
        &mut self,
        mut wire: Vec<u8>,
        encoder: &mut Encoder,
        rng: &mut impl CryptoRng,
        out: &mut VecDeque<Chunk>,
    ) -> Result<(), FrameError> {
        let (mut at, mut paddings, mut empty) = (0, 0, 0);
        while at < wire.len() {
            let left = wire.len() - at;
            let mut target = self.length(rng);
            if target == 0 {
                empty += 1;
                if empty <= PADDINGS_MAX {
                    continue;
                }
                // Most likely there is no other length.
                target = FRAME_MAX;
            }
            if left < target {
                if paddings == PADDINGS_MAX {
                    target = left;
                } else {
                    paddings += 1;
                    pad(left, target, encoder, &mut wire)?;
                    if wire.len() - at != target {
                        // Two frames were needed: the next draw will find enough.
                        continue;
                    }
                }
            }
            self.write(wire[at..at + target].to_vec(), rng, out);
            at += target;
        }
        Ok(())
    }

    fn write(&mut self, bytes: Vec<u8>, rng: &mut impl CryptoRng, out: &mut VecDeque<Chunk>) {
        if bytes.is_empty() {
            return;
        }
        out.push_back(Chunk {
            pause: self.pause,
            bytes,
        });
        if self.mode != IatMode::None {
            self.pause = DELAY_STEP * u32::from(self.tables().delays.sample(rng));
        }
    }
}

/// Appends to `wire`, of which `len` bytes are the burst, frames of padding until its length is `target` modulo a segment.
fn pad(len: usize, target: usize, encoder: &mut Encoder, wire: &mut Vec<u8>) -> Result<(), FrameError> {
    let tail = len % FRAME_MAX;
    let missing = if target >= tail {
        target - tail
    } else {
        FRAME_MAX - tail + target
    };
    if missing > PACKET_OVERHEAD {
        encoder.seal(&[&payload_header(0)], missing - PACKET_OVERHEAD, wire)
    } else if missing > 0 {
        // Too little for a frame: a whole segment more, and a frame which is 21 bytes longer than it should be. obfs4proxy does
        // the same, and we are not to be told from it.
        encoder.seal(&[&payload_header(0)], PAYLOAD_MAX, wire)?;
        encoder.seal(&[&payload_header(0)], missing, wire)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
