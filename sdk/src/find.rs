//! Faults in what was kept: whoever has the pages of several gateways sees what none of them saw alone.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{primitives::B256, primitives::U256, providers::Provider};
use stkr_chain::{LiveKey, bindings::KeyRegistry};
use stkr_core::ShareIndex;
use stkr_protocol::{
    conflicts::Conflicts,
    envelope::DutyKind,
    evidence::{
        DutiesProof, EnvelopeProof, EvidenceFile, Holder, Proof, RequestsProof, SignedDutyRequest, SignedEnvelope,
    },
    kept::Kept,
    recover_signer,
};

use crate::{
    error::{StkrError, call},
    faults::Faults,
};

impl<P: Provider> Faults<'_, P> {
    /// Evidence of every fault that what was kept proves on this chain: conflicting duties of a server or of a provider, and
    /// signatures of servers over what was never ordered. One file for each share, or assignment of a provider, for the Court charges
    /// one. What nobody of this chain signed is passed over.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn find(&self, kept: Kept) -> Result<Vec<EvidenceFile>, StkrError> {
        let mut proofs = self.conflicting_requests(kept.requests).await?;
        for (key_id, envelopes) in by_key(kept.envelopes) {
            if let Some(key) = self.finalised(key_id).await? {
                proofs.extend(self.faults_of(&key, envelopes).await?);
            }
        }
        let mut files = Vec::new();
        for proof in proofs {
            let deployment = self.0.deployment();
            let file = EvidenceFile::new(&deployment.protocol_domain(), deployment.court, proof);
            match self.check(&file).await {
                Ok(_) => files.push(file),
                // Signed by somebody whom the chain does not know, or for a term that is over.
                Err(StkrError::Invalid { .. } | StkrError::NotFound { .. } | StkrError::Contract(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }

    /// By key, assignment and provider, whichever of its duty keys it signed with. The chain says whose each duty key is: without that
    /// a request that somebody else made up would stand in the way of the provider's, or beside it.
    async fn conflicting_requests(&self, requests: Vec<SignedDutyRequest>) -> Result<Vec<Proof>, StkrError> {
        let domain = self.0.deployment().protocol_domain();
        let mut conflicts = Conflicts::default();
        let mut providers = BTreeMap::new();
        for request in requests {
            let Ok(duty_key) = recover_signer(request.digest(&domain), &request.signature) else { continue };
            let provider = match providers.get(&duty_key) {
                Some(known) => *known,
                None => self.0.providers().of_duty_key(duty_key).await?,
            };
            providers.insert(duty_key, provider);
            if let Some(provider) = provider {
                conflicts.add((request.key_id, request.assignment, provider), request);
            }
        }
        let pairs = conflicts.pairs().map(|(_, (first, second))| RequestsProof { first, second });
        Ok(pairs.map(Proof::ProviderEquivocation).collect())
    }

    /// The public half of a key whose seats can still be shown; nothing of any other.
    async fn finalised(&self, key_id: u64) -> Result<Option<LiveKey>, StkrError> {
        let key = self.0.key_registry().key(U256::from(key_id)).call().await.map_err(call("reading a key"))?;
        let Ok(Some(key)) = stkr_chain::KeyInfo::from_contract(key_id, &key) else { return Ok(None) };
        let event = self.0.keys().last::<KeyRegistry::KeyFinalised>(key_id).await?;
        Ok(event.and_then(|event| LiveKey::from_event(&key, &event).ok()))
    }

    async fn faults_of(&self, key: &LiveKey, envelopes: Vec<SignedEnvelope>) -> Result<Vec<Proof>, StkrError> {
        let domain = self.0.deployment().protocol_domain();
        let mut conflicts = Conflicts::default();
        let mut proofs = Vec::new();
        let (mut guilty, mut ordered) = (BTreeSet::new(), BTreeSet::<B256>::new());
        for envelope in envelopes {
            // An envelope that somebody else made up must not stand in the way of the true one.
            let by = recover_signer(envelope.digest(&domain), &envelope.signature).ok();
            let Some(holder) = holder(key, envelope.index).filter(|holder| by == Some(holder.signer)) else { continue };
            let (index, root) = (envelope.index, envelope.signing_root);
            if needs_order(&envelope) && !guilty.contains(&index) && !ordered.contains(&root) {
                if self.0.keys().is_ordered(key.key_id, root).await? {
                    ordered.insert(root);
                } else {
                    guilty.insert(index);
                    let envelope = envelope.clone();
                    proofs.push(Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder }));
                }
            }
            conflicts.add((envelope.committee_epoch, index), envelope);
        }
        proofs.extend(conflicts.pairs().filter_map(|((_, index), (first, second))| {
            Some(Proof::ConflictingDuties(DutiesProof { first, second, holder: holder(key, index)? }))
        }));
        Ok(proofs)
    }
}

fn by_key(envelopes: Vec<SignedEnvelope>) -> BTreeMap<u64, Vec<SignedEnvelope>> {
    let mut keys: BTreeMap<u64, Vec<SignedEnvelope>> = BTreeMap::new();
    for envelope in envelopes {
        keys.entry(envelope.key_id).or_default().push(envelope);
    }
    keys
}

const fn needs_order(envelope: &SignedEnvelope) -> bool {
    envelope.duty_kind == DutyKind::Deposit as u8 || envelope.duty_kind == DutyKind::VoluntaryExit as u8
}

fn holder(key: &LiveKey, index: ShareIndex) -> Option<Holder> {
    let member = key.member(index)?;
    let (_, proof) = key.leaf_with_proof(index)?;
    let share_key = key.keys.share_key(index)?.to_eip2537();
    Some(Holder { server_id: member.server_id, signer: member.signer, share_key, proof })
}
