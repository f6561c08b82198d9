//! The core set of the conformance suite on turmoil.

mod on_stage;

use phantom_sim::witness::turmoil::TurmoilStage;

/// Its tick is 10 ms, and messages wait for one at either end.
type Turmoil = on_stage::OnStage<TurmoilStage, 12, 50>;

phantom_core::conformance_core!(Turmoil);
