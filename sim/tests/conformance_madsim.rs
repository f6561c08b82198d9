//! The core set of the conformance suite on madsim:
//! `RUSTFLAGS="--cfg madsim" cargo test -p phantom-sim --target-dir target/madsim --test conformance_madsim`.
#![cfg(madsim)]

mod on_stage;

use phantom_sim::witness::madsim::MadsimStage;

/// Its sleeps last at least 1 ms, and each poll costs up to 100 ns.
type Madsim = on_stage::OnStage<MadsimStage, 2, 50>;

phantom_core::conformance_core!(Madsim);
