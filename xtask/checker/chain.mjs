// What both checkers read their arguments and a chain with. Nothing of the product is used.
import { readFileSync } from "node:fs";
import { decode, encode, hex, selector, topic, unhex, word } from "./abi.mjs";

export class Wrong extends Error {}
export const must = (condition, sentence) => {
  if (!condition) throw new Wrong(sentence);
};
export const same = (name, printed, found) =>
  must(String(printed).toLowerCase() === String(found).toLowerCase(), `${name} is ${found}, the line says ${printed}`);

// ── arguments ────────────────────────────────────────────────────────────────────────────────────────────────────────
export function argumentsOf(argv) {
  const given = Object.fromEntries(argv.map((a, i) => [a, argv[i + 1]]).filter(([a]) => a.startsWith("--")));
  if (!given["--rpc"] || !given["--deployment"]) {
    process.stderr.write("usage: node CHECKER --rpc URL --deployment FILE < line\n");
    process.exit(2);
  }
  return { rpc: given["--rpc"], deployment: JSON.parse(readFileSync(given["--deployment"], "utf8")) };
}

/** JSON from a URL; an address where nobody answers so is false, not a failure of the checker. */
export async function fetchJson(url, options) {
  let reply;
  try {
    reply = await fetch(url, options);
    must(reply.ok, `${url} answers ${reply.status}`);
    return await reply.json();
  } catch (error) {
    throw error instanceof Wrong ? error : new Wrong(`${url} does not answer with JSON: ${error.message}`);
  }
}

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
/** What `ask` finds, asked again until it is something. */
export async function until(what, ask, seconds = 120) {
  for (const end = Date.now() + 1000 * seconds; Date.now() < end; await sleep(100)) {
    const found = await ask();
    if (found) return found;
  }
  throw new Wrong(`waited ${seconds} s for ${what}`);
}

// ── the chain ────────────────────────────────────────────────────────────────────────────────────────────────────────
export const quantity = (value) => "0x" + BigInt(value).toString(16);

export class Chain {
  /** `block`: everything is read as it was then. The network lives on, the line speaks of one moment. */
  constructor(url, block = "latest") {
    this.url = url;
    this.block = block;
  }
  async rpc(method, ...params) {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const headers = { "content-type": "application/json" };
    const { result, error } = await fetchJson(this.url, { method: "POST", headers, body });
    if (error) throw new Wrong(`${method}: ${error.message}`);
    return result;
  }
  async view(to, signature, types, ...words) {
    const data = selector(signature) + words.map((w) => hex(word(w)).slice(2)).join("");
    return decode(types, unhex(await this.rpc("eth_call", { to, data }, this.block)));
  }
  /** Sends a transaction from one of the devnet's own unlocked accounts. */
  async send(from, to, signature, args, wei = 0n) {
    const data = selector(signature) + hex(encode(args)).slice(2);
    const hash = await this.rpc("eth_sendTransaction", { from, to, data, value: quantity(wei) });
    const receipt = await until(`transaction ${hash}`, () => this.rpc("eth_getTransactionReceipt", hash));
    must(receipt.status === "0x1", `${signature} was refused`);
  }
  async events(address, signature, types, ...indexed) {
    const topics = [topic(signature), ...indexed.map((v) => (v === null ? null : hex(word(v))))];
    const logs = await this.rpc("eth_getLogs", { address, topics, fromBlock: "0x0", toBlock: this.block });
    return logs.map((log) => ({
      tx: log.transactionHash,
      block: log.blockNumber,
      topics: log.topics.slice(1).map((t) => BigInt(t)),
      data: decode(types, unhex(log.data)),
      raw: unhex(log.data),
    }));
  }
  async gasUsed(tx) {
    const receipt = await this.rpc("eth_getTransactionReceipt", tx);
    must(receipt && receipt.status === "0x1", `transaction ${tx} did not succeed`);
    return BigInt(receipt.gasUsed);
  }
}

// ── the end of a checker ─────────────────────────────────────────────────────────────────────────────────────────────
export function lastLine(text) {
  try {
    return JSON.parse(text.trim().split("\n").at(-1));
  } catch (error) {
    throw new Wrong(`the last line is no JSON: ${error.message}`);
  }
}

/** Exit 0 and `{"ok":true}` if `main` finds nothing wrong; 1 with the reason if it does; 3 if the checker itself failed. */
export function run(main) {
  main().then(
    () => process.stdout.write(JSON.stringify({ ok: true }) + "\n"),
    (error) => {
      const wrong = error instanceof Wrong;
      process.stderr.write(`checker: ${wrong ? error.message : error.stack}\n`);
      process.stdout.write(JSON.stringify({ ok: false, reason: error.message }) + "\n");
      process.exit(wrong ? 1 : 3);
    },
  );
}
