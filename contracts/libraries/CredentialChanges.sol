// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {DepositRoots} from "./DepositRoots.sol";

/// @title Withdrawal credentials of a BLS key, and what changes them
/// @notice 0x00 credentials and the signing root of a BLSToExecutionChange, as in the Capella specs.
library CredentialChanges {
    /// DOMAIN_BLS_TO_EXECUTION_CHANGE of the consensus specs.
    bytes4 internal constant DOMAIN_BLS_TO_EXECUTION_CHANGE = 0x0a000000;

    /// @notice 0x00 credentials of a withdrawal key: SHA-256 of the key with zero for its first byte.
    /// @param pubkey 48 bytes, compressed.
    function blsCredentials(bytes memory pubkey) internal pure returns (bytes32) {
        return bytes32((uint256(sha256(pubkey)) << 8) >> 8);
    }

    /// @notice Domain of all changes on a network, in whatever fork they are included: changes are signed with the genesis fork
    /// version, for ever.
    function domain(bytes4 genesisForkVersion, bytes32 genesisValidatorsRoot)
        internal
        pure
        returns (bytes32)
    {
        bytes32 forkDataRoot = DepositRoots.two(genesisForkVersion, genesisValidatorsRoot);
        return DOMAIN_BLS_TO_EXECUTION_CHANGE | (forkDataRoot >> 32);
    }

    /// @notice What a withdrawal key signs to move the credentials of validator `validatorIndex` to `account`.
    /// @param pubkey The withdrawal key: 48 bytes, compressed.
    /// @dev
    ///              root
    ///            /      \
    ///          *          *
    ///        /   \      /   \
    ///    index  pubkey  account  0
    function signingRoot(bytes32 changeDomain, uint64 validatorIndex, bytes memory pubkey, address account)
        internal
        pure
        returns (bytes32)
    {
        bytes32 message = DepositRoots.four(
            DepositRoots.littleEndian(validatorIndex),
            DepositRoots.pubkeyRoot(pubkey),
            // Twenty bytes, then zeros: SSZ packs an address from the left.
            bytes20(account),
            0
        );
        return DepositRoots.two(message, changeDomain);
    }
}
