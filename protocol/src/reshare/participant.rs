//! One server's part in a reshare: as a dealer, as a new member, or as both.

use std::fmt;

use alloy_primitives::{Address, keccak256};
use stkr_core::{
    SecretShare, ShareIndex,
    dkg::DealingFault,
    reshare::{Dealing, Outcome, RecipientSecrets, ReshareError},
};
use thiserror::Error;

use super::{
    Accepted, Board, Body, Failure, Fault, Phase, Plan, Rejected, ReshareDealingBody, ReshareKeysBody, ReshareMessage,
    Round, Sender,
    evidence::{OpenedReshareDealing, Proof, ReshareEvidence},
};
use crate::SignerKey;

/// What a step made. Store all of it in one transaction before anything is sent.
#[derive(Debug, Default)]
pub struct Step {
    /// Messages that this server has signed now.
    pub new_messages: Vec<ReshareMessage>,
    /// The share and the keys, with the acknowledgement among the messages. Delete the stored one-time secrets in the same
    /// transaction.
    pub outcome: Option<Outcome>,
    /// A complaint that the Court's rules uphold, with a one-time secret in it. Store it and delete *all* one-time secrets in the
    /// same transaction; show it only then. From there on this server acknowledges nothing in this attempt, whatever comes.
    pub complaint: Option<OpenedReshareDealing>,
}

/// What a server's database holds of one attempt.
#[derive(Debug, Default)]
pub struct Stored {
    /// Its one-time secrets, if it is a new member and has neither acknowledged nor complained.
    pub secrets: Option<RecipientSecrets>,
    /// All messages, in the order in which they were stored: of two that contradict each other, the first counts.
    pub messages: Vec<ReshareMessage>,
    /// The complaint that it made.
    pub complaint: Option<OpenedReshareDealing>,
}

/// A step that could not be made. The reshare itself goes on once the cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StepError {
    /// None of the keys given is the one under which the chain knows this seat.
    #[error("none of this server's signer keys is {expected}, which the chain names for {sender}")]
    NoSignerKey {
        /// The seat.
        sender: Sender,
        /// Address the chain names.
        expected: Address,
    },
    /// This server deals, and its share was not given.
    #[error("this server deals as old member {}, but its share of that committee is not at hand", .0.get())]
    NoShare(ShareIndex),
    /// This server's own dealing could not be made.
    #[error("this server could not make its dealing: {0}")]
    Deal(ReshareError),
}

/// What a server lends to one step.
#[derive(Clone, Copy, Debug)]
pub struct Hands<'a> {
    /// Its signer keys: one, or two if it changed its signer since the old committee was made.
    pub keys: &'a [SignerKey],
    /// Its share of the old committee, if it deals.
    pub share: Option<&'a SecretShare>,
    /// Unix seconds.
    pub now: u64,
}

/// A server's state: what it has seen, what it has said, and its one-time secrets until it has its share.
pub struct Participant {
    pub(super) board: Board,
    dealer: Option<ShareIndex>,
    member: Option<ShareIndex>,
    pub(super) secrets: Option<RecipientSecrets>,
    failure: Option<Failure>,
}

impl Participant {
    /// Takes part, from what the database holds. A new member that begins has fresh secrets in it, stored already, and nothing else.
    ///
    /// Who lacks what its own messages need sits the attempt out ([`Fault::LostState`]): made again, they could differ from
    /// those that others have seen. So does who has complained ([`Fault::Complained`]).
    ///
    /// # Errors
    /// [`Rejected`] if a stored message does not belong to this reshare: the database mixes reshares.
    pub fn new(plan: Plan, server_id: u32, stored: Stored) -> Result<Self, Rejected> {
        let (dealer, member) = (plan.dealer_of(server_id), plan.member_of(server_id));
        let Stored { secrets, messages, complaint } = stored;
        let mut it = Self { board: Board::new(plan), dealer, member, secrets, failure: None };
        for message in messages {
            it.board.accept(message)?;
        }
        if let Some(complaint) = complaint {
            it.complained(&complaint);
        } else if it.has_acknowledged() {
            it.secrets = None;
        } else if !it.own_state_is_whole() {
            it.sit_out();
        }
        it.judge();
        Ok(it)
    }

    /// Takes a message from anywhere, of any round, in any order; then look at [`Participant::failure`] and call
    /// [`Participant::step`].
    ///
    /// # Errors
    /// [`Rejected`]: the message is not authentic and had no effect.
    pub fn accept(&mut self, message: ReshareMessage) -> Result<Accepted, Rejected> {
        let own = self.is_own(message.sender());
        let accepted = self.board.accept(message)?;
        // Our signature under something we do not remember: another instance of us, or a database that lost it.
        if own && accepted == Accepted::New {
            self.sit_out();
        }
        self.judge();
        Ok(accepted)
    }

    /// Does all that can be done now, several rounds at once if the messages are there. Past the deadline it does nothing: no
    /// key comes of the attempt, and every dealing more would be shares of a live key for nothing.
    ///
    /// # Warning
    /// If what it returns cannot be stored, drop this participant and make it [anew](Participant::new) from what was: this one has
    /// signed messages that a restart would not know.
    ///
    /// # Errors
    /// [`StepError`]. A bad message of somebody else is no error but a [`Participant::failure`].
    pub fn step(&mut self, hands: Hands<'_>) -> Result<Step, StepError> {
        let mut step = Step::default();
        if hands.now > self.plan().deadline() {
            return Ok(step);
        }
        self.publish_keys(hands, &mut step)?;
        // Before the own dealing: whoever sees a bad one gives no share of a live key for an attempt that has ended.
        self.judge_dealings(&mut step);
        match self.deal(hands, &mut step) {
            // What is signed already must reach the caller's store; the next step tries again.
            Err(error) if step.new_messages.is_empty() => return Err(error),
            Err(_) => return Ok(step),
            Ok(()) => {}
        }
        self.finish(hands, &mut step)?;
        Ok(step)
    }

    /// Own messages that may be sent now. The dealing not once the attempt failed for this server: it gives shares of a live key.
    #[must_use]
    pub fn published(&self) -> Vec<&ReshareMessage> {
        let may_deal = self.failure.is_none() || self.has_acknowledged();
        let own = self.board.messages().filter(|message| self.is_own(message.sender()));
        own.filter(|message| may_deal || message.round() != Round::Dealing).collect()
    }

    /// What this server tells whoever asks: its own messages, and once the attempt failed for it also all that others said. If it
    /// kept the reason to itself, its silence would convict it.
    #[must_use]
    pub fn told(&self) -> Vec<&ReshareMessage> {
        let mut told = self.published();
        if self.failure.is_some() {
            told.extend(self.board.messages().filter(|message| !self.is_own(message.sender())));
        }
        told
    }

    /// Where this server stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        let dealt = self.dealer.is_none_or(|index| self.board.has(Round::Dealing, Sender::Dealer(index)));
        let acknowledged = self.member.is_none() || self.has_acknowledged();
        if self.failure.is_some() {
            Phase::Failed
        } else if dealt && acknowledged {
            Phase::Done
        } else if !self.board.missing(Round::Keys).is_empty() {
            Phase::Keys
        } else {
            Phase::Dealings
        }
    }

    /// Whose message of the current phase is missing; after the own part is done, whose acknowledgement is.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<Sender> {
        match self.phase() {
            Phase::Keys => self.board.missing(Round::Keys),
            Phase::Dealings => self.board.missing(Round::Dealing),
            Phase::Done => self.board.missing(Round::Acknowledgement),
            Phase::Failed => Vec::new(),
        }
    }

    /// Why the attempt failed for this server, if it did.
    #[must_use]
    pub const fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The reshare.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        self.board.plan()
    }

    /// What it holds.
    #[must_use]
    pub const fn board(&self) -> &Board {
        &self.board
    }

    fn is_own(&self, sender: Sender) -> bool {
        match sender {
            Sender::Dealer(index) => self.dealer == Some(index),
            Sender::Member(index) => self.member == Some(index),
        }
    }

    fn has_own(&self, round: Round) -> bool {
        let sender = match round {
            Round::Dealing => self.dealer.map(Sender::Dealer),
            Round::Keys | Round::Acknowledgement => self.member.map(Sender::Member),
        };
        sender.is_some_and(|sender| self.board.has(round, sender))
    }

    fn has_acknowledged(&self) -> bool {
        self.has_own(Round::Acknowledgement)
    }

    fn publish_keys(&mut self, hands: Hands<'_>, step: &mut Step) -> Result<(), StepError> {
        let (Some(me), Some(secrets)) = (self.member, &self.secrets) else { return Ok(()) };
        if self.failure.is_some() || self.has_own(Round::Keys) {
            return Ok(());
        }
        let public_keys = secrets.public_keys().as_flattened().to_vec();
        self.post(hands, Sender::Member(me), Body::Keys(ReshareKeysBody { public_keys }), step)
    }

    fn deal(&mut self, hands: Hands<'_>, step: &mut Step) -> Result<(), StepError> {
        let (Some(me), Some(published)) = (self.dealer, self.board.published()) else { return Ok(()) };
        if self.failure.is_some() || self.has_own(Round::Dealing) {
            return Ok(());
        }
        let share = hands.share.ok_or(StepError::NoShare(me))?;
        let reshare = self.plan().reshare();
        // Of another seat, key or epoch: the core compares its public key with what the chain says of a dealer.
        if share.index() != me {
            return Err(StepError::Deal(ReshareError::OtherShare(share.index())));
        }
        let dealing = reshare.deal(share, &published).map_err(StepError::Deal)?;
        let body = ReshareDealingBody {
            recipient_keys_hash: keccak256(reshare.keys_for(me, &published).as_flattened()),
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            shares: dealing.shares_to_wire(),
        };
        self.post(hands, Sender::Dealer(me), Body::Dealing(body), step)
    }

    fn finish(&mut self, hands: Hands<'_>, step: &mut Step) -> Result<(), StepError> {
        let (Some(me), Some(published)) = (self.member, self.board.published()) else { return Ok(()) };
        let due = self.failure.is_none() && self.secrets.is_some() && !self.has_acknowledged();
        let Some(digest) = self.board.dealings_digest().filter(|_| due) else { return Ok(()) };
        match self.add_up(me, &published) {
            Ok(outcome) => {
                let body = self.plan().acknowledgement(&outcome.keys, digest);
                self.post(hands, Sender::Member(me), Body::Acknowledgement(body), step)?;
                step.outcome = Some(outcome);
                self.secrets = None;
                self.judge();
            }
            Err(error) => {
                self.failure = Some(Failure { culprit: None, fault: Fault::NoShare(error), evidence: Vec::new() });
            }
        }
        Ok(())
    }

    /// Checks all dealings that are there as anybody can, and opens the share that each has for this member.
    fn judge_dealings(&mut self, step: &mut Step) {
        // Without the keys of all new members nobody knows for whom a dealing was made.
        if self.has_acknowledged() || self.board.published().is_none() {
            return;
        }
        for dealer in self.plan().dealers().to_vec() {
            if self.failure.is_some() {
                return;
            }
            let Some(checked) = self.board.checked_dealing(dealer) else { continue };
            if let Err(fault) = checked.and_then(|dealing| self.open(dealer, &dealing)) {
                self.blame_dealing(dealer, fault, step);
            } else {
                self.judge_recipients(dealer);
            }
        }
    }

    /// Whether this server gets what the dealer has committed to; if it is no new member it gets nothing.
    fn open(&self, dealer: ShareIndex, dealing: &Dealing) -> Result<(), DealingFault> {
        let secret = self.secrets.as_ref().and_then(|secrets| secrets.for_dealer(dealer));
        let (Some(me), Some(secret)) = (self.member, secret) else { return Ok(()) };
        // For other keys the share is noise, and nobody is to blame for it yet.
        if !self.is_for_our_keys(dealer) {
            return Ok(());
        }
        dealing.open(self.plan().reshare().domain(), dealer, me, secret).map(drop)
    }

    fn blame_dealing(&mut self, dealer: ShareIndex, fault: DealingFault, step: &mut Step) {
        step.complaint = self.complain(dealer, fault);
        if step.complaint.is_some() {
            self.secrets = None;
        }
        self.blame(Sender::Dealer(dealer), Fault::Dealing(fault), Round::Dealing);
    }

    fn add_up(&self, me: ShareIndex, published: &[Vec<[u8; 33]>]) -> Result<Outcome, ReshareError> {
        let (Some(secrets), Some(own)) = (&self.secrets, published.get(me.position())) else {
            return Err(ReshareError::ForeignSecrets(me));
        };
        self.plan().reshare().finish(me, secrets, own, &self.board.dealings()?)
    }

    /// Opens the share that `dealer` sent to this member, if nothing but that share is wrong.
    ///
    /// The secret given away is the one for this dealer, so it opens nothing but what this dealer sent here. Still it is given away
    /// only where a Court that knows no more than is in the complaint convicts.
    fn complain(&self, dealer: ShareIndex, fault: DealingFault) -> Option<OpenedReshareDealing> {
        let me = self.member?;
        match fault {
            DealingFault::ShareMismatch { recipient } | DealingFault::ShareOutOfRange { recipient }
                if recipient == me => {}
            _ => return None,
        }
        let complaint = OpenedReshareDealing {
            dealing: self.board.message(Round::Dealing, Sender::Dealer(dealer))?.clone(),
            recipient_keys: self.board.recipient_keys(dealer)?,
            recipient: me.get(),
            secret: *self.secrets.as_ref()?.for_dealer(dealer)?.to_bytes(),
        };
        let proof = Proof::BadReshareDealing(complaint.clone());
        let verified = ReshareEvidence::new(self.plan().domain(), proof).verify().ok()?;
        (Some(verified.signer) == self.plan().signer(Sender::Dealer(dealer))).then_some(complaint)
    }

    fn post(&mut self, hands: Hands<'_>, sender: Sender, body: Body, step: &mut Step) -> Result<(), StepError> {
        let expected = self.plan().signer(sender).unwrap_or(Address::ZERO);
        let key = hands.keys.iter().find(|key| key.address() == expected);
        let key = key.ok_or(StepError::NoSignerKey { sender, expected })?;
        let (Sender::Dealer(index) | Sender::Member(index)) = sender;
        let message = ReshareMessage::sign(self.plan().domain(), key, self.plan().id(), index, body);
        // Authentic by construction, and first of its round: the caller asked.
        if self.board.accept(message.clone()) == Ok(Accepted::New) {
            step.new_messages.push(message);
        }
        Ok(())
    }

    /// Looks for a reason to end the attempt. A failure stays, except that proof of who cheated replaces the finding that somebody
    /// must have.
    fn judge(&mut self) {
        if self.has_acknowledged() {
            // The share is safe and the acknowledgement out: later cheating cannot change this transcript.
            self.judge_acknowledgements();
            return;
        }
        let provisional = matches!(&self.failure, Some(Failure { fault: Fault::RecipientsDiffer(_), .. }));
        if self.failure.is_some() && !provisional {
            return;
        }
        if let Some((culprit, found)) = self.board.equivocation() {
            let (first, second) = (found.first.clone(), found.second.clone());
            let fault = Fault::Equivocation(first.round());
            self.failure = Some(Failure { culprit: Some(culprit), fault, evidence: vec![first, second] });
            return;
        }
        if !provisional {
            self.judge_keys();
        }
    }

    fn judge_keys(&mut self) {
        for member in self.plan().threshold().indices() {
            if let Some(Err(fault)) = self.board.keys_of(member) {
                return self.blame(Sender::Member(member), Fault::Keys(fault), Round::Keys);
            }
        }
    }

    /// Whether a dealing was encrypted to the keys that this server holds.
    fn is_for_our_keys(&self, dealer: ShareIndex) -> bool {
        let ours = self.board.recipient_keys_hash(dealer);
        self.board.dealing(dealer).is_some_and(|body| Some(body.recipient_keys_hash) == ours)
    }

    /// Nobody is named where a dealing was made for other keys: the dealer made them up, or a member showed it another key than us.
    fn judge_recipients(&mut self, dealer: ShareIndex) {
        if !self.is_for_our_keys(dealer) {
            let evidence = self.board.message(Round::Dealing, Sender::Dealer(dealer)).cloned().into_iter().collect();
            self.failure = Some(Failure { culprit: None, fault: Fault::RecipientsDiffer(dealer), evidence });
        }
    }

    fn judge_acknowledgements(&mut self) {
        let body = |sender| self.board.message(Round::Acknowledgement, sender).map(|message| &message.body);
        let ours = self.member.and_then(|me| body(Sender::Member(me)));
        let mut senders = self.plan().senders(Round::Acknowledgement).into_iter();
        if let Some(other) = senders.find(|other| body(*other).is_some_and(|theirs| Some(theirs) != ours)) {
            self.blame(other, Fault::AcknowledgementDiffers, Round::Acknowledgement);
        }
    }

    /// Ends the attempt, unless it ended already.
    fn blame(&mut self, culprit: Sender, fault: Fault, round: Round) {
        if self.failure.is_none() {
            let evidence = self.board.message(round, culprit).cloned().into_iter().collect();
            self.failure = Some(Failure { culprit: Some(culprit), fault, evidence });
        }
    }

    fn complained(&mut self, complaint: &OpenedReshareDealing) {
        // Whatever secrets the caller still has: one of them is public, and the attempt is over here.
        self.secrets = None;
        let culprit = Some(complaint.dealing.sender());
        let evidence = vec![complaint.dealing.clone()];
        self.failure = Some(Failure { culprit, fault: Fault::Complained, evidence });
    }

    fn sit_out(&mut self) {
        let culprit = self.member.map(Sender::Member).or(self.dealer.map(Sender::Dealer));
        self.failure = Some(Failure { culprit, fault: Fault::LostState, evidence: Vec::new() });
    }

    /// Whether secrets and own messages are what one unbroken history leaves behind. A dealer keeps no secret, and its dealing is
    /// stored before it is sent.
    fn own_state_is_whole(&self) -> bool {
        let Some(me) = self.member else { return true };
        let Some(secrets) = &self.secrets else { return false };
        match self.board.keys_of(me) {
            Some(published) => published == Ok(secrets.public_keys()),
            None => true,
        }
    }
}

impl fmt::Debug for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant")
            .field("dealer", &self.dealer)
            .field("member", &self.member)
            .field("phase", &self.phase())
            .field("board", &self.board)
            .finish_non_exhaustive()
    }
}
