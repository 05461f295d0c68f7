// Writes the genesis state of a Capella chain without execution client, in which one validator has the withdrawal credentials of a key
// that was made elsewhere: `node capella-genesis.mjs OUT GENESIS_TIME VALIDATORS INDEX CREDENTIALS GENESIS_FORK_VERSION`.
//
// The validators are the well-known interop ones. The root of them that all signatures are bound to stays the one from before the
// credentials were set: on a real chain, too, it is older than a validator that came later. No execution payload came before the
// first block, so that none is needed in any (Bellatrix, `is_merge_transition_complete`).
import fs from "node:fs";
import {nodeUtils} from "@lodestar/beacon-node";
import {createIChainForkConfig, defaultChainConfig} from "@lodestar/config";
import {ssz} from "@lodestar/types";

const [out, genesisTime, validators, index, credentials, version] = process.argv.slice(2);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex.replace(/^0x/, ""), "hex"));
const forks = {ALTAIR_FORK_EPOCH: 0, BELLATRIX_FORK_EPOCH: 0, CAPELLA_FORK_EPOCH: 0};
const config = createIChainForkConfig({...defaultChainConfig, ...forks, GENESIS_FORK_VERSION: bytes(version)});
const eth1BlockHash = new Uint8Array(32);
const {state} = nodeUtils.initDevState(config, Number(validators), {genesisTime: Number(genesisTime), eth1BlockHash});
state.latestExecutionPayloadHeader = ssz.capella.ExecutionPayloadHeader.defaultViewDU();
state.validators.get(Number(index)).withdrawalCredentials = bytes(credentials);
state.commit();
fs.writeFileSync(out, state.serialize());
process.stdout.write(`0x${Buffer.from(state.genesisValidatorsRoot).toString("hex")}\n`);
