//! The rules of EIP-3076 and of the consensus specs, pure.
//!
//! A vote `(s, t)` surrounds a vote `(s', t')` if `s < s'` and `t' < t`. Without a pair of surrounding votes, sources never
//! fall as targets rise. So of all votes with a target before the new one, the last has the greatest source, and of all
//! after it, the next has the least: two neighbours decide, found by index, and not a scan of the history. The database
//! keeps this order above the low watermark (a trigger refuses anything else, and opening checks it); below the watermark
//! nothing new is signed at all, and no source there exceeds the watermark's.

use crate::duty::{Attestation, Block, Epochs, SignedAttestation, SignedBlock};
use crate::verdict::{Conflict, Verdict};

/// Judges a block, given the low watermark and the block signed for the same slot.
pub(crate) fn block(asked: Block, low: Option<u64>, same: Option<SignedBlock>) -> Verdict {
    if let Some(signed) = same {
        return if signed.signing_root == Some(asked.signing_root) {
            Verdict::SameAgain
        } else {
            Verdict::Slashable(Conflict::DoubleProposal { asked, signed })
        };
    }
    match low {
        Some(low) if asked.slot <= low => Verdict::Slashable(Conflict::LowSlot { asked, low }),
        _ => Verdict::Safe,
    }
}

/// Judges an attestation, given the low watermark and its neighbours in the history: the vote with the greatest target up
/// to the new one's, and the vote with the least target after it.
pub(crate) fn attestation(
    asked: Attestation,
    low: Option<Epochs>,
    up_to: Option<SignedAttestation>,
    after: Option<SignedAttestation>,
) -> Verdict {
    let Attestation { source_epoch, target_epoch, .. } = asked;
    if source_epoch >= target_epoch && (source_epoch, target_epoch) != (0, 0) {
        return Verdict::SourceNotBeforeTarget { source_epoch, target_epoch };
    }
    if let Some(signed) = up_to {
        if signed.target_epoch == target_epoch {
            let same = signed.source_epoch == source_epoch && signed.signing_root == Some(asked.signing_root);
            return if same { Verdict::SameAgain } else { Verdict::Slashable(Conflict::DoubleVote { asked, signed }) };
        }
        if source_epoch < signed.source_epoch {
            return Verdict::Slashable(Conflict::Surrounding { asked, signed });
        }
    }
    if let Some(signed) = after
        && signed.source_epoch < source_epoch
    {
        return Verdict::Slashable(Conflict::Surrounded { asked, signed });
    }
    match low {
        Some(low) if source_epoch < low.source_epoch => {
            Verdict::Slashable(Conflict::LowSource { asked, low: low.source_epoch })
        }
        Some(low) if target_epoch <= low.target_epoch => {
            Verdict::Slashable(Conflict::LowTarget { asked, low: low.target_epoch })
        }
        _ => Verdict::Safe,
    }
}
