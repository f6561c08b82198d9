//! What happens, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use phantom_drive::client::{Client, become_contacts};
use phantom_drive::network::{home, install};
use phantom_drive::{Failure, texts};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::network;
use crate::stage::Stage;

/// Messages each way between the first two users.
const MESSAGES: usize = 20;
const FILE_BYTES: u32 = 1_000_000;
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const DELIVER_LIMIT: Duration = Duration::from_secs(30);
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// Every step of the ladder.
const ALL_STEPS: &str = "cached,static,directory,dht,friends";
/// All but the DHT.
const WITHOUT_DHT: &str = "cached,static,directory,friends";

pub(crate) async fn tell(stage: &mut Stage) -> Result<(), Failure> {
    stage.begin("setting up keys, settings and bundles");
    network::set_up(stage).await?;
    stage.begin("starting the network");
    let said = network::start(stage).await?;
    stage.say(said);
    stage.begin("starting the bridges");
    let said = network::start_bridges(stage).await?;
    stage.say(said);

    stage.begin("Alice and Bob connect");
    let mut alice = begin(stage, network::USERS[0], 1, ALL_STEPS).await?;
    let mut bob = begin(stage, network::USERS[1], 2, ALL_STEPS).await?;
    let at = alice.connected(CONNECT_LIMIT, "static").await?;
    let other = bob.connected(CONNECT_LIMIT, "static").await?;
    stage.say(format!(
        "Alice is connected through the published entry {at}, Bob through {other}"
    ));
    stage.begin("Alice and Bob become contacts");
    let short = become_contacts(&mut alice, &mut bob).await?;
    stage.say(format!("Alice and Bob have become contacts; both see {short}"));

    stage.begin("20 messages each way");
    let mut latencies = exchange(&mut alice, &mut bob).await?;
    stage.say(format!(
        "{MESSAGES} messages passed each way: {}",
        figures(&mut latencies)
    ));

    stage.begin("a file of 1 MB");
    let took = hand_over(stage, &mut alice, &mut bob).await?;
    stage.say(format!(
        "Alice sent Bob a file of 1 MB: with him, byte for byte, after {}",
        seconds(took)
    ));

    stage.begin("killing the published entries");
    let killed = network::kill_entries(stage).await?;
    stage.say(&killed);
    let at = alice.connected(CONNECT_LIMIT, "dht").await?;
    let other = bob.connected(CONNECT_LIMIT, "dht").await?;
    stage.say(format!(
        "Alice found the bridge {at} through the DHT, Bob {other}"
    ));

    stage.begin("Carol gets in through the DHT");
    let begun = Instant::now();
    let mut carol = begin(stage, network::USERS[2], 3, ALL_STEPS).await?;
    let at = carol.connected(CONNECT_LIMIT, "dht").await?;
    stage.say(format!(
        "Carol, who is new, found no published entry alive and the bridge {at} through the DHT, after {}",
        seconds(begun.elapsed())
    ));
    become_contacts(&mut carol, &mut alice).await?;
    let (there, back) = greet(&mut carol, &mut alice).await?;
    stage.say(format!(
        "Carol wrote to Alice ({}), Alice answered ({})",
        seconds(there),
        seconds(back)
    ));

    stage.begin("Dave gets in through a friend");
    let mut dave = begin(stage, network::USERS[3], 4, WITHOUT_DHT).await?;
    let wanted = |notice: &Value| notice["want_invitation"]["cohort"].as_str().map(str::to_owned);
    let (_, cohort) = dave
        .notice(CONNECT_LIMIT, "a wish for an invitation", wanted)
        .await?;
    stage.say("Dave, who is new and cannot use the DHT, found no way in and asks a friend");
    let begun = Instant::now();
    let id = bob
        .ask(json!({ "fetch_invitation": { "cohort": cohort } }))
        .await?;
    let fetched = bob.answer(id, FETCH_LIMIT).await?;
    let Some(invitation) = fetched["invitation"].as_str() else {
        return Err(Failure("Bob found no records for Dave in the mailbox".to_owned()));
    };
    stage.say(format!(
        "Bob fetched an invitation that only Dave can open, in {}",
        seconds(begun.elapsed())
    ));
    dave.request(json!({ "accept": { "text": invitation, "name": null } }))
        .await?;
    let at = dave.connected(CONNECT_LIMIT, "friend").await?;
    stage.say(format!(
        "Dave could open it and is connected through the bridge {at}"
    ));
    become_contacts(&mut dave, &mut bob).await?;
    let (there, back) = greet(&mut dave, &mut bob).await?;
    stage.say(format!(
        "Dave wrote to Bob ({}), Bob answered ({})",
        seconds(there),
        seconds(back)
    ));

    stage.begin("ending");
    stage.all_run()?;
    stage.say(format!("{} processes are asked to end", stage.count()));
    Ok(())
}

/// Installs a client with its bundle and starts it; `steps` are the rungs of its ladder that are on.
async fn begin(stage: &mut Stage, name: &str, number: u8, steps: &str) -> Result<Client, Failure> {
    install(stage, name).await?;
    let (home, address) = (home(name), stage.address(9, number).to_string());
    let options = [
        "--home",
        &home,
        "--address",
        &address,
        "--poll",
        "1 s",
        "--steps",
        steps,
    ];
    Client::start(stage, name, &texts(&options))
}

/// Both send all their messages at once; how long each took from the sender's program to the reader's.
async fn exchange(a: &mut Client, b: &mut Client) -> Result<Vec<Duration>, Failure> {
    a.forget_notices();
    b.forget_notices();
    let (a_name, b_name) = (a.name.clone(), b.name.clone());
    let mut sent = BTreeMap::new();
    for n in 0..MESSAGES {
        for (from, to) in [(&mut *a, &b_name), (&mut *b, &a_name)] {
            let text = format!("message {n} to {to}");
            sent.insert(text.clone(), Instant::now());
            from.ask(json!({ "send": { "contact": to, "text": text, "ttl": "1 h" } }))
                .await?;
        }
    }
    let mut latencies = Vec::new();
    for (name, reader) in [(&b_name, &mut *a), (&a_name, &mut *b)] {
        for _ in 0..MESSAGES {
            let (at, text) = reader
                .notice(DELIVER_LIMIT, "a message", |notice| message(notice, name))
                .await?;
            // Each text is taken out once, so that one delivered twice is a failure.
            let begun = sent
                .remove(&text)
                .ok_or_else(|| Failure(format!("{text:?} came, but not for once")))?;
            latencies.push(at - begun);
        }
    }
    if sent.is_empty() {
        Ok(latencies)
    } else {
        Err(Failure(format!("{} messages never came", sent.len())))
    }
}

/// One sends a file, the other has it stored; how long that took.
async fn hand_over(stage: &Stage, from: &mut Client, to: &mut Client) -> Result<Duration, Failure> {
    let content: Vec<u8> = (0..FILE_BYTES).map(|n| (n % 251) as u8).collect();
    std::fs::write(stage.dir().join("plan.bin"), &content)?;
    let begun = Instant::now();
    from.request(json!({ "send_file": { "contact": to.name, "path": "plan.bin", "ttl": "1 h" } }))
        .await?;
    let stored = |notice: &Value| notice["file"]["path"].as_str().map(str::to_owned);
    let (at, path) = to.notice(DELIVER_LIMIT, "the file", stored).await?;
    if std::fs::read(stage.dir().join(&path))? != content {
        return Err(Failure(format!("{path} is not the file that was sent")));
    }
    Ok(at - begun)
}

/// The text of a message from this contact.
fn message(notice: &Value, from: &str) -> Option<String> {
    let message = &notice["message"];
    (message["contact"] == from).then(|| message["text"].as_str().unwrap_or_default().to_owned())
}

/// One writes, the other answers; how long each took.
async fn greet(a: &mut Client, b: &mut Client) -> Result<(Duration, Duration), Failure> {
    Ok((deliver(a, b, "I am in").await?, deliver(b, a, "welcome").await?))
}

async fn deliver(from: &mut Client, to: &mut Client, text: &str) -> Result<Duration, Failure> {
    let begun = Instant::now();
    from.request(json!({ "send": { "contact": to.name, "text": text, "ttl": "1 h" } }))
        .await?;
    let (at, got) = to
        .notice(DELIVER_LIMIT, "the message", |notice| message(notice, &from.name))
        .await?;
    if got != text {
        return Err(Failure(format!("{text:?} arrived as {got:?}")));
    }
    Ok(at - begun)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn figures(latencies: &mut [Duration]) -> String {
    latencies.sort_unstable();
    let at =
        |share: usize| latencies.get((latencies.len() * share / 100).min(latencies.len().saturating_sub(1)));
    let shown = |share| at(share).copied().map_or_else(|| "-".to_owned(), seconds);
    format!(
        "half within {}, 90 % within {}, all within {}",
        shown(50),
        shown(90),
        shown(100)
    )
}
