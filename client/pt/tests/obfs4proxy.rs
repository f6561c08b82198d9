//! The parent's side with a program of others: obfs4proxy, on loopback. Not installed, nothing is tested; with
//! `PHANTOM_REQUIRE_INTEROP` set that is a failure.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "drives programs of the real world, on tokio"
)]

mod common;

use std::time::Duration;

use common::{Kept, LIMIT, accept, client, exists, installed, listen, rng, server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use phantom_pt::args::Args;
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::name::TransportName;
use phantom_pt::orport::{self, Cookie, Nonce};
use phantom_pt::parent::{DialError, Limits, Method};
use phantom_pt::socks::{self, Names, Target};
use tokio::io::copy_bidirectional;
use tokio::net::TcpListener;
use tokio::time::timeout;

fn obfs4() -> TransportName {
    "obfs4".parse().unwrap()
}

/// A server of obfs4, which hands its connections over at `orport`, and what its clients must know.
async fn bridge(orport: OrPort) -> Option<(Kept, Method)> {
    let program = installed("obfs4proxy")?;
    let mut transport = ServerTransport::new(obfs4());
    transport.bind = Some(([127, 0, 0, 1], 0).into());
    transport.options = Args::new().with("iat-mode", "0").unwrap();
    let mut kept = Kept::start(&program, server(transport, orport), Limits::default());
    let methods = timeout(LIMIT, kept.managed.ready()).await.unwrap().unwrap();
    let method = methods.ready[&obfs4()].clone();
    assert_eq!(method.args.value("cert").unwrap().len(), 70);
    Some((kept, method))
}

async fn plain_orport() -> (TcpListener, OrPort) {
    let behind = listen().await;
    let orport = OrPort::Plain(behind.local_addr().unwrap());
    (behind, orport)
}

#[tokio::test]
async fn a_megabyte_crosses_obfs4proxy_each_way_and_its_client_is_introduced() {
    let folder = tempfile::tempdir().unwrap();
    let cookie_file = folder.path().join("cookie");
    let cookie = Cookie::from_rng(&mut rng(3));
    cookie.write(&cookie_file).unwrap();
    let behind = listen().await;
    let address = behind.local_addr().unwrap();
    let orport = OrPort::Extended { address, cookie_file };
    let Some((bridge, method)) = bridge(orport).await else {
        return;
    };
    let program = installed("obfs4proxy").unwrap();
    let mut dialler = Kept::start(&program, client("obfs4"), Limits::default());
    let methods = timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();

    let target = Target::from(method.address);
    let dialled = tokio::spawn(async move { methods.dial(&obfs4(), &target, &method.args, LIMIT).await });
    let stream = accept(&behind).await;
    let accepted = orport::accept(stream, &cookie, Nonce::from_rng(&mut rng(4)), LIMIT)
        .await
        .unwrap();
    assert_eq!(accepted.introduction().transport, Some(obfs4()));
    assert!(accepted.introduction().client.unwrap().ip().is_loopback());
    let far = accepted.allow(LIMIT).await.unwrap();
    let near = dialled.await.unwrap().unwrap();
    common::a_megabyte_each_way(near, far).await;
    bridge.end().await;
    dialler.end().await;
}

#[tokio::test]
async fn a_killed_obfs4proxy_is_started_again_and_an_ended_one_is_gone() {
    let (behind, orport) = plain_orport().await;
    let Some((bridge, method)) = bridge(orport).await else {
        return;
    };
    let mut limits = Limits::default();
    limits.restart.pause_min = Duration::from_millis(100);
    let program = installed("obfs4proxy").unwrap();
    let mut dialler = Kept::start(&program, client("obfs4"), limits);
    let first = dialler.process().await;
    timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    let (reason, restart_in) = dialler.end_of_life().await;
    assert!(reason.contains("obfs4proxy: it ended (signal: 9"), "{reason}");
    assert!(restart_in.unwrap() <= Duration::from_millis(100));
    let second = dialler.process().await;
    assert_ne!(first, second);
    assert!(!exists(first), "a zombie");

    // The second is as good as the first.
    let methods = timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();
    let near = methods
        .dial(&obfs4(), &method.address.into(), &method.args, LIMIT)
        .await
        .unwrap();
    common::a_megabyte_each_way(near, accept(&behind).await).await;
    dialler.end().await;
    bridge.end().await;
    assert!(!exists(second), "an orphan or a zombie");
}

#[tokio::test]
async fn obfs4proxy_goes_through_the_upstream_proxy_it_is_given() {
    let (behind, orport) = plain_orport().await;
    let Some((bridge, method)) = bridge(orport).await else {
        return;
    };
    let proxy = listen().await;
    let uri = format!("socks5://{}", proxy.local_addr().unwrap());
    let role = Role::Client {
        transports: vec![obfs4()],
        proxy: Some(uri.parse().unwrap()),
    };
    let mut dialler = Kept::start(&installed("obfs4proxy").unwrap(), role, Limits::default());
    let methods = timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();
    let bridge_address = method.address;
    tokio::spawn(async move {
        let asked = socks::accept(accept(&proxy).await, Names::Refuse, LIMIT)
            .await
            .unwrap();
        assert_eq!(asked.request().target, Target::Address(bridge_address));
        let mut far = tokio::net::TcpStream::connect(bridge_address).await.unwrap();
        let mut near = asked.grant(far.local_addr().unwrap(), LIMIT).await.unwrap();
        let _ = copy_bidirectional(&mut near, &mut far).await;
    });
    let near = methods
        .dial(&obfs4(), &bridge_address.into(), &method.args, LIMIT)
        .await
        .unwrap();
    common::a_megabyte_each_way(near, accept(&behind).await).await;
    dialler.end().await;
    bridge.end().await;
}

#[tokio::test]
async fn what_obfs4proxy_refuses_or_cannot_do_is_told() {
    let Some(program) = installed("obfs4proxy") else {
        return;
    };
    let mut dialler = Kept::start(&program, client("obfs4"), Limits::default());
    let methods = timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();
    let nobody = Target::from(listen().await.local_addr().unwrap()); // dropped: nothing listens there
    let refused = methods
        .dial(&obfs4(), &nobody, &Args::new(), LIMIT)
        .await
        .unwrap_err();
    // obfs4 wants arguments.
    assert!(matches!(refused, DialError::Through(_)), "{refused}");
    let other = methods
        .dial(&"other".parse().unwrap(), &nobody, &Args::new(), LIMIT)
        .await;
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("other is not ready: it was not asked for")
    );
    dialler.end().await;

    let mut unknown = Kept::start(&program, client("no_such_transport"), Limits::default());
    let (reason, _) = unknown.end_of_life().await;
    assert!(reason.contains("no_such_transport"), "{reason}");
    unknown.end().await;
}
