//! What is remembered of each network between connections and between runs: how kinds, servers and addresses did, who
//! served last, and which windows are open.
//!
//! Everything decays: a network changes, and what was blocked last month is worth a try. The file may be old, damaged or
//! written by somebody else: whatever is in it becomes at worst a bad order of dials and a wait of
//! [`WINDOW_SECS_MAX`]. It names servers and addresses, so it belongs into the client's encrypted store.
//!
//! Integers throughout, so that the order of dials is the same on every platform.

use std::net::{IpAddr, SocketAddr};

use phantom_core::event::PathVerdict as Verdict;
use phantom_core::units::WallTime;
use serde::{Deserialize, Serialize};

use crate::path::{Candidate, Kind, NetworkId, ServerId};

/// Networks remembered; the one used longest ago gives way.
pub const NETWORKS_MAX: usize = 16;
/// Kinds remembered per network.
pub const KINDS_MAX: usize = 16;
/// Servers remembered per network.
pub const SERVERS_MAX: usize = 64;
/// Addresses remembered per network.
pub const ADDRESSES_MAX: usize = 64;
/// Windows remembered per network.
pub const SAVED_WINDOWS_MAX: usize = 64;
/// No window read from a file lasts longer than this.
pub const WINDOW_SECS_MAX: u64 = 960;
/// A driver refuses to parse a file longer than this: JSON of a full memory is below 400 kB.
pub const FILE_BYTES_MAX: usize = 512 * 1_024;

/// One event of full weight.
pub(crate) const ONE: u32 = 256;
/// No tally exceeds this: 32 events.
const TALLY_MAX: u32 = 32 * ONE;
/// Half-lives: a block of a kind is policy, that of a server or an address an incident.
const HALF_LIFE_KIND: u64 = 6 * 3_600;
const HALF_LIFE_SERVER: u64 = 2 * 3_600;
const HALF_LIFE_ADDRESS: u64 = 3_600;
/// Who served last goes first for so long.
const WINNER_SECS_MAX: u64 = 7 * 86_400;

/// How a kind, server or address did: tallies in 1/256 of an event, at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    good: u32,
    bad: u32,
    at: WallTime,
}

impl Standing {
    /// As of now. A clock that stepped back changes nothing.
    fn decayed(self, now: WallTime, half_life: u64) -> Self {
        let age = now.saturating_since(self.at).as_secs();
        Self {
            good: halved(self.good, age, half_life),
            bad: halved(self.bad, age, half_life),
            at: now,
        }
    }

    fn add(&mut self, now: WallTime, half_life: u64, good: u32, bad: u32) {
        *self = self.decayed(now, half_life);
        self.good = self.good.saturating_add(good).min(TALLY_MAX);
        self.bad = self.bad.saturating_add(bad).min(TALLY_MAX);
    }

    /// The share of good events in thousandths, half of it prior: 500 for the unknown.
    fn score(self) -> u64 {
        let (good, bad, one) = (u64::from(self.good), u64::from(self.bad), u64::from(ONE));
        (good + one) * 1_000 / (good + bad + 2 * one)
    }
}

/// `value` after `age`, piecewise linear between halvings.
fn halved(value: u32, age: u64, half_life: u64) -> u32 {
    let halvings = u32::try_from(age / half_life).unwrap_or(u32::MAX);
    let whole = value.checked_shr(halvings).unwrap_or(0);
    let part = u64::from(whole) * (age % half_life) / (2 * half_life);
    whole - u32::try_from(part).unwrap_or(whole)
}

/// What an event says of the kind, the server and the address of a path, in 1/256 of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) kind: u32,
    pub(crate) server: u32,
    pub(crate) address: u32,
}

/// User bytes moved: full weight everywhere.
pub(crate) const WEIGHTS_PROVEN: Weights = Weights {
    kind: ONE,
    server: ONE,
    address: ONE,
};
/// A throttle picks a kind of traffic.
const WEIGHTS_THROTTLED: Weights = Weights {
    kind: 4 * ONE,
    server: ONE,
    address: ONE,
};
/// A freeze picks a kind, or a hoster's addresses.
const WEIGHTS_FROZEN: Weights = Weights {
    kind: 2 * ONE,
    server: 2 * ONE,
    address: 2 * ONE,
};
/// A dead path is more often a dead server.
pub(crate) const WEIGHTS_DEAD: Weights = Weights {
    kind: ONE / 2,
    server: ONE,
    address: 2 * ONE,
};
/// One failed dial says little.
pub(crate) const WEIGHTS_DIAL: Weights = Weights {
    kind: ONE / 4,
    server: ONE / 2,
    address: ONE,
};

/// What a verdict says of the kind, the server and the address.
pub(crate) const fn weights_of(verdict: Verdict) -> Weights {
    match verdict {
        Verdict::Throttled => WEIGHTS_THROTTLED,
        Verdict::Frozen => WEIGHTS_FROZEN,
        _ => WEIGHTS_DEAD,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry<K> {
    of: K,
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Winner {
    candidate: Candidate,
    at: WallTime,
}

/// A residual window as it is written: see [`crate::windows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedWindow {
    pub(crate) client: IpAddr,
    pub(crate) server: SocketAddr,
    pub(crate) until: WallTime,
    pub(crate) quiet_until: WallTime,
    pub(crate) cuts: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Network {
    id: NetworkId,
    used: WallTime,
    #[serde(default)]
    winner: Option<Winner>,
    #[serde(default = "Vec::new")]
    kinds: Vec<Entry<Kind>>,
    #[serde(default = "Vec::new")]
    servers: Vec<Entry<ServerId>>,
    #[serde(default = "Vec::new")]
    addresses: Vec<Entry<SocketAddr>>,
    #[serde(default)]
    windows: Vec<SavedWindow>,
}

/// What is remembered, serialisable; bounded by the constants above whatever it was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Raw")]
pub struct Memory {
    networks: Vec<Network>,
}

/// As it may stand in a file.
#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    networks: Vec<Network>,
}

impl From<Raw> for Memory {
    /// Cuts to size; keeps the first of duplicates.
    fn from(raw: Raw) -> Self {
        fn bounded<K: PartialEq>(entries: &mut Vec<Entry<K>>, max: usize) {
            // Cut first: what follows is quadratic.
            entries.truncate(max);
            let mut at = 0;
            while at < entries.len() {
                if entries[..at].iter().any(|known| known.of == entries[at].of) {
                    entries.remove(at);
                } else {
                    let standing = &mut entries[at].standing;
                    standing.good = standing.good.min(TALLY_MAX);
                    standing.bad = standing.bad.min(TALLY_MAX);
                    at += 1;
                }
            }
        }
        let mut networks: Vec<Network> = Vec::new();
        for mut network in raw.networks {
            if networks.len() >= NETWORKS_MAX {
                break;
            }
            if networks.iter().any(|known| known.id == network.id) {
                continue;
            }
            bounded(&mut network.kinds, KINDS_MAX);
            bounded(&mut network.servers, SERVERS_MAX);
            bounded(&mut network.addresses, ADDRESSES_MAX);
            network.windows.truncate(SAVED_WINDOWS_MAX);
            networks.push(network);
        }
        Self { networks }
    }
}

/// Adds to the tally of `of`; where there is no room the one heard of longest ago gives way.
fn tally<K: PartialEq + Clone>(
    entries: &mut Vec<Entry<K>>,
    max: usize,
    of: &K,
    now: WallTime,
    half_life: u64,
    (good, bad): (u32, u32),
) {
    if good == 0 && bad == 0 {
        return;
    }
    let at = match entries.iter().position(|known| known.of == *of) {
        Some(at) => at,
        None => {
            if entries.len() >= max
                && let Some(oldest) = (0..entries.len()).min_by_key(|&at| entries[at].standing.at)
            {
                entries.swap_remove(oldest);
            }
            entries.push(Entry {
                of: of.clone(),
                standing: Standing::default(),
            });
            entries.len() - 1
        }
    };
    entries[at].standing.add(now, half_life, good, bad);
}

fn score_of<K: PartialEq>(entries: &[Entry<K>], of: &K, now: WallTime, half_life: u64) -> u64 {
    let known = entries.iter().find(|known| known.of == *of);
    known
        .map_or(Standing::default(), |known| known.standing)
        .decayed(now, half_life)
        .score()
}

impl Memory {
    /// The network is used now: it is remembered, and dates from the future (the clock stepped back, or a lie) become now.
    pub(crate) fn enter(&mut self, id: NetworkId, now: WallTime) {
        let known = self.networks.iter().position(|network| network.id == id);
        let mut network = match known {
            Some(at) => self.networks.remove(at),
            None => {
                if self.networks.len() >= NETWORKS_MAX
                    && let Some(oldest) = (0..self.networks.len()).min_by_key(|&at| self.networks[at].used)
                {
                    self.networks.remove(oldest);
                }
                Network {
                    id,
                    used: now,
                    winner: None,
                    kinds: Vec::new(),
                    servers: Vec::new(),
                    addresses: Vec::new(),
                    windows: Vec::new(),
                }
            }
        };
        network.used = now;
        let kinds = network.kinds.iter_mut().map(|entry| &mut entry.standing);
        let servers = network.servers.iter_mut().map(|entry| &mut entry.standing);
        let addresses = network.addresses.iter_mut().map(|entry| &mut entry.standing);
        for standing in kinds.chain(servers).chain(addresses) {
            standing.at = standing.at.min(now);
        }
        if let Some(winner) = &mut network.winner {
            winner.at = winner.at.min(now);
        }
        self.networks.reserve_exact(1);
        self.networks.push(network);
    }

    fn network(&self) -> Option<&Network> {
        self.networks.last()
    }

    /// Something was learned of a path on the network in use.
    pub(crate) fn learn(&mut self, now: WallTime, of: &Candidate, good: bool, weights: Weights) {
        let Some(network) = self.networks.last_mut() else {
            return;
        };
        let pair = |weight: u32| if good { (weight, 0) } else { (0, weight) };
        let (kind, server, address) = (weights.kind, weights.server, weights.address);
        tally(
            &mut network.kinds,
            KINDS_MAX,
            &of.kind,
            now,
            HALF_LIFE_KIND,
            pair(kind),
        );
        tally(
            &mut network.servers,
            SERVERS_MAX,
            &of.server,
            now,
            HALF_LIFE_SERVER,
            pair(server),
        );
        tally(
            &mut network.addresses,
            ADDRESSES_MAX,
            &of.address,
            now,
            HALF_LIFE_ADDRESS,
            pair(address),
        );
    }

    /// User bytes moved over this path: it goes first next time.
    pub(crate) fn won(&mut self, now: WallTime, candidate: &Candidate) {
        if let Some(network) = self.networks.last_mut() {
            network.winner = Some(Winner {
                candidate: candidate.clone(),
                at: now,
            });
        }
    }

    /// Whether this one served last on the network in use, not too long ago.
    pub(crate) fn is_winner(&self, now: WallTime, candidate: &Candidate) -> bool {
        let winner = self.network().and_then(|network| network.winner.as_ref());
        winner.is_some_and(|winner| {
            winner.candidate == *candidate && now.saturating_since(winner.at).as_secs() <= WINNER_SECS_MAX
        })
    }

    /// How promising a path is on the network in use: the product of three shares, in millionths of the best. A path of
    /// which nothing is known has 125,000.
    pub(crate) fn score(&self, now: WallTime, of: &Candidate) -> u64 {
        let Some(network) = self.network() else {
            return 125_000;
        };
        score_of(&network.kinds, &of.kind, now, HALF_LIFE_KIND)
            * score_of(&network.servers, &of.server, now, HALF_LIFE_SERVER)
            * score_of(&network.addresses, &of.address, now, HALF_LIFE_ADDRESS)
            / 1_000
    }

    /// Every kind remembered on the network in use, with [`Memory::kind_score`].
    pub(crate) fn kinds(&self, now: WallTime) -> Vec<(Kind, u64)> {
        let kinds = self.network().map_or(&[][..], |network| &network.kinds);
        kinds
            .iter()
            .map(|known| (known.of.clone(), self.kind_score(now, &known.of)))
            .collect()
    }

    /// The share of good events of a kind on the network in use, in thousandths; 500 for the unknown.
    pub(crate) fn kind_score(&self, now: WallTime, kind: &Kind) -> u64 {
        self.network()
            .map_or(500, |network| score_of(&network.kinds, kind, now, HALF_LIFE_KIND))
    }

    pub(crate) fn windows(&self) -> &[SavedWindow] {
        self.network().map_or(&[], |network| &network.windows)
    }

    pub(crate) fn save_windows(&mut self, windows: Vec<SavedWindow>) {
        if let Some(network) = self.networks.last_mut() {
            network.windows = windows;
            network.windows.truncate(SAVED_WINDOWS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: u8) -> Candidate {
        Candidate {
            kind: Kind::new(["obfs4", "meek"][usize::from(n) % 2]).expect("a name"),
            server: ServerId([n; 16]),
            address: SocketAddr::new(IpAddr::V4([192, 0, 2, n].into()), 443),
        }
    }

    const WEIGHTS: Weights = Weights {
        kind: ONE,
        server: ONE,
        address: ONE,
    };

    #[test]
    fn what_is_learned_decays_to_nothing_and_never_past_it() {
        let mut memory = Memory::default();
        memory.enter(NetworkId([1; 16]), WallTime::from_unix_secs(1_000));
        memory.learn(WallTime::from_unix_secs(1_000), &candidate(0), false, WEIGHTS);
        let mut last = memory.score(WallTime::from_unix_secs(1_000), &candidate(0));
        assert!(last < 125_000);
        for hour in 1..200 {
            let score = memory.score(WallTime::from_unix_secs(1_000 + hour * 1_800), &candidate(0));
            assert!(score >= last && score <= 125_000, "hour {hour}");
            last = score;
        }
        assert_eq!(last, 125_000);
        assert_eq!(
            memory.score(WallTime::from_unix_secs(0), &candidate(0)),
            memory.score(WallTime::from_unix_secs(1_000), &candidate(0))
        );
    }

    #[test]
    fn a_kind_that_fails_everywhere_casts_doubt_on_servers_never_tried_with_it() {
        let mut memory = Memory::default();
        memory.enter(NetworkId([1; 16]), WallTime::from_unix_secs(0));
        for n in [0, 2, 4] {
            memory.learn(WallTime::from_unix_secs(0), &candidate(n), false, WEIGHTS);
        }
        assert!(
            memory.score(WallTime::from_unix_secs(0), &candidate(6))
                < memory.score(WallTime::from_unix_secs(0), &candidate(7))
        );
        memory.enter(NetworkId([2; 16]), WallTime::from_unix_secs(0));
        assert_eq!(
            memory.score(WallTime::from_unix_secs(0), &candidate(6)),
            125_000,
            "another network"
        );
    }

    #[test]
    fn it_stays_bounded_and_reads_back_as_it_was_written() {
        let mut memory = Memory::default();
        for n in 0..100u8 {
            memory.enter(NetworkId([n; 16]), WallTime::from_unix_secs(u64::from(n)));
            for m in 0..200 {
                let mut of = candidate(m);
                of.kind = Kind::new(&format!("kind-{m}")).expect("a name");
                memory.learn(WallTime::from_unix_secs(u64::from(n)), &of, m % 2 == 0, WEIGHTS);
                memory.won(WallTime::from_unix_secs(u64::from(n)), &of);
            }
        }
        let text = serde_json::to_string(&memory).expect("it can be written");
        assert!(text.len() < FILE_BYTES_MAX, "{} bytes", text.len());
        assert_eq!(
            serde_json::from_str::<Memory>(&text).expect("it reads back"),
            memory
        );
        assert_eq!(memory.networks.len(), NETWORKS_MAX);
        assert_eq!(memory.networks[0].servers.len(), SERVERS_MAX);
    }

    #[test]
    fn a_hostile_file_is_cut_to_size_or_refused() {
        let entry =
            r#"{"of":"meek","standing":{"good":4294967295,"bad":4294967295,"at":18446744073709551615}}"#;
        let kinds = vec![entry; 1_000].join(",");
        let network = format!(
            r#"{{"id":"{}","used":18446744073709551615,"kinds":[{kinds}]}}"#,
            "0".repeat(32)
        );
        let text = format!(r#"{{"networks":[{}]}}"#, vec![network.as_str(); 100].join(","));
        let mut memory: Memory = serde_json::from_str(&text).expect("well formed");
        assert_eq!((memory.networks.len(), memory.networks[0].kinds.len()), (1, 1));
        memory.enter(NetworkId([0; 16]), WallTime::from_unix_secs(5));
        memory.learn(WallTime::from_unix_secs(6), &candidate(1), false, WEIGHTS);
        assert!(memory.score(WallTime::from_unix_secs(u64::MAX), &candidate(1)) <= 125_000);
        for bad in [
            "",
            "{",
            r#"{"networks":7}"#,
            r#"{"networks":[{"id":"x","used":1}]}"#,
        ] {
            assert!(serde_json::from_str::<Memory>(bad).is_err(), "{bad}");
        }
    }
}
