// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ICourt} from "../../interfaces/ICourt.sol";
import {DutyKinds} from "../DutyKinds.sol";

/// @title Fault: two duties that together are slashable
library ConflictingDuties {
    /// @notice What a conflict is judged by, of an envelope or of a request.
    struct Duty {
        uint8 kind;
        uint64 slot;
        uint64 sourceEpoch;
        uint64 targetEpoch;
        bytes32 signingRoot;
    }

    /// @notice Returns if the two are a double vote, a surround vote (whichever surrounds) or a double proposal. Raised:
    /// `ICourt.NoConflict`.
    /// @dev As `is_slashable_attestation_data` and `process_proposer_slashing` of the consensus specs, with signing roots for
    /// data, as EIP-3076 has it. The caller has checked that both are of one key.
    function judge(Duty memory first, Duty memory second) internal pure {
        require(
            first.kind == second.kind && first.signingRoot != second.signingRoot
                && (_isDoubleProposal(first, second) || _isSlashableVote(first, second)),
            ICourt.NoConflict(first.signingRoot, second.signingRoot)
        );
    }

    function _isDoubleProposal(Duty memory first, Duty memory second) private pure returns (bool) {
        return first.kind == DutyKinds.BLOCK && first.slot == second.slot;
    }

    function _isSlashableVote(Duty memory first, Duty memory second) private pure returns (bool) {
        if (first.kind != DutyKinds.ATTESTATION) return false;
        return
            first.targetEpoch == second.targetEpoch || _surrounds(first, second) || _surrounds(second, first);
    }

    function _surrounds(Duty memory outer, Duty memory inner) private pure returns (bool) {
        return outer.sourceEpoch < inner.sourceEpoch && inner.targetEpoch < outer.targetEpoch;
    }
}
