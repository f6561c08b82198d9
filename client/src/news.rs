//! What the tasks of a client report to it, over one channel: each channel has room for 32 messages from the start, so
//! there is one, and messages are boxed.

use crate::entry::Found;
use crate::session::Told;

/// See the module.
pub(crate) enum News {
    /// Of the search for a way in.
    Found(Found),
    /// Of the session.
    Told(Told),
}
