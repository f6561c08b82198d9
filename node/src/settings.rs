//! The files that operators write, in TOML: a node or bridge, an authority, a network. Parsed once into valid types.
//!
//! Every field says its unit, its default and why it is so, here and in the examples of `deploy/`. A name that nobody
//! knows is an error; every error says file, line and column. Relative paths are relative to the file they stand in.

pub mod authority;
pub mod keyfile;
pub mod network;
pub mod node;
pub mod sections;
pub mod source;
pub mod text;

pub use authority::AuthoritySettings;
pub use keyfile::{KeyFile, KeyFileError};
pub use network::NetworkSettings;
pub use node::NodeSettings;
pub use sections::{ClockSection, DirectorySection, LinkSection};
pub use source::{SettingsError, Source};
