// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Dealing, ICourt, Opening} from "../../interfaces/ICourt.sol";
import {BLS12381} from "../../libraries/BLS12381.sol";
import {OneTimeKeys} from "../OneTimeKeys.sol";

/// @title Fault: a dealing whose share for a member is not the value of the polynomial that it commits to
/// @notice The dealer signed to which one-time keys it encrypted, so the secret of one opens what it sent to that member, and
/// nothing that the member says counts: not which key it published, not what it received.
library BadDealing {
    uint256 private constant SHARE = 32;

    /// @notice Returns if the share is 0, not below r, or not f(recipient). Raised: `ICourt.WrongOneTimeKeys`,
    /// `ICourt.WrongOpening`, `ICourt.UnusableOneTimeKey`, `ICourt.GoodDealing`, `ICourt.Inconclusive`.
    /// @dev It asks nobody for t and n: an honest dealing is right whatever else the chain says. Only answers of the
    /// precompiles count. Commitments outside the subgroup may convict too: no honest dealer has one.
    function judge(
        Dealing calldata dealing,
        bytes calldata oneTimeKeys,
        Opening calldata opening,
        address registry
    ) internal view {
        uint256 share = _open(dealing, oneTimeKeys, opening, registry);
        if (share == 0 || share >= BLS12381.R) return;
        (bool evaluated, bytes memory value) = BLS12381.evaluateG1(dealing.commitments, opening.recipient);
        (bool multiplied, bytes memory given) =
            BLS12381.multiplyG1(bytes.concat(BLS12381.generatorG1(), bytes32(share)));
        require(evaluated && multiplied, ICourt.Inconclusive());
        require(keccak256(value) != keccak256(given), ICourt.GoodDealing(opening.recipient));
    }

    /// @dev The share for the recipient as whoever has its one-time secret decrypts it (docs/protocol.md).
    function _open(
        Dealing calldata dealing,
        bytes calldata oneTimeKeys,
        Opening calldata opening,
        address registry
    ) private view returns (uint256) {
        bytes32 given = keccak256(oneTimeKeys);
        require(given == dealing.oneTimeKeysHash, ICourt.WrongOneTimeKeys(given, dealing.oneTimeKeysHash));
        uint256 recipient = opening.recipient;
        require(
            recipient != 0 && recipient * OneTimeKeys.LENGTH <= oneTimeKeys.length
                && recipient * SHARE <= dealing.shares.length,
            ICourt.WrongOpening(opening.recipient)
        );
        bytes calldata key = oneTimeKeys[(recipient - 1) * OneTimeKeys.LENGTH:recipient * OneTimeKeys.LENGTH];
        require(
            OneTimeKeys.isSecretOf(opening.secret, key, opening.y), ICourt.WrongOpening(opening.recipient)
        );
        require(dealing.oneTimeKey.length == OneTimeKeys.LENGTH, ICourt.UnusableOneTimeKey());
        address shared = OneTimeKeys.multiple(dealing.oneTimeKey, opening.secret);
        require(shared != address(0), ICourt.UnusableOneTimeKey());
        bytes32 ciphertext = bytes32(dealing.shares[(recipient - 1) * SHARE:recipient * SHARE]);
        return uint256(ciphertext ^ _pad(dealing, shared, recipient, registry));
    }

    function _pad(Dealing calldata it, address shared, uint256 recipient, address registry)
        private
        view
        returns (bytes32)
    {
        return
            keccak256(abi.encode(shared, block.chainid, registry, it.keyId, it.attempt, it.index, recipient));
    }
}
