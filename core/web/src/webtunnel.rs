//! webtunnel: `Upgrade: websocket` on a secret path, inside TLS, and then bytes as they are. There is no framing of WebSocket.
//!
//! Source: Tor's webtunnel 0.0.3 (`transport/httpupgrade`, `main/client`, `main/server`). A server of that kind stands behind a web server that speaks TLS
//! and hands over the secret path; ours can stand there too ([`Server::tls`] is `None`), or be the web server itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use phantom_core::link::Carrier;
use phantom_core::runtime::{Runtime, timeout};
use rand_core::Rng;
use thiserror::Error;

use crate::error::WebError;
use crate::io::{ForHyper, WebStream};
use crate::site::{Answer, Site};
use crate::tls::{self, BadPin, Trust, TrustError, pin_from_base64};
use crate::url::{UrlError, WebUrl, server_name};
use crate::visit::{self, SecretPath};

/// From the first byte of TLS to the server's 101.
const DIAL_LIMIT: Duration = Duration::from_secs(60);
/// The head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Addresses in a line.
const ADDRESSES_MAX: usize = 16;

/// A bridge as its line describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// `url=`: where its web server is, and the secret path there.
    pub url: WebUrl,
    /// `addr=`: where to connect instead of asking for the addresses of the url's host.
    pub addresses: Vec<SocketAddr>,
    /// `servername=`: the name for TLS and for `Host`, if it is not the url's host.
    pub server_name: Option<String>,
    /// `cert=` or `spki=`, and without them a browser's.
    pub trust: Trust,
}

/// What is wrong with a line's arguments; secrets in them are not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ArgsError {
    /// There is nothing without it.
    #[error("the bridge line has no {0}=")]
    Missing(&'static str),
    /// The same twice says nothing.
    #[error("the bridge line has {0}= twice")]
    Twice(&'static str),
    /// It is none.
    #[error("{0}= of the bridge line: {1}")]
    Url(&'static str, UrlError),
    /// Not addresses with ports, or too many.
    #[error("addr= of the bridge line: wanted up to {ADDRESSES_MAX} of 192.0.2.1:443, with commas between")]
    Addresses,
    /// No hash.
    #[error("{0}= of the bridge line: {1}")]
    Pin(&'static str, BadPin),
    /// Two pins of two kinds.
    #[error("the bridge line has cert= and spki=: wanted one of them")]
    TwoPins,
}

impl Bridge {
    /// From the arguments of a line: `url`, and perhaps `addr`, `servername`, `cert`, `spki`. Others, `ver` and `utls` among them, are not for us.
    ///
    /// # Errors
    /// What is missing or no value of its kind.
    pub fn from_args<'a>(args: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ArgsError> {
        let mut known = Known::default();
        for (name, value) in args {
            known.take(name, value)?;
        }
        let url = known.url.ok_or(ArgsError::Missing("url"))?;
        let url: WebUrl = url.parse().map_err(|error| ArgsError::Url("url", error))?;
        if let Some(name) = known.server_name {
            server_name(name).map_err(|error| ArgsError::Url("servername", error))?;
        }
        Ok(Self {
            url,
            addresses: known.addr.map_or(Ok(Vec::new()), addresses)?,
            server_name: known.server_name.map(str::to_owned),
            trust: trust(known.cert, known.spki)?,
        })
    }

    /// The name for TLS and `Host`.
    fn name(&self) -> &str {
        self.server_name.as_deref().unwrap_or(&self.url.host)
    }
}

#[derive(Default)]
struct Known<'a> {
    url: Option<&'a str>,
    addr: Option<&'a str>,
    server_name: Option<&'a str>,
    cert: Option<&'a str>,
    spki: Option<&'a str>,
}

impl<'a> Known<'a> {
    fn take(&mut self, name: &str, value: &'a str) -> Result<(), ArgsError> {
        let (name, place) = match name {
            "url" => ("url", &mut self.url),
            "addr" => ("addr", &mut self.addr),
            "servername" => ("servername", &mut self.server_name),
            "cert" => ("cert", &mut self.cert),
            "spki" => ("spki", &mut self.spki),
            _ => return Ok(()),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(ArgsError::Twice(name)),
        }
    }
}

pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>, ArgsError> {
    let parsed: Result<Vec<_>, _> = text.split(',').take(ADDRESSES_MAX + 1).map(str::parse).collect();
    parsed
        .ok()
        .filter(|addresses| addresses.len() <= ADDRESSES_MAX)
        .ok_or(ArgsError::Addresses)
}

pub(crate) fn trust(cert: Option<&str>, spki: Option<&str>) -> Result<Trust, ArgsError> {
    let pin = |name, text| pin_from_base64(text).map_err(|error| ArgsError::Pin(name, error));
    Ok(match (cert, spki) {
        (None, None) => Trust::WebPki,
        (Some(cert), None) => Trust::Chain(pin("cert", cert)?),
        (None, Some(spki)) => Trust::Spki(pin("spki", spki)?),
        (Some(_), Some(_)) => return Err(ArgsError::TwoPins),
    })
}

/// A bridge and how TLS with it begins.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it is.
    pub bridge: Bridge,
    /// `None` if its url is plain `http`, for tests and tunnels that are encrypted already.
    pub tls: Option<tls::Client>,
}

impl Client {
    /// For this bridge.
    ///
    /// # Errors
    /// A root that it is to be trusted by cannot be used.
    pub fn new<R: Runtime>(rt: &R, bridge: Bridge) -> Result<Self, TrustError> {
        let tls = match bridge.url.tls {
            true => Some(tls::Client::new(rt, &bridge.trust)?),
            false => None,
        };
        Ok(Self { bridge, tls })
    }
}

/// Dials a bridge over `stream`, which is connected to it or to its front.
///
/// # Errors
/// The stream fails, TLS with whoever is trusted does not come about, or no bridge answers on that path within a minute.
pub async fn dial<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    client: &Client,
) -> Result<WebStream<S>, WebError> {
    let dialled = timeout(rt, DIAL_LIMIT, dial_at_leisure(rt, stream, client)).await;
    dialled.unwrap_or(Err(WebError::Slow(DIAL_LIMIT, "dialling a webtunnel bridge")))
}

async fn dial_at_leisure<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    client: &Client,
) -> Result<WebStream<S>, WebError> {
    let name = client.bridge.name();
    let stream = match &client.tls {
        None => WebStream::plain(stream),
        Some(tls) => {
            let opened = tls::connect(rt, tls, server_name(name)?, stream).await;
            WebStream::tls(opened.map_err(WebError::Tls)?)
        }
    };
    let failed = |error| WebError::from_hyper("asking for an upgrade", error);
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).max_buf_size(HEAD_MAX);
    let handshake = builder.handshake(ForHyper(stream)).await;
    let (mut sender, mut connection) = handshake.map_err(failed)?;
    let mut nonce = [0; 16];
    rt.rng("webtunnel key").fill_bytes(&mut nonce);
    let request = request(&client.bridge, nonce);
    let mut asking = std::pin::pin!(sender.send_request(request));
    let response = tokio::select! {
        biased;
        response = &mut asking => response.map_err(failed)?,
        ended = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
            ended.map_err(failed)?;
            // The answer is there by now, or there is none.
            asking.await.map_err(failed)?
        }
    };
    let wanted = StatusCode::SWITCHING_PROTOCOLS;
    if response.status() != wanted {
        let got = response.status();
        return Err(WebError::Answer { got, wanted });
    }
    if !is_upgrade(response.headers()) {
        return Err(WebError::Strange("it upgrades to something else than websocket"));
    }
    std::future::poll_fn(|cx| connection.poll_without_shutdown(cx))
        .await
        .map_err(failed)?;
    let parts = connection.into_parts();
    Ok(parts.io.0.with_early(parts.read_buf))
}

/// What a browser asks for, in its order, but for what it would say of itself.
pub(crate) fn request(bridge: &Bridge, nonce: [u8; 16]) -> Request<Empty<Bytes>> {
    // A name and no port even if the url has one, as webtunnel's client does it.
    let host = bridge.name();
    Request::builder()
        .method(Method::GET)
        .uri(&bridge.url.path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, Base64::encode_string(&nonce))
        .body(Empty::new())
        .expect("a parsed url is good in a request")
}

/// Whether both headers ask for, or grant, an upgrade to WebSocket.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, wanted: &str| {
        headers.get_all(name).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(wanted))
        })
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// A server: who asks on the secret path gets a tunnel, everybody else the web site.
#[derive(Clone, Debug)]
pub struct Server {
    path: SecretPath,
    site: Arc<Site>,
    /// `None` behind a web server that speaks TLS.
    pub tls: Option<tls::Server>,
}

impl Server {
    /// One whose tunnels begin at the path of `url`.
    pub fn new(url: &WebUrl, site: Site, tls: Option<tls::Server>) -> Self {
        Self {
            path: SecretPath::new(url.path_only()),
            site: Arc::new(site),
            tls,
        }
    }
}

/// A tunnel, and who the web server in front says that the client is.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its bytes.
    pub stream: WebStream<S>,
    /// The first of `X-Forwarded-For`; never with TLS of our own, where everybody could claim it.
    pub forwarded_for: Option<IpAddr>,
}

/// Serves whoever connected on `stream`: the web site, for as long as they ask for it, and the tunnel when they do.
///
/// # Errors
/// [`WebError::Visitor`] when they never did; else what failed.
pub async fn accept<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    server: &Server,
) -> Result<Accepted<S>, WebError> {
    let stream = visit::open(rt, server.tls.as_ref(), stream).await?;
    let forwarded = Arc::new(std::sync::Mutex::new(None));
    let answer = {
        let (rt, server, forwarded) = (rt.clone(), server.clone(), forwarded.clone());
        move |request: Request<Incoming>| {
            let is_for_us = request.method() == Method::GET
                && is_upgrade(request.headers())
                && server.path.is(request.uri().path());
            let answer = match is_for_us {
                true => upgrade(request.headers()),
                false => server
                    .site
                    .answer(request.method(), request.uri().path(), rt.wall()),
            };
            if is_for_us && server.tls.is_none() {
                *forwarded.lock().expect("nobody panics with it") = forwarded_for(request.headers());
            }
            std::future::ready(answer)
        }
    };
    let stream = visit::serve(rt, stream, answer).await?;
    let forwarded_for = forwarded.lock().expect("nobody panics with it").take();
    Ok(Accepted {
        stream,
        forwarded_for,
    })
}

/// What webtunnel's client wants to hear, to the letter; browsers and web servers between want the accepted key.
pub(crate) fn upgrade(asked: &HeaderMap) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(key) = asked.get(header::SEC_WEBSOCKET_KEY) {
        let accepted = HeaderValue::from_str(&accepted_key(key.as_bytes()));
        headers.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            accepted.expect("base64 is printable"),
        );
    }
    answer
}

/// RFC 6455 §4.2.2.
fn accepted_key(key: &[u8]) -> String {
    use sha1::{Digest, Sha1};
    let hash = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    Base64::encode_string(&hash)
}

pub(crate) fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let text = headers.get("x-forwarded-for")?.to_str().ok()?;
    text.split(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accepted_key_is_that_of_rfc_6455() {
        assert_eq!(
            accepted_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn lines_of_tor_are_read() {
        let line = [
            ("url", "https://example.org/83c1327ea78e32b5d151e872"),
            ("ver", "0.0.4"),
            ("servername", "front.example"),
            ("addr", "192.0.2.1:443,[2001:db8::1]:8443"),
        ];
        let bridge = Bridge::from_args(line).unwrap();
        assert_eq!(bridge.url.path, "/83c1327ea78e32b5d151e872");
        assert_eq!((bridge.name(), bridge.addresses.len()), ("front.example", 2));
        assert_eq!(bridge.trust, Trust::WebPki);
        let pin = tls::pin_to_base64(&[7; 32]);
        let pinned = |name| {
            Bridge::from_args([("url", "https://a/"), (name, &*pin)])
                .unwrap()
                .trust
        };
        assert_eq!(pinned("cert"), Trust::Chain([7; 32]));
        assert_eq!(pinned("spki"), Trust::Spki([7; 32]));
    }

    #[test]
    fn lines_that_say_too_little_or_too_much_are_refused() {
        let many = ["192.0.2.1:443"; ADDRESSES_MAX + 1].join(",");
        let url = ("url", "https://a/");
        let pin = ("cert", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=");
        for (args, wanted) in [
            (vec![], ArgsError::Missing("url")),
            (vec![url, url], ArgsError::Twice("url")),
            (
                vec![("url", "gopher://a/")],
                ArgsError::Url("url", UrlError::Scheme),
            ),
            (vec![url, ("addr", "example.org:443")], ArgsError::Addresses),
            (vec![url, ("addr", &*many)], ArgsError::Addresses),
            (
                vec![url, ("servername", "a b")],
                ArgsError::Url("servername", UrlError::Host),
            ),
            (vec![url, ("cert", "AAAA")], ArgsError::Pin("cert", BadPin)),
            (vec![url, pin, ("spki", pin.1)], ArgsError::TwoPins),
        ] {
            assert_eq!(Bridge::from_args(args.clone()), Err(wanted), "{args:?}");
        }
    }

    #[test]
    fn an_upgrade_is_to_websocket_and_nothing_else() {
        let headers = |connection: &'static str, upgrade: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONNECTION, HeaderValue::from_static(connection));
            headers.insert(header::UPGRADE, HeaderValue::from_static(upgrade));
            headers
        };
        assert!(is_upgrade(&headers("upgrade", "websocket")));
        assert!(is_upgrade(&headers("keep-alive, Upgrade", "WebSocket")));
        assert!(!is_upgrade(&headers("upgrade", "h2c")));
        assert!(!is_upgrade(&headers("close", "websocket")));
        assert!(!is_upgrade(&HeaderMap::new()));
    }
}
