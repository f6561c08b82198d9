//! What the gate says while it works: one live line on a terminal, elsewhere a plain line every ten seconds.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Stop;
use super::meter::Meter;

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Worlds done so far.
pub struct Watch {
    bar: ProgressBar,
    live: bool,
    meter: Meter,
    said: Duration,
    worlds: usize,
    done: usize,
    bad: usize,
    /// Worlds differ in cost: what is done and all there is, in hosts times simulated time.
    weight: (f64, f64),
}

impl Watch {
    /// At the start of so many worlds, which weigh so much together.
    pub fn start(worlds: usize, weight: f64) -> Self {
        use std::io::IsTerminal as _;
        let live = std::io::stderr().is_terminal();
        let target = if live {
            ProgressDrawTarget::stderr_with_hz(4)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(worlds as u64), target);
        // The template is fixed and good; the plain bar would do otherwise.
        let style = ProgressStyle::with_template("{bar:24} {msg}  {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        if live {
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        let watch = Self {
            bar,
            live,
            meter: Meter::start(),
            said: Duration::ZERO,
            worlds,
            done: 0,
            bad: 0,
            weight: (0.0, weight),
        };
        watch.bar.set_message(watch.line());
        watch
    }

    /// How long to wait for a world before [`Watch::beat`].
    pub const fn patience() -> Duration {
        Duration::from_secs(1)
    }

    /// A world is done.
    pub fn done(&mut self, weight: f64, holds: bool) {
        self.done += 1;
        self.bad += usize::from(!holds);
        self.weight.0 += weight;
        self.bar.set_position(self.done as u64);
        self.bar.set_message(self.line());
    }

    /// Time has passed: says where things stand if it is due.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn beat(&mut self, err: &mut dyn Write) -> Result<(), Stop> {
        if self.live {
            self.bar.set_message(self.line());
        } else if self.meter.wall() >= self.said + EVERY && self.done < self.worlds {
            self.said = self.meter.wall();
            writeln!(err, "{}", self.line()).map_err(Stop::disk("writing to stderr"))?;
        }
        Ok(())
    }

    /// Lets `say` write without tearing the live line.
    ///
    /// # Errors
    /// Those of `say`.
    pub fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self) -> String {
        line(
            self.done,
            self.worlds,
            self.bad,
            eta(self.meter.wall(), self.weight),
        )
    }
}

fn line(done: usize, worlds: usize, bad: usize, eta: Option<Duration>) -> String {
    let eta = eta.map_or("unknown".to_owned(), |eta| {
        format!("{}:{:02}", eta.as_secs() / 60, eta.as_secs() % 60)
    });
    format!("{done} of {worlds} worlds, {bad} failed, ETA {eta}")
}

/// What is left takes as long for its weight as what is done.
fn eta(spent: Duration, (done, all): (f64, f64)) -> Option<Duration> {
    Duration::try_from_secs_f64(spent.as_secs_f64() * (all - done) / done).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_how_far_how_bad_and_how_long() {
        let spent = Duration::from_secs(100);
        assert_eq!(
            line(3, 20, 1, eta(spent, (1.0, 2.0))),
            "3 of 20 worlds, 1 failed, ETA 1:40"
        );
        assert_eq!(
            line(0, 20, 0, eta(spent, (0.0, 2.0))),
            "0 of 20 worlds, 0 failed, ETA unknown"
        );
    }
}
