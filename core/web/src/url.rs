//! The addresses of bridges and fronts: `http` and `https`, a host, a port, a path. No more of RFC 3986 is needed, so no more is taken.

use std::fmt;
use std::str::FromStr;

use hyper::http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use thiserror::Error;

/// Longest text taken, in bytes: what a proxy or a server takes as a request's line.
const LEN_MAX: usize = 2_048;
/// RFC 1035 §2.3.4.
const HOST_MAX: usize = 253;

/// An `http` or `https` address. Its path is a secret of the bridge's: [`fmt::Debug`] leaves it out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebUrl {
    /// Whether TLS is spoken there.
    pub tls: bool,
    /// A name or an address, without the brackets of IPv6.
    pub host: String,
    /// 443 or 80 if the text says none.
    pub port: u16,
    /// With the leading slash, as it stands in a request; a query is part of it.
    pub path: String,
}

/// Why a text is no such address. It does not say the text, which is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Only two schemes are spoken.
    #[error("the url begins with neither https:// nor http://")]
    Scheme,
    /// No request may be as long.
    #[error("the url is too long: wanted at most {LEN_MAX} bytes, got {0}")]
    Length(usize),
    /// Neither a name nor an address.
    #[error("the url's host is neither a name nor an address")]
    Host,
    /// Not 1 to 65,535.
    #[error("the url's port is no port")]
    Port,
    /// A byte that has no place in a request's line, or a fragment.
    #[error("the url's path has a character that would have to be escaped")]
    Path,
}

impl FromStr for WebUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text.len() > LEN_MAX {
            return Err(UrlError::Length(text.len()));
        }
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return Err(UrlError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = authority_of(authority, if tls { 443 } else { 80 })?;
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(UrlError::Path);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        if slash.len() + text.len() > LEN_MAX {
            return Err(UrlError::Length(slash.len() + text.len()));
        }
        let path = format!("{slash}{path}");
        // Requests are made with it: hyper must take it, and it has its own idea of which characters need no escape.
        path.parse::<PathAndQuery>().map_err(|_| UrlError::Path)?;
        Ok(Self {
            tls,
            host,
            port,
            path,
        })
    }
}

/// A host and a port, as in an address or in the `front=` of a bridge's line.
///
/// # Errors
/// The host is neither a name nor an address, or the port is none.
pub fn authority_of(text: &str, default_port: u16) -> Result<(String, u16), UrlError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| UrlError::Host)?;
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        },
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.is_empty() || host.len() > HOST_MAX || !(host.bytes().all(is_name) || text.starts_with('[')) {
        return Err(UrlError::Host);
    }
    let port = match port {
        Some("") => default_port,
        // No sign: `parse` would take one.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| UrlError::Port)?
        }
        _ => return Err(UrlError::Port),
    };
    match port {
        0 => Err(UrlError::Port),
        port => Ok((host.to_ascii_lowercase(), port)),
    }
}

impl WebUrl {
    /// As a request's `Host` says it: without a port that goes without saying.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let default = if self.tls { 443 } else { 80 };
        match self.port == default {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// The name of its path without the query.
    pub fn path_only(&self) -> &str {
        self.path.split('?').next().unwrap_or_default()
    }
}

/// The name that TLS asks for.
///
/// # Errors
/// It is none.
pub fn server_name(host: &str) -> Result<ServerName<'static>, UrlError> {
    ServerName::try_from(host.to_owned()).map_err(|_| UrlError::Host)
}

impl fmt::Display for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for WebUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebUrl")
            .field("tls", &self.tls)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_url_says_and_what_goes_without_saying() {
        for (text, tls, host, port, path) in [
            ("https://example.org/secret", true, "example.org", 443, "/secret"),
            ("https://Example.ORG", true, "example.org", 443, "/"),
            (
                "http://127.0.0.1:8080/a/b?c=d",
                false,
                "127.0.0.1",
                8_080,
                "/a/b?c=d",
            ),
            ("https://[2001:db8::1]:8443/x", true, "2001:db8::1", 8_443, "/x"),
            ("http://[::1]?q", false, "::1", 80, "/?q"),
        ] {
            let url: WebUrl = text.parse().unwrap();
            assert_eq!(
                (url.tls, &*url.host, url.port, &*url.path),
                (tls, host, port, path),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_url_is_refused_and_not_said() {
        use UrlError::{Host, Length, Path, Port, Scheme};
        let long = format!("https://a/{}", "a".repeat(LEN_MAX));
        let longer_with_its_slash = format!("https://a?{}", "a".repeat(LEN_MAX - 10));
        for (text, wanted) in [
            ("ftp://example.org/", Scheme),
            ("example.org", Scheme),
            ("https:///x", Host),
            ("https://a b/", Host),
            ("https://user@host/", Host),
            ("https://[::1/", Host),
            ("https://[example.org]/", Host),
            ("https://[::1]8/", Port),
            ("https://h:/", Port),
            ("https://h:0/", Port),
            ("https://h:+1/", Port),
            ("https://h:65536/", Port),
            ("https://h/a b", Path),
            ("https://h/a\r\nHost: b", Path),
            ("https://h/#x", Path),
            ("https://h/<", Path),
            ("https://h/?a>b", Path),
            ("https://h/`", Path),
            ("https://h/\u{e9}", Path),
            (&long, Length(LEN_MAX + 10)),
            (&longer_with_its_slash, Length(LEN_MAX + 1)),
        ] {
            assert_eq!(text.parse::<WebUrl>(), Err(wanted), "{text}");
        }
        let url: WebUrl = "https://h/hidden".parse().unwrap();
        assert!(!format!("{url:?}").contains("hidden"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(text in "https?://[a-z.]{1,9}(:[0-9]{1,5})?(/[!-~]{0,9})?") {
            if let Ok(url) = text.parse::<WebUrl>() {
                prop_assert_eq!(url.to_string().parse::<WebUrl>(), Ok(url));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "(https?://)?.{0,40}") {
            let _ = text.parse::<WebUrl>();
        }
    }
}
