// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Challenge, Fault, ICourt, ShareHolder} from "../../../contracts/interfaces/ICourt.sol";
import {DealtImport} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title Silence: asked and answered on-chain, or a fault
contract ChallengesTest is CourtFixture {
    address private challenger = makeAddr("challenger");
    uint256 private fee;

    function setUp() public override {
        super.setUp();
        vm.fee(7 gwei);
        fee = court.answerFee();
        consumer.order(1, ROOT);
        vm.deal(challenger, 1 ether);
    }

    function _call(Answer memory a) private view returns (bytes memory) {
        return abi.encodeCall(
            court.challengeSignature,
            (
                a.envelope.keyId,
                a.envelope.index,
                a.envelope.signingRoot,
                vm.addr(signerSecret[a.holder.server]),
                a.holder
            )
        );
    }

    function _ask(Answer memory a) private {
        vm.prank(challenger);
        (bool success,) = address(court).call{value: fee}(_call(a));
        assertTrue(success, "a challenge was refused");
    }

    function _refuseAsking(uint256 value, bytes memory data, bytes memory refusal) private {
        vm.prank(challenger);
        (bool success, bytes memory answer) = address(court).call{value: value}(data);
        assertFalse(success, "taken");
        assertEq(answer, refusal, "another refusal");
        assertEq(challenger.balance, 1 ether);
    }

    function _answer(Answer memory a) private {
        court.answerSignature(a.envelope, a.signature, a.partial_);
    }

    function _deposit(uint256 position) private view returns (Answer memory) {
        return other(position, DEPOSIT, 0, ROOT);
    }

    function _id(uint8 index) private pure returns (bytes32) {
        return keccak256(abi.encode(uint256(1), index, ROOT));
    }

    // ---------------------------------------------------------------------------------------------- asking

    function test_ChallengeSignature_AsksTheHolderOfAShare() public {
        Answer memory a = _deposit(1);
        uint64 deadline = uint64(block.number) + court.CHALLENGE_BLOCKS();
        vm.expectEmit(address(court));
        emit ICourt.SignatureChallenged(1, 2, ROOT, serverAt(1), challenger, deadline, fee);
        vm.prank(challenger);
        court.challengeSignature{value: fee}(1, 2, ROOT, made().signers[1], a.holder);
        Challenge memory it = court.challenge(1, 2, ROOT);
        assertEq(it.challenger, challenger);
        assertEq(it.deadline, deadline);
        assertEq(it.server, serverAt(1));
        assertEq(it.signer, made().signers[1]);
        assertEq(it.fee, fee);
        assertEq(address(court).balance, fee);
    }

    /// What was not ordered, and what a key that is no more would have had to sign.
    function test_ChallengeSignature_NotForWhatMustNotBeSigned() public {
        bytes32 another = keccak256("never ordered");
        bytes memory refusal = abi.encodeWithSelector(ICourt.NotOwed.selector, 1, another);
        _refuseAsking(fee, _call(other(1, DEPOSIT, 0, another)), refusal);
        consumer.retire(1, false);
        refusal = abi.encodeWithSelector(ICourt.NotOwed.selector, 1, ROOT);
        _refuseAsking(fee, _call(_deposit(1)), refusal);
    }

    /// Nobody orders anything of a dealt key, nor of one that is still being made.
    function test_ChallengeSignature_NotOfADealtKeyOrBeforeItIsLive() public {
        uint32[] memory committee = ids(1, 2, 3, 4);
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) =
            dealKey(address(this), 3, committee, 9);
        Ceremony memory c;
        c.keyId = keys.importDealt(dealt);
        (c.members, c.committee, c.signers, c.keySet) = (4, committee, signersOf(committee), keySet);
        bytes memory refusal = abi.encodeWithSelector(ICourt.NotOwed.selector, c.keyId, ROOT);
        _refuseAsking(fee, _call(honest(c, 0, ROOT)), refusal);
        c = requestAndDraw(3, 4, keccak256("another draw"));
        runDkg(c, 3);
        refusal = abi.encodeWithSelector(ICourt.NotOwed.selector, c.keyId, ROOT);
        _refuseAsking(fee, _call(honest(c, 0, ROOT)), refusal);
    }

    function test_ChallengeSignature_NotBelowTheCostOfAnAnswer() public {
        bytes memory refusal = abi.encodeWithSelector(ICourt.FeeTooSmall.selector, fee - 1, fee);
        _refuseAsking(fee - 1, _call(_deposit(1)), refusal);
        assertEq(court.answerFee(), 120_000 * 15 gwei);
    }

    function test_ChallengeSignature_OnlyOfTheHolder() public {
        Answer memory a = _deposit(1);
        a.holder.server = serverAt(2);
        bytes memory refusal =
            abi.encodeWithSelector(ICourt.NotShareHolder.selector, 1, 2, serverAt(2), made().signers[2]);
        _refuseAsking(fee, _call(a), refusal);
    }

    function test_ChallengeSignature_OneAtATime() public {
        _ask(_deposit(1));
        _ask(_deposit(2));
        vm.deal(challenger, 1 ether);
        bytes memory refusal = abi.encodeWithSelector(ICourt.AlreadyChallenged.selector, _id(2));
        _refuseAsking(fee, _call(_deposit(1)), refusal);
    }

    function testFuzz_ChallengeSignature_ExactlyForOrders(bytes32 root, bool ordered, uint96 value) public {
        if (ordered) consumer.order(1, root);
        value = uint96(bound(value, 0, 1 ether));
        ShareHolder memory holder = _deposit(3).holder;
        address signer = made().signers[3];
        vm.prank(challenger);
        if (!ordered && root != ROOT) {
            vm.expectRevert(abi.encodeWithSelector(ICourt.NotOwed.selector, 1, root));
        } else if (value < fee) {
            vm.expectRevert(abi.encodeWithSelector(ICourt.FeeTooSmall.selector, value, fee));
        }
        court.challengeSignature{value: value}(1, 4, root, signer, holder);
        assertEq(address(court).balance, court.challenge(1, 4, root).fee);
    }

    function testFuzz_Challenge_NoneThatWasNotMade(uint256 keyId, uint8 index, bytes32 root) public view {
        assertEq(court.challenge(keyId, index, root).challenger, address(0));
    }

    // ------------------------------------------------------------------------------------------ answering

    /// Whoever brings it, the fee is the operator's.
    function test_AnswerSignature_EndsItAndPaysTheOperator() public {
        Answer memory a = _deposit(1);
        _ask(a);
        vm.roll(court.challenge(1, 2, ROOT).deadline);
        vm.expectEmit(address(court));
        emit ICourt.SignatureAnswered(1, 2, ROOT, DEPOSIT, 0, 0, 0, a.signature, a.partial_);
        vm.prank(makeAddr("whoever copied it"));
        court.answerSignature(a.envelope, a.signature, a.partial_);
        address operator = servers.server(serverAt(1)).operator;
        assertEq(court.feesOf(operator), fee);
        assertEq(court.challenge(1, 2, ROOT).challenger, address(0));
        vm.roll(block.number + 10_000);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(2)));
        court.proveUnansweredChallenge(1, 2, ROOT);
        uint256 before = operator.balance;
        vm.prank(operator);
        court.withdrawFees();
        assertEq(operator.balance, before + fee);
        assertEq(address(court).balance, 0);
        assertSlashed(serverAt(1), 0);
    }

    function test_AnswerSignature_NothingElseIsOne() public {
        _ask(_deposit(1));
        bytes memory refusal = abi.encodeWithSelector(ICourt.NoAnswer.selector, _id(2));
        // Of another server; of a kind that needs no order; of a committee that there is not; no partial.
        Answer memory a = _deposit(1);
        a.signature = sign(signerSecret[serverAt(2)], evidenceOf(a));
        _refuseAnswer(a, refusal);
        _refuseAnswer(other(1, ATTESTATION, 0, ROOT), refusal);
        a = _deposit(1);
        a.envelope.committeeEpoch = 1;
        seal(a);
        _refuseAnswer(a, refusal);
        a = withPartial(_deposit(1), new bytes(255));
        _refuseAnswer(a, refusal);
        // A partial that the envelope does not vouch for.
        a = _deposit(1);
        a.partial_ = ThresholdKeys.sign(5, ROOT);
        _refuseAnswer(
            a,
            abi.encodeWithSelector(
                ICourt.WrongPartial.selector, keccak256(a.partial_), a.envelope.partialHash
            )
        );
        // Of what nobody asked.
        a = _deposit(2);
        _refuseAnswer(a, abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(3)));
        // After the last block.
        uint64 deadline = court.challenge(1, 2, ROOT).deadline;
        vm.roll(deadline + 1);
        _refuseAnswer(_deposit(1), abi.encodeWithSelector(ICourt.TooLate.selector, _id(2), deadline));
    }

    function _refuseAnswer(Answer memory a, bytes memory refusal) private {
        vm.expectRevert(refusal);
        court.answerSignature(a.envelope, a.signature, a.partial_);
    }

    /// An answer with a wrong partial is evidence.
    function test_AnswerSignature_AWrongPartialIsItsOwnFault() public {
        Answer memory a = withPartial(_deposit(1), ThresholdKeys.sign(5, ROOT));
        _ask(a);
        _answer(a);
        reportInvalid(a);
        assertSlashed(serverAt(1), 1);
    }

    function testFuzz_AnswerSignature_OfTheHolderAlone(uint8 position, uint256 secret, bool honest_) public {
        position %= 4;
        Answer memory a = _deposit(position);
        _ask(a);
        secret = bound(secret, 1, type(uint128).max);
        if (!honest_) a.signature = sign(secret, evidenceOf(a));
        if (!honest_) {
            vm.expectRevert(abi.encodeWithSelector(ICourt.NoAnswer.selector, _id(position + 1)));
        }
        court.answerSignature(a.envelope, a.signature, a.partial_);
        assertEq(court.challenge(1, position + 1, ROOT).challenger == address(0), honest_);
    }

    // ------------------------------------------------------------------------------------------------ silence

    function test_ProveUnansweredChallenge_SlashesAndLocksOut() public {
        _ask(_deposit(1));
        uint64 deadline = court.challenge(1, 2, ROOT).deadline;
        vm.roll(deadline);
        vm.expectRevert(abi.encodeWithSelector(ICourt.StillTime.selector, _id(2), deadline));
        court.proveUnansweredChallenge(1, 2, ROOT);
        vm.roll(deadline + 1);
        bytes32 evidence = keccak256(abi.encode(_id(2), deadline));
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.UnansweredChallenge, serverAt(1), 1, 0, evidence, challenger, SEAT_BOND, SEAT_BOND / 10
        );
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertSlashed(serverAt(1), 1);
        assertEq(servers.bountyOf(challenger), SEAT_BOND / 10);
        assertEq(court.feesOf(challenger), fee);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(2)));
        court.proveUnansweredChallenge(1, 2, ROOT);
    }

    /// One that asks itself and proves nothing would else keep everybody from asking, and whoever proved it would get nothing.
    function test_ProveUnansweredChallenge_ASelfChallengeShieldsNobody() public {
        address prover = makeAddr("prover");
        _ask(_deposit(1));
        assertEq(court.BOUNTY_HOLD_BLOCKS(), 50);
        uint256 held = court.challenge(1, 2, ROOT).deadline + court.BOUNTY_HOLD_BLOCKS();
        vm.roll(held);
        uint256 before = vm.snapshotState();
        vm.prank(prover);
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertEq(servers.bountyOf(challenger), SEAT_BOND / 10, "held for who asked");
        vm.revertToState(before);
        vm.roll(held + 1);
        vm.prank(prover);
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertSlashed(serverAt(1), 1);
        assertEq(servers.bountyOf(prover), SEAT_BOND / 10, "whoever proves it");
        assertEq(servers.bountyOf(challenger), 0);
        assertEq(court.feesOf(challenger), fee, "the fee goes back");
    }

    /// Honest servers sign nothing for a key that was given up, so from then on silence is right.
    function test_ProveUnansweredChallenge_NotOfAKeyThatWasGivenUp() public {
        _ask(_deposit(1));
        consumer.retire(1, false);
        vm.roll(court.challenge(1, 2, ROOT).deadline + 1);
        vm.expectEmit(address(court));
        emit ICourt.ChallengeVoid(1, 2, ROOT);
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertSlashed(serverAt(1), 0);
        assertEq(court.feesOf(challenger), fee);
    }

    /// A pool that is given up at the end of the day, or after it, makes good nothing.
    function testFuzz_ProveUnansweredChallenge_OfAKeyThatWasGivenUpLater(uint256 after_, bool burned) public {
        after_ = bound(after_, 0, 2 days);
        _ask(_deposit(1));
        vm.warp(block.timestamp + after_);
        consumer.retire(1, burned);
        vm.roll(court.challenge(1, 2, ROOT).deadline + 1);
        vm.warp(block.timestamp + 3 days);
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertSlashed(serverAt(1), after_ > 1 days ? 1 : 0);
    }

    /// Going on in silence is charged again, once per term.
    function test_ProveUnansweredChallenge_OnceInATerm() public {
        for (uint256 i; i < 2; ++i) {
            _ask(_deposit(1));
            vm.roll(court.challenge(1, 2, ROOT).deadline + 1);
            court.proveUnansweredChallenge(1, 2, ROOT);
            assertSlashed(serverAt(1), 1);
        }
        servers.reinstate(serverAt(1), "found and fixed");
        _ask(_deposit(1));
        vm.roll(court.challenge(1, 2, ROOT).deadline + 1);
        court.proveUnansweredChallenge(1, 2, ROOT);
        assertSlashed(serverAt(1), 2);
    }

    function testFuzz_ProveUnansweredChallenge_AfterTheDeadlineOnly(uint64 later, bool answered) public {
        _ask(_deposit(0));
        later = uint64(bound(later, 0, 20_000));
        if (answered) _answer(_deposit(0));
        vm.roll(block.number + later);
        bool guilty = !answered && later > court.CHALLENGE_BLOCKS();
        if (!guilty) vm.expectRevert();
        court.proveUnansweredChallenge(1, 1, ROOT);
        assertSlashed(serverAt(0), guilty ? 1 : 0);
    }

    // --------------------------------------------------------------------------------------------------- fees

    function test_WithdrawFees_OnceAndNotByContractsThatRefuse() public {
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoFees.selector, challenger));
        vm.prank(challenger);
        court.withdrawFees();
        vm.etch(challenger, hex"fe");
        _ask(_deposit(1));
        vm.roll(court.challenge(1, 2, ROOT).deadline + 1);
        court.proveUnansweredChallenge(1, 2, ROOT);
        vm.expectRevert(abi.encodeWithSelector(ICourt.TransferFailed.selector, challenger, fee));
        vm.prank(challenger);
        court.withdrawFees();
        vm.etch(challenger, "");
        vm.prank(challenger);
        court.withdrawFees();
        assertEq(challenger.balance, 1 ether);
        assertEq(court.feesOf(challenger), 0);
    }

    function testFuzz_FeesOf_NobodysAtFirst(address account) public view {
        assertEq(court.feesOf(account), 0);
    }
}
