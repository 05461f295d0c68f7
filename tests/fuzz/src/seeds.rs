//! Documents that are right: requests that a validator client really sent, the examples of Web3Signer's description, and
//! files that our own programs write.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolEvent;
use eyre::{Result, eyre};
use serde_json::{Value, json};
use std::path::Path;
use stkr_chain::Deployment;
use stkr_chain::bindings::{Court, KeyRegistry, Micropools, ProviderRegistry, ServerRegistry};
use stkr_core::dkg::{self, CeremonyDomain, OneTimeSecret};
use stkr_core::keystore::{Kdf, Keystore};
use stkr_core::splitter::Splitter;
use stkr_core::{CommitteeKeys, SecretShare, ShareIndex, Threshold};
use stkr_duties::{ForkSchedule, Preset, SigningRequest};
use stkr_node::config::{ProgramConfig, example};
use stkr_protocol::ceremony::MemberId;
use stkr_protocol::collection::Committee;
use stkr_protocol::dealt::{DealtAcknowledgement, DealtKey, DealtMember, DealtShare, ImportKey};
use stkr_protocol::evidence::{
    AskedSignature, DefectiveDealing, DutiesProof, EnvelopeProof, EvidenceFile, Holder, MessagesProof, OpenedDealing,
    PartialProof, Proof, RequestsProof, SignedDealing, SignedDutyRequest, SignedEnvelope, UnansweredProof,
};
use stkr_protocol::messages::{Body, DealingBody, DealingCommitmentBody, SignedMessage};
use stkr_protocol::sign::{Asked, SignedPartial};
use stkr_protocol::state::testing::storage_proof;
use stkr_protocol::{ProtocolDomain, SignerKey, evidence};

pub(crate) const DOMAIN: ProtocolDomain = ProtocolDomain { chain_id: 31_337, key_registry: Address::repeat_byte(7) };
const KEY_ID: u64 = 9;

/// A chain with the minimal preset in Fulu from its start.
pub(crate) fn schedule() -> Result<ForkSchedule> {
    Ok(toml::from_str(&schedule_text("minimal"))?)
}

fn schedule_text(preset: &str) -> String {
    let names = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
    let fork = |(at, name)| format!("    {{ name = \"{name}\", version = \"0x0{at}000001\", epoch = 0 }},\n");
    let forks: String = names.iter().enumerate().map(fork).collect();
    format!(
        "preset = \"{preset}\"\ngenesis_validators_root = \"{}\"\ngenesis_time = 1000\nseconds_per_slot = 12\nforks = [\n{forks}]\n",
        B256::repeat_byte(5)
    )
}

pub(crate) fn schedules() -> Vec<String> {
    vec![schedule_text("minimal"), schedule_text("mainnet")]
}

/// Sign requests of every type and form.
pub(crate) fn requests() -> Result<Vec<Value>> {
    let mut requests = own_requests();
    if let Some(folder) = stkr_conformance::vectors("remote-signer-requests")? {
        for text in texts_below(&folder, "json")? {
            let recorded: Value = serde_json::from_str(&text)?;
            requests.extend(recorded.get("body").filter(|body| body.is_object()).cloned());
        }
    }
    if let Some(folder) = stkr_conformance::vectors("web3signer")? {
        for text in texts_below(&folder, "yaml")? {
            let Ok(document) = serde_yaml_ng::from_str::<Value>(&text) else { continue };
            let examples = document["post"]["requestBody"]["content"]["application/json"]["examples"].as_object();
            let examples = examples.into_iter().flat_map(|it| it.values());
            requests.extend(examples.map(|example| example["value"].clone()).filter(Value::is_object));
        }
    }
    // The order of a folder is nobody's; a seed must make the same inputs everywhere.
    requests.sort_by_key(Value::to_string);
    requests.dedup();
    Ok(requests)
}

fn own_requests() -> Vec<Value> {
    let fork = json!({"previous_version": "0x05000001", "current_version": "0x06000001", "epoch": "0"});
    let request = |kind: &str, member: &str, payload: Value| {
        let info = json!({"fork": fork, "genesis_validators_root": B256::repeat_byte(5)});
        json!({"type": kind, "fork_info": info, member: payload})
    };
    let root = B256::repeat_byte(3);
    let hex = |byte: u8, count: usize| format!("0x{}", hex::encode(vec![byte; count]));
    let checkpoint = |epoch: u64| json!({"epoch": epoch.to_string(), "root": root});
    let data = json!({"slot": "17", "index": "0", "beacon_block_root": root, "source": checkpoint(1), "target": checkpoint(2)});
    let aggregate = json!({
        "aggregator_index": "4", "selection_proof": hex(1, 96),
        "aggregate": {"aggregation_bits": "0x0f", "data": data, "signature": hex(2, 96), "committee_bits": "0x01"},
    });
    let header =
        json!({"slot": "17", "proposer_index": "1", "parent_root": root, "state_root": root, "body_root": root});
    let proofs = json!([{"index": "801", "proof": vec![root; 9], "value": hex(9, 32)}]);
    let mut proven = request("BLOCK_V2", "beacon_block", json!({"version": "FULU", "block_header": header}));
    proven["proofs"] = proofs;
    vec![
        request("ATTESTATION", "attestation", data),
        request("AGGREGATE_AND_PROOF_V2", "aggregate_and_proof", json!({"version": "FULU", "data": aggregate})),
        request("VOLUNTARY_EXIT", "voluntary_exit", json!({"epoch": "3", "validator_index": "5"})),
        request("RANDAO_REVEAL", "randao_reveal", json!({"epoch": "3"})),
        request("AGGREGATION_SLOT", "aggregation_slot", json!({"slot": "3"})),
        request("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", json!({"slot": "3", "beacon_block_root": root})),
        request("BLOCK_V2", "beacon_block", json!({"version": "FULU", "block_header": header})),
        proven,
        json!({"type": "DEPOSIT", "deposit": {
            "pubkey": hex(1, 48), "withdrawal_credentials": root, "amount": "32000000000",
            "genesis_fork_version": "0x00000001",
        }}),
        json!({"type": "VALIDATOR_REGISTRATION", "validator_registration": {
            "fee_recipient": Address::repeat_byte(1), "gas_limit": "45000000", "timestamp": "1700000000", "pubkey": hex(1, 48),
        }}),
    ]
}

/// A bad dealing of a member, with the share for the first opened, and a malformed one.
fn dealings(signer: &SignerKey, dealer: ShareIndex) -> Result<(OpenedDealing, DefectiveDealing)> {
    let secrets = (0..4).map(|_| OneTimeSecret::random()).collect::<Result<Vec<_>, _>>()?;
    let keys: Vec<[u8; 33]> = secrets.iter().map(OneTimeSecret::public_key).collect();
    let ProtocolDomain { chain_id, key_registry: registry } = DOMAIN;
    let ceremony = CeremonyDomain { chain_id, registry, key_id: KEY_ID, attempt: 0 };
    let own = secrets.get(dealer.position()).ok_or_else(|| eyre!("no secret of the dealer"))?;
    let dealing = dkg::deal(&ceremony, Threshold::new(3, 4)?, dealer, own, &keys)?;
    let mut body = DealingBody {
        one_time_keys_hash: keccak256(keys.as_flattened()),
        one_time_key: dealing.one_time_key.to_vec(),
        commitments: dealing.commitments_to_wire(),
        proof_of_possession: dealing.proof_of_possession.to_eip2537().to_vec(),
        shares: dealing.shares_to_wire(),
    };
    if let Some(byte) = body.shares.get_mut(31) {
        *byte ^= 1;
    }
    let sign =
        |body: &DealingBody| SignedMessage::sign(&DOMAIN, signer, (KEY_ID, 0, dealer), Body::Dealing(body.clone()));
    let first = secrets.first().ok_or_else(|| eyre!("no secret"))?;
    let opened = OpenedDealing {
        dealing: SignedDealing::of(&sign(&body)).ok_or_else(|| eyre!("no dealing"))?,
        one_time_keys: keys.as_flattened().to_vec(),
        recipient: 1,
        secret: *first.to_bytes(),
    };
    body.proof_of_possession.clear();
    let defective = DefectiveDealing::find(&sign(&body), (3, 4), None, &DOMAIN);
    Ok((opened, defective.ok_or_else(|| eyre!("no defect"))?))
}

/// A committee whose share keys, signers and one-time secrets are all here.
pub(crate) struct Parties {
    pub(crate) committee: Committee,
    signers: Vec<SignerKey>,
    shares: Vec<SecretShare>,
    splitter: Splitter,
}

impl Parties {
    pub(crate) fn new() -> Result<Self> {
        let splitter = Splitter::split(&[0x17; 32], Threshold::new(3, 4)?)?;
        let keys: CommitteeKeys = splitter.keys().clone();
        let signers = (0..4).map(|_| SignerKey::random()).collect::<Result<Vec<_>, _>>()?;
        let domain = stkr_core::dealt::DealtDomain::of(DOMAIN.chain_id, DOMAIN.key_registry, &keys);
        let mut shares = Vec::new();
        for index in keys.threshold().indices() {
            let secret = OneTimeSecret::random()?;
            let sealed = splitter.seal_share(&domain, index, &secret.public_key())?;
            shares.push(stkr_core::dealt::open_share(&domain, &keys, index, &secret, &sealed)?);
        }
        let members =
            signers.iter().zip(1..).map(|(signer, server_id)| MemberId { server_id, signer: signer.address() });
        let committee = Committee::new(DOMAIN, 0, keys, members.collect())?;
        Ok(Self { committee, signers, shares, splitter })
    }

    /// A duty of the first key.
    pub(crate) fn asked(&self) -> Result<Asked> {
        let schedule = schedule()?;
        let request = own_requests().into_iter().next().ok_or_else(|| eyre!("no request"))?;
        let request = SigningRequest::decode(request.to_string().as_bytes(), Preset::Minimal)?;
        let duty_key = self.signers.first().ok_or_else(|| eyre!("no signer"))?;
        Ok(Asked::duty((KEY_ID, 3), &request, &schedule, &DOMAIN, duty_key)?)
    }

    /// What honest servers answer, and what others do.
    pub(crate) fn replies(&self) -> Result<Vec<Value>> {
        let asked = self.asked()?;
        let root = asked.subject().signing_root().0;
        let answers =
            self.shares.iter().zip(&self.signers).map(|(share, signer)| {
                json!(SignedPartial::new(asked.subject(), &DOMAIN, signer, 0, &share.sign(&root)))
            });
        let answers: Vec<Value> = answers.collect();
        let refusal = |kind: &str| json!({"refusal": {"kind": kind, "reason": "r", "whatToDo": "w"}});
        let kinds = ["denied", "slashable", "unknown_key", "unavailable"];
        let mut replies: Vec<Value> = answers.iter().map(|answer| json!({"responses": [answer]})).collect();
        replies.push(json!({"responses": answers}));
        replies.extend(kinds.map(|kind| json!({"responses": [refusal(kind)]})));
        Ok(replies)
    }

    /// Files that prove a fault of the second member, or of its provider.
    pub(crate) fn evidence(&self) -> Result<Vec<Value>> {
        let index = ShareIndex::new(2)?;
        let holder = Holder::of(&self.committee, index).ok_or_else(|| eyre!("no second member"))?;
        let signer = self.signers.get(1).ok_or_else(|| eyre!("no second signer"))?;
        let share = self.shares.get(1).ok_or_else(|| eyre!("no second share"))?;
        let envelope = |kind: u8, root: u8, partial: &[u8]| {
            let (signing_root, partial_hash) = (B256::repeat_byte(root), keccak256(partial));
            let mut it = SignedEnvelope {
                key_id: KEY_ID,
                committee_epoch: 0,
                index,
                duty_kind: kind,
                slot: 40,
                source_epoch: 1,
                target_epoch: 2,
                signing_root,
                partial_hash,
                signature: [0; 65],
            };
            it.signature = signer.sign_digest(it.digest(&DOMAIN));
            it
        };
        let wrong = share.sign(&[9; 32]).signature.to_eip2537().to_vec();
        let partial =
            |partial: Vec<u8>| PartialProof { envelope: envelope(2, 1, &partial), holder: holder.clone(), partial };
        let request = |root: u8| {
            let mut it = SignedDutyRequest {
                key_id: KEY_ID,
                assignment: 3,
                duty_kind: 2,
                slot: 40,
                source_epoch: 1,
                target_epoch: 2,
                signing_root: B256::repeat_byte(root),
                signature: [0; 65],
            };
            it.signature = signer.sign_digest(it.digest(&DOMAIN));
            it
        };
        let say = |hash: u8| {
            let body = Body::DealingCommitment(DealingCommitmentBody { dealing_hash: B256::repeat_byte(hash) });
            SignedMessage::sign(&DOMAIN, signer, (KEY_ID, 0, index), body)
        };
        let (first, second) = (envelope(2, 1, &[]), envelope(2, 2, &[]));
        let duties =
            DutiesProof { first, second, holder: holder.clone(), later_holder: Some(Box::new(holder.clone())) };
        let proofs = [
            Proof::InvalidPartial(partial(wrong)),
            Proof::GarbagePartial(partial(vec![0xff; 256])),
            Proof::ConflictingDuties(duties),
            Proof::UnauthorisedSignature(EnvelopeProof { envelope: envelope(7, 1, &[]), holder: holder.clone() }),
            Proof::ProviderEquivocation(RequestsProof { first: request(1), second: request(2) }),
            Proof::CeremonyEquivocation(MessagesProof { first: say(1), second: say(2) }),
        ];
        let (opened, defective) = dealings(signer, index)?;
        let court = deployment().court;
        let asked =
            evidence::Asked::Signature(AskedSignature { key_id: KEY_ID, index, signing_root: B256::repeat_byte(1) });
        let state = storage_proof((9, 10), asked.kept_by(court), asked.slot(), B256::repeat_byte(1));
        let unanswered = Proof::UnansweredChallenge(UnansweredProof { asked, state });
        let of_ceremonies = [Proof::BadDealing(opened), Proof::MalformedDealing(defective)];
        let proofs = proofs.into_iter().chain(of_ceremonies).chain([unanswered]);
        Ok(proofs.map(|proof| json!(EvidenceFile::new(&DOMAIN, court, proof))).collect())
    }

    /// Pages of a gateway, with what the files of evidence hold.
    pub(crate) fn kept(&self) -> Result<Vec<Value>> {
        let proofs = self.evidence()?;
        let (mut envelopes, mut rows) = (Vec::new(), Vec::new());
        for proof in proofs.iter().map(|file| &file["proof"]) {
            let signed = [&proof["first"], &proof["second"], &proof["envelope"]];
            let of = |name: &'static str| signed.into_iter().filter(move |it| !it[name].is_null());
            envelopes.extend(of("partialHash").map(|signed| json!({"serverId": "2", "signed": signed})));
            rows.extend(of("assignment").map(|signed| json!({"id": "1", "signedRequest": signed, "envelopes": []})));
        }
        rows.push(json!({"id": "2", "envelopes": envelopes}));
        Ok(vec![json!({"rows": []}), json!({ "rows": rows })])
    }

    /// `POST /v1/sign`.
    pub(crate) fn batches(&self) -> Result<Vec<Value>> {
        let duty = |request: &Value| json!({"type": "DUTY", "keyId": "9", "assignment": "3", "duty": request, "signature": format!("0x{}", "1b".repeat(65))});
        let asked = serde_json::to_value(self.asked()?.request())?;
        let deposit = json!({
            "type": "DEPOSIT", "keyId": "1", "signingRoot": B256::repeat_byte(1), "deposit": {
                "pubkey": format!("0x{}", "01".repeat(48)), "withdrawal_credentials": B256::repeat_byte(2),
                "amount": "1000000000", "genesis_fork_version": "0x00000001",
            },
        });
        let all: Vec<Value> = requests()?.iter().map(duty).collect();
        let mut batches: Vec<Value> = all.iter().map(|request| json!({"requests": [request]})).collect();
        batches.push(json!({"requests": [asked, deposit]}));
        batches.push(json!({"requests": all}));
        Ok(batches)
    }

    /// Files of dealt keys, each under the name of its kind.
    pub(crate) fn dealt(&self) -> Result<Vec<Value>> {
        let keys = self.splitter.keys();
        let member = |(member, key): (&MemberId, &stkr_core::PublicKey)| DealtMember {
            server_id: member.server_id,
            signer: member.signer,
            share_key: key.to_compressed(),
        };
        let mut key = DealtKey {
            chain_id: DOMAIN.chain_id,
            key_registry: DOMAIN.key_registry,
            owner: Address::repeat_byte(9),
            threshold: 3,
            members: self.committee.members().iter().zip(keys.share_keys()).map(member).collect(),
            group_key: keys.group_key().to_compressed(),
            history_hash: keccak256("history"),
            possession: [0; 96],
        };
        let digest = key.digest()?;
        key.possession = self.splitter.prove_possession(&digest.0).to_compressed();
        let domain = stkr_core::dealt::DealtDomain::of(DOMAIN.chain_id, DOMAIN.key_registry, keys);
        let (index, secret) = (ShareIndex::new(2)?, OneTimeSecret::random()?);
        let sealed = self.splitter.seal_share(&domain, index, &secret.public_key())?;
        let share =
            DealtShare { key: key.clone(), index, one_time_key: sealed.one_time_key, ciphertext: sealed.ciphertext };
        let signer = self.signers.first().ok_or_else(|| eyre!("no signer"))?;
        Ok(vec![
            json!(key),
            json!(share),
            json!(ImportKey::sign(&DOMAIN, signer, secret.public_key())),
            json!(DealtAcknowledgement::sign(signer, index, digest)),
        ])
    }
}

pub(crate) fn interchanges() -> Result<Vec<Value>> {
    let mut files = Vec::new();
    if let Some(folder) = stkr_conformance::vectors("eip-3076")? {
        for text in texts_below(&folder, "json")? {
            let test: Value = serde_json::from_str(&text)?;
            let steps = test["steps"].as_array().into_iter().flatten();
            files.extend(steps.map(|step| step["interchange"].clone()).filter(Value::is_object));
        }
    }
    let key = format!("0x{}", "ab".repeat(48));
    files.push(json!({
        "metadata": {"interchange_format_version": "5", "genesis_validators_root": B256::repeat_byte(5)},
        "data": [{
            "pubkey": key, "signed_blocks": [{"slot": "81952", "signing_root": B256::repeat_byte(1)}, {"slot": "81951"}],
            "signed_attestations": [{"source_epoch": "2290", "target_epoch": "3007", "signing_root": B256::repeat_byte(2)}],
        }],
    }));
    files.sort_by_key(Value::to_string);
    files.dedup();
    // One root for all, so that a file is not refused for its network alone.
    for file in &mut files {
        file["metadata"]["genesis_validators_root"] = json!(B256::repeat_byte(5));
    }
    Ok(files)
}

/// All files with this ending, in whatever order.
fn texts_below(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let (mut folders, mut texts) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == ending) {
                texts.push(std::fs::read_to_string(path)?);
            }
        }
    }
    Ok(texts)
}

pub(crate) fn keystores() -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for kdf in [Kdf::Pbkdf2 { c: 1_024 }, Kdf::Scrypt { n: 1_024, r: 8, p: 1 }] {
        let keystore = Keystore::encrypt(&[7; 32], "password", kdf, None, "m/12381/3600/0/0/0", Some("a key"))?;
        all.push(serde_json::from_str(&keystore.to_json()?)?);
    }
    Ok(all)
}

/// The example of a program, as it is and with everything in force that it shows commented out.
pub(crate) fn configs<C: ProgramConfig>() -> Result<Vec<String>> {
    let text = example::<C>()?;
    let shown = text.lines().map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line));
    let full = shown.collect::<Vec<_>>().join("\n");
    Ok(vec![text, full])
}

pub(crate) fn identifiers() -> Vec<String> {
    let (lower, upper) = ("93247f2209abcacf57b75a51dafae777f9dd38bc7053d1af", "AB".repeat(24));
    let key = format!("{lower}{}", "0f".repeat(24));
    vec![
        format!("0x{key}"),
        key,
        format!("0x{upper}{upper}"),
        "0x".into(),
        "../../etc/passwd%00".into(),
        "\u{1F980}".repeat(30),
    ]
}

pub(crate) fn deployment() -> Deployment {
    let address = Address::repeat_byte;
    Deployment {
        chain_id: DOMAIN.chain_id,
        access_manager: address(1),
        server_registry: address(2),
        provider_registry: address(3),
        key_registry: DOMAIN.key_registry,
        court: address(8),
        micropools: address(5),
        deposit_contract: address(6),
        genesis_fork_version: [0, 0, 0, 1].into(),
        genesis_validators_root: B256::repeat_byte(9),
        deployed_block: 1,
    }
}

/// A log as bytes: which contract, how many topics, topics, data.
pub(crate) fn log(contract: Address, event: &impl SolEvent) -> Vec<u8> {
    let data = event.encode_log_data();
    let mut bytes = vec![contract.0[0], u8::try_from(data.topics().len()).unwrap_or(u8::MAX)];
    bytes.extend(data.topics().iter().flat_map(|topic| topic.0));
    bytes.extend_from_slice(&data.data);
    bytes
}

pub(crate) fn logs(parties: &Parties) -> Vec<Vec<u8>> {
    let deployment = deployment();
    let keys = parties.committee.keys();
    let points =
        keys.share_keys().iter().chain([&keys.group_key()]).flat_map(|key| key.to_eip2537()).collect::<Vec<u8>>();
    let id = U256::from(KEY_ID);
    let members = parties.committee.members();
    let finalised = KeyRegistry::KeyFinalised {
        keyId: id,
        attempt: 0,
        committee: members.iter().map(|member| member.server_id).collect(),
        signers: members.iter().map(|member| member.signer).collect(),
        points: Bytes::from(points),
        dealingsDigest: keccak256("dealings"),
        leavesRoot: keccak256("leaves"),
    };
    let registry = deployment.key_registry;
    vec![
        log(registry, &finalised),
        log(registry, &KeyRegistry::MessageOrdered { keyId: id, signingRoot: B256::repeat_byte(1) }),
        log(registry, &KeyRegistry::KeyRetired { keyId: id, burned: true }),
        log(registry, &KeyRegistry::DutyKeyNamed { keyId: id, dutyKey: Address::repeat_byte(3), number: 2 }),
        log(
            registry,
            &KeyRegistry::CommitteeDrawn {
                keyId: id,
                attempt: 1,
                seed: B256::repeat_byte(4),
                committee: vec![1, 2, 3, 4],
                deadline: 9_u64.try_into().unwrap_or_default(),
            },
        ),
        log(deployment.micropools, &Micropools::PoolKeyRequested { poolId: id, keyId: id }),
        log(
            deployment.court,
            &Court::FaultProven {
                fault: 1,
                server: 2,
                keyId: id,
                committeeEpoch: 0,
                evidence: keccak256("evidence"),
                reporter: Address::repeat_byte(1),
                slashed: U256::from(10),
                bounty: U256::from(1),
            },
        ),
        log(deployment.server_registry, &ServerRegistry::SeatsChanged { id: 1, seats: 3 }),
        log(
            deployment.provider_registry,
            &ProviderRegistry::DutyKeyChanged {
                provider: Address::repeat_byte(1),
                dutyKey: Address::repeat_byte(2),
                since: 9_u64.try_into().unwrap_or_default(),
            },
        ),
    ]
}
