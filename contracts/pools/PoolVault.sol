// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {IPoolVault} from "../interfaces/IPoolVault.sol";

/// @title The vault of one micropool
/// @dev The implementation is deployed by the pools contract, which is thereby the only one its clones obey. The
/// implementation itself is a vault of nothing.
contract PoolVault is IPoolVault {
    /// The EIP-7002 contract. Input: public key (48 bytes), amount in gwei (8 bytes, big-endian); value: the fee.
    address private constant WITHDRAWAL_REQUESTS = 0x00000961Ef480Eb55e80D19ad83579A64c007002;

    /// @inheritdoc IPoolVault
    address public immutable override MICROPOOLS = msg.sender;

    modifier onlyMicropools() {
        require(msg.sender == MICROPOOLS, NotMicropools(msg.sender));
        _;
    }

    /// @inheritdoc IPoolVault
    function pay(address payable to, uint256 amount) external override onlyMicropools {
        emit Paid(to, amount);
        (bool delivered,) = to.call{value: amount}("");
        require(delivered, TransferFailed(to, amount));
    }

    /// @inheritdoc IPoolVault
    function requestWithdrawal(bytes calldata pubkey, uint64 amountGwei)
        external
        payable
        override
        onlyMicropools
    {
        require(pubkey.length == 48, BadPubkey(pubkey.length));
        emit WithdrawalRequested(pubkey, amountGwei);
        // A call to an account without code succeeds and would only lose the fee.
        bool accepted = WITHDRAWAL_REQUESTS.code.length != 0;
        if (accepted) {
            (accepted,) = WITHDRAWAL_REQUESTS.call{value: msg.value}(abi.encodePacked(pubkey, amountGwei));
        }
        require(accepted, WithdrawalRequestRefused(pubkey, amountGwei, msg.value));
    }

    /// @inheritdoc IPoolVault
    function poolId() external view override returns (uint256) {
        return abi.decode(Clones.fetchCloneArgs(address(this)), (uint256));
    }
}
