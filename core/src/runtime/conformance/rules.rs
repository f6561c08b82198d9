//! A censor in front of a host: [`Ruled`] over the back end's own network.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Case, Check, Harness, LONG, SETTLE, any, at, ensure};
use crate::runtime::ruled::Ruled;
use crate::runtime::rules::{Forgery, Names, Protocol, Remote, Rule, SharedRules};
use crate::runtime::{Clock, Listener, Net, Runtime, Spawn, Udp, timeout};

/// Longer than a round trip takes, shorter than anything that gives up.
const A_WHILE: Duration = Duration::from_millis(700);

async fn echo<R: Runtime>(rt: R) -> Check {
    let mut listener = rt.listen(any(7_000)).await?;
    loop {
        let mut stream = listener.accept().await?;
        rt.spawn("echo", async move {
            let mut buf = [0; 1_024];
            while let Ok(n @ 1..) = stream.read(&mut buf).await {
                if stream.write_all(&buf[..n]).await.is_err() || stream.flush().await.is_err() {
                    break;
                }
            }
        });
    }
}

/// An echo server on host 1, and a client on host 0 behind rules.
fn censored<H, F, Fut>(client: F)
where
    H: Harness,
    F: Fn(Ruled<H::Runtime>, SharedRules, IpAddr) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Check> + Send + 'static,
{
    let mut case = Case::<H>::new(2);
    let server = case.world.address(1);
    case.world.name("entry.phantom.invalid", vec![server]);
    case.serve(1, echo);
    case.check(0, move |rt| {
        let client = client.clone();
        async move {
            rt.sleep(SETTLE).await;
            let rules = SharedRules::default();
            client(Ruled::new(rt, rules.clone()), rules, server).await
        }
    });
    case.finish(Duration::from_secs(60));
}

fn drop_all(server: IpAddr) -> Rule {
    Rule::Drop {
        remote: Remote::Addresses([server].into()),
        protocol: None,
    }
}

/// A drop hangs, on established streams too, in both directions, and heals when the rule ends.
pub fn a_drop_rule_stalls_established_streams_and_heals<H: Harness>() {
    async fn client<R: Runtime>(rt: Ruled<R>, rules: SharedRules, server: IpAddr) -> Check {
        let mut stream = rt.connect(at(server)).await?;
        let mut buf = [0; 4];
        stream.write_all(b"one.").await?;
        stream.read_exact(&mut buf).await?;
        stream.write_all(b"two.").await?;
        stream.flush().await?;
        let rule = rules.add(drop_all(server));
        // The answer to what was sent before the rule does not come in, and nothing goes out.
        ensure!(
            timeout(&rt, A_WHILE, stream.read_exact(&mut buf)).await.is_err(),
            "a dropped stream brought {buf:?}"
        );
        ensure!(
            timeout(&rt, A_WHILE, stream.write_all(b"x")).await.is_err(),
            "a dropped stream accepted bytes"
        );
        rules.remove(rule);
        stream.write_all(b"tri.").await?;
        let mut rest = [0; 8];
        timeout(&rt, Duration::from_secs(5), stream.read_exact(&mut rest)).await??;
        ensure!(&rest == b"two.tri.", "after the rule: {rest:?}");
        // A task that waits is woken by the end of the rule alone.
        let rule = rules.add(drop_all(server));
        let (clock, lifter) = (rt.clone(), rules.clone());
        rt.spawn("lifts", async move {
            clock.sleep(A_WHILE).await;
            lifter.remove(rule);
        });
        let before = rt.now();
        timeout(&rt, Duration::from_secs(5), stream.write_all(b"four")).await??;
        // A task that nobody wakes would go on when the limit does wake it.
        let took = rt.now().saturating_since(before);
        ensure!(
            took < Duration::from_secs(4),
            "the end of a rule woke nobody for {took:?}"
        );
        timeout(&rt, Duration::from_secs(5), stream.read_exact(&mut buf)).await??;
        ensure!(
            &buf == b"four" && rules.counts().streams_stalled == 2,
            "{buf:?}, {:?}",
            rules.counts()
        );
        Ok(())
    }
    censored::<H, _, _>(client);
}

/// Nothing answers, until somebody does.
pub fn a_connect_under_a_drop_rule_hangs_until_it_ends<H: Harness>() {
    async fn client<R: Runtime>(rt: Ruled<R>, rules: SharedRules, server: IpAddr) -> Check {
        let rule = rules.add(drop_all(server));
        ensure!(
            timeout(&rt, A_WHILE, rt.connect(at(server))).await.is_err(),
            "connected through a drop"
        );
        let (clock, lifter) = (rt.clone(), rules.clone());
        rt.spawn("lifts", async move {
            clock.sleep(A_WHILE).await;
            lifter.remove(rule);
        });
        timeout(&rt, Duration::from_secs(5), rt.connect(at(server))).await??;
        ensure!(rules.counts().connects_dropped == 2, "{:?}", rules.counts());
        Ok(())
    }
    censored::<H, _, _>(client);
}

/// Resets, for old and new.
pub fn a_reset_rule_breaks_streams_and_refuses_new_ones<H: Harness>() {
    async fn client<R: Runtime>(rt: Ruled<R>, rules: SharedRules, server: IpAddr) -> Check {
        let mut stream = rt.connect(at(server)).await?;
        let (clock, censor) = (rt.clone(), rules.clone());
        rt.spawn("censors", async move {
            clock.sleep(A_WHILE).await;
            censor.add(Rule::Reset {
                remote: Remote::Endpoints([at(server)].into()),
            });
        });
        // A reader that waits learns of it.
        let read = timeout(&rt, Duration::from_secs(5), stream.read(&mut [0])).await?;
        ensure!(
            read.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "read {read:?}"
        );
        ensure!(stream.write(b"x").await.is_err(), "a reset stream accepted bytes");
        let kind = rt.connect(at(server)).await.map(drop).map_err(|e| e.kind());
        ensure!(kind == Err(ErrorKind::ConnectionRefused), "{kind:?}");
        rules.clear();
        ensure!(stream.read(&mut [0]).await.is_err(), "a reset stream came back");
        rt.connect(at(server)).await?;
        Ok(())
    }
    censored::<H, _, _>(client);
}

/// UDP off, in both directions.
pub fn datagrams_can_be_switched_off<H: Harness>() {
    let mut case = Case::<H>::new(2);
    let server = at(case.world.address(1));
    case.serve(1, |rt| async move {
        let socket = rt.bind_udp(any(7_000)).await?;
        loop {
            let (datagram, from) = socket.recv_from().await?;
            socket.send_to(&datagram, from).await?;
        }
    });
    case.check(0, move |rt| async move {
        rt.sleep(SETTLE).await;
        let rules = SharedRules::default();
        let rt = Ruled::new(rt, rules.clone());
        let socket = rt.bind_udp(any(0)).await?;
        for (off, datagram) in [(false, b"one"), (true, b"two"), (false, b"tri")] {
            rules.clear();
            if off {
                rules.add(Rule::Drop {
                    remote: Remote::Any,
                    protocol: Some(Protocol::Udp),
                });
            }
            socket.send_to(datagram, server).await?;
            let answer = timeout(&rt, A_WHILE, socket.recv_from()).await;
            ensure!(answer.is_err() == off, "off: {off}, answered: {answer:?}");
        }
        ensure!(rules.counts().datagrams_dropped >= 1, "{:?}", rules.counts());
        Ok(())
    });
    case.finish(LONG);
}

/// DNS poisoning.
pub fn names_are_forged_and_silenced<H: Harness>() {
    async fn client<R: Runtime>(rt: Ruled<R>, rules: SharedRules, server: IpAddr) -> Check {
        const NAME: &str = "entry.phantom.invalid";
        let names = || Names::under(["phantom.invalid"]);
        let liar = IpAddr::from([192, 0, 2, 66]);
        ensure!(rt.resolve(NAME).await? == [server], "an honest answer is another");
        rules.add(Rule::Forge {
            names: names(),
            answers: Forgery::always(vec![liar]),
        });
        ensure!(
            rt.resolve(NAME).await? == [liar],
            "the forged answer did not come"
        );
        rules.clear();
        rules.add(Rule::Forge {
            names: names(),
            answers: Forgery::always(Vec::new()),
        });
        let kind = rt.resolve(NAME).await.map_err(|e| e.kind());
        ensure!(kind == Err(ErrorKind::NotFound), "a denied name gives {kind:?}");
        rules.clear();
        rules.add(Rule::Silence { names: names() });
        ensure!(
            timeout(&rt, A_WHILE, rt.resolve(NAME)).await.is_err(),
            "a silenced name was answered"
        );
        rules.clear();
        ensure!(
            rt.resolve(NAME).await? == [server],
            "the honest answer did not come back"
        );
        let counts = rules.counts();
        ensure!(
            (counts.names_forged, counts.names_silenced) == (2, 1),
            "{counts:?}"
        );
        Ok(())
    }
    censored::<H, _, _>(client);
}
