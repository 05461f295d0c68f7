// The checker: trusts nothing that the product computed. Given an RPC URL, the contract addresses and the line that
// `cargo xtask devnet` printed, it reads the chain again, draws the committees again, recomputes the group key from the
// signed dealings, verifies the deposit with @noble/curves, kills one server and sees the others bring a new pool to its
// deposit.
//
//   node check.mjs --rpc URL --deployment FILE < line
//   exit 0: all true; 1: something is not, and the last line says what; 2: usage; 3: the checker itself failed
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { readFileSync, readdirSync, readlinkSync } from "node:fs";
import { concat, decode, hex, keccak, typedDigest, unhex, utf8, word } from "./abi.mjs";
import { Chain, Wrong, argumentsOf, fetchJson, lastLine, must, quantity, run, same, until } from "./chain.mjs";
import { post, selfSigned } from "./tls.mjs";

const ETHER_GWEI = 1_000_000_000n;
const [G1, G2] = [bls.G1.Point, bls.G2.Point];
const R = bls.fields.Fr.ORDER;
const SIGNATURE_DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const POP_DST = "BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const POOL_STATES = { active: 5n, cancelled: 6n };
const KEY_STATES = { live: 3n, burned: 5n };
const SERVER_ACTIVE = 2n;
const [VALIDATOR_KEY, OFFLINE] = [0n, 1n];

// ── points: EIP-2537 bytes <-> noble ─────────────────────────────────────────────────────────────────────────────────
const field = (bytes) => BigInt(hex(bytes));
function g1(bytes) {
  must(bytes.length === 128, `a G1 point has ${bytes.length} bytes`);
  const point = G1.fromAffine({ x: field(bytes.slice(0, 64)), y: field(bytes.slice(64)) });
  point.assertValidity();
  must(!point.is0(), "a G1 point is infinity");
  return point;
}
function g2(bytes) {
  must(bytes.length === 256, `a G2 point has ${bytes.length} bytes`);
  const at = (i) => field(bytes.slice(64 * i, 64 * i + 64));
  const point = G2.fromAffine({ x: { c0: at(0), c1: at(1) }, y: { c0: at(2), c1: at(3) } });
  point.assertValidity();
  must(!point.is0(), "a G2 point is infinity");
  return point;
}
const blsVerify = (signature, root, key, dst = SIGNATURE_DST) =>
  bls.longSignatures.verify(signature, bls.longSignatures.hash(root, dst), key);

const multiply = (point, scalar) => (scalar === 0n ? point.constructor.ZERO : point.multiply(scalar));
const modR = (value) => ((value % R) + R) % R;
const invert = (value) => bls.fields.Fr.inv(modR(value));

/** Lagrange coefficient of `index` at zero among `indices`. */
const lagrange = (index, indices) =>
  indices.filter((j) => j !== index).reduce((acc, j) => modR(acc * j * invert(j - index)), 1n);

// ── SSZ of deposits (consensus specs, phase0) ────────────────────────────────────────────────────────────────────────
const hashPair = (a, b) => sha256(concat(a, b));
const padTo = (bytes, size) => concat(bytes, new Uint8Array(size - bytes.length));
function littleEndian64(value) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
const pubkeyRoot = (pubkey) => sha256(padTo(pubkey, 64));
const signatureRoot = (signature) => hashPair(sha256(signature.slice(0, 64)), sha256(padTo(signature.slice(64), 64)));
function depositMessageRoot(pubkey, credentials, gwei) {
  const amount = padTo(littleEndian64(gwei), 32);
  return hashPair(hashPair(pubkeyRoot(pubkey), credentials), hashPair(amount, new Uint8Array(32)));
}
function depositDataRoot(pubkey, credentials, gwei, signature) {
  const amount = padTo(littleEndian64(gwei), 32);
  return hashPair(hashPair(pubkeyRoot(pubkey), credentials), hashPair(amount, signatureRoot(signature)));
}
function depositSigningRoot(pubkey, credentials, gwei, forkVersion) {
  const forkDataRoot = hashPair(padTo(forkVersion, 32), new Uint8Array(32));
  const domain = concat(Uint8Array.of(3, 0, 0, 0), forkDataRoot.slice(0, 28));
  return hashPair(depositMessageRoot(pubkey, credentials, gwei), domain);
}

/** Signing root of a BLSToExecutionChange (consensus specs, capella). */
function changeSigningRoot(validatorIndex, pubkey, address, forkVersion, validatorsRoot) {
  const fields = hashPair(padTo(littleEndian64(validatorIndex), 32), pubkeyRoot(pubkey));
  const message = hashPair(fields, hashPair(padTo(address, 32), new Uint8Array(32)));
  const domain = concat(Uint8Array.of(10, 0, 0, 0), hashPair(padTo(forkVersion, 32), validatorsRoot).slice(0, 28));
  return hashPair(message, domain);
}

/** Root of the deposit contract: a 32-deep tree of deposit data roots, mixed with the count. */
function depositTreeRoot(leaves) {
  let [level, zero] = [leaves, new Uint8Array(32)];
  for (let depth = 0; depth < 32; depth++) {
    const next = [];
    for (let i = 0; i < level.length; i += 2) next.push(hashPair(level[i], level[i + 1] ?? zero));
    zero = hashPair(zero, zero);
    level = next.length ? next : [zero];
  }
  return hashPair(level[0], padTo(littleEndian64(leaves.length), 32));
}

// ── protocol messages (docs/protocol.md) ─────────────────────────────────────────────────────────────────────────────
function domainOf(chainId, keyRegistry) {
  const type = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
  return keccak(keccak(utf8(type)), keccak(utf8("Stkr")), keccak(utf8("1")), word(chainId), word(unhex(keyRegistry)));
}
function recover(digest, signature) {
  must(signature.length === 65 && signature[64] >= 27, "a signature is not 65 bytes with v 27 or 28");
  const recovered = concat(Uint8Array.of(signature[64] - 27), signature.slice(0, 64));
  const key = secp256k1.recoverPublicKey(recovered, digest, { prehash: false });
  return hex(keccak(secp256k1.Point.fromBytes(key).toBytes(false).slice(1)).slice(12));
}
function dealingDigest(domain, message) {
  const { oneTimeKeysHash, oneTimeKey, commitments, proofOfPossession, shares } = message.body;
  const type =
    "Dealing(uint256 keyId,uint16 attempt,uint8 index,bytes32 oneTimeKeysHash,bytes oneTimeKey,bytes commitments,bytes proofOfPossession,bytes shares)";
  const bytes = [oneTimeKey, commitments, proofOfPossession, shares].map((b) => keccak(unhex(b)));
  return typedDigest(domain, type, [word(message.keyId), word(message.attempt), word(message.index), unhex(oneTimeKeysHash), ...bytes]);
}

// ── shape of the line ────────────────────────────────────────────────────────────────────────────────────────────────
const STEPS = [
  "chain", "servers_registered", "processes", "pool_opened", "staked", "committee_drawn", "key_finalised", "predeposited",
  "foreign_deposit_burns_key", "withdrawal_key_made", "predeposited_with_0x00", "credentials_changed", "topped_up", "reshared",
];
const GAS = [
  "register_server", "open_pool", "stake", "request_key", "draw", "finalise_key", "order_deposit", "predeposit", "topup",
];
const DEPOSIT = {
  pubkey: "string", withdrawal_credentials: "string", amount_gwei: "number", signature: "string", deposit_data_root: "string",
  deposit_count: "number", total_gwei: "number", genesis_fork_version: "string",
};
const RESHARE = { old_epoch: "number", new_epoch: "number", same_pubkey: "boolean", gas: "number" };
const CHANGE = { signature: "string", pubkey: "string", gas: "number" };
const CHANGE_MESSAGE = { validator_index: "string", from_bls_pubkey: "string", to_execution_address: "string" };
const isObject = (value) => value !== null && typeof value === "object";

/** Everything is there, and of its type: what is missing is a lie too, not a failure of the checker. */
function checkShape(line) {
  must(isObject(line), "the line is no JSON object");
  for (const name of ["steps", "processes", "committees"]) must(Array.isArray(line[name]), `the line has no ${name}`);
  for (const name of ["gas", "deposit", "credential_change", "reshare"]) must(isObject(line[name]), `the line has no ${name}`);
  for (const name of ["rpc", "status_url"]) must(typeof line[name] === "string", `the line has no ${name}`);
  must(line.steps.every(isObject), "a step is no object");
  must(line.processes.every((p) => isObject(p) && typeof p.name === "string"), "a process has no name");
  must(line.committees.every(Array.isArray), "a committee is no list");
  for (const name of GAS) must(Number.isInteger(line.gas[name]), `the line has no gas of ${name}`);
  for (const name of Object.keys(line.gas)) must(GAS.includes(name), `gas of ${name} is not a figure of this line`);
  for (const [name, type] of Object.entries(DEPOSIT)) {
    must(typeof line.deposit[name] === type, `the deposit of the line has no ${name}`);
  }
  for (const [name, type] of Object.entries(RESHARE)) {
    must(typeof line.reshare[name] === type, `the reshare of the line has no ${name}`);
  }
  const { message } = line.credential_change;
  must(isObject(message), "the credential_change of the line has no message");
  for (const [name, type] of Object.entries(CHANGE)) {
    must(typeof line.credential_change[name] === type, `the credential_change of the line has no ${name}`);
  }
  for (const [name, type] of Object.entries(CHANGE_MESSAGE)) {
    must(typeof message[name] === type, `the message of the credential_change has no ${name}`);
  }
}

// ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────────
function checkLine(line, { rpc }) {
  checkShape(line);
  same("ok", line.ok, true);
  same("rpc", line.rpc, rpc);
  for (const { name, ms } of line.steps) {
    must(typeof name === "string" && name !== "", "a step has no name");
    must(Number.isInteger(ms) && ms >= 0, `step ${name} has no time in ms`);
  }
  must(new Set(line.steps.map((s) => s.name)).size === line.steps.length, "two steps share a name");
  // The line that is kept has one step more: this check.
  const names = line.steps.map((s) => s.name).filter((name, i, all) => name !== "checked" || i < all.length - 1);
  same("steps", names.join(", "), STEPS.join(", "));
}

/** Whether the process works with a file below `dir`, as the kernel says: its database, at least. */
function hasOpen(pid, dir) {
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return open.some((file) => file.startsWith(`${dir}/`));
}

function checkProcesses(processes) {
  const named = (prefix) => processes.filter((p) => p.name.startsWith(prefix));
  same("number of servers", named("server-").length, 6);
  must(processes.some((p) => p.name === "relayer"), "no relayer runs");
  must(named("anvil").length === 1, "no process is named anvil");
  for (const what of ["pid", "dir", "name"]) {
    const values = processes.filter((p) => what !== "dir" || !p.name.startsWith("anvil")).map((p) => p[what]);
    must(values.every((v) => v), `a process has no ${what}`);
    must(new Set(values).size === values.length, `two processes share a ${what}`);
  }
  for (const { name, pid, exe, dir } of processes) {
    let running;
    try {
      running = readlinkSync(`/proc/${pid}/exe`);
    } catch {
      throw new Wrong(`${name} (pid ${pid}) does not run`);
    }
    same(`executable of ${name}`, exe, running);
    must(name === "anvil" || hasOpen(pid, dir), `${name} has no file open in ${dir}`);
  }
}

const DEPOSIT_EVENT = "DepositEvent(bytes,bytes,bytes,bytes,bytes)";
const gweiOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);

async function checkDeposit(chain, deployment, deposit) {
  const { micropools, depositContract } = deployment;
  const [forkVersion] = await chain.view(micropools, "GENESIS_FORK_VERSION()", ["bytes4"]);
  same("genesis_fork_version", deposit.genesis_fork_version, hex(forkVersion));

  const everything = await chain.events(depositContract, DEPOSIT_EVENT, Array(5).fill("bytes"));
  const ours = everything.filter((e) => hex(e.data[0]) === String(deposit.pubkey).toLowerCase());
  must(ours.length === 2, `the deposit contract saw ${ours.length} deposits of ${deposit.pubkey}, not 2`);
  // The line speaks of the moment of the top-up; deposits of other pools may have followed.
  const then = new Chain(chain.url, ours[1].block);
  const all = everything.filter((e) => BigInt(e.block) <= BigInt(then.block));
  const [first, second] = ours.map((e) => ({ credentials: e.data[1], gwei: gweiOf(e.data[2]), signature: e.data[3] }));
  const pubkey = unhex(deposit.pubkey);
  same("withdrawal_credentials", deposit.withdrawal_credentials, hex(first.credentials));
  same("credentials of the top-up", hex(first.credentials), hex(second.credentials));
  same("amount_gwei", deposit.amount_gwei, first.gwei);
  same("amount of the predeposit", ETHER_GWEI, first.gwei);
  same("total_gwei", deposit.total_gwei, first.gwei + second.gwei);
  same("total of the pool", 32n * ETHER_GWEI, first.gwei + second.gwei);
  same("signature", deposit.signature, hex(first.signature));
  const root = depositDataRoot(pubkey, first.credentials, first.gwei, first.signature);
  same("deposit_data_root", deposit.deposit_data_root, hex(root));

  const [count] = await then.view(depositContract, "get_deposit_count()", ["bytes"]);
  same("deposit_count", deposit.deposit_count, gweiOf(count));
  const leaves = all.map((e) => depositDataRoot(e.data[0], e.data[1], gweiOf(e.data[2]), e.data[3]));
  const [treeRoot] = await then.view(depositContract, "get_deposit_root()", ["bytes32"]);
  same("deposit root", hex(depositTreeRoot(leaves)), hex(treeRoot));

  const signingRoot = depositSigningRoot(pubkey, first.credentials, first.gwei, forkVersion);
  must(blsVerify(first.signature, signingRoot, pubkey), "the deposit's BLS signature does not verify");
  return { then, pubkey, signingRoot, ...first, forkVersion, predepositTx: ours[0].tx, topUpTx: ours[1].tx };
}

async function checkPool(chain, deployment, deposit) {
  const types = ["uint256", "bytes", "bytes32", "uint64", "bytes32"];
  const ordered = (
    await chain.events(deployment.micropools, "DepositOrdered(uint256,uint256,bytes,bytes32,uint64,bytes32)", types.slice(1))
  ).find((e) => hex(e.data[0]) === hex(deposit.pubkey));
  must(ordered, "no pool ordered this deposit");
  const [poolId, keyId] = ordered.topics;
  same("ordered signing root", hex(deposit.signingRoot), hex(ordered.data[3]));
  const [isOrdered] = await chain.view(
    deployment.keyRegistry, "isOrdered(uint256,bytes32)", ["uint256"], keyId, deposit.signingRoot);
  same("isOrdered", 1n, isOrdered);
  const [vault] = await chain.view(deployment.micropools, "vaultOf(uint256)", ["address"], poolId);
  same("credentials of the vault", hex(concat(Uint8Array.of(1), new Uint8Array(11), unhex(vault))), hex(deposit.credentials));
  must((await chain.rpc("eth_getCode", vault, "latest")) !== "0x", "the vault has no code");
  const pool = await chain.view(deployment.micropools, "pool(uint256)", Array(9).fill("uint256"), poolId);
  same("state of the pool", POOL_STATES.active, pool[1]);
  const staked = await chain.events(
    deployment.micropools, "Staked(uint256,address,uint256,uint256)", ["uint256", "uint256"], poolId);
  must(new Set(staked.map((e) => e.topics[1])).size === 64, "the pool was not staked by 64 different accounts");
  same("stakes of the pool (wei)", 32n * 10n ** 18n, staked.reduce((sum, e) => sum + e.data[0], 0n));
  return { poolId, keyId, staked, orderTx: ordered.tx };
}

async function finalised(chain, deployment, keyId) {
  const key = await finalisedOrNot(chain, deployment, keyId);
  must(key, `key ${keyId} was never finalised`);
  return key;
}

async function finalisedOrNot(chain, deployment, keyId) {
  const [event] = await chain.events(
    deployment.keyRegistry,
    "KeyFinalised(uint256,uint16,uint32[],address[],bytes,bytes32,bytes32)",
    ["uint16", "uint32[]", "address[]", "bytes", "bytes32", "bytes32"],
    keyId,
  );
  if (!event) return null;
  const [attempt, committee, signers, points, dealingsDigest, leavesRoot] = event.data;
  return { keyId, attempt, committee, signers, points, dealingsDigest, leavesRoot, tx: event.tx };
}

/** Pairs hashed sorted, level by level; an odd last node moves up as it is. */
function merkleRoot(leaves) {
  let level = leaves;
  while (level.length > 1) {
    const next = [];
    for (let i = 0; i < level.length; i += 2) {
      if (i + 1 === level.length) next.push(level[i]);
      else next.push(hex(level[i]) < hex(level[i + 1]) ? keccak(level[i], level[i + 1]) : keccak(level[i + 1], level[i]));
    }
    level = next;
  }
  return level[0];
}

async function checkKey(chain, deployment, key, line) {
  const n = key.committee.length;
  const sharePoints = Array.from({ length: n }, (_, i) => key.points.slice(128 * i, 128 * i + 128));
  const groupPoint = key.points.slice(128 * n);
  const state = await chain.view(deployment.keyRegistry, "key(uint256)", Array(8).fill("uint256"), key.keyId);
  const [threshold, members] = [Number(state[3]), Number(state[4])];
  same("members of the key", n, members);
  const leaves = sharePoints.map((point, i) =>
    keccak(word(i + 1), word(key.committee[i]), word(unhex(key.signers[i])), point));
  same("leaves root", hex(word(state[7])), hex(key.leavesRoot));
  same("root of the leaves", hex(merkleRoot(leaves)), hex(key.leavesRoot));

  // The group key from the dealings, each signed by another server of the committee.
  const url = `${line.status_url.replace(/\/status\/?$/, "")}/v1/ceremonies/${key.keyId}/${key.attempt}`;
  const { messages } = await fetchJson(url);
  const dealings = messages.filter((m) => m.round === "dealing").sort((a, b) => Number(a.index) - Number(b.index));
  same("number of dealings", dealings.length, n);
  const chainId = BigInt(await chain.rpc("eth_chainId"));
  const domain = domainOf(chainId, deployment.keyRegistry);
  const digests = dealings.map((m) => dealingDigest(domain, m));
  const signers = dealings.map((m, i) => recover(digests[i], unhex(m.signature)));
  must(new Set(signers).size === n, "two dealings were signed by one server");
  for (const [i, signer] of signers.entries()) {
    same(`signer of dealing ${i + 1}`, key.signers[i], signer);
    const server = await chain.view(deployment.serverRegistry, "server(uint32)", ["address"], key.committee[i]);
    same(`signer of server ${key.committee[i]}`, server[0], signer);
  }
  const commitments = dealings.map((m, i) => {
    const bytes = unhex(m.body.commitments);
    must(bytes.length === 128 * threshold, `dealing ${i + 1} has ${bytes.length / 128} commitments`);
    // Without it the last dealer could choose its constant term as minus the sum of the others'.
    const constant = bytes.slice(0, 128);
    const statement = keccak(
      word(7 * 32), word(chainId), word(unhex(deployment.keyRegistry)), word(key.keyId), word(key.attempt), word(i + 1),
      keccak(constant), word(12), padTo(utf8("stkr/dkg/pop"), 32));
    const proof = g2(unhex(m.body.proofOfPossession));
    must(blsVerify(proof, statement, g1(constant), POP_DST), `the proof of possession in dealing ${i + 1} is wrong`);
    return Array.from({ length: threshold }, (_, k) => g1(bytes.slice(128 * k, 128 * k + 128)));
  });
  const sums = Array.from({ length: threshold }, (_, k) => commitments.reduce((sum, c) => sum.add(c[k]), G1.ZERO));
  must(sums[0].equals(g1(groupPoint)), "the dealings do not add up to the group key");
  const shareKeys = sharePoints.map(g1);
  shareKeys.forEach((point, i) => {
    const x = BigInt(i + 1);
    const expected = sums.reduce((sum, c, k) => sum.add(multiply(c, modR(x ** BigInt(k)))), G1.ZERO);
    must(expected.equals(point), `share key ${i + 1} does not follow from the dealings`);
  });
  same("digest of the dealings", hex(keccak(...digests)), hex(key.dealingsDigest));
  return { threshold, shareKeys, pubkey: sums[0].toBytes(true), domain };
}

const RESHARED = "Reshared(uint256,uint32,uint16,(uint32[],address[],bytes),bytes32,bytes32,uint48)";

/**
 * The key went to another committee and is the same key: what the contract stores are the leaves of the event, any t of the new
 * share keys give the old group key, and one seat changed. Returns who holds it now, in the form of `finalised`.
 */
async function checkReshare(chain, deployment, printed, key, { threshold, domain }) {
  const [resharing] = await chain.view(deployment.keyRegistry, "RESHARING()", ["address"]);
  const events = await chain.events(resharing, RESHARED, ["uint16", "uint256", "bytes32", "bytes32", "uint48"], key.keyId, null);
  must(events.length === 1, `key ${key.keyId} was reshared ${events.length} times, not once`);
  const [{ topics: [, epoch], data: [, at, , leavesRoot, handover], raw, tx }] = events;
  same("old_epoch", printed.old_epoch, epoch - 1n);
  same("new_epoch", printed.new_epoch, epoch);
  same("gas of the reshare", printed.gas, await chain.gasUsed(tx));
  const [committee, signers, points] = decode(["uint32[]", "address[]", "bytes"], raw.slice(Number(at)));
  const n = committee.length;
  must(points.length === 128 * (n + 1) && signers.length === n, "the new committee has not one share key for each member");
  const sharePoints = Array.from({ length: n }, (_, i) => points.slice(128 * i, 128 * i + 128));
  const groupPoint = points.slice(128 * n);
  same("same_pubkey", printed.same_pubkey, hex(groupPoint) === hex(key.points.slice(128 * key.committee.length)));
  must(printed.same_pubkey, "the key is another one since it was reshared");
  const record = await chain.view(
    resharing, "committee(uint256,uint32)", ["bytes32", "uint48", "uint8", "uint8", "uint8"], key.keyId, epoch);
  const leaves = sharePoints.map((point, i) => keccak(word(i + 1), word(committee[i]), word(unhex(signers[i])), point));
  same("root of the new committee's leaves", hex(merkleRoot(leaves)), hex(leavesRoot));
  same("leaves root of the new committee", hex(record[0]), hex(leavesRoot));
  same("handover", record[1], handover);
  same("threshold and members of the new committee", [record[2], record[3]].join(), [threshold, n].join());
  const shareKeys = sharePoints.map(g1);
  for (let first = 1; first + threshold - 1 <= n; first++) {
    const indices = Array.from({ length: threshold }, (_, i) => BigInt(first + i));
    const sum = indices.reduce(
      (acc, index) => acc.add(multiply(shareKeys[Number(index) - 1], lagrange(index, indices))), G1.ZERO);
    must(sum.equals(g1(groupPoint)), `the new share keys from ${first} on do not give the group key`);
  }
  const stayed = committee.filter((id) => key.committee.includes(id));
  same("members that stayed", stayed.length, key.committee.length - 1);
  const made = { keyId: key.keyId, committee, signers, points };
  return [made, { epoch, threshold, shareKeys, domain }];
}

/**
 * A pool's withdrawal key signed that withdrawals go to the pool's vault, fewer of its members being online servers than it takes;
 * and its other 31 ETH waited for that.
 */
async function checkCredentialChange(chain, deployment, printed, forkVersion) {
  const { micropools, keyRegistry, serverRegistry, depositContract } = deployment;
  const [withdrawalKeys] = await chain.view(micropools, "WITHDRAWAL_KEYS()", ["address"]);
  const changes = await chain.events(withdrawalKeys, "ChangeShown(uint256,uint256,uint64,bytes)", ["uint64", "bytes"]);
  must(changes.length === 1, `${changes.length} changes of credentials were shown, not one`);
  const [{ topics: [poolId, keyId], data: [validatorIndex, signature], tx, block }] = changes;
  const key = await finalised(chain, deployment, keyId);
  const pubkey = g1(key.points.slice(128 * key.committee.length)).toBytes(true);
  const [vault] = await chain.view(micropools, "vaultOf(uint256)", ["address"], poolId);
  same("gas of the change", printed.gas, await chain.gasUsed(tx));
  same("signature of the change", printed.signature, hex(signature));
  same("pubkey of the change", printed.pubkey, hex(pubkey));
  same("validator_index", printed.message.validator_index, validatorIndex);
  same("from_bls_pubkey", printed.message.from_bls_pubkey, hex(pubkey));
  same("to_execution_address", printed.message.to_execution_address, vault);
  const [validatorsRoot] = await chain.view(withdrawalKeys, "GENESIS_VALIDATORS_ROOT()", ["bytes32"]);
  const root = changeSigningRoot(validatorIndex, pubkey, unhex(vault), forkVersion, validatorsRoot);
  must(blsVerify(signature, root, pubkey), "the signature over the change does not verify");

  const state = await chain.view(keyRegistry, "key(uint256)", Array(8).fill("uint256"), keyId);
  const kinds = await Promise.all(key.committee.map(async (id) =>
    (await chain.view(serverRegistry, "server(uint32)", Array(7).fill("uint256"), id))[6]));
  const online = kinds.filter((kind) => kind !== OFFLINE).length;
  must(online < state[3], `${online} online servers are enough to sign with withdrawal key ${keyId}`);

  const credentials = concat(Uint8Array.of(0), sha256(pubkey).slice(1));
  const deposits = (await chain.events(depositContract, DEPOSIT_EVENT, Array(5).fill("bytes"))).filter(
    (e) => hex(e.data[1]) === hex(credentials));
  const gwei = deposits.reduce((sum, e) => sum + gweiOf(e.data[2]), 0n);
  must(gwei === 32n * ETHER_GWEI, `${gwei} gwei were deposited with the credentials of withdrawal key ${keyId}, not 32 ETH`);
  must(deposits.length === 2 && BigInt(deposits[1].block) >= BigInt(block), "31 ETH went before the change was shown");
  return { poolId, keyId, online, threshold: state[3], members: key.committee.length };
}

async function checkCommittees(chain, deployment, committees) {
  const drawn = await chain.events(
    deployment.keyRegistry,
    "CommitteeDrawn(uint256,uint16,uint32[],bytes32,uint48)",
    ["uint16", "uint32[]", "bytes32", "uint48"],
  );
  const latest = new Map(drawn.map((e) => [e.topics[0], e]));
  same("committees", JSON.stringify(committees), JSON.stringify([...latest.values()].map((e) => e.data[1].map(Number))));
  const requested = await chain.events(
    deployment.keyRegistry,
    "KeyRequested(uint256,address,uint8,uint8,uint8,uint48,bytes)",
    ["uint8", "uint8", "uint8", "uint48", "bytes"],
  );
  for (const { topics: [keyId], data: [attempt, committee, seed], block } of drawn) {
    must(new Set(committee).size === committee.length, `a server sits twice in the committee of key ${keyId}`);
    const request = requested.find((e) => e.topics[0] === keyId);
    must(request, `key ${keyId} was drawn and never requested`);
    if (attempt !== 0n) continue;
    const seedBlock = request.data[3];
    must(BigInt(request.block) < seedBlock && seedBlock < BigInt(block), `the seed of key ${keyId} existed too early`);
    const header = await chain.rpc("eth_getBlockByNumber", "0x" + seedBlock.toString(16), false);
    // PREVRANDAO of a block later than the request; key and attempt keep keys that share the block apart.
    const expected = keccak(unhex(header.mixHash), word(keyId), word(attempt));
    same(`seed of key ${keyId}`, hex(expected), hex(seed));
    const before = new Chain(chain.url, quantity(BigInt(block) - 1n));
    same(`committee of key ${keyId}`, committee.join(), (await drawAgain(before, deployment, request, seed)).join());
  }
  return { requested, drawn };
}

/** The committee that follows from the seed: Fisher-Yates over the snapshot, servers that may not sit passed over. */
async function drawAgain(before, deployment, { topics: [keyId, consumer], data }, seed) {
  const [kind, threshold, members, , snapshot] = data;
  // At most min(2t - n - 1, n - t) seats for one operator, but always one; of a withdrawal key min(t - 1, n - t).
  const quorums = kind === VALIDATOR_KEY ? 2n * threshold - members - 1n : threshold - 1n;
  const most = [quorums, members - threshold].reduce((a, b) => (a < b ? a : b));
  // All online servers together are one less than sign with a withdrawal key.
  const online = kind === VALIDATOR_KEY ? members : threshold - 1n;
  const left = [online, members - online];
  const cap = most < 1n ? 1n : most;
  const [excluded] = await before.view(hex(word(consumer).slice(12)), "excludedOperator(uint256)", ["address"], keyId);
  const [seatBond] = await before.view(deployment.serverRegistry, "seatBond()", ["uint256"]);
  const ids = Array.from({ length: snapshot.length / 4 }, (_, i) => BigInt(hex(snapshot.slice(4 * i, 4 * i + 4))));
  const [committee, operators] = [[], []];
  for (let step = 0; step < ids.length && committee.length < members; step++) {
    const chosen = step + Number(BigInt(hex(keccak(seed, word(step)))) % BigInt(ids.length - step));
    const id = ids[chosen];
    ids[chosen] = ids[step];
    const [, status, lockedOut, , bond, operator, serverKind, seats] = await before.view(
      deployment.serverRegistry, "server(uint32)",
      ["address", "uint8", "uint256", "uint8", "uint72", "address", "uint8", "uint16"], id);
    const held = BigInt(operators.filter((other) => other === operator).length);
    if (status !== SERVER_ACTIVE || lockedOut !== 0n || (seats + 1n) * seatBond > bond) continue;
    if (operator === excluded || held >= cap || left[serverKind] === 0n) continue;
    left[serverKind] -= 1n;
    committee.push(id);
    operators.push(operator);
  }
  return committee;
}

async function checkBurnedPool(chain, deployment) {
  const [burned] = await chain.events(
    deployment.micropools, "ForeignDepositProven(uint256,uint256,bytes32,uint64,address)", ["bytes32", "uint64", "address"]);
  must(burned, "no foreign deposit was proven in a second pool");
  const [poolId, keyId] = burned.topics;
  const pool = await chain.view(deployment.micropools, "pool(uint256)", Array(9).fill("uint256"), poolId);
  const key = await chain.view(deployment.keyRegistry, "key(uint256)", Array(8).fill("uint256"), keyId);
  same(`state of pool ${poolId}`, POOL_STATES.cancelled, pool[1]);
  same(`state of key ${keyId}`, KEY_STATES.burned, key[1]);
}

async function checkGas(chain, deployment, gas, found) {
  const registered = await chain.events(
    deployment.serverRegistry, "ServerRegistered(uint32,address,address,uint8,bytes32,string,uint256)",
    ["uint8", "bytes32", "string", "uint256"]);
  const opened = await chain.events(
    deployment.micropools, "PoolOpened(uint256,address,uint8,uint8,address,uint48)",
    ["uint8", "uint8", "address", "uint48"], found.poolId);
  const ofKey = (events) => events.find((e) => e.topics[0] === found.keyId).tx;
  const transactions = {
    register_server: registered[2].tx,
    open_pool: opened[0].tx,
    request_key: ofKey(found.requested),
    draw: ofKey(found.drawn),
    finalise_key: found.finaliseTx,
    order_deposit: found.orderTx,
    predeposit: found.predepositTx,
    topup: found.topUpTx,
  };
  for (const [name, tx] of Object.entries(transactions)) same(`gas of ${name}`, gas[name], await chain.gasUsed(tx));
  const stakes = await Promise.all(found.staked.map((e) => chain.gasUsed(e.tx)));
  same("gas of stake", gas.stake, stakes.reduce((most, g) => (g > most ? g : most)));
  return registered;
}

// ── one server dies, the rest go on ──────────────────────────────────────────────────────────────────────────────────
/** Registers a provider, opens a pool and fills it with one stake, from the devnet's own accounts. */
async function fillAnotherPool(chain, deployment) {
  const [provider, staker] = await chain.rpc("eth_accounts");
  const [known] = await chain.view(deployment.providerRegistry, "isProvider(address)", ["uint256"], unhex(provider));
  if (!known) {
    const secret = secp256k1.utils.randomSecretKey();
    const dutyKey = keccak(secp256k1.Point.fromBytes(secp256k1.getPublicKey(secret)).toBytes(false).slice(1)).slice(12);
    const domain = domainOf(BigInt(deployment.chainId), deployment.providerRegistry);
    const type = "DutyKeyProof(address provider,address dutyKey)";
    const digest = typedDigest(domain, type, [word(unhex(provider)), word(dutyKey)]);
    const signed = secp256k1.sign(digest, secret, { prehash: false, format: "recovered" });
    const proof = concat(signed.slice(1), Uint8Array.of(27 + signed[0]));
    await chain.send(provider, deployment.providerRegistry, "register(address,bytes)", [word(dutyKey), proof]);
  }
  await chain.send(provider, deployment.micropools, "open(uint8,uint8)", [word(3), word(4)], 2n * 10n ** 18n);
  const [poolId] = await chain.view(deployment.micropools, "poolCount()", ["uint256"]);
  await chain.send(staker, deployment.micropools, "stake(uint256)", [word(poolId)], 32n * 10n ** 18n);
  return poolId;
}

/** Kills a member of a new pool's committee before the deposit is signed; the others must bring it to the chain. */
async function checkRestGoOn(chain, deployment, line, registered) {
  const poolId = await fillAnotherPool(chain, deployment);
  const types = ["bytes", "uint64", "bytes", "bytes32"];
  const sent = async () =>
    (await chain.events(deployment.micropools, "DepositSent(uint256,bytes,uint64,bytes,bytes32)", types, poolId))[0];
  const [{ topics: [, keyId] }] = await until(`the key of pool ${poolId}`, async () => {
    const events = await chain.events(deployment.micropools, "PoolKeyRequested(uint256,uint256)", [], poolId);
    return events.length ? events : null;
  });
  const key = await until(`key ${keyId} to be finalised`, () => finalisedOrNot(chain, deployment, keyId));
  const victim = Number(key.committee[0]);
  const { pid } = line.processes.find((p) => p.name === `server-${victim}`) ?? {};
  must(pid, `no process is named server-${victim}`);
  process.kill(pid, "SIGKILL");
  must(!(await sent()), `pool ${poolId} had its deposit before server ${victim} was killed`);

  const { data: [pubkey, gwei, signature] } = await until(`pool ${poolId} to deposit without server ${victim}`, sent);
  const credentials = await chain.view(deployment.micropools, "withdrawalCredentials(uint256)", ["bytes32"], poolId);
  const [forkVersion] = await chain.view(deployment.micropools, "GENESIS_FORK_VERSION()", ["bytes4"]);
  const root = depositSigningRoot(pubkey, credentials[0], gwei, forkVersion);
  must(blsVerify(signature, root, pubkey), `the deposit of pool ${poolId} does not verify`);
  const { data: [, fingerprint, endpoint] } = registered.find((e) => e.topics[0] === BigInt(victim));
  const answers = await post(endpoint, hex(fingerprint), "/v1/sign", { requests: [] }, selfSigned()).then(() => true, () => false);
  must(!answers, `server ${victim} was killed and still answers`);
  return { poolId, victim };
}

/** The servers that are left answer for the first pool's deposit as they did: good partials that make the same signature. */
async function checkSameAgain(deployment, deposit, key, secrets, registered, victim) {
  const identity = selfSigned();
  const request = {
    requests: [{
      type: "DEPOSIT",
      keyId: String(key.keyId),
      signingRoot: hex(deposit.signingRoot),
      deposit: {
        pubkey: hex(deposit.pubkey),
        withdrawal_credentials: hex(deposit.credentials),
        amount: String(deposit.gwei),
        genesis_fork_version: hex(deposit.forkVersion),
      },
    }],
  };
  const partials = [];
  for (const [position, id] of key.committee.entries()) {
    if (Number(id) === victim) continue;
    const { data } = registered.find((e) => e.topics[0] === id);
    const reply = await post(data[2], hex(data[1]), "/v1/sign", request, identity).catch((error) => {
      throw new Wrong(`server ${id} no longer answers: ${error.message}`);
    });
    const [{ partial, envelope, refusal }] = reply.responses;
    must(partial, `server ${id} refuses: ${JSON.stringify(refusal)}`);
    const point = g2(unhex(partial));
    must(blsVerify(point, deposit.signingRoot, secrets.shareKeys[position]), `the partial of server ${id} is wrong`);
    const type =
      "Envelope(uint256 keyId,uint32 committeeEpoch,uint8 index,uint8 dutyKind,uint64 slot,uint64 sourceEpoch,uint64 targetEpoch,bytes32 signingRoot,bytes32 partialHash)";
    const words = [key.keyId, secrets.epoch, position + 1, 1, 0, 0, 0].map(word);
    const digest = typedDigest(secrets.domain, type, [...words, deposit.signingRoot, keccak(unhex(partial))]);
    same(`signer of the envelope of server ${id}`, key.signers[position], recover(digest, unhex(envelope)));
    partials.push({ index: BigInt(position + 1), point });
  }
  must(partials.length >= secrets.threshold, `only ${partials.length} servers still sign`);
  const chosen = partials.slice(0, secrets.threshold);
  const indices = chosen.map((p) => p.index);
  const combined = chosen.reduce((sum, p) => sum.add(p.point.multiply(lagrange(p.index, indices))), G2.ZERO);
  same("signature by the servers that are left", hex(deposit.signature), hex(combined.toBytes(true)));
}

// ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────
async function main() {
  const given = argumentsOf(process.argv.slice(2));
  const { deployment } = given;
  const line = lastLine(readFileSync(0, "utf8"));
  const chain = new Chain(given.rpc);
  const say = (text) => process.stderr.write(`checker: ${text}\n`);

  checkLine(line, given);
  same("chain id", deployment.chainId, BigInt(await chain.rpc("eth_chainId")));
  checkProcesses(line.processes);
  say(`${line.processes.length} processes run, each in its own folder`);
  const { then, ...deposit } = await checkDeposit(chain, deployment, line.deposit);
  say(`the deposit of ${hex(deposit.pubkey)} stands in the deposit contract and verifies with noble`);
  const pool = await checkPool(then, deployment, deposit);
  const key = await finalised(then, deployment, pool.keyId);
  const secrets = await checkKey(then, deployment, key, line);
  same("public key from the dealings", hex(deposit.pubkey), hex(secrets.pubkey));
  say(`${key.committee.length} dealings by as many signers, each with its proof of possession, add up to the group key`);
  const draws = await checkCommittees(then, deployment, line.committees);
  await checkBurnedPool(then, deployment);
  const registered = await checkGas(then, deployment, line.gas, {
    ...pool, ...draws, finaliseTx: key.tx, predepositTx: deposit.predepositTx, topUpTx: deposit.topUpTx,
  });
  say("committees follow from their seeds; the burned key and gas figures are as printed");
  const changed = await checkCredentialChange(chain, deployment, line.credential_change, deposit.forkVersion);
  say(`withdrawal key ${changed.keyId} (${changed.threshold} of ${changed.members}, ${changed.online} online) gave pool ${changed.poolId} to its vault`);
  const [made, shares] = await checkReshare(chain, deployment, line.reshare, key, secrets);
  say(`key ${key.keyId} is the same key in the hands of servers ${made.committee.join(", ")}`);
  const { poolId, victim } = await checkRestGoOn(chain, deployment, line, registered);
  say(`server ${victim} was killed; the others signed the deposit of pool ${poolId}, and the relayer sent it`);
  await checkSameAgain(deployment, deposit, made, shares, registered, victim);
  await fetchJson(`${line.status_url.replace(/\/status\/?$/, "")}/health`);
  say("the first pool's deposit is answered again by its new committee, to the same signature");
}

run(main);
