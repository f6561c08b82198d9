//! Playing a plan: real node and client programs on a stage, users who write and invite, a censor, an oracle, and the
//! observations that invariants are judged by.

mod ceremony;
