//! The client: finds a way in when the obvious ways are blocked, sends and receives, and leaves no stable identity on any
//! server. Written against [`phantom_core::runtime::Runtime`], so that the same code runs on tokio and in the simulator.
//!
//! A program makes [`channels`], gives one end to [`run()`] with a [`ClientConfig`], and speaks to the other: [`Command`]s
//! in, [`Notice`]s out. Inside, one task owns everything (`run`): the ladder's driver (`entry`), the link in use
//! (`session`), the directory (`documents`), requests through the network ([`phantom_core::route`]), the machines of
//! all contacts (`mail`), which way in is used (`rotor`), fetches for friends (`invitations`), and the sealed file (`state`).
//! Spec: SPEC §5, §9; docs/ARCHITECTURE.md, "The way of a message".

mod candidate;
pub mod config;
mod documents;
mod entry;
mod files;
mod invitations;
mod mail;
mod news;
mod rotor;
mod run;
mod session;
pub mod state;
pub mod user;

pub use config::{ClientConfig, Secret};
pub use run::{ClientError, run};
pub use state::Safe;
pub use user::{
    ClientGone, ClientSide, Command, Commands, ContactId, Notice, Notices, SendError, Status, UserSide,
    channels,
};
