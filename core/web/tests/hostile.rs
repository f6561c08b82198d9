//! What the other end may send: anything. Nothing panics, nothing hangs, and no more is kept than is said.

#![expect(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::cell::Cell;

use phantom_core::runtime::Spawn;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_web::meek::{self, BODY_MAX, Connect, Front, Fronts, Limits};
use phantom_web::site::Site;
use phantom_web::tls::{self, KeyKind, SelfSigned, Trust, self_signed};
use phantom_web::url::{WebUrl, server_name};
use phantom_web::webtunnel::{self, Bridge, Client, Server};
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const URL: &str = "http://www.example/secret";

fn url() -> WebUrl {
    URL.parse().unwrap()
}

/// Runs `story` with a runtime of its own.
fn with_runtime<T, F: Future<Output = T>>(story: impl FnOnce(TokioRuntime) -> F) -> T {
    let folder = tempfile::tempdir().unwrap();
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    executor.block_on(async {
        let rt = TokioRuntime::start(Config::new("test", folder.path())).unwrap();
        story(rt).await
    })
}

/// An end on which `bytes` were said and nothing follows.
async fn said(bytes: &[u8]) -> (DuplexStream, DuplexStream) {
    let (near, mut far) = tokio::io::duplex(bytes.len().max(1 << 17));
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    (near, far)
}

/// Bytes that are nothing, and bytes that are nearly HTTP.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("GET "),
        Just("POST "),
        Just("/secret"),
        Just("/"),
        Just(" HTTP/1.1"),
        Just(" HTTP/1.0"),
        Just("\r\n"),
        Just("\n"),
        Just("Connection: upgrade\r\n"),
        Just("Upgrade: websocket\r\n"),
        Just("Content-Length: 3\r\n"),
        Just("Content-Length: -1\r\n"),
        Just("Content-Length: 99999999999999999999\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("3\r\nabc\r\n"),
        Just("0\r\n\r\n"),
        Just("X-Session-Id: 0123456789abcdef\r\n"),
        Just("HTTP/1.1 101 Switching Protocols\r\n"),
        Just("HTTP/1.1 200 OK\r\n"),
        Just("HTTP/1.1 100 Continue\r\n"),
        Just("Expect: 100-continue\r\n"),
        Just("\0"),
        Just("abc"),
        Just(": "),
        Just("\r\n\r\n"),
        Just("ffffffffffffffff\r\n"),
    ];
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        proptest::collection::vec(word, 0..24).prop_map(|words| words.concat().into_bytes()),
    ]
}

/// An end on which `bytes` are said once something was asked, and nothing follows.
fn answering(rt: &TokioRuntime, bytes: Vec<u8>) -> DuplexStream {
    let (near, mut far) = tokio::io::duplex(1 << 17);
    rt.spawn("front", async move {
        let _ = far.read(&mut [0; 4_096]).await;
        let _ = far.write_all(&bytes).await;
        let _ = far.shutdown().await;
        // Held until the other end has enough.
        let _ = far.read(&mut [0; 4_096]).await;
    });
    near
}

struct Canned(TokioRuntime, Vec<u8>);

impl Connect for Canned {
    type Stream = DuplexStream;

    async fn connect(&self, _: &Front) -> std::io::Result<DuplexStream> {
        Ok(answering(&self.0, self.1.clone()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_webtunnel_server_survives_any_visitor(bytes in hostile()) {
        with_runtime(|rt| async move {
            let server = Server::new(&url(), Site::default(), None);
            let (near, far) = said(&bytes).await;
            if let Ok(mut accepted) = webtunnel::accept(&rt, near, &server).await {
                // Whatever follows a right request is the tunnel's.
                drop(far);
                let _ = accepted.stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }

    #[test]
    fn a_meek_server_survives_any_visitor_within_its_bounds(bytes in hostile()) {
        with_runtime(|rt| async move {
            let limits = Limits { sessions: 1, waiting: 1 };
            let (server, _sessions) = meek::Server::new(&rt, &url(), Site::default(), None, limits);
            for _ in 0..2 {
                let (near, _far) = said(&bytes).await;
                assert!(server.serve(&rt, near).await.is_err());
            }
            assert!(server.len() <= 1);
        });
    }

    #[test]
    fn clients_survive_any_server(bytes in hostile()) {
        with_runtime(|rt| async move {
            let bridge = Bridge::from_args([("url", URL)]).unwrap();
            let client = Client::new(&rt, bridge).unwrap();
            let near = answering(&rt, bytes.clone());
            let is_101 = bytes.starts_with(b"HTTP/1.1 101 ");
            assert!(webtunnel::dial(&rt, near, &client).await.is_err() || is_101);
            let front = Front::from_args([("url", URL)]).unwrap();
            let dialled = meek::dial(&rt, &Fronts::new(vec![front]), Canned(rt.clone(), bytes.clone())).await;
            assert!(dialled.is_err() || bytes.windows(4).any(|part| part == b" 200"));
        });
    }

    #[test]
    fn tls_survives_any_bytes_at_either_end(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in 0..400_usize) {
        with_runtime(|rt| async move {
            let SelfSigned { certificate, key } = self_signed(&mut ChaCha12Rng::seed_from_u64(1), KeyKind::P256, "www.example");
            let server = tls::Server::new(&rt, vec![certificate.clone()], key).unwrap();
            let client = tls::Client::new(&rt, &Trust::Roots(vec![certificate])).unwrap();
            // The beginning of a record, so that more than its header is read.
            let mut record = vec![22, 3, 1, 0, 200];
            record.extend(&bytes);
            for bytes in [&bytes, &record] {
                let (near, _far) = said(&bytes[..cut.min(bytes.len())]).await;
                assert!(tls::accept(&rt, &server, near).await.is_err());
                let (near, _far) = said(bytes).await;
                assert!(tls::connect(&rt, &client, server_name("www.example").unwrap(), near).await.is_err());
            }
        });
    }
}

/// A true handshake of which one bit is changed on the way, wherever: no connection comes about, or none that carries a byte.
#[test]
fn a_changed_bit_in_a_handshake_is_seen() {
    with_runtime(|rt| async move {
        let made = || self_signed(&mut ChaCha12Rng::seed_from_u64(1), KeyKind::P256, "www.example");
        let server = tls::Server::new(&rt, vec![made().certificate], made().key).unwrap();
        let client = tls::Client::new(&rt, &Trust::Roots(vec![made().certificate])).unwrap();
        let (mut changed, mut through) = (0, 0);
        for flip in (0..1_200).step_by(61).map(Some).chain([None]) {
            let flipped = Cell::new(false);
            let (near, mut middle) = tokio::io::duplex(1 << 16);
            let (mut onward, far) = tokio::io::duplex(1 << 16);
            let answering = async {
                let mut stream = tls::accept(&rt, &server, far).await?;
                stream.write_all(b"hello").await?;
                stream.flush().await?;
                let _ = stream.read(&mut [0]).await;
                std::io::Result::Ok(())
            };
            let asking = async {
                let mut stream =
                    tls::connect(&rt, &client, server_name("www.example").unwrap(), near).await?;
                let mut heard = [0; 5];
                stream.read_exact(&mut heard).await?;
                std::io::Result::Ok(heard == *b"hello")
            };
            let changing = async {
                let (mut at, mut up, mut down) = (0, [0; 4_096], [0; 4_096]);
                loop {
                    tokio::select! {
                        biased;
                        read = middle.read(&mut up) => match read {
                            Ok(read @ 1..) => { if onward.write_all(&up[..read]).await.is_err() { return; } }
                            _ => return,
                        },
                        read = onward.read(&mut down) => match read {
                            Ok(read @ 1..) => {
                                if let Some(flip) = flip && (at..at + read).contains(&flip) {
                                    down[flip - at] ^= 1;
                                    flipped.set(true);
                                }
                                at += read;
                                if middle.write_all(&down[..read]).await.is_err() { return; }
                            }
                            _ => return,
                        },
                    }
                }
            };
            // Whoever is done hangs up, and the others hear it.
            let both = async {
                tokio::select! {
                    biased;
                    heard = asking => heard.unwrap_or(false),
                    () = async { let _ = answering.await; } => false,
                    () = changing => false,
                }
            };
            let heard = both.await;
            // A byte of the server's that is only for middleboxes may change: a dummy record, a legacy version.
            changed += usize::from(flipped.get());
            through += usize::from(heard && flipped.get());
            assert!(heard || flipped.get(), "unchanged, it is heard");
        }
        assert!(
            changed > 8 && through <= 2,
            "{through} of {changed} changes were not seen"
        );
    });
}

/// The largest body there may be, and one byte more.
#[test]
fn a_body_of_64_kib_is_taken_and_one_of_a_byte_more_is_not() {
    with_runtime(|rt| async move {
        for (extra, wanted) in [(0, true), (1, false)] {
            let len = BODY_MAX + extra;
            let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n").into_bytes();
            answer.extend(vec![7; len]);
            let front = Front::from_args([("url", URL)]).unwrap();
            let dialled = meek::dial(&rt, &Fronts::new(vec![front]), Canned(rt.clone(), answer)).await;
            assert_eq!(dialled.is_ok(), wanted);
        }
    });
}
