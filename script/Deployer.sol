// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {Vm} from "forge-std/Vm.sol";

import {Court} from "../contracts/court/Court.sol";
import {Micropools} from "../contracts/pools/Micropools.sol";
import {KeyRegistry} from "../contracts/registry/KeyRegistry.sol";
import {ProviderRegistry} from "../contracts/registry/ProviderRegistry.sol";
import {ServerRegistry} from "../contracts/registry/ServerRegistry.sol";

/// @notice What a deployment fixes; amounts in wei, delays and windows in seconds, the seed delay in blocks.
struct Parameters {
    /// Account that governs; on a public chain a multisig or a governor contract.
    address governance;
    /// Time between the announcement on-chain of anything governance does and its effect.
    uint32 governanceDelay;
    uint96 minBond;
    uint96 seatBond;
    uint40 unbondingDelay;
    uint48 seedDelay;
    uint48 ceremonyWindow;
    uint48 evidenceWindow;
    /// Unix time of the beacon chain's genesis.
    uint64 genesisTime;
    /// The registries in it are filled in by the deployment.
    Micropools.Config pools;
}

/// @notice Where everything is.
struct Deployment {
    AccessManager accessManager;
    ServerRegistry serverRegistry;
    ProviderRegistry providerRegistry;
    KeyRegistry keyRegistry;
    Court court;
    Micropools micropools;
}

/// @title Deploys and wires the contracts
/// @notice The same steps for the forge script and for the tests.
/// @dev Governance is one account with execution delays inside AccessManager and no separate timelock contract: every
/// restricted call must be announced on-chain by `schedule`, can be seen and cancelled, and takes effect `governanceDelay`
/// later at the earliest. That holds for both of its roles:
///   GOVERNANCE (1)  approves, suspends and reinstates servers, sets bounded parameters, admits pools contracts
///   ADMIN (0)       grants roles and maps functions to them
/// The delay binds ADMIN too, so nobody can shorten a delay in less time than the delay. The deployer keeps nothing.
abstract contract Deployer {
    Vm private constant VM = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// Role of the restricted functions of both registries.
    uint64 internal constant GOVERNANCE_ROLE = 1;

    /// @param deployer The account the transactions come from.
    function _deploy(Parameters memory p, address deployer) internal returns (Deployment memory d) {
        d.accessManager = new AccessManager(deployer);
        // The two registries and the Court know each other for ever: the first is told where the others will be.
        uint64 nonce = VM.getNonce(deployer);
        address keyRegistry = VM.computeCreateAddress(deployer, nonce + 1);
        address court = VM.computeCreateAddress(deployer, nonce + 2);
        d.serverRegistry = new ServerRegistry(
            address(d.accessManager), keyRegistry, court, p.minBond, p.seatBond, p.unbondingDelay
        );
        d.keyRegistry = new KeyRegistry(
            address(d.accessManager), d.serverRegistry, p.seedDelay, p.evidenceWindow, p.ceremonyWindow
        );
        d.court = new Court(d.keyRegistry, p.genesisTime);
        require(address(d.keyRegistry) == keyRegistry, "the deployer's nonce moved");
        require(address(d.court) == court, "the deployer's nonce moved");
        d.providerRegistry = new ProviderRegistry();
        p.pools.keyRegistry = keyRegistry;
        p.pools.providerRegistry = address(d.providerRegistry);
        d.micropools = new Micropools(p.pools);

        // Restricted functions belong to ADMIN until they are mapped, and the deployer still is ADMIN without delay.
        d.keyRegistry.addConsumer(address(d.micropools));
        d.keyRegistry.addConsumer(address(d.micropools.WITHDRAWAL_KEYS()));
        _handOver(d, p, deployer);
    }

    function _handOver(Deployment memory d, Parameters memory p, address deployer) private {
        AccessManager manager = d.accessManager;
        manager.labelRole(GOVERNANCE_ROLE, "GOVERNANCE");
        manager.setTargetFunctionRole(address(d.serverRegistry), _serverFunctions(), GOVERNANCE_ROLE);
        manager.setTargetFunctionRole(address(d.keyRegistry), _keyFunctions(), GOVERNANCE_ROLE);
        manager.grantRole(GOVERNANCE_ROLE, p.governance, p.governanceDelay);
        uint64 admin = manager.ADMIN_ROLE();
        // Where the deployer is governance itself this gives its admin role the delay, at once.
        manager.grantRole(admin, p.governance, p.governanceDelay);
        if (deployer != p.governance) manager.renounceRole(admin, deployer);
    }

    function _serverFunctions() internal pure returns (bytes4[] memory selectors) {
        selectors = new bytes4[](4);
        selectors[0] = ServerRegistry.approve.selector;
        selectors[1] = ServerRegistry.suspend.selector;
        selectors[2] = ServerRegistry.setBondParameters.selector;
        selectors[3] = ServerRegistry.reinstate.selector;
    }

    function _keyFunctions() internal pure returns (bytes4[] memory selectors) {
        selectors = new bytes4[](2);
        selectors[0] = KeyRegistry.addConsumer.selector;
        selectors[1] = KeyRegistry.setCeremonyWindow.selector;
    }
}
