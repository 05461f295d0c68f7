// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../../interfaces/ICourt.sol";
import {IKeyRegistry, KeyKind} from "../../interfaces/IKeyRegistry.sol";
import {DutyKinds} from "../DutyKinds.sol";

/// @title Fault: a signature over a message that the chain never ordered
library UnauthorisedSignature {
    /// @notice Returns if a message of this kind needs an order and has none. Raised: `ICourt.Authorised`.
    /// @dev Kinds that this contract does not know are no fault: a later protocol may have more duties. A withdrawal key has none
    /// at all, so whatever kind a member of it names for what was never ordered, it is a fault: no other name hides a change.
    function judge(IKeyRegistry keys, uint256 keyId, uint8 dutyKind, bytes32 signingRoot) internal view {
        require(
            (DutyKinds.mustBeOrdered(dutyKind) || keys.key(keyId).kind == KeyKind.Withdrawal)
                && !keys.isOrdered(keyId, signingRoot),
            ICourt.Authorised(keyId, dutyKind, signingRoot)
        );
    }
}
