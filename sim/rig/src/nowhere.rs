//! What stands in for lanes where there can be none.

use std::convert::Infallible;

use phantom_path::fidelity::Cell;

use crate::{Plan, RigError, Sample, Samples};

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
