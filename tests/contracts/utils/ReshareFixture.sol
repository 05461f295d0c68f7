// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Committee, Draft, IResharing, Reshare} from "../../../contracts/interfaces/IResharing.sol";
import {Resharing} from "../../../contracts/registry/Resharing.sol";
import {RegistryFixture} from "./RegistryFixture.sol";
import {ThresholdKeys} from "./ThresholdKeys.sol";
import {Vm} from "forge-std/Test.sol";

/// @notice Every step of a reshare as one call: real shares on a new polynomial with the old secret, real signatures.
abstract contract ReshareFixture is RegistryFixture {
    Resharing internal resharing;

    /// @dev A reshare as the outside sees it.
    struct Move {
        uint256 keyId;
        Committee serving;
        /// As the last event had it.
        Draft draft;
        bytes activeSet;
        /// The new committee, once its members have their shares.
        Committee made;
        ThresholdKeys.KeySet keySet;
        bytes32 dealingsDigest;
        bytes acknowledgements;
    }

    function deployResharing() internal {
        deployRegistries();
        resharing = Resharing(address(keys.RESHARING()));
    }

    function committeeOf(Ceremony memory c) internal pure returns (Committee memory) {
        return Committee(c.committee, c.signers, c.keySet.points);
    }

    /// @notice Locks a server out, as the Court does.
    function lockOut(uint32 server) internal {
        vm.prank(address(court));
        servers.slash(server, address(this), 0, 0);
    }

    function requestMove(uint256 keyId, Committee memory serving) internal returns (Move memory m) {
        uint8 members = uint8(serving.servers.length);
        (, uint8 threshold) = keys.healthyShares(keyId, serving.servers, serving.signers, serving.points);
        m.keyId = keyId;
        m.serving = serving;
        vm.recordLogs();
        resharing.request(keyId, serving, threshold, members);
        readRequest(m);
    }

    function readRequest(Move memory m) internal {
        (,,,, m.draft, m.activeSet) = abi.decode(
            lastLog(IResharing.ReshareRequested.selector), (uint16, uint8, uint8, uint48, Draft, bytes)
        );
    }

    function drawMove(Move memory m, bytes32 randao) internal {
        bytes memory header_ = pastSeedBlock(resharing.reshare(m.keyId).mark, randao);
        vm.recordLogs();
        resharing.draw(m.keyId, header_, m.activeSet, m.draft);
        (, m.draft,,,) =
            abi.decode(lastLog(IResharing.ReshareDrawn.selector), (uint16, Draft, bytes32, uint48, uint48));
    }

    /// @notice Shares of `secret` on a polynomial of their own for the drawn committee, and everybody's acknowledgement.
    function dealMove(Move memory m, uint256 secret, uint256 seed) internal view {
        Reshare memory it = resharing.reshare(m.keyId);
        uint256[] memory coefficients = new uint256[](it.threshold);
        coefficients[0] = secret;
        for (uint256 i = 1; i < it.threshold; ++i) {
            coefficients[i] = uint256(keccak256(abi.encode("stkr/test/reshare", seed, i))) % ThresholdKeys.R;
        }
        m.keySet = ThresholdKeys.fromPolynomial(coefficients, it.threshold, it.members);
        m.made = Committee(m.draft.seats, signersOf(m.draft.seats), m.keySet.points);
        m.dealingsDigest = keccak256(abi.encode("reshare dealings", seed));
        acknowledgeMove(m);
    }

    function acknowledgeMove(Move memory m) internal view {
        Reshare memory it = resharing.reshare(m.keyId);
        bytes32 digest = reshareDigest(
            keys, m.keyId, it.committeeEpoch + 1, it.attempt, it.threshold, m.made, m.dealingsDigest
        );
        m.acknowledgements = "";
        for (uint256 i; i < m.made.servers.length; ++i) {
            m.acknowledgements =
                bytes.concat(m.acknowledgements, sign(signerSecret[m.made.servers[i]], digest));
        }
    }

    function finaliseMove(Move memory m) internal {
        resharing.finalise(m.keyId, m.draft, m.made.points, m.dealingsDigest, m.acknowledgements);
    }

    /// @notice From request to the new committee.
    function move(uint256 keyId, Committee memory serving, uint256 secret, uint256 seed)
        internal
        returns (Move memory m)
    {
        m = requestMove(keyId, serving);
        drawMove(m, keccak256(abi.encode("reshare randao", seed)));
        dealMove(m, secret, seed);
        finaliseMove(m);
    }

    /// @notice Votes of the members whose bit is set in `voters`, that `server` is silent.
    function votes(Move memory m, uint32 server, uint48 until, uint256 voters)
        internal
        view
        returns (bytes memory all)
    {
        return votes(m.keyId, m.serving, server, until, voters);
    }

    function votes(uint256 keyId, Committee memory serving, uint32 server, uint48 until, uint256 voters)
        internal
        view
        returns (bytes memory all)
    {
        bytes32 digest = silenceDigest(keys, keyId, resharing.reshare(keyId).committeeEpoch, server, until);
        for (uint256 i; i < serving.servers.length; ++i) {
            bytes memory one =
                voters >> i & 1 == 1 ? sign(signerSecret[serving.servers[i]], digest) : new bytes(65);
            all = bytes.concat(all, one);
        }
    }

    function shareLeaf(Committee memory it, uint256 position) internal pure returns (bytes32) {
        bytes memory point = new bytes(128);
        for (uint256 i; i < 128; ++i) {
            point[i] = it.points[position * 128 + i];
        }
        return keccak256(
            abi.encodePacked(
                position + 1, uint256(it.servers[position]), uint256(uint160(it.signers[position])), point
            )
        );
    }

    function merkleOf(Committee memory it, uint256 position)
        internal
        pure
        returns (bytes32 root, bytes32[] memory proof)
    {
        bytes32[] memory leaves = new bytes32[](it.servers.length);
        for (uint256 i; i < leaves.length; ++i) {
            leaves[i] = shareLeaf(it, i);
        }
        return merkle(leaves, position);
    }

    function lastLog(bytes32 selector) internal returns (bytes memory data) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] == selector) data = logs[i].data;
        }
        require(data.length != 0, "no such event");
    }

    function isMember(uint32[] memory ids_, uint32 id) internal pure returns (bool) {
        for (uint256 i; i < ids_.length; ++i) {
            if (ids_[i] == id) return true;
        }
        return false;
    }
}
