//! obfs4: lines and files about bridges, a stranger at a bridge, and what an end says whose handshake is done and who means
//! harm. A bridge reads all of it before it knows a client.

use std::time::Duration;

use phantom_core::wire::Reader;
use phantom_obfs4::fuzz::{CONTENTS_MAX, Caller, HELLO_MIN, Peer, mend};
use phantom_obfs4::{
    Bridge, BridgeArgs, BridgeLine, EpochHour, FRAME_MAX, HANDSHAKE_MAX, HandshakeError, IatMode, Identity,
    NodeId, Now, Output, PAYLOAD_MAX, SEED_LEN, SERVER_LIMIT, SecretKey, Seed, Session, SessionError,
};
use rand_chacha::ChaCha12Rng;

use crate::{overlay, world};

/// Lines, arguments, state files; a hello, an answer; sessions of a bridge and of a client.
pub fn obfs4(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let text = String::from_utf8_lossy(bytes);
    match kind % 7 {
        0 => {
            let Ok(line) = text.parse::<BridgeLine>() else {
                return false;
            };
            assert_eq!(line.to_string().parse(), Ok(line));
            true
        }
        1 => {
            let Ok(args) = BridgeArgs::from_pt_args(&text) else {
                return false;
            };
            assert_eq!(BridgeArgs::from_pt_args(&args.to_pt_args()), Ok(args));
            true
        }
        2 => {
            let Ok(identity) = Identity::from_state_json(&text) else {
                return false;
            };
            let written = identity.to_state_json();
            let again = Identity::from_state_json(&written).expect("ours");
            assert_eq!(again.to_state_json(), written);
            true
        }
        3 => hello(bytes),
        4 => answer(bytes),
        5 => session(bytes, true),
        _ => session(bytes, false),
    }
}

const HOUR: EpochHour = EpochHour(500_000);
const START: Now = Now {
    since_start: Duration::from_secs(1_000),
    hour: HOUR,
};

/// The bridge of all seeds.
pub(crate) fn identity(iat_mode: IatMode) -> Identity {
    Identity::new(
        NodeId([3; 20]),
        SecretKey::from_bytes([4; 32]),
        Seed::from_bytes([5; SEED_LEN]),
        iat_mode,
    )
}

/// `bytes` to `session` in pieces of `cut` bytes, all at once for 0; the first error ends it.
fn feed(
    session: &mut Session<ChaCha12Rng>,
    now: Now,
    bytes: &[u8],
    cut: u8,
    plain: &mut Vec<u8>,
) -> Result<(), SessionError> {
    let cut = match cut {
        0 => bytes.len().max(1),
        cut => cut.into(),
    };
    for piece in bytes.chunks(cut) {
        session.receive(now, piece, plain)?;
        assert!(
            session.held()
                <= if session.is_open() {
                    FRAME_MAX
                } else {
                    HANDSHAKE_MAX
                }
        );
    }
    Ok(())
}

/// What a bridge does about a hello, which is all that it does to a stranger.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Answers(Vec<u8>),
    Discards(HandshakeError),
    Waits,
}

/// Drains a bridge's session that was given something: a byte goes out with the word that the handshake is done, or never.
fn reaction(session: &mut Session<ChaCha12Rng>, hang_up: Duration) -> Reaction {
    match session.poll_output() {
        Output::Write { pause, bytes } => {
            assert_eq!(pause, Duration::ZERO);
            assert!(session.is_open(), "an answer and no session");
            assert_eq!(session.poll_output(), Output::Opened);
            assert_eq!(session.poll_output(), Output::Idle);
            Reaction::Answers(bytes)
        }
        Output::DiscardUntil { until, why } => {
            assert_eq!(until, hang_up, "when it hangs up says what was wrong");
            assert_eq!(session.poll_output(), Output::WaitUntil(until));
            Reaction::Discards(why)
        }
        Output::WaitUntil(at) => {
            assert_eq!(at, START.since_start + SERVER_LIMIT);
            Reaction::Waits
        }
        other => panic!("to a stranger: {other:?}"),
    }
}

/// A client's first message. Bytes: what is mended, the size of the pieces, the length, the hour, and what is laid over a good
/// message of that length. Whoever has the bridge's line can give any bytes a good mark and MAC.
fn hello(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let (Ok(mode), Ok(cut), Ok(len), Ok(hour)) = (r.u8(), r.u8(), r.u16(), r.u8()) else {
        return false;
    };
    let identity = identity(IatMode::None);
    let bridge = Bridge::new(identity.clone(), &mut world::rng(1));
    let hang_up = {
        // A stranger who says too much at once: the time is the bridge's and the same for all.
        let mut session = bridge.accept(START, world::rng(2));
        let plain = &mut Vec::new();
        assert_eq!(session.receive(START, &[0; HANDSHAKE_MAX + 1], plain), Ok(()));
        let Output::DiscardUntil { until, .. } = session.poll_output() else {
            panic!("more than a hello is discarded");
        };
        until
    };
    let hour = EpochHour(HOUR.0 + u64::from(hour % 5) - 2);
    let (_, good) = Caller::new(&identity.args(), hour, &mut world::rng(3));
    let mended = mode & 1 == 1;
    let mut message = good;
    if mended {
        // The good message's own mark would be found first.
        message.truncate(32);
        message.resize((usize::from(len) % (HANDSHAKE_MAX + 64)).max(64), 0);
    }
    let changed = overlay(&mut message, r.rest());
    if mended {
        mend(&identity.args(), &mut message, hour);
    }
    let in_time = hour.0.abs_diff(HOUR.0) <= 1;
    let in_bounds = (HELLO_MIN..=HANDSHAKE_MAX).contains(&message.len());

    let (mut session, mut plain) = (bridge.accept(START, world::rng(4)), Vec::new());
    let fed = feed(&mut session, START, &message, cut, &mut plain);
    assert_eq!((fed, plain.len()), (Ok(()), 0), "a stranger carries nothing");
    let accepted = match reaction(&mut session, hang_up) {
        Reaction::Answers(answer) => {
            assert!(in_time && in_bounds && (mended || !changed));
            assert!((96 + 45..=HANDSHAKE_MAX).contains(&answer.len()));
            true
        }
        why => {
            let small_order = why == Reaction::Discards(HandshakeError::NonContributory);
            let good = in_time && in_bounds && (mended || !changed);
            assert!(!good || small_order, "a good hello is refused: {why:?}");
            if mended && in_bounds && !in_time {
                assert_eq!(why, Reaction::Discards(HandshakeError::BadMac));
            }
            // It says nothing more, whatever comes, and is gone at its time.
            let mut now = START;
            let _ = feed(&mut session, now, &message, cut, &mut plain);
            now.since_start = hang_up;
            assert_eq!(session.tick(now), Ok(()));
            while !matches!(session.poll_output(), Output::Close) {
                assert!(!session.is_open());
            }
            false
        }
    };
    // The same once more: whoever recorded it.
    if accepted {
        let mut again = bridge.accept(START, world::rng(5));
        let _ = feed(&mut again, START, &message, cut, &mut plain);
        let replayed = Reaction::Discards(HandshakeError::Replayed);
        assert_eq!(reaction(&mut again, hang_up), replayed);
    }
    accepted
}

/// An answer to a client. Bytes: as of a hello, without the length. Who has the line and not the bridge's key is found out.
fn answer(bytes: &[u8]) -> bool {
    let mut r = Reader::new(bytes);
    let (Ok(mode), Ok(cut)) = (r.u8(), r.u8()) else {
        return false;
    };
    let identity = identity(IatMode::None);
    let mut client = Session::client(&identity.args(), START, world::rng(1));
    let Output::Write { bytes: hello, .. } = client.poll_output() else {
        panic!("a client says hello");
    };
    let (_, good) = Peer::answer(&identity, &hello, START, &mut world::rng(2));
    let mut answer = good.clone();
    let mended = mode & 1 == 1;
    let changed = overlay(&mut answer, r.rest());
    if mended {
        mend(&identity.args(), &mut answer, HOUR);
    }
    let mut plain = Vec::new();
    let fed = feed(&mut client, START, &answer, cut, &mut plain);
    assert!(plain.is_empty());
    if !client.is_open() {
        assert!(changed, "a good answer is refused: {fed:?}");
        return false;
    }
    // Two bits of the representative are noise; the padding is anybody's.
    assert_eq!(answer[..31], good[..31]);
    assert_eq!(answer[31] & 0x3f, good[31] & 0x3f);
    assert_eq!(answer[32..64], good[32..64]);
    assert!(mended || !changed);
    true
}

/// What an authenticated frame's contents must be taken for: payload, nothing, or the end.
fn model(contents: &[u8]) -> Option<&[u8]> {
    let (&[kind, high, low], rest) = contents.split_first_chunk()?;
    let payload = rest.get(..u16::from_be_bytes([high, low]).into())?;
    Some(if kind == 0 { payload } else { &[] })
}

/// A session whose other end seals what it likes. Bytes: the pacing, then steps of five bytes each with what they need; see the
/// match. What arrives is what was sealed, in order, until the first mistake, and nothing after it.
fn session(bytes: &[u8], of_bridge: bool) -> bool {
    let mut r = Reader::new(bytes);
    let Some(iat_mode) = r.u8().ok().and_then(|mode| IatMode::from_number(mode % 3)) else {
        return false;
    };
    let identity = identity(iat_mode);
    let mut now = START;
    let (mut session, mut peer) = if of_bridge {
        called(identity, now)
    } else {
        dialled(&identity, now)
    };
    let (mut plain, mut expected, mut last, mut taken) = (Vec::new(), Vec::new(), Vec::new(), false);
    // Whether the stream holds something that no frame of the other end's is.
    let mut broken = false;
    for _ in 0..64 {
        let (Ok(step), Ok(cut), Ok(len), Ok(count)) = (r.u8(), r.u8(), r.u16(), r.u8()) else {
            break;
        };
        let Ok(bytes) = r.take(usize::from(count).min(r.remaining())) else {
            break;
        };
        let payload = |kind| {
            let mut contents = vec![kind];
            contents.extend((bytes.len() as u16).to_be_bytes());
            contents.extend_from_slice(bytes);
            let padding = usize::from(len) % (CONTENTS_MAX + 1 - contents.len());
            contents.resize(contents.len() + padding, 0);
            contents
        };
        let mut wire = Vec::new();
        let mut good = true;
        match step % 8 {
            0 => {
                let mut contents = bytes.to_vec();
                contents.resize(contents.len().max(usize::from(len) % (CONTENTS_MAX + 1)), 0);
                peer.seal(&contents, &mut wire);
                match model(&contents) {
                    _ if broken => {}
                    Some(payload) => expected.extend_from_slice(payload),
                    None => good = false,
                }
            }
            1 | 2 => {
                let kind = if step % 8 == 1 { 0 } else { len as u8 };
                let contents = payload(kind);
                peer.seal(&contents, &mut wire);
                if !broken {
                    expected.extend_from_slice(model(&contents).expect("a packet"));
                }
            }
            3 => {
                let mut seed = [len as u8; SEED_LEN];
                seed.iter_mut().zip(bytes).for_each(|(to, by)| *to ^= by);
                peer.seal(&[&[1, 0, SEED_LEN as u8], &seed[..]].concat(), &mut wire);
            }
            4 => {
                wire.extend_from_slice(bytes);
                good = bytes.is_empty();
            }
            5 => {
                peer.seal(&payload(0), &mut wire);
                let at = usize::from(len) % wire.len();
                wire[at] ^= count | 1;
                good = false;
            }
            6 => {
                wire.clone_from(&last);
                good = wire.is_empty();
            }
            _ if len % 8 == 0 => {
                now.since_start += Duration::from_secs(len.into());
                if session.is_open() {
                    assert_eq!(
                        session.tick(now),
                        Ok(()),
                        "an open session does not end of itself"
                    );
                }
            }
            _ => talk(&mut session, &mut peer, &vec![count; len.into()]),
        }
        // The mistake itself; later frames are not looked at.
        let was_open = session.is_open();
        let fed = feed(&mut session, now, &wire, cut, &mut plain);
        broken |= !good;
        assert_eq!(
            plain, expected,
            "what arrives is what was sealed before the mistake"
        );
        if step % 8 == 0 && !good {
            assert!(matches!(fed, Err(SessionError::Packet(_))), "no packet: {fed:?}");
        }
        if was_open && !broken {
            assert_eq!(fed, Ok(()));
            taken |= !wire.is_empty();
        }
        if !wire.is_empty() {
            last = wire;
        }
        if fed.is_err() {
            assert!(broken && !session.is_open());
            assert_eq!(session.poll_output(), Output::Close);
            assert_eq!(session.send(b"more"), Err(SessionError::Over));
        }
    }
    // Only a whole number of frames ends well.
    let open = session.is_open();
    let ended = session.peer_closed();
    assert!(ended.is_ok() || (open && broken && ended == Err(SessionError::Cut)));
    taken
}

/// A bridge's session with a client of ours.
fn called(identity: Identity, now: Now) -> (Session<ChaCha12Rng>, Peer) {
    let (caller, hello) = Caller::new(&identity.args(), now.hour, &mut world::rng(1));
    let bridge = Bridge::new(identity, &mut world::rng(2));
    let mut session = bridge.accept(now, world::rng(3));
    let fed = session.receive(now, &hello, &mut Vec::new());
    assert_eq!(fed, Ok(()));
    let Output::Write { bytes, .. } = session.poll_output() else {
        panic!("a good hello is answered");
    };
    assert_eq!(session.poll_output(), Output::Opened);
    let (mut peer, taken) = caller.finish(&bytes);
    let mut plain = Vec::new();
    assert!(peer.open(&bytes[taken..], &mut plain, &mut world::rng(4)));
    assert!(plain.is_empty());
    (session, peer)
}

/// A client's session with a bridge of ours.
fn dialled(identity: &Identity, now: Now) -> (Session<ChaCha12Rng>, Peer) {
    let mut session = Session::client(&identity.args(), now, world::rng(1));
    let Output::Write { bytes, .. } = session.poll_output() else {
        panic!("a client says hello");
    };
    let (peer, answer) = Peer::answer(identity, &bytes, now, &mut world::rng(2));
    let fed = session.receive(now, &answer, &mut Vec::new());
    assert_eq!(fed, Ok(()));
    assert_eq!(session.poll_output(), Output::Opened);
    (session, peer)
}

/// Sends through a session whose outline the other end may have chosen: bounded, and all of it arrives.
fn talk(session: &mut Session<ChaCha12Rng>, peer: &mut Peer, bytes: &[u8]) {
    const PADDINGS_MAX: usize = 17;
    let (mut sent, mut arrived) = (0, Vec::new());
    while session.is_open() && sent < bytes.len() {
        let taken = session.send(&bytes[sent..]).expect("it is open");
        assert_ne!(taken, 0, "all was written");
        sent += taken;
        let mut wire = Vec::new();
        loop {
            match session.poll_output() {
                Output::Write { pause, bytes } => {
                    assert!(pause <= Duration::from_millis(10) && !bytes.is_empty());
                    wire.extend(bytes);
                }
                Output::Idle => break,
                other => panic!("while sending: {other:?}"),
            }
        }
        let frames = taken.div_ceil(PAYLOAD_MAX) + 2 * PADDINGS_MAX;
        assert!(wire.len() <= taken + frames * FRAME_MAX, "padding without end");
        assert!(peer.open(&wire, &mut arrived, &mut world::rng(5)));
    }
    assert_eq!(arrived, bytes[..sent]);
}
