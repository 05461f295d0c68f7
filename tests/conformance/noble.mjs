// Computes a Stkr ceremony and its signature again, with @noble/curves and @noble/hashes alone.
//
// Standard input: one JSON array of ceremonies (see tests/differential/noble.rs). Standard output: one JSON array with what this
// script computed, for the test to compare. Everything is written from docs/protocol.md, nothing from the Rust.
import { bls12_381 } from '@noble/curves/bls12-381.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { bytesToHex, bytesToNumberBE, concatBytes, hexToBytes, numberToBytesBE } from '@noble/curves/utils.js';
import { keccak_256 } from '@noble/hashes/sha3.js';
import { readFileSync } from 'node:fs';

const bls = bls12_381.longSignatures;
const G1 = bls12_381.G1.Point;
const G2 = bls12_381.G2.Point;
const Fr = bls12_381.fields.Fr;
const POSSESSION = 'BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_';
const SIGNATURE = 'BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_';

const word = (value) => numberToBytesBE(BigInt(value), 32);
const addressWord = (bytes) => concatBytes(new Uint8Array(12), bytes);
const padded = (coordinates) =>
  concatBytes(...coordinates.flatMap((c) => [new Uint8Array(16), numberToBytesBE(c, 48)]));
const g1Padded = (point) => padded([point.x, point.y]);
const g2Padded = (point) => padded([point.x.c0, point.x.c1, point.y.c0, point.y.c1]);

// Horner's rule on points; indices are small, so plain multiplication will do.
const evaluate = (commitments, index) =>
  commitments.reduceRight((sum, c) => sum.multiplyUnsafe(BigInt(index)).add(c), G1.ZERO);

function pad(ceremony, secret, otherKey, dealer, recipient) {
  const point = secp256k1.Point.fromBytes(otherKey).multiply(bytesToNumberBE(secret));
  const shared = keccak_256(point.toBytes(false).slice(1)).slice(12);
  return keccak_256(
    concatBytes(
      addressWord(shared),
      word(ceremony.chainId),
      addressWord(hexToBytes(ceremony.registry)),
      word(ceremony.keyId),
      word(ceremony.attempt),
      word(dealer),
      word(recipient),
    ),
  );
}

function possessionMessage(ceremony, dealer, constantTerm) {
  const label = new Uint8Array(32);
  label.set(new TextEncoder().encode('stkr/dkg/pop'));
  return keccak_256(
    concatBytes(
      word(7 * 32),
      word(ceremony.chainId),
      addressWord(hexToBytes(ceremony.registry)),
      word(ceremony.keyId),
      word(ceremony.attempt),
      word(dealer),
      keccak_256(g1Padded(constantTerm)),
      word(12),
      label,
    ),
  );
}

function lagrangeAtZero(index, indices) {
  return indices
    .filter((other) => other !== index)
    .reduce((product, j) => Fr.mul(product, Fr.div(BigInt(j), Fr.sub(BigInt(j), BigInt(index)))), 1n);
}

function recompute(ceremony) {
  const members = ceremony.secrets.map((_, position) => position + 1);
  const secrets = ceremony.secrets.map(hexToBytes);
  const dealings = ceremony.dealings.map((dealing) => ({
    oneTimeKey: hexToBytes(dealing.oneTimeKey),
    commitments: dealing.commitments.map((hex) => G1.fromHex(hex)),
    proof: G2.fromHex(dealing.proof),
    shares: dealing.shares.map(hexToBytes),
  }));
  for (const point of dealings.flatMap((d) => d.commitments)) point.assertValidity();

  const proofs = dealings.map((dealing, position) => {
    const message = possessionMessage(ceremony, position + 1, dealing.commitments[0]);
    return bls.verify(dealing.proof, bls.hash(message, POSSESSION), dealing.commitments[0]);
  });
  const sums = dealings[0].commitments.map((_, k) =>
    dealings.map((d) => d.commitments[k]).reduce((sum, c) => sum.add(c)),
  );
  const shares = members.map((recipient) =>
    dealings
      .map((dealing, position) => {
        const key = pad(ceremony, secrets[recipient - 1], dealing.oneTimeKey, position + 1, recipient);
        return bytesToNumberBE(dealing.shares[recipient - 1].map((byte, k) => byte ^ key[k]));
      })
      .reduce((sum, share) => Fr.add(sum, share)),
  );
  const hash = bls.hash(hexToBytes(ceremony.message), SIGNATURE);
  const partials = shares.map((share) => hash.multiply(share));
  const signature = ceremony.signers
    .map((i) => partials[i - 1].multiply(lagrangeAtZero(i, ceremony.signers)))
    .reduce((sum, point) => sum.add(point));
  return {
    proofs,
    oneTimeKeys: secrets.map((secret) => bytesToHex(secp256k1.getPublicKey(secret))),
    groupKey: bytesToHex(g1Padded(sums[0])),
    shareKeys: members.map((i) => evaluate(sums, i).toHex()),
    shares: shares.map((share) => bytesToHex(numberToBytesBE(share, 32))),
    partials: partials.map((point) => bytesToHex(g2Padded(point))),
    signature: signature.toHex(),
    verifies: bls.verify(signature, hash, sums[0]),
    lagrangeSum: Fr.toBytes(
      ceremony.signers.reduce((sum, i) => Fr.add(sum, lagrangeAtZero(i, ceremony.signers)), 0n),
    ).at(-1),
  };
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, 'utf8')).map(recompute)));
