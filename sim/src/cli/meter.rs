//! What a run costs: wall time, CPU time, memory; and which commit runs.

use std::time::{Duration, Instant};

/// The commit that this program was built from; `unknown` if that was no repository.
pub const COMMIT: &str = env!("PHANTOM_COMMIT");

/// Measures from its making.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    started: Instant,
    cpu: Option<Duration>,
}

impl Meter {
    /// Starts to measure.
    #[expect(
        clippy::disallowed_methods,
        reason = "the cost of a run is real time, which no simulated clock shows"
    )]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            cpu: cpu(),
        }
    }

    /// Wall time since the start.
    pub fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    /// CPU time of this thread since the start; zero where the system does not tell.
    pub fn cpu(&self) -> Duration {
        cpu()
            .zip(self.cpu)
            .map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then))
    }
}

/// CPU time of this thread so far. Linux: nanoseconds on the CPU, the first field of schedstat.
fn cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace()
        .next()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// The most memory this process has held; 0 where the system does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Microseconds of one X25519 on this machine now, by CPU time: the least of a few rounds, so that CPU times of machines
/// and of busy hours can be compared. 38 is what the published figures are scaled to.
pub fn x25519_us() -> f64 {
    // The system brings a running thread's time up to date at each tick, some milliseconds: a round is many of them.
    const ROUNDS: u32 = 4;
    const EACH: u32 = 2_048;
    let mut point = x25519_dalek::X25519_BASEPOINT_BYTES;
    let round = |_| {
        let meter = Meter::start();
        for n in 0..EACH {
            let mut scalar = point;
            scalar[0] ^= n as u8;
            point = std::hint::black_box(x25519_dalek::x25519(scalar, point));
        }
        meter.cpu().as_secs_f64() * 1e6 / f64::from(EACH)
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}
