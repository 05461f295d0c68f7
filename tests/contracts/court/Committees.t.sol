// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Challenge, Fault, ICourt, ShareHolder} from "../../../contracts/interfaces/ICourt.sol";
import {Committee, IResharing} from "../../../contracts/interfaces/IResharing.sol";
import {Resharing} from "../../../contracts/registry/Resharing.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title A key that was reshared: each committee answers for what it signed, and for nothing that another did
contract CommitteesTest is CourtFixture, ReshareFixture {
    Move private moved;
    /// Position whose member was reshared away, and that of one that stayed.
    uint256 private constant LEFT = 1;
    uint256 private constant STAYED = 0;

    function setUp() public override {
        super.setUp();
        resharing = Resharing(address(keys.RESHARING()));
        addServers(4);
        uint32 lost = serverAt(LEFT);
        servers.suspend(lost, "test");
        moved = move(made().keyId, committeeOf(made()), made().keySet.coefficients[0], 77);
    }

    function _handOver() private {
        vm.warp(resharing.committee(1, 1).handover);
    }

    function _newHolder(uint256 position) private view returns (ShareHolder memory holder) {
        holder.server = moved.made.servers[position];
        holder.shareKey = moved.keySet.shareKeys[position];
        (, holder.proof) = merkleOf(moved.made, position);
    }

    /// An invalid partial that the member at `position` of the new committee vouches for.
    function _newInvalid(uint256 position) private view returns (Answer memory a) {
        a = honest(made(), position, ROOT);
        a.holder = _newHolder(position);
        a.envelope.committeeEpoch = 1;
        a.partial_ = ThresholdKeys.sign(12_345, ROOT);
        a.envelope.partialHash = keccak256(a.partial_);
        seal(a);
    }

    function test_ProveInvalidPartial_OfWhoWasResharedAway() public {
        _handOver();
        Answer memory a = invalid(LEFT, ROOT);
        reportInvalid(a);
        assertSlashed(serverAt(LEFT), 1);
    }

    function test_ProveInvalidPartial_OfTheNewCommittee() public {
        Answer memory a = _newInvalid(LEFT);
        reportInvalid(a);
        assertSlashed(moved.made.servers[LEFT], 1);
    }

    /// The correct partial of a new share is none of the old share of the same member.
    function test_ProveInvalidPartial_NotByTheShareOfAnotherEpoch() public {
        Answer memory a = honest(made(), STAYED, ROOT);
        a.holder = _newHolder(STAYED);
        // The envelope says epoch 0, where the new share key has no leaf.
        commitAs(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.expectPartialRevert(ICourt.NotShareHolder.selector);
        this.callCourtAs(invalidCall(a));
        // Its correct partial of the new epoch, signed as such, is no fault either.
        a.envelope.committeeEpoch = 1;
        a.partial_ = ThresholdKeys.sign(moved.keySet.shares[STAYED], ROOT);
        a.envelope.partialHash = keccak256(a.partial_);
        seal(a);
        commitAs(reporter, Fault.InvalidPartial, evidenceOf(a));
        vm.expectRevert(abi.encodeWithSelector(ICourt.ValidPartial.selector, ROOT));
        this.callCourtAs(invalidCall(a));
    }

    function callCourtAs(bytes calldata data) external {
        callCourt(reporter, data);
    }

    /// A vote that `a`'s signer gives as a member of the new committee.
    function _asOfTheNew(Answer memory a, uint256 position) private view returns (Answer memory) {
        a.holder = _newHolder(position);
        a.envelope.committeeEpoch = 1;
        seal(a);
        return a;
    }

    function _acrossCall(Answer memory a, Answer memory b) private view returns (bytes memory) {
        ShareHolder[] memory holders = new ShareHolder[](2);
        (holders[0], holders[1]) = (a.holder, b.holder);
        return abi.encodeCall(
            court.proveConflictingDuties, (a.envelope, a.signature, b.envelope, b.signature, holders)
        );
    }

    /// One vote as of the committee that goes, another as of the one that comes: it has one memory for both.
    function test_ProveConflictingDuties_OfTwoCommittees() public {
        Answer memory a = vote(STAYED, 9, 12, ROOT);
        Answer memory b = _asOfTheNew(vote(STAYED, 10, 11, keccak256("another")), STAYED);
        commitAs(reporter, Fault.ConflictingDuties, evidenceOf(a, b));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.ConflictingDuties,
            serverAt(STAYED),
            1,
            1,
            evidenceOf(a, b),
            reporter,
            SEAT_BOND,
            SEAT_BOND / 10
        );
        this.callCourtAs(_acrossCall(a, b));
        assertSlashed(serverAt(STAYED), 1);
    }

    /// The same pair told the other way round would be of another committee epoch, and a second penalty.
    function test_ProveConflictingDuties_OfTwoCommitteesOnce() public {
        Answer memory a = vote(STAYED, 9, 12, ROOT);
        Answer memory b = _asOfTheNew(vote(STAYED, 10, 11, keccak256("another")), STAYED);
        report(Fault.ConflictingDuties, evidenceOf(a, b), _acrossCall(a, b));
        refuse(
            Fault.ConflictingDuties,
            evidenceOf(a, b),
            _acrossCall(b, a),
            selector(ICourt.DifferentSubjects.selector)
        );
        // With one holder for both, of either committee.
        for (uint256 i; i < 2; ++i) {
            Answer memory c = vote(STAYED, 9, 12, ROOT);
            if (i == 1) c.holder = b.holder;
            refuse(
                Fault.ConflictingDuties,
                evidenceOf(c, b),
                conflictCall(c, b),
                selector(ICourt.NotShareHolder.selector)
            );
        }
        assertSlashed(serverAt(STAYED), 1);
    }

    /// Who took a seat over did not sign what its predecessor did, and did not hold the share.
    function test_ProveConflictingDuties_NotOfASeatsTwoHolders() public {
        Answer memory a = vote(LEFT, 9, 10, ROOT);
        Answer memory b = honest(made(), LEFT, keccak256("another"));
        b.holder = _newHolder(LEFT);
        b.envelope.committeeEpoch = 1;
        b.signature = sign(signerSecret[moved.made.servers[LEFT]], evidenceOf(b));
        bytes4 refusal = ICourt.DifferentSubjects.selector;
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), _acrossCall(a, b), selector(refusal));
        b.holder.server = a.holder.server;
        refusal = ICourt.NotShareHolder.selector;
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), _acrossCall(a, b), selector(refusal));
        // Nor do two members that stayed answer for each other.
        a = vote(STAYED, 9, 10, ROOT);
        b = _asOfTheNew(vote(2, 9, 10, keccak256("another")), 2);
        refusal = ICourt.DifferentSubjects.selector;
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), _acrossCall(a, b), selector(refusal));
    }

    /// An honest member goes on in the new committee from where it was in the old one.
    function testFuzz_Honest_AcrossAHandoverNothingConflicts(uint32 source, uint16 first, uint16 second)
        public
    {
        uint64 target = uint64(source) + first + 1;
        Answer memory a = vote(STAYED, source, target, ROOT);
        Answer memory b = _asOfTheNew(vote(STAYED, target, target + second + 1, keccak256("another")), STAYED);
        bytes memory noConflict = abi.encodeWithSelector(
            ICourt.NoConflict.selector, a.envelope.signingRoot, b.envelope.signingRoot
        );
        refuse(Fault.ConflictingDuties, evidenceOf(a, b), _acrossCall(a, b), noConflict);
    }

    /// One penalty for each committee epoch.
    function test_Sentence_AMemberOfBothEpochsPaysForEach() public {
        reportInvalid(invalid(STAYED, ROOT));
        reportInvalid(_newInvalid(STAYED));
        assertSlashed(serverAt(STAYED), 2);
    }

    // --------------------------------------------------------------------------------------------- challenges

    function _challenge(uint256 position, ShareHolder memory holder, address signer) private {
        uint256 fee = court.answerFee();
        vm.deal(reporter, fee);
        vm.prank(reporter);
        court.challengeSignature{value: fee}(1, uint8(position + 1), ROOT, signer, holder);
    }

    function test_ChallengeSignature_OfTheCommitteeWhoseTurnItIs() public {
        consumer.order(1, ROOT);
        address newSigner = moved.made.signers[LEFT];
        ShareHolder memory old = holderOf(made(), LEFT);
        ShareHolder memory new_ = _newHolder(LEFT);
        vm.expectPartialRevert(ICourt.NotShareHolder.selector);
        this.challengeAs(LEFT, new_, newSigner);
        _handOver();
        vm.expectPartialRevert(ICourt.NotShareHolder.selector);
        this.challengeAs(LEFT, old, made().signers[LEFT]);
        _challenge(LEFT, new_, newSigner);
        assertEq(court.challenge(1, uint8(LEFT + 1), ROOT).committeeEpoch, 1);
        // Nobody answers, and the new member pays.
        vm.roll(block.number + 7_201);
        court.proveUnansweredChallenge(1, uint8(LEFT + 1), ROOT);
        assertSlashed(moved.made.servers[LEFT], 1);
    }

    function challengeAs(uint256 position, ShareHolder calldata holder, address signer) external {
        _challenge(position, holder, signer);
    }

    /// Asks the member that stays so many seconds before the handover.
    function _askBeforeTheHandover(uint256 left) private {
        consumer.order(1, ROOT);
        vm.warp(uint256(resharing.committee(1, 1).handover) - left);
        _challenge(STAYED, holderOf(made(), STAYED), made().signers[STAYED]);
        vm.roll(block.number + 7_201);
    }

    /// Whoever is asked less than a day before another committee takes over must not sign any more, and does not pay for it.
    function test_ProveUnansweredChallenge_VoidAfterTheHandover() public {
        _askBeforeTheHandover(1 days);
        _handOver();
        vm.expectEmit(address(court));
        emit ICourt.ChallengeVoid(1, uint8(STAYED + 1), ROOT);
        court.proveUnansweredChallenge(1, uint8(STAYED + 1), ROOT);
        assertSlashed(serverAt(STAYED), 0);
        assertGt(court.feesOf(reporter), 0, "the fee comes back");
    }

    /// Who kept silent for its whole day pays before the handover and after it.
    function test_ProveUnansweredChallenge_OfAWholeDayBeforeTheHandover() public {
        _askBeforeTheHandover(1 days + 1);
        uint256 snapshot = vm.snapshotState();
        vm.warp(block.timestamp + 1 days);
        court.proveUnansweredChallenge(1, uint8(STAYED + 1), ROOT);
        assertSlashed(serverAt(STAYED), 1);
        vm.revertToState(snapshot);
        _handOver();
        court.proveUnansweredChallenge(1, uint8(STAYED + 1), ROOT);
        assertSlashed(serverAt(STAYED), 1);
    }

    /// Nobody is let off for a handover that is still to come.
    function test_ProveUnansweredChallenge_WhileTheCommitteeServes() public {
        _askBeforeTheHandover(1 days);
        court.proveUnansweredChallenge(1, uint8(STAYED + 1), ROOT);
        assertSlashed(serverAt(STAYED), 1);
    }

    /// A member that goes asks itself just before: who takes its index over can be asked all the same.
    function test_ChallengeSignature_InThePlaceOfOneToAnOlderCommittee() public {
        consumer.order(1, ROOT);
        vm.warp(uint256(resharing.committee(1, 1).handover) - 1);
        _challenge(LEFT, holderOf(made(), LEFT), made().signers[LEFT]);
        uint256 fee = court.challenge(1, uint8(LEFT + 1), ROOT).fee;
        _handOver();
        ShareHolder memory holder = _newHolder(LEFT);
        vm.expectEmit(address(court));
        emit ICourt.ChallengeVoid(1, uint8(LEFT + 1), ROOT);
        this.challengeAs(LEFT, holder, moved.made.signers[LEFT]);
        assertEq(court.feesOf(reporter), fee, "the fee goes back");
        assertEq(address(court).balance, 2 * fee);
        assertEq(court.challenge(1, uint8(LEFT + 1), ROOT).server, moved.made.servers[LEFT]);
        vm.expectPartialRevert(ICourt.AlreadyChallenged.selector);
        this.challengeAs(LEFT, holder, moved.made.signers[LEFT]);
        vm.roll(block.number + 7_201);
        court.proveUnansweredChallenge(1, uint8(LEFT + 1), ROOT);
        assertSlashed(moved.made.servers[LEFT], 1);
        assertSlashed(serverAt(LEFT), 0);
    }

    /// Nor does a new challenge cover up silence that is a fault.
    function test_ChallengeSignature_NotInThePlaceOfAFault() public {
        _askBeforeTheHandover(1 days + 1);
        _handOver();
        ShareHolder memory holder = _newHolder(STAYED);
        vm.expectPartialRevert(ICourt.AlreadyChallenged.selector);
        this.challengeAs(STAYED, holder, moved.made.signers[STAYED]);
        court.proveUnansweredChallenge(1, uint8(STAYED + 1), ROOT);
        assertSlashed(serverAt(STAYED), 1);
        _challenge(STAYED, holder, moved.made.signers[STAYED]);
    }

    /// An envelope of the other epoch is no answer, though its signer is the one who was asked.
    function test_AnswerSignature_OfTheEpochThatWasAsked() public {
        consumer.order(1, ROOT);
        _handOver();
        _challenge(STAYED, _newHolder(STAYED), moved.made.signers[STAYED]);
        Answer memory a = honest(made(), STAYED, ROOT);
        a.envelope.dutyKind = 1;
        (a.envelope.slot, a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0, 0);
        seal(a);
        vm.expectPartialRevert(ICourt.NoAnswer.selector);
        court.answerSignature(a.envelope, a.signature, a.partial_);
        a.envelope.committeeEpoch = 1;
        seal(a);
        court.answerSignature(a.envelope, a.signature, a.partial_);
        Challenge memory none;
        assertEq(abi.encode(court.challenge(1, uint8(STAYED + 1), ROOT)), abi.encode(none));
    }
}
