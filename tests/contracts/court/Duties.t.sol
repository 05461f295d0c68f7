// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Fault, ICourt, ShareHolder} from "../../../contracts/interfaces/ICourt.sol";
import {DealtImport} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title Signatures that an honest server never gives: over conflicting duties, and over what nobody ordered
contract DutiesTest is CourtFixture {
    bytes32 private constant ROOT2 = keccak256("another duty");

    // ---------------------------------------------------------------------------------------- conflicting duties

    function test_ProveConflictingDuties_SlashesAndLocksOut() public {
        Answer memory a = vote(0, 9, 10, ROOT);
        Answer memory b = vote(0, 9, 10, ROOT2);
        commitAs(reporter, Fault.ConflictingDuties, evidenceOf(a, b));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.ConflictingDuties, serverAt(0), 1, 0, evidenceOf(a, b), reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveConflictingDuties(a.envelope, a.signature, b.envelope, b.signature, holdersOf(a.holder));
        assertSlashed(serverAt(0), 1);
    }

    function test_ProveConflictingDuties_DoubleVote() public {
        _convict(vote(0, 9, 10, ROOT), vote(0, 9, 10, ROOT2));
        _convict(vote(0, 8, 10, ROOT), vote(0, 9, 10, ROOT2));
    }

    function test_ProveConflictingDuties_SurroundVoteEitherWay() public {
        _convict(vote(0, 5, 12, ROOT), vote(0, 6, 11, ROOT2));
        _convict(vote(0, 6, 11, ROOT), vote(0, 5, 12, ROOT2));
    }

    function test_ProveConflictingDuties_DoubleProposal() public {
        _convict(other(0, BLOCK, 77, ROOT), other(0, BLOCK, 77, ROOT2));
    }

    /// What an honest validator signs one after the other, and twice.
    function test_ProveConflictingDuties_HonestPairsDoNotConflict() public {
        _acquit(vote(0, 9, 10, ROOT), vote(0, 9, 10, ROOT));
        _acquit(vote(0, 9, 10, ROOT), vote(0, 10, 11, ROOT2));
        _acquit(vote(0, 9, 10, ROOT), vote(0, 9, 11, ROOT2));
        // Same source: nobody surrounds.
        _acquit(vote(0, 9, 12, ROOT), vote(0, 9, 11, ROOT2));
        _acquit(other(0, BLOCK, 77, ROOT), other(0, BLOCK, 78, ROOT2));
        _acquit(other(0, BLOCK, 77, ROOT), other(0, BLOCK, 77, ROOT));
        // One slot, two kinds, and a kind that may differ within a slot.
        _acquit(other(0, BLOCK, 320, ROOT), vote(0, 9, 10, ROOT2));
        _acquit(other(0, 8, 77, ROOT), other(0, 8, 77, ROOT2));
        _acquit(other(0, RANDAO, 0, ROOT), other(0, RANDAO, 0, ROOT2));
    }

    /// Two honest servers, or one honest server and somebody else.
    function test_ProveConflictingDuties_BothAreOfOneServer() public {
        Answer memory a = vote(0, 9, 10, ROOT);
        Answer memory b = vote(1, 9, 10, ROOT2);
        _refuse(a, b, selector(ICourt.NotShareHolder.selector));
        _refuseOf(a, b, [a.holder, b.holder], ICourt.DifferentSubjects.selector);
        _refuseOf(a, b, [b.holder, b.holder], ICourt.NotShareHolder.selector);
        b.envelope.index = 1;
        seal(b);
        _refuse(a, b, selector(ICourt.NotShareHolder.selector));
        b.signature = a.signature;
        _refuse(a, b, selector(ICourt.NotShareHolder.selector));
        b.signature = new bytes(65);
        _refuse(a, b, selector(ICourt.BadEvidenceSignature.selector));
        b = vote(0, 9, 10, ROOT2);
        a.signature = sign(0xbad, evidenceOf(a));
        _refuse(a, b, selector(ICourt.NotShareHolder.selector));
        b.signature = sign(0xbad, evidenceOf(b));
        _refuse(a, b, selector(ICourt.NotShareHolder.selector));
    }

    /// Nobody is named: no proof, whatever else is true.
    function test_ProveConflictingDuties_SomebodyIsAccused() public {
        Answer memory a = vote(0, 9, 10, ROOT);
        Answer memory b = vote(0, 9, 10, ROOT2);
        commitAs(reporter, Fault.ConflictingDuties, evidenceOf(a, b));
        vm.prank(reporter);
        vm.expectRevert();
        court.proveConflictingDuties(a.envelope, a.signature, b.envelope, b.signature, new ShareHolder[](0));
        assertSlashed(serverAt(0), 0);
    }

    /// A server that has two shares of two keys signs for two validators.
    function test_ProveConflictingDuties_TwoKeysDoNotConflict() public {
        Answer memory a = vote(0, 9, 10, ROOT);
        Answer memory b = vote(0, 9, 10, ROOT2);
        b.envelope.keyId = 2;
        seal(b);
        _refuse(a, b, selector(ICourt.DifferentSubjects.selector));
    }

    /// @dev Against the rules of the consensus specs, written out once more.
    function testFuzz_ProveConflictingDuties_AsTheSpecsSay(uint8[4] memory epochs, bool block_, bool same)
        public
    {
        for (uint256 i; i < 4; ++i) {
            epochs[i] %= 8;
        }
        Answer memory a = vote(0, epochs[0], epochs[1] + 1, ROOT);
        Answer memory b = vote(0, epochs[2], epochs[3] + 1, same ? ROOT : ROOT2);
        if (block_) {
            a = other(0, BLOCK, uint64(epochs[0]) + 1, ROOT);
            b = other(0, BLOCK, uint64(epochs[2]) + 1, same ? ROOT : ROOT2);
        }
        bool slashable = block_
            ? a.envelope.slot == b.envelope.slot
            : epochs[1] == epochs[3] || (epochs[0] < epochs[2] && epochs[3] < epochs[1])
                || (epochs[2] < epochs[0] && epochs[1] < epochs[3]);
        if (!slashable || same) return _acquit(a, b);
        commitAs(reporter, Fault.ConflictingDuties, evidenceOf(a, b));
        vm.prank(reporter);
        court.proveConflictingDuties(a.envelope, a.signature, b.envelope, b.signature, holdersOf(a.holder));
        assertSlashed(serverAt(0), 1);
    }

    function _convict(Answer memory a, Answer memory b) private {
        uint256 snapshot = vm.snapshotState();
        reportConflict(a, b);
        assertSlashed(serverAt(0), 1);
        vm.revertToState(snapshot);
    }

    function _acquit(Answer memory a, Answer memory b) private {
        _refuse(
            a,
            b,
            abi.encodeWithSelector(ICourt.NoConflict.selector, a.envelope.signingRoot, b.envelope.signingRoot)
        );
    }

    function _refuseOf(Answer memory a, Answer memory b, ShareHolder[2] memory each, bytes4 refusal) private {
        ShareHolder[] memory holders = new ShareHolder[](2);
        (holders[0], holders[1]) = (each[0], each[1]);
        bytes memory data = abi.encodeCall(
            court.proveConflictingDuties, (a.envelope, a.signature, b.envelope, b.signature, holders)
        );
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), data, selector(refusal));
    }

    function _refuse(Answer memory a, Answer memory b, bytes memory refusal) private {
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), conflictCall(a, b), refusal);
    }

    // ------------------------------------------------------------------------------------ unauthorised signatures

    function test_ProveUnauthorisedSignature_SlashesAndLocksOut() public {
        Answer memory a = other(2, EXIT, 0, ROOT);
        commitAs(reporter, Fault.UnauthorisedSignature, evidenceOf(a));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.UnauthorisedSignature, serverAt(2), 1, 0, evidenceOf(a), reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveUnauthorisedSignature(a.envelope, a.signature, a.holder);
        assertSlashed(serverAt(2), 1);
    }

    function test_ProveUnauthorisedSignature_WhatTheChainNeverOrdered() public {
        uint8[3] memory kinds = [DEPOSIT, EXIT, CREDENTIALS];
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 3; ++i) {
            reportUnauthorised(other(1, kinds[i], 0, ROOT));
            assertSlashed(serverAt(1), 1);
            vm.revertToState(snapshot);
        }
    }

    function test_ProveUnauthorisedSignature_AnOrderIsForEver() public {
        consumer.order(1, ROOT);
        _refuseAuthorised(other(1, DEPOSIT, 0, ROOT));
        consumer.retire(1, false);
        _refuseAuthorised(other(1, DEPOSIT, 0, ROOT));
        reportUnauthorised(other(1, DEPOSIT, 0, ROOT2));
        assertSlashed(serverAt(1), 1);
    }

    /// A duty needs no order; nor does a kind that this Court does not know.
    function test_ProveUnauthorisedSignature_DutiesNeedNone() public {
        for (uint8 kind; kind < 20; ++kind) {
            if (kind == DEPOSIT || kind == EXIT || kind == CREDENTIALS) continue;
            _refuseAuthorised(other(1, kind, 5, ROOT));
        }
        _refuseAuthorised(other(1, 255, 5, ROOT));
    }

    /// Nobody can order anything for a dealt key, and the whole key makes its exits.
    function test_ProveUnauthorisedSignature_OfADealtKey() public {
        uint32[] memory committee = ids(1, 2, 3, 4);
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) =
            dealKey(address(this), 3, committee, 9);
        Ceremony memory c;
        c.keyId = keys.importDealt(dealt);
        c.members = 4;
        c.committee = committee;
        c.signers = signersOf(committee);
        c.keySet = keySet;
        Answer memory a = honest(c, 2, ROOT);
        a.envelope.dutyKind = EXIT;
        seal(a);
        reportUnauthorised(a);
        assertSlashed(3, 1);
    }

    function testFuzz_ProveUnauthorisedSignature_ExactlyWithoutAnOrder(bytes32 root, uint8 kind, bool ordered)
        public
    {
        if (ordered) consumer.order(1, root);
        Answer memory a = other(3, kind, 0, root);
        if (ordered || (kind != DEPOSIT && kind != EXIT && kind != CREDENTIALS)) return _refuseAuthorised(a);
        commitAs(reporter, Fault.UnauthorisedSignature, evidenceOf(a));
        vm.prank(reporter);
        court.proveUnauthorisedSignature(a.envelope, a.signature, a.holder);
        assertSlashed(serverAt(3), 1);
    }

    function _refuseAuthorised(Answer memory a) private {
        bytes memory refusal = abi.encodeWithSelector(
            ICourt.Authorised.selector, a.envelope.keyId, a.envelope.dutyKind, a.envelope.signingRoot
        );
        refuse(Fault.UnauthorisedSignature, evidenceOf(a), unauthorisedCall(a), refusal);
    }
}
