//! Lanes on Linux: namespaces, the thread between them, and transfers through sockets of the kernel.

mod clock;
mod forward;
mod host;
mod lane;
mod realtime;

pub use lane::Lane;
