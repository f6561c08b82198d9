//! The names of classifiers, as rules and the command line write them.

use std::fmt;
use std::str::FromStr;

use super::fet::Variant;

/// A classifier by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Classifier {
    /// [`fet`](super::fet) in one of its texts.
    Fet(Variant),
    /// [`tls`](super::tls), joined over segments.
    Tls,
    /// [`tls`](super::tls), first segment only.
    TlsSegment,
    /// [`quic`](super::quic), joined over datagrams.
    Quic,
    /// [`quic`](super::quic), first datagram only.
    QuicDatagram,
    /// [`dtls`](super::dtls).
    Dtls,
    /// [`http`](super::http).
    Http,
    /// [`ssh`](super::ssh).
    Ssh,
    /// [`dns`](super::dns).
    Dns,
    /// [`entropy`](super::entropy).
    Entropy,
    /// [`length`](super::length).
    Length,
}

impl Classifier {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Fet(Variant::Paper),
        Self::Fet(Variant::DetectPy),
        Self::Fet(Variant::OpenGfw),
        Self::Tls,
        Self::TlsSegment,
        Self::Quic,
        Self::QuicDatagram,
        Self::Dtls,
        Self::Http,
        Self::Ssh,
        Self::Dns,
        Self::Entropy,
        Self::Length,
    ];

    /// As rules and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fet(Variant::Paper) => "fet:paper",
            Self::Fet(Variant::DetectPy) => "fet:detect-py",
            Self::Fet(Variant::OpenGfw) => "fet:opengfw",
            Self::Tls => "tls",
            Self::TlsSegment => "tls:segment",
            Self::Quic => "quic",
            Self::QuicDatagram => "quic:datagram",
            Self::Dtls => "dtls",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::Dns => "dns",
            Self::Entropy => "entropy",
            Self::Length => "length",
        }
    }
}

impl fmt::Display for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No classifier has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown classifier '{}'; choices: {}", .0.escape_default(), choices())]
pub struct UnknownClassifier(pub String);

impl FromStr for Classifier {
    type Err = UnknownClassifier;

    fn from_str(name: &str) -> Result<Self, UnknownClassifier> {
        // The text that the paper prints is what `fet` alone means.
        if name == "fet" {
            return Ok(Self::Fet(Variant::Paper));
        }
        Self::ALL
            .into_iter()
            .find(|classifier| classifier.name() == name)
            .ok_or_else(|| UnknownClassifier(name.to_owned()))
    }
}

fn choices() -> String {
    Classifier::ALL.map(Classifier::name).join(", ")
}
