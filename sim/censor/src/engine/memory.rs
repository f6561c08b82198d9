//! What the engine keeps of a flow beside its first bytes.

use std::sync::Arc;

use phantom_path::police::Policer;

use super::rule::PACKETS_MAX;
use crate::classify::{FirstBytes, Labels, Protocol, Transport};
use crate::flow::Flow;
use crate::packet::Packet;

/// What is kept of a flow beside its first bytes.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) outbound: bool,
    /// It no longer counts among the flows of its pair.
    pub(super) closed: bool,
    /// Made again when more of the first bytes are known.
    pub(super) labels: Option<Arc<Labels>>,
    labelled_len: u32,
    /// For each rule, a bit: its conditions were met and the chance was drawn, or they never will be; the flow is sentenced.
    pub(super) drawn: u64,
    /// The chance was drawn.
    pub(super) chances: u64,
    pub(super) sentenced: u64,
    /// The chance fell on it, and its rule's program has not sentenced it yet but acts on single packets.
    pub(super) chosen: u64,
    pub(super) policers: OwnPolicers,
    /// As what each of the first data packets of its client begins, by itself; as many as a rule asks for.
    begins: [Option<Protocol>; PACKETS_MAX as usize],
    /// So many of them were.
    looked_at: u8,
}

/// The token buckets of a flow, each with the place of its rule. Boxed: most flows have none, and there are many flows.
pub(super) type OwnPolicers = Option<Box<Vec<(usize, [Policer; 2])>>>;

impl Memory {
    /// Of a new flow, opened from inside or not; the rules of these bits it will never meet.
    pub(super) fn new(outbound: bool, never: u64) -> Self {
        Self {
            outbound,
            drawn: never,
            ..Self::default()
        }
    }

    pub(super) fn asks_dns(&self) -> bool {
        let labels = self.labels.as_deref();
        labels.is_some_and(|labels| labels.protocol == Some(Protocol::Dns))
    }

    /// Looks at a datagram by itself.
    pub(super) fn look_at_question(&mut self, packet: &Packet<'_>) {
        let first = FirstBytes::packet(Transport::Udp, packet.payload);
        self.labels = Some(Arc::new(Labels::of(&first)));
        self.labelled_len = u32::MAX;
    }

    /// Looks at a data packet of the client by itself, unless `most` were looked at before.
    pub(super) fn look_at_packet(&mut self, most: u8, packet: &Packet<'_>, transport: Transport) {
        if self.looked_at < most
            && let Some(begins) = self.begins.get_mut(usize::from(self.looked_at))
        {
            *begins = Labels::of(&FirstBytes::packet(transport, packet.payload)).protocol;
            self.looked_at += 1;
        }
    }

    /// As what the first data packets of the client begin, those that were looked at.
    pub(super) fn first_packets(&self) -> &[Option<Protocol>] {
        &self.begins[..usize::from(self.looked_at)]
    }

    /// Looks at the first bytes again if there are more of them.
    pub(super) fn look(&mut self, flow: &Flow) {
        // Bounded by the table's configuration, far below 4 GiB.
        let known = flow.up.first().len() as u32;
        if self.labels.is_none() || known > self.labelled_len {
            self.labelled_len = known;
            self.labels = (known > 0).then(|| Arc::new(flow.labels()));
        }
    }
}
