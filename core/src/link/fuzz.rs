//! Doors for the fuzz targets in `core/fuzz/`: formats and machines that are private to the link, as functions on the
//! bytes that a peer sends. Compiled with `--cfg fuzzing` only. Each says whether anything in the bytes was accepted.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::auth::{BridgeSecret, ClientAuth, ServerAuth};
use super::config::{BUFFER_MIN, Config};
use super::control::{Control, Ticket};
use super::frame::{DATA_MAX, FRAME_LEN, Header, PLAIN_LEN, Plain};
use super::handle::{Link, Sender, Shared};
use super::handshake::{self, Asks};
use super::hello::{ClientHello, ServerHello, VERSIONS};
use super::outgoing::record_len;
use super::session::{Input, Role, Session};
use super::{Channel, LinkError};
use crate::crypto::keys::LinkSecret;
use crate::units::{Instant, WallTime};
use crate::wire::Reader;

/// Both hellos: what decodes is canonical, and a choice that is checked is the best one.
pub fn hello(bytes: &[u8]) -> bool {
    let client = ClientHello::decode(bytes);
    if let Ok(hello) = client {
        assert_eq!(hello.encode(bytes.len()), bytes);
        let chosen = hello.choose(VERSIONS, 1, 0);
        assert_eq!(chosen.check(hello.versions).is_ok(), chosen.version != 0);
    }
    let server = ServerHello::decode(bytes);
    if let Ok(hello) = server {
        assert_eq!(hello.encode(bytes.len()), bytes);
        let _ = hello.check(VERSIONS);
    }
    client.is_ok() || server.is_ok()
}

/// A link's own messages.
pub fn control(bytes: &[u8]) -> bool {
    let decoded = Control::decode(bytes);
    if let Ok(control) = &decoded {
        assert_eq!(control.encode(), bytes);
    }
    decoded.is_ok()
}

/// A frame before encryption, zeros appended to the bytes given.
pub fn frame(bytes: &[u8]) -> bool {
    let plain = plain(bytes);
    let Ok((header, data)) = plain.decode() else {
        return false;
    };
    assert_eq!(made(header, data).0, plain.0);
    true
}

fn plain(bytes: &[u8]) -> Plain {
    let mut plain = Plain::new();
    let len = bytes.len().min(PLAIN_LEN);
    plain.0[..len].copy_from_slice(&bytes[..len]);
    plain
}

fn made(header: Header, data: &[u8]) -> Plain {
    let mut plain = Plain::new();
    plain.data_mut()[..data.len()].copy_from_slice(data);
    plain.set_header(header, data.len());
    plain
}

/// A frame with `data` and a header, as bytes: for seeds.
pub fn made_frame(consumed: u64, ping: u64, pong: u64, data: &[u8]) -> Vec<u8> {
    made(Header { consumed, ping, pong }, &data[..data.len().min(DATA_MAX)])
        .0
        .to_vec()
}

/// A first message to a listed node and to a bridge, and an answer to each dialler. The first byte chooses what is mended
/// before: 0 nothing, 1 to 3 the hint of a hello without identity, of a node's, of a bridge's; then the bytes are laid over
/// a good message, so that a mutation reaches Noise.
pub fn handshake(bytes: &[u8]) -> bool {
    let Some((mode, bytes)) = bytes.split_first() else {
        return false;
    };
    let rng = |seed| ChaCha12Rng::seed_from_u64(seed);
    let wall = WallTime::from_unix_secs(1_800_000_000);
    let (key, ours) = (LinkSecret::from_bytes([1; 32]), LinkSecret::from_bytes([2; 32]));
    let (server, psk) = (key.public(), BridgeSecret::from_bytes([7; 32]));
    let dial = match mode % 4 {
        1 => ClientAuth::Listed { server },
        2 => ClientAuth::Node { secret: ours, server },
        _ => ClientAuth::Bridge {
            server,
            secret: psk.clone(),
        },
    };
    let auth = match dial {
        ClientAuth::Bridge { .. } => ServerAuth::bridge(key, psk),
        _ => ServerAuth::listed(key),
    };
    let hello = ClientHello {
        versions: VERSIONS,
        window: 1,
        received: 0,
    };
    let Ok((mut unit, state)) = handshake::dial(&dial, hello, wall, &mut rng(1)) else {
        unreachable!("our own keys");
    };
    if mode & 4 != 0 {
        // The server's side of it: an answer with bytes laid over it must not be taken.
        let mut answer = [0; FRAME_LEN];
        let accepted = handshake::judge(&auth, &unit, wall, &mut rng(2)).expect("a good hello");
        let (good, _) = accepted
            .answer(hello.choose(VERSIONS, 1, 0))
            .expect("our own keys");
        answer.copy_from_slice(&good[..]);
        let changed = overlay(&mut answer, bytes);
        let taken = handshake::finish(state, &answer, VERSIONS);
        assert_eq!(taken.is_ok(), !changed);
        return taken.is_ok();
    }
    if mode % 4 == 0 {
        unit = handshake::unit();
    }
    let _ = overlay(&mut unit, bytes);
    if mode % 4 != 0 {
        let hint = dial.hint(&unit[16..48], wall);
        unit[..16].copy_from_slice(&hint);
    }
    match handshake::judge(&auth, &unit, wall, &mut rng(2)) {
        None => false,
        Some(accepted) => {
            assert!(matches!(accepted.asks, Asks::Fresh(_)));
            let hello = accepted.hello.choose(VERSIONS, 1, 0);
            accepted.answer(hello).is_ok()
        }
    }
}

/// Adds `bytes` (offset, then what is XORed in) to `unit`; whether that changed anything.
fn overlay(unit: &mut [u8; FRAME_LEN], bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let at = usize::from(r.u16().unwrap_or(0)) % FRAME_LEN;
    let before = *unit;
    unit[at..].iter_mut().zip(r.rest()).for_each(|(to, by)| *to ^= by);
    *unit != before
}

/// A session whose authenticated peer is hostile. Bytes: role, then steps of one byte each with what they need; see the
/// match. Memory stays within the window whatever the peer sends.
pub fn session(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let role = if r.u8().unwrap_or(0) & 1 == 0 {
        Role::Dialler
    } else {
        Role::Acceptor
    };
    let config = Config {
        keep_alive: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let mut now = Instant::ZERO;
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let window = BUFFER_MIN + u32::from(r.u16().unwrap_or(0));
    let Ok(mut session) = Session::new(role, &config, now, window) else {
        return false;
    };
    let mut taken = false;
    for _ in 0..64 {
        let Ok(step) = r.u8() else { break };
        match step % 12 {
            0 | 1 => {
                // A whole frame as the peer would make it, or any plaintext.
                let Ok(n) = r.u16() else { break };
                let Ok(body) = r.take(usize::from(n).min(r.remaining())) else {
                    break;
                };
                let frame = plain(body);
                taken |= session.handle(now, Input::Frame(&frame)).is_ok();
            }
            2 => {
                let (Ok(consumed), Ok(ping), Ok(pong), Ok(n)) = (r.u16(), r.u8(), r.u8(), r.u8()) else {
                    break;
                };
                let Ok(data) = r.take(usize::from(n).min(r.remaining())) else {
                    break;
                };
                let header = Header {
                    consumed: consumed.into(),
                    ping: ping.into(),
                    pong: pong.into(),
                };
                taken |= session.handle(now, Input::Frame(&made(header, data))).is_ok();
            }
            3 => {
                let Ok(secs) = r.u8() else { break };
                now = now + Duration::from_secs(secs.into());
                let _ = session.handle(now, Input::Timeout);
            }
            4 => {
                let Ok(n) = r.u16() else { break };
                let _ = session.send(Channel::PACKET, Bytes::from(vec![step; n.into()]));
            }
            5 => while session.take().is_some() {},
            6 => {
                session.count_from(now);
                for _ in 0..32 {
                    let Some(frame) = session.poll_frame(now) else {
                        break;
                    };
                    assert!(frame.decode().is_ok());
                }
            }
            7 => {
                let lost = LinkError::Gone { doing: "fuzzing" };
                let _ = session.handle(now, Input::Lost(lost));
            }
            8 => {
                let (Ok(received), Ok(window)) = (r.u64(), r.u32()) else {
                    break;
                };
                let _ = session.attach(now, received, window);
            }
            9 => {
                let number = session.ping();
                let _ = session.pinged(number);
            }
            10 if role == Role::Acceptor => session.issue(Ticket::from_rng(&mut rng)),
            _ => {
                let _ = session.close();
            }
        }
        let _ = session.flushed();
        // One message beyond the buffer, and the tickets handed out here.
        let bound =
            u64::from(config.send_buffer()) + (record_len(super::MESSAGE_MAX) + 64 * record_len(49)) as u64;
        assert!(session.buffered() <= bound);
    }
    taken
}

/// The sending half of a link of which nothing is ever written: for the rpc machine.
pub fn sender() -> (Link, Sender) {
    let session = Session::new(Role::Acceptor, &Config::default(), Instant::ZERO, BUFFER_MIN);
    let link = Link::new(Shared::new(session.expect("a window in bounds"), None));
    let sender = link.sender();
    (link, sender)
}
