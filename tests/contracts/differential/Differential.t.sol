// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BadDealing} from "../../../contracts/court/faults/BadDealing.sol";
import {MalformedDealing} from "../../../contracts/court/faults/MalformedDealing.sol";
import {Dealing, DealingDefect, ICourt, Opening} from "../../../contracts/interfaces/ICourt.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {CredentialChanges} from "../../../contracts/libraries/CredentialChanges.sol";
import {DepositRoots} from "../../../contracts/libraries/DepositRoots.sol";
import {Test} from "forge-std/Test.sol";

/// @dev Gives the libraries a calldata boundary.
contract Judged {
    function evaluate(bytes calldata coefficients, uint256 x) external view returns (bool, bytes memory) {
        return BLS12381.evaluateG1(coefficients, x);
    }

    function bad(Dealing calldata dealing, bytes calldata keys, Opening calldata opening) external view {
        BadDealing.judge(dealing, keys, opening, address(this));
    }

    function malformed(Dealing calldata dealing, bytes calldata hashed, DealingDefect defect, uint8 position)
        external
        view
    {
        MalformedDealing.judge(
            dealing, hashed, defect, position, MalformedDealing.Ceremony(3, 4, address(this))
        );
    }
}

/// @title The libraries against vectors that somebody else makes in this very run
/// @notice One process in `setUp`, by ffi; so these tests have a profile of their own (FOUNDRY_PROFILE=differential). The seed is new
/// each time and part of every failure: STKR_DIFFERENTIAL_SEED makes the same vectors again.
abstract contract DifferentialTest is Test {
    Judged internal judged = new Judged();
    string private vectors;
    string private note;

    /// @dev Program and arguments, to which seed, chain id and registry are added.
    function maker() internal virtual returns (string[] memory);

    function setUp() public {
        uint256 seed = vm.envOr("STKR_DIFFERENTIAL_SEED", vm.unixTime());
        string[] memory words = maker();
        string[] memory command = new string[](words.length + 3);
        for (uint256 i; i < words.length; ++i) {
            command[i] = words[i];
        }
        command[words.length] = vm.toString(seed);
        command[words.length + 1] = vm.toString(block.chainid);
        command[words.length + 2] = vm.toString(address(judged));
        vectors = string(vm.ffi(command));
        note = string.concat("STKR_DIFFERENTIAL_SEED=", vm.toString(seed));
    }

    function test_HashToG2() public view {
        bytes32[] memory messages = vm.parseJsonBytes32Array(vectors, ".messages");
        bytes[] memory hashes = vm.parseJsonBytesArray(vectors, ".hashes");
        bytes[] memory possessions = vm.parseJsonBytesArray(vectors, ".possessionHashes");
        assertEq(messages.length, 16, note);
        for (uint256 i; i < messages.length; ++i) {
            assertEq(BLS12381.hashToG2(messages[i]), hashes[i], note);
            assertEq(BLS12381.hashPossessionToG2(messages[i]), possessions[i], note);
        }
    }

    function test_Pairings() public view {
        bytes32[] memory messages = vm.parseJsonBytes32Array(vectors, ".messages");
        bytes[] memory keys = vm.parseJsonBytesArray(vectors, ".keys");
        bytes[] memory right = vm.parseJsonBytesArray(vectors, ".signatures");
        bytes[] memory wrong = vm.parseJsonBytesArray(vectors, ".wrongSignatures");
        for (uint256 i; i < messages.length; ++i) {
            assertTrue(BLS12381.verify(keys[i], messages[i], right[i]), note);
            assertFalse(BLS12381.verify(keys[i], messages[i], wrong[i]), note);
            bytes memory hashed = BLS12381.hashToG2(messages[i]);
            (bool answered, bool valid) = BLS12381.tryVerifyHashed(keys[i], hashed, right[i]);
            assertTrue(answered && valid, note);
            (answered, valid) = BLS12381.tryVerifyHashed(keys[i], hashed, wrong[i]);
            assertTrue(answered && !valid, note);
            assertTrue(BLS12381.tryPointG1(keys[i]) && BLS12381.tryPointG2(right[i]), note);
        }
    }

    function test_CompressedPoints() public view {
        bytes[] memory keys = vm.parseJsonBytesArray(vectors, ".keys");
        bytes[] memory signatures = vm.parseJsonBytesArray(vectors, ".signatures");
        bytes[] memory keysCompressed = vm.parseJsonBytesArray(vectors, ".keysCompressed");
        bytes[] memory signaturesCompressed = vm.parseJsonBytesArray(vectors, ".signaturesCompressed");
        for (uint256 i; i < keys.length; ++i) {
            assertEq(BLS12381.compressG1(keys[i]), keysCompressed[i], note);
            assertEq(BLS12381.compressG2(signatures[i]), signaturesCompressed[i], note);
        }
    }

    /// Polynomials of points of up to eleven coefficients, at anything that an index can be.
    function test_EvaluateG1() public view {
        bytes[] memory coefficients = vm.parseJsonBytesArray(vectors, ".coefficients");
        uint256[] memory at_ = vm.parseJsonUintArray(vectors, ".arguments");
        bytes[] memory values = vm.parseJsonBytesArray(vectors, ".values");
        for (uint256 i; i < values.length; ++i) {
            (bool success, bytes memory value) = judged.evaluate(coefficients[i], at_[i]);
            assertTrue(success, note);
            assertEq(value, values[i], note);
        }
    }

    function test_DepositRoots() public view {
        uint256[] memory amounts = vm.parseJsonUintArray(vectors, ".amounts");
        for (uint256 i; i < amounts.length; ++i) {
            bytes memory key = vm.parseJsonBytes(vectors, _at(".keysCompressed", i));
            bytes32 to = vm.parseJsonBytes32(vectors, _at(".credentials", i));
            _assertRoot(DepositRoots.depositMessageRoot(key, to, uint64(amounts[i])), ".messageRoots", i);
            bytes4 version = bytes4(vm.parseJsonBytes32(vectors, _at(".versions", i)));
            _assertRoot(
                DepositRoots.depositSigningRoot(version, key, to, uint64(amounts[i])), ".signingRoots", i
            );
            bytes memory signature = vm.parseJsonBytes(vectors, _at(".signaturesCompressed", i));
            _assertRoot(DepositRoots.depositDataRoot(key, to, uint64(amounts[i]), signature), ".dataRoots", i);
        }
    }

    function test_CredentialChanges() public view {
        uint256[] memory indices = vm.parseJsonUintArray(vectors, ".amounts");
        assertEq(indices.length, 16, note);
        for (uint256 i; i < indices.length; ++i) {
            bytes memory key = vm.parseJsonBytes(vectors, _at(".keysCompressed", i));
            bytes4 version = bytes4(vm.parseJsonBytes32(vectors, _at(".versions", i)));
            bytes32 root = vm.parseJsonBytes32(vectors, _at(".validatorsRoots", i));
            address account = address(bytes20(vm.parseJsonBytes(vectors, _at(".accounts", i))));
            bytes32 domain = CredentialChanges.domain(version, root);
            _assertRoot(CredentialChanges.blsCredentials(key), ".blsCredentials", i);
            _assertRoot(
                CredentialChanges.signingRoot(domain, uint64(indices[i]), key, account), ".changeRoots", i
            );
        }
    }

    function _assertRoot(bytes32 root, string memory list, uint256 i) private view {
        assertEq(root, vm.parseJsonBytes32(vectors, _at(list, i)), note);
    }

    function _at(string memory list, uint256 i) private pure returns (string memory) {
        return string.concat(list, "[", vm.toString(i), "]");
    }

    /// Honest dealings of other hands: good for every member, and bad with any other share.
    function test_Dealings() public {
        for (uint256 i; i < 4; ++i) {
            (Dealing memory d, bytes memory keys, bytes memory proof, string memory path) = _dealing(i);
            uint256[] memory secrets = vm.parseJsonUintArray(vectors, string.concat(path, ".secrets"));
            uint256[] memory ys = vm.parseJsonUintArray(vectors, string.concat(path, ".ys"));
            for (uint8 defect; defect < 4; ++defect) {
                bytes memory hashed = defect == 1 ? keys : defect == 3 ? proof : bytes("");
                vm.expectRevert(abi.encodeWithSelector(ICourt.NotMalformed.selector, DealingDefect(defect)));
                judged.malformed(d, hashed, DealingDefect(defect), 0);
            }
            for (uint8 member = 1; member <= 4; ++member) {
                Opening memory opening = Opening(member, secrets[member - 1], ys[member - 1]);
                vm.expectRevert(abi.encodeWithSelector(ICourt.GoodDealing.selector, member));
                judged.bad(d, keys, opening);
                d.shares[32 * uint256(member) - 1] ^= 0x01;
                judged.bad(d, keys, opening);
                d.shares[32 * uint256(member) - 1] ^= 0x01;
            }
        }
    }

    function _dealing(uint256 i)
        private
        view
        returns (Dealing memory d, bytes memory keys, bytes memory proof, string memory path)
    {
        path = _at(".dealings", i);
        keys = vm.parseJsonBytes(vectors, string.concat(path, ".oneTimeKeys"));
        proof = vm.parseJsonBytes(vectors, string.concat(path, ".proof"));
        d.keyId = vm.parseJsonUint(vectors, string.concat(path, ".keyId"));
        d.attempt = uint16(vm.parseJsonUint(vectors, string.concat(path, ".attempt")));
        d.index = uint8(vm.parseJsonUint(vectors, string.concat(path, ".index")));
        d.oneTimeKeysHash = keccak256(keys);
        d.oneTimeKey = vm.parseJsonBytes(vectors, string.concat(path, ".oneTimeKey"));
        d.commitments = vm.parseJsonBytes(vectors, string.concat(path, ".commitments"));
        d.possessionHash = keccak256(proof);
        d.shares = vm.parseJsonBytes(vectors, string.concat(path, ".shares"));
    }
}

/// @title Against @noble, which shares no code with the precompiles, with blst or with the contracts
contract NobleTest is DifferentialTest {
    function maker() internal pure override returns (string[] memory words) {
        words = new string[](2);
        (words[0], words[1]) = ("node", "tests/contracts/differential/vectors.mjs");
    }
}

/// @title Against blst, and what servers and gateways compute with it
contract BlstTest is DifferentialTest {
    function maker() internal view override returns (string[] memory words) {
        words = new string[](1);
        words[0] = vm.envOr("STKR_BLST_VECTORS", string("target/debug/blst_vectors"));
    }
}
