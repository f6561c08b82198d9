//! The parent's side with programs that do not do what they should, and with a program of ours that does.

#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]
#![expect(
    clippy::disallowed_methods,
    reason = "drives programs of the real world, on tokio"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Kept, LIMIT, accept, client, exists, listen, plain, server};
use phantom_pt::args::Args;
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::parent::{Event, Limits};
use phantom_pt::socks::Target;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// A shell script as the program.
fn script(text: &str, limits: Limits) -> Kept {
    Kept::start_with(Path::new("/bin/sh"), &["-c", text], client("plain"), limits)
}

fn hasty() -> Limits {
    let mut limits = Limits {
        start: Duration::from_secs(4),
        close: Duration::from_millis(300),
        terminate: Duration::from_millis(300),
        ..Limits::default()
    };
    limits.restart.pause_min = Duration::from_millis(50);
    limits.restart.deaths_max = 2;
    limits
}

async fn reason(text: &str) -> String {
    let mut kept = script(text, hasty());
    let (reason, _) = kept.end_of_life().await;
    let mut managed = kept;
    let given_up = timeout(LIMIT, managed.managed.ready())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(given_up.to_string(), reason);
    managed.end().await;
    reason
}

#[tokio::test]
async fn a_program_of_no_use_gives_an_error_that_says_what_it_did() {
    let cases = [
        (
            "exit 3",
            "it ended (exit status: 3) before VERSION; it left no word",
        ),
        (
            "echo VERSION 1; echo 'panic: oh' >&2; kill -9 $$",
            "before CMETHODS DONE; its last words: \"panic: oh\"",
        ),
        (
            "echo VERSION 1; sleep 60",
            "no CMETHODS DONE within 4s (1 lines were said): does it hang",
        ),
        ("exec sleep 60", "no VERSION within 4s (0 lines were said)"),
        (
            "echo VERSION 1; exec >&-; sleep 60",
            "it closed its output before CMETHODS DONE (1 lines were said)",
        ),
        ("yes hello", "more than 1000 lines before VERSION"),
        ("head -c 100000 /dev/zero", "line 1 is longer than 8192 bytes"),
        (
            "echo VERSION 1; echo; echo CMETHOD plain socks5 here",
            "line 3 is malformed: CMETHOD has no valid address",
        ),
        (
            "echo VERSION-ERROR no-version",
            "it does not speak version 1 of the specification: \"no-version\"",
        ),
        (
            "printf 'VERSION 1\\nENV-ERROR no state'",
            "it cannot use what it was told: \"no state\"",
        ),
        (
            "echo VERSION 1; echo CMETHOD plain socks5 8.8.8.8:1; sleep 60",
            "plain does not listen on loopback",
        ),
    ];
    // All at once: some of them last until the deadline.
    let judged = cases.map(|(text, wanted)| (text, wanted, tokio::spawn(reason(text))));
    for (text, wanted, judged) in judged {
        let reason = judged.await.unwrap();
        assert!(
            reason.starts_with("/bin/sh: ") && reason.contains(wanted),
            "{text}: {reason}"
        );
    }
    let mut missing = Kept::start(Path::new("/no/such/program"), client("plain"), hasty());
    let (reason, restart_in) = missing.end_of_life().await;
    assert!(
        reason.starts_with("/no/such/program: cannot be started: No such file"),
        "{reason}"
    );
    assert_eq!(restart_in, None);
}

#[tokio::test]
async fn one_that_dies_again_and_again_is_given_up() {
    let mut limits = hasty();
    limits.restart.deaths_max = 3;
    let mut kept = script("exit 1", limits);
    let pauses = [
        kept.end_of_life().await.1,
        kept.end_of_life().await.1,
        kept.end_of_life().await.1,
    ];
    assert!(pauses[0].unwrap() < pauses[1].unwrap());
    assert_eq!(pauses[2], None);
    kept.end().await;
}

#[tokio::test]
async fn one_that_does_not_end_when_asked_is_killed_with_all_it_started() {
    let stubborn = "trap '' TERM; sleep 60 & echo VERSION 1; echo CMETHOD plain socks5 127.0.0.1:9; \
        echo LOG SEVERITY=notice MESSAGE=$!; echo CMETHODS DONE; while :; do sleep 1; done";
    let mut kept = script(stubborn, hasty());
    let process = kept.process().await;
    let sleeper = kept
        .event(|event| match event {
            Event::Log { text, .. } => text.parse().ok(),
            _ => None,
        })
        .await;
    timeout(LIMIT, kept.managed.ready()).await.unwrap().unwrap();
    assert!(exists(process) && exists(sleeper));
    kept.end().await;
    assert!(!exists(process));
    gone(sleeper).await;
}

#[tokio::test]
async fn a_dropped_keeper_leaves_no_process() {
    let ready = "sleep 60 & echo VERSION 1; echo CMETHOD plain socks5 127.0.0.1:9; echo CMETHODS DONE; wait";
    let mut kept = script(ready, hasty());
    let process = kept.process().await;
    timeout(LIMIT, kept.managed.ready()).await.unwrap().unwrap();
    kept.abandon().await;
    gone(process).await;
}

/// Whoever adopts processes reaps them soon, and so does the runtime.
async fn gone(process: u32) {
    for _ in 0..100 {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if !stat.is_empty() && !stat.contains(") Z ") {
            common::pause(Duration::from_millis(50)).await;
        } else {
            return;
        }
    }
    panic!("process {process} goes on");
}

#[tokio::test]
async fn what_it_says_in_service_is_told_and_cannot_harm() {
    let talkative = "echo VERSION 1; echo CMETHOD plain socks5 127.0.0.1:9; echo CMETHODS DONE; \
        head -c 10000 /dev/zero; echo; echo LOG nonsense; echo UNKNOWN; echo STATUS TRANSPORT=plain CONNECT=Success; sleep 60";
    let mut kept = script(talkative, hasty());
    let mut skipped = Vec::new();
    let connect = kept
        .event(|event| match event {
            Event::Skipped { line, reason } => {
                skipped.push(format!("{line}: {reason}"));
                None
            }
            Event::Status { fields, .. } => fields.value("CONNECT").map(str::to_owned),
            _ => None,
        })
        .await;
    assert_eq!(connect, "Success");
    assert_eq!(skipped, ["4: it is too long", "5: LOG has no valid KEY=value"]);
    kept.end().await;
}

#[tokio::test]
async fn both_sides_of_this_crate_pass_a_megabyte_and_odd_arguments() {
    let secret = r"a;b=c\d,e:f";
    let behind = listen().await;
    let mut transport = ServerTransport::new("plain".parse().unwrap());
    transport.options = Args::new().with("secret", secret).unwrap();
    let name = transport.name.clone();
    let orport = OrPort::Plain(behind.local_addr().unwrap());
    let mut bridge = Kept::start(&plain(), server(transport, orport), Limits::default());
    let methods = timeout(LIMIT, bridge.managed.ready()).await.unwrap().unwrap();
    let method = methods.ready[&name].clone();
    assert_eq!(method.args.value("secret"), Some(secret));

    let mut dialler = Kept::start(&plain(), client("plain"), Limits::default());
    let methods = timeout(LIMIT, dialler.managed.ready()).await.unwrap().unwrap();
    let target = Target::from(method.address);
    let near = dialler
        .managed
        .dial(&name, &target, &method.args, LIMIT)
        .await
        .unwrap();
    common::a_megabyte_each_way(near, accept(&behind).await).await;
    // Without the secret the bridge hangs up.
    let mut stranger = methods.dial(&name, &target, &Args::new(), LIMIT).await.unwrap();
    let mut got = Vec::new();
    assert_eq!(
        timeout(LIMIT, stranger.read_to_end(&mut got))
            .await
            .unwrap()
            .unwrap_or(0),
        0
    );
    bridge.end().await;
    dialler.end().await;
}

#[tokio::test]
async fn our_program_says_what_is_wrong_with_its_environment() {
    let role = |uri: &str| Role::Client {
        transports: vec!["plain".parse().unwrap()],
        proxy: Some(uri.parse().unwrap()),
    };
    let mut proxied = Kept::start(&plain(), role("socks5://127.0.0.1:9"), Limits::default());
    timeout(LIMIT, proxied.managed.ready()).await.unwrap().unwrap();
    proxied.end().await;
    let mut refused = Kept::start(&plain(), role("http://127.0.0.1:9"), Limits::default());
    let (reason, restart_in) = refused.end_of_life().await;
    assert!(
        reason.contains("http upstream proxies are not supported here: wanted socks5"),
        "{reason}"
    );
    assert_eq!(restart_in, None);
}
