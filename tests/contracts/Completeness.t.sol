// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {Acknowledgements} from "../../contracts/court/Acknowledgements.sol";
import {Court} from "../../contracts/court/Court.sol";
import {Micropools} from "../../contracts/pools/Micropools.sol";
import {PoolVault} from "../../contracts/pools/PoolVault.sol";
import {WithdrawalKeys} from "../../contracts/pools/WithdrawalKeys.sol";
import {KeyRegistry} from "../../contracts/registry/KeyRegistry.sol";
import {ProviderRegistry} from "../../contracts/registry/ProviderRegistry.sol";
import {Resharing} from "../../contracts/registry/Resharing.sol";
import {ServerRegistry} from "../../contracts/registry/ServerRegistry.sol";

/// @title Is every external function tested?
/// @notice completeness.txt names a unit test for each function, and a fuzz test for each that takes an argument. Here the
/// list is held against the compiled contracts (nothing missing, nothing that is gone) and against the source of the
/// tests (they exist, are of their kind, and use the function).
contract CompletenessTest is Test {
    string[9] private _contracts = [
        type(ServerRegistry).name,
        type(ProviderRegistry).name,
        type(KeyRegistry).name,
        type(Resharing).name,
        type(Court).name,
        type(Acknowledgements).name,
        type(Micropools).name,
        type(PoolVault).name,
        type(WithdrawalKeys).name
    ];
    /// By hash of "CONTRACT.FUNCTION kind".
    mapping(bytes32 => bool) private _declared;
    mapping(bytes32 => bool) private _known;
    /// Sources read so far.
    mapping(string file => string) private _sources;

    function test_Every_external_function_has_a_unit_test_and_with_arguments_a_fuzz_test() public {
        string[] memory lines = _lines();
        for (uint256 i; i < lines.length; ++i) {
            string[] memory words = vm.split(lines[i], " ");
            assertEq(words.length, 4, lines[i]);
            _declared[_hash(words[0], words[1])] = true;
        }
        for (uint256 i; i < _contracts.length; ++i) {
            _assertDeclared(_contracts[i]);
        }
        for (uint256 i; i < lines.length; ++i) {
            assertTrue(
                _known[_hash(vm.split(lines[i], " ")[0], "")], string.concat("no such function: ", lines[i])
            );
        }
    }

    function test_Every_test_of_the_list_exists_and_uses_its_function() public {
        string[] memory lines = _lines();
        for (uint256 i; i < lines.length; ++i) {
            string[] memory words = vm.split(lines[i], " ");
            bool fuzz = keccak256(bytes(words[1])) == keccak256("fuzz");
            assertTrue(fuzz || keccak256(bytes(words[1])) == keccak256("unit"), lines[i]);
            assertEq(vm.indexOf(words[3], fuzz ? "testFuzz_" : "test_"), 0, lines[i]);

            string[] memory around = vm.split(_source(words[2]), string.concat("function ", words[3], "("));
            assertEq(around.length, 2, string.concat("no such test: ", lines[i]));
            assertEq(bytes(around[1])[0] != ")", fuzz, string.concat("a fuzz test has arguments: ", lines[i]));
            string memory body = vm.split(around[1], "\n    }\n")[0];
            string memory name = vm.split(words[0], ".")[1];
            assertTrue(_uses(body, name), string.concat("the test does not use it: ", lines[i]));
        }
    }

    function test_A_longer_name_is_another_function() public pure {
        assertTrue(_uses("x = servers.server(1);", "server"));
        assertTrue(_uses("abi.encodeCall(pools.stake, (id))", "stake"));
        assertTrue(_uses("pools.open{value: 1}(3, 4);", "open"));
        assertTrue(_uses("reopen(1); open(2);", "open"));
        assertFalse(_uses("servers.serverCount();", "server"));
        assertFalse(_uses("_server(1); servers.isActive(1);", "server"));
        assertFalse(_uses("// the server", "server"));
    }

    // ------------------------------------------------------------------------------------------------ internal

    function _lines() private view returns (string[] memory lines) {
        lines = vm.split(vm.readFile("tests/contracts/completeness.txt"), "\n");
        uint256 count;
        for (uint256 i; i < lines.length; ++i) {
            if (bytes(lines[i]).length == 0 || bytes(lines[i])[0] == "#") continue;
            lines[count++] = lines[i];
        }
        assembly ("memory-safe") {
            mstore(lines, count)
        }
        assertGt(count, 0);
    }

    function _assertDeclared(string memory name) private {
        string memory file = string.concat("target/forge/out/", name, ".sol/", name, ".json");
        string[] memory functions = vm.parseJsonKeys(vm.readFile(file), ".methodIdentifiers");
        assertGt(functions.length, 0);
        for (uint256 i; i < functions.length; ++i) {
            string[] memory signature = vm.split(functions[i], "(");
            string memory full = string.concat(name, ".", signature[0]);
            _known[_hash(full, "")] = true;
            assertTrue(_declared[_hash(full, "unit")], string.concat(full, " has no unit test"));
            bool arguments = keccak256(bytes(signature[1])) != keccak256(")");
            assertTrue(!arguments || _declared[_hash(full, "fuzz")], string.concat(full, " has no fuzz test"));
        }
    }

    function _source(string memory file) private returns (string memory) {
        if (bytes(_sources[file]).length == 0) {
            _sources[file] = vm.readFile(string.concat("tests/contracts/", file, ".t.sol"));
        }
        return _sources[file];
    }

    /// @dev Whether `body` calls, or encodes a call of, a function of exactly this name.
    function _uses(string memory body, string memory name) private pure returns (bool) {
        string[] memory parts = vm.split(body, name);
        for (uint256 i; i + 1 < parts.length; ++i) {
            bytes memory before = bytes(parts[i]);
            bytes memory next = bytes(parts[i + 1]);
            if (before.length == 0 || next.length == 0 || _isWord(before[before.length - 1])) continue;
            if (next[0] == "(" || next[0] == "{" || next[0] == ",") return true;
        }
        return false;
    }

    function _isWord(bytes1 letter) private pure returns (bool) {
        return letter == "_" || (letter >= "a" && letter <= "z") || (letter >= "A" && letter <= "Z")
            || (letter >= "0" && letter <= "9");
    }

    function _hash(string memory full, string memory kind) private pure returns (bytes32) {
        return keccak256(bytes(string.concat(full, " ", kind)));
    }
}
