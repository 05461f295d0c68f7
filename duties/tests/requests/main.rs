//! Requests as JSON: what is written is read again, and nothing that is read can do harm.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

mod decoding;
mod entropy;
mod fuzz;
mod verifying;
