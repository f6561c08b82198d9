//! Lanes and switches on Linux: namespaces, the thread between them, and transfers through sockets of the kernel.

mod clock;
mod forward;
mod host;
mod lane;
mod realtime;
mod route;
mod switch;
mod within;

pub use lane::Lane;
pub use switch::Switch;
pub use within::become_within;
