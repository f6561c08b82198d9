//! Real kernels over the simulated link: what the TCP of this machine does on a path, to be set beside what the model says.
//!
//! A [`Lane`] is two network namespaces, each with a TUN device, and one thread between them that carries packets as
//! [`phantom_path::link::Link`] and [`phantom_path::police::Policer`] say: the code of the simulation, in real time. Hence a
//! difference between measured and simulated transfers lies in the TCP, or in the lateness that each sample tells.
//!
//! A [`Switch`] is any number of namespaces, in which programs run that know nothing of it, and a thread that carries their packets
//! as a [`switch::Course`] decides.
//!
//! This is no part of a simulation: clocks, threads and sockets are real by purpose. It needs Linux and the rights to make
//! namespaces and devices; elsewhere [`Lane::new`] says so. All that it makes belongs to threads and ends with the process.

mod error;
pub mod grid;
#[cfg(target_os = "linux")]
mod kernel;
pub mod packet;
mod plan;
pub mod pool;
pub mod sharing;
pub mod switch;

#[cfg(not(target_os = "linux"))]
mod nowhere;

pub use error::RigError;
#[cfg(target_os = "linux")]
pub use kernel::{Lane, Switch, become_within};
#[cfg(not(target_os = "linux"))]
pub use nowhere::{Lane, Switch, become_within};
pub use plan::{FlowPlan, FlowSample, LATE, Lateness, Pace, Plan, Sample, Samples};
