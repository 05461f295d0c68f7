// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";
import {IAccessManager} from "@openzeppelin/contracts/access/manager/IAccessManager.sol";
import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";

/// @notice What both registries have from OpenZeppelin: who governs them, and the domain of their messages.
contract GovernedTest is RegistryFixture {
    IAccessManaged[2] private governed;
    address private successor;

    function setUp() public {
        deployRegistries();
        governed = [IAccessManaged(address(servers)), IAccessManaged(address(keys))];
        successor = address(new AccessManager(makeAddr("next governance")));
    }

    function testFuzz_SetAuthority_AStrangerMustNot(address stranger) public {
        vm.assume(stranger != address(manager));
        for (uint256 i; i < 2; ++i) {
            vm.prank(stranger);
            vm.expectRevert(
                abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, stranger)
            );
            governed[i].setAuthority(successor);
            assertEq(governed[i].authority(), address(manager));
        }
    }

    /// @dev Nor governance itself but through the manager, where its delay binds it.
    function test_SetAuthority_TheManagerHandsOverToAContractOnly() public {
        bytes memory refused =
            abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, address(this));
        address noContract = makeAddr("no contract");
        for (uint256 i; i < 2; ++i) {
            vm.expectRevert(refused);
            governed[i].setAuthority(successor);
            vm.prank(address(manager));
            vm.expectRevert(
                abi.encodeWithSelector(IAccessManaged.AccessManagedInvalidAuthority.selector, noContract)
            );
            governed[i].setAuthority(noContract);

            vm.expectEmit(address(governed[i]));
            emit IAccessManaged.AuthorityUpdated(successor);
            manager.updateAuthority(address(governed[i]), successor);
            assertEq(governed[i].authority(), successor);
        }
        vm.expectRevert(refused);
        servers.setBondParameters(1 ether, 1 ether);
        vm.expectRevert(refused);
        keys.setCeremonyWindow(1 hours);
        vm.startPrank(makeAddr("next governance"));
        servers.setBondParameters(2 ether, 1 ether);
        keys.setCeremonyWindow(1 hours);
        assertEq(servers.minBond(), 2 ether);
        assertEq(keys.ceremonyWindow(), 1 hours);
    }

    /// @dev The manager spends an announcement only while the target says that it is consuming one: else anybody who
    /// calls `consumeScheduledOp` through another contract could waste it.
    function test_IsConsumingScheduledOp_OnlyWhileTheManagerIsAsked() public {
        address late = makeAddr("late governance");
        manager.grantRole(manager.ADMIN_ROLE(), late, 2 days);
        bytes[2] memory calls = [
            abi.encodeCall(servers.setBondParameters, (2 ether, 1 ether)),
            abi.encodeCall(keys.setCeremonyWindow, (1 hours))
        ];
        for (uint256 i; i < 2; ++i) {
            vm.prank(late);
            manager.schedule(address(governed[i]), calls[i], 0);
            skip(2 days);
            assertEq(governed[i].isConsumingScheduledOp(), bytes4(0));
            vm.prank(address(governed[i]));
            vm.expectRevert(
                abi.encodeWithSelector(
                    IAccessManager.AccessManagerUnauthorizedConsume.selector, address(governed[i])
                )
            );
            manager.consumeScheduledOp(late, calls[i]);

            // Once by the manager, once below.
            vm.expectCall(address(governed[i]), abi.encodeCall(IAccessManaged.isConsumingScheduledOp, ()), 2);
            vm.prank(late);
            (bool success,) = address(governed[i]).call(calls[i]);
            assertTrue(success);
            assertEq(governed[i].isConsumingScheduledOp(), bytes4(0));
        }
        assertEq(servers.minBond(), 2 ether);
        assertEq(keys.ceremonyWindow(), 1 hours);
    }

    function test_Eip712Domain_IsTheOneTheSignaturesUse() public view {
        address[2] memory contracts = [address(servers), address(keys)];
        for (uint256 i; i < 2; ++i) {
            (
                bytes1 fields,
                string memory name,
                string memory version,
                uint256 chainId,
                address verifyingContract,
                bytes32 salt,
                uint256[] memory extensions
            ) = IERC5267(contracts[i]).eip712Domain();
            assertEq(fields, hex"0f", "name, version, chain id, contract");
            assertEq(name, "Stkr");
            assertEq(version, "1");
            assertEq(chainId, block.chainid);
            assertEq(verifyingContract, contracts[i]);
            assertEq(salt, 0);
            assertEq(extensions.length, 0);
        }
    }
}
