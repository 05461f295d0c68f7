//! Asking a member of a ceremony on the chain to acknowledge the key, and what follows.

use std::sync::Arc;

use alloy::{
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::{Filter, TransactionReceipt},
    sol_types::SolEvent,
};
use stkr_chain::{
    acknowledgements::{self, Asked, Shown},
    answers::Answer,
    bindings::Acknowledgements,
    reader::committee_hash,
};
use stkr_core::{ShareIndex, Threshold};
use stkr_protocol::{
    api::AdvanceResponse,
    ceremony::{Board, Context, MemberId, recompute_keys},
    evidence::{Accused, EvidenceFile, Proof},
    messages::{Body, DealingBody, Round, SignedMessage},
};
use url::Url;

use crate::{
    amount, bulletin,
    challenges::{Asks, ChallengeInfo, Challenges, paid_fees},
    error::{StkrError, call},
    faults::{Judgement, judgement_in},
    keys::KeyInfo,
    write::{Write, nothing},
};

/// What can be asked of a member of a running ceremony: to acknowledge the key that these dealings make. Everything that the
/// contract checks was checked.
#[derive(Clone, Debug)]
pub struct AcknowledgementQuestion {
    /// Who is asked.
    pub server_id: u32,
    /// Key, attempt, share index.
    pub asked: Asked,
    shown: Shown,
}

/// A challenge to acknowledge, with everything that an answer needs.
#[derive(Clone, Debug)]
pub struct AskedAcknowledgement {
    /// The challenge.
    pub challenge: ChallengeInfo,
    /// Key, attempt, share index.
    pub asked: Asked,
    /// All dealings that it brought, index order: what the server has to be given.
    pub dealings: Arc<[SignedMessage]>,
    acknowledgement: B256,
    context: Context,
}

impl<'a, P: Provider> Challenges<'a, P> {
    /// The newest challenge to the server to acknowledge the key.
    ///
    /// # Errors
    /// [`StkrError::NotFound`], [`StkrError::Rpc`].
    pub async fn get_acknowledgement(&self, key_id: u64, server_id: u32) -> Result<ChallengeInfo, StkrError> {
        let is_it = |it: &ChallengeInfo| {
            (it.key_id, it.server_id) == (key_id, server_id) && matches!(it.asks, Asks::Acknowledgement { .. })
        };
        let what = format!("challenge to server {server_id} to acknowledge key {key_id}");
        self.list().await?.into_iter().rfind(is_it).ok_or(StkrError::NotFound { what })
    }

    /// What a challenge to the server needs, from the public bulletin of the relayer at `relayer`.
    ///
    /// # Errors
    /// As [`Challenges::acknowledgement_question_from`]; [`StkrError::NotReady`] where the relayer has nothing.
    pub async fn acknowledgement_question(
        &self,
        key_id: u64,
        server_id: u32,
        relayer: &Url,
    ) -> Result<AcknowledgementQuestion, StkrError> {
        let key = self.running(key_id).await?;
        let messages = bulletin::fetch(relayer, key_id, key.attempt).await?;
        self.acknowledgement_question_from(key_id, server_id, messages).await
    }

    /// What a challenge to the server needs, from `messages` of its ceremony; none of them is believed unseen.
    ///
    /// # Errors
    /// In one sentence what the contract would refuse: [`StkrError::NotReady`] for a key without a ceremony or one that ends within a
    /// day, a committee that cannot finalise, dealings that are missing or that an honest member must not acknowledge, and a member
    /// that did acknowledge; [`StkrError::Invalid`] for a server without a seat; [`StkrError::Rpc`].
    pub async fn acknowledgement_question_from(
        &self,
        key_id: u64,
        server_id: u32,
        messages: impl IntoIterator<Item = SignedMessage>,
    ) -> Result<AcknowledgementQuestion, StkrError> {
        let key = self.running(key_id).await?;
        let index = seat(&key, server_id)?;
        let signers = self.0.server_registry().activeSigners(key.committee.clone()).call().await;
        let signers = signers.map_err(call("looking whether the committee can still finalise the key"))?;
        let context = self.context(&key.committee, (key_id, key.attempt, key.threshold), signers)?;
        let mut board = Board::new(context.clone());
        for message in messages {
            // What its sender did not sign counts for nothing, whoever carried it.
            let _ = board.accept(message);
        }
        let messages: Vec<SignedMessage> = board.messages().cloned().collect();
        let shown = askable(&context, &board, messages, index).map_err(|reason| StkrError::NotReady { reason })?;
        Ok(AcknowledgementQuestion { server_id, asked: (key_id, key.attempt, index.get()), shown })
    }

    /// Least fee (wei) of a challenge to acknowledge at the head.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn least_acknowledgement_fee(&self) -> Result<U256, StkrError> {
        self.fee_of(Answer::Acknowledgement).await
    }

    /// Asks on the chain; resolves to the last unix time (seconds) for an answer. `fee` as in [`Challenges::open`].
    ///
    /// # Errors
    /// As [`Challenges::open`].
    pub async fn open_acknowledgement(
        &self,
        question: &AcknowledgementQuestion,
        fee: Option<U256>,
    ) -> Result<Write<'a, P, u64>, StkrError> {
        let (key_id, attempt, index) = question.asked;
        let open = self.asking().challenge(U256::from(key_id), attempt, index).call().await;
        let open = open.map_err(call("reading a challenge"))?;
        if !open.challenger.is_zero() {
            let reason = format!(
                "server {} is being asked for this already, by {}: it has until unix time {} to answer",
                question.server_id, open.challenger, open.deadline
            );
            return Err(StkrError::NotReady { reason });
        }
        let least = self.least_acknowledgement_fee().await?;
        let fee = fee.unwrap_or_else(|| least.saturating_add(least / U256::from(2)));
        if fee < least {
            let (given, least) = (amount::with_unit(fee), amount::with_unit(least));
            return Err(StkrError::invalid(
                format!("a fee of {given} is less than the {least} an answer costs now"),
                "leave the fee out, or give more: it comes back if there is no answer",
            ));
        }
        let call = acknowledgements::challenge(self.0.deployment().acknowledgements(), &question.shown, fee);
        let call = call.ok_or_else(|| StkrError::Unsafe { reason: "the question holds no dealings".into() })?;
        Ok(self.0.write_call("asking on the chain", call, deadline_in))
    }

    /// The newest challenge to the server to acknowledge the key, with what its event brought.
    ///
    /// # Errors
    /// [`StkrError::NotFound`]; [`StkrError::NotReady`] where its ceremony is over; [`StkrError::Unsafe`] for an event that the
    /// contract cannot have emitted; [`StkrError::Rpc`].
    pub async fn asked_acknowledgement(&self, key_id: u64, server_id: u32) -> Result<AskedAcknowledgement, StkrError> {
        let challenge = self.get_acknowledgement(key_id, server_id).await?;
        let filter = Filter::new()
            .address(self.0.deployment().acknowledgements())
            .event_signature(Acknowledgements::AcknowledgementChallenged::SIGNATURE_HASH)
            .topic1(U256::from(key_id));
        let logs = self.logs(&filter, self.now().await?.block).await?;
        let log = logs.iter().rfind(|log| log.transaction_hash == Some(challenge.transaction));
        let event = log.and_then(|log| log.log_decode::<Acknowledgements::AcknowledgementChallenged>().ok());
        let invented = || StkrError::Unsafe { reason: "the endpoint gave a challenge that no contract emits".into() };
        let event = event.ok_or_else(invented)?.inner.data;
        let asked = acknowledgements::asked_in(&event).ok_or_else(invented)?;
        let dealings = acknowledgements::dealings_in(&event).ok_or_else(invented)?;
        let key = self.running(key_id).await?;
        if key.attempt != asked.1 {
            let reason = format!("attempt {} of key {key_id} is over, and what was asked for in it, too", asked.1);
            return Err(StkrError::NotReady { reason });
        }
        // As the contract found them: a member may have changed its signer since.
        let domain = self.0.deployment().protocol_domain();
        let signers: Result<Vec<Address>, _> = dealings.iter().map(|dealing| dealing.recover(&domain)).collect();
        let signers = signers.map_err(|_| invented())?;
        let context = self.context(&key.committee, (key_id, key.attempt, key.threshold), signers)?;
        let acknowledgement = event.acknowledgement;
        Ok(AskedAcknowledgement { challenge, asked, dealings: dealings.into(), acknowledgement, context })
    }

    /// Answers with what the server said to the dealings (`POST /v1/ceremonies/advance`): its acknowledgement, or the fault for which
    /// it gives none. Whoever sends it, the fee is the operator's.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] where neither is in what it said.
    pub fn acknowledge(&self, asked: &AskedAcknowledgement, said: &AdvanceResponse) -> Result<Write<'a, P>, StkrError> {
        let (domain, index) = (asked.context.domain(), asked.asked.2);
        let mut board = Board::new(asked.context.clone());
        for message in asked.dealings.iter().chain(&said.messages) {
            let _ = board.accept(message.clone());
        }
        let of_server = |it: &&SignedMessage| it.index.get() == index && it.round() == Round::Acknowledgement;
        let given = board.messages().filter(of_server).find(|it| it.digest(domain) == asked.acknowledgement);
        let to = self.0.deployment().acknowledgements();
        if let Some(given) = given {
            let call = acknowledgements::answer(to, asked.asked, &given.signature);
            return Ok(self.0.write_call("answering the challenge", call, nothing));
        }
        let complaint = said.complaint.clone().map(Proof::BadDealing);
        let proof = complaint.filter(|proof| self.is_of_member(asked, proof)).or_else(|| board.fault());
        let why = said.failure.as_ref().map_or("it does not say why", |failure| &failure.reason);
        let proof = proof.ok_or_else(|| {
            let server = asked.challenge.server_id;
            let reason = format!("server {server} gives neither its acknowledgement nor proof of a fault: {why}");
            StkrError::invalid(reason, "ask it again, or give a file of evidence against a member of the ceremony")
        })?;
        self.refusal(asked, &proof)
    }

    /// Answers with evidence that a member of the ceremony is at fault: a bad or malformed dealing, or an equivocation.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for evidence of anything else.
    pub fn refuse(&self, asked: &AskedAcknowledgement, file: &EvidenceFile) -> Result<Write<'a, P>, StkrError> {
        if !self.is_of_member(asked, &file.proof) {
            let (key, attempt, _) = asked.asked;
            let reason = format!(
                "this proves no fault of a member of the ceremony of key {key}, attempt {attempt}, in that ceremony"
            );
            let hint = "give evidence of a bad or malformed dealing or of an equivocation in it";
            return Err(StkrError::invalid(reason, hint));
        }
        self.refusal(asked, &file.proof)
    }

    /// Shows that nobody answered; resolves to what the Court said, or to nothing if the key was made or given up meanwhile.
    pub fn prove_unacknowledged(&self, asked: Asked) -> Write<'a, P, Option<Judgement>> {
        let call = acknowledgements::prove_unanswered(self.0.deployment().court, asked);
        self.0.write_call("proving that nobody answered", call, proven_in)
    }

    /// Fees (wei) of challenges to acknowledge that `account` can withdraw.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn acknowledgement_fees_of(&self, account: Address) -> Result<U256, StkrError> {
        self.asking().feesOf(account).call().await.map_err(call("reading the fees of challenges"))
    }

    /// Pays the sending account those fees; makes their sum in wei.
    pub fn withdraw_acknowledgement_fees(&self) -> Write<'a, P, U256> {
        let call = Acknowledgements::withdrawFeesCall {};
        self.0.write(self.0.deployment().acknowledgements(), "withdrawing the fees", &call, paid_fees)
    }

    fn refusal(&self, asked: &AskedAcknowledgement, proof: &Proof) -> Result<Write<'a, P>, StkrError> {
        let to = self.0.deployment().acknowledgements();
        let call = acknowledgements::refuse(to, asked.asked.2, &asked.context.committee(), proof);
        let call = call.ok_or_else(|| {
            let reason = "this fault is no answer to a challenge to acknowledge".to_owned();
            StkrError::invalid(reason, "give evidence of a bad or malformed dealing or of an equivocation")
        })?;
        Ok(self.0.write_call("answering the challenge", call, nothing))
    }

    fn is_of_member(&self, asked: &AskedAcknowledgement, proof: &Proof) -> bool {
        let deployment = self.0.deployment();
        let file = EvidenceFile::new(&deployment.protocol_domain(), deployment.court, proof.clone());
        let signer = match file.verify().map(|verified| verified.accused) {
            Ok(Accused::Signer(signer) | Accused::Dealer { signer, .. }) => signer,
            _ => return false,
        };
        proof.ceremony() == Some((asked.asked.0, asked.asked.1)) && asked.context.index_of(signer).is_some()
    }

    /// A key whose ceremony runs, with its committee.
    async fn running(&self, key_id: u64) -> Result<KeyInfo, StkrError> {
        let key = self.0.keys().get(key_id).await?;
        if key.state != stkr_chain::types::KeyState::Drawn {
            let reason = format!("key {key_id} is {}, and nobody owes an acknowledgement but in a ceremony", key.state);
            return Err(StkrError::NotReady { reason });
        }
        if committee_hash(&key.committee) != key.commitment {
            return Err(StkrError::Unsafe { reason: format!("no event names the committee of key {key_id}") });
        }
        Ok(key)
    }

    fn context(
        &self,
        committee: &[u32],
        (key_id, attempt, threshold): (u64, u16, u8),
        signers: Vec<Address>,
    ) -> Result<Context, StkrError> {
        let bad =
            |error: String| StkrError::Unsafe { reason: format!("the committee of key {key_id} is none: {error}") };
        let n = u8::try_from(committee.len()).map_err(|_| bad("it is too large".into()))?;
        let threshold = Threshold::new(threshold, n).map_err(|error| bad(error.to_string()))?;
        let members = committee.iter().zip(signers);
        let members = members.map(|(id, signer)| MemberId { server_id: *id, signer }).collect();
        let domain = self.0.deployment().protocol_domain();
        Context::new(domain, key_id, attempt, threshold, members).map_err(|error| bad(error.to_string()))
    }

    fn asking(&self) -> Acknowledgements::AcknowledgementsInstance<&'a P> {
        Acknowledgements::new(self.0.deployment().acknowledgements(), self.0.provider())
    }
}

/// The share index of a server in a committee.
fn seat(key: &KeyInfo, server_id: u32) -> Result<ShareIndex, StkrError> {
    let position = key.committee.iter().position(|id| *id == server_id);
    let index = position.and_then(|it| u8::try_from(it.saturating_add(1)).ok()).and_then(|it| ShareIndex::new(it).ok());
    index.ok_or_else(|| {
        let committee: Vec<String> = key.committee.iter().map(ToString::to_string).collect();
        let reason = format!("server {server_id} is not in the committee of key {}", key.id);
        StkrError::invalid(reason, format!("ask one of its committee: {}", committee.join(", ")))
    })
}

/// What is shown to ask the member, if it is what an honest one would acknowledge.
fn askable(context: &Context, board: &Board, messages: Vec<SignedMessage>, index: ShareIndex) -> Result<Shown, String> {
    let names = |missing: Vec<ShareIndex>| {
        let names: Vec<String> = missing.iter().map(|index| index.get().to_string()).collect();
        names.join(", ")
    };
    let missing = board.missing(Round::Dealing);
    if !missing.is_empty() {
        return Err(format!(
            "the dealings of members {} are missing, and without them there is no key to acknowledge",
            names(missing)
        ));
    }
    if board.message(Round::Acknowledgement, index).is_some() {
        return Err(format!("member {index} has acknowledged: its acknowledgement is among the messages"));
    }
    if board.fault().is_some() {
        return Err(
            "a member of this ceremony is at fault, so no honest one acknowledges: report it instead (stkr evidence)"
                .to_owned(),
        );
    }
    let dealings = context.threshold().indices().filter_map(|it| board.message(Round::Dealing, it).cloned());
    let dealings: Vec<SignedMessage> = dealings.collect();
    recompute_keys(context.clone(), dealings.clone()).map_err(|error| format!("the dealings make no key: {error}"))?;
    let own = dealings.get(index.position()).and_then(one_time_keys);
    if let Some(other) = dealings.iter().find(|it| one_time_keys(it) != own) {
        return Err(format!(
            "the dealing of member {} was made for other one-time keys than member {index} holds, and nobody can be asked to acknowledge that",
            other.index
        ));
    }
    let set = board.message(Round::CommitmentSet, index).map(|message| &message.body);
    if set != board.dealt_set().map(Body::CommitmentSet).as_ref() {
        return Err(format!("member {index} did not sign the set of commitments to these dealings for this committee"));
    }
    Shown::of(context.committee(), &messages, index.get()).ok_or_else(|| "messages are missing".to_owned())
}

fn one_time_keys(message: &SignedMessage) -> Option<B256> {
    match &message.body {
        Body::Dealing(DealingBody { one_time_keys_hash, .. }) => Some(*one_time_keys_hash),
        _ => None,
    }
}

fn deadline_in(receipt: &TransactionReceipt) -> Option<u64> {
    receipt.decoded_log::<Acknowledgements::AcknowledgementChallenged>().map(|event| event.data.deadline.to())
}

fn proven_in(receipt: &TransactionReceipt) -> Option<Option<Judgement>> {
    let closed = receipt.decoded_log::<Acknowledgements::AcknowledgementChallengeClosed>()?;
    if closed.data.guilty { judgement_in(receipt).map(Some) } else { Some(None) }
}
