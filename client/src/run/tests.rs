//! The client's task over real files: what a user took, what a restart offers again, what a lost link was asked.

use phantom_core::crypto::keys::{LinkSecret, NodeId};
use phantom_core::link::{self, ServerAuth};
use phantom_core::rendezvous::{Bundle, mint};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Owned, Spawn};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::*;
use crate::candidate::Candidate;
use crate::config::Secret;
use crate::entry::Won;
use crate::mail::tests::Pair;
use crate::user::{UserSide, channels};

/// The configuration of a client that has no network.
pub(crate) fn config() -> ClientConfig {
    let minted = mint(&mut ChaCha12Rng::seed_from_u64(1), 1, 4).expect("four bridges");
    let key = phantom_core::crypto::keys::IdentitySecret::from_bytes(&[1; 32]).public();
    let bundle = Bundle {
        cohort: minted.cohorts[0].clone(),
        dht_nodes: [].into(),
        routers: [].into(),
        entries: [].into(),
        directory: phantom_core::directory::sign::KeySet::new(0, 1, &[key]).expect("1 of 1"),
    };
    let mut config = ClientConfig::new(bundle, Secret::Key(Zeroizing::new([1; 32])));
    config.steps.clear();
    config
}

/// Starts the client whose files `rt` has.
fn start(rt: &TokioRuntime) -> (Owned<<TokioRuntime as Spawn>::Task>, UserSide) {
    let (user, side) = channels();
    let running = rt.clone();
    let task = rt.spawn("client", async move {
        run(running, config(), side).await.expect("it runs");
    });
    (Owned(task), user)
}

/// The next `count` messages: their texts and how to say that they were taken.
async fn read(user: &mut UserSide, count: usize) -> Vec<(Bytes, Command)> {
    let mut read = Vec::new();
    while read.len() < count {
        let notice = user.notices.recv().await.expect("the client runs");
        if let Notice::Message {
            contact,
            message,
            text,
            ..
        } = notice
        {
            read.push((text, Command::Took { contact, message }));
        }
    }
    read
}

/// The client has done what it was told, and offered what there is.
async fn settled(user: &UserSide) {
    let (reply, answer) = tokio::sync::oneshot::channel();
    user.commands
        .send(Command::Report(reply))
        .await
        .expect("the client runs");
    answer.await.expect("an answer");
}

#[tokio::test]
async fn a_message_is_offered_until_its_user_took_it_and_then_never_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let mut pair = Pair::new(&rt);
    let texts = ["one", "two", "three"];
    for text in texts {
        drop(pair.send(text, Duration::from_secs(3_600)));
    }
    pair.carry();
    let (mut safe, _) = Safe::open(&rt, CLIENT_FILE, &config().secret).await.expect("new");
    let mut content = Vec::new();
    Kept::new(&mut ChaCha12Rng::seed_from_u64(2)).write(&mut content);
    pair.bob.encode(&mut content);
    safe.save(&content).await.expect("saved");

    // A client that sees them and takes none is killed.
    let (killed, mut user) = start(&rt);
    assert_eq!(read(&mut user, 3).await.len(), 3);
    drop((killed, user));

    // One that takes the first ends in good order.
    let (client, mut user) = start(&rt);
    let mut offered = read(&mut user, 3).await;
    assert_eq!(
        offered.iter().map(|(text, _)| &text[..]).collect::<Vec<_>>(),
        texts.map(str::as_bytes)
    );
    user.commands
        .send(offered.swap_remove(0).1)
        .await
        .expect("the client runs");
    user.commands.send(Command::Stop).await.expect("the client runs");
    while user.notices.recv().await.is_some() {}
    drop(client);

    // One that takes the others is killed once it has stored that.
    let (killed, mut user) = start(&rt);
    let offered = read(&mut user, 2).await;
    assert_eq!(
        offered.iter().map(|(text, _)| &text[..]).collect::<Vec<_>>(),
        [b"two".as_slice(), b"three"]
    );
    for (_, took) in offered {
        user.commands.send(took).await.expect("the client runs");
    }
    settled(&user).await;
    settled(&user).await;
    drop((killed, user));

    let (_client, mut user) = start(&rt);
    settled(&user).await;
    settled(&user).await;
    let left = std::iter::from_fn(|| user.notices.try_recv());
    assert_eq!(
        left.filter(|notice| matches!(notice, Notice::Message { .. }))
            .count(),
        0
    );
}

#[tokio::test]
async fn the_highest_time_is_stored_though_nothing_else_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let (_user, side) = channels();
    let (tell, _news) = queue::queue(REPORTS);
    let opened = Client::open(rt.clone(), config(), side.notices, tell).await;
    let mut client = opened.expect("a new client");
    client.settle().await.expect("stored");
    client.drive();
    assert!(!client.dirty, "nothing has changed");
    client.time_kept = WallTime::from_unix_secs(client.time_kept.as_unix_secs() - 3_601);
    client.drive();
    assert!(client.dirty);
}

#[tokio::test]
async fn what_a_lost_link_was_asked_is_asked_again_when_it_is_resumed() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let (user, side) = channels();
    let (tell, _news) = queue::queue(REPORTS);
    let opened = Client::open(rt.clone(), config(), side.notices, tell).await;
    let mut client = opened.expect("a new client");
    let server = LinkSecret::from_bytes([7; 32]);
    // Nobody listens there: what is lost stays lost.
    let nobody = ([127, 0, 0, 1], 9).into();
    let candidate = Candidate::listed(nobody, NodeId::from_bytes([7; 16]), server.public());
    let (near, far) = tokio::io::duplex(1 << 16);
    let config = client.config.link.clone();
    let (serving, auth, theirs) = (rt.clone(), ServerAuth::listed(server), config.clone());
    let served = Owned(rt.spawn("server", async move {
        let _link = link::accept(&serving, far, &auth, &theirs).await;
        std::future::pending::<()>().await;
    }));
    let link = link::connect(&rt, near, &candidate.auth(), &config).await;
    let won = Won {
        step: Step::Static,
        candidate,
        link: link.expect("a link"),
    };
    let at = client.time();
    client.obey(at); // It looks for a way in,
    client.entered(at, won); // and has found one.
    client.drive(); // It asks how to use the entry, and for a document.
    drop(served);
    client.lost();
    let suspended = client.suspended.as_mut().expect("a lost link");
    assert!(suspended.drive().is_none() && suspended.is_fetching());
    // The calls end without an answer while the link is lost.
    let number = suspended.number;
    client.told(Told::Hops(number, None));
    client.told(Told::Document(number, None));
    let suspended = client.suspended.as_mut().expect("a lost link");
    assert!(suspended.drive().is_some(), "it is going to ask again");
    assert!(!suspended.is_fetching());
    drop(user);
}

#[tokio::test]
async fn what_rotation_learned_outlives_the_run_and_a_state_without_it_opens() {
    let dir = tempfile::tempdir().expect("a directory");
    let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
    let candidate = Candidate::listed(
        ([192, 0, 2, 1], 443).into(),
        NodeId::from_bytes([7; 16]),
        LinkSecret::from_bytes([7; 32]).public(),
    );
    // As an earlier version stored it.
    let (mut safe, _) = Safe::open(&rt, CLIENT_FILE, &config().secret).await.expect("new");
    let mut content = Vec::new();
    Kept::new(&mut ChaCha12Rng::seed_from_u64(2)).write(&mut content);
    content.extend([0, 0, 0]); // no contacts and no attachments
    safe.save(&content).await.expect("saved");
    for run in 0..2 {
        let (_user, side) = channels();
        let (tell, _news) = queue::queue(REPORTS);
        let opened = Client::open(rt.clone(), config(), side.notices, tell).await;
        let mut client = opened.expect("it opens");
        let free = client.rotor.free_at(client.rt.now(), &candidate, 0);
        let left = free.expect("not for ever").saturating_since(client.rt.now());
        if run == 0 {
            assert_eq!(left, Duration::ZERO);
            let reset = phantom_rotation::Input::Missed(candidate.way(), Failure::Reset);
            client.rotor.tell(client.rt.now(), reset);
            client.settle().await.expect("stored");
        } else {
            assert!(left > Duration::from_secs(170), "{left:?}");
        }
    }
}

#[test]
fn an_idle_client_is_small_and_may_move_between_threads() {
    const fn is_send<F: std::future::Future + Send>(_: &F) {}
    let (_, side) = crate::user::channels();
    let client = size_of::<Client<TokioRuntime>>();
    // Never called: only the type of the future counts.
    let future = |rt: TokioRuntime, config: ClientConfig| {
        let future = run(rt, config, side);
        is_send(&future);
        size_of_val(&future)
    };
    drop(future);
    assert!(
        client <= 6 * 1_024,
        "{client} bytes, of 20 KiB with its contacts and its link"
    );
}
