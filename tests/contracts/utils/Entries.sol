// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

/// @title What of a compiled contract changes anything
/// @notice For tests that must know every entry of a contract, also one that is added later.
abstract contract Entries is Test {
    /// @notice Signatures of its external functions that are neither view nor pure, e.g. `commit(bytes32)`.
    function _entries(string memory name) internal view returns (string[] memory entries) {
        string memory json = vm.readFile(string.concat(_out(), name, ".sol/", name, ".json"));
        string[] memory signatures = vm.parseJsonKeys(json, ".methodIdentifiers");
        entries = new string[](signatures.length);
        uint256 count;
        for (uint256 i; vm.keyExistsJson(json, _field(i, "type")); ++i) {
            if (!_equal(vm.parseJsonString(json, _field(i, "type")), "function")) continue;
            string memory mutability = vm.parseJsonString(json, _field(i, "stateMutability"));
            if (_equal(mutability, "view") || _equal(mutability, "pure")) continue;
            string memory function_ = vm.parseJsonString(json, _field(i, "name"));
            for (uint256 k; k < signatures.length; ++k) {
                if (_equal(_nameOf(signatures[k]), function_)) entries[count++] = signatures[k];
            }
        }
        assertGt(count, 5, "no functions");
        assembly ("memory-safe") {
            mstore(entries, count)
        }
    }

    /// @notice `commit` of `commit(bytes32)`.
    function _nameOf(string memory signature) internal pure returns (string memory) {
        return vm.split(signature, "(")[0];
    }

    function _equal(string memory a, string memory b) internal pure returns (bool) {
        return keccak256(bytes(a)) == keccak256(bytes(b));
    }

    /// @dev The release profile has a folder of its own.
    function _out() private view returns (string memory) {
        bool release = _equal(vm.envOr("FOUNDRY_PROFILE", string("")), "release");
        return release ? "target/forge/release/out/" : "target/forge/out/";
    }

    function _field(uint256 i, string memory name) private pure returns (string memory) {
        return string.concat(".abi[", vm.toString(i), "].", name);
    }
}
