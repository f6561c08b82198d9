//! Real node programs on the default engine: authorities agree, nodes get the document.

mod net;

use std::time::Duration;

use net::Net;
use phantom_core::event::Event;
use phantom_core::units::Instant;
use phantom_sim::stage::{Act, Stage};

/// Three authorities and six nodes: soon after the first interval begins, every node holds a document that lists all six.
#[test]
fn every_node_soon_holds_a_document_that_lists_all_nodes() {
    let mut net = Net::new(1, 3, 6);
    net.stage.run_until(Instant::ZERO + Duration::from_secs(150));
    let records = net.stage.take_records();
    for node in &net.nodes {
        let listed = records.iter().rev().find_map(|record| match record.event {
            Event::DocumentAccepted { nodes, .. } if record.peer == node.peer => Some(nodes),
            _ => None,
        });
        assert_eq!(listed, Some(6), "{}", node.name);
    }
}

/// One authority of three is down: the other two are enough.
#[test]
fn two_of_three_authorities_are_enough() {
    let mut net = Net::new(2, 3, 6);
    net.stage.at(Instant::ZERO, Act::Crash(net.authorities[2]));
    net.stage.run_until(Instant::ZERO + Duration::from_secs(150));
    let records = net.stage.take_records();
    let full = records
        .iter()
        .filter(|r| matches!(r.event, Event::DocumentAccepted { nodes: 6, .. }))
        .count();
    assert!(full >= 6, "{full} acceptances of a full document");
}
