// Random signing requests with the roots that Lodestar's types and config give them, as one JSON document on standard
// output. `node roots.mjs SEED ROUNDS`; the preset is LODESTAR_PRESET, as everywhere in Lodestar.
//
// Nothing here knows how Stkr computes a root: containers come from @lodestar/types, domains and forks from
// @lodestar/config, branches from @chainsafe/persistent-merkle-tree.

import { Tree } from "@chainsafe/persistent-merkle-tree";
import { createBeaconConfig } from "@lodestar/config";
import { minimalChainConfig } from "@lodestar/config/configs";
import { genesisData, networksChainConfig } from "@lodestar/config/networks";
import * as params from "@lodestar/params";
import { ssz } from "@lodestar/types";

const FORKS = ["phase0", "altair", "bellatrix", "capella", "deneb", "electra", "fulu"];
const [seed, rounds] = process.argv.slice(2).map(Number);

// xorshift32: the same requests for the same seed.
let state = seed | 1;
function random(limit) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}
const bytes = (length) => Uint8Array.from({ length }, () => random(256));
const hex = (data) => `0x${Buffer.from(data).toString("hex")}`;

// A value of any SSZ type that blocks are made of. Lists are short; their limits shape the root all the same.
function value(type) {
  if (type.fields) {
    return Object.fromEntries(Object.entries(type.fields).map(([name, field]) => [name, value(field)]));
  }
  switch (type.constructor.name) {
    case "UintNumberType":
      return type.byteLength < 8 ? random(256) : random(2 ** 21) * 2 ** random(32) + random(2);
    case "UintBigintType":
      return BigInt(hex(bytes(Math.min(type.byteLength, 8))));
    case "ByteVectorType":
    case "ExecutionAddressType":
      return bytes(type.lengthBytes);
    case "ByteListType":
      return bytes(random(Math.min(type.limitBytes, 70) + 1));
    case "BooleanType":
      return random(2) === 1;
    case "BitListType":
    case "BitVectorType": {
      const length = type.lengthBits ?? random(Math.min(type.limitBits, 300) + 1);
      const bits = type.defaultValue().constructor;
      return bits.fromBoolArray(Array.from({ length }, () => random(2) === 1));
    }
    case "ListBasicType":
    case "ListCompositeType":
      return Array.from({ length: random(Math.min(type.limit, 3) + 1) }, () => value(type.elementType));
    case "VectorBasicType":
    case "VectorCompositeType":
      return Array.from({ length: type.length }, () => value(type.elementType));
    default:
      throw Error(`no random ${type.constructor.name}`);
  }
}

function networks() {
  if (params.ACTIVE_PRESET === "mainnet") {
    return ["mainnet", "hoodi"].map((name) => [name, networksChainConfig[name], genesisData[name]]);
  }
  const epochs = Object.fromEntries(FORKS.slice(1).map((fork, at) => [`${fork.toUpperCase()}_FORK_EPOCH`, 10 * (at + 1)]));
  const local = { ...minimalChainConfig, ...epochs };
  return [["local", local, { genesisTime: 1_700_000_000, genesisValidatorsRoot: hex(bytes(32)) }]];
}

// What Stkr's config would say of this chain.
function schedule(config, genesis) {
  const forks = FORKS.map((name) => config.forks[name]);
  return {
    preset: params.ACTIVE_PRESET,
    genesis_validators_root: genesis.genesisValidatorsRoot,
    genesis_time: genesis.genesisTime,
    seconds_per_slot: config.SLOT_DURATION_MS / 1000,
    forks: forks.map((fork) => ({ name: fork.name, version: hex(fork.version), epoch: fork.epoch })),
  };
}

const signingRoot = (objectRoot, domain) => hex(ssz.phase0.SigningData.hashTreeRoot({ objectRoot, domain }));

// compute_domain with a zero genesis validators root: what lies outside the chain.
function rootlessDomain(domainType, config) {
  const genesisValidatorsRoot = new Uint8Array(32);
  const root = ssz.phase0.ForkData.hashTreeRoot({ currentVersion: config.GENESIS_FORK_VERSION, genesisValidatorsRoot });
  return Uint8Array.from([...domainType, ...root.slice(0, 28)]);
}

function requests(config, genesis, fork) {
  const first = config.forks[fork].epoch;
  const next = config.forks[FORKS[FORKS.indexOf(fork) + 1]]?.epoch ?? first + 100_000;
  if (next === first) return []; // Never active: Hoodi started with Deneb.
  const last = next - 1;
  // The first and the last slot of a fork too.
  const slots = [first * params.SLOTS_PER_EPOCH, (last + 1) * params.SLOTS_PER_EPOCH - 1];
  const slot = slots[random(4)] ?? slots[0] + random(slots[1] - slots[0] + 1);
  const epoch = Math.floor(slot / params.SLOTS_PER_EPOCH);
  const now = (config.forks.fulu.epoch + 1) * params.SLOTS_PER_EPOCH;
  const types = ssz[fork];
  const { prevVersion, version } = config.getForkInfo(slot);
  const fork_info = {
    fork: { previous_version: hex(prevVersion), current_version: hex(version), epoch: String(epoch) },
    genesis_validators_root: genesis.genesisValidatorsRoot,
  };
  const since = (wanted) => FORKS.indexOf(fork) >= FORKS.indexOf(wanted);
  const list = [];
  const add = (type, member, payload, root, domain, more = {}) => {
    const body = { type, fork_info, signingRoot: signingRoot(root, domain), [member]: payload };
    if (type === "DEPOSIT" || type === "VALIDATOR_REGISTRATION") delete body.fork_info;
    list.push({ fork, body: { ...body, ...more.body }, ...more.expected });
  };
  const at = (domainType) => config.getDomain(slot, domainType, slot);
  const container = (type, change) => {
    const random = value(type);
    change(random);
    return [type.toJson(random), type.hashTreeRoot(random), random];
  };

  add("AGGREGATION_SLOT", "aggregation_slot", { slot: String(slot) }, ssz.Slot.hashTreeRoot(slot), at(params.DOMAIN_SELECTION_PROOF));
  add("RANDAO_REVEAL", "randao_reveal", { epoch: String(epoch) }, ssz.Epoch.hashTreeRoot(epoch), at(params.DOMAIN_RANDAO));

  const [vote, voteRoot] = container(types.AttestationData, (data) => {
    data.slot = slot;
    data.target.epoch = epoch;
    data.source.epoch = epoch === 0 ? 0 : random(epoch);
  });
  add("ATTESTATION", "attestation", vote, voteRoot, at(params.DOMAIN_BEACON_ATTESTER));

  const [aggregate, aggregateRoot] = container(types.AggregateAndProof, (proof) => {
    proof.aggregate.data.slot = slot;
  });
  add("AGGREGATE_AND_PROOF", "aggregate_and_proof", aggregate, aggregateRoot, at(params.DOMAIN_AGGREGATE_AND_PROOF));
  const versioned = { version: fork.toUpperCase(), data: aggregate };
  add("AGGREGATE_AND_PROOF_V2", "aggregate_and_proof", versioned, aggregateRoot, at(params.DOMAIN_AGGREGATE_AND_PROOF));

  const blocks = since("bellatrix") ? [types.BeaconBlock, types.BlindedBeaconBlock] : [types.BeaconBlock];
  for (const type of blocks) {
    const [block, root, random] = container(type, (block) => {
      block.slot = slot;
    });
    const domain = at(params.DOMAIN_BEACON_PROPOSER);
    if (!since("bellatrix")) {
      add("BLOCK", "block", block, root, domain);
      add("BLOCK_V2", "beacon_block", { version: fork.toUpperCase(), block }, root, domain);
      continue;
    }
    const body = type.fields.body;
    const payload = random.body.executionPayload ?? random.body.executionPayloadHeader;
    const payloadName = random.body.executionPayload ? "executionPayload" : "executionPayloadHeader";
    const tree = new Tree(body.toView(random.body).node);
    const proofs = [[payloadName, "feeRecipient"], ["graffiti"]].map((path) => {
      const index = body.getPathInfo(path).gindex;
      return { index: String(index), proof: tree.getSingleProof(index).map(hex) };
    });
    const { body: _, ...header } = block;
    header.body_root = hex(body.hashTreeRoot(random.body));
    add("BLOCK_V2", "beacon_block", { version: fork.toUpperCase(), block_header: header }, root, domain, {
      body: { proofs },
      expected: { fee_recipient: ssz.ExecutionAddress.toJson(payload.feeRecipient), graffiti: hex(random.body.graffiti) },
    });
  }

  const [exit, exitRoot] = container(types.VoluntaryExit, (exit) => {
    exit.epoch = epoch;
  });
  // The chain is in Fulu when it processes the exit.
  add("VOLUNTARY_EXIT", "voluntary_exit", exit, exitRoot, config.getDomainForVoluntaryExit(now, slot));

  if (since("altair")) {
    const root = bytes(32);
    const message = { beacon_block_root: hex(root), slot: String(slot) };
    add("SYNC_COMMITTEE_MESSAGE", "sync_committee_message", message, root, at(params.DOMAIN_SYNC_COMMITTEE));
    const [selection, selectionRoot] = container(types.SyncAggregatorSelectionData, (data) => {
      data.slot = slot;
    });
    const selectionDomain = at(params.DOMAIN_SYNC_COMMITTEE_SELECTION_PROOF);
    add("SYNC_COMMITTEE_SELECTION_PROOF", "sync_aggregator_selection_data", selection, selectionRoot, selectionDomain);
    const [proof, proofRoot] = container(types.ContributionAndProof, (proof) => {
      proof.contribution.slot = slot;
    });
    const proofDomain = at(params.DOMAIN_CONTRIBUTION_AND_PROOF);
    add("SYNC_COMMITTEE_CONTRIBUTION_AND_PROOF", "contribution_and_proof", proof, proofRoot, proofDomain);
  }

  const [registration, registrationRoot] = container(ssz.bellatrix.ValidatorRegistrationV1, () => {});
  const builder = rootlessDomain(params.DOMAIN_APPLICATION_BUILDER, config);
  add("VALIDATOR_REGISTRATION", "validator_registration", registration, registrationRoot, builder);
  const [deposit, depositRoot] = container(ssz.phase0.DepositMessage, () => {});
  deposit.genesis_fork_version = hex(config.GENESIS_FORK_VERSION);
  add("DEPOSIT", "deposit", deposit, depositRoot, rootlessDomain(params.DOMAIN_DEPOSIT, config));
  return list;
}

// What no request carries, as containers with their signing roots.
function credentialChanges(config) {
  const type = ssz.capella.BLSToExecutionChange;
  return Array.from({ length: rounds }, () => {
    const change = value(type);
    const domain = config.getDomainAtFork("phase0", params.DOMAIN_BLS_TO_EXECUTION_CHANGE);
    return { change: type.toJson(change), signing_root: signingRoot(type.hashTreeRoot(change), domain) };
  });
}

function indices() {
  const forks = FORKS.slice(FORKS.indexOf("bellatrix"));
  return forks.map((fork) => {
    const body = ssz[fork].BeaconBlockBody;
    const index = (path) => Number(body.getPathInfo(path).gindex);
    return { fork, fee_recipient: index(["executionPayload", "feeRecipient"]), graffiti: index(["graffiti"]) };
  });
}

const output = networks().map(([name, chain, genesis]) => {
  const config = createBeaconConfig(chain, Buffer.from(genesis.genesisValidatorsRoot.slice(2), "hex"));
  const all = Array.from({ length: rounds }, () => FORKS.flatMap((fork) => requests(config, genesis, fork)));
  return { name, schedule: schedule(config, genesis), requests: all.flat(), changes: credentialChanges(config) };
});
process.stdout.write(JSON.stringify({ networks: output, indices: indices() }));
