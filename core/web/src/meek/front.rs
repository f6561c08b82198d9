//! Ways to a meek server: each a front, which sees the connection, and the server's address within it, which a front alone sees.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::tls::Trust;
use crate::url::{WebUrl, authority_of, server_name};
use crate::webtunnel::{ArgsError, addresses, trust};

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// `url=`: the server's own address and path. Its host is in `Host`, under TLS.
    pub url: WebUrl,
    /// Where to connect and what TLS asks for: `front=`, or the url's host and port.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// `addr=`: where to connect instead of asking for the host's addresses.
    pub addresses: Vec<SocketAddr>,
    /// Whom TLS believes: a browser's roots, or a pin.
    pub trust: Trust,
}

impl Front {
    /// From the arguments of a `meek_lite` line: `url`, perhaps `front`; and of ours `addr`, `cert`, `spki`. Others, `utls` among them, are not for us.
    ///
    /// # Errors
    /// What is missing or no value of its kind.
    pub fn from_args<'a>(args: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ArgsError> {
        let (mut url, mut front, mut addr, mut cert, mut spki) = (None, None, None, None, None);
        for (name, value) in args {
            let (name, place) = match name {
                "url" => ("url", &mut url),
                "front" => ("front", &mut front),
                "addr" => ("addr", &mut addr),
                "cert" => ("cert", &mut cert),
                "spki" => ("spki", &mut spki),
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(ArgsError::Twice(name));
            }
        }
        let url: &str = url.ok_or(ArgsError::Missing("url"))?;
        let url: WebUrl = url.parse().map_err(|error| ArgsError::Url("url", error))?;
        let (host, port) = match front {
            None => (url.host.clone(), url.port),
            Some(front) => {
                let default = if url.tls { 443 } else { 80 };
                authority_of(front, default).map_err(|error| ArgsError::Url("front", error))?
            }
        };
        server_name(&host).map_err(|error| ArgsError::Url("front", error))?;
        Ok(Self {
            url,
            host,
            port,
            addresses: addr.map_or(Ok(Vec::new()), addresses)?,
            trust: trust(cert, spki)?,
        })
    }
}

/// The ways there are now, in the order to try. Fronts perish: the list can be replaced while connections live, which go on over the new ones.
#[derive(Clone, Debug)]
pub struct Fronts(Arc<Mutex<Arc<[Front]>>>);

impl Fronts {
    /// These.
    pub fn new(fronts: Vec<Front>) -> Self {
        Self(Arc::new(Mutex::new(fronts.into())))
    }

    /// Others from now on: every connection leaves the one that it has before its next request.
    pub fn replace(&self, fronts: Vec<Front>) {
        *self.0.lock().expect("nobody panics with it") = fronts.into();
    }

    /// Those of now.
    pub fn current(&self) -> Arc<[Front]> {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::UrlError;

    #[test]
    fn a_front_is_what_is_dialled_and_the_url_what_is_asked_for() {
        let line = [
            ("url", "https://meek.azureedge.net/"),
            ("front", "ajax.aspnetcdn.com"),
            ("utls", "HelloFirefox_Auto"),
        ];
        let front = Front::from_args(line).unwrap();
        assert_eq!((&*front.host, front.port), ("ajax.aspnetcdn.com", 443));
        assert_eq!(front.url.authority(), "meek.azureedge.net");
        let front = Front::from_args([("url", "http://127.0.0.1:8080/x")]).unwrap();
        assert_eq!(
            (&*front.host, front.port, front.url.tls),
            ("127.0.0.1", 8_080, false)
        );
    }

    #[test]
    fn lines_that_lead_nowhere_are_refused() {
        for (args, wanted) in [
            (vec![("front", "a")], ArgsError::Missing("url")),
            (
                vec![("url", "https://a/"), ("front", "a/b")],
                ArgsError::Url("front", UrlError::Host),
            ),
            (
                vec![("url", "https://a/"), ("front", "a"), ("front", "b")],
                ArgsError::Twice("front"),
            ),
        ] {
            assert_eq!(Front::from_args(args.clone()), Err(wanted), "{args:?}");
        }
    }
}
