//! The side of the program that a parent starts: hears what is wanted, answers, and ends when told to.
//!
//! ```no_run
//! # use phantom_pt::{child::{self, Answers}, env::Role, message::Message};
//! # async fn example() -> Result<(), child::BeginError> {
//! let answers = Answers::stdout();
//! let environment = child::begin(std::env::vars_os(), &[], &answers)?;
//! // For each transport of `environment.role` that is known: listen, and say `Message::Cmethod` or `Message::Smethod`.
//! answers.say(&Message::CmethodsDone)?;
//! child::told_to_end(environment.exit_on_stdin_close).await;
//! # Ok(())
//! # }
//! ```

mod answers;
mod begin;
mod ending;

pub use answers::Answers;
pub use begin::{BeginError, begin};
pub use ending::{Told, told_to_end};
