// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title A contract account that takes no ether, until told otherwise
contract Stubborn {
    bool public accepts;

    function setAccepts(bool value) external {
        accepts = value;
    }

    /// @notice Calls `target` and passes its error on.
    function run(address target, uint256 value, bytes calldata data) external payable {
        (bool success, bytes memory answer) = target.call{value: value}(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }

    receive() external payable {
        require(accepts, "no ether please");
    }
}

/// @title A contract account that calls back whenever it gets ether
contract Reenterer {
    address private _target;
    bytes private _data;
    uint256 public attempts;
    uint256 public successes;
    bytes public answer;

    /// @notice What to call on every receipt of ether.
    function arm(address target, bytes calldata data) external {
        (_target, _data) = (target, data);
    }

    /// @notice Calls `target` and passes its error on.
    function run(address target, uint256 value, bytes calldata data) external payable {
        (bool success, bytes memory result) = target.call{value: value}(data);
        if (success) return;
        assembly ("memory-safe") {
            revert(add(result, 0x20), mload(result))
        }
    }

    receive() external payable {
        if (_target == address(0)) return;
        ++attempts;
        (bool success, bytes memory result) = _target.call(_data);
        if (success) ++successes;
        answer = result;
    }
}
