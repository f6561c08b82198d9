//! The service node.
