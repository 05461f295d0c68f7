//! A reader of what was signed that shares nothing with the code under test: the rules of the consensus specs once more, over
//! whole histories.

use std::collections::BTreeMap;

use alloy::primitives::B256;
use eyre::{Result, eyre};
use serde_json::Value;

/// What somebody can be slashed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signed {
    /// A block.
    Block {
        /// Slot.
        slot: u64,
        /// Its signing root.
        root: B256,
    },
    /// An attestation.
    Vote {
        /// Source epoch.
        source: u64,
        /// Target epoch.
        target: u64,
        /// Its signing root.
        root: B256,
    },
}

impl Signed {
    /// Its signing root.
    #[must_use]
    pub const fn root(&self) -> B256 {
        match self {
            Self::Block { root, .. } | Self::Vote { root, .. } => *root,
        }
    }
}

/// A pair that gets a validator slashed, if there is one: two blocks of one slot, two votes for one target, or a vote that
/// surrounds another (`is_slashable_attestation_data`).
#[must_use]
pub fn slashable_pair(signed: impl IntoIterator<Item = Signed>) -> Option<(Signed, Signed)> {
    let (mut blocks, mut targets) = (BTreeMap::new(), BTreeMap::new());
    let mut votes = Vec::new();
    for one in signed {
        let earlier = match one {
            Signed::Block { slot, .. } => blocks.insert(slot, one),
            Signed::Vote { source, target, .. } => {
                votes.push((source, target, one));
                targets.insert(target, one)
            }
        };
        if let Some(earlier) = earlier.filter(|earlier| *earlier != one) {
            return Some((earlier, one));
        }
    }
    // With sources in order, a vote is surrounded if one with a lower source reaches beyond its target.
    votes.sort_unstable();
    let mut farthest: Option<(u64, Signed)> = None;
    let mut at = 0;
    while let Some((source, ..)) = votes.get(at).copied() {
        let of_source: Vec<_> = votes[at..].iter().take_while(|vote| vote.0 == source).copied().collect();
        for (_, target, vote) in &of_source {
            if let Some((_, surrounding)) = farthest.filter(|(reach, _)| reach > target) {
                return Some((surrounding, *vote));
            }
        }
        at += of_source.len();
        let reach = of_source.last().map(|(_, target, vote)| (*target, *vote));
        farthest = farthest.max(reach);
    }
    None
}

/// What an EIP-3076 interchange file says was signed for its one key.
///
/// # Errors
/// If it is of another form, names no key or several, or a record has no signing root.
pub fn read_interchange(text: &str) -> Result<Vec<Signed>> {
    let file: Value = serde_json::from_str(text)?;
    let [key] = file["data"].as_array().map(Vec::as_slice).unwrap_or_default() else {
        return Err(eyre!("not one key: {text}"));
    };
    let list = |name: &str| key[name].as_array().cloned().ok_or_else(|| eyre!("no {name}"));
    let number = |row: &Value, name: &str| -> Result<u64> {
        Ok(row[name].as_str().ok_or_else(|| eyre!("no {name} in {row}"))?.parse()?)
    };
    // Without a root: what a file of the time before the split said, which is a watermark only.
    let root = |row: &Value| row["signing_root"].as_str().map(str::parse::<B256>).transpose();
    let mut signed = Vec::new();
    for row in list("signed_blocks")? {
        if let Some(root) = root(&row)? {
            signed.push(Signed::Block { slot: number(&row, "slot")?, root });
        }
    }
    for row in list("signed_attestations")? {
        if let Some(root) = root(&row)? {
            let (source, target) = (number(&row, "source_epoch")?, number(&row, "target_epoch")?);
            signed.push(Signed::Vote { source, target, root });
        }
    }
    Ok(signed)
}

/// What a server's kept requests (`stkr-server evidence`) say that it signed.
///
/// # Errors
/// If a row is of another form.
pub fn read_evidence(text: &str) -> Result<Vec<Signed>> {
    let mut signed = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        if row["envelope"].is_null() {
            continue;
        }
        let number = |name: &str| row[name].as_u64().ok_or_else(|| eyre!("no {name} in {row}"));
        let root: B256 = row["signingRoot"].as_str().ok_or_else(|| eyre!("no root in {row}"))?.parse()?;
        signed.push(match number("dutyKind")? {
            2 => Signed::Vote { source: number("sourceEpoch")?, target: number("targetEpoch")?, root },
            3 => Signed::Block { slot: number("slot")?, root },
            kind => return Err(eyre!("nobody is slashed for kind {kind}")),
        });
    }
    Ok(signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(source: u64, target: u64, root: u8) -> Signed {
        Signed::Vote { source, target, root: B256::repeat_byte(root) }
    }

    fn block(slot: u64, root: u8) -> Signed {
        Signed::Block { slot, root: B256::repeat_byte(root) }
    }

    #[test]
    fn every_kind_of_slashable_pair_is_found_in_any_order_and_nothing_else() {
        let fine = [vote(1, 2, 1), vote(2, 3, 1), vote(3, 9, 1), vote(3, 10, 1), block(4, 1), block(5, 1), block(4, 1)];
        assert_eq!(slashable_pair(fine), None);
        for bad in [block(5, 2), vote(1, 3, 1), vote(2, 3, 2), vote(2, 11, 1), vote(4, 8, 1)] {
            for at in 0..=fine.len() {
                let mut all = fine.to_vec();
                all.insert(at, bad);
                assert!(slashable_pair(all).is_some(), "{bad:?}");
            }
        }
        assert_eq!(slashable_pair([vote(1, 5, 1), vote(1, 4, 1)]), None, "one source");
    }
}
