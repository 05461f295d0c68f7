//! The duties of one epoch, as the mainnet spreads them over a million validators.
//!
//! | duty | when | of N validators |
//! |---|---|---|
//! | `AGGREGATION_SLOT` | all at once as the epoch begins, each for its own slot | N |
//! | `ATTESTATION` | a third into the slot | N / 32 per slot, all over one root (Electra) |
//! | `AGGREGATE_AND_PROOF_V2` | two thirds into the slot | 16 of a committee of 488: N x 3.3 % |
//! | `RANDAO_REVEAL`, `BLOCK_V2` | as the slot begins, and 300 ms later | 32 per million, 1 at least |
//! | `SYNC_COMMITTEE_MESSAGE` | a third into every slot | 512 per million, 1 at least |
//! | `SYNC_COMMITTEE_SELECTION_PROOF` | as every slot begins | the same |
//! | `SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF` | two thirds into every slot | one in eight of these, 1 at least |

use crate::network::World;
use alloy::primitives::{B256, keccak256};
use eyre::Result;
use serde_json::{Value, json};
use std::time::Duration;
use stkr_duties::SigningRequest;

const SLOTS: u64 = 32;
const MAINNET_VALIDATORS: u64 = 1_000_000;
const COMMITTEES: u64 = 64;
const AGGREGATORS: u64 = 16;
const SYNC_COMMITTEE: u64 = 512;
/// One in so many members of a sync subcommittee (128) is one of its 16 aggregators.
const SYNC_AGGREGATOR: u64 = 8;
/// From the reveal to the block that a beacon node made with it.
const BLOCK_AFTER: Duration = Duration::from_millis(300);

/// One request of a validator client.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// After the epoch's begin.
    pub(crate) at: Duration,
    pub(crate) kind: &'static str,
    pub(crate) validator: u32,
    pub(crate) body: String,
}

/// In the order of time.
pub(crate) fn of_epoch(world: &World, epoch: u64) -> Result<Vec<Task>> {
    let mut plan = Plan { world, epoch, tasks: Vec::new() };
    let validators = u64::from(world.validators());
    plan.attesters(validators)?;
    plan.proposers(validators)?;
    plan.sync_committee(validators)?;
    plan.tasks.sort_by_key(|task| task.at);
    Ok(plan.tasks)
}

/// How many of `validators` if `of_mainnet` of a million are; at least one.
fn share(validators: u64, of_mainnet: u64) -> u64 {
    ((validators * of_mainnet + MAINNET_VALIDATORS / 2) / MAINNET_VALIDATORS).clamp(1, validators)
}

struct Plan<'a> {
    world: &'a World,
    epoch: u64,
    tasks: Vec<Task>,
}

/// Parts of a slot.
#[derive(Clone, Copy)]
enum Phase {
    Begin,
    Third,
    TwoThirds,
}

impl Plan<'_> {
    fn at(&self, slot: u64, phase: Phase) -> Duration {
        let length = self.world.slot_length();
        let begin = length * u32::try_from(slot).unwrap_or(u32::MAX);
        match phase {
            Phase::Begin => begin,
            Phase::Third => begin + length / 3,
            Phase::TwoThirds => begin + length * 2 / 3,
        }
    }

    fn add(&mut self, at: Duration, validator: u64, kind: &'static str, payload: Value) -> Result<()> {
        let body = request(self.world, kind, payload)?;
        self.tasks.push(Task { at, kind, validator: u32::try_from(validator)?, body });
        Ok(())
    }

    fn attesters(&mut self, validators: u64) -> Result<()> {
        let aggregators = share(validators, AGGREGATORS * COMMITTEES * SLOTS);
        for validator in 0..validators {
            let slot = validator % SLOTS;
            let number = self.epoch * SLOTS + slot;
            self.add(self.at(0, Phase::Begin), validator, "AGGREGATION_SLOT", json!({"slot": number.to_string()}))?;
            let data = vote(number, self.epoch);
            self.add(self.at(slot, Phase::Third), validator, "ATTESTATION", data.clone())?;
            // Spread over the epoch as the attesters are.
            if validator * aggregators / validators != (validator + 1) * aggregators / validators {
                let aggregate = aggregate(validator, data);
                self.add(self.at(slot, Phase::TwoThirds), validator, "AGGREGATE_AND_PROOF_V2", aggregate)?;
            }
        }
        Ok(())
    }

    fn proposers(&mut self, validators: u64) -> Result<()> {
        let proposers = share(validators, SLOTS);
        for number in 0..proposers {
            let (slot, validator) = ((number * SLOTS / proposers + 5) % SLOTS, number * validators / proposers);
            let begin = self.at(slot, Phase::Begin);
            self.add(begin, validator, "RANDAO_REVEAL", json!({"epoch": self.epoch.to_string()}))?;
            let header = json!({
                "slot": (self.epoch * SLOTS + slot).to_string(), "proposer_index": validator.to_string(),
                "parent_root": root("parent", slot), "state_root": root("state", slot), "body_root": root("body", slot),
            });
            let block = json!({"version": "FULU", "block_header": header});
            self.add(begin + BLOCK_AFTER, validator, "BLOCK_V2", block)?;
        }
        Ok(())
    }

    fn sync_committee(&mut self, validators: u64) -> Result<()> {
        let members = share(validators, SYNC_COMMITTEE);
        for (member, slot) in (0..members).flat_map(|member| (0..SLOTS).map(move |slot| (member, slot))) {
            let validator = member * validators / members;
            let (number, subcommittee) = ((self.epoch * SLOTS + slot).to_string(), (member % 4).to_string());
            let message = json!({"slot": number, "beacon_block_root": root("block", slot)});
            self.add(self.at(slot, Phase::Third), validator, "SYNC_COMMITTEE_MESSAGE", message)?;
            let selection = json!({"slot": number, "subcommittee_index": subcommittee});
            self.add(self.at(slot, Phase::Begin), validator, "SYNC_COMMITTEE_SELECTION_PROOF", selection)?;
            if (member + slot) % SYNC_AGGREGATOR == 0 {
                let contribution = json!({
                    "slot": number, "beacon_block_root": root("block", slot), "subcommittee_index": subcommittee,
                    "aggregation_bits": hex_of(&[0xff; 16]), "signature": hex_of(&[0xab; 96]),
                });
                let proof = json!({
                    "aggregator_index": validator.to_string(), "contribution": contribution,
                    "selection_proof": hex_of(&[0xcd; 96]),
                });
                self.add(self.at(slot, Phase::TwoThirds), validator, "SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", proof)?;
            }
        }
        Ok(())
    }
}

/// The vote of all honest validators in a slot.
pub(crate) fn vote(slot: u64, target: u64) -> Value {
    json!({
        "slot": slot.to_string(), "index": "0", "beacon_block_root": root("block", slot),
        "source": {"epoch": (target - 1).to_string(), "root": root("checkpoint", target - 1)},
        "target": {"epoch": target.to_string(), "root": root("checkpoint", target)},
    })
}

/// An aggregate of one committee of 488, as an aggregator of Electra signs it.
fn aggregate(validator: u64, data: Value) -> Value {
    let mut bits = [0xff; 62];
    bits[61] = 1;
    let mut committee = [0; 8];
    committee[usize::try_from(validator / SLOTS % 8).unwrap_or(0)] = 1 << (validator % 8);
    json!({
        "aggregator_index": validator.to_string(), "selection_proof": hex_of(&[0xcd; 96]),
        "aggregate": {
            "aggregation_bits": hex_of(&bits), "data": data, "signature": hex_of(&[0xab; 96]),
            "committee_bits": hex_of(&committee),
        },
    })
}

fn root(what: &str, number: u64) -> B256 {
    keccak256(format!("{what} {number}"))
}

fn hex_of(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// A whole request, with the root that the validator client computed.
pub(crate) fn request(world: &World, kind: &str, payload: Value) -> Result<String> {
    let member = match kind {
        "AGGREGATION_SLOT" => "aggregation_slot",
        "ATTESTATION" => "attestation",
        "AGGREGATE_AND_PROOF_V2" => "aggregate_and_proof",
        "RANDAO_REVEAL" => "randao_reveal",
        "BLOCK_V2" => "beacon_block",
        "SYNC_COMMITTEE_MESSAGE" => "sync_committee_message",
        "SYNC_COMMITTEE_SELECTION_PROOF" => "sync_aggregator_selection_data",
        _ => "contribution_and_proof",
    };
    let fork = json!({"previous_version": "0x05746b72", "current_version": "0x06746b72", "epoch": "0"});
    let payload = if kind == "AGGREGATE_AND_PROOF_V2" { json!({"version": "FULU", "data": payload}) } else { payload };
    let root = world.schedule.genesis_validators_root();
    let mut request =
        json!({"type": kind, "fork_info": {"fork": fork, "genesis_validators_root": root}, member: payload});
    let decoded = SigningRequest::decode(request.to_string().as_bytes(), world.schedule.preset())?;
    request["signingRoot"] = json!(decoded.verify(&world.schedule)?);
    Ok(request.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_at_least_one_of_each_and_never_more_than_there_are() {
        assert_eq!((share(1_000, SLOTS), share(1_000_000, SLOTS), share(1, SYNC_COMMITTEE)), (1, 32, 1));
        assert_eq!(share(1_000, AGGREGATORS * COMMITTEES * SLOTS), 33);
    }
}
