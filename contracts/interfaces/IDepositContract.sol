// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title The official beacon chain deposit contract
/// @notice The part Stkr uses; https://github.com/ethereum/consensus-specs/tree/master/solidity_deposit_contract
interface IDepositContract {
    /// @notice Emitted for each deposit; `amount` (gwei) and `index` are eight bytes, least first.
    event DepositEvent(
        bytes pubkey, bytes withdrawal_credentials, bytes amount, bytes signature, bytes index
    );

    /// @notice Deposits `msg.value`; reverts unless `deposit_data_root` is the root of the other arguments.
    function deposit(
        bytes calldata pubkey,
        bytes calldata withdrawal_credentials,
        bytes calldata signature,
        bytes32 deposit_data_root
    ) external payable;

    /// @notice Root of the deposit tree.
    function get_deposit_root() external view returns (bytes32);

    /// @notice Number of deposits: eight bytes, least first.
    function get_deposit_count() external view returns (bytes memory);
}
