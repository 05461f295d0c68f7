// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IDraw {
    function draw(uint256 keyId, bytes calldata header, bytes calldata activeSet, uint32[] calldata kept)
        external;
}

struct Server {
    address signer;
    uint8 status;
    bool lockedOut;
    uint8 terms;
    uint72 bond;
    address operator;
    uint8 kind;
    uint16 seats;
    uint40 unbondingEnds;
    bytes32 tlsFingerprint;
}

interface IServers {
    function server(uint32 id) external view returns (Server memory);
}

/// @title An operator who draws again until its own server has a seat
/// @notice Draws, looks at the result in the same transaction and undoes everything unless `mine` got a seat. Against a
/// seed that the drawing transaction could influence, trying often enough would choose the committee.
contract PickyDrawer {
    error NotTheCommitteeIWant(uint32 mine);

    function draw(
        IDraw keys,
        IServers servers,
        uint32 mine,
        uint256 keyId,
        bytes calldata header,
        bytes calldata activeSet,
        uint32[] calldata kept
    ) external {
        uint16 before = servers.server(mine).seats;
        keys.draw(keyId, header, activeSet, kept);
        if (servers.server(mine).seats == before) revert NotTheCommitteeIWant(mine);
    }
}
