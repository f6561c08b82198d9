//! What a sender has sent and not been told of: by sequence, and in the order of the last transmissions.
//!
//! Two queues stand for Linux's retransmission queue and its list sorted by time. Both are worked off at the front, so a
//! transfer without losses pays a constant for each segment.

use std::collections::VecDeque;

/// One segment that is not acknowledged cumulatively.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// First byte.
    pub(crate) seq: u64,
    /// When it was sent last, in microseconds.
    pub(crate) at_us: u64,
    /// Bytes.
    pub(crate) len: u16,
    /// Acknowledged selectively.
    pub(crate) sacked: bool,
    /// Taken for lost.
    pub(crate) lost: bool,
    /// A retransmission is under way.
    pub(crate) again: bool,
    /// It was retransmitted at least once.
    pub(crate) ever_again: bool,
    /// It ends the stream.
    pub(crate) fin: bool,
}

impl Sent {
    /// The byte after the last.
    pub(crate) fn end(&self) -> u64 {
        self.seq + u64::from(self.len) + u64::from(self.fin)
    }
}

/// A transmission: stale when its segment was sent again or reported on.
#[derive(Clone, Copy, Debug)]
struct Transmission {
    number: u64,
    at_us: u64,
}

/// Segments in flight, and how many of them are in which state.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    segments: VecDeque<Sent>,
    /// The number of the first.
    first: u64,
    order: VecDeque<Transmission>,
    /// No segment before this one is lost and waits to be sent again.
    lost_from: u64,
    pub(crate) sacked: u32,
    pub(crate) lost: u32,
    /// Transmissions taken for lost so far.
    pub(crate) lost_ever: u64,
    /// Retransmissions under way.
    pub(crate) again: u32,
}

impl Flight {
    pub(crate) const fn new() -> Self {
        Self {
            segments: VecDeque::new(),
            first: 0,
            order: VecDeque::new(),
            lost_from: 0,
            sacked: 0,
            lost: 0,
            lost_ever: 0,
            again: 0,
        }
    }

    /// Segments sent and not acknowledged cumulatively.
    pub(crate) fn out(&self) -> u32 {
        self.segments.len() as u32
    }

    /// What the sender believes to be in the network (RFC 6675's pipe).
    pub(crate) fn in_network(&self) -> u32 {
        self.out() + self.again - self.sacked - self.lost
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn first(&self) -> Option<&Sent> {
        self.segments.front()
    }

    /// The number after the last.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.segments.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Sent> {
        self.segments
            .get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// The numbers of all.
    pub(crate) fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.next()
    }

    /// The numbers of the segments that begin in these bytes.
    pub(crate) fn between(&self, start: u64, end: u64) -> std::ops::Range<u64> {
        let at = |seq| self.first + self.segments.partition_point(|sent| sent.seq < seq) as u64;
        at(start)..at(end)
    }

    pub(crate) fn push(&mut self, sent: Sent) {
        let number = self.next();
        self.order.push_back(Transmission {
            number,
            at_us: sent.at_us,
        });
        self.segments.push_back(sent);
    }

    /// Takes off the first segment if all of it is acknowledged.
    pub(crate) fn pop_acknowledged(&mut self, una: u64) -> Option<Sent> {
        if self.segments.front()?.end() > una {
            return None;
        }
        let sent = self.segments.pop_front()?;
        self.first += 1;
        self.again -= u32::from(sent.again);
        self.sacked -= u32::from(sent.sacked);
        self.lost -= u32::from(sent.lost);
        self.forget_stale();
        Some(sent)
    }

    /// Sends one again.
    pub(crate) fn send_again(&mut self, number: u64, at_us: u64) -> Option<Sent> {
        let sent = self.get_mut(number)?;
        let before = sent.again;
        (sent.again, sent.ever_again, sent.at_us) = (true, true, at_us);
        let copy = *sent;
        self.again += u32::from(!before);
        self.order.push_back(Transmission { number, at_us });
        Some(copy)
    }

    /// Notes a selective acknowledgement; returns how the segment stood before, unless it was noted already.
    pub(crate) fn sack(&mut self, number: u64) -> Option<Sent> {
        let sent = self.get_mut(number)?;
        if sent.sacked {
            return None;
        }
        let before = *sent;
        (sent.sacked, sent.lost, sent.again) = (true, false, false);
        self.sacked += 1;
        self.lost -= u32::from(before.lost);
        self.again -= u32::from(before.again);
        self.forget_stale();
        Some(before)
    }

    /// Takes one for lost, and a retransmission of it as well.
    pub(crate) fn lose(&mut self, number: u64) {
        let Some(sent) = self.get_mut(number) else { return };
        if sent.sacked {
            return;
        }
        let before = *sent;
        (sent.lost, sent.again) = (true, false);
        if before.lost && !before.again {
            return;
        }
        self.lost += u32::from(!before.lost);
        self.again -= u32::from(before.again);
        self.lost_ever += 1;
        self.lost_from = self.lost_from.min(number);
    }

    /// The first that is lost and was not sent again since.
    pub(crate) fn first_lost(&mut self) -> Option<u64> {
        if self.again >= self.lost {
            return None;
        }
        let from = self.lost_from.max(self.first);
        let waits = |number: &u64| self.get(*number).is_some_and(|sent| sent.lost && !sent.again);
        let found = (from..self.next()).find(waits);
        self.lost_from = found.unwrap_or(self.next());
        found
    }

    /// Nothing was lost after all.
    pub(crate) fn find_all(&mut self) {
        for sent in &mut self.segments {
            sent.lost = false;
        }
        self.lost = 0;
    }

    /// Shows the transmissions under way, the oldest first, until `show` says that it saw enough.
    pub(crate) fn under_way(&mut self, mut show: impl FnMut(u64, &Sent) -> bool) {
        self.forget_stale();
        for transmission in &self.order {
            if let Some(sent) = self.current(transmission)
                && !show(transmission.number, sent)
            {
                return;
            }
        }
    }

    /// The segment of a transmission that is its last and under way.
    fn current(&self, transmission: &Transmission) -> Option<&Sent> {
        self.get(transmission.number)
            .filter(|sent| sent.at_us == transmission.at_us && !sent.sacked && (!sent.lost || sent.again))
    }

    fn forget_stale(&mut self) {
        while let Some(front) = self.order.front()
            && self.current(front).is_none()
        {
            self.order.pop_front();
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Sent> {
        self.segments
            .get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}
