//! What a script says of a packet, as functions and as its last value.

use phantom_censor::engine::{Verdict, program::Answer};
use rhai::{Dynamic, Engine, EvalAltResult};

use crate::bounds::DELAY_MS_MAX;
use crate::fault::{failure, kind};

/// An [`Answer`] as a value of the language.
#[derive(Clone, Debug)]
pub(crate) struct Said(pub(crate) Answer);

/// Gives the language its words for verdicts.
pub(crate) fn register(engine: &mut Engine) {
    let once = |verdict: Verdict| move || Said(Answer::Once(verdict.clone()));
    let reset = |client, server| once(Verdict::Reset { client, server });
    engine
        .register_type_with_name::<Said>("verdict")
        .register_fn("pass", || Said(Answer::Pass))
        .register_fn("sentence", || Said(Answer::Sentence))
        .register_fn("drop", once(Verdict::Drop))
        .register_fn("reset", reset(true, true))
        .register_fn("reset_client", reset(true, false))
        .register_fn("reset_server", reset(false, true))
        .register_fn("delay_ms", |ms: i64| -> Result<Said, Box<EvalAltResult>> {
            match ms {
                1..=DELAY_MS_MAX => Ok(Said(Answer::Once(Verdict::Delay(ms.unsigned_abs() * 1_000_000)))),
                _ => Err(failure(format!(
                    "delay_ms wants 1 to {DELAY_MS_MAX} milliseconds, got {ms}"
                ))),
            }
        });
}

/// What the last value of a script means: a verdict; `true` sentences; nothing and `false` pass.
pub(crate) fn read(value: Dynamic) -> Result<Answer, String> {
    if value.is_unit() {
        return Ok(Answer::Pass);
    }
    if let Ok(sentenced) = value.as_bool() {
        return Ok(if sentenced { Answer::Sentence } else { Answer::Pass });
    }
    match value.try_cast_result::<Said>() {
        Ok(Said(answer)) => Ok(answer),
        Err(value) => Err(format!(
            "the script ends with a {}; wanted a verdict such as drop(), true or false, or nothing",
            kind(&value)
        )),
    }
}
