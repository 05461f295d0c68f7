// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Dealing, DealingDefect, ICourt} from "../../interfaces/ICourt.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";
import {OneTimeKeys} from "../OneTimeKeys.sol";

/// @title Fault: a dealing that anybody can see is none
/// @notice What `Dealing::check` of the servers refuses, each ground by itself. An honest server makes none of them.
library MalformedDealing {
    uint256 private constant SHARE = 32;

    /// @notice Of which ceremony the dealing has to be.
    struct Ceremony {
        uint256 threshold;
        uint256 members;
        address registry;
    }

    /// @notice Returns if the dealing has the defect. Raised: `ICourt.NotMalformed`, `ICourt.WrongOneTimeKeys`,
    /// `ICourt.WrongPossession`, `ICourt.Inconclusive`.
    function judge(
        Dealing calldata dealing,
        bytes calldata hashed,
        DealingDefect defect,
        uint256 position,
        Ceremony memory ceremony
    ) internal view {
        bool guilty;
        if (defect == DealingDefect.Shape) guilty = _isMisshapen(dealing, ceremony);
        else if (defect == DealingDefect.OneTimeKey) guilty = _hasOtherKey(dealing, hashed, ceremony);
        else if (defect == DealingDefect.Commitment) guilty = _isNoPoint(dealing.commitments, position);
        else guilty = _isNotPossessed(dealing, hashed, ceremony.registry);
        require(guilty, ICourt.NotMalformed(defect));
    }

    function _isMisshapen(Dealing calldata dealing, Ceremony memory ceremony) private pure returns (bool) {
        return dealing.index == 0 || dealing.index > ceremony.members
            || dealing.commitments.length != ceremony.threshold * BLS12381.G1_LENGTH
            || dealing.shares.length != ceremony.members * SHARE
            || dealing.oneTimeKey.length != OneTimeKeys.LENGTH;
    }

    /// @dev A key that nobody can use, or another than the dealer's own among those that it encrypted to.
    function _hasOtherKey(Dealing calldata dealing, bytes calldata oneTimeKeys, Ceremony memory ceremony)
        private
        pure
        returns (bool)
    {
        if (!OneTimeKeys.isUsable(dealing.oneTimeKey)) return true;
        bytes32 given = keccak256(oneTimeKeys);
        require(given == dealing.oneTimeKeysHash, ICourt.WrongOneTimeKeys(given, dealing.oneTimeKeysHash));
        uint256 end = dealing.index * OneTimeKeys.LENGTH;
        if (
            oneTimeKeys.length != ceremony.members * OneTimeKeys.LENGTH || end == 0
                || end > oneTimeKeys.length
        ) {
            return true;
        }
        return keccak256(oneTimeKeys[end - OneTimeKeys.LENGTH:end]) != keccak256(dealing.oneTimeKey);
    }

    /// @dev Infinity, or what the precompile refuses and takes the **canary** right after: the generator, with less gas to draw on.
    function _isNoPoint(bytes calldata commitments, uint256 position) private view returns (bool) {
        uint256 start = position * BLS12381.G1_LENGTH;
        require(
            start + BLS12381.G1_LENGTH <= commitments.length, ICourt.NotMalformed(DealingDefect.Commitment)
        );
        bytes memory point = commitments[start:start + BLS12381.G1_LENGTH];
        if (BLS12381.isInfinity(point)) return true;
        if (BLS12381.tryPointG1(point)) return false;
        require(BLS12381.tryPointG1(BLS12381.generatorG1()), ICourt.Inconclusive());
        return true;
    }

    /// @dev The pairing says no, or refuses the constant term or the proof and takes the canary after it. Either point is the
    /// dealer's.
    function _isNotPossessed(Dealing calldata dealing, bytes calldata proof, address registry)
        private
        view
        returns (bool)
    {
        bytes32 given = keccak256(proof);
        require(given == dealing.possessionHash, ICourt.WrongPossession(given, dealing.possessionHash));
        if (proof.length != BLS12381.G2_LENGTH || dealing.commitments.length < BLS12381.G1_LENGTH) {
            return true;
        }
        bytes memory constantTerm = dealing.commitments[:BLS12381.G1_LENGTH];
        bytes32 message = keccak256(
            abi.encode(
                "stkr/dkg/pop",
                block.chainid,
                registry,
                dealing.keyId,
                dealing.attempt,
                dealing.index,
                keccak256(constantTerm)
            )
        );
        bytes memory hashed = BLS12381.hashPossessionToG2(message);
        (bool answered, bool valid) = BLS12381.tryVerifyHashed(constantTerm, hashed, proof);
        if (answered) return !valid;
        // What is valid is known: only whether the precompile answers counts.
        // slither-disable-next-line unused-return
        (bool canary,) = BLS12381.tryVerifyHashed(BLS12381.generatorG1(), hashed, hashed);
        require(canary, ICourt.Inconclusive());
        return true;
    }
}
