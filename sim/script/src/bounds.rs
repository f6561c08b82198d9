//! How much a script may do and keep. Each bound is far above what a censor needs, and keeps a hostile script harmless.

/// The longest script that is read, in bytes.
pub const SCRIPT_BYTES_MAX: usize = 64 << 10;
/// The largest model that is read, in bytes.
pub const MODEL_BYTES_MAX: usize = 1 << 20;
/// Steps at one packet: statements, expressions and calls, as Rhai counts them.
pub const STEPS_MAX: u64 = 10_000;
/// Calls within calls.
pub const CALLS_MAX: usize = 8;
/// Expressions within expressions, at the top and in functions.
pub const DEPTH_MAX: usize = 48;
/// Functions that a script has.
pub const FUNCTIONS_MAX: usize = 64;
/// Variables at once.
pub const VARIABLES_MAX: usize = 64;
/// Bytes of a text, and of all texts in one value.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Elements of an array or blob, with those within them.
pub const ARRAY_MAX: usize = 512;
/// Entries of a map, with those within it.
pub const MAP_MAX: usize = 128;
/// Bytes of a packet's payload that a script sees; classifiers see more.
pub const PAYLOAD_BYTES_MAX: usize = 2048;
/// Bytes that a script keeps of a flow.
pub const STATE_BYTES_MAX: usize = 4096;
/// Bytes that it keeps of all flows together.
pub const STATES_BYTES_MAX: usize = 64 << 20;
/// Lines that it prints and that are kept.
pub const LINES_MAX: usize = 20;
/// Characters of a printed line or an error that are kept.
pub const LINE_CHARS_MAX: usize = 200;
/// The longest delay that it may ask for, in milliseconds.
pub const DELAY_MS_MAX: i64 = 60_000;
/// Questions to a model at one packet.
pub const ASKS_MAX: u32 = 4;
/// Numbers that a model takes.
pub const INPUTS_MAX: usize = 1024;
/// Numbers that it gives.
pub const OUTPUTS_MAX: usize = 64;
/// Operators that it has.
pub const OPERATORS_MAX: usize = 256;
/// Numbers between two of its operators.
pub const WIDTH_MAX: usize = 65_536;
