// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Challenge, Envelope, ICourt} from "../../interfaces/ICourt.sol";
import {IKeyRegistry, Key, KeyState} from "../../interfaces/IKeyRegistry.sol";
import {IResharing} from "../../interfaces/IResharing.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";
import {DutyKinds} from "../DutyKinds.sol";

/// @title Fault: silence, when asked on-chain for a signature that the chain ordered
/// @notice Silence towards a relayer proves nothing: the relayer may lie. So the question and the answer are both transactions.
library UnansweredChallenge {
    /// @notice Name of a challenge. An index of the committee that serves is one server, so one is open per server and message.
    function idOf(uint256 keyId, uint8 index, bytes32 signingRoot) internal pure returns (bytes32) {
        return keccak256(abi.encode(keyId, index, signingRoot));
    }

    /// @notice That the key's committee has to sign this. Raised: `ICourt.NotOwed`.
    /// @dev An order alone would do for honest servers only while the key is Live: they sign nothing for one that was given up.
    function requireOwed(IKeyRegistry keys, uint256 keyId, bytes32 signingRoot) internal view {
        require(
            _isLive(keys, keyId) && keys.isOrdered(keyId, signingRoot), ICourt.NotOwed(keyId, signingRoot)
        );
    }

    /// @notice Whether the member that was asked has to answer, or had to: it signs nothing any more once the key is given up or
    /// another committee serves. Either excuses it only if it came before the challenge was due, whenever that is judged: else
    /// members would keep silent whose turn ends soon.
    function isOwed(IKeyRegistry keys, IResharing resharing, uint256 keyId, Challenge memory it)
        internal
        view
        returns (bool)
    {
        Key memory key = keys.key(keyId);
        if (key.state != KeyState.Live && key.mark - keys.EVIDENCE_WINDOW() <= it.due) return false;
        uint48 handover = resharing.committee(keyId, it.committeeEpoch + 1).handover;
        // Slither takes zero, which stands for no later committee, for an amount.
        // slither-disable-next-line incorrect-equality
        return handover == 0 || handover > it.due || handover > block.timestamp;
    }

    function _isLive(IKeyRegistry keys, uint256 keyId) private view returns (bool) {
        return keys.key(keyId).state == KeyState.Live;
    }

    /// @notice Returns if nobody answered in time. Raised: `ICourt.NoChallenge`, `ICourt.StillTime`.
    function judge(Challenge memory it, bytes32 id) internal view {
        require(it.challenger != address(0), ICourt.NoChallenge(id));
        require(block.number > it.deadline, ICourt.StillTime(id, it.deadline));
    }

    /// @notice That this is an answer: a partial with the envelope of the one who was asked. Raised: `ICourt.NoChallenge`,
    /// `ICourt.TooLate`, `ICourt.NoAnswer`, `ICourt.WrongPartial`.
    /// @dev Whether the partial is right is not looked at: an envelope over a wrong one is evidence for everybody, and costs as much
    /// as silence.
    function requireAnswer(
        Challenge memory it,
        bytes32 id,
        Envelope calldata envelope,
        address signer,
        bytes calldata partial_
    ) internal view {
        require(it.challenger != address(0), ICourt.NoChallenge(id));
        require(block.number <= it.deadline, ICourt.TooLate(id, it.deadline));
        require(
            signer == it.signer && envelope.committeeEpoch == it.committeeEpoch
                && DutyKinds.mustBeOrdered(envelope.dutyKind) && partial_.length == BLS12381.G2_LENGTH,
            ICourt.NoAnswer(id)
        );
        bytes32 given = keccak256(partial_);
        require(given == envelope.partialHash, ICourt.WrongPartial(given, envelope.partialHash));
    }
}
