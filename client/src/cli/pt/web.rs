//! webtunnel and meek of `phantom pt`: lines of bridges, and servers with a certificate or behind a web server.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::UNIX_EPOCH;

use phantom_core::runtime::Stream;
use phantom_core::runtime::tokio::TokioRuntime;
use phantom_core::units::WallTime;
use phantom_pt::args::Args;
use phantom_pt::name::TransportName;
use phantom_pt::proxy::Proxy;
use phantom_pt::socks::Target;
use phantom_web::meek::{self, Front, Fronts, Limits, Sessions};
use phantom_web::site::{self, Site};
use phantom_web::tls;
use phantom_web::url::WebUrl;
use phantom_web::webtunnel::{self, Bridge};
use sha2::{Digest, Sha256};

use super::{Carried, Connection, connect};

/// `meek_lite` is what obfs4proxy and lyrebird call their client; the server is `meek` in Tor's own.
pub(super) const NAMES: [&str; 3] = ["webtunnel", "meek_lite", "meek"];
/// Whose behaviour our webtunnel is: `ver=` of a line.
const WEBTUNNEL: &str = "0.0.3";
/// Options of a server, besides `url`: files of PEM, and the folder of the web site.
const CERTIFICATE: &str = "certificate";
const KEY: &str = "key";
const SITE: &str = "site";
/// Of PEM, in bytes.
const PEM_MAX: u64 = 1 << 20;

/// Whether a transport cannot say that one way has ended.
pub(super) fn says_no_end(transport: &TransportName) -> bool {
    transport.as_str().starts_with("meek")
}

pub(super) async fn dial_webtunnel(
    rt: &TokioRuntime,
    args: &Args,
    proxy: Option<&Proxy>,
) -> io::Result<(SocketAddr, Carried)> {
    let bridge = Bridge::from_args(args.iter()).map_err(invalid)?;
    let client = webtunnel::Client::new(rt, bridge).map_err(io::Error::other)?;
    let Bridge { url, addresses, .. } = &client.bridge;
    let stream = connect_to(rt, &url.host, url.port, addresses, proxy).await?;
    let local = stream.local_addr();
    let stream = webtunnel::dial(rt, stream, &client).await?;
    Ok((local, Box::new(stream)))
}

pub(super) async fn dial_meek(rt: &TokioRuntime, args: &Args, proxy: Option<&Proxy>) -> io::Result<Carried> {
    let front = Front::from_args(args.iter()).map_err(invalid)?;
    let way = Way {
        rt: rt.clone(),
        proxy: proxy.cloned(),
    };
    let stream = meek::dial(rt, &Fronts::new(vec![front]), way).await?;
    Ok(Box::new(stream))
}

/// How meek comes by its connections.
struct Way {
    rt: TokioRuntime,
    proxy: Option<Proxy>,
}

impl meek::Connect for Way {
    type Stream = Connection;

    async fn connect(&self, front: &Front) -> io::Result<Connection> {
        connect_to(
            &self.rt,
            &front.host,
            front.port,
            &front.addresses,
            self.proxy.as_ref(),
        )
        .await
    }
}

/// To one of the addresses, or to the host.
async fn connect_to(
    rt: &TokioRuntime,
    host: &str,
    port: u16,
    addresses: &[SocketAddr],
    proxy: Option<&Proxy>,
) -> io::Result<Connection> {
    let mut targets: Vec<Target> = addresses.iter().copied().map(Target::from).collect();
    if targets.is_empty() {
        targets.push(match host.parse::<IpAddr>() {
            Ok(ip) => Target::from(SocketAddr::new(ip, port)),
            Err(_) => Target::Name(host.parse().map_err(invalid)?, port),
        });
    }
    let mut last = io::ErrorKind::NotFound.into();
    for target in &targets {
        match connect(rt, target, proxy).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A webtunnel server, and the arguments of its line.
pub(super) fn webtunnel(rt: &TokioRuntime, options: &Args) -> io::Result<(webtunnel::Server, Args)> {
    let url = url(options)?;
    let server = webtunnel::Server::new(&url, site(options)?, tls(rt, options)?);
    let args = Args::new()
        .with("url", url.to_string())
        .and_then(|args| args.with("ver", WEBTUNNEL));
    Ok((server, args.map_err(io::Error::other)?))
}

/// Serves one connection; who the client is, as far as it is known, and its bytes.
pub(super) async fn accept(
    rt: &TokioRuntime,
    stream: Connection,
    server: &webtunnel::Server,
) -> io::Result<(SocketAddr, Carried)> {
    let peer = stream.peer_addr();
    let accepted = webtunnel::accept(rt, stream, server).await?;
    // The port is Tor's: the web server in front does not say it.
    let client = accepted.forwarded_for.map(|ip| SocketAddr::new(ip, 60_000));
    Ok((client.unwrap_or(peer), Box::new(accepted.stream)))
}

/// A meek server, where its sessions come out, and the arguments of its line.
pub(super) fn meek(rt: &TokioRuntime, options: &Args) -> io::Result<(meek::Server, Sessions, Args)> {
    let url = url(options)?;
    let (site, tls) = (site(options)?, tls(rt, options)?);
    let (server, sessions) = meek::Server::new(rt, &url, site, tls, Limits::default());
    let args = Args::new().with("url", url.to_string());
    Ok((server, sessions, args.map_err(io::Error::other)?))
}

/// The address that a webtunnel bridge's line begins with, which nobody connects to: 2001:db8::/32 and a hash of its url
/// (webtunnel's `common/syntheticIP`).
pub(super) fn synthetic_address(url: &str) -> SocketAddr {
    let hash: [u8; 32] = Sha256::digest(format!("WEBTUNNEL+{url}")).into();
    let mut ip = [0; 16];
    ip[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ip[4..].copy_from_slice(&hash[4..16]);
    (Ipv6Addr::from(ip), 443).into()
}

fn url(options: &Args) -> io::Result<WebUrl> {
    let url = options.value("url").ok_or_else(|| {
        invalid("url= is missing in ServerTransportOptions: the public address, secret path included")
    })?;
    url.parse().map_err(invalid)
}

/// Of its certificate, if the options name one; without, a web server in front speaks TLS.
fn tls(rt: &TokioRuntime, options: &Args) -> io::Result<Option<tls::Server>> {
    let (chain, key) = match (options.value(CERTIFICATE), options.value(KEY)) {
        (None, None) => return Ok(None),
        (Some(chain), Some(key)) => (chain, key),
        _ => {
            return Err(invalid(
                "certificate= and key= of ServerTransportOptions go together",
            ));
        }
    };
    let (chain, key) = (pem(chain)?, zeroize::Zeroizing::new(pem(key)?));
    let server = tls::Server::from_pem(rt, &chain, &key);
    server.map(Some).map_err(invalid)
}

fn pem(file: &str) -> io::Result<Vec<u8>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("reading {file}: {error}"));
    if fs::metadata(file).map_err(named)?.len() > PEM_MAX {
        return Err(invalid(format!(
            "{file} is no PEM: it has more than {PEM_MAX} bytes"
        )));
    }
    fs::read(file).map_err(named)
}

fn site(options: &Args) -> io::Result<Site> {
    let Some(folder) = options.value(SITE) else {
        return Ok(Site::default());
    };
    let mut site = Site::empty();
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("reading the web site in {folder}: {error}"));
    add_folder(&mut site, Path::new(folder), "/", 0).map_err(named)?;
    Ok(site)
}

/// Folders within folders of a site.
const DEPTH_MAX: usize = 16;

/// Regular files alone, and none whose name begins with a dot.
fn add_folder(site: &mut Site, folder: &Path, at: &str, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let (kind, metadata) = (entry.file_type()?, entry.metadata()?);
        let path = format!("{at}{}", escaped(name));
        if kind.is_dir() && depth < DEPTH_MAX {
            add_folder(site, &entry.path(), &format!("{path}/"), depth + 1)?;
        } else if kind.is_file() {
            if metadata.len() > site::BYTES_MAX as u64 {
                return Err(invalid(format!("{} is too large", entry.path().display())));
            }
            let changed = metadata.modified()?.duration_since(UNIX_EPOCH);
            let changed = WallTime::from_unix_secs(changed.map_or(0, |since| since.as_secs()));
            let body = fs::read(entry.path())?;
            site.add(&path, body.into(), changed).map_err(invalid)?;
        }
    }
    Ok(())
}

/// A name as it stands in a request (RFC 3986 §2.3).
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that Tor gives out: the address is that of the url.
    #[test]
    fn the_address_of_a_line_is_the_hash_of_its_url() {
        for (url, address) in [
            (
                "https://d3pyjtpvxs6z0u.cloudfront.net/Exei6xoh1aev8fiethee",
                "[2001:db8:9443:367a:3276:1e74:91c3:7a5a]:443",
            ),
            (
                "https://aaronstory2026.xyz:2053/vicmackey",
                "[2001:db8:addf:7bc4:155a:a563:a5d5:8b04]:443",
            ),
        ] {
            assert_eq!(synthetic_address(url).to_string(), address);
        }
    }

    #[test]
    fn a_folder_is_a_site_and_what_begins_with_a_dot_is_not_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a b/.git")).unwrap();
        for file in ["index.html", "a b/c.css", ".htpasswd", "a b/.git/config"] {
            fs::write(folder.path().join(file), "x").unwrap();
        }
        let options = Args::new().with(SITE, folder.path().to_str().unwrap()).unwrap();
        let site = format!("{:?}", site(&options).unwrap());
        assert!(
            site.contains("\"/index.html\"") && site.contains("\"/a%20b/c.css\""),
            "{site}"
        );
        assert!(!site.contains("htpasswd") && !site.contains("git"), "{site}");
    }

    #[test]
    fn options_that_say_half_are_refused() {
        let rt_free = |options: Args| url(&options).map(|_| ()).map_err(|error| error.to_string());
        assert!(rt_free(Args::new()).unwrap_err().contains("url= is missing"));
        assert!(rt_free(Args::new().with("url", "ftp://a").unwrap()).is_err());
        assert!(rt_free(Args::new().with("url", "https://a/b").unwrap()).is_ok());
    }
}
