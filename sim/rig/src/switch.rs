//! What happens to packets between the hosts of a [`crate::Switch`].

/// Decides the way of every packet. Times are nanoseconds since the switch was made.
pub trait Course: Send + 'static {
    /// `host` sent a packet: an IP packet whole, at most 1,500 bytes.
    fn sent(&mut self, now_ns: u64, host: usize, packet: Vec<u8>, out: &mut Out<'_>);

    /// The time has come for which a packet was put off; `stage` is what was said then. `due_ns` is that time, by which the rest
    /// of the way is to be counted: the thread may be late.
    fn due(&mut self, due_ns: u64, stage: usize, packet: Vec<u8>, out: &mut Out<'_>);
}

/// Takes what a [`Course`] has decided.
pub struct Out<'a> {
    pub(crate) waiting: &'a mut Waiting,
}

/// What a course has decided about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// To be asked again then, at a stage.
    Later(u64, usize, Vec<u8>),
    /// Handed to a host then.
    Delivered(u64, usize, Vec<u8>),
}

/// What `course` decides, in the order of time; without a switch, for tests of courses.
pub fn decided(course: impl FnOnce(&mut Out<'_>)) -> Vec<Decided> {
    let mut waiting = Waiting::default();
    course(&mut Out {
        waiting: &mut waiting,
    });
    let packets = std::iter::from_fn(|| waiting.pop_due(u64::MAX));
    packets
        .map(|packet| match packet.then {
            Then::Ask(stage) => Decided::Later(packet.due_ns, stage, packet.bytes),
            Then::Deliver(host) => Decided::Delivered(packet.due_ns, host, packet.bytes),
        })
        .collect()
}

impl Out<'_> {
    /// Asks again at a time.
    pub fn later(&mut self, at_ns: u64, stage: usize, packet: Vec<u8>) {
        self.waiting.push(at_ns, Then::Ask(stage), packet);
    }

    /// Hands it to `host` at a time.
    pub fn deliver(&mut self, at_ns: u64, host: usize, packet: Vec<u8>) {
        self.waiting.push(at_ns, Then::Deliver(host), packet);
    }
}

/// Packets under way, in the order in which they are due, and among those of one time in that in which they came.
#[derive(Default)]
pub(crate) struct Waiting {
    heap: std::collections::BinaryHeap<std::cmp::Reverse<Packet>>,
    count: u64,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    pub(crate) due_ns: u64,
    order: u64,
    pub(crate) then: Then,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Then {
    Ask(usize),
    Deliver(usize),
}

impl Waiting {
    fn push(&mut self, due_ns: u64, then: Then, bytes: Vec<u8>) {
        self.count += 1;
        let order = self.count;
        self.heap.push(std::cmp::Reverse(Packet {
            due_ns,
            order,
            then,
            bytes,
        }));
    }

    /// The next that is due by now.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Packet> {
        if self.next_ns() > now_ns {
            return None;
        }
        self.heap.pop().map(|std::cmp::Reverse(packet)| packet)
    }

    pub(crate) fn next_ns(&self) -> u64 {
        self.heap
            .peek()
            .map_or(u64::MAX, |std::cmp::Reverse(packet)| packet.due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_when_they_are_due_and_in_the_order_in_which_they_came() {
        let mut waiting = Waiting::default();
        let mut out = Out {
            waiting: &mut waiting,
        };
        out.deliver(20, 1, vec![1]);
        out.later(10, 7, vec![2]);
        out.deliver(20, 0, vec![3]);
        let mut due = |now| waiting.pop_due(now).map(|packet| packet.bytes[0]);
        assert_eq!([due(9), due(10), due(19)], [None, Some(2), None]);
        assert_eq!([due(20), due(20), due(u64::MAX)], [Some(1), Some(3), None]);
    }
}
