//! Taking part in key ceremonies.
//!
//! One call of `advance` does everything a member can do with the messages it was given, in this order: rebuild the member
//! from the database, take the messages, step, store, answer. No state lives in memory between calls, so a restart is the
//! normal case and not a special one. The committee comes from the chain alone ([`Drawn`]); a relayer only carries
//! messages.

use alloy::primitives::{Address, B256};
use stkr_core::dkg::{OneTimeSecret, Outcome};
use stkr_core::keystore::{KeystoreError, StoreKey};
use stkr_core::{RandomnessError, ShareIndex};
use stkr_protocol::SignerKey;
use stkr_protocol::api::{AdvanceResponse, FailureReport};
use stkr_protocol::ceremony::{Accepted, Context, ContextError, Member, Phase, Rejected, StepError};
use stkr_protocol::evidence::OpenedDealing;
use stkr_protocol::handover::ShareOrigin;
use stkr_protocol::messages::{Round, SignedMessage};

use crate::seal::{SealError, Sealer};
use crate::serving::Us;
use crate::signers::SignerKeys;
use crate::store::{CeremonyRow, Complaint, ShareRow, Step, Store, StoreError};

/// A ceremony as the chain has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Who takes part, in what.
    pub context: Context,
    /// keccak256 of the committee, as the registry keeps it.
    pub committee: B256,
    /// Block in which this attempt began.
    pub begun: u64,
}

/// Why a ceremony cannot go on now. What a *member* did wrong is no error but part of the answer.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The committee is another server's.
    #[error("this server is not a member of the committee of key {key_id}, attempt {attempt}")]
    NotMember {
        /// Key.
        key_id: u64,
        /// Ceremony.
        attempt: u16,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sealed one-time secret.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The share keystore.
    #[error("the share cannot be stored: {0}")]
    Keystore(#[from] KeystoreError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
    /// The state machine.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The key with which this server began the ceremony, or as which the chain names it there, is not here.
    #[error("this server takes part in the ceremony of key {key_id} as signer {signer}, whose key it does not have")]
    NoSignerKey {
        /// Key.
        key_id: u64,
        /// The signer.
        signer: Address,
    },
    /// The stored signers are no committee's.
    #[error("the database holds signers that cannot be this committee's: {0}")]
    Signers(#[from] ContextError),
    /// A stored message is not one of this ceremony.
    #[error("the database mixes ceremonies: {0}")]
    Mixed(Rejected),
}

/// This server as a member of ceremonies.
pub struct Ceremonies<'a> {
    /// Database.
    pub store: &'a Store,
    /// Sign messages: in each ceremony the key that it began with.
    pub signers: &'a SignerKeys,
    /// Seals one-time secrets.
    pub sealer: &'a Sealer,
    /// Seals shares.
    pub store_key: &'a StoreKey,
}

impl std::fmt::Debug for Ceremonies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ceremonies").field("signers", &self.signers.us().signers).finish_non_exhaustive()
    }
}

impl Ceremonies<'_> {
    /// Takes `messages`, does all that can be done, and answers with every own message that may be shown.
    ///
    /// Calls for one ceremony must not overlap; the caller holds a lock.
    ///
    /// # Errors
    /// [`CeremonyError`]: nothing was said that is not stored; call again.
    pub fn advance(&self, drawn: &Drawn, messages: Vec<SignedMessage>) -> Result<AdvanceResponse, CeremonyError> {
        let (key_id, attempt) = (drawn.context.key_id(), drawn.context.attempt());
        let row = self.row(drawn)?;
        let me = row.index;
        // None once it is erased: then the member remembers what it saw, and does nothing any more.
        let secret = row.sealed.map(|sealed| self.sealer.open(key_id, attempt, &sealed)).transpose()?;
        let stored = self.store.messages(key_id, attempt, &drawn.committee)?;
        // What was said here is signed by them, and so is the acknowledgement that a challenge asks for: whoever changes its
        // signer in the middle, which needs nobody's leave, must not silence the others.
        let context = match row.signers.as_slice() {
            [] => drawn.context.clone(),
            signers => drawn.context.with_signers(signers)?,
        };
        let mut member = Member::resume(context, me, secret, stored).map_err(CeremonyError::Mixed)?;
        if let Some((reason, what_to_do)) = row.sits_out {
            return Ok(sitting_out(&member, reason, what_to_do, row.complaint));
        }
        let before = member.phase();
        let received = take(&mut member, messages);
        let step = member.step(self.key(&member)?)?;
        let share = step.outcome.as_ref().map(|outcome| self.share_row(attempt, outcome)).transpose()?;
        let complaint = member.complaint().zip(member.failure().map(|it| (it.reason(), it.what_to_do())));
        // Before the secret in it is shown: from here on this attempt never gets an acknowledgement of this server, and its
        // one-time key, under whatever committee, has no secret any more.
        let stored = complaint.as_ref().map(|(opened, (reason, what_to_do))| Complaint { opened, reason, what_to_do });
        let erase = share.is_some() || stored.is_some();
        pass(&step.new_messages, false);
        let own = step.new_messages.as_slice();
        let step = Step { received: &received, own, erase, share, complaint: stored };
        self.store.record(key_id, attempt, &drawn.committee, step)?;
        pass(own, true);
        log_progress(&member, before);
        Ok(match complaint {
            Some((opened, (reason, what_to_do))) => sitting_out(&member, reason, what_to_do, Some(opened.clone())),
            None => answer(&member),
        })
    }

    /// The stored ceremony, or a new one: with a fresh one-time secret, or sitting out where taking part could contradict
    /// what was said before.
    fn row(&self, drawn: &Drawn) -> Result<CeremonyRow, CeremonyError> {
        let (key_id, attempt) = (drawn.context.key_id(), drawn.context.attempt());
        let rows = self.store.ceremonies(key_id, attempt)?;
        // A database is one server's, so the seat is its own, whoever the chain names there by now.
        if let Some(row) = rows.iter().find(|row| row.committee == drawn.committee) {
            return Ok(row.clone());
        }
        let me = seat(&drawn.context, self.signers.us()).ok_or(CeremonyError::NotMember { key_id, attempt })?;
        let sits_out = self.reason_to_sit_out(drawn, me)?;
        let sealed = match (&sits_out, rows.iter().find(|row| row.index == me && row.sealed.is_some())) {
            (Some(_), _) => None,
            // The chain reorganised and drew another committee in which this server has the same seat: its one-time key is
            // out already, and a second one under the same index would be equivocation.
            (None, Some(earlier)) => earlier.sealed.clone(),
            (None, None) => Some(self.sealer.seal(key_id, attempt, &OneTimeSecret::random()?)?),
        };
        let row = CeremonyRow {
            key_id,
            attempt,
            committee: drawn.committee,
            index: me,
            signers: drawn.context.signers(),
            sealed,
            sits_out,
            complaint: None,
        };
        stkr_kill_points::may_end_at("server.ceremony_unbegun");
        self.store.begin(&row)?;
        stkr_kill_points::may_end_at("server.ceremony_begun");
        Ok(row)
    }

    fn reason_to_sit_out(&self, drawn: &Drawn, me: ShareIndex) -> Result<Option<(String, String)>, CeremonyError> {
        let (key_id, attempt) = (drawn.context.key_id(), drawn.context.attempt());
        let signer = signer_of(&drawn.context, me);
        if self.signers.key(signer).is_none() {
            return Err(CeremonyError::NoSignerKey { key_id, signer });
        }
        let born = self.store.born(signer)?;
        if drawn.begun <= born {
            let reason = format!(
                "this server's database was created at block {born}, or has had signer {signer} since then only, after this ceremony began at block {}; an earlier, lost database may have taken part",
                drawn.begun
            );
            let what_to_do = "restart the ceremony after its deadline; the operator should look for the lost database";
            return Ok(Some((reason, what_to_do.to_owned())));
        }
        if self.store.has_dealt(key_id, attempt, me)? {
            let reason =
                "the chain reorganised and drew another committee after this server had made its dealing for the first";
            let what_to_do = "restart the ceremony after its deadline";
            return Ok(Some((reason.to_owned(), what_to_do.to_owned())));
        }
        Ok(None)
    }

    /// The key as which this server speaks in a ceremony, from its beginning to its end.
    fn key(&self, member: &Member) -> Result<&SignerKey, CeremonyError> {
        let (key_id, signer) = (member.context().key_id(), signer_of(member.context(), member.me()));
        self.signers.key(signer).ok_or(CeremonyError::NoSignerKey { key_id, signer })
    }

    fn share_row(&self, attempt: u16, outcome: &Outcome) -> Result<ShareRow, CeremonyError> {
        Ok(ShareRow {
            origin: ShareOrigin { committee_epoch: 0, attempt, deadline: 0 },
            index: outcome.share.index(),
            share_key: outcome.share.public_key().to_compressed(),
            group_key: outcome.keys.group_key().to_compressed(),
            keystore: self.store_key.seal_share(&outcome.share)?.to_json()?,
        })
    }
}

/// The index of this server in a committee.
pub(crate) fn seat(context: &Context, us: &Us) -> Option<ShareIndex> {
    let mut seats = context.threshold().indices().zip(context.members());
    seats.find(|(_, member)| us.is(member)).map(|(index, _)| index)
}

fn signer_of(context: &Context, index: ShareIndex) -> Address {
    context.member(index).map_or(Address::ZERO, |member| member.signer)
}

/// Places at which the end-to-end tests end this process: a message is made and not stored, or stored and not shown.
fn pass(new: &[SignedMessage], written: bool) {
    for message in new {
        let name = match (message.round(), written) {
            (Round::OneTimeKey, false) => "server.ceremony_one_time_key_unwritten",
            (Round::OneTimeKey, true) => "server.ceremony_one_time_key_written",
            (Round::DealingCommitment, false) => "server.ceremony_dealing_commitment_unwritten",
            (Round::DealingCommitment, true) => "server.ceremony_dealing_commitment_written",
            (Round::CommitmentSet, false) => "server.ceremony_commitment_set_unwritten",
            (Round::CommitmentSet, true) => "server.ceremony_commitment_set_written",
            (Round::Acknowledgement, false) => "server.ceremony_acknowledgement_unwritten",
            // A dealing is made and stored with its commitment, and the store has a place of its own for what comes with an erasure.
            (Round::Dealing, _) | (Round::Acknowledgement, true) => continue,
        };
        stkr_kill_points::may_end_at(name);
    }
}

/// Gives the member every message; returns those that have to be stored.
fn take(member: &mut Member, messages: Vec<SignedMessage>) -> Vec<SignedMessage> {
    let mut received = Vec::new();
    for message in messages {
        match member.accept(message.clone()) {
            Ok(Accepted::New | Accepted::Evidence) => received.push(message),
            Ok(Accepted::Known) => {}
            // Whoever carries messages can make these up: not a reason for anything.
            Err(rejected) => {
                tracing::debug!(key_id = message.key_id, reason = %rejected, "ceremony message ignored")
            }
        }
    }
    received
}

fn answer(member: &Member) -> AdvanceResponse {
    AdvanceResponse {
        messages: member.told().into_iter().cloned().collect(),
        phase: member.phase(),
        waiting_for: member.waiting_for(),
        failure: member.failure().map(FailureReport::from),
        complaint: None,
    }
}

/// For ever: what is said here is stored. With what others said, as a relayer that was kept from it until now finds only by it whom
/// else the secret in the complaint convicts; and never with anything of its own, as the acknowledgement would be.
fn sitting_out(
    member: &Member,
    reason: String,
    what_to_do: String,
    complaint: Option<OpenedDealing>,
) -> AdvanceResponse {
    let dealer = complaint.as_ref().and_then(|it| ShareIndex::new(it.dealing.index).ok());
    let others = member.told().into_iter().filter(|message| message.index != member.me());
    AdvanceResponse {
        messages: others.cloned().collect(),
        phase: Phase::Failed,
        waiting_for: Vec::new(),
        failure: Some(FailureReport { culprit: Some(dealer.unwrap_or(member.me())), reason, what_to_do }),
        complaint,
    }
}

fn log_progress(member: &Member, before: Phase) {
    let after = member.phase();
    if after == before {
        return;
    }
    let (key_id, attempt) = (member.context().key_id(), member.context().attempt());
    match member.failure() {
        Some(failure) => tracing::warn!(
            key_id,
            attempt,
            culprit = failure.culprit.map(ShareIndex::get),
            reason = failure.reason(),
            what_to_do = failure.what_to_do(),
            "key ceremony failed"
        ),
        None => {
            tracing::info!(key_id, attempt, index = member.me().get(), phase = %after, "key ceremony advanced")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::keccak256;
    use std::collections::BTreeSet;
    use stkr_core::Threshold;
    use stkr_core::dkg::{self, CeremonyDomain};
    use stkr_protocol::ProtocolDomain;
    use stkr_protocol::ceremony::{Board, MemberId, Transcript};
    use stkr_protocol::evidence::{Accused, EvidenceFile, Proof};
    use stkr_protocol::messages::{Body, DealingBody, DealingCommitmentBody, OneTimeKeyBody, Round};

    const KEY: u64 = 5;

    /// One server on disk: everything else is made anew for every call, as after a SIGKILL.
    struct Disk {
        folder: tempfile::TempDir,
        signer: SignerKey,
        store_key: StoreKey,
    }

    impl Disk {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                signer: SignerKey::random().unwrap(),
                store_key: StoreKey::random().unwrap(),
            }
        }

        /// Made anew, as from its file.
        fn signers(&self) -> SignerKeys {
            SignerKeys::new(vec![SignerKey::from_bytes(&self.signer.to_bytes()).unwrap()], None)
        }

        fn store(&self, born: u64) -> Store {
            let owner = crate::store::Owner {
                signer: self.signer.address(),
                chain_id: 31337,
                key_registry: Address::repeat_byte(2),
            };
            Store::open(&self.folder.path().join("server.db"), &owner, born).unwrap()
        }

        fn advance(&self, drawn: &Drawn, messages: Vec<SignedMessage>) -> Result<AdvanceResponse, CeremonyError> {
            let (store, sealer) = (self.store(9), Sealer::new(&self.store_key));
            let ceremonies =
                Ceremonies { store: &store, signers: &self.signers(), sealer: &sealer, store_key: &self.store_key };
            ceremonies.advance(drawn, messages)
        }
    }

    fn committee() -> (Vec<Disk>, Drawn) {
        let disks: Vec<Disk> = (0..4).map(|_| Disk::new()).collect();
        let drawn = drawn(&disks, [0, 1, 2, 3], 10);
        (disks, drawn)
    }

    fn drawn(disks: &[Disk], seats: [usize; 4], begun: u64) -> Drawn {
        let members = seats
            .map(|seat| MemberId { server_id: u32::try_from(seat).unwrap() + 1, signer: disks[seat].signer.address() });
        let domain = ProtocolDomain { chain_id: 31337, key_registry: Address::repeat_byte(2) };
        let context = Context::new(domain, KEY, 0, Threshold::new(3, 4).unwrap(), members.to_vec()).unwrap();
        let committee = context.committee_hash();
        Drawn { context, committee, begun }
    }

    /// Carries messages until nothing new is said; every call starts from disk.
    fn run(disks: &[Disk], drawn: &Drawn, calls: usize) -> (Board, Vec<AdvanceResponse>) {
        let mut board = Board::new(drawn.context.clone());
        let mut answers = Vec::new();
        let mut carried: Vec<SignedMessage> = Vec::new();
        for _ in 0..calls {
            answers.clear();
            for disk in disks {
                let answer = disk.advance(drawn, carried.clone()).unwrap();
                for message in &answer.messages {
                    if board.accept(message.clone()).unwrap() == Accepted::New {
                        carried.push(message.clone());
                    }
                }
                answers.push(answer);
            }
        }
        (board, answers)
    }

    /// Everybody has revealed its dealing, and nobody was shown another's.
    fn revealed(disks: &[Disk], drawn: &Drawn) -> Board {
        let mut board = Board::new(drawn.context.clone());
        for disk in disks.iter().cycle().take(5 * disks.len()) {
            let carried = board.messages().filter(|message| message.round() != Round::Dealing).cloned();
            for message in disk.advance(drawn, carried.collect()).unwrap().messages {
                board.accept(message).unwrap();
            }
        }
        assert_eq!((board.missing(Round::Dealing).len(), board.missing(Round::Acknowledgement).len()), (0, 4));
        board
    }

    /// A ceremony in which the fourth member deals by hand, to the keys that are on the board. What was said, and the last answers
    /// of the others.
    fn cheat(disks: [&Disk; 4], drawn: &Drawn, change: impl FnOnce(&mut DealingBody)) -> (Board, Vec<AdvanceResponse>) {
        let (me, secret) = (ShareIndex::new(4).unwrap(), OneTimeSecret::random().unwrap());
        let say = |body| SignedMessage::sign(drawn.context.domain(), &disks[3].signer, (KEY, 0, me), body);
        let mut board = Board::new(drawn.context.clone());
        let relay = |board: &mut Board| {
            let mut answers = Vec::new();
            for disk in disks[..3].iter().cycle().take(9) {
                let carried: Vec<_> = board.messages().cloned().collect();
                let answer = disk.advance(drawn, carried).unwrap();
                for message in &answer.messages {
                    board.accept(message.clone()).unwrap();
                }
                answers.push(answer);
            }
            answers.split_off(6)
        };
        let public_key = secret.public_key().to_vec();
        board.accept(say(Body::OneTimeKey(OneTimeKeyBody { public_key }))).unwrap();
        relay(&mut board);
        let threshold = drawn.context.threshold();
        let keys: Vec<[u8; 33]> = threshold
            .indices()
            .map(|index| match &board.message(Round::OneTimeKey, index).unwrap().body {
                Body::OneTimeKey(body) => body.public_key.as_slice().try_into().unwrap(),
                _ => unreachable!(),
            })
            .collect();
        let ProtocolDomain { chain_id, key_registry: registry } = *drawn.context.domain();
        let domain = CeremonyDomain { chain_id, registry, key_id: KEY, attempt: 0 };
        let dealing = dkg::deal(&domain, threshold, me, &secret, &keys).unwrap();
        let mut body = DealingBody {
            one_time_keys_hash: keccak256(keys.as_flattened()),
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
            shares: dealing.shares_to_wire(),
        };
        change(&mut body);
        let dealing = say(Body::Dealing(body));
        let dealing_hash = dealing.digest(drawn.context.domain());
        board.accept(say(Body::DealingCommitment(DealingCommitmentBody { dealing_hash }))).unwrap();
        relay(&mut board);
        let theirs = board.message(Round::CommitmentSet, ShareIndex::new(1).unwrap()).unwrap().body.clone();
        board.accept(say(theirs)).unwrap();
        relay(&mut board);
        board.accept(dealing).unwrap();
        let answers = relay(&mut board);
        (board, answers)
    }

    #[test]
    fn a_complaint_is_stored_before_it_is_shown_and_ends_the_attempt_whatever_else_is_lost() {
        let (disks, drawn) = committee();
        let (board, answers) = cheat([&disks[0], &disks[1], &disks[2], &disks[3]], &drawn, |it| it.shares[32] ^= 1);
        assert_eq!(answers.iter().map(|it| it.complaint.is_some()).collect::<Vec<_>>(), [false, true, false]);
        let cheated = &disks[1];
        let row = cheated.store(9).ceremonies(KEY, 0).unwrap().remove(0);
        assert_eq!((row.complaint, row.sealed), (answers[1].complaint.clone(), None));
        let proof = Proof::BadDealing(answers[1].complaint.clone().unwrap());
        let file = EvidenceFile::new(drawn.context.domain(), Address::ZERO, proof);
        assert_eq!(file.verify().unwrap().accused, Accused::Signer(disks[3].signer.address()));
        let failure = answers[1].failure.clone().unwrap();
        assert_eq!(failure.culprit.map(ShareIndex::get), Some(4), "{failure:?}");
        let carried: Vec<_> = board.messages().cloned().collect();
        for _ in 0..2 {
            assert_eq!(cheated.advance(&drawn, carried.clone()).unwrap(), answers[1]);
        }
        // Who hears of it first from this server learns what all others dealt, and so whom else the secret convicts.
        let two = ShareIndex::new(2).unwrap();
        let mut asked = Board::new(drawn.context.clone());
        for message in &answers[1].messages {
            assert_ne!(message.index, two, "nothing of its own, as its acknowledgement would be");
            asked.accept(message.clone()).unwrap();
        }
        assert_eq!(asked.missing(Round::Dealing), [two]);
        // Without what it was found by.
        let file = rusqlite::Connection::open(cheated.folder.path().join("server.db")).unwrap();
        file.execute("DELETE FROM message", []).unwrap();
        drop(file);
        let answer = cheated.advance(&drawn, Vec::new()).unwrap();
        assert_eq!(answer, AdvanceResponse { messages: Vec::new(), ..answers[1].clone() });
        assert_eq!(answer.phase, Phase::Failed);
        assert!(cheated.store(9).shares(KEY).unwrap().is_empty());
    }

    #[test]
    fn after_a_complaint_its_one_time_key_is_used_under_no_other_committee() {
        let disks: Vec<Disk> = (0..5).map(|_| Disk::new()).collect();
        let first = drawn(&disks, [0, 1, 2, 3], 10);
        let before = disks[1].advance(&first, Vec::new()).unwrap();
        // The chain reorganises: another committee, with this server in the same seat, and so with the same one-time key.
        let second = drawn(&disks, [2, 1, 0, 3], 11);
        let (board, answers) = cheat([&disks[2], &disks[1], &disks[0], &disks[3]], &second, |it| it.shares[32] ^= 1);
        assert!(answers[1].complaint.is_some());
        let two = ShareIndex::new(2).unwrap();
        assert_eq!(board.message(Round::OneTimeKey, two), before.messages.first(), "one key for both");
        // Back to the first, and on to a third.
        for drawn in [first, drawn(&disks, [4, 1, 2, 3], 12)] {
            // Without what would remind it of what it said.
            let carried = board.messages().filter(|message| message.index != two).cloned();
            let answer = disks[1].advance(&drawn, carried.collect()).unwrap();
            assert_eq!((answer.phase, answer.complaint), (Phase::Failed, None));
            let mut own = answer.messages.iter().filter(|message| message.index == two);
            assert!(own.all(|message| message.round() == Round::OneTimeKey));
        }
    }

    #[test]
    fn a_dealing_that_anybody_can_judge_gets_no_secret_out_of_a_server() {
        let (disks, drawn) = committee();
        let disks = [&disks[0], &disks[1], &disks[2], &disks[3]];
        let (_, answers) = cheat(disks, &drawn, |it| {
            it.shares[32] ^= 1;
            it.proof_of_possession[255] ^= 1;
        });
        for (disk, answer) in disks.into_iter().zip(answers) {
            assert_eq!((answer.phase, answer.complaint), (Phase::Failed, None));
            assert_eq!(answer.failure.unwrap().culprit.map(ShareIndex::get), Some(4));
            assert_eq!(disk.store(9).ceremonies(KEY, 0).unwrap()[0].complaint, None);
        }
    }

    #[test]
    fn a_committee_that_is_killed_after_every_call_still_gets_its_key() {
        let (disks, drawn) = committee();
        let (board, answers) = run(&disks, &drawn, 6);
        assert!(answers.iter().all(|answer| answer.phase == Phase::Acknowledged && answer.waiting_for.is_empty()));
        assert!(board.missing(Round::Acknowledgement).is_empty());
        let group_key = Transcript::assemble(&board).unwrap().keys().group_key();
        let mut share_keys = BTreeSet::new();
        for disk in &disks {
            let store = disk.store(9);
            let shares = store.shares(KEY).unwrap();
            assert_eq!(shares.len(), 1);
            let share_key = stkr_core::PublicKey::from_compressed(&shares[0].share_key).unwrap();
            let keystore = stkr_core::keystore::Keystore::from_json(&shares[0].keystore).unwrap();
            disk.store_key.open_share(&keystore, shares[0].index, &share_key).unwrap();
            assert_eq!(shares[0].group_key, group_key.to_compressed());
            assert_eq!(store.ceremonies(KEY, 0).unwrap()[0].sealed, None, "the one-time secret is erased");
            share_keys.insert(shares[0].share_key);
        }
        assert_eq!(share_keys.len(), 4);
    }

    #[test]
    fn the_same_call_again_gets_the_same_messages_byte_for_byte() {
        let (disks, drawn) = committee();
        let first = disks[0].advance(&drawn, Vec::new()).unwrap();
        assert_eq!(disks[0].advance(&drawn, Vec::new()).unwrap(), first);
        run(&disks, &drawn, 6);
        let last = disks[0].advance(&drawn, Vec::new()).unwrap();
        assert_eq!(disks[0].advance(&drawn, Vec::new()).unwrap(), last);
        assert_eq!(last.messages.len(), 5);
    }

    #[test]
    fn a_server_with_a_lost_database_sits_out_and_says_so() {
        let (disks, drawn) = committee();
        disks[0].advance(&drawn, Vec::new()).unwrap();
        std::fs::remove_file(disks[0].folder.path().join("server.db")).unwrap();
        let born_late = disks[0].store(drawn.begun);
        drop(born_late);
        let answer = disks[0].advance(&drawn, Vec::new()).unwrap();
        assert!(answer.phase == Phase::Failed && answer.messages.is_empty());
        assert!(answer.failure.unwrap().reason.contains("database was created at block 10, or has had signer"));
        assert_eq!(disks[0].advance(&drawn, Vec::new()).unwrap().phase, Phase::Failed, "and stays out");
    }

    #[test]
    fn a_server_with_a_rolled_back_database_that_sees_its_own_later_message_sits_out() {
        let (disks, drawn) = committee();
        let mut twin = Disk::new();
        twin.signer = SignerKey::from_bytes(&disks[0].signer.to_bytes()).unwrap();
        let other = twin.advance(&drawn, Vec::new()).unwrap();
        disks[0].advance(&drawn, Vec::new()).unwrap();
        let answer = disks[0].advance(&drawn, other.messages).unwrap();
        assert_eq!(answer.phase, Phase::Failed);
    }

    #[test]
    fn after_a_reorg_before_the_dealing_the_one_time_key_is_the_same() {
        let (disks, first) = committee();
        let before = disks[0].advance(&first, Vec::new()).unwrap();
        let second = drawn(&disks, [0, 2, 1, 3], 11);
        assert_ne!(first.committee, second.committee);
        assert_eq!(disks[0].advance(&second, Vec::new()).unwrap().messages, before.messages, "same seat, same key");
        let moved = disks[1].advance(&second, Vec::new()).unwrap();
        assert_eq!(moved.messages[0].index.get(), 3);
        let (_, answers) = run(&disks, &second, 6);
        assert!(answers.iter().all(|answer| answer.phase == Phase::Acknowledged));
    }

    #[test]
    fn after_a_reorg_behind_the_dealing_the_same_seat_sits_out() {
        let (disks, first) = committee();
        run(&disks, &first, 2);
        let second = drawn(&disks, [0, 2, 1, 3], 11);
        let answer = disks[0].advance(&second, Vec::new()).unwrap();
        assert_eq!(answer.phase, Phase::Failed);
        assert!(answer.failure.unwrap().reason.contains("reorganised"));
    }

    /// What a challenge carries is all that comes: the dealings, in any order, from somebody that has nothing else.
    #[test]
    fn dealings_that_come_by_themselves_after_a_restart_are_acknowledged() {
        let (disks, drawn) = committee();
        let board = revealed(&disks, &drawn);
        let dealings: Vec<_> =
            drawn.context.threshold().indices().filter_map(|it| board.message(Round::Dealing, it).cloned()).collect();
        for (disk, cut) in disks.iter().zip(1..) {
            let (last, first) = (dealings[..cut].to_vec(), dealings[cut..].to_vec());
            let rotated = [last.as_slice(), first.as_slice()].concat().into_iter().rev();
            let answer = disk.advance(&drawn, rotated.collect()).unwrap();
            assert_eq!(answer.phase, Phase::Acknowledged);
        }
    }

    #[test]
    fn who_changes_its_signer_in_the_middle_silences_nobody_and_changes_nothing_that_is_signed() {
        let (mut disks, drawn) = committee();
        let board = revealed(&disks, &drawn);
        let messages: Vec<_> = board.messages().cloned().collect();
        // Member 4, and then this server itself: the key in its folder is still the old one.
        for seat in [3, 0] {
            let mut signers = drawn.context.signers();
            signers[seat] = Address::repeat_byte(0x77);
            let changed = Drawn { context: drawn.context.with_signers(&signers).unwrap(), ..drawn.clone() };
            let answer = disks[0].advance(&changed, messages.clone()).unwrap();
            assert_eq!(answer.phase, Phase::Acknowledged, "{:?}", answer.failure);
            let Some(SignedMessage { body: Body::Acknowledgement(said), .. }) = answer.messages.last() else {
                panic!("{:?}", answer.messages)
            };
            assert_eq!(said.committee_hash, drawn.context.committee_hash());
        }
        // Who hears of the ceremony only now goes by what the chain says now.
        disks[1] = Disk { folder: tempfile::tempdir().unwrap(), ..disks.remove(1) };
        let mut signers = drawn.context.signers();
        signers[3] = Address::repeat_byte(0x77);
        let changed = Drawn { context: drawn.context.with_signers(&signers).unwrap(), ..drawn };
        assert_eq!(
            disks[1].advance(&changed, messages).unwrap().phase,
            Phase::Failed,
            "its own messages are unknown to it"
        );
        assert_eq!(disks[1].store(9).ceremonies(KEY, 0).unwrap()[0].signers, signers);
    }

    #[test]
    fn who_changed_its_signer_ends_a_ceremony_with_the_old_key_begins_one_with_the_new_and_none_that_is_older() {
        let (disks, drawn) = committee();
        let messages: Vec<_> = revealed(&disks, &drawn).messages().cloned().collect();
        let new = SignerKey::random().unwrap().to_bytes();
        let key = || SignerKey::from_bytes(&new).unwrap();
        let old = || SignerKey::from_bytes(&disks[0].signer.to_bytes()).unwrap();
        let advance = |keys: Vec<SignerKey>, drawn: &Drawn, messages| {
            let (store, sealer) = (disks[0].store(9), Sealer::new(&disks[0].store_key));
            let signers = SignerKeys::new(keys, Some(1));
            let it = Ceremonies { store: &store, signers: &signers, sealer: &sealer, store_key: &disks[0].store_key };
            it.advance(drawn, messages)
        };
        // The registry names the new one; it came to this database at block 20.
        disks[0].store(9).own_signer(key().address(), 20).unwrap();
        let mut signers = drawn.context.signers();
        signers[0] = key().address();
        let renamed = drawn.context.with_signers(&signers).unwrap();
        let missing = advance(vec![key()], &Drawn { context: renamed.clone(), ..drawn.clone() }, messages.clone());
        let expected = disks[0].signer.address();
        assert!(matches!(missing, Err(CeremonyError::NoSignerKey { signer, .. }) if signer == expected), "{missing:?}");
        let answer = advance(vec![key(), old()], &Drawn { context: renamed, ..drawn.clone() }, messages).unwrap();
        assert_eq!(answer.phase, Phase::Acknowledged, "{:?}", answer.failure);
        let by = |message: &SignedMessage| message.recover(drawn.context.domain()).unwrap();
        assert!(answer.messages.iter().all(|message| by(message) == expected));

        // The next ones: of before it came here, and of after.
        let (domain, threshold) = (*drawn.context.domain(), drawn.context.threshold());
        for (attempt, begun, speaks) in [(1, 20, false), (2, 21, true)] {
            let members = drawn.context.with_signers(&signers).unwrap().members().to_vec();
            let context = Context::new(domain, KEY, attempt, threshold, members).unwrap();
            let next = Drawn { committee: context.committee_hash(), context, begun };
            // The old key alone has no say in it, and the seat is this server's all the same.
            let alone = advance(vec![old()], &next, Vec::new());
            assert!(matches!(alone, Err(CeremonyError::NoSignerKey { .. })), "{alone:?}");
            let answer = advance(vec![old(), key()], &next, Vec::new()).unwrap();
            assert_eq!(answer.messages.iter().map(by).collect::<Vec<_>>(), vec![key().address(); usize::from(speaks)]);
            assert_eq!(answer.phase == Phase::Failed, !speaks, "{:?}", answer.failure);
        }
    }

    #[test]
    fn a_server_that_gave_a_ceremony_up_shows_whoever_asks_what_it_saw() {
        let (disks, drawn) = committee();
        let board = revealed(&disks, &drawn);
        let three = ShareIndex::new(3).unwrap();
        let body =
            Body::OneTimeKey(OneTimeKeyBody { public_key: OneTimeSecret::random().unwrap().public_key().to_vec() });
        let second = SignedMessage::sign(drawn.context.domain(), &disks[2].signer, (KEY, 0, three), body);
        // Shown to this server alone.
        assert_eq!(disks[0].advance(&drawn, vec![second.clone()]).unwrap().phase, Phase::Failed);
        let answer = disks[0].advance(&drawn, Vec::new()).unwrap();
        let mut asked = Board::new(drawn.context.clone());
        for message in answer.messages {
            asked.accept(message).unwrap();
        }
        let (culprit, shown) = asked.equivocation().unwrap();
        assert_eq!((culprit, &shown.second), (three, &second));
        assert_eq!(shown.first, *board.message(Round::OneTimeKey, three).unwrap());
        let own = asked.message(Round::Dealing, ShareIndex::new(1).unwrap());
        assert_eq!(own, None, "its dealing is not shown any more, and not by this way either");
        assert_eq!(disks[1].advance(&drawn, Vec::new()).unwrap().messages.len(), 4, "others show their own only");
    }

    #[test]
    fn a_server_outside_the_committee_says_nothing() {
        let (_, drawn) = committee();
        let outsider = Disk::new();
        assert!(matches!(outsider.advance(&drawn, Vec::new()), Err(CeremonyError::NotMember { key_id: KEY, .. })));
    }

    #[test]
    fn neither_one_time_secret_nor_share_lies_in_the_database_in_the_open() {
        let (disks, drawn) = committee();
        let disk = &disks[0];
        disk.advance(&drawn, Vec::new()).unwrap();
        let sealed = disk.store(9).ceremonies(KEY, 0).unwrap()[0].sealed.clone().unwrap();
        let secret = Sealer::new(&disk.store_key).open(KEY, 0, &sealed).unwrap();
        let planted = secret.to_bytes();
        run(&disks, &drawn, 6);
        let store = disk.store(9);
        let row = store.shares(KEY).unwrap().remove(0);
        drop(store);
        let share_key = stkr_core::PublicKey::from_compressed(&row.share_key).unwrap();
        let keystore = stkr_core::keystore::Keystore::from_json(&row.keystore).unwrap();
        let share = disk.store_key.open_share(&keystore, row.index, &share_key).unwrap();
        let file = std::fs::read(disk.folder.path().join("server.db")).unwrap();
        for secret in [planted, share.to_bytes()] {
            let text = hex::encode(secret.as_slice());
            assert!(!file.windows(32).any(|window| window == secret.as_slice()));
            assert!(!file.windows(64).any(|window| window.eq_ignore_ascii_case(text.as_bytes())));
        }
    }
}
