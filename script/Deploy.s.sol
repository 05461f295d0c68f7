// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Script} from "forge-std/Script.sol";

import {Deployer, Deployment, Parameters} from "./Deployer.sol";

/// @title Deploys Stkr and writes deployments/<chain id>.json
/// @notice FOUNDRY_PROFILE=release forge script script/Deploy.s.sol --rpc-url URL --broadcast --slow
/// @dev The sending account comes from Foundry's flags (--account, --ledger, --private-key) or from the variable
/// STKR_DEPLOYER_KEY. Parameters come from the environment:
///
///   STKR_GOVERNANCE            account that governs            required on public chains, else the deployer
///   STKR_GOVERNANCE_DELAY      seconds                         2 days; at least that on public chains
///   STKR_DEPOSIT_CONTRACT      official deposit contract       preset on public chains, required elsewhere
///   STKR_GENESIS_FORK_VERSION  4 bytes, 0x...                  preset on public chains, required elsewhere
///   STKR_GENESIS_VALIDATORS_ROOT  32 bytes, 0x...            preset on public chains, required elsewhere
///   STKR_GENESIS_TIME          unix time of the beacon chain   preset on public chains, else 0: any slot dates evidence
///   STKR_MIN_BOND, STKR_SEAT_BOND                              wei: 4 ether, 0.2 ether
///   STKR_UNBONDING_DELAY       seconds                         36 days
///   STKR_SEED_DELAY            blocks                          8
///   STKR_CEREMONY_WINDOW, STKR_EVIDENCE_WINDOW                 seconds: 2 days, 36 days
///   STKR_OPEN_WINDOW, STKR_KEY_WINDOW, STKR_PREDEPOSIT_WINDOW, STKR_CHALLENGE_WINDOW
///                                                              seconds: 30 days, 7 days, 2 days, 1 day
///   STKR_DEPLOYMENT_FILE       below deployments/ or target/   deployments/<chain id>.json
contract Deploy is Script, Deployer {
    uint256 private constant MAINNET = 1;
    uint256 private constant HOODI = 560_048;
    address private constant DEPOSIT_CONTRACT = 0x00000000219ab540356cBB839Cbe05303d7705Fa;
    uint256 private constant PUBLIC_DELAY = 2 days;

    /// @notice Entry of `forge script`.
    function run() external returns (Deployment memory deployment) {
        uint256 secret = vm.envOr("STKR_DEPLOYER_KEY", uint256(0));
        // Nothing before this block can concern the contracts: those who read their events start here.
        uint256 deployedBlock = block.number;
        if (secret == 0) vm.startBroadcast();
        else vm.startBroadcast(secret);
        (, address deployer,) = vm.readCallers();
        Parameters memory p = parameters(deployer);
        deployment = _deploy(p, deployer);
        vm.stopBroadcast();
        _write(deployment, p, deployedBlock);
    }

    /// @notice What the environment and the chain's preset say.
    function parameters(address deployer) public view returns (Parameters memory p) {
        bool known = block.chainid == MAINNET || block.chainid == HOODI;
        p.governance = known ? vm.envAddress("STKR_GOVERNANCE") : vm.envOr("STKR_GOVERNANCE", deployer);
        p.governanceDelay = uint32(_number("STKR_GOVERNANCE_DELAY", PUBLIC_DELAY, type(uint32).max));
        require(!known || p.governanceDelay >= PUBLIC_DELAY, "STKR_GOVERNANCE_DELAY: at least 2 days here");

        p.minBond = uint96(_number("STKR_MIN_BOND", 4 ether, type(uint96).max));
        p.seatBond = uint96(_number("STKR_SEAT_BOND", 0.2 ether, type(uint96).max));
        p.unbondingDelay = uint40(_number("STKR_UNBONDING_DELAY", 36 days, type(uint40).max));
        p.seedDelay = _seconds("STKR_SEED_DELAY", 8);
        p.ceremonyWindow = _seconds("STKR_CEREMONY_WINDOW", 2 days);
        p.evidenceWindow = _seconds("STKR_EVIDENCE_WINDOW", 36 days);

        p.genesisTime = _genesisTime();

        p.pools.depositContract = known ? DEPOSIT_CONTRACT : vm.envAddress("STKR_DEPOSIT_CONTRACT");
        p.pools.genesisForkVersion = _forkVersion();
        p.pools.genesisValidatorsRoot = _validatorsRoot();
        p.pools.openWindow = _seconds("STKR_OPEN_WINDOW", 30 days);
        p.pools.keyWindow = _seconds("STKR_KEY_WINDOW", 7 days);
        p.pools.predepositWindow = _seconds("STKR_PREDEPOSIT_WINDOW", 2 days);
        p.pools.challengeWindow = _seconds("STKR_CHALLENGE_WINDOW", 1 days);
    }

    /// @dev A wrong fork version would make every deposit signature worthless, so public chains have no choice.
    function _forkVersion() private view returns (bytes4) {
        if (block.chainid == MAINNET) return 0x00000000;
        if (block.chainid == HOODI) return 0x10000910;
        bytes memory version = vm.envBytes("STKR_GENESIS_FORK_VERSION");
        require(version.length == 4, "STKR_GENESIS_FORK_VERSION: 4 bytes");
        return bytes4(version);
    }

    /// @dev A wrong root would make every change of credentials worthless.
    function _validatorsRoot() private view returns (bytes32) {
        if (block.chainid == MAINNET) {
            return 0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95;
        }
        if (block.chainid == HOODI) {
            return 0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f;
        }
        return vm.envBytes32("STKR_GENESIS_VALIDATORS_ROOT");
    }

    function _genesisTime() private view returns (uint64) {
        if (block.chainid == MAINNET) return 1_606_824_023;
        if (block.chainid == HOODI) return 1_742_213_400;
        return uint64(_number("STKR_GENESIS_TIME", 0, type(uint64).max));
    }

    function _seconds(string memory name, uint256 preset) private view returns (uint48) {
        return uint48(_number(name, preset, type(uint48).max));
    }

    function _number(string memory name, uint256 preset, uint256 limit) private view returns (uint256 value) {
        value = vm.envOr(name, preset);
        require(value <= limit, string.concat(name, ": too large"));
    }

    function _write(Deployment memory d, Parameters memory p, uint256 deployedBlock) private {
        string memory key = "deployment";
        vm.serializeUint(key, "chainId", block.chainid);
        vm.serializeAddress(key, "accessManager", address(d.accessManager));
        vm.serializeAddress(key, "serverRegistry", address(d.serverRegistry));
        vm.serializeAddress(key, "providerRegistry", address(d.providerRegistry));
        vm.serializeAddress(key, "keyRegistry", address(d.keyRegistry));
        vm.serializeAddress(key, "court", address(d.court));
        vm.serializeAddress(key, "micropools", address(d.micropools));
        vm.serializeAddress(key, "vaultImplementation", d.micropools.VAULT_IMPLEMENTATION());
        vm.serializeAddress(key, "depositContract", p.pools.depositContract);
        vm.serializeBytes(key, "genesisForkVersion", abi.encodePacked(p.pools.genesisForkVersion));
        vm.serializeBytes32(key, "genesisValidatorsRoot", p.pools.genesisValidatorsRoot);
        string memory json = vm.serializeUint(key, "deployedBlock", deployedBlock);

        string memory preset = string.concat("deployments/", vm.toString(block.chainid), ".json");
        string memory file = vm.envOr("STKR_DEPLOYMENT_FILE", preset);
        // A fresh clone has no deployments/, and writeJson makes no folder.
        string[] memory names = vm.split(file, "/");
        if (names.length > 1) {
            string memory folder = names[0];
            for (uint256 i = 1; i + 1 < names.length; ++i) {
                folder = string.concat(folder, "/", names[i]);
            }
            vm.createDir(folder, true);
        }
        vm.writeJson(json, file);
    }
}
