//! The key ceremony: joint-Feldman, commit then reveal, over a bulletin that nobody trusts.
//!
//! ```text
//! Member::start -> step -> store new messages -> send published() -> accept what comes -> step -> ...
//!                                                                                   -> outcome -> store -> send
//! ```
//!
//! [`Member`] is one server's part, [`Board`] what anyone holds who carries messages, [`Transcript`] what anyone can
//! check at the end and the contract does check. All are pure: the caller stores and sends.
//!
//! # What the bulletin can and cannot do
//! It can withhold and delay. It cannot forge (every message is signed by the key that the chain names), replay
//! (every message names chain, registry, key, attempt and sender), or split the committee: nobody reveals its dealing
//! before all n members signed one and the same set of commitments.
//!
//! # What a caller must store, and when
//! The one-time secret (encrypted) before the first step; all of [`Step::new_messages`] and, at the end, the
//! [`Step::outcome`] in one transaction *before* sending [`Member::published`]; and every message for which `accept` said
//! [`Accepted::New`] or [`Accepted::Evidence`], so that a restart reaches the same state. A member that lost any of
//! it sits the ceremony out: a second, different message would be equivocation.

mod board;
mod member;
mod progress;
mod transcript;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt};

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::{
    SolType,
    sol_data::{Address as SolAddress, Array, Uint},
};
use serde::{Deserialize, Serialize};
use stkr_core::{
    CommitteeKeys, ShareIndex, Threshold,
    dkg::{CeremonyDomain, DealingFault, DkgError, OneTimeKeyError},
};
use thiserror::Error;
use utoipa::ToSchema;

pub use board::{Board, Rejected};
pub use member::{Member, Step, StepError};
pub use progress::{Arrivals, OFFLINE_STALLED_AFTER, RoundProgress, STALLED_AFTER, progress};
pub use transcript::{Transcript, TranscriptError, acknowledgement_of, recompute_keys};
pub(crate) use transcript::{keys_of_points, must_be_acknowledged};

pub use crate::posted::{Accepted, Equivocation};
use crate::{
    ProtocolDomain,
    messages::{AcknowledgementBody, Round, SignedMessage},
};

/// A member of a committee as the chain names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberId {
    /// Id in the ServerRegistry.
    pub server_id: u32,
    /// Address of the key that signs the member's messages.
    pub signer: Address,
}

/// Which ceremony this is and who takes part. Read it from the chain: nothing in it may come from a relayer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    domain: ProtocolDomain,
    key_id: u64,
    attempt: u16,
    threshold: Threshold,
    members: Vec<MemberId>,
}

/// A committee that cannot hold a ceremony.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ContextError {
    /// Not n members.
    #[error("{got} members for a committee of {expected}")]
    WrongCount {
        /// Members that came.
        got: usize,
        /// n
        expected: u8,
    },
    /// One server or signer key in two seats: its messages could pass for each other's.
    #[error("server {0} or its signer key sits in two seats")]
    Duplicate(u32),
}

impl Context {
    /// A ceremony of `members` in index order.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn new(
        domain: ProtocolDomain,
        key_id: u64,
        attempt: u16,
        threshold: Threshold,
        members: Vec<MemberId>,
    ) -> Result<Self, ContextError> {
        must_be_committee(threshold, &members)?;
        Ok(Self { domain, key_id, attempt, threshold, members })
    }

    /// The same ceremony with other signers, index order.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn with_signers(&self, signers: &[Address]) -> Result<Self, ContextError> {
        let members = self.members.iter().zip(signers);
        let members = members.map(|(member, signer)| MemberId { signer: *signer, ..*member }).collect();
        Self::new(self.domain, self.key_id, self.attempt, self.threshold, members)
    }

    /// Chain and registry.
    #[must_use]
    pub const fn domain(&self) -> &ProtocolDomain {
        &self.domain
    }

    /// Key the ceremony makes.
    #[must_use]
    pub const fn key_id(&self) -> u64 {
        self.key_id
    }

    /// Ceremony number of this key, from 0.
    #[must_use]
    pub const fn attempt(&self) -> u16 {
        self.attempt
    }

    /// t of n.
    #[must_use]
    pub const fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// In index order.
    #[must_use]
    pub fn members(&self) -> &[MemberId] {
        &self.members
    }

    /// The member with this index.
    #[must_use]
    pub fn member(&self, index: ShareIndex) -> Option<&MemberId> {
        self.members.get(index.position())
    }

    /// Index of the member with this signer key.
    #[must_use]
    pub fn index_of(&self, signer: Address) -> Option<ShareIndex> {
        self.threshold.indices().zip(&self.members).find(|(_, member)| member.signer == signer).map(|(index, _)| index)
    }

    /// Server ids in index order: the `committee` argument of the contract.
    #[must_use]
    pub fn committee(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.server_id).collect()
    }

    /// Signers in index order.
    #[must_use]
    pub fn signers(&self) -> Vec<Address> {
        self.members.iter().map(|member| member.signer).collect()
    }

    /// `committeeHash` of acknowledgements: keccak256(abi.encode(uint32[] server ids, address[] signers)).
    #[must_use]
    pub fn committee_hash(&self) -> B256 {
        committee_hash(&self.members)
    }

    /// What every member acknowledges if these keys came out of these dealings.
    #[must_use]
    pub fn acknowledgement(&self, keys: &CommitteeKeys, dealings_digest: B256) -> AcknowledgementBody {
        AcknowledgementBody {
            threshold: self.threshold.t(),
            points_hash: keccak256(points(keys)),
            committee_hash: self.committee_hash(),
            dealings_digest,
        }
    }

    pub(crate) fn ceremony_domain(&self) -> CeremonyDomain {
        CeremonyDomain {
            chain_id: self.domain.chain_id,
            registry: self.domain.key_registry,
            key_id: self.key_id,
            attempt: self.attempt,
        }
    }
}

/// That these are n members, and no server or signer key among them twice.
pub(crate) fn must_be_committee(threshold: Threshold, members: &[MemberId]) -> Result<(), ContextError> {
    if members.len() != usize::from(threshold.n()) {
        return Err(ContextError::WrongCount { got: members.len(), expected: threshold.n() });
    }
    let (mut servers, mut signers) = (BTreeSet::new(), BTreeSet::new());
    for member in members {
        if !servers.insert(member.server_id) || !signers.insert(member.signer) {
            return Err(ContextError::Duplicate(member.server_id));
        }
    }
    Ok(())
}

/// keccak256(abi.encode(uint32[] server ids, address[] signers)) of members in index order.
pub(crate) fn committee_hash(members: &[MemberId]) -> B256 {
    type Encoding = (Array<Uint<32>>, Array<SolAddress>);
    let servers: Vec<u32> = members.iter().map(|member| member.server_id).collect();
    let signers: Vec<Address> = members.iter().map(|member| member.signer).collect();
    keccak256(<Encoding as SolType>::abi_encode_params(&(servers, signers)))
}

/// The n share keys in index order, then the group key, EIP-2537: the `points` of the contract.
#[must_use]
pub fn points(keys: &CommitteeKeys) -> Vec<u8> {
    keys.share_keys().iter().chain([&keys.group_key()]).flat_map(|point| point.to_eip2537()).collect()
}

/// Hash over dealing hashes in index order: `commitmentsHash` and `dealingsDigest`.
pub(crate) fn hash_of_hashes(hashes: impl IntoIterator<Item = B256>) -> B256 {
    keccak256(hashes.into_iter().collect::<Vec<_>>().concat())
}

/// Where a member stands: what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One-time keys of others.
    OneTimeKey,
    /// Commitments of others.
    Commitment,
    /// Signed sets of others.
    CommitmentSet,
    /// Dealings of others.
    Dealing,
    /// It has its share and has acknowledged; others may not have.
    Acknowledged,
    /// The ceremony ended without a key for this member.
    Failed,
}

impl Phase {
    /// Name for people; the same as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneTimeKey => "one_time_key",
            Self::Commitment => "commitment",
            Self::CommitmentSet => "commitment_set",
            Self::Dealing => "dealing",
            Self::Acknowledged => "acknowledged",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a ceremony ended without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two different messages of one member in one round.
    Equivocation(Round),
    /// A published one-time key that nobody can encrypt to.
    OneTimeKey(OneTimeKeyError),
    /// Another set of commitments than ours: somebody was shown another dealing than we were.
    SetsDiffer,
    /// A dealing other than the one committed to.
    BrokenCommitment,
    /// The dealing of this member was encrypted to other one-time keys than we hold: the dealer made it up, or another member
    /// showed it another key than us.
    RecipientsDiffer(ShareIndex),
    /// A bad dealing.
    Dealing(DealingFault),
    /// An acknowledgement of another transcript.
    AcknowledgementDiffers,
    /// This server signed messages that its database does not have.
    LostState,
    /// No key came out and no single member is to blame.
    NoKey(DkgError),
}

/// A ceremony that ended, with the signed messages that prove why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Member at fault, where one can be named.
    pub culprit: Option<ShareIndex>,
    /// What happened.
    pub fault: Fault,
    /// The culprit's messages.
    pub evidence: Vec<SignedMessage>,
}

impl Failure {
    /// One sentence on what happened.
    #[must_use]
    pub fn reason(&self) -> String {
        let who = self.culprit.map_or_else(|| "a member".to_owned(), |index| format!("member {}", index.get()));
        match &self.fault {
            Fault::Equivocation(round) => format!("{who} signed two different {round} messages"),
            Fault::OneTimeKey(error) => {
                format!("{who} published a one-time key that nobody can use: {error}")
            }
            Fault::SetsDiffer => format!(
                "{who} holds another set of dealing commitments than this server: a dealer showed different dealings \
                 to different members"
            ),
            Fault::BrokenCommitment => {
                format!("{who} revealed another dealing than it had committed to")
            }
            Fault::RecipientsDiffer(dealer) => format!(
                "the dealing of member {} is encrypted to other one-time keys than this server holds: either that member \
                 made them up, or another showed it a different key",
                dealer.get()
            ),
            Fault::Dealing(fault) => format!("{who} made a bad dealing: {fault}"),
            Fault::AcknowledgementDiffers => {
                format!("{who} acknowledged another transcript than this server")
            }
            Fault::LostState => "this server has signed messages of this ceremony that its database lacks".to_owned(),
            Fault::NoKey(error) => format!("no key came out of the dealings: {error}"),
        }
    }

    /// One sentence on what to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> String {
        match self.fault {
            Fault::SetsDiffer => {
                "Nothing was revealed. Show every server all messages of all members: two commitments of one dealer \
                 name the culprit; then restart the ceremony after its deadline."
            }
            Fault::LostState => {
                "This server sits the ceremony out, because signing again could make a second, different message; \
                 restart the ceremony after its deadline, and find out who restored the database or runs a second \
                 server with this key."
            }
            Fault::RecipientsDiffer(_) => {
                "Show every server all messages of all members: two one-time keys of one member name the culprit; if \
                 there are none it is the dealer. Then restart the ceremony after its deadline."
            }
            Fault::NoKey(_) => "Restart the ceremony after its deadline.",
            _ => {
                "Keep the messages as evidence, report the member to governance, and restart the ceremony after its \
                 deadline."
            }
        }
        .to_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.reason(), self.what_to_do())
    }
}
