//! Requests of one provider that no two signatures may answer: what convicts it, from the requests that were kept.
//!
//! One pair per key and assignment is enough, for the Court charges a provider once per assignment. A running server finds it as it
//! keeps a request ([`crate::store::Store::keep_duties`]), and hands it to whoever asks; relayers do. [`Conflicts`] looks through all
//! that is kept, also from before there was such a list.

use alloy::primitives::Address;
use stkr_protocol::ProtocolDomain;
use stkr_protocol::conflicts::Conflicts as Pairs;
use stkr_protocol::evidence::{EvidenceFile, Proof, RequestsProof, SignedDutyRequest};

use crate::store::DutyRow;

/// Key and assignment, which is one provider's. Its duty key is not in it: a provider could change that between two requests. The
/// store keeps nothing but what was signed with the duty key that the chain named for this assignment, or named before within it.
type Asker = (u64, u64);

/// Requests as they come, by who asked.
#[derive(Debug, Default)]
pub struct Conflicts(Pairs<Asker, SignedDutyRequest>);

impl Conflicts {
    /// Takes a kept request.
    pub fn add(&mut self, row: &DutyRow) {
        self.0.add((row.key_id, row.assignment), request(row));
    }

    /// A file for every assignment in which two duties that conflict were asked for.
    #[must_use]
    pub fn files(self, domain: &ProtocolDomain, court: Address) -> Vec<EvidenceFile> {
        let proofs = self.0.pairs().map(|(_, (first, second))| RequestsProof { first, second });
        proofs.map(|proof| EvidenceFile::new(domain, court, Proof::ProviderEquivocation(proof))).collect()
    }
}

/// The request of a row, as evidence has it.
#[must_use]
pub const fn request(row: &DutyRow) -> SignedDutyRequest {
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
    use stkr_protocol::api::{Conflict, MAX_CONFLICTS};
    use stkr_protocol::evidence::{Accused, Fault};

    use super::*;
    use crate::store::{Owner, Store};

    const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
    const COURT: Address = Address::repeat_byte(9);

    fn key(byte: u8) -> SignerKey {
        SignerKey::from_bytes(&[byte; 32]).unwrap()
    }

    /// A request of `assignment`: kind, slot, source, target, root.
    fn row(assignment: u64, duty: (u8, u64, u64, u64), root: u8) -> DutyRow {
        row_of(&key(7), assignment, duty, root)
    }

    fn row_of(
        duty_key: &SignerKey,
        assignment: u64,
        (duty_kind, slot, source_epoch, target_epoch): (u8, u64, u64, u64),
        root: u8,
    ) -> DutyRow {
        let mut row = DutyRow {
            key_id: 5,
            assignment,
            duty_kind,
            slot,
            source_epoch,
            target_epoch,
            signing_root: B256::repeat_byte(root),
            duty_key: duty_key.address(),
            request: [0; 65],
            envelope: None,
            partial_hash: None,
            index: 2,
            committee_epoch: 0,
            at: 0,
        };
        row.request = duty_key.sign_digest(request(&row).digest(&DOMAIN));
        row
    }

    /// Assignments that the files are of: those that a server found as the requests came are the same.
    fn convicted(rows: &[DutyRow]) -> Vec<u64> {
        let all: Vec<u64> = accused(rows).into_iter().map(|(assignment, _)| assignment).collect();
        assert_eq!(found_as_they_come(rows), all, "{rows:?}");
        all
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let owner = Owner { signer: Address::repeat_byte(1), chain_id: 31_337, key_registry: Address::repeat_byte(7) };
        let store = Store::open(&folder.path().join("server.db"), &owner, 9).unwrap();
        (folder, store)
    }

    fn found_as_they_come(rows: &[DutyRow]) -> Vec<u64> {
        let (_folder, store) = store();
        store.keep_duties(rows, 1_000).unwrap();
        let mut found: Vec<u64> = store.conflicts(0).unwrap().into_iter().map(assignment).collect();
        found.sort_unstable();
        found
    }

    /// Of a pair that convicts.
    fn assignment(Conflict { first, second, .. }: Conflict) -> u64 {
        let proof = Proof::ProviderEquivocation(RequestsProof { first, second });
        match EvidenceFile::new(&DOMAIN, COURT, proof).verify().unwrap().accused {
            Accused::Provider { assignment, .. } => assignment,
            other => panic!("{other:?}"),
        }
    }

    fn accused(rows: &[DutyRow]) -> Vec<(u64, [Address; 2])> {
        let mut conflicts = Conflicts::default();
        rows.iter().for_each(|row| conflicts.add(row));
        let accused = |file: EvidenceFile| {
            let verified = file.verify().unwrap();
            assert_eq!((verified.fault, verified.key_id), (Fault::ProviderEquivocation, 5));
            match verified.accused {
                Accused::Provider { duty_keys, assignment } => (assignment, duty_keys),
                other => panic!("{other:?}"),
            }
        };
        conflicts.files(&DOMAIN, COURT).into_iter().map(accused).collect()
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
    fn a_duty_key_that_is_changed_in_between_hides_no_conflict() {
        let vote = |source, target| (2, target * 32, source, target);
        let [old, new] = [7, 8].map(key);
        let both = [old.address(), new.address()];
        let double = [row_of(&old, 1, vote(1, 2), 1), row_of(&new, 1, vote(1, 2), 2)];
        let surround = [row_of(&old, 1, vote(1, 9), 1), row_of(&new, 1, vote(3, 4), 2)];
        let blocks = [row_of(&old, 1, (3, 9, 0, 0), 1), row_of(&new, 1, (3, 9, 0, 0), 2)];
        for rows in [double, surround, blocks] {
            assert_eq!(accused(&rows), [(1, both)], "{rows:?}");
        }
        let again = [row_of(&old, 1, vote(1, 2), 1), row_of(&new, 1, vote(1, 2), 1), row_of(&new, 1, vote(2, 3), 2)];
        assert_eq!(convicted(&again), [0; 0], "one duty, asked for with both keys");
        let assigned_anew = [row_of(&old, 1, vote(1, 2), 1), row_of(&new, 2, vote(1, 2), 2)];
        assert_eq!(convicted(&assigned_anew), [0; 0], "another assignment may be another provider's");
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

    /// Each request is compared with three of those before it, and no conflict gets away.
    #[test]
    fn what_is_found_as_requests_come_is_what_comparing_each_with_each_finds() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut guilty, mut honest) = (0, 0);
        for _ in 0..300 {
            let rows: Vec<DutyRow> = (1..=4)
                .map(|root| {
                    let source = random(12);
                    row(1, (2, 0, source, source + 1 + random(12)), root)
                })
                .collect();
            let requests: Vec<SignedDutyRequest> = rows.iter().map(request).collect();
            let conflict = requests.iter().any(|one| requests.iter().any(|two| one.conflicts_with(two)));
            assert_eq!(found_as_they_come(&rows), if conflict { vec![1] } else { vec![] }, "{rows:?}");
            if conflict { guilty += 1 } else { honest += 1 }
        }
        assert!(guilty > 30 && honest > 30, "{guilty} {honest}");
    }

    #[test]
    fn a_pair_is_found_across_batches_and_outlives_the_requests_and_comes_in_pages() {
        let (_folder, store) = store();
        let vote = |assignment, root| row(assignment, (2, 64, 1, 2), root);
        let count = u64::try_from(MAX_CONFLICTS).unwrap() + 1;
        for assignment in 1..=count {
            store.keep_duties(&[vote(assignment, 1)], 1).unwrap();
            assert_eq!(store.conflicts(assignment - 1).unwrap(), [], "one request convicts nobody");
            store.keep_duties(&[vote(assignment, 2)], 1).unwrap();
            store.keep_duties(&[vote(assignment, 3)], 1).unwrap();
        }
        let page = store.conflicts(0).unwrap();
        assert_eq!(page.len(), MAX_CONFLICTS);
        let last = page.last().unwrap().id;
        let all: Vec<u64> = page.into_iter().chain(store.conflicts(last).unwrap()).map(assignment).collect();
        assert_eq!(all, (1..=count).collect::<Vec<_>>());
    }
}
