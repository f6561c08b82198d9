//! Streams.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Case, Check, Harness, LONG, SETTLE, any, at, ensure};
use crate::runtime::{Clock, Listener, Net, Runtime, Spawn, Stream, timeout};

/// Bytes that no shift, repetition or loss leaves as they are.
fn byte(index: usize) -> u8 {
    (index.wrapping_mul(2_654_435_761) >> 16) as u8
}

async fn write_pattern<W: AsyncWrite + Unpin>(to: &mut W, len: usize) -> Check {
    let (mut sent, mut size) = (0, 1);
    while sent < len {
        let next = (sent + size).min(len);
        let chunk: Vec<u8> = (sent..next).map(byte).collect();
        to.write_all(&chunk).await?;
        sent = next;
        size = size * 3 % 20_011 + 1;
    }
    to.flush().await?;
    Ok(())
}

async fn read_pattern<R: AsyncRead + Unpin>(from: &mut R, len: usize) -> Check {
    let mut buf = [0; 5_003];
    let mut got = 0;
    while got < len {
        let want = buf.len().min(len - got);
        let n = from.read(&mut buf[..want]).await?;
        ensure!(n > 0, "the end after {got} of {len} bytes");
        for (i, b) in buf[..n].iter().enumerate() {
            ensure!(*b == byte(got + i), "byte {} is not what was sent", got + i);
        }
        got += n;
    }
    Ok(())
}

/// A server on host 1 for one stream, and a client on host 0 that is connected to it.
fn pair<H, S, SF, C, CF>(server: S, client: C) -> Case<H>
where
    H: Harness,
    S: Fn(H::Runtime, <H::Runtime as Net>::Stream) -> SF + Send + Sync + Clone + 'static,
    SF: Future<Output = Check> + Send + 'static,
    C: Fn(H::Runtime, <H::Runtime as Net>::Stream) -> CF + Send + Sync + Clone + 'static,
    CF: Future<Output = Check> + Send + 'static,
{
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.check(1, move |rt| {
        let server = server.clone();
        async move {
            let mut listener = rt.listen(any(7_000)).await?;
            let stream = listener.accept().await?;
            server(rt, stream).await
        }
    });
    case.check(0, move |rt| {
        let client = client.clone();
        async move {
            rt.sleep(SETTLE).await;
            let stream = rt.connect(to).await?;
            client(rt, stream).await
        }
    });
    case
}

/// Order, integrity, large transfers in both directions at once.
pub fn streams_carry_both_ways_in_order<H: Harness>() {
    const LEN: usize = 1 << 20;
    async fn both<S: Stream>(stream: S) -> Check {
        let (mut from, mut to) = tokio::io::split(stream);
        let mut writing = std::pin::pin!(write_pattern(&mut to, LEN));
        let mut reading = std::pin::pin!(read_pattern(&mut from, LEN));
        tokio::select! {
            biased;
            written = &mut writing => written.and(reading.await),
            read = &mut reading => read.and(writing.await),
        }
    }
    pair::<H, _, _, _, _>(|_, stream| both(stream), |_, stream| both(stream)).finish(LONG);
}

/// `shutdown` ends one direction only.
pub fn a_half_closed_stream_still_carries_the_other_way<H: Harness>() {
    let server = |_, mut stream: <H::Runtime as Net>::Stream| async move {
        let mut asked = Vec::new();
        stream.read_to_end(&mut asked).await?;
        ensure!(asked == b"question", "asked {asked:?}");
        write_pattern(&mut stream, 50_000).await?;
        stream.shutdown().await?;
        Ok(())
    };
    let client = |_, mut stream: <H::Runtime as Net>::Stream| async move {
        stream.write_all(b"question").await?;
        stream.shutdown().await?;
        read_pattern(&mut stream, 50_000).await?;
        ensure!(stream.read(&mut [0]).await? == 0, "more than was sent");
        Ok(())
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}

/// A drop is an orderly close.
pub fn what_was_written_before_a_drop_arrives_and_then_the_end<H: Harness>() {
    let server = |_, mut stream: <H::Runtime as Net>::Stream| async move {
        write_pattern(&mut stream, 30_000).await?;
        drop(stream);
        Ok(())
    };
    let client = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        // The other end is long gone when its bytes are read.
        rt.sleep(SETTLE).await;
        read_pattern(&mut stream, 30_000).await?;
        ensure!(stream.read(&mut [0]).await? == 0, "more than was sent");
        ensure!(stream.read(&mut [0]).await? == 0, "the end does not last");
        Ok(())
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}

/// A live host answers for a port that nobody has.
pub fn a_port_that_nobody_listens_on_refuses<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.serve(1, |_| std::future::pending());
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        match timeout(&rt, Duration::from_secs(10), rt.connect(to)).await? {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(e) => Err(format!("not refused but {e}").into()),
            Ok(_) => Err("somebody is there".into()),
        }
    });
    case.finish(LONG);
}

/// `Net::listen`.
pub fn port_zero_picks_a_free_port_and_a_taken_one_is_refused<H: Harness>() {
    let mut case = Case::<H>::new(1);
    let own = case.world.address(0);
    case.check(0, move |rt| async move {
        let first = rt.listen(any(0)).await?;
        let second = rt.listen(any(0)).await?;
        let ports = [first.local_addr().port(), second.local_addr().port()];
        ensure!(!ports.contains(&0) && ports[0] != ports[1], "ports {ports:?}");
        match rt.listen(SocketAddr::new(own, ports[0])).await {
            Err(e) if e.kind() == ErrorKind::AddrInUse => {}
            Err(e) => return Err(format!("not taken but {e}").into()),
            Ok(_) => return Err("two listeners on one port".into()),
        }
        drop(first);
        ensure!(rt.listen(any(ports[0])).await.is_ok(), "a port stays taken");
        Ok(())
    });
    case.finish(LONG);
}

/// `Stream::peer_addr`, `Stream::local_addr`.
pub fn both_ends_agree_on_their_addresses<H: Harness>() {
    let server = |_, mut stream: <H::Runtime as Net>::Stream| async move {
        let seen = format!("{} {}\n", stream.peer_addr(), stream.local_addr());
        stream.write_all(seen.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(())
    };
    let client = |_, mut stream: <H::Runtime as Net>::Stream| async move {
        let mut seen = String::new();
        stream.read_to_string(&mut seen).await?;
        let wanted = format!("{} {}\n", stream.local_addr(), stream.peer_addr());
        ensure!(seen == wanted, "the server sees {seen:?}, the client {wanted:?}");
        Ok(())
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}

/// Nobody writes into the void for ever.
pub fn writing_to_a_peer_that_is_gone_fails_in_the_end<H: Harness>() {
    let server = |_, stream: <H::Runtime as Net>::Stream| async move {
        drop(stream);
        Ok(())
    };
    let client = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        rt.sleep(SETTLE).await;
        for _ in 0..200 {
            let wrote = stream.write_all(&[0; 1_000]).await;
            if let Err(e) = wrote.and(stream.flush().await) {
                let known = [
                    ErrorKind::BrokenPipe,
                    ErrorKind::ConnectionReset,
                    ErrorKind::ConnectionAborted,
                ];
                ensure!(known.contains(&e.kind()), "an error of another kind: {e:?}");
                return Ok(());
            }
            rt.sleep(Duration::from_millis(20)).await;
        }
        Err("200 writes to nobody succeeded".into())
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}

/// `Listener::accept` is cancel safe.
pub fn an_accept_that_is_dropped_loses_no_stream<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.check(1, |rt| async move {
        let mut listener = rt.listen(any(7_000)).await?;
        let mut greetings = 0;
        while greetings < 10 {
            let Ok(accepted) = timeout(&rt, Duration::from_millis(3), listener.accept()).await else {
                continue;
            };
            let mut hello = [0; 5];
            accepted?.read_exact(&mut hello).await?;
            ensure!(&hello == b"hello", "greeted with {hello:?}");
            greetings += 1;
        }
        Ok(())
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        for _ in 0..10 {
            let mut stream = rt.connect(to).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await?;
            let _ = stream.read(&mut [0]).await;
        }
        Ok(())
    });
    case.finish(LONG);
}

/// A crash takes the sockets with it, and frees their ports.
pub fn after_a_crash_no_byte_comes_and_the_restarted_host_listens_again<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.serve(1, |rt| async move {
        let mut listener = rt.listen(any(7_000)).await?;
        loop {
            let (clock, mut stream) = (rt.clone(), listener.accept().await?);
            rt.spawn("ticks", async move {
                while stream.write_all(b"t").await.is_ok() && stream.flush().await.is_ok() {
                    clock.sleep(Duration::from_millis(20)).await;
                }
            });
        }
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let mut before = rt.connect(to).await?;
        before.read_exact(&mut [0; 3]).await?;
        // The crash is at 1 s, the restart at 2 s.
        rt.sleep_until(crate::units::Instant::ZERO + Duration::from_millis(1_500))
            .await;
        let mut after = 0;
        let silent = timeout(&rt, Duration::from_secs(2), async {
            let mut buf = [0; 4_096];
            // What was under way may still be read; then there is an end, an error, or nothing.
            while let Ok(n @ 1..) = before.read(&mut buf).await {
                after += n;
            }
        });
        let _ = silent.await;
        ensure!(after < 80, "{after} ticks were read of about 50");
        drop(before);
        for attempt in 0.. {
            match timeout(&rt, Duration::from_secs(2), rt.connect(to)).await {
                Ok(Ok(mut again)) => return Ok(again.read_exact(&mut [0; 3]).await.map(drop)?),
                _ if attempt == 20 => break,
                _ => rt.sleep(Duration::from_millis(200)).await,
            }
        }
        Err("the restarted host does not listen".into())
    });
    case.world.crash(Duration::from_millis(1_000), 1);
    case.world.start(Duration::from_millis(2_000), 1);
    case.finish(Duration::from_secs(60));
}

/// Streams do not disturb each other.
pub fn many_streams_at_once<H: Harness>() {
    const STREAMS: usize = 40;
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.serve(1, |rt| async move {
        let mut listener = rt.listen(any(7_000)).await?;
        loop {
            let mut stream = listener.accept().await?;
            rt.spawn("echo", async move {
                let mut buf = [0; 8];
                if stream.read_exact(&mut buf).await.is_ok() {
                    let _ = stream.write_all(&buf).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let (done, mut results) = tokio::sync::mpsc::channel(STREAMS);
        for i in 0..STREAMS {
            let (own, done) = (rt.clone(), done.clone());
            rt.spawn("ask", async move {
                let _ = done
                    .send(ask(&own, to, i as u64).await.map_err(|e| e.to_string()))
                    .await;
            });
        }
        for _ in 0..STREAMS {
            results.recv().await.ok_or("a task vanished")??;
        }
        Ok(())
    });
    case.finish(LONG);
}

async fn ask<R: Runtime>(rt: &R, to: SocketAddr, number: u64) -> Check {
    let mut stream = rt.connect(to).await?;
    stream.write_all(&number.to_be_bytes()).await?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await?;
    ensure!(answer == number.to_be_bytes(), "{number} came back as {answer:?}");
    Ok(())
}

/// Full set: back-pressure.
pub fn a_writer_waits_while_nobody_reads<H: Harness>() {
    const BOUND: usize = 64 << 20;
    let server = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        rt.sleep(Duration::from_secs(3)).await;
        let mut sent = [0; 8];
        let mut got: u64 = 0;
        let mut buf = vec![0; 1 << 16];
        loop {
            let n = stream.read(&mut buf).await?;
            ensure!(n > 0, "the end after {got} bytes");
            got += n as u64;
            // The last 8 bytes say how many there were before them; all others are 0xff.
            let tail = n.min(8);
            sent.rotate_left(tail);
            sent[8 - tail..].copy_from_slice(&buf[n - tail..n]);
            if u64::from_be_bytes(sent) == got.wrapping_sub(8) {
                return Ok(());
            }
        }
    };
    let client = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        let chunk = vec![0xff; 1 << 16];
        let mut sent = 0;
        while let Ok(n) = timeout(&rt, Duration::from_millis(500), stream.write(&chunk)).await {
            sent += n?;
            ensure!(sent < BOUND, "{sent} bytes were accepted that nobody reads");
        }
        // It goes on when the reader does.
        stream.write_all(&(sent as u64).to_be_bytes()).await?;
        stream.flush().await?;
        let _ = stream.read(&mut [0]).await;
        Ok(())
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}

/// Full set: `Net::connect`.
pub fn connecting_takes_a_round_trip<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let to = at(case.world.address(1));
    case.serve(1, |rt| async move {
        let mut listener = rt.listen(any(7_000)).await?;
        let mut streams = Vec::new();
        loop {
            streams.push(listener.accept().await?);
        }
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let before = rt.now();
        let _stream = rt.connect(to).await?;
        let took = rt.now().saturating_since(before);
        ensure!(took >= 2 * H::ONE_WAY, "connected after {took:?}");
        Ok(())
    });
    case.finish(LONG);
}

/// A close with unread bytes is a reset in many systems, which must not cost the peer what was sent before.
pub fn unread_bytes_do_not_destroy_an_answer<H: Harness>() {
    // More than the reader's system takes in before it reads: the rest is still on the sender's side at the close.
    const ANSWER: usize = 1 << 20;
    let server = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        rt.sleep(SETTLE).await;
        write_pattern(&mut stream, ANSWER).await?;
        drop(stream);
        Ok(())
    };
    let client = |rt: H::Runtime, mut stream: <H::Runtime as Net>::Stream| async move {
        stream.write_all(&[1; 2_000]).await?;
        stream.flush().await?;
        rt.sleep(3 * SETTLE).await;
        read_pattern(&mut stream, ANSWER).await
    };
    pair::<H, _, _, _, _>(server, client).finish(LONG);
}
