// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Logic without jumps. Halmos follows both ways of every jump, and `&&`, `||` and `?:` are jumps: with them the
/// assumptions of a check alone would make thousands of paths.
library Straight {
    function both(bool x, bool y) internal pure returns (bool z) {
        assembly ("memory-safe") {
            z := and(x, y)
        }
    }

    function either(bool x, bool y) internal pure returns (bool z) {
        assembly ("memory-safe") {
            z := or(x, y)
        }
    }

    /// @notice `x` if `condition`, else `y`.
    function choose(bool condition, uint256 x, uint256 y) internal pure returns (uint256 z) {
        assembly ("memory-safe") {
            z := or(and(x, sub(0, condition)), and(y, sub(condition, 1)))
        }
    }
}
