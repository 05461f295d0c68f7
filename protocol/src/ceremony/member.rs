//! One server's part in a ceremony.

use alloy_primitives::Address;
use stkr_core::{
    ShareIndex,
    dkg::{self, Dealing, DealingFault, DkgError, OneTimeKeyError, OneTimeSecret, Outcome},
};
use thiserror::Error;

use super::{Accepted, Board, Context, Failure, Fault, Phase, Rejected, hash_of_hashes};
use crate::{
    ProtocolDomain, SignerKey,
    evidence::{Accused, EvidenceFile, OpenedDealing, Proof, SignedDealing},
    messages::{Body, DealingBody, DealingCommitmentBody, OneTimeKeyBody, Round, SignedMessage},
};

/// What a step made.
#[derive(Debug, Default)]
pub struct Step {
    /// Messages that this server has signed now. Store them all before anything is sent; the dealing among them
    /// stays unseen until [`Member::published`] shows it.
    pub new_messages: Vec<SignedMessage>,
    /// The share and the keys, with the acknowledgement among the messages: store them in one transaction. The one-time
    /// secret is erased already; delete the stored one in the same transaction.
    pub outcome: Option<Outcome>,
}

/// A step that could not be made. The ceremony itself goes on once the cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StepError {
    /// The key given is not the one under which the chain knows this member.
    #[error("the signer key is {given}, but the chain names {expected} for this member")]
    WrongSignerKey {
        /// Address of the key given.
        given: Address,
        /// Address the chain names.
        expected: Address,
    },
    /// This server's own dealing could not be made.
    #[error("this server could not make its dealing: {0}")]
    Deal(DkgError),
}

/// A member's state: what it has seen, what it has said, and its one-time secret until it has its share.
pub struct Member {
    pub(super) board: Board,
    me: ShareIndex,
    pub(super) secret: Option<OneTimeSecret>,
    failure: Option<Failure>,
    complaint: Option<OpenedDealing>,
}

impl Member {
    /// Takes part in a ceremony for the first time. Store `secret` (encrypted) before the first step.
    #[must_use]
    pub const fn start(context: Context, me: ShareIndex, secret: OneTimeSecret) -> Self {
        Self { board: Board::new(context), me, secret: Some(secret), failure: None, complaint: None }
    }

    /// Takes up a ceremony after a restart, from the one-time secret and all stored messages, in the order in which
    /// they were stored (of two that contradict each other, the first counts).
    ///
    /// If own messages are there but what made them is not, the member sits the ceremony out
    /// ([`Fault::LostState`]): made again, they could differ from those that others have seen. Stored sets and acknowledgements that
    /// name another committee count for nothing: earlier versions took them for messages of this ceremony.
    ///
    /// # Errors
    /// [`Rejected`] if a stored message does not belong to this ceremony: the database mixes ceremonies.
    pub fn resume(
        context: Context,
        me: ShareIndex,
        secret: Option<OneTimeSecret>,
        stored: impl IntoIterator<Item = SignedMessage>,
    ) -> Result<Self, Rejected> {
        let mut member = Self { board: Board::new(context), me, secret, failure: None, complaint: None };
        for message in stored {
            match member.board.accept(message) {
                Ok(_) | Err(Rejected::OtherCommittee { .. }) => {}
                Err(rejected) => return Err(rejected),
            }
        }
        if member.has_own(Round::Acknowledgement) {
            member.secret = None;
        } else if !member.own_state_is_whole() {
            member.sit_out();
        }
        member.judge();
        Ok(member)
    }

    /// Takes a message from anywhere, of any round, in any order; then look at [`Member::failure`] and call
    /// [`Member::step`].
    ///
    /// # Errors
    /// [`Rejected`]: the message is not authentic and had no effect.
    pub fn accept(&mut self, message: SignedMessage) -> Result<Accepted, Rejected> {
        let own = message.index == self.me;
        let accepted = self.board.accept(message)?;
        // Our signature under something we do not remember: another instance of us, or a database that lost it.
        if own && accepted == Accepted::New {
            self.sit_out();
        }
        self.judge();
        Ok(accepted)
    }

    /// Does all that can be done now, several rounds at once if the messages are there.
    ///
    /// # Warning
    /// If what it returns cannot be stored, drop this member and [`Member::resume`] from what was: this one has signed
    /// messages that a restart would not know.
    ///
    /// # Errors
    /// [`StepError`]. A bad message of another member is no error but a [`Member::failure`].
    pub fn step(&mut self, key: &SignerKey) -> Result<Step, StepError> {
        let expected = self.board.context().member(self.me).map_or(Address::ZERO, |member| member.signer);
        if key.address() != expected {
            return Err(StepError::WrongSignerKey { given: key.address(), expected });
        }
        let mut step = Step::default();
        self.publish_one_time_key(key, &mut step);
        match self.deal(key, &mut step) {
            // What is signed already must reach the caller's store; the next step tries again.
            Err(error) if step.new_messages.is_empty() => return Err(error),
            Err(_) => return Ok(step),
            Ok(()) => {}
        }
        self.sign_commitment_set(key, &mut step);
        self.finish(key, &mut step);
        Ok(step)
    }

    /// Own messages that may be sent now: everything but the dealing, and the dealing too once all members signed one set.
    ///
    /// # Warning
    /// Send these and never what lies in the database. Whoever sees a dealing before it committed to its own chooses
    /// the key.
    #[must_use]
    pub fn published(&self) -> Vec<&SignedMessage> {
        let may_reveal = self.may_reveal();
        Round::ALL
            .into_iter()
            .filter(|round| *round != Round::Dealing || may_reveal)
            .filter_map(|round| self.board.message(round, self.me))
            .collect()
    }

    /// What this member tells whoever asks: its own messages, and once the ceremony failed for it also all that others said.
    ///
    /// Whoever carries messages chooses what each member sees. A member that was shown an equivocation or a bad dealing which
    /// nobody else was shown gives no acknowledgement; if it kept the reason to itself, its silence would convict it.
    #[must_use]
    pub fn told(&self) -> Vec<&SignedMessage> {
        let mut told = self.published();
        if self.failure.is_some() {
            // Never an own message that is not published: among them is the dealing.
            told.extend(self.board.messages().filter(|message| message.index != self.me));
        }
        told
    }

    /// Where this member stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let complete = |round| self.board.is_complete(round);
        if self.failure.is_some() {
            Phase::Failed
        } else if self.has_own(Round::Acknowledgement) {
            Phase::Acknowledged
        } else if !complete(Round::OneTimeKey) {
            Phase::OneTimeKey
        } else if !complete(Round::DealingCommitment) {
            Phase::Commitment
        } else if !complete(Round::CommitmentSet) {
            Phase::CommitmentSet
        } else {
            Phase::Dealing
        }
    }

    /// Members whose message of the current phase is missing; after the own acknowledgement, whose acknowledgement is.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<ShareIndex> {
        match self.phase() {
            Phase::OneTimeKey => self.board.missing(Round::OneTimeKey),
            Phase::Commitment => self.board.missing(Round::DealingCommitment),
            Phase::CommitmentSet => self.board.missing(Round::CommitmentSet),
            Phase::Dealing => self.board.missing(Round::Dealing),
            Phase::Acknowledged => self.board.missing(Round::Acknowledgement),
            Phase::Failed => Vec::new(),
        }
    }

    /// Why the ceremony failed for this member, if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Proof for the Court that a dealer sent this member a wrong share, with this member's one-time secret in it.
    ///
    /// # Warning
    /// Show it only when it is stored that this member acknowledges nothing in this attempt any more, whatever comes, and uses
    /// the one-time key nowhere else. Then the secret opens shares of a key that will never be.
    #[must_use]
    pub const fn complaint(&self) -> Option<&OpenedDealing> {
        self.complaint.as_ref()
    }

    /// The ceremony.
    #[must_use]
    pub const fn context(&self) -> &Context {
        self.board.context()
    }

    /// Own share index.
    #[must_use]
    pub const fn me(&self) -> ShareIndex {
        self.me
    }

    fn has_own(&self, round: Round) -> bool {
        self.board.has(round, self.me)
    }

    /// Whether an own message of this round is due.
    fn is_due(&self, round: Round) -> bool {
        self.failure.is_none() && self.secret.is_some() && !self.has_own(round)
    }

    fn publish_one_time_key(&mut self, key: &SignerKey, step: &mut Step) {
        if !self.is_due(Round::OneTimeKey) {
            return;
        }
        if let Some(secret) = &self.secret {
            let public_key = secret.public_key().to_vec();
            self.post(key, Body::OneTimeKey(OneTimeKeyBody { public_key }), step);
        }
    }

    /// The dealing is on the board and in the step, to be stored with the commitment, but not yet published.
    fn deal(&mut self, key: &SignerKey, step: &mut Step) -> Result<(), StepError> {
        let keys: Option<Vec<_>> = self.board.indices().map(|index| self.board.one_time_key(index)).collect();
        let (Some(keys), Some(one_time_keys_hash), Some(secret)) =
            (keys, self.board.one_time_keys_hash(), &self.secret)
        else {
            return Ok(());
        };
        if !self.is_due(Round::DealingCommitment) {
            return Ok(());
        }
        let context = self.board.context();
        let dealing = dkg::deal(&context.ceremony_domain(), context.threshold(), self.me, secret, &keys)
            .map_err(StepError::Deal)?;
        let body = DealingBody {
            one_time_keys_hash,
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
            shares: dealing.shares_to_wire(),
        };
        self.post(key, Body::Dealing(body), step);
        if let Some((_, dealing_hash)) = self.board.dealing(self.me) {
            self.post(key, Body::DealingCommitment(DealingCommitmentBody { dealing_hash }), step);
        }
        Ok(())
    }

    fn sign_commitment_set(&mut self, key: &SignerKey, step: &mut Step) {
        if !self.is_due(Round::CommitmentSet) {
            return;
        }
        if let Some(set) = self.board.commitment_set() {
            self.post(key, Body::CommitmentSet(set), step);
            self.judge();
        }
    }

    fn finish(&mut self, key: &SignerKey, step: &mut Step) {
        if !self.is_due(Round::Acknowledgement) || !self.may_reveal() || !self.board.is_complete(Round::Dealing) {
            return;
        }
        self.judge_recipients();
        if self.failure.is_some() {
            return;
        }
        match self.open_dealings() {
            Ok(outcome) => {
                let digest =
                    hash_of_hashes(self.board.indices().filter_map(|dealer| Some(self.board.dealing(dealer)?.1)));
                let body = self.board.context().acknowledgement(&outcome.keys, digest);
                self.post(key, Body::Acknowledgement(body), step);
                step.outcome = Some(outcome);
                self.secret = None;
                self.judge();
            }
            Err(DkgError::Dealer { dealer, fault }) => {
                self.complaint = self.complain(dealer, fault);
                self.blame(dealer, Fault::Dealing(fault), &[Round::Dealing]);
            }
            Err(error) => {
                self.failure = Some(Failure { culprit: None, fault: Fault::NoKey(error), evidence: Vec::new() })
            }
        }
    }

    /// Opens the share that `dealer` sent to this member, if nothing but that share is wrong.
    ///
    /// The secret opens all that was ever sent to this one-time key. So it is given away only where a Court that knows no more
    /// than is in the complaint convicts: a relayer that made anything up, or keys that members do not agree on, get nothing.
    fn complain(&self, dealer: ShareIndex, fault: DealingFault) -> Option<OpenedDealing> {
        match fault {
            DealingFault::ShareMismatch { recipient } | DealingFault::ShareOutOfRange { recipient }
                if recipient == self.me => {}
            _ => return None,
        }
        let context = self.board.context();
        let complaint = OpenedDealing {
            dealing: SignedDealing::of(self.board.message(Round::Dealing, dealer)?)?,
            one_time_keys: self.board.one_time_keys()?,
            recipient: self.me.get(),
            secret: *self.secret.as_ref()?.to_bytes(),
        };
        let convicted = convicts(&complaint, context.domain())?;
        (convicted == context.member(dealer)?.signer).then_some(complaint)
    }

    /// Decodes and checks all dealings in index order; the first bad one names its dealer.
    fn open_dealings(&self) -> Result<Outcome, DkgError> {
        let context = self.board.context();
        let secret = self.secret.as_ref().ok_or(DkgError::ForeignSecret(self.me))?;
        let dealings: Vec<Dealing> = self
            .board
            .indices()
            .map(|dealer| checked_dealing(&self.board, dealer).map_err(|fault| DkgError::Dealer { dealer, fault }))
            .collect::<Result<_, _>>()?;
        dkg::finish(&context.ceremony_domain(), context.threshold(), self.me, secret, &dealings)
    }

    fn post(&mut self, key: &SignerKey, body: Body, step: &mut Step) {
        let context = self.board.context();
        let sender = (context.key_id(), context.attempt(), self.me);
        let message = SignedMessage::sign(context.domain(), key, sender, body);
        // Authentic by construction, and first of its round: `is_due` asked.
        if self.board.accept(message.clone()) == Ok(Accepted::New) {
            step.new_messages.push(message);
        }
    }

    /// All n sets are there, all equal, and nobody is known to have cheated before our own acknowledgement.
    fn may_reveal(&self) -> bool {
        let Some(ours) = self.board.commitment_set() else {
            return false;
        };
        let agreed = self.board.indices().all(|index| self.board.set(index) == Some(ours));
        agreed && (self.failure.is_none() || self.has_own(Round::Acknowledgement))
    }

    /// Looks for a reason to end the ceremony. A failure stays, except that proof of who cheated replaces the finding
    /// that somebody must have.
    fn judge(&mut self) {
        if self.has_own(Round::Acknowledgement) {
            // The share is safe and the acknowledgement out: later cheating cannot change this transcript.
            self.judge_acknowledgements();
            return;
        }
        let provisional =
            matches!(&self.failure, Some(Failure { fault: Fault::SetsDiffer | Fault::RecipientsDiffer(_), .. }));
        if self.failure.is_some() && !provisional {
            return;
        }
        if let Some((culprit, equivocation)) = self.board.equivocation() {
            let fault = Fault::Equivocation(equivocation.first.round());
            let evidence = vec![equivocation.first.clone(), equivocation.second.clone()];
            self.failure = Some(Failure { culprit: Some(culprit), fault, evidence });
            return;
        }
        if provisional {
            return;
        }
        self.judge_one_time_keys();
        self.judge_reveals();
        self.judge_sets();
    }

    fn judge_one_time_keys(&mut self) {
        for index in self.board.indices().filter(|index| self.board.has(Round::OneTimeKey, *index)) {
            let check = self.board.one_time_key(index).ok_or(OneTimeKeyError::Malformed);
            if let Err(error) = check.and_then(|key| dkg::check_one_time_key(&key)) {
                return self.blame(index, Fault::OneTimeKey(error), &[Round::OneTimeKey]);
            }
        }
    }

    fn judge_reveals(&mut self) {
        let broken = self.board.indices().find(|index| {
            let (committed, dealt) = (self.board.committed(*index), self.board.dealing(*index));
            matches!((committed, dealt), (Some(committed), Some((_, dealt))) if committed != dealt)
        });
        if let Some(dealer) = broken {
            self.blame(dealer, Fault::BrokenCommitment, &[Round::DealingCommitment, Round::Dealing]);
        }
    }

    fn judge_sets(&mut self) {
        let Some(ours) = self.board.set(self.me) else {
            return;
        };
        let other = self.board.indices().find(|index| self.board.set(*index).is_some_and(|theirs| theirs != ours));
        if let Some(other) = other {
            self.blame(other, Fault::SetsDiffer, &[Round::CommitmentSet]);
        }
    }

    /// That every dealing was encrypted to the keys that this member holds. Nobody is named where one was not: the dealer made
    /// it up, or somebody showed it another key than it showed us.
    fn judge_recipients(&mut self) {
        let ours = self.board.one_time_keys_hash();
        let other = self
            .board
            .indices()
            .find(|index| self.board.dealing(*index).is_some_and(|(body, _)| Some(body.one_time_keys_hash) != ours));
        if let Some(other) = other {
            let evidence = self.board.message(Round::Dealing, other).cloned().into_iter().collect();
            self.failure = Some(Failure { culprit: None, fault: Fault::RecipientsDiffer(other), evidence });
        }
    }

    fn judge_acknowledgements(&mut self) {
        let body = |index| self.board.message(Round::Acknowledgement, index).map(|message| &message.body);
        let ours = body(self.me);
        let other = self.board.indices().find(|index| body(*index).is_some_and(|theirs| Some(theirs) != ours));
        if let Some(other) = other {
            self.blame(other, Fault::AcknowledgementDiffers, &[Round::Acknowledgement]);
        }
    }

    /// Ends the ceremony, unless it ended already.
    fn blame(&mut self, culprit: ShareIndex, fault: Fault, rounds: &[Round]) {
        if self.failure.is_none() {
            let evidence = rounds.iter().filter_map(|round| self.board.message(*round, culprit)).cloned().collect();
            self.failure = Some(Failure { culprit: Some(culprit), fault, evidence });
        }
    }

    fn sit_out(&mut self) {
        self.failure = Some(Failure { culprit: Some(self.me), fault: Fault::LostState, evidence: Vec::new() });
    }

    /// Whether the one-time secret and the own messages are what one unbroken history leaves behind.
    fn own_state_is_whole(&self) -> bool {
        let Some(secret) = &self.secret else {
            return false;
        };
        let has = |round| self.has_own(round);
        let key_matches = !has(Round::OneTimeKey) || self.board.one_time_key(self.me) == Some(secret.public_key());
        let dealing_matches = self.board.committed(self.me) == self.board.dealing(self.me).map(|(_, hash)| hash);
        let in_order = (has(Round::OneTimeKey) || !has(Round::DealingCommitment))
            && (has(Round::DealingCommitment) || !has(Round::CommitmentSet));
        key_matches && dealing_matches && in_order
    }
}

/// Whose signer the Court would convict for this complaint.
fn convicts(complaint: &OpenedDealing, domain: &ProtocolDomain) -> Option<Address> {
    let file = EvidenceFile::new(domain, Address::ZERO, Proof::BadDealing(complaint.clone()));
    match file.verify().ok()?.accused {
        Accused::Signer(signer) => Some(signer),
        _ => None,
    }
}

/// A posted dealing, decoded and checked as anybody can.
pub(super) fn checked_dealing(board: &Board, dealer: ShareIndex) -> Result<Dealing, DealingFault> {
    let missing = DealingFault::OneTimeKeyDiffers;
    let (body, _) = board.dealing(dealer).ok_or(missing)?;
    let dealing = Dealing::from_wire(&body.one_time_key, &body.commitments, &body.proof_of_possession, &body.shares)?;
    // Who has no one-time key messages (a checker) holds the dealing to its own key, which the dealer signed too.
    let published = board.one_time_key(dealer).unwrap_or(dealing.one_time_key);
    let context = board.context();
    dealing.check(&context.ceremony_domain(), context.threshold(), dealer, &published)?;
    Ok(dealing)
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("me", &self.me.get())
            .field("phase", &self.phase())
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}
