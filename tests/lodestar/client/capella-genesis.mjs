// Writes the genesis state of a Capella chain without execution client, in which one validator has the withdrawal credentials of a key
// that was made elsewhere: `node capella-genesis.mjs OUT GENESIS_TIME VALIDATORS INDEX CREDENTIALS FORK_VERSION VALIDATORS_ROOT`.
//
// The validators are the well-known interop ones. The genesis fork version and the validators root, which signatures are bound to, are
// those that the contracts of the execution chain were deployed with, before the key was made; on a real chain, too, they are older than
// a validator that came later. No execution payload came before the first block, so no block needs one
// (Bellatrix, `is_execution_enabled`).
import fs from "node:fs";
import {nodeUtils} from "@lodestar/beacon-node";
import {createIChainForkConfig, defaultChainConfig} from "@lodestar/config";
import {ssz} from "@lodestar/types";

const [out, genesisTime, validators, index, credentials, version, root] = process.argv.slice(2);
const bytes = (hex) => Uint8Array.from(Buffer.from(hex.replace(/^0x/, ""), "hex"));
const forks = {ALTAIR_FORK_EPOCH: 0, BELLATRIX_FORK_EPOCH: 0, CAPELLA_FORK_EPOCH: 0};
const config = createIChainForkConfig({...defaultChainConfig, ...forks, GENESIS_FORK_VERSION: bytes(version)});
const eth1BlockHash = new Uint8Array(32);
const {state} = nodeUtils.initDevState(config, Number(validators), {genesisTime: Number(genesisTime), eth1BlockHash});
state.latestExecutionPayloadHeader = ssz.capella.ExecutionPayloadHeader.defaultViewDU();
state.validators.get(Number(index)).withdrawalCredentials = bytes(credentials);
state.genesisValidatorsRoot = bytes(root);
state.commit();
fs.writeFileSync(out, state.serialize());
