// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";

/// @title Real threshold keys for tests
/// @notice Shamir polynomials over the scalar field, share keys by one-point G1MSM, signatures by one-point G2MSM: true
/// key material, no recorded points.
library ThresholdKeys {
    /// The generator of G1, EIP-2537.
    bytes internal constant G1 = hex"0000000000000000000000000000000017f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
        hex"0000000000000000000000000000000008b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1";

    uint256 internal constant R = BLS12381.R;

    struct KeySet {
        uint8 threshold;
        uint8 members;
        /// The polynomial, constant term (the group secret) first.
        uint256[] coefficients;
        /// Share i at position i - 1.
        uint256[] shares;
        /// Public key of share i at position i - 1; 128 bytes each.
        bytes[] shareKeys;
        bytes groupKey;
        /// n share keys, then the group key, as `KeyRegistry.finalise` takes them.
        bytes points;
    }

    /// @notice A t-of-n key from a seed; deterministic.
    function generate(uint256 seed, uint8 threshold, uint8 members) internal view returns (KeySet memory) {
        uint256[] memory coefficients = new uint256[](threshold);
        for (uint256 i; i < threshold; ++i) {
            coefficients[i] = uint256(keccak256(abi.encode("stkr/test/coefficient", seed, i))) % R;
        }
        return fromPolynomial(coefficients, threshold, members);
    }

    /// @notice Shares of any polynomial, also of one whose degree does not fit `threshold`.
    function fromPolynomial(uint256[] memory coefficients, uint8 threshold, uint8 members)
        internal
        view
        returns (KeySet memory keys)
    {
        keys.threshold = threshold;
        keys.members = members;
        keys.coefficients = coefficients;
        keys.shares = new uint256[](members);
        keys.shareKeys = new bytes[](members);
        for (uint256 i; i < members; ++i) {
            keys.shares[i] = evaluate(coefficients, i + 1);
            keys.shareKeys[i] = publicKey(keys.shares[i]);
            keys.points = bytes.concat(keys.points, keys.shareKeys[i]);
        }
        keys.groupKey = publicKey(coefficients[0]);
        keys.points = bytes.concat(keys.points, keys.groupKey);
    }

    /// @notice The polynomial at `x` by Horner's rule.
    function evaluate(uint256[] memory coefficients, uint256 x) internal pure returns (uint256 value) {
        for (uint256 i = coefficients.length; i > 0; --i) {
            value = addmod(mulmod(value, x, R), coefficients[i - 1], R);
        }
    }

    /// @notice secret * G1.
    function publicKey(uint256 secret) internal view returns (bytes memory) {
        return multiplyG1(G1, secret);
    }

    /// @notice scalar * point in G1.
    function multiplyG1(bytes memory point, uint256 scalar) internal view returns (bytes memory result) {
        bool success;
        (success, result) = address(0x0c).staticcall(bytes.concat(point, bytes32(scalar)));
        require(success && result.length == 128, "G1MSM");
    }

    /// @notice a + b in G1.
    function addG1(bytes memory a, bytes memory b) internal view returns (bytes memory result) {
        bool success;
        (success, result) = address(0x0b).staticcall(bytes.concat(a, b));
        require(success && result.length == 128, "G1ADD");
    }

    /// @notice BLS signature by `secret` over a signing root: 256 bytes. With the group secret
    /// (`coefficients[0]`) it is what t partial signatures combine to.
    function sign(uint256 secret, bytes32 message) internal view returns (bytes memory result) {
        bool success;
        (success, result) =
            address(0x0e).staticcall(bytes.concat(BLS12381.hashToG2(message), bytes32(secret)));
        require(success && result.length == 256, "G2MSM");
    }

    /// @notice Combines partial signatures of `indices` (from 1) by Lagrange interpolation at 0.
    function combine(uint256[] memory indices, bytes[] memory partials)
        internal
        view
        returns (bytes memory result)
    {
        bytes memory pairs;
        for (uint256 i; i < indices.length; ++i) {
            pairs = bytes.concat(pairs, partials[i], bytes32(lagrangeAtZero(indices, i)));
        }
        bool success;
        (success, result) = address(0x0e).staticcall(pairs);
        require(success && result.length == 256, "G2MSM");
    }

    /// @notice The coefficient of `indices[position]` when interpolating at 0.
    function lagrangeAtZero(uint256[] memory indices, uint256 position) internal view returns (uint256) {
        uint256 numerator = 1;
        uint256 denominator = 1;
        for (uint256 j; j < indices.length; ++j) {
            if (j == position) continue;
            numerator = mulmod(numerator, indices[j], R);
            denominator = mulmod(denominator, addmod(indices[j], R - indices[position], R), R);
        }
        return mulmod(numerator, invert(denominator), R);
    }

    /// @notice value^-1 mod r by Fermat.
    function invert(uint256 value) internal view returns (uint256) {
        (bool success, bytes memory result) =
            address(0x05).staticcall(abi.encode(32, 32, 32, value, R - 2, R));
        require(success, "MODEXP");
        return abi.decode(result, (uint256));
    }
}
