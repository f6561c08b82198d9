//! The link: formats, handshake, and the machines behind them as an authenticated but hostile peer drives them.

use std::future::{Pending, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use phantom_core::link::fuzz;
use phantom_core::link::rpc::{Rpc, RpcConfig};
use phantom_core::runtime::Clock;
use phantom_core::service::{EntryHops, EntryRequest, Service};
use phantom_core::units::{Instant, WallTime};
use phantom_core::wire::Reader;

use crate::{canonical, world};

/// Formats of the link and of the services on it, and its handshake.
pub fn link(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 7 {
        0 => fuzz::hello(bytes),
        1 => fuzz::frame(bytes),
        2 => fuzz::control(bytes),
        3 => fuzz::handshake(bytes),
        4 => canonical(bytes, EntryRequest::decode(bytes), EntryRequest::encode),
        5 => canonical(bytes, EntryHops::decode(bytes), EntryHops::encode),
        _ => {
            let request = Bytes::copy_from_slice(bytes);
            canonical(bytes, Service::of_request(&request), |(service, body)| {
                service.request(body).to_vec()
            })
        }
    }
}

/// The session and the rpc machine.
pub fn link_machines(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 2 {
        0 => fuzz::session(bytes),
        _ => rpc(bytes),
    }
}

/// A clock that stands still.
#[derive(Clone)]
struct Still;

impl Clock for Still {
    type Sleep = Pending<()>;
    fn now(&self) -> Instant {
        Instant::ZERO
    }
    fn wall(&self) -> WallTime {
        world::wall()
    }
    fn sleep_until(&self, _: Instant) -> Self::Sleep {
        pending()
    }
}

/// Messages of the other end, each behind a 16-bit length; a length of 0 serves a request, of 1 makes a call.
fn rpc(bytes: &[u8]) -> bool {
    let config = RpcConfig {
        request_max: 100,
        answer_max: 100,
        requests: 3,
        ..RpcConfig::default()
    };
    let (_link, sender) = fuzz::sender();
    let rpc = Rpc::new(Still, sender, config.clone());
    let mut cx = Context::from_waker(Waker::noop());
    let (mut calls, mut held, mut taken) = (Vec::new(), Vec::new(), false);
    let mut r = Reader::new(bytes);
    while let Ok(len) = r.u16() {
        match len {
            0 => {
                if let Poll::Ready((request, responder)) = pin!(rpc.next_request()).poll(&mut cx) {
                    assert!(request.len() <= config.request_max);
                    held.push((responder, held.len()));
                    assert!(held.len() <= usize::from(config.requests));
                }
            }
            1 => {
                let mut call = Box::pin(rpc.call(Bytes::from_static(b"question")));
                assert!(call.as_mut().poll(&mut cx).is_pending());
                calls.push(call);
            }
            2 => {
                if let Some((responder, _)) = held.pop() {
                    let _ = pin!(responder.answer(Bytes::from_static(b"answer"))).poll(&mut cx);
                }
            }
            len => {
                let Ok(message) = r.take(usize::from(len - 3).min(r.remaining())) else {
                    break;
                };
                // A violation closes the link.
                if rpc.deliver(message).is_err() {
                    break;
                }
                taken = true;
            }
        }
        calls.retain_mut(|call| match call.as_mut().poll(&mut cx) {
            Poll::Ready(answer) => {
                assert!(answer.is_err() || answer.is_ok_and(|answer| answer.len() <= config.answer_max));
                false
            }
            Poll::Pending => true,
        });
    }
    taken
}
