//! Changes of credentials, by file: what the chain ordered a withdrawal key to sign, with proofs, and the partial signatures that go back.

use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256};
use serde::Serialize;
use stkr_chain::facts::ProvenBlock;
use stkr_chain::facts::change::{ChangeFacts, ProvenChanges};
use stkr_core::ShareIndex;
use stkr_node::exit::Failure;
use stkr_protocol::offline::{
    AboutKey, ChangeAnswerFile, ChangeFile, ChangePartial, Mark, ToChange, VERSION, from_json,
};
use stkr_protocol::sign::{Change, ChangeRequest};

use super::{AnswerArgs, Machine, compare_block, consent, date, hand_out, refused, say, spoken};
use crate::change::{self, Facts};
use crate::serving::Seat;
use crate::signing;

/// A request as this program reads it.
type Asked = ChangeFile<ChangeFacts>;

/// What `show` and `answer` print.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Changed {
    key_id: String,
    pool_id: String,
    vault: Address,
    /// Validators whose credentials the signed changes move.
    validators: Vec<String>,
    /// The block whose hash a person has to compare, or has compared.
    block: ProvenBlock,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<PathBuf>,
}

/// What a request would have this server sign.
#[derive(Debug)]
struct Plan {
    about: AboutKey,
    proven: ProvenChanges,
    facts: Facts,
    me: ShareIndex,
    changes: Vec<Change>,
}

pub(super) fn show(machine: &Machine, file: &Path, text: &[u8]) -> eyre::Result<Changed> {
    let plan = machine.plan_changes(&read(file, text)?)?;
    say(&plan.summary())?;
    Ok(plan.changed(None))
}

pub(super) fn answer(machine: &Machine, args: &AnswerArgs, text: &[u8], at_terminal: bool) -> eyre::Result<Changed> {
    let plan = machine.plan_changes(&read(&args.file, text)?)?;
    say(&plan.summary())?;
    // Each time: no ceremony of which a person compared a block before stands behind it, and it is one visit for years.
    compare_block(&plan.proven.block, args.block, at_terminal)?;
    consent(args.yes, at_terminal)?;
    let file = machine.sign_changes(&plan)?;
    hand_out(args, &file)?;
    Ok(plan.changed(Some(args.out.clone())))
}

fn read(file: &Path, text: &[u8]) -> eyre::Result<Asked> {
    Ok(from_json::<ToChange, _>(text).map_err(|error| refused(file, &error))?)
}

impl Machine {
    /// Checks everything in a request and says what it would have this server sign. Changes nothing.
    fn plan_changes(&self, asked: &Asked) -> Result<Plan, Failure> {
        let (about, domain) = (asked.about, self.deployment.protocol_domain());
        if about.domain() != domain {
            return Err(self.elsewhere(&about.domain()));
        }
        if asked.changes.is_empty() {
            return Err(Failure::refused("the request asks for no change; fetch it again"));
        }
        let roots: Vec<B256> = asked.changes.iter().map(Change::signing_root).collect();
        let proven = asked.facts.verify(&self.deployment, about.key_id, &roots).map_err(Failure::refused)?;
        Self::check_block(&proven.block, &self.store.confirmed_blocks().map_err(Failure::not_safe)?)?;
        let signers = self.keys.signers();
        let mut members = signers.us().signers.iter().filter_map(|signer| proven.live.member_of_signer(*signer));
        let member = members.find(|member| member.server_id == about.server);
        let member = member.ok_or_else(|| {
            Failure::refused(format!(
                "the request is for server {} and key {}, whose committee has no such member with this server's signer {}; carry it \
                 to the other machine",
                about.server,
                about.key_id,
                spoken(&signers)
            ))
        })?;
        let (me, signer, keys) = (member.index, member.signer, &proven.live.keys);
        let committee_epoch = proven.committee_epoch;
        let facts = Facts {
            state: proven.key.state,
            kind: proven.key.kind,
            consumer: proven.key.consumer,
            withdrawal_keys: self.deployment.withdrawal_keys(),
            group_key: keys.group_key(),
            seat: keys.share_key(me).map(|it| Seat { committee_epoch, index: me, share_key: *it, signer }),
            vault: self.deployment.vault_of(proven.pool_id),
            genesis_fork_version: self.deployment.genesis_fork_version.0,
            genesis_validators_root: self.deployment.genesis_validators_root,
            // Each root has its proof: the request was refused above otherwise.
            ordered: true,
        };
        for asked in &asked.changes {
            change::judge(&ChangeRequest::new(about.key_id, *asked), &facts)
                .map_err(|refusal| Failure::refused(refusal.reason))?;
        }
        Ok(Plan { about, proven, facts, me, changes: asked.changes.clone() })
    }

    fn sign_changes(&self, plan: &Plan) -> eyre::Result<ChangeAnswerFile> {
        let key_id = plan.about.key_id;
        let rows = self.store.shares(key_id)?;
        let seat = plan.facts.seat.ok_or_else(|| Failure::refused("the request names no share key of this server"))?;
        let share = signing::open_share(&rows, key_id, (seat.index, seat.share_key), &self.keys.store_key)
            .map_err(|refusal| Failure::not_safe(refusal.reason))?;
        let (domain, signers) = (self.deployment.protocol_domain(), self.keys.signers());
        let signer = signers.of_leaf(seat.signer, key_id).map_err(|refusal| Failure::not_safe(refusal.reason))?;
        let sign = |change: &Change| {
            let subject = ChangeRequest::new(key_id, *change).subject();
            let signed = signing::answer(&subject, &share, &domain, signer, seat.committee_epoch);
            ChangePartial { change: *change, signed }
        };
        let answers = plan.changes.iter().map(sign).collect();
        Ok(ChangeAnswerFile { r#type: Mark::new(), version: VERSION, about: plan.about, answers })
    }
}

impl Plan {
    /// What is about to happen, in words.
    fn summary(&self) -> String {
        let (about, block, threshold) = (&self.about, &self.proven.block, self.proven.live.keys.threshold());
        let mut lines = vec![
            format!(
                "Changing withdrawal credentials with withdrawal key {} (committee {}), {} of {} shares sign; you are member {} (server \
                 {}).",
                about.key_id,
                self.proven.committee_epoch,
                threshold.t(),
                threshold.n(),
                self.me.get(),
                about.server
            ),
            format!("Chain {}, KeyRegistry {}.", about.chain_id, about.key_registry),
            format!("The key belongs to pool {}, whose vault is {}.", self.proven.pool_id, self.facts.vault),
        ];
        for change in &self.changes {
            lines.push(format!(
                "The answer signs: validator {} gets its withdrawals paid to {}, FOR EVER; from 0x{}.",
                change.validator_index,
                change.to_execution_address,
                hex::encode(change.from_bls_pubkey)
            ));
        }
        lines.push(format!(
            "The chain ordered this. Proven by block {} of {}: COMPARE IT with a source other than the relayer.",
            block.number,
            date(block.timestamp)
        ));
        lines.push(format!("  {}", block.hash));
        lines.join("\n")
    }

    fn changed(&self, answer: Option<PathBuf>) -> Changed {
        Changed {
            key_id: self.about.key_id.to_string(),
            pool_id: self.proven.pool_id.to_string(),
            vault: self.facts.vault,
            validators: self.changes.iter().map(|change| change.validator_index.to_string()).collect(),
            block: self.proven.block,
            answer,
        }
    }
}
