// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {Scrape} from "../../../contracts/libraries/Scrape.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Test} from "forge-std/Test.sol";

/// @notice The dual-code test by itself: exactly the polynomials of degree < t pass.
contract ScrapeTest is Test {
    function scrape(bytes calldata points, uint256 threshold) external view returns (bool, bool) {
        return Scrape.test(points, threshold);
    }

    function testFuzz_Test_DegreeTMinusOnePassesAndDegreeTFails(uint256 seed, uint8 t, uint8 n) public view {
        n = uint8(bound(n, 2, 16));
        t = uint8(bound(t, 1, n - 1));
        (bool valid, bool onePolynomial) = this.scrape(ThresholdKeys.generate(seed, t, n).points, t);
        assertTrue(valid && onePolynomial, "degree t - 1");

        // One coefficient more: degree t, and not less, for its leading coefficient is no multiple of r.
        (valid, onePolynomial) = this.scrape(ThresholdKeys.generate(seed, t + 1, n).points, t);
        assertTrue(valid);
        assertFalse(onePolynomial, "degree t");
    }

    /// @dev A test polynomial of too low a degree would be blind to this: the error is spread over all points.
    function test_Test_EveryDegreeAboveIsSeen() public view {
        for (uint8 degree = 4; degree <= 10; ++degree) {
            uint256[] memory coefficients = new uint256[](degree + 1);
            (coefficients[0], coefficients[1], coefficients[2]) = (11, 12, 13);
            coefficients[degree] = 1;
            (bool valid, bool onePolynomial) =
                this.scrape(ThresholdKeys.fromPolynomial(coefficients, 4, 10).points, 4);
            assertTrue(valid);
            assertFalse(onePolynomial);
        }
    }

    function testFuzz_Test_OneMovedPointIsSeen(uint256 seed, uint256 by, uint8 position) public view {
        position = uint8(bound(position, 0, 7));
        by = bound(by, 1, BLS12381.R - 1);
        bytes memory points = ThresholdKeys.generate(seed, 5, 7).points;
        bytes memory point = new bytes(128);
        for (uint256 i; i < 128; ++i) {
            point[i] = points[uint256(position) * 128 + i];
        }
        point = ThresholdKeys.addG1(point, ThresholdKeys.publicKey(by));
        for (uint256 i; i < 128; ++i) {
            points[uint256(position) * 128 + i] = point[i];
        }
        (bool valid, bool onePolynomial) = this.scrape(points, 5);
        assertTrue(valid);
        assertFalse(onePolynomial);
    }

    function testFuzz_Test_ASecretShiftOfAllSharesByTheGroupIsSeen(uint256 seed, uint256 by) public view {
        // The group key of another polynomial, all share keys of one: what a relayer would like to register.
        by = bound(by, 1, BLS12381.R - 1);
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(seed, 3, 4);
        bytes memory points;
        for (uint256 i; i < 4; ++i) {
            points =
                bytes.concat(points, ThresholdKeys.addG1(keySet.shareKeys[i], ThresholdKeys.publicKey(by)));
        }
        (bool valid, bool onePolynomial) = this.scrape(bytes.concat(points, keySet.groupKey), 3);
        assertTrue(valid);
        assertFalse(onePolynomial);
    }

    /// @dev Whoever could choose points after q would solve the one equation for the last point. The forger does so for a q
    /// that would come from t alone, and for one that would come from the share keys alone.
    function testFuzz_Test_PointsChosenAfterQAreSeen(uint256 seed) public view {
        bytes[2] memory hashed = [bytes(""), bytes("")];
        bytes memory shareKeys;
        for (uint256 i; i < 4; ++i) {
            // Unrelated points: nobody knows a polynomial through them.
            uint256 secret = bound(uint256(keccak256(abi.encode(seed, i))), 1, BLS12381.R - 1);
            shareKeys = bytes.concat(shareKeys, ThresholdKeys.publicKey(secret));
        }
        hashed[1] = shareKeys;
        for (uint256 attempt; attempt < 2; ++attempt) {
            bytes32 challenge = keccak256(abi.encode("stkr/scrape", uint256(3), keccak256(hashed[attempt])));
            // n - t = 1: q(x) = q0 + q1 x. Sum of (-1)^i C(4, i) q(i) P_i for i = 1 to 4, then P_0 = -sum / q(0).
            uint256 secret;
            for (uint256 i = 1; i <= 4; ++i) {
                uint256 share = bound(uint256(keccak256(abi.encode(seed, i - 1))), 1, BLS12381.R - 1);
                uint256 binomial = i == 4 ? 1 : i == 2 ? 6 : 4;
                uint256 term = mulmod(mulmod(binomial, _q(challenge, i), BLS12381.R), share, BLS12381.R);
                secret = addmod(secret, i % 2 == 1 ? term : BLS12381.R - term, BLS12381.R);
            }
            secret = mulmod(secret, ThresholdKeys.invert(_q(challenge, 0)), BLS12381.R);
            (bool valid, bool onePolynomial) =
                this.scrape(bytes.concat(shareKeys, ThresholdKeys.publicKey(secret)), 3);
            assertTrue(valid);
            assertFalse(onePolynomial);
        }
    }

    function _q(bytes32 challenge, uint256 x) private pure returns (uint256) {
        uint256 q0 = uint256(keccak256(abi.encode(challenge, uint256(0)))) % BLS12381.R;
        uint256 q1 = uint256(keccak256(abi.encode(challenge, uint256(1)))) % BLS12381.R;
        return addmod(q0, mulmod(q1, x, BLS12381.R), BLS12381.R);
    }
}
