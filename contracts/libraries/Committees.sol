// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, KeyKind} from "../interfaces/IKeyRegistry.sol";
import {Scrape} from "./Scrape.sol";
import {BlockHeader} from "@openzeppelin/contracts/utils/BlockHeader.sol";
import {Blockhash} from "@openzeppelin/contracts/utils/Blockhash.sol";
import {Memory} from "@openzeppelin/contracts/utils/Memory.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @title What every committee of a key has to pass, the first one and those that it is reshared to
/// @notice Errors are those of `IKeyRegistry`. Points: n share keys in index order, then the group key, 128 bytes each.
library Committees {
    uint256 internal constant POINT = 128;
    uint256 internal constant SIGNATURE = 65;
    /// Block hashes the chain knows (EIP-2935).
    uint256 internal constant HISTORY = 8191;
    uint8 internal constant MAX_MEMBERS = 16;
    /// Ceremony windows that the members of a withdrawal key have: people carry what servers without network say.
    uint48 private constant WINDOWS_BY_HAND = 7;

    // ------------------------------------------------------------------------------------------------- draw

    /// @notice Whether t-of-n may be: 2t > n always; for validator keys 2t - n >= 2; and one member may fail.
    function isSound(KeyKind kind, uint256 threshold, uint256 members) internal pure returns (bool) {
        uint256 quorums = kind == KeyKind.Validator ? 2 : 1;
        return members <= MAX_MEMBERS && threshold < members && 2 * threshold >= members + quorums;
    }

    /// @notice Online members: all of a validator key; of a withdrawal key one less than sign, so that all online servers together
    /// cannot.
    function onlineMembers(KeyKind kind, uint256 threshold, uint256 members) internal pure returns (uint256) {
        return kind == KeyKind.Validator ? members : threshold - 1;
    }

    /// @notice Seconds for a ceremony or a reshare of such a key, given those for a validator key.
    function windowOf(KeyKind kind, uint48 window) internal pure returns (uint48) {
        return kind == KeyKind.Validator ? window : WINDOWS_BY_HAND * window;
    }

    /// @notice PREVRANDAO of block `seedBlock`, from its RLP header. Raised: `SeedNotReady`, `WrongHeader`, `UnknownHeader`.
    function prevRandao(uint48 seedBlock, bytes calldata header) internal view returns (bytes32) {
        require(block.number > seedBlock, IKeyRegistry.SeedNotReady(seedBlock, block.number));
        bytes32 headerHash = keccak256(header);
        Memory.Slice[] memory fields = BlockHeader.parseHeader(header);
        uint256 number = BlockHeader.getNumber(fields);
        require(number == seedBlock, IKeyRegistry.WrongHeader(seedBlock, number));
        // A block older than HISTORY has hash zero here, which is no header's.
        require(
            Blockhash.blockHash(seedBlock) == headerHash, IKeyRegistry.UnknownHeader(seedBlock, headerHash)
        );
        return BlockHeader.getPrevRandao(fields);
    }

    // --------------------------------------------------------------------------------------------- finalise

    /// @notice That `acknowledgements` are one signature over `digest` by each signer. Raised: `BadLength`, `BadAcknowledgement`.
    function requireAcknowledgements(
        bytes32 digest,
        address[] memory signers,
        bytes calldata acknowledgements
    ) internal pure {
        requireLength(acknowledgements.length, signers.length * SIGNATURE);
        for (uint256 i; i < signers.length; ++i) {
            address recovered = recover(digest, acknowledgements, i);
            // The cast is safe: at most MAX_MEMBERS.
            require(
                recovered == signers[i], IKeyRegistry.BadAcknowledgement(uint8(i + 1), recovered, signers[i])
            );
        }
    }

    /// @notice Who made signature `position` (from 0) of several; zero where nobody did.
    /// @dev A signer is never zero, so a failed recovery does not match; why it failed does not matter.
    function recover(bytes32 digest, bytes calldata signatures, uint256 position)
        internal
        pure
        returns (address recovered)
    {
        // slither-disable-next-line unused-return
        (recovered,,) =
            ECDSA.tryRecoverCalldata(digest, signatures[position * SIGNATURE:(position + 1) * SIGNATURE]);
    }

    /// @notice That the points are different ones and lie on one polynomial of degree `threshold` - 1. Raised: `BadPoint`,
    /// `InvalidPoint`, `NotOnePolynomial`.
    function requireOnePolynomial(uint256 keyId, bytes calldata points, uint8 threshold) internal view {
        _requireDistinctPoints(points);
        (bool valid, bool onePolynomial) = Scrape.test(points, threshold);
        require(valid, IKeyRegistry.InvalidPoint(keyId));
        require(onePolynomial, IKeyRegistry.NotOnePolynomial(keyId, threshold));
    }

    /// @dev The lower 256 bits of x stand for the point: equal where two points are the same or each other's negation.
    /// Other points that share them would cost 2^128 work to find and be refused, which hurts nobody.
    function _requireDistinctPoints(bytes calldata points) private pure {
        uint256 count = points.length / POINT;
        uint256[] memory seen = new uint256[](count);
        for (uint256 i; i < count; ++i) {
            uint256 x;
            uint256 any;
            assembly ("memory-safe") {
                let point := add(points.offset, mul(i, 0x80))
                x := calldataload(add(point, 0x20))
                any := or(
                    or(calldataload(point), x),
                    or(calldataload(add(point, 0x40)), calldataload(add(point, 0x60)))
                )
            }
            require(any != 0, IKeyRegistry.BadPoint(i));
            for (uint256 j; j < i; ++j) {
                require(seen[j] != x, IKeyRegistry.BadPoint(i));
            }
            seen[i] = x;
        }
    }

    // ----------------------------------------------------------------------------------------------- leaves

    /// @notice Merkle root of the share leaves (`IKeyRegistry.isShareLeaf`).
    /// @dev Callers have checked the lengths against each other.
    function leavesRoot(uint32[] calldata servers, address[] memory signers, bytes calldata points)
        internal
        pure
        returns (bytes32)
    {
        uint256 width = servers.length;
        bytes32[] memory nodes = new bytes32[](width);
        for (uint256 i; i < width; ++i) {
            nodes[i] = keccak256(
                abi.encodePacked(
                    i + 1,
                    uint256(servers[i]),
                    uint256(uint160(signers[i])),
                    points[i * POINT:(i + 1) * POINT]
                )
            );
        }
        while (width > 1) {
            for (uint256 i; i < width / 2; ++i) {
                nodes[i] = Hashes.commutativeKeccak256(nodes[2 * i], nodes[2 * i + 1]);
            }
            if (width % 2 == 1) nodes[width / 2] = nodes[width - 1];
            width = (width + 1) / 2;
        }
        return nodes[0];
    }

    /// @notice That the committee's leaves lead to `root`. Raised: `BadLength`, `WrongCommitment`.
    function requireLeaves(
        bytes32 root,
        uint256 members,
        uint32[] calldata servers,
        address[] calldata signers,
        bytes calldata points
    ) internal pure {
        requireLength(servers.length, members);
        requireLength(signers.length, members);
        requireLength(points.length, (members + 1) * POINT);
        requireCommitment(leavesRoot(servers, signers, points), root);
    }

    /// @notice Leaves the first `length` of `list`, which has no fewer.
    function cut(uint32[] memory list, uint256 length) internal pure {
        assembly ("memory-safe") {
            mstore(list, length)
        }
    }

    // ----------------------------------------------------------------------------------------------- checks

    /// @notice Raised: `WrongCommitment`.
    function requireCommitment(bytes32 given, bytes32 committed) internal pure {
        require(given == committed, IKeyRegistry.WrongCommitment(given, committed));
    }

    /// @notice Raised: `BadLength`.
    function requireLength(uint256 length, uint256 expected) internal pure {
        require(length == expected, IKeyRegistry.BadLength(length, expected));
    }
}
