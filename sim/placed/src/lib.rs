//! TOML files whose values know their place, so that a mistake is shown where it stands, with what was wanted and the choices.
//!
//! ```
//! use phantom_placed::{At, FileError, Placed, Problem, Sources, from_node, tree};
//!
//! #[derive(Debug, serde::Deserialize)]
//! #[serde(rename_all = "kebab-case", deny_unknown_fields)]
//! struct Oven {
//!     degrees: Placed<u32>,
//! }
//!
//! let mut sources = Sources::default();
//! let file = sources.add("oven.toml", "degrees = 900\n");
//! let oven: Oven = tree::parse(file, sources.text(file))
//!     .and_then(|node| from_node(&node))
//!     .map_err(|problem| FileError::new(&sources, [problem]))?;
//! // A check that the type alone cannot make is told at the value's place all the same.
//! let hot = Problem::new(oven.degrees.at, "an oven has at most 300 degrees");
//! let told = FileError::new(&sources, [hot]).to_string();
//! assert!(told.starts_with("oven.toml:1:11: an oven has at most 300 degrees"));
//! # Ok::<(), FileError>(())
//! ```
//!
//! A text becomes a [`tree`] in which every key and value has its place; whoever puts files together does it on trees, and
//! [`from_node`] makes typed values of one. The files may be a stranger's: their length, depth and numbers are bounded, and
//! what is said of them is short and harmless. Nothing here reads files.
//!
//! - [`tree`]: from text to nodes.
//! - [`quantity`]: numbers with a unit, and types that are text in quotes.
//! - [`words`]: somebody's text in a message, and the choice that was probably meant.

mod de;
mod error;
mod problem;
pub mod quantity;
mod source;
pub mod tree;
mod value;
pub mod words;

pub use de::from_node;
pub use error::{FileError, PROBLEMS_MAX};
pub use problem::Problem;
pub use source::{At, Place, Sources};
pub use value::Placed;
