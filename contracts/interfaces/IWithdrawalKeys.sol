// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyConsumer} from "./IKeyRegistry.sol";

/// @notice A withdrawal key as this contract keeps it: one storage slot.
struct WithdrawalKey {
    /// Provider that asked for it, whose servers are in no committee of it and who alone opens a pool with it.
    address provider;
    /// Pool that uses it, for ever; 0: none yet.
    uint64 poolId;
    /// Whether KEY_BOND is still held here.
    bool bonded;
    /// Whether a change of the pool's credentials was shown.
    bool changeShown;
}

/// @title Withdrawal keys of pools with 0x00 credentials
/// @notice A provider asks for a withdrawal key ahead; once it is Live, one pool of that provider is opened with it. When the pool's
/// validator is there, those whose ether it is name its index; the change of its credentials to the pool's vault is thereby
/// ordered, the committee signs it, and anyone shows the signature here, where anybody can take it to the beacon chain.
/// @dev A withdrawal key signs nothing but such changes: from itself, to the vault of the one pool that uses it. Nobody can order
/// another message for it.
///
/// The contract does not know the index of the validator, and does not have to. The beacon chain takes a change only for a validator
/// whose credentials are those of the key that signed, and with this key it leads to the pool's vault, whichever validator it is.
/// So a wrong index is useless and does no harm, and any number of indices may be ordered and shown. What the 31 ETH wait
/// for is the proof that the committee signs.
interface IWithdrawalKeys is IKeyConsumer {
    /// @notice Emitted when `provider` asks for key `keyId` and leaves KEY_BOND.
    event WithdrawalKeyRequested(uint256 indexed keyId, address indexed provider);
    /// @notice Emitted when pool `poolId` is opened with the key. `pubkey` is compressed (48 bytes).
    event WithdrawalKeyUsed(uint256 indexed keyId, uint256 indexed poolId, bytes pubkey, bytes32 credentials);
    /// @notice Emitted when a BLSToExecutionChange is ordered: of validator `validatorIndex`, from `pubkey` (48 bytes) to `vault`.
    event ChangeOrdered(
        uint256 indexed poolId,
        uint256 indexed keyId,
        uint64 validatorIndex,
        bytes pubkey,
        address vault,
        bytes32 signingRoot
    );
    /// @notice Emitted when the committee's signature over an ordered change is shown; compressed (96 bytes), as the beacon chain takes it.
    event ChangeShown(uint256 indexed poolId, uint256 indexed keyId, uint64 validatorIndex, bytes signature);
    /// @notice Emitted when `provider` gets `amount` wei of KEY_BOND back.
    event KeyBondReturned(uint256 indexed keyId, address indexed provider, uint256 amount);

    /// @notice Raised when the caller is no registered provider.
    error NotProvider(address caller);
    /// @notice Raised when `sent` wei is not exactly KEY_BOND.
    error WrongKeyBond(uint256 sent, uint256 required);
    /// @notice Raised when anybody but the pools contract calls.
    error NotMicropools(address caller);
    /// @notice Raised when no Live withdrawal key has the group key.
    error NoSuchKey(uint256 keyId);
    /// @notice Raised when the key is not of `caller`.
    error NotKeysProvider(uint256 keyId, address caller);
    /// @notice Raised when pool `poolId` uses the key.
    error KeyInUse(uint256 keyId, uint256 poolId);
    /// @notice Raised when the pool has no withdrawal key, or another one.
    error WrongWithdrawalKey(uint256 poolId, uint256 keyId);
    /// @notice Raised when the pool has no validator yet, or none any more.
    error NoValidator(uint256 poolId);
    /// @notice Raised when `caller` is neither the pool's provider nor has a stake in it.
    error NoPartOfPool(uint256 poolId, address caller);
    /// @notice Raised when the change was never ordered.
    error NotOrdered(uint256 keyId, bytes32 signingRoot);
    /// @notice Raised when the signature does not verify under the withdrawal key.
    error InvalidChangeSignature(uint256 keyId, bytes32 signingRoot);
    /// @notice Raised when the key's bond is not held, or not free yet.
    error BondNotFree(uint256 keyId);
    /// @notice Raised when ether cannot be delivered to `to`.
    error TransferFailed(address to, uint256 amount);
    /// @notice Raised by what only a validator key has.
    error NoDuties(uint256 keyId);

    /// @notice A registered provider asks for a t-of-n withdrawal key, before any stake has to wait for it: its ceremony has members
    /// without network and may take days. `msg.value` must be exactly `KEY_BOND`.
    /// @dev Each member's bond is reserved for its seat, so keys that nobody uses must cost something to ask for. Emitted:
    /// `WithdrawalKeyRequested`. Raised: `NotProvider`, `WrongKeyBond`, and what `IKeyRegistry.request` raises.
    function request(uint8 threshold, uint8 members) external payable returns (uint256 keyId);

    /// @notice Gives up a key: its provider while no pool uses it; anyone once its pool is Cancelled.
    /// @dev Emitted: `IKeyRegistry.KeyRetired`. Raised: `NotKeysProvider`, `KeyInUse`, `IKeyRegistry.WrongKeyState`.
    function giveUp(uint256 keyId) external;

    /// @notice Pays KEY_BOND back to the provider (the caller): when a pool uses the key, whose insurance stands from then on, or
    /// when the key was given up and its members' seats can be freed.
    /// @dev Emitted: `KeyBondReturned`. Raised: `NotKeysProvider`, `BondNotFree`, `TransferFailed`.
    function withdrawKeyBond(uint256 keyId) external;

    /// @notice Pools contract only: pool `poolId` of `provider` is opened with the Live withdrawal key `groupKey` (128 bytes), which
    /// no other pool ever uses.
    /// @dev Emitted: `WithdrawalKeyUsed`. Raised: `NotMicropools`, `NoSuchKey`, `NotKeysProvider`, `KeyInUse`.
    function use(uint256 poolId, address provider, bytes calldata groupKey) external;

    /// @notice The provider of a Predeposited or Active pool, or whoever has a stake in it: orders the change of validator
    /// `validatorIndex` from the pool's withdrawal key to its vault.
    /// @dev Any index does no harm (see the head), but members without network walk to their machines for each: so not anybody
    /// orders one. Again for the same index: nothing new, and no error. Emitted: `ChangeOrdered`, `IKeyRegistry.MessageOrdered`.
    /// Raised: `NoValidator`, `NoPartOfPool`, `WrongWithdrawalKey`, `IKeyRegistry.WrongKeyState`.
    /// @param groupKey The withdrawal key: 128 bytes, EIP-2537.
    function orderChange(uint256 poolId, uint64 validatorIndex, bytes calldata groupKey) external;

    /// @notice Anyone: shows the committee's signature over an ordered change. From the first one on the pool's 31 ETH wait for it no
    /// longer.
    /// @dev Emitted: `ChangeShown`. Raised: `WrongWithdrawalKey`, `NotOrdered`, `InvalidChangeSignature`.
    /// @param groupKey The withdrawal key: 128 bytes, EIP-2537.
    /// @param signature 256 bytes, EIP-2537 G2.
    function showChange(
        uint256 poolId,
        uint64 validatorIndex,
        bytes calldata groupKey,
        bytes calldata signature
    ) external;

    /// @notice The key with this id; zeros where there is none here.
    function withdrawalKey(uint256 keyId) external view returns (WithdrawalKey memory);

    /// @notice Withdrawal key of the pool; 0 for none.
    function keyOfPool(uint256 poolId) external view returns (uint256);

    /// @notice 0x00 credentials of the pool; zero where it has no withdrawal key.
    function credentialsOf(uint256 poolId) external view returns (bytes32);

    /// @notice Whether a change of the pool's credentials was shown.
    function isChangeShown(uint256 poolId) external view returns (bool);

    /// @notice Signing root of BLSToExecutionChange(validatorIndex, pubkey, account) on this network.
    /// @param pubkey Compressed, 48 bytes.
    function changeSigningRoot(uint64 validatorIndex, bytes calldata pubkey, address account)
        external
        view
        returns (bytes32);

    /// @notice 2 ether: as much as the insurance that follows it.
    function KEY_BOND() external view returns (uint256);

    /// @notice Genesis validators root of the beacon chain.
    function GENESIS_VALIDATORS_ROOT() external view returns (bytes32);

    /// @notice The pools contract that uses the keys.
    function MICROPOOLS() external view returns (address);

    /// @notice The registry that makes the keys.
    function KEY_REGISTRY() external view returns (address);
}
