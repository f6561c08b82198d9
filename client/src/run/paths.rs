//! The links of a client: the one in use and at times a second one. Carries out what rotation says, and tells it what became of
//! links. Spec: SPEC §9, §11.

use std::net::SocketAddr;

use phantom_core::event::{Event, PathReason, PathVerdict, Step};
use phantom_core::link::{Link, Resumption};
use phantom_core::packet::Class;
use phantom_core::route::Ask;
use phantom_core::runtime::{Owned, Runtime};
use phantom_core::units::Instant;
use phantom_rotation::{Failure, Input, Output, PathId};

use super::{Client, Purpose, Sent};
use crate::candidate::Candidate;
use crate::entry::{Found, Sources, Won};
use crate::mail::Time;
use crate::rotor::failure_of_link;
use crate::session::{PIECES_AWAITED, Session};
use crate::user::Notice;

/// Bytes that wait on the link in use while two share: two pieces of an attachment, which last a policed link of 140 kbit/s for four
/// seconds.
const SUPPLY: u64 = 64 << 10;
/// Pieces that are awaited over it meanwhile, likewise: fewer are not judged (SPEC §11.7).
const SUPPLY_PIECES: usize = PIECES_AWAITED;
/// Second paths that are dialled at a time. Rotation says when; of more than it asks for in one doubt, the oldest are given up.
const DIALS_MAX: usize = 4;

/// A path that is dialled beside the one in use.
pub(super) struct Dial<R: Runtime> {
    path: PathId,
    step: Step,
    candidate: Candidate,
    _task: Owned<R::Task>,
}

/// A path beside the one in use.
pub(super) struct Second<R: Runtime> {
    path: PathId,
    pub(super) session: Session<R>,
    /// Rotation knows that it can be used.
    ready: bool,
    /// Requests go over it too.
    shares: bool,
}

/// Which way the bytes of a request go, for the most part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    Up,
    /// Pieces of an attachment are asked for.
    Down,
}

impl Load {
    pub(super) const fn of(ask: &Ask) -> Self {
        match ask {
            Ask::Read(Class::Bulk, _) => Self::Down,
            Ask::Read(Class::Small, _) | Ask::Write(_) => Self::Up,
        }
    }
}

impl<R: Runtime> Client<R> {
    pub(super) fn second_session(&self) -> Option<&Session<R>> {
        self.second.as_ref().map(|second| &second.session)
    }

    /// The session of that number. Its link may be lost: an answer to a helper of its that came to nobody would leave it waiting
    /// for ever once it is resumed.
    pub(super) fn session_of(&mut self, number: u64) -> Option<&mut Session<R>> {
        let second = self.second.as_mut().map(|second| &mut second.session);
        let mut all = self
            .session
            .iter_mut()
            .chain(self.suspended.as_deref_mut())
            .chain(second);
        all.find(|session| session.number == number)
    }

    /// Over which session the next request goes. Where two share: the one in use as long as little waits there, so that what holds it
    /// back shows; else the one on which less waits, so that the other is supplied too.
    pub(super) fn session_to_ask(&self, load: Load) -> Option<&Session<R>> {
        let in_use = self.session.as_ref();
        let second = self.second.as_ref().filter(|second| second.shares);
        let (Some(in_use), Some(second)) = (in_use, second) else {
            return in_use;
        };
        let second = &second.session;
        let supplied = match load {
            Load::Up => in_use.queued() >= SUPPLY && second.queued() < in_use.queued(),
            Load::Down => self.pieces_awaited(in_use.number) >= SUPPLY_PIECES,
        };
        Some(if supplied { second } else { in_use })
    }

    /// Pieces of attachments that were asked for over a session and have not come.
    fn pieces_awaited(&self, over: u64) -> usize {
        let awaited = |sent: &Sent| sent.over == over && matches!(sent.purpose, Purpose::Download(..));
        self.requests.count(awaited)
    }

    fn new_session(&mut self, link: Link, candidate: Candidate, step: Step) -> Session<R> {
        self.sessions += 1;
        Session::new(&self.rt, self.sessions, link, candidate, step, self.news.clone())
    }

    /// Lets rotation read how far bytes got; whether anything followed.
    pub(super) fn read(&mut self, at: Time) -> bool {
        let number = self.session.as_ref().map(|session| session.number);
        let pieces = number.map_or(0, |number| self.pieces_awaited(number));
        if let Some(session) = &mut self.session {
            session.read(at.now, pieces, &mut self.rotor);
        }
        let number = self.second.as_ref().map(|second| second.session.number);
        let pieces = number.map_or(0, |number| self.pieces_awaited(number));
        if let Some(second) = self.second.as_mut().filter(|second| second.ready) {
            second.session.read(at.now, pieces, &mut self.rotor);
        }
        self.rotor.tick(at.now);
        self.obey(at)
    }

    /// Does what rotation says; whether it said anything.
    pub(super) fn obey(&mut self, at: Time) -> bool {
        let mut any = false;
        while let Some(order) = self.rotor.order() {
            any = true;
            match order {
                Output::Seek => {
                    if !self.entrance.is_climbing() {
                        self.entrance.climb(&self.rotor);
                    }
                }
                Output::Rest => self.entrance.stop(),
                Output::Survey => {
                    let ways = self.entrance.ways(&Sources {
                        time: at.time,
                        kept: &self.kept,
                        documents: &mut self.documents,
                        rotor: &self.rotor,
                        want_invitation: false,
                    });
                    self.rotor.offer(at.now, ways);
                }
                Output::Dial { path, candidate } => self.dial_second(at.now, path, &candidate),
                Output::Share { to, .. } => {
                    if let Some(second) = self.second.as_mut().filter(|second| second.path == to) {
                        second.shares = true;
                    }
                }
                Output::Adopt { path, why } => self.adopt(at, path, why),
                Output::Close { path, silently } => self.close(path, silently),
                Output::Found { path, verdict } => {
                    if let Some(entry) = self.entry_of(path) {
                        self.rt.emit(Event::PathJudged { entry, verdict });
                    }
                }
                Output::WaitUntil(_) | Output::Idle => {}
            }
        }
        any
    }

    /// Where a path leads.
    fn entry_of(&self, path: PathId) -> Option<SocketAddr> {
        let sessions = self.session.iter().chain(self.leaving.as_deref());
        let mut sessions = sessions.chain(self.second_session());
        let session = sessions.find(|session| session.path == Some(path));
        session.map(|session| session.candidate.address())
    }

    fn dial_second(&mut self, now: Instant, path: PathId, way: &phantom_rotation::Candidate) {
        let Some((step, candidate)) = self.rotor.offered(way) else {
            return self.rotor.tell(now, Input::Failed(path, Failure::Local));
        };
        if self.dials.len() >= DIALS_MAX {
            let given_up = self.dials.remove(0);
            self.rotor.tell(now, Input::Failed(given_up.path, Failure::Local));
        }
        let task = self.entrance.dial_second(path, step, candidate.clone());
        self.dials.push(Dial {
            path,
            step,
            candidate,
            _task: task,
        });
    }

    /// A second path stands, or does not.
    fn second_dialled(&mut self, path: PathId, result: Result<Link, Failure>) {
        let Some(known) = self.dials.iter().position(|dial| dial.path == path) else {
            return; // Given up meanwhile; the link is closed by being dropped.
        };
        let Dial { step, candidate, .. } = self.dials.remove(known);
        let failed = match result {
            Ok(link) if self.second.is_none() => {
                let mut session = self.new_session(link, candidate, step);
                session.named(path);
                self.second = Some(Box::new(Second {
                    path,
                    session,
                    ready: false,
                    shares: false,
                }));
                return;
            }
            // Another one was quicker.
            Ok(_) => Failure::Local,
            Err(how) => how,
        };
        let at = self.time();
        self.rotor.tell(at.now, Input::Failed(path, failed));
        self.obey(at);
    }

    /// The second path's entry said how to use it; `false` if that is another session's number.
    pub(super) fn second_ready(&mut self, number: u64) -> bool {
        let now = self.rt.now();
        let Some(second) = self
            .second
            .as_mut()
            .filter(|second| second.session.number == number)
        else {
            return false;
        };
        second.ready = true;
        self.rotor.tell(now, Input::Connected(second.path));
        true
    }

    /// The second path is gone, or of no use.
    pub(super) fn second_lost(&mut self, how: Option<Failure>) {
        let at = self.time();
        let Some(second) = self.second.take() else { return };
        let down = second.session.link.as_ref().and_then(Link::why_down);
        let how = how.unwrap_or_else(|| failure_of_link(down.as_ref()));
        let input = if second.ready {
            Input::Closed(second.path, how)
        } else {
            Input::Failed(second.path, how)
        };
        self.abandon(at, second.session.number);
        self.rotor.tell(at.now, input);
        self.obey(at);
    }

    /// The answers to what was asked over this session cannot come any more.
    fn abandon(&mut self, at: Time, number: u64) {
        let lost = self.requests.abandon_if(|sent| sent.over == number);
        lost.into_iter().for_each(|sent| self.failed(at, sent.purpose));
    }

    /// Requests go over this path from now on.
    fn adopt(&mut self, at: Time, path: PathId, why: PathReason) {
        let is_second = self.second.as_ref().is_some_and(|second| second.path == path);
        let new = if is_second {
            self.second.take().map(|second| second.session)
        } else {
            self.arriving.take().map(|session| *session)
        };
        let Some(mut new) = new else { return };
        // A session that goes on had a name before.
        let resumed = !is_second && new.path.is_some();
        self.suspended = None;
        if new.path != Some(path) {
            new.named(path);
        }
        let old = self.session.take();
        let from = self.entry_left.take();
        let from = old.as_ref().map(|old| old.candidate.address()).or(from);
        let (step, entry, number) = (new.step, new.candidate.address(), new.number);
        let transport = new.candidate.kind();
        if new.hop.is_some() {
            self.dirty |= self.kept.worked(&new.candidate);
        }
        self.session = Some(new);
        self.leaving = old.map(Box::new);
        self.entrance.stop();
        // Answers come back over the link that they were asked over.
        let lost = self.requests.abandon_if(|sent| sent.over != number);
        lost.into_iter().for_each(|sent| self.failed(at, sent.purpose));
        self.rt.emit(Event::PathTaken { from, to: entry, why });
        self.rt.emit(Event::Connected {
            step,
            entry,
            resumed,
            transport,
        });
        self.mail.tell(Notice::Connected {
            step,
            entry,
            resumed,
            transport,
        });
        if resumed {
            self.mail.reachable(at);
        } else {
            self.documents.new_entry(at.now);
            if is_second {
                self.ready(at);
            }
        }
    }

    /// Rotation is done with a path.
    fn close(&mut self, path: PathId, silently: bool) {
        let at = self.time();
        let is = |session: &Session<R>| session.path == Some(path);
        if let Some(dial) = self.dials.iter().position(|dial| dial.path == path) {
            self.dials.remove(dial);
            return;
        }
        let session = if self.leaving.as_deref().is_some_and(is) {
            self.leaving.take().map(|session| *session)
        } else if self.second.as_ref().is_some_and(|second| second.path == path) {
            self.second.take().map(|second| second.session)
        } else if self.session.as_ref().is_some_and(is) {
            self.disconnected();
            self.session.take()
        } else {
            // It has no name yet: another way in was quicker.
            self.arriving.take().map(|session| *session)
        };
        let Some(session) = session else { return };
        if let Some(link) = &session.link {
            if silently {
                link.abandon();
            } else {
                link.close();
            }
        }
        self.abandon(at, session.number);
    }

    pub(super) fn found(&mut self, found: Found) {
        match found {
            Found::Resumed(resumed) => self.resumed(resumed),
            Found::Second(path, result) => self.second_dialled(path, result),
            found => {
                self.dirty |= matches!(found, Found::Dht(..));
                let won = self.entrance.take(found, &mut self.kept, &self.rotor);
                let at = self.time();
                self.tell_missed(at.now);
                if let Some(won) = won {
                    self.entered(at, won);
                }
            }
        }
    }

    /// Tells rotation which dials failed.
    pub(super) fn tell_missed(&mut self, now: Instant) {
        for (candidate, how) in std::mem::take(&mut self.entrance.missed) {
            self.rotor.tell(now, Input::Missed(candidate.way(), how));
        }
    }

    /// The ladder reached an entry.
    pub(super) fn entered(&mut self, at: Time, won: Won) {
        let session = self.new_session(won.link, won.candidate, won.step);
        self.arrived(at, session);
    }

    fn arrived(&mut self, at: Time, session: Session<R>) {
        let way = session.candidate.way();
        self.arriving = Some(Box::new(session));
        self.rotor.tell(at.now, Input::Entered(way));
        self.obey(at);
    }

    fn resumed(&mut self, resumed: Option<Resumption>) {
        let at = self.time();
        let Some(resumed) = resumed else {
            self.suspended = None;
            return;
        };
        if self.session.is_some() {
            return; // Another way in was quicker.
        }
        let Some(suspended) = &self.suspended else { return };
        match resumed {
            Resumption::Continued(link) => {
                let Some(mut session) = self.suspended.take() else {
                    return;
                };
                session.link = Some(link);
                self.arrived(at, *session);
            }
            Resumption::Fresh { link, .. } => {
                let (step, candidate) = (suspended.step, suspended.candidate.clone());
                self.entered(
                    at,
                    Won {
                        step,
                        candidate,
                        link,
                    },
                );
            }
        }
    }

    /// Nothing is in use any more.
    fn disconnected(&mut self) {
        self.entry_left = self.session.as_ref().map(|session| session.candidate.address());
        self.rt.emit(Event::Disconnected);
        self.mail.tell(Notice::Disconnected);
    }

    /// The link is gone: another way is used, or looked for; and where no censor can have cut it off, it is resumed beside that.
    pub(super) fn lost(&mut self) {
        let at = self.time();
        let link = self.session.as_ref().and_then(|session| session.link.as_ref());
        let how = failure_of_link(link.and_then(Link::why_down).as_ref());
        let Some(mut session) = self.end(at, how) else {
            return;
        };
        if self.session.is_none()
            && !matches!(how, Failure::Reset | Failure::Garbled)
            && let Some(link) = session.link.take()
        {
            self.entrance.resume(session.candidate.clone(), link);
            self.suspended = Some(Box::new(session));
        }
    }

    /// The entry is there and of no use: another is used, or looked for.
    pub(super) fn give_up(&mut self) {
        let at = self.time();
        if let Some(session) = self.end(at, Failure::Useless) {
            self.kept.useless(&session.candidate);
            self.dirty = true;
        }
    }

    /// The session in use is over.
    fn end(&mut self, at: Time, how: Failure) -> Option<Session<R>> {
        self.disconnected();
        let session = self.session.take()?;
        if let Some(path) = session.path {
            let (entry, verdict) = (session.candidate.address(), PathVerdict::Dead);
            self.rt.emit(Event::PathJudged { entry, verdict });
            self.rotor.tell(at.now, Input::Closed(path, how));
            self.obey(at);
        }
        Some(session)
    }
}
