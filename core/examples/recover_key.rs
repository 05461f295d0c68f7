//! Puts a key together from t of its shares: docs/disaster-recovery.md, which says when, by whom and on which machine. Nothing in the
//! product does this, or has code for it.
//!
//! ```text
//! recover_key share INDEX SEALED STORE_KEY STORE_PASSWORD OUT OUT_PASSWORD
//! recover_key join POINTS THRESHOLD OUT OUT_PASSWORD INDEX:KEYSTORE:PASSWORD …
//! ```
//!
//! `share`, by each operator alone: its share, as the server keeps it, under a password of its own. `join`, by t of them together: the
//! whole key, as an EIP-2335 keystore. Passwords are files. Both print nothing but what is wrong.

mod recovery;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match recovery::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
