//! The handshake as two functions for each end: bytes in, bytes and keys out. No I/O, no clock, no randomness of its own.
//! Spec: SPEC §2.2, §2.3; Noise revision 34.
//!
//! Both messages are [`FRAME_LEN`] bytes whatever the pattern.

use std::sync::Arc;

use rand_chacha::ChaCha12Rng;
use snow::{Builder, HandshakeState};

use crate::crypto::aead::TAG_LEN;
use crate::crypto::keys::LinkPublic;
use crate::crypto::noise::Pattern;
use crate::units::WallTime;

use super::LinkError;
use super::answered::Fresh;
use super::auth::{ClientAuth, HINT_LEN, Hinted, PeerKind, ServerAuth, hour};
use super::control::Ticket;
use super::frame::{Codec, FRAME_LEN};
use super::handle::Shared;
use super::hello::{ClientHello, ServerHello};

const PROLOGUE: &[u8] = b"phantom-net 2026 link v1";
const KEY_LEN: usize = 32;
const NOISE_LEN: usize = FRAME_LEN - HINT_LEN;
const ANSWER_PAYLOAD: usize = FRAME_LEN - KEY_LEN - TAG_LEN;

/// One handshake message.
pub(crate) type Unit = Box<[u8; FRAME_LEN]>;

pub(crate) fn unit() -> Unit {
    Box::new([0; FRAME_LEN])
}

/// Bytes of the hello in the first message: an IK message also carries the dialler's static key.
const fn hello_len(pattern: Pattern) -> usize {
    match pattern {
        Pattern::Ik => NOISE_LEN - KEY_LEN - (KEY_LEN + TAG_LEN) - TAG_LEN,
        Pattern::Nk | Pattern::NkPsk0 | Pattern::NnPsk0 => NOISE_LEN - KEY_LEN - TAG_LEN,
    }
}

fn build(error: snow::Error) -> LinkError {
    match error {
        snow::Error::Dh => LinkError::Build("the server's key is of small order"),
        _ => LinkError::Build("the keys do not fit the pattern"),
    }
}

/// The dialler's first message, and the state that takes the answer.
pub(crate) fn dial(
    auth: &ClientAuth,
    hello: ClientHello,
    wall: WallTime,
    rng: &mut ChaCha12Rng,
) -> Result<(Unit, HandshakeState), LinkError> {
    let pattern = auth.pattern();
    let mut builder = pattern
        .builder(rng)
        .remote_public_key(auth.server().as_bytes())
        .map_err(build)?;
    let secret;
    match auth {
        ClientAuth::Node { secret: ours, .. } => {
            secret = ours.to_bytes();
            builder = builder.local_private_key(&*secret).map_err(build)?;
        }
        ClientAuth::Listed { .. } => {}
        ClientAuth::Bridge { secret, .. } => builder = builder.psk(0, secret.as_bytes()).map_err(build)?,
    }
    let (mut unit, state) = first(pattern, builder, hello)?;
    let hint = auth.hint(&unit[HINT_LEN..HINT_LEN + KEY_LEN], wall);
    unit[..HINT_LEN].copy_from_slice(&hint);
    Ok((unit, state))
}

/// The first message of a resumption.
pub(crate) fn dial_again(
    ticket: &Ticket,
    hello: ClientHello,
    rng: &mut ChaCha12Rng,
) -> Result<(Unit, HandshakeState), LinkError> {
    let builder = Pattern::NnPsk0
        .builder(rng)
        .psk(0, &ticket.secret)
        .map_err(build)?;
    let (mut unit, state) = first(Pattern::NnPsk0, builder, hello)?;
    unit[..HINT_LEN].copy_from_slice(&ticket.id);
    Ok((unit, state))
}

fn first(
    pattern: Pattern,
    builder: Builder<'_>,
    hello: ClientHello,
) -> Result<(Unit, HandshakeState), LinkError> {
    let mut state = builder
        .prologue(PROLOGUE)
        .and_then(Builder::build_initiator)
        .map_err(build)?;
    let mut unit = unit();
    let written = state
        .write_message(&hello.encode(hello_len(pattern)), &mut unit[HINT_LEN..])
        .map_err(build)?;
    debug_assert_eq!(written, NOISE_LEN);
    Ok((unit, state))
}

/// The dialler takes the answer.
///
/// # Errors
/// It is not from the holder of the key or ticket, or no version is in common.
pub(crate) fn finish(
    mut state: HandshakeState,
    answer: &[u8; FRAME_LEN],
    versions: (u8, u8),
) -> Result<(Codec, ServerHello), LinkError> {
    let mut payload = [0; ANSWER_PAYLOAD];
    state
        .read_message(answer, &mut payload)
        .map_err(|_| LinkError::WrongKey)?;
    let hello = ServerHello::decode(&payload)?;
    hello.check(versions)?;
    Ok((Codec::new(state.into_transport_mode().map_err(build)?), hello))
}

/// A first message that a server accepts.
pub(crate) struct Accepted {
    state: HandshakeState,
    pub(crate) hello: ClientHello,
    pub(crate) asks: Asks,
    /// To be made to last before it is answered.
    pub(crate) fresh: Option<Fresh>,
}

/// What the dialler asks for.
pub(crate) enum Asks {
    /// A fresh session.
    Fresh(PeerKind),
    /// To go on with this one; its ticket is used up.
    Resume(Arc<Shared>),
}

/// The server judges a first message. `None` for anything that it does not accept; what was wrong is nobody's business.
pub(crate) fn judge(
    auth: &ServerAuth,
    first: &[u8; FRAME_LEN],
    wall: WallTime,
    rng: &mut ChaCha12Rng,
) -> Option<Accepted> {
    let (hint, noise) = first.split_first_chunk::<HINT_LEN>()?;
    let session = auth.with_tickets(|tickets| tickets.get(hint));
    let ticket =
        session.and_then(|session| Some((session.with_session(|session| session.ticket(hint))?, session)));
    if let Some((ticket, session)) = ticket {
        let builder = Pattern::NnPsk0.builder(rng).psk(0, &ticket.secret).ok()?;
        let (state, hello) = open(Pattern::NnPsk0, builder, noise)?;
        // Only who knows the secret uses a ticket up, and only the first who does.
        let first_use = auth.with_tickets(|tickets| tickets.remove(hint));
        return first_use.then(|| {
            session.with_session(|session| session.spent(hint));
            Accepted {
                state,
                hello,
                asks: Asks::Resume(session),
                fresh: None,
            }
        });
    }
    let hinted = auth.hinted(hint, &noise[..KEY_LEN], wall)?;
    let pattern = match hinted {
        Hinted::Full(pattern) => pattern,
        Hinted::Bridge(_) => Pattern::NkPsk0,
    };
    let secret = auth.secret().to_bytes();
    let mut builder = pattern.builder(rng).local_private_key(&*secret).ok()?;
    if let (Hinted::Bridge(_), Some(secret)) = (&hinted, auth.bridge_secret()) {
        builder = builder.psk(0, secret.as_bytes()).ok()?;
    }
    let (state, hello) = open(pattern, builder, noise)?;
    let fresh = match hinted {
        Hinted::Bridge(made) => Some(auth.answered().insert(hour(wall), made, *hint)?),
        Hinted::Full(_) => None,
    };
    let kind = match state
        .get_remote_static()
        .and_then(|key| key.first_chunk::<KEY_LEN>())
    {
        Some(key) => PeerKind::Node(LinkPublic::from_bytes(*key)),
        None => PeerKind::Anonymous,
    };
    Some(Accepted {
        state,
        hello,
        asks: Asks::Fresh(kind),
        fresh,
    })
}

fn open(pattern: Pattern, builder: Builder<'_>, noise: &[u8]) -> Option<(HandshakeState, ClientHello)> {
    let mut state = builder
        .prologue(PROLOGUE)
        .and_then(Builder::build_responder)
        .ok()?;
    let mut payload = vec![0; hello_len(pattern)];
    state.read_message(noise, &mut payload).ok()?;
    Some((state, ClientHello::decode(&payload).ok()?))
}

impl Accepted {
    /// The server's answer and keys.
    pub(crate) fn answer(mut self, hello: ServerHello) -> Result<(Unit, Codec), LinkError> {
        let mut unit = unit();
        let written = self
            .state
            .write_message(&hello.encode(ANSWER_PAYLOAD), &mut unit[..])
            .map_err(build)?;
        debug_assert_eq!(written, FRAME_LEN);
        Ok((unit, Codec::new(self.state.into_transport_mode().map_err(build)?)))
    }
}
