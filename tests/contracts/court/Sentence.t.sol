// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Court} from "../../../contracts/court/Court.sol";
import {Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {IServerRegistry} from "../../../contracts/interfaces/IServerRegistry.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title Who is paid, who is charged, and how often
contract SentenceTest is CourtFixture {
    address private copier = makeAddr("copier");

    // ------------------------------------------------------------------------------------------------ commitments

    function test_Commit_ACopiedReportEarnsNothing() public {
        Answer memory a = invalid(0, ROOT);
        bytes32 evidence = evidenceOf(a);
        commitAs(reporter, Fault.InvalidPartial, evidence);
        // The copier sees the proof in the mempool and is mined first, with and without a commitment of its own.
        bytes32 own = commitmentOf(copier, Fault.InvalidPartial, evidence);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotCommitted.selector, own));
        this.callAs(copier, invalidCall(a));
        court.commit(own);
        uint256 good = block.number + COMMITMENT_BLOCKS;
        // It outbids the reporter, whose proof waits: until the copier's own is good, so many blocks can take the reporter's.
        for (; block.number < good; vm.roll(block.number + 1)) {
            vm.expectRevert(abi.encodeWithSelector(ICourt.CommitmentTooYoung.selector, own, good));
            this.callAs(copier, invalidCall(a));
        }
        vm.roll(good - 1);
        callCourt(reporter, invalidCall(a));
        vm.roll(good);
        callCourt(copier, invalidCall(a));
        assertSlashed(serverAt(0), 1);
        assertEq(servers.bountyOf(copier), 0);
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10);
    }

    function callAs(address who, bytes calldata data) external {
        callCourt(who, data);
    }

    function test_CommitmentBlocks_AreThree() public view {
        assertEq(court.COMMITMENT_BLOCKS(), 3);
    }

    function test_Commit_IsGoodForOneReport() public {
        Answer memory a = invalid(0, ROOT);
        bytes32 commitment = commitmentOf(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.expectEmit(address(court));
        emit ICourt.EvidenceCommitted(commitment);
        court.commit(commitment);
        assertEq(court.committedAt(commitment), block.number);
        // Somebody who sees it makes it no younger.
        vm.roll(block.number + COMMITMENT_BLOCKS);
        vm.expectRevert(abi.encodeWithSelector(ICourt.AlreadyCommitted.selector, commitment));
        court.commit(commitment);
        callCourt(reporter, invalidCall(a));
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotCommitted.selector, commitment));
        this.callAs(reporter, invalidCall(a));
    }

    function testFuzz_Commit_BindsReporterFaultAndEvidence(address who, uint8 fault, bytes32 flip) public {
        Answer memory a = invalid(0, ROOT);
        if (fault % 2 == 0) (who, flip) = (reporter, 0);
        fault = uint8(bound(fault, 0, uint8(type(Fault).max)));
        bytes32 commitment = keccak256(abi.encode(who, Fault(fault), evidenceOf(a) ^ flip));
        court.commit(commitment);
        assertEq(court.committedAt(commitment), block.number);
        vm.roll(block.number + COMMITMENT_BLOCKS);
        bool all = who == reporter && fault == uint8(Fault.InvalidPartial) && flip == 0;
        vm.prank(reporter);
        (bool success,) = address(court).call(invalidCall(a));
        assertEq(success, all);
    }

    function testFuzz_CommittedAt_IsTheBlock(bytes32 commitment, uint32 later) public {
        assertEq(court.committedAt(commitment), 0);
        vm.roll(block.number + later);
        court.commit(commitment);
        assertEq(court.committedAt(commitment), block.number);
    }

    // ------------------------------------------------------------------------------------------------ one penalty

    function test_Penalty_OnceForEachServerKeyEpochAndKind() public {
        reportInvalid(invalid(0, ROOT));
        assertSlashed(serverAt(0), 1);
        Answer memory second = invalid(0, keccak256("second"));
        second.envelope.slot = 640;
        seal(second);
        commitAs(reporter, Fault.InvalidPartial, evidenceOf(second));
        vm.expectEmit(address(court));
        emit ICourt.FaultRecorded(Fault.InvalidPartial, serverAt(0), 1, 0, evidenceOf(second), reporter);
        callCourt(reporter, invalidCall(second));
        assertSlashed(serverAt(0), 1);
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10, "no second bounty");

        // Another kind, another server, another key.
        reportGarbage(garbage(0, ROOT));
        assertSlashed(serverAt(0), 2);
        reportInvalid(invalid(1, ROOT));
        assertSlashed(serverAt(1), 1);
    }

    function test_Penalty_EachKeyHasItsOwn() public {
        Ceremony memory c = makeKey(3, 4, 2);
        uint32 id = c.committee[0];
        reportInvalid(withPartial(honest(c, 0, ROOT), ThresholdKeys.sign(1, ROOT)));
        assertSlashed(id, 1);
        // The same server in the first key, if it is there.
        for (uint256 i; i < 4; ++i) {
            if (serverAt(i) != id) continue;
            reportInvalid(invalid(i, ROOT));
            assertSlashed(id, 2);
            return;
        }
        revert("seeds without a server in common");
    }

    /// A disk fault: twenty bad partials, of two keys. The oldest is charged, governance looks into it, and somebody shows the others.
    function test_Reinstated_OldEvidenceIsRecordedOnly() public {
        uint64 last = _slotNow();
        reportInvalid(_bad(last - 20));
        assertSlashed(serverAt(0), 1);
        vm.warp(GENESIS_TIME + 12 * last + 11);
        servers.reinstate(serverAt(0), "restored from a backup; fixed");
        for (uint64 slot = last - 20; slot <= last; ++slot) {
            reportInvalid(_bad(slot));
        }
        // Of another kind or key it was never charged; it is of the time before all the same.
        reportGarbage(garbage(0, ROOT));
        reportConflict(vote(0, 9, 10, ROOT), vote(0, 9, 10, keccak256("x")));
        Ceremony memory c = makeKey(3, 4, 2);
        for (uint256 i; i < 4; ++i) {
            if (c.committee[i] != serverAt(0)) continue;
            reportInvalid(withPartial(honest(c, i, ROOT), ThresholdKeys.sign(1, ROOT)));
        }
        assertEq(servers.server(serverAt(0)).bond, 10 ether - SEAT_BOND);
        assertTrue(servers.isActive(serverAt(0)), "locked out again for what was looked into");
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10);

        // What comes after is a fault of its own, once.
        reportInvalid(_bad(last + 1));
        assertSlashed(serverAt(0), 2);
        reportInvalid(_bad(last + 2));
        assertSlashed(serverAt(0), 2);
    }

    /// The slot that begins with the reinstatement is of the time after, the one before it is not.
    function test_Reinstated_FromItsSecondOn() public {
        uint64 slot = _slotNow() + 1;
        reportInvalid(_bad(1));
        vm.warp(GENESIS_TIME + 12 * slot);
        servers.reinstate(serverAt(0), "restored from a backup; fixed");
        reportInvalid(_bad(slot - 1));
        assertTrue(servers.isActive(serverAt(0)));
        reportInvalid(_bad(slot));
        assertSlashed(serverAt(0), 2);
    }

    /// A vote from before, and one from after that conflicts with it, are of the time after, in either order.
    function test_Reinstated_TheLaterOfTwoDatesAConflict() public {
        reportInvalid(invalid(0, ROOT));
        servers.reinstate(serverAt(0), "restored from a backup; fixed");
        uint64 target = _slotNow() / 32 + 1;
        reportConflict(vote(0, target - 3, target - 2, ROOT), vote(0, target - 3, target - 2, keccak256("x")));
        assertTrue(servers.isActive(serverAt(0)));
        reportConflict(vote(0, target - 2, target - 1, ROOT), vote(0, target - 3, target, keccak256("x")));
        assertSlashed(serverAt(0), 2);
    }

    function _slotNow() private view returns (uint64) {
        return uint64((block.timestamp - GENESIS_TIME) / 12);
    }

    function _bad(uint64 slot) private view returns (Answer memory a) {
        a = invalid(0, ROOT);
        a.envelope.slot = slot;
        seal(a);
    }

    /// Else what it signed for the year 3000 would be of the time after every reinstatement, and charged after each.
    function test_Penalty_ASlotStillToComeDatesNothing() public {
        uint64 current = _slotNow();
        reportInvalid(_bad(current + 33));
        assertSlashed(serverAt(0), 1);
        servers.reinstate(serverAt(0), "restored from a backup; fixed");
        reportInvalid(_bad(current + 33));
        assertTrue(servers.isActive(serverAt(0)), "shown before");
        reportInvalid(_bad(current + 32));
        assertSlashed(serverAt(0), 2);
    }

    /// What has no slot is charged once per digest, and never twice; whatever slot its signer writes beside it.
    function test_Penalty_OfWhatHasNoSlot() public {
        Answer memory exit = other(0, EXIT, 0, ROOT);
        reportUnauthorised(exit);
        Answer memory second = other(0, EXIT, 0, keccak256("second"));
        reportUnauthorised(second);
        assertSlashed(serverAt(0), 1);
        servers.reinstate(serverAt(0), "key of the operator stolen");
        reportUnauthorised(exit);
        reportUnauthorised(second);
        assertEq(servers.server(serverAt(0)).bond, 10 ether - SEAT_BOND);
        reportUnauthorised(other(0, EXIT, 1, keccak256("third")));
        assertSlashed(serverAt(0), 2);
    }

    /// Else a server that was reinstated once answers every challenge with a wrong partial and slot 1, for nothing, and gets the fee.
    function test_Penalty_NoSlotDatesWhatTheChainOrders() public {
        reportInvalid(invalid(1, keccak256("first")));
        servers.reinstate(serverAt(1), "fixed");
        vm.warp(block.timestamp + 10 days);
        Answer memory deposit = withPartial(other(1, DEPOSIT, 1, ROOT), ThresholdKeys.sign(12_345, ROOT));
        reportInvalid(deposit);
        assertSlashed(serverAt(1), 2);
        bytes memory none = deposit.partial_;
        none[255] ^= 0x01;
        reportGarbage(withPartial(deposit, none));
        assertSlashed(serverAt(1), 3);
    }

    /// Two lock-outs in a 3-of-4 key: it signs on, with the correct partials of the locked out.
    function test_LockOut_TwoOfFourAndTheKeySignsOn() public {
        reportInvalid(invalid(0, ROOT));
        reportInvalid(invalid(1, ROOT));
        Ceremony memory c = made();
        (uint256 healthy, uint8 threshold) =
            keys.healthyShares(c.keyId, c.committee, c.signers, c.keySet.points);
        assertEq(healthy, 2);
        assertEq(threshold, 3);
        uint256[] memory indices = new uint256[](3);
        bytes[] memory partials = new bytes[](3);
        for (uint256 i; i < 3; ++i) {
            indices[i] = i + 1;
            partials[i] = honest(c, i, ROOT).partial_;
        }
        assertEq(ThresholdKeys.combine(indices, partials), ThresholdKeys.sign(c.keySet.coefficients[0], ROOT));
    }

    // ---------------------------------------------------------------------------------------- replay and rotation

    /// Evidence of one key, epoch, share, registry or chain is none of another.
    function test_Replay_OfAnotherKeyEpochShareRegistryOrChain() public {
        Answer memory a = invalid(0, ROOT);
        Ceremony memory c = makeKey(3, 4, 2);
        // The envelope names key 2 now, but was signed for key 1.
        a.envelope.keyId = 2;
        a.holder = holderOf(c, 0);
        _refuse(a, ICourt.NotShareHolder.selector);
        a = invalid(0, ROOT);
        a.envelope.keyId = 2;
        _refuse(a, ICourt.NotShareHolder.selector);
        a = invalid(0, ROOT);
        a.envelope.keyId = 3;
        _refuse(a, ICourt.NotShareHolder.selector);
        a = invalid(0, ROOT);
        a.envelope.committeeEpoch = 1;
        seal(a);
        _refuse(a, ICourt.NotShareHolder.selector);
        a = invalid(0, ROOT);
        a.envelope.index = 2;
        _refuse(a, ICourt.NotShareHolder.selector);
        // Signed for another registry, and on another chain.
        a = invalid(0, ROOT);
        a.signature = sign(signerSecret[a.holder.server], envelopeDigest(address(servers), a.envelope));
        _refuse(a, ICourt.NotShareHolder.selector);
        a = invalid(0, ROOT);
        vm.chainId(block.chainid + 1);
        _refuse(a, ICourt.NotShareHolder.selector);
    }

    function _refuse(Answer memory a, bytes4 error_) private {
        refuse(Fault.InvalidPartial, evidenceOf(a), invalidCall(a), selector(error_));
    }

    /// Fields that the envelope signs cannot be changed after.
    function testFuzz_Replay_EveryFieldIsSigned(uint8 field, uint64 change) public {
        Answer memory a = invalid(0, ROOT);
        vm.assume(change != 0);
        field %= 5;
        if (field == 0) a.envelope.dutyKind ^= uint8(change % 255 + 1);
        if (field == 1) a.envelope.slot ^= change;
        if (field == 2) a.envelope.sourceEpoch ^= change;
        if (field == 3) a.envelope.targetEpoch ^= change;
        if (field == 4) a.envelope.signingRoot ^= bytes32(uint256(change));
        _refuse(a, ICourt.NotShareHolder.selector);
    }

    function test_Rotation_TheOldSignerStaysPunishable() public {
        Answer memory a = invalid(0, ROOT);
        address operator = servers.server(a.holder.server).operator;
        bytes memory proof = signerProof(0xbeef, operator);
        vm.startPrank(operator);
        servers.setSigner(a.holder.server, vm.addr(0xbeef), proof);
        servers.announceLeave(a.holder.server);
        vm.stopPrank();
        reportInvalid(a);
        assertSlashed(a.holder.server, 1);
    }

    /// While its seat is reserved after the key's end, not a day longer.
    function test_Evidence_CountsUntilTheSeatsAreFreed() public {
        Ceremony memory c = made();
        consumer.retire(1, false);
        skip(EVIDENCE_WINDOW);
        uint256 snapshot = vm.snapshotState();
        reportInvalid(invalid(0, ROOT));
        assertSlashed(serverAt(0), 1);
        vm.revertToState(snapshot);
        keys.freeSeats(1, c.committee, c.signers, c.keySet.points);
        _refuse(invalid(0, ROOT), ICourt.NotShareHolder.selector);
    }

    /// The reporter's own server: it loses ten times what it gets.
    function test_Profit_NoneInReportingOneself() public {
        Answer memory a = invalid(0, ROOT);
        address operator = servers.server(a.holder.server).operator;
        uint256 before = operator.balance + servers.server(a.holder.server).bond;
        commitAs(operator, Fault.InvalidPartial, evidenceOf(a));
        callCourt(operator, invalidCall(a));
        vm.prank(operator);
        servers.withdrawBounty();
        assertEq(operator.balance + servers.server(a.holder.server).bond, before - SEAT_BOND * 9 / 10);
    }

    // --------------------------------------------------------------------------------------------------- wiring

    function test_Views_AreThoseOfTheDeployment() public {
        assertEq(court.KEY_REGISTRY(), address(keys));
        assertEq(court.SERVER_REGISTRY(), address(servers));
        assertEq(court.ACKNOWLEDGEMENTS().COURT(), address(court));
        assertEq(court.GENESIS_TIME(), GENESIS_TIME);
        vm.expectRevert(
            abi.encodeWithSelector(ICourt.ForeignServerRegistry.selector, address(servers), address(court))
        );
        new Court(KeyRegistry(address(keys)), GENESIS_TIME);
    }
}
