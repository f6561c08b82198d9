//! Links between nodes outlive nothing: a node that was restarted, or whose connection broke, is reached again at once by
//! those that it had dialled, and is known by whatever document is the newest.
//!
//! A real node runs on loopback; the test itself plays the other node of its document.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::client::DirectoryCache;
use phantom_core::directory::descriptor::{HopKeys, Roles, VersionRange};
use phantom_core::directory::document::{Document, DocumentHash, NodeEntry, SignedDocument, Timing};
use phantom_core::directory::sign::{AuthorityId, KeySet, Signatures};
use phantom_core::link::{self, Accepted, Channel, ClientAuth, Link, ServerAuth, rpc};
use phantom_core::mailbox::{
    BODY_LEN, BoxAddress, BoxSeed, Holder, OperatorId, Record, Reply, Rpc, TtlBucket, Unsigned, WriteCap,
};
use phantom_core::packet::{Class, Hop, HopPublic, NextHop, ReplayFilter, build};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Listener, Net, Spawn, Store, timeout};
use phantom_core::service::Service;
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::WallTime;
use phantom_node::config::{Directory, Keys, Limits, NodeConfig};
use phantom_node::directory::{FILE, Keeper};
use phantom_node::hopkeys::HopKeyStore;
use phantom_node::links::{Fresh, Links, ReachError};
use phantom_node::mailbox::Mailbox;
use phantom_node::store::{BoxStore, NodeTime, Source, StoreConfig};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

/// Far less than a session is parked for (10 min) or a silent node is left alone (10 s).
const SOON: Duration = Duration::from_secs(5);

/// A node that is to run, and another one that the test plays.
struct Scene {
    place: tempfile::TempDir,
    rt: TokioRuntime,
    config: NodeConfig,
    /// The document that lists both.
    signed: Vec<u8>,
    hop: HopKeys,
    other: Keys,
    other_at: SocketAddr,
}

impl Scene {
    /// `number` tells the addresses of this process's tests apart.
    async fn new(number: u8) -> Self {
        Self::begin(number, false).await
    }

    /// If the other node is a `newcomer`, the storage set before was the node alone.
    async fn begin(number: u8, newcomer: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        let net = 100 + (std::process::id() % 100) as u8;
        // Not the demo's port: it may have the same network at the same time.
        let at = |host: u8| SocketAddr::from(([127, net, number, host], 4432));
        let rt = TokioRuntime::start(Config {
            address: Some(at(1).ip()),
            ..Config::new("node", place.path().join("node"))
        })
        .unwrap();
        let mut rng = rt.rng("test");
        let mut keys = || Keys {
            identity: IdentitySecret::from_rng(&mut rng),
            link: LinkSecret::from_rng(&mut rng),
        };
        let (mine, other) = (keys(), keys());
        let authority = keys().identity;
        let directory = Directory {
            pinned: KeySet::new(0, 1, &[authority.public()]).unwrap(),
            authorities: Vec::new(),
            limits: TimeLimits::default(),
            timing: Timing::default(),
        };
        let config = NodeConfig {
            keys: mine,
            listen: vec![at(1)],
            addresses: vec![at(1)],
            roles: Roles::ALL,
            operator: OperatorId([1; 16]),
            directory,
            bridge: None,
            limits: Limits::default(),
            link: link::Config::default(),
        };
        let period = config.directory.timing.hop_period;
        let time = NodeTime::open(rt.clone(), TimeLimits::default()).await.unwrap();
        let capacity = ReplayFilter::capacity_for(config.limits.packets_per_second, period);
        let hop = HopKeyStore::open(rt.clone(), time, period, capacity)
            .await
            .unwrap();
        let hop = hop.public().unwrap();
        let entry = |keys: &Keys, operator, address| NodeEntry {
            id: keys.identity.public().node_id(),
            link: keys.link.public(),
            versions: VersionRange {
                min: link::VERSIONS.0,
                max: link::VERSIONS.1,
            },
            roles: Roles::ALL,
            capacity_log2: 0,
            operator: OperatorId([operator; 16]),
            hop,
            addresses: vec![address],
        };
        let mut nodes = vec![entry(&config.keys, 1, at(1)), entry(&other, 2, at(2))];
        nodes.sort_by_key(|node| node.id);
        let alone = Holder {
            node: config.keys.identity.public().node_id(),
            operator: config.operator,
        };
        let document = Document {
            valid_after: WallTime::from_unix_secs(rt.wall().as_unix_secs()),
            previous: DocumentHash::NONE,
            timing: Timing::default(),
            nodes,
            previous_storage: newcomer.then_some(alone).into_iter().collect(),
        }
        .encode();
        let mut signatures = Signatures::default();
        let signature = authority.sign(&Document::hash(&document).message());
        assert!(signatures.insert(AuthorityId::of(&authority.public()), signature));
        let signed = SignedDocument {
            document,
            signatures,
            changes: Vec::new(),
        }
        .encode();
        Self {
            place,
            rt,
            config,
            signed,
            hop,
            other,
            other_at: at(2),
        }
    }

    /// Runs the node, with the document; a client's link to it.
    async fn run(&self) -> Link {
        let mut cache =
            DirectoryCache::new(self.config.directory.pinned.clone(), self.config.directory.limits);
        cache
            .offer(&self.rt, self.rt.now(), self.rt.wall(), &self.signed)
            .unwrap();
        self.rt.write(FILE, &cache.persist()).await.unwrap();
        let (rt, config) = (self.rt.clone(), self.config.clone());
        self.rt.spawn("node", async move {
            phantom_node::run(rt, config, StoreConfig::default())
                .await
                .unwrap();
        });
        let client = self.life("client");
        let server = self.config.keys.link.public();
        self.dial(&client, &ClientAuth::Listed { server }).await
    }

    /// Another peer, or another life of the same.
    fn life(&self, name: &str) -> TokioRuntime {
        TokioRuntime::start(Config {
            address: Some(self.other_at.ip()),
            ..Config::new(name, self.place.path().join(name))
        })
        .unwrap()
    }

    /// A link to the node, which has taken it over when this returns.
    async fn dial(&self, rt: &TokioRuntime, auth: &ClientAuth) -> Link {
        let stream = loop {
            if let Ok(stream) = rt.connect(self.config.addresses[0]).await {
                break stream;
            }
            rt.sleep(Duration::from_millis(20)).await;
        };
        let link = link::connect(rt, stream, auth, &link::Config::default())
            .await
            .unwrap();
        link.ping().await.unwrap();
        rt.sleep(Duration::from_millis(100)).await;
        link
    }

    /// As the other node of the document.
    async fn dial_as_node(&self, rt: &TokioRuntime) -> Link {
        let auth = ClientAuth::Node {
            secret: self.other.link.clone(),
            server: self.config.keys.link.public(),
        };
        self.dial(rt, &auth).await
    }

    /// A packet that the node is to send on to the other one.
    fn packet(&self) -> Bytes {
        let hop = |keys: &Keys, key: HopPublic| Hop {
            reach: NextHop::Node(keys.identity.public().node_id()),
            key_id: self.hop.epoch,
            key,
        };
        let far = HopPublic::from_bytes(*self.other.link.public().as_bytes());
        let hops = [
            hop(&self.config.keys, self.hop.current),
            hop(&self.other, far),
            hop(&self.config.keys, far),
        ];
        let packet = build(&mut self.rt.rng("packet"), Class::Small, &hops, b"anything");
        packet.unwrap().into_bytes()
    }

    /// Sends packets over `client` until one comes out of `arrives`, which must be soon.
    async fn arrives_soon<T>(&self, client: &Link, arrives: impl Future<Output = T>) -> T {
        let send = async {
            loop {
                client.send(Channel::PACKET, self.packet()).await.unwrap();
                self.rt.sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(&self.rt, SOON, async {
            tokio::select! {
                arrived = arrives => arrived,
                () = send => unreachable!("it sends for ever"),
            }
        })
        .await
        .expect("a packet arrives soon")
    }

    /// Is dialled as the other node, and gets a packet.
    async fn packet_over_a_new_link(&self, rt: &TokioRuntime) {
        let mut listener = rt.listen(self.other_at).await.unwrap();
        let stream = listener.accept().await.unwrap();
        let auth = ServerAuth::listed(self.other.link.clone());
        let Accepted::New(link, _) = link::accept(rt, stream, &auth, &link::Config::default())
            .await
            .unwrap()
        else {
            panic!("nothing is there to resume");
        };
        assert_eq!(
            link.recv().await.map(|(channel, _)| channel),
            Some(Channel::PACKET)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_and_came_back_is_reached_though_it_had_made_the_link() {
    let scene = Scene::new(1).await;
    let client = scene.run().await;
    let first_life = scene.life("other");
    let made = scene.dial_as_node(&first_life).await;
    let arrives = async { made.recv().await.map(|(channel, _)| channel) };
    assert_eq!(
        scene.arrives_soon(&client, arrives).await,
        Some(Channel::PACKET),
        "while it stands it is used"
    );
    // Killed: the connection breaks without a goodbye.
    first_life.shutdown().await;
    let second_life = scene.life("other");
    scene
        .arrives_soon(&client, scene.packet_over_a_new_link(&second_life))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_links_that_a_node_made_the_newer_is_used() {
    let scene = Scene::new(2).await;
    let client = scene.run().await;
    // Cut off without a word, the node would look alive over its old connection for more than a minute.
    let other = scene.life("other");
    let old = scene.dial_as_node(&other).await;
    let new = scene.dial_as_node(&other).await;
    let arrives = async { new.recv().await.map(|(channel, _)| channel) };
    assert_eq!(scene.arrives_soon(&client, arrives).await, Some(Channel::PACKET));
    assert_eq!(old.recv().await, None, "the old one is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_machine_refused_is_tried_again_soon() {
    let scene = Scene::new(3).await;
    let client = scene.run().await;
    client.send(Channel::PACKET, scene.packet()).await.unwrap();
    scene.rt.sleep(Duration::from_millis(300)).await;
    let other = scene.life("other");
    scene
        .arrives_soon(&client, scene.packet_over_a_new_link(&other))
        .await;
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The links of a node without the rest of it; each new one comes out of the channel, and is closed when it is dropped.
async fn only_links(
    scene: &Scene,
    config: NodeConfig,
) -> (
    Arc<Keeper<TokioRuntime>>,
    Arc<Links<TokioRuntime>>,
    mpsc::Receiver<Fresh<TokioRuntime>>,
) {
    let rt = scene.rt.clone();
    let keeper = Arc::new(Keeper::open(rt.clone(), &scene.config.directory).await.unwrap());
    let (fresh, started) = mpsc::channel(64);
    let links = Links::new(rt, config, keeper.clone(), move |link| {
        fresh.try_send(link).map_err(|_| "room for them all").unwrap();
    });
    (keeper, Arc::new(links), started)
}

/// A configuration that gives a dial up after a second.
fn impatient(scene: &Scene) -> NodeConfig {
    let mut config = scene.config.clone();
    config.link.handshake_limit = Duration::from_secs(1);
    config
}

/// Takes connections as the other node and says nothing; counts them.
async fn silent(scene: &Scene) -> Arc<AtomicU32> {
    let rt = scene.life("other");
    let mut listener = rt.listen(scene.other_at).await.unwrap();
    let dialled = Arc::new(AtomicU32::new(0));
    let count = dialled.clone();
    rt.clone().spawn("silence", async move {
        let mut held = Vec::new();
        while let Ok(stream) = listener.accept().await {
            held.push(stream);
            count.fetch_add(1, Ordering::Relaxed);
        }
        drop(rt);
    });
    dialled
}

/// Those who wait for a node that takes connections and says nothing fail together when the first dial does. It is not dialled
/// again before it has rested, counted from then: otherwise each who waited would dial in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_rests_from_the_end_of_a_dial() {
    let scene = Scene::new(5).await;
    let (keeper, links, _started) = only_links(&scene, impatient(&scene)).await;
    keeper.offer(&scene.signed).await.unwrap();
    let (dialled, rt) = (silent(&scene).await, &scene.rt);
    let node = scene.other.identity.public().node_id();
    let began = rt.now();
    let (tell, mut told) = mpsc::channel(3);
    for _ in 0..3 {
        let (links, tell) = (links.clone(), tell.clone());
        scene.rt.spawn("waits", async move {
            let _ = tell.send(links.reach(node).await.is_err()).await; // the test waits for all three
        });
    }
    for _ in 0..3 {
        assert_eq!(told.recv().await, Some(true));
    }
    // Ten seconds from the beginning of the dial are over, from its end they are not.
    rt.sleep_until(began + Duration::from_millis(10_300)).await;
    assert!(links.reach(node).await.is_err());
    let took = rt.now().saturating_since(began);
    assert!(took < Duration::from_millis(10_900), "it fails at once: {took:?}");
    assert_eq!(dialled.load(Ordering::Relaxed), 1);
}

/// How many of 200 packets for a silent node are given up at once, while the others wait for its link.
async fn given_up_at_once(scene: &Scene, outbox_max: usize) -> usize {
    let mut config = impatient(scene);
    config.limits.outbox_max = outbox_max;
    let (keeper, links, _started) = only_links(scene, config).await;
    keeper.offer(&scene.signed).await.unwrap();
    let _dialled = silent(scene).await;
    let node = scene.other.identity.public().node_id();
    let (tell, mut told) = mpsc::channel(200);
    for _ in 0..200 {
        let (links, tell) = (links.clone(), tell.clone());
        scene.rt.spawn("packet", async move {
            let sent = links.send_packet(node, Bytes::from_static(b"packet")).await;
            tell.send(sent).await.unwrap();
        });
    }
    scene.rt.sleep(Duration::from_millis(500)).await;
    let mut full = 0;
    while let Ok(sent) = told.try_recv() {
        assert!(matches!(sent, Err(ReachError::Full(_))), "{sent:?}");
        full += 1;
    }
    full
}

/// Of the 256 packets that a relay has in work at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_silent_node_holds_an_eighth_of_the_packets_in_work() {
    let scene = Scene::new(6).await;
    assert_eq!(
        given_up_at_once(&scene, Limits::default().outbox_max).await,
        200 - 32
    );
}

/// Even if there are many, or an operator lets more wait for each.
#[tokio::test(flavor = "multi_thread")]
async fn all_silent_nodes_together_hold_half_of_the_packets_in_work() {
    let scene = Scene::new(7).await;
    assert_eq!(given_up_at_once(&scene, 1_000).await, 200 - 128);
}

/// A box that is kept for an hour.
fn a_box(rt: &TokioRuntime, number: u64) -> Record {
    let bucket = TtlBucket::covering(Duration::from_secs(3_600)).unwrap();
    let content = Unsigned {
        bucket,
        not_after: bucket.bound(rt.wall() + bucket.ttl()),
        body: Bytes::from(vec![1; BODY_LEN]),
    };
    let cap = WriteCap::from_rng(&mut rt.rng("capability"));
    Record::sign(&cap, &BoxSeed::derive(&[2; 32], b"test", number), content)
}

/// Takes over what it is offered, as the other node; its first answer fails. Returns the addresses of what it was given.
async fn takes_over(scene: &Scene, rt: &TokioRuntime, count: usize) -> BTreeSet<BoxAddress> {
    let mut listener = rt.listen(scene.other_at).await.unwrap();
    let stream = listener.accept().await.unwrap();
    let auth = ServerAuth::listed(scene.other.link.clone());
    let accepted = link::accept(rt, stream, &auth, &link::Config::default()).await;
    let Ok(Accepted::New(link, _)) = accepted else {
        panic!("a fresh link: {accepted:?}");
    };
    let rpc = rpc::Rpc::new(rt.clone(), link.sender(), rpc::RpcConfig::default());
    let (mut held, mut asked) = (BTreeSet::new(), 0);
    while held.len() < count {
        let (request, responder) = tokio::select! {
            message = link.recv() => {
                let (_, message) = message.expect("the link lasts");
                assert_eq!(rpc.deliver(&message), Ok(()), "no rule of links is broken");
                continue;
            }
            request = rpc.next_request() => request,
        };
        asked += 1;
        if asked == 1 {
            continue; // given up: the first offer fails
        }
        let (_, body) = Service::of_request(&request).unwrap();
        let reply = match Rpc::decode(&body).unwrap() {
            Rpc::Offer(addresses) => {
                Reply::Offer(addresses.iter().map(|address| !held.contains(address)).collect())
            }
            Rpc::Batch(records) => {
                let all = vec![true; records.len()];
                held.extend(records.iter().map(|record| *record.address()));
                Reply::Batch(all)
            }
            call => panic!("nobody puts or reads: {call:?}"),
        };
        responder.answer(reply.encode().into()).await.unwrap();
    }
    held
}

/// The old holder of a hundred boxes gives them all to the new one, in batches that a link takes, and offers again what was
/// not answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_of_a_hundred_boxes_arrives_whole() {
    let scene = Scene::begin(8, true).await;
    let rt = scene.rt.clone();
    let (keeper, links, mut started) = only_links(&scene, scene.config.clone()).await;
    keeper.offer(&scene.signed).await.unwrap();
    let time = NodeTime::open(rt.clone(), TimeLimits::default()).await.unwrap();
    let boxes = BoxStore::open(rt.clone(), time, StoreConfig::default())
        .await
        .unwrap();
    let mut addresses = BTreeSet::new();
    for number in 0..100 {
        let record = a_box(&rt, number);
        boxes.put(Source::OWN, &record).await.unwrap();
        addresses.insert(*record.address());
    }
    rt.spawn("the node's link", async move {
        let Fresh { link, peer, .. } = started.recv().await.unwrap();
        while let Some((_, message)) = link.recv().await {
            peer.rpc.deliver(&message).unwrap();
        }
    });
    let me = scene.config.keys.identity.public().node_id();
    let mailbox = Mailbox::new(rt.clone(), me, boxes, keeper, links);
    rt.spawn("hand-over", mailbox.hand_over_forever(Duration::from_secs(1)));
    let other = scene.life("other");
    let taken = timeout(&rt, 4 * SOON, takes_over(&scene, &other, addresses.len())).await;
    assert_eq!(taken, Ok(addresses));
}

/// Connections without a byte are waited for ten seconds and longer. Meanwhile others come and go.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_connections_and_says_nothing_keeps_nobody_out() {
    let scene = Scene::new(10).await;
    let _first = scene.run().await;
    let IpAddr::V4(other) = scene.other_at.ip() else {
        panic!("the scene is on loopback");
    };
    let crowd = TokioRuntime::start(Config {
        address: Some(Ipv4Addr::from_bits(other.to_bits() + 1).into()),
        ..Config::new("crowd", scene.place.path().join("crowd"))
    })
    .unwrap();
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(crowd.connect(scene.config.addresses[0]).await.unwrap());
    }
    let auth = ClientAuth::Listed {
        server: scene.config.keys.link.public(),
    };
    let client = scene.life("another client");
    let dial = scene.dial(&client, &auth);
    let link = timeout(&scene.rt, SOON, dial)
        .await
        .expect("a link comes up soon");
    assert!(link.is_up());
    // Their own oldest made room for the newest of them.
    let mut byte = [0];
    let oldest = timeout(&crowd, SOON, silent[0].read(&mut byte)).await.unwrap();
    assert!(!oldest.is_ok_and(|read| read > 0), "it is closed without a byte");
}

/// Handshakes that hang up leave sessions behind, which are kept so that clients can resume theirs. They take the place of
/// nobody who is there, and what listed nodes have among themselves is no client's to use up.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_hung_up_make_room_for_those_who_come() {
    let mut scene = Scene::new(9).await;
    scene.config.limits.links_max = 4;
    let stays = scene.run().await;
    let client = ClientAuth::Listed {
        server: scene.config.keys.link.public(),
    };
    for life in 0..6 {
        let gone = scene.life(&format!("gone {life}"));
        let _no_goodbye = scene.dial(&gone, &client).await;
        gone.shutdown().await;
    }
    let rt = scene.life("others");
    let comes: Vec<Link> = [scene.dial(&rt, &client).await, scene.dial(&rt, &client).await].into();
    // With it the bound is met by links that all are in use.
    let last = scene.dial(&rt, &client).await;
    for link in comes.iter().chain([&stays, &last]) {
        assert!(timeout(&rt, SOON, link.ping()).await.unwrap().is_ok());
    }
    let stream = rt.connect(scene.config.addresses[0]).await.unwrap();
    let refused = link::connect(&rt, stream, &client, &link::Config::default())
        .await
        .unwrap();
    assert!(timeout(&rt, SOON, refused.recv()).await.unwrap().is_none());
    let node = scene.dial_as_node(&rt).await;
    assert!(timeout(&rt, SOON, node.ping()).await.unwrap().is_ok());
    assert!(node.is_up() && stays.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dialled_before_we_knew_it_is_answered_once_it_is_listed() {
    let scene = Scene::new(4).await;
    let rt = scene.rt.clone();
    let (keeper, links, mut started) = only_links(&scene, scene.config.clone()).await;
    let time = NodeTime::open(rt.clone(), TimeLimits::default()).await.unwrap();
    let boxes = BoxStore::open(rt.clone(), time, StoreConfig::default())
        .await
        .unwrap();
    let me = scene.config.keys.identity.public().node_id();
    let mailbox = Mailbox::new(rt.clone(), me, boxes, keeper.clone(), links.clone());

    let mut listener = rt.listen(scene.config.listen[0]).await.unwrap();
    let auth = ServerAuth::listed(scene.config.keys.link.clone());
    let accept = async {
        let stream = listener.accept().await.unwrap();
        link::accept(&rt, stream, &auth, &scene.config.link)
            .await
            .unwrap()
    };
    let other = scene.life("other");
    // The two ends wait for each other.
    let (mut accept, mut dial) = (pin!(accept), pin!(scene.dial_as_node(&other)));
    let (mut accepted, mut dialled) = (None, None);
    poll_fn(|cx| {
        if accepted.is_none() {
            accepted = ready(accept.as_mut().poll(cx));
        }
        if dialled.is_none() {
            dialled = ready(dial.as_mut().poll(cx));
        }
        match accepted.is_some() && dialled.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    let accepted = accepted.expect("both ended");
    let Accepted::New(link, _) = accepted else {
        panic!("nothing is there to resume");
    };
    assert!(links.accepted(link, Some(scene.other.link.public())));
    let peer = started.recv().await.unwrap().peer;
    let question = Bytes::from(Rpc::Have(vec![BoxAddress::from_bytes([7; 32])]).encode());
    assert_eq!(mailbox.answer(&peer, &question).await, None, "nobody is listed");
    keeper.offer(&scene.signed).await.unwrap();
    assert_eq!(
        mailbox.answer(&peer, &question).await,
        Some(Reply::Have(vec![false]))
    );
}
