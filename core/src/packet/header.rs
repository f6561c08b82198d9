//! The header: three layers in constant length, each authenticated whole by the hop that reads it. Spec: SPEC §3.2.
//!
//! ```text
//! version 1 | masked(check 1, share 32) | tag 16 | sealed 149
//!             `------------- slot 49 -----------'
//! ```
//! `sealed` opens to the hop's command (17 bytes) and the next slot and as much of the next `sealed` as fits. The hop
//! closes the gap of 66 bytes at the end with pseudo-random filler of its own, which the maker foresees, so that the tag
//! of the next hop covers it.
//!
//! The mask makes a slot look like random bytes to whoever does not know the next hop's public key: an X25519 share
//! alone is told from random bytes, and a relay could tell a bridge from a client by it.

use rand_core::CryptoRng;

use super::keys::{HopSecret, HopSecrets, LayerKeys, SlotMask};
use super::route::{COMMAND_LEN, Command, Hop};
use super::surb::ReplyId;
use super::{BuildError, HOPS, PeelError, VERSION};
use crate::crypto::aead::{NONCE_ZERO, TAG_LEN};

const SHARE_LEN: usize = 32;
const MASKED_LEN: usize = 1 + SHARE_LEN;
const SLOT_LEN: usize = MASKED_LEN + TAG_LEN;

/// Bytes that a layer takes of a header.
pub(super) const LAYER_LEN: usize = COMMAND_LEN + SLOT_LEN;

/// Bytes under the tag: the last hop's command, and what the two hops before it filled.
const SEALED_LEN: usize = COMMAND_LEN + (HOPS - 1) * LAYER_LEN;

/// Bytes of a header, the same before and after each hop.
pub const HEADER_LEN: usize = 1 + SLOT_LEN + SEALED_LEN;

/// A header and the keys of its layers, first hop first.
pub(super) struct Sealed {
    pub(super) header: [u8; HEADER_LEN],
    pub(super) layers: [LayerKeys; HOPS],
    /// How the packet begins when the last hop passes it on.
    pub(super) reply: ReplyId,
}

/// What a hop learns from its layer.
pub(super) struct Opened<'a> {
    pub(super) command: Command,
    pub(super) keys: LayerKeys,
    pub(super) secret: &'a HopSecret,
}

const ASSOCIATED_LEN: usize = 1 + SHARE_LEN + 4;

/// What the tag covers besides `sealed`: all of the header that is not sealed, and the length of the payload, so that
/// a packet of one class is refused when it is cut or stretched into the other.
fn associated(share: &[u8; SHARE_LEN], payload_len: u32) -> [u8; ASSOCIATED_LEN] {
    let mut out = [VERSION; ASSOCIATED_LEN];
    out[1..=SHARE_LEN].copy_from_slice(share);
    out[1 + SHARE_LEN..].copy_from_slice(&payload_len.to_be_bytes());
    out
}

/// Makes a header over `hops`, the last of which gets the command `last`.
pub(super) fn seal(
    rng: &mut impl CryptoRng,
    hops: &[Hop; HOPS],
    last: Command,
    payload_len: u32,
) -> Result<Sealed, BuildError> {
    let mut exchange = |number: usize| {
        LayerKeys::encapsulate(&hops[number].key, rng).map_err(|_| BuildError::BadHopKey { number })
    };
    let [(share1, keys1), (share2, keys2), (share3, keys3)] = [exchange(0)?, exchange(1)?, exchange(2)?];
    let key_stream = |keys: &LayerKeys| {
        let mut zeros = [0; SEALED_LEN];
        keys.aead.seal_in_place(NONCE_ZERO, &[], &mut zeros);
        zeros
    };

    // What the third hop finds after its command: the filler of the first hop, once opened by the second, then that of
    // the second; both opened by the third.
    let mut tail = [0; SEALED_LEN - COMMAND_LEN];
    tail[..LAYER_LEN].copy_from_slice(&keys1.filler);
    tail[LAYER_LEN..].copy_from_slice(&keys2.filler);
    xor(
        &mut tail[..LAYER_LEN],
        &key_stream(&keys2)[SEALED_LEN - LAYER_LEN..],
    );
    xor(&mut tail, &key_stream(&keys3)[COMMAND_LEN..]);
    let mut reply = [0; ReplyId::LEN];
    reply.copy_from_slice(&tail[1..=ReplyId::LEN]);

    let mut sealed = [0; SEALED_LEN];
    sealed[..COMMAND_LEN].copy_from_slice(&last.encode());
    sealed[COMMAND_LEN..].copy_from_slice(&tail);
    let mut slot = close(&hops[2], &share3, &keys3, payload_len, &mut sealed);
    for (number, share, keys) in [(1, &share2, &keys2), (0, &share1, &keys1)] {
        sealed.copy_within(..SEALED_LEN - LAYER_LEN, LAYER_LEN);
        sealed[..COMMAND_LEN].copy_from_slice(&Command::Forward(hops[number + 1].reach).encode());
        sealed[COMMAND_LEN..LAYER_LEN].copy_from_slice(&slot);
        slot = close(&hops[number], share, keys, payload_len, &mut sealed);
    }

    let mut header = [VERSION; HEADER_LEN];
    header[1..=SLOT_LEN].copy_from_slice(&slot);
    header[1 + SLOT_LEN..].copy_from_slice(&sealed);
    Ok(Sealed {
        header,
        layers: [keys1, keys2, keys3],
        reply: ReplyId::from_bytes(reply),
    })
}

/// Encrypts `sealed` for `hop` and makes the slot that goes before it.
fn close(
    hop: &Hop,
    share: &[u8; SHARE_LEN],
    keys: &LayerKeys,
    payload_len: u32,
    sealed: &mut [u8; SEALED_LEN],
) -> [u8; SLOT_LEN] {
    let tag = keys
        .aead
        .seal_in_place(NONCE_ZERO, &associated(share, payload_len), sealed);
    let mut slot = [0; SLOT_LEN];
    slot[1..MASKED_LEN].copy_from_slice(share);
    slot[MASKED_LEN..].copy_from_slice(&tag);
    xor(&mut slot, &SlotMask::of(&hop.key).stream(&tag));
    slot
}

/// Takes a layer off `header`, which becomes the header for the next hop. On an error it is left as it was.
pub(super) fn open<'a>(
    secrets: &'a HopSecrets,
    header: &mut [u8; HEADER_LEN],
    payload_len: u32,
) -> Result<Opened<'a>, PeelError> {
    const KEPT: usize = SEALED_LEN - COMMAND_LEN;
    let [version, body @ ..] = header;
    if *version != VERSION {
        return Err(PeelError::UnknownVersion { got: *version });
    }
    let (masked, rest) = body
        .split_first_chunk::<MASKED_LEN>()
        .expect("a body is longer than a slot");
    let (tag, rest) = rest
        .split_first_chunk::<TAG_LEN>()
        .expect("a body is longer than a slot");
    let mut sealed = [0; SEALED_LEN];
    sealed.copy_from_slice(rest);

    // One candidate, but for one in 256 times: the check byte comes out zero under the mask of another key.
    let mut refused = PeelError::UnknownKey;
    let opened = secrets.newest_first().find_map(|secret| {
        let mut clear = *masked;
        xor(&mut clear, &secret.mask().stream(tag));
        let (check, share) = clear.split_first()?;
        if *check != 0 {
            return None;
        }
        refused = PeelError::BadHeader;
        let share = share.first_chunk()?;
        let keys = secret.decapsulate(share).ok()?;
        keys.aead
            .open_in_place(NONCE_ZERO, &associated(share, payload_len), &mut sealed, tag)
            .ok()?;
        Some((keys, secret))
    });
    let (keys, secret) = opened.ok_or(refused)?;
    let command = Command::decode(sealed.first_chunk().expect("longer than a command"))?;

    body[..KEPT].copy_from_slice(&sealed[COMMAND_LEN..]);
    body[KEPT..].copy_from_slice(&keys.filler);
    Ok(Opened {
        command,
        keys,
        secret,
    })
}

fn xor(into: &mut [u8], with: &[u8]) {
    into.iter_mut().zip(with).for_each(|(a, b)| *a ^= b);
}
