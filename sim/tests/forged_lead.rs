//! How far a forged answer is ahead of the true one, for who asks a resolver abroad.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_censor::catalogue;
use phantom_core::runtime::{Clock, Net};
use phantom_core::units::{Instant, Probability};
use phantom_sim::censor::Censor;
use phantom_sim::swarm::jitter::Jitter;
use phantom_sim::swarm::topology::{REGIONS_2019, Topology};
use phantom_sim::swarm::{HostSpec, Network, World, WorldConfig};

const QUESTIONS: u32 = 400;

/// How long a host in the asia-pacific region waits for the answers of a resolver in this region, with the Great Firewall of the
/// catalogue at the border or without; everybody is further by `extra`, a round trip.
fn waits(resolver: usize, extra: Duration, censored: bool) -> Vec<Duration> {
    let mut topology = Topology::simblock_2019();
    topology.weather(Probability::ZERO, Jitter::exponential(Duration::from_millis(3)));
    let region = |topology: &Topology, n: usize| topology.region(REGIONS_2019[n]).unwrap();
    let (here, there) = (region(&topology, 3), region(&topology, resolver));
    let here = topology.add_system("here", here, extra);
    let there = topology.add_system("there", there, Duration::ZERO);
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(topology),
        ..WorldConfig::new(1)
    });
    let at = [192, 0, 2, 53];
    let client = world.add_host(HostSpec {
        addresses: vec![[10, 0, 0, 1].into()],
        inside: true,
        system: here,
        resolver: Some(at.into()),
        ..HostSpec::new("client")
    });
    world.add_resolver(HostSpec {
        addresses: vec![at.into()],
        system: there,
        ..HostSpec::new("resolver")
    });
    if censored {
        world.set_middlebox(Censor::new(catalogue::censor("gfw-2023").unwrap().engine(1)));
    }
    let waits: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let waited = Arc::clone(&waits);
    world.start(client, move |rt| async move {
        for n in 0..QUESTIONS {
            let asked = rt.now();
            let found = rt.resolve(&format!("n{n}.blocked.example")).await;
            assert_eq!(found.is_ok_and(|found| !found.is_empty()), censored);
            waited.lock().unwrap().push(rt.now().saturating_since(asked));
        }
    });
    let end = Instant::ZERO + Duration::from_secs(3_600);
    world.run_until(end, &mut ()).unwrap();
    let waits = waits.lock().unwrap().clone();
    assert_eq!(waits.len(), QUESTIONS as usize);
    waits
}

/// Hoang et al., USENIX Security 2021, §7: seen from inside, 99 % of forged answers are ahead by at most 364 ms. A host takes the first
/// answer and looks for no other, so the true one is what it waits for where nobody lies.
#[test]
fn a_forged_answer_is_ahead_of_the_true_one_and_by_no_more_than_was_published() {
    let within = |resolver, extra| {
        let (lies, truths) = (waits(resolver, extra, true), waits(resolver, extra, false));
        assert!(lies.iter().zip(&truths).all(|(lie, truth)| lie < truth));
        let leads = lies.iter().zip(&truths).map(|(lie, truth)| *truth - *lie);
        100 * leads.filter(|lead| lead.as_millis() <= 364).count() / lies.len()
    };
    for resolver in [0, 1, 2, 4, 5] {
        let share = within(resolver, Duration::ZERO);
        assert!(share >= 99, "{}: {share} %", REGIONS_2019[resolver]);
    }
    // In a world of twice the size it would not be so.
    let share = within(2, Duration::from_millis(450));
    assert!(share < 99, "{share} %");
}
