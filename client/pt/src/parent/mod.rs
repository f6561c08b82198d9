//! The side that starts a program and uses its transports: obfs4proxy, lyrebird, snowflake-client or any other of version 1.
//!
//! ```no_run
//! # use std::{path::PathBuf, time::Duration};
//! # use phantom_pt::{args::Args, env::{Environment, Role}, parent::{Launch, Limits, Managed}, socks::Target};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let environment = Environment {
//!     state: PathBuf::from("/var/lib/phantom/pt"),
//!     exit_on_stdin_close: true,
//!     role: Role::Client { transports: vec!["obfs4".parse()?], proxy: None },
//! };
//! let launch = Launch::new("/usr/bin/obfs4proxy", environment);
//! let (mut managed, keeper) = Managed::new(launch, Limits::default());
//! // Spawned through the caller's runtime: `rt.spawn("pt", keeper.run())`.
//! # let _ = keeper;
//! let methods = managed.ready().await?;
//! let bridge = Target::Address("192.0.2.1:443".parse()?);
//! let args = Args::new().with("cert", "…")?.with("iat-mode", "0")?;
//! let stream = methods.dial(&"obfs4".parse()?, &bridge, &args, Duration::from_secs(60)).await?;
//! # Ok(())
//! # }
//! ```

mod dial;
mod event;
mod keeper;
mod launch;
mod life;
mod process;
mod restart;
mod startup;

pub use dial::DialError;
pub use event::{Event, Events};
pub use keeper::{Keeper, Managed, Over};
pub use launch::{Launch, Limits};
pub use life::{Failure, What};
pub use restart::{Decision, RestartConfig, Restarts};
pub use startup::{Heard, Method, Methods, Startup, StartupError};
