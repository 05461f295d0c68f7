// Reads EIP-3076 interchange files and looks for slashable pairs, within each file and across all of them: what any two
// servers signed for one validator counts as if one had. Prints {"keys","records","slashable_pairs"} and names each pair on
// stderr. Shares no code with slashing protection.
//
//   node slashable.mjs FILE...
import { readFileSync } from "node:fs";

const files = process.argv.slice(2);
if (files.length === 0) {
  console.error("usage: node slashable.mjs FILE...");
  process.exit(2);
}

/** Validator -> { blocks, votes }, equal records once, with the files they come from. */
const validators = new Map();
let records = 0;

function note(list, record, file) {
  records += 1;
  const same = (other) => Object.keys(record).every((name) => other.record[name] === record[name]);
  const known = list.find(same);
  if (known === undefined) list.push({ record, files: new Set([file]) });
  else known.files.add(file);
}

for (const file of files) {
  const history = JSON.parse(readFileSync(file, "utf8"));
  if (history.metadata.interchange_format_version !== "5") throw new Error(`${file}: not version 5`);
  for (const entry of history.data) {
    const key = entry.pubkey.toLowerCase();
    if (!validators.has(key)) validators.set(key, { blocks: [], votes: [] });
    const { blocks, votes } = validators.get(key);
    for (const block of entry.signed_blocks) {
      note(blocks, { slot: BigInt(block.slot), root: block.signing_root ?? "unknown" }, file);
    }
    for (const vote of entry.signed_attestations) {
      const [source, target] = [BigInt(vote.source_epoch), BigInt(vote.target_epoch)];
      note(votes, { source, target, root: vote.signing_root ?? "unknown" }, file);
    }
  }
}

/** Records without a signing root conflict with every other record of the same slot or target. */
const differ = (one, other) => one.root !== other.root || one.root === "unknown";
const conflicts = {
  "double proposal": (one, other) => one.slot === other.slot && differ(one, other),
  "double vote": (one, other) => one.target === other.target && (differ(one, other) || one.source !== other.source),
  surround: (one, other) =>
    (one.source < other.source && other.target < one.target) || (other.source < one.source && one.target < other.target),
};

let pairs = 0;
function judge(key, list, names) {
  for (let left = 0; left < list.length; left += 1) {
    for (let right = left + 1; right < list.length; right += 1) {
      const [one, other] = [list[left], list[right]];
      const found = names.filter((name) => conflicts[name](one.record, other.record));
      if (found.length === 0) continue;
      pairs += 1;
      const show = ({ record, files }) => `${Object.values(record).join(" ")} in ${[...files].join(", ")}`;
      console.error(`${key}: ${found.join(", ")}: ${show(one)} and ${show(other)}`);
    }
  }
}

for (const [key, { blocks, votes }] of validators) {
  judge(key, blocks, ["double proposal"]);
  judge(key, votes, ["double vote", "surround"]);
}

const keys = [...validators.values()].filter(({ blocks, votes }) => blocks.length + votes.length > 0).length;
console.log(JSON.stringify({ keys, records, slashable_pairs: pairs }));
