//! Faults: judge evidence, report it to the Court, read what was proven.

use core::{fmt, time::Duration};
use std::time::Instant;

use alloy::{
    eips::BlockId,
    network::{Ethereum, NetworkWallet},
    primitives::{Address, B256, U256},
    providers::Provider,
    rpc::types::{Filter, Log, TransactionReceipt},
    sol_types::SolEvent,
};
use serde::Serialize;
use stkr_chain::{
    bindings::{Court, Micropools, Resharing, ServerRegistry},
    court::{self, SignedThing},
    errors::ChainError,
    types::{KeyKind, KeyState},
    unanswered,
};
use stkr_protocol::{
    evidence::{Accused, Asked, AskedSignature, EvidenceFile, Fault, Proof, UnansweredProof, Verified},
    state::ProvenBlock,
};

use crate::{
    client::Stkr,
    contract::ContractError,
    error::{StkrError, call, rpc},
    scan,
    servers::unknown_enum,
    write::{Write, nothing},
};

/// Longest wait for the block in which a commitment is good, and for one with a transaction that was sent before.
const NEXT_BLOCK: Duration = Duration::from_secs(300);
/// Longest wait for the finality of a proof that was sent before.
const FINALITY: Duration = Duration::from_secs(3600);

/// How the Court ended a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// Whether anything was paid; a fault that was paid for already is only recorded.
    pub charged: bool,
    /// Who reported.
    pub reporter: Address,
    /// Wei taken from the bond or the insurance.
    #[serde(serialize_with = "crate::serde_wei")]
    pub penalty: U256,
    /// Wei of it that the reporter can withdraw.
    #[serde(serialize_with = "crate::serde_wei")]
    pub bounty: U256,
}

/// A report that is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnRecord {
    /// What the Court said.
    pub judgement: Judgement,
    /// The transaction.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
}

/// What happened to a server that has to do with faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Incident {
    /// A fault was upheld.
    #[serde(rename_all = "camelCase")]
    Fault {
        /// Name of the fault.
        fault: String,
        /// Key.
        key_id: u64,
        /// Committee of the key.
        committee_epoch: u32,
        /// What the reporter committed to.
        evidence: B256,
        /// What the Court said.
        judgement: Judgement,
        /// What was signed, from the transaction; empty where a contract reported.
        signed: Vec<SignedThing>,
    },
    /// No new seats from here on.
    LockedOut,
    /// Governance let it take part again.
    #[serde(rename_all = "camelCase")]
    Reinstated {
        /// How often by now.
        terms: u8,
        /// What the investigation found.
        reason: String,
    },
    /// It signs with another key in committees that are still to come.
    #[serde(rename_all = "camelCase")]
    SignerChanged {
        /// The new one.
        signer: Address,
    },
}

/// An incident and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Block.
    pub block: u64,
    /// Transaction.
    pub transaction: B256,
    /// What happened.
    #[serde(flatten)]
    pub incident: Incident,
}

/// Evidence that the chain agrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the file proves.
    pub verified: Verified,
    /// The server at fault; nothing where a provider is.
    pub server_id: Option<u32>,
}

/// A report from its beginning to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether this report did it; otherwise somebody else was first with the same evidence.
    pub ours: bool,
    /// How it ended.
    #[serde(flatten)]
    pub on_record: OnRecord,
    /// The transaction that committed to it, if it was made now.
    pub commitment: Option<B256>,
}

/// How a report is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportOptions {
    /// Most wei per gas.
    pub fee_cap: Option<u128>,
    /// Ends with the inclusion of the proof instead of its finality.
    pub only_included: bool,
}

/// Reads and writes of the Court.
#[derive(Clone, Copy, Debug)]
pub struct Faults<'a, P>(pub(crate) &'a Stkr<P>);

impl<'a, P: Provider> Faults<'a, P> {
    /// Judges a file as the Court would: everything that can be computed, and what only the chain knows (the key's root, the
    /// orders, whose a signer is).
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a file that proves nothing, or nothing on this chain; [`StkrError::Rpc`].
    pub async fn check(&self, file: &EvidenceFile) -> Result<Checked, StkrError> {
        let verified = self.verify(file)?;
        let server_id = match verified.accused {
            Accused::Holder { server_id, .. } => {
                for (epoch, root) in verified.seats() {
                    self.check_root(verified.key_id, epoch, root).await?;
                }
                Some(server_id)
            }
            Accused::Signer(signer) => {
                let id = self.0.servers().id_of_signer(signer).await?;
                Some(id.ok_or_else(|| no_fault(format!("{signer}, who signed it, is and was no server's signer")))?)
            }
            Accused::Dealer { signer, threshold, members } => {
                self.check_size(verified.key_id, (threshold, members)).await?;
                let id = self.0.servers().id_of_signer(signer).await?;
                Some(id.ok_or_else(|| no_fault(format!("{signer}, who signed it, is and was no server's signer")))?)
            }
            Accused::Provider { duty_keys, assignment } => {
                if self.on_record(&verified).await?.is_none() {
                    self.check_provider(verified.key_id, assignment, duty_keys).await?;
                }
                None
            }
            Accused::Silent { server_id, block } => {
                self.check_block(block).await?;
                if self.on_record(&verified).await?.is_none() {
                    self.check_silence(file, verified.evidence).await?;
                }
                Some(server_id)
            }
        };
        if let Proof::UnauthorisedSignature(proof) = &file.proof {
            let root = proof.envelope.signing_root;
            if verified.withdrawal_key_only && self.0.keys().read(verified.key_id).await?.kind != KeyKind::Withdrawal {
                let kind = proof.envelope.duty_kind;
                return Err(no_fault(format!(
                    "nobody has to order duties of kind {kind}, and key {} is no withdrawal key",
                    verified.key_id
                )));
            }
            if self.0.keys().is_ordered(verified.key_id, root).await? {
                return Err(no_fault(format!("the chain ordered key {} to sign {root}", verified.key_id)));
            }
        }
        Ok(Checked { verified, server_id })
    }

    fn verify(&self, file: &EvidenceFile) -> Result<Verified, StkrError> {
        let deployment = self.0.deployment();
        file.is_for(&deployment.protocol_domain(), deployment.court).map_err(|error| {
            StkrError::invalid(error.to_string(), "use the deployment file and the endpoint of the evidence's chain")
        })?;
        file.verify().map_err(|error| no_fault(error.to_string()))
    }

    async fn check_root(&self, key: u64, epoch: u32, root: B256) -> Result<(), StkrError> {
        let known = match self.0.reshares().leaves_root(key, epoch).await {
            Err(StkrError::NotFound { what }) => return Err(no_fault(format!("there is no {what}"))),
            known => known?,
        };
        // No leaf leads to zero, which stands for no committee.
        if known == root {
            return Ok(());
        }
        Err(no_fault(format!(
            "the seat of the evidence is not one of key {key} in committee {epoch}, or those seats are free again"
        )))
    }

    /// A dealing is malformed only for the t and n of its key.
    async fn check_size(&self, key: u64, (threshold, members): (u8, u8)) -> Result<(), StkrError> {
        let it = self.0.key_registry().key(U256::from(key)).call().await.map_err(call("reading a key"))?;
        if (it.threshold, it.members) == (threshold, members) {
            return Ok(());
        }
        Err(no_fault(format!("there is no key {key} of which {threshold} of {members} shares sign")))
    }

    /// Asks the key's consumer what it would answer to the Court: whether both duty keys are of the provider of this assignment, and
    /// whether there is anything to take.
    async fn check_provider(&self, key: u64, assignment: u64, duty_keys: [Address; 2]) -> Result<(), StkrError> {
        let registered = self.0.key_registry().key(U256::from(key)).call().await.map_err(call("reading a key"))?;
        if registered.consumer.is_zero() {
            return Err(no_fault(format!("key {key} has no provider who could be at fault")));
        }
        let court = self.0.deployment().court;
        let consumer = Micropools::new(registered.consumer, self.0.provider());
        let penalise = consumer.penaliseProvider(U256::from(key), assignment, duty_keys, court).from(court);
        penalise.call().await.map(drop).map_err(call("asking whose duty keys they are"))
    }

    async fn check_block(&self, it: ProvenBlock) -> Result<(), StkrError> {
        let found = self.0.provider().get_block_by_number(it.number.into()).await.map_err(rpc("reading a block"))?;
        if found.is_some_and(|found| found.header.hash == it.hash) {
            return Ok(());
        }
        Err(no_fault(format!("block {} of this chain does not have the hash {}", it.number, it.hash)))
    }

    /// That the challenge of the file still stands, and would be held against who was asked.
    async fn check_silence(&self, file: &EvidenceFile, evidence: B256) -> Result<(), StkrError> {
        let Proof::UnansweredChallenge(UnansweredProof { asked, .. }) = &file.proof else { return Ok(()) };
        match asked {
            Asked::Signature(it) => self.check_owed(it).await?,
            Asked::Acknowledgement(it) => {
                let key =
                    self.0.key_registry().key(U256::from(it.key_id)).call().await.map_err(call("reading a key"))?;
                let state = KeyState::try_from(key.state).map_err(unknown_enum)?;
                // An attempt that ended otherwise than by a key, or by being given up, excuses nobody.
                if key.attempt == it.attempt && state != KeyState::Drawn {
                    let id = it.key_id;
                    return Err(no_fault(format!(
                        "key {id} is {state} now, and nobody owes an answer about it any more"
                    )));
                }
            }
        }
        let newest = match unanswered::fetch(&self.0.endpoint(), self.0.deployment(), *asked).await {
            Err(ChainError::NotFound(reason)) => return Err(no_fault(reason)),
            other => self.verify(&other?)?,
        };
        if newest.evidence == evidence {
            return Ok(());
        }
        Err(no_fault("the same was asked anew since".to_owned()))
    }

    /// That who was asked to sign had to, as the Court judges it (`UnansweredChallenge.isOwed`): the end of the key and a handover
    /// excuse it only if they came before the challenge was due. One that is gone is looked for by [`unanswered::fetch`].
    async fn check_owed(&self, asked: &AskedSignature) -> Result<(), StkrError> {
        let (court, registry) = (Court::new(self.0.deployment().court, self.0.provider()), self.0.key_registry());
        let id = asked.key_id;
        let it = court.challenge(U256::from(id), asked.index.get(), asked.signing_root).call().await;
        let it = it.map_err(call("reading a challenge"))?;
        if it.challenger.is_zero() {
            return Ok(());
        }
        let key = registry.key(U256::from(id)).call().await.map_err(call("reading a key"))?;
        let state = KeyState::try_from(key.state).map_err(unknown_enum)?;
        let window = registry.EVIDENCE_WINDOW().call().await.map_err(call("reading a key"))?;
        let (ended, due): (u64, u64) = (key.mark.saturating_sub(window).to(), it.due.into());
        if state != KeyState::Live && ended <= due {
            return Err(no_fault(format!(
                "key {id} was {state} before the challenge was due, so nobody owed an answer"
            )));
        }
        let next = it.committeeEpoch.saturating_add(1);
        let resharing = Resharing::new(self.0.deployment().resharing(), self.0.provider());
        let next = resharing.committee(U256::from(id), next).call().await.map_err(call("reading a committee"))?;
        let handover: u64 = next.handover.to();
        if handover != 0 && handover <= due && handover <= self.0.challenges().now().await?.timestamp {
            return Err(no_fault(format!("key {id} went to another committee before the challenge was due")));
        }
        Ok(())
    }

    /// Commits `reporter` to the evidence: step 1 of a report. Shows nothing of it.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a file that proves nothing here, and for one of silence, which needs no commitment.
    pub fn commit(&self, file: &EvidenceFile, reporter: Address) -> Result<Write<'a, P>, StkrError> {
        let verified = self.verify(file)?;
        if let Accused::Silent { .. } = verified.accused {
            let reason = "silence is proven without a commitment: for 50 blocks the bounty is the challenger's, whoever proves it";
            return Err(StkrError::invalid(reason, "prove it at once"));
        }
        let call = court::commit(file.court, &verified, reporter);
        Ok(self.0.write_call("committing to the evidence", call, nothing))
    }

    /// Shows the evidence: step 2 of a report, three blocks after step 1 or later and from the same account; of silence all of it.
    ///
    /// # Errors
    /// [`StkrError::Invalid`] for a file that proves nothing here.
    pub fn prove(&self, file: &EvidenceFile) -> Result<Write<'a, P, Judgement>, StkrError> {
        self.verify(file)?;
        Ok(self.0.write_call("proving the fault", court::prove(file), judgement_in))
    }

    /// Block in which `reporter` committed to the evidence, as of the newest block; nothing if it did not, or has shown it since.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn committed_at(&self, verified: &Verified, reporter: Address) -> Result<Option<u64>, StkrError> {
        let court = Court::new(self.0.deployment().court, self.0.provider());
        let block = court.committedAt(verified.commitment(reporter)).block(BlockId::latest()).call().await;
        let block: u64 = block.map_err(call("reading a commitment"))?.saturating_to();
        Ok((block != 0).then_some(block))
    }

    /// The first report of exactly this evidence against whom it accuses, whoever made it. Two servers that signed the same have the
    /// same evidence, and what is on record against one says nothing of the other.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn on_record(&self, verified: &Verified) -> Result<Option<OnRecord>, StkrError> {
        let fault = U256::from(verified.fault as u8);
        let events = vec![
            Court::FaultProven::SIGNATURE_HASH,
            Court::FaultRecorded::SIGNATURE_HASH,
            Court::ProviderFaultProven::SIGNATURE_HASH,
        ];
        let filter = Filter::new().address(self.0.deployment().court).event_signature(events);
        let key = U256::from(verified.key_id);
        let server = match verified.accused {
            Accused::Provider { .. } => None,
            Accused::Holder { server_id, .. } | Accused::Silent { server_id, .. } => Some(server_id),
            Accused::Signer(signer) | Accused::Dealer { signer, .. } => {
                let Some(id) = self.0.servers().id_of_signer(signer).await? else { return Ok(None) };
                Some(id)
            }
        };
        let filter = match server {
            None => filter.topic1(key),
            Some(server) => filter.topic1(fault).topic2(U256::from(server)).topic3(key),
        };
        for log in self.logs(&filter).await? {
            let Some((evidence, judgement)) = judged(&log) else { continue };
            if evidence == verified.evidence && self.accuses(&log, &verified.accused).await? {
                let (transaction, block) = place(&log)?;
                return Ok(Some(OnRecord { judgement, transaction, block }));
            }
        }
        Ok(None)
    }

    /// Whether a record accuses the same provider as the file. Its evidence is what was asked for and not who signed that, and others can
    /// sign the same.
    async fn accuses(&self, record: &Log, accused: &Accused) -> Result<bool, StkrError> {
        let Accused::Provider { duty_keys, .. } = accused else { return Ok(true) };
        let Ok(proven) = record.log_decode::<Court::ProviderFaultProven>() else { return Ok(false) };
        let proven = proven.inner.data.dutyKeys;
        if proven == *duty_keys {
            return Ok(true);
        }
        let provider = self.0.providers().of_duty_key(proven[0]).await?;
        for duty_key in duty_keys {
            if self.0.providers().of_duty_key(*duty_key).await? != provider {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reports the evidence from the account of `wallet`: commits, waits until the commitment is good, tries the proof, sends it and
    /// follows it until it is final. Whoever comes first with the same evidence ends it well: the fault is on record.
    ///
    /// Started again after a crash it goes on where it was, for what counts is what the chain says, and what the node holds for its
    /// next block: a transaction of the first run that is in no block yet is waited for.
    ///
    /// # Errors
    /// As [`Faults::check`] and [`Write::send`]; [`StkrError::NotReady`] where a transaction that was sent before stays out of the chain.
    pub async fn report(
        &self,
        file: &EvidenceFile,
        wallet: &impl NetworkWallet<Ethereum>,
        options: ReportOptions,
    ) -> Result<Report, StkrError> {
        let reporter = wallet.default_signer_address();
        let verified = self.verify(file)?;
        if let Some(on_record) = self.on_record(&verified).await? {
            return self.recorded(&verified, on_record, (reporter, None), options).await;
        }
        self.check(file).await?;
        let commitment = match verified.accused {
            Accused::Silent { .. } => None,
            _ => self.commit_once(file, &verified, wallet, options).await?,
        };
        let mut write = self.prove(file)?;
        match self.next_block(&write, reporter).await {
            Err(refused) if is_done_in_next_block(&refused) => {
                let on_record = self.under_way(&verified, reporter, refused).await?;
                return self.recorded(&verified, on_record, (reporter, commitment), options).await;
            }
            tried => tried?,
        }
        if let Some(cap) = options.fee_cap {
            write = write.fee_cap(cap);
        }
        if !options.only_included {
            write = write.until_final();
        }
        // Somebody may have shown the same in the meantime: then a second proof would only cost gas.
        if let Some(on_record) = self.on_record(&verified).await? {
            return Ok(Report { ours: false, on_record, commitment });
        }
        let sent = write.send_with(wallet).await?;
        let (transaction, block) = (sent.receipt.transaction_hash, sent.receipt.block_number.unwrap_or_default());
        Ok(Report { ours: true, on_record: OnRecord { judgement: sent.value, transaction, block }, commitment })
    }

    /// The end of a report whose proof is on record; one of `reporter` is followed until it is final.
    async fn recorded(
        &self,
        verified: &Verified,
        on_record: OnRecord,
        (reporter, commitment): (Address, Option<B256>),
        options: ReportOptions,
    ) -> Result<Report, StkrError> {
        let ours = on_record.judgement.reporter == reporter;
        if !ours || options.only_included {
            return Ok(Report { ours, on_record, commitment });
        }
        let started = Instant::now();
        while !self.is_final(on_record.block).await? {
            if started.elapsed() >= FINALITY {
                return Err(StkrError::NotIncluded { transaction: on_record.transaction, waited: FINALITY });
            }
            self.pause().await;
        }
        // A reorg may have taken it into another block, or out.
        let on_record = self.on_record(verified).await?.ok_or_else(|| StkrError::NotReady {
            reason: "a reorganisation of the chain took the proof out again; submit the evidence once more".into(),
        })?;
        Ok(Report { ours: on_record.judgement.reporter == reporter, on_record, commitment })
    }

    /// Waits for a proof that the node holds for its next block, of a report that was ended after it was sent, until it is on
    /// record. `refused` is what the node said to another one.
    async fn under_way(
        &self,
        verified: &Verified,
        reporter: Address,
        refused: StkrError,
    ) -> Result<OnRecord, StkrError> {
        let started = Instant::now();
        let mut seen = None;
        while started.elapsed() < NEXT_BLOCK {
            let head = self.0.head_number().await?;
            if seen.replace(head) != Some(head) {
                // Read before the record: a proof uses the commitment up.
                let stands = self.committed_at(verified, reporter).await?.is_some();
                if let Some(on_record) = self.on_record(verified).await? {
                    return Ok(on_record);
                }
                if !stands && !matches!(verified.accused, Accused::Silent { .. }) {
                    return Err(refused);
                }
            }
            self.pause().await;
        }
        Err(not_in_a_block("a proof of the same"))
    }

    async fn pause(&self) {
        tokio::time::sleep(self.0.provider().client().poll_interval()).await;
    }

    /// Tries the proof until a block can take it. Nodes try a transaction on their newest block, for which a commitment may be too young.
    async fn next_block(&self, write: &Write<'_, P, Judgement>, reporter: Address) -> Result<(), StkrError> {
        let started = Instant::now();
        loop {
            match write.dry_run(reporter).await {
                Err(StkrError::Contract(ContractError::CommitmentTooYoung(_))) if started.elapsed() < NEXT_BLOCK => {
                    self.pause().await;
                }
                tried => return tried.map(drop),
            }
        }
    }

    /// Commits unless that was done before.
    async fn commit_once(
        &self,
        file: &EvidenceFile,
        verified: &Verified,
        wallet: &impl NetworkWallet<Ethereum>,
        options: ReportOptions,
    ) -> Result<Option<B256>, StkrError> {
        let reporter = wallet.default_signer_address();
        if self.committed_at(verified, reporter).await?.is_some() {
            return Ok(None);
        }
        let mut write = self.commit(file, reporter)?;
        if let Some(cap) = options.fee_cap {
            write = write.fee_cap(cap);
        }
        match write.send_with(wallet).await {
            Ok(sent) => Ok(Some(sent.receipt.transaction_hash)),
            // No block has it, so the node holds it for the next one.
            Err(StkrError::Contract(ContractError::AlreadyCommitted(_))) => {
                self.committed(verified, reporter).await.map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for a commitment that was sent before.
    async fn committed(&self, verified: &Verified, reporter: Address) -> Result<(), StkrError> {
        let started = Instant::now();
        while self.committed_at(verified, reporter).await?.is_none() {
            if started.elapsed() >= NEXT_BLOCK {
                return Err(not_in_a_block("this account's commitment to the evidence"));
            }
            self.pause().await;
        }
        Ok(())
    }

    /// What was proven about a server and what followed, oldest first.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn history(&self, server_id: u32) -> Result<Vec<HistoryEntry>, StkrError> {
        let deployment = self.0.deployment();
        let id = U256::from(server_id);
        let faults = Filter::new()
            .address(deployment.court)
            .event_signature(vec![Court::FaultProven::SIGNATURE_HASH, Court::FaultRecorded::SIGNATURE_HASH])
            .topic2(id);
        let rest = Filter::new()
            .address(deployment.server_registry)
            .event_signature(vec![
                ServerRegistry::ServerReinstated::SIGNATURE_HASH,
                ServerRegistry::SignerChanged::SIGNATURE_HASH,
            ])
            .topic1(id);
        let mut logs = self.logs(&faults).await?;
        logs.extend(self.logs(&rest).await?);
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let mut entries = Vec::with_capacity(logs.len());
        let mut locked_out = false;
        for log in &logs {
            let (transaction, block) = place(log)?;
            if let Some(incident) = self.incident(log, transaction).await? {
                let reinstated = matches!(incident, Incident::Reinstated { .. });
                // The Court says so with every slash; the first one locks out.
                let slashed = log.log_decode::<Court::FaultProven>().is_ok();
                if slashed && !locked_out {
                    entries.push(HistoryEntry { block, transaction, incident: Incident::LockedOut });
                }
                entries.push(HistoryEntry { block, transaction, incident });
                locked_out = (locked_out || slashed) && !reinstated;
            }
        }
        Ok(entries)
    }

    async fn incident(&self, log: &Log, transaction: B256) -> Result<Option<Incident>, StkrError> {
        if let Ok(event) = log.log_decode::<ServerRegistry::ServerReinstated>() {
            let event = event.inner.data;
            return Ok(Some(Incident::Reinstated { terms: event.terms, reason: event.reason }));
        }
        if let Ok(event) = log.log_decode::<ServerRegistry::SignerChanged>() {
            return Ok(Some(Incident::SignerChanged { signer: event.inner.data.signer }));
        }
        let Some((evidence, judgement)) = judged(log) else { return Ok(None) };
        let (number, key_id, committee_epoch) = match log.log_decode::<Court::FaultProven>() {
            Ok(event) => (event.inner.data.fault, event.inner.data.keyId, event.inner.data.committeeEpoch),
            Err(_) => match log.log_decode::<Court::FaultRecorded>() {
                Ok(event) => (event.inner.data.fault, event.inner.data.keyId, event.inner.data.committeeEpoch),
                Err(_) => return Ok(None),
            },
        };
        let found = self.0.provider().get_transaction_by_hash(transaction).await;
        let found = found.map_err(rpc("reading the transaction of a proof"))?;
        let signed = found.map(|it| court::shown(alloy::consensus::Transaction::input(&it))).unwrap_or_default();
        let fault = Fault::from_number(number).map_or_else(|| format!("fault {number}"), |fault| fault.to_string());
        Ok(Some(Incident::Fault {
            fault,
            key_id: key_id.saturating_to(),
            committee_epoch,
            evidence,
            judgement,
            signed,
        }))
    }

    /// Whether the block of a transaction is final.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn is_final(&self, block: u64) -> Result<bool, StkrError> {
        let finalized = self.0.provider().get_block(BlockId::finalized()).await;
        let finalized = finalized.map_err(rpc("reading the finalized block"))?;
        Ok(finalized.is_some_and(|finalized| finalized.header.number >= block))
    }

    async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, StkrError> {
        let head = self.0.head_number().await?;
        scan::logs(self.0.provider(), filter, self.0.deployment().deployed_block, head).await
    }
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LockedOut => f.write_str("locked out"),
            Self::Reinstated { reason, .. } => write!(f, "reinstated: {reason}"),
            Self::SignerChanged { signer } => write!(f, "signs with {signer} in new committees"),
            Self::Fault { fault, key_id, judgement, .. } => {
                let paid = if judgement.charged { "" } else { ", recorded only" };
                write!(f, "{} with key {key_id}{paid}", fault.replace('_', " "))
            }
        }
    }
}

fn no_fault(reason: String) -> StkrError {
    StkrError::invalid(format!("this is no evidence of a fault: {reason}"), "the Court would refuse it; report nothing")
}

/// Nodes try a transaction on the block that they would build next. Where the newest block has the commitment, or the challenge,
/// and that one has it no more, a proof is in between.
const fn is_done_in_next_block(refused: &StkrError) -> bool {
    matches!(refused, StkrError::Contract(ContractError::NotCommitted(_) | ContractError::NoChallenge(_)))
}

fn not_in_a_block(what: &str) -> StkrError {
    StkrError::NotReady { reason: format!("{what} was sent and is in no block after {} s", NEXT_BLOCK.as_secs()) }
}

pub(crate) fn place(log: &Log) -> Result<(B256, u64), StkrError> {
    let place = log.transaction_hash.zip(log.block_number);
    place.ok_or_else(|| StkrError::Unsafe { reason: "the endpoint gave an event that is in no block".into() })
}

/// Evidence and judgement of an event of the Court.
pub(crate) fn judged(log: &Log) -> Option<(B256, Judgement)> {
    if let Ok(event) = log.log_decode::<Court::FaultProven>() {
        let it = event.inner.data;
        let judgement = Judgement { charged: true, reporter: it.reporter, penalty: it.slashed, bounty: it.bounty };
        return Some((it.evidence, judgement));
    }
    if let Ok(event) = log.log_decode::<Court::FaultRecorded>() {
        let it = event.inner.data;
        let judgement = Judgement { charged: false, reporter: it.reporter, penalty: U256::ZERO, bounty: U256::ZERO };
        return Some((it.evidence, judgement));
    }
    let it = log.log_decode::<Court::ProviderFaultProven>().ok()?.inner.data;
    Some((it.evidence, Judgement { charged: true, reporter: it.reporter, penalty: it.penalty, bounty: it.bounty }))
}

pub(crate) fn judgement_in(receipt: &TransactionReceipt) -> Option<Judgement> {
    receipt.inner.logs().iter().find_map(|log| judged(log).map(|(_, judgement)| judgement))
}
