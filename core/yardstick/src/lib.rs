//! What the benchmarks share: ratios to one X25519 exchange of the same run.
//!
//! Times differ between machines and with what else runs on one; the ratio to an X25519 exchange that was measured in
//! the same minute hardly does. [`Table`] therefore measures all its rows by turns, batch after batch, and takes the
//! best batch of each. Criterion's own statistics are printed above it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use x25519_dalek::{PublicKey, StaticSecret};

const ROUNDS: usize = 40;
const BATCH: Duration = Duration::from_millis(2);

/// One X25519 exchange with a fixed secret and point: what everything is compared with.
pub fn exchange() -> impl FnMut() {
    let (secret, point) = (
        StaticSecret::from([7; 32]),
        PublicKey::from(&StaticSecret::from([9; 32])),
    );
    move || {
        black_box(black_box(&secret).diffie_hellman(black_box(&point)));
    }
}

/// Rows that are measured by turns and printed with their ratio to [`exchange`].
#[derive(Default)]
pub struct Table<'a> {
    rows: Vec<(String, Box<dyn FnMut() + 'a>)>,
    known: Vec<(String, Duration)>,
    limits: Vec<(String, f64)>,
}

impl<'a> Table<'a> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what one call of `work` costs.
    pub fn row(&mut self, name: impl Into<String>, work: impl FnMut() + 'a) -> &mut Self {
        self.rows.push((name.into(), Box::new(work)));
        self
    }

    /// Adds what was measured before, because it cannot be done over and over: it stands below the other rows.
    pub fn known(&mut self, name: impl Into<String>, took: Duration) -> &mut Self {
        self.known.push((name.into(), took));
        self
    }

    /// States that the row `name` costs at most `ratio` exchanges.
    pub fn at_most(&mut self, name: &str, ratio: f64) -> &mut Self {
        self.limits.push((name.to_owned(), ratio));
        self
    }

    /// Measures and prints all rows. Returns whether the stated limits hold.
    pub fn print(mut self) -> bool {
        self.rows
            .insert(0, ("X25519 exchange".to_owned(), Box::new(exchange())));
        let calls: Vec<u32> = self
            .rows
            .iter_mut()
            .map(|(_, work)| calls_per_batch(work))
            .collect();
        let mut best = vec![Duration::MAX; self.rows.len()];
        for _ in 0..ROUNDS {
            for (((_, work), calls), best) in self.rows.iter_mut().zip(&calls).zip(&mut best) {
                *best = (*best).min(time(work, *calls) / *calls);
            }
        }
        let unit = best[0].as_secs_f64();
        let ratio = |best: &Duration| best.as_secs_f64() / unit;
        println!("\n| what | us | x X25519 |\n|---|---|---|");
        let rows = self.rows.iter().map(|(name, _)| name).zip(&best);
        for (name, best) in rows.chain(self.known.iter().map(|(name, took)| (name, took))) {
            println!(
                "| {name} | {:.2} | {:.2} |",
                best.as_secs_f64() * 1e6,
                ratio(best)
            );
        }
        println!();
        self.limits.iter().fold(true, |all, (name, limit)| {
            let got = self
                .rows
                .iter()
                .zip(&best)
                .find(|((row, _), _)| row == name)
                .map(|(_, best)| ratio(best));
            let holds = got.is_some_and(|got| got <= *limit);
            let got = got.map_or("not measured".to_owned(), |got| format!("{got:.2}"));
            println!(
                "{name}: {got}, at most {limit:.2} wanted: {}",
                if holds { "holds" } else { "DOES NOT HOLD" }
            );
            all && holds
        })
    }
}

fn calls_per_batch(work: &mut dyn FnMut()) -> u32 {
    let mut calls = 1_u32;
    while time(work, calls) < BATCH / 2 && calls < 1 << 24 {
        calls *= 2;
    }
    calls
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
fn time(work: &mut dyn FnMut(), calls: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    start.elapsed()
}
