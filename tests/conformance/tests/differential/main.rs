//! Our DKG, resharing, share encryption and combining against implementations by others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

mod ceremony;
mod commonware;
mod noble;
mod resharing;
