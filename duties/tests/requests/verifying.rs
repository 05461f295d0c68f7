//! Which requests get a root, and why the others do not.

use alloy_primitives::{Address, B256};
use serde_json::{Value, json};
use stkr_duties::{
    Duty, DutyError, Epoch, Fork, ForkSchedule, Preset, ProofError, SigningRequest, Slashable, Slot,
    containers::BlsToExecutionChange, domain,
};

const ROOT: &str = "0x2222222222222222222222222222222222222222222222222222222222222222";

fn fork_info(previous: u8, current: u8) -> Value {
    json!({
        "fork": {
            "previous_version": format!("0x{previous:02x}000000"),
            "current_version": format!("0x{current:02x}000000"),
            "epoch": "7",
        },
        "genesis_validators_root": format!("{}", ForkSchedule::mainnet().genesis_validators_root()),
    })
}

fn request(kind: &str, member: &str, payload: Value, fork_info: Value) -> SigningRequest {
    let mut value = json!({ "type": kind, "fork_info": fork_info });
    value[member] = payload;
    SigningRequest::decode(value.to_string().as_bytes(), Preset::Mainnet).unwrap()
}

fn vote(slot: u64, source: u64, target: u64) -> SigningRequest {
    let data = json!({
        "slot": slot.to_string(), "index": "0", "beacon_block_root": ROOT,
        "source": { "epoch": source.to_string(), "root": ROOT },
        "target": { "epoch": target.to_string(), "root": ROOT },
    });
    let fork = ForkSchedule::mainnet().fork_at(Epoch(target)).fork as u8;
    request("ATTESTATION", "attestation", data, fork_info(fork.saturating_sub(1), fork))
}

fn header(slot: u64, fork: Fork) -> SigningRequest {
    let header = json!({
        "slot": slot.to_string(), "proposer_index": "1", "parent_root": ROOT, "state_root": ROOT, "body_root": ROOT,
    });
    let block = json!({ "version": fork.name().to_uppercase(), "block_header": header });
    request("BLOCK_V2", "beacon_block", block, fork_info(5, 6))
}

fn exit(epoch: u64, fork_info: Value) -> SigningRequest {
    request(
        "VOLUNTARY_EXIT",
        "voluntary_exit",
        json!({ "epoch": epoch.to_string(), "validator_index": "5" }),
        fork_info,
    )
}

/// First epoch and slot of Fulu on mainnet.
const FULU: u64 = 411_392;
const FULU_SLOT: u64 = FULU * 32;

#[test]
fn a_vote_leads_from_an_earlier_epoch_to_that_of_its_slot() {
    let mainnet = ForkSchedule::mainnet();
    assert!(vote(FULU_SLOT, FULU - 1, FULU).verify(&mainnet).is_ok());
    assert!(vote(FULU_SLOT + 31, 0, FULU).verify(&mainnet).is_ok());
    for (source, target) in [(FULU, FULU), (FULU + 1, FULU), (u64::MAX, FULU), (1, 0)] {
        let refused = vote(target * 32, source, target).verify(&mainnet);
        let (source_epoch, target_epoch) = (Epoch(source), Epoch(target));
        assert_eq!(refused, Err(DutyError::SourceNotBeforeTarget { source_epoch, target_epoch }));
    }
    for slot in [FULU_SLOT - 1, FULU_SLOT + 32, 0, u64::MAX] {
        let refused = vote(slot, FULU - 1, FULU).verify(&mainnet);
        assert!(matches!(refused, Err(DutyError::TargetNotOfSlot { .. })), "slot {slot}");
    }
    // The genesis block is the first source and the first target: every chain starts with such votes.
    assert!(vote(3, 0, 0).verify(&mainnet).is_ok());
}

#[test]
fn the_root_a_client_claims_must_be_ours_and_both_are_named() {
    let mainnet = ForkSchedule::mainnet();
    let mut request = vote(FULU_SLOT, FULU - 1, FULU);
    let computed = request.verify(&mainnet).unwrap();
    request.signing_root = Some(computed);
    assert_eq!(request.verify(&mainnet), Ok(computed));
    let claimed = B256::repeat_byte(1);
    request.signing_root = Some(claimed);
    let error = request.verify(&mainnet).unwrap_err();
    assert_eq!(error, DutyError::SigningRoot { claimed, computed });
    let text = error.to_string();
    assert!(text.contains(&claimed.to_string()) && text.contains(&computed.to_string()), "{text}");
}

#[test]
fn a_request_for_another_chain_is_refused_though_its_root_would_be_ours() {
    let (mainnet, hoodi) = (ForkSchedule::mainnet(), ForkSchedule::hoodi());
    let mut request = vote(FULU_SLOT, FULU - 1, FULU);
    request.signing_root = Some(request.verify(&mainnet).unwrap());
    request.fork_info.as_mut().unwrap().genesis_validators_root = hoodi.genesis_validators_root();
    let (theirs, ours) = (hoodi.genesis_validators_root(), mainnet.genesis_validators_root());
    assert_eq!(request.verify(&mainnet), Err(DutyError::ForeignChain { theirs, ours }));
}

#[test]
fn the_fork_of_a_request_must_be_ours_at_the_epoch_of_the_duty() {
    let mainnet = ForkSchedule::mainnet();
    let of = |previous: [u8; 4], current: [u8; 4]| {
        let mut request = vote(FULU_SLOT, FULU - 1, FULU);
        let fork = &mut request.fork_info.as_mut().unwrap().fork;
        (fork.previous_version, fork.current_version) = (previous, current);
        request.verify(&mainnet)
    };
    let (electra, fulu, gloas) = ([5, 0, 0, 0], [6, 0, 0, 0], [7, 0, 0, 0]);
    assert!(of(electra, fulu).is_ok());
    assert!(of(fulu, fulu).is_ok());
    for (previous, current) in
        [([4, 0, 0, 0], electra), (electra, electra), (fulu, gloas), (gloas, fulu), ([0x70, 0, 9, 0x10], fulu)]
    {
        assert_eq!(of(previous, current), Err(DutyError::ForeignFork { previous, current, ours: fulu }));
    }
    // Lodestar puts the current epoch into `fork.epoch`: it is not looked at.
    let mut request = vote(FULU_SLOT, FULU - 1, FULU);
    request.fork_info.as_mut().unwrap().fork.epoch = Epoch(u64::MAX);
    assert!(request.verify(&mainnet).is_ok());
    // A duty of the last epoch before a fork, from a client whose head is past it.
    let mut late = vote(FULU_SLOT - 1, FULU - 2, FULU - 1);
    let fork = &mut late.fork_info.as_mut().unwrap().fork;
    (fork.previous_version, fork.current_version) = (electra, fulu);
    let root = late.verify(&mainnet).unwrap();
    fork_is(&late, root, electra);
}

/// That `root` was computed under `version`.
fn fork_is(request: &SigningRequest, root: B256, version: [u8; 4]) {
    use tree_hash::TreeHash as _;
    let Duty::Attestation(data) = &request.duty else { panic!("no vote") };
    let gvr = ForkSchedule::mainnet().genesis_validators_root();
    let domain = stkr_duties::compute_domain(domain::DOMAIN_BEACON_ATTESTER, version, gvr);
    assert_eq!(root, stkr_duties::compute_signing_root(data.tree_hash_root(), domain));
}

#[test]
fn roots_come_from_our_schedule_whatever_the_request_says() {
    let mainnet = ForkSchedule::mainnet();
    let request = vote(FULU_SLOT, FULU - 1, FULU);
    fork_is(&request, request.verify(&mainnet).unwrap(), [6, 0, 0, 0]);
    let before = vote(FULU_SLOT - 1, FULU - 2, FULU - 1);
    fork_is(&before, before.verify(&mainnet).unwrap(), [5, 0, 0, 0]);
}

#[test]
fn exits_are_signed_under_capella_whichever_fork_the_client_names() {
    let mainnet = ForkSchedule::mainnet();
    let capella = exit(FULU, fork_info(3, 3)).verify(&mainnet).unwrap();
    // Lighthouse names Capella twice, others the fork of the epoch.
    for (previous, current) in [(5, 6), (6, 6), (4, 5), (2, 3)] {
        assert_eq!(exit(FULU, fork_info(previous, current)).verify(&mainnet), Ok(capella));
    }
    assert!(matches!(exit(FULU, fork_info(6, 7)).verify(&mainnet), Err(DutyError::ForeignFork { .. })));
    let mut claimed = exit(FULU, fork_info(5, 6));
    // What a client without EIP-7044 would compute.
    use tree_hash::TreeHash as _;
    let Duty::VoluntaryExit(message) = &claimed.duty else { panic!("no exit") };
    let fulu = mainnet.domain(domain::DOMAIN_VOLUNTARY_EXIT, Epoch(FULU));
    claimed.signing_root = Some(stkr_duties::compute_signing_root(message.tree_hash_root(), fulu));
    assert!(matches!(claimed.verify(&mainnet), Err(DutyError::SigningRoot { .. })));
}

#[test]
fn a_deposit_is_for_our_network_only() {
    let deposit = |version: &str| {
        let value = json!({ "type": "DEPOSIT", "deposit": {
            "pubkey": format!("0x{}", "11".repeat(48)), "withdrawal_credentials": ROOT, "amount": "1000000000",
            "genesis_fork_version": version,
        }});
        SigningRequest::decode(value.to_string().as_bytes(), Preset::Mainnet).unwrap()
    };
    let (mainnet, hoodi) = (ForkSchedule::mainnet(), ForkSchedule::hoodi());
    let ours = deposit("0x00000000");
    let Duty::Deposit { message, .. } = &ours.duty else { panic!("no deposit") };
    assert_eq!(ours.verify(&mainnet), Ok(message.signing_root([0; 4])));
    assert_eq!(ours.verify(&hoodi), Err(DutyError::ForeignDeposit { theirs: [0; 4], ours: [0x10, 0, 9, 0x10] }));
    assert_eq!(deposit("0x10000910").verify(&hoodi), Ok(message.signing_root([0x10, 0, 9, 0x10])));
}

#[test]
fn a_duty_must_exist_in_the_fork_of_its_slot() {
    let mainnet = ForkSchedule::mainnet();
    let fork_error = |request: &SigningRequest| {
        let refused = request.duty.signing_root(&mainnet);
        assert!(matches!(refused, Err(DutyError::Fork { .. })), "{refused:?}");
    };
    // A header before Bellatrix.
    fork_error(&header(144_896 * 32 - 1, Fork::Bellatrix));
    assert!(header(144_896 * 32, Fork::Bellatrix).duty.signing_root(&mainnet).is_ok());
    // The version only says how the block is written: it may lag.
    let named = |fork| header(FULU_SLOT, fork).verify(&mainnet).unwrap();
    assert_eq!(named(Fork::Bellatrix), named(Fork::Fulu));
    // Sync committees before Altair.
    let message = |slot: u64| {
        let message = json!({ "beacon_block_root": ROOT, "slot": slot.to_string() });
        request("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", message, fork_info(0, 1))
    };
    fork_error(&message(74_240 * 32 - 1));
    assert!(message(74_240 * 32).verify(&mainnet).is_ok());
    let selection = |slot: u64| {
        let data = json!({ "slot": slot.to_string(), "subcommittee_index": "0" });
        request("SYNC_COMMITTEE_SELECTION_PROOF", "sync_aggregator_selection_data", data, fork_info(0, 1))
    };
    fork_error(&selection(0));
    // Aggregates of one committee from Electra on, and of several before.
    let aggregate = |slot: u64, committees: bool| {
        let mut data = json!({
            "aggregation_bits": "0x01", "signature": format!("0x{}", "c0".repeat(96)),
            "data": {
                "slot": slot.to_string(), "index": "0", "beacon_block_root": ROOT,
                "source": { "epoch": "0", "root": ROOT }, "target": { "epoch": "0", "root": ROOT },
            },
        });
        if committees {
            data["committee_bits"] = "0x0100000000000000".into();
        }
        let proof = json!({
            "aggregator_index": "1", "aggregate": data, "selection_proof": format!("0x{}", "c0".repeat(96)),
        });
        request("AGGREGATE_AND_PROOF", "aggregate_and_proof", proof, fork_info(5, 6))
    };
    let electra = 364_032 * 32;
    fork_error(&aggregate(electra, false));
    fork_error(&aggregate(electra - 1, true));
    assert!(aggregate(electra - 1, false).duty.signing_root(&mainnet).is_ok());
    assert!(aggregate(electra, true).duty.signing_root(&mainnet).is_ok());
}

#[test]
fn slashing_protection_sees_votes_and_blocks_and_nothing_else() {
    let mainnet = ForkSchedule::mainnet();
    let vote = vote(FULU_SLOT + 5, FULU - 1, FULU).duty;
    assert_eq!(vote.slashable(), Some(Slashable::Attestation { source: Epoch(FULU - 1), target: Epoch(FULU) }));
    assert_eq!((vote.epoch(&mainnet), vote.slot()), (Some(Epoch(FULU)), Some(Slot(FULU_SLOT + 5))));
    let block = header(FULU_SLOT + 40, Fork::Fulu).duty;
    assert_eq!(block.slashable(), Some(Slashable::Block { slot: Slot(FULU_SLOT + 40) }));
    assert_eq!(block.epoch(&mainnet), Some(Epoch(FULU + 1)));
    let exit = exit(FULU, fork_info(3, 3)).duty;
    assert_eq!((exit.slashable(), exit.epoch(&mainnet), exit.slot()), (None, Some(Epoch(FULU)), None));
}

#[test]
fn registrations_use_the_builder_domain_without_a_genesis_validators_root() {
    let value = json!({ "type": "VALIDATOR_REGISTRATION", "validator_registration": {
        "fee_recipient": format!("0x{}", "11".repeat(20)), "gas_limit": "60000000", "timestamp": "1700000000",
        "pubkey": format!("0x{}", "22".repeat(48)),
    }});
    let request = SigningRequest::decode(value.to_string().as_bytes(), Preset::Mainnet).unwrap();
    use tree_hash::TreeHash as _;
    let Duty::ValidatorRegistration(registration) = &request.duty else { panic!("no registration") };
    for schedule in [ForkSchedule::mainnet(), ForkSchedule::hoodi()] {
        let version = schedule.genesis_fork_version();
        let domain = stkr_duties::compute_domain([0, 0, 0, 1], version, B256::ZERO);
        let root = stkr_duties::compute_signing_root(registration.tree_hash_root(), domain);
        assert_eq!(request.verify(&schedule), Ok(root));
    }
    assert_eq!(request.duty.epoch(&ForkSchedule::mainnet()), None);
}

#[test]
fn a_credential_change_is_valid_on_every_fork_of_its_chain_and_on_no_other() {
    let change = BlsToExecutionChange {
        validator_index: stkr_duties::ValidatorIndex(7),
        from_bls_pubkey: alloy_primitives::FixedBytes([9; 48]),
        to_execution_address: Address::repeat_byte(3),
    };
    assert_ne!(change.signing_root(&ForkSchedule::mainnet()), change.signing_root(&ForkSchedule::hoodi()));
}

#[test]
fn only_a_header_is_asked_for_proofs_and_by_our_fork() {
    let mainnet = ForkSchedule::mainnet();
    let recipient = Address::repeat_byte(0xaa);
    let vote = vote(FULU_SLOT, FULU - 1, FULU);
    assert!(matches!(vote.proves_fee_recipient(recipient, &mainnet), Err(ProofError::NoHeader(_))));
    // The client names Bellatrix, whose index is another: ours counts.
    let block = header(FULU_SLOT, Fork::Bellatrix);
    let missing = block.proves_fee_recipient(recipient, &mainnet);
    assert!(matches!(missing, Err(ProofError::Missing { fork: Fork::Fulu, index: 801, .. })), "{missing:?}");
    assert!(missing.unwrap_err().to_string().contains("verifying mode"));
    assert!(matches!(block.proves_graffiti(B256::ZERO, &mainnet), Err(ProofError::Missing { index: 18, .. })));
}
