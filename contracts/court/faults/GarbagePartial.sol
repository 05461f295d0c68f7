// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../../interfaces/ICourt.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";

/// @title Fault: a partial signature that is no point of the subgroup
library GarbagePartial {
    /// @notice Returns if the partial has a wrong length, or the pairing refuses it and takes the canary after it.
    /// Raised: `ICourt.NotGarbage`, `ICourt.Inconclusive`.
    /// @dev A failed precompile call burns all that was forwarded, so the canary has less gas to draw on than the call before
    /// it: if the canary, of equal cap and length, succeeds, gas was not why the first one failed. Its points are good: the
    /// share key went through G1MSM at finalisation, and the hash comes from MAP_FP2_TO_G2.
    function judge(bytes calldata shareKey, bytes32 signingRoot, bytes calldata partial_) internal view {
        // An honest server hashes 256 bytes into its envelopes and nothing else.
        if (partial_.length != BLS12381.G2_LENGTH) return;
        bytes memory hashed = BLS12381.hashToG2(signingRoot);
        (bool answered,) = BLS12381.tryVerifyHashed(shareKey, hashed, partial_);
        require(!answered, ICourt.NotGarbage(keccak256(partial_)));
        (bool canary,) = BLS12381.tryVerifyHashed(shareKey, hashed, hashed);
        require(canary, ICourt.Inconclusive());
    }
}
