//! The database in one process: rules, opening, import and export, and a naive model beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

mod interchange;
mod life;
mod model;
mod rules;
mod support;
