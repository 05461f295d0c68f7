// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../../interfaces/ICourt.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";

/// @title Fault: a partial signature that is no point of the subgroup
library GarbagePartial {
    /// @notice Returns if the partial has a wrong length, or G2MSM refuses it and takes the canary after it. Raised:
    /// `ICourt.NotGarbage`, `ICourt.Inconclusive`.
    /// @dev G2MSM checks field, curve and subgroup, for a fifth of what a pairing costs, and needs no hash. A failed precompile call
    /// burns all that was forwarded, so the canary, the generator, has less gas to draw on than the call before it: if it succeeds,
    /// of equal cap and length, gas was not why the first one failed.
    function judge(bytes calldata partial_) internal view {
        // An honest server hashes 256 bytes into its envelopes and nothing else.
        if (partial_.length != BLS12381.G2_LENGTH) return;
        require(!BLS12381.tryPointG2(partial_), ICourt.NotGarbage(keccak256(partial_)));
        require(BLS12381.tryPointG2(BLS12381.generatorG2()), ICourt.Inconclusive());
    }
}
