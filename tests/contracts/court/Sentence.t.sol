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
        vm.expectRevert(abi.encodeWithSelector(ICourt.CommittedInThisBlock.selector, own));
        this.callAs(copier, invalidCall(a));
        callCourt(reporter, invalidCall(a));
        vm.roll(block.number + 1);
        callCourt(copier, invalidCall(a));
        assertSlashed(serverAt(0), 1);
        assertEq(servers.bountyOf(copier), 0);
        assertEq(servers.bountyOf(reporter), SEAT_BOND / 10);
    }

    function callAs(address who, bytes calldata data) external {
        callCourt(who, data);
    }

    function test_Commit_IsGoodForOneReport() public {
        Answer memory a = invalid(0, ROOT);
        bytes32 commitment = commitmentOf(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.expectEmit(address(court));
        emit ICourt.EvidenceCommitted(commitment);
        court.commit(commitment);
        assertEq(court.committedAt(commitment), block.number);
        // Somebody who sees it makes it no younger.
        vm.roll(block.number + 1);
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
        vm.roll(block.number + 1);
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

    function test_Penalty_AfterAReinstatementForWhatIsLaterOnly() public {
        reportConflict(vote(0, 9, 10, ROOT), vote(0, 9, 10, keccak256("x")));
        reportConflict(vote(0, 19, 20, ROOT), vote(0, 19, 20, keccak256("x")));
        assertSlashed(serverAt(0), 1);
        servers.reinstate(serverAt(0), "restored from a backup; fixed");

        // Shown before, and older than what was shown before.
        reportConflict(vote(0, 19, 20, ROOT), vote(0, 19, 20, keccak256("x")));
        reportConflict(vote(0, 19, 20, keccak256("x")), vote(0, 19, 20, ROOT));
        reportConflict(vote(0, 14, 15, ROOT), vote(0, 14, 15, keccak256("x")));
        assertEq(servers.server(serverAt(0)).bond, 10 ether - SEAT_BOND);
        assertTrue(servers.isActive(serverAt(0)));
        // The later of the two dates a pair.
        reportConflict(vote(0, 6, 20, ROOT), vote(0, 5, 22, keccak256("x")));
        assertSlashed(serverAt(0), 2);
    }

    /// Else it would show itself a slot of the year 3000 while it is locked out, and never pay again.
    function test_Penalty_ASlotStillToComeDatesNothing() public {
        reportInvalid(invalid(0, ROOT));
        uint64 current = uint64((block.timestamp - GENESIS_TIME) / 12);
        Answer memory future = invalid(0, keccak256("future"));
        future.envelope.slot = current + 33;
        seal(future);
        reportInvalid(future);
        servers.reinstate(serverAt(0), "restored from a backup; fixed");
        reportInvalid(future);
        assertTrue(servers.isActive(serverAt(0)), "shown before");
        Answer memory last = invalid(0, keccak256("now"));
        last.envelope.slot = current + 32;
        seal(last);
        reportInvalid(last);
        assertSlashed(serverAt(0), 2);
    }

    /// What has no slot is charged once per digest, and never twice.
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
        reportUnauthorised(other(0, EXIT, 0, keccak256("third")));
        assertSlashed(serverAt(0), 2);
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
