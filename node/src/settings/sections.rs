//! Sections that several kinds of settings files have.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use phantom_core::directory::document::Timing;
use phantom_core::directory::sign::{AUTHORITIES_MAX, AuthorityId, KeySet};
use phantom_core::link;
use phantom_core::trusted_time::TimeLimits;
use serde::Deserialize;
use toml::Spanned;

use super::source::{SettingsError, Source};
use super::text::{Contact, ContactKind, Size, Text, Time};
use crate::config::AuthorityContact;

/// Whom to believe about the network: `[directory]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorySection {
    /// How many authorities must sign a document. More than half of them, so that no two documents can both be signed;
    /// no default, since it is a choice of the network.
    pub threshold: Spanned<usize>,
    /// Contact lines of all authorities. No default: they are the root of trust.
    pub authorities: Spanned<Vec<Spanned<Text<Contact>>>>,
    /// From one document to the next. Whole seconds; default "1 h": a node that fails is out of use within two.
    #[serde(default = "hour")]
    pub interval: Spanned<Text<Time>>,
    /// How long a hop key is current. Whole seconds; default "1 h": what is taken from a node opens packets of two hours
    /// at most.
    #[serde(default = "hour")]
    pub hop_period: Spanned<Text<Time>>,
}

fn hour() -> Spanned<Text<Time>> {
    Spanned::new(0..0, Text(Time(Duration::from_secs(3_600))))
}

/// [`DirectorySection`], checked.
#[derive(Clone, Debug)]
pub struct CheckedDirectory {
    /// Keys and threshold.
    pub pinned: KeySet,
    /// All authorities.
    pub authorities: Vec<AuthorityContact>,
    /// Intervals.
    pub timing: Timing,
}

impl DirectorySection {
    /// Checks what one field alone cannot show.
    ///
    /// # Errors
    /// [`SettingsError::Wrong`].
    pub fn check(&self, source: &Source) -> Result<CheckedDirectory, SettingsError> {
        let listed = self.authorities.as_ref();
        if listed.is_empty() || listed.len() > AUTHORITIES_MAX {
            return Err(source.wrong(
                self.authorities.span(),
                format!(
                    "wanted the contact lines of 1 to {AUTHORITIES_MAX} authorities (ask who runs the network), got {}",
                    listed.len()
                ),
            ));
        }
        let mut authorities = Vec::with_capacity(listed.len());
        let mut keys = Vec::with_capacity(listed.len());
        for line in listed {
            let contact = &line.as_ref().0;
            let wrong = |message: &str| source.wrong(line.span(), message);
            if contact.kind != ContactKind::Authority {
                return Err(wrong(
                    "wanted the contact line of an authority, got that of a node",
                ));
            }
            let addresses = contact.addresses().ok_or_else(|| {
                wrong("an authority is named by address: a name could be forged on the way")
            })?;
            authorities.push(AuthorityContact {
                id: AuthorityId::of(&contact.identity),
                link: contact.link,
                addresses,
            });
            keys.push(contact.identity);
        }
        let pinned = KeySet::new(0, *self.threshold.as_ref(), &keys).map_err(|error| {
            source.wrong(
                self.threshold.span(),
                format!("of {} authorities: {error}", keys.len()),
            )
        })?;
        Ok(CheckedDirectory {
            pinned,
            authorities,
            timing: Timing {
                interval: whole_seconds(source, &self.interval)?,
                hop_period: whole_seconds(source, &self.hop_period)?,
            },
        })
    }
}

fn whole_seconds(source: &Source, time: &Spanned<Text<Time>>) -> Result<Duration, SettingsError> {
    let period = time.as_ref().0.0;
    if period.subsec_nanos() != 0 || period.is_zero() || period > Duration::from_secs(7 * 86_400) {
        let message = "wanted whole seconds, at least \"1 s\", at most \"7 d\"";
        return Err(source.wrong(time.span(), message));
    }
    Ok(period)
}

/// How far the wall clock is believed: `[clock]`. SPEC §6.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClockSection {
    /// A clock this far ahead of the prediction is followed. Default "1 h": a leap would forget boxes too early.
    pub ahead: TimeText,
    /// A clock this far behind is followed. Default "10 min".
    pub behind: TimeText,
    /// How long the machine may have been off. Default "90 d".
    pub downtime: TimeText,
    /// How often the prediction is anchored anew. Default "1 h".
    pub anchor: TimeText,
}

/// A time as these sections hold it.
pub type TimeText = Wrapped<Time>;
/// A size as these sections hold it.
pub type SizeText = Wrapped<Size>;

/// [`Text`], for values that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrapped<T>(pub T);

impl<'de, T> Deserialize<'de> for Wrapped<T>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::<T>::deserialize(deserializer).map(|text| Self(text.0))
    }
}

/// A time as a default.
pub(super) const fn time(value: Duration) -> TimeText {
    Wrapped(Time(value))
}

impl Default for ClockSection {
    fn default() -> Self {
        let limits = TimeLimits::default();
        Self {
            ahead: time(limits.ahead),
            behind: time(limits.behind),
            downtime: time(limits.downtime),
            anchor: time(limits.anchor),
        }
    }
}

impl ClockSection {
    /// As the program uses it.
    pub const fn limits(&self) -> TimeLimits {
        TimeLimits {
            ahead: self.ahead.0.0,
            behind: self.behind.0.0,
            downtime: self.downtime.0.0,
            anchor: self.anchor.0.0,
        }
    }
}

/// Times and buffers of links: `[link]`. SPEC §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSection {
    /// A handshake that takes longer has failed. Default "10 s": three round trips over a bad path.
    pub handshake_limit: TimeText,
    /// A ping after so much silence. Default "60 s": below what most NATs and firewalls forget.
    pub keep_alive: TimeText,
    /// A connection without an answer for so long is dead. Default "15 s".
    pub dead_after: TimeText,
    /// How long a session whose connection broke is kept for its resumption. Default "10 min".
    pub park_for: TimeText,
    /// Bytes that wait to be acknowledged, per link. Default "256 KiB", at least "128 KiB".
    pub send_buffer: SizeText,
    /// Bytes that the other end may send ahead, per link. Default "256 KiB", at least "128 KiB".
    pub window: SizeText,
}

impl Default for LinkSection {
    fn default() -> Self {
        let config = link::Config::default();
        Self {
            handshake_limit: time(config.handshake_limit),
            keep_alive: time(config.keep_alive.unwrap_or(Duration::from_secs(60))),
            dead_after: time(config.dead_after),
            park_for: time(config.park_for),
            send_buffer: Wrapped(Size(u64::from(config.send_buffer))),
            window: Wrapped(Size(u64::from(config.window))),
        }
    }
}

impl LinkSection {
    /// As the program uses it. What does not fit 32 bits is cut; the link bounds it anyway.
    pub fn config(&self) -> link::Config {
        let bytes = |size: SizeText| u32::try_from(size.0.0).unwrap_or(u32::MAX);
        link::Config {
            handshake_limit: self.handshake_limit.0.0,
            keep_alive: Some(self.keep_alive.0.0),
            dead_after: self.dead_after.0.0,
            park_for: self.park_for.0.0,
            send_buffer: bytes(self.send_buffer),
            window: bytes(self.window),
            ..link::Config::default()
        }
    }
}

/// At least one address, at most as many as a descriptor holds.
pub(super) fn some_addresses(
    source: &Source,
    addresses: &[SocketAddr],
    at: Range<usize>,
    max: usize,
) -> Result<Vec<SocketAddr>, SettingsError> {
    if addresses.is_empty() || addresses.len() > max {
        let message = format!(
            "wanted 1 to {max} addresses such as \"192.0.2.1:443\", got {}",
            addresses.len()
        );
        return Err(source.wrong(at, message));
    }
    Ok(addresses.to_vec())
}
