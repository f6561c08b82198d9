//! The constants of the machine, each with its unit, default and reason.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How the machine behaves. The defaults are those of the specification (SPEC §11); the tests hold for these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The dial of a second path that has not ended by itself is given up after this. Default 10 s: a handshake over a bad path
    /// takes three round trips and a lost packet or two.
    pub dial_limit: Duration,
    /// Sockets to one server, or to one address of any, dials included. Default 6: more than 12 TLS connections to one
    /// server die together where connections are counted (net4people#546), and two clients may share an address.
    pub sockets_per_server_max: usize,
    /// A connection that ended in order within this time is not dialled again for so long, doubled each time: no window forbids
    /// it. Default 2 s.
    pub retry_base: Duration,
    /// What lasted longer than this has not ended at once. Default 10 s.
    pub settled_after: Duration,
    /// A server that answered and carried nothing is not dialled for so long. Default 60 s.
    pub useless: Duration,

    /// A (client, server, port) that was cut off is not dialled again for so long; doubled each time. Default 180 s: the
    /// residual block after a flagged first packet (Wu et al. 2023 §6), QUIC and SNI boxes; the 90 s box is inside it.
    pub residual: Duration,
    /// Up to so much is added at random. Default 30 s.
    pub residual_jitter: Duration,
    /// The longest such time, without the random part. Default 900 s; TSPU timers of 420 and 480 s are spoken of.
    pub residual_max: Duration,
    /// After silence, nothing at all is sent to that address for so long, on any port. Default 65 s: a censor that drops
    /// for 60 s and begins anew with each packet (Bock FOCI'20 §4) must hear nothing for longer than that.
    pub quiet: Duration,
    /// Up to so much is added at random. Default 20 s.
    pub quiet_jitter: Duration,

    /// While data is queued the driver reports progress at least this often. Default 500 ms.
    pub report_every: Duration,
    /// Readings further apart than this say nothing: the machine slept. Default 3 s.
    pub gap_max: Duration,
    /// The first part of a busy period, with a round trip, is no sample of slowness: slow start. Default 1 s.
    pub settle: Duration,
    /// Time in which fewer bytes than this are queued is no sample of speed: it is the user who is slow then. Default 16 KiB, four
    /// small packets. Silence is judged with any byte queued.
    pub queue_min: u64,
    /// Goodput is held against the baseline over so much settled time. Default 5 s.
    pub slow_window: Duration,
    /// Suspected below baseline / this. Default 4: rates that vary by 3 stay above, iat-mode 2 (700 kbit/s) policed to
    /// 140 kbit/s is at 5.
    pub slow_factor: u64,
    /// A baseline needs so many seconds of samples. Default 20.
    pub baseline_min: usize,
    /// The baseline is the median of the last so many seconds of samples. Default 120.
    pub baseline_max: usize,
    /// While slow, samples do not enter the baseline for so long; then it is the new normal. Default 10 min.
    pub hold_max: Duration,
    /// Silence with data queued: a second path is opened. Default 5 s.
    pub silence_doubt: Duration,
    /// Silence with data queued: the path is frozen or dead. Default 9 s, so that the verdict comes within 10 s.
    pub silence_verdict: Duration,

    /// A path found silent while nothing else is connected is kept for so long, in case the network was silent. Default 60 s:
    /// TCP gets through most outages by itself, and its address could not be dialled again for longer.
    pub limp_max: Duration,

    /// One comparison of two paths takes so much time in which both had data queued. Default 2 s.
    pub compare: Duration,
    /// A second path is faster from this ratio on, in percent. Default 250: two connections that share a slow link differ,
    /// and bursts of loss make them differ more. Twice that where the second is itself below the limit of slowness.
    pub faster_percent: u64,
    /// Comparisons in a row that must agree. Default 3: with 2, bursts of loss on the path in use alone made 1 % of two-hour
    /// sessions switch.
    pub compares_agree: u8,
    /// Comparisons before the question is given up. Default 6.
    pub compares_max: u8,
    /// The same two for a path that has been below half of its baseline for single seconds before, came back from a doubt by
    /// itself, or has less than half of its samples: bursts of loss.
    /// Default 12 and 15, about half a minute: with 3, 6 % of two-hour sessions with such bursts switched, with 7, 2 % of those where
    /// the other paths had no bursts.
    pub compares_agree_uneven: u8,
    /// See there.
    pub compares_max_uneven: u8,
    /// A doubt is given up after this: there was too little data to compare. Default 50 s.
    pub doubt_limit: Duration,
    /// Seconds that a doubt tries to dial. Default 3.
    pub seconds_max: u8,
    /// In a doubt about speed, a second path that has not connected within this time is raced by another one. Default 1 s: a
    /// handshake takes three or four round trips, and where a kind is blocked its dial takes all of `dial_limit`, which is most of
    /// the time that a verdict may take.
    pub second_step: Duration,
    /// Second paths dialled in ten minutes, for doubts and trials. Default 12: a link that stalls every minute must not become
    /// a stream of handshakes.
    pub seconds_per_ten_minutes: usize,
    /// After a doubt was dismissed none is raised for slowness for so long, doubled each time up to 16 times. Default 60 s.
    pub doubt_pause: Duration,

    /// No path is left before so long, unless it is dead, frozen or confirmed throttled. Default 120 s
    /// (lantern-box#314: 42 changes in 92 min at a median dwell of 104 s).
    pub dwell: Duration,
    /// A kind that was left is tried again after this, doubled each time. Default 10 min.
    pub return_base: Duration,
    /// The longest such wait. Default 8 h.
    pub return_max: Duration,
    /// Comparisons in a return trial, all of which must find the old kind faster. Default 5.
    pub return_compares: u8,
    /// How much faster, in percent. Default 150.
    pub return_percent: u64,
    /// User bytes that prove a path. Default 100,000: a freeze after 16 KiB passes every smaller test (CENSORSHIP §3.5).
    pub proven_bytes: u64,
}

impl Config {
    /// The defaults, of which a process with thousands of clients holds one copy.
    pub fn shared() -> Arc<Self> {
        static DEFAULT: LazyLock<Arc<Config>> = LazyLock::new(Arc::default);
        Arc::clone(&DEFAULT)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dial_limit: Duration::from_secs(10),
            sockets_per_server_max: 6,
            retry_base: Duration::from_secs(2),
            settled_after: Duration::from_secs(10),
            useless: Duration::from_secs(60),
            residual: Duration::from_secs(180),
            residual_jitter: Duration::from_secs(30),
            residual_max: Duration::from_secs(900),
            quiet: Duration::from_secs(65),
            quiet_jitter: Duration::from_secs(20),
            report_every: Duration::from_millis(500),
            gap_max: Duration::from_secs(3),
            settle: Duration::from_secs(1),
            queue_min: 16 * 1_024,
            slow_window: Duration::from_secs(5),
            slow_factor: 4,
            baseline_min: 20,
            baseline_max: 120,
            hold_max: Duration::from_secs(600),
            silence_doubt: Duration::from_secs(5),
            silence_verdict: Duration::from_secs(9),
            limp_max: Duration::from_secs(60),
            compare: Duration::from_secs(2),
            faster_percent: 250,
            compares_agree: 3,
            compares_max: 6,
            compares_agree_uneven: 12,
            compares_max_uneven: 15,
            doubt_limit: Duration::from_secs(50),
            seconds_max: 3,
            second_step: Duration::from_secs(1),
            seconds_per_ten_minutes: 12,
            doubt_pause: Duration::from_secs(60),
            dwell: Duration::from_secs(120),
            return_base: Duration::from_secs(600),
            return_max: Duration::from_secs(8 * 3_600),
            return_compares: 5,
            return_percent: 150,
            proven_bytes: 100_000,
        }
    }
}
