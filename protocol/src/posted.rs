//! What the boards of ceremonies and of reshares have in common: of each sender and round the first message, proof of a second one, and
//! how far the rounds have come.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};

use crate::{SignatureError, messages::SignedMessage, recover_signer};

/// What an authentic message added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The first message of its sender in its round: store it.
    New,
    /// Nothing: it says the same as one we hold, or the sender's equivocation is proven already.
    Known,
    /// It proves that its sender signed two different messages in one round: store it beside the first.
    Evidence,
}

/// Two different messages of one sender in one round: proof of a fault, to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Equivocation<M = SignedMessage> {
    /// The message that came first here.
    pub first: M,
    /// The one that contradicts it.
    pub second: M,
}

#[derive(Clone)]
struct Posted<M> {
    message: M,
    digest: B256,
}

/// One message for each round and sender, and one piece of evidence against each sender, so that nobody fills our memory.
#[derive(Clone)]
pub(crate) struct Messages<R, S, M> {
    posted: BTreeMap<(R, S), Posted<M>>,
    equivocations: BTreeMap<S, Equivocation<M>>,
}

impl<R, S, M> Messages<R, S, M> {
    pub(crate) const fn new() -> Self {
        Self { posted: BTreeMap::new(), equivocations: BTreeMap::new() }
    }

    /// All messages, evidence included.
    pub(crate) fn all(&self) -> impl Iterator<Item = &M> {
        let evidence = self.equivocations.values().map(|equivocation| &equivocation.second);
        self.posted.values().map(|posted| &posted.message).chain(evidence)
    }

    /// Rounds and senders of what is here.
    pub(crate) fn places(&self) -> impl Iterator<Item = &(R, S)> {
        self.posted.keys()
    }
}

impl<R: Copy + Ord, S: Copy + Ord, M: Clone> Messages<R, S, M> {
    /// Takes a message whose sender did sign this digest. Messages are compared by what they say: one digest signed twice with
    /// different randomness is no equivocation.
    pub(crate) fn add(&mut self, (round, sender): (R, S), message: M, digest: B256) -> Accepted {
        let Some(held) = self.posted.get(&(round, sender)) else {
            self.posted.insert((round, sender), Posted { message, digest });
            return Accepted::New;
        };
        if held.digest == digest || self.equivocations.contains_key(&sender) {
            return Accepted::Known;
        }
        let first = held.message.clone();
        self.equivocations.insert(sender, Equivocation { first, second: message });
        Accepted::Evidence
    }

    /// The first message of `sender` in `round`, and its digest.
    pub(crate) fn get(&self, round: R, sender: S) -> Option<(&M, B256)> {
        self.posted.get(&(round, sender)).map(|posted| (&posted.message, posted.digest))
    }

    pub(crate) fn has(&self, round: R, sender: S) -> bool {
        self.posted.contains_key(&(round, sender))
    }

    /// The proof that this sender signed two different messages in one round.
    pub(crate) fn equivocation_of(&self, sender: S) -> Option<&Equivocation<M>> {
        self.equivocations.get(&sender)
    }

    /// The same of the first sender, in their order, that did.
    pub(crate) fn equivocation(&self) -> Option<(S, &Equivocation<M>)> {
        self.equivocations.first_key_value().map(|(sender, equivocation)| (*sender, equivocation))
    }
}

/// One round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundProgress<R, S> {
    /// The round.
    pub round: R,
    /// Unix time (seconds) from which its messages are waited for: the committee was drawn, or the last message of the rounds before
    /// came. Nothing while those are not complete, or where nobody noted when a message came.
    pub since: Option<u64>,
    /// Unix time (seconds) at which its last message came; nothing while one is missing.
    pub complete: Option<u64>,
    /// How many messages have come.
    pub came: usize,
    /// Whose message has not come, in order.
    pub missing: Vec<S>,
    /// Whether these are what is waited for now: of the first round that lacks a message, and of no later one.
    pub current: bool,
}

/// All rounds in order, each with its senders and those whose message is missing. `begun` is the unix time of the block in which the
/// attempt began. If `whole`, nothing is waited for any more.
pub(crate) fn progress<R: Copy + Ord, S: Copy + Ord>(
    rounds: impl IntoIterator<Item = (R, Vec<S>, Vec<S>)>,
    arrivals: &BTreeMap<(R, S), u64>,
    begun: Option<u64>,
    whole: bool,
) -> Vec<RoundProgress<R, S>> {
    let (mut since, mut waits) = (begun, !whole);
    let line = |(round, senders, missing): (R, Vec<S>, Vec<S>)| {
        let came = senders.len().saturating_sub(missing.len());
        let times = senders.iter().map(|sender| arrivals.get(&(round, *sender)).copied());
        // One message whose time is not known makes the whole unknown: a time that is too early would blame somebody.
        let last = times.collect::<Option<Vec<u64>>>().and_then(|times| times.into_iter().max());
        let complete = last.filter(|_| missing.is_empty());
        let current = waits && !missing.is_empty();
        waits &= missing.is_empty();
        let line = RoundProgress { round, since, complete, came, missing, current };
        // A message that was there early does not make the next round begin before this one did.
        since = since.zip(complete).map(|(since, complete)| since.max(complete));
        line
    };
    rounds.into_iter().map(line).collect()
}

/// Why a signature is not that of the sender it is claimed for.
pub(crate) enum NotSigned {
    By(Address),
    AtAll(SignatureError),
}

/// That `signer` signed `digest`.
pub(crate) fn must_be_signed(digest: B256, signature: &[u8; 65], signer: Address) -> Result<(), NotSigned> {
    let recovered = recover_signer(digest, signature).map_err(NotSigned::AtAll)?;
    if recovered == signer { Ok(()) } else { Err(NotSigned::By(recovered)) }
}
