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
}
