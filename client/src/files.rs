//! Attachments on their way: what the user sends, until nodes hold all of it, and what contacts announced, until it is
//! here. Spec: SPEC §5.10.
//!
//! What is sent lies sealed in a file of its own until then: the client's state, which is written whenever anything changes,
//! only says that it is there. What is fetched lies in memory: the message that announced it stays in the state until the
//! user has it, and a client that starts again fetches it again.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::attachment::{
    ATTACHMENT_MAX, AttachmentKeys, AttachmentSecret, Config, Manifest, Transfer, pieces,
};
use phantom_core::crypto::aead::NONCE_ZERO;
use phantom_core::event::{Refusal, Sensitive};
use phantom_core::mailbox::{ReadAnswer, Record, TtlBucket, WriteOutcome};
use phantom_core::message::MessageId;
use phantom_core::message::fragment::Message;
use phantom_core::packet::Class;
use phantom_core::route::Ask;
use phantom_core::runtime::{Frugal, Runtime};
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::{DecodeError, Reader, Writer};

use crate::mail::Time;
use crate::state::StateError;
use crate::user::{ContactId, FileError};

/// Attachments that wait to be sent, the one under way among them.
const OUTGOING_MAX: usize = 16;
/// Enough that two links are supplied while rotation holds one against the other (SPEC §11.4).
const UPLOAD: Config = Config {
    window_first: 8,
    window_max: 24,
    retry_first: Duration::from_secs(2),
    retry_max: Duration::from_secs(60),
};
/// Attachments that are fetched at once; further ones wait for their turn. One fills the window of a link.
const FETCHED_AT_ONCE: usize = 1;
/// Announced attachments that wait; beyond, their messages are offered again by a later start.
const INCOMING_MAX: usize = 64;

/// Names an attachment in a run of the client.
pub(crate) type FileId = u64;

/// What is asked of the nodes of a piece, and which piece that is.
pub(crate) struct PieceAsk {
    pub(crate) file: FileId,
    pub(crate) piece: u32,
    pub(crate) ask: Ask,
}

/// An attachment that is wholly where it should be.
pub(crate) enum Ready {
    /// Nodes hold it: its message is to be sent now.
    Sent {
        contact: ContactId,
        id: MessageId,
        expires: WallTime,
        manifest: Manifest,
    },
    /// It was fetched.
    Fetched {
        contact: ContactId,
        id: MessageId,
        expires: WallTime,
        name: String,
        content: Bytes,
    },
    /// It cannot be had: what was announced is no attachment, or another one.
    Broken {
        contact: ContactId,
        id: MessageId,
        why: Refusal,
    },
    /// Its time ended before nodes held it.
    Expired { contact: ContactId, id: MessageId },
}

/// What is kept of an attachment that is sent.
struct Outgoing {
    file: FileId,
    contact: ContactId,
    id: MessageId,
    expires: WallTime,
    bucket: TtlBucket,
    manifest: Manifest,
    /// From when it is the first of those that wait.
    upload: Option<Upload>,
}

struct Upload {
    keys: AttachmentKeys,
    content: Bytes,
    transfer: Transfer<Frugal>,
}

/// What is kept of an attachment that was announced.
struct Incoming {
    file: FileId,
    contact: ContactId,
    id: MessageId,
    expires: WallTime,
    manifest: Manifest,
    /// From its turn on.
    download: Option<Download>,
}

struct Download {
    keys: AttachmentKeys,
    pieces: Vec<Bytes>,
    transfer: Transfer<Frugal>,
}

/// All attachments of a client.
pub(crate) struct Files<R> {
    rt: R,
    config: Config,
    next: FileId,
    outgoing: VecDeque<Outgoing>,
    incoming: Vec<Incoming>,
    /// To be written before the state that speaks of them.
    unwritten: Vec<(String, Vec<u8>)>,
    /// To be removed after the state that speaks of them no more.
    unneeded: Vec<String>,
}

impl<R: Runtime> Files<R> {
    pub(crate) fn new(rt: &R) -> Self {
        Self {
            rt: rt.clone(),
            config: Config::default(),
            next: 0,
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            unwritten: Vec::new(),
            unneeded: Vec::new(),
        }
    }

    fn file(&mut self) -> FileId {
        self.next += 1;
        self.next
    }

    /// Takes an attachment of the user's. It is the client's once [`Files::store`] and the state are durable.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn send(
        &mut self,
        contact: &ContactId,
        id: MessageId,
        (expires, bucket): (WallTime, TtlBucket),
        (name, content): (&str, &Bytes),
    ) -> Result<(), FileError> {
        if content.len() > ATTACHMENT_MAX {
            return Err(FileError::TooLong {
                got: content.len(),
                bound: ATTACHMENT_MAX,
            });
        }
        if self.outgoing.len() >= OUTGOING_MAX {
            return Err(FileError::TooMany { bound: OUTGOING_MAX });
        }
        let secret = AttachmentSecret::from_rng(&mut self.rt.rng("attachment secret"));
        self.rt.sensitive(Sensitive::UserKey, secret.as_bytes());
        let manifest = Manifest::of(secret, name, content).ok_or(FileError::BadName)?;
        self.unwritten.push((file_name(id), seal(&manifest, content)));
        let file = self.file();
        self.outgoing.push_back(Outgoing {
            file,
            contact: contact.clone(),
            id,
            expires,
            bucket,
            manifest,
            upload: None,
        });
        Ok(())
    }

    /// Takes what a contact announced. `false` if it is no attachment.
    pub(crate) fn announced(&mut self, contact: &ContactId, message: &Message) -> bool {
        let Ok(manifest) = Manifest::decode(&message.body) else {
            return false;
        };
        self.rt.sensitive(Sensitive::UserKey, manifest.secret.as_bytes());
        if self.incoming.len() < INCOMING_MAX {
            let file = self.file();
            self.incoming.push(Incoming {
                file,
                contact: contact.clone(),
                id: message.id,
                expires: message.expires,
                manifest,
                download: None,
            });
        }
        true
    }

    /// The message that announced it is over.
    pub(crate) fn forget(&mut self, id: MessageId) {
        self.incoming.retain(|incoming| incoming.id != id);
    }

    /// Bytes that are fetched or wait to be.
    pub(crate) fn announced_bytes(&self) -> usize {
        let lens = self
            .incoming
            .iter()
            .map(|incoming| incoming.manifest.len as usize);
        lens.sum()
    }

    /// Attachments to a contact that nodes do not hold yet.
    pub(crate) fn waiting(&self, contact: &ContactId) -> usize {
        let to = |outgoing: &&Outgoing| outgoing.contact == *contact;
        self.outgoing.iter().filter(to).count()
    }

    /// Writes the files that the state to be stored speaks of; to be called before it is.
    ///
    /// # Errors
    /// Of the store.
    pub(crate) async fn store(&mut self) -> Result<(), StateError> {
        while let Some((file, sealed)) = self.unwritten.last() {
            let written = self.rt.write(file, sealed).await;
            written.map_err(|error| StateError::Io {
                file: file.clone(),
                error,
            })?;
            self.unwritten.pop();
        }
        Ok(())
    }

    /// Removes the files that the stored state speaks of no more; to be called after it is. One that cannot be removed is tried
    /// again the next time.
    pub(crate) async fn tidy(&mut self) {
        while let Some(file) = self.unneeded.last() {
            if let Err(error) = self.rt.remove(file).await {
                tracing::warn!(%error, file, "an attachment that was sent could not be removed yet");
                return;
            }
            self.unneeded.pop();
        }
    }

    /// Reads the attachment whose turn it is; to be called before [`Files::next`]. `true` if something has changed.
    pub(crate) async fn load(&mut self) -> bool {
        let mut changed = false;
        while let Some(first) = self.outgoing.front_mut().filter(|first| first.upload.is_none()) {
            let file = file_name(first.id);
            let sealed = match self.unwritten.iter().find(|(name, _)| *name == file) {
                Some((_, sealed)) => Some(sealed.clone()),
                None => self
                    .rt
                    .read(&file)
                    .await
                    .ok()
                    .flatten()
                    .map(|bytes| bytes.to_vec()),
            };
            changed = true;
            if let Some(content) = sealed.and_then(|sealed| open(&first.manifest, &sealed)) {
                let count = pieces(content.len());
                first.upload = Some(Upload {
                    keys: first.manifest.keys(),
                    content,
                    transfer: Transfer::new(count, UPLOAD, self.rt.rng("upload").into()),
                });
            } else {
                // A disk that lost it. Nobody was told of it, and its sender hears when its time is over.
                tracing::warn!(
                    file,
                    "an attachment to be sent is gone from this disk, or damaged"
                );
                first.expires = WallTime::UNIX_EPOCH;
                break;
            }
        }
        let mut fetched = self
            .incoming
            .iter()
            .filter(|incoming| incoming.download.is_some())
            .count();
        for incoming in &mut self.incoming {
            if fetched < FETCHED_AT_ONCE && incoming.download.is_none() {
                fetched += 1;
                let count = pieces(incoming.manifest.len as usize);
                incoming.download = Some(Download {
                    keys: incoming.manifest.keys(),
                    pieces: vec![Bytes::new(); count as usize],
                    transfer: Transfer::new(count, self.config, self.rt.rng("download").into()),
                });
            }
        }
        changed
    }

    /// The next piece to be asked for; answer with [`Files::written`] or [`Files::read`].
    pub(crate) fn next(&mut self, now: Instant) -> Option<PieceAsk> {
        if let Some(first) = self.outgoing.front_mut()
            && let Some(upload) = &mut first.upload
            && let Some(piece) = upload.transfer.start(now)
        {
            let not_after = first.bucket.bound(first.expires);
            let record = upload.keys.seal(piece, &upload.content, first.bucket, not_after);
            let file = first.file;
            return Some(self.asks(file, piece, Ask::Write(Box::new(record))));
        }
        for incoming in &mut self.incoming {
            if let Some(download) = &mut incoming.download
                && let Some(piece) = download.transfer.start(now)
            {
                let (file, address) = (incoming.file, download.keys.address(piece));
                return Some(self.asks(file, piece, Ask::Read(Class::Bulk, vec![address])));
            }
        }
        None
    }

    fn asks(&self, file: FileId, piece: u32, ask: Ask) -> PieceAsk {
        let address = match &ask {
            Ask::Write(record) => Some(record.address()),
            Ask::Read(_, addresses) => addresses.first(),
        };
        if let Some(address) = address {
            self.rt.sensitive(Sensitive::BoxAddress, address.as_bytes());
        }
        PieceAsk { file, piece, ask }
    }

    /// The answer to a write, `None` if there was none.
    pub(crate) fn written(&mut self, now: Instant, file: FileId, piece: u32, outcome: Option<WriteOutcome>) {
        let upload = self.outgoing.iter_mut().find(|outgoing| outgoing.file == file);
        let Some(upload) = upload.and_then(|outgoing| outgoing.upload.as_mut()) else {
            return;
        };
        match outcome {
            Some(WriteOutcome::Stored { .. }) => upload.transfer.succeeded(piece),
            _ => upload.transfer.failed(now, piece),
        }
    }

    /// The answer to a read, `None` if there was none. What a node returned that is no piece of it is for the caller to report.
    pub(crate) fn read(
        &mut self,
        now: Instant,
        file: FileId,
        piece: u32,
        answer: Option<ReadAnswer>,
    ) -> Result<(), Refusal> {
        let download = self.incoming.iter_mut().find(|incoming| incoming.file == file);
        let Some(download) = download.and_then(|incoming| incoming.download.as_mut()) else {
            return Ok(());
        };
        let record: Option<Box<Record>> = answer.and_then(|answer| answer.record);
        let opened = record.map(|record| download.keys.open(piece, &record));
        match opened {
            Some(Ok(bytes)) => {
                download.pieces[piece as usize] = bytes;
                download.transfer.succeeded(piece);
                Ok(())
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a piece of an attachment is of no use");
                download.transfer.failed(now, piece);
                Err(Refusal::BadAuthentication)
            }
            None => {
                download.transfer.failed(now, piece);
                Ok(())
            }
        }
    }

    /// There is a way to the nodes again.
    pub(crate) fn reachable(&mut self, now: Instant) {
        let uploads = self
            .outgoing
            .iter_mut()
            .filter_map(|outgoing| outgoing.upload.as_mut());
        uploads.for_each(|upload| upload.transfer.reachable(now));
        let downloads = self
            .incoming
            .iter_mut()
            .filter_map(|incoming| incoming.download.as_mut());
        downloads.for_each(|download| download.transfer.reachable(now));
    }

    /// Something that has come to its end; call again until there is nothing.
    pub(crate) fn ready(&mut self, time: WallTime) -> Option<Ready> {
        let over = |outgoing: &Outgoing| {
            let complete = outgoing
                .upload
                .as_ref()
                .is_some_and(|upload| upload.transfer.is_complete());
            complete || time >= outgoing.expires
        };
        if let Some(at) = self.outgoing.iter().position(over) {
            let Outgoing {
                contact,
                id,
                expires,
                manifest,
                ..
            } = self.outgoing.remove(at)?;
            let file = file_name(id);
            self.unwritten.retain(|(name, _)| *name != file);
            self.unneeded.push(file);
            return Some(if time < expires {
                Ready::Sent {
                    contact,
                    id,
                    expires,
                    manifest,
                }
            } else {
                Ready::Expired { contact, id }
            });
        }
        let complete = |incoming: &Incoming| {
            let download = incoming.download.as_ref();
            download.is_some_and(|download| download.transfer.is_complete())
        };
        let at = self.incoming.iter().position(complete)?;
        let Incoming {
            contact,
            id,
            expires,
            manifest,
            download,
            ..
        } = self.incoming.remove(at);
        let content = download
            .map(|download| download.pieces.concat())
            .unwrap_or_default();
        Some(if manifest.is_of(&content) {
            Ready::Fetched {
                contact,
                id,
                expires,
                name: manifest.name,
                content: content.into(),
            }
        } else {
            let why = Refusal::BadAuthentication;
            Ready::Broken { contact, id, why }
        })
    }

    fn transfers(&self) -> impl Iterator<Item = &Transfer<Frugal>> {
        let upload = self.outgoing.front().and_then(|first| first.upload.as_ref());
        let downloads = self
            .incoming
            .iter()
            .filter_map(|incoming| incoming.download.as_ref());
        let transfers = upload.map(|upload| &upload.transfer).into_iter();
        transfers.chain(downloads.map(|download| &download.transfer))
    }

    /// Whether [`Files::next`] has a piece.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.transfers().filter_map(Transfer::wake).any(|due| due <= now)
    }

    /// When something is due; asking only if that `can` be.
    pub(crate) fn wake(&self, at: Time, can: bool) -> Option<Instant> {
        let ends = self.outgoing.iter().map(|outgoing| outgoing.expires);
        let ends = ends.map(|end| at.now + end.saturating_since(at.time));
        let due = self.transfers().filter_map(Transfer::wake).filter(|_| can);
        ends.chain(due).min()
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.outgoing.len() as u16);
        for outgoing in &self.outgoing {
            out.put_bytes(outgoing.contact.as_str().as_bytes());
            out.put(outgoing.id.as_bytes());
            out.put_u64(outgoing.expires.as_unix_nanos());
            out.put_u8(outgoing.bucket.code());
            outgoing.manifest.write(out);
        }
    }

    pub(crate) fn decode(&mut self, r: &mut Reader<'_>) -> Result<(), DecodeError> {
        for _ in 0..r.count("attachments to be sent", OUTGOING_MAX)? {
            let contact = ContactId::read(r)?;
            let id = MessageId::from_bytes(r.array()?);
            let expires = WallTime::from_unix_nanos(r.u64()?);
            let bucket = TtlBucket::from_code(r.u8()?)?;
            let manifest = Manifest::read(r)?;
            let file = self.file();
            self.outgoing.push_back(Outgoing {
                file,
                contact,
                id,
                expires,
                bucket,
                manifest,
                upload: None,
            });
        }
        Ok(())
    }
}

/// Where an attachment lies until nodes hold it. The name says nothing: message ids are random and leave the client sealed.
fn file_name(id: MessageId) -> String {
    format!("attachment-{:016x}", id.tag().0)
}

/// One use of the key: the content of an attachment never changes.
fn seal(manifest: &Manifest, content: &[u8]) -> Vec<u8> {
    manifest.secret.file_key().seal(NONCE_ZERO, b"", content)
}

fn open(manifest: &Manifest, sealed: &[u8]) -> Option<Bytes> {
    let plain = manifest.secret.file_key().open(NONCE_ZERO, b"", sealed).ok()?;
    manifest.is_of(&plain).then(|| plain.into())
}
