//! Two signatures of one author over duties that no honest one signs both: found in what was kept.
//!
//! An author is whoever answers for both: the holder of a share for envelopes, a provider in one assignment for requests.
//! The Court charges each once, so the first pair of an author is enough.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use crate::{
    envelope::DutyKind,
    evidence::{SignedDutyRequest, SignedEnvelope},
};

/// Something signed over a duty.
pub trait SignedDuty: Clone {
    /// Number of the table in `docs/protocol.md`.
    fn duty_kind(&self) -> u8;
    /// Slot; 0 where the duty has none.
    fn slot(&self) -> u64;
    /// Source and target epoch of an attestation, else 0.
    fn epochs(&self) -> (u64, u64);
    /// What is signed.
    fn signing_root(&self) -> B256;
}

macro_rules! signed_duty {
    ($signed:ty) => {
        impl SignedDuty for $signed {
            fn duty_kind(&self) -> u8 {
                self.duty_kind
            }
            fn slot(&self) -> u64 {
                self.slot
            }
            fn epochs(&self) -> (u64, u64) {
                (self.source_epoch, self.target_epoch)
            }
            fn signing_root(&self) -> B256 {
                self.signing_root
            }
        }
    };
}

signed_duty!(SignedEnvelope);
signed_duty!(SignedDutyRequest);

/// What authors signed, as it comes.
///
/// # Warning
/// Authors are taken at the caller's word. Check each signature first: a forged one would stand in the way of the true one.
#[derive(Debug)]
pub struct Conflicts<A, S> {
    authors: BTreeMap<A, Author<S>>,
}

/// What one author signed, or its first pair that conflicts.
#[derive(Debug)]
enum Author<S> {
    Honest { blocks: BTreeMap<u64, S>, votes: BTreeMap<u64, S> },
    Guilty(Box<(S, S)>),
}

impl<A, S> Default for Conflicts<A, S> {
    fn default() -> Self {
        Self { authors: BTreeMap::new() }
    }
}

impl<A: Ord, S: SignedDuty> Conflicts<A, S> {
    /// Takes what `author` signed.
    pub fn add(&mut self, author: A, signed: S) {
        self.authors.entry(author).or_default().add(signed);
    }

    /// The authors that signed two duties that conflict, with a pair of each.
    pub fn pairs(self) -> impl Iterator<Item = (A, (S, S))> {
        self.authors.into_iter().filter_map(|(author, signed)| Some((author, signed.pair()?)))
    }
}

impl<S> Default for Author<S> {
    fn default() -> Self {
        Self::Honest { blocks: BTreeMap::new(), votes: BTreeMap::new() }
    }
}

impl<S: SignedDuty> Author<S> {
    /// Double proposals and double votes show as they come; surround votes once all are there.
    fn add(&mut self, second: S) {
        let Self::Honest { blocks, votes } = self else { return };
        let (seen, at) = match second.duty_kind() {
            kind if kind == DutyKind::Block as u8 => (blocks, second.slot()),
            kind if kind == DutyKind::Attestation as u8 => (votes, second.epochs().1),
            _ => return,
        };
        match seen.get(&at) {
            Some(first) if first.signing_root() != second.signing_root() => {
                *self = Self::Guilty(Box::new((first.clone(), second)));
            }
            Some(_) => {}
            None => _ = seen.insert(at, second),
        }
    }

    fn pair(self) -> Option<(S, S)> {
        match self {
            Self::Guilty(pair) => Some(*pair),
            Self::Honest { votes, .. } => surround(votes),
        }
    }
}

/// By source: as long as no vote lies within an earlier one, targets grow with sources, so that the latest target of the source
/// before is the latest of all before.
fn surround<S: SignedDuty>(votes: BTreeMap<u64, S>) -> Option<(S, S)> {
    let mut by_source: BTreeMap<u64, Vec<S>> = BTreeMap::new();
    for vote in votes.into_values() {
        by_source.entry(vote.epochs().0).or_default().push(vote);
    }
    let mut widest: Option<S> = None;
    for (_, group) in by_source {
        if let Some(outer) = &widest
            && let Some(inner) = group.iter().find(|inner| inner.epochs().1 < outer.epochs().1)
        {
            return Some((outer.clone(), inner.clone()));
        }
        widest = group.into_iter().max_by_key(|vote| vote.epochs().1);
    }
    None
}
