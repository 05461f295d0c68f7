#!/usr/bin/env node
// Writes abi/<contract>.json from the release build, or with --check compares and fails on any difference.
//
//   FOUNDRY_PROFILE=release forge build --skip 'tests/**' && node script/abi.mjs [--check]
//
// Format: {"abi", "deployedBytecode", "immutableReferences"}. The compiler's ids of immutables depend on what else was
// compiled; here they are numbered from 1 in the order of their first use.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const artifacts = path.join(root, "target/forge/release/out");
const names = [
  "AccessManager",
  "Acknowledgements",
  "Court",
  "IDepositContract",
  "KeyRegistry",
  "Micropools",
  "PoolVault",
  "ProviderRegistry",
  "Resharing",
  "ServerRegistry",
  "WithdrawalKeys",
];

function immutables(references) {
  const ranges = Object.values(references ?? {}).map((uses) =>
    uses.map(({ start, length }) => ({ start, length })).sort((a, b) => a.start - b.start),
  );
  ranges.sort((a, b) => a[0].start - b[0].start);
  return Object.fromEntries(ranges.map((uses, index) => [String(index + 1), uses]));
}

function render(name) {
  const file = path.join(artifacts, `${name}.sol`, `${name}.json`);
  const { abi, deployedBytecode } = JSON.parse(fs.readFileSync(file, "utf8"));
  const entries = abi.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n");
  const immutableReferences = JSON.stringify(immutables(deployedBytecode.immutableReferences));
  return (
    `{\n  "abi": [\n${entries}\n  ],\n  "deployedBytecode": ${JSON.stringify(deployedBytecode.object)},\n` +
    `  "immutableReferences": ${immutableReferences}\n}\n`
  );
}

const check = process.argv.includes("--check");
const stale = [];
for (const name of names) {
  const file = path.join(root, "abi", `${name}.json`);
  const text = render(name);
  if (!check) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
  } else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== text) {
    stale.push(`abi/${name}.json`);
  }
}
if (stale.length !== 0) {
  process.stderr.write(`${stale.join(", ")}: not what the release build gives; run cargo xtask abi\n`);
  process.exit(1);
}
