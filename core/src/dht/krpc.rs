//! KRPC: queries, responses and errors of the DHT in one datagram each. BEP 5, 32, 42, 43, 44; SPEC §7.1.
//!
//! Decoding borrows from the datagram. Unknown keys are ignored, as BEP 5 asks; what is known must be well formed. A
//! transaction id of any length from 1 to 16 is given back as it came: BEP 5's usual form is 2 bytes, other programs use 4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

use super::bencode::{BencodeError, DictWriter, Value, put_int, put_string};
use super::id::DhtId;

/// Longest datagram that is read. A `put` of the largest value needs about 1,300 bytes.
pub const DATAGRAM_BYTES_MAX: usize = 2048;
/// Longest transaction id that is answered.
pub const TRANSACTION_BYTES_MAX: usize = 16;
/// Longest write token that is kept and given back.
pub const TOKEN_BYTES_MAX: usize = 64;
/// Most nodes taken from one response.
pub const NODES_MAX: usize = 32;

/// Why a datagram is no message. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KrpcError {
    /// It is no canonical bencode.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// The datagram is longer than any message.
    #[error("datagram of {got} bytes, at most {DATAGRAM_BYTES_MAX} are read")]
    TooLong {
        /// What was found.
        got: usize,
    },
    /// A field is missing or has the wrong type or length.
    #[error("field {field} is missing or malformed")]
    Field {
        /// Its key.
        field: &'static str,
    },
}

/// Error codes of BEP 5 and BEP 44.
pub mod code {
    /// Something else went wrong.
    pub const GENERIC: i64 = 201;
    /// The query breaks the protocol: a bad token, a missing argument.
    pub const PROTOCOL: i64 = 203;
    /// The method is not known here.
    pub const METHOD_UNKNOWN: i64 = 204;
    /// The value is too long.
    pub const VALUE_TOO_LONG: i64 = 205;
    /// The signature is wrong.
    pub const BAD_SIGNATURE: i64 = 206;
    /// The salt is too long.
    pub const SALT_TOO_LONG: i64 = 207;
    /// The sequence number held is not the one expected (`cas`).
    pub const CAS_MISMATCH: i64 = 301;
    /// The sequence number is lower than the one held.
    pub const SEQUENCE_TOO_LOW: i64 = 302;
}

/// A node and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeInfo {
    /// Its id.
    pub id: DhtId,
    /// Its address.
    pub addr: SocketAddr,
}

/// A datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Given back in the answer as it came.
    pub transaction: &'a [u8],
    /// BEP 43: the sender answers no queries and is in nobody's table.
    pub read_only: bool,
    /// BEP 42: where the answering node saw the query come from.
    pub seen_at: Option<SocketAddr>,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A question of the node `id`.
    Query {
        /// Who asks.
        id: DhtId,
        /// What.
        query: Query<'a>,
    },
    /// An answer.
    Response(Response<'a>),
    /// A refusal.
    Error {
        /// One of [`code`], or any other number.
        code: i64,
        /// For people.
        text: &'a [u8],
    },
}

/// Address families that are asked for (BEP 32). Neither means: the one the query came over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// IPv4 nodes.
    pub v4: bool,
    /// IPv6 nodes.
    pub v6: bool,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query<'a> {
    /// Are you there?
    Ping,
    /// Which nodes do you know near `target`?
    FindNode {
        /// The id looked for.
        target: DhtId,
        /// Families asked for.
        want: Want,
    },
    /// Which peers do you know for a torrent? Answered with nodes only: this node keeps no peers.
    GetPeers {
        /// The torrent.
        info_hash: DhtId,
        /// Families asked for.
        want: Want,
    },
    /// The item under `target`, the nodes near it, and a token to store with.
    Get {
        /// The item's target.
        target: DhtId,
        /// Leave key, value and signature away unless yours is newer than this.
        newer_than: Option<i64>,
        /// Families asked for.
        want: Want,
    },
    /// Store this.
    Put {
        /// From an answer to `get` by the same node.
        token: &'a [u8],
        /// The bencoded value.
        value: &'a [u8],
        /// What a mutable item has besides.
        mutable: Option<PutMutable<'a>>,
    },
    /// A method that this node does not know.
    Unknown,
}

/// The part of a `put` that makes it one of a mutable item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutMutable<'a> {
    /// Ed25519 public key.
    pub key: [u8; 32],
    /// Salt; empty for none.
    pub salt: &'a [u8],
    /// Sequence number.
    pub sequence: i64,
    /// Signature.
    pub signature: [u8; 64],
    /// Store only if the sequence number held is this.
    pub cas: Option<i64>,
}

/// An answer. Which fields are set depends on the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// Who answers.
    pub id: DhtId,
    /// Nodes near the target, both families; IPv4 first.
    pub nodes: Vec<NodeInfo>,
    /// To store with.
    pub token: Option<&'a [u8]>,
    /// The bencoded value of an item.
    pub value: Option<&'a [u8]>,
    /// A mutable item's key.
    pub key: Option<[u8; 32]>,
    /// A mutable item's sequence number; may come without the rest.
    pub sequence: Option<i64>,
    /// A mutable item's signature.
    pub signature: Option<[u8; 64]>,
}

impl<'a> Message<'a> {
    /// Reads a datagram.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, KrpcError> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(KrpcError::TooLong { got: datagram.len() });
        }
        let top = Value::parse(datagram)?;
        let transaction = string(&top, "t")?;
        if transaction.is_empty() || transaction.len() > TRANSACTION_BYTES_MAX {
            return Err(KrpcError::Field { field: "t" });
        }
        let read_only = top.get("ro").and_then(Value::int) == Some(1);
        // A malformed address here costs the sender nothing: the field is a hint.
        let seen_at = top.get("ip").and_then(Value::bytes).and_then(compact_addr);
        let body = match string(&top, "y")? {
            b"q" => {
                let args = top.get("a").ok_or(KrpcError::Field { field: "a" })?;
                Body::Query {
                    id: id(args, "id")?,
                    query: Query::decode(string(&top, "q")?, args)?,
                }
            }
            b"r" => Body::Response(Response::decode(
                top.get("r").ok_or(KrpcError::Field { field: "r" })?,
            )?),
            b"e" => {
                let list = top
                    .get("e")
                    .and_then(Value::list)
                    .ok_or(KrpcError::Field { field: "e" })?;
                let [code, text] = list else {
                    return Err(KrpcError::Field { field: "e" });
                };
                let (Some(code), Some(text)) = (code.int(), text.bytes()) else {
                    return Err(KrpcError::Field { field: "e" });
                };
                Body::Error { code, text }
            }
            _ => return Err(KrpcError::Field { field: "y" }),
        };
        Ok(Self {
            transaction,
            read_only,
            seen_at,
            body,
        })
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        let mut top = DictWriter::new(&mut out);
        match &self.body {
            Body::Query { id, query } => query.encode_args(id, top.key("a")),
            Body::Error { code, text } => {
                let list = top.key("e");
                list.push(b'l');
                put_int(list, *code);
                put_string(list, text);
                list.push(b'e');
            }
            Body::Response(_) => {}
        }
        if let Some(addr) = self.seen_at {
            let mut compact = Vec::with_capacity(18);
            put_compact_addr(&mut compact, addr);
            top.string("ip", &compact);
        }
        match &self.body {
            Body::Query { query, .. } => top.string("q", query.method()),
            Body::Response(response) => response.encode(top.key("r")),
            Body::Error { .. } => {}
        }
        if self.read_only {
            top.int("ro", 1);
        }
        top.string("t", self.transaction);
        top.string(
            "y",
            match &self.body {
                Body::Query { .. } => b"q",
                Body::Response(_) => b"r",
                Body::Error { .. } => b"e",
            },
        );
        top.finish();
        out
    }
}

impl<'a> Query<'a> {
    /// Its name on the wire.
    pub const fn method(&self) -> &'static [u8] {
        match self {
            Self::Ping => b"ping",
            Self::FindNode { .. } => b"find_node",
            Self::GetPeers { .. } => b"get_peers",
            Self::Get { .. } => b"get",
            Self::Put { .. } => b"put",
            Self::Unknown => b"unknown",
        }
    }

    fn decode(method: &[u8], args: &Value<'a>) -> Result<Self, KrpcError> {
        Ok(match method {
            b"ping" => Self::Ping,
            b"find_node" => Self::FindNode {
                target: id(args, "target")?,
                want: Want::decode(args),
            },
            b"get_peers" => Self::GetPeers {
                info_hash: id(args, "info_hash")?,
                want: Want::decode(args),
            },
            b"get" => Self::Get {
                target: id(args, "target")?,
                newer_than: args.get("seq").and_then(Value::int),
                want: Want::decode(args),
            },
            b"put" => {
                let token = string(args, "token")?;
                let value = args.get("v").ok_or(KrpcError::Field { field: "v" })?.raw();
                let mutable = match args.get("k") {
                    None => None,
                    Some(_) => Some(PutMutable {
                        key: array(args, "k")?.ok_or(KrpcError::Field { field: "k" })?,
                        salt: args.get("salt").map_or(Ok(&b""[..]), |_| string(args, "salt"))?,
                        sequence: args
                            .get("seq")
                            .and_then(Value::int)
                            .ok_or(KrpcError::Field { field: "seq" })?,
                        signature: array(args, "sig")?.ok_or(KrpcError::Field { field: "sig" })?,
                        cas: args.get("cas").and_then(Value::int),
                    }),
                };
                Self::Put {
                    token,
                    value,
                    mutable,
                }
            }
            _ => Self::Unknown,
        })
    }

    fn encode_args(&self, id: &DhtId, out: &mut Vec<u8>) {
        let mut args = DictWriter::new(out);
        match self {
            Self::Ping | Self::Unknown => args.string("id", &id.0),
            Self::FindNode { target, want } => {
                args.string("id", &id.0);
                args.string("target", &target.0);
                want.encode(&mut args);
            }
            Self::GetPeers { info_hash, want } => {
                args.string("id", &id.0);
                args.string("info_hash", &info_hash.0);
                want.encode(&mut args);
            }
            Self::Get {
                target,
                newer_than,
                want,
            } => {
                args.string("id", &id.0);
                if let Some(sequence) = newer_than {
                    args.int("seq", *sequence);
                }
                args.string("target", &target.0);
                want.encode(&mut args);
            }
            Self::Put {
                token,
                value,
                mutable,
            } => {
                if let Some(cas) = mutable.as_ref().and_then(|mutable| mutable.cas) {
                    args.int("cas", cas);
                }
                args.string("id", &id.0);
                if let Some(mutable) = mutable {
                    args.string("k", &mutable.key);
                    if !mutable.salt.is_empty() {
                        args.string("salt", mutable.salt);
                    }
                    args.int("seq", mutable.sequence);
                    args.string("sig", &mutable.signature);
                }
                args.string("token", token);
                args.raw("v", value);
            }
        }
        args.finish();
    }
}

impl Want {
    fn decode(args: &Value<'_>) -> Self {
        let families = args.get("want").and_then(Value::list).unwrap_or_default();
        let asked = |name: &[u8]| families.iter().any(|family| family.bytes() == Some(name));
        Self {
            v4: asked(b"n4"),
            v6: asked(b"n6"),
        }
    }

    fn encode(self, args: &mut DictWriter<'_>) {
        if !self.v4 && !self.v6 {
            return;
        }
        let list = args.key("want");
        list.push(b'l');
        if self.v4 {
            put_string(list, b"n4");
        }
        if self.v6 {
            put_string(list, b"n6");
        }
        list.push(b'e');
    }
}

impl<'a> Response<'a> {
    fn decode(r: &Value<'a>) -> Result<Self, KrpcError> {
        let mut nodes = Vec::new();
        for (field, width) in [("nodes", 26), ("nodes6", 38)] {
            let Some(compact) = r.get(field) else { continue };
            let compact = compact.bytes().ok_or(KrpcError::Field { field })?;
            if compact.len() % width != 0 {
                return Err(KrpcError::Field { field });
            }
            let room = NODES_MAX - nodes.len();
            nodes.extend(compact.chunks_exact(width).take(room).filter_map(|node| {
                Some(NodeInfo {
                    id: DhtId::from_slice(&node[..20])?,
                    addr: compact_addr(&node[20..])?,
                })
            }));
        }
        let token = match r.get("token") {
            None => None,
            Some(_) => {
                Some(string(r, "token")?).filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES_MAX)
            }
        };
        Ok(Self {
            id: id(r, "id")?,
            nodes,
            token,
            value: r.get("v").map(Value::raw),
            key: array(r, "k")?,
            sequence: r.get("seq").and_then(Value::int),
            signature: array(r, "sig")?,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut r = DictWriter::new(out);
        r.string("id", &self.id.0);
        if let Some(key) = &self.key {
            r.string("k", key);
        }
        let (mut nodes, mut nodes6) = (Vec::new(), Vec::new());
        for node in self.nodes.iter().take(NODES_MAX) {
            let to = if node.addr.is_ipv4() {
                &mut nodes
            } else {
                &mut nodes6
            };
            to.extend_from_slice(&node.id.0);
            put_compact_addr(to, node.addr);
        }
        if !nodes.is_empty() {
            r.string("nodes", &nodes);
        }
        if !nodes6.is_empty() {
            r.string("nodes6", &nodes6);
        }
        if let Some(sequence) = self.sequence {
            r.int("seq", sequence);
        }
        if let Some(signature) = &self.signature {
            r.string("sig", signature);
        }
        if let Some(token) = self.token {
            r.string("token", token);
        }
        if let Some(value) = self.value {
            r.raw("v", value);
        }
        r.finish();
    }
}

fn string<'a>(dict: &Value<'a>, field: &'static str) -> Result<&'a [u8], KrpcError> {
    dict.get(field)
        .and_then(Value::bytes)
        .ok_or(KrpcError::Field { field })
}

fn id(dict: &Value<'_>, field: &'static str) -> Result<DhtId, KrpcError> {
    string(dict, field)
        .ok()
        .and_then(DhtId::from_slice)
        .ok_or(KrpcError::Field { field })
}

fn array<const N: usize>(dict: &Value<'_>, field: &'static str) -> Result<Option<[u8; N]>, KrpcError> {
    match dict.get(field) {
        None => Ok(None),
        Some(_) => string(dict, field)?
            .try_into()
            .map(Some)
            .map_err(|_| KrpcError::Field { field }),
    }
}

/// An address in compact form: 4 or 16 bytes and the port. Port 0 is nobody's.
fn compact_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port): (IpAddr, &[u8]) = match bytes.len() {
        6 => (
            Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[..4]).ok()?).into(),
            &bytes[4..],
        ),
        18 => (
            Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..16]).ok()?).into(),
            &bytes[16..],
        ),
        _ => return None,
    };
    let port = u16::from_be_bytes(port.try_into().ok()?);
    (port != 0).then(|| SocketAddr::new(ip, port))
}

fn put_compact_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&addr.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_bep_5_decode_and_encode_back() {
        for example in [
            &b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"[..],
            b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee",
        ] {
            assert_eq!(Message::decode(example).expect("published example").encode(), example);
        }
    }

    #[test]
    fn transaction_ids_of_1_to_16_bytes_are_kept_as_they_came() {
        for len in 0..=17_usize {
            let tid = vec![0xfe; len];
            let message = Message {
                transaction: &tid,
                read_only: false,
                seen_at: None,
                body: Body::Query {
                    id: DhtId([1; 20]),
                    query: Query::Ping,
                },
            };
            let wire = message.encode();
            assert_eq!(
                Message::decode(&wire).is_ok(),
                (1..=16).contains(&len),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_method_of_the_future_is_recognised_as_a_query() {
        let wire = b"d1:ad2:id20:abcdefghij01234567893:newi1ee1:q6:sample1:t2:aa1:v4:XX001:y1:qe";
        let Body::Query { query, .. } = Message::decode(wire).expect("a query").body else {
            panic!("no query")
        };
        assert_eq!(query, Query::Unknown);
    }

    #[test]
    fn malformed_fields_are_named() {
        for (wire, field) in [
            (
                &b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe"[..],
                "id",
            ),
            (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe", "t"),
            (
                b"d1:rd2:id20:abcdefghij01234567895:nodes3:abce1:t2:aa1:y1:re",
                "nodes",
            ),
            (
                b"d1:rd2:id20:abcdefghij01234567893:sig3:abce1:t2:aa1:y1:re",
                "sig",
            ),
            (b"d1:eli201ee1:t2:aa1:y1:ee", "e"),
            (b"d1:t2:aa1:y1:xe", "y"),
        ] {
            assert_eq!(Message::decode(wire), Err(KrpcError::Field { field }));
        }
        assert_eq!(
            Message::decode(&[b'd'; 2049]),
            Err(KrpcError::TooLong { got: 2049 })
        );
    }

    #[test]
    fn nodes_beyond_the_bound_are_left_out() {
        let node = NodeInfo {
            id: DhtId([3; 20]),
            addr: "192.0.2.1:6881".parse().expect("literal"),
        };
        let mut wire = b"d1:rd2:id20:abcdefghij01234567895:nodes1300:".to_vec();
        for _ in 0..50 {
            wire.extend_from_slice(&node.id.0);
            put_compact_addr(&mut wire, node.addr);
        }
        wire.extend_from_slice(b"e1:t2:aa1:y1:re");
        let Body::Response(response) = Message::decode(&wire).expect("decodes").body else {
            panic!("no response")
        };
        assert_eq!(response.nodes, vec![node; NODES_MAX]);
    }

    fn addr() -> impl Strategy<Value = SocketAddr> {
        (
            prop_oneof![
                any::<[u8; 4]>().prop_map(IpAddr::from),
                any::<[u8; 16]>().prop_map(IpAddr::from)
            ],
            1_u16..,
        )
            .prop_map(|(ip, port)| SocketAddr::new(ip, port))
    }

    fn id() -> impl Strategy<Value = DhtId> {
        any::<[u8; 20]>().prop_map(DhtId)
    }

    /// The parts of a message that borrow, owned.
    type Owned = (Vec<u8>, Vec<u8>, Vec<u8>, [u8; 64]);

    fn body<'a>(
        kind: u8,
        id: DhtId,
        other: DhtId,
        nodes: &[NodeInfo],
        number: Option<i64>,
        owned: &'a Owned,
    ) -> Body<'a> {
        let (token, salt, value, signature) = owned;
        let want = Want {
            v4: kind & 1 == 1,
            v6: kind & 2 == 2,
        };
        let mutable = || PutMutable {
            key: [kind; 32],
            salt,
            sequence: number.unwrap_or(3),
            signature: *signature,
            cas: number,
        };
        let query = match kind % 8 {
            0 => Query::Ping,
            1 => Query::FindNode { target: other, want },
            2 => Query::GetPeers {
                info_hash: other,
                want,
            },
            3 => Query::Get {
                target: other,
                newer_than: number,
                want,
            },
            4 => Query::Put {
                token,
                value,
                mutable: None,
            },
            5 => Query::Put {
                token,
                value,
                mutable: Some(mutable()),
            },
            6 => {
                return Body::Error {
                    code: number.unwrap_or(201),
                    text: salt,
                };
            }
            _ => {
                let mut nodes = nodes.to_vec();
                nodes.sort_by_key(|node| node.addr.is_ipv6());
                return Body::Response(Response {
                    id,
                    nodes,
                    token: Some(token),
                    value: number.map(|_| &value[..]),
                    key: number.map(|_| [kind; 32]),
                    sequence: number,
                    signature: number.map(|_| *signature),
                });
            }
        };
        Body::Query { id, query }
    }

    proptest! {
        #[test]
        fn messages_round_trip_and_their_mutations_never_panic(
            kind in any::<u8>(), me in id(), other in id(),
            nodes in proptest::collection::vec((id(), addr()).prop_map(|(id, addr)| NodeInfo { id, addr }), 0..20),
            number in any::<Option<i64>>(), seen_at in proptest::option::of(addr()),
            tid in proptest::collection::vec(any::<u8>(), 1..=16),
            token in proptest::collection::vec(any::<u8>(), 1..=20),
            salt in proptest::collection::vec(any::<u8>(), 0..=64),
            value in proptest::collection::vec(any::<u8>(), 0..=990),
            change in (any::<u16>(), any::<u8>()),
        ) {
            let mut encoded = Vec::new();
            put_string(&mut encoded, &value);
            let owned = (token, salt, encoded, [kind; 64]);
            let message = Message {
                transaction: &tid, read_only: kind & 4 == 4, seen_at,
                body: body(kind, me, other, &nodes, number, &owned),
            };
            let mut wire = message.encode();
            prop_assert_eq!(Message::decode(&wire), Ok(message));
            let at = usize::from(change.0) % wire.len();
            wire[at] = change.1;
            let _ = Message::decode(&wire);
            let _ = Message::decode(&wire[..at]);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }
    }
}
