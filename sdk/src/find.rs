//! Faults in what was kept: whoever has the pages of several gateways sees what none of them saw alone.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{primitives::B256, providers::Provider};
use stkr_chain::{LiveKey, types::KeyKind};
use stkr_core::ShareIndex;
use stkr_protocol::{
    conflicts::Conflicts,
    evidence::{
        DutiesProof, EnvelopeProof, EvidenceFile, Holder, Proof, RequestsProof, SignedDutyRequest, SignedEnvelope,
    },
    kept::Kept,
    recover_signer,
};

use crate::{error::StkrError, faults::Faults};

impl<P: Provider> Faults<'_, P> {
    /// Evidence of every fault that what was kept proves on this chain: conflicting duties of a server or of a provider, and
    /// signatures of servers over what was never ordered. One file for each share, server in two committees of a key, or assignment of a
    /// provider, for the Court charges one. What nobody of this chain signed is passed over.
    ///
    /// # Errors
    /// [`StkrError::Rpc`].
    pub async fn find(&self, kept: Kept) -> Result<Vec<EvidenceFile>, StkrError> {
        let mut proofs = self.conflicting_requests(kept.requests).await?;
        let (mut members, mut committees) = (Conflicts::default(), BTreeMap::new());
        for ((key_id, epoch), envelopes) in by_committee(kept.envelopes) {
            match self.0.reshares().public_half(key_id, epoch).await {
                Ok(key) => {
                    let kind = self.0.keys().read(key_id).await?.kind;
                    proofs.extend(self.faults_of(&key, kind, envelopes, &mut members).await?);
                    committees.insert((key_id, epoch), key);
                }
                // Nobody answers for seats that there never were, or that are free again.
                Err(StkrError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        proofs.extend(members.pairs().filter_map(|(_, pair)| between_committees(pair, &committees)));
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

    /// Faults in envelopes of one committee of the key. What a server really signed is added to `members`, by key and server.
    async fn faults_of(
        &self,
        key: &LiveKey,
        kind: KeyKind,
        envelopes: Vec<SignedEnvelope>,
        members: &mut Conflicts<(u64, u32), SignedEnvelope>,
    ) -> Result<Vec<Proof>, StkrError> {
        let domain = self.0.deployment().protocol_domain();
        let mut conflicts = Conflicts::default();
        let mut proofs = Vec::new();
        let (mut guilty, mut ordered) = (BTreeSet::new(), BTreeSet::<B256>::new());
        for envelope in envelopes {
            // An envelope that somebody else made up must not stand in the way of the true one.
            let by = recover_signer(envelope.digest(&domain), &envelope.signature).ok();
            let Some(holder) = holder(key, envelope.index).filter(|holder| by == Some(holder.signer)) else { continue };
            let (index, root, server_id) = (envelope.index, envelope.signing_root, holder.server_id);
            // A withdrawal key has no duties: whatever kind a member names, the chain has to have ordered it.
            let needs_order = envelope.needs_order() || kind == KeyKind::Withdrawal;
            if needs_order && !guilty.contains(&index) && !ordered.contains(&root) {
                if self.0.keys().is_ordered(key.key_id, root).await? {
                    ordered.insert(root);
                } else {
                    guilty.insert(index);
                    let envelope = envelope.clone();
                    proofs.push(Proof::UnauthorisedSignature(EnvelopeProof { envelope, holder }));
                }
            }
            members.add((key.key_id, server_id), envelope.clone());
            conflicts.add(index, envelope);
        }
        proofs.extend(conflicts.pairs().filter_map(|(index, (first, second))| {
            Some(Proof::ConflictingDuties(DutiesProof {
                first,
                second,
                holder: holder(key, index)?,
                later_holder: None,
            }))
        }));
        Ok(proofs)
    }
}

/// Evidence of two duties that a server signed as a member of two committees; nothing for a pair of one, which is evidence already.
fn between_committees(
    (one, other): (SignedEnvelope, SignedEnvelope),
    committees: &BTreeMap<(u64, u32), LiveKey>,
) -> Option<Proof> {
    let (first, second) = if one.committee_epoch < other.committee_epoch { (one, other) } else { (other, one) };
    if first.committee_epoch == second.committee_epoch {
        return None;
    }
    let seat = |it: &SignedEnvelope| holder(committees.get(&(it.key_id, it.committee_epoch))?, it.index);
    let (earlier, later) = (seat(&first)?, seat(&second)?);
    Some(Proof::ConflictingDuties(DutiesProof { first, second, holder: earlier, later_holder: Some(Box::new(later)) }))
}

fn by_committee(envelopes: Vec<SignedEnvelope>) -> BTreeMap<(u64, u32), Vec<SignedEnvelope>> {
    let mut committees: BTreeMap<(u64, u32), Vec<SignedEnvelope>> = BTreeMap::new();
    for envelope in envelopes {
        committees.entry((envelope.key_id, envelope.committee_epoch)).or_default().push(envelope);
    }
    committees
}

fn holder(key: &LiveKey, index: ShareIndex) -> Option<Holder> {
    let member = key.member(index)?;
    let (_, proof) = key.leaf_with_proof(index)?;
    let share_key = key.keys.share_key(index)?.to_eip2537();
    Some(Holder { server_id: member.server_id, signer: member.signer, share_key, proof })
}
