//! The proxy between a transport and the network: `TOR_PT_PROXY`. Spec: pt-spec §3.2.2.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use thiserror::Error;

/// What SOCKS 5 can carry of a name and of a password.
const LOGIN_MAX: usize = 255;

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProxyScheme {
    /// HTTP CONNECT.
    Http,
    /// SOCKS 4a.
    Socks4a,
    /// SOCKS 5.
    Socks5,
}

impl ProxyScheme {
    /// As a URI has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
        }
    }
}

/// A proxy that every connection to the network must go through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How to speak to it.
    pub scheme: ProxyScheme,
    /// Where it is.
    pub address: SocketAddr,
    /// As whom to use it.
    pub login: Option<Login>,
}

/// A name and a password, each of at most 255 bytes; the name is not empty. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

/// Why a text is no proxy, or not one that can be used. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// Not `scheme://…`.
    #[error("the upstream proxy is no URI: wanted scheme://[user[:password]@]address:port")]
    NotUri,
    /// Of none of the schemes of the specification.
    #[error("the upstream proxy's scheme is unknown: wanted http, socks4a or socks5")]
    Scheme,
    /// Of a scheme that this program cannot speak.
    #[error("{} upstream proxies are not supported here: wanted {wanted}", .scheme.as_str())]
    Unsupported {
        /// The scheme asked for.
        scheme: ProxyScheme,
        /// Those that would do.
        wanted: String,
    },
    /// A host name, no port, or something after it.
    #[error("the upstream proxy's address is not an IP address and a port (host names are not looked up)")]
    Address,
    /// The name is empty or too long, the password is too long, or something is escaped that cannot be.
    #[error(
        "the upstream proxy's user or password is not usable: wanted 1 to {LOGIN_MAX} bytes of UTF-8, each special one as %XX, and no control characters"
    )]
    Login,
}

impl Login {
    /// Checks them.
    ///
    /// # Errors
    /// [`ProxyError::Login`].
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Result<Self, ProxyError> {
        let (user, password) = (user.into(), password.into());
        let fits = !user.is_empty() && user.len() <= LOGIN_MAX && password.len() <= LOGIN_MAX;
        if fits && !user.chars().chain(password.chars()).any(char::is_control) {
            Ok(Self { user, password })
        } else {
            Err(ProxyError::Login)
        }
    }

    /// The name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password, which may be empty.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl Proxy {
    /// An error if the scheme is none of these.
    ///
    /// # Errors
    /// [`ProxyError::Unsupported`].
    pub fn speaks(&self, schemes: &[ProxyScheme]) -> Result<(), ProxyError> {
        if schemes.contains(&self.scheme) {
            return Ok(());
        }
        let names: Vec<_> = schemes.iter().map(|scheme| scheme.as_str()).collect();
        let wanted = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(" or ")
        };
        let scheme = self.scheme;
        Err(ProxyError::Unsupported { scheme, wanted })
    }

    /// As `TOR_PT_PROXY` holds it, with its password.
    pub fn to_uri(&self) -> String {
        let mut uri = format!("{}://", self.scheme.as_str());
        if let Some(Login { user, password }) = &self.login {
            percent_encode(user, &mut uri);
            if !password.is_empty() {
                uri.push(':');
                percent_encode(password, &mut uri);
            }
            uri.push('@');
        }
        uri + &self.address.to_string()
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyError::NotUri)?;
        let scheme = match scheme {
            "http" => ProxyScheme::Http,
            "socks4a" => ProxyScheme::Socks4a,
            "socks5" => ProxyScheme::Socks5,
            _ => return Err(ProxyError::Scheme),
        };
        // The last one: tor writes a password as it is, and it may have one.
        let (login, address) = match rest.rsplit_once('@') {
            Some((login, address)) => (Some(login), address),
            None => (None, rest),
        };
        let address = address.parse().map_err(|_| ProxyError::Address)?;
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            Login::new(percent_decode(user)?, percent_decode(password)?)
        });
        Ok(Self {
            scheme,
            address,
            login: login.transpose()?,
        })
    }
}

/// Without its login.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = if self.login.is_some() { "[not shown]@" } else { "" };
        write!(f, "{}://{login}{}", self.scheme.as_str(), self.address)
    }
}

/// Shows nothing.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(not shown)")
    }
}

/// All but the unreserved characters of RFC 3986 §2.3.
fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

fn percent_decode(text: &str) -> Result<String, ProxyError> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digit = |at: usize| bytes.get(at).and_then(|digit| char::from(*digit).to_digit(16));
            let (high, low) = digit(at + 1).zip(digit(at + 2)).ok_or(ProxyError::Login)?;
            decoded.push(u8::try_from(high * 16 + low).map_err(|_| ProxyError::Login)?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| ProxyError::Login)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn proxy() -> impl Strategy<Value = Proxy> {
        let scheme = prop::sample::select(vec![ProxyScheme::Http, ProxyScheme::Socks4a, ProxyScheme::Socks5]);
        let login = ("[ -~é]{1,20}", "[ -~é]{0,20}").prop_map(|(user, password)| Login { user, password });
        (scheme, any::<SocketAddr>(), prop::option::of(login)).prop_map(|(scheme, mut address, login)| {
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_flowinfo(0); // its text has none
                v6.set_scope_id(0);
            }
            Proxy {
                scheme,
                address,
                login,
            }
        })
    }

    proptest! {
        #[test]
        fn a_proxy_survives_its_uri(proxy in proxy()) {
            prop_assert_eq!(proxy.to_uri().parse::<Proxy>().unwrap(), proxy);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), uri in "(http|socks5)://[a%:@0-9]{0,12}") {
            let _ = text.parse::<Proxy>();
            let _ = uri.parse::<Proxy>();
        }
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let proxy: Proxy = "socks5://tor:test1234@198.51.100.1:8000".parse().unwrap();
        assert_eq!(proxy.login.as_ref().unwrap().password(), "test1234");
        assert_eq!(format!("{proxy:?}"), "socks5://[not shown]@198.51.100.1:8000");
        assert_eq!(
            "socks4a://198.51.100.2:8001".parse::<Proxy>().unwrap().login,
            None
        );
        assert_eq!(
            "http://[::1]:443".parse::<Proxy>().unwrap().scheme,
            ProxyScheme::Http
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<Proxy>().unwrap_err();
        assert_eq!(refused("127.0.0.1:80"), ProxyError::NotUri);
        assert_eq!(refused("ftp://127.0.0.1:80"), ProxyError::Scheme);
        assert_eq!(refused("http://localhost:80"), ProxyError::Address);
        assert_eq!(refused("http://127.0.0.1:80/"), ProxyError::Address);
        assert_eq!(refused("http://:b@127.0.0.1:80"), ProxyError::Login);
        assert_eq!(refused("http://a%0g@127.0.0.1:80"), ProxyError::Login);
        let http: Proxy = "http://127.0.0.1:80".parse().unwrap();
        assert_eq!(
            http.speaks(&[ProxyScheme::Socks5]).unwrap_err().to_string(),
            "http upstream proxies are not supported here: wanted socks5"
        );
    }
}
