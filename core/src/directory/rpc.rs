//! Requests and answers about the directory, as they travel on the rpc channel of a link (tags 0x10 to 0x1f).
//! Spec: SPEC §6.7.
//!
//! Every message is bounded; what is larger than one piece (documents, votes) is fetched in pieces of at most
//! [`PIECE_LEN_MAX`] and put together by an [`Assembly`]. Nothing in an answer is trusted: documents are signed, votes
//! are named by their hash.

use bytes::Bytes;
use thiserror::Error;

use crate::directory::descriptor::{DESCRIPTOR_LEN_MAX, read_time};
use crate::directory::document::{DOCUMENT_LEN_MAX, DocumentHash};
use crate::directory::sign::{AUTHORITIES_MAX, AuthorityId};
use crate::directory::vote::Statement;
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

/// The longest piece of a document or vote in one answer.
pub const PIECE_LEN_MAX: usize = 32 * 1_024;
/// Statements that a notice may carry: two of each authority.
pub const STATEMENTS_MAX: usize = 2 * AUTHORITIES_MAX;

const UPLOAD: u8 = 0x10;
const GET_DOCUMENT: u8 = 0x11;
const GET_VOTE: u8 = 0x12;
const NOTIFY: u8 = 0x13;
const UPLOADED: u8 = 0x18;
const PIECE: u8 = 0x19;
const NOTHING: u8 = 0x1a;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryRequest {
    /// A node hands in its descriptor. Answer: [`DirectoryResponse::Uploaded`].
    Upload(Bytes),
    /// A piece of the newest document that the other side holds (`hash` is `None`), or of the one named. Answer:
    /// [`DirectoryResponse::Piece`], or `Nothing` when there is none, or when the newest is `known`.
    GetDocument {
        /// The document; `None` for the newest.
        hash: Option<DocumentHash>,
        /// The newest that the asker holds, [`DocumentHash::NONE`] if none.
        known: DocumentHash,
        /// Where the piece begins.
        offset: u32,
    },
    /// A piece of a vote, by its hash. Answer: `Piece` or `Nothing`.
    GetVote {
        /// The hash of the vote.
        hash: [u8; 32],
        /// Where the piece begins.
        offset: u32,
    },
    /// An authority tells another what it has got. Answer: `Nothing`.
    Notify(Notice),
}

/// Statements and a signature, each proving by itself who made it; whoever relays them is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Notice {
    /// Votes that the sender holds in full, and pairs that prove equivocation.
    pub statements: Vec<Statement>,
    /// A signature of a document.
    pub signature: Option<DocumentSignature>,
}

/// One authority's signature of the document for an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentSignature {
    /// The interval.
    pub valid_after: WallTime,
    /// What is signed.
    pub hash: DocumentHash,
    /// By whom.
    pub authority: AuthorityId,
    /// Over [`DocumentHash::message`].
    pub signature: [u8; 64],
}

/// How an upload was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Uploaded {
    /// It will be in the next vote.
    Accepted,
    /// It is held already.
    Known,
    /// A later one is held, or it has expired, or it is from the future.
    Stale,
    /// The node's last upload was too short a time ago.
    TooOften,
    /// It does not decode, or its signature is wrong.
    Bad,
    /// The node is not admitted, or there is no room.
    NotAdmitted,
}

impl Uploaded {
    const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Known,
        Self::Stale,
        Self::TooOften,
        Self::Bad,
        Self::NotAdmitted,
    ];
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectoryResponse {
    /// To an upload.
    Uploaded(Uploaded),
    /// Part of what was asked for.
    Piece(Piece),
    /// There is nothing to give.
    Nothing,
}

/// Part of a document or vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The name of the whole: the document's hash, or the vote's.
    pub hash: [u8; 32],
    /// The length of the whole.
    pub total: u32,
    /// Where this piece begins.
    pub offset: u32,
    /// The piece.
    pub bytes: Bytes,
}

impl Piece {
    /// The piece of `whole` at `offset`; `None` beyond its end.
    pub fn cut(hash: [u8; 32], whole: &Bytes, offset: u32) -> Option<Self> {
        let from = usize::try_from(offset).ok().filter(|from| *from < whole.len())?;
        let to = whole.len().min(from + PIECE_LEN_MAX);
        Some(Self {
            hash,
            total: u32::try_from(whole.len()).ok()?,
            offset,
            bytes: whole.slice(from..to),
        })
    }
}

impl DirectoryRequest {
    /// Encodes: at most [`STATEMENTS_MAX`] times 116 and 200 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Upload(bytes) => {
                out.put_u8(UPLOAD);
                out.put_bytes(bytes);
            }
            Self::GetDocument { hash, known, offset } => {
                out.put_u8(GET_DOCUMENT);
                out.put(&hash.unwrap_or(DocumentHash::NONE).0);
                out.put(&known.0);
                out.put_u32(*offset);
            }
            Self::GetVote { hash, offset } => {
                out.put_u8(GET_VOTE);
                out.put(hash);
                out.put_u32(*offset);
            }
            Self::Notify(notice) => {
                out.put_u8(NOTIFY);
                out.put_u8(u8::try_from(notice.statements.len()).expect("at most STATEMENTS_MAX"));
                notice
                    .statements
                    .iter()
                    .for_each(|statement| statement.write(&mut out));
                out.put_u8(u8::from(notice.signature.is_some()));
                if let Some(signature) = &notice.signature {
                    out.put_u64(signature.valid_after.as_unix_secs());
                    out.put(&signature.hash.0);
                    out.put(&signature.authority.0);
                    out.put(&signature.signature);
                }
            }
        }
        out
    }

    /// Decodes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let request = match r.u8()? {
            UPLOAD => Self::Upload(Bytes::copy_from_slice(r.bytes("descriptor", DESCRIPTOR_LEN_MAX)?)),
            GET_DOCUMENT => Self::GetDocument {
                hash: Some(DocumentHash(r.array()?)).filter(|hash| *hash != DocumentHash::NONE),
                known: DocumentHash(r.array()?),
                offset: r.u32()?,
            },
            GET_VOTE => Self::GetVote {
                hash: r.array()?,
                offset: r.u32()?,
            },
            NOTIFY => Self::Notify(Notice::read(&mut r)?),
            got => {
                return Err(DecodeError::BadValue {
                    field: "directory request",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(request)
    }
}

impl Notice {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(r.u8()?);
        if count > STATEMENTS_MAX {
            return Err(DecodeError::TooLong {
                field: "statements",
                bound: STATEMENTS_MAX,
                got: count,
            });
        }
        let statements = (0..count).map(|_| Statement::read(r)).collect::<Result<_, _>>()?;
        let signature = match r.u8()? {
            0 => None,
            1 => Some(DocumentSignature {
                valid_after: read_time(r, "valid after")?,
                hash: DocumentHash(r.array()?),
                authority: AuthorityId(r.array()?),
                signature: r.array()?,
            }),
            got => {
                return Err(DecodeError::BadValue {
                    field: "signature flag",
                    got: u64::from(got),
                });
            }
        };
        Ok(Self {
            statements,
            signature,
        })
    }
}

impl DirectoryResponse {
    /// Encodes: at most [`PIECE_LEN_MAX`] and 43 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Uploaded(how) => {
                out.put_u8(UPLOADED);
                let code = Uploaded::ALL
                    .iter()
                    .position(|known| known == how)
                    .unwrap_or_default();
                out.put_u8(u8::try_from(code).expect("six values"));
            }
            Self::Piece(piece) => {
                out.put_u8(PIECE);
                out.put(&piece.hash);
                out.put_u32(piece.total);
                out.put_u32(piece.offset);
                out.put_bytes(&piece.bytes);
            }
            Self::Nothing => out.put_u8(NOTHING),
        }
        out
    }

    /// Decodes.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let response = match r.u8()? {
            UPLOADED => {
                let code = r.u8()?;
                let how = Uploaded::ALL.get(usize::from(code));
                let bad = DecodeError::BadValue {
                    field: "upload result",
                    got: u64::from(code),
                };
                Self::Uploaded(*how.ok_or(bad)?)
            }
            PIECE => Self::Piece(Piece {
                hash: r.array()?,
                total: r.u32()?,
                offset: r.u32()?,
                bytes: Bytes::copy_from_slice(r.bytes("piece", PIECE_LEN_MAX)?),
            }),
            NOTHING => Self::Nothing,
            got => {
                return Err(DecodeError::BadValue {
                    field: "directory response",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(response)
    }
}

/// Why pieces do not make a whole. The sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssemblyError {
    /// The whole would be longer than allowed.
    #[error("{got} bytes in all, at most {bound} are allowed")]
    TooLong {
        /// The bound.
        bound: usize,
        /// What the sender claims.
        got: usize,
    },
    /// Not the piece that was asked for: of another whole, at another place, empty, or beyond the end.
    #[error("not the piece that was asked for, at {wanted}")]
    OtherPiece {
        /// Where the piece was to begin.
        wanted: usize,
    },
}

/// Puts a document or vote together from pieces in order. Memory grows with what has arrived, never with what is claimed.
#[derive(Clone, Debug)]
pub struct Assembly {
    bound: usize,
    whole: Option<([u8; 32], usize)>,
    bytes: Vec<u8>,
}

impl Assembly {
    /// For a whole of at most `bound` bytes.
    pub const fn new(bound: usize) -> Self {
        Self {
            bound,
            whole: None,
            bytes: Vec::new(),
        }
    }

    /// For a signed document.
    pub const fn document() -> Self {
        Self::new(DOCUMENT_LEN_MAX)
    }

    /// Where the next piece is to begin.
    pub fn offset(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// The name of the whole, once a piece has told it: ask for the further pieces by it.
    pub fn hash(&self) -> Option<[u8; 32]> {
        self.whole.map(|(hash, _)| hash)
    }

    /// Adds the next piece; the whole once it is complete.
    ///
    /// # Errors
    /// [`AssemblyError`].
    pub fn add(&mut self, piece: &Piece) -> Result<Option<Bytes>, AssemblyError> {
        let total = usize::try_from(piece.total).unwrap_or(usize::MAX);
        if total > self.bound {
            return Err(AssemblyError::TooLong {
                bound: self.bound,
                got: total,
            });
        }
        let wanted = self.bytes.len();
        let same = self.whole.is_none_or(|whole| whole == (piece.hash, total));
        let fits = !piece.bytes.is_empty() && wanted + piece.bytes.len() <= total;
        if !same || !fits || piece.offset != self.offset() {
            return Err(AssemblyError::OtherPiece { wanted });
        }
        self.whole = Some((piece.hash, total));
        self.bytes.extend_from_slice(&piece.bytes);
        Ok((self.bytes.len() == total).then(|| Bytes::from(std::mem::take(&mut self.bytes))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::directory::sign::tests::secrets;

    fn requests() -> Vec<DirectoryRequest> {
        let at = WallTime::from_unix_secs(1_800_000_000);
        let secret = &secrets(1)[0];
        let signature = DocumentSignature {
            valid_after: at,
            hash: DocumentHash([5; 32]),
            authority: AuthorityId([6; 8]),
            signature: [7; 64],
        };
        vec![
            DirectoryRequest::Upload(Bytes::from_static(b"descriptor")),
            DirectoryRequest::GetDocument {
                hash: None,
                known: DocumentHash([1; 32]),
                offset: 7,
            },
            DirectoryRequest::GetDocument {
                hash: Some(DocumentHash([2; 32])),
                known: DocumentHash::NONE,
                offset: 0,
            },
            DirectoryRequest::GetVote {
                hash: [3; 32],
                offset: 9,
            },
            DirectoryRequest::Notify(Notice::default()),
            DirectoryRequest::Notify(Notice {
                statements: vec![Statement::new(secret, at, b"vote"); STATEMENTS_MAX],
                signature: Some(signature),
            }),
        ]
    }

    #[test]
    fn a_whole_comes_back_from_its_pieces() {
        let whole: Bytes = (0..100_000u32)
            .map(|i| i.to_le_bytes()[0])
            .collect::<Vec<_>>()
            .into();
        let mut assembly = Assembly::document();
        loop {
            let piece = Piece::cut([1; 32], &whole, assembly.offset()).expect("not at the end");
            let response = DirectoryResponse::Piece(piece);
            let Ok(DirectoryResponse::Piece(piece)) = DirectoryResponse::decode(&response.encode()) else {
                panic!("a piece reads back as a piece");
            };
            if let Some(done) = assembly.add(&piece).expect("in order") {
                assert_eq!(done, whole);
                return;
            }
        }
    }

    #[test]
    fn pieces_that_were_not_asked_for_are_refused() {
        let whole = Bytes::from(vec![0; 2 * PIECE_LEN_MAX]);
        let cut = |hash, offset| Piece::cut(hash, &whole, offset).expect("within");
        let mut assembly = Assembly::document();
        let late = cut([1; 32], 5);
        assert_eq!(assembly.add(&late), Err(AssemblyError::OtherPiece { wanted: 0 }));
        assert_eq!(assembly.add(&cut([1; 32], 0)), Ok(None));
        let other = cut([2; 32], assembly.offset());
        assert_eq!(
            assembly.add(&other),
            Err(AssemblyError::OtherPiece {
                wanted: PIECE_LEN_MAX
            })
        );
        assert_eq!(Piece::cut([1; 32], &whole, u32::MAX), None);
        let mut huge = cut([1; 32], assembly.offset());
        huge.total = u32::MAX;
        assert!(matches!(assembly.add(&huge), Err(AssemblyError::TooLong { .. })));
    }

    #[test]
    fn messages_read_back() {
        for request in requests() {
            assert_eq!(DirectoryRequest::decode(&request.encode()), Ok(request));
        }
        let uploads = Uploaded::ALL.map(DirectoryResponse::Uploaded);
        for response in uploads.into_iter().chain([DirectoryResponse::Nothing]) {
            assert_eq!(DirectoryResponse::decode(&response.encode()), Ok(response));
        }
    }

    proptest! {
        #[test]
        fn mutations_never_panic_and_stay_canonical(which in 0usize..6, at: proptest::sample::Index, to: u8, junk: Vec<u8>) {
            let mut bytes = requests()[which].encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            for input in [bytes, junk] {
                if let Ok(request) = DirectoryRequest::decode(&input) {
                    prop_assert_eq!(request.encode(), &input[..]);
                }
                if let Ok(response) = DirectoryResponse::decode(&input) {
                    prop_assert_eq!(response.encode(), &input[..]);
                }
            }
        }
    }
}
