// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title Bad partial signatures: the guilty at every length and shape, the honest never
contract PartialsTest is CourtFixture {
    // ------------------------------------------------------------------------------------------ invalid partials

    function test_ProveInvalidPartial_SlashesAndLocksOut() public {
        Answer memory a = invalid(1, ROOT);
        commitAs(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.InvalidPartial, serverAt(1), 1, 0, evidenceOf(a), reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveInvalidPartial(a.envelope, a.signature, a.holder, a.partial_);
        assertSlashed(serverAt(1), 1);
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10);
        assertEq(court.committedAt(commitmentOf(reporter, Fault.InvalidPartial, evidenceOf(a))), 0);
    }

    function test_ProveInvalidPartial_AnHonestOneIsValid() public {
        Answer memory a = honest(made(), 0, ROOT);
        bytes memory refusal = abi.encodeWithSelector(ICourt.ValidPartial.selector, ROOT);
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), refusal);
    }

    /// From any t partials anyone computes everybody else's, and anyone can compute something else.
    function test_ProveInvalidPartial_NobodyIsFramedWithoutItsEnvelope() public {
        Answer memory a = invalid(0, ROOT);
        bytes32 evidence = evidenceOf(a);
        // The relayer signs it itself; nobody signs it; the signature of another server.
        a.signature = sign(0xbad, evidence);
        _refuseSigner(a, vm.addr(0xbad));
        a.signature = new bytes(65);
        _refuseSignature(a);
        a.signature = "";
        _refuseSignature(a);
        a.signature = sign(signerSecret[serverAt(1)], evidence);
        _refuseSigner(a, vm.addr(signerSecret[serverAt(1)]));
        // An envelope over the right partial with a wrong one beside it.
        a = honest(made(), 0, ROOT);
        a.partial_ = ThresholdKeys.sign(1, ROOT);
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.WrongPartial.selector));
        // An honest envelope of one share against the key of another.
        a = honest(made(), 0, ROOT);
        a.holder.shareKey = made().keySet.shareKeys[1];
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.NotShareHolder.selector));
        // Or of another server that is innocent of it.
        a = invalid(0, ROOT);
        a.holder.server = serverAt(1);
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.NotShareHolder.selector));
    }

    function _refuseSigner(Answer memory a, address signer) private {
        bytes memory refusal =
            abi.encodeWithSelector(ICourt.NotShareHolder.selector, 1, 1, a.holder.server, signer);
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), refusal);
    }

    function _refuseSignature(Answer memory a) private {
        bytes memory refusal = abi.encodeWithSelector(ICourt.BadEvidenceSignature.selector, evidenceOf(a));
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), refusal);
    }

    /// (r, n - s, flipped v) is the same key's signature to the curve and nobody's here.
    function test_ProveInvalidPartial_AHighSIsNoSignature() public {
        Answer memory a = invalid(0, ROOT);
        (bytes32 r, uint256 s, uint8 v) = _split(a.signature);
        s = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141 - s;
        a.signature = abi.encodePacked(r, s, v ^ 7);
        assertEq(ecrecover(evidenceOf(a), v ^ 7, r, bytes32(s)), made().signers[0], "the curve takes it");
        _refuseSignature(a);
        // Nor one with a tail.
        a = invalid(0, ROOT);
        a.signature = bytes.concat(a.signature, hex"00");
        _refuseSignature(a);
    }

    function _split(bytes memory signature) private pure returns (bytes32 r, uint256 s, uint8 v) {
        (r, s) = abi.decode(signature, (bytes32, uint256));
        v = uint8(signature[64]);
    }

    /// Infinity verifies nothing.
    function test_ProveInvalidPartial_InfinityIsInvalid() public {
        reportInvalid(withPartial(honest(made(), 2, ROOT), new bytes(256)));
        assertSlashed(serverAt(2), 1);
    }

    function test_ProveInvalidPartial_WhatIsNoPointIsInconclusive() public {
        Answer memory a = garbage(0, ROOT);
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.Inconclusive.selector));
        a = withPartial(honest(made(), 0, ROOT), "");
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.Inconclusive.selector));
        // A point and a byte more: what lies in memory behind a partial must never be judged with it.
        a = withPartial(honest(made(), 0, ROOT), bytes.concat(ThresholdKeys.sign(1, ROOT), hex"00"));
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(ICourt.Inconclusive.selector));
    }

    /// @dev Honest transcripts are never slashable, whoever holds which share of what.
    function testFuzz_ProveInvalidPartial_ConvictsExactlyTheWrongOnes(
        uint8 position,
        bytes32 root,
        uint256 secret
    ) public {
        position %= 4;
        Answer memory a = honest(made(), position, root);
        refuse(
            Fault.InvalidPartial,
            evidenceOf(a),
            invalidCall(a),
            abi.encodeWithSelector(ICourt.ValidPartial.selector, root)
        );
        secret = bound(secret, 1, ThresholdKeys.R - 1);
        vm.assume(secret != made().keySet.shares[position]);
        a = withPartial(a, ThresholdKeys.sign(secret, root));
        commitAs(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.prank(reporter);
        court.proveInvalidPartial(a.envelope, a.signature, a.holder, a.partial_);
        assertSlashed(serverAt(position), 1);
    }

    // ------------------------------------------------------------------------------------------ garbage partials

    function test_ProveGarbagePartial_SlashesAndLocksOut() public {
        Answer memory a = garbage(1, ROOT);
        commitAs(reporter, Fault.GarbagePartial, evidenceOf(a));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.GarbagePartial, serverAt(1), 1, 0, evidenceOf(a), reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveGarbagePartial(a.envelope, a.signature, a.holder, a.partial_);
        assertSlashed(serverAt(1), 1);
    }

    function test_ProveGarbagePartial_EveryShapeOfGarbage() public {
        uint256 snapshot = vm.snapshotState();
        bytes[6] memory shapes = [
            garbage(0, ROOT).partial_,
            // On the curve, outside the subgroup: from the fixture of the library's tests.
            vm.parseJsonBytes(vm.readFile("tests/contracts/fixtures/bls.json"), ".g2OutsideSubgroup"),
            abi.encodePacked(bytes32(type(uint256).max), new bytes(224)),
            "",
            new bytes(255),
            bytes.concat(honest(made(), 0, ROOT).partial_, hex"00")
        ];
        for (uint256 i; i < shapes.length; ++i) {
            reportGarbage(withPartial(honest(made(), 0, ROOT), shapes[i]));
            assertSlashed(serverAt(0), 1);
            vm.revertToState(snapshot);
        }
    }

    function test_ProveGarbagePartial_APointIsNone() public {
        Answer[3] memory points =
            [honest(made(), 0, ROOT), invalid(0, ROOT), withPartial(honest(made(), 0, ROOT), new bytes(256))];
        for (uint256 i; i < points.length; ++i) {
            bytes memory refusal =
                abi.encodeWithSelector(ICourt.NotGarbage.selector, points[i].envelope.partialHash);
            refuse(Fault.GarbagePartial, evidenceOf(points[i]), garbageCall(points[i]), refusal);
        }
    }

    /// Where EIP-2537 fails for everybody, or costs more than today, nobody is guilty of it.
    function test_ProveGarbagePartial_InconclusiveWithoutThePrecompile() public {
        Answer memory a = honest(made(), 0, ROOT);
        vm.mockCallRevert(address(0x0e), bytes(""), bytes(""));
        bytes memory refusal = selector(ICourt.Inconclusive.selector);
        refuse(Fault.GarbagePartial, evidenceOf(a), garbageCall(a), refusal);
        vm.clearMockedCalls();
    }

    function testFuzz_ProveGarbagePartial_OfAnyBytes(uint8 position, bytes calldata noise, uint8 start)
        public
    {
        position %= 4;
        Answer memory a = honest(made(), position, ROOT);
        bytes memory partial_ = a.partial_;
        vm.assume(noise.length != 0);
        for (uint256 i; i < noise.length && start + i < 256; ++i) {
            partial_[start + i] = noise[i];
        }
        vm.assume(keccak256(partial_) != a.envelope.partialHash);
        a = withPartial(a, partial_);
        commitAs(reporter, Fault.GarbagePartial, evidenceOf(a));
        vm.prank(reporter);
        court.proveGarbagePartial(a.envelope, a.signature, a.holder, a.partial_);
        assertSlashed(serverAt(position), 1);
    }
}
