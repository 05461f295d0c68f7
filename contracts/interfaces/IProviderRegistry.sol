// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Providers and the duty keys they sign requests with
/// @notice A provider runs validator clients. Its duty key (secp256k1) signs every signing request, so a request
/// for conflicting duties can be laid at its door; therefore the whole history of duty keys is kept.
/// @dev A provider is an account. One duty key belongs to one provider, for ever.
interface IProviderRegistry {
    /// @notice Emitted when `provider` uses `dutyKey` from `since` (unix seconds) on.
    event DutyKeyChanged(address indexed provider, address indexed dutyKey, uint48 since);

    /// @notice Raised when `provider` has not registered.
    error UnknownProvider(address provider);
    /// @notice Raised when `provider` has registered already.
    error ProviderExists(address provider);
    /// @notice Raised when `dutyKey` is zero or was ever named by `provider`.
    error DutyKeyTaken(address dutyKey, address provider);
    /// @notice Raised when the proof of possession was made by `recovered` and not by `dutyKey`.
    error BadDutyKeyProof(address dutyKey, address recovered);

    /// @notice Raised when `provider` changed its duty key in this block already (`since`). The history is keyed by time:
    /// a second change would erase the first from it.
    error DutyKeyJustChanged(address provider, uint48 since);
    /// @notice Raised when there is no duty key at `position`.
    error NoDutyKeyAt(address provider, uint256 position, uint256 count);

    /// @notice Registers the caller as a provider with its first duty key.
    /// @param proof 65-byte signature by `dutyKey` over the EIP-712 struct
    /// `DutyKeyProof(address provider,address dutyKey)`: nobody can occupy a key it does not hold.
    /// @dev Emitted: `DutyKeyChanged`. Raised: `ProviderExists`, `DutyKeyTaken`, `BadDutyKeyProof`.
    function register(address dutyKey, bytes calldata proof) external;

    /// @notice Names a new duty key of the calling provider; the old one stays in the history.
    /// @dev Emitted: `DutyKeyChanged`. Raised: `UnknownProvider`, `DutyKeyJustChanged`, `DutyKeyTaken`,
    /// `BadDutyKeyProof`.
    function setDutyKey(address dutyKey, bytes calldata proof) external;

    /// @notice Whether `provider` has registered.
    function isProvider(address provider) external view returns (bool);

    /// @notice The duty key `provider` uses now; zero for no provider.
    function dutyKey(address provider) external view returns (address);

    /// @notice The duty key `provider` used at unix time `timestamp`; zero before it registered.
    function dutyKeyAt(address provider, uint48 timestamp) external view returns (address);

    /// @notice The provider that ever named `dutyKey`; zero for none.
    function providerOfDutyKey(address dutyKey) external view returns (address);

    /// @notice Number of duty keys `provider` has named.
    function dutyKeyCount(address provider) external view returns (uint256);

    /// @notice The `position`-th duty key (from 0) and the unix time from which it was used.
    /// @dev Raised: `NoDutyKeyAt`.
    function dutyKeyEntry(address provider, uint256 position)
        external
        view
        returns (address dutyKey, uint48 since);

    /// @notice EIP-712 domain separator of `DutyKeyProof`.
    function domainSeparator() external view returns (bytes32);
}
