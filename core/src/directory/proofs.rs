//! Which authorities are proven to equivocate, and by what. Spec: SPEC §6.5, §10.
//!
//! A proof is a pair of statements of one author that contradict each other. It never ends, so it is kept across
//! restarts: [`Proofs::encode`] gives what to write to a file. One of each authority is enough, which bounds them.

use std::collections::BTreeMap;

use crate::directory::sign::{AUTHORITIES_MAX, AuthorityId, KeySet};
use crate::directory::vote::Statement;
use crate::wire::{DecodeError, Reader, Writer};

const FORMAT: u8 = 1;

/// At most one proof of each authority, each of them checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proofs(BTreeMap<AuthorityId, [Statement; 2]>);

impl Proofs {
    /// Adds a pair if it is a proof, by an authority of `keys`, and the first of its author. Says whether it was added.
    pub fn add(&mut self, keys: &KeySet, pair: [Statement; 2]) -> bool {
        let [one, two] = &pair;
        if self.against(one.authority) || !one.contradicts(two) {
            return false;
        }
        let good = keys
            .key(one.authority)
            .is_some_and(|key| one.is_by(key) && two.is_by(key));
        if good {
            self.0.insert(one.authority, pair);
        }
        good
    }

    /// Whether there is one against `authority`.
    pub fn against(&self, authority: AuthorityId) -> bool {
        self.0.contains_key(&authority)
    }

    /// All statements, both of a pair next to each other.
    pub fn statements(&self) -> impl Iterator<Item = Statement> {
        self.0.values().flatten().copied()
    }

    /// At most 16 pairs of 232 bytes, and 2 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_u8(FORMAT);
        out.put_u8(u8::try_from(self.0.len()).expect("at most AUTHORITIES_MAX"));
        self.statements().for_each(|statement| statement.write(&mut out));
        out
    }

    /// Reads them back. Pairs by authorities that are not of `keys` (any more) are left out.
    ///
    /// # Errors
    /// [`DecodeError`]: the file is damaged.
    pub fn decode(keys: &KeySet, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let format = r.u8()?;
        if format != FORMAT {
            return Err(DecodeError::BadValue {
                field: "proofs format",
                got: u64::from(format),
            });
        }
        let count = usize::from(r.u8()?);
        if count > AUTHORITIES_MAX {
            return Err(DecodeError::TooLong {
                field: "proofs",
                bound: AUTHORITIES_MAX,
                got: count,
            });
        }
        let mut out = Self::default();
        for _ in 0..count {
            out.add(keys, [Statement::read(&mut r)?, Statement::read(&mut r)?]);
        }
        r.finish()?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::keys::IdentitySecret;
    use crate::directory::sign::tests::{publics, secrets};
    use crate::units::WallTime;

    fn keys(of: &[IdentitySecret]) -> KeySet {
        KeySet::new(0, of.len(), &publics(of)).expect("valid")
    }

    fn stated(by: &IdentitySecret, vote: &[u8]) -> Statement {
        Statement::new(by, WallTime::from_unix_secs(1_800_000_000), vote)
    }

    fn pair(by: &IdentitySecret) -> [Statement; 2] {
        [stated(by, b"one"), stated(by, b"two")]
    }

    #[test]
    fn only_a_contradiction_signed_by_its_author_is_a_proof() {
        let secrets = secrets(3);
        let keys = keys(&secrets[..2]);
        let mut proofs = Proofs::default();
        let [a, b, stranger] = &secrets[..] else {
            panic!("three")
        };
        let mut forged = pair(b);
        forged[1].authority = AuthorityId::of(&a.public());
        forged[0].authority = forged[1].authority;
        for bad in [
            [stated(a, b"one"), stated(a, b"one")],
            [stated(a, b"one"), stated(b, b"two")],
            pair(stranger),
            forged,
        ] {
            assert!(!proofs.add(&keys, bad));
        }
        assert!(proofs.add(&keys, pair(a)));
        assert!(!proofs.add(&keys, pair(a)), "one is enough");
        assert!(proofs.against(AuthorityId::of(&a.public())));
        assert!(!proofs.against(AuthorityId::of(&b.public())));
    }

    #[test]
    fn proofs_read_back_but_those_against_who_is_no_authority_any_more() {
        let secrets = secrets(3);
        let all = keys(&secrets);
        let mut proofs = Proofs::default();
        secrets.iter().for_each(|secret| {
            proofs.add(&all, pair(secret));
        });
        assert_eq!(Proofs::decode(&all, &proofs.encode()), Ok(proofs.clone()));
        let left = Proofs::decode(&keys(&secrets[..2]), &proofs.encode()).expect("own file");
        assert_eq!(left.statements().count(), 4);
    }

    proptest! {
        #[test]
        fn a_damaged_file_never_panics(at: proptest::sample::Index, to: u8, junk: Vec<u8>) {
            let secrets = secrets(2);
            let keys = keys(&secrets);
            let mut proofs = Proofs::default();
            proofs.add(&keys, pair(&secrets[0]));
            let mut bytes = proofs.encode();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Proofs::decode(&keys, &bytes);
            let _ = Proofs::decode(&keys, &junk);
        }
    }
}
