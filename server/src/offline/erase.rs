//! Erasing shares whose time is over, by what a block proves that a person compared.
//!
//! An online server sees by itself that its seat went to another, and erases its share a week later ([`crate::erasure`]). To a machine
//! without network somebody has to bring the proof. A share that is not erased is a share of a live key, for whoever takes the disk.

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use serde::Serialize;
use stkr_chain::facts::ProvenBlock;
use stkr_chain::facts::committee::{CommitteeFacts, ProvenCommittee};
use stkr_node::exit::Failure;
use stkr_protocol::handover::KEEP_PAST_SHARES;
use stkr_protocol::offline::from_json;
use stkr_protocol::offline::reshare::{Committees, CommitteesFile};

use super::{Machine, compare_block, consent, date, proven_line, refused, say};
use crate::erasure::is_over_as_proven;

/// A file as this program reads it.
type Brought = CommitteesFile<CommitteeFacts>;

/// Arguments of `offline erase`.
#[derive(Clone, Debug, clap::Args)]
pub struct EraseArgs {
    /// Folder of the server
    #[arg(long)]
    pub dir: PathBuf,
    /// The file that says which committees the key has
    pub file: PathBuf,
    /// Hash of the block that the file names, from a source other than the relayer; asked for on a terminal if it is not given
    #[arg(long, value_name = "HASH")]
    pub block: Option<B256>,
    /// Do not ask before erasing. The block's hash is needed all the same
    #[arg(long)]
    pub yes: bool,
}

/// A share whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Erased {
    key_id: String,
    committee_epoch: String,
    attempt: String,
    index: String,
}

impl Erased {
    /// In words.
    pub(super) fn said(&self) -> String {
        format!(
            "ERASED FOR EVER: the share of key {} as member {} of committee {} (attempt {}), with which nobody signs any more.",
            self.key_id, self.index, self.committee_epoch, self.attempt
        )
    }
}

/// What `show` and `erase` print.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    key_id: String,
    /// Of the key's newest committee.
    committee_epoch: String,
    block: ProvenBlock,
    /// What is erased; of `show` what would be.
    erased: Vec<Erased>,
}

/// What a file would have this machine erase.
struct Plan {
    proven: ProvenCommittee,
    erased: Vec<Erased>,
    /// Unix time (seconds) from which a block proves that the share of a committee that handed over is to go.
    later: Option<u64>,
}

pub(super) fn show(machine: &Machine, file: &Path, text: &[u8]) -> eyre::Result<Outcome> {
    let plan = machine.plan_erasure(&read(file, text)?)?;
    say(&plan.summary())?;
    Ok(plan.outcome())
}

pub(super) fn erase(machine: &Machine, args: &EraseArgs, text: &[u8], at_terminal: bool) -> eyre::Result<Outcome> {
    let plan = machine.plan_erasure(&read(&args.file, text)?)?;
    say(&plan.summary())?;
    if plan.erased.is_empty() {
        return Ok(plan.outcome());
    }
    // Each time: there is no way back.
    compare_block(&plan.proven.block, args.block, at_terminal)?;
    consent(args.yes, at_terminal)?;
    machine.erase(&plan.proven)?;
    Ok(plan.outcome())
}

fn read(file: &Path, text: &[u8]) -> eyre::Result<Brought> {
    Ok(from_json::<Committees, _>(text).map_err(|error| refused(file, &error))?)
}

impl Machine {
    fn plan_erasure(&self, brought: &Brought) -> Result<Plan, Failure> {
        let (about, domain) = (brought.about, self.deployment.protocol_domain());
        if about.domain() != domain {
            return Err(self.elsewhere(&about.domain()));
        }
        let proven = brought.facts.verify(&self.deployment, about.key_id).map_err(Failure::refused)?;
        Self::check_block(&proven.block, &self.store.confirmed_blocks().map_err(Failure::not_safe)?)?;
        let shares = self.store.shares(about.key_id).map_err(Failure::not_safe)?;
        let past = shares.iter().any(|share| share.origin.committee_epoch < proven.committee_epoch);
        let later = past.then(|| proven.handover.saturating_add(KEEP_PAST_SHARES));
        let erased = self.over(&proven)?;
        Ok(Plan { later: later.filter(|time| proven.block.timestamp < *time), proven, erased })
    }

    /// Shares whose time a block proves to be over.
    pub(super) fn over(&self, proven: &ProvenCommittee) -> Result<Vec<Erased>, Failure> {
        let shares = self.store.shares(proven.key.id).map_err(Failure::not_safe)?;
        let over = shares.iter().filter(|share| is_over_as_proven(proven, share));
        let erased = over.map(|share| Erased {
            key_id: proven.key.id.to_string(),
            committee_epoch: share.origin.committee_epoch.to_string(),
            attempt: share.origin.attempt.to_string(),
            index: share.index.get().to_string(),
        });
        Ok(erased.collect())
    }

    /// Erases them, and one-time secrets of reshares that can end no more. A person compared the block.
    pub(super) fn erase(&self, proven: &ProvenCommittee) -> eyre::Result<()> {
        self.store.erase_reshare_secrets(proven.block.timestamp)?;
        for share in self.store.shares(proven.key.id)? {
            if is_over_as_proven(proven, &share) {
                stkr_kill_points::may_end_at("offline.share_unerased");
                self.store.erase_share(proven.key.id, &share)?;
                stkr_kill_points::may_end_at("offline.share_erased");
            }
        }
        Ok(())
    }
}

impl Plan {
    /// What is about to happen, in words.
    fn summary(&self) -> String {
        let proven = &self.proven;
        let key = &proven.key;
        let members: Vec<String> = proven.live.members.iter().map(|member| member.server_id.to_string()).collect();
        let mut lines = vec![
            format!(
                "Key {} is {}; its newest committee is {}, servers in index order: {}.",
                key.id,
                key.state,
                proven.committee_epoch,
                members.join(", ")
            ),
            match proven.handover {
                0 => "It was never reshared.".to_owned(),
                handover => format!("That committee signs from {} on.", date(handover)),
            },
        ];
        lines.extend(self.erased.iter().map(Erased::said));
        if self.erased.is_empty() {
            lines.push(match self.later {
                Some(time) => format!(
                    "Nothing is to be erased yet: this server's share of an earlier committee goes by a block of {} or later.",
                    date(time)
                ),
                None => "Nothing is to be erased.".to_owned(),
            });
        }
        lines.push(proven_line(&proven.block, false));
        lines.join("\n")
    }

    fn outcome(&self) -> Outcome {
        Outcome {
            key_id: self.proven.key.id.to_string(),
            committee_epoch: self.proven.committee_epoch.to_string(),
            block: self.proven.block,
            erased: self.erased.clone(),
        }
    }
}
