// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "./BLS12381.sol";

/// @title SCRAPE: do n share keys and the group key lie on one polynomial?
/// @notice The dual-code test of https://eprint.iacr.org/2017/216 (section 2.1) as one G1MSM.
/// @dev The values of all polynomials of degree < t at x = 0, 1, ... n are a Reed-Solomon code of length N = n + 1 and
/// dimension t. Its dual has dimension N - t = n + 1 - t: the words v(i) q(i) with deg q <= n - t and v(i) = 1 / prod(i - j)
/// over j != i, which is (-1)^i C(n, i) up to a constant that does not matter. A word in the code is orthogonal to all of the
/// dual; one outside is orthogonal to a random word of it with probability 1/r. A q of lower degree would let points of a
/// higher-degree polynomial pass; one of higher degree would refuse honest ones.
library Scrape {
    /// @notice Whether the precompile takes every point (curve, field, subgroup), and if so, whether they lie on one
    /// polynomial of degree < `threshold`.
    /// @dev Infinity passes both tests: the caller refuses it first. q comes from a hash of t and all the points, so nobody
    /// can choose the points after q; n is in the length of `points`.
    /// @param points n share keys (x = 1, ... n), then the group key (x = 0); 128 bytes each.
    function test(bytes calldata points, uint256 threshold)
        internal
        view
        returns (bool valid, bool onePolynomial)
    {
        bytes memory sum;
        (valid, sum) = BLS12381.multiplyG1(_pairs(points, threshold));
        onePolynomial = valid && BLS12381.isInfinity(sum);
    }

    /// @dev Input of G1MSM: point, then scalar (-1)^i C(n, i) q(i) mod r.
    function _pairs(bytes calldata points, uint256 threshold) private pure returns (bytes memory pairs) {
        uint256 n = points.length / 128 - 1;
        uint256[] memory q = _randomPolynomial(points, threshold, n - threshold);
        pairs = new bytes(160 * (n + 1));
        uint256 binomial = 1;
        for (uint256 i; i <= n; ++i) {
            uint256 scalar = mulmod(binomial, _evaluate(q, i), BLS12381.R);
            if (i % 2 == 1) scalar = (BLS12381.R - scalar) % BLS12381.R;
            // C(n, i + 1) = C(n, i) (n - i) / (i + 1) without rest
            binomial = binomial * (n - i) / (i + 1);

            // The group key, x = 0, is the last point.
            uint256 position = i == 0 ? n : i - 1;
            assembly ("memory-safe") {
                let pair := add(add(pairs, 0x20), mul(position, 0xa0))
                calldatacopy(pair, add(points.offset, mul(position, 0x80)), 0x80)
                mstore(add(pair, 0x80), scalar)
            }
        }
    }

    /// @dev `degree` + 1 coefficients. The bias of 256 bits mod r changes the bound 1/r by a small factor only.
    function _randomPolynomial(bytes calldata points, uint256 threshold, uint256 degree)
        private
        pure
        returns (uint256[] memory coefficients)
    {
        bytes32 challenge = keccak256(abi.encode("stkr/scrape", threshold, keccak256(points)));
        coefficients = new uint256[](degree + 1);
        for (uint256 k; k <= degree; ++k) {
            coefficients[k] = uint256(keccak256(abi.encode(challenge, k))) % BLS12381.R;
        }
    }

    /// @dev Horner's rule mod r.
    function _evaluate(uint256[] memory coefficients, uint256 x) private pure returns (uint256 value) {
        for (uint256 k = coefficients.length; k > 0; --k) {
            value = addmod(mulmod(value, x, BLS12381.R), coefficients[k - 1], BLS12381.R);
        }
    }
}
