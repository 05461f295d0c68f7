// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC6909} from "@openzeppelin/contracts/interfaces/IERC6909.sol";

import {IKeyConsumer, IKeyRegistry, Key, KeyKind, KeyState} from "../interfaces/IKeyRegistry.sol";
import {IMicropools, Pool, PoolState} from "../interfaces/IMicropools.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IWithdrawalKeys, WithdrawalKey} from "../interfaces/IWithdrawalKeys.sol";
import {BLS12381} from "../libraries/BLS12381.sol";
import {CredentialChanges} from "../libraries/CredentialChanges.sol";

/// @title Withdrawal keys of pools with 0x00 credentials
/// @notice Everything a caller needs to know is in `IWithdrawalKeys`.
/// @dev Nobody governs this contract. It holds one KEY_BOND for each key that says `bonded`, nothing else. Deployed by the pools contract, which is
/// thereby the only one it obeys; the registries are fixed and never call back; ether goes to the caller only, last.
contract WithdrawalKeys is IWithdrawalKeys {
    /// @inheritdoc IWithdrawalKeys
    uint256 public constant override KEY_BOND = 2 ether;

    /// @inheritdoc IWithdrawalKeys
    address public immutable override MICROPOOLS = msg.sender;
    /// @inheritdoc IWithdrawalKeys
    bytes32 public immutable override GENESIS_VALIDATORS_ROOT;
    IKeyRegistry private immutable KEYS;
    IProviderRegistry private immutable PROVIDERS;
    bytes32 private immutable CHANGE_DOMAIN;

    mapping(uint256 keyId => WithdrawalKey) private _keys;
    /// @inheritdoc IWithdrawalKeys
    mapping(uint256 poolId => uint256 keyId) public override keyOfPool;
    /// @inheritdoc IWithdrawalKeys
    mapping(uint256 poolId => bytes32) public override credentialsOf;

    /// @dev The pools contract has seen that both registries are contracts.
    constructor(
        address keyRegistry,
        address providerRegistry,
        bytes4 genesisForkVersion,
        bytes32 genesisValidatorsRoot
    ) {
        KEYS = IKeyRegistry(keyRegistry);
        PROVIDERS = IProviderRegistry(providerRegistry);
        GENESIS_VALIDATORS_ROOT = genesisValidatorsRoot;
        CHANGE_DOMAIN = CredentialChanges.domain(genesisForkVersion, genesisValidatorsRoot);
    }

    // ---------------------------------------------------------------------------------------------- providers

    /// @inheritdoc IWithdrawalKeys
    function request(uint8 threshold, uint8 members) external payable override returns (uint256 keyId) {
        require(PROVIDERS.isProvider(msg.sender), NotProvider(msg.sender));
        require(msg.value == KEY_BOND, WrongKeyBond(msg.value, KEY_BOND));
        // The registry, which is fixed, calls nobody but its server registry here.
        // slither-disable-next-line reentrancy-no-eth,reentrancy-benign
        keyId = KEYS.request(KeyKind.Withdrawal, threshold, members);
        _keys[keyId] = WithdrawalKey({provider: msg.sender, poolId: 0, bonded: true, changeShown: false});
        emit WithdrawalKeyRequested(keyId, msg.sender);
    }

    /// @inheritdoc IWithdrawalKeys
    function giveUp(uint256 keyId) external override {
        WithdrawalKey storage it = _keys[keyId];
        uint64 poolId = it.poolId;
        if (poolId == 0) {
            require(it.provider == msg.sender, NotKeysProvider(keyId, msg.sender));
        } else {
            // A cancelled pool never has a validator that holds its stakers' ether.
            require(_pool(poolId).state == PoolState.Cancelled, KeyInUse(keyId, poolId));
        }
        KEYS.retire(keyId, false);
    }

    /// @inheritdoc IWithdrawalKeys
    function withdrawKeyBond(uint256 keyId) external override {
        WithdrawalKey storage it = _keys[keyId];
        require(it.provider == msg.sender, NotKeysProvider(keyId, msg.sender));
        require(it.bonded && (it.poolId != 0 || _areSeatsFree(keyId)), BondNotFree(keyId));
        it.bonded = false;
        emit KeyBondReturned(keyId, msg.sender, KEY_BOND);
        (bool delivered,) = msg.sender.call{value: KEY_BOND}("");
        require(delivered, TransferFailed(msg.sender, KEY_BOND));
    }

    /// @dev Whether the key was given up, and so long ago that its seats can be freed.
    function _areSeatsFree(uint256 keyId) private view returns (bool) {
        Key memory key = KEYS.key(keyId);
        return key.state == KeyState.Retired && block.timestamp >= key.mark;
    }

    // ------------------------------------------------------------------------------------------ pools contract

    /// @inheritdoc IWithdrawalKeys
    function use(uint256 poolId, address provider, bytes calldata groupKey) external override {
        require(msg.sender == MICROPOOLS, NotMicropools(msg.sender));
        uint256 keyId = KEYS.keyOfGroupKey(keccak256(groupKey));
        WithdrawalKey storage it = _keys[keyId];
        // A key of anybody else, of another kind too, is not in `_keys`.
        require(it.provider != address(0) && KEYS.key(keyId).state == KeyState.Live, NoSuchKey(keyId));
        require(it.provider == provider, NotKeysProvider(keyId, provider));
        require(it.poolId == 0, KeyInUse(keyId, it.poolId));
        // Safe cast: pools are counted from 1.
        it.poolId = uint64(poolId);
        keyOfPool[poolId] = keyId;
        bytes memory pubkey = BLS12381.compressG1(groupKey);
        bytes32 credentials = CredentialChanges.blsCredentials(pubkey);
        credentialsOf[poolId] = credentials;
        emit WithdrawalKeyUsed(keyId, poolId, pubkey, credentials);
    }

    // ------------------------------------------------------------------------------------------------ changes

    /// @inheritdoc IWithdrawalKeys
    function orderChange(uint256 poolId, uint64 validatorIndex, bytes calldata groupKey) external override {
        Pool memory p = _pool(poolId);
        require(p.state == PoolState.Predeposited || p.state == PoolState.Active, NoValidator(poolId));
        require(
            msg.sender == p.provider || IERC6909(MICROPOOLS).balanceOf(msg.sender, poolId) != 0,
            NoPartOfPool(poolId, msg.sender)
        );
        (uint256 keyId, bytes memory pubkey, address vault, bytes32 root) =
            _change(poolId, validatorIndex, groupKey);
        emit ChangeOrdered(poolId, keyId, validatorIndex, pubkey, vault, root);
        KEYS.order(keyId, root);
    }

    /// @inheritdoc IWithdrawalKeys
    function showChange(
        uint256 poolId,
        uint64 validatorIndex,
        bytes calldata groupKey,
        bytes calldata signature
    ) external override {
        // The address is in the root.
        // slither-disable-next-line unused-return
        (uint256 keyId,,, bytes32 root) = _change(poolId, validatorIndex, groupKey);
        require(KEYS.isOrdered(keyId, root), NotOrdered(keyId, root));
        require(BLS12381.verify(groupKey, root, signature), InvalidChangeSignature(keyId, root));
        _keys[keyId].changeShown = true;
        emit ChangeShown(poolId, keyId, validatorIndex, BLS12381.compressG2(signature));
    }

    /// @dev The id must be checked for zero: a pool without a withdrawal key has id 0, and so has a group key nobody knows.
    function _change(uint256 poolId, uint64 validatorIndex, bytes calldata groupKey)
        private
        view
        returns (uint256 keyId, bytes memory pubkey, address vault, bytes32 root)
    {
        keyId = keyOfPool[poolId];
        require(
            keyId != 0 && KEYS.keyOfGroupKey(keccak256(groupKey)) == keyId, WrongWithdrawalKey(poolId, keyId)
        );
        pubkey = BLS12381.compressG1(groupKey);
        vault = IMicropools(MICROPOOLS).vaultOf(poolId);
        root = CredentialChanges.signingRoot(CHANGE_DOMAIN, validatorIndex, pubkey, vault);
    }

    function _pool(uint256 poolId) private view returns (Pool memory) {
        return IMicropools(MICROPOOLS).pool(poolId);
    }

    // ------------------------------------------------------------------------------------------- key consumer

    /// @inheritdoc IKeyConsumer
    function excludedOperator(uint256 keyId) external view override returns (address) {
        return _keys[keyId].provider;
    }

    /// @inheritdoc IKeyConsumer
    /// @dev Nobody: a withdrawal key has no duties.
    function dutyAssignment(uint256) external pure override returns (address, uint64) {
        return (address(0), 0);
    }

    /// @inheritdoc IKeyConsumer
    /// @dev Never: nobody can ask for duties of a withdrawal key, so nobody can ask for conflicting ones.
    function penaliseProvider(uint256 keyId, uint64, address[2] calldata, address)
        external
        pure
        override
        returns (uint256, uint256)
    {
        revert NoDuties(keyId);
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IWithdrawalKeys
    function withdrawalKey(uint256 keyId) external view override returns (WithdrawalKey memory) {
        return _keys[keyId];
    }

    /// @inheritdoc IWithdrawalKeys
    function isChangeShown(uint256 poolId) external view override returns (bool) {
        return _keys[keyOfPool[poolId]].changeShown;
    }

    /// @inheritdoc IWithdrawalKeys
    function changeSigningRoot(uint64 validatorIndex, bytes calldata pubkey, address account)
        external
        view
        override
        returns (bytes32)
    {
        return CredentialChanges.signingRoot(CHANGE_DOMAIN, validatorIndex, pubkey, account);
    }

    /// @inheritdoc IWithdrawalKeys
    function KEY_REGISTRY() external view override returns (address) {
        return address(KEYS);
    }
}
