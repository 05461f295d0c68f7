// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IKeys {
    function request(uint8 kind, uint8 threshold, uint8 members) external returns (uint256 keyId);
}

/// @title A consumer of keys that asks for withdrawal keys and nothing else
contract KeyUser {
    function request(IKeys keys, uint8 threshold, uint8 members) external returns (uint256 keyId) {
        return keys.request(1, threshold, members);
    }

    function excludedOperator(uint256) external pure returns (address) {
        return address(0);
    }

    function dutyAssignment(uint256) external pure returns (address, uint64) {
        return (address(0), 0);
    }
}
