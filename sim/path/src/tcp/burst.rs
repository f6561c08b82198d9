//! Segments leave in bursts, and a burst may wait for the next acknowledgement.
//!
//! Linux hands its device several segments at once (TCP segmentation offload; in software where the device has none). Where the
//! window has room for fewer than that, and an acknowledgement that makes more is due, it waits for it (`tcp_tso_autosize`,
//! `tcp_tso_should_defer`).

use super::segment::MSS;
use super::sender::{Sender, State};

/// A burst carries what the pacing rate sends in 2^-10 s, and at most so many bytes.
const BYTES_MAX: u64 = 65_536;
/// At least so many segments.
const SEGMENTS_MIN: u32 = 2;
/// Whoever sent nothing for longer does not wait, and nobody waits for what is due later.
const WAIT_NS_MAX: u64 = 1_000_000;
/// A near peer gets larger bursts: by [`BYTES_MAX`], halved for each 2^9 us of the shortest round trip.
const NEAR_BITS: u32 = 9;
/// Room for so large a part of the window is used at once.
const WINDOW_PART: u64 = 3;

/// What becomes of the next burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burst {
    /// It goes, and is of so many segments.
    Goes(u32),
    /// It waits for an acknowledgement.
    Waits {
        /// For one that makes room in the congestion window.
        window: bool,
    },
}

impl Sender {
    /// Decides about the next burst, for which the congestion window has room.
    pub(crate) fn burst(&self, now_ns: u64) -> Burst {
        let room = self.window.saturating_sub(self.busy.flight.in_network());
        let segments = self.burst_max();
        if self.defers(now_ns, room, segments) {
            let announced = self.window_end.saturating_sub(self.next);
            let window = u64::from(room) * u64::from(MSS) < announced;
            return Burst::Waits { window };
        }
        Burst::Goes(segments.min(room).min((self.window / 2).max(1)))
    }

    /// Segments of a burst at most.
    fn burst_max(&self) -> u32 {
        let smoothed_us = u64::from(self.rtt.smoothed_us());
        if smoothed_us == 0 {
            return (BYTES_MAX / u64::from(MSS)) as u32;
        }
        let percent = if self.window < self.threshold / 2 {
            200
        } else {
            120
        };
        let window = u64::from(self.window.max(self.busy.flight.out())) * u64::from(MSS);
        let per_second = window * percent * 10_000 / smoothed_us;
        let near = BYTES_MAX.checked_shr(self.rtt.min_us() >> NEAR_BITS).unwrap_or(0);
        let bytes = ((per_second >> 10) + near).min(BYTES_MAX);
        ((bytes / u64::from(MSS)) as u32).max(SEGMENTS_MIN)
    }

    fn defers(&self, now_ns: u64, room: u32, segments: u32) -> bool {
        let left = self.written - self.next.min(self.written);
        if self.state >= State::Recovery
            || left <= MSS.into()
            || now_ns.saturating_sub(self.sent_at_ns) > WAIT_NS_MAX
        {
            return false;
        }
        let bytes = |segments: u32| u64::from(segments) * u64::from(MSS);
        let limit = bytes(room).min(self.window_end.saturating_sub(self.next));
        let window = bytes(self.window).min(self.window_end.saturating_sub(self.una));
        if limit >= bytes(segments) || limit >= left || limit >= window / WINDOW_PART {
            return false;
        }
        let Some(first) = self.busy.flight.first() else {
            return false;
        };
        let smoothed_us = u64::from(self.rtt.smoothed_us());
        let due_ns = (first.at_us + smoothed_us) * 1_000;
        due_ns.saturating_sub(now_ns) <= WAIT_NS_MAX.min(smoothed_us * 1_000 / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ack, Receiver, Segment, SenderConfig};
    use super::*;

    /// A sender with a window of `window_start` segments, all of them sent at 0 over a round trip of 20 ms, the first one
    /// acknowledged at `at_us`: how many it sends then, and one acknowledgement of one more 300 us later.
    fn answers(window_start: u32, at_us: u64) -> [usize; 2] {
        let config = SenderConfig {
            window_start,
            ..SenderConfig::default()
        };
        let room = Receiver::new(Default::default(), 0, 0).window_end();
        let mut sender = Sender::new(config, 0, 20_000, room);
        sender.threshold = window_start;
        sender.write(0, 1_000_000, &mut |_| {});
        [(1, at_us), (2, at_us + 300)].map(|(segments, at_us)| {
            let ack = Ack {
                next: segments * u64::from(MSS),
                window_end: room + segments * u64::from(MSS),
                ..Ack::default()
            };
            let mut out: Vec<Segment> = Vec::new();
            sender.ack(at_us * 1_000, &ack, &mut |segment| out.push(segment));
            out.len()
        })
    }

    #[test]
    fn with_room_for_one_segment_it_waits_for_an_acknowledgement_that_is_due_and_then_two_leave() {
        assert_eq!(
            answers(10, 20_000),
            [1, 0],
            "nothing was sent for 20 ms, then a moment ago"
        );
    }

    #[test]
    fn with_room_for_a_third_of_the_window_it_does_not_wait() {
        assert_eq!(answers(3, 20_000), [1, 1]);
    }
}
