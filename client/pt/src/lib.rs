//! Tor's Pluggable Transport specification, version 1, both ways.
//!
//! A *transport* disguises a connection; it is a program of its own, which a *parent* (tor, or a node or client of this
//! network) starts, tells what to do in its environment, and hears on its standard output. The crate is both sides:
//!
//! - [`child`]: this process is such a program. It hears what is wanted ([`mod@env`]), answers ([`message`]), takes connections of
//!   its parent over [`socks`] with the arguments of a bridge line, or hands connections of clients to its parent over the
//!   [`orport`].
//! - [`parent`]: this process starts such a program, keeps it running, and dials through it.
//!
//! What a transport does with the bytes is none of its business. Parsers and handshakes do no I/O, have no clock, and are
//! given their randomness; the drivers beside them run on tokio.
//!
//! Sources: pt-spec.txt (version 1, with the LOG and STATUS lines that came later) and ext-orport-spec.txt, both of
//! torspec; RFC 1928 and 1929.

pub mod args;
pub mod child;
pub mod cstring;
pub mod env;
pub mod exchange;
pub mod lines;
pub mod message;
pub mod name;
pub mod orport;
pub mod parent;
pub mod proxy;
pub mod socks;
