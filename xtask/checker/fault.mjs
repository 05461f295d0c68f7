// The checker of `cargo xtask devnet --adversary FAULT`: trusts nothing that the product computed. Given an RPC URL, the contract
// addresses and the line that was printed, it reads from the chain who was proven at fault, of what, what it cost and who got it,
// and verifies the signature that was made without the culprit with @noble/curves.
//
//   node fault.mjs --rpc URL --deployment FILE < line
//   exit 0: all true; 1: something is not, and the last line says what; 2: usage; 3: the checker itself failed
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { readFileSync } from "node:fs";
import { concat, decode, keccak, topic, unhex } from "./abi.mjs";
import { Chain, argumentsOf, lastLine, must, quantity, run, same } from "./chain.mjs";

/** Numbers of ICourt.Fault. */
const FAULTS = {
  "invalid-partial": 1n, "garbage-partial": 2n, "double-vote": 3n, "surround-vote": 3n, "double-proposal": 3n,
  "unauthorised-exit": 4n, "provider-equivocation": 5n, "bad-dealing": 6n, "dealing-equivocation": 8n, silence: 9n,
};
const PROVEN = "FaultProven(uint8,uint32,uint256,uint32,bytes32,address,uint256,uint256)";
const PROVIDER_PROVEN = "ProviderFaultProven(uint256,uint64,address[2],bytes32,address,uint256,uint256)";
/** Words of IServerRegistry.Server. */
const SERVER = Array(11).fill("uint256");
const [LOCKED_OUT, BOND] = [2, 4];
const KEY_LIVE = 3n;

function checkShape(line) {
  must(line !== null && typeof line === "object", "the line is no JSON object");
  must(line.fault in FAULTS, `${line.fault} is no fault`);
  for (const name of ["detected_ms", "blocks_to_lockout", "gas"]) must(Number.isInteger(line[name]), `the line has no ${name}`);
  for (const name of ["slashed_wei", "bounty_wei"]) must(/^[0-9]+$/.test(line[name]), `${name} is no amount`);
  must(Array.isArray(line.transactions) && line.transactions.length === 2, "a report has two transactions");
  must(line.next !== null && typeof line.next === "object", "the line has no signature without the culprit");
  must(line.detected_ms > 0 && line.blocks_to_lockout > 0, "nothing takes no time");
  same("next_signature_ok", line.next_signature_ok, true);
}

/** What the Court said in the second transaction, and in which block. */
async function verdict(chain, { court }, line) {
  const receipts = [];
  for (const tx of line.transactions) {
    const receipt = await chain.rpc("eth_getTransactionReceipt", tx);
    must(receipt && receipt.status === "0x1", `transaction ${tx} did not succeed`);
    receipts.push(receipt);
  }
  same("gas", line.gas, receipts.reduce((sum, receipt) => sum + BigInt(receipt.gasUsed), 0n));
  const [first, last] = receipts.map((receipt) => BigInt(receipt.blockNumber));
  must(first < last, "the proof came with its commitment");
  // When the fault happened the chain does not know; the report is part of the time since.
  must(BigInt(line.blocks_to_lockout) >= last - first, `the report alone took ${last - first} blocks`);
  const ofProvider = line.server_id === null;
  const name = topic(ofProvider ? PROVIDER_PROVEN : PROVEN);
  const logs = receipts[1].logs.filter((log) => log.address.toLowerCase() === court.toLowerCase() && log.topics[0] === name);
  must(logs.length === 1, `the Court upheld ${logs.length} faults in the second transaction`);
  const topics = logs[0].topics.slice(1).map(BigInt);
  // Two duty keys in place.
  const types = ofProvider ? ["address", "address", "bytes32", "address", "uint256", "uint256"] : ["uint32", "bytes32", "address", "uint256", "uint256"];
  const [reporter, slashed, bounty] = decode(types, unhex(logs[0].data)).slice(-3);
  return { ofProvider, topics, reporter, slashed, bounty, block: BigInt(receipts[1].blockNumber) };
}

/** Bond, lock-out and bounty, before and after the block of the verdict. */
async function checkServer(chain, deployment, line, it) {
  same("fault", FAULTS[line.fault], it.topics[0]);
  same("server_id", line.server_id, it.topics[1]);
  const registry = deployment.serverRegistry;
  const at = (block) => new Chain(chain.url, quantity(block));
  const server = (block) => at(block).view(registry, "server(uint32)", SERVER, it.topics[1]);
  const [before, after] = [await server(it.block - 1n), await server(it.block)];
  same("what the bond lost", line.slashed_wei, before[BOND] - after[BOND]);
  same("locked out before", before[LOCKED_OUT], 0n);
  same("locked out after", after[LOCKED_OUT], 1n);
  const bounty = async (block) => (await at(block).view(registry, "bountyOf(address)", ["uint256"], unhex(it.reporter)))[0];
  same("what the reporter got", line.bounty_wei, (await bounty(it.block)) - (await bounty(it.block - 1n)));
  must(10n * it.bounty <= it.slashed, "the bounty is more than a tenth");
}

/** The penalty is booked to the pool's stakers, and the pool has to move. */
async function checkProvider(chain, deployment, line, it) {
  const pools = deployment.micropools;
  const at = (block) => new Chain(chain.url, quantity(block));
  const claim = async (block) => (await at(block).view(pools, "penalties(uint256)", ["uint64", "uint128"], line.pool_id))[1];
  same("what the stakers can claim", it.slashed - it.bounty, (await claim(it.block)) - (await claim(it.block - 1n)));
  const [due] = await chain.view(pools, "isMigrationDue(uint256)", ["uint256"], line.pool_id);
  same("isMigrationDue", due, 1n);
  const [key] = await chain.view(pools, "poolOfKey(uint256)", ["uint256"], it.topics[0]);
  same("pool of the key", line.pool_id, key);
}

/** The group key is one of the registry's, Live, and it signed. */
async function checkSignature(chain, { keyRegistry }, next) {
  const key = bls.G1.Point.fromBytes(unhex(next.public_key));
  key.assertValidity();
  const { x, y } = key.toAffine();
  const half = (value) => unhex(value.toString(16).padStart(128, "0"));
  const hash = keccak(concat(half(x), half(y)));
  const [id] = await chain.view(keyRegistry, "keyOfGroupKey(bytes32)", ["uint256"], hash);
  same("key of the signature", next.key_id, id);
  const [, state] = await chain.view(keyRegistry, "key(uint256)", ["address", "uint256"], id);
  must(state === KEY_LIVE, `key ${id} is not Live`);
  const message = bls.longSignatures.hash(unhex(next.signing_root), "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_");
  must(bls.longSignatures.verify(unhex(next.signature), message, unhex(next.public_key)), "the new signature does not verify");
}

run(async () => {
  const { rpc, deployment } = argumentsOf(process.argv.slice(2));
  const line = lastLine(readFileSync(0, "utf8"));
  const chain = new Chain(rpc);
  checkShape(line);
  same("ok", line.ok, true);
  const it = await verdict(chain, deployment, line);
  same("slashed_wei", line.slashed_wei, it.slashed);
  same("bounty_wei", line.bounty_wei, it.bounty);
  must(it.slashed > 0n && it.bounty > 0n, "nothing was taken");
  const kind = it.ofProvider ? "provider-equivocation" : line.fault;
  same("fault", line.fault, kind);
  await (it.ofProvider ? checkProvider : checkServer)(chain, deployment, line, it);
  await checkSignature(chain, deployment, line.next);
  process.stderr.write(`checker: ${line.fault} stands on the chain, and key ${line.next.key_id} signed afterwards\n`);
});
