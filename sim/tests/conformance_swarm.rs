//! The conformance suite on swarm.

mod on_stage;

use phantom_sim::swarm::SwarmStage;

type Swarm = on_stage::OnStage<SwarmStage, 0, 50>;

phantom_core::conformance_core!(Swarm);
phantom_core::conformance_full!(Swarm);
