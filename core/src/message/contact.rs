//! How two people become contacts: two short texts (or QR codes) out of band, then a confirmation. Spec: SPEC §5.1.
//!
//! The inviter shows a *card*: a fresh X25519 key, the read capability of what it will write, and a fresh secret. The
//! other answers with a card of its own and a proof that it holds the secret. Both derive the same root from the key
//! exchange, the secret and the whole transcript. Whoever only overheard one text, or the secret, can compute nothing;
//! whoever replaced texts on the way is found out by comparing the short authentication string.

use std::fmt;

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::text;
use crate::crypto::kdf::Context;
use crate::crypto::keys::{KeyError, LinkPublic, LinkSecret};
use crate::mailbox::{CapError, ReadCap, WriteCap};
use crate::wire::{DecodeError, Reader, Writer};

const ROOT: Context = Context::new("phantom-net 2026 contact root v1");
const PROOF_ACCEPTER: Context = Context::new("phantom-net 2026 contact proof accepter v1");
const PROOF_INVITER: Context = Context::new("phantom-net 2026 contact proof inviter v1");
const SAS: Context = Context::new("phantom-net 2026 contact short string v1");
const INVITER_CHAIN: Context = Context::new("phantom-net 2026 contact inviter chain v1");
const ACCEPTER_CHAIN: Context = Context::new("phantom-net 2026 contact accepter chain v1");
const INVITER_ANNOUNCE: Context = Context::new("phantom-net 2026 contact inviter announce v1");
const ACCEPTER_ANNOUNCE: Context = Context::new("phantom-net 2026 contact accepter announce v1");

const VERSION: u8 = 1;
const OFFER: u8 = 1;
const ANSWER: u8 = 2;
const CONFIRM: u8 = 3;
const PROOF_LEN: usize = 16;
const OFFER_LEN: usize = 2 + 32 + 32 + 32;
const ANSWER_LEN: usize = 2 + 32 + 32 + PROOF_LEN;
const CONFIRM_LEN: usize = 2 + PROOF_LEN;

/// Why a text does not make a contact. The fault of whoever made or changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Not one of our texts, or mistyped.
    #[error(transparent)]
    Text(#[from] text::TextError),
    /// It decodes to nothing we know.
    #[error("a contact text that does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// A key in it is unusable.
    #[error("a contact text with an unusable key: {0}")]
    Key(#[from] KeyError),
    /// A capability in it is unusable.
    #[error("a contact text with an unusable capability: {0}")]
    Cap(#[from] CapError),
    /// It was not made by somebody who holds the secret of this exchange.
    #[error("a contact text that belongs to another exchange, or was changed on the way")]
    BadProof,
    /// It is our own.
    #[error("a contact text that this side made itself")]
    OwnCard,
}

/// The side that showed a card and waits for the answer. One use; store it encrypted with [`Invitation::to_bytes`].
pub struct Invitation {
    secret: LinkSecret,
    shared: Zeroizing<[u8; 32]>,
    cap: WriteCap,
}

/// What this side writes with.
pub struct Outgoing {
    /// To sign boxes.
    pub cap: WriteCap,
    /// Root of the chain.
    pub root: Zeroizing<[u8; 32]>,
    /// Names and seals announcements.
    pub announce: Zeroizing<[u8; 32]>,
}

/// What this side reads with.
pub struct Incoming {
    /// To name boxes.
    pub cap: ReadCap,
    /// Root of the chain.
    pub root: Zeroizing<[u8; 32]>,
    /// Names and opens announcements.
    pub announce: Zeroizing<[u8; 32]>,
}

/// A relationship, as both sides derive it. Feed both directions to their machines, then drop it: it holds the roots of
/// the chains.
pub struct Contact {
    /// For [`super::sender::Sender::new`].
    pub outgoing: Outgoing,
    /// For [`super::receiver::Receiver::new`].
    pub incoming: Incoming,
    /// To be compared by voice or eye: 60 bits as three groups of four. Equal on both sides only if nobody stands between.
    pub short_string: String,
    confirmation: [u8; PROOF_LEN],
}

impl Invitation {
    /// Begins an exchange.
    pub fn new(rng: &mut impl CryptoRng) -> Self {
        let mut shared = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *shared);
        Self {
            secret: LinkSecret::from_rng(rng),
            shared,
            cap: WriteCap::from_rng(rng),
        }
    }

    fn card(&self) -> Vec<u8> {
        let mut card = vec![VERSION, OFFER];
        card.put(self.secret.public().as_bytes());
        card.put(self.cap.read_cap().as_bytes());
        card.put(&*self.shared);
        card
    }

    /// The text to show to one person, by a way that nobody else reads.
    pub fn to_text(&self) -> String {
        text::encode(&self.card())
    }

    /// Ends the exchange with the other's answer. Returns the contact and the confirmation to send back.
    ///
    /// # Errors
    /// [`enum@Error`]; the invitation stays usable.
    pub fn finish(&self, answer: &str) -> Result<(Contact, String), Error> {
        let answer = decode(answer, ANSWER, ANSWER_LEN)?;
        let mut r = Reader::new(&answer[2..]);
        let theirs = LinkPublic::from_bytes(r.array()?);
        let cap = ReadCap::from_bytes(r.array()?)?;
        let proof: [u8; PROOF_LEN] = r.array()?;
        r.finish()?;
        if theirs == self.secret.public() || cap.as_bytes() == self.cap.read_cap().as_bytes() {
            return Err(Error::OwnCard);
        }
        let exchange = self.secret.exchange(&theirs)?;
        let root = root(&exchange, &self.card(), &answer[..ANSWER_LEN - PROOF_LEN]);
        if !bool::from(proof[..].ct_eq(&short(PROOF_ACCEPTER, &root)[..])) {
            return Err(Error::BadProof);
        }
        let contact = contact(&root, self.cap.clone(), cap, true);
        let mut confirm = vec![VERSION, CONFIRM];
        confirm.put(&contact.confirmation);
        Ok((contact, text::encode(&confirm)))
    }

    /// The invitation, for encrypted storage only.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 128]> {
        let mut out = Zeroizing::new([0; 128]);
        out[..32].copy_from_slice(&*self.secret.to_bytes());
        out[32..64].copy_from_slice(&*self.shared);
        out[64..].copy_from_slice(&*self.cap.to_bytes());
        out
    }

    /// An invitation that was stored.
    ///
    /// # Errors
    /// [`Error::Cap`] or [`Error::Malformed`].
    pub fn from_bytes(bytes: &[u8; 128]) -> Result<Self, Error> {
        let mut r = Reader::new(bytes);
        let (secret, shared) = (LinkSecret::from_bytes(r.array()?), Zeroizing::new(r.array()?));
        Ok(Self {
            secret,
            shared,
            cap: WriteCap::from_bytes(&r.array()?)?,
        })
    }
}

/// Takes up an invitation. Returns the contact and the answer to give back by the same way.
///
/// # Errors
/// [`enum@Error`].
pub fn accept(invitation: &str, rng: &mut impl CryptoRng) -> Result<(Contact, String), Error> {
    let card = decode(invitation, OFFER, OFFER_LEN)?;
    let mut r = Reader::new(&card[2..]);
    let theirs = LinkPublic::from_bytes(r.array()?);
    let their_cap = ReadCap::from_bytes(r.array()?)?;
    let (secret, cap) = (LinkSecret::from_rng(rng), WriteCap::from_rng(rng));
    let exchange = secret.exchange(&theirs)?;
    let mut answer = vec![VERSION, ANSWER];
    answer.put(secret.public().as_bytes());
    answer.put(cap.read_cap().as_bytes());
    // The secret of the card is part of it, and so of the transcript.
    let root = root(&exchange, &card, &answer);
    answer.put(&short(PROOF_ACCEPTER, &root));
    Ok((contact(&root, cap, their_cap, false), text::encode(&answer)))
}

impl Contact {
    /// What the inviter's confirmation has to prove; to be kept, sealed, until it comes.
    pub const fn expected(&self) -> Expected {
        Expected(self.confirmation)
    }

    /// [`Expected::check`].
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn check_confirmation(&self, confirmation: &str) -> Result<(), Error> {
        self.expected().check(confirmation)
    }
}

/// What a confirmation has to prove.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Expected([u8; PROOF_LEN]);

impl Expected {
    /// Its stored form's length.
    pub const LEN: usize = PROOF_LEN;

    /// As it was stored.
    pub const fn from_bytes(bytes: [u8; PROOF_LEN]) -> Self {
        Self(bytes)
    }

    /// Its form for encrypted storage.
    pub const fn as_bytes(&self) -> &[u8; PROOF_LEN] {
        &self.0
    }

    /// Checks the inviter's confirmation: from then on the accepter knows that the inviter has the same keys.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn check(&self, confirmation: &str) -> Result<(), Error> {
        let bytes = decode(confirmation, CONFIRM, CONFIRM_LEN)?;
        if bool::from(bytes[2..].ct_eq(&self.0)) {
            Ok(())
        } else {
            Err(Error::BadProof)
        }
    }
}

fn decode(text: &str, kind: u8, len: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let bytes = Zeroizing::new(text::decode(text)?);
    let mut r = Reader::new(&bytes);
    for (field, wanted) in [("contact version", VERSION), ("contact text kind", kind)] {
        let got = r.u8()?;
        if got != wanted {
            return Err(DecodeError::BadValue {
                field,
                got: u64::from(got),
            }
            .into());
        }
    }
    r.take(len - 2)?;
    r.finish()?;
    Ok(bytes)
}

fn root(exchange: &[u8; 32], card: &[u8], answer: &[u8]) -> Zeroizing<[u8; 32]> {
    ROOT.derive_secret(&[exchange, card, answer])
}

fn short(context: Context, root: &[u8; 32]) -> [u8; PROOF_LEN] {
    context.derive_array(root)
}

fn contact(root: &[u8; 32], cap: WriteCap, their_cap: ReadCap, inviter: bool) -> Contact {
    let (mine, theirs) = (
        (INVITER_CHAIN, INVITER_ANNOUNCE),
        (ACCEPTER_CHAIN, ACCEPTER_ANNOUNCE),
    );
    let (mine, theirs) = if inviter { (mine, theirs) } else { (theirs, mine) };
    let mut digits = text::digits(&SAS.derive_array::<8>(root));
    digits.truncate(12);
    Contact {
        outgoing: Outgoing {
            cap,
            root: mine.0.derive_secret(&[root]),
            announce: mine.1.derive_secret(&[root]),
        },
        incoming: Incoming {
            cap: their_cap,
            root: theirs.0.derive_secret(&[root]),
            announce: theirs.1.derive_secret(&[root]),
        },
        short_string: format!("{}-{}-{}", &digits[..4], &digits[4..8], &digits[8..]),
        confirmation: short(PROOF_INVITER, root),
    }
}

impl Drop for Contact {
    fn drop(&mut self) {
        self.confirmation.zeroize();
    }
}

macro_rules! secret_debug {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(secret)"))
            }
        }
    )*};
}

secret_debug!(Invitation, Outgoing, Incoming, Contact, Expected);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn rng(seed: u64) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(seed)
    }

    #[test]
    fn both_sides_derive_the_same_relationship_crosswise() {
        let invitation = Invitation::new(&mut rng(1));
        let (b, answer) = accept(&invitation.to_text(), &mut rng(2)).expect("accepted");
        let stored = Invitation::from_bytes(&invitation.to_bytes()).expect("stored");
        let (a, confirmation) = stored.finish(&answer).expect("finished");
        let kept = Expected::from_bytes(*b.expected().as_bytes());
        kept.check(&confirmation).expect("confirmed");
        assert_eq!(a.short_string, b.short_string);
        assert_eq!(a.short_string.len(), 14);
        for (writer, reader) in [(&a.outgoing, &b.incoming), (&b.outgoing, &a.incoming)] {
            assert_eq!(writer.root, reader.root);
            assert_eq!(writer.announce, reader.announce);
            assert_eq!(writer.cap.read_cap().as_bytes(), reader.cap.as_bytes());
        }
        assert_ne!(a.outgoing.root, a.incoming.root);
        assert!(!format!("{a:?}{invitation:?}").contains('['));
    }

    #[test]
    fn the_texts_fit_a_small_qr_code() {
        let invitation = Invitation::new(&mut rng(1));
        let (_, answer) = accept(&invitation.to_text(), &mut rng(2)).expect("accepted");
        for text in [invitation.to_text(), answer] {
            // Version 8 with medium correction holds 221 alphanumeric characters.
            assert!(text.len() <= 221, "{}", text.len());
            assert!(
                text.bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b':')
            );
        }
    }

    #[test]
    fn an_answer_to_another_invitation_proves_nothing() {
        let (one, two) = (Invitation::new(&mut rng(1)), Invitation::new(&mut rng(3)));
        let (b, answer) = accept(&one.to_text(), &mut rng(2)).expect("accepted");
        assert_eq!(two.finish(&answer).err(), Some(Error::BadProof));
        let (_, other) = accept(&two.to_text(), &mut rng(5)).expect("accepted");
        let (_, confirmation) = two.finish(&other).expect("finished");
        assert_eq!(b.check_confirmation(&confirmation).err(), Some(Error::BadProof));
        assert!(
            matches!(one.finish(&one.to_text()), Err(Error::Malformed(_))),
            "our own card is no answer"
        );
    }

    /// Somebody who replaces both texts has a contact with each side, but the two sides see different strings.
    #[test]
    fn a_person_in_the_middle_shows_in_the_short_string() {
        let a = Invitation::new(&mut rng(1));
        let middle = Invitation::new(&mut rng(9));
        let (to_b, answer_b) = accept(&middle.to_text(), &mut rng(2)).expect("b accepts the false card");
        middle.finish(&answer_b).expect("the middle finishes with b");
        let (_, false_answer) = accept(&a.to_text(), &mut rng(8)).expect("the middle accepts a's card");
        let (to_a, _) = a.finish(&false_answer).expect("a finishes with the middle");
        assert_ne!(to_a.short_string, to_b.short_string);
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut card = Invitation::new(&mut rng(1)).card();
        card[2..34].fill(0);
        assert_eq!(
            accept(&text::encode(&card), &mut rng(2)).err(),
            Some(Error::Key(KeyError::NonContributory))
        );
    }

    proptest! {
        /// Without the checksum, too: what an attacker makes has a valid one.
        #[test]
        fn hostile_texts_are_refused_or_give_another_contact(at: prop::sample::Index, value: u8, cut in 0usize..100) {
            let invitation = Invitation::new(&mut rng(1));
            let (_, answer) = accept(&invitation.to_text(), &mut rng(2)).expect("accepted");
            let mut bytes = text::decode(&answer).expect("our own");
            let at = at.index(bytes.len());
            if bytes[at] != value {
                bytes[at] = value;
                prop_assert!(invitation.finish(&text::encode(&bytes)).is_err());
            }
            let mut card = invitation.card();
            let at = at % card.len();
            card[at] = value;
            let _ = accept(&text::encode(&card), &mut rng(2));
            card.truncate(cut.min(OFFER_LEN - 1));
            prop_assert!(accept(&text::encode(&card), &mut rng(2)).is_err());
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,300}") {
            prop_assert!(accept(&text, &mut rng(2)).is_err());
            prop_assert!(Invitation::new(&mut rng(1)).finish(&text).is_err());
        }
    }
}
