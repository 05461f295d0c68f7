// Just enough of the contract ABI specification to read events and views without any library of the product.
import { keccak_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";

export const hex = (bytes) => "0x" + bytesToHex(bytes);
export const unhex = (text) => hexToBytes(text.replace(/^0x/, ""));
export const keccak = (...parts) => keccak_256(concatBytes(...parts));
export const concat = concatBytes;
export const utf8 = utf8ToBytes;

/** 32-byte big-endian word of an integer, or of shorter bytes padded on the left. */
export function word(value) {
  if (value instanceof Uint8Array) return concatBytes(new Uint8Array(32 - value.length), value);
  return unhex(BigInt(value).toString(16).padStart(64, "0"));
}

export const selector = (signature) => hex(keccak(utf8(signature)).slice(0, 4));
export const topic = (signature) => hex(keccak(utf8(signature)));

/** Encodes arguments of which each is a word (32 bytes) or dynamic `bytes` (any other length). */
export function encode(args) {
  const heads = [];
  const tails = [];
  for (const arg of args) {
    if (arg.length === 32) {
      heads.push(arg);
      continue;
    }
    const before = tails.reduce((sum, tail) => sum + tail.length, 32 * args.length);
    heads.push(word(before));
    tails.push(concatBytes(word(arg.length), arg, new Uint8Array((32 - (arg.length % 32)) % 32)));
  }
  return concatBytes(...heads, ...tails);
}

/** Decodes `data` (bytes) as the given types: uintN, address, bytesN, bytes, string, T[] of static T. */
export function decode(types, data) {
  return types.map((type, position) => decodeOne(type, data, position * 32));
}

const number = (data, at) => BigInt(hex(data.slice(at, at + 32)));

function decodeOne(type, data, at) {
  if (data.length < at + 32) throw new Error(`${type} lies outside the data`);
  if (type.endsWith("[]")) {
    const start = Number(number(data, at));
    const length = Number(number(data, start));
    return Array.from({ length }, (_, i) => decodeOne(type.slice(0, -2), data, start + 32 + 32 * i));
  }
  if (type === "bytes" || type === "string") {
    const start = Number(number(data, at));
    const length = Number(number(data, start));
    const bytes = data.slice(start + 32, start + 32 + length);
    if (bytes.length !== length) throw new Error(`${type} lies outside the data`);
    return type === "string" ? new TextDecoder().decode(bytes) : bytes;
  }
  if (type === "address") return hex(data.slice(at + 12, at + 32));
  if (type.startsWith("bytes")) return data.slice(at, at + Number(type.slice(5)));
  return number(data, at);
}

/** EIP-712 digest: domain separator and struct hash; field values are words already. */
export function typedDigest(domain, typeText, words) {
  return keccak(utf8("\x19\x01"), domain, keccak(keccak(utf8(typeText)), ...words));
}
