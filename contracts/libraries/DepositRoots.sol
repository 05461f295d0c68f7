// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title SSZ roots of deposits
/// @notice hash_tree_root of DepositMessage and DepositData and the signing root of a deposit, as in the consensus specs.
library DepositRoots {
    /// @notice Raised when a public key or signature has `length` bytes and not `expected`.
    error BadDepositLength(uint256 length, uint256 expected);

    /// DOMAIN_DEPOSIT of the consensus specs.
    bytes4 internal constant DOMAIN_DEPOSIT = 0x03000000;

    /// @notice Root of DepositMessage(pubkey, withdrawal_credentials, amount).
    /// @param pubkey 48 bytes, compressed.
    /// @dev
    ///              root
    ///            /      \
    ///          *          *
    ///        /   \      /   \
    ///   pubkey   wc  amount  0
    function depositMessageRoot(bytes memory pubkey, bytes32 withdrawalCredentials, uint64 amountGwei)
        internal
        pure
        returns (bytes32)
    {
        return four(pubkeyRoot(pubkey), withdrawalCredentials, littleEndian(amountGwei), 0);
    }

    /// @notice What a validator key signs to deposit: the message root under DOMAIN_DEPOSIT with the genesis fork version
    /// and a zero genesis validators root (deposits are valid across forks).
    function depositSigningRoot(
        bytes4 genesisForkVersion,
        bytes memory pubkey,
        bytes32 withdrawalCredentials,
        uint64 amountGwei
    ) internal pure returns (bytes32) {
        bytes32 forkDataRoot = two(genesisForkVersion, 0);
        bytes32 domain = DOMAIN_DEPOSIT | (forkDataRoot >> 32);
        return two(depositMessageRoot(pubkey, withdrawalCredentials, amountGwei), domain);
    }

    /// @notice Root of DepositData(pubkey, withdrawal_credentials, amount, signature): what the deposit contract compares.
    /// @param signature 96 bytes, compressed.
    function depositDataRoot(
        bytes memory pubkey,
        bytes32 withdrawalCredentials,
        uint64 amountGwei,
        bytes memory signature
    ) internal pure returns (bytes32) {
        return four(
            pubkeyRoot(pubkey), withdrawalCredentials, littleEndian(amountGwei), _signatureRoot(signature)
        );
    }

    /// @notice 0x01 credentials that pay to `account`.
    function executionCredentials(address account) internal pure returns (bytes32) {
        return bytes32(uint256(1) << 248 | uint160(account));
    }

    /// @notice Root of a compressed public key.
    function pubkeyRoot(bytes memory pubkey) internal pure returns (bytes32) {
        require(pubkey.length == 48, BadDepositLength(pubkey.length, 48));
        return sha256(abi.encodePacked(pubkey, bytes16(0)));
    }

    function _signatureRoot(bytes memory signature) private pure returns (bytes32) {
        require(signature.length == 96, BadDepositLength(signature.length, 96));
        bytes32 first;
        bytes32 second;
        bytes32 third;
        assembly ("memory-safe") {
            first := mload(add(signature, 0x20))
            second := mload(add(signature, 0x40))
            third := mload(add(signature, 0x60))
        }
        return two(two(first, second), two(third, 0));
    }

    /// @notice Root over four leaves.
    function four(bytes32 a, bytes32 b, bytes32 c, bytes32 d) internal pure returns (bytes32) {
        return two(two(a, b), two(c, d));
    }

    /// @notice Node over two.
    function two(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return sha256(abi.encodePacked(left, right));
    }

    /// @notice A uint64 as SSZ packs it: eight bytes, least first, then zeros.
    function littleEndian(uint64 value) internal pure returns (bytes32) {
        uint256 swapped = value;
        swapped = (swapped & 0x00ff00ff00ff00ff) << 8 | (swapped >> 8) & 0x00ff00ff00ff00ff;
        swapped = (swapped & 0x0000ffff0000ffff) << 16 | (swapped >> 16) & 0x0000ffff0000ffff;
        swapped = (swapped & 0x00000000ffffffff) << 32 | swapped >> 32;
        return bytes32(swapped << 192);
    }
}
