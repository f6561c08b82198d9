//! Doors for the fuzz target in `core/fuzz/`: what clients ask, and what a server makes of a request's head, as functions.
//! Compiled with `--cfg fuzzing` only.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use phantom_core::units::WallTime;

use crate::meek::{self, Front};
use crate::site::Site;
use crate::visit::SecretPath;
use crate::webtunnel::{self, Bridge};

/// What a client asks such a webtunnel bridge.
pub fn ask_webtunnel(bridge: &Bridge) {
    let asked = webtunnel::request(bridge, [7; 16]);
    assert_eq!(asked.uri().to_string(), bridge.url.path);
    assert!(webtunnel::is_upgrade(asked.headers()));
    assert!(SecretPath::new(bridge.url.path_only()).is(asked.uri().path()));
}

/// What a client asks such a front.
pub fn ask_meek(front: &Front) {
    let session = HeaderValue::from_static("0123456789abcdef");
    let asked = meek::request(front, &session, Bytes::from_static(b"body"));
    assert_eq!(asked.uri().to_string(), front.url.path);
    assert!(SecretPath::new(front.url.path_only()).is(asked.uri().path()));
}

/// A server's answers to a head as hyper gives it: method, path, then headers, each on a line of its own; whether it asks for a
/// tunnel.
pub fn visit(head: &[u8], now: WallTime) -> bool {
    let mut lines = head.split(|byte| *byte == b'\n');
    let method = Method::from_bytes(lines.next().unwrap_or_default());
    let path = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let Ok(method) = method else { return false };
    let mut headers = HeaderMap::new();
    for line in lines.take(100) {
        let at = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(&line[..at]);
        let value = HeaderValue::from_bytes(line.get(at + 1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let site = Site::default();
    let answer = site.answer(&method, &path, now);
    let known = [
        StatusCode::OK,
        StatusCode::NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED,
    ];
    assert!(known.contains(&answer.status()));
    assert!(answer.headers().contains_key(header::DATE));
    let _ = webtunnel::forwarded_for(&headers);
    if !webtunnel::is_upgrade(&headers) {
        return false;
    }
    let answer = webtunnel::upgrade(&headers);
    assert!(answer.status() == StatusCode::SWITCHING_PROTOCOLS && webtunnel::is_upgrade(answer.headers()));
    true
}
