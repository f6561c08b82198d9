//! Sending, receiving, and asking how things are.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use phantom_client::{Notice, Status};
use phantom_core::runtime::{Clock, timeout};

use super::args::Wait;
use super::contacts::{contact_id, read_text};
use super::session::Session;
use super::{Failure, failed, files};

/// What is sent.
pub(crate) enum What<'a> {
    /// A message; "-" is standard input.
    Text(&'a str),
    /// An attachment.
    File(&'a Path),
}

/// `send`.
pub(crate) async fn send(
    session: &mut Session,
    contact: &str,
    what: What<'_>,
    ttl: Duration,
    wait: Wait,
    within: Duration,
) -> Result<(), Failure> {
    let id = contact_id(contact)?;
    let sent = match what {
        What::Text(text) => session.send(id, read_text(text)?.into_bytes(), ttl).await?,
        What::File(path) => {
            let (name, content) = files::read(path)?;
            session.send_file(id, name, content, ttl).await?
        }
    };
    println!("accepted");
    if wait == Wait::Accepted {
        return Ok(());
    }
    let outcome = session.wait(within, |notice| match notice {
        Notice::Stored { message, .. } if message == sent && wait == Wait::Stored => Some(Ok("stored")),
        Notice::Acknowledged { message, .. } if message == sent => Some(Ok("acknowledged")),
        Notice::Expired { message, .. } if message == sent => Some(Err(())),
        _ => None,
    });
    match outcome.await? {
        Ok(Ok(how)) => {
            println!("{how}");
            Ok(())
        }
        Ok(Err(())) => Err(failed("its time ended before it could be delivered")),
        Err(_) => {
            let status = session.status().await?;
            let why = match status.entry {
                Some(_) => "the network has not confirmed it yet".to_owned(),
                None => format!("no way in so far ({})", status.ladder),
            };
            Err(failed(format!(
                "{why}; the message is kept and goes out whenever the client runs"
            )))
        }
    }
}

/// `receive`.
pub(crate) async fn receive(
    session: &mut Session,
    within: Option<Duration>,
    count: Option<u64>,
    folder: Option<&Path>,
) -> Result<(), Failure> {
    let rt = session.rt.clone();
    let printing = async {
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            match (session.notice().await?, folder) {
                (
                    Notice::Message {
                        contact,
                        message,
                        text,
                        ..
                    },
                    _,
                ) => {
                    print_message(contact.as_str(), &text)?;
                    session.took(contact, message).await?;
                    left -= 1;
                }
                (
                    Notice::File {
                        contact,
                        message,
                        name,
                        content,
                        ..
                    },
                    Some(folder),
                ) => {
                    let path = files::store(folder, &name, &content)?;
                    let said = format!("[file of {} bytes] {}", content.len(), path.display());
                    print_message(contact.as_str(), said.as_bytes())?;
                    session.took(contact, message).await?;
                    left -= 1;
                }
                (Notice::File { contact, name, .. }, None) => {
                    let said = format!("[file {name:?}: waits; `phantom receive --files FOLDER` stores it]");
                    print_message(contact.as_str(), said.as_bytes())?;
                }
                _ => {}
            }
        }
        Ok(())
    };
    match within {
        Some(within) => match timeout(&rt, within, printing).await {
            Ok(result) => result,
            Err(_) if count.is_some() => Err(failed(format!("fewer messages came within {within:?}"))),
            Err(_) => Ok(()),
        },
        None => printing.await,
    }
}

/// One line per line of the text. Control characters are shown, not obeyed: a message must not speak to the terminal.
fn print_message(contact: &str, text: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(text);
    let mut out = std::io::stdout().lock();
    for line in text.split('\n') {
        let line: String = line
            .chars()
            .flat_map(|c| {
                if c.is_control() && c != '\t' {
                    c.escape_default().collect::<Vec<_>>()
                } else {
                    vec![c]
                }
            })
            .collect();
        writeln!(out, "{contact}: {line}")
            .map_err(|error| failed(format!("writing to standard output: {error}")))?;
    }
    out.flush()
        .map_err(|error| failed(format!("writing to standard output: {error}")))
}

/// `doctor`.
pub(crate) async fn doctor(session: &mut Session, within: Duration) -> Result<(), Failure> {
    let rt = session.rt.clone();
    let deadline = rt.now() + within;
    loop {
        let status = session.status().await?;
        let well = status.entry.as_ref().is_some_and(|entry| entry.ready)
            && status.document.as_ref().is_some_and(|document| document.usable);
        if well || rt.now() >= deadline {
            print_status(&status);
            return if well {
                Ok(())
            } else {
                Err(failed("the network cannot be used"))
            };
        }
        // Notices are not read here: messages stay where they are.
        rt.sleep(Duration::from_millis(200)).await;
    }
}

fn print_status(status: &Status) {
    match &status.entry {
        Some(entry) => {
            let kind = if entry.bridge { "bridge" } else { "listed node" };
            let ready = if entry.ready {
                "carries packets"
            } else {
                "does not say how to use it yet"
            };
            let over = match entry.transport {
                transport if transport.is_plain() => String::new(),
                transport => format!(" over {}", transport.name()),
            };
            println!(
                "entry:     {kind} {}{over} ({:?} step), {ready}",
                entry.address, entry.step
            );
        }
        None => println!("entry:     none"),
    }
    println!("tried:     {}", status.ladder);
    for line in status.rotation.to_string().lines() {
        println!("ways:      {line}");
    }
    match &status.document {
        Some(document) => println!(
            "directory: {} nodes, valid until Unix time {}{}",
            document.nodes,
            document.valid_until.as_unix_secs(),
            if document.usable { "" } else { " (over)" }
        ),
        None => println!("directory: no document"),
    }
    if status.clock_refused {
        println!("clock:     not believed: it is far from what the directory and this machine's uptime say");
    }
    let waiting: usize = status.contacts.iter().map(|(_, waiting)| waiting).sum();
    println!(
        "contacts:  {}, with {waiting} messages that wait",
        status.contacts.len()
    );
    let requests = &status.requests;
    println!(
        "requests:  {} sent, {} answered, {} unanswered, {} not sent",
        requests.sent, requests.answered, requests.unanswered, requests.unsent
    );
}
