use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use serde::Deserialize;
use snow::HandshakeState;

use super::*;
use crate::crypto::keys::LinkSecret;

const VECTORS: &str = include_str!("../vectors/cacophony.json");

#[derive(Deserialize)]
struct File {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    protocol_name: String,
    handshake_hash: String,
    init_prologue: String,
    init_ephemeral: String,
    init_static: Option<String>,
    init_remote_static: Option<String>,
    #[serde(default)]
    init_psks: Vec<String>,
    resp_prologue: String,
    resp_ephemeral: String,
    resp_static: Option<String>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    payload: String,
    ciphertext: String,
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
        .collect()
}

#[test]
fn the_published_vectors_of_our_four_patterns_hold() {
    let file: File = serde_json::from_str(VECTORS).expect("the vectors parse");
    let mut seen = Vec::new();
    for vector in file.vectors {
        let pattern = [Pattern::Ik, Pattern::Nk, Pattern::NkPsk0, Pattern::NnPsk0]
            .into_iter()
            .find(|p| p.name() == vector.protocol_name)
            .expect("only our patterns are in the file");
        seen.push(pattern);
        let (mut init, mut resp) = pair(pattern, &vector);
        let mut buffer = [0; 1024];
        let mut out = [0; 1024];
        let mut transports = None;
        for (turn, message) in vector.messages.iter().enumerate() {
            let (payload, wanted) = (hex(&message.payload), hex(&message.ciphertext));
            if turn < 2 {
                let (from, to) = if turn == 0 {
                    (&mut init, &mut resp)
                } else {
                    (&mut resp, &mut init)
                };
                let n = from.write_message(&payload, &mut buffer).expect("writes");
                assert_eq!(buffer[..n], wanted, "{} message {turn}", pattern.name());
                let n = to.read_message(&wanted, &mut out).expect("reads");
                assert_eq!(out[..n], payload);
                continue;
            }
            let (i, r) = transports.get_or_insert_with(|| {
                assert_eq!(init.get_handshake_hash(), hex(&vector.handshake_hash));
                let take = |h: &mut HandshakeState| {
                    std::mem::replace(h, pair(pattern, &vector).0)
                        .into_transport_mode()
                        .expect("finished")
                };
                (take(&mut init), take(&mut resp))
            });
            let (from, to) = if turn % 2 == 0 { (i, r) } else { (r, i) };
            let n = from.write_message(&payload, &mut buffer).expect("seals");
            assert_eq!(buffer[..n], wanted, "{} message {turn}", pattern.name());
            let n = to.read_message(&wanted, &mut out).expect("opens");
            assert_eq!(out[..n], payload);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [Pattern::Ik, Pattern::Nk, Pattern::NkPsk0, Pattern::NnPsk0]);
}

fn pair(pattern: Pattern, vector: &Vector) -> (HandshakeState, HandshakeState) {
    let mut rng = ChaCha12Rng::from_seed([0; 32]);
    let psk: Option<[u8; 32]> = vector
        .init_psks
        .first()
        .map(|psk| hex(psk).try_into().expect("32 bytes"));
    let bytes = |text: &Option<String>| text.as_deref().map(hex);
    let (is, irs, rs) = (
        bytes(&vector.init_static),
        bytes(&vector.init_remote_static),
        bytes(&vector.resp_static),
    );
    let (ie, re) = (hex(&vector.init_ephemeral), hex(&vector.resp_ephemeral));
    let (ip, rp) = (hex(&vector.init_prologue), hex(&vector.resp_prologue));

    let mut init = pattern
        .builder(&mut rng)
        .fixed_ephemeral_key_for_testing_only(&ie);
    let mut resp = pattern
        .builder(&mut rng)
        .fixed_ephemeral_key_for_testing_only(&re);
    init = init.prologue(&ip).expect("once");
    resp = resp.prologue(&rp).expect("once");
    if let Some(is) = &is {
        init = init.local_private_key(is).expect("once");
    }
    if let Some(irs) = &irs {
        init = init.remote_public_key(irs).expect("once");
    }
    if let Some(rs) = &rs {
        resp = resp.local_private_key(rs).expect("once");
    }
    if let Some(psk) = &psk {
        init = init.psk(0, psk).expect("once");
        resp = resp.psk(0, psk).expect("once");
    }
    (
        init.build_initiator().expect("builds"),
        resp.build_responder().expect("builds"),
    )
}

#[test]
fn a_handshake_is_the_same_bytes_for_the_same_generator() {
    let server = LinkSecret::from_rng(&mut ChaCha12Rng::from_seed([9; 32]));
    let first = |seed: u8| {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let public = server.public();
        let mut init = Pattern::Nk
            .builder(&mut rng)
            .remote_public_key(public.as_bytes())
            .expect("once")
            .build_initiator()
            .expect("builds");
        let mut out = [0; 64];
        let n = init.write_message(b"", &mut out).expect("writes");
        out[..n].to_vec()
    };
    assert_eq!(first(1), first(1));
    assert_ne!(first(1), first(2));
}

#[test]
fn an_ephemeral_key_of_small_order_is_refused() {
    let server = LinkSecret::from_rng(&mut ChaCha12Rng::from_seed([9; 32]));
    let secret = server.to_bytes();
    let mut resp = Pattern::Nk
        .builder(&mut ChaCha12Rng::from_seed([1; 32]))
        .local_private_key(&*secret)
        .expect("once")
        .build_responder()
        .expect("builds");
    let mut out = [0; 64];
    assert!(matches!(
        resp.read_message(&[0; 48], &mut out),
        Err(snow::Error::Dh)
    ));
}
