// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DepositRoots} from "../../../contracts/libraries/DepositRoots.sol";
import {Test} from "forge-std/Test.sol";

/// @dev Gives the library a calldata boundary, so that reverts can be expected.
contract DepositRootsCaller {
    function dataRoot(bytes calldata pubkey, bytes32 credentials, uint64 amount, bytes calldata signature)
        external
        pure
        returns (bytes32)
    {
        return DepositRoots.depositDataRoot(pubkey, credentials, amount, signature);
    }
}

contract DepositRootsTest is Test {
    function test_Roots_AreThoseOfTheFixture() public view {
        string memory json = vm.readFile("tests/contracts/fixtures/bls.json");
        bytes[] memory pubkeys = vm.parseJsonBytesArray(json, ".keysCompressed");
        bytes[] memory signatures = vm.parseJsonBytesArray(json, ".signaturesCompressed");
        uint256[] memory amounts = vm.parseJsonUintArray(json, ".deposits.amounts");
        bytes32[] memory versions = vm.parseJsonBytes32Array(json, ".deposits.versions");
        bytes32[] memory credentials = vm.parseJsonBytes32Array(json, ".deposits.credentials");
        bytes32[] memory messageRoots = vm.parseJsonBytes32Array(json, ".deposits.messageRoots");
        bytes32[] memory signingRoots = vm.parseJsonBytes32Array(json, ".deposits.signingRoots");
        bytes32[] memory dataRoots = vm.parseJsonBytes32Array(json, ".deposits.dataRoots");
        assertEq(amounts.length, 6, "cases");
        for (uint256 i; i < amounts.length; ++i) {
            uint64 amount = uint64(amounts[i]);
            assertEq(DepositRoots.depositMessageRoot(pubkeys[i], credentials[i], amount), messageRoots[i]);
            assertEq(
                DepositRoots.depositSigningRoot(bytes4(versions[i]), pubkeys[i], credentials[i], amount),
                signingRoots[i]
            );
            assertEq(
                DepositRoots.depositDataRoot(pubkeys[i], credentials[i], amount, signatures[i]), dataRoots[i]
            );
        }
    }

    function test_ExecutionCredentials_ArePrefix01ElevenZerosAddress() public pure {
        address account = 0x1122334455667788990011223344556677889900;
        assertEq(
            DepositRoots.executionCredentials(account),
            0x0100000000000000000000001122334455667788990011223344556677889900
        );
    }

    function test_Roots_RefuseWrongLengths() public {
        DepositRootsCaller caller = new DepositRootsCaller();
        vm.expectRevert(abi.encodeWithSelector(DepositRoots.BadDepositLength.selector, 47, 48));
        caller.dataRoot(new bytes(47), 0, 0, new bytes(96));
        vm.expectRevert(abi.encodeWithSelector(DepositRoots.BadDepositLength.selector, 97, 96));
        caller.dataRoot(new bytes(48), 0, 0, new bytes(97));
    }
}
