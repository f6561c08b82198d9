//! A real authority on loopback; the test plays the other one, nodes and strangers.

use std::net::SocketAddr;

use phantom_core::directory::rpc::Notice;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Net, Spawn, Store};
use phantom_core::units::WallTime;

use super::*;

/// Far less than any limit that would end what is tested.
const SOON: Duration = Duration::from_secs(10);
/// A stranger may be idle for so long.
const IDLE: Duration = Duration::from_secs(2);

struct Scene {
    place: tempfile::TempDir,
    rt: TokioRuntime,
    config: AuthorityConfig,
    other: LinkSecret,
    other_identity: IdentitySecret,
    number: u8,
}

/// Host `host` of the test `number`.
fn at(number: u8, host: u8) -> SocketAddr {
    let net = 100 + u8::try_from(std::process::id() % 100).unwrap();
    SocketAddr::from(([127, net, number, host], 4431))
}

impl Scene {
    /// `number` tells the addresses of this process's tests apart.
    fn new(number: u8, interval: Duration) -> Self {
        let place = tempfile::tempdir().unwrap();
        let rt = life(place.path(), "authority", at(number, 1));
        let mut rng = rt.rng("test");
        let (identity, other_identity) = (
            IdentitySecret::from_rng(&mut rng),
            IdentitySecret::from_rng(&mut rng),
        );
        let (link_secret, other) = (LinkSecret::from_rng(&mut rng), LinkSecret::from_rng(&mut rng));
        let config = AuthorityConfig {
            keys: KeySet::new(0, 2, &[identity.public(), other_identity.public()]).unwrap(),
            identity,
            link_secret,
            listen: vec![at(number, 1)],
            others: vec![AuthorityContact {
                id: AuthorityId::of(&other_identity.public()),
                link: other.public(),
                addresses: vec![at(number, 2)],
            }],
            limits: TimeLimits::default(),
            timing: Timing {
                interval,
                hop_period: interval,
            },
            admission: Admission::Open,
            link: link::Config::default(),
        };
        Self {
            place,
            rt,
            config,
            other,
            other_identity,
            number,
        }
    }

    /// One with strict bounds, which runs.
    fn running(number: u8) -> Self {
        let scene = Self::new(number, Duration::from_secs(3_600));
        scene.run(
            &scene.rt,
            Bounds {
                handshakes: room::Bounds {
                    each: 4,
                    strangers: 8,
                },
                links: room::Bounds {
                    each: 4,
                    strangers: 8,
                },
                idle: IDLE,
            },
        );
        scene
    }

    fn run(&self, rt: &TokioRuntime, bounds: Bounds) {
        let (inner, config) = (rt.clone(), self.config.clone());
        rt.spawn("authority", async move {
            run_within(inner, config, bounds).await.unwrap();
        });
    }

    fn host(&self, host: u8) -> TokioRuntime {
        life(self.place.path(), &format!("host-{host}"), at(self.number, host))
    }

    async fn dial(&self, rt: &TokioRuntime, auth: &ClientAuth) -> Link {
        timeout(rt, SOON, async {
            loop {
                if let Ok(link) = dial(rt, self.config.listen[0], auth, &self.config.link).await {
                    return link;
                }
                rt.sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("a link comes up")
    }

    async fn dial_as_stranger(&self, rt: &TokioRuntime) -> Link {
        let server = self.config.link_secret.public();
        self.dial(rt, &ClientAuth::Listed { server }).await
    }

    async fn dial_as_other(&self, rt: &TokioRuntime) -> Link {
        let auth = ClientAuth::Node {
            secret: self.other.clone(),
            server: self.config.link_secret.public(),
        };
        self.dial(rt, &auth).await
    }
}

fn life(place: &std::path::Path, name: &str, at: SocketAddr) -> TokioRuntime {
    TokioRuntime::start(Config {
        address: Some(at.ip()),
        ..Config::new(name, place.join(name))
    })
    .unwrap()
}

async fn answers(rt: &TokioRuntime, asker: &Asker<TokioRuntime>, request: DirectoryRequest) -> bool {
    timeout(rt, SOON, asker.ask(&request)).await == Ok(Some(DirectoryResponse::Nothing))
}

fn anything() -> DirectoryRequest {
    DirectoryRequest::GetDocument {
        hash: None,
        known: DocumentHash::NONE,
        offset: 0,
    }
}

/// Strangers from many addresses take every link that there is, and ask for nothing; more of them say nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn idle_links_and_silent_strangers_keep_out_neither_nodes_nor_authorities() {
    let scene = Scene::running(1);
    let other = scene.host(2);
    let kept = Asker::over(&other, scene.dial_as_other(&other).await);
    assert!(answers(&other, &kept, DirectoryRequest::Notify(Notice::default())).await);
    let (mut links, mut streams) = (Vec::new(), Vec::new());
    for host in 10..16 {
        let rt = scene.host(host);
        for _ in 0..4 {
            links.push(scene.dial_as_stranger(&rt).await);
            streams.push(rt.connect(scene.config.listen[0]).await.unwrap());
        }
    }
    let node = scene.host(3);
    let asker = Asker::over(&node, scene.dial_as_stranger(&node).await);
    assert!(answers(&node, &asker, anything()).await, "a node is heard");
    assert!(
        answers(&other, &kept, DirectoryRequest::Notify(Notice::default())).await,
        "the link of the other authority is kept"
    );
    let again = Asker::over(&other, scene.dial_as_other(&other).await);
    assert!(answers(&other, &again, anything()).await, "and it gets a new one");
}

/// Both answer every ping. The stranger is shown the door, the authority is not.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_stranger_has_to_ask_for_something_to_stay() {
    let scene = Scene::running(2);
    let (other, stranger) = (scene.host(2), scene.host(3));
    let kept = scene.dial_as_other(&other).await;
    let idle = scene.dial_as_stranger(&stranger).await;
    let busy = Asker::over(&stranger, scene.dial_as_stranger(&stranger).await);
    for _ in 0..11 {
        assert!(answers(&stranger, &busy, anything()).await, "it is being used");
        stranger.sleep(IDLE / 10).await;
    }
    assert!(timeout(&stranger, SOON, idle.closed()).await.is_ok());
    assert!(timeout(&other, SOON, kept.ping()).await.unwrap().is_ok());
}

/// What an authority that starts tells the other one first: the test plays that one.
async fn first_notice(other: &TokioRuntime, scene: &Scene) -> Notice {
    let mut listener = other.listen(scene.config.others[0].addresses[0]).await.unwrap();
    let auth = ServerAuth::listed(scene.other.clone());
    loop {
        let stream = listener.accept().await.unwrap();
        let Ok(Accepted::New(link, _)) = link::accept(other, stream, &auth, &scene.config.link).await else {
            continue;
        };
        let rpc = Rpc::new(other.clone(), link.sender(), RpcConfig::default());
        while let Some((_, message)) = link.recv().await {
            rpc.deliver(&message).unwrap();
            let Ok((request, _)) = timeout(other, Duration::from_millis(1), rpc.next_request()).await else {
                continue;
            };
            let (_, body) = Service::of_request(&request).unwrap();
            if let Ok(DirectoryRequest::Notify(notice)) = DirectoryRequest::decode(&body) {
                return notice;
            }
        }
    }
}

/// Its vote for the interval from T is cast half an interval before. Whenever the machine dies from then on, and whatever its
/// clock says when it starts again, it does not vote for T once more.
#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_durable_before_a_statement_leaves() {
    let scene = Scene::new(3, Duration::from_secs(4));
    let other = scene.host(2);
    scene.run(&scene.rt, Bounds::default());
    let limit = Duration::from_secs(30);
    let notice = timeout(&other, limit, first_notice(&other, &scene))
        .await
        .unwrap();
    let [statement] = notice.statements[..] else {
        panic!("one statement: {notice:?}")
    };
    let kept = scene.rt.read("time").await.unwrap().expect("there is a time");
    let kept = WallTime::from_unix_nanos(u64::from_be_bytes(kept[..].try_into().unwrap()));
    assert!(kept >= statement.valid_after - Duration::from_secs(2));
}

/// The proof is told by the one whom it concerns, of all; then the machine is started anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_of_equivocation_outlives_a_restart() {
    let scene = Scene::new(4, Duration::from_secs(4));
    let other = scene.host(2);
    let long_ago = WallTime::from_unix_secs(1_000_000);
    let pair = [b"one", b"two"].map(|vote| Statement::new(&scene.other_identity, long_ago, vote));
    scene.run(&scene.rt, Bounds::default());
    let asker = Asker::over(&other, scene.dial_as_other(&other).await);
    let notice = Notice {
        statements: pair.to_vec(),
        signature: None,
    };
    assert!(answers(&other, &asker, DirectoryRequest::Notify(notice)).await);
    let kept = timeout(&other, SOON, async {
        while scene.rt.read(PROOFS).await.unwrap().is_none() {
            other.sleep(Duration::from_millis(20)).await;
        }
    });
    kept.await.expect("it is persisted");
    scene.rt.shutdown().await;
    let rt = life(scene.place.path(), "authority", scene.config.listen[0]);
    scene.run(&rt, Bounds::default());
    let limit = Duration::from_secs(30);
    let notice = timeout(&other, limit, first_notice(&other, &scene))
        .await
        .unwrap();
    assert_eq!(notice.statements[..2], pair);
    assert_eq!(notice.statements.len(), 3, "and it votes itself");
}

/// One authority accepts every errand and ends none.
#[tokio::test(flavor = "multi_thread")]
async fn errands_to_one_authority_are_bounded_and_take_no_room_from_another() {
    let mut scene = Scene::new(5, Duration::from_secs(3_600));
    let third = AuthorityContact {
        id: AuthorityId([3; 8]),
        ..scene.config.others[0].clone()
    };
    scene.config.others.push(third);
    let [dead, other] = [0, 1].map(|i| scene.config.others[i].id);
    let shared = Shared::open(scene.rt.clone(), scene.config.clone(), Bounds::default());
    let shared = shared.await.unwrap();
    let errand = |to| shared.in_background(to, async |_| std::future::pending().await);
    assert_eq!((0..1_000).filter(|_| errand(dead)).count(), ERRANDS_MAX);
    assert!(errand(other));
}
