//! The live line on a terminal: simulated time, share connected, events per second, ETA.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::Meter;
use crate::check::judge::Moment;

/// The line; silent where stderr is no terminal.
pub struct Progress {
    bar: ProgressBar,
    meter: Meter,
    duration: Duration,
}

impl Progress {
    /// A line for a run of `duration`.
    pub fn new(duration: Duration, quiet: bool) -> Self {
        use std::io::IsTerminal as _;
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown {
            ProgressDrawTarget::stderr_with_hz(8)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(duration.as_secs().max(1)), target);
        // The template is fixed and good; the plain bar would do otherwise.
        let style = ProgressStyle::with_template("{bar:24} {msg}  ETA {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self {
            bar,
            meter: Meter::start(),
            duration,
        }
    }

    /// A simulated second has passed.
    pub fn tick(&self, moment: &Moment, steps: u64) {
        if self.bar.is_hidden() {
            return;
        }
        let rate = steps as f64 / self.meter.wall().as_secs_f64().max(0.001);
        let clock = |at: Duration| format!("{}:{:02}", at.as_secs() / 60, at.as_secs() % 60);
        self.bar.set_message(format!(
            "{} of {} simulated  {:.0} % of {} connected  {:.0} k events/s",
            clock(moment.at),
            clock(self.duration),
            moment.share() * 100.0,
            moment.clients,
            rate / 1e3,
        ));
        self.bar.set_position(moment.at.as_secs());
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
