//! The invitation itself: sealed records of one cohort and day, signed by who hands them over. SPEC §8.2.

use thiserror::Error;

use super::courier::CourierRecord;
use crate::crypto::keys::{IdentityPublic, IdentitySecret};
use crate::directory::descriptor::BridgeDescriptor;
use crate::rendezvous::{Cohort, CohortId, Day, OpenError, SLOTS, Slot};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

const VERSION: u8 = 1;
const CONTEXT: &[u8] = b"phantom-net 2026 invitation v1";
/// Most bytes of a note.
pub const NOTE_BYTES_MAX: usize = 200;
/// Longest invitation.
pub const INVITATION_BYTES_MAX: usize = 1800;

/// Why an invitation is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvitationError {
    /// It does not decode.
    #[error("an invitation that does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// The inviter's key did not sign it.
    #[error("an invitation that its inviter did not sign")]
    BadSignature,
    /// It is signed by somebody else than expected.
    #[error("an invitation by somebody else than the friend it was expected from")]
    WrongInviter,
    /// It is for another cohort.
    #[error("an invitation for another user's cohort")]
    WrongCohort,
    /// Its time is over.
    #[error("an invitation that expired at {expired:?}, it is {now:?}")]
    Expired {
        /// Its bound.
        expired: WallTime,
        /// The reader's time.
        now: WallTime,
    },
}

/// A few words of a friend, at most [`NOTE_BYTES_MAX`] bytes of text without control characters. It is signed, not sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// Takes `text` if it is short enough and printable.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() <= NOTE_BYTES_MAX && !text.chars().any(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An invitation whose signature is right. The only ways to one are [`Invitation::sign`] and [`Invitation::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    inviter: IdentityPublic,
    cohort: CohortId,
    day: Day,
    expires: WallTime,
    note: Note,
    records: Vec<CourierRecord>,
    signature: [u8; 64],
}

/// What an invitation holds for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The bridges whose records open, by slot.
    pub bridges: Vec<(Slot, BridgeDescriptor)>,
    /// Records that do not, and why.
    pub refused: Vec<(Slot, Refused)>,
}

/// Why a record of an invitation is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The slot did not sign it: the inviter, or somebody before it, made it up.
    #[error("not signed by its slot")]
    NotSigned,
    /// It does not open or has expired.
    #[error(transparent)]
    Closed(#[from] OpenError),
}

impl Invitation {
    /// Invites the user of `cohort` with records of `day`, until `expires` (whole seconds). Records of other days are left
    /// out, and one per slot is taken. `None` when none is left.
    pub fn sign(
        inviter: &IdentitySecret,
        cohort: CohortId,
        day: Day,
        expires: WallTime,
        note: Note,
        records: &[CourierRecord],
    ) -> Option<Self> {
        let mut records: Vec<_> = records
            .iter()
            .filter(|record| record.day == day)
            .cloned()
            .collect();
        records.sort_by_key(|record| record.slot);
        records.dedup_by_key(|record| record.slot);
        if records.is_empty() {
            return None;
        }
        let expires = WallTime::from_unix_secs(expires.as_unix_secs());
        let mut invitation = Self {
            inviter: inviter.public(),
            cohort,
            day,
            expires,
            note,
            records,
            signature: [0; 64],
        };
        invitation.signature = inviter.sign(&[CONTEXT, &invitation.body()].concat());
        Some(invitation)
    }

    fn body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(INVITATION_BYTES_MAX);
        out.put_u8(VERSION);
        out.put(self.inviter.as_bytes());
        out.put(&self.cohort.0);
        out.put_u32(self.day.0);
        out.put_u64(self.expires.as_unix_secs());
        out.put_bytes(self.note.0.as_bytes());
        // One to four.
        out.put_u8(self.records.len() as u8);
        self.records.iter().for_each(|record| record.write(&mut out));
        out
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.body();
        out.put(&self.signature);
        out
    }

    /// Decodes an invitation and checks the inviter's signature.
    ///
    /// # Errors
    /// [`InvitationError::Malformed`] or [`InvitationError::BadSignature`].
    pub fn decode(bytes: &[u8]) -> Result<Self, InvitationError> {
        if bytes.len() > INVITATION_BYTES_MAX {
            let (bound, got) = (INVITATION_BYTES_MAX, bytes.len());
            return Err(DecodeError::TooLong {
                field: "invitation",
                bound,
                got,
            }
            .into());
        }
        let bad = |field, got| DecodeError::BadValue { field, got };
        let mut r = Reader::new(bytes);
        match r.u8()? {
            VERSION => {}
            got => return Err(bad("invitation version", u64::from(got)).into()),
        }
        let inviter = IdentityPublic::from_bytes(r.array()?).map_err(|_| bad("inviter", 0))?;
        let (cohort, day) = (CohortId(r.array()?), Day(r.u32()?));
        let expires = match r.u64()? {
            // Later ones would not survive the change to nanoseconds.
            got if got > u64::MAX / 1_000_000_000 => return Err(bad("invitation expiry", got).into()),
            secs => WallTime::from_unix_secs(secs),
        };
        let text = r.bytes("invitation note", NOTE_BYTES_MAX)?;
        let note = std::str::from_utf8(text)
            .ok()
            .and_then(Note::new)
            .ok_or(bad("invitation note", 0))?;
        let count = usize::from(r.u8()?);
        if count == 0 || count > SLOTS {
            return Err(bad("invitation records", count as u64).into());
        }
        let records = (0..count)
            .map(|_| CourierRecord::read(&mut r))
            .collect::<Result<Vec<_>, _>>()?;
        if records.iter().any(|record| record.day != day) || !records.is_sorted_by(|a, b| a.slot < b.slot) {
            return Err(bad("day or order of invitation records", count as u64).into());
        }
        let signature = r.array()?;
        r.finish()?;
        let invitation = Self {
            inviter,
            cohort,
            day,
            expires,
            note,
            records,
            signature,
        };
        let signed = [CONTEXT, &invitation.body()].concat();
        inviter
            .verify(&signed, &signature)
            .map_err(|_| InvitationError::BadSignature)?;
        Ok(invitation)
    }

    /// Who invites.
    pub const fn inviter(&self) -> &IdentityPublic {
        &self.inviter
    }

    /// Whom: the user of this cohort, and nobody else.
    pub const fn cohort(&self) -> CohortId {
        self.cohort
    }

    /// Not to be used from then on.
    pub const fn expires(&self) -> WallTime {
        self.expires
    }

    /// What the inviter wrote.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Opens the invitation as the user of `cohort`, who expects it from `from`, if from anybody in particular.
    ///
    /// # Errors
    /// [`InvitationError`] when it is another's, somebody else's or expired. Records that do not open are reported one by
    /// one: a bad one does not spoil the others.
    pub fn open(
        &self,
        cohort: &Cohort,
        from: Option<&IdentityPublic>,
        now: WallTime,
    ) -> Result<Opened, InvitationError> {
        if from.is_some_and(|from| *from != self.inviter) {
            return Err(InvitationError::WrongInviter);
        }
        if cohort.public.id() != self.cohort {
            return Err(InvitationError::WrongCohort);
        }
        if self.expires <= now {
            return Err(InvitationError::Expired {
                expired: self.expires,
                now,
            });
        }
        let mut opened = Opened {
            bridges: Vec::new(),
            refused: Vec::new(),
        };
        for record in &self.records {
            let bridge = record
                .verify(&cohort.public)
                .map_err(|_| Refused::NotSigned)
                .and_then(|()| Ok(cohort.open(record.slot, record.day, &record.sealed, now)?));
            match bridge {
                Ok(bridge) => opened.bridges.push((record.slot, bridge)),
                Err(why) => opened.refused.push((record.slot, why)),
            }
        }
        Ok(opened)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::rendezvous::SlotWriter;
    use crate::rendezvous::cohort::tests::{NOON, cohort, descriptor, rng};

    const DAY: Duration = Duration::from_secs(86_400);

    fn friend() -> IdentitySecret {
        IdentitySecret::from_bytes(&[6; 32])
    }

    fn record(writer: &SlotWriter) -> CourierRecord {
        let day = Day::of(NOON);
        let bridge = descriptor(u64::from(writer.slot().number()), NOON + DAY * 2);
        CourierRecord::sign(writer, day, writer.seal(&mut rng(1), day, &bridge))
    }

    fn invite(writers: &[SlotWriter], cohort: CohortId) -> Invitation {
        let records: Vec<_> = writers.iter().map(record).collect();
        let note = Note::new("see you there").expect("short");
        Invitation::sign(&friend(), cohort, Day::of(NOON), NOON + DAY, note, &records).expect("records")
    }

    pub(crate) fn invitation() -> (Cohort, Invitation) {
        let (cohort, writers) = cohort(1);
        let invitation = invite(&writers, cohort.public.id());
        (cohort, invitation)
    }

    #[test]
    fn the_invited_user_opens_all_four_slots_and_the_courier_none() {
        let (cohort, invitation) = invitation();
        let bytes = invitation.encode();
        assert!(bytes.len() <= INVITATION_BYTES_MAX, "{}", bytes.len());
        let received = Invitation::decode(&bytes).expect("signed");
        let opened = received
            .open(&cohort, Some(&friend().public()), NOON)
            .expect("for this user");
        assert_eq!((opened.bridges.len(), opened.refused.len()), (4, 0));
        assert_eq!(opened.bridges[3].1, descriptor(3, NOON + DAY * 2));

        // All that a courier knows is the public cohort; with a secret of its own it opens nothing.
        let courier = Cohort {
            secret: crate::rendezvous::CohortSecret::from_bytes([9; 32]),
            public: cohort.public,
        };
        let opened = received.open(&courier, None, NOON).expect("the public part fits");
        assert_eq!((opened.bridges.len(), opened.refused.len()), (0, 4));
    }

    #[test]
    fn an_invitation_is_for_one_cohort_from_one_friend_and_for_its_time() {
        let (cohort, invitation) = invitation();
        let (other, _) = self::cohort(2);
        let stranger = IdentitySecret::from_bytes(&[7; 32]).public();
        assert_eq!(
            invitation.open(&other, None, NOON),
            Err(InvitationError::WrongCohort)
        );
        assert_eq!(
            invitation.open(&cohort, Some(&stranger), NOON),
            Err(InvitationError::WrongInviter)
        );
        let (expired, now) = (NOON + DAY, NOON + DAY);
        assert_eq!(
            invitation.open(&cohort, None, now),
            Err(InvitationError::Expired { expired, now })
        );
    }

    #[test]
    fn a_friend_cannot_slip_in_bridges_of_its_own() {
        let (cohort, mut writers) = cohort(1);
        // A record of another cohort's bridge, relabelled for this one: the friend signs the envelope, not the slot.
        let (_, foreign) = self::cohort(2);
        writers[1] = foreign[1].clone();
        let opened = invite(&writers, cohort.public.id())
            .open(&cohort, None, NOON)
            .expect("signed by the friend");
        assert_eq!(opened.bridges.len(), 3);
        assert_eq!(opened.refused, [(Slot::ALL[1], Refused::NotSigned)]);
    }

    #[test]
    fn a_bridges_operator_invites_with_its_own_record_alone() {
        let (cohort, writers) = cohort(1);
        let opened = invite(&writers[..1], cohort.public.id())
            .open(&cohort, None, NOON)
            .expect("signed");
        assert_eq!(opened.bridges.len(), 1);
        assert_eq!(
            Invitation::sign(&friend(), cohort.public.id(), Day(1), NOON, Note::default(), &[]),
            None
        );
    }

    #[test]
    fn notes_are_short_and_printable() {
        assert!(Note::new(&"x".repeat(201)).is_none());
        assert!(Note::new("two\nlines").is_none());
        assert!(Note::new("\u{1b}[2J").is_none());
        assert_eq!(Note::new("grüße").expect("text").as_str(), "grüße");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_changed_byte_is_refused_and_noise_never_panics(
            at in any::<prop::sample::Index>(), flip in 1..=255_u8, noise in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let (_, invitation) = invitation();
            let mut bytes = invitation.encode();
            prop_assert_eq!(Invitation::decode(&bytes), Ok(invitation));
            let at = at.index(bytes.len());
            prop_assert!(Invitation::decode(&bytes[..at]).is_err());
            bytes[at] ^= flip;
            prop_assert!(Invitation::decode(&bytes).is_err());
            prop_assert!(Invitation::decode(&noise).is_err());
        }
    }
}
