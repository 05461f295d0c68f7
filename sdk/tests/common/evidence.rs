//! Evidence against the second member of a committee whose keys the test has.

use alloy::{
    primitives::{B256, keccak256},
    signers::local::PrivateKeySigner,
};
use stkr_core::{
    PartialSignature, ShareIndex,
    dkg::{self, CeremonyDomain, OneTimeSecret},
    testing::TrustedDealer,
};
use stkr_protocol::{
    ProtocolDomain, SignerKey,
    ceremony::MemberId,
    collection::Committee,
    evidence::{
        DefectiveDealing, DutiesProof, EnvelopeProof, EvidenceFile, Holder, MessagesProof, OpenedDealing, PartialProof,
        Proof, RequestsProof, SignedDealing, SignedDutyRequest, SignedEnvelope,
    },
    messages::{Body, DealingBody, OneTimeKeyBody, SignedMessage},
    sign::{DepositRequest, SignedPartial},
};
use stkr_sdk::Deployment;

const DEPOSIT: u8 = 1;
const ATTESTATION: u8 = 2;
const VOLUNTARY_EXIT: u8 = 7;

/// A key and its committee.
pub(crate) struct Accused<'a> {
    pub(crate) key: u64,
    pub(crate) dealer: &'a TrustedDealer,
    pub(crate) committee: Vec<u32>,
    pub(crate) signers: Vec<PrivateKeySigner>,
}

pub(crate) fn one_time_secret(member: u8) -> OneTimeSecret {
    OneTimeSecret::from_bytes(&[member; 32]).unwrap()
}

pub(crate) fn signer_key(signer: &PrivateKeySigner) -> SignerKey {
    SignerKey::from_bytes(&signer.to_bytes().0).unwrap()
}

pub(crate) fn domain(deployment: &Deployment) -> ProtocolDomain {
    ProtocolDomain { chain_id: deployment.chain_id, key_registry: deployment.key_registry }
}

impl Accused<'_> {
    fn holder(&self, domain: ProtocolDomain, index: ShareIndex) -> Holder {
        let seats = self.committee.iter().zip(&self.signers);
        let members = seats.map(|(id, signer)| MemberId { server_id: *id, signer: signer.address() }).collect();
        let committee = Committee::new(domain, 0, self.dealer.keys.clone(), members).unwrap();
        Holder::of(&committee, index).unwrap()
    }

    /// An attestation of slot 40 and epochs 1 to 2 that the second member signs.
    fn envelope(&self, domain: &ProtocolDomain, change: impl FnOnce(&mut SignedEnvelope)) -> SignedEnvelope {
        let mut envelope = SignedEnvelope {
            key_id: self.key,
            committee_epoch: 0,
            index: ShareIndex::new(2).unwrap(),
            duty_kind: ATTESTATION,
            slot: 40,
            source_epoch: 1,
            target_epoch: 2,
            signing_root: B256::repeat_byte(1),
            partial_hash: B256::ZERO,
            signature: [0; 65],
        };
        change(&mut envelope);
        envelope.signature = signer_key(&self.signers[1]).sign_digest(envelope.digest(domain));
        envelope
    }

    /// An attestation with a wrong partial: a point of another signature, or no point.
    pub(crate) fn wrong_partial(&self, deployment: &Deployment, garbage: bool, root: u8) -> EvidenceFile {
        let domain = domain(deployment);
        let point = self.dealer.shares[1].sign(&[0xee; 32]).signature.to_eip2537().to_vec();
        let partial = if garbage { vec![0xff; 256] } else { point };
        let envelope = self.envelope(&domain, |it| {
            it.partial_hash = keccak256(&partial);
            it.signing_root = B256::repeat_byte(root);
        });
        let proof = PartialProof { holder: self.holder(domain, envelope.index), envelope, partial };
        let proof = if garbage { Proof::GarbagePartial(proof) } else { Proof::InvalidPartial(proof) };
        EvidenceFile::new(&domain, deployment.court, proof)
    }

    /// An honest attestation, called an invalid one.
    pub(crate) fn framed(&self, deployment: &Deployment) -> EvidenceFile {
        let domain = domain(deployment);
        let partial = self.dealer.shares[1].sign(&[1; 32]).signature.to_eip2537().to_vec();
        let envelope = self.envelope(&domain, |it| it.partial_hash = keccak256(&partial));
        let holder = self.holder(domain, envelope.index);
        let proof = Proof::InvalidPartial(PartialProof { envelope, holder, partial });
        EvidenceFile::new(&domain, deployment.court, proof)
    }

    pub(crate) fn conflicting(&self, deployment: &Deployment) -> EvidenceFile {
        let domain = domain(deployment);
        let first = self.envelope(&domain, |_| ());
        let second = self.envelope(&domain, |it| it.signing_root = B256::repeat_byte(2));
        let proof = DutiesProof { holder: self.holder(domain, first.index), later_holder: None, first, second };
        EvidenceFile::new(&domain, deployment.court, Proof::ConflictingDuties(proof))
    }

    /// A vote of the member at `position` (from 0) in committee `epoch`, from epoch 1 to epoch 2, and its seat there.
    pub(crate) fn vote_in(
        &self,
        deployment: &Deployment,
        epoch: u32,
        position: u8,
        root: u8,
    ) -> (SignedEnvelope, Holder) {
        let domain = domain(deployment);
        let mut vote = self.envelope(&domain, |it| {
            it.committee_epoch = epoch;
            it.index = ShareIndex::new(position + 1).unwrap();
            it.signing_root = B256::repeat_byte(root);
        });
        vote.signature = signer_key(&self.signers[usize::from(position)]).sign_digest(vote.digest(&domain));
        let holder = self.holder(domain, vote.index);
        (vote, holder)
    }

    pub(crate) fn unauthorised(&self, deployment: &Deployment) -> EvidenceFile {
        let domain = domain(deployment);
        let envelope = self.envelope(&domain, |it| it.duty_kind = VOLUNTARY_EXIT);
        let proof = EnvelopeProof { holder: self.holder(domain, envelope.index), envelope };
        EvidenceFile::new(&domain, deployment.court, Proof::UnauthorisedSignature(proof))
    }

    /// The same accusations of the second member in another committee of the key than its first: a wrong partial, a double vote, an
    /// exit that nobody ordered.
    pub(crate) fn of_committee(&self, deployment: &Deployment, epoch: u32) -> [EvidenceFile; 3] {
        let (mut partial, mut duties) = (self.wrong_partial(deployment, false, 1), self.conflicting(deployment));
        let mut exit = self.unauthorised(deployment);
        let domain = domain(deployment);
        let again = |envelope: &mut SignedEnvelope| {
            envelope.committee_epoch = epoch;
            envelope.signature = signer_key(&self.signers[1]).sign_digest(envelope.digest(&domain));
        };
        if let Proof::InvalidPartial(proof) = &mut partial.proof {
            again(&mut proof.envelope);
        }
        if let Proof::ConflictingDuties(proof) = &mut duties.proof {
            again(&mut proof.first);
            again(&mut proof.second);
        }
        if let Proof::UnauthorisedSignature(proof) = &mut exit.proof {
            again(&mut proof.envelope);
        }
        [partial, duties, exit]
    }

    /// The second member's answer to the request for a deposit, right or with the partial of another member.
    pub(crate) fn answer(&self, deployment: &Deployment, asked: &DepositRequest, right: bool) -> SignedPartial {
        self.answer_in(deployment, 0, asked, right)
    }

    /// The same of a member of committee `epoch`.
    pub(crate) fn answer_in(
        &self,
        deployment: &Deployment,
        epoch: u32,
        asked: &DepositRequest,
        right: bool,
    ) -> SignedPartial {
        let share = &self.dealer.shares[if right { 1 } else { 0 }];
        let index = ShareIndex::new(2).unwrap();
        let partial = PartialSignature { index, ..share.sign(&asked.signing_root().0) };
        SignedPartial::new(&asked.subject(), &domain(deployment), &signer_key(&self.signers[1]), epoch, &partial)
    }

    /// A signature of the second member over `root`, named after the duty of this kind, called unauthorised.
    pub(crate) fn unordered(&self, deployment: &Deployment, kind: u8, root: B256) -> EvidenceFile {
        let domain = domain(deployment);
        let envelope = self.envelope(&domain, |it| (it.duty_kind, it.signing_root) = (kind, root));
        let proof = EnvelopeProof { holder: self.holder(domain, envelope.index), envelope };
        EvidenceFile::new(&domain, deployment.court, Proof::UnauthorisedSignature(proof))
    }

    /// A deposit that the chain ordered, called unauthorised.
    pub(crate) fn ordered(&self, deployment: &Deployment, signing_root: B256) -> EvidenceFile {
        self.unordered(deployment, DEPOSIT, signing_root)
    }

    pub(crate) fn equivocating(&self, deployment: &Deployment) -> EvidenceFile {
        let domain = domain(deployment);
        let say = |byte| {
            let body = Body::OneTimeKey(OneTimeKeyBody { public_key: vec![byte; 33] });
            let subject = (self.key, 0, ShareIndex::new(2).unwrap());
            SignedMessage::sign(&domain, &signer_key(&self.signers[1]), subject, body)
        };
        let proof = MessagesProof { first: say(2), second: say(3) };
        EvidenceFile::new(&domain, deployment.court, Proof::CeremonyEquivocation(proof))
    }

    /// A dealing of the second member in attempt 0, made for the keys of [`one_time_secret`].
    pub(crate) fn dealing(&self, deployment: &Deployment, change: impl FnOnce(&mut DealingBody)) -> SignedMessage {
        let ProtocolDomain { chain_id, key_registry: registry } = domain(deployment);
        let (threshold, keys) = (self.dealer.keys.threshold(), self.one_time_keys());
        let ceremony = CeremonyDomain { chain_id, registry, key_id: self.key, attempt: 0 };
        let me = ShareIndex::new(2).unwrap();
        let dealing = dkg::deal(&ceremony, threshold, me, &one_time_secret(2), &keys).unwrap();
        let mut body = DealingBody {
            one_time_keys_hash: keccak256(keys.as_flattened()),
            one_time_key: dealing.one_time_key.to_vec(),
            commitments: dealing.commitments_to_wire(),
            proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
            shares: dealing.shares_to_wire(),
        };
        change(&mut body);
        let signer = signer_key(&self.signers[1]);
        SignedMessage::sign(&domain(deployment), &signer, (self.key, 0, me), Body::Dealing(body))
    }

    pub(crate) fn one_time_keys(&self) -> Vec<[u8; 33]> {
        self.dealer.keys.threshold().indices().map(|index| one_time_secret(index.get()).public_key()).collect()
    }

    /// A member opens its share in a dealing.
    pub(crate) fn opened(&self, message: &SignedMessage, recipient: u8) -> OpenedDealing {
        OpenedDealing {
            dealing: SignedDealing::of(message).unwrap(),
            one_time_keys: self.one_time_keys().as_flattened().to_vec(),
            recipient,
            secret: *one_time_secret(recipient).to_bytes(),
        }
    }

    fn dealt_badly(&self, deployment: &Deployment) -> EvidenceFile {
        let message = self.dealing(deployment, |body| body.shares[95] ^= 1);
        EvidenceFile::new(&domain(deployment), deployment.court, Proof::BadDealing(self.opened(&message, 3)))
    }

    fn dealt_nothing(&self, deployment: &Deployment) -> EvidenceFile {
        let message = self.dealing(deployment, |body| body.commitments.truncate(128));
        let (threshold, domain) = (self.dealer.keys.threshold(), domain(deployment));
        let proof = DefectiveDealing::find(&message, (threshold.t(), threshold.n()), None, &domain).unwrap();
        EvidenceFile::new(&domain, deployment.court, Proof::MalformedDealing(proof))
    }

    /// One file of each fault of a server.
    pub(crate) fn every_fault(&self, deployment: &Deployment) -> Vec<EvidenceFile> {
        vec![
            self.wrong_partial(deployment, false, 1),
            self.wrong_partial(deployment, true, 1),
            self.conflicting(deployment),
            self.unauthorised(deployment),
            self.equivocating(deployment),
            self.dealt_badly(deployment),
            self.dealt_nothing(deployment),
        ]
    }

    /// The provider asks for two votes with one target, each with one of these duty keys.
    pub(crate) fn equivocating_provider(
        &self,
        deployment: &Deployment,
        duty_keys: [&PrivateKeySigner; 2],
        assignment: u64,
    ) -> EvidenceFile {
        let domain = domain(deployment);
        let ask = |root, duty_key| {
            let mut request = SignedDutyRequest {
                key_id: self.key,
                assignment,
                duty_kind: ATTESTATION,
                slot: 40,
                source_epoch: 1,
                target_epoch: 2,
                signing_root: B256::repeat_byte(root),
                signature: [0; 65],
            };
            request.signature = signer_key(duty_key).sign_digest(request.digest(&domain));
            request
        };
        let proof =
            Proof::ProviderEquivocation(RequestsProof { first: ask(1, duty_keys[0]), second: ask(2, duty_keys[1]) });
        EvidenceFile::new(&domain, deployment.court, proof)
    }
}
