//! Crashes, power loss and failing disks: what was called safe is still there, and what failed left nothing half done.
//!
//! A child process (this binary again) works on the database over a disk that fails on command: `disk.c`, compiled here and
//! preloaded, stands between SQLite and the C library. It can fail any write or sync, kill the process instead of any of
//! them, and undo what was not synced, as a power cut does. The process under test is otherwise the real one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic, in its helpers too")]

mod child;
mod crash;
mod disk;
mod failing;
