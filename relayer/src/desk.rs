//! Where anybody hands in evidence: gateways do, with what their servers answered, and strangers with what they found. What this relayer
//! fetches from servers ([`crate::conflicts`]) goes the same way.
//!
//! This is the one thing that outsiders can put into a relayer's database and have it spend gas on, so nothing is kept but what
//! the Court would uphold as far as a reader of the chain can tell: everything is recomputed, and then the chain is asked for what
//! only it knows. Of what the Court charges one, a few files are kept ([`crate::charges`]); of keys that do not exist, and of ceremonies
//! for which it was not drawn, with which a server that has nothing left to lose could go on for ever, none. One file is judged at a
//! time ([`crate::turns`]).

use std::net::IpAddr;

use alloy::primitives::Address;
use stkr_chain::{ChainError, ChainReader, types::KeyKind};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::evidence::{Accused, EvidenceError, EvidenceFile, Proof, Verified};

use crate::charges::claimed;
use crate::store::{PROVIDER, Store, StoreError};
use crate::turns::{NoTurn, Turn, Turns};

/// Why a file is not kept.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// It proves nothing, whatever the chain says.
    #[error("this is no evidence of a fault: {0}")]
    Proof(#[from] EvidenceError),
    /// The chain says otherwise, as far as the node that was asked has followed it.
    #[error("the chain does not bear this evidence out: {0}")]
    Chain(String),
    /// A fault that pays whoever asked the server on the chain, so it is theirs to report, or anybody's who has the file.
    #[error("this relayer reports silence only where it asked for the answer itself")]
    AskedByOthers,
    /// Others are before it.
    #[error(transparent)]
    NoTurn(#[from] NoTurn),
    /// The chain cannot be asked.
    #[error("the chain cannot be asked: {0}")]
    Unreachable(#[from] ChainError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine.
    #[error("the file could not be judged: {0}")]
    Judging(#[from] tokio::task::JoinError),
}

/// What became of a file that proves a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new, and will be reported.
    Kept,
    /// It is here already, or enough of its kind: the Court charges one.
    Known,
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    store: Store,
    reader: ChainReader,
    domain: ProtocolDomain,
    court: Address,
    turns: Turns,
}

impl Desk {
    /// Keeps evidence in `store`; asks the chain through `reader`.
    #[must_use]
    pub fn new(store: Store, reader: ChainReader) -> Self {
        let deployment = reader.deployment();
        let (domain, court) = (deployment.protocol_domain(), deployment.court);
        Self { store, reader, domain, court, turns: Turns::default() }
    }

    /// Judges a file that came from an address, when it is that one's turn, and keeps it if it proves a fault.
    ///
    /// # Errors
    /// [`DeskError`]: nothing was kept.
    pub async fn hand_in(&self, from: IpAddr, file: EvidenceFile) -> Result<Taken, DeskError> {
        file.is_for(&self.domain, self.court)?;
        let turn = self.turns.of(from).await?;
        self.keep(turn, file).await
    }

    /// The same with a proof that this relayer fetched itself. It waits for its turn like anybody.
    ///
    /// # Errors
    /// [`DeskError`]: nothing was kept.
    pub async fn take(&self, proof: Proof) -> Result<Taken, DeskError> {
        let turn = self.turns.own().await;
        self.keep(turn, EvidenceFile::new(&self.domain, self.court, proof)).await
    }

    #[cfg(test)]
    pub(crate) const fn turns(&self) -> &Turns {
        &self.turns
    }

    async fn keep(&self, turn: Turn, file: EvidenceFile) -> Result<Taken, DeskError> {
        // Before the pairing: whose server errs all day must not have this relayer compute all day.
        if let Some(server_id) = claimed(&file.proof)
            && self.store.has_enough(server_id, &file.proof)?
        {
            return Ok(Taken::Known);
        }
        let recomputed = file.clone();
        // The turn goes with the pairing, which goes on when whoever asked for it has gone away and asks for the next.
        let (verified, _turn) = tokio::task::spawn_blocking(move || (recomputed.verify(), turn)).await?;
        let verified = verified?;
        let server_id = self.accused(&verified).await?;
        self.check_ceremony(&file, server_id).await?;
        self.check_order(&file, &verified).await?;
        // Whoever left out whom the file accuses: now it is known, and the next reader has no chain to ask.
        let file = EvidenceFile::new(&self.domain, self.court, file.proof);
        Ok(if self.store.keep_evidence(server_id, &file)? { Taken::Kept } else { Taken::Known })
    }

    /// The server at fault, [`PROVIDER`] where it is none's, if the chain knows whom the file accuses.
    async fn accused(&self, verified: &Verified) -> Result<u32, DeskError> {
        let key = verified.key_id;
        match verified.accused {
            Accused::Holder { server_id, .. } => {
                for (epoch, root) in verified.seats() {
                    if self.reader.leaves_root(key, epoch).await.map_err(nothing_there)? != root {
                        return Err(DeskError::Chain(format!(
                            "its seat is none of key {key} in committee {epoch}, or those seats are free again"
                        )));
                    }
                }
                Ok(server_id)
            }
            Accused::Signer(signer) => {
                self.reader.key(key).await.map_err(nothing_there)?;
                self.server_of(signer).await
            }
            Accused::Dealer { signer, threshold, members } => {
                let known = self.reader.key(key).await.map_err(nothing_there)?;
                if (known.threshold, known.members) != (threshold, members) {
                    return Err(DeskError::Chain(format!("key {key} is {} of {}", known.threshold, known.members)));
                }
                self.server_of(signer).await
            }
            Accused::Provider { duty_keys, assignment } => {
                let upheld = self.reader.can_penalise_provider(key, assignment, duty_keys).await;
                match (upheld.map_err(nothing_there)?, duty_keys) {
                    (true, _) => Ok(PROVIDER),
                    (false, [one, other]) if one == other => Err(DeskError::Chain(format!(
                        "{one} is no duty key of assignment {assignment} of key {key}, or has paid for it already"
                    ))),
                    (false, [one, other]) => Err(DeskError::Chain(format!(
                        "{one} and {other} are not both duty keys of assignment {assignment} of key {key}, or its provider has paid for it already"
                    ))),
                }
            }
            // It takes no commitment: there is nothing that somebody else could lose by sending it.
            Accused::Silent { .. } => Err(DeskError::AskedByOthers),
        }
    }

    async fn server_of(&self, signer: Address) -> Result<u32, DeskError> {
        let server_id = self.reader.server_of_signer(signer).await?;
        server_id.ok_or_else(|| DeskError::Chain(format!("{signer} is and was no server's signer")))
    }

    /// The Court cannot know who belongs to a ceremony. Whoever has nothing left to lose could say two things in that of every key.
    async fn check_ceremony(&self, file: &EvidenceFile, server_id: u32) -> Result<(), DeskError> {
        let Some((key_id, attempt)) = file.proof.ceremony() else { return Ok(()) };
        if self.reader.drawn_for(key_id, attempt).await.map_err(nothing_there)?.contains(&server_id) {
            return Ok(());
        }
        Err(DeskError::Chain(format!("server {server_id} was not drawn for attempt {attempt} of key {key_id}")))
    }

    async fn check_order(&self, file: &EvidenceFile, verified: &Verified) -> Result<(), DeskError> {
        let Proof::UnauthorisedSignature(proof) = &file.proof else { return Ok(()) };
        let root = proof.envelope.signing_root;
        if verified.withdrawal_key_only {
            let key = self.reader.key(verified.key_id).await.map_err(nothing_there)?;
            if key.kind != KeyKind::Withdrawal {
                return Err(DeskError::Chain(format!(
                    "nobody has to order duties of kind {}, and key {} is no withdrawal key",
                    proof.envelope.duty_kind, verified.key_id
                )));
            }
        }
        if self.reader.is_ordered_now(verified.key_id, root).await? {
            return Err(DeskError::Chain(format!("the chain ordered key {} to sign {root}", verified.key_id)));
        }
        Ok(())
    }
}

fn nothing_there(error: ChainError) -> DeskError {
    match error {
        ChainError::NotFound(what) => DeskError::Chain(what),
        error => DeskError::Unreachable(error),
    }
}
