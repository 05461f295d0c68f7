// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Numbers of what is signed, as docs/protocol.md has them
library DutyKinds {
    uint8 internal constant DEPOSIT = 1;
    uint8 internal constant ATTESTATION = 2;
    uint8 internal constant BLOCK = 3;
    uint8 internal constant VOLUNTARY_EXIT = 7;
    /// No server signs one yet: the number is taken so that a signature over one can be punished from the first day.
    uint8 internal constant BLS_TO_EXECUTION_CHANGE = 12;

    /// @notice Whether a message of this kind may be signed only if the chain ordered it.
    function mustBeOrdered(uint8 kind) internal pure returns (bool) {
        return kind == DEPOSIT || kind == VOLUNTARY_EXIT || kind == BLS_TO_EXECUTION_CHANGE;
    }
}
