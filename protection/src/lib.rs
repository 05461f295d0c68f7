//! Slashing protection for Stkr: EIP-3076 in its complete form, on SQLite. The last line of defence of `stkr-server` and
//! `stkr-gateway`: no signature leaves before the history says that it may.
//!
//! ```text
//! request --check_and_record--> verdict        one transaction and one fsync per batch, before anything is signed
//!                                 |
//!                 Safe, SameAgain | everything else
//!                            sign | refuse
//! ```
//!
//! # The rules
//! - No two different blocks for one slot, no two different votes for one target, no vote that surrounds another.
//! - Nothing at or below the low watermark (EIP-3076, conditions 2, 4 and 5), nothing after the present.
//! - The same again, byte for byte, is allowed as long as its record is kept.
//! - A verdict of [`Verdict::Safe`] is on disk. On any error of the disk or of SQLite the whole batch is refused:
//!   [`Unavailable`]. The next call repairs what can be repaired.
//! - The rules stand in Rust ([`Verdict`]) and once more in SQL: keys, checks and triggers that no statement passes.
//! - It cannot be switched off: there is no flag, no feature, and no method that records without checking.
//!
//! # Which database
//! A history is only worth something if it is the newest. The file belongs to one network
//! (`genesis_validators_root`), to one process at a time, and to one *life*: an [`InstanceId`] and a generation that grows
//! with every change, both remembered in a witness file beside it. A file that is lost, rolled back, restored or copied is
//! refused ([`OpenError::NeedsImport`]); [`Quarantine`] takes an import of what it may lack and puts it back in service.
//!
//! | file | content |
//! |---|---|
//! | `NAME` | the database |
//! | `NAME-wal` | SQLite's log: part of the database while it is open or after a crash |
//! | `NAME.lock` | held by the process that has it open |
//! | `NAME.witness` | the life and generation of the database; never part of a backup |
//! | `NAME.vN` | copy made before the migration from schema version N |
//!
//! # What is not detected
//! - A rollback of the whole disk or machine (a snapshot): database, witness and inodes all go back together. Nothing on
//!   this machine remembers. Use the quarantine by hand: remove the witness file before the start.
//! - After a *power loss* (not after a crash or SIGKILL), the replacement of the file's content, in place, by a copy that is
//!   less than 256 commits older: so far the witness may lag behind.
//! - Database and witness overwritten in place (same inodes) with older content of both, and whoever is root.
//!
//! # Example
//! ```
//! use alloy_primitives::B256;
//! use stkr_protection::{Block, Duty, Now, Protection, Pubkey, Request, Verdict};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("protection.db");
//! let protection = Protection::create(&path, B256::repeat_byte(1))?;
//! let key = Pubkey::repeat_byte(7);
//! protection.register(&[key], Some(Now { slot: 95, epoch: 2 }))?;
//!
//! let block = |root| Duty::Block(Block { slot: 96, signing_root: B256::repeat_byte(root) });
//! let batch = [1, 2].map(|root| Request { pubkey: key, duty: block(root) });
//! let verdicts = protection.check_and_record(&batch, Now { slot: 96, epoch: 3 })?;
//! assert_eq!(verdicts[0], Verdict::Safe);
//! assert!(!verdicts[1].may_sign());
//! assert!(verdicts[1].to_string().starts_with("slashable: double proposal"));
//! # Ok(())
//! # }
//! ```

mod duty;
mod error;
mod export;
mod file;
mod inspection;
mod instance;
mod interchange;
mod merge;
mod protection;
mod quarantine;
mod rules;
mod store;
mod verdict;
mod witness;

pub use duty::{
    Attestation, Block, Duty, Epochs, KeyState, Now, Pubkey, Request, SignedAttestation, SignedBlock, Watermark,
};
pub use error::{
    BackupError, BackupFault, Distrust, ExportError, ImportError, KeyError, OpenError, ReleaseError, Unavailable,
};
pub use export::ExportReport;
pub use inspection::Inspection;
pub use instance::{InstanceId, InstanceIdError};
pub use interchange::{InterchangeError, MAX_BYTES, MAX_ENTRIES, MAX_RECORDS, normalise};
pub use merge::ImportReport;
pub use protection::{Owner, Protection, restore};
pub use quarantine::Quarantine;
pub use verdict::{Conflict, Verdict};
