//! The places where a bridge listens, each with its transport: canonical, bounded, open to kinds that are yet to come.
//! Spec: SPEC §6.2.

use std::net::SocketAddr;

use phantom_obfs4::{BridgeArgs, IatMode, NodeId, PublicKey};
use thiserror::Error;

use super::descriptor::{ADDRESSES_MAX, ordered, put_addresses, read_addresses, read_dialable};
use crate::transport::obfs4::Prefix;
use crate::transport::wire::{read_args, read_prefix, write_args, write_prefix};
use crate::transport::{Kind, Transport};
use crate::wire::{DecodeError, Reader, Writer};

/// Places of kinds that this version knows.
pub const WAYS_MAX: usize = 8;
/// The longest encoding, so that the descriptor fits a DHT record once sealed.
pub const WAYS_LEN_MAX: usize = 147;
/// Kinds in one encoding, known or not.
const GROUPS_MAX: usize = 8;

/// Kinds on the wire. The numbers from 2 on are for transports to come.
const PLAIN: u8 = 0;
const OBFS4: u8 = 1;

/// One place where a bridge listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// How to speak there.
    pub transport: Transport,
    /// Where it is.
    pub at: SocketAddr,
}

impl Way {
    /// The order on the wire, within a kind there.
    fn rank(&self) -> (u8, Kind, SocketAddr) {
        (self.number(), self.transport.kind(), self.at)
    }

    const fn number(&self) -> u8 {
        match self.transport {
            Transport::Plain => PLAIN,
            Transport::Obfs4 { .. } => OBFS4,
        }
    }
}

/// Why places cannot stand in one descriptor: the fault of who configured them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WaysError {
    /// None at all, or too many.
    #[error("a bridge listens at 1 to {WAYS_MAX} places, got {got}")]
    Count {
        /// How many.
        got: usize,
    },
    /// Nobody can dial it.
    #[error("{at} is no address that others can dial")]
    Address {
        /// The address.
        at: SocketAddr,
    },
    /// Two places that differ in nothing.
    #[error("{at} is named twice")]
    Twice {
        /// The address.
        at: SocketAddr,
    },
    /// A bridge has one key for obfs4.
    #[error("obfs4 with two keys or pacings in one bridge")]
    Keys,
    /// They do not fit a record.
    #[error(
        "these places take {got} bytes in a record, which has room for {WAYS_LEN_MAX}: name fewer, or fewer IPv6 addresses"
    )]
    TooLong {
        /// Bytes wanted.
        got: usize,
    },
}

/// The places of one bridge, at least one kind of them, in the order of the format. What this version does not know is kept as
/// it came, so that a descriptor which is stored and read by a later version has lost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    known: Vec<Way>,
    /// Kind and body.
    unknown: Vec<(u8, Vec<u8>)>,
}

impl Ways {
    /// Places without a transport: put into order, without duplicates, cut at [`ADDRESSES_MAX`].
    pub fn plain(addresses: Vec<SocketAddr>) -> Self {
        let way = |at| Way {
            transport: Transport::Plain,
            at,
        };
        Self {
            known: ordered(addresses).into_iter().map(way).collect(),
            unknown: Vec::new(),
        }
    }

    /// Places of any transports, in any order.
    ///
    /// # Errors
    /// [`WaysError`].
    pub fn new(mut known: Vec<Way>) -> Result<Self, WaysError> {
        if known.is_empty() || known.len() > WAYS_MAX {
            return Err(WaysError::Count { got: known.len() });
        }
        if let Some(Way { at, .. }) = known.iter().find(|way| !is_dialable(way.at)) {
            return Err(WaysError::Address { at: *at });
        }
        known.sort_by_key(Way::rank);
        if let Some(pair) = known.windows(2).find(|pair| pair[0].rank() == pair[1].rank()) {
            return Err(WaysError::Twice { at: pair[0].at });
        }
        let mut keys = known.iter().filter_map(|way| match &way.transport {
            Transport::Plain => None,
            Transport::Obfs4 { bridge, .. } => Some(bridge),
        });
        let first = keys.next();
        if keys.any(|other| Some(other) != first) {
            return Err(WaysError::Keys);
        }
        if first.is_none() && known.len() > ADDRESSES_MAX {
            return Err(WaysError::Count { got: known.len() });
        }
        let ways = Self {
            known,
            unknown: Vec::new(),
        };
        let mut out = Vec::new();
        ways.write(&mut out);
        match out.len() {
            got if got > WAYS_LEN_MAX => Err(WaysError::TooLong { got }),
            _ => Ok(ways),
        }
    }

    /// Whether places of these kinds can stand in one descriptor, whatever their keys are.
    ///
    /// # Errors
    /// [`WaysError`].
    pub fn check(places: impl IntoIterator<Item = (Kind, SocketAddr)>) -> Result<(), WaysError> {
        let bridge = BridgeArgs {
            node: NodeId([0; 20]),
            identity: PublicKey([0; 32]),
            iat_mode: IatMode::None,
        };
        let way = |(kind, at)| Way {
            transport: match Prefix::of_kind(kind) {
                None => Transport::Plain,
                Some(prefix) => Transport::Obfs4 { bridge, prefix },
            },
            at,
        };
        Self::new(places.into_iter().map(way).collect()).map(drop)
    }

    /// The places that this version knows how to use.
    pub fn known(&self) -> &[Way] {
        &self.known
    }

    /// Their addresses, ascending, each once.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut all: Vec<_> = self.known.iter().map(|way| way.at).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether no place has a transport: the first format of a descriptor says it all.
    pub(super) fn is_plain(&self) -> bool {
        self.unknown.is_empty() && self.known.iter().all(|way| way.transport == Transport::Plain)
    }

    /// Appends them in the form of the format that [`Ways::is_plain`] asks for.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.is_plain() {
            return put_addresses(out, &self.addresses());
        }
        let mut groups = Vec::new();
        for number in [PLAIN, OBFS4] {
            let body = self.body(number);
            if !body.is_empty() {
                groups.push((number, body));
            }
        }
        let groups = groups.iter().chain(&self.unknown);
        out.put_u8(groups.clone().count() as u8);
        for (number, body) in groups {
            out.put_u8(*number);
            out.put_u8(u8::try_from(body.len()).expect("checked when it was made"));
            out.put(body);
        }
    }

    /// The places of one kind.
    fn body(&self, number: u8) -> Vec<u8> {
        let mut body = Vec::new();
        for way in self.known.iter().filter(|way| way.number() == number) {
            if let Transport::Obfs4 { bridge, prefix } = &way.transport {
                if body.is_empty() {
                    write_args(bridge, &mut body);
                }
                write_prefix(*prefix, &mut body);
            }
            body.put_socket_addr(way.at);
        }
        body
    }

    /// Reads what a descriptor of the first format says: addresses.
    pub(super) fn read_plain(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        read_addresses(r).map(Self::plain)
    }

    /// Reads what a descriptor of the second format says: kinds in ascending order, each with its places.
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(r.u8()?);
        if count == 0 || count > GROUPS_MAX {
            return Err(bad("number of transports", count));
        }
        let mut ways = Self {
            known: Vec::new(),
            unknown: Vec::new(),
        };
        let mut last = None;
        for _ in 0..count {
            let number = r.u8()?;
            if last.is_some_and(|last| last >= number) {
                return Err(bad("order of transports", usize::from(number)));
            }
            last = Some(number);
            let len = usize::from(r.u8()?);
            let body = r.take(len)?;
            match number {
                PLAIN | OBFS4 => ways.read_known(number, Reader::new(body))?,
                _ => ways.unknown.push((number, body.to_vec())),
            }
        }
        // A bridge without transports has one encoding, that of the first format.
        if ways.is_plain() || ways.known.len() > WAYS_MAX {
            return Err(bad("number of transports", count));
        }
        Ok(ways)
    }

    fn read_known(&mut self, number: u8, mut r: Reader<'_>) -> Result<(), DecodeError> {
        let bridge = match number {
            OBFS4 => Some(read_args(&mut r)?),
            _ => None,
        };
        loop {
            let transport = match bridge {
                None => Transport::Plain,
                Some(bridge) => Transport::Obfs4 {
                    bridge,
                    prefix: read_prefix(&mut r)?,
                },
            };
            let way = Way {
                transport,
                at: read_dialable(&mut r)?,
            };
            if self.known.last().is_some_and(|last| last.rank() >= way.rank()) {
                return Err(bad("order of addresses", self.known.len()));
            }
            self.known.push(way);
            if r.remaining() == 0 {
                return Ok(());
            }
        }
    }
}

fn bad(field: &'static str, got: usize) -> DecodeError {
    DecodeError::BadValue {
        field,
        got: got as u64,
    }
}

/// Whether others can dial it.
pub(super) fn is_dialable(at: SocketAddr) -> bool {
    at.port() != 0 && !at.ip().is_unspecified() && !at.ip().is_multicast()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn args() -> BridgeArgs {
        BridgeArgs {
            node: NodeId([1; 20]),
            identity: PublicKey([2; 32]),
            iat_mode: IatMode::Enabled,
        }
    }

    fn way(prefix: Option<Prefix>, at: &str) -> Way {
        let transport = prefix.map_or(Transport::Plain, |prefix| Transport::Obfs4 {
            bridge: args(),
            prefix,
        });
        Way {
            transport,
            at: at.parse().expect("literal"),
        }
    }

    /// All kinds at one IPv4 address, in no order.
    pub(in crate::directory) fn every_kind() -> Ways {
        Ways::new(vec![
            way(Some(Prefix::Tls), "192.0.2.1:8443"),
            way(None, "192.0.2.1:443"),
            way(Some(Prefix::None), "192.0.2.1:9001"),
            way(Some(Prefix::Http), "192.0.2.1:80"),
        ])
        .expect("fits")
    }

    fn encoded(ways: &Ways) -> Vec<u8> {
        let mut out = Vec::new();
        ways.write(&mut out);
        out
    }

    #[test]
    fn every_kind_reads_back_and_leaves_room_for_another() {
        let ways = every_kind();
        let kinds: Vec<Kind> = ways.known().iter().map(|way| way.transport.kind()).collect();
        assert_eq!(kinds, Kind::ALL);
        let bytes = encoded(&ways);
        let mut r = Reader::new(&bytes);
        assert_eq!(Ways::read(&mut r), Ok(ways));
        assert!(bytes.len() + 50 <= WAYS_LEN_MAX, "{}", bytes.len());
    }

    #[test]
    fn what_this_version_does_not_know_is_skipped_and_kept() {
        let known = every_kind();
        let mut bytes = encoded(&known);
        bytes[0] += 1;
        bytes.extend_from_slice(&[7, 3, 0xaa, 0xbb, 0xcc]);
        let ways = Ways::read(&mut Reader::new(&bytes)).expect("skipped");
        assert_eq!(ways.known(), known.known());
        assert_eq!(encoded(&ways), bytes);
        // A bridge that has nothing but transports of a later version is no mistake either.
        let foreign = [1, 9, 1, 0xff];
        let ways = Ways::read(&mut Reader::new(&foreign)).expect("skipped");
        assert!(ways.known().is_empty());
        assert_eq!(encoded(&ways), foreign);
    }

    #[test]
    fn places_that_cannot_stand_in_a_record_say_why() {
        let refused = |ways: Vec<Way>| Ways::new(ways).expect_err("refused");
        assert_eq!(refused(Vec::new()), WaysError::Count { got: 0 });
        let obfs4 = |at: &str| way(Some(Prefix::None), at);
        assert!(matches!(
            refused(vec![obfs4("0.0.0.0:1")]),
            WaysError::Address { .. }
        ));
        assert!(matches!(
            refused(vec![obfs4("192.0.2.1:1"), obfs4("192.0.2.1:1")]),
            WaysError::Twice { .. }
        ));
        let mut other = obfs4("192.0.2.1:2");
        other.transport = Transport::Obfs4 {
            bridge: BridgeArgs {
                iat_mode: IatMode::None,
                ..args()
            },
            prefix: Prefix::None,
        };
        assert_eq!(refused(vec![obfs4("192.0.2.1:1"), other]), WaysError::Keys);
        let six: Vec<Way> = (1..=5)
            .map(|port| obfs4(&format!("[2001:db8::1]:{port}")))
            .collect();
        assert!(matches!(refused(six), WaysError::TooLong { got: 156 }));
        let five: Vec<Way> = (1..=5)
            .map(|port| way(None, &format!("192.0.2.1:{port}")))
            .collect();
        assert_eq!(refused(five), WaysError::Count { got: 5 });
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(at: proptest::sample::Index, to: u8, cut: proptest::sample::Index, noise: Vec<u8>) {
            let good = encoded(&every_kind());
            let mut bytes = good.clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            for bytes in [&bytes[..], &good[..cut.index(good.len())], &noise] {
                let mut r = Reader::new(bytes);
                if let Ok(ways) = Ways::read(&mut r) {
                    prop_assert_eq!(&encoded(&ways)[..], &bytes[..bytes.len() - r.remaining()]);
                    prop_assert!(ways.known().len() <= WAYS_MAX);
                }
            }
        }
    }
}
