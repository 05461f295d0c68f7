//! Requests of one duty key that no two signatures may answer: what convicts a provider, from the requests that were kept.
//!
//! One pair per key, assignment and duty key is enough, for the Court charges a provider once per assignment.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use stkr_protocol::ProtocolDomain;
use stkr_protocol::envelope::DutyKind;
use stkr_protocol::evidence::{EvidenceFile, Proof, RequestsProof, SignedDutyRequest};

use crate::store::DutyRow;

/// Key, assignment and the duty key that asked.
type Asker = (u64, u64, Address);

/// Requests as they come, by who asked.
#[derive(Debug, Default)]
pub struct Conflicts {
    askers: BTreeMap<Asker, Asked>,
}

/// What one duty key asked for, or the first pair of it that conflicts.
#[derive(Debug)]
enum Asked {
    Honest { blocks: BTreeMap<u64, SignedDutyRequest>, votes: BTreeMap<u64, SignedDutyRequest> },
    Guilty(Box<RequestsProof>),
}

impl Default for Asked {
    fn default() -> Self {
        Self::Honest { blocks: BTreeMap::new(), votes: BTreeMap::new() }
    }
}

impl Conflicts {
    /// Takes a kept request.
    pub fn add(&mut self, row: &DutyRow) {
        let asked = self.askers.entry((row.key_id, row.assignment, row.duty_key)).or_default();
        asked.add(request(row));
    }

    /// A file for every duty key that asked for two duties that conflict.
    #[must_use]
    pub fn files(self, domain: &ProtocolDomain, court: Address) -> Vec<EvidenceFile> {
        let proofs = self.askers.into_values().filter_map(Asked::proof);
        proofs.map(|proof| EvidenceFile::new(domain, court, Proof::ProviderEquivocation(proof))).collect()
    }
}

impl Asked {
    /// Double proposals and double votes show as they come; surround votes once all are there.
    fn add(&mut self, second: SignedDutyRequest) {
        let Self::Honest { blocks, votes } = self else { return };
        let (seen, at) = match second.duty_kind {
            kind if kind == DutyKind::Block as u8 => (blocks, second.slot),
            kind if kind == DutyKind::Attestation as u8 => (votes, second.target_epoch),
            _ => return,
        };
        match seen.get(&at) {
            Some(first) if first.signing_root != second.signing_root => {
                *self = Self::Guilty(Box::new(RequestsProof { first: first.clone(), second }));
            }
            Some(_) => {}
            None => _ = seen.insert(at, second),
        }
    }

    fn proof(self) -> Option<RequestsProof> {
        match self {
            Self::Guilty(proof) => Some(*proof),
            Self::Honest { votes, .. } => surround(votes),
        }
    }
}

/// By source: as long as no vote lies within an earlier one, targets grow with sources, so that the latest target of the source
/// before is the latest of all before.
fn surround(votes: BTreeMap<u64, SignedDutyRequest>) -> Option<RequestsProof> {
    let mut by_source: BTreeMap<u64, Vec<SignedDutyRequest>> = BTreeMap::new();
    for vote in votes.into_values() {
        by_source.entry(vote.source_epoch).or_default().push(vote);
    }
    let mut widest: Option<SignedDutyRequest> = None;
    for (_, group) in by_source {
        if let Some(outer) = &widest
            && let Some(inner) = group.iter().find(|inner| inner.target_epoch < outer.target_epoch)
        {
            return Some(RequestsProof { first: outer.clone(), second: inner.clone() });
        }
        widest = group.into_iter().max_by_key(|vote| vote.target_epoch);
    }
    None
}

const fn request(row: &DutyRow) -> SignedDutyRequest {
    SignedDutyRequest {
        key_id: row.key_id,
        assignment: row.assignment,
        duty_kind: row.duty_kind,
        slot: row.slot,
        source_epoch: row.source_epoch,
        target_epoch: row.target_epoch,
        signing_root: row.signing_root,
        signature: row.request,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use stkr_protocol::SignerKey;
    use stkr_protocol::evidence::{Accused, Fault};

    use super::*;

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const COURT: Address = Address::repeat_byte(9);

    fn key() -> SignerKey {
        SignerKey::from_bytes(&[7; 32]).unwrap()
    }

    /// A request of `assignment`: kind, slot, source, target, root.
    fn row(assignment: u64, (duty_kind, slot, source_epoch, target_epoch): (u8, u64, u64, u64), root: u8) -> DutyRow {
        let mut row = DutyRow {
            key_id: 5,
            assignment,
            duty_kind,
            slot,
            source_epoch,
            target_epoch,
            signing_root: B256::repeat_byte(root),
            duty_key: key().address(),
            request: [0; 65],
            envelope: None,
            partial_hash: None,
            index: 2,
            at: 0,
        };
        row.request = key().sign_digest(request(&row).digest(&DOMAIN));
        row
    }

    fn convicted(rows: &[DutyRow]) -> Vec<u64> {
        let mut conflicts = Conflicts::default();
        rows.iter().for_each(|row| conflicts.add(row));
        let assignment = |file: EvidenceFile| {
            let verified = file.verify().unwrap();
            assert_eq!((verified.fault, verified.key_id), (Fault::ProviderEquivocation, 5));
            match verified.accused {
                Accused::DutyKey { duty_key, assignment } if duty_key == key().address() => assignment,
                other => panic!("{other:?}"),
            }
        };
        conflicts.files(&DOMAIN, COURT).into_iter().map(assignment).collect()
    }

    #[test]
    fn double_votes_double_proposals_and_surround_votes_of_one_assignment_make_one_file() {
        let vote = |source, target| (2, target * 32, source, target);
        let block = |slot| (3, slot, 0, 0);
        let guilty = [
            vec![row(1, vote(1, 2), 1), row(1, vote(1, 2), 2)],
            vec![row(1, vote(0, 2), 1), row(1, vote(1, 2), 2)],
            vec![row(1, block(9), 1), row(1, block(9), 2)],
            vec![row(1, vote(1, 9), 1), row(1, vote(3, 4), 2)],
            vec![row(1, vote(3, 4), 1), row(1, vote(1, 9), 2)],
            // The widest of an early source, behind others in the way.
            vec![row(1, vote(1, 9), 1), row(1, vote(2, 3), 2), row(1, vote(4, 5), 3), row(1, vote(1, 2), 4)],
        ];
        for rows in guilty {
            assert_eq!(convicted(&rows), [1], "{rows:?}");
        }
        let twice = [row(1, block(9), 1), row(1, block(9), 2), row(1, block(8), 1), row(1, block(8), 2)];
        assert_eq!(convicted(&twice), [1], "one charge, one file");
    }

    #[test]
    fn an_honest_provider_and_two_assignments_make_none() {
        let vote = |source, target| (2, target * 32, source, target);
        let honest = [
            vec![row(1, vote(1, 2), 1), row(1, vote(1, 2), 1), row(1, vote(2, 3), 2), row(1, vote(2, 4), 3)],
            vec![row(1, (3, 9, 0, 0), 1), row(1, (3, 10, 0, 0), 2), row(1, (3, 9, 0, 0), 1)],
            vec![row(1, vote(1, 2), 1), row(2, vote(1, 2), 2)],
            vec![row(1, vote(1, 9), 1), row(2, vote(3, 4), 2)],
            // A slot is signed for selection as often as anybody likes.
            vec![row(1, (4, 9, 0, 0), 1), row(1, (4, 9, 0, 0), 2)],
        ];
        for rows in honest {
            assert_eq!(convicted(&rows), [0; 0], "{rows:?}");
        }
        assert_eq!(convicted(&[row(1, vote(1, 2), 1), row(1, vote(1, 2), 2), row(3, vote(1, 2), 1)]), [1]);
    }
}
