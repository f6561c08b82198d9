//! A user: a running `phantom daemon`, spoken to in its lines.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::Failure;
use crate::processes::Stage;

/// How long an answer may take that needs no network.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// What the daemon printed, and when.
struct Line {
    at: Instant,
    value: Value,
}

/// A user.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    input: ChildStdin,
    lines: mpsc::UnboundedReceiver<Line>,
    notices: VecDeque<Line>,
    next: u64,
}

impl Client {
    /// Installs a client with a bundle and starts it; `steps` are the rungs of its ladder that are on.
    pub(crate) async fn start(
        stage: &mut Stage,
        name: &'static str,
        number: u8,
        steps: &str,
    ) -> Result<Self, Failure> {
        let base = [
            "--home".to_owned(),
            format!("{name}-home"),
            "--address".to_owned(),
            stage.address(9, number).to_string(),
        ];
        let with = |more: &[&str]| -> Vec<String> {
            base.iter()
                .cloned()
                .chain(more.iter().map(|arg| (*arg).to_owned()))
                .collect()
        };
        stage
            .run("phantom", &with(&["init", "--bundle", &format!("{name}.bundle")]))
            .await?;
        let daemon = with(&["--poll", "1 s", "--steps", steps, "daemon"]);
        let (input, output) = stage.start_piped(name, "phantom", &daemon)?;
        let (tell, lines) = mpsc::unbounded_channel();
        tokio::spawn(read_lines(output, tell));
        Ok(Self {
            name,
            input,
            lines,
            notices: VecDeque::new(),
            next: 1,
        })
    }

    /// Asks for something; the answer comes later, under the number that is returned.
    pub(crate) async fn ask(&mut self, what: Value) -> Result<u64, Failure> {
        let id = self.next;
        self.next += 1;
        let line = json!({ "id": id, "do": what }).to_string() + "\n";
        self.input.write_all(line.as_bytes()).await?;
        Ok(id)
    }

    /// The answer to a request.
    pub(crate) async fn answer(&mut self, id: u64, limit: Duration) -> Result<Value, Failure> {
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
    pub(crate) async fn request(&mut self, what: Value) -> Result<Value, Failure> {
        let id = self.ask(what).await?;
        self.answer(id, ANSWER_LIMIT).await
    }

    /// The first notice of which `pick` makes something, and when it came; others are kept.
    pub(crate) async fn notice<T>(
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
    pub(crate) async fn connected(&mut self, limit: Duration, step: &str) -> Result<String, Failure> {
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
    pub(crate) fn forget_notices(&mut self) {
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
pub(crate) async fn become_contacts(a: &mut Client, b: &mut Client) -> Result<String, Failure> {
    let text = |value: &Value, field: &str| {
        let text = value[field].as_str().map(str::to_owned);
        text.ok_or_else(|| Failure(format!("no {field} in {value}")))
    };
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
