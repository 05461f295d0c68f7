//! Writing the history as an interchange file.

use std::io::{BufWriter, Write};

use alloy_primitives::B256;
use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::ExportError;
use crate::duty::{Pubkey, SignedBlock, Watermark};
use crate::interchange::{Writer, watermark_record};
use crate::store::{epochs, signed_attestation, signed_block, unsigned};

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Keys written.
    pub keys: u64,
    /// Blocks written, watermarks included.
    pub blocks: u64,
    /// Attestations written, watermarks included.
    pub attestations: u64,
    /// Keys left out because their history is in doubt: what is known of them must not pass for all there is.
    pub left_out: Vec<Pubkey>,
}

/// What becomes of keys whose history is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubted {
    /// They are no part of the file.
    LeftOut,
    /// They are written as the others: whoever asked knows that all of them are in doubt.
    Written,
}

/// Writes all keys, or those named.
pub(crate) fn export(
    transaction: &Transaction<'_>,
    writer: impl Write,
    genesis_validators_root: B256,
    keys: Option<&[Pubkey]>,
    doubted: Doubted,
) -> Result<ExportReport, ExportError> {
    let all = match keys {
        Some(keys) => keys.to_vec(),
        None => transaction
            .prepare("SELECT pubkey FROM validator ORDER BY pubkey")?
            .query_map([], |row| row.get::<_, [u8; 48]>(0).map(Pubkey::from))?
            .collect::<Result<_, _>>()?,
    };
    let mut report = ExportReport::default();
    let mut writer = Writer::begin(BufWriter::with_capacity(1 << 16, writer), genesis_validators_root)?;
    for key in &all {
        let (id, needs_import, low) = transaction
            .prepare_cached(
                "SELECT id, needs_import, low_slot, low_source_epoch, low_target_epoch FROM validator WHERE pubkey = ?1",
            )?
            .query_row([key.0], |row| {
                let low = Watermark { slot: unsigned(row, 2)?, epochs: epochs(row, 3)? };
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, low))
            })
            .optional()?
            .ok_or(ExportError::Unregistered(*key))?;
        if needs_import && doubted == Doubted::LeftOut {
            if keys.is_some() {
                return Err(ExportError::NeedsImport(*key));
            }
            report.left_out.push(*key);
            continue;
        }
        let (blocks, attestations) = export_key(transaction, &mut writer, key, id, low)?;
        report.keys += 1;
        report.blocks += blocks;
        report.attestations += attestations;
    }
    writer.end()?;
    Ok(report)
}

fn export_key(
    transaction: &Transaction<'_>,
    writer: &mut Writer<impl Write>,
    key: &Pubkey,
    id: i64,
    low: Watermark,
) -> Result<(u64, u64), ExportError> {
    let low_slot = low.slot.map(i64::try_from).and_then(Result::ok);
    let low_target = low.epochs.map(|epochs| i64::try_from(epochs.target_epoch)).and_then(Result::ok);
    let at_slot = transaction
        .prepare_cached("SELECT slot, signing_root FROM signed_block WHERE validator_id = ?1 AND slot = ?2")?
        .query_row(params![id, low_slot], signed_block)
        .optional()?;
    let at_target = transaction
        .prepare_cached(
            "SELECT source_epoch, target_epoch, signing_root FROM signed_attestation
             WHERE validator_id = ?1 AND target_epoch = ?2",
        )?
        .query_row(params![id, low_target], signed_attestation)
        .optional()?;
    let mut blocks = transaction.prepare_cached(
        "SELECT slot, signing_root FROM signed_block WHERE validator_id = ?1 AND slot > ?2 ORDER BY slot",
    )?;
    let mut attestations = transaction.prepare_cached(
        "SELECT source_epoch, target_epoch, signing_root FROM signed_attestation
         WHERE validator_id = ?1 AND target_epoch > ?2 ORDER BY target_epoch",
    )?;
    let low_block =
        low.slot.map(|slot| SignedBlock { slot, signing_root: at_slot.and_then(|signed| signed.signing_root) });
    writer.key(
        key,
        low_block,
        blocks.query_map(params![id, low_slot], signed_block)?,
        low.epochs.map(|epochs| watermark_record(epochs, at_target)),
        attestations.query_map(params![id, low_target], signed_attestation)?,
    )
}
