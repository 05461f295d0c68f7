// Prints, as JSON, code and storage of the official contracts of the Hoodi genesis that a devnet needs:
// the deposit contract and the EIP-4788, EIP-2935, EIP-7002 and EIP-7251 system contracts.
// Output: {"accounts":[{"name","address","code","storage":{slot:value}}]}, slots and values 32-byte hex.
import { getGenesis } from "@ethereumjs/genesis";

const HOODI_CHAIN_ID = 560048;

const WANTED = {
  deposit: "0x00000000219ab540356cbb839cbe05303d7705fa",
  beacon_roots: "0x000f3df6d732807ef1319fb7b8bb8522d0beac02",
  history_storage: "0x0000f90827f1c53a10cb7a02335b175320002935",
  withdrawal_requests: "0x00000961ef480eb55e80d19ad83579a64c007002",
  consolidation_requests: "0x0000bbddc7ce488642fb579f8b00f3a590007251",
};

const word = (value) => "0x" + value.replace(/^0x/, "").padStart(64, "0");
const byAddress = new Map(
  Object.entries(getGenesis(HOODI_CHAIN_ID)).map(([address, entry]) => ["0x" + address.replace(/^0x/, "").toLowerCase(), entry]),
);
const accounts = Object.entries(WANTED).map(([name, address]) => {
  const entry = byAddress.get(address);
  if (!Array.isArray(entry) || !entry[1]) throw new Error(`the genesis state has no code for ${name} at ${address}`);
  const storage = Object.fromEntries((entry[2] ?? []).map(([slot, value]) => [word(slot), word(value)]));
  return { name, address, code: entry[1], storage };
});
process.stdout.write(JSON.stringify({ accounts }) + "\n");
