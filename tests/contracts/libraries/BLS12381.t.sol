// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {Test} from "forge-std/Test.sol";

/// @dev Gives the library a calldata boundary, so that reverts can be expected and gas measured.
contract BLS12381Caller {
    function verify(bytes calldata key, bytes32 message, bytes calldata signature)
        external
        view
        returns (bool)
    {
        return BLS12381.verify(key, message, signature);
    }

    function hashToG2(bytes32 message) external view returns (bytes memory) {
        return BLS12381.hashToG2(message);
    }

    function reduce(bytes memory elements) external pure returns (bytes memory) {
        BLS12381.reduce(elements);
        return elements;
    }

    function compressG1(bytes calldata point) external pure returns (bytes memory) {
        return BLS12381.compressG1(point);
    }

    function compressG2(bytes calldata point) external pure returns (bytes memory) {
        return BLS12381.compressG2(point);
    }

    function multiplyG1(bytes calldata pairs) external view returns (bool, bytes memory) {
        return BLS12381.multiplyG1(pairs);
    }

    function gasOfVerify(bytes calldata key, bytes32 message, bytes calldata signature)
        external
        view
        returns (uint256 used)
    {
        used = gasleft();
        BLS12381.verify(key, message, signature);
        used -= gasleft();
    }
}

contract BLS12381Test is Test {
    uint256 private constant R = BLS12381.R;

    BLS12381Caller private bls;
    string private json;

    function setUp() public {
        bls = new BLS12381Caller();
        json = vm.readFile("tests/contracts/fixtures/bls.json");
    }

    // ------------------------------------------------------------------------------ against @noble/curves

    function test_HashToG2_IsThatOfNoble() public view {
        bytes32[] memory messages = vm.parseJsonBytes32Array(json, ".messages");
        bytes[] memory hashes = vm.parseJsonBytesArray(json, ".hashes");
        assertEq(messages.length, 24, "cases");
        for (uint256 i; i < messages.length; ++i) {
            assertEq(bls.hashToG2(messages[i]), hashes[i]);
        }
    }

    function test_Verify_AcceptsSignaturesOfNoble() public view {
        bytes32[] memory messages = vm.parseJsonBytes32Array(json, ".messages");
        bytes[] memory keys = vm.parseJsonBytesArray(json, ".keys");
        bytes[] memory signatures = vm.parseJsonBytesArray(json, ".signatures");
        assertEq(messages.length, 24, "cases");
        for (uint256 i; i < messages.length; ++i) {
            uint256 other = (i + 1) % messages.length;
            assertTrue(bls.verify(keys[i], messages[i], signatures[i]));
            assertFalse(bls.verify(keys[i], messages[other], signatures[i]), "foreign message");
            assertFalse(bls.verify(keys[other], messages[i], signatures[i]), "foreign key");
            assertFalse(bls.verify(keys[i], messages[i], signatures[other]), "foreign signature");
        }
    }

    function test_Compress_IsThatOfNoble() public view {
        bytes[] memory keys = vm.parseJsonBytesArray(json, ".keys");
        bytes[] memory keysCompressed = vm.parseJsonBytesArray(json, ".keysCompressed");
        bytes[] memory signatures = vm.parseJsonBytesArray(json, ".signatures");
        bytes[] memory signaturesCompressed = vm.parseJsonBytesArray(json, ".signaturesCompressed");
        assertEq(keys.length, 24, "cases");
        uint256 larger;
        for (uint256 i; i < keys.length; ++i) {
            assertEq(bls.compressG1(keys[i]), keysCompressed[i]);
            assertEq(bls.compressG2(signatures[i]), signaturesCompressed[i]);
            if (uint8(keysCompressed[i][0]) & 0x20 != 0) ++larger;
        }
        assertTrue(larger > 0 && larger < keys.length, "both signs must occur");
    }

    function test_PublicKeyOfTests_IsThatOfNoble() public view {
        uint256[] memory secrets = vm.parseJsonUintArray(json, ".secrets");
        bytes[] memory keys = vm.parseJsonBytesArray(json, ".keys");
        for (uint256 i; i < keys.length; ++i) {
            assertEq(ThresholdKeys.publicKey(secrets[i]), keys[i]);
        }
    }

    // ------------------------------------------------------------------------------------------ properties

    function testFuzz_Verify_AcceptsOnlyTheSignedMessage(uint256 secret, bytes32 message, bytes32 other)
        public
        view
    {
        secret = bound(secret, 1, R - 1);
        vm.assume(message != other);
        bytes memory key = ThresholdKeys.publicKey(secret);
        bytes memory signature = ThresholdKeys.sign(secret, message);
        assertTrue(bls.verify(key, message, signature));
        assertFalse(bls.verify(key, other, signature));
    }

    function testFuzz_Verify_RefusesAFlippedBit(uint256 secret, bytes32 message, uint256 bit) public view {
        secret = bound(secret, 1, R - 1);
        bit = bound(bit, 0, 256 * 8 - 1);
        bytes memory signature = ThresholdKeys.sign(secret, message);
        signature[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        assertFalse(bls.verify(ThresholdKeys.publicKey(secret), message, signature));
    }

    function testFuzz_Compress_NegationFlipsOnlyTheSign(uint256 secret) public view {
        secret = bound(secret, 1, R - 1);
        bytes memory one = bls.compressG1(ThresholdKeys.publicKey(secret));
        bytes memory minus = bls.compressG1(ThresholdKeys.publicKey(R - secret));
        assertEq(uint8(one[0]) ^ uint8(minus[0]), 0x20);
        one[0] = minus[0];
        assertEq(one, minus);
    }

    function test_Compress_G2UsesC0WhereC1IsZero() public view {
        // y = (c0, 0): the sign is that of c0. Not on the curve; compression looks at coordinates only.
        bytes memory x = new bytes(128);
        x[127] = 0x01;
        bytes memory large =
            hex"000000000000000000000000000000000d0088f51cbff34d258dd3db21a5d66bb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd556";
        bytes memory small =
            hex"000000000000000000000000000000000d0088f51cbff34d258dd3db21a5d66bb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555";
        bytes memory zero = new bytes(64);
        assertEq(uint8(bls.compressG2(bytes.concat(x, large, zero))[0]), 0xa0);
        assertEq(uint8(bls.compressG2(bytes.concat(x, small, zero))[0]), 0x80);
        // And with c1 not zero, c0 says nothing.
        assertEq(uint8(bls.compressG2(bytes.concat(x, large, small))[0]), 0x80);
        assertEq(uint8(bls.compressG2(bytes.concat(x, small, large))[0]), 0xa0);
    }

    // ------------------------------------------------------------------------------------------- bad input

    function test_Verify_RefusesInfinity() public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        bytes memory signature = ThresholdKeys.sign(7, "m");
        // Infinity as key and signature satisfies the pairing equation for every message.
        assertFalse(bls.verify(new bytes(128), "m", new bytes(256)), "both");
        assertFalse(bls.verify(key, "m", new bytes(256)), "signature");
        assertFalse(bls.verify(new bytes(128), "m", signature), "key");
    }

    function test_Verify_RefusesPointsOutsideTheSubgroup() public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        bytes memory signature = ThresholdKeys.sign(7, "m");
        assertFalse(bls.verify(vm.parseJsonBytes(json, ".g1OutsideSubgroup"), "m", signature));
        assertFalse(bls.verify(key, "m", vm.parseJsonBytes(json, ".g2OutsideSubgroup")));
    }

    function test_Verify_RefusesPointsOffTheCurve() public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        bytes memory signature = ThresholdKeys.sign(7, "m");
        key[127] ^= 0x01;
        assertFalse(bls.verify(key, "m", signature));
    }

    function test_Verify_RefusesCoordinatesNotBelowTheModulus() public view {
        // x + p is the same residue: a second encoding of the same key, if it were accepted.
        bytes memory key = vm.parseJsonBytesArray(json, ".keys")[0];
        bytes32 message = vm.parseJsonBytes32Array(json, ".messages")[0];
        bytes memory signature = vm.parseJsonBytesArray(json, ".signatures")[0];
        assertTrue(bls.verify(key, message, signature));
        (uint256 high, uint256 low) = (
            0x1a0111ea397fe69a4b1ba7b6434bacd7,
            0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab
        );
        assembly {
            let keyLow := mload(add(key, 0x40))
            let sum := add(keyLow, low)
            mstore(add(key, 0x40), sum)
            mstore(add(key, 0x20), add(add(mload(add(key, 0x20)), high), lt(sum, low)))
        }
        assertFalse(bls.verify(key, message, signature));
    }

    function testFuzz_Verify_RefusesWrongLengths(uint256 keyLength, uint256 signatureLength) public view {
        keyLength = bound(keyLength, 0, 400);
        signatureLength = bound(signatureLength, 0, 600);
        vm.assume(keyLength != 128 || signatureLength != 256);
        bytes memory key = new bytes(keyLength);
        bytes memory signature = new bytes(signatureLength);
        if (keyLength > 0) key[0] = 0x01;
        if (signatureLength > 0) signature[0] = 0x01;
        assertFalse(bls.verify(key, "m", signature));
    }

    function test_Compress_RefusesWrongLengths() public {
        vm.expectRevert(abi.encodeWithSelector(BLS12381.BadPointLength.selector, 127, 128));
        bls.compressG1(new bytes(127));
        vm.expectRevert(abi.encodeWithSelector(BLS12381.BadPointLength.selector, 128, 256));
        bls.compressG2(new bytes(128));
    }

    function test_Compress_RefusesInfinityAndPadding() public {
        bytes memory key = ThresholdKeys.publicKey(7);
        key[15] = 0x01;
        bytes memory signature = ThresholdKeys.sign(7, "m");
        signature[64] = 0x80;
        vm.expectRevert(BLS12381.BadPointEncoding.selector);
        bls.compressG1(new bytes(128));
        vm.expectRevert(BLS12381.BadPointEncoding.selector);
        bls.compressG2(new bytes(256));
        vm.expectRevert(BLS12381.BadPointEncoding.selector);
        bls.compressG1(key);
        vm.expectRevert(BLS12381.BadPointEncoding.selector);
        bls.compressG2(signature);
    }

    /// @dev The first bytes are a valid key and a valid signature; what comes behind must not be read over.
    function testFuzz_Verify_RefusesATail(bytes calldata tail) public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        bytes memory signature = ThresholdKeys.sign(7, "m");
        assertTrue(bls.verify(key, "m", signature));
        vm.assume(tail.length != 0);
        assertFalse(bls.verify(bytes.concat(key, tail), "m", signature), "key");
        assertFalse(bls.verify(key, "m", bytes.concat(signature, tail)), "signature");
    }

    function test_HashToG2_SaysSoWhenThePrecompilesGetTooLittleGas() public {
        vm.expectRevert();
        bls.hashToG2{gas: 30_000}("m");
    }

    // ----------------------------------------------------------------------------------- against MODEXP

    bytes private constant P =
        hex"1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";

    function _modulo(bytes memory element) private view returns (bytes memory) {
        (bool success, bytes memory rest) = address(5)
            .staticcall(abi.encodePacked(uint256(64), uint256(1), uint256(48), element, uint8(1), P));
        assertTrue(success);
        return bytes.concat(bytes16(0), rest);
    }

    function testFuzz_Reduce_IsThatOfModexp(uint256 high, uint256 low) public view {
        bytes memory element = abi.encode(high, low);
        assertEq(bls.reduce(element), _modulo(element));
    }

    /// Beside multiples of p the quotient is guessed too low.
    function testFuzz_Reduce_BesideMultiplesOfTheModulus(uint256 times, uint8 offset, bool below)
        public
        view
    {
        times = bound(times, 1, (1 << 131) - 1);
        uint256 pLow = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
        uint256 pHigh = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
        (uint256 high, uint256 low) = Math.mul512(times, pLow);
        high += times * pHigh;
        unchecked {
            uint256 moved = below ? low - offset : low + offset;
            if (below && moved > low) --high;
            if (!below && moved < low) ++high;
            low = moved;
        }
        bytes memory element = abi.encode(high, low);
        assertEq(bls.reduce(element), _modulo(element));
    }

    function test_Reduce_EachElementAndNoRest() public view {
        bytes memory most = abi.encode(type(uint256).max, type(uint256).max);
        bytes memory modulus = bytes.concat(bytes16(0), P);
        bytes memory rest = hex"ffffffffff";
        bytes memory reduced = bls.reduce(bytes.concat(most, modulus, new bytes(64), most, rest));
        assertEq(reduced, bytes.concat(_modulo(most), new bytes(128), _modulo(most), rest));
        assertEq(bls.reduce(rest), rest);
    }

    // ------------------------------------------------------------------------------------------------- gas

    function test_Verify_BadInputBurnsNoMoreThanTheCaps() public view {
        // A failing precompile burns all gas forwarded. Without a cap this would be 63/64 of the transaction's.
        bytes memory key = ThresholdKeys.publicKey(7);
        key[127] ^= 0x01;
        uint256 used = bls.gasOfVerify(key, "m", ThresholdKeys.sign(7, "m"));
        assertLt(used, 300_000);
    }

    function test_MultiplyG1_BadInputBurnsNoMoreThanTheCap() public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        key[127] ^= 0x01;
        uint256 before = gasleft();
        (bool success,) = bls.multiplyG1(bytes.concat(key, bytes32(uint256(3))));
        assertFalse(success);
        assertLt(before - gasleft(), 40_000);
    }

    function test_Verify_CostsLessThan162000() public view {
        bytes memory key = ThresholdKeys.publicKey(7);
        uint256 used = bls.gasOfVerify(key, "m", ThresholdKeys.sign(7, "m"));
        assertLt(used, 162_000);
    }
}
