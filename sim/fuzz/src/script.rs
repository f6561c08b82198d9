//! Scripts of censors: each ends within its steps and its memory, whatever it says and whatever crosses.

use phantom_censor::engine::Verdict;
use phantom_censor::file::CensorFile;
use phantom_script::bounds::{DELAY_MS_MAX, LINE_CHARS_MAX, LINES_MAX};
use phantom_script::load::Scripts;

use crate::censor_file::text;
use crate::packets::{decisions, packets};

const FILE: &str = r#"
name = "fuzzed"
summary = "A rule that asks a script"
[[rule]]
name = "asks"
source = "a fuzzer"
script = "s.rhai"
action = "drop"
"#;

/// Two bytes of length, a script, and packets that it is asked about.
///
/// That steps and memory are bounded shows in the fuzzer's own limits of time and memory; here, that failures are counted, what is
/// printed is cut, and the same packets get the same answers.
pub fn script(data: &[u8]) -> bool {
    let Some((script, rest)) = text(data) else {
        return false;
    };
    let mut scripts = Scripts::new(|_, max| Ok(script.as_bytes()[..script.len().min(max)].to_vec()));
    let censor = match CensorFile::parse_scripted("x.toml", FILE, &mut scripts) {
        Ok(censor) => censor,
        Err(error) => {
            assert!(error.problems.iter().all(|(place, _)| place.is_some()), "{error}");
            return false;
        }
    };
    let packets = packets(rest);
    let play = || {
        let mut engine = censor.engine(1);
        let decisions = decisions(&mut engine, &packets);
        let program = engine.program(0).expect("its rule asks a script");
        let said = program.said();
        assert!(said.len() <= LINES_MAX);
        let faults = program.faults().clone();
        assert!(faults.packets <= packets.len() as u64 && faults.first.is_some() == (faults.packets > 0));
        for line in said.iter().chain(&faults.first) {
            // Each character is printed as ten at most, and a fault has words of its own around it.
            assert!(line.chars().count() <= 10 * LINE_CHARS_MAX + 200, "{line}");
        }
        for decision in &decisions {
            if let Verdict::Delay(ns) = decision.verdict {
                assert!(ns <= DELAY_MS_MAX as u64 * 1_000_000);
            }
        }
        (decisions, said, faults)
    };
    assert_eq!(play(), play());
    true
}
