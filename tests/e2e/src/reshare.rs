//! What people do so that a key goes to another committee: the members vote that one of them is silent.

use std::process::Command;

use alloy::network::EthereumWallet;
use alloy::primitives::Address;
use eyre::{Result, ensure};
use stkr_chain::bindings::{KeyRegistry, Resharing};
use stkr_protocol::silence::SignedSilenceVote;

use crate::Network;
use crate::anvil::advance_time;
use crate::beacon::unix_seconds;
use crate::events::Found;
use crate::network::output;
use crate::process::binary;

/// Shortest ceremony window that governance can set, seconds.
pub const SHORTEST_WINDOW: u64 = 600;
/// Seconds from a draw to its handover with it: `IResharing.HANDOVER_DELAY` more.
pub const TO_HANDOVER: u64 = SHORTEST_WINDOW + 1_152;

/// The same for a withdrawal key, which has seven windows.
pub const TO_HANDOVER_BY_HAND: u64 = 7 * SHORTEST_WINDOW + 1_152;

impl Network {
    /// From now on a ceremony, and a reshare, has as little time as governance can give it.
    pub async fn shorten_the_window(&self) -> Result<()> {
        let governor = EthereumWallet::from(self.governor.clone());
        self.stkr().await?.keys().set_ceremony_window(SHORTEST_WINDOW)?.send_with(&governor).await?;
        Ok(())
    }

    /// The members at the positions `members` of the key's committee `epoch` vote that the one at `silent` is, each with its own
    /// program as the signer of its leaf, and somebody shows the votes to the chain.
    pub async fn vote_silent(&self, of: (u64, u32), members: &[usize], silent: usize) -> Result<()> {
        let votes = self.votes(of, members, silent, unix_seconds()? + 24 * 3600).await?;
        self.show_votes(of.0, &votes).await
    }

    /// Those votes, until this unix time (seconds).
    pub async fn votes(
        &self,
        (key_id, epoch): (u64, u32),
        members: &[usize],
        silent: usize,
        until: u64,
    ) -> Result<Vec<SignedSilenceVote>> {
        let (key, epoch, until) = (key_id.to_string(), epoch.to_string(), until.to_string());
        let server = self.servers[silent].id.to_string();
        let leaves = self.leaf_signers(key_id).await?;
        let voters = members.iter().filter(|position| **position != silent);
        let votes = voters.map(|position| {
            let mut command = Command::new(binary("stkr-server")?);
            let leaf = leaves.iter().find(|(id, _)| *id == self.servers[*position].id);
            command.args(["vote-silent", "--key", &key, "--epoch", &epoch, "--server", &server, "--until", &until]);
            command.args(leaf.iter().flat_map(|(_, signer)| ["--signer".to_owned(), signer.to_string()]));
            let printed = output(command.arg("--config").arg(&self.servers[*position].config))?;
            Ok(serde_json::from_str(&printed)?)
        });
        votes.collect()
    }

    /// Somebody shows votes to the chain.
    pub async fn show_votes(&self, key_id: u64, votes: &[SignedSilenceVote]) -> Result<()> {
        let anyone = EthereumWallet::from(self.account("1").await?);
        self.stkr().await?.reshares().vote_silent(key_id, votes).await?.send_with(&anyone).await?;
        Ok(())
    }

    /// Server and signer of each leaf of the key's newest committee.
    async fn leaf_signers(&self, key_id: u64) -> Result<Vec<(u32, Address)>> {
        let registry = self.deployment.key_registry;
        let first = self.event::<KeyRegistry::KeyFinalised>(registry, key_id).await?.inner;
        let (servers, signers) = match self.reshared(key_id).await?.pop() {
            Some(made) => (made.inner.committee.servers, made.inner.committee.signers),
            None => (first.committee, first.signers),
        };
        Ok(servers.into_iter().zip(signers).collect())
    }

    /// The later committees of the key, as the chain has them now.
    pub async fn reshared(&self, key_id: u64) -> Result<Vec<Found<Resharing::Reshared>>> {
        self.events_now::<Resharing::Reshared>(self.deployment.resharing(), key_id).await
    }

    /// Moves the chain's clock past the handover of the key's newest committee, until that is final.
    pub async fn pass_the_handover(&self, key_id: u64) -> Result<()> {
        let provider = self.provider()?;
        let handover = self.reshared(key_id).await?.last().map(|made| made.inner.handover.to::<u64>());
        ensure!(handover.is_some(), "key {key_id} was not reshared");
        let head = stkr_chain::endpoint::block(&provider, alloy::eips::BlockNumberOrTag::Latest).await?;
        let now = head.map_or(0, |block| block.timestamp);
        advance_time(&provider, handover.unwrap_or(0).saturating_sub(now) + 8).await?;
        let passed = handover.unwrap_or(0);
        self.until("the handover is final", || async {
            let final_block = stkr_chain::endpoint::block(&provider, alloy::eips::BlockNumberOrTag::Finalized).await?;
            Ok(final_block.is_some_and(|block| block.timestamp >= passed))
        })
        .await
    }
}
