//! The link's own messages, on channel 0: tickets and the goodbye. Spec: SPEC §2.6, §2.7.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::wire::{DecodeError, Reader, Writer};

const TICKET: u8 = 1;
const GOODBYE: u8 = 2;

/// The public half of a ticket: random, shown once, so that it links nothing to anything.
pub(crate) type TicketId = [u8; 16];

/// What lets a dialler resume a session, once.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Ticket {
    pub(crate) id: TicketId,
    pub(crate) secret: [u8; 32],
}

impl Ticket {
    pub(crate) fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut ticket = Self {
            id: [0; 16],
            secret: [0; 32],
        };
        rng.fill_bytes(&mut ticket.id);
        rng.fill_bytes(&mut ticket.secret);
        ticket
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ticket(secret)")
    }
}

/// A message of the link itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// The server hands out a ticket.
    Ticket(Ticket),
    /// Everything was sent; the session ends here.
    Goodbye,
}

impl Control {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Ticket(ticket) => {
                out.put_u8(TICKET);
                out.put(&ticket.id);
                out.put(&ticket.secret);
            }
            Self::Goodbye => out.put_u8(GOODBYE),
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let control = match r.u8()? {
            TICKET => Self::Ticket(Ticket {
                id: r.array()?,
                secret: r.array()?,
            }),
            GOODBYE => Self::Goodbye,
            got => {
                return Err(DecodeError::BadValue {
                    field: "control message",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn control_messages_read_back(id: [u8; 16], secret: [u8; 32]) {
            for control in [Control::Ticket(Ticket { id, secret }), Control::Goodbye] {
                prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
            }
        }

        #[test]
        fn arbitrary_bytes_decode_canonically_or_not_at_all(bytes in prop::collection::vec(0..4u8, 0..60)) {
            if let Ok(control) = Control::decode(&bytes) {
                prop_assert_eq!(control.encode(), bytes);
            }
        }
    }
}
