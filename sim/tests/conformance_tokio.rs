//! The conformance suite on the production back end, over loopback, in real time.

mod on_stage;

use phantom_sim::loopback::LoopbackStage;

/// A busy machine wakes late; what is judged here is that it wakes at all, and never early.
type Tokio = on_stage::OnStage<LoopbackStage, 900, 0>;

phantom_core::conformance_core!(Tokio);
phantom_core::conformance_full!(Tokio);
