// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Numbers of what is signed, as docs/protocol.md has them
library DutyKinds {
    uint8 internal constant DEPOSIT = 1;
    uint8 internal constant ATTESTATION = 2;
    uint8 internal constant BLOCK = 3;
    uint8 internal constant VOLUNTARY_EXIT = 7;
    /// Of withdrawal keys, which sign nothing else.
    uint8 internal constant BLS_TO_EXECUTION_CHANGE = 12;

    /// @notice Whether a message of this kind may be signed only if the chain ordered it.
    function mustBeOrdered(uint8 kind) internal pure returns (bool) {
        return kind == DEPOSIT || kind == VOLUNTARY_EXIT || kind == BLS_TO_EXECUTION_CHANGE;
    }
}
