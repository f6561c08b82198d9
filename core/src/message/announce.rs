//! Announcements: how a reader that was away for longer than all boxes lived learns where the writer is. Spec: SPEC §5.6.
//!
//! A reader looks for the boxes `[next, next + WINDOW)`. If all of them expired unread, nothing in that range will ever
//! be written again, and the writer may not go beyond it. So it then writes an announcement, "my lowest outstanding
//! index is L", to a box whose name depends on the date: number 0, 1, … of the current period of 14 days. The reader
//! looks for the next number of the current and of the previous period along with its other boxes.

use std::fmt;
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::Ack;
use super::chain::BoxSecret;
use super::fragment::Content;
use crate::crypto::kdf::Context;
use crate::mailbox::{Record, TtlBucket, WriteCap};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

const BOX: Context = Context::new("phantom-net 2026 announcement box v1");

/// Announcements of one period at most; each makes room for a window of boxes.
pub(super) const NUMBERS: u16 = 1_024;

const PERIOD_SECS: u64 = 14 * 86_400;

/// How long an announcement serves before a new one is made, if the reader is still not heard of.
const FRESH: Duration = Duration::from_secs(86_400);

/// What the announcements of a direction are named and sealed by. Not a one-way chain: it gives away indexes only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn secret(&self, period: u64, number: u16) -> BoxSecret {
        BoxSecret::from_bytes(BOX.derive_fields(&[&self.0, &period.to_be_bytes(), &number.to_be_bytes()]))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(secret)")
    }
}

/// The period of a date.
pub(super) const fn period(wall: WallTime) -> u64 {
    wall.as_unix_secs() / PERIOD_SECS
}

/// What an announcement says: fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    pub(super) period: u64,
    pub(super) number: u16,
    pub(super) low: u64,
    pub(super) ack: Ack,
    pub(super) made: WallTime,
    /// No longer of use; kept because its number is used.
    pub(super) spent: bool,
}

impl Announcement {
    /// The one that follows `last`; `None` when the period has no number left, or the clock stepped back before `last`.
    pub(super) fn after(last: Option<&Self>, low: u64, ack: Ack, made: WallTime) -> Option<Self> {
        let period = period(made);
        let number = match last {
            Some(last) if last.period > period => return None,
            Some(last) if last.period == period => last.number + 1,
            _ => 0,
        };
        (number < NUMBERS).then_some(Self {
            period,
            number,
            low,
            ack,
            made,
            spent: false,
        })
    }

    pub(super) fn is_fresh(&self, wall: WallTime) -> bool {
        !self.spent && wall < self.made + FRESH
    }

    pub(super) fn until(&self) -> WallTime {
        self.made + TtlBucket::LONGEST.ttl()
    }

    pub(super) fn seal(&self, cap: &WriteCap, key: &Key) -> Record {
        let content = Content {
            low: self.low,
            ack: self.ack,
            eliciting: false,
            piece: None,
        };
        let bucket = TtlBucket::LONGEST;
        content.seal(
            cap,
            &key.secret(self.period, self.number),
            bucket,
            bucket.bound(self.until()),
        )
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.period);
        out.put_u16(self.number);
        out.put_u64(self.low);
        self.ack.encode(out);
        out.put_u64(self.made.as_unix_nanos());
        out.put_u8(u8::from(self.spent));
    }

    pub(super) fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (period, number, low, ack) = (r.u64()?, r.u16()?, r.u64()?, Ack::decode(r)?);
        if number >= NUMBERS {
            return Err(DecodeError::BadValue {
                field: "announcement",
                got: u64::from(number),
            });
        }
        let made = WallTime::from_unix_nanos(r.u64()?);
        Ok(Self {
            period,
            number,
            low,
            ack,
            made,
            spent: super::fragment::flag(r)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u64) -> WallTime {
        WallTime::from_unix_secs(n * 86_400)
    }

    #[test]
    fn numbers_begin_anew_in_each_period_and_never_repeat_in_one() {
        let ack = Ack::default();
        let first = Announcement::after(None, 5, ack, day(14)).expect("first");
        let second = Announcement::after(Some(&first), 9, ack, day(27)).expect("second");
        let third = Announcement::after(Some(&second), 12, ack, day(28)).expect("third");
        let names = [&first, &second, &third].map(|a| (a.period, a.number));
        assert_eq!(names, [(1, 0), (1, 1), (2, 0)]);
        assert_eq!(
            Announcement::after(Some(&third), 20, ack, day(27)),
            None,
            "the clock stepped back"
        );
        let last = Announcement {
            number: NUMBERS - 1,
            ..third
        };
        assert_eq!(
            Announcement::after(Some(&last), 20, ack, day(29)),
            None,
            "none left"
        );
    }

    /// An announcement is in the reader's two periods for as long as its box can live.
    #[test]
    fn a_live_announcement_is_in_the_current_or_the_previous_period() {
        for made in 0..60 {
            let a = Announcement::after(None, 1, Ack::default(), day(made)).expect("one");
            for later in made..=made + 14 {
                assert!((period(day(later)).saturating_sub(1)..=period(day(later))).contains(&a.period));
            }
        }
    }
}
