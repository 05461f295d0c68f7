//! Challenges: asking a server on the chain for a signature that the chain ordered, and what follows.

use core::fmt;
use std::collections::BTreeMap;

use alloy::{
    eips::BlockId,
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::{Filter, Log, TransactionReceipt},
    sol_types::SolEvent,
};
use serde::Serialize;
use stkr_chain::{
    LiveKey, Member,
    answers::Answer,
    bindings::{Acknowledgements, Court, Micropools},
    court,
    types::{KeyKind, KeyState},
    unanswered,
};
use stkr_core::{ShareIndex, Signature};
use stkr_duties::DepositMessage;
use stkr_protocol::{
    evidence::{Asked, AskedAcknowledgement, AskedSignature, EvidenceFile, Fault, Holder, SignedEnvelope},
    json_reason,
    offline::{ChangeAnswerFile, Changed, from_json, is_kind},
    sign::{Asked as AskedToSign, Change, ChangeRequest, DepositRequest, SignedPartial, Subject as ToSign},
};

use crate::{
    amount,
    client::Stkr,
    error::{StkrError, call, rpc},
    faults::{Judgement, judged, judgement_in, place},
    scan,
    withdrawals::ChangeInfo,
    write::{Write, nothing},
};

/// Where a challenge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChallengeState {
    /// Waits for an answer.
    Open,
    /// Nobody answered in time; to be proven.
    Overdue,
    /// Answered in time.
    Answered,
    /// Answered in time with the proof that another member is at fault: no honest one would have acknowledged.
    Refused,
    /// Proven to be unanswered.
    Unanswered,
    /// Its key was given up before it was proven: nobody is at fault.
    Void,
}

impl fmt::Display for ChallengeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Overdue => "overdue",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
            Self::Void => "void",
        })
    }
}

/// What a challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "asks", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Asks {
    /// A signature with a Live key.
    Signature {
        /// What has to be signed.
        signing_root: B256,
    },
    /// The acknowledgement of a key that is being made.
    Acknowledgement {
        /// Ceremony number.
        attempt: u16,
    },
}

/// A challenge, from its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeInfo {
    /// Key.
    pub key_id: u64,
    /// Share index of the one who is asked.
    pub index: u8,
    /// For what.
    #[serde(flatten)]
    pub asks: Asks,
    /// Its server.
    pub server_id: u32,
    /// Who asked, and gets the fee back and the bounty if nobody answers.
    pub challenger: Address,
    /// Number of the last block in which it can be answered; where an acknowledgement is asked for its unix time, seconds.
    pub deadline: u64,
    /// Wei for the operator, if it is answered.
    #[serde(serialize_with = "crate::serde_wei")]
    pub fee: U256,
    /// Where it stands.
    pub state: ChallengeState,
    /// Block of the challenge.
    pub block: u64,
    /// Transaction of the challenge.
    pub transaction: B256,
    /// Transaction that ended it.
    pub ended_by: Option<B256>,
}

/// Key, share index and what is asked for.
type Subject = (u64, u8, Asks);

/// What can be asked of a member of a Live key: to sign the one deposit that its pool ordered.
#[derive(Clone, Debug)]
pub struct Question {
    /// The share's leaf, with its way to the key's root.
    pub holder: Holder,
    /// Share index.
    pub member: Member,
    /// Key.
    pub key_id: u64,
    /// The committee that is asked.
    pub committee_epoch: u32,
    /// What the member has to sign.
    pub signing_root: B256,
    key: LiveKey,
}

/// Reads and writes about challenges.
#[derive(Clone, Copy, Debug)]
pub struct Challenges<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Challenges<'a, P> {
    /// All challenges there ever were, oldest first.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn list(&self) -> Result<Vec<ChallengeInfo>, StkrError> {
        let deployment = self.0.deployment();
        let events = vec![
            Court::SignatureChallenged::SIGNATURE_HASH,
            Court::SignatureAnswered::SIGNATURE_HASH,
            Court::ChallengeVoid::SIGNATURE_HASH,
        ];
        let acknowledgements = vec![
            Acknowledgements::AcknowledgementChallenged::SIGNATURE_HASH,
            Acknowledgements::AcknowledgementAnswered::SIGNATURE_HASH,
            Acknowledgements::AcknowledgementRefused::SIGNATURE_HASH,
            Acknowledgements::AcknowledgementChallengeClosed::SIGNATURE_HASH,
        ];
        let asking = Filter::new().address(deployment.acknowledgements()).event_signature(acknowledgements);
        let fault = U256::from(Fault::UnansweredChallenge as u8);
        let proofs = vec![Court::FaultProven::SIGNATURE_HASH, Court::FaultRecorded::SIGNATURE_HASH];
        let of_court = Filter::new().address(deployment.court);
        let now = self.now().await?;
        let mut logs = self.logs(&of_court.clone().event_signature(events), now.block).await?;
        logs.extend(self.logs(&of_court.event_signature(proofs).topic1(fault), now.block).await?);
        logs.extend(self.logs(&asking, now.block).await?);
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        fold(&logs, now)
    }

    pub(crate) async fn now(&self) -> Result<Now, StkrError> {
        let head = self.0.provider().get_block(BlockId::latest()).await.map_err(rpc("reading the latest block"))?;
        let header =
            head.ok_or_else(|| StkrError::NotReady { reason: "the endpoint has no latest block".into() })?.header;
        let base_fee = header.base_fee_per_gas.unwrap_or_default();
        Ok(Now { block: header.number, timestamp: header.timestamp, base_fee })
    }

    /// Not asked of the contract: see [`Answer::fee`].
    pub(crate) async fn fee_of(&self, answer: Answer) -> Result<U256, StkrError> {
        Ok(answer.fee(self.now().await?.base_fee))
    }

    /// The newest challenge to the server to sign `signing_root` with the key.
    ///
    /// # Errors
    /// [`StkrError::NotFound`], [`StkrError::Rpc`].
    pub async fn get(&self, key_id: u64, server_id: u32, signing_root: B256) -> Result<ChallengeInfo, StkrError> {
        let is_it = |it: &ChallengeInfo| {
            (it.key_id, it.server_id, it.asks) == (key_id, server_id, Asks::Signature { signing_root })
        };
        let what = format!("challenge to server {server_id} to sign {signing_root} with key {key_id}");
        self.list().await?.into_iter().rfind(is_it).ok_or(StkrError::NotFound { what })
    }

    /// What the chain ordered the key to sign, and therefore can be asked for: the deposit of its pool, or of a withdrawal key a
    /// change of credentials. Without `signing_root` the one that there is.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] where nothing was ordered, or not that; [`StkrError::Invalid`] where several were and no root says
    /// which; [`StkrError::Unsafe`] if the endpoint invents an order; [`StkrError::Rpc`].
    pub async fn order(&self, key_id: u64, signing_root: Option<B256>) -> Result<AskedToSign, StkrError> {
        let mut all: Vec<AskedToSign> = match self.0.keys().read(key_id).await?.kind {
            KeyKind::Validator => vec![self.ordered(key_id).await?.into()],
            KeyKind::Withdrawal => self.changes(key_id).await?.into_iter().map(AskedToSign::from).collect(),
        };
        if let Some(root) = signing_root {
            all.retain(|it| it.subject().signing_root() == root);
        }
        let what = match signing_root {
            Some(root) => format!("order of the chain that key {key_id} sign {root}"),
            None => format!("order of the chain that key {key_id} sign anything"),
        };
        let one = all.pop().ok_or(StkrError::NotFound { what })?;
        if all.is_empty() {
            return Ok(one);
        }
        let roots: Vec<String> = all.iter().chain([&one]).map(|it| it.subject().signing_root().to_string()).collect();
        let reason = format!("key {key_id} was ordered to sign {} changes of credentials", roots.len());
        Err(StkrError::invalid(reason, format!("say which one with its signing root: {}", roots.join(", "))))
    }

    /// The changes of credentials that a withdrawal key was ordered to sign.
    async fn changes(&self, key_id: u64) -> Result<Vec<ChangeRequest>, StkrError> {
        let (withdrawals, deployment) = (self.0.withdrawal_keys(), self.0.deployment());
        let pool = withdrawals.get(key_id).await?.pool_id;
        let request = |it: ChangeInfo| {
            let unreal = || StkrError::Unsafe { reason: format!("the endpoint invents orders of key {key_id}") };
            let change = Change {
                validator_index: it.validator_index,
                from_bls_pubkey: it.from_bls_pubkey.as_ref().try_into().map_err(|_| unreal())?,
                to_execution_address: it.to_execution_address,
                genesis_fork_version: deployment.genesis_fork_version.0,
                genesis_validators_root: deployment.genesis_validators_root,
            };
            let request = ChangeRequest::new(key_id, change);
            if request.signing_root == it.signing_root { Ok(request) } else { Err(unreal()) }
        };
        withdrawals.changes(pool).await?.into_iter().map(request).collect()
    }

    /// The deposit that the pool of the key ordered: the only thing that can be asked of a validator key.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] where nothing was ordered; [`StkrError::Rpc`].
    pub async fn ordered(&self, key_id: u64) -> Result<DepositRequest, StkrError> {
        let deployment = self.0.deployment();
        let filter = Filter::new()
            .address(deployment.micropools)
            .event_signature(Micropools::DepositOrdered::SIGNATURE_HASH)
            .topic2(U256::from(key_id));
        let logs = self.logs(&filter, self.0.head_number().await?).await?;
        let event = logs.last().and_then(|log| log.log_decode::<Micropools::DepositOrdered>().ok());
        let what = || StkrError::NotFound { what: format!("deposit that the chain ordered key {key_id} to sign") };
        let order = event.ok_or_else(what)?.inner.data;
        let message = DepositMessage {
            pubkey: order.pubkey.as_ref().try_into().map_err(|_| what())?,
            withdrawal_credentials: order.withdrawalCredentials,
            amount_gwei: order.amountGwei,
        };
        Ok(DepositRequest::new(key_id, &message, deployment.genesis_fork_version.0))
    }

    /// What a challenge to the server needs: its seat in the committee that serves now, believed because it leads to the root that
    /// the chain holds.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] for a key that is not Live; [`StkrError::NotFound`] for a root that was not ordered;
    /// [`StkrError::Invalid`] for a server without a share of it; [`StkrError::Unsafe`] if the endpoint invents share keys;
    /// [`StkrError::Rpc`].
    pub async fn question(&self, key_id: u64, server_id: u32, signing_root: B256) -> Result<Question, StkrError> {
        let state = self.0.keys().read(key_id).await?.state;
        if state != KeyState::Live {
            let reason = format!("key {key_id} is {state}, and only the committee of a Live key has to answer");
            return Err(StkrError::NotReady { reason });
        }
        let epoch = self.0.reshares().serving_epoch(key_id).await?;
        self.question_to((key_id, epoch), server_id, signing_root).await
    }

    /// The question of the newest challenge to the server to sign `signing_root`, while it is open: to the committee that served when
    /// it was asked, which may serve no more.
    ///
    /// # Errors
    /// [`StkrError::NotFound`] where nothing is open; else as [`Challenges::question`].
    pub async fn asked(&self, key_id: u64, server_id: u32, signing_root: B256) -> Result<Question, StkrError> {
        let it = self.get(key_id, server_id, signing_root).await?;
        let open = self.court().challenge(U256::from(key_id), it.index, signing_root).call().await;
        let open = open.map_err(call("reading a challenge"))?;
        if open.challenger.is_zero() {
            let what =
                format!("open challenge to server {server_id} to sign {signing_root}: the newest is {}", it.state);
            return Err(StkrError::NotFound { what });
        }
        self.question_to((key_id, open.committeeEpoch), server_id, signing_root).await
    }

    async fn question_to(
        &self,
        (key_id, committee_epoch): (u64, u32),
        server_id: u32,
        signing_root: B256,
    ) -> Result<Question, StkrError> {
        let key = self.0.reshares().public_half(key_id, committee_epoch).await?;
        let member = key.members.iter().find(|member| member.server_id == server_id).copied().ok_or_else(|| {
            let committee: Vec<String> = key.members.iter().map(|member| member.server_id.to_string()).collect();
            let reason = format!("server {server_id} holds no share of key {key_id} in committee {committee_epoch}");
            StkrError::invalid(reason, format!("ask one of its committee: {}", committee.join(", ")))
        })?;
        if !self.0.keys().is_ordered(key_id, signing_root).await? {
            let what = format!(
                "order of the chain that key {key_id} sign {signing_root}, and what was not ordered must not be signed: nobody can be asked for it"
            );
            return Err(StkrError::NotFound { what });
        }
        let position = member.index.position();
        let share_key = key.keys.share_keys().get(position).map(|point| point.to_eip2537());
        let (Some(share_key), Some((_, proof))) = (share_key, key.leaf_with_proof(member.index)) else {
            return Err(StkrError::Unsafe { reason: format!("key {key_id} has no share {}", member.index) });
        };
        let holder = Holder { server_id, signer: member.signer, share_key, proof };
        Ok(Question { holder, member, key_id, committee_epoch, signing_root, key })
    }

    /// Least fee (wei) of a challenge at the head.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn least_fee(&self) -> Result<U256, StkrError> {
        self.fee_of(Answer::Signature).await
    }

    /// Asks on the chain; resolves to the last block for an answer. Without `fee` (wei) a fee half above the least one of now, which
    /// stays enough while the base fee grows by half.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] while the same is being asked already; [`StkrError::Invalid`] for a fee below the least one;
    /// [`StkrError::Rpc`].
    pub async fn open(&self, question: &Question, fee: Option<U256>) -> Result<Write<'a, P, u64>, StkrError> {
        let Question { holder, member, key_id, signing_root, .. } = question;
        let subject = (*key_id, member.index, *signing_root);
        let open = self.court().challenge(U256::from(*key_id), member.index.get(), *signing_root).call().await;
        let open = open.map_err(call("reading a challenge"))?;
        // One to an older committee gives way, if it is no fault.
        if !open.challenger.is_zero() && open.committeeEpoch == self.0.reshares().serving_epoch(*key_id).await? {
            let reason = format!(
                "server {} is being asked for this already, by {}: it has until block {} to answer",
                holder.server_id, open.challenger, open.deadline
            );
            return Err(StkrError::NotReady { reason });
        }
        let least = self.least_fee().await?;
        let fee = fee.unwrap_or_else(|| least.saturating_add(least / U256::from(2)));
        if fee < least {
            let reason = format!(
                "a fee of {} is less than the {} an answer costs now",
                amount::with_unit(fee),
                amount::with_unit(least)
            );
            return Err(StkrError::invalid(
                reason,
                "leave the fee out, or give more: it comes back if there is no answer",
            ));
        }
        if fee > U256::from(u64::MAX) {
            let reason = format!("a fee of {} is more than the Court keeps, 18.4 ETH", amount::with_unit(fee));
            return Err(StkrError::invalid(reason, "leave the fee out, or give less"));
        }
        let call = court::challenge(self.0.deployment().court, subject, holder, fee);
        Ok(self.0.write_call("asking on the chain", call, deadline_in))
    }

    /// Answers with what the server gave for `POST /v1/sign` of what was `asked` ([`Challenges::order`]), or an offline server in its
    /// file; whoever sends it, the fee is the operator's.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for an answer of somebody else or to something else, and for a partial that is wrong: its envelope would
    /// convict the server.
    pub fn answer(
        &self,
        question: &Question,
        asked: &ToSign,
        given: &SignedPartial,
    ) -> Result<Write<'a, P>, StkrError> {
        let Question { member, committee_epoch, signing_root, key, .. } = question;
        let hint = "ask the server again, and give its answer as it is";
        let envelope = asked.envelope(given.committee_epoch, given.index, &given.partial);
        let domain = self.0.deployment().protocol_domain();
        let signer = envelope.recover(&domain, &given.envelope);
        let seat = (given.committee_epoch, given.index);
        if envelope.signing_root != *signing_root
            || seat != (*committee_epoch, member.index)
            || signer != Ok(member.signer)
        {
            let reason = format!("this is no answer of server {} to the question", member.server_id);
            return Err(StkrError::invalid(reason, hint));
        }
        let share_key = key.keys.share_keys().get(member.index.position());
        let right = |point: &Signature| share_key.is_some_and(|key| stkr_core::verify(key, &signing_root.0, point));
        if !Signature::from_eip2537(&given.partial).is_ok_and(|point| right(&point)) {
            let reason = "the partial signature is wrong, and its envelope would convict the server".to_owned();
            return Err(StkrError::invalid(reason, "restore the server's share from a backup and ask it again"));
        }
        let call =
            court::answer(self.0.deployment().court, &SignedEnvelope::new(&envelope, given.envelope), &given.partial);
        Ok(self.0.write_call("answering the challenge", call, nothing))
    }

    /// Shows that nobody answered; resolves to what the Court said, or to nothing if the key was given up and nobody is at fault.
    pub fn prove(&self, (key_id, index, root): (u64, u8, B256)) -> Write<'a, P, Option<Judgement>> {
        let call = court::prove_unanswered(self.0.deployment().court, (key_id, index, root));
        self.0.write_call("proving that nobody answered", call, proven_in)
    }

    /// Evidence that nobody answered `it`: what the Court's storage holds after the newest block, proven against its hash. To be
    /// taken before it is proven to the Court, which then forgets the challenge.
    ///
    /// # Errors
    /// [`StkrError::NotReady`] while it can be answered; [`StkrError::NotFound`] once it ended; [`StkrError::Deployment`] for an
    /// endpoint without proofs, or with ones that lead nowhere.
    pub async fn evidence(&self, it: &ChallengeInfo) -> Result<EvidenceFile, StkrError> {
        let what = format!("challenge to server {} that nobody answered", it.server_id);
        match it.state {
            ChallengeState::Open => {
                return Err(StkrError::NotReady { reason: format!("server {} can still answer", it.server_id) });
            }
            ChallengeState::Overdue => {}
            _ => return Err(StkrError::NotFound { what }),
        }
        let Ok(index) = ShareIndex::new(it.index) else { return Err(StkrError::NotFound { what }) };
        let key_id = it.key_id;
        let asked = match it.asks {
            Asks::Signature { signing_root } => Asked::Signature(AskedSignature { key_id, index, signing_root }),
            Asks::Acknowledgement { attempt } => {
                Asked::Acknowledgement(AskedAcknowledgement { key_id, attempt, index })
            }
        };
        Ok(unanswered::fetch(&self.0.endpoint(), self.0.deployment(), asked).await?)
    }

    /// Fees (wei) of challenges that `account` can withdraw: answered ones to its servers, and its own that nobody answered.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn fees_of(&self, account: Address) -> Result<U256, StkrError> {
        self.court().feesOf(account).call().await.map_err(call("reading the fees of challenges"))
    }

    /// Pays the sending account its fees; makes their sum in wei.
    pub fn withdraw_fees(&self) -> Write<'a, P, U256> {
        self.0.write(self.0.deployment().court, "withdrawing the fees", &Court::withdrawFeesCall {}, paid_fees)
    }

    pub(crate) fn court(&self) -> Court::CourtInstance<&'a P> {
        Court::new(self.0.deployment().court, self.0.provider())
    }

    pub(crate) async fn logs(&self, filter: &Filter, head: u64) -> Result<Vec<Log>, StkrError> {
        scan::logs(self.0.provider(), filter, self.0.deployment().deployed_block, head).await
    }
}

/// The head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) block: u64,
    /// Unix time, seconds.
    pub(crate) timestamp: u64,
    /// Wei per gas.
    pub(crate) base_fee: u64,
}

/// From the Court's events to challenges; of one question one is open at a time.
fn fold(logs: &[Log], now: Now) -> Result<Vec<ChallengeInfo>, StkrError> {
    let mut all: Vec<ChallengeInfo> = Vec::new();
    let mut open: BTreeMap<Subject, usize> = BTreeMap::new();
    for log in logs {
        let (transaction, block) = place(log)?;
        if let Some(it) = opened(log, transaction, block, now) {
            open.insert((it.key_id, it.index, it.asks), all.len());
            all.push(it);
            continue;
        }
        let Some((subject, state)) = ended(log, &open, &all) else { continue };
        let position = open.remove(&subject);
        if let Some(it) = position.and_then(|position| all.get_mut(position)) {
            (it.state, it.ended_by) = (state, Some(transaction));
        }
    }
    Ok(all)
}

fn opened(log: &Log, transaction: B256, block: u64, now: Now) -> Option<ChallengeInfo> {
    if let Ok(event) = log.log_decode::<Acknowledgements::AcknowledgementChallenged>() {
        let it = event.inner.data;
        let deadline: u64 = it.deadline.to();
        return Some(ChallengeInfo {
            key_id: it.keyId.saturating_to(),
            index: it.index,
            asks: Asks::Acknowledgement { attempt: it.attempt },
            server_id: it.server,
            challenger: it.challenger,
            deadline,
            fee: it.fee,
            state: state_of(now.timestamp, deadline),
            block,
            transaction,
            ended_by: None,
        });
    }
    let it = log.log_decode::<Court::SignatureChallenged>().ok()?.inner.data;
    Some(ChallengeInfo {
        key_id: it.keyId.saturating_to(),
        index: it.index,
        asks: Asks::Signature { signing_root: it.signingRoot },
        server_id: it.server,
        challenger: it.challenger,
        deadline: it.deadline,
        fee: it.fee,
        state: state_of(now.block, it.deadline),
        block,
        transaction,
        ended_by: None,
    })
}

const fn state_of(now: u64, deadline: u64) -> ChallengeState {
    if now > deadline { ChallengeState::Overdue } else { ChallengeState::Open }
}

/// Which challenge an event ends, and how. That nobody answered is told by the name of the evidence only.
fn ended(log: &Log, open: &BTreeMap<Subject, usize>, all: &[ChallengeInfo]) -> Option<(Subject, ChallengeState)> {
    let signature = |signing_root| Asks::Signature { signing_root };
    if let Ok(event) = log.log_decode::<Court::SignatureAnswered>() {
        let it = event.inner.data;
        return Some(((it.keyId.saturating_to(), it.index, signature(it.signingRoot)), ChallengeState::Answered));
    }
    if let Ok(event) = log.log_decode::<Court::ChallengeVoid>() {
        let it = event.inner.data;
        return Some(((it.keyId.saturating_to(), it.index, signature(it.signingRoot)), ChallengeState::Void));
    }
    if let Some(ended) = ended_acknowledgement(log) {
        return Some(ended);
    }
    let (evidence, _) = judged(log)?;
    let is_it = |(subject, position): &(&Subject, &usize)| {
        let (key, index, Asks::Signature { signing_root }) = **subject else { return false };
        let id = court::challenge_id(key, index, signing_root);
        all.get(**position).is_some_and(|it| court::unanswered(id, it.deadline) == evidence)
    };
    open.iter().find(is_it).map(|(subject, _)| (*subject, ChallengeState::Unanswered))
}

fn ended_acknowledgement(log: &Log) -> Option<(Subject, ChallengeState)> {
    let subject = |key: U256, attempt, index| (key.saturating_to(), index, Asks::Acknowledgement { attempt });
    if let Ok(event) = log.log_decode::<Acknowledgements::AcknowledgementAnswered>() {
        let it = event.inner.data;
        return Some((subject(it.keyId, it.attempt, it.index), ChallengeState::Answered));
    }
    if let Ok(event) = log.log_decode::<Acknowledgements::AcknowledgementRefused>() {
        let it = event.inner.data;
        return Some((subject(it.keyId, it.attempt, it.index), ChallengeState::Refused));
    }
    let it = log.log_decode::<Acknowledgements::AcknowledgementChallengeClosed>().ok()?.inner.data;
    let state = if it.guilty { ChallengeState::Unanswered } else { ChallengeState::Void };
    Some((subject(it.keyId, it.attempt, it.index), state))
}

fn deadline_in(receipt: &TransactionReceipt) -> Option<u64> {
    receipt.decoded_log::<Court::SignatureChallenged>().map(|event| event.data.deadline)
}

fn proven_in(receipt: &TransactionReceipt) -> Option<Option<Judgement>> {
    let void = receipt.decoded_log::<Court::ChallengeVoid>().map(|_| None);
    judgement_in(receipt).map(Some).or(void)
}

pub(crate) fn paid_fees(receipt: &TransactionReceipt) -> Option<U256> {
    receipt.decoded_log::<Court::FeesPaid>().map(|event| event.data.amount)
}

/// The answer of a server to what `asked` says, as its `POST /v1/sign` gives it, or as an offline server writes its answers to
/// changes of credentials into a file.
///
/// # Errors
/// [`StkrError::Invalid`] for anything else, and for a file that answers other changes.
pub fn answer_from_json(bytes: &[u8], asked: &ToSign) -> Result<SignedPartial, StkrError> {
    if is_kind::<Changed>(bytes) {
        let hint = "give the file that the offline server wrote for this change";
        let file: ChangeAnswerFile =
            from_json::<Changed, _>(bytes).map_err(|error| StkrError::invalid(error.to_string(), hint))?;
        let answers = |change: &Change| change.signing_root() == asked.signing_root();
        let found = file.answers.into_iter().find(|it| answers(&it.change)).map(|it| it.signed);
        let reason = format!("the file has no answer to the change with signing root {}", asked.signing_root());
        return found.ok_or_else(|| StkrError::invalid(reason, hint));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        StkrError::invalid(
            format!("this is no partial signature with its envelope: {}", json_reason(&error)),
            "give the object with partial, envelope, index and committeeEpoch from the server's answer",
        )
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Bytes, LogData};

    use super::*;

    const ROOT: B256 = B256::repeat_byte(3);

    fn log(data: LogData, block: u64) -> Log {
        Log {
            inner: alloy::primitives::Log { address: Address::ZERO, data },
            block_number: Some(block),
            transaction_hash: Some(B256::with_last_byte(u8::try_from(block).unwrap())),
            ..Log::default()
        }
    }

    fn challenged(index: u8, block: u64) -> Log {
        let event = Court::SignatureChallenged {
            keyId: U256::from(9),
            index,
            signingRoot: ROOT,
            server: 4,
            challenger: Address::repeat_byte(1),
            deadline: block + 100,
            fee: U256::from(7),
        };
        log(event.encode_log_data(), block)
    }

    fn answered(index: u8, block: u64) -> Log {
        let event = Court::SignatureAnswered {
            keyId: U256::from(9),
            index,
            signingRoot: ROOT,
            dutyKind: 1,
            slot: 0,
            sourceEpoch: 0,
            targetEpoch: 0,
            signature: Bytes::new(),
            partial_: Bytes::new(),
        };
        log(event.encode_log_data(), block)
    }

    fn unanswered(index: u8, deadline: u64, block: u64) -> Log {
        let evidence = court::unanswered(court::challenge_id(9, index, ROOT), deadline);
        let event = Court::FaultProven {
            fault: Fault::UnansweredChallenge as u8,
            server: 4,
            keyId: U256::from(9),
            committeeEpoch: 0,
            evidence,
            reporter: Address::ZERO,
            slashed: U256::ZERO,
            bounty: U256::ZERO,
        };
        log(event.encode_log_data(), block)
    }

    #[test]
    fn each_end_belongs_to_the_challenge_that_it_ends_also_when_the_same_is_asked_again() {
        let void = Court::ChallengeVoid { keyId: U256::from(9), index: 3, signingRoot: ROOT };
        let logs = [
            challenged(1, 1),
            challenged(2, 2),
            challenged(3, 3),
            answered(1, 4),
            challenged(1, 5),
            unanswered(2, 102, 103),
            log(void.encode_log_data(), 104),
            challenged(4, 105),
        ];
        let states: Vec<(u8, ChallengeState, Option<u8>)> =
            fold(&logs, Now { block: 110, timestamp: 5_000, base_fee: 0 })
                .unwrap()
                .iter()
                .map(|it| (it.index, it.state, it.ended_by.map(|hash| hash[31])))
                .collect();
        let expected = [
            (1, ChallengeState::Answered, Some(4)),
            (2, ChallengeState::Unanswered, Some(103)),
            (3, ChallengeState::Void, Some(104)),
            (1, ChallengeState::Overdue, None),
            (4, ChallengeState::Open, None),
        ];
        assert_eq!(states, expected);
    }
}
