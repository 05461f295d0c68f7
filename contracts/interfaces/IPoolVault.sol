// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title The vault of one micropool: withdrawal address and EIP-7002 entry
/// @notice One clone per pool at an address known before the deposit. Holds principal only; obeys its Micropools.
/// @dev Clone with immutable arguments `abi.encode(poolId)`: no initialiser that anybody could call first.
/// It takes no ether by a plain call: withdrawals of the beacon chain are credited without one, everything else would mix
/// with principal.
interface IPoolVault {
    /// @notice Emitted when the beacon chain is asked to withdraw `amountGwei` (0: to exit).
    event WithdrawalRequested(bytes pubkey, uint64 amountGwei);
    /// @notice Emitted when `amount` wei leave the vault.
    event Paid(address indexed to, uint256 amount);

    /// @notice Raised when `caller` is not the pools contract.
    error NotMicropools(address caller);
    /// @notice Raised when the EIP-7002 contract refuses the request with `fee` wei, or does not exist.
    error WithdrawalRequestRefused(bytes pubkey, uint64 amountGwei, uint256 fee);
    /// @notice Raised when ether cannot be delivered to `to`.
    error TransferFailed(address to, uint256 amount);
    /// @notice Raised when a public key is not 48 bytes.
    error BadPubkey(uint256 length);

    /// @notice Pools contract only: pays `amount` wei to `to`.
    /// @dev Emitted: `Paid`. Raised: `NotMicropools`, `TransferFailed`.
    function pay(address payable to, uint256 amount) external;

    /// @notice Pools contract only: asks the beacon chain to withdraw `amountGwei` (0: to exit) by EIP-7002.
    /// `msg.value` is the fee.
    /// @dev The EIP-7002 contract keeps what exceeds its fee. It queues the request; the beacon chain may still ignore it
    /// silently, so it can be repeated. Emitted: `WithdrawalRequested`. Raised: `NotMicropools`, `BadPubkey`,
    /// `WithdrawalRequestRefused`.
    function requestWithdrawal(bytes calldata pubkey, uint64 amountGwei) external payable;

    /// @notice The pools contract this vault obeys.
    function MICROPOOLS() external view returns (address);

    /// @notice The pool this vault belongs to.
    function poolId() external view returns (uint256);
}
