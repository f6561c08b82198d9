//! Results of `phantom-sim` in; a table for analysis and a picture for people out.

pub mod run;
pub mod scatter;
pub mod table;
pub mod timeline;
