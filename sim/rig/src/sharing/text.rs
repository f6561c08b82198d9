//! Measurements as files hold them, one repeat in a line.

use std::fmt;

use phantom_path::fidelity::BURST_BYTES;

use super::{Repeat, SharedCell, SharedFlow, SharedMeasured};
use crate::FlowSample;

/// A file's line that does not say what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line}: wanted `rtt_ms bits_per_second loss queue_bytes bytes[*burst_bytes*every_ms]@start_ms[~within_ms][/policer[/policer_bytes]] … : seconds=share[=retransmits=burst_seconds,…] …`, got {got:?}"
)]
pub struct SharingError {
    /// Counted from 1.
    pub line: usize,
    /// The line.
    pub got: String,
}

/// A draw is in nanoseconds.
const WITHIN_MS_MAX: u64 = 3_600_000;

impl SharedCell {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let cell = Self {
            rtt_ms: words.next()?.parse().ok()?,
            bits_per_second: words.next()?.parse().ok().filter(|rate| *rate > 0)?,
            loss: words
                .next()?
                .parse()
                .ok()
                .filter(|loss| (0.0..1.0).contains(loss))?,
            queue_bytes: words.next()?.parse().ok()?,
            flows: words.map(SharedFlow::parse).collect::<Option<_>>()?,
        };
        (!cell.flows.is_empty()).then_some(cell)
    }
}

impl SharedFlow {
    fn parse(word: &str) -> Option<Self> {
        let (written, rest) = word.split_once('@')?;
        let mut written = written.split('*').map(|number| number.parse().ok());
        let (start, policer) = rest.split_once('/').map_or((rest, None), |(a, b)| (a, Some(b)));
        let mut rest = policer
            .into_iter()
            .flat_map(|policer| policer.split('/'))
            .map(|number| number.parse().ok());
        let new = Self::new(written.next()??);
        let (start_ms, within_ms) = start.split_once('~').unwrap_or((start, "0"));
        let flow = Self {
            start_ms: start_ms.parse().ok()?,
            within_ms: within_ms.parse().ok().filter(|ms| *ms <= WITHIN_MS_MAX)?,
            policer_bits_per_second: rest.next().unwrap_or(Some(0))?,
            policer_bytes: rest.next().unwrap_or(Some(new.policer_bytes))?,
            burst: match written.next() {
                Some(bytes) => (bytes.filter(|bytes| *bytes > 0)?, written.next()??),
                None => new.burst,
            },
            ..new
        };
        let all_read = written.next().is_none() && rest.next().is_none();
        (all_read && flow.bytes > 0).then_some(flow)
    }
}

impl fmt::Display for SharedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes)?;
        if self.burst.0 > 0 {
            write!(f, "*{}*{}", self.burst.0, self.burst.1)?;
        }
        write!(f, "@{}", self.start_ms)?;
        if self.within_ms > 0 {
            write!(f, "~{}", self.within_ms)?;
        }
        if self.policer_bits_per_second > 0 {
            write!(f, "/{}", self.policer_bits_per_second)?;
            if self.policer_bytes != BURST_BYTES {
                write!(f, "/{}", self.policer_bytes)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SharedCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} {}",
            self.rtt_ms, self.bits_per_second, self.loss, self.queue_bytes
        )?;
        self.flows.iter().try_for_each(|flow| write!(f, " {flow}"))
    }
}

impl SharedMeasured {
    /// Reads a file: one repeat in a line, those of a cell after one another; `#` begins a comment.
    ///
    /// # Errors
    /// The first line that says something else.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, SharingError> {
        let mut all: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let (cell, repeat) = Self::parse(line).ok_or_else(|| SharingError {
                line: number + 1,
                got: line.chars().take(80).collect(),
            })?;
            match all.last_mut() {
                Some(last) if last.cell == cell => last.repeats.push(repeat),
                _ => all.push(Self {
                    cell,
                    repeats: vec![repeat],
                }),
            }
        }
        Ok(all)
    }

    fn parse(line: &str) -> Option<(SharedCell, Repeat)> {
        let (cell, repeat) = line.split_once(" : ")?;
        let cell = SharedCell::parse(cell)?;
        let positive = |number: &str| number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0);
        let flow = |word: &str| {
            let mut parts = word.split('=');
            let sample = FlowSample {
                seconds: positive(parts.next()?)?,
                share: positive(parts.next()?)?,
                retransmits: parts.next().map_or(Some(0), |number| number.parse().ok())?,
                bursts: parts.next().map_or(Some(Vec::new()), |bursts| {
                    bursts.split(',').map(positive).collect()
                })?,
            };
            parts.next().is_none().then_some(sample)
        };
        let repeat: Repeat = repeat.split_whitespace().map(flow).collect::<Option<_>>()?;
        let bursts = |flow: &SharedFlow| flow.pace().map_or(0, |pace| pace.bursts(flow.bytes).count());
        let all_told = repeat.len() == cell.flows.len()
            && repeat
                .iter()
                .zip(&cell.flows)
                .all(|(sample, flow)| sample.bursts.len() == bursts(flow));
        all_told.then_some((cell, repeat))
    }

    /// Lines as [`SharedMeasured::parse_all`] reads them.
    pub fn written(&self) -> String {
        let mut text = String::new();
        for repeat in &self.repeats {
            let flows: Vec<String> = repeat
                .iter()
                .map(|flow| {
                    let bursts: Vec<String> = flow
                        .bursts
                        .iter()
                        .map(|seconds| format!("{seconds:.4}"))
                        .collect();
                    match bursts.len() {
                        0 => format!("{:.6}={:.6}", flow.seconds, flow.share),
                        _ => format!(
                            "{:.6}={:.6}={}={}",
                            flow.seconds,
                            flow.share,
                            flow.retransmits,
                            bursts.join(",")
                        ),
                    }
                })
                .collect();
            text.push_str(&format!("{} : {}\n", self.cell, flows.join(" ")));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{bursts, grid};
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_no_line_is_named() {
        let mut text = String::from("# comment\n");
        let mut all = Vec::new();
        for cell in grid().into_iter().chain(bursts()) {
            let sample = |(n, flow): (usize, &SharedFlow)| {
                let bursts = flow.pace().map(|pace| pace.bursts(flow.bytes).count());
                FlowSample {
                    retransmits: bursts.unwrap_or_default() as u64,
                    bursts: vec![0.25; bursts.unwrap_or_default()],
                    ..sample(n as f64 + 0.5, 0.125)
                }
            };
            let repeat: Repeat = cell.flows.iter().enumerate().map(sample).collect();
            let measured = SharedMeasured {
                cell,
                repeats: vec![repeat; 2],
            };
            text.push_str(&measured.written());
            all.push(measured);
        }
        assert_eq!(SharedMeasured::parse_all(&text).unwrap(), all);
        for broken in [
            "40 10000000 0 1000 5@0",
            "40 10000000 0 1000 : 1.0=0.5",
            "40 10000000 0 1000 5@0 5@0 : 1.0=0.5",
            "40 10000000 0 1000 5@0 : 1.0",
            "40 10000000 2 1000 5@0 : 1.0=1.0",
            "40 10000000 0 1000 5 : 1.0=1.0",
            "40 10000000 0 1000 5@0 : NaN=1.0",
            "40 10000000 0 1000 5*0*10@0 : 1.0=1.0",
            "40 10000000 0 1000 5*5@0 : 1.0=1.0",
            "40 10000000 0 1000 5*3*10@0 : 1.0=1.0",
            "40 10000000 0 1000 5*3*10@0 : 1.0=1.0=0=0.5",
            "40 10000000 0 1000 5@0/1/2/3 : 1.0=1.0",
            "40 10000000 0 1000 5@0~ : 1.0=1.0",
            "40 10000000 0 1000 5@0~3600001 : 1.0=1.0",
        ] {
            let error = SharedMeasured::parse_all(&format!("# comment\n\n{broken}\n")).unwrap_err();
            assert_eq!((error.line, error.got.as_str()), (3, broken));
        }
    }
}
