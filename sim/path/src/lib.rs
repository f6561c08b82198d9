//! What lies between two hosts: links with rates, queues and losses, and TCP over them.
//!
//! Everything here is a machine: it is told the time and what happened, and says what follows. It knows no engine, draws
//! only from seeds that it is given, and does its arithmetic in integers, so that a run repeats on any machine.

pub mod comparison;
pub mod dice;
pub mod fidelity;
pub mod lab;
pub mod link;
pub mod mishap;
pub mod police;
pub mod queue;
pub mod tcp;
