// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title BLS signatures over BLS12-381 by the EIP-2537 precompiles
/// @notice Public keys in G1, signatures in G2, ciphersuite BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_ as on the
/// beacon chain.
/// @dev Encodings: a field element is 64 bytes, big-endian, the upper 16 zero; G1 is x, y (128 bytes); G2 is x.c0, x.c1,
/// y.c0, y.c1 (256 bytes). A precompile call that fails burns all gas forwarded to it, so every call gets a cap:
/// twice the price of EIP-2537, which leaves room for a repricing and bounds what bad input costs.
///
/// What a `false` or a failed call does NOT prove: that the input is bad. A caller can starve a precompile of gas. Use
/// the answers here only to accept, never to find anybody at fault; for that there is `tryVerifyHashed` with its two answers.
library BLS12381 {
    /// @notice Raised when a point has `length` bytes and not `expected`.
    error BadPointLength(uint256 length, uint256 expected);
    /// @notice Raised when a point to compress is infinity or has non-zero padding. It has no arguments: points that a
    /// precompile accepted never raise it, so they would be code that nobody runs.
    error BadPointEncoding();
    /// @notice Raised when a precompile fails on input that cannot be bad: too little gas, or no EIP-2537 here.
    error PrecompileFailed(address precompile);

    uint256 internal constant G1_LENGTH = 128;
    uint256 internal constant G2_LENGTH = 256;

    /// Order of both subgroups.
    uint256 internal constant R = 0x73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001;

    uint256 private constant G1ADD = 0x0b;
    uint256 private constant G1MSM = 0x0c;
    uint256 private constant G2ADD = 0x0d;
    uint256 private constant G2MSM = 0x0e;
    uint256 private constant PAIRING = 0x0f;
    uint256 private constant MAP_FP2_TO_G2 = 0x11;

    /// Twice the EIP-2537 prices: 375, 600, 23,800 and 37,700 + 2 * 32,600.
    uint256 private constant G1ADD_GAS = 750;
    uint256 private constant G2ADD_GAS = 1_200;
    uint256 private constant MAP_GAS = 47_600;
    uint256 private constant PAIRING_GAS = 205_800;
    /// What a pairing of two pairs costs.
    uint256 private constant PAIRING_PRICE = 102_900;
    /// Twice the price of a G1MSM before its discount for many points.
    uint256 private constant MSM_GAS_PER_POINT = 24_000;
    /// What a G1MSM and a G2MSM of one pair cost.
    uint256 private constant G1MSM_PRICE = 12_000;
    uint256 private constant G2MSM_PRICE = 22_500;

    /// The field modulus p and (p - 1) / 2, each as the upper 128 and the lower 256 bits.
    uint256 private constant P_HIGH = 0x1a0111ea397fe69a4b1ba7b6434bacd7;
    uint256 private constant P_LOW = 0x64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab;
    uint256 private constant HALF_HIGH = 0x0d0088f51cbff34d258dd3db21a5d66b;
    uint256 private constant HALF_LOW = 0xb23ba5c279c2895fb39869507b587b120f55ffff58a9ffffdcff7fffffffd555;

    /// floor(2^512 / p).
    uint256 private constant RECIPROCAL = 0x9d835d2f3cc9e45ce28101b0cc7a6ba29;

    /// The generator of G1.
    uint256 private constant G1_X_HIGH = 0x17f1d3a73197d7942695638c4fa9ac0f;
    uint256 private constant G1_X_LOW = 0xc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb;
    uint256 private constant G1_Y_HIGH = 0x08b3f481e3aaa0f1a09e30ed741d8ae4;
    uint256 private constant G1_Y_LOW = 0xfcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1;

    /// The generator of G2: x.c0, x.c1, y.c0, y.c1.
    uint256 private constant G2_X0_HIGH = 0x024aa2b2f08f0a91260805272dc51051;
    uint256 private constant G2_X0_LOW = 0xc6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8;
    uint256 private constant G2_X1_HIGH = 0x13e02b6052719f607dacd3a088274f65;
    uint256 private constant G2_X1_LOW = 0x596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e;
    uint256 private constant G2_Y0_HIGH = 0x0ce5d527727d6e118cc9cdc6da2e351a;
    uint256 private constant G2_Y0_LOW = 0xadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801;
    uint256 private constant G2_Y1_HIGH = 0x0606c4a02ea734cc32acd2b02bc28b99;
    uint256 private constant G2_Y1_LOW = 0xcb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be;

    /// -G1, the negated generator.
    uint256 private constant NEG_G1_X_HIGH = 0x17f1d3a73197d7942695638c4fa9ac0f;
    uint256 private constant NEG_G1_X_LOW =
        0xc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb;
    uint256 private constant NEG_G1_Y_HIGH = 0x114d1d6855d545a8aa7d76c8cf2e21f2;
    uint256 private constant NEG_G1_Y_LOW =
        0x67816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca;

    /// "BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_" and its length, 43: DST_prime of RFC 9380, 44 bytes. That of a proof
    /// of possession begins with BLS_POP_ and goes on alike.
    bytes32 private constant SIGNATURE_DST_FIRST = "BLS_SIG_BLS12381G2_XMD:SHA-256_S";
    bytes32 private constant POSSESSION_DST_FIRST = "BLS_POP_BLS12381G2_XMD:SHA-256_S";
    bytes32 private constant DST_LAST = "SWU_RO_POP_\x2b";

    // -------------------------------------------------------------------------------------------- signatures

    /// @notice Whether `signature` (G2) by `groupKey` (G1) over `message` is valid: e(-G1, signature) * e(groupKey,
    /// H(message)) = 1. About 162,000 gas.
    /// @dev The pairing checks curve and subgroup of both points. Infinity passes pairings (infinity key and infinity
    /// signature satisfy the equation for any message), so both are refused first. Wrong lengths: false.
    function verify(bytes memory groupKey, bytes32 message, bytes memory signature)
        internal
        view
        returns (bool valid)
    {
        if (groupKey.length != G1_LENGTH || signature.length != G2_LENGTH) return false;
        if (isInfinity(groupKey) || isInfinity(signature)) return false;
        (, valid) = _pair(groupKey, hashToG2(message), signature, PAIRING_GAS);
    }

    /// @notice For those who look for a fault: whether the pairing precompile gave an answer, and whether the answer was that
    /// `signature` (G2) by `publicKey` (G1) over the message that hashes to `hashed` is valid.
    /// @dev No answer proves nothing: see the head of this library. The cap is the bare price, for a call that fails burns all
    /// of it; where EIP-2537 ever costs more there is no answer to anything. Infinity is not refused: the signature infinity is
    /// answered as invalid, if `publicKey` is not infinity too. Wrong lengths: no answer.
    function tryVerifyHashed(bytes memory publicKey, bytes memory hashed, bytes memory signature)
        internal
        view
        returns (bool answered, bool valid)
    {
        if (publicKey.length != G1_LENGTH || hashed.length != G2_LENGTH || signature.length != G2_LENGTH) {
            return (false, false);
        }
        return _pair(publicKey, hashed, signature, PAIRING_PRICE);
    }

    /// @notice The same over `message`, for points that lie in calldata.
    function tryVerify(bytes calldata publicKey, bytes32 message, bytes calldata signature)
        internal
        view
        returns (bool answered, bool valid)
    {
        if (publicKey.length != G1_LENGTH || signature.length != G2_LENGTH) return (false, false);
        bytes memory hashed = hashToG2(message);
        uint256 input = _pairs(hashed);
        assembly ("memory-safe") {
            calldatacopy(add(input, 0x80), signature.offset, 0x100)
            calldatacopy(add(input, 0x180), publicKey.offset, 0x80)
        }
        return _pairing(input, PAIRING_PRICE);
    }

    /// @dev Whether e(-G1, signature) * e(publicKey, hashed) = 1. The caller has checked the lengths.
    function _pair(bytes memory publicKey, bytes memory hashed, bytes memory signature, uint256 cap)
        private
        view
        returns (bool answered, bool one)
    {
        uint256 input = _pairs(hashed);
        assembly ("memory-safe") {
            mcopy(add(input, 0x80), add(signature, 0x20), 0x100)
            mcopy(add(input, 0x180), add(publicKey, 0x20), 0x80)
        }
        return _pairing(input, cap);
    }

    /// @dev Input of the pairing behind the free memory: -G1 (128), room for a signature (256) and a public key (128), `hashed` (256).
    function _pairs(bytes memory hashed) private pure returns (uint256 input) {
        assembly ("memory-safe") {
            input := mload(0x40)
            mstore(input, NEG_G1_X_HIGH)
            mstore(add(input, 0x20), NEG_G1_X_LOW)
            mstore(add(input, 0x40), NEG_G1_Y_HIGH)
            mstore(add(input, 0x60), NEG_G1_Y_LOW)
            mcopy(add(input, 0x200), add(hashed, 0x20), 0x100)
        }
    }

    function _pairing(uint256 input, uint256 cap) private view returns (bool answered, bool one) {
        assembly ("memory-safe") {
            let success := staticcall(cap, PAIRING, input, 0x300, 0x00, 0x20)
            answered := and(success, eq(returndatasize(), 0x20))
            one := and(answered, eq(mload(0x00), 1))
        }
    }

    /// @notice hash_to_curve of RFC 9380 for G2 of a 32-byte message (a signing root): 256 bytes, in the subgroup.
    function hashToG2(bytes32 message) internal view returns (bytes memory point) {
        return _hashToG2(message, SIGNATURE_DST_FIRST);
    }

    /// @notice The same for what a proof of possession signs: no signature is one, and no proof a signature.
    function hashPossessionToG2(bytes32 message) internal view returns (bytes memory point) {
        return _hashToG2(message, POSSESSION_DST_FIRST);
    }

    function _hashToG2(bytes32 message, bytes32 dstFirst) private view returns (bytes memory point) {
        bytes memory elements = _expandMessage(message, dstFirst);
        reduce(elements);
        bool success = true;

        assembly ("memory-safe") {
            point := mload(0x40)
            // G2ADD reads two points of 256 bytes; its result overwrites the first.
            let points := add(point, 0x20)
            mstore(0x40, add(points, 0x200))
            success := staticcall(MAP_GAS, MAP_FP2_TO_G2, add(elements, 0x20), 0x80, points, 0x100)
            success := and(
                success,
                staticcall(MAP_GAS, MAP_FP2_TO_G2, add(elements, 0xa0), 0x80, add(points, 0x100), 0x100)
            )
            // The cofactor is cleared by MAP_FP2_TO_G2 already; clearing is linear, so the sum is in the subgroup.
            success := and(success, staticcall(G2ADD_GAS, G2ADD, points, 0x200, points, 0x100))
            success := and(success, eq(returndatasize(), 0x100))
            mstore(point, 0x100)
        }
        require(success, PrecompileFailed(address(uint160(MAP_FP2_TO_G2))));
    }

    /// @notice Takes each 64 bytes of `elements`, a number below 2^512, modulo p, in place; a rest is left as it is.
    /// @dev Barrett's reduction: 300 gas, where MODEXP (EIP-7883) costs 500 and its call 170.
    function reduce(bytes memory elements) internal pure {
        assembly ("memory-safe") {
            // The upper 256 bits of a product.
            function upper(a, b) -> result {
                let low := mul(a, b)
                let rest := mulmod(a, b, not(0))
                result := sub(sub(rest, low), lt(rest, low))
            }

            let end := add(add(elements, 0x20), and(mload(elements), not(0x3f)))
            for { let at := add(elements, 0x20) } lt(at, end) { at := add(at, 0x40) } {
                let high := mload(at)
                let low := mload(add(at, 0x20))
                // The quotient, or at most 2 less than it.
                let q := upper(high, RECIPROCAL)
                let product := mul(q, P_LOW)
                high := sub(sub(sub(high, upper(q, P_LOW)), mul(q, P_HIGH)), lt(low, product))
                low := sub(low, product)
                for {} or(gt(high, P_HIGH), and(eq(high, P_HIGH), iszero(lt(low, P_LOW)))) {} {
                    high := sub(sub(high, P_HIGH), lt(low, P_LOW))
                    low := sub(low, P_LOW)
                }
                mstore(at, high)
                mstore(add(at, 0x20), low)
            }
        }
    }

    /// @dev expand_message_xmd of RFC 9380 with SHA-256: 256 bytes, four chunks of L = 64.
    function _expandMessage(bytes32 message, bytes32 dstFirst) private view returns (bytes memory uniform) {
        bool success;
        assembly ("memory-safe") {
            uniform := mload(0x40)
            let input := add(uniform, 0x120)
            // The allocation covers the 143 bytes of the first input too.
            mstore(0x40, add(input, 0xc0))
            mstore(uniform, 0x100)

            // b_0 = H(Z_pad (64 zeros) | message | 0x0100 | 0x00 | DST_prime)
            mstore(input, 0)
            mstore(add(input, 0x20), 0)
            mstore(add(input, 0x40), message)
            mstore(add(input, 0x60), shl(232, 0x010000))
            mstore(add(input, 0x63), dstFirst)
            mstore(add(input, 0x83), DST_LAST)
            success := staticcall(gas(), 0x02, input, 143, 0x00, 0x20)
            let first := mload(0x00)

            // b_i = H(b_0 xor b_(i-1) | i | DST_prime), the first with zero in place of b_(i-1). Written out, for a loop costs 400 gas.
            mstore(add(input, 0x21), dstFirst)
            mstore(add(input, 0x41), DST_LAST)
            let counter := add(input, 0x20)
            let output := add(uniform, 0x20)
            mstore(input, first)
            mstore8(counter, 1)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 2)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 3)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 4)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 5)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 6)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 7)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
            mstore(input, xor(first, mload(output)))
            mstore8(counter, 8)
            output := add(output, 0x20)
            success := and(success, staticcall(gas(), 0x02, input, 77, output, 0x20))
        }
        require(success, PrecompileFailed(address(0x02)));
    }

    // ----------------------------------------------------------------------------------- multiplication in G1

    /// @notice Sum of scalar * point over `pairs` (160 bytes each: G1, then a 32-byte scalar).
    /// @dev The precompile checks curve, field and subgroup of each point. `success` is false when it refuses one.
    function multiplyG1(bytes memory pairs) internal view returns (bool success, bytes memory sum) {
        uint256 cap = MSM_GAS_PER_POINT * pairs.length / 160;
        assembly ("memory-safe") {
            sum := mload(0x40)
            mstore(0x40, add(sum, 0xa0))
            mstore(sum, 0x80)
            success := staticcall(cap, G1MSM, add(pairs, 0x20), mload(pairs), add(sum, 0x20), 0x80)
            success := and(success, eq(returndatasize(), 0x80))
        }
    }

    /// @notice Adds to each point of `sums` (128 bytes each) the one of `more` in its place.
    /// @dev G1ADD checks the curve and no subgroup. `success` is false when it refuses a point, or where there are not as many.
    function addEachG1(bytes memory sums, bytes calldata more) internal view returns (bool success) {
        if (sums.length != more.length) return false;
        success = true;
        assembly ("memory-safe") {
            let input := mload(0x40)
            for { let at := 0 } lt(at, mload(sums)) { at := add(at, 0x80) } {
                let sum := add(add(sums, 0x20), at)
                mcopy(input, sum, 0x80)
                calldatacopy(add(input, 0x80), add(more.offset, at), 0x80)
                success := and(success, staticcall(G1ADD_GAS, G1ADD, input, 0x100, sum, 0x80))
            }
        }
    }

    /// @notice Sum of x^k * C_k over the points of `coefficients` (128 bytes each; a rest is left out), for a small x > 0.
    /// @dev Horner's rule by doubling and adding: for x <= 16 and t = 3 a tenth of what a G1MSM costs. G1ADD checks the curve and
    /// no subgroup. `success` is false when it refuses a point.
    function evaluateG1(bytes memory coefficients, uint256 x)
        internal
        view
        returns (bool success, bytes memory value)
    {
        success = true;
        uint256 highest = Math.log2(x);
        assembly ("memory-safe") {
            // value: length, sum (128); behind it a summand (128), then what is multiplied by x (128)
            value := mload(0x40)
            mstore(0x40, add(value, 0x1a0))
            mstore(value, 0x80)
            let sum := add(value, 0x20)
            let summand := add(value, 0xa0)
            let factor := add(value, 0x120)
            calldatacopy(sum, calldatasize(), 0x80)
            for { let k := div(mload(coefficients), 0x80) } k {} {
                k := sub(k, 1)
                mcopy(factor, sum, 0x80)
                for { let bit := highest } bit {} {
                    bit := sub(bit, 1)
                    mcopy(summand, sum, 0x80)
                    success := and(success, staticcall(G1ADD_GAS, G1ADD, sum, 0x100, sum, 0x80))
                    if and(shr(bit, x), 1) {
                        mcopy(summand, factor, 0x80)
                        success := and(success, staticcall(G1ADD_GAS, G1ADD, sum, 0x100, sum, 0x80))
                    }
                }
                mcopy(summand, add(add(coefficients, 0x20), mul(k, 0x80)), 0x80)
                success := and(success, staticcall(G1ADD_GAS, G1ADD, sum, 0x100, sum, 0x80))
            }
            success := and(success, or(lt(mload(coefficients), 0x80), eq(returndatasize(), 0x80)))
        }
    }

    /// @notice For those who look for a fault: whether the precompile took `point` as one of the subgroup of G1, infinity
    /// included. Wrong lengths: it did not.
    /// @dev No answer proves nothing, as in `tryVerifyHashed`; the cap is the bare price here too.
    function tryPointG1(bytes memory point) internal view returns (bool taken) {
        if (point.length != G1_LENGTH) return false;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mcopy(input, add(point, 0x20), 0x80)
            mstore(add(input, 0x80), 1)
            taken := staticcall(G1MSM_PRICE, G1MSM, input, 0xa0, input, 0x80)
            taken := and(taken, eq(returndatasize(), 0x80))
        }
    }

    /// @notice The same for G2.
    function tryPointG2(bytes memory point) internal view returns (bool taken) {
        if (point.length != G2_LENGTH) return false;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mcopy(input, add(point, 0x20), 0x100)
            mstore(add(input, 0x100), 1)
            taken := staticcall(G2MSM_PRICE, G2MSM, input, 0x120, input, 0x100)
            taken := and(taken, eq(returndatasize(), 0x100))
        }
    }

    /// @notice The generator of G2.
    function generatorG2() internal pure returns (bytes memory) {
        return abi.encode(
            G2_X0_HIGH, G2_X0_LOW, G2_X1_HIGH, G2_X1_LOW, G2_Y0_HIGH, G2_Y0_LOW, G2_Y1_HIGH, G2_Y1_LOW
        );
    }

    /// @notice The generator of G1.
    function generatorG1() internal pure returns (bytes memory) {
        return abi.encode(G1_X_HIGH, G1_X_LOW, G1_Y_HIGH, G1_Y_LOW);
    }

    // ---------------------------------------------------------------------------------------------- encodings

    /// @notice Whether `point` is the EIP-2537 encoding of infinity: all zeros.
    function isInfinity(bytes memory point) internal pure returns (bool) {
        uint256 any;
        assembly ("memory-safe") {
            let end := add(add(point, 0x20), mload(point))
            for { let word := add(point, 0x20) } lt(word, end) { word := add(word, 0x20) } {
                any := or(any, mload(word))
            }
        }
        return any == 0;
    }

    /// @notice The 48 bytes of a G1 point as the beacon chain writes it: x with the ZCash flags.
    /// @dev Checks no curve: give it points that a precompile has accepted.
    function compressG1(bytes memory point) internal pure returns (bytes memory) {
        require(point.length == G1_LENGTH, BadPointLength(point.length, G1_LENGTH));
        (uint256 xHigh, uint256 xLow) = _element(point, 0);
        (uint256 yHigh, uint256 yLow) = _element(point, 1);
        require(!isInfinity(point), BadPointEncoding());
        return abi.encodePacked(uint128(xHigh | _flags(_isLarge(yHigh, yLow))), xLow);
    }

    /// @notice The 96 bytes of a G2 point as the beacon chain writes it: x.c1 with the ZCash flags, x.c0.
    /// @dev Checks no curve: give it points that a precompile has accepted.
    function compressG2(bytes memory point) internal pure returns (bytes memory) {
        require(point.length == G2_LENGTH, BadPointLength(point.length, G2_LENGTH));
        (uint256 x0High, uint256 x0Low) = _element(point, 0);
        (uint256 x1High, uint256 x1Low) = _element(point, 1);
        bool large;
        {
            (uint256 y0High, uint256 y0Low) = _element(point, 2);
            (uint256 y1High, uint256 y1Low) = _element(point, 3);
            // The sign of c0 + c1 u is that of c1, or of c0 where c1 is zero.
            large = y1High | y1Low == 0 ? _isLarge(y0High, y0Low) : _isLarge(y1High, y1Low);
        }
        require(!isInfinity(point), BadPointEncoding());
        return abi.encodePacked(uint128(x1High | _flags(large)), x1Low, uint128(x0High), x0Low);
    }

    /// @dev Bit 383: compressed. Bit 381: y is the lexicographically larger root.
    function _flags(bool large) private pure returns (uint256) {
        return (1 << 127) | (large ? 1 << 125 : 0);
    }

    /// @dev Whether a field element exceeds (p - 1) / 2.
    function _isLarge(uint256 high, uint256 low) private pure returns (bool) {
        return high > HALF_HIGH || (high == HALF_HIGH && low > HALF_LOW);
    }

    /// @dev The `index`-th field element of a point: upper 128 and lower 256 bits.
    function _element(bytes memory point, uint256 index) private pure returns (uint256 high, uint256 low) {
        assembly ("memory-safe") {
            let start := add(add(point, 0x20), mul(index, 0x40))
            high := mload(start)
            low := mload(add(start, 0x20))
        }
        // The upper bits would run into the flags.
        require(high >> 125 == 0, BadPointEncoding());
    }
}
