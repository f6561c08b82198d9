//! The server's half: listens until it knows who speaks, and answers only then.

use std::time::Duration;

use rand_core::CryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::{
    Authenticator, CLIENT_MIN, CLIENT_PAD_MIN, EpochHour, HANDSHAKE_MAX, HandshakeError, MAC_LEN, MARK_LEN,
    SERVER_MIN, SERVER_PAD_MAX,
};
use crate::elligator::{HiddenKey, REPRESENTATIVE_LEN};
use crate::identity::Identity;
use crate::ntor::{self, LinkKeys};
use crate::packet::SEED_FRAME_LEN;
use crate::random;
use crate::replay::ReplayFilter;

/// A server that waits for a client's message.
pub(crate) struct ServerHandshake {
    key: HiddenKey,
    authenticator: Authenticator,
    padding: usize,
    received: Vec<u8>,
    /// The mark of the client's representative, once that is here.
    mark: Option<[u8; MARK_LEN]>,
}

/// A client's message was right.
pub(crate) struct Accepted {
    pub(crate) keys: LinkKeys,
    /// The answer; the frame with the seed goes behind it in the same write.
    pub(crate) hello: Vec<u8>,
}

impl ServerHandshake {
    /// A connection that was just accepted. The ephemeral key is drawn here, before anything is read, so that the time it
    /// takes is not part of the answer's.
    pub(crate) fn new(identity: &Identity, rng: &mut impl CryptoRng) -> Self {
        Self {
            key: HiddenKey::from_rng(rng),
            authenticator: Authenticator::new(identity.public(), &identity.node),
            padding: random::between(0, SERVER_PAD_MAX, rng),
            received: Vec::new(),
            mark: None,
        }
    }

    /// Takes the next piece; `None` while the message is not complete. A client sends nothing behind its message until it is
    /// answered, so the mark is looked for at the end only: each piece costs the same, and bytes that follow the message in
    /// one piece with its end are a failure, as obfs4proxy has it.
    pub(crate) fn receive(
        &mut self,
        piece: &[u8],
        (now, hour): (Duration, EpochHour),
        identity: &Identity,
        replays: &mut ReplayFilter,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Accepted>, HandshakeError> {
        if piece.len() > HANDSHAKE_MAX - self.received.len() {
            return Err(HandshakeError::NoMark);
        }
        self.received.extend_from_slice(piece);
        if !self.ends_with_mark() {
            return match self.received.len() {
                HANDSHAKE_MAX => Err(HandshakeError::NoMark),
                _ => Ok(None),
            };
        }
        let hour = self.verify(now, hour, replays)?;
        let theirs = self.received.first_chunk().ok_or(HandshakeError::NoMark)?;
        let agreed = ntor::server(
            &self.key,
            theirs,
            identity.secret(),
            identity.public(),
            &identity.node,
        )
        .ok_or(HandshakeError::NonContributory)?;
        Ok(Some(Accepted {
            keys: agreed.keys,
            hello: self.hello(&agreed.auth, hour, rng),
        }))
    }

    /// Bytes of the message that are kept.
    #[cfg(fuzzing)]
    pub(crate) fn held(&self) -> usize {
        self.received.len()
    }

    fn ends_with_mark(&mut self) -> bool {
        if self.mark.is_none() {
            self.mark = self.received.first_chunk().map(|x| self.authenticator.mark(x));
        }
        let len = self.received.len();
        match self.mark {
            Some(mark) if len >= CLIENT_MIN + CLIENT_PAD_MIN => {
                let at = len - MARK_LEN - MAC_LEN;
                mark.as_slice().ct_eq(&self.received[at..at + MARK_LEN]).into()
            }
            _ => false,
        }
    }

    /// Checks the MAC against the three hours, all of them whichever fits; returns the client's.
    fn verify(
        &self,
        now: Duration,
        hour: EpochHour,
        replays: &mut ReplayFilter,
    ) -> Result<EpochHour, HandshakeError> {
        let (message, mac) = self.received.split_at(self.received.len() - MAC_LEN);
        let (mut found, mut theirs) = (Choice::from(0), hour.0);
        for candidate in hour.accepted() {
            let fits = self.authenticator.mac(message, candidate).as_slice().ct_eq(mac);
            theirs.conditional_assign(&candidate.0, fits);
            found |= fits;
        }
        if !bool::from(found) {
            return Err(HandshakeError::BadMac);
        }
        if replays.test_and_set(now, mac) {
            return Err(HandshakeError::Replayed);
        }
        Ok(EpochHour(theirs))
    }

    fn hello(&self, auth: &[u8], hour: EpochHour, rng: &mut impl CryptoRng) -> Vec<u8> {
        let y: &[u8; REPRESENTATIVE_LEN] = self.key.representative();
        let mut hello = Vec::with_capacity(SERVER_MIN + self.padding + SEED_FRAME_LEN);
        hello.extend_from_slice(y);
        hello.extend_from_slice(auth);
        random::append(self.padding, &mut hello, rng);
        hello.extend_from_slice(&self.authenticator.mark(y));
        let mac = self.authenticator.mac(&hello, hour);
        hello.extend_from_slice(&mac);
        hello
    }
}
