//! The parameters of a prober, with what is published as default.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::delay::Delay;
use super::judge::{Judge, Sign};
use super::kind::Kind;
use crate::engine::residual::{Residual, Tuple};
use crate::engine::rule::{ALWAYS, Way};

/// The most addresses that probes come from.
pub const FROM_MAX: usize = 1024;

/// How a rule's suspects are probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is sent. Default: all that was seen at Shadowsocks servers (IMC 2020, §3.2).
    pub kinds: BTreeSet<Kind>,
    /// How long after a suspect was seen, and after a server answered. Default: §3.5 there.
    pub delay: Delay,
    /// How long a prober waits for an answer, in nanoseconds. Default 10 s: "usually less than 10 seconds" (§5.2.1).
    pub patience_ns: u64,
    /// Where probes come from. Default: 16 addresses; the real ones were 12,300 (§3.3).
    pub from: Origins,
    /// What the answers tell.
    pub judge: Judge,
    /// Of the servers that are found, so many are blocked, in parts of 2^32. Default: all.
    pub blocks: u64,
    /// The block. Default: the whole address for 12 h, renewed by each packet that it hits (FOCI 2018, for Tor); what
    /// comes from the server is dropped (IMC 2020, §6).
    pub block: Residual,
    /// The most probes of a server. Default 200.
    pub probes_max: u32,
}

/// Addresses that probes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// So many, that the world gives.
    Number(u16),
    /// These.
    These(Vec<IpAddr>),
}

impl Origins {
    /// How many.
    pub fn count(&self) -> usize {
        match self {
            Self::Number(number) => usize::from(*number),
            Self::These(addresses) => addresses.len(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kinds: Kind::PUBLISHED.into(),
            delay: Delay::default(),
            patience_ns: 10_000_000_000,
            from: Origins::Number(16),
            judge: Judge::default(),
            blocks: ALWAYS,
            block: Residual {
                tuple: Tuple::Server,
                for_ns: 43_200_000_000_000,
                share: ALWAYS,
                renewed: true,
                way: Way::FromServer,
                resets: false,
            },
            probes_max: 200,
        }
    }
}

/// Why a prober makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing is sent.
    #[error("no kind of probe is listed")]
    NoKind,
    /// A kind that is never sent.
    #[error("r3, r4 and r5 follow an answer to r1 or r2, and neither is listed")]
    NeverStaged,
    /// Delays that do not ascend.
    #[error("the delays must ascend, in shares and times, from delay-min on")]
    DelayOrder,
    /// Delays of a part only.
    #[error("the last share of the delays must be 100 %")]
    DelayEnd,
    /// No address, or too many.
    #[error("probes come from 1 to {FROM_MAX} addresses, got {0}")]
    From(usize),
    /// No time to answer.
    #[error("a patience of zero sees no answer")]
    Patience,
    /// Nothing is a sign.
    #[error("no sign is listed: nobody would ever be blocked")]
    NoSign,
    /// A sign that never shows.
    #[error("the sign '{0}' never shows: it needs {1} among the kinds")]
    NeverShows(&'static str, &'static str),
    /// Something that counts from one.
    #[error("{0} of zero: wanted at least 1")]
    Zero(&'static str),
    /// A block that is not about a server alone.
    #[error("a prober blocks servers: wanted the tuple 'server' or 'server-port'")]
    Tuple,
}

impl Config {
    /// Whether it can find and block somebody.
    ///
    /// # Errors
    /// The first thing that keeps it from that.
    pub fn check(&self) -> Result<(), ConfigError> {
        let has = |kind| self.kinds.contains(&kind);
        if self.kinds.is_empty() {
            return Err(ConfigError::NoKind);
        }
        if self.kinds.iter().any(|kind| kind.waits_for_an_answer()) && !has(Kind::R1) && !has(Kind::R2) {
            return Err(ConfigError::NeverStaged);
        }
        self.delay.check()?;
        match self.from.count() {
            1..=FROM_MAX => {}
            other => return Err(ConfigError::From(other)),
        }
        if self.patience_ns == 0 {
            return Err(ConfigError::Patience);
        }
        if self.judge.signs.is_empty() {
            return Err(ConfigError::NoSign);
        }
        for sign in &self.judge.signs {
            match sign {
                Sign::ReplayAnswered if !self.kinds.iter().any(|kind| kind.is_replay()) => {
                    return Err(ConfigError::NeverShows("replay-answered", "a replay"));
                }
                Sign::CloseThreshold if !has(Kind::Nr1) => {
                    return Err(ConfigError::NeverShows("close-threshold", "nr1"));
                }
                _ => {}
            }
        }
        for (what, number) in [
            ("answers", self.judge.answers),
            ("silences", self.judge.silences),
            ("probes-max", self.probes_max),
        ] {
            if number == 0 {
                return Err(ConfigError::Zero(what));
            }
        }
        if self.blocks == 0 {
            return Err(ConfigError::Zero("blocks"));
        }
        if self.block.for_ns == 0 {
            return Err(ConfigError::Zero("the time of a block"));
        }
        match self.block.tuple {
            Tuple::Server | Tuple::ServerPort => Ok(()),
            _ => Err(ConfigError::Tuple),
        }
    }
}
