//! Datagrams and names.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Case, Harness, LONG, SETTLE, any, at, ensure};
use crate::runtime::{Clock, Net, Udp, timeout};

/// `Net::bind_udp`, `Udp`.
pub fn datagrams_arrive_with_their_source<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let (client, server) = (case.world.address(0), at(case.world.address(1)));
    case.check(1, move |rt| async move {
        let socket = rt.bind_udp(any(7_000)).await?;
        for _ in 0..3 {
            let (datagram, from) = socket.recv_from().await?;
            ensure!(from.ip() == client, "a datagram from {from}");
            let answer: Vec<u8> = datagram.iter().rev().copied().collect();
            socket.send_to(&answer, from).await?;
        }
        Ok(())
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let (socket, other) = (rt.bind_udp(any(0)).await?, rt.bind_udp(any(0)).await?);
        let ports = [socket.local_addr().port(), other.local_addr().port()];
        ensure!(!ports.contains(&0) && ports[0] != ports[1], "ports {ports:?}");
        for len in [1, 100, 1_200_usize] {
            let sent: Vec<u8> = (0..len).map(|i| i as u8).collect();
            socket.send_to(&sent, server).await?;
            let (answer, from) = timeout(&rt, Duration::from_secs(5), socket.recv_from()).await??;
            ensure!(from == server, "an answer from {from}");
            ensure!(answer.iter().rev().eq(&sent), "another answer to {len} bytes");
        }
        Ok(())
    });
    case.finish(LONG);
}

/// "Success says nothing about arrival."
pub fn a_datagram_to_nobody_is_no_error<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let nobody = SocketAddr::new(case.world.address(1), 9);
    case.serve(1, |_| std::future::pending());
    case.check(0, move |rt| async move {
        let socket = rt.bind_udp(any(0)).await?;
        for _ in 0..3 {
            socket.send_to(b"anybody?", nobody).await?;
            let answer = timeout(&rt, Duration::from_millis(200), socket.recv_from()).await;
            ensure!(answer.is_err(), "an answer from nobody: {answer:?}");
        }
        Ok(())
    });
    case.finish(LONG);
}

/// Full set: no datagram is larger than 65,507 bytes anywhere.
pub fn a_datagram_beyond_any_mtu_does_not_arrive<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let server = at(case.world.address(1));
    case.check(1, |rt| async move {
        let socket = rt.bind_udp(any(7_000)).await?;
        let (datagram, _) = socket.recv_from().await?;
        ensure!(&datagram[..] == b"small", "{} bytes arrived", datagram.len());
        Ok(())
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let socket = rt.bind_udp(any(0)).await?;
        // Refused or lost.
        let _ = socket.send_to(&vec![0; 70_000], server).await;
        rt.sleep(SETTLE).await;
        socket.send_to(b"small", server).await?;
        Ok(())
    });
    case.finish(LONG);
}

/// `Net::resolve`.
pub fn names_resolve_and_unknown_ones_do_not_exist<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let wanted = case.world.address(1);
    case.world.name("entry.phantom.invalid", vec![wanted]);
    case.check(0, move |rt| async move {
        let found = rt.resolve("entry.phantom.invalid").await?;
        ensure!(found == [wanted], "resolved to {found:?}");
        match rt.resolve("nobody.phantom.invalid").await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            other => Err(format!("an unknown name gives {other:?}").into()),
        }
    });
    case.finish(LONG);
}
