//! Clients over a network of real nodes: messages both ways, through the loss of an entry and the crash of a client.

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use net::Net;
use phantom_client::{ClientConfig, Command, Commands, ContactId, Notice, Secret, channels};
use phantom_core::dht::{self, Endpoint};
use phantom_core::event::{Event, Step, Tag};
use phantom_core::invite::Invitation;
use phantom_core::message::MAX_MESSAGE;
use phantom_core::message::contact::{self, accept};
use phantom_core::message::poll;
use phantom_core::rendezvous::{BridgeSlots, Bundle, Cohort, CohortPublic, StaticEntry, mint};
use phantom_core::runtime::{Clock, Spawn};
use phantom_core::units::Instant;
use phantom_sim::host::PeerId;
use phantom_sim::stage::{Act, HostSpec, Record, Stage, program};
use phantom_sim::swarm::SwarmStage;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

const TTL: Duration = Duration::from_secs(3_600);

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

/// What a client's user has got, by name: like a good program, it knows one that it is offered again after a crash.
type Inbox = Arc<Mutex<BTreeMap<Tag, Bytes>>>;

struct TestClient {
    peer: PeerId,
    inbox: Inbox,
}

/// One message of a user's.
#[derive(Clone)]
struct Letter {
    when: Instant,
    text: Bytes,
}

fn letters(count: u64, from: &str, len: usize) -> Vec<Letter> {
    (0..count)
        .map(|n| {
            let mut text = format!("{from} {n} ").into_bytes();
            text.resize(text.len().max(len), b'.');
            Letter {
                when: at(120 + 5 * n),
                text: text.into(),
            }
        })
        .collect()
}

/// What a client of a test is given.
struct Given {
    host: u8,
    entries: Vec<usize>,
    /// Its cohort, and DHT nodes that it knows.
    cohort: Cohort,
    dht_nodes: Vec<SocketAddr>,
    /// Which end of the exchange it is.
    first: bool,
    letters: Vec<Letter>,
    courier: Courier,
}

/// What two friends pass on out of band.
#[derive(Clone, Default)]
struct Courier {
    wanted: Arc<Mutex<Option<Box<CohortPublic>>>>,
    invitation: Arc<Mutex<Option<Invitation>>>,
}

impl Given {
    /// A client with published entries and nothing else.
    fn new(net: &mut Net, host: u8, entries: &[usize], first: bool, letters: Vec<Letter>) -> Self {
        let minted = mint(&mut net.rng, 1, 4).expect("four bridges");
        Self {
            host,
            entries: entries.to_vec(),
            cohort: minted.cohorts[0].clone(),
            dht_nodes: Vec::new(),
            first,
            letters,
            courier: Courier::default(),
        }
    }
}

fn add_client(net: &mut Net, host: u8, entries: &[usize], first: bool, letters: Vec<Letter>) -> TestClient {
    let given = Given::new(net, host, entries, first, letters);
    add(net, given)
}

/// Adds a client that writes its letters to its one contact.
fn add(net: &mut Net, given: Given) -> TestClient {
    let Given {
        host,
        entries,
        cohort,
        dht_nodes,
        first,
        letters,
        courier,
    } = given;
    let ip = IpAddr::V4(Ipv4Addr::new(10, 3, 0, host));
    let peer = net.stage.add_host(HostSpec::new(format!("client-{host}"), ip));
    let installation = Bundle {
        cohort,
        dht_nodes: dht_nodes.into(),
        routers: [].into(),
        entries: entries
            .iter()
            .map(|n| StaticEntry {
                endpoint: Endpoint::Addr(net.nodes[*n].address),
                identity: net.nodes[*n].keys.identity.public(),
                link: net.nodes[*n].keys.link.public(),
            })
            .collect(),
        directory: net.directory.pinned.clone(),
    };
    let mut config = ClientConfig::new(installation, Secret::Key(Zeroizing::new([host; 32])));
    config.poll = poll::Config {
        mean_gap: Duration::from_secs(2),
        boxes: 8,
    };
    let inbox: Inbox = Arc::default();
    let kept = inbox.clone();
    net.stage.set_program(
        peer,
        program(move |rt: <SwarmStage as Stage>::Runtime| {
            let (config, kept, letters) = (config.clone(), kept.clone(), letters.clone());
            let courier = courier.clone();
            async move {
                let (user, side) = channels();
                let running = rt.clone();
                rt.spawn("client", async move {
                    phantom_client::run(running, config, side)
                        .await
                        .expect("the client runs");
                });
                let (commands, mut notices) = (user.commands, user.notices);
                let asking = courier.clone();
                let taking = commands.clone();
                rt.spawn("user reads", async move {
                    while let Some(notice) = notices.recv().await {
                        match notice {
                            Notice::Message {
                                contact,
                                message,
                                text,
                                ..
                            }
                            | Notice::File {
                                contact,
                                message,
                                content: text,
                                ..
                            } => {
                                kept.lock().expect("one thread").insert(message, text);
                                let took = Command::Took { contact, message };
                                taking.send(took).await.expect("the client runs");
                            }
                            Notice::WantInvitation { cohort } => {
                                *asking.wanted.lock().expect("one thread") = Some(cohort);
                            }
                            _ => {}
                        }
                    }
                });
                rt.spawn(
                    "user meets the friend",
                    meet(rt.clone(), commands.clone(), courier, first),
                );
                let contact = ContactId::new("other").expect("a name");
                let (added, _) = oneshot::channel();
                let established = Box::new(exchange(first));
                let add = Command::AddContact {
                    id: contact.clone(),
                    contact: established,
                    added,
                };
                commands.send(add).await.expect("the client runs");
                for letter in letters {
                    if letter.when < rt.now() {
                        continue;
                    }
                    rt.sleep_until(letter.when).await;
                    let (accepted, answer) = oneshot::channel();
                    let contact = contact.clone();
                    let send = if letter.text.len() > MAX_MESSAGE {
                        Command::SendFile {
                            contact,
                            name: "letter".to_owned(),
                            content: letter.text,
                            ttl: TTL,
                            accepted,
                        }
                    } else {
                        Command::Send {
                            contact,
                            text: letter.text,
                            ttl: TTL,
                            accepted,
                        }
                    };
                    commands.send(send).await.expect("the client runs");
                    answer.await.expect("an answer").expect("accepted");
                }
                std::future::pending::<()>().await;
            }
        }),
    );
    net.stage.at(at(90), Act::Start(peer));
    TestClient { peer, inbox }
}

/// The second helps the first in, with a delay.
async fn meet(rt: impl Clock, commands: Commands, courier: Courier, first: bool) {
    loop {
        rt.sleep(Duration::from_secs(5)).await;
        if first {
            let given = courier.invitation.lock().expect("one thread").take();
            if let Some(invitation) = given {
                let (reply, answer) = oneshot::channel();
                let invitation = invitation.encode().into();
                let accept = Command::AcceptInvitation { invitation, reply };
                commands.send(accept).await.expect("the client runs");
                assert_eq!(answer.await.expect("an answer"), Ok(4), "four slots");
            }
        } else {
            let wanted = courier.wanted.lock().expect("one thread").take();
            if let Some(cohort) = wanted {
                let (reply, answer) = oneshot::channel();
                let fetch = Command::FetchInvitation { cohort, reply };
                commands.send(fetch).await.expect("the client runs");
                let fetched = answer.await.expect("an answer");
                *courier.invitation.lock().expect("one thread") = fetched;
            }
        }
    }
}

/// One side of the same exchange.
fn exchange(first: bool) -> phantom_core::message::contact::Contact {
    let mut rng = ChaCha12Rng::seed_from_u64(77);
    let card = contact::Invitation::new(&mut rng);
    let (theirs, answer) = accept(&card.to_text(), &mut rng).expect("accepted");
    if first {
        card.finish(&answer).expect("finished").0
    } else {
        theirs
    }
}

/// Every text of `sent` is in `inbox` once, and nothing else.
fn assert_arrived(inbox: &Inbox, sent: &[Letter]) {
    let mut got: Vec<Bytes> = inbox.lock().expect("one thread").values().cloned().collect();
    let mut wanted: Vec<Bytes> = sent.iter().map(|letter| letter.text.clone()).collect();
    got.sort();
    wanted.sort();
    assert_eq!(got.len(), wanted.len());
    assert!(got == wanted);
}

fn count(records: &[Record], peer: PeerId, wanted: impl Fn(&Event) -> bool) -> usize {
    records
        .iter()
        .filter(|record| record.peer == peer && wanted(&record.event))
        .count()
}

#[test]
fn messages_pass_both_ways_and_both_sides_know() {
    let mut net = Net::new(1, 3, 6);
    let (to_b, to_a) = (letters(20, "a", 100), letters(20, "b", 9_000));
    let a = add_client(&mut net, 1, &[0, 1], true, to_b.clone());
    let b = add_client(&mut net, 2, &[2, 3], false, to_a.clone());
    net.stage.run_until(at(360));
    let records = net.stage.take_records();
    for client in [&a, &b] {
        assert_eq!(
            count(&records, client.peer, |e| matches!(e, Event::Connected { .. })),
            1
        );
    }
    assert_arrived(&b.inbox, &to_b);
    assert_arrived(&a.inbox, &to_a);
    for client in [&a, &b] {
        let acknowledged = count(&records, client.peer, |e| {
            matches!(e, Event::MessageAcknowledged { .. })
        });
        assert_eq!(acknowledged, 20);
    }
    let mut delays: BTreeMap<Tag, Instant> = BTreeMap::new();
    let mut worst = Duration::ZERO;
    for record in &records {
        match record.event {
            Event::MessageAccepted { message, .. } => {
                delays.insert(message, record.at);
            }
            Event::MessageDelivered { message, .. } => {
                worst = worst.max(record.at.saturating_since(delays[&message]));
            }
            _ => {}
        }
    }
    assert!(
        worst < Duration::from_secs(30),
        "{worst:?} at two seconds between polls"
    );
}

#[test]
fn a_client_whose_entry_dies_finds_another_and_loses_nothing() {
    let mut net = Net::new(2, 3, 6);
    let (to_b, to_a) = (letters(16, "a", 100), letters(16, "b", 100));
    let a = add_client(&mut net, 1, &[0], true, to_b.clone());
    let b = add_client(&mut net, 2, &[2], false, to_a.clone());
    net.stage.at(at(150), Act::Crash(net.nodes[0].peer));
    net.stage.run_until(at(420));
    let records = net.stage.take_records();
    let steps: Vec<_> = records
        .iter()
        .filter(|record| record.peer == a.peer)
        .filter_map(|record| match record.event {
            Event::Connected { step, .. } => Some((step, record.at)),
            _ => None,
        })
        .collect();
    assert_eq!(steps[0].0, Step::Static);
    let (step, when) = steps[1];
    assert_eq!(step, Step::Directory, "the document it holds names others");
    assert!(when < at(150 + 60), "{when:?}");
    assert_arrived(&b.inbox, &to_b);
    assert_arrived(&a.inbox, &to_a);
}

#[test]
fn a_client_that_crashes_goes_on_where_it_was() {
    let mut net = Net::new(3, 3, 6);
    let (to_b, to_a) = (letters(16, "a", 4_000), letters(16, "b", 100));
    let a = add_client(&mut net, 1, &[0, 1], true, to_b.clone());
    let b = add_client(&mut net, 2, &[2, 3], false, to_a.clone());
    // At odd moments, so that boxes, answers and files are on their way.
    for (secs, peer) in [(131, a.peer), (144, b.peer), (157, a.peer), (158, b.peer)] {
        let down = Instant::ZERO + Duration::from_millis(secs * 1_000 + 137);
        net.stage.at(down, Act::Crash(peer));
        net.stage.at(down + Duration::from_millis(700), Act::Start(peer));
    }
    net.stage.run_until(at(480));
    let records = net.stage.take_records();
    // What was accepted arrives; what the user had not handed over when the crash came is not in question.
    for (from, to) in [(&a, &b), (&b, &a)] {
        let accepted = count(&records, from.peer, |e| {
            matches!(e, Event::MessageAccepted { .. })
        });
        let mut got: Vec<_> = to.inbox.lock().expect("one thread").values().cloned().collect();
        assert!(accepted >= 14, "{accepted}");
        assert_eq!(got.len(), accepted);
        got.sort();
        got.dedup();
        assert_eq!(got.len(), accepted, "each once");
    }
}

#[test]
fn attachments_arrive_whole_and_once_through_crashes_and_the_loss_of_an_entry() {
    let mut net = Net::new(6, 3, 6);
    let (to_b, to_a) = (letters(3, "a", 1_000_000), letters(2, "b", 300_000));
    let a = add_client(&mut net, 1, &[0], true, to_b.clone());
    let b = add_client(&mut net, 2, &[2, 3], false, to_a.clone());
    // The sender's way in dies while pieces are under way, then the sender itself; then the reader while it fetches.
    net.stage.at(at(122), Act::Crash(net.nodes[0].peer));
    for (millis, peer) in [(128_137, a.peer), (133_300, b.peer), (150_100, b.peer)] {
        let down = Instant::ZERO + Duration::from_millis(millis);
        net.stage.at(down, Act::Crash(peer));
        net.stage.at(down + Duration::from_millis(700), Act::Start(peer));
    }
    net.stage.run_until(at(600));
    let records = net.stage.take_records();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let of = |wanted: fn(&Event) -> bool| count(&records, from.peer, wanted);
        let accepted = of(|event| matches!(event, Event::MessageAccepted { .. }));
        assert!(accepted >= 2, "{accepted}");
        assert_eq!(
            of(|event| matches!(event, Event::MessageAcknowledged { .. })),
            accepted
        );
        let got = to.inbox.lock().expect("one thread").clone();
        assert_eq!(got.len(), accepted);
        let sent = [&to_b, &to_a].map(|letters| letters.iter().map(|letter| letter.text.clone()));
        let sent: BTreeSet<Bytes> = sent.into_iter().flatten().collect();
        let got: BTreeSet<Bytes> = got.into_values().collect();
        assert_eq!(got.len(), accepted, "each once");
        assert!(got.is_subset(&sent), "each whole");
    }
}

/// DHT nodes that know each other.
fn add_dht(net: &mut Net, nodes: u8) -> Vec<SocketAddr> {
    let address = |n: u8| SocketAddr::from(([10, 4, 0, n + 1], 6_881));
    for n in 0..nodes {
        let peer = net
            .stage
            .add_host(HostSpec::new(format!("dht-{n}"), address(n).ip()));
        net.stage.set_program(
            peer,
            program(move |rt: <SwarmStage as Stage>::Runtime| async move {
                let known = if n == 0 {
                    Vec::new()
                } else {
                    vec![Endpoint::Addr(address(n / 2))]
                };
                let config = dht::NodeConfig::new(address(n), known);
                dht::serve(rt, config, |_| {}).await.expect("the port is free");
            }),
        );
        net.stage.at(at(u64::from(n) / 4), Act::Start(peer));
    }
    (0..nodes).map(address).collect()
}

#[test]
fn a_client_without_entries_finds_a_bridge_in_the_dht_and_talks_over_it() {
    let mut net = Net::new(4, 3, 6);
    let dht_nodes = add_dht(&mut net, 16);
    let minted = mint(&mut net.rng, 1, 4).expect("four bridges");
    let bridges: Vec<PeerId> = minted
        .bridges
        .iter()
        .enumerate()
        .map(|(n, slots)| net.add_bridge(n, BridgeSlots(slots.clone()), dht_nodes.clone()))
        .collect();
    let (to_b, to_a) = (letters(10, "a", 100), letters(10, "b", 100));
    let mut given = Given::new(&mut net, 1, &[], true, to_b.clone());
    given.cohort = minted.cohorts[0].clone();
    given.dht_nodes = dht_nodes[..8].to_vec();
    let a = add(&mut net, given);
    let b = add_client(&mut net, 2, &[2], false, to_a.clone());
    net.stage.run_until(at(400));
    let records = net.stage.take_records();
    assert_eq!(bridges.len(), 4);
    let connected: Vec<_> = records
        .iter()
        .filter(|record| record.peer == a.peer)
        .filter_map(|record| match record.event {
            Event::Connected { step, .. } => Some((step, record.at)),
            _ => None,
        })
        .collect();
    assert_eq!(connected.len(), 1, "{connected:?}");
    assert_eq!(connected[0].0, Step::Dht);
    assert!(connected[0].1 < at(100), "within ten seconds: {connected:?}");
    let learned: BTreeSet<_> = records
        .iter()
        .filter(|record| record.peer == a.peer)
        .filter_map(|record| match record.event {
            Event::BridgeLearned { bridge, .. } => Some(bridge),
            _ => None,
        })
        .collect();
    assert!(
        (1..=2).contains(&learned.len()),
        "two of its four slots at most: {learned:?}"
    );
    assert_arrived(&b.inbox, &to_b);
    assert_arrived(&a.inbox, &to_a);
}

#[test]
fn a_friend_fetches_what_opens_the_way_and_learns_none_of_it() {
    let mut net = Net::new(5, 3, 6);
    let minted = mint(&mut net.rng, 1, 4).expect("four bridges");
    for (n, slots) in minted.bridges.iter().enumerate() {
        net.add_bridge(n, BridgeSlots(slots.clone()), Vec::new());
    }
    let (to_b, to_a) = (letters(4, "a", 100), letters(4, "b", 100));
    let courier = Courier::default();
    let mut given = Given::new(&mut net, 1, &[], true, to_b.clone());
    (given.cohort, given.courier) = (minted.cohorts[0].clone(), courier.clone());
    let a = add(&mut net, given);
    let mut given = Given::new(&mut net, 2, &[2], false, to_a.clone());
    given.courier = courier;
    let b = add(&mut net, given);
    net.stage.run_until(at(300));
    let records = net.stage.take_records();
    let by_friend = |e: &Event| {
        matches!(
            e,
            Event::Connected {
                step: Step::Friend,
                ..
            }
        )
    };
    assert_eq!(count(&records, a.peer, by_friend), 1);
    let learned = |peer| count(&records, peer, |e| matches!(e, Event::BridgeLearned { .. }));
    assert_eq!((learned(a.peer), learned(b.peer)), (4, 0));
    assert_arrived(&b.inbox, &to_b);
    assert_arrived(&a.inbox, &to_a);
}

/// Everybody starts at the same instant and holds the same document: without a draw of its own each would ask for the next one
/// in the same second as all others.
#[test]
fn clients_spread_their_fetch_of_a_document_over_a_third_of_an_interval() {
    let mut net = Net::new(9, 3, 6);
    let clients: Vec<PeerId> = (1..=12)
        .map(|host| {
            add_client(
                &mut net,
                host,
                &[usize::from(host) % 6],
                host % 2 == 1,
                Vec::new(),
            )
            .peer
        })
        .collect();
    net.stage.run_until(at(600));
    let interval = net::timing().interval;
    let mut fetched: BTreeMap<_, Vec<Instant>> = BTreeMap::new();
    for record in net.stage.take_records() {
        if let Event::DocumentAccepted { valid_after, .. } = record.event
            && clients.contains(&record.peer)
            // The first one is fetched on arrival.
            && record.at > at(240)
        {
            fetched.entry(valid_after).or_default().push(record.at);
        }
    }
    let spreads: Vec<Duration> = fetched
        .values()
        .filter(|times| times.len() == clients.len())
        .filter_map(|times| Some(times.iter().max()?.saturating_since(*times.iter().min()?)))
        .collect();
    assert!(spreads.len() >= 3, "{fetched:?}");
    for spread in spreads {
        assert!(spread > interval / 9 && spread < interval / 2, "{fetched:?}");
    }
}
