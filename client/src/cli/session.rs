//! A running client and its user's end.

use std::time::Duration;

use phantom_client::state::StateError;
use phantom_client::user::{AddError, SendError};
use phantom_client::{ClientError, Command, ContactId, Notice, Status, UserSide, channels, run};
use phantom_core::event::Tag;
use phantom_core::message::contact::Contact;
use phantom_core::runtime::tokio::TokioRuntime;
use phantom_core::runtime::{Elapsed, Spawn, timeout};
use tokio::sync::oneshot;

use super::args::{Action, Args};
use super::home::Home;
use super::{Failure, failed, usage};

/// A client that runs.
pub(crate) struct Session {
    pub(crate) rt: TokioRuntime,
    pub(crate) user: UserSide,
    ended: Ended,
}

/// How a client ended, for whoever asks, and however often.
struct Ended {
    told: oneshot::Receiver<Result<(), ClientError>>,
    known: Option<Result<(), Failure>>,
}

impl Ended {
    /// Waits until it has. Cancel safe.
    async fn wait(&mut self) -> Result<(), Failure> {
        if let Some(known) = &self.known {
            return known.clone();
        }
        let result = match (&mut self.told).await {
            Ok(result) => result.map_err(|error| match error {
                ClientError::State(StateError::Io { .. }) => failed(error.to_string()),
                ClientError::State(StateError::Vault { .. } | StateError::Content { .. }) => {
                    usage(error.to_string())
                }
            }),
            Err(_) => Err(failed("the client broke off: this is a mistake in it")),
        };
        self.known.insert(result).clone()
    }
}

impl Session {
    /// Starts the client of `home`.
    pub(crate) async fn start(home: &Home, args: &Args) -> Result<Self, Failure> {
        let mut config = home.config(args).await?;
        if matches!(args.action, Action::Accept { .. }) {
            // Nothing of it needs the network.
            config.steps.clear();
        }
        let (user, side) = channels();
        let (end, ended) = oneshot::channel();
        let rt = home.rt.clone();
        let running = rt.clone();
        rt.spawn("client", async move {
            let _ = end.send(run(running, config, side).await); // whoever does not wait for it is gone
        });
        Ok(Self {
            rt,
            user,
            ended: Ended {
                told: ended,
                known: None,
            },
        })
    }

    /// Asks the client for something and waits for the answer.
    pub(crate) async fn ask<T>(
        &mut self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        if self.user.commands.send(command(reply)).await.is_err() {
            return Err(self.why().await);
        }
        match answer.await {
            Ok(answer) => Ok(answer),
            Err(_) if self.user.commands.is_closed() => Err(self.why().await),
            Err(_) => Err(failed(
                "the client runs and gives no answer: this is a mistake in it",
            )),
        }
    }

    /// The next notice.
    pub(crate) async fn notice(&mut self) -> Result<Notice, Failure> {
        match self.user.notices.recv().await {
            Some(notice) => Ok(notice),
            None => Err(self.why().await),
        }
    }

    /// Waits for a notice of which `found` makes something, at most `within`.
    pub(crate) async fn wait<T>(
        &mut self,
        within: Duration,
        mut found: impl FnMut(Notice) -> Option<T>,
    ) -> Result<Result<T, Elapsed>, Failure> {
        let rt = self.rt.clone();
        let waited = timeout(&rt, within, async {
            loop {
                if let Some(found) = found(self.notice().await?) {
                    return Ok(found);
                }
            }
        });
        match waited.await {
            Ok(found) => found.map(Ok),
            Err(elapsed) => Ok(Err(elapsed)),
        }
    }

    pub(crate) async fn status(&mut self) -> Result<Box<Status>, Failure> {
        self.ask(Command::Report).await
    }

    pub(crate) async fn add(&mut self, id: ContactId, contact: Contact) -> Result<(), Failure> {
        let contact = Box::new(contact);
        let added: Result<(), AddError> = self
            .ask(|added| Command::AddContact { id, contact, added })
            .await?;
        added.map_err(|error| usage(error.to_string()))
    }

    pub(crate) async fn send(
        &mut self,
        contact: ContactId,
        text: Vec<u8>,
        ttl: Duration,
    ) -> Result<Tag, Failure> {
        let text = text.into();
        let sent = self.ask(|accepted| Command::Send {
            contact,
            text,
            ttl,
            accepted,
        });
        sent.await?.map_err(|error| not_sent(&error))
    }

    pub(crate) async fn send_file(
        &mut self,
        contact: ContactId,
        name: String,
        content: Vec<u8>,
        ttl: Duration,
    ) -> Result<Tag, Failure> {
        let content = content.into();
        let sent = self.ask(|accepted| Command::SendFile {
            contact,
            name,
            content,
            ttl,
            accepted,
        });
        sent.await?.map_err(|error| not_sent(&error))
    }

    /// Tells the client that the user has a message.
    pub(crate) async fn took(&mut self, contact: ContactId, message: Tag) -> Result<(), Failure> {
        match self.user.commands.send(Command::Took { contact, message }).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why().await),
        }
    }

    /// Why there is no way in, in words.
    pub(crate) async fn no_way_in(&mut self) -> Failure {
        match self.status().await {
            Ok(status) => failed(format!("no way in so far ({})", status.ladder)),
            Err(failure) => failure,
        }
    }

    /// Ends the client and waits until its state is stored.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        let Self { rt, user, mut ended } = self;
        // A client that ended by itself takes no command; its reason comes below.
        let _ = user.commands.send(Command::Stop).await;
        drop(user);
        let ended = timeout(&rt, Duration::from_secs(10), ended.wait()).await;
        let result =
            ended.unwrap_or_else(|_| Err(failed("the client does not end: its last changes may be lost")));
        rt.shutdown().await;
        result
    }

    async fn why(&mut self) -> Failure {
        match self.ended.wait().await {
            Err(failure) => failure,
            Ok(()) => failed("the client ended"),
        }
    }
}

fn not_sent(error: &SendError) -> Failure {
    match error {
        SendError::NoSuchContact | SendError::Refused(_) | SendError::File(_) => usage(error.to_string()),
        SendError::Expired => failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use phantom_client::ClientSide;
    use phantom_core::runtime::tokio::Config;
    use phantom_core::units::WallTime;

    use super::super::talk;
    use super::*;

    /// A session whose client is played by the test.
    fn played(rt: &TokioRuntime) -> (Session, ClientSide) {
        let (user, client) = channels();
        let (_, told) = oneshot::channel();
        let session = Session {
            rt: rt.clone(),
            user,
            ended: Ended { told, known: None },
        };
        (session, client)
    }

    async fn write(client: &ClientSide, n: u64) {
        let notice = Notice::Message {
            contact: ContactId::new("bob").expect("a name"),
            message: Tag(n),
            text: format!("message {n}").into(),
            expires: WallTime::from_unix_secs(2_000_000_000),
        };
        client.notices.send(Box::new(notice)).await.expect("room");
    }

    #[tokio::test]
    async fn receive_takes_what_it_printed_and_a_command_that_waits_takes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let (mut session, mut client) = played(&rt);
        for n in 1..=4 {
            write(&client, n).await;
        }
        // As `send` does while it waits to hear of its own message.
        let nothing = session.wait(Duration::from_millis(50), |notice| {
            matches!(notice, Notice::Message { message: Tag(2), .. }).then_some(())
        });
        assert!(nothing.await.expect("the client runs").is_ok());
        assert!(client.commands.try_recv().is_none());
        talk::receive(&mut session, None, Some(1), None)
            .await
            .expect("printed");
        let took =
            std::iter::from_fn(|| client.commands.try_recv().map(|command| *command)).collect::<Vec<_>>();
        assert!(
            matches!(took[..], [Command::Took { message: Tag(3), .. }]),
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn why_a_client_ended_is_told_as_often_as_somebody_asks() {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let (mut session, client) = played(&rt);
        drop(client);
        let (first, second) = (session.status().await.err(), session.notice().await.err());
        assert!(first.is_some() && first.map(|f| f.to_string()) == second.map(|f| f.to_string()));
        assert!(session.stop().await.is_err());
    }
}
