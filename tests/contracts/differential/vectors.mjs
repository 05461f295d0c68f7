// Prints fresh vectors for Differential.t.sol, made by @noble from a seed: node vectors.mjs SEED CHAIN_ID REGISTRY
// @noble shares no code with the precompiles, with blst or with the contracts. One process makes them all.
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { keccak_256 as keccak } from "@noble/hashes/sha3.js";
import { bytesToHex, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

const [seed, chainId, registry] = process.argv.slice(2);
const CASES = 16;
const [T, N] = [3, 4];
const R = bls.fields.Fr.ORDER;
const SIGNATURE_DST = "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";
const POSSESSION_DST = "BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_";

const hex = (bytes) => `0x${bytesToHex(bytes)}`;
const bytesOf = (number, length) => hexToBytes(number.toString(16).padStart(2 * length, "0"));
const concat = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));
const word = (value) => bytesOf(BigInt(value), 32);
const random = (label, i) => sha256(utf8ToBytes(`stkr/differential/${seed}/${label}/${i}`));
const scalar = (label, i) => (BigInt(hex(random(label, i))) % (R - 1n)) + 1n;
const element = (value) => bytesOf(value, 64);
const g1 = (point) => {
  const { x, y } = point.toAffine();
  return concat(element(x), element(y));
};
const g2 = (point) => {
  const { x, y } = point.toAffine();
  return concat(element(x.c0), element(x.c1), element(y.c0), element(y.c1));
};
const hash = (message, DST) => bls.G2.hashToCurve(message, { DST });
const G = bls.G1.Point.BASE;

// SSZ, written out: chunks of 32 bytes, pairs hashed, zeros up to a power of two.
const chunk = (bytes) => concat(bytes, new Uint8Array(32 - bytes.length));
const merkle = (chunks) => {
  if (chunks.length === 1) return chunks[0];
  const above = [];
  for (let i = 0; i < chunks.length; i += 2) above.push(sha256(concat(chunks[i], chunks[i + 1])));
  return merkle(above);
};
const container = (...fields) => {
  while (fields.length & (fields.length - 1)) fields.push(new Uint8Array(32));
  return merkle(fields);
};
const vector = (bytes) => {
  const chunks = [];
  for (let i = 0; i < bytes.length; i += 32) chunks.push(chunk(bytes.slice(i, i + 32)));
  return container(...chunks);
};

// A dealing as docs/protocol.md has it, with Diffie-Hellman by points and not by ecrecover.
function dealing(i) {
  const secp = (j) => (BigInt(hex(random(`one-time/${i}`, j))) % (secp256k1.Point.Fn.ORDER - 1n)) + 1n;
  const secrets = Array.from({ length: N }, (_, j) => secp(j));
  const keys = secrets.map((secret) => secp256k1.Point.BASE.multiply(secret));
  const index = (i % N) + 1;
  const keyId = BigInt(hex(random("key", i))) >> 200n;
  const attempt = i * 7;
  const coefficients = Array.from({ length: T }, (_, k) => scalar(`coefficient/${i}`, k));
  const commitments = concat(...coefficients.map((c) => g1(G.multiply(c))));
  const shares = keys.map((key, j) => {
    const recipient = j + 1;
    const value = coefficients.reduceRight((sum, c) => (sum * BigInt(recipient) + c) % R, 0n);
    const shared = keccak(key.multiply(secrets[index - 1]).toBytes(false).slice(1)).slice(12);
    const head = concat(new Uint8Array(12), shared, word(chainId), word(registry), word(keyId), word(attempt));
    const pad = keccak(concat(head, word(index), word(recipient)));
    return bytesOf(value, 32).map((byte, k) => byte ^ pad[k]);
  });
  const label = utf8ToBytes("stkr/dkg/pop");
  const message = keccak(concat(
    word(7 * 32), word(chainId), word(registry), word(keyId), word(attempt), word(index),
    keccak(commitments.slice(0, 128)), word(label.length), chunk(label),
  ));
  return {
    keyId: keyId.toString(), attempt, index,
    oneTimeKeys: hex(concat(...keys.map((key) => key.toBytes(true)))),
    oneTimeKey: hex(keys[index - 1].toBytes(true)),
    commitments: hex(commitments),
    proof: hex(g2(hash(message, POSSESSION_DST).multiply(coefficients[0]))),
    shares: hex(concat(...shares)),
    secrets: secrets.map((secret) => hex(bytesOf(secret, 32))),
    ys: keys.map((key) => hex(bytesOf(key.toAffine().y, 32))),
  };
}

const out = {
  messages: [], hashes: [], possessionHashes: [], keys: [], keysCompressed: [], signatures: [], signaturesCompressed: [],
  wrongSignatures: [], coefficients: [], arguments: [], values: [],
  amounts: [], versions: [], credentials: [], messageRoots: [], signingRoots: [], dataRoots: [],
  validatorsRoots: [], accounts: [], blsCredentials: [], changeRoots: [],
};
for (let i = 0; i < CASES; i++) {
  const message = random("message", i);
  const [secret, wrong] = [scalar("secret", i), scalar("wrong", i)];
  const hashed = hash(message, SIGNATURE_DST);
  const [key, signature] = [G.multiply(secret), hashed.multiply(secret)];
  out.messages.push(hex(message));
  out.hashes.push(hex(g2(hashed)));
  out.possessionHashes.push(hex(g2(hash(message, POSSESSION_DST))));
  out.keys.push(hex(g1(key)));
  out.keysCompressed.push(hex(key.toBytes(true)));
  out.signatures.push(hex(g2(signature)));
  out.signaturesCompressed.push(hex(signature.toBytes(true)));
  out.wrongSignatures.push(hex(g2(hashed.multiply(wrong))));

  const points = Array.from({ length: 1 + (i % 11) }, (_, k) => G.multiply(scalar(`point/${i}`, k)));
  const at = BigInt(1 + (random("argument", i)[0] % 255));
  const sum = points.reduceRight((value, point) => value.multiplyUnsafe(at).add(point), bls.G1.Point.ZERO);
  out.coefficients.push(hex(concat(...points.map(g1))));
  out.arguments.push(Number(at));
  out.values.push(hex(g1(sum)));

  const amount = BigInt(hex(random("amount", i))) >> 192n;
  const little = bytesOf(amount, 8).reverse();
  const [credentials, version] = [random("credentials", i), random("version", i).slice(0, 4)];
  const pubkey = vector(key.toBytes(true));
  const messageRoot = container(pubkey, credentials, chunk(little));
  const domain = concat(Uint8Array.of(3, 0, 0, 0), container(chunk(version), new Uint8Array(32)).slice(0, 28));
  out.amounts.push(amount.toString());
  out.versions.push(hex(chunk(version)));
  out.credentials.push(hex(credentials));
  out.messageRoots.push(hex(messageRoot));
  out.signingRoots.push(hex(container(messageRoot, domain)));
  out.dataRoots.push(hex(container(pubkey, credentials, chunk(little), vector(signature.toBytes(true)))));

  // A change of credentials by the same key, with the amount for its validator's index.
  const [validatorsRoot, account] = [random("validators root", i), random("account", i).slice(0, 20)];
  const change = container(chunk(little), pubkey, chunk(account));
  const changeDomain = concat(Uint8Array.of(10, 0, 0, 0), container(chunk(version), validatorsRoot).slice(0, 28));
  out.validatorsRoots.push(hex(validatorsRoot));
  out.accounts.push(hex(account));
  out.blsCredentials.push(hex(concat(new Uint8Array(1), sha256(key.toBytes(true)).slice(1))));
  out.changeRoots.push(hex(container(change, changeDomain)));
}
out.dealings = Array.from({ length: 4 }, (_, i) => dealing(i));
process.stdout.write(JSON.stringify(out));
