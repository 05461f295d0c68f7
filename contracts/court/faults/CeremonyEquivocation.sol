// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, ICourt} from "../../interfaces/ICourt.sol";
import {Evidence} from "../Evidence.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

/// @title Fault: two messages of one round of one ceremony
/// @notice An honest member stores what it says before it says it, and says it again or nothing else.
library CeremonyEquivocation {
    uint8 private constant DEALING_COMMITMENT = 2;
    uint8 private constant COMMITMENT_SET = 3;
    uint8 private constant DEALING = 4;
    uint8 private constant ACKNOWLEDGEMENT = 5;

    /// @notice EIP-712 digest of a message. Raised: `ICourt.MalformedMessage`.
    /// @dev A value that does not fit its field gives a digest that nobody signs.
    function digest(CeremonyMessage calldata message, bytes32 domainSeparator)
        internal
        pure
        returns (bytes32)
    {
        (bytes32 typehash, uint256 count) = _type(message.round);
        require(
            count != 0 && message.fields.length == count,
            ICourt.MalformedMessage(message.round, message.fields.length)
        );
        bytes memory head = abi.encode(typehash, message.keyId, message.attempt, message.index);
        // All members acknowledge the very same, so an acknowledgement has no index.
        if (message.round == ACKNOWLEDGEMENT) head = abi.encode(typehash, message.keyId, message.attempt);
        return
            MessageHashUtils.toTypedDataHash(
                domainSeparator, keccak256(abi.encodePacked(head, message.fields))
            );
    }

    /// @notice Returns if the two are of one ceremony and member and differ: two of one round, or a commitment and a dealing
    /// that is not the one it commits to. Raised: `ICourt.DifferentSubjects`, `ICourt.NoConflict`.
    /// @dev After a reorganisation that takes the seed's block back, the same attempt has another committee, and an honest server with
    /// another seat in it says all once more. Its index tells these apart where it is signed; an acknowledgement has none, but the
    /// committee.
    function judge(
        CeremonyMessage calldata first,
        bytes32 firstDigest,
        CeremonyMessage calldata second,
        bytes32 secondDigest
    ) internal pure {
        require(
            first.keyId == second.keyId && first.attempt == second.attempt && first.index == second.index,
            ICourt.DifferentSubjects()
        );
        bool sameRound = first.round == second.round;
        if (sameRound && first.round == ACKNOWLEDGEMENT) {
            require(first.fields[2] == second.fields[2], ICourt.DifferentSubjects());
        }
        if (sameRound && first.round == COMMITMENT_SET) {
            require(first.fields[0] == second.fields[0], ICourt.DifferentSubjects());
        }
        bool twice = sameRound && firstDigest != secondDigest;
        bool broken =
            first.round == DEALING_COMMITMENT && second.round == DEALING && first.fields[0] != secondDigest;
        require(twice || broken, ICourt.NoConflict(firstDigest, secondDigest));
    }

    /// @dev Type of a round, and how many words of its encoding `fields` has.
    function _type(uint8 round) private pure returns (bytes32 typehash, uint256 count) {
        if (round == 1) {
            return (keccak256("OneTimeKey(uint256 keyId,uint16 attempt,uint8 index,bytes publicKey)"), 1);
        }
        if (round == DEALING_COMMITMENT) {
            return
                (
                    keccak256(
                        "DealingCommitment(uint256 keyId,uint16 attempt,uint8 index,bytes32 dealingHash)"
                    ),
                    1
                );
        }
        if (round == COMMITMENT_SET) {
            return (
                keccak256(
                    "CommitmentSet(uint256 keyId,uint16 attempt,uint8 index,bytes32 committeeHash,bytes32 commitmentsHash)"
                ),
                2
            );
        }
        if (round == DEALING) {
            return (Evidence.DEALING_TYPEHASH, 5);
        }
        if (round == ACKNOWLEDGEMENT) {
            return (
                keccak256(
                    "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
                ),
                4
            );
        }
        return (0, 0);
    }
}
