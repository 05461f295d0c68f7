//! Merging an interchange file into the history.
//!
//! Everything in the file is kept beside everything that was there, and no watermark falls:
//!
//! - The low watermark rises to the least slot, source and target of the file (conditions 2, 4 and 5 of EIP-3076). What lies
//!   between the end of the old history and the beginning of the new one is unknown territory, and nothing is signed there.
//! - Two different roots for one slot or target, or an unknown one: the root becomes unknown and the slot or target closed,
//!   for a repeated signature too.
//! - Votes that surround each other, share a target with different sources, or have a source after their target: the
//!   validator may already be slashable. The history is closed up to them: the watermarks rise to the greatest source and
//!   the latest target involved, and no root up to there may be signed again. So the order that [`crate::rules`] relies on
//!   holds above the watermark.

use std::collections::HashMap;
use std::io::Read;

use alloy_primitives::B256;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::ImportError;
use crate::duty::{Epochs, Now, Pubkey, SignedAttestation};
use crate::file::integer;
use crate::interchange::{self, Entry};
use crate::store::epochs;

/// What an import did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Keys the file names.
    pub keys: u64,
    /// Of these, keys that were not registered before.
    pub registered: u64,
    /// Blocks the file names.
    pub blocks: u64,
    /// Attestations the file names.
    pub attestations: u64,
    /// Keys whose attestations contradict each other, in the file or together with the history: closed up to there.
    pub contradictory: Vec<Pubkey>,
    /// Keys whose history was in doubt and is not any more.
    pub vouched: Vec<Pubkey>,
    /// Keys whose history stays in doubt, because the file knows less of them than the database itself.
    pub outdated: Vec<Pubkey>,
}

/// What the file says of one key, over all its entries.
#[derive(Default)]
struct Seen {
    pubkey: Pubkey,
    in_doubt: bool,
    /// Latest slot and target of the database before the import.
    known: (Option<i64>, Option<i64>),
    slots: Option<(u64, u64)>,
    targets: Option<(u64, u64)>,
    least_source: Option<u64>,
}

/// Reads `reader` into the history. In quarantine, keys that the database does not know are in doubt as all others are: it
/// may have known them before it was lost.
pub(crate) fn import(
    transaction: &Transaction<'_>,
    reader: impl Read,
    genesis_validators_root: B256,
    now: Now,
    quarantine: bool,
) -> Result<ImportReport, ImportError> {
    let now = now.bounded();
    let mut report = ImportReport::default();
    let mut seen: HashMap<i64, Seen> = HashMap::new();
    interchange::read(reader, genesis_validators_root, |entry| {
        refuse_future(&entry, now)?;
        let id = validator(transaction, &entry.pubkey, quarantine, &mut seen, &mut report)?;
        if let Some(seen) = seen.get_mut(&id) {
            seen.add(&entry);
        }
        insert_blocks(transaction, id, &entry)?;
        report.blocks += entry.blocks.len() as u64;
        report.attestations += entry.attestations.len() as u64;
        if insert_attestations(transaction, id, entry.attestations)? {
            report.contradictory.push(entry.pubkey);
        }
        Ok::<_, ImportError>(())
    })?;
    for (id, seen) in &seen {
        raise_to_file(transaction, *id, seen)?;
        if seen.in_doubt {
            if seen.is_outdated() {
                report.outdated.push(seen.pubkey);
            } else {
                close_history(transaction, *id, now)?;
                report.vouched.push(seen.pubkey);
            }
        }
    }
    report.keys = seen.len() as u64;
    for list in [&mut report.contradictory, &mut report.vouched, &mut report.outdated] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(report)
}

impl Seen {
    fn add(&mut self, entry: &Entry) {
        let widen = |range: &mut Option<(u64, u64)>, value: u64| {
            let (least, greatest) = range.unwrap_or((value, value));
            *range = Some((least.min(value), greatest.max(value)));
        };
        for block in &entry.blocks {
            widen(&mut self.slots, block.slot);
        }
        for SignedAttestation { source_epoch, target_epoch, .. } in &entry.attestations {
            widen(&mut self.targets, *target_epoch);
            self.least_source = Some(self.least_source.map_or(*source_epoch, |least| least.min(*source_epoch)));
        }
    }

    /// Whether the file ends before the database does. It was then made from an older state, and cannot vouch for the newer.
    fn is_outdated(&self) -> bool {
        let ends_before = |known: Option<i64>, file: Option<(u64, u64)>| {
            known.is_some_and(|known| file.is_none_or(|(_, greatest)| greatest < known.unsigned_abs()))
        };
        ends_before(self.known.0, self.slots) || ends_before(self.known.1, self.targets)
    }
}

fn refuse_future(entry: &Entry, now: Now) -> Result<(), ImportError> {
    let refuse = |what, found, limit| Err(ImportError::FarFuture { pubkey: entry.pubkey, what, found, now: limit });
    if let Some(block) = entry.blocks.iter().find(|block| block.slot > now.slot) {
        return refuse("slot", block.slot, now.slot);
    }
    for SignedAttestation { source_epoch, target_epoch, .. } in &entry.attestations {
        let latest = *source_epoch.max(target_epoch);
        if latest > now.epoch {
            return refuse("epoch", latest, now.epoch);
        }
    }
    Ok(())
}

/// Finds or registers the key, and notes how it stood before the import.
fn validator(
    transaction: &Transaction<'_>,
    pubkey: &Pubkey,
    in_doubt: bool,
    seen: &mut HashMap<i64, Seen>,
    report: &mut ImportReport,
) -> Result<i64, ImportError> {
    let row = transaction
        .prepare_cached(
            "SELECT id, needs_import, (SELECT max(slot) FROM signed_block WHERE validator_id = id),
                    (SELECT max(target_epoch) FROM signed_attestation WHERE validator_id = id)
             FROM validator WHERE pubkey = ?1",
        )?
        .query_row([pubkey.0], |row| {
            let known = (row.get(2)?, row.get(3)?);
            Ok((row.get(0)?, Seen { pubkey: *pubkey, in_doubt: row.get(1)?, known, ..Seen::default() }))
        })
        .optional()?;
    let (id, state) = match row {
        Some(found) => found,
        None => {
            transaction
                .prepare_cached("INSERT INTO validator (pubkey, active, needs_import) VALUES (?1, 1, ?2)")?
                .execute(params![pubkey.0, in_doubt])?;
            report.registered += 1;
            (transaction.last_insert_rowid(), Seen { pubkey: *pubkey, in_doubt, ..Seen::default() })
        }
    };
    seen.entry(id).or_insert(state);
    Ok(id)
}

fn insert_blocks(transaction: &Transaction<'_>, id: i64, entry: &Entry) -> Result<(), ImportError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO signed_block (validator_id, slot, signing_root) VALUES (?1, ?2, ?3)
         ON CONFLICT (validator_id, slot) DO UPDATE SET signing_root = NULL
         WHERE signing_root IS NOT excluded.signing_root",
    )?;
    for block in &entry.blocks {
        insert.execute(params![id, integer(block.slot)?, block.signing_root.map(|root| root.0)])?;
    }
    Ok(())
}

/// Inserts the attestations; says whether they contradict each other or the history.
fn insert_attestations(
    transaction: &Transaction<'_>,
    id: i64,
    mut incoming: Vec<SignedAttestation>,
) -> Result<bool, ImportError> {
    if incoming.is_empty() {
        return Ok(false);
    }
    let (low, mut all) = history(transaction, id)?;
    all.extend_from_slice(&incoming);
    let closed = contradiction(&mut all, low);
    if let Some((source_epoch, target_epoch)) = closed {
        raise(transaction, id, source_epoch, target_epoch)?;
        transaction
            .prepare_cached(
                "UPDATE signed_attestation SET signing_root = NULL WHERE validator_id = ?1 AND target_epoch <= ?2
                 AND signing_root IS NOT NULL",
            )?
            .execute(params![id, integer(target_epoch)?])?;
        for attestation in &mut incoming {
            if attestation.target_epoch <= target_epoch {
                attestation.signing_root = None;
            }
        }
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO signed_attestation (validator_id, source_epoch, target_epoch, signing_root) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (validator_id, target_epoch) DO UPDATE SET signing_root = NULL
         WHERE signing_root IS NOT excluded.signing_root",
    )?;
    // One whose source is after its target has no row; the watermarks now stand for it.
    for SignedAttestation { source_epoch, target_epoch, signing_root } in incoming {
        if source_epoch <= target_epoch {
            let root = signing_root.map(|root| root.0);
            insert.execute(params![id, integer(source_epoch)?, integer(target_epoch)?, root])?;
        }
    }
    Ok(closed.is_some())
}

/// The low watermark and the epochs of all attestations.
fn history(
    transaction: &Transaction<'_>,
    id: i64,
) -> Result<(Option<Epochs>, Vec<SignedAttestation>), rusqlite::Error> {
    let low = transaction
        .prepare_cached("SELECT low_source_epoch, low_target_epoch FROM validator WHERE id = ?1")?
        .query_row([id], |row| epochs(row, 0))?;
    let attestations = transaction
        .prepare_cached("SELECT source_epoch, target_epoch FROM signed_attestation WHERE validator_id = ?1")?
        .query_map([id], |row| {
            let epoch = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(SignedAttestation { source_epoch: epoch(0)?, target_epoch: epoch(1)?, signing_root: None })
        })?
        .collect::<Result<_, _>>()?;
    Ok((low, attestations))
}

/// The greatest source and the latest target of attestations that no honest validator can have signed together.
///
/// In the order of targets, sources must not fall; the first of a pair that does is surrounded by the second. The greatest
/// source of all attestations up to the last such pair is returned, so nothing after it can surround anything in it. The
/// watermark counts as a vote that may have been signed.
fn contradiction(attestations: &mut [SignedAttestation], low: Option<Epochs>) -> Option<(u64, u64)> {
    attestations.sort_unstable_by_key(|attestation| (attestation.target_epoch, attestation.source_epoch));
    let mut closed = None;
    let mut greatest = 0;
    let mut before: Option<SignedAttestation> = None;
    for this in attestations {
        let SignedAttestation { source_epoch, target_epoch, .. } = *this;
        if let Some(low) = low
            && low.target_epoch < target_epoch
        {
            greatest = greatest.max(low.source_epoch);
        }
        let falls = source_epoch < greatest;
        let twice = before.is_some_and(|last| last.target_epoch == target_epoch && last.source_epoch != source_epoch);
        greatest = greatest.max(source_epoch);
        if falls || twice || source_epoch > target_epoch {
            closed = Some((greatest, target_epoch));
        }
        before = Some(*this);
    }
    closed
}

/// Raises the low watermark of attestations to at least these epochs.
///
/// A target up to the source's watermark would have a source below it, so the target's watermark is never less.
fn raise(transaction: &Transaction<'_>, id: i64, source_epoch: u64, target_epoch: u64) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached(
            "UPDATE validator SET low_source_epoch = max(coalesce(low_source_epoch, 0), ?2),
               low_target_epoch = max(coalesce(low_target_epoch, 0), coalesce(low_source_epoch, 0), ?2, ?3)
             WHERE id = ?1",
        )?
        .execute(params![id, integer(source_epoch)?, integer(target_epoch)?])?;
    Ok(())
}

fn raise_slot(transaction: &Transaction<'_>, id: i64, slot: u64) -> Result<(), rusqlite::Error> {
    transaction
        .prepare_cached("UPDATE validator SET low_slot = max(coalesce(low_slot, 0), ?2) WHERE id = ?1")?
        .execute(params![id, integer(slot)?])?;
    Ok(())
}

/// Conditions 2, 4 and 5. The source's watermark also covers every vote that is now at or below the target's.
fn raise_to_file(transaction: &Transaction<'_>, id: i64, seen: &Seen) -> Result<(), rusqlite::Error> {
    if let Some((least, _)) = seen.slots {
        raise_slot(transaction, id, least)?;
    }
    if let (Some((least_target, _)), Some(least_source)) = (seen.targets, seen.least_source) {
        raise(transaction, id, least_source, least_target)?;
        cover(transaction, id)?;
    }
    Ok(())
}

/// Raises the source's watermark over all votes at or below the target's.
fn cover(transaction: &Transaction<'_>, id: i64) -> Result<(), rusqlite::Error> {
    let source: Option<i64> = transaction
        .prepare_cached(
            "SELECT max(source_epoch) FROM signed_attestation WHERE validator_id = ?1
             AND target_epoch <= (SELECT low_target_epoch FROM validator WHERE id = ?1)",
        )?
        .query_row([id], |row| row.get(0))?;
    source.map_or(Ok(()), |source| raise(transaction, id, source.unsigned_abs(), 0))
}

/// Takes everything up to now as signed: what the history knows, and what it may lack. The key is not in doubt any more.
pub(crate) fn close_history(transaction: &Transaction<'_>, id: i64, now: Now) -> Result<(), rusqlite::Error> {
    let (slot, epochs) = now.bounded().watermark();
    let (last_slot, last_target): (Option<i64>, Option<i64>) = transaction
        .prepare_cached(
            "SELECT (SELECT max(slot) FROM signed_block WHERE validator_id = ?1),
                    (SELECT max(target_epoch) FROM signed_attestation WHERE validator_id = ?1)",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    raise_slot(transaction, id, slot.max(last_slot.map_or(0, i64::unsigned_abs)))?;
    let target_epoch = epochs.target_epoch.max(last_target.map_or(0, i64::unsigned_abs));
    raise(transaction, id, epochs.source_epoch, target_epoch)?;
    cover(transaction, id)?;
    transaction.prepare_cached("UPDATE validator SET needs_import = 0 WHERE id = ?1")?.execute([id])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(votes: &[(u64, u64)]) -> Option<(u64, u64)> {
        let vote = |(source_epoch, target_epoch)| SignedAttestation { source_epoch, target_epoch, signing_root: None };
        contradiction(&mut votes.iter().copied().map(vote).collect::<Vec<_>>(), None)
    }

    #[test]
    fn a_vote_that_would_surround_what_the_watermark_stands_for_is_closed_too() {
        let low = Epochs { source_epoch: 5, target_epoch: 6 };
        let vote = |source_epoch, target_epoch| SignedAttestation { source_epoch, target_epoch, signing_root: None };
        assert_eq!(contradiction(&mut [vote(3, 8)], Some(low)), Some((5, 8)));
        assert_eq!(contradiction(&mut [vote(3, 6), vote(5, 7)], Some(low)), None);
    }

    #[test]
    fn votes_in_order_are_no_contradiction() {
        assert_eq!(closed(&[]), None);
        assert_eq!(closed(&[(1, 2), (1, 3), (3, 4), (1, 2)]), None);
    }

    #[test]
    fn surround_votes_close_up_to_the_surrounding_one_and_the_greatest_source() {
        assert_eq!(closed(&[(2, 3), (0, 4)]), Some((2, 4)));
        assert_eq!(closed(&[(0, 9), (1, 2), (5, 8), (9, 10)]), Some((5, 9)));
    }

    #[test]
    fn one_target_with_two_sources_closes_it() {
        assert_eq!(closed(&[(2, 5), (1, 5), (5, 6)]), Some((2, 5)));
    }

    #[test]
    fn a_source_after_its_target_closes_up_to_both() {
        assert_eq!(closed(&[(5, 2), (6, 7)]), Some((5, 2)));
        assert_eq!(closed(&[(5, 2), (3, 4)]), Some((5, 4)));
    }
}
