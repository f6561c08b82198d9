//! The receiving half: reassembly as intervals, and when to acknowledge.
//!
//! Linux acknowledges the first segments of a stream at once, then every second one or after a delay that adapts to the
//! rhythm of arrivals; out of order it answers at once three times and then at most once in a millisecond (RFC 5681 §4.2,
//! RFC 1122 §4.2.3.2, and "SACK compression" in Linux 4.18).

use super::rtt::Rtt;
use super::segment::{Ack, Block, MSS, SACKS_MAX, Segment};
use super::sender::stamp_ms;
use super::time::{HZ, fires_at_ns, jiffies};
use super::window::Window;

/// Segments acknowledged at once at the start of a stream and after a pause.
const QUICK_MAX: u8 = 16;
/// 40 ms, the shortest delay of an acknowledgement.
const DELAY_MIN: u64 = HZ / 25;
/// 500 ms, the longest while no round trip is known; with data in both directions 200 ms.
const DELAY_MAX: u64 = HZ / 2;
const DELAY_PUSHED_MAX: u64 = HZ / 5;
/// Acknowledgements of data out of order that are not held back.
const UNCOMPRESSED: u8 = 3;
const COMPRESSED_MAX: u8 = 44;
const COMPRESSION_NS_MAX: u64 = 1_000_000;
/// Intervals remembered for reports.
const REPORTED_MAX: usize = 4;
/// Intervals that are expected of a path without trouble (`TCP_SACK_BLOCKS_EXPECTED`).
const REPORTED_EXPECTED: usize = 2;
/// Smaller segments do not let the window grow.
const GROWS_FROM: u16 = 128;

/// How a receiver behaves.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverConfig {
    /// Bytes that may wait for the program, at the start. Linux: `tcp_rmem[1]` of 128 KiB, of which headers and slack take
    /// two fifths.
    pub buffer_start: u32,
    /// The same at most, however fast the program reads. Linux: as much of `tcp_rmem[2]`.
    pub buffer_max: u32,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        Self {
            buffer_start: 79 << 10,
            buffer_max: 16 << 20,
        }
    }
}

/// The state of one direction at its receiving end.
#[derive(Clone, Debug)]
pub struct Receiver {
    next: u64,
    /// Read by the program.
    read: u64,
    /// When the delayed acknowledgement is due; the largest number: none waits.
    delayed_until_ns: u64,
    window: Window,
    disorder: Option<Box<Disorder>>,
    /// Bytes from `next` on that may be sent. Windows have 32 bits, so it cannot be more.
    announced: u32,
    echo_ms: u32,
    /// When a segment arrived in order last, or else the stream was established, in jiffies; wraps.
    arrived_at: u32,
    /// The round trip that the handshake took, in microseconds; 0: unknown.
    rtt_us: u32,
    /// Jiffies of the present delay, up to [`Rtt::timeout_jiffies`]; 0: nothing has arrived yet.
    delay: u16,
    /// Bytes before `next` that the last acknowledgement did not cover. More than a segment's are acknowledged at once: this is
    /// at most [`MSS`] between calls, and stops at its largest number within one.
    unacknowledged: u16,
    owes: bool,
    pushed: bool,
    /// All of the stream has arrived; `next` is behind the place of its end.
    ended: bool,
    quick: u8,
}

const _: () = assert!(size_of::<Receiver>() <= 88);

/// What arrived before what precedes it.
#[derive(Clone, Debug, Default)]
struct Disorder {
    /// Sorted and apart.
    blocks: Vec<Block>,
    /// The last that changed first.
    reported: Vec<Block>,
    /// Where the stream ends, with the place of its end, if that has arrived.
    end: Option<u64>,
    uncompressed: u8,
    compressed: u8,
    compressed_until_ns: Option<u64>,
    compressed_next: u64,
}

impl Receiver {
    /// Expects the first byte of a stream that is established now; the handshake took this round trip.
    pub fn new(config: ReceiverConfig, now_ns: u64, rtt_us: u32) -> Self {
        let window = Window::new(config, rtt_us);
        let announced = window.threshold();
        Self {
            next: 0,
            read: 0,
            delayed_until_ns: u64::MAX,
            window,
            disorder: None,
            announced,
            echo_ms: 0,
            arrived_at: jiffies(now_ns) as u32,
            rtt_us,
            delay: 0,
            unacknowledged: 0,
            owes: false,
            pushed: false,
            ended: false,
            quick: 0,
        }
    }

    /// The first byte that has not arrived.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Bytes up to here may be sent.
    pub fn window_end(&self) -> u64 {
        self.next + u64::from(self.announced)
    }

    /// The first byte that the program has not read.
    pub fn first_unread(&self) -> u64 {
        self.read
    }

    /// The time stamp that an acknowledgement would echo now; 0: nothing has arrived.
    pub fn echo_ms(&self) -> u32 {
        self.echo_ms
    }

    /// Bytes in order that nobody has read.
    pub fn unread(&self) -> u64 {
        self.next - u64::from(self.ended) - self.read
    }

    /// All of the stream has arrived.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// When [`Receiver::timer`] wants to be called, in nanoseconds.
    pub fn timer_ns(&self) -> Option<u64> {
        let compressed = self
            .disorder
            .as_ref()
            .and_then(|disorder| disorder.compressed_until_ns);
        let first = self.delayed_until_ns.min(compressed.unwrap_or(u64::MAX));
        (first != u64::MAX).then_some(first)
    }

    /// A segment arrived; what is to be sent at once.
    pub fn segment(&mut self, now_ns: u64, segment: &Segment) -> Option<Ack> {
        if segment.seq <= self.next - u64::from(self.unacknowledged) {
            self.echo_ms = self.echo_ms.max(segment.stamp_ms);
        }
        let all_read = self.unread() == 0;
        self.window.measure(now_ns, segment, all_read);
        let block = Block {
            start: segment.seq,
            end: segment.end(),
        };
        let in_window = block.start < self.next + u64::from(self.announced.max(1));
        if block.end <= self.next || !in_window {
            // A retransmission that was not needed, or a probe of the window.
            self.quick = QUICK_MAX;
            self.owes = true;
            return Some(self.acknowledge_with(now_ns, (block.end <= self.next).then_some(block)));
        }
        let mut at_once = false;
        if block.start <= self.next {
            at_once = self.in_order(now_ns, segment, block.end);
        } else {
            self.owes = true;
            // What is held back is sent before this block pushes one out of the report, and nothing is owed then
            // (`tcp_sack_new_ofo_skb`, `tcp_ack_snd_check`).
            let disorder = self.disorder.as_mut();
            let forestalls = disorder.is_some_and(|disorder| disorder.is_forestalled_by(block));
            let forestalled = forestalls.then(|| self.acknowledge(now_ns));
            let disorder = self.disorder.get_or_insert_default();
            disorder.insert(block);
            let held = disorder.blocks.iter().map(|block| block.end - block.start).sum();
            if segment.fin {
                disorder.end = Some(block.end);
            }
            self.grow(segment.len, held);
            if forestalled.is_some() {
                return forestalled;
            }
        }
        self.decide(now_ns, at_once)
    }

    /// `true`: it is to be acknowledged at once.
    fn in_order(&mut self, now_ns: u64, segment: &Segment, end: u64) -> bool {
        self.arrival(now_ns);
        self.pushed |= segment.push;
        self.ended |= segment.fin;
        self.grow(segment.len, 0);
        let Some(disorder) = &mut self.disorder else {
            self.advance(end);
            return segment.fin;
        };
        let next = disorder.fill(end);
        self.ended |= disorder.end == Some(next);
        // RFC 5681 §4.2: at once when a gap is filled.
        let filled = disorder.blocks.is_empty();
        if filled {
            self.disorder = None;
        }
        self.advance(next);
        filled || segment.fin
    }

    /// As long as the window grows, segments are acknowledged at once however many they were (`tcp_grow_window`): the sender's window
    /// is to grow too.
    fn grow(&mut self, len: u16, held: u64) {
        if len >= GROWS_FROM && self.window.grow(held) {
            self.quick |= 1;
        }
    }

    fn advance(&mut self, next: u64) {
        let bytes = next - self.next;
        self.next = next;
        self.announced = self
            .announced
            .saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.unacknowledged = self.unacknowledged.saturating_add(bytes);
    }

    /// Learns the rhythm of arrivals.
    fn arrival(&mut self, now_ns: u64) {
        let now = jiffies(now_ns) as u32;
        self.owes = true;
        if self.delay == 0 {
            self.quick = QUICK_MAX;
            self.delay = DELAY_MIN as u16;
        } else {
            let pause = u16::try_from(now.wrapping_sub(self.arrived_at)).unwrap_or(u16::MAX);
            if pause <= DELAY_MIN as u16 / 2 {
                self.delay = self.delay / 2 + DELAY_MIN as u16 / 2;
            } else if pause < self.delay {
                self.delay = (self.delay / 2 + pause).min(self.pause_max());
            } else if pause > self.pause_max() {
                // The sender starts again after a time-out.
                self.quick = QUICK_MAX;
            }
        }
        self.arrived_at = now;
    }

    /// The retransmission time-out of this end, in jiffies.
    fn pause_max(&self) -> u16 {
        let mut rtt = Rtt::default();
        if self.rtt_us > 0 {
            rtt.sample(self.rtt_us, 0, 0);
        }
        rtt.timeout_jiffies()
    }

    /// The program has read so many bytes. What is to be sent at once.
    pub fn read(&mut self, now_ns: u64, bytes: u64) -> Option<Ack> {
        let bytes = bytes.min(self.unread());
        self.read += bytes;
        self.window.read(now_ns, bytes);
        let drained = bytes > 0 && self.unread() == 0;
        let overdue = self.unacknowledged > MSS;
        if (self.owes && (overdue || self.pushed && drained)) || self.owes_window() {
            return Some(self.acknowledge(now_ns));
        }
        None
    }

    /// A reader that made room tells of it when the window at least doubles.
    fn owes_window(&self) -> bool {
        let twice = 2 * u64::from(self.announced);
        let room = u64::from(self.window.room(self.next - self.read));
        twice <= self.window.threshold().into() && room >= twice && room >= MSS.into()
    }

    fn decide(&mut self, now_ns: u64, at_once: bool) -> Option<Ack> {
        if self.unacknowledged > MSS || self.quick > 0 || at_once {
            return Some(self.acknowledge(now_ns));
        }
        let rtt_us = self.rtt_us;
        if let Some(disorder) = &mut self.disorder {
            if disorder.answers_at_once(now_ns, self.next, rtt_us) {
                return Some(self.acknowledge(now_ns));
            }
            return None;
        }
        self.delay(now_ns)
    }

    /// Sets the timer of a delayed acknowledgement.
    fn delay(&mut self, now_ns: u64) -> Option<Ack> {
        let mut wait = u64::from(self.delay);
        if wait > DELAY_MIN {
            let mut max = if self.pushed { DELAY_PUSHED_MAX } else { DELAY_MAX };
            if self.rtt_us > 0 {
                max = max.min((u64::from(self.rtt_us) * HZ / 1_000_000).max(DELAY_MIN));
            }
            wait = wait.min(max);
        }
        wait = wait.min(DELAY_PUSHED_MAX);
        if jiffies(self.delayed_until_ns) <= jiffies(now_ns) + wait / 4 {
            return Some(self.acknowledge(now_ns));
        }
        self.delayed_until_ns = self.delayed_until_ns.min(fires_at_ns(now_ns, wait));
        None
    }

    /// A timer is due; what is to be sent.
    pub fn timer(&mut self, now_ns: u64) -> Option<Ack> {
        if let Some(disorder) = &mut self.disorder
            && disorder.compressed_until_ns.is_some_and(|until| until <= now_ns)
        {
            return Some(self.acknowledge(now_ns));
        }
        if self.delayed_until_ns > now_ns {
            return None;
        }
        self.delayed_until_ns = u64::MAX;
        if !self.owes {
            return None;
        }
        // The second segment did not come in time: wait longer for the next.
        self.delay = self.delay.saturating_mul(2).min(self.pause_max());
        Some(self.acknowledge(now_ns))
    }

    /// The acknowledgement of all that arrived.
    pub fn acknowledge(&mut self, now_ns: u64) -> Ack {
        self.acknowledge_with(now_ns, None)
    }

    /// The same, with the report of a duplicate.
    fn acknowledge_with(&mut self, now_ns: u64, duplicate: Option<Block>) -> Ack {
        if self.owes && self.quick > 0 {
            self.quick -= 1;
            if self.quick == 0 {
                self.delay = DELAY_MIN as u16;
            }
        }
        (self.owes, self.pushed) = (false, false);
        self.delayed_until_ns = u64::MAX;
        self.unacknowledged = 0;
        self.announced = self.announced.max(self.window.room(self.next - self.read));
        let mut ack = Ack {
            next: self.next,
            window_end: self.window_end(),
            stamp_ms: stamp_ms(now_ns),
            echo_ms: self.echo_ms,
            ..Ack::default()
        };
        let reported = self
            .disorder
            .as_ref()
            .map_or(&[][..], |disorder| &disorder.reported);
        let blocks = duplicate.into_iter().chain(reported.iter().copied());
        for (place, block) in ack.sacks.iter_mut().zip(blocks.take(SACKS_MAX)) {
            *place = block;
            ack.sack_count += 1;
        }
        if let Some(disorder) = &mut self.disorder {
            disorder.compressed = 0;
            disorder.compressed_until_ns = None;
        }
        ack
    }
}

impl Disorder {
    fn insert(&mut self, new: Block) {
        let first = self.blocks.partition_point(|block| block.end < new.start);
        let after = self.blocks.partition_point(|block| block.start <= new.end);
        let mut merged = new;
        for block in &self.blocks[first..after] {
            merged.start = merged.start.min(block.start);
            merged.end = merged.end.max(block.end);
        }
        self.blocks.splice(first..after, [merged]);
        self.reported
            .retain(|block| block.end < merged.start || block.start > merged.end);
        self.reported.insert(0, merged);
        self.reported.truncate(REPORTED_MAX);
    }

    /// Whether an acknowledgement is held back and `new` is a third block or beyond: then it goes out without a new block, and
    /// with one that only became longer in its old place.
    fn is_forestalled_by(&mut self, new: Block) -> bool {
        let touches = |block: &Block| new.start <= block.end && block.start <= new.end;
        let place = self.reported.iter().position(touches);
        if self.compressed == 0 || place.unwrap_or(self.reported.len()) < REPORTED_EXPECTED {
            return false;
        }
        if let Some(block) = place.and_then(|place| self.reported.get_mut(place)) {
            (block.start, block.end) = (block.start.min(new.start), block.end.max(new.end));
        }
        true
    }

    /// The first byte that is missing now that all before `next` has arrived.
    fn fill(&mut self, next: u64) -> u64 {
        let mut next = next;
        let filled = self.blocks.iter().take_while(|block| {
            let reached = block.start <= next;
            if reached {
                next = next.max(block.end);
            }
            reached
        });
        let filled = filled.count();
        self.blocks.drain(..filled);
        self.reported.retain(|block| block.start > next);
        next
    }

    /// Whether an acknowledgement may not wait.
    fn answers_at_once(&mut self, now_ns: u64, next: u64, rtt_us: u32) -> bool {
        if self.compressed >= COMPRESSED_MAX {
            return true;
        }
        if self.compressed_next != next {
            self.compressed_next = next;
            self.uncompressed = 0;
        }
        if self.uncompressed < UNCOMPRESSED {
            self.uncompressed += 1;
            return true;
        }
        self.compressed += 1;
        if self.compressed_until_ns.is_none() {
            let wait = u64::from(rtt_us) * 1_000 / 20;
            self.compressed_until_ns = Some(now_ns + wait.min(COMPRESSION_NS_MAX));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(seq: u64, len: u16, fin: bool) -> Segment {
        Segment {
            seq,
            len,
            fin,
            push: false,
            again: false,
            stamp_ms: 1,
            echo_ms: 0,
        }
    }

    #[test]
    fn a_stream_has_ended_when_all_before_its_end_has_arrived() {
        let all = [
            segment(0, 1_000, false),
            segment(1_000, 500, false),
            segment(1_500, 0, true),
        ];
        for order in [[0, 1, 2], [0, 2, 1], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut receiver = Receiver::new(ReceiverConfig::default(), 0, 20_000);
            for number in order {
                assert!(!receiver.ended());
                receiver.segment(0, &all[number]);
            }
            assert!(receiver.ended(), "{order:?}");
            assert_eq!((receiver.unread(), receiver.next()), (1_500, 1_501));
            for segment in &all {
                let ack = receiver
                    .segment(1, segment)
                    .expect("a duplicate is reported at once");
                let (start, end) = (segment.seq, segment.end());
                assert_eq!((ack.next, ack.sacks()), (1_501, &[Block { start, end }][..]));
            }
            receiver.read(2, u64::MAX);
            assert_eq!((receiver.unread(), receiver.first_unread()), (0, 1_500));
        }
    }

    /// Segments by their numbers in the stream, each 100 us after the one before; what is answered to each.
    fn answers(receiver: &mut Receiver, numbers: &[u64]) -> Vec<Option<Vec<Block>>> {
        let arrive = |(n, number): (usize, &u64)| {
            let arrived = segment(number * u64::from(MSS), MSS, false);
            let ack = receiver.segment(1_000_000 + n as u64 * 100_000, &arrived)?;
            Some(ack.sacks().to_vec())
        };
        numbers.iter().enumerate().map(arrive).collect()
    }

    fn blocks(numbers: &[(u64, u64)]) -> Option<Vec<Block>> {
        let mss = u64::from(MSS);
        let block = |&(start, end): &(u64, u64)| Block {
            start: start * mss,
            end: end * mss,
        };
        Some(numbers.iter().map(block).collect())
    }

    /// A receiver that acknowledges no longer each segment because it is new, or because its window grows.
    fn settled() -> Receiver {
        let config = ReceiverConfig {
            buffer_start: super::super::window::START,
            ..ReceiverConfig::default()
        };
        let mut receiver = Receiver::new(config, 0, 200_000);
        for n in 0..64 {
            receiver.segment(n, &segment(n * u64::from(MSS), MSS, false));
            receiver.read(n, u64::MAX);
        }
        receiver
    }

    #[test]
    fn a_third_block_has_what_was_held_back_sent_without_it() {
        let mut receiver = settled();
        receiver.acknowledge(0);
        // Three are answered at once, then one is held back.
        let seen = answers(&mut receiver, &[80, 70, 71, 72]);
        assert_eq!(seen[2..], [blocks(&[(70, 72), (80, 81)]), None]);
        // The third: what goes out does not tell of it, and the next is held back again.
        let seen = answers(&mut receiver, &[66, 67]);
        assert_eq!(seen, [blocks(&[(70, 73), (80, 81)]), None]);
        // One that makes the third of the report longer is told of, in that place.
        let seen = answers(&mut receiver, &[81, 82]);
        assert_eq!(seen, [blocks(&[(66, 68), (70, 73), (80, 82)]), None]);
    }

    /// How many of the segments 14 to 29 are acknowledged by themselves, on a stream that was established at 1 s, if the first to
    /// arrive 0.1 s later is this one.
    fn acknowledged_alone(first: u64) -> usize {
        let mut receiver = Receiver::new(ReceiverConfig::default(), 1_000_000_000, 200_000);
        let mut alone = 0;
        let numbers = std::iter::once(first).chain((0..30).filter(|number| *number != first));
        for (n, number) in numbers.enumerate() {
            let now_ns = 1_100_000_000 + n as u64 * 1_200_000;
            let answered = receiver.segment(now_ns, &segment(number * u64::from(MSS), MSS, false));
            receiver.read(now_ns, u64::MAX);
            alone += usize::from(number >= 14 && answered.is_some());
        }
        alone
    }

    /// The delay of acknowledgements is known by then, so that nobody takes the start for one (`tcp_event_data_recv`).
    #[test]
    fn a_stream_that_begins_out_of_order_is_not_acknowledged_segment_by_segment() {
        assert_eq!(
            (acknowledged_alone(0), acknowledged_alone(3)),
            (12, 8),
            "of sixteen"
        );
    }

    #[test]
    fn two_blocks_are_held_back_until_time_is_up() {
        let mut receiver = settled();
        receiver.acknowledge(0);
        let seen = answers(&mut receiver, &[65, 67, 68, 69, 66, 70]);
        assert_eq!(seen[3..], [None, None, None]);
    }

    /// The round trip over which the window is counted, in microseconds, after these echoes at these milliseconds.
    fn measured(handshake_us: u32, seen: &[(u64, u32)], read: bool) -> u32 {
        let mut receiver = Receiver::new(ReceiverConfig::default(), 0, handshake_us);
        for (n, &(at_ms, echo_ms)) in seen.iter().enumerate() {
            let mut arrived = segment(n as u64 * u64::from(MSS), MSS, false);
            arrived.echo_ms = echo_ms;
            receiver.segment(at_ms * 1_000_000, &arrived);
            if read {
                receiver.read(at_ms * 1_000_000, u64::MAX);
            }
        }
        receiver.window.rtt_us()
    }

    #[test]
    fn a_shorter_round_trip_holds_at_once_and_a_longer_one_by_an_eighth_while_nothing_is_unread() {
        // A clock shows 1 at the start, so that an echo of 1 at 50 ms took 50.
        assert_eq!(measured(80_000, &[(50, 1)], true), 50_000);
        assert_eq!(measured(40_000, &[(120, 1)], true), 50_000);
        assert_eq!(
            measured(40_000, &[(120, 1), (130, 1)], true),
            50_000,
            "the same echo tells nothing"
        );
        assert_eq!(measured(0, &[(120, 1)], true), 120_000, "nothing was known");
        let lags = [(40, 1), (120, 2)];
        assert_eq!(
            (measured(40_000, &lags, false), measured(40_000, &lags, true)),
            (40_000, 49_875)
        );
    }

    /// Without a reader the window closes; a sender that does not care takes nothing back that was announced.
    #[test]
    fn what_was_announced_is_not_taken_back() {
        let mut receiver = Receiver::new(ReceiverConfig::default(), 0, 20_000);
        let mut before = receiver.window_end();
        for n in 0..200 {
            if let Some(ack) = receiver.segment(n, &segment(n * u64::from(MSS), MSS, false)) {
                assert!(ack.window_end >= before && ack.window_end >= ack.next);
                before = ack.window_end;
            }
        }
        assert_eq!(receiver.window_end(), receiver.next(), "it is closed");
        let ack = receiver.read(1_000, u64::MAX).expect("it opens");
        assert!(ack.window_end > before);
    }
}
