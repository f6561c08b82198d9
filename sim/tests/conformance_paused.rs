//! The conformance suite on the paused witness.

mod on_stage;

use phantom_sim::witness::paused::PausedStage;

type Paused = on_stage::OnStage<PausedStage, 1, 50>;

phantom_core::conformance_core!(Paused);
phantom_core::conformance_full!(Paused);
