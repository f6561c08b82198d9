//! A user: a running `phantom daemon`, spoken to in its lines.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::Failure;
use crate::network::text;
use crate::processes::Processes;

/// How long an answer may take that needs no network.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// What the daemon printed, and when.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// A JSON object; null if the line was none.
    pub value: Value,
}

/// A user.
pub struct Client {
    /// Its process, and how contacts call it.
    pub name: String,
    input: ChildStdin,
    lines: mpsc::UnboundedReceiver<Line>,
    notices: VecDeque<Line>,
    next: u64,
}

impl Client {
    /// Starts the daemon of an installed client. `options` come before the word `daemon`, `--home` among them.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(processes: &mut Processes, name: &str, options: &[String]) -> Result<Self, Failure> {
        let args = [options, &["daemon".to_owned()]].concat();
        let (input, output) = processes.start_piped(name, "phantom", &args)?;
        let (tell, lines) = mpsc::unbounded_channel();
        tokio::spawn(read_lines(output, tell));
        Ok(Self {
            name: name.to_owned(),
            input,
            lines,
            notices: VecDeque::new(),
            next: 1,
        })
    }

    /// What the daemon prints next, whatever it is; `None`: it has ended. Cancel safe.
    pub async fn next_line(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Asks for something; the answer comes later, under the number that is returned.
    ///
    /// # Errors
    /// The daemon reads no more.
    pub async fn ask(&mut self, what: Value) -> Result<u64, Failure> {
        let id = self.next;
        self.next += 1;
        let line = json!({ "id": id, "do": what }).to_string() + "\n";
        self.input.write_all(line.as_bytes()).await?;
        Ok(id)
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// The daemon says that it could not be done, or says nothing in time.
    pub async fn answer(&mut self, id: u64, limit: Duration) -> Result<Value, Failure> {
        let end = Instant::now() + limit;
        loop {
            let line = self.line(end, "an answer").await?;
            if line.value["id"] == id {
                if let Some(error) = line.value["error"].as_str() {
                    return Err(Failure(format!("{}: {error}", self.name)));
                }
                return Ok(line.value["ok"].clone());
            }
            self.keep(line);
        }
    }

    /// Asks for something that needs no network, and waits for the answer.
    ///
    /// # Errors
    /// As [`Client::answer`].
    pub async fn request(&mut self, what: Value) -> Result<Value, Failure> {
        let id = self.ask(what).await?;
        self.answer(id, ANSWER_LIMIT).await
    }

    /// The first notice of which `pick` makes something, and when it came; others are kept.
    ///
    /// # Errors
    /// None came in time.
    pub async fn notice<T>(
        &mut self,
        limit: Duration,
        what: &str,
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> Result<(Instant, T), Failure> {
        for at in 0..self.notices.len() {
            if let Some(picked) = pick(&self.notices[at].value) {
                let line = self.notices.remove(at);
                return Ok((line.map_or_else(Instant::now, |line| line.at), picked));
            }
        }
        let end = Instant::now() + limit;
        loop {
            let line = self.line(end, what).await?;
            match pick(&line.value["notice"]) {
                Some(picked) => return Ok((line.at, picked)),
                None => self.keep(line),
            }
        }
    }

    /// Waits until the client is connected through this step; where.
    ///
    /// # Errors
    /// It was not in time: with what the client says of it.
    pub async fn connected(&mut self, limit: Duration, step: &str) -> Result<String, Failure> {
        let what = format!("a connection through the step {step:?}");
        let picked = |notice: &Value| {
            let connected = &notice["connected"];
            (connected["step"] == step).then(|| connected["entry"].as_str().unwrap_or("?").to_owned())
        };
        let found = self.notice(limit, &what, picked).await;
        match found {
            Ok((_, entry)) => Ok(entry),
            Err(failure) => {
                let status = self.request(json!("status")).await?;
                Err(Failure(format!("{failure}; it says: {status}")))
            }
        }
    }

    /// Forgets what was not waited for.
    pub fn forget_notices(&mut self) {
        self.notices.clear();
    }

    fn keep(&mut self, line: Line) {
        if let Some(notice) = line.value.get("notice") {
            let line = Line {
                at: line.at,
                value: notice.clone(),
            };
            self.notices.push_back(line);
        }
    }

    async fn line(&mut self, end: Instant, what: &str) -> Result<Line, Failure> {
        match timeout_at(end, self.lines.recv()).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(Failure(format!("{} ended while {what} was awaited", self.name))),
            Err(_) => Err(Failure(format!("{} did not give {what} in time", self.name))),
        }
    }
}

/// Reads at once, so that each line has its time.
async fn read_lines(output: ChildStdout, tell: mpsc::UnboundedSender<Line>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(text)) = lines.next_line().await {
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if tell
            .send(Line {
                at: Instant::now(),
                value,
            })
            .is_err()
        {
            return;
        }
    }
}

/// Two users become contacts, out of band: an offer, its acceptance, the answer, one short string to compare.
///
/// # Errors
/// A text was refused, or they see different short strings.
pub async fn become_contacts(a: &mut Client, b: &mut Client) -> Result<String, Failure> {
    let offer = a.request(json!({ "offer": { "name": b.name } })).await?;
    let offer = text(&offer, "text")?;
    let accepted = b
        .request(json!({ "accept": { "text": offer, "name": a.name } }))
        .await?;
    let answer = text(&accepted, "answer")?;
    let finished = a
        .request(json!({ "accept": { "text": answer, "name": null } }))
        .await?;
    let (ours, theirs) = (text(&finished, "short_string")?, text(&accepted, "short_string")?);
    if ours != theirs {
        return Err(Failure(format!(
            "they see different short strings: {ours}, {theirs}"
        )));
    }
    Ok(ours)
}
