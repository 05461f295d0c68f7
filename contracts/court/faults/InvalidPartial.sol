// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../../interfaces/ICourt.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";

/// @title Fault: a partial signature that is a point and does not verify
library InvalidPartial {
    /// @notice Returns if the pairing says no. Raised: `ICourt.ValidPartial`, `ICourt.Inconclusive`.
    /// @dev Only an answer of the precompile counts, 32 bytes that say 0: no gas limit makes it say so of a partial that
    /// is valid. Infinity is an answer too, and verifies under no share key, for none is infinity.
    function judge(bytes calldata shareKey, bytes32 signingRoot, bytes calldata partial_) internal view {
        (bool answered, bool valid) = BLS12381.tryVerify(shareKey, signingRoot, partial_);
        require(answered, ICourt.Inconclusive());
        require(!valid, ICourt.ValidPartial(signingRoot));
    }
}
