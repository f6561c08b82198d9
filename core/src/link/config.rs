//! What a link may use and how long it waits.

use std::time::Duration;

/// The largest message a link carries, in bytes: two size classes of packets (SPEC §3) fit, with room for their headers.
pub const MESSAGE_MAX: usize = 65_535;

/// Limits and times of one end of a link. Both ends may differ; what the other must know is in the handshake. Times are kept
/// in whole milliseconds, rounded up, and at most 49 days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// A handshake that is not done after this long has failed. Default 10 s: three round trips over a bad path.
    pub handshake_limit: Duration,
    /// How long a dialler waits for the answer to a ticket before it sends a full handshake on the same stream.
    /// Default 4 s; only a server that lost the session makes anyone wait for it.
    pub resume_limit: Duration,
    /// Ping when nothing was heard for this long; `None` never. Default 60 s; 10 s for a client, which counts as
    /// connected for 30 s after a round trip.
    pub keep_alive: Option<Duration>,
    /// The connection is dead when a ping is unanswered and nothing at all was heard for this long. Default 15 s.
    pub dead_after: Duration,
    /// Longest wait of an acknowledgement for a frame to ride on. Default 2 s, above the time that most answers through three
    /// hops take: the other end keeps what it sent so long.
    pub ack_delay: Duration,
    /// How long the accepting end keeps a session whose connection is gone. Default 10 min.
    pub park_for: Duration,
    /// Bytes accepted from the program and not acknowledged yet; beyond, sending waits. Default 256 KiB, at least
    /// 128 KiB.
    pub send_buffer: u32,
    /// Bytes the other end may send before this program has taken them. Default 256 KiB, at least 128 KiB.
    pub window: u32,
    /// Tickets the dialler holds at a time, at most 8. Default 4: so many attempts to resume may break off in a row.
    pub tickets: u8,
    /// Whether each authenticated round trip is reported as [`Event::RoundTrip`](crate::event::Event::RoundTrip).
    /// Default no; a client says yes on its entry link.
    pub report_round_trips: bool,
}

/// The least window and send buffer: a message of the largest size, and another one on its way.
pub(crate) const BUFFER_MIN: u32 = 128 * 1024;

/// The largest window that is believed.
pub(crate) const WINDOW_MAX: u32 = 16 * 1024 * 1024;

/// The most tickets a dialler accepts.
pub(crate) const TICKETS_MAX: usize = 8;

impl Default for Config {
    fn default() -> Self {
        Self {
            handshake_limit: Duration::from_secs(10),
            resume_limit: Duration::from_secs(4),
            keep_alive: Some(Duration::from_secs(60)),
            dead_after: Duration::from_secs(15),
            ack_delay: Duration::from_secs(2),
            park_for: Duration::from_secs(600),
            send_buffer: 256 * 1024,
            window: 256 * 1024,
            tickets: 4,
            report_round_trips: false,
        }
    }
}

impl Config {
    /// For a client's entry link: pings every 10 s of silence, and reports its round trips.
    pub fn client() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(10)),
            report_round_trips: true,
            ..Self::default()
        }
    }

    /// The times that a session needs.
    pub(crate) fn times(&self) -> Times {
        Times {
            keep_alive: self.keep_alive.map(millis),
            dead_after: millis(self.dead_after),
            ack_delay: millis(self.ack_delay),
            park_for: millis(self.park_for),
            close_within: millis(self.handshake_limit),
        }
    }

    /// The window as it is used: within its bounds.
    pub(crate) fn window(&self) -> u32 {
        self.window.clamp(BUFFER_MIN, WINDOW_MAX)
    }

    /// The send buffer as it is used: within its bounds.
    pub(crate) fn send_buffer(&self) -> u32 {
        self.send_buffer.max(BUFFER_MIN)
    }

    /// The number of tickets as it is used: within its bounds.
    pub(crate) fn tickets(&self) -> usize {
        usize::from(self.tickets).min(TICKETS_MAX)
    }
}

/// The times of a [`Config`] as a session keeps them: in whole milliseconds, rounded up, at most 49 days. A node holds
/// thousands of sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    keep_alive: Option<u32>,
    dead_after: u32,
    ack_delay: u32,
    park_for: u32,
    close_within: u32,
}

impl Times {
    pub(crate) fn keep_alive(self) -> Option<Duration> {
        self.keep_alive.map(duration)
    }

    pub(crate) const fn dead_after(self) -> Duration {
        duration(self.dead_after)
    }

    pub(crate) const fn ack_delay(self) -> Duration {
        duration(self.ack_delay)
    }

    pub(crate) const fn park_for(self) -> Duration {
        duration(self.park_for)
    }

    /// The handshake's limit, which a goodbye has as well.
    pub(crate) const fn close_within(self) -> Duration {
        duration(self.close_within)
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

const fn duration(millis: u32) -> Duration {
    Duration::from_millis(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_waits_no_shorter_than_its_configuration_says_up_to_49_days() {
        let config = Config {
            keep_alive: None,
            dead_after: Duration::from_nanos(1),
            park_for: Duration::ZERO,
            handshake_limit: Duration::MAX,
            ..Config::default()
        };
        let times = config.times();
        assert_eq!(times.keep_alive(), None);
        assert_eq!(times.dead_after(), Duration::from_millis(1));
        assert_eq!(times.ack_delay(), config.ack_delay);
        assert_eq!(times.park_for(), Duration::ZERO);
        assert_eq!(times.close_within(), Duration::from_millis(u32::MAX.into()));
    }
}
