//! Invitations: how a friend helps a user in without becoming a source of bridges. SPEC §8.
//!
//! A friend is a courier. The user tells it the public side of its cohort; the bridges of that cohort drop sealed records
//! into boxes whose addresses follow from it ([`courier`]); the friend fetches them, which it can do because it is
//! connected, and hands them over in a signed, scoped and expiring [`Invitation`] ([`envelope`]), as bytes or as text
//! ([`text`]). The friend can open none of them, and the user only those of its own four slots: the bound of four bridges
//! per user holds over friends as it does over the DHT. A bridge's operator invites in the same way, with a record of its own.

pub mod courier;
pub mod envelope;
pub mod text;

pub use courier::{CourierRecord, courier_box, drop_box, open_box};
pub use envelope::{Invitation, InvitationError, Note, Opened};
pub use text::{TextError, decode_cohort, decode_invitation, encode_cohort, encode_invitation};
