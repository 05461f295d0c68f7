// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

/// @title Gas of calls, kept in snapshots/ and held against the compiled contract
abstract contract Snapshots is Test {
    mapping(bytes32 nameHash => bool) private _measured;

    /// Another profile would measure other code and overwrite snapshots/ with it. foundry.toml keeps these tests from it.
    function _requireProfile() internal view {
        assertEq(vm.envOr("FOUNDRY_PROFILE", string("")), "snapshot", "run with FOUNDRY_PROFILE=snapshot");
    }

    /// Records the last call as `name`, or as `name, variant`.
    function _snap(string memory group, string memory name, string memory variant)
        internal
        returns (uint256)
    {
        _measured[keccak256(bytes(string.concat(group, name)))] = true;
        string memory entry = bytes(variant).length == 0 ? name : string.concat(name, ", ", variant);
        return vm.snapshotGasLastCall(group, entry);
    }

    function _snap(string memory group, string memory name) internal returns (uint256) {
        return _snap(group, name, "");
    }

    /// Another test contract of this folder records `name`.
    function _measuredElsewhere(string memory group, string memory name) internal {
        _measured[keccak256(bytes(string.concat(group, name)))] = true;
    }

    /// Every function of the compiled contract has been measured.
    function _assertComplete(string memory group) internal view {
        string memory file = string.concat("target/forge/snapshot/out/", group, ".sol/", group, ".json");
        string[] memory functions = vm.parseJsonKeys(vm.readFile(file), ".methodIdentifiers");
        assertGt(functions.length, 0);
        for (uint256 i; i < functions.length; ++i) {
            string memory name = vm.split(functions[i], "(")[0];
            assertTrue(
                _measured[keccak256(bytes(string.concat(group, name)))],
                string.concat(group, ".", name, " has no gas snapshot")
            );
        }
    }

    function _assertBudget(uint256 used, uint256 budget, string memory what) internal pure {
        assertLe(used, budget, string.concat(what, " is above its gas budget"));
    }
}
