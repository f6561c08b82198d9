//! A TLS connection: each poll lends rustls the connection's generator.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use phantom_core::link::Carrier;
use phantom_core::runtime::Runtime;
use rand_chacha::ChaCha12Rng;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::random::lend;
use super::{Client, Server};

/// A stream within TLS whose handshake is done.
pub struct TlsStream<S> {
    inner: tokio_rustls::TlsStream<S>,
    rng: ChaCha12Rng,
}

/// Begins TLS as a client with whoever is at the other end of `stream` and should be `name`. No limit in time: the caller sets one.
///
/// # Errors
/// The stream fails; or the server does, or is not who it should be (`InvalidData`, with rustls's error in it).
pub async fn connect<R: Runtime, S: Carrier>(
    rt: &R,
    client: &Client,
    name: ServerName<'static>,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let mut rng = rt.rng("tls connect");
    let connector = TlsConnector::from(client.0.clone());
    let mut connecting = lend(&mut rng, || connector.connect(name, stream));
    let inner = poll_fn(|cx| lend(&mut rng, || Pin::new(&mut connecting).poll(cx))).await?;
    Ok(TlsStream {
        inner: inner.into(),
        rng,
    })
}

/// Answers TLS on `stream`. No limit in time: the caller sets one.
///
/// # Errors
/// The stream fails, or the caller speaks no TLS that is known here (`InvalidData`).
pub async fn accept<R: Runtime, S: Carrier>(rt: &R, server: &Server, stream: S) -> io::Result<TlsStream<S>> {
    let mut rng = rt.rng("tls accept");
    let acceptor = TlsAcceptor::from(server.0.clone());
    let mut accepting = lend(&mut rng, || acceptor.accept(stream));
    let inner = poll_fn(|cx| lend(&mut rng, || Pin::new(&mut accepting).poll(cx))).await?;
    Ok(TlsStream {
        inner: inner.into(),
        rng,
    })
}

impl<S: Carrier> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { inner, rng } = self.get_mut();
        lend(rng, || Pin::new(inner).poll_read(cx, buf))
    }
}

impl<S: Carrier> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, rng } = self.get_mut();
        lend(rng, || Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, rng } = self.get_mut();
        lend(rng, || Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { inner, rng } = self.get_mut();
        lend(rng, || Pin::new(inner).poll_shutdown(cx))
    }
}

impl<S> std::fmt::Debug for TlsStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").finish_non_exhaustive()
    }
}
