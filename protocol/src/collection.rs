//! Collecting partial signatures: who answered, whose answer counts, and the verified result.
//!
//! ```text
//! new(asked, committee, suspects) -> send request to all -> on_response(index, ..) -> poll() -> Done
//! ```
//! The caller sends and receives; [`Collection`] decides. Relayer and gateway share it.
//!
//! # What counts as an answer
//! A partial counts only in an envelope that the asked server signed over exactly what was asked: every field is
//! recomputed from the request that was *sent*, nothing is taken from the answer. An answer under another index,
//! committee, key, duty or signer is no answer, and costs its sender nothing but the seat in this signature.
//!
//! # Wrong partials
//! The first t are combined and the result is verified once; only if that fails is each partial verified against its
//! share key. Who is wrong is named, its envelope kept (it proves the fault to a court) and its partials are verified
//! before use from then on: pass [`Done::culprits`] as suspects of later collections.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, B256};
use stkr_core::{Claim, CombineError, CommitteeKeys, PartialSignature, ShareIndex, Signature};
use thiserror::Error;

use crate::{
    ProtocolDomain, SignatureError,
    ceremony::MemberId,
    envelope::Envelope,
    sign::{Asked, Refusal, SignRequest, SignResponse, SignedPartial},
};

/// The committee that holds a key, as the chain names it.
#[derive(Clone, Debug)]
pub struct Committee {
    domain: ProtocolDomain,
    epoch: u32,
    keys: CommitteeKeys,
    members: Vec<MemberId>,
}

/// Not one member per share key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{members} members for {keys} share keys")]
pub struct CommitteeError {
    /// Members that came.
    pub members: usize,
    /// n
    pub keys: usize,
}

impl Committee {
    /// `members` in index order; `epoch` counts the committees of this key from 0.
    ///
    /// # Errors
    /// [`CommitteeError`].
    pub fn new(
        domain: ProtocolDomain,
        epoch: u32,
        keys: CommitteeKeys,
        members: Vec<MemberId>,
    ) -> Result<Self, CommitteeError> {
        if members.len() != keys.share_keys().len() {
            return Err(CommitteeError { members: members.len(), keys: keys.share_keys().len() });
        }
        Ok(Self { domain, epoch, keys, members })
    }

    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> &ProtocolDomain {
        &self.domain
    }

    /// Number of this committee, from 0.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Group key and share keys.
    #[must_use]
    pub const fn keys(&self) -> &CommitteeKeys {
        &self.keys
    }

    /// In index order.
    #[must_use]
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }

    fn signer(&self, index: ShareIndex) -> Option<Address> {
        self.members.get(index.position()).map(|member| member.signer)
    }
}

/// A wrong partial with the envelope that proves whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who handed it out.
    pub culprit: ShareIndex,
    /// What the culprit signed.
    pub envelope: Envelope,
    /// Its signature, r ‖ s ‖ v.
    pub envelope_signature: [u8; 65],
    /// Bytes of the partial; not even a point, nor 256 of them, where the culprit sent garbage.
    pub partial: Vec<u8>,
}

/// An answer that counts if its partial is right.
#[derive(Clone, Debug)]
pub struct Unverified {
    index: ShareIndex,
    answer: SignedPartial,
    claim: Claim,
}

impl Unverified {
    /// What there is to verify: the partial signature under the share key, over the signing root that was asked for.
    #[must_use]
    pub const fn claim(&self) -> Claim {
        self.claim
    }
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It counts, as far as can be told before combining.
    Counted,
    /// The server has answered before, in a way that stands.
    Repeated,
    /// The server refuses.
    Refused(Refusal),
    /// It is not an answer to what was asked.
    NoAnswer(NoAnswer),
    /// The server signed an envelope over a wrong partial.
    Wrong(Box<Evidence>),
}

/// Why a response is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// Nobody of that index was asked.
    #[error("there is no member {} in this committee", .0.get())]
    NoSuchMember(ShareIndex),
    /// The server answers as another member.
    #[error("the server was asked as member {} and answers as member {}", .asked.get(), .answered.get())]
    OtherIndex {
        /// Index asked.
        asked: ShareIndex,
        /// Index in the answer.
        answered: ShareIndex,
    },
    /// The server answers for another committee of the key.
    #[error("the server answers for committee {answered} of the key, not for {asked}")]
    OtherCommittee {
        /// Epoch asked.
        asked: u32,
        /// Epoch in the answer.
        answered: u32,
    },
    /// The envelope over what was asked was not signed by the server.
    #[error(
        "the envelope was signed by {recovered} over what was asked, not by {signer}: another signer, or another duty"
    )]
    OtherSigner {
        /// Who signed, if the envelope is over what was asked.
        recovered: Address,
        /// The member's signer.
        signer: Address,
    },
    /// The envelope's signature is malformed.
    #[error("the envelope has no valid signature: {0}")]
    BadSignature(SignatureError),
}

/// A verified signature of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Valid under the group key over the request's signing root.
    pub signature: Signature,
    /// Members whose partials were wrong so far.
    pub culprits: Vec<ShareIndex>,
    /// One piece per culprit.
    pub evidence: Vec<Evidence>,
}

/// Where a collection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Too few good partials.
    Waiting {
        /// Good partials still needed.
        needed: usize,
        /// Members that have not answered, or refused for now: ask them (again).
        missing: Vec<ShareIndex>,
        /// The last refusals.
        refused: Vec<(ShareIndex, Refusal)>,
        /// Members whose partials were wrong.
        culprits: Vec<ShareIndex>,
    },
    /// The signature is there.
    Done(Done),
}

/// One request on its way to a signature.
#[derive(Debug)]
pub struct Collection {
    asked: Asked,
    committee: Committee,
    suspects: BTreeSet<ShareIndex>,
    counted: BTreeMap<ShareIndex, (PartialSignature, SignedPartial)>,
    refused: BTreeMap<ShareIndex, Refusal>,
    wrong: BTreeMap<ShareIndex, Evidence>,
    signature: Option<Signature>,
}

impl Collection {
    /// Starts to collect. `suspects` are verified one by one before they count.
    #[must_use]
    pub fn new(asked: impl Into<Asked>, committee: Committee, suspects: impl IntoIterator<Item = ShareIndex>) -> Self {
        Self {
            asked: asked.into(),
            committee,
            suspects: suspects.into_iter().collect(),
            counted: BTreeMap::new(),
            refused: BTreeMap::new(),
            wrong: BTreeMap::new(),
            signature: None,
        }
    }

    /// The request to send, the same to all.
    #[must_use]
    pub const fn request(&self) -> &SignRequest {
        self.asked.request()
    }

    /// What has to be signed.
    #[must_use]
    pub const fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The partials that count so far, as they came, in index order.
    pub fn answers(&self) -> impl Iterator<Item = (ShareIndex, &SignedPartial)> {
        self.counted.iter().map(|(index, (_, answer))| (*index, answer))
    }

    /// Proofs of the wrong partials found so far, in index order.
    pub fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.wrong.values()
    }

    /// The committee asked.
    #[must_use]
    pub const fn committee(&self) -> &Committee {
        &self.committee
    }

    /// Takes what the server asked as member `index` answered.
    ///
    /// Also good after [`Progress::Done`], for answers that come late: they are verified on their own, so that wrong
    /// ones are still found. Do that off the hot path: it costs a pairing.
    pub fn on_response(&mut self, index: ShareIndex, response: SignResponse) -> Answer {
        match response {
            SignResponse::Refused(refused) => self.on_refusal(index, refused.refusal),
            SignResponse::Signed(answer) => self.on_partial(index, answer),
        }
    }

    /// Takes a response like [`Collection::on_response`], but leaves it to the caller to verify the partial, together with
    /// others: [`Collection::settle`] takes the verdict.
    ///
    /// # Errors
    /// What became of a response that leaves nothing to verify.
    pub fn examine(&mut self, index: ShareIndex, response: SignResponse) -> Result<Unverified, Answer> {
        match response {
            SignResponse::Refused(refused) => Err(self.on_refusal(index, refused.refusal)),
            SignResponse::Signed(answer) => self.examine_partial(index, answer),
        }
    }

    /// Counts a partial that was found `right`. Any other is verified here, alone, before its sender is named: a conviction
    /// never rests on a batch that failed, or on nobody having had the time.
    pub fn settle(&mut self, unverified: Unverified, right: bool) -> Answer {
        let Unverified { index, answer, claim } = unverified;
        if self.has_answered(index) {
            return Answer::Repeated;
        }
        if !right && !stkr_core::verify(&claim.key, &claim.message, &claim.signature) {
            return self.convict(index, &answer);
        }
        self.counted.insert(index, (PartialSignature { index, signature: claim.signature }, answer));
        Answer::Counted
    }

    /// The combination of the first t partials that count, not verified yet; nothing while there are fewer, or once the
    /// signature is there. For callers who verify many together: [`Collection::poll`] needs none of this.
    #[must_use]
    pub fn candidate(&self) -> Option<Signature> {
        if self.signature.is_some() {
            return None;
        }
        let partials: Vec<PartialSignature> = self.counted.values().map(|(partial, _)| *partial).collect();
        stkr_core::interpolate(self.committee.keys.threshold(), &partials).ok()
    }

    /// Takes a [candidate](Collection::candidate) as the signature.
    ///
    /// # Warning
    /// The caller has verified it, under the group key and over the signing root. Of a wrong candidate say nothing:
    /// [`Collection::poll`] finds out who is wrong.
    pub const fn accept(&mut self, verified: Signature) {
        self.signature = Some(verified);
    }

    /// Combines if there is enough to combine.
    pub fn poll(&mut self) -> Progress {
        if self.signature.is_none() {
            self.combine();
        }
        match self.signature {
            Some(signature) => Progress::Done(Done {
                signature,
                culprits: self.culprits(),
                evidence: self.wrong.values().cloned().collect(),
            }),
            None => self.waiting(),
        }
    }

    fn on_refusal(&mut self, index: ShareIndex, refusal: Refusal) -> Answer {
        if self.committee.signer(index).is_none() {
            return Answer::NoAnswer(NoAnswer::NoSuchMember(index));
        }
        if self.has_answered(index) {
            return Answer::Repeated;
        }
        self.refused.insert(index, refusal.clone());
        Answer::Refused(refusal)
    }

    fn on_partial(&mut self, index: ShareIndex, answer: SignedPartial) -> Answer {
        let believed = !self.suspects.contains(&index) && self.signature.is_none();
        match self.examine_partial(index, answer) {
            Ok(unverified) => self.settle(unverified, believed),
            Err(answer) => answer,
        }
    }

    fn examine_partial(&mut self, index: ShareIndex, answer: SignedPartial) -> Result<Unverified, Answer> {
        self.check_envelope(index, &answer).map_err(Answer::NoAnswer)?;
        if self.has_answered(index) {
            return Err(Answer::Repeated);
        }
        self.refused.remove(&index);
        let Ok(signature) = Signature::from_eip2537(&answer.partial) else {
            return Err(self.convict(index, &answer));
        };
        let key = self.committee.keys.share_keys().get(index.position()).copied();
        let key = key.ok_or(Answer::NoAnswer(NoAnswer::NoSuchMember(index)))?;
        Ok(Unverified { index, answer, claim: Claim { key, message: self.signing_root().0, signature } })
    }

    fn has_answered(&self, index: ShareIndex) -> bool {
        self.counted.contains_key(&index) || self.wrong.contains_key(&index)
    }

    /// The envelope is rebuilt from what was sent; only the partial's bytes come from the answer.
    fn check_envelope(&self, asked: ShareIndex, answer: &SignedPartial) -> Result<(), NoAnswer> {
        let signer = self.committee.signer(asked).ok_or(NoAnswer::NoSuchMember(asked))?;
        if answer.index != asked {
            return Err(NoAnswer::OtherIndex { asked, answered: answer.index });
        }
        if answer.committee_epoch != self.committee.epoch {
            return Err(NoAnswer::OtherCommittee { asked: self.committee.epoch, answered: answer.committee_epoch });
        }
        let recovered = self
            .envelope(asked, &answer.partial)
            .recover(&self.committee.domain, &answer.envelope)
            .map_err(NoAnswer::BadSignature)?;
        if recovered == signer { Ok(()) } else { Err(NoAnswer::OtherSigner { recovered, signer }) }
    }

    fn envelope(&self, index: ShareIndex, partial: &[u8]) -> Envelope {
        self.asked.subject().envelope(self.committee.epoch, index, partial)
    }

    fn signing_root(&self) -> B256 {
        self.asked.subject().signing_root()
    }

    fn convict(&mut self, culprit: ShareIndex, answer: &SignedPartial) -> Answer {
        let evidence = Evidence {
            culprit,
            envelope: self.envelope(culprit, &answer.partial),
            envelope_signature: answer.envelope,
            partial: answer.partial.clone(),
        };
        self.suspects.insert(culprit);
        self.wrong.insert(culprit, evidence.clone());
        Answer::Wrong(Box::new(evidence))
    }

    fn combine(&mut self) {
        let partials: Vec<PartialSignature> = self.counted.values().map(|(partial, _)| *partial).collect();
        let culprits = match self.committee.keys.combine(&self.signing_root().0, &partials) {
            Ok(combined) => {
                self.signature = Some(combined.signature);
                combined.culprits
            }
            Err(CombineError::NotEnough { culprits, .. }) => culprits,
            Err(_) => Vec::new(),
        };
        for culprit in culprits {
            if let Some((_, answer)) = self.counted.remove(&culprit) {
                self.convict(culprit, &answer);
            }
        }
    }

    fn culprits(&self) -> Vec<ShareIndex> {
        self.wrong.keys().copied().collect()
    }

    fn waiting(&self) -> Progress {
        let threshold = self.committee.keys.threshold();
        Progress::Waiting {
            needed: usize::from(threshold.t()).saturating_sub(self.counted.len()),
            missing: threshold.indices().filter(|index| !self.has_answered(*index)).collect(),
            refused: self.refused.iter().map(|(index, refusal)| (*index, refusal.clone())).collect(),
            culprits: self.culprits(),
        }
    }
}

#[cfg(test)]
mod tests;
