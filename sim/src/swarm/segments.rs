//! A TCP-like stream as data: two ends, and a direction each way with what is in flight, lost, and unread.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Waker;

use bytes::Bytes;
use phantom_path::tcp::stamp_ms;

use super::leak::Tail;
use super::queue::Queue;
use super::slab::Key;
use super::tcp::Lanes;
use super::watch::Watched;

/// Address and port. A `SocketAddr` takes half as much again, and every link has two streams.
pub(crate) type Endpoint = (IpAddr, u16);

const NOWHERE: Endpoint = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub(crate) const fn endpoint(address: SocketAddr) -> Endpoint {
    (address.ip(), address.port())
}

/// Bytes of a stream that travel together.
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) payload: Bytes,
    /// Nothing follows.
    pub(crate) fin: bool,
    pub(crate) watched: Watched,
}

/// One end of a stream.
pub(crate) struct End {
    pub(crate) host: u32,
    pub(crate) incarnation: u32,
    /// Somebody holds it, or it waits to be accepted.
    pub(crate) open: bool,
    pub(crate) error: Option<io::ErrorKind>,
    /// As everybody else sees it. The dialled end sees itself so as well.
    pub(crate) address: Endpoint,
}

impl Default for End {
    fn default() -> Self {
        Self {
            host: 0,
            incarnation: 0,
            open: false,
            error: None,
            address: NOWHERE,
        }
    }
}

/// One direction of a stream.
#[derive(Default)]
pub(crate) struct Half {
    /// Bytes accepted from the writer.
    pub(crate) sent: u64,
    /// Bytes that the writer knows to have been read.
    pub(crate) acked: u64,
    /// When it learns of more: (time, bytes read by then).
    pub(crate) credits: Queue<(u64, u64)>,
    /// The writer has ended.
    pub(crate) fin: bool,
    pub(crate) flight: Queue<Segment>,
    /// Leading segments of `flight` that are on the receiver's access link.
    pub(crate) landing: u16,
    /// Retransmissions in a row without a delivery.
    pub(crate) tries: u8,
    /// A retransmission is scheduled.
    pub(crate) armed: bool,
    pub(crate) arrival_last: u64,
    pub(crate) tail: Tail,
    pub(crate) writer: Option<Waker>,
    /// A wake of the writer is scheduled.
    pub(crate) credit_due: bool,
    /// The offset that the receiver waits for.
    pub(crate) next: u64,
    pub(crate) unread: Queue<Bytes>,
    pub(crate) read: u64,
    /// The receiver has everything, the end included.
    pub(crate) ended: bool,
    pub(crate) reader: Option<Waker>,
    /// What loss leaves behind; mostly nothing.
    astray: Option<Box<Astray>>,
}

/// Segments of one direction that are neither in flight nor delivered.
#[derive(Default)]
struct Astray {
    /// Lost, or waiting behind what was lost, by offset.
    lost: VecDeque<Segment>,
    /// Came before what is in front of them.
    early: BTreeMap<u64, Segment>,
}

/// More credits than this are merged into the last.
const CREDITS_MAX: usize = 32;

impl Half {
    /// Bytes accepted and not known to be read at `now`.
    pub(crate) fn outstanding(&mut self, now: u64) -> u64 {
        while let Some((at, read)) = self.credits.front().copied()
            && at <= now
        {
            self.acked = read;
            self.credits.pop_front();
        }
        self.sent - self.acked
    }

    /// The reader has taken everything up to `self.read`; the writer learns of it at `at`.
    pub(crate) fn credit(&mut self, at: u64) {
        let (read, full) = (self.read, self.credits.len() >= CREDITS_MAX);
        match self.credits.back_mut() {
            Some(last) if last.0 == at => last.1 = read,
            Some(last) if full => *last = (at, read),
            _ => self.credits.push_back((at, read)),
        }
    }

    /// Takes a segment that arrived; `true` if the reader has something new.
    pub(crate) fn receive(&mut self, segment: Segment) -> bool {
        if segment.offset > self.next {
            let early = &mut self.astray.get_or_insert_default().early;
            early.insert(segment.offset, segment);
            return false;
        }
        // A segment is retransmitted whole: what is behind `next` is a duplicate.
        if segment.offset < self.next || self.ended {
            return false;
        }
        self.take(segment);
        while let Some(astray) = &mut self.astray
            && let Some(segment) = astray.early.remove(&self.next)
        {
            self.take(segment);
        }
        self.tidy();
        true
    }

    fn take(&mut self, segment: Segment) {
        self.next += segment.payload.len() as u64;
        self.ended |= segment.fin;
        if !segment.payload.is_empty() {
            self.unread.push_back(segment.payload);
        }
    }

    /// Puts a segment among the lost.
    pub(crate) fn lose(&mut self, segment: Segment) {
        let lost = &mut self.astray.get_or_insert_default().lost;
        let place = lost.partition_point(|other| other.offset < segment.offset);
        lost.insert(place, segment);
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.astray.as_ref().is_some_and(|astray| !astray.lost.is_empty())
    }

    /// The first of the lost, to be sent again.
    pub(crate) fn pop_lost(&mut self) -> Option<Segment> {
        let segment = self.astray.as_mut()?.lost.pop_front();
        self.tidy();
        segment
    }

    /// Nothing is sent again.
    fn give_up(&mut self) {
        if let Some(astray) = &mut self.astray {
            astray.lost.clear();
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.astray
            .take_if(|astray| astray.lost.is_empty() && astray.early.is_empty());
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// Both directions of a stream, made when it is established: most dials of a client that is cut off are never answered.
#[derive(Default)]
pub(crate) struct Halves(Option<Box<[Half; 2]>>);

impl Halves {
    #[inline]
    pub(crate) fn at(&mut self, side: usize) -> &mut Half {
        &mut self.0.get_or_insert_default()[side]
    }

    fn made(&mut self) -> impl Iterator<Item = &mut Half> {
        self.0.iter_mut().flat_map(|halves| halves.iter_mut())
    }
}

/// Halves of streams that are over, for new ones.
#[derive(Default)]
pub(crate) struct Spare(Vec<Halves>);

/// More are not kept: what is open at a time differs by thousands in the course of a run.
const SPARE_MAX: usize = 256;

impl Spare {
    /// In the state of a new stream.
    pub(crate) fn take(&mut self) -> Halves {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut halves: Halves) {
        if halves.0.is_some() && self.0.len() < SPARE_MAX {
            halves.made().for_each(|half| *half = Half::default());
            self.0.push(halves);
        }
    }
}

/// A stream. End 0 dialled; half 0 carries what it writes.
#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    pub(crate) halves: Halves,
    /// In their place where streams are TCP.
    pub(crate) lanes: Option<Lanes>,
    /// The dialler, until the stream is established.
    pub(crate) dialling: Option<Waker>,
    /// One way, without jitter.
    pub(crate) delay: u64,
    /// When the last SYN was sent.
    pub(crate) dialled_at: u64,
    pub(crate) flow: u64,
    pub(crate) listener: Option<Key>,
    /// The time stamp of the SYN-ACK; 0: there was none.
    pub(crate) answered_ms: u32,
    /// SYNs sent again.
    pub(crate) tries: u8,
    /// The dialled host knows of the stream.
    pub(crate) answered: bool,
    /// The dialler knows that it does.
    pub(crate) established: bool,
    /// It was given to the listener.
    pub(crate) accepted: bool,
}

impl Conn {
    /// The time stamp in the packet with which `side` began: SYN or SYN-ACK.
    pub(crate) fn first_stamp_ms(&self, side: usize) -> u32 {
        match side {
            0 => stamp_ms(self.dialled_at),
            _ => self.answered_ms,
        }
    }

    /// Back to the state of a new stream.
    pub(crate) fn reset(&mut self, spare: &mut Spare) {
        spare.put(std::mem::take(self).halves);
    }

    /// Wakes whoever waits at `side`.
    pub(crate) fn wake(&mut self, side: usize) {
        let dialler = self.dialling.take_if(|_| side == 0);
        let halves = self.halves.0.as_deref_mut();
        let (reader, writer) = halves.map_or((None, None), |halves| {
            (halves[1 - side].reader.take(), halves[side].writer.take())
        });
        let lanes = self.lanes.as_deref_mut().map(|lanes| {
            let reader = lanes[1 - side].take_reader();
            (reader, lanes[side].take_writer())
        });
        let (lane_reader, lane_writer) = lanes.unwrap_or_default();
        for waker in [reader, writer, lane_reader, lane_writer, dialler]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    /// Wakes whoever waits.
    pub(crate) fn wake_all(&mut self) {
        if let Some(dialler) = self.dialling.take() {
            dialler.wake();
        }
        self.halves.made().for_each(Half::wake);
        if self.lanes.is_some() {
            self.wake(0);
            self.wake(1);
        }
    }

    /// Nothing that `side` wrote is sent again.
    pub(crate) fn give_up(&mut self, side: usize) {
        if let Some(halves) = &mut self.halves.0 {
            halves[side].give_up();
        }
    }

    /// Nobody waits at `side` any more.
    pub(crate) fn leave(&mut self, side: usize) {
        self.dialling.take_if(|_| side == 0);
        if let Some(halves) = &mut self.halves.0 {
            halves[side].writer = None;
            halves[1 - side].reader = None;
        }
        if let Some(lanes) = &mut self.lanes {
            lanes[side].take_writer();
            lanes[1 - side].take_reader();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dial_is_small() {
        // Thousands of clients that are cut off have ten under way each.
        assert!(size_of::<Conn>() <= 144, "{}", size_of::<Conn>());
    }

    fn segment(offset: u64, text: &'static str) -> Segment {
        Segment {
            offset,
            payload: Bytes::from_static(text.as_bytes()),
            fin: text.is_empty(),
            watched: None,
        }
    }

    #[test]
    fn segments_are_read_in_order_however_they_arrive() {
        let mut half = Half::default();
        assert!(!half.receive(segment(6, "")));
        assert!(!half.receive(segment(3, "def")));
        assert!(half.receive(segment(0, "abc")));
        assert!(!half.receive(segment(3, "def")), "a duplicate");
        assert_eq!(
            half.unread.iter().flatten().copied().collect::<Vec<_>>(),
            b"abcdef"
        );
        assert!(half.ended);
    }

    #[test]
    fn credits_stay_few_and_never_promise_too_much() {
        let mut half = Half {
            sent: 1_000,
            ..Half::default()
        };
        for n in 1..=200 {
            half.read = n;
            half.credit(n * 10);
        }
        assert!(half.credits.len() <= CREDITS_MAX);
        for now in 0..2_100 {
            assert!(half.outstanding(now) >= 1_000 - (now / 10).min(200));
        }
        assert_eq!(half.outstanding(2_000), 800);
    }
}
