//! Programs that judge packets: what a rule may ask beside its conditions.
//!
//! A rule's conditions narrow the flows; its program, if it has one, is then given each packet of them until the flow is
//! sentenced. It may let the packet pass, do something to this one packet, or sentence the flow, whereupon the rule's action
//! holds for it as for any other. What a program keeps of a flow is its own business, and its own to bound: the engine says
//! when a flow is forgotten.
//!
//! This crate runs no program of a file: `phantom-script` does. Here is what the two agree on.

use std::fmt;
use std::sync::Arc;

use super::{Direction, Verdict};
use crate::classify::Labels;
use crate::flow::Flow;
use crate::packet::Packet;

/// A packet as a program is shown it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// When it crosses, in nanoseconds.
    pub at_ns: u64,
    /// Which way.
    pub direction: Direction,
    /// Whether who opened the flow sent it.
    pub from_client: bool,
    /// Whether the flow was opened from inside.
    pub outbound: bool,
    /// The packet.
    pub packet: &'a Packet<'a>,
    /// Its flow; the packet is counted in it already.
    pub flow: &'a Flow,
    /// What the classifiers say of the flow; `None` before its client sent data.
    pub labels: Option<&'a Arc<Labels>>,
    /// Flows under way between its client's address and its server.
    pub flows_of_pair: u32,
}

/// What a program says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: it is asked again at the next packet.
    Pass,
    /// This becomes of this packet; it is asked again at the next.
    Once(Verdict),
    /// The flow is sentenced: the rule's action holds from this packet on, and the program is not asked again.
    Sentence,
}

/// Packets that a program failed at. They pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// How many.
    pub packets: u64,
    /// What went wrong at the first of them, and where in the program; safe to print.
    pub first: Option<String>,
}

/// A program at work in one engine.
///
/// The same packets in the same order get the same answers: no clock, no entropy, and nothing kept between engines.
pub trait Program: Send {
    /// What it says of a packet. It ends within its budget, and never panics.
    fn judge(&mut self, seen: &Seen<'_>) -> Answer;

    /// The flow of this number is over: what was kept of it goes.
    fn forget(&mut self, flow: u64);

    /// At how many packets it failed.
    fn faults(&self) -> &Faults;

    /// The first lines that it printed, for whoever writes it; safe to print.
    fn said(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A program as a file has it, of which each engine starts its own.
pub trait Code: fmt::Debug + Send + Sync {
    /// A program that knows no flow yet. All its chances, if it has any, follow from `seed`.
    fn start(&self, seed: u64) -> Box<dyn Program>;

    /// Whether it asks a model. Its answers then hang on how this machine rounds, and the same packets need not get the same
    /// verdicts on another.
    fn uses_model(&self) -> bool;

    /// All that it was made of: two with the same are the same.
    fn parts(&self) -> [&[u8]; 2];
}

/// What a rule asks beside its conditions.
#[derive(Clone, Debug)]
pub struct Judge(pub Arc<dyn Code>);

impl PartialEq for Judge {
    fn eq(&self, other: &Self) -> bool {
        self.0.parts() == other.0.parts()
    }
}

impl Eq for Judge {}
