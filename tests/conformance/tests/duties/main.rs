//! Duties against what others send and compute: real requests, the examples of the OpenAPI files, and Lodestar's types.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

mod lodestar;
mod openapi;
mod requests;
