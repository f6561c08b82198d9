//! What stands in for lanes and switches where there can be none.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use phantom_path::fidelity::Cell;

use crate::switch::Course;
use crate::{Lateness, Plan, RigError, Sample, Samples};

/// A lane, which no other system than Linux has.
#[derive(Debug)]
pub struct Lane(Infallible);

impl Lane {
    /// None.
    ///
    /// # Errors
    /// Always [`RigError::NotLinux`].
    pub fn new() -> Result<Self, RigError> {
        Err(RigError::NotLinux)
    }

    /// See the lane of Linux.
    pub fn realtime(&self) -> bool {
        match self.0 {}
    }

    /// See the lane of Linux.
    ///
    /// # Errors
    /// None: there is no lane.
    pub fn transfer(&self, _: &Cell, _: u64) -> Result<Sample, RigError> {
        match self.0 {}
    }

    /// See the lane of Linux.
    ///
    /// # Errors
    /// None: there is no lane.
    pub fn share(&self, _: &Plan, _: u64) -> Result<Samples, RigError> {
        match self.0 {}
    }
}

/// A switch, which no other system than Linux has.
#[derive(Debug)]
pub struct Switch<C: Course>(Infallible, PhantomData<C>);

impl<C: Course> Switch<C> {
    /// None.
    ///
    /// # Errors
    /// Always [`RigError::NotLinux`].
    pub fn new(_: &[Ipv4Addr], _: C) -> Result<Self, RigError> {
        Err(RigError::NotLinux)
    }

    /// See the switch of Linux.
    pub fn realtime(&self) -> bool {
        match self.0 {}
    }

    /// See the switch of Linux.
    pub fn now_ns(&self) -> u64 {
        match self.0 {}
    }

    /// See the switch of Linux.
    ///
    /// # Errors
    /// None: there is no switch.
    pub fn namespace(&self, _: usize) -> Result<PathBuf, RigError> {
        match self.0 {}
    }

    /// See the switch of Linux.
    pub fn course<T>(&self, _: impl FnOnce(&mut C) -> T) -> T {
        match self.0 {}
    }

    /// See the switch of Linux.
    ///
    /// # Errors
    /// None: there is no switch.
    pub fn lateness(&self) -> Result<Lateness, RigError> {
        match self.0 {}
    }
}

/// There are no namespaces to be in.
///
/// # Errors
/// Always.
pub fn become_within(_: &Path, _: &Path, _: &mut Command) -> Result<Infallible, io::Error> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this needs Linux"))
}
