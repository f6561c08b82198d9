//! The client's half: says hello, and finds the answer in what comes back.

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;

use super::{
    Authenticator, CLIENT_MIN, CLIENT_PAD_MAX, CLIENT_PAD_MIN, EpochHour, HANDSHAKE_MAX, HandshakeError,
    MAC_LEN, MARK_LEN,
};
use crate::elligator::{HiddenKey, REPRESENTATIVE_LEN};
use crate::ntor::{self, AUTH_LEN, LinkKeys, NodeId, PublicKey};
use crate::random;

const PADDING_AT: usize = REPRESENTATIVE_LEN + AUTH_LEN;

/// A client that waits for the answer.
pub(crate) struct ClientHandshake {
    key: HiddenKey,
    node: NodeId,
    identity: PublicKey,
    authenticator: Authenticator,
    hour: EpochHour,
    received: Vec<u8>,
    mark: Mark,
}

/// Where the search for the mark is.
enum Mark {
    /// Y' has not come whole.
    Unknown,
    /// Not found before this place.
    Sought { mark: [u8; MARK_LEN], from: usize },
    /// It begins here; its MAC may be on its way.
    Found { at: usize },
}

/// The answer was right.
pub(crate) struct Greeted {
    pub(crate) keys: LinkKeys,
    /// How many bytes of the last piece belonged to it; frames follow.
    pub(crate) taken: usize,
}

impl ClientHandshake {
    /// A new connection, and the hello to send on it.
    pub(crate) fn new(
        identity: PublicKey,
        node: NodeId,
        hour: EpochHour,
        rng: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        let key = HiddenKey::from_rng(rng);
        let authenticator = Authenticator::new(&identity, &node);
        let padding = random::between(CLIENT_PAD_MIN, CLIENT_PAD_MAX, rng);
        let mut hello = Vec::with_capacity(CLIENT_MIN + padding);
        hello.extend_from_slice(key.representative());
        random::append(padding, &mut hello, rng);
        hello.extend_from_slice(&authenticator.mark(key.representative()));
        let mac = authenticator.mac(&hello, hour);
        hello.extend_from_slice(&mac);
        let this = Self {
            key,
            node,
            identity,
            authenticator,
            hour,
            received: Vec::new(),
            mark: Mark::Unknown,
        };
        (this, hello)
    }

    /// Takes the next piece; `None` while the answer is not complete. Each byte is looked at a bounded number of times,
    /// however small the pieces are.
    pub(crate) fn receive(&mut self, piece: &[u8]) -> Result<Option<Greeted>, HandshakeError> {
        let before = self.received.len();
        let room = HANDSHAKE_MAX - before;
        self.received.extend_from_slice(&piece[..piece.len().min(room)]);
        let Some(end) = self.find_end() else {
            return match self.received.len() {
                HANDSHAKE_MAX => Err(HandshakeError::NoMark),
                _ => Ok(None),
            };
        };
        let keys = self.verify(end)?;
        Ok(Some(Greeted {
            keys,
            taken: end - before,
        }))
    }

    /// Bytes of the answer that are kept.
    #[cfg(fuzzing)]
    pub(crate) fn held(&self) -> usize {
        self.received.len()
    }

    /// The end of the answer, once it is here.
    fn find_end(&mut self) -> Option<usize> {
        if let Mark::Unknown = self.mark {
            let representative = self.received.first_chunk()?;
            self.mark = Mark::Sought {
                mark: self.authenticator.mark(representative),
                from: PADDING_AT,
            };
        }
        if let Mark::Sought { mark, from } = self.mark {
            let unseen = self.received.get(from..)?;
            let place = unseen.windows(MARK_LEN).position(|window| window == mark);
            self.mark = match place {
                Some(place) => Mark::Found { at: from + place },
                None => Mark::Sought {
                    mark,
                    from: from.max((self.received.len() + 1).saturating_sub(MARK_LEN)),
                },
            };
        }
        let Mark::Found { at } = self.mark else {
            return None;
        };
        let end = at + MARK_LEN + MAC_LEN;
        (end <= self.received.len()).then_some(end)
    }

    fn verify(&self, end: usize) -> Result<LinkKeys, HandshakeError> {
        let (message, mac) = self.received[..end].split_at(end - MAC_LEN);
        let wanted = self.authenticator.mac(message, self.hour);
        if !bool::from(wanted.as_slice().ct_eq(mac)) {
            return Err(HandshakeError::BadMac);
        }
        let (representative, rest) = message.split_first_chunk().ok_or(HandshakeError::NoMark)?;
        let agreed = ntor::client(&self.key, representative, &self.identity, &self.node)
            .ok_or(HandshakeError::NonContributory)?;
        if !bool::from(agreed.auth.as_slice().ct_eq(&rest[..AUTH_LEN])) {
            return Err(HandshakeError::WrongIdentity);
        }
        Ok(agreed.keys)
    }
}
