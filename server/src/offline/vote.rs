//! The vote that another member is silent, from a machine without network.
//!
//! It is a person's word, as at an online server: no chain has to be asked, and the contract refuses a vote of another committee or time.
//! Of a t-of-n withdrawal key t-1 members are online, so without one of these no vote of its committee is enough.

use std::path::PathBuf;

use alloy::primitives::Address;
use stkr_node::exit::Failure;
use stkr_protocol::silence::{SignedSilenceVote, SilenceVote};

use super::{Machine, consent, date, say};
use crate::setup::SilentArgs;

/// Latest time that the contract can hold: uint48.
const LATEST: u64 = (1 << 48) - 1;

/// Arguments of `offline vote-silent`.
#[derive(Clone, Debug, clap::Args)]
pub struct VoteArgs {
    /// Folder of the server
    #[arg(long)]
    pub dir: PathBuf,
    /// What is voted
    #[command(flatten)]
    pub silent: SilentArgs,
    /// Do not ask before signing
    #[arg(long)]
    pub yes: bool,
}

pub(super) fn vote(machine: &Machine, args: &VoteArgs, at_terminal: bool) -> eyre::Result<SignedSilenceVote> {
    let vote = args.silent.vote();
    let SilenceVote { key_id, committee_epoch, server, until } = vote;
    if until > LATEST {
        return Err(Failure::usage(format!("--until {until} is no time of the next 30 days")).into());
    }
    let signer = machine.signer_of_share(key_id, committee_epoch)?;
    let signers = machine.keys.signers();
    let key = signers.of_leaf(signer, key_id).map_err(|refusal| Failure::not_safe(refusal.reason))?;
    say(&format!(
        "A vote of a member of committee {committee_epoch} of key {key_id}: server {server} is silent, until {}. With the votes of t \
         members, its seat goes to another server at the next reshare.\nChain {}, KeyRegistry {}.",
        date(until),
        machine.deployment.chain_id,
        machine.deployment.key_registry
    ))?;
    consent(args.yes, at_terminal)?;
    Ok(vote.sign(&machine.deployment.protocol_domain(), key))
}

impl Machine {
    /// The signer that the leaf of this server's share in a committee names, as what was confirmed here said when the share was made.
    fn signer_of_share(&self, key_id: u64, committee_epoch: u32) -> eyre::Result<Address> {
        let shares = self.store.shares(key_id)?;
        // Of two, the later attempt's: an earlier one failed.
        let share = shares.iter().rfind(|share| share.origin.committee_epoch == committee_epoch);
        let share = share.ok_or_else(|| {
            Failure::refused(format!("this server has no share of key {key_id} in committee {committee_epoch}"))
        })?;
        let (attempt, position) = (share.origin.attempt, share.index.position());
        let signer = if committee_epoch == 0 {
            let confirmed = self.store.confirmed()?;
            let of = confirmed.iter().filter(|it| (it.key_id, it.attempt) == (key_id, attempt));
            of.filter_map(|it| it.members.get(position)).map(|it| it.signer).find(|it| self.holds(*it))
        } else {
            let id = stkr_protocol::reshare::ReshareId { key_id, committee_epoch, attempt };
            self.store.reshare(id)?.and_then(|row| row.signers.get(position).copied())
        };
        Ok(signer.ok_or_else(|| Failure::not_safe("the database does not say which signer the share was made for"))?)
    }

    fn holds(&self, signer: Address) -> bool {
        self.keys.signers().key(signer).is_some()
    }
}
