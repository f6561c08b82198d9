//! What a client's mail does about attachments: takes them, lets [`Files`] ask for pieces, and announces what nodes hold.
//! Spec: SPEC §5.10.

use super::*;

impl<R: Runtime> Mail<R> {
    /// Made when it is first needed: most clients of a simulation never do.
    pub(super) fn files(&mut self) -> &mut Files<R> {
        let rt = &self.rt;
        self.files.get_or_insert_with(|| Box::new(Files::new(rt)))
    }

    /// Takes an attachment of the user's; `accepted` is answered when it is durable.
    pub(crate) fn send_file(
        &mut self,
        at: Time,
        contact: &ContactId,
        (name, content): (&str, &Bytes),
        ttl: Duration,
        accepted: Accepted,
    ) {
        let known = self.contacts.iter().any(|known| known.id == *contact);
        let bucket = TtlBucket::covering(ttl).filter(|_| !ttl.is_zero());
        let id = MessageId::from_rng(&mut self.ids);
        self.rt.sensitive(Sensitive::MessageId, id.as_bytes());
        let head = &content[..content.len().min(MAX_MESSAGE)];
        if !head.is_empty() {
            self.rt.sensitive(Sensitive::Payload, head);
        }
        let expires = at.time + ttl;
        let taken = match (known, bucket) {
            (false, _) => Err(SendError::NoSuchContact),
            (true, None) => Err(SendError::File(FileError::BadTtl)),
            (true, Some(bucket)) => {
                let files = self.files();
                let taken = files.send(contact, id, (expires, bucket), (name, content));
                taken.map_err(SendError::File)
            }
        };
        match taken {
            Ok(()) => self.saving.filed.push((id.tag(), expires, accepted)),
            Err(error) => {
                let _ = accepted.send(Err(error)); // as in `add`
            }
        }
    }

    /// Reads what is to be sent next; to be called before [`Mail::next_piece`].
    pub(crate) async fn load_files(&mut self) {
        if let Some(files) = &mut self.files {
            files.load().await;
        }
    }

    /// Whether a piece of an attachment could be asked for.
    pub(crate) fn has_piece(&self, now: Instant) -> bool {
        self.files.as_ref().is_some_and(|files| files.is_due(now))
    }

    /// The next piece of an attachment to be asked for.
    pub(crate) fn next_piece(&mut self, now: Instant) -> Option<PieceAsk> {
        self.files.as_mut()?.next(now)
    }

    /// The answer to the write of a piece, `None` if there was none.
    pub(crate) fn piece_written(
        &mut self,
        now: Instant,
        (file, piece): (FileId, u32),
        outcome: Option<WriteOutcome>,
    ) {
        self.files().written(now, file, piece, outcome);
    }

    /// The answer to the read of a piece, `None` if there was none.
    pub(crate) fn piece_read(
        &mut self,
        now: Instant,
        (file, piece): (FileId, u32),
        answer: Option<ReadAnswer>,
    ) {
        if let Err(why) = self.files().read(now, file, piece, answer) {
            self.rt.emit(Event::Refused { what: "box", why });
        }
    }

    /// Does what follows when an attachment has come to its end.
    pub(super) fn files_ready(&mut self, at: Time) {
        while let Some(ready) = self.files.as_mut().and_then(|files| files.ready(at.time)) {
            let (Ready::Sent { contact, .. }
            | Ready::Fetched { contact, .. }
            | Ready::Broken { contact, .. }
            | Ready::Expired { contact, .. }) = &ready;
            let Some(index) = self.contacts.iter().position(|known| known.id == *contact) else {
                continue;
            };
            match ready {
                Ready::Sent {
                    id,
                    expires,
                    manifest,
                    ..
                } => {
                    let mut body = Vec::new();
                    manifest.write(&mut body);
                    let input = sender::Input::Submit {
                        kind: Kind::File,
                        id,
                        body: body.into(),
                        ttl: expires.saturating_since(at.time),
                    };
                    self.saving.files_changed = true;
                    if let Err(error) = self.sender(at, index, input) {
                        // Too many messages wait: nodes hold what nobody will be told of.
                        tracing::warn!(%error, "an attachment was stored and could not be announced");
                        self.expired(index, id);
                    }
                }
                Ready::Fetched {
                    id,
                    expires,
                    name,
                    content,
                    ..
                } => self.contacts[index].ready.push_back(Arrived {
                    id,
                    expires,
                    body: content,
                    name: Some(name),
                }),
                Ready::Broken { id, why, .. } => {
                    self.rt.emit(Event::Refused { what: "box", why });
                    let _ = self.receiver(at, index, receiver::Input::Delivered(id)); // as in `took`
                }
                Ready::Expired { id, .. } => {
                    self.saving.files_changed = true;
                    self.expired(index, id);
                }
            }
        }
    }

    /// The time of a message of the user's has ended.
    pub(super) fn expired(&mut self, index: Index, id: MessageId) {
        self.rt.emit(Event::MessageExpired { message: id.tag() });
        let contact = self.contacts[index].id.clone();
        let message = id.tag();
        self.tell(Notice::Expired { contact, message });
    }

    /// Writes what the state to be stored speaks of.
    pub(crate) async fn store_files(&mut self) -> Result<(), StateError> {
        match &mut self.files {
            Some(files) => files.store().await,
            None => Ok(()),
        }
    }

    /// Removes what the stored state speaks of no more.
    pub(crate) async fn tidy_files(&mut self) {
        if let Some(files) = &mut self.files {
            files.tidy().await;
        }
    }
}
