//! Whether a duty may be signed: everything but slashing protection, which comes after it.
//!
//! [`judge`] is a pure function of the request, of what this server read from the chain itself, and of its own clock. The
//! order of its checks: the duty reads and has the root that its sender believes; the provider in charge asked; the policies of
//! the kind; the clock; whether it is the turn of a committee in which this server has a seat.
//!
//! | duty | policy |
//! |---|---|
//! | exit | needs a finalized order of the chain. No contract orders exits yet, so none is signed |
//! | registration | of this validator, with a timestamp near now; of a pool's key, paying the pool |
//! | block of a pool's key | proves to pay the pool, unless the operator allows blocks without proof |
//! | selection proofs | up to two epochs ahead: clients draw their aggregators early |
//! | all others | not of the future |

use alloy::primitives::{Address, B256};
use stkr_chain::DutyAssignment;
use stkr_core::PublicKey;
use stkr_duties::{Duty, ForkSchedule, Slashable};
use stkr_protection::{Attestation, Block, Now, Pubkey, Request, Verdict};
use stkr_protocol::ProtocolDomain;
use stkr_protocol::handover::Moment;
use stkr_protocol::sign::{CheckedDuty, DutyRequest, Refusal, RefusalKind, Subject};

use crate::serving::{Committees, Seat, Us};

/// Seconds by which the clocks of honest machines may differ: a duty of the slot that begins so soon is one of the present.
/// (`MAXIMUM_GOSSIP_CLOCK_DISPARITY` is half a second; slots begin at whole ones.)
pub const CLOCK_TOLERANCE: u64 = 1;
/// Epochs that a selection proof may lie ahead. It is slashable for nobody.
const EPOCHS_AHEAD: u64 = 2;
/// Seconds a registration's timestamp may lie in the past: clients sign it once and send it for a while. A stranger to this
/// bound could keep an old recipient for ever.
const REGISTRATION_PAST: u64 = 15 * 60;
/// Seconds it may lie in the future; relays take ten.
const REGISTRATION_FUTURE: u64 = 10;

/// What the chain says about a key whoever holds its shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DutyFacts {
    /// Group key, checked against the leaves root on-chain: the validator's public key.
    pub group_key: PublicKey,
    /// The pool's vault, derived here from the pool id, for a pool's key; `None` for others, whose owner takes what it earns.
    pub pays: Option<Address>,
    /// Whether every change of who may ask for its duties shows as an event of this deployment's contracts: not so for a key
    /// of another pools contract.
    pub has_events: bool,
    /// Whether it is a dealt key, which has one committee for ever.
    pub is_dealt: bool,
}

/// Who may ask for duties of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Askers {
    /// As the newest block says; `None` if nobody may.
    pub current: Option<DutyAssignment>,
    /// A duty key that was replaced within this assignment a moment ago.
    pub previous: Option<Address>,
}

/// What does not depend on the key.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The pinned beacon chain.
    pub schedule: ForkSchedule,
    /// Whether blocks of pool keys are signed that do not prove whom they pay.
    pub sign_unproven_blocks: bool,
}

impl Policy {
    /// The latest slot and epoch of which duties are accepted at this Unix time; `None` before genesis.
    #[must_use]
    pub fn present(&self, unix_seconds: u64) -> Option<Now> {
        let slot = self.schedule.slot_at_time(unix_seconds.saturating_add(CLOCK_TOLERANCE))?;
        Some(Now { slot: slot.0, epoch: self.schedule.epoch_at(slot).0 })
    }
}

/// A duty that may be signed if slashing protection agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What is signed.
    pub subject: Subject,
    /// Assignment that the request names, which is the one in force.
    pub assignment: u64,
    /// Who asked.
    pub duty_key: Address,
    /// This server's seat in the committee whose turn it is.
    pub seat: Seat,
    /// What slashing protection has to agree to; `None` for duties that no one is slashed for.
    pub slashable: Option<Request>,
}

/// Judges one request at this Unix time.
///
/// # Errors
/// The refusal to answer with.
pub fn judge(
    request: &DutyRequest,
    facts: &DutyFacts,
    (committees, us): (&Committees, &Us),
    askers: &Askers,
    policy: &Policy,
    domain: &ProtocolDomain,
    unix_seconds: u64,
) -> Result<Judged, Refusal> {
    let checked = request.check(&policy.schedule)?;
    let duty_key = check_asker(&checked, askers, domain)?;
    check_kind(&checked, facts, policy, unix_seconds)?;
    check_clock(&checked.request.duty, policy, unix_seconds)?;
    let moment = Moment::of(&checked.request.duty, &policy.schedule, unix_seconds);
    let seat = committees.seat_at(moment, &policy.schedule, us)?;
    Ok(Judged {
        subject: *checked.subject(),
        assignment: checked.assignment(),
        duty_key,
        seat,
        slashable: slashable(&checked, facts),
    })
}

/// All of the fencing between one provider and the next.
fn check_asker(checked: &CheckedDuty, askers: &Askers, domain: &ProtocolDomain) -> Result<Address, Refusal> {
    let key_id = checked.subject().key_id();
    let asked = checked.duty_key(domain).map_err(|error| {
        Refusal::denied(format!("the request has no valid signature: {error}"), "Sign it with the provider's duty key.")
    })?;
    let current = askers.current.ok_or_else(|| {
        Refusal::denied(
            format!("nobody may ask for duties of key {key_id}: it is not Live, or its provider has no duty key"),
            "Ask for keys that the chain has assigned to you.",
        )
    })?;
    let (named, number) = (checked.assignment(), current.number);
    if named != number {
        return Err(Refusal::denied(
            format!("the request names assignment {named} of key {key_id}, but assignment {number} is in force"),
            "Read the key's assignment from the chain; if the key went to another provider, stop.",
        ));
    }
    if asked == current.duty_key || askers.previous == Some(asked) {
        return Ok(asked);
    }
    Err(Refusal::denied(
        format!("{asked} signed this request for key {key_id}, but the duty key in charge is {}", current.duty_key),
        "Sign exactly this duty and assignment with the duty key that the chain names.",
    ))
}

fn check_kind(checked: &CheckedDuty, facts: &DutyFacts, policy: &Policy, unix_seconds: u64) -> Result<(), Refusal> {
    match &checked.request.duty {
        Duty::VoluntaryExit(_) => Err(Refusal::denied(
            "exits are signed only on a finalized order of the chain, and no contract orders exits yet",
            "Exit through the pool's vault (EIP-7002), which needs no signature.",
        )),
        Duty::ValidatorRegistration(registration) => {
            let group_key = facts.group_key.to_compressed();
            if registration.pubkey.0 != group_key {
                let expected = hex::encode(group_key);
                return Err(Refusal::denied(
                    format!("the registration is of another validator than 0x{expected}, the key that shall sign it"),
                    "Register each validator with its own key.",
                ));
            }
            check_recipient(registration.fee_recipient, facts)?;
            check_timestamp(registration.timestamp, unix_seconds)
        }
        Duty::Block(_) | Duty::BlockV2 { .. } => check_block(checked, facts, policy),
        _ => Ok(()),
    }
}

fn check_recipient(named: Address, facts: &DutyFacts) -> Result<(), Refusal> {
    match facts.pays {
        Some(vault) if vault != named => Err(Refusal::denied(
            format!("the registration pays {named}, but the income of this key belongs to its pool's vault {vault}"),
            format!("Set the validator's fee recipient to {vault}."),
        )),
        _ => Ok(()),
    }
}

fn check_timestamp(timestamp: u64, now: u64) -> Result<(), Refusal> {
    if timestamp.saturating_add(REGISTRATION_PAST) >= now && timestamp <= now.saturating_add(REGISTRATION_FUTURE) {
        return Ok(());
    }
    Err(Refusal::denied(
        format!("the registration's timestamp is {timestamp}, but it is {now} now"),
        "Sign a new registration, and compare the clocks of this server and of the client.",
    ))
}

fn check_block(checked: &CheckedDuty, facts: &DutyFacts, policy: &Policy) -> Result<(), Refusal> {
    let Some(vault) = facts.pays else { return Ok(()) };
    match checked.request.proves_fee_recipient(vault, &policy.schedule) {
        Ok(()) => Ok(()),
        // A proof that is there and wrong is never what an honest client sends.
        Err(_) if policy.sign_unproven_blocks && checked.request.proofs.is_empty() => Ok(()),
        Err(error) => Err(Refusal::denied(
            format!("the block does not prove that it pays the pool's vault {vault}: {error}"),
            format!(
                "Set the fee recipient to {vault} and use a client that sends the Merkle branch of the fee recipient."
            ),
        )),
    }
}

fn check_clock(duty: &Duty, policy: &Policy, unix_seconds: u64) -> Result<(), Refusal> {
    let (schedule, present) = (&policy.schedule, policy.present(unix_seconds));
    let ahead = match duty {
        Duty::AggregationSlot(_) | Duty::SyncCommitteeSelectionProof(_) => EPOCHS_AHEAD,
        _ => 0,
    };
    let (Some(epoch), slot) = (duty.epoch(schedule), duty.slot()) else { return Ok(()) };
    let present = match present {
        Some(present) => present,
        None if ahead > 0 => Now { slot: 0, epoch: 0 },
        None => {
            return Err(Refusal::denied(
                format!("the chain begins at unix time {}, it is {unix_seconds} now", schedule.genesis_time()),
                "Ask after genesis; compare the clocks of this server and of the client.",
            ));
        }
    };
    let late_slot = ahead == 0 && slot.is_some_and(|slot| slot.0 > present.slot);
    if epoch.0 > present.epoch.saturating_add(ahead) || late_slot {
        let asked = slot.map_or_else(|| format!("epoch {}", epoch.0), |slot| format!("slot {}", slot.0));
        return Err(Refusal::denied(
            format!("the duty is of {asked}, which is of the future: slot {} is the present", present.slot),
            "Ask when it is time; compare the clocks of this server and of the client.",
        ));
    }
    Ok(())
}

fn slashable(checked: &CheckedDuty, facts: &DutyFacts) -> Option<Request> {
    let signing_root = checked.subject().signing_root();
    let duty = match checked.request.duty.slashable()? {
        Slashable::Block { slot } => stkr_protection::Duty::Block(Block { slot: slot.0, signing_root }),
        Slashable::Attestation { source, target } => stkr_protection::Duty::Attestation(Attestation {
            source_epoch: source.0,
            target_epoch: target.0,
            signing_root,
        }),
    };
    Some(Request { pubkey: Pubkey::from(facts.group_key.to_compressed()), duty })
}

/// What a verdict that forbids the signature is answered with.
#[must_use]
pub fn refusal_of(verdict: &Verdict, signing_root: B256) -> Refusal {
    let (kind, what_to_do) = match verdict {
        Verdict::Slashable(_) => {
            (RefusalKind::Slashable, "Never ask for this again; find out which second client asks for this validator.")
        }
        Verdict::Unregistered | Verdict::NeedsImport => (
            RefusalKind::Unavailable,
            "The operator has to import the key's history with `stkr-server protection import`.",
        ),
        _ => (RefusalKind::Denied, "Compare the clocks, and whether this key is still signed for here."),
    };
    Refusal::new(kind, format!("slashing protection refuses signing root {signing_root}: {verdict}"), what_to_do)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::tests::{committee, shown, us};
    use serde_json::{Value, json};
    use sha2::{Digest as _, Sha256};
    use std::sync::{Arc, LazyLock};
    use stkr_core::Threshold;
    use stkr_core::testing::TrustedDealer;
    use stkr_duties::SigningRequest;
    use stkr_protocol::SignerKey;
    use stkr_protocol::sign::{Asked, SignRequest};

    const GENESIS: u64 = 1_700_000_000;
    /// The first second of slot 3200, the first of epoch 100.
    const NOW: u64 = GENESIS + 3_200 * 12;
    const VAULT: Address = Address::repeat_byte(6);
    const ROOT: B256 = B256::repeat_byte(2);

    fn policy() -> Policy {
        let names = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
        let forks = names.iter().zip(1..).map(|(name, version): (&&str, u8)| stkr_duties::ForkConfig {
            name: (*name).to_owned(),
            version: [version, 0, 0, 0],
            epoch: 0,
        });
        let schedule = stkr_duties::ScheduleConfig {
            preset: "mainnet".to_owned(),
            genesis_validators_root: B256::repeat_byte(7),
            genesis_time: GENESIS,
            seconds_per_slot: 12,
            forks: forks.collect(),
        };
        Policy { schedule: schedule.try_into().unwrap(), sign_unproven_blocks: false }
    }

    fn domain() -> ProtocolDomain {
        ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(2) }
    }

    fn key(byte: u8) -> SignerKey {
        SignerKey::from_bytes(&[byte; 32]).unwrap()
    }

    fn dealt() -> TrustedDealer {
        TrustedDealer::deal(Threshold::new(3, 4).unwrap(), [3; 32])
    }

    fn facts() -> DutyFacts {
        DutyFacts { group_key: dealt().keys.group_key(), pays: Some(VAULT), has_events: true, is_dealt: false }
    }

    /// One committee, in which this server has the second seat.
    fn committees() -> Committees {
        Committees::Finalised(Arc::new(shown(NOW, vec![(0, committee(0, &dealt(), &[1, 2, 3, 4]))])))
    }

    fn me(committees: &Committees) -> (&Committees, &Us) {
        static US: LazyLock<Us> = LazyLock::new(|| us(2));
        (committees, &US)
    }

    fn askers() -> Askers {
        Askers { current: Some(DutyAssignment { duty_key: key(1).address(), number: 3 }), previous: None }
    }

    fn request(kind: &str, member: &str, payload: Value) -> Value {
        let fork = json!({ "previous_version": "0x06000000", "current_version": "0x07000000", "epoch": "0" });
        let fork_info = json!({ "fork": fork, "genesis_validators_root": B256::repeat_byte(7) });
        json!({ "type": kind, "fork_info": fork_info, member: payload })
    }

    fn vote(slot: u64, source: u64, target: u64) -> Value {
        let data = json!({
            "slot": slot.to_string(), "index": "0", "beacon_block_root": ROOT,
            "source": { "epoch": source.to_string(), "root": ROOT },
            "target": { "epoch": target.to_string(), "root": ROOT },
        });
        request("ATTESTATION", "attestation", data)
    }

    fn block(slot: u64, body_root: B256) -> Value {
        let header = json!({
            "slot": slot.to_string(), "proposer_index": "1", "parent_root": ROOT, "state_root": ROOT,
            "body_root": body_root,
        });
        request("BLOCK_V2", "beacon_block", json!({ "version": "FULU", "block_header": header }))
    }

    /// A block whose body pays `recipient` as its branch shows: only the leaf and its siblings matter.
    fn proven_block(slot: u64, recipient: Address) -> Value {
        let mut leaf = [0; 32];
        leaf[..20].copy_from_slice(recipient.as_slice());
        let mut index = 801_u64;
        let (mut node, mut branch) = (B256::from(leaf), Vec::new());
        while index > 1 {
            let sibling = B256::repeat_byte(9);
            let pair = if index % 2 == 1 { [sibling, node] } else { [node, sibling] };
            node = B256::from_slice(&Sha256::digest(pair.concat()));
            branch.push(sibling);
            index /= 2;
        }
        let mut block = block(slot, node);
        block["proofs"] = json!([{ "index": "801", "proof": branch }]);
        block
    }

    fn registration(recipient: Address, timestamp: u64) -> Value {
        json!({ "type": "VALIDATOR_REGISTRATION", "validator_registration": {
            "fee_recipient": recipient, "gas_limit": "45000000", "timestamp": timestamp.to_string(),
            "pubkey": format!("0x{}", hex::encode(facts().group_key.to_compressed())),
        } })
    }

    fn asked_by(json: &Value, assignment: u64, who: &SignerKey) -> DutyRequest {
        let policy = policy();
        let request = SigningRequest::decode(json.to_string().as_bytes(), policy.schedule.preset()).unwrap();
        let asked = Asked::duty((7, assignment), &request, &policy.schedule, &domain(), who).unwrap();
        let SignRequest::Duty(request) = asked.request() else { panic!("{asked:?}") };
        request.clone()
    }

    fn asked(json: &Value) -> DutyRequest {
        asked_by(json, 3, &key(1))
    }

    fn judged(json: &Value) -> Result<Judged, Refusal> {
        judge(&asked(json), &facts(), me(&committees()), &askers(), &policy(), &domain(), NOW)
    }

    fn assert_denied(answer: Result<Judged, Refusal>, reason: &str) {
        let refusal = answer.unwrap_err();
        assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(reason), "{reason}: {refusal}");
        assert!(!refusal.what_to_do.is_empty());
    }

    #[test]
    fn a_duty_of_the_present_that_the_duty_key_in_charge_asks_for_goes_to_slashing_protection() {
        let judged = judged(&vote(3_200, 99, 100)).unwrap();
        let expected = stkr_protection::Duty::Attestation(Attestation {
            source_epoch: 99,
            target_epoch: 100,
            signing_root: judged.subject.signing_root(),
        });
        let request = judged.slashable.unwrap();
        assert_eq!((request.duty, request.pubkey.0), (expected, facts().group_key.to_compressed()));
        assert_eq!((judged.assignment, judged.duty_key), (3, key(1).address()));
        assert_eq!((judged.seat.committee_epoch, judged.seat.index.get()), (0, 2));
    }

    #[test]
    fn a_committee_that_has_handed_over_signs_nothing_and_its_successor_nothing_of_before_and_no_older_source() {
        // Handover at the start of epoch 100, the present one: servers 1 to 4 to 5, 2, 3 and 1.
        let handover = GENESIS + 3_200 * 12;
        let both = vec![(0, committee(0, &dealt(), &[1, 2, 3, 4])), (handover, committee(1, &dealt(), &[5, 2, 3, 1]))];
        let both = Committees::Finalised(Arc::new(shown(handover, both)));
        let of = |server: u8, json: &Value| {
            let us = us(server);
            let me = (&both, &us);
            judge(&asked(json), &facts(), me, &askers(), &policy(), &domain(), NOW).map(|it| it.seat.committee_epoch)
        };
        let denied = |server: u8, json: &Value, reason: &str| {
            let refusal = of(server, json).unwrap_err();
            assert!(refusal.kind == RefusalKind::Denied && refusal.reason.contains(reason), "{refusal}");
        };
        let (before, after) = (vote(3_199, 98, 99), vote(3_200, 99, 100));
        assert_eq!((of(4, &before), of(5, &after)), (Ok(0), Ok(1)));
        denied(4, &after, "committee epoch 1 of key 7 signs this");
        denied(5, &before, "committee epoch 0 of key 7 signs this");
        assert_eq!((of(1, &before), of(1, &after)), (Ok(0), Ok(1)), "who stays, with the share of each");
        for server in [4, 5, 1] {
            denied(server, &vote(3_200, 97, 100), "source epoch 97 is before 98");
        }
        assert_eq!(of(5, &vote(3_200, 98, 100)), Ok(1));
        let (old, new) = (proven_block(3_199, VAULT), proven_block(3_200, VAULT));
        assert_eq!((of(4, &old), of(5, &new)), (Ok(0), Ok(1)));
        denied(4, &new, "committee epoch 1");
        denied(5, &old, "committee epoch 0");
    }

    #[test]
    fn whoever_is_not_in_charge_now_is_refused() {
        let vote = vote(3_200, 99, 100);
        let with = |request: &DutyRequest, askers: Askers| {
            judge(request, &facts(), me(&committees()), &askers, &policy(), &domain(), NOW)
        };
        assert_denied(with(&asked_by(&vote, 3, &key(2)), askers()), "the duty key in charge is");
        assert_denied(with(&asked_by(&vote, 2, &key(1)), askers()), "names assignment 2 of key 7, but assignment 3");
        assert_denied(with(&asked_by(&vote, 4, &key(1)), askers()), "names assignment 4 of key 7, but assignment 3");
        assert_denied(with(&asked(&vote), Askers { current: None, previous: None }), "nobody may ask");
        let rotated = Askers { previous: Some(key(2).address()), ..askers() };
        assert_eq!(with(&asked_by(&vote, 3, &key(2)), rotated).unwrap().duty_key, key(2).address());
        assert_denied(with(&asked_by(&vote, 3, &key(4)), rotated), "the duty key in charge is");
        // Another key's request, and another duty under the same signature.
        let moved = DutyRequest { key_id: 8, ..asked(&vote) };
        assert_denied(with(&moved, askers()), "the duty key in charge is");
    }

    #[test]
    fn a_duty_of_the_future_is_denied_and_a_second_of_clock_difference_is_not_the_future() {
        assert_denied(judged(&vote(3_201, 99, 100)), "slot 3201, which is of the future: slot 3200");
        assert_denied(judged(&vote(3_232, 100, 101)), "which is of the future");
        assert_denied(judged(&request("RANDAO_REVEAL", "randao_reveal", json!({ "epoch": "101" }))), "epoch 101");
        let early = |seconds| {
            judge(
                &asked(&vote(3_200, 99, 100)),
                &facts(),
                me(&committees()),
                &askers(),
                &policy(),
                &domain(),
                NOW - seconds,
            )
        };
        early(CLOCK_TOLERANCE).unwrap();
        assert_denied(early(CLOCK_TOLERANCE + 1), "slot 3200, which is of the future: slot 3199");
    }

    #[test]
    fn aggregators_are_drawn_up_to_two_epochs_ahead_and_before_genesis() {
        let slot = |slot: u64| request("AGGREGATION_SLOT", "aggregation_slot", json!({ "slot": slot.to_string() }));
        judged(&slot(103 * 32 - 1)).unwrap();
        assert_denied(judged(&slot(103 * 32)), "of the future");
        let before = |json: &Value| {
            judge(&asked(json), &facts(), me(&committees()), &askers(), &policy(), &domain(), GENESIS - 100)
        };
        before(&slot(31)).unwrap();
        assert_denied(before(&vote(0, 0, 0)), "the chain begins at");
    }

    #[test]
    fn exits_are_never_signed_without_an_order() {
        let exit = json!({ "epoch": "100", "validator_index": "5" });
        assert_denied(judged(&request("VOLUNTARY_EXIT", "voluntary_exit", exit)), "finalized order");
    }

    #[test]
    fn a_registration_names_the_validator_the_pools_vault_and_a_timestamp_near_now() {
        judged(&registration(VAULT, NOW)).unwrap();
        let own = Address::repeat_byte(0x66);
        assert_denied(judged(&registration(own, NOW)), &format!("belongs to its pool's vault {VAULT}"));
        let free = DutyFacts { pays: None, ..facts() };
        judge(&asked(&registration(own, NOW)), &free, me(&committees()), &askers(), &policy(), &domain(), NOW).unwrap();
        judged(&registration(VAULT, NOW - REGISTRATION_PAST)).unwrap();
        judged(&registration(VAULT, NOW + REGISTRATION_FUTURE)).unwrap();
        assert_denied(judged(&registration(VAULT, NOW - REGISTRATION_PAST - 1)), "timestamp");
        assert_denied(judged(&registration(VAULT, NOW + REGISTRATION_FUTURE + 1)), "timestamp");
        let mut foreign = registration(VAULT, NOW);
        foreign["validator_registration"]["pubkey"] = format!("0x{}", "11".repeat(48)).into();
        assert_denied(judged(&foreign), "of another validator");
    }

    #[test]
    fn a_pools_block_proves_that_it_pays_the_pool() {
        judged(&proven_block(3_200, VAULT)).unwrap();
        let own = proven_block(3_200, Address::repeat_byte(0x66));
        assert_denied(judged(&own), "does not prove that it pays");
        let unproven = block(3_200, ROOT);
        assert_denied(judged(&unproven), "does not prove that it pays");
        // What an operator may allow is a block without a proof, never one with a wrong proof.
        let lax = Policy { sign_unproven_blocks: true, ..policy() };
        let with = |json: &Value, facts: DutyFacts, policy: &Policy| {
            judge(&asked(json), &facts, me(&committees()), &askers(), policy, &domain(), NOW)
        };
        with(&unproven, facts(), &lax).unwrap();
        assert_denied(with(&own, facts(), &lax), "does not prove that it pays");
        // A key of no pool pays whom its owner wants.
        with(&unproven, DutyFacts { pays: None, ..facts() }, &policy()).unwrap();
    }

    #[test]
    fn what_protection_says_no_to_is_refused_in_its_kind() {
        let kind = |verdict: Verdict| refusal_of(&verdict, ROOT).kind;
        let low = stkr_protection::Conflict::LowSlot { asked: Block { slot: 1, signing_root: ROOT }, low: 2 };
        assert_eq!(kind(Verdict::Slashable(low)), RefusalKind::Slashable);
        assert_eq!(kind(Verdict::Unregistered), RefusalKind::Unavailable);
        assert_eq!(kind(Verdict::NeedsImport), RefusalKind::Unavailable);
        assert_eq!(kind(Verdict::Inactive), RefusalKind::Denied);
    }
}
