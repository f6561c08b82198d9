//! Censors as scripts: what [`phantom_censor`] asks about a packet, written by whoever writes the censor.
//!
//! A rule of a censor's file may name a script in [Rhai](https://rhai.rs) and a model in ONNX beside it. The script is run for
//! every packet of the flows that meet the rule's conditions. It sees the packet (`packet`), what is known of its flow (`flow`)
//! and what it chose to keep of it (`state`), and says what becomes of the packet or that the flow is sentenced.
//!
//! A script is a stranger's program. It has no clock, no entropy, no files, no network and no other modules; each packet
//! costs it at most [`bounds::STEPS_MAX`] steps, and what it may hold and keep is bounded. Where it fails, the packet passes
//! and the failure is counted. Integers only: the same packets get the same verdicts everywhere, but for those of a model,
//! whose floats hang on the machine: they are rounded to thousandths, and
//! [`uses_model`](phantom_censor::engine::Engine::uses_model) tells that a censor has one.
//!
//! Rhai 1.27 of October 2026 (MIT or Apache-2.0; released since 2016) was taken as the one embedded language of pure Rust whose
//! bounds are its own features. How to write a script: docs/CENSOR-SCRIPTS.md.
//!
//! - [`load`]: scripts and models by the names that a censor's file has.
//! - [`bounds`]: how much a script may do and keep.
//! - [`view`]: what it sees.
//! - [`shipped`]: censors with scripts that come with this crate.

mod answer;
pub mod bounds;
mod check;
mod code;
mod fault;
mod keep;
pub mod load;
mod machine;
mod model;
mod program;
pub mod shipped;
pub mod view;
