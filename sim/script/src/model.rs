//! Models that scripts ask: what they are to a script, whatever runs them.

#[cfg(feature = "model")]
mod onnx;

use std::sync::Arc;

use rhai::Engine;

/// A model that a script may ask.
pub(crate) trait Asker: Send + Sync {
    /// Gives the language the functions that ask it.
    fn register(&self, engine: &mut Engine);

    /// A new packet: its questions are counted from zero.
    fn begin(&self);

    /// The same model for another program.
    fn fresh(&self) -> Arc<dyn Asker>;
}

/// Reads a model out of ONNX.
///
/// # Errors
/// It is none, or not of the kind that scripts may ask.
#[cfg(feature = "model")]
pub(crate) fn read(bytes: &[u8]) -> Result<Arc<dyn Asker>, String> {
    onnx::read(bytes)
}

/// Reads no model.
///
/// # Errors
/// Always: this build has none.
#[cfg(not(feature = "model"))]
pub(crate) fn read(_: &[u8]) -> Result<Arc<dyn Asker>, String> {
    Err("models are not read by this build: the feature `model` of phantom-script is off".to_owned())
}
