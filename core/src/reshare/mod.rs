//! Moving a key to another committee without anybody holding it: t old members deal their shares (`docs/protocol.md`, Resharing).
//!
//! # Flow
//! A [`Reshare`] is what everybody knows before it begins: the keys of the old committee (t of n), which t old members deal,
//! and the new t' and n'. A refresh is the same with the same committee, t and n: new shares of the same key.
//! 1. Every new member `j` makes [`RecipientSecrets`], one for each dealer, and publishes their public keys.
//! 2. Every dealer `i` [deals](Reshare::deal): picks a polynomial g_i of degree t' - 1 with g_i(0) = its share s_i, commits to its
//!    coefficients, and encrypts g_i(j) to the key that member j published for it.
//! 3. With all t dealings on the table, every new member [finishes](Reshare::finish): checks every dealing, decrypts its t shares,
//!    checks each against the dealer's commitments, and takes s'_j = the sum of lambda_i g_i(j), lambda_i being the Lagrange
//!    coefficients at 0 of the dealers. The sum of lambda_i g_i has degree t' - 1, and at 0 it is the sum of lambda_i s_i, the key.
//!
//! # What differs from the DKG, and why
//! - **No proof of possession.** It keeps a dealer from choosing its constant term after it saw the others'. Here nobody chooses: the
//!   constant term is the dealer's share key, which the chain has had since the old committee was made. A dealer that does not know its
//!   share cannot give a matching value to t' members: t' values would be the share.
//! - **One one-time key for each dealer and recipient.** Who opens a share in a complaint gives away a one-time secret. In a DKG this
//!   opens what *all* dealers sent to that member, and the key dies with the ceremony. Here the old shares live on: if one bad dealer
//!   sent wrong shares to t' members, and each proved it with a secret that opens honest dealings too, everybody could add up
//!   the key. So a secret opens one dealing, that of the dealer it convicts.
//! - **The dealer's one-time key is made inside [`Reshare::deal`] and is gone when it returns.** No disk stolen later opens the dealing.
//!   A dealer that is also a new member uses this key for nothing else, so its complaints say nothing about its own dealing.
//! - **Dealing again is harmless.** Each dealing has its own key, so no two polynomials are ever under one pad, and t' - 1 values of each
//!   say nothing about the share. (It is still equivocation if both are shown in one attempt.)
//!
//! # Caveats
//! - Exactly t dealers, fixed beforehand, all of whom must deal well: there is nothing to choose afterwards that an adversary could bias.
//!   A bad dealing ends the attempt and names its dealer; the next attempt goes without it.
//! - A share of a failed attempt is a share of the key: whoever of its new members finished can sign with t' - 1 others. They must erase
//!   it, and every committee that was ever dealt to counts in the bounds, whether its attempt ended well or not. So an attempt that fails
//!   by a dealer's fault is repeated with other dealers and the same new members: redrawing them would be a lottery that one bad dealer
//!   can repeat.
//! - Old shares stay shares of the key: resharing protects against who gets the old ones later only once they are erased.
//! - The commitments do not say which recipients' keys the shares are for, and [`Reshare::deal`] encrypts the share to whom it is told:
//!   all of its arguments must come from finalised state, and the recipients' keys from messages that the drawn members signed.
//!
//! # What an adversary may try, and where it ends
//! | attempt | end |
//! |---|---|
//! | deal another secret than the share, another member's dealing, or one of an older epoch | [`DealingFault::AnotherSecret`] |
//! | other than t' commitments: another degree | counted |
//! | a share that does not match the commitments, 0, or not below r | [`DealingFault`], on opening |
//! | t - 1 old and t' - 1 new members together, in any number of attempts | know nothing about the key: one more of either is missing |
//! | t or more dealers together change the key | every constant term is compared, and so is the group key |
//! | combine partials of two epochs | they lie on no common polynomial; the combined signature is verified |
//!
//! # Example
//! 2-of-3 becomes 3-of-4:
//! ```
//! use alloy_primitives::Address;
//! use stkr_core::{Threshold, reshare::{RecipientSecrets, Reshare, ReshareDomain}, verify};
//! # use stkr_core::{CommitteeKeys, SecretShare, dkg};
//!
//! # fn make_key(threshold: Threshold) -> Result<(Vec<SecretShare>, CommitteeKeys), Box<dyn std::error::Error>> {
//! #     let domain = dkg::CeremonyDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, attempt: 0 };
//! #     let secrets = threshold.indices().map(|_| dkg::OneTimeSecret::random()).collect::<Result<Vec<_>, _>>()?;
//! #     let keys: Vec<_> = secrets.iter().map(dkg::OneTimeSecret::public_key).collect();
//! #     let members = || threshold.indices().zip(&secrets);
//! #     let dealings = members().map(|(me, s)| dkg::deal(&domain, threshold, me, s, &keys)).collect::<Result<Vec<_>, _>>()?;
//! #     let all = members().map(|(me, s)| dkg::finish(&domain, threshold, me, s, &dealings)).collect::<Result<Vec<_>, _>>()?;
//! #     let keys = all[0].keys.clone();
//! #     Ok((all.into_iter().map(|outcome| outcome.share).collect(), keys))
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (old, new) = (Threshold::new(2, 3)?, Threshold::new(3, 4)?);
//! let (shares, keys) = make_key(old)?;
//! let domain = ReshareDomain { chain_id: 1, registry: Address::ZERO, key_id: 1, epoch: 1, attempt: 0 };
//! let reshare = Reshare::new(domain, keys, vec![shares[0].index(), shares[2].index()], new)?;
//! // Each new member makes its secrets, ...
//! let secrets = new.indices().map(|_| RecipientSecrets::random(&reshare)).collect::<Result<Vec<_>, _>>()?;
//! let published: Vec<_> = secrets.iter().map(RecipientSecrets::public_keys).collect();
//! // ... the old members 1 and 3 deal, each to the keys that are for it, ...
//! let dealings = [reshare.deal(&shares[0], &published)?, reshare.deal(&shares[2], &published)?];
//! // ... and each new member ends with its share of the same key.
//! let members = new.indices().zip(secrets.iter().zip(&published));
//! let outcomes = members
//!     .map(|(me, (secrets, published))| reshare.finish(me, secrets, published, &dealings))
//!     .collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(outcomes[0].keys.group_key(), reshare.old_keys().group_key());
//!
//! let message = [7; 32];
//! let partials: Vec<_> = outcomes[1..].iter().map(|outcome| outcome.share.sign(&message)).collect();
//! let combined = outcomes[0].keys.combine(&message, &partials)?;
//! assert!(verify(&reshare.old_keys().group_key(), &message, &combined.signature));
//! # Ok(())
//! # }
//! ```

pub mod complaint;
mod dealing;
mod recipient;

use alloy_primitives::{Address, keccak256};
pub use dealing::Dealing;
pub use recipient::{RecipientKeysFault, RecipientSecrets};

pub use crate::sharing::Outcome;
use crate::{
    CommitteeKeys, PublicKey, RandomnessError, SecretShare, ShareIndex, Threshold,
    blst_glue::{Fr, G1, G1Affine},
    lagrange,
    polynomial::Polynomial,
    sharing::{self, DealingFault, OneTimeSecret, address_word, word},
};

/// What a resharing's secrets are bound to, so that nothing of it means anything in another, nor in a DKG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReshareDomain {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The KeyRegistry.
    pub registry: Address,
    /// Number of the key in the registry.
    pub key_id: u64,
    /// Committee epoch of the new committee; the key's first committee has 0.
    pub epoch: u32,
    /// Number of the attempt to make this committee, from 0.
    pub attempt: u16,
}

impl ReshareDomain {
    /// What the pad of a share from old member `dealer` to new member `recipient` is for.
    pub(crate) fn pad_words(&self, dealer: u8, recipient: u8) -> [[u8; 32]; 8] {
        [
            keccak256("stkr/reshare-share").0,
            word(self.chain_id),
            address_word(self.registry),
            word(self.key_id),
            word(self.epoch.into()),
            word(self.attempt.into()),
            word(dealer.into()),
            word(recipient.into()),
        ]
    }
}

/// Why a resharing makes no sense before anybody dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not t dealers. Fewer cannot rebuild the key; with more there would be a choice of whose dealings count.
    #[error("{got} dealers, but exactly {expected} old members deal")]
    DealerCount {
        /// t of the old committee.
        expected: u8,
        /// Dealers that were named.
        got: usize,
    },
    /// A dealer that the old committee does not have.
    #[error("there is no member {0} in the old committee that could deal")]
    UnknownDealer(ShareIndex),
    /// Out of order or named twice: one set of dealers has one form.
    #[error("dealer {0} is out of order or named twice; name dealers once each, ascending")]
    DealersNotAscending(ShareIndex),
    /// A new threshold of 1: each new member would have the whole key.
    #[error("a new threshold of 1 would put the whole key on one machine; use 2 or more")]
    WholeKey,
}

/// Why no dealing or no share came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReshareError {
    /// A dealing is bad; the attempt ends and this dealer is to blame.
    #[error("the dealing of old member {dealer} is bad: {fault}")]
    Dealer {
        /// Who dealt: an index of the old committee.
        dealer: ShareIndex,
        /// What is wrong. Recipients in it are indices of the new committee.
        fault: DealingFault,
    },
    /// A new member's one-time keys cannot be used.
    #[error("the one-time keys of new member {member} are bad: {fault}")]
    RecipientKeys {
        /// Whose keys: an index of the new committee.
        member: ShareIndex,
        /// What is wrong.
        fault: RecipientKeysFault,
    },
    /// Not one item for each dealer or member.
    #[error("{got} {what} instead of {expected}")]
    Count {
        /// Dealings or one-time keys.
        what: &'static str,
        /// Dealers or new members.
        expected: u8,
        /// Items that came.
        got: usize,
    },
    /// The old member is not one of the dealers.
    #[error("old member {0} is no dealer of this resharing")]
    NoDealer(ShareIndex),
    /// The caller's index is above n'.
    #[error("there is no member {0} in the new committee")]
    UnknownMember(ShareIndex),
    /// The share is not that of the old committee: of another epoch or key.
    #[error(
        "the share of member {0} is not the one of the committee that hands over; it belongs to another epoch or key, and dealing it would change the key"
    )]
    OtherShare(ShareIndex),
    /// The secrets given are not those of the keys that the caller published.
    #[error(
        "the one-time secrets do not belong to the one-time keys that new member {0} published; its state is lost or mixed up, so it must sit this attempt out"
    )]
    ForeignSecrets(ShareIndex),
    /// The dealings add up to infinity somewhere, or the share is 0. Dealings made to fit all others.
    #[error("the dealings cancel out to a key or share of 0; start another attempt")]
    Degenerate,
    /// The new group key is another one. Cannot happen if the old keys lie on one polynomial.
    #[error("the resharing would change the group key; the old committee's keys are not those of one key")]
    GroupKeyChanged,
    /// The sum of the shares is not the secret of the share key. Cannot happen after the checks above.
    #[error("the sum of the shares does not match the share key of new member {0}")]
    ShareKeyMismatch(ShareIndex),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] RandomnessError),
}

/// What is fixed before anybody deals: whose key goes to how many, and who deals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshare {
    domain: ReshareDomain,
    old: CommitteeKeys,
    dealers: Vec<ShareIndex>,
    new: Threshold,
}

impl Reshare {
    /// The members `dealers` (ascending, exactly t) of the committee with the keys `old` deal to a committee of `new`.
    ///
    /// # Errors
    /// If these are no t members, or if `new` has a threshold of 1.
    pub fn new(
        domain: ReshareDomain,
        old: CommitteeKeys,
        dealers: Vec<ShareIndex>,
        new: Threshold,
    ) -> Result<Self, PlanError> {
        if new.t() == 1 {
            return Err(PlanError::WholeKey);
        }
        if dealers.len() != usize::from(old.threshold().t()) {
            return Err(PlanError::DealerCount { expected: old.threshold().t(), got: dealers.len() });
        }
        if let Some(unknown) = dealers.iter().find(|dealer| !old.threshold().contains(**dealer)) {
            return Err(PlanError::UnknownDealer(*unknown));
        }
        for (dealer, next) in dealers.iter().zip(dealers.iter().skip(1)) {
            if next <= dealer {
                return Err(PlanError::DealersNotAscending(*next));
            }
        }
        Ok(Self { domain, old, dealers, new })
    }

    /// What everything is bound to.
    pub const fn domain(&self) -> &ReshareDomain {
        &self.domain
    }

    /// The keys of the committee that hands over.
    pub const fn old_keys(&self) -> &CommitteeKeys {
        &self.old
    }

    /// Who deals: t indices of the old committee, ascending. Dealings and one-time keys are in this order.
    pub fn dealers(&self) -> &[ShareIndex] {
        &self.dealers
    }

    /// The new t and n.
    pub const fn new_threshold(&self) -> Threshold {
        self.new
    }

    /// Position of an old member among the dealers.
    fn position(&self, dealer: ShareIndex) -> Option<usize> {
        self.dealers.binary_search(&dealer).ok()
    }

    /// Deals `share` to the new members, whose published one-time keys these are: for each member (index order) one for each dealer
    /// (dealers' order). Polynomial and one-time secret are wiped before this returns; what remains is public.
    ///
    /// # Errors
    /// If the share's member does not deal, if the share is another than the old committee's, or if a member's keys are not what it may
    /// publish.
    ///
    /// # Warning
    /// Whoever has the secrets of t' of these keys has the share. Pass keys only from messages that the new committee's members signed,
    /// and only what finalised state says about old and new committee.
    pub fn deal(&self, share: &SecretShare, published: &[Vec<[u8; 33]>]) -> Result<Dealing, ReshareError> {
        let dealer = share.index();
        if self.position(dealer).is_none() {
            return Err(ReshareError::NoDealer(dealer));
        }
        if self.old.share_key(dealer) != Some(&share.public_key()) {
            return Err(ReshareError::OtherShare(dealer));
        }
        expect_count("lists of one-time keys", self.new.n(), published.len())?;
        for (member, keys) in self.new.indices().zip(published) {
            self.check_recipient_keys(keys).map_err(|fault| ReshareError::RecipientKeys { member, fault })?;
        }
        let polynomial = || Polynomial::random_through(share.scalar().clone(), self.new.t());
        let (polynomial, commitments) = sharing::draw(self.new, polynomial)?;
        let secret = OneTimeSecret::random()?;
        let recipients = self.keys_for(dealer, published);
        let shares = sharing::encrypt(&polynomial, self.new.indices(), |member| {
            let key = recipients.get(member.position()).ok_or(ReshareError::UnknownMember(member))?;
            let words = self.domain.pad_words(dealer.get(), member.get());
            secret.pad(key, &words).map_err(|error| {
                let fault = RecipientKeysFault::OneTimeKey { dealer, error };
                ReshareError::RecipientKeys { member, fault }
            })
        })?;
        Ok(Dealing { one_time_key: secret.public_key(), commitments, shares })
    }

    /// The keys among `published` (as in [`Self::deal`]) to which `dealer` encrypts, index order; none if it does not deal.
    pub fn keys_for(&self, dealer: ShareIndex, published: &[Vec<[u8; 33]>]) -> Vec<[u8; 33]> {
        let position = self.position(dealer).unwrap_or(usize::MAX);
        published.iter().filter_map(|keys| keys.get(position)).copied().collect()
    }

    /// Checks all dealings (dealers' order), opens the caller's t shares and adds them up with the dealers' Lagrange coefficients; ends
    /// with the checks that the group key is the old one and that the share's public key is the share key that everybody else computes.
    ///
    /// `published` are the keys that the caller published (dealers' order).
    ///
    /// # Errors
    /// [`ReshareError::Dealer`] names the first dealer whose dealing is bad.
    ///
    /// # Performance
    /// Per dealing one Diffie-Hellman agreement and one share check, no pairing; t' combinations of t points (bench `reshare`).
    pub fn finish(
        &self,
        me: ShareIndex,
        secrets: &RecipientSecrets,
        published: &[[u8; 33]],
        dealings: &[Dealing],
    ) -> Result<Outcome, ReshareError> {
        if !self.new.contains(me) {
            return Err(ReshareError::UnknownMember(me));
        }
        if published.len() != self.dealers.len() || secrets.public_keys() != published {
            return Err(ReshareError::ForeignSecrets(me));
        }
        let keys = self.new_keys(dealings)?;
        let coefficients = lagrange::at_zero(&self.dealers).ok_or(ReshareError::Degenerate)?;
        let mut sum = Fr::default();
        for ((dealing, dealer), coefficient) in dealings.iter().zip(&self.dealers).zip(coefficients.scalars()) {
            let secret = secrets.for_dealer(*dealer).ok_or(ReshareError::ForeignSecrets(me))?;
            let opened = dealing
                .open(&self.domain, *dealer, me, secret)
                .map_err(|fault| ReshareError::Dealer { dealer: *dealer, fault })?;
            sum = sum.add(&opened.scalar().mul(&coefficient));
        }
        let share = SecretShare::from_scalar(me, sum).map_err(|_| ReshareError::Degenerate)?;
        if keys.share_key(me) != Some(&share.public_key()) {
            return Err(ReshareError::ShareKeyMismatch(me));
        }
        Ok(Outcome { share, keys })
    }

    /// The new committee's keys from the commitments of all dealings (dealers' order), each of which is checked; needs no secret.
    ///
    /// # Errors
    /// If a dealing is bad, naming the first dealer; if there are not t; if they cancel out; if the group key is not the old one.
    pub fn new_keys(&self, dealings: &[Dealing]) -> Result<CommitteeKeys, ReshareError> {
        expect_count("dealings", self.old.threshold().t(), dealings.len())?;
        for (dealing, dealer) in dealings.iter().zip(&self.dealers) {
            dealing.check(self, *dealer).map_err(|fault| ReshareError::Dealer { dealer: *dealer, fault })?;
        }
        let coefficients = lagrange::at_zero(&self.dealers).ok_or(ReshareError::Degenerate)?;
        let commitments: Vec<PublicKey> = (0..usize::from(self.new.t()))
            .map(|k| {
                let points: Vec<G1Affine> =
                    dealings.iter().filter_map(|dealing| dealing.commitments.get(k)).map(|c| c.0).collect();
                PublicKey::from_group(&coefficients.combine::<G1>(&points))
            })
            .collect::<Option<_>>()
            .ok_or(ReshareError::Degenerate)?;
        let keys = sharing::committee_of(self.new, &commitments).ok_or(ReshareError::Degenerate)?;
        if keys.group_key() != self.old.group_key() {
            return Err(ReshareError::GroupKeyChanged);
        }
        Ok(keys)
    }
}

fn expect_count(what: &'static str, expected: u8, got: usize) -> Result<(), ReshareError> {
    if got == usize::from(expected) { Ok(()) } else { Err(ReshareError::Count { what, expected, got }) }
}

#[cfg(test)]
mod secrecy;
#[cfg(test)]
mod tests;
