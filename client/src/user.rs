//! What the user's program and the client say to each other, over two bounded channels.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::{Step, Tag};
use phantom_core::invite::{Invitation, InvitationError};
use phantom_core::ladder::Report;
use phantom_core::message::contact::Contact;
use phantom_core::message::sender;
use phantom_core::queue;
use phantom_core::rendezvous::CohortPublic;
pub use phantom_core::route::RequestCounts;
use phantom_core::transport::Kind;
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader};
use thiserror::Error;
use tokio::sync::oneshot;

/// Commands that wait for the client; further senders wait.
const COMMANDS: usize = 64;
/// Notices that wait for the user's program. When it is full, messages wait for room and other notices are dropped:
/// [`Command::Report`] tells the state of things at any time.
const NOTICES: usize = 256;

/// The user's own name for a contact: 1 to 64 bytes of text without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContactId(Arc<str>);

impl ContactId {
    /// The longest name, in bytes.
    pub const LEN_MAX: usize = 64;

    /// Takes `name` if it is one.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=Self::LEN_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        fits.then(|| Self(name.into()))
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = r.bytes("name of a contact", Self::LEN_MAX)?;
        let name = std::str::from_utf8(name).ok().and_then(Self::new);
        name.ok_or(DecodeError::BadValue {
            field: "name of a contact",
            got: 0,
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ContactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who knows whom is nobody's business: the name is not logged.
        write!(f, "ContactId(#{:016x})", Tag::of(self.0.as_bytes()).0)
    }
}

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// There is no contact of that name.
    #[error("there is no contact of that name")]
    NoSuchContact,
    /// The message breaks a bound.
    #[error(transparent)]
    Refused(#[from] sender::Error),
    /// So does the attachment.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its time ended before it was durable.
    #[error("its time ended before it was stored on this machine")]
    Expired,
}

/// Why an attachment was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FileError {
    /// Too long.
    #[error("an attachment of {got} bytes, at most {bound} are carried")]
    TooLong {
        /// Its length.
        got: usize,
        /// The bound.
        bound: usize,
    },
    /// Not a name for one.
    #[error(
        "an attachment needs a name of 1 to 128 bytes without slashes, control characters or a dot at its beginning"
    )]
    BadName,
    /// No such lifetime.
    #[error("an attachment lives for 1 ns to 14 days")]
    BadTtl,
    /// Too many wait.
    #[error("{bound} attachments wait to be sent already")]
    TooMany {
        /// The bound.
        bound: usize,
    },
}

/// Why a contact was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddError {
    /// The name is taken.
    #[error("there is a contact of that name already")]
    NameTaken,
    /// Too many.
    #[error("{bound} contacts are kept at most")]
    TooMany {
        /// The bound.
        bound: usize,
    },
}

/// What a user wants.
#[derive(Debug)]
pub enum Command {
    /// From now on exchange messages with somebody; answered once that is durable.
    AddContact {
        /// The user's name for it.
        id: ContactId,
        /// What the two agreed on.
        contact: Box<Contact>,
        /// The answer.
        added: oneshot::Sender<Result<(), AddError>>,
    },
    /// Deliver a message; answered once it is durable: from then on it arrives or expires.
    Send {
        /// To whom.
        contact: ContactId,
        /// The message, up to 64 KiB.
        text: Bytes,
        /// Not to be delivered after that, at most 14 days.
        ttl: Duration,
        /// The answer: the message's tag in events and notices.
        accepted: oneshot::Sender<Result<Tag, SendError>>,
    },
    /// Deliver an attachment; answered once it is durable: from then on it arrives or expires.
    SendFile {
        /// To whom.
        contact: ContactId,
        /// What the other side may call it: see [`phantom_core::attachment::Manifest::is_name`].
        name: String,
        /// What is in it, up to 8 MiB.
        content: Bytes,
        /// Not to be delivered after that, at most 14 days.
        ttl: Duration,
        /// The answer: the message's tag in events and notices.
        accepted: oneshot::Sender<Result<Tag, SendError>>,
    },
    /// The user has this message of [`Notice::Message`] or [`Notice::File`], printed or stored: the client forgets it.
    Took {
        /// Who wrote it.
        contact: ContactId,
        /// Its tag.
        message: Tag,
    },
    /// A friend asks for help to get in: fetch the records that the bridges of its cohort left. `None` when there are none
    /// to be had.
    FetchInvitation {
        /// The friend's public cohort.
        cohort: Box<CohortPublic>,
        /// The answer.
        reply: oneshot::Sender<Option<Invitation>>,
    },
    /// An invitation came out of band (its bytes). Answered with the number of bridges in it.
    AcceptInvitation {
        /// The invitation.
        invitation: Bytes,
        /// The answer.
        reply: oneshot::Sender<Result<usize, InvitationError>>,
    },
    /// How are things?
    Report(oneshot::Sender<Box<Status>>),
    /// End.
    Stop,
}

/// What a client tells its user.
#[derive(Clone, Debug)]
pub enum Notice {
    /// There is a way in.
    Connected {
        /// How it became known.
        step: Step,
        /// Where.
        entry: SocketAddr,
        /// Whether a lost link was resumed.
        resumed: bool,
        /// What the link runs over.
        transport: Kind,
    },
    /// The way in is gone; the client looks for another.
    Disconnected,
    /// Somebody wrote. The message stays in the client's state until the user answers [`Command::Took`] or it expires; a
    /// client that starts again offers it again. So a user who answers only after it is safe loses none, and sees one
    /// twice (by its tag) if a crash falls between.
    Message {
        /// Who.
        contact: ContactId,
        /// The message's tag.
        message: Tag,
        /// What.
        text: Bytes,
        /// Not to be shown after that.
        expires: WallTime,
    },
    /// Somebody sent an attachment, and all of it is here. As [`Notice::Message`] otherwise; a client that starts again before it
    /// was taken fetches it again.
    File {
        /// Who.
        contact: ContactId,
        /// The tag of the message that announced it.
        message: Tag,
        /// What its sender calls it.
        name: String,
        /// What is in it.
        content: Bytes,
        /// Not to be shown after that.
        expires: WallTime,
    },
    /// Enough storage nodes hold a message of the user's.
    Stored {
        /// To whom.
        contact: ContactId,
        /// Its tag.
        message: Tag,
    },
    /// The reader's device holds a message of the user's; nobody knows whether it was read.
    Acknowledged {
        /// To whom.
        contact: ContactId,
        /// Its tag.
        message: Tag,
    },
    /// The time of a message of the user's ended before the reader was known to have it.
    Expired {
        /// To whom.
        contact: ContactId,
        /// Its tag.
        message: Tag,
    },
    /// The state of a contact is older than one that was used (a restored copy): renew the contact.
    Conflict {
        /// Which.
        contact: ContactId,
    },
    /// No way in yet: a friend who is connected may fetch an invitation for this cohort.
    WantInvitation {
        /// The public cohort of this installation: for the friend.
        cohort: Box<CohortPublic>,
    },
}

/// The way in that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryStatus {
    /// How it became known.
    pub step: Step,
    /// Where.
    pub address: SocketAddr,
    /// Whether it is a bridge.
    pub bridge: bool,
    /// What the link to it runs over.
    pub transport: Kind,
    /// Whether packets can go through it: its hop keys and a way back are known.
    pub ready: bool,
}

/// The document that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentStatus {
    /// Valid from.
    pub valid_after: WallTime,
    /// Valid until.
    pub valid_until: WallTime,
    /// Nodes in it.
    pub nodes: usize,
    /// Whether it may be used at the time believed.
    pub usable: bool,
}

/// How things are.
#[derive(Clone, Debug)]
pub struct Status {
    /// The way in.
    pub entry: Option<EntryStatus>,
    /// What the ladder tried since it last started, and what each attempt saw.
    pub ladder: Report,
    /// Which way in is used and why, and what was found out of it and of others.
    pub rotation: phantom_rotation::Report,
    /// The directory document.
    pub document: Option<DocumentStatus>,
    /// Whether the wall clock is not believed.
    pub clock_refused: bool,
    /// Contacts and, for each, how many messages to it wait.
    pub contacts: Vec<(ContactId, usize)>,
    /// Requests through the network.
    pub requests: RequestCounts,
    /// This user's public cohort, to be given to friends who are to fetch an invitation.
    pub cohort: CohortPublic,
}

/// The client has ended; what was sent is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client has ended")]
pub struct ClientGone;

/// What the user wants, on its way to the client. In boxes: whoever waits for room holds a pointer.
#[derive(Clone, Debug)]
pub struct Commands(queue::Sender<Box<Command>>);

impl Commands {
    /// Hands over a command; waits while the client has too many.
    ///
    /// # Errors
    /// The client has ended.
    pub fn send(&self, command: Command) -> impl Future<Output = Result<(), ClientGone>> + Send {
        let command = Box::new(command);
        async move { self.0.send(command).await.map_err(|_| ClientGone) }
    }

    /// Whether the client has ended.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// What the client tells, on its way to the user; in boxes like [`Commands`].
#[derive(Debug)]
pub struct Notices(queue::Receiver<Box<Notice>>);

impl Notices {
    /// The next; `None` when the client has ended and told all. Cancel safe.
    pub async fn recv(&mut self) -> Option<Notice> {
        self.0.recv().await.map(|notice| *notice)
    }

    /// The next that is here already.
    pub fn try_recv(&mut self) -> Option<Notice> {
        self.0.try_recv().map(|notice| *notice)
    }
}

/// The user's end.
#[derive(Debug)]
pub struct UserSide {
    /// What the user wants. Dropping it ends the client.
    pub commands: Commands,
    /// What happens.
    pub notices: Notices,
}

/// The client's end, for [`crate::run()`] and for tests that play a client.
#[derive(Debug)]
pub struct ClientSide {
    /// What the user wants.
    pub commands: queue::Receiver<Box<Command>>,
    /// What happens.
    pub notices: queue::Sender<Box<Notice>>,
}

/// Both ends.
pub fn channels() -> (UserSide, ClientSide) {
    let (ask, commands) = queue::queue(COMMANDS);
    let (tell, notices) = queue::queue(NOTICES);
    let user = UserSide {
        commands: Commands(ask),
        notices: Notices(notices),
    };
    let client = ClientSide {
        commands,
        notices: tell,
    };
    (user, client)
}
