//! Properties of whole links, over an in-memory stream that can be cut, tampered with and watched.

mod cuts;
mod hostile;
mod machine;
mod normal;
mod rpc;
mod world;
