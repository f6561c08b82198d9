//! Models of strangers: what is read, what is refused, and what a script gets.
#![cfg(feature = "model")]

mod rig;

use phantom_censor::engine::Verdict::Pass;
use phantom_censor::file::{LoadError, Programs as _};
use phantom_script::load::Scripts;
use proptest::prelude::*;
use rig::{faults, play, up};

const MODEL: &[u8] = include_bytes!("../censors/random-first.onnx");

fn load(model: &[u8], script: &str) -> Result<phantom_censor::engine::program::Judge, LoadError> {
    let mut scripts = Scripts::new(|name, _| match name {
        "m.onnx" => Ok(model.to_vec()),
        _ => Ok(script.as_bytes().to_vec()),
    });
    scripts.load("s.rhai", Some("m.onnx"))
}

fn engine(script: &str) -> phantom_censor::engine::Engine {
    use phantom_censor::engine::rule::Rule;
    use phantom_censor::engine::{Engine, EngineConfig};
    let rule = Rule {
        judge: Some(load(MODEL, script).unwrap_or_else(|error| panic!("{error}"))),
        ..Rule::new("asks")
    };
    Engine::new(EngineConfig::default(), vec![rule])
}

/// The model with some bytes replaced by as many others.
fn with(from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths stand in the file");
    let mut bytes = MODEL.to_vec();
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn scores_are_whole_thousandths_and_questions_are_bounded() {
    let twenty = "let x = []; x.pad(20, 500);";
    let mut good = engine(&format!(
        "{twenty} print(score(x)); print(scores(x) == [score(x)]); print(type_of(score(x)));"
    ));
    assert_eq!(play(&mut good, &[up(1, b"x"), up(2, b"y")]), [Pass, Pass]);
    assert_eq!(faults(&good), (0, String::new()));
    let said = good.program(0).expect("a script").said();
    assert!(
        (0..=1000).contains(&said[0].parse::<i64>().expect("a whole number")),
        "{said:?}"
    );
    assert_eq!(said[1..3], ["true", "i64"]);
    for (script, told) in [
        ("score([1, 2])", "s.rhai:1:1: the model takes 20 numbers, got 2"),
        (
            "let x = []; x.pad(20, true); score(x)",
            "the model takes whole numbers alone",
        ),
        (
            "let x = []; x.pad(20, 1); loop { score(x); }",
            "more than 4 questions to the model at one packet",
        ),
    ] {
        let mut engine = engine(script);
        play(&mut engine, &[up(1, b"x")]);
        let (packets, first) = faults(&engine);
        assert!(packets == 1 && first.contains(told), "{first}");
    }
}

#[test]
fn a_model_that_could_do_more_than_score_is_refused_with_the_reason() {
    let refused = |bytes: &[u8]| match load(bytes, "pass()") {
        Err(LoadError::Model(what)) => what,
        other => panic!("{other:?}"),
    };
    for (bytes, told) in [
        (
            with(b"Relu", b"Loop"),
            "the operator Loop 'active' is not run; choices: Add, Div,",
        ),
        (with(b"Relu", b"Sinh"), "is not run"),
        (MODEL[..500].to_vec(), "it is not in ONNX"),
        (b"hello".to_vec(), "it is not in ONNX"),
        (Vec::new(), "it is not in ONNX"),
    ] {
        let what = refused(&bytes);
        assert!(what.contains(told), "{told} is not in {what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_model_with_flipped_bytes_never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = MODEL.to_vec();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        // What is still good can be asked.
        let _ = load(&bytes, "pass()");
    }
}
