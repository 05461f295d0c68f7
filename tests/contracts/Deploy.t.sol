// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";

import {ServerStatus} from "../../contracts/interfaces/IServerRegistry.sol";
import {Deploy} from "../../script/Deploy.s.sol";
import {Deployment, Parameters} from "../../script/Deployer.sol";
import {Ceremony} from "./utils/Ceremony.sol";
import {Genesis} from "./utils/Genesis.sol";

/// @title What the deploy script leaves behind
contract DeployTest is Ceremony {
    uint32 internal constant DELAY = 2 days;
    AccessManager internal manager;

    function setUp() public {
        vm.warp(1_800_000_000);
        Genesis.installDepositContract();
        d = _deploy(_parameters(governance), address(this));
        manager = d.accessManager;
    }

    function _parameters(address governor) internal pure returns (Parameters memory p) {
        p.governance = governor;
        p.governanceDelay = DELAY;
        p.minBond = 4 ether;
        p.seatBond = 0.2 ether;
        p.seedDelay = 8;
        p.ceremonyWindow = 1 days;
        p.pools.depositContract = Genesis.DEPOSIT_CONTRACT;
        p.pools.openWindow = OPEN_WINDOW;
        p.pools.keyWindow = KEY_WINDOW;
        p.pools.predepositWindow = PREDEPOSIT_WINDOW;
        p.pools.challengeWindow = CHALLENGE_WINDOW;
    }

    function test_The_contracts_know_each_other() public view {
        assertEq(d.serverRegistry.KEY_REGISTRY(), address(d.keyRegistry));
        assertEq(d.serverRegistry.COURT(), address(d.court));
        assertEq(d.keyRegistry.SERVER_REGISTRY(), address(d.serverRegistry));
        assertEq(d.court.KEY_REGISTRY(), address(d.keyRegistry));
        assertEq(d.micropools.KEY_REGISTRY(), address(d.keyRegistry));
        assertEq(d.micropools.PROVIDER_REGISTRY(), address(d.providerRegistry));
        assertTrue(d.keyRegistry.isConsumer(address(d.micropools)));
        assertTrue(d.keyRegistry.isConsumer(address(d.micropools.WITHDRAWAL_KEYS())));
        assertEq(d.micropools.WITHDRAWAL_KEYS().MICROPOOLS(), address(d.micropools));
        assertEq(d.serverRegistry.authority(), address(manager));
        assertEq(d.keyRegistry.authority(), address(manager));
    }

    function test_The_deployer_keeps_no_role() public {
        uint64[2] memory roles = [manager.ADMIN_ROLE(), GOVERNANCE_ROLE];
        for (uint256 i; i < 2; ++i) {
            (bool member,) = manager.hasRole(roles[i], address(this));
            assertFalse(member);
        }
        vm.expectRevert(
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this))
        );
        d.keyRegistry.addConsumer(address(this));
    }

    function test_Governance_announces_what_it_does_two_days_ahead() public {
        uint32 id = _registerServer(makeAddr("operator"));
        bytes memory data = abi.encodeCall(d.serverRegistry.approve, (id));
        vm.startPrank(governance);
        // The error of an operation that nobody scheduled.
        vm.expectPartialRevert(IAccessManager.AccessManagerNotScheduled.selector);
        d.serverRegistry.approve(id);
        manager.schedule(address(d.serverRegistry), data, 0);
        skip(DELAY - 1);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotReady.selector);
        d.serverRegistry.approve(id);
        skip(1);
        d.serverRegistry.approve(id);
        assertEq(uint256(d.serverRegistry.server(id).status), uint256(ServerStatus.Active));
    }

    function test_Every_restricted_function_needs_the_governance_role() public {
        bytes[6] memory calls = [
            abi.encodeCall(d.serverRegistry.approve, (1)),
            abi.encodeCall(d.serverRegistry.suspend, (1, "")),
            abi.encodeCall(d.serverRegistry.reinstate, (1, "")),
            abi.encodeCall(d.serverRegistry.setBondParameters, (1 ether, 1 ether)),
            abi.encodeCall(d.keyRegistry.addConsumer, (address(1))),
            abi.encodeCall(d.keyRegistry.setCeremonyWindow, (1 hours))
        ];
        for (uint256 i; i < calls.length; ++i) {
            address target = i < 4 ? address(d.serverRegistry) : address(d.keyRegistry);
            assertEq(manager.getTargetFunctionRole(target, bytes4(calls[i])), GOVERNANCE_ROLE);
            (bool success, bytes memory answer) = target.call(calls[i]);
            assertFalse(success);
            assertEq(bytes4(answer), IAccessManaged.AccessManagedUnauthorized.selector);
        }
    }

    /// Else governance could give itself a role without delay and act in the same block.
    function test_The_admin_role_is_bound_by_the_same_delay() public {
        uint64 admin = manager.ADMIN_ROLE();
        (bool member, uint32 delay) = manager.hasRole(admin, governance);
        assertTrue(member);
        assertEq(delay, DELAY);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotScheduled.selector);
        vm.prank(governance);
        manager.grantRole(GOVERNANCE_ROLE, governance, 0);
    }

    function test_A_deployer_that_governs_is_bound_at_once() public {
        d = _deploy(_parameters(address(this)), address(this));
        uint64 admin = d.accessManager.ADMIN_ROLE();
        (bool member, uint32 delay) = d.accessManager.hasRole(admin, address(this));
        assertTrue(member);
        assertEq(delay, DELAY);
        vm.expectPartialRevert(IAccessManager.AccessManagerNotScheduled.selector);
        d.keyRegistry.addConsumer(address(this));
    }

    /// One test, for the environment is one: presets cannot be overridden where they matter.
    function test_Parameters_come_from_presets_and_the_environment() public {
        Deploy script = new Deploy();
        _theFileIsWrittenWhereNoFolderIs(script);
        vm.chainId(31_337);
        vm.setEnv("STKR_DEPOSIT_CONTRACT", vm.toString(address(0xd)));
        vm.setEnv("STKR_GENESIS_FORK_VERSION", "0x20000000");
        vm.setEnv("STKR_GENESIS_VALIDATORS_ROOT", vm.toString(VALIDATORS_ROOT));
        vm.setEnv("STKR_GOVERNANCE_DELAY", "0");
        Parameters memory p = script.parameters(address(7));
        assertEq(p.governance, address(7));
        assertEq(p.governanceDelay, 0);
        assertEq(p.pools.depositContract, address(0xd));
        assertEq(p.pools.genesisForkVersion, bytes4(0x20000000));
        assertEq(p.pools.genesisValidatorsRoot, VALIDATORS_ROOT);
        assertEq(p.pools.challengeWindow, 1 days);
        assertEq(p.genesisTime, 0);

        vm.chainId(1);
        vm.setEnv("STKR_GOVERNANCE", vm.toString(governance));
        vm.expectRevert("STKR_GOVERNANCE_DELAY: at least 2 days here");
        script.parameters(address(7));
        vm.setEnv("STKR_GOVERNANCE_DELAY", "259200");
        p = script.parameters(address(7));
        assertEq(p.governance, governance);
        assertEq(p.governanceDelay, 3 days);
        assertEq(p.pools.depositContract, Genesis.DEPOSIT_CONTRACT);
        assertEq(p.pools.genesisForkVersion, bytes4(0x00000000));
        assertEq(
            p.pools.genesisValidatorsRoot, 0x4b363db94e286120d76eb905340fdd4e54bfe9f06bf33ff6cf5ad27f511bfe95
        );
        assertEq(p.genesisTime, 1_606_824_023);

        vm.chainId(560_048);
        p = script.parameters(address(7));
        assertEq(p.pools.depositContract, Genesis.DEPOSIT_CONTRACT);
        assertEq(p.pools.genesisForkVersion, bytes4(0x10000910));
        assertEq(
            p.pools.genesisValidatorsRoot, 0x212f13fc4df078b6cb7db228f1c8307566dcecf900867401a92023d7ba99cb5f
        );
        assertEq(p.genesisTime, 1_742_213_400);
    }

    function _theFileIsWrittenWhereNoFolderIs(Deploy script) private {
        // Nobody's chain, so that the file of a real deployment is never touched.
        vm.chainId(7_357_000_001);
        vm.setEnv("STKR_DEPOSIT_CONTRACT", vm.toString(Genesis.DEPOSIT_CONTRACT));
        vm.setEnv("STKR_GENESIS_FORK_VERSION", "0x20000000");
        vm.setEnv("STKR_GENESIS_VALIDATORS_ROOT", vm.toString(VALIDATORS_ROOT));
        bool made = !vm.exists("deployments");
        _assertWritten(script.run(), "deployments/7357000001.json");
        if (made) vm.removeDir("deployments", false);

        string memory folder = "target/forge/deploy-test";
        if (vm.exists(folder)) vm.removeDir(folder, true);
        string memory file = string.concat(folder, "/deeper/stkr.json");
        vm.setEnv("STKR_DEPLOYMENT_FILE", file);
        _assertWritten(script.run(), file);
        vm.removeDir(folder, true);
    }

    function _assertWritten(Deployment memory made, string memory file) private {
        string memory json = vm.readFile(file);
        assertEq(vm.parseJsonUint(json, ".chainId"), 7_357_000_001);
        assertEq(vm.parseJsonAddress(json, ".accessManager"), address(made.accessManager));
        assertEq(vm.parseJsonAddress(json, ".serverRegistry"), address(made.serverRegistry));
        assertEq(vm.parseJsonAddress(json, ".providerRegistry"), address(made.providerRegistry));
        assertEq(vm.parseJsonAddress(json, ".keyRegistry"), address(made.keyRegistry));
        assertEq(vm.parseJsonAddress(json, ".court"), address(made.court));
        assertEq(vm.parseJsonAddress(json, ".micropools"), address(made.micropools));
        assertEq(vm.parseJsonAddress(json, ".depositContract"), Genesis.DEPOSIT_CONTRACT);
        assertEq(vm.parseJsonBytes32(json, ".genesisValidatorsRoot"), VALIDATORS_ROOT);
        vm.removeFile(file);
    }
}
