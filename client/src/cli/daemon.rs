//! The client for programs: JSON lines in, JSON lines out.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use phantom_client::{Command, Notice, Status};
use phantom_core::invite::{decode_cohort, encode_cohort, encode_invitation};
use phantom_core::runtime::Spawn;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};

use super::contacts::{Accepted, contact_id, make_offer, take_up};
use super::home::Home;
use super::session::Session;
use super::{Failure, duration, failed, files, usage};

/// A longer line is a mistake: a message of 64 KiB fits, escaped.
const LINE_MAX: u64 = 512 * 1024;
/// Answers that come later, on their way.
const LATE_MAX: usize = 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    id: u64,
    r#do: Do,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Do {
    Send {
        contact: String,
        text: String,
        ttl: String,
    },
    SendFile {
        contact: String,
        path: PathBuf,
        ttl: String,
    },
    Offer {
        name: String,
    },
    Accept {
        text: String,
        name: Option<String>,
    },
    FetchInvitation {
        cohort: String,
    },
    Cohort,
    Status,
    Stop,
}

enum Turn {
    Line(Option<String>),
    Notice(Notice),
    Late(Value),
}

/// Serves until the input ends.
pub(crate) async fn serve(home: &Home, session: &mut Session) -> Result<(), Failure> {
    let (late, mut later) = mpsc::channel(LATE_MAX);
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = Vec::new();
    loop {
        let turn = tokio::select! {
            biased;
            value = later.recv() => value.map_or(Turn::Line(None), Turn::Late),
            notice = session.user.notices.recv() => match notice {
                Some(notice) => Turn::Notice(notice),
                // The client ended: any question says why.
                None => return session.status().await.map(drop),
            },
            read = next_line(&mut input, &mut line) => Turn::Line(read?),
        };
        match turn {
            Turn::Line(None) => return Ok(()),
            Turn::Line(Some(text)) => match serde_json::from_str::<Request>(&text) {
                Ok(Request { r#do: Do::Stop, id }) => return print(&json!({ "id": id, "ok": {} })),
                Ok(Request {
                    id,
                    r#do: Do::FetchInvitation { cohort },
                }) => {
                    if let Err(error) = fetch(session, id, &cohort, &late).await {
                        print(&json!({ "id": id, "error": error.to_string() }))?;
                    }
                }
                Ok(Request { id, r#do }) => match perform(home, session, r#do).await {
                    Ok(value) => print(&json!({ "id": id, "ok": value }))?,
                    Err(error) => print(&json!({ "id": id, "error": error.to_string() }))?,
                },
                Err(error) => print(&json!({ "error": format!("not a request: {error}") }))?,
            },
            Turn::Notice(notice) => {
                let mut said = notice_json(&notice);
                if let Notice::File { name, content, .. } = &notice {
                    let path = files::store(&home.path().join("files"), name, content)?;
                    said["file"]["path"] = json!(path);
                }
                print(&json!({ "notice": said }))?;
                if let Notice::Message { contact, message, .. } | Notice::File { contact, message, .. } =
                    notice
                {
                    session.took(contact, message).await?;
                }
            }
            Turn::Late(value) => print(&value)?,
        }
    }
}

/// Cancel safe: what was read of a line stays in `line`.
async fn next_line(
    input: &mut BufReader<tokio::io::Stdin>,
    line: &mut Vec<u8>,
) -> Result<Option<String>, Failure> {
    let room = LINE_MAX.saturating_sub(line.len() as u64);
    let read = input.take(room).read_until(b'\n', line).await;
    read.map_err(|error| failed(format!("reading standard input: {error}")))?;
    if line.last() != Some(&b'\n') {
        if line.len() as u64 >= LINE_MAX {
            return Err(usage(format!("a line of more than {LINE_MAX} bytes")));
        }
        if line.is_empty() {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(line).trim().to_owned();
    line.clear();
    Ok(Some(text))
}

async fn perform(home: &Home, session: &mut Session, what: Do) -> Result<Value, Failure> {
    Ok(match what {
        Do::Send { contact, text, ttl } => {
            let ttl: Duration = duration::parse(&ttl).map_err(usage)?;
            let message = session
                .send(contact_id(&contact)?, text.into_bytes(), ttl)
                .await?;
            json!({ "message": tag(message) })
        }
        Do::SendFile { contact, path, ttl } => {
            let ttl: Duration = duration::parse(&ttl).map_err(usage)?;
            let (name, content) = files::read(&path)?;
            let message = session
                .send_file(contact_id(&contact)?, name, content, ttl)
                .await?;
            json!({ "message": tag(message) })
        }
        Do::Offer { name } => json!({ "text": make_offer(home, &name).await? }),
        Do::Accept { text, name } => match take_up(home, session, &text, name.as_deref()).await? {
            Accepted::Offer { answer, short_string } => {
                json!({ "answer": answer, "short_string": short_string })
            }
            Accepted::Answer {
                name,
                short_string,
                confirmation,
            } => json!({
                "contact": name.as_str(),
                "short_string": short_string,
                "confirmation": confirmation,
            }),
            Accepted::Confirmed { name } => json!({ "confirmed": name.as_str() }),
            Accepted::Invitation { bridges } => json!({ "bridges": bridges }),
        },
        Do::Cohort => json!({ "cohort": encode_cohort(&session.status().await?.cohort) }),
        Do::Status => status_json(&*session.status().await?),
        Do::FetchInvitation { .. } | Do::Stop => Value::Null,
    })
}

/// The answer comes when it comes; other requests go on meanwhile.
async fn fetch(
    session: &mut Session,
    id: u64,
    cohort: &str,
    late: &mpsc::Sender<Value>,
) -> Result<(), Failure> {
    let cohort = Box::new(decode_cohort(cohort).map_err(|error| usage(error.to_string()))?);
    let (reply, answer) = oneshot::channel();
    let asked = session
        .user
        .commands
        .send(Command::FetchInvitation { cohort, reply })
        .await;
    asked.map_err(|_| failed("the client ended"))?;
    let late = late.clone();
    session.rt.spawn("daemon fetches", async move {
        let invitation = answer.await.ok().flatten();
        let text = invitation.map(|invitation| encode_invitation(&invitation));
        let _ = late.send(json!({ "id": id, "ok": { "invitation": text } })).await; // nobody reads any more: no loss
    });
    Ok(())
}

fn print(value: &Value) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")
        .and_then(|()| out.flush())
        .map_err(|error| failed(format!("writing to standard output: {error}")))
}

fn tag(tag: phantom_core::event::Tag) -> String {
    format!("{:016x}", tag.0)
}

fn notice_json(notice: &Notice) -> Value {
    match notice {
        Notice::Connected {
            step,
            entry,
            resumed,
            transport,
        } => json!({ "connected": {
            "step": format!("{step:?}").to_lowercase(),
            "entry": entry,
            "resumed": resumed,
            "transport": transport.name(),
        } }),
        Notice::Disconnected => json!("disconnected"),
        Notice::Message {
            contact,
            message,
            text,
            expires,
        } => json!({ "message": {
            "contact": contact.as_str(),
            "message": tag(*message),
            "text": String::from_utf8_lossy(text),
            "expires_unix_secs": expires.as_unix_secs(),
        } }),
        Notice::File {
            contact,
            message,
            name,
            content,
            expires,
        } => json!({ "file": {
            "contact": contact.as_str(),
            "message": tag(*message),
            "name": name,
            "bytes": content.len(),
            "expires_unix_secs": expires.as_unix_secs(),
        } }),
        Notice::Stored { contact, message } => {
            json!({ "stored": { "contact": contact.as_str(), "message": tag(*message) } })
        }
        Notice::Acknowledged { contact, message } => {
            json!({ "acknowledged": { "contact": contact.as_str(), "message": tag(*message) } })
        }
        Notice::Expired { contact, message } => {
            json!({ "expired": { "contact": contact.as_str(), "message": tag(*message) } })
        }
        Notice::Conflict { contact } => json!({ "conflict": { "contact": contact.as_str() } }),
        Notice::WantInvitation { cohort } => {
            json!({ "want_invitation": { "cohort": encode_cohort(cohort) } })
        }
    }
}

fn status_json(status: &Status) -> Value {
    let entry = status.entry.as_ref().map(|entry| {
        json!({
            "step": format!("{:?}", entry.step).to_lowercase(),
            "address": entry.address,
            "bridge": entry.bridge,
            "transport": entry.transport.name(),
            "ready": entry.ready,
        })
    });
    let document = status.document.as_ref().map(|document| {
        json!({
            "nodes": document.nodes,
            "valid_until_unix_secs": document.valid_until.as_unix_secs(),
            "usable": document.usable,
        })
    });
    let contacts = status.contacts.iter();
    json!({
        "entry": entry,
        "tried": status.ladder.to_string(),
        "ways": status.rotation.to_string(),
        "document": document,
        "clock_refused": status.clock_refused,
        "contacts": contacts.map(|(id, waiting)| json!({ "name": id.as_str(), "waiting": waiting })).collect::<Vec<_>>(),
        "requests": {
            "sent": status.requests.sent,
            "answered": status.requests.answered,
            "unanswered": status.requests.unanswered,
            "unsent": status.requests.unsent,
        },
    })
}
