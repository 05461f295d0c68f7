// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";

import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";

/// @title Providers and the duty keys they sign requests with
/// @dev One storage slot per duty key of the history: 48 bits of time, 160 of key. Nobody governs this contract.
contract ProviderRegistry is IProviderRegistry, EIP712 {
    using Checkpoints for Checkpoints.Trace208;

    bytes32 private constant DUTY_KEY_PROOF_TYPEHASH =
        keccak256("DutyKeyProof(address provider,address dutyKey)");

    mapping(address provider => Checkpoints.Trace208) private _history;

    /// @inheritdoc IProviderRegistry
    mapping(address dutyKey => address provider) public override providerOfDutyKey;

    constructor() EIP712("Stkr", "1") {}

    // ------------------------------------------------------------------------------------------------- writing

    /// @inheritdoc IProviderRegistry
    function register(address newKey, bytes calldata proof) external override {
        require(!isProvider(msg.sender), ProviderExists(msg.sender));
        _name(newKey, proof);
    }

    /// @inheritdoc IProviderRegistry
    function setDutyKey(address newKey, bytes calldata proof) external override {
        // Which key it was does not matter here.
        // slither-disable-next-line unused-return
        (bool exists, uint48 since,) = _history[msg.sender].latestCheckpoint();
        require(exists, UnknownProvider(msg.sender));
        require(since != block.timestamp, DutyKeyJustChanged(msg.sender, since));
        _name(newKey, proof);
    }

    /// @dev The proof binds provider and key, so a proof seen in the mempool is of no use to anybody else. A key is
    /// never named twice, not even by its own provider: who signed with it must stay one answer for ever.
    function _name(address newKey, bytes calldata proof) private {
        address taken = providerOfDutyKey[newKey];
        require(newKey != address(0) && taken == address(0), DutyKeyTaken(newKey, taken));

        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(DUTY_KEY_PROOF_TYPEHASH, msg.sender, newKey)));
        // A malformed signature recovers to zero, which newKey is not; why it failed does not matter.
        // slither-disable-next-line unused-return
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, proof);
        require(recovered == newKey, BadDutyKeyProof(newKey, recovered));

        uint48 since = uint48(block.timestamp);
        providerOfDutyKey[newKey] = msg.sender;
        // It returns the old and the new key.
        // slither-disable-next-line unused-return
        _history[msg.sender].push(since, uint160(newKey));
        emit DutyKeyChanged(msg.sender, newKey, since);
    }

    // ------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc IProviderRegistry
    function isProvider(address provider) public view override returns (bool) {
        return _history[provider].length() != 0;
    }

    /// @inheritdoc IProviderRegistry
    function dutyKey(address provider) external view override returns (address) {
        return address(uint160(_history[provider].latest()));
    }

    /// @inheritdoc IProviderRegistry
    function dutyKeyAt(address provider, uint48 timestamp) external view override returns (address) {
        return address(uint160(_history[provider].upperLookupRecent(timestamp)));
    }

    /// @inheritdoc IProviderRegistry
    function dutyKeyCount(address provider) public view override returns (uint256) {
        return _history[provider].length();
    }

    /// @inheritdoc IProviderRegistry
    function dutyKeyEntry(address provider, uint256 position)
        external
        view
        override
        returns (address key, uint48 since)
    {
        uint256 count = dutyKeyCount(provider);
        require(position < count, NoDutyKeyAt(provider, position, count));
        // Safe cast: position < count, and a history of 2^32 changes at one per block takes 1,600 years.
        Checkpoints.Checkpoint208 memory entry = _history[provider].pos(uint32(position));
        return (address(uint160(entry._value)), entry._key);
    }

    /// @inheritdoc IProviderRegistry
    function domainSeparator() external view override returns (bytes32) {
        return _domainSeparatorV4();
    }
}
