//! Requests and answers over a link, on [`Channel::RPC`]. Spec: SPEC §2.8.
//!
//! An [`Rpc`] has no task of its own: whoever receives from the link hands it the messages of that channel with
//! [`Rpc::deliver`]. Both ends may ask at the same time. Long requests and answers travel in parts, so that packets on the
//! same link wait for one part at most. A resumption of the link goes unnoticed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::rest::Rest as _;
use crate::runtime::{Clock, timeout};
use crate::units::Instant;
use crate::wire::{DecodeError, Reader, Writer};

use super::{Channel, LinkError, Sender};

/// The longest request that every end accepts, in bytes: a bulk box with its signature.
pub const REQUEST_MAX: usize = 40 * 1024;

/// Limits of one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcConfig {
    /// Calls on their way at most; further ones wait, within their time limit. Default 16.
    pub calls: u16,
    /// A call without an answer for this long has failed. Default 20 s.
    pub time_limit: Duration,
    /// The longest answer that is accepted, in bytes. Default 1 MiB.
    pub answer_max: usize,
    /// Requests of the other end that are held at most, from their first part to their answer; further ones are refused
    /// at once. Default 16.
    pub requests: u16,
    /// The longest request that is accepted, in bytes. Default [`REQUEST_MAX`].
    pub request_max: usize,
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            calls: 16,
            time_limit: Duration::from_secs(20),
            answer_max: 1024 * 1024,
            requests: 16,
            request_max: REQUEST_MAX,
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpcError {
    /// The link is closed.
    #[error("calling: {0}")]
    Link(#[from] LinkError),
    /// No answer in time: the other end's fault or the network's. The request may have been served.
    #[error("calling: no answer within {0:?}")]
    TimedOut(Duration),
    /// The other end holds as many requests as it wants to, or gave this one up. It may be asked again later.
    #[error("calling: the other end refused")]
    Refused,
}

/// What is wrong with a message that the other end sent: its fault. Close the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RpcViolation {
    /// It does not decode.
    #[error("an rpc message is not in the format: {0}")]
    Malformed(#[from] DecodeError),
    /// A request or answer is too long.
    #[error("{what} of more than {bound} bytes")]
    TooLong {
        /// Request or answer.
        what: &'static str,
        /// Its bound.
        bound: usize,
    },
    /// The number of a request that is not answered yet was used again.
    #[error("request {0} was sent a second time")]
    Repeated(u32),
}

/// Body bytes of one message.
const PART_MAX: usize = 16 * 1024;

/// Refused requests whose last parts are waited for: far more than a caller has under way or gives up in its time limit.
const REFUSED_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RequestPart,
    Request,
    AnswerPart,
    Answer,
    Refused,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::RequestPart,
        Self::Request,
        Self::AnswerPart,
        Self::Answer,
        Self::Refused,
    ];

    fn decode(byte: u8) -> Result<Self, DecodeError> {
        let bad = DecodeError::BadValue {
            field: "rpc message",
            got: u64::from(byte),
        };
        Self::ALL.into_iter().find(|kind| kind.byte() == byte).ok_or(bad)
    }

    const fn byte(self) -> u8 {
        match self {
            Self::RequestPart => 1,
            Self::Request => 2,
            Self::AnswerPart => 3,
            Self::Answer => 4,
            Self::Refused => 5,
        }
    }
}

fn encode(kind: Kind, id: u32, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(5 + body.len());
    out.put_u8(kind.byte());
    out.put_u32(id);
    out.put(body);
    Bytes::from(out)
}

fn decode(message: &[u8]) -> Result<(Kind, u32, &[u8]), DecodeError> {
    let mut r = Reader::new(message);
    let (kind, id) = (Kind::decode(r.u8()?)?, r.u32()?);
    let body = r.rest();
    let bound = if kind == Kind::Refused { 0 } else { PART_MAX };
    if body.len() > bound {
        return Err(DecodeError::TooLong {
            field: "rpc part",
            bound,
            got: body.len(),
        });
    }
    Ok((kind, id, body))
}

/// Requests and answers over one link; cheap to clone.
pub struct Rpc<R: Clock> {
    rt: R,
    shared: Arc<Shared>,
}

struct Shared {
    sender: Sender,
    config: RpcConfig,
    /// Permits for our calls.
    calls: Semaphore,
    /// A request waits to be served.
    asked: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_id: u32,
    /// Our calls: what came of the answer so far, and who waits for it.
    calls: BTreeMap<u32, Call>,
    /// The other end's requests: what came so far; `None` once it is whole.
    requests: BTreeMap<u32, Option<Partial>>,
    /// Requests that were refused at a part, until their last part comes: it is no request of its own. Oldest first.
    refused: VecDeque<(u32, Instant)>,
    /// Whole requests that nobody serves yet.
    waiting: VecDeque<(u32, Bytes)>,
}

/// A request of which parts are missing.
struct Partial {
    parts: Vec<u8>,
    /// When the newest part came.
    since: Instant,
}

impl State {
    /// Gives back the memory of what is empty: an idle link holds no buffers.
    fn rest(&mut self) {
        self.calls.rest();
        self.requests.rest();
        self.waiting.rest();
    }

    /// Forgets requests that have not gone on for `limit`: whoever asked has given them up. Their parts may still come.
    fn give_up(&mut self, limit: Duration, now: Instant) {
        let late = |(id, partial): (&u32, &Option<Partial>)| {
            let partial = partial.as_ref()?;
            (partial.since + limit <= now).then_some(*id)
        };
        for id in self.requests.iter().filter_map(late).collect::<Vec<_>>() {
            self.requests.remove(&id);
            self.remember_refused(id, now);
        }
    }

    fn remember_refused(&mut self, id: u32, now: Instant) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back((id, now));
    }
}

struct Call {
    parts: Vec<u8>,
    tell: oneshot::Sender<Result<Bytes, RpcError>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `body` in parts; other messages may go between them.
    async fn send(&self, part: Kind, last: Kind, id: u32, body: &[u8]) -> Result<(), LinkError> {
        let mut left = body;
        while let Some((head, tail)) = left.split_at_checked(PART_MAX)
            && !tail.is_empty()
        {
            self.sender.send(Channel::RPC, encode(part, id, head)).await?;
            left = tail;
        }
        self.sender.send(Channel::RPC, encode(last, id, left)).await
    }
}

/// Takes a call off the books, however it ends.
struct Calling<'a>(&'a Shared, u32);

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.calls.remove(&self.1);
        state.rest();
    }
}

impl<R: Clock> Rpc<R> {
    /// Calls and serves over the link of `sender`.
    pub fn new(rt: R, sender: Sender, config: RpcConfig) -> Self {
        let calls = Semaphore::new(usize::from(config.calls));
        let shared = Shared {
            sender,
            config,
            calls,
            asked: Notify::new(),
            state: Mutex::default(),
        };
        Self {
            rt,
            shared: Arc::new(shared),
        }
    }

    /// Sends a request and waits for its answer. Dropping the future gives the answer up; the request may be served all
    /// the same.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn call(&self, request: Bytes) -> Result<Bytes, RpcError> {
        let limit = self.shared.config.time_limit;
        timeout(&self.rt, limit, async {
            tokio::select! {
                biased;
                answer = self.ask(request) => answer,
                why = self.shared.sender.closed() => Err(why.into()),
            }
        })
        .await
        .unwrap_or(Err(RpcError::TimedOut(limit)))
    }

    async fn ask(&self, request: Bytes) -> Result<Bytes, RpcError> {
        let shared = &*self.shared;
        let _permit = shared.calls.acquire().await.map_err(|_| LinkError::Closed)?;
        let (tell, told) = oneshot::channel();
        let id = {
            let mut state = shared.lock();
            let id = state.next_id;
            state.next_id = id.wrapping_add(1);
            state.calls.insert(
                id,
                Call {
                    parts: Vec::new(),
                    tell,
                },
            );
            id
        };
        let _calling = Calling(shared, id);
        shared
            .send(Kind::RequestPart, Kind::Request, id, &request)
            .await?;
        told.await.unwrap_or(Err(RpcError::Link(LinkError::Closed)))
    }

    /// Takes a message that came on [`Channel::RPC`].
    ///
    /// # Errors
    /// The other end broke a rule: close the link.
    pub fn deliver(&self, message: &[u8]) -> Result<(), RpcViolation> {
        let (kind, id, body) = decode(message)?;
        match kind {
            Kind::RequestPart => self.request(id, body, false),
            Kind::Request => self.request(id, body, true),
            Kind::AnswerPart => self.answer(id, body, false),
            Kind::Answer => self.answer(id, body, true),
            Kind::Refused => {
                if let Some(call) = self.shared.lock().calls.remove(&id) {
                    let _ = call.tell.send(Err(RpcError::Refused)); // nobody waits any more: nothing to tell
                }
                Ok(())
            }
        }
    }

    fn answer(&self, id: u32, body: &[u8], last: bool) -> Result<(), RpcViolation> {
        let mut state = self.shared.lock();
        // An answer that nobody waits for any more came too late: its parts are dropped one by one.
        let Some(Call { parts, .. }) = state.calls.get_mut(&id) else {
            return Ok(());
        };
        let bound = self.shared.config.answer_max;
        if parts.len() + body.len() > bound {
            return Err(RpcViolation::TooLong {
                what: "an answer",
                bound,
            });
        }
        parts.extend_from_slice(body);
        if last && let Some(Call { parts, tell }) = state.calls.remove(&id) {
            let _ = tell.send(Ok(Bytes::from(parts))); // as above
        }
        Ok(())
    }

    fn request(&self, id: u32, body: &[u8], last: bool) -> Result<(), RpcViolation> {
        let (now, limit) = (self.rt.now(), self.shared.config.time_limit);
        let mut state = self.shared.lock();
        if !state.requests.contains_key(&id) {
            // A number that comes again after so long is another request.
            while state
                .refused
                .front()
                .is_some_and(|(_, since)| *since + 2 * limit <= now)
            {
                state.refused.pop_front();
            }
            if let Some(at) = state.refused.iter().position(|(refused, _)| *refused == id) {
                if !last {
                    return Ok(());
                }
                state.refused.remove(at);
                drop(state);
                return self.refuse(id);
            }
            let bound = usize::from(self.shared.config.requests);
            if state.requests.len() >= bound {
                state.give_up(limit, now);
            }
            if state.requests.len() >= bound {
                if !last {
                    state.remember_refused(id, now);
                    return Ok(());
                }
                drop(state);
                return self.refuse(id);
            }
            state.requests.insert(
                id,
                Some(Partial {
                    parts: Vec::new(),
                    since: now,
                }),
            );
        }
        let Some(Some(Partial { parts, since })) = state.requests.get_mut(&id) else {
            return Err(RpcViolation::Repeated(id));
        };
        let bound = self.shared.config.request_max;
        if parts.len() + body.len() > bound {
            return Err(RpcViolation::TooLong {
                what: "a request",
                bound,
            });
        }
        *since = now;
        parts.extend_from_slice(body);
        if last && let Some(Partial { parts, .. }) = state.requests.insert(id, None).flatten() {
            state.waiting.push_back((id, Bytes::from(parts)));
            drop(state);
            self.shared.asked.notify_one();
        }
        Ok(())
    }

    /// If the other end takes no refusal now, it will find out by its time limit.
    fn refuse(&self, id: u32) -> Result<(), RpcViolation> {
        let _ = self
            .shared
            .sender
            .try_send(Channel::RPC, encode(Kind::Refused, id, &[]));
        Ok(())
    }

    /// The next request of the other end. When the link is closed no new one comes and this waits for ever: whoever receives
    /// from the link hears of that. Cancel safe.
    pub async fn next_request(&self) -> (Bytes, Responder) {
        loop {
            let next = self.shared.lock().waiting.pop_front();
            if let Some((id, request)) = next {
                let responder = Responder {
                    shared: self.shared.clone(),
                    id,
                    answered: false,
                };
                return (request, responder);
            }
            self.shared.asked.notified().await;
        }
    }
}

/// Answers one request. Dropped without an answer, it refuses.
pub struct Responder {
    shared: Arc<Shared>,
    id: u32,
    answered: bool,
}

impl Responder {
    /// Sends the answer; waits while the link's send buffer is full.
    ///
    /// # Errors
    /// The link is closed.
    pub async fn answer(mut self, answer: Bytes) -> Result<(), LinkError> {
        self.shared
            .send(Kind::AnswerPart, Kind::Answer, self.id, &answer)
            .await?;
        self.answered = true;
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.requests.remove(&self.id);
            state.rest();
        }
        if !self.answered {
            // If there is no room, the other end finds out by its time limit.
            let _ = self
                .shared
                .sender
                .try_send(Channel::RPC, encode(Kind::Refused, self.id, &[]));
        }
    }
}

impl<R: Clock + Clone> Clone for Rpc<R> {
    fn clone(&self) -> Self {
        Self {
            rt: self.rt.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<R: Clock> fmt::Debug for Rpc<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("Rpc")
            .field("calls", &state.calls.len())
            .field("requests", &state.requests.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_read_back(kind in 0..5usize, id: u32, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let kind = Kind::ALL[kind];
            let body = if kind == Kind::Refused { Vec::new() } else { body };
            let encoded = encode(kind, id, &body);
            prop_assert_eq!(decode(&encoded), Ok((kind, id, &body[..])));
        }

        #[test]
        fn arbitrary_bytes_decode_canonically_or_not_at_all(bytes: Vec<u8>) {
            if let Ok((kind, id, body)) = decode(&bytes) {
                prop_assert_eq!(encode(kind, id, body), bytes);
            }
        }
    }
}
