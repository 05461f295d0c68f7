// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title One-time keys of a ceremony: points of secp256k1, multiplied by the ecrecover precompile
/// @notice ecrecover(0, v, r, s) is the address of (s / r) R, where R is the point with x = r and the parity that v says. With
/// s = k r it is the address of k R: the one function of a multiple that the chain computes for 3,000 gas.
/// @dev Too little gas for ecrecover reverts, so zero is an answer: there is no such point, or its x is not below the order.
library OneTimeKeys {
    /// Bytes of a key: compressed.
    uint256 internal constant LENGTH = 33;

    /// Order of secp256k1, and x of its generator, whose y is even.
    uint256 private constant ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
    uint256 private constant GENERATOR_X = 0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798;

    /// @notice Address of secret * key; zero where there is none: no usable key, or a secret that is a multiple of the order.
    /// The first byte of `key` counts by its parity alone.
    function multiple(bytes calldata key, uint256 secret) internal pure returns (address) {
        return _multiple(uint8(key[0]), uint256(bytes32(key[1:LENGTH])), secret);
    }

    /// @notice Whether `secret`, and not its negation or another, is that of `key`, whose y coordinate is `y`.
    /// @dev Of the negated secret the Diffie-Hellman point is the negated one, with another address: whoever got it past this
    /// check would decrypt noise and frame the dealer. So the parity counts.
    function isSecretOf(uint256 secret, bytes calldata key, uint256 y) internal pure returns (bool) {
        address given = address(uint160(uint256(keccak256(abi.encode(bytes32(key[1:LENGTH]), y)))));
        return given == _multiple(0, GENERATOR_X, secret) && (uint8(key[0]) ^ y) & 1 == 0;
    }

    /// @notice Whether a share can be encrypted to `key` and a complaint be proven with it.
    function isUsable(bytes calldata key) internal pure returns (bool) {
        if (key.length != LENGTH || (key[0] != 0x02 && key[0] != 0x03)) return false;
        return multiple(key, 1) != address(0);
    }

    function _multiple(uint8 parity, uint256 x, uint256 secret) private pure returns (address) {
        return ecrecover(0, 27 + (parity & 1), bytes32(x), bytes32(mulmod(secret, x, ORDER)));
    }
}
