// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    AcknowledgementChallenge,
    IAcknowledgements,
    SignedDealing
} from "../../../contracts/interfaces/IAcknowledgements.sol";
import {
    CeremonyMessage,
    DealingDefect,
    Fault,
    ICourt,
    Opening
} from "../../../contracts/interfaces/ICourt.sol";
import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {AcknowledgementFixture} from "./AcknowledgementFixture.sol";

/// @title Silence at the end of a ceremony: asked and answered on-chain, or a fault
contract AcknowledgementsTest is AcknowledgementFixture {
    function _id(Running memory r, uint8 index) private view returns (bytes32) {
        return acknowledgements.idOf(r.c.keyId, 0, index);
    }

    function _open(Running memory r, uint8 index) private view returns (AcknowledgementChallenge memory) {
        return acknowledgements.challenge(r.c.keyId, 0, index);
    }

    function _operatorOf(Running memory r, uint8 index) private view returns (address) {
        return servers.server(r.c.committee[index - 1]).operator;
    }

    // ------------------------------------------------------------------------------------------------- asking

    function test_ChallengeAcknowledgement_AsksForWhatTheRegistryTakes() public {
        Running memory r = running(3, 4, 1);
        uint48 deadline = uint48(block.timestamp) + 1 days;
        bytes memory set = signedSet(r.c, 2);
        bytes32 digest = acknowledgementDigest(r.c);
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.AcknowledgementChallenged(
            r.c.keyId, 0, 2, r.c.committee[1], challenger, deadline, fee, digest, r.dealings
        );
        vm.prank(challenger);
        acknowledgements.challengeAcknowledgement{value: fee}(r.c.keyId, 2, r.c.committee, r.dealings, set);
        AcknowledgementChallenge memory it = _open(r, 2);
        assertEq(it.challenger, challenger);
        assertEq(it.deadline, deadline);
        assertEq(it.server, r.c.committee[1]);
        assertEq(it.signer, r.c.signers[1]);
        assertEq(it.fee, fee);
        assertEq(it.acknowledgement, digest);
        assertEq(it.committee, keys.key(r.c.keyId).commitment);
        assertEq(address(acknowledgements).balance, fee);
        // What was asked for makes the key.
        finalise(r.c);
    }

    /// Everybody is asked for the same, whatever t and n are, and it is what `finalise` takes.
    /// forge-config: default.fuzz.runs = 100
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_ChallengeAcknowledgement_ComputesTheKey(uint8 size, uint8 index, uint256 seed) public {
        uint8[2][5] memory sizes = [[uint8(3), 4], [4, 5], [4, 6], [5, 7], [7, 10]];
        uint8[2] memory of_ = sizes[size % 5];
        addServers(4);
        Running memory r = running(of_[0], of_[1], seed);
        index = uint8(bound(index, 1, of_[1]));
        bytes memory set = signedSet(r.c, index);
        vm.prank(challenger);
        acknowledgements.challengeAcknowledgement{value: fee}(
            r.c.keyId, index, r.c.committee, r.dealings, set
        );
        assertEq(_open(r, index).acknowledgement, acknowledgementDigest(r.c));
        finalise(r.c);
        assertEq(uint8(keys.key(r.c.keyId).state), uint8(KeyState.Live));
    }

    function test_Challenge_NamesWhoWasAsked() public {
        Running memory r = running(3, 4, 1);
        ask(r, 4);
        AcknowledgementChallenge memory it = acknowledgements.challenge(r.c.keyId, 0, 4);
        assertEq(it.server, r.c.committee[3]);
        assertEq(it.deadline, block.timestamp + acknowledgements.ANSWER_TIME());
        assertEq(acknowledgements.idOf(r.c.keyId, 0, 4), keccak256(abi.encode(r.c.keyId, 0, 4)));
    }

    function testFuzz_Challenge_NoneThatWasNotMade(uint256 keyId, uint16 attempt, uint8 index) public {
        Running memory r = running(3, 4, 1);
        ask(r, 4);
        bool made_ = keyId == r.c.keyId && attempt == 0 && index == 4;
        assertEq(acknowledgements.challenge(keyId, attempt, index).challenger == challenger, made_);
    }

    function testFuzz_IdOf_IsTheHashOfItsParts(uint256 keyId, uint16 attempt, uint8 index) public view {
        assertEq(
            acknowledgements.idOf(keyId, attempt, index),
            keccak256(bytes.concat(bytes32(keyId), bytes32(uint256(attempt)), bytes32(uint256(index))))
        );
    }

    function test_ChallengeAcknowledgement_NotBelowTheCostOfAnAnswer() public {
        Running memory r = running(3, 4, 1);
        bytes memory refusal = abi.encodeWithSelector(ICourt.FeeTooSmall.selector, fee - 1, fee);
        refuseAsking(fee - 1, questionTo(r, 2), refusal);
        assertEq(acknowledgements.answerFee(), 380_000 * 15 gwei);
    }

    function test_ChallengeAcknowledgement_OneAtATime() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        refuseAsking(
            fee, questionTo(r, 2), abi.encodeWithSelector(ICourt.AlreadyChallenged.selector, _id(r, 2))
        );
        ask(r, 3);
    }

    function test_ChallengeAcknowledgement_OnlyMembersOfARunningCeremony() public {
        Running memory r = running(3, 4, 1);
        bytes memory data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement,
            (r.c.keyId, 0, r.c.committee, r.dealings, signedSet(r.c, 1))
        );
        refuseAsking(fee, data, abi.encodeWithSelector(IAcknowledgements.NoMember.selector, 0));
        data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement,
            (r.c.keyId, 5, r.c.committee, r.dealings, signedSet(r.c, 1))
        );
        refuseAsking(fee, data, abi.encodeWithSelector(IAcknowledgements.NoMember.selector, 5));

        Ceremony memory requested = request(3, 4);
        uint256 drawn = r.c.keyId;
        r.c.keyId = requested.keyId;
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.NoCeremony.selector, requested.keyId);
        refuseAsking(fee, questionTo(r, 2), refusal);
        // Of key 1, Live, and of none at all.
        (r.c.keyId, refusal) = (1, abi.encodeWithSelector(IAcknowledgements.NoCeremony.selector, 1));
        refuseAsking(fee, questionTo(r, 2), refusal);
        (r.c.keyId, refusal) = (99, abi.encodeWithSelector(IAcknowledgements.NoCeremony.selector, 99));
        refuseAsking(fee, questionTo(r, 2), refusal);
        // Another committee than the one that was drawn.
        r.c.keyId = drawn;
        (r.c.committee[0], r.c.committee[1]) = (r.c.committee[1], r.c.committee[0]);
        bytes32 given = keccak256(abi.encode(r.c.committee));
        refusal = abi.encodeWithSelector(IAcknowledgements.WrongCommittee.selector, drawn, given);
        refuseAsking(fee, questionTo(r, 2), refusal);
    }

    /// A ceremony of a withdrawal key: two online members and two without network.
    function _runningWithdrawal() private returns (Running memory r) {
        for (uint256 i; i < 3; ++i) {
            servers.approve(registerServer(operatorOf(servers.serverCount()), ServerKind.Offline, 10 ether));
        }
        (r.c.threshold, r.c.members) = (3, 4);
        r.c.activeSet =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        r.c.keyId = consumer.requestWithdrawal(3, 4);
        reachSeed(r.c, "randao");
        draw(r.c);
        deal_(r, 1);
    }

    function _isOnline(Running memory r, uint8 index) private view returns (bool) {
        return servers.server(r.c.committee[index - 1]).kind == ServerKind.Online;
    }

    /// Who has to walk to a machine loses nothing by a question on a Monday.
    function test_ChallengeAcknowledgement_GivesAnOfflineServerAWeek() public {
        Running memory r = _runningWithdrawal();
        assertEq(acknowledgements.OFFLINE_ANSWER_TIME(), 7 days);
        uint256 asked = block.timestamp;
        for (uint8 index = 1; index <= 4; ++index) {
            ask(r, index);
            assertEq(_open(r, index).deadline, asked + (_isOnline(r, index) ? 1 days : 7 days));
        }
        vm.warp(asked + 1 days + 1);
        for (uint8 index = 1; index <= 4; ++index) {
            if (_isOnline(r, index)) continue;
            bytes32 id = _id(r, index);
            vm.expectRevert(abi.encodeWithSelector(ICourt.StillTime.selector, id, asked + 7 days));
            court.proveUnansweredAcknowledgement(r.c.keyId, 0, index);
        }
        vm.warp(asked + 7 days);
        for (uint8 index = 1; index <= 4; ++index) {
            if (_isOnline(r, index)) continue;
            acknowledgements.answerAcknowledgement(r.c.keyId, 0, index, acknowledgementOf(r.c, index));
        }
        finalise(r.c);
    }

    function test_ChallengeAcknowledgement_OfAnOfflineServerOnlyWhileTheCeremonyLastsForAWeekMore() public {
        Running memory r = _runningWithdrawal();
        uint256 end = keys.key(r.c.keyId).mark;
        vm.warp(end - 7 days + 1);
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.TooLateToAsk.selector, r.c.keyId, end);
        for (uint8 index = 1; index <= 4; ++index) {
            if (_isOnline(r, index)) ask(r, index);
            else refuseAsking(fee, questionTo(r, index), refusal);
        }
    }

    /// An honest member answers while its ceremony runs, so the ceremony has to last.
    function test_ChallengeAcknowledgement_NotSoLateThatTheCeremonyEndsBefore() public {
        Running memory r = running(3, 4, 1);
        uint256 end = keys.key(r.c.keyId).mark;
        vm.warp(end - 1 days + 1);
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.TooLateToAsk.selector, r.c.keyId, end);
        refuseAsking(fee, questionTo(r, 2), refusal);
        vm.warp(end - 1 days);
        ask(r, 2);
        assertEq(_open(r, 2).deadline, end);
    }

    /// Without a member that may not take part there is no key, whatever the others do.
    function test_ChallengeAcknowledgement_NotWhenTheCeremonyCannotEnd() public {
        Running memory r = running(3, 4, 1);
        uint256 snapshot = vm.snapshotState();
        servers.suspend(r.c.committee[3], "investigation");
        vm.expectPartialRevert(IServerRegistry.MemberNotActive.selector);
        this.askExternally(r, 2);
        vm.revertToState(snapshot);
        vm.prank(address(court));
        servers.slash(r.c.committee[0], reporter, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.LockedOut.selector, r.c.committee[0]));
        this.askExternally(r, 2);
    }

    function askExternally(Running memory r, uint8 index) external {
        ask(r, index);
    }

    // ------------------------------------------------------------------- asking for what must not be acknowledged

    function test_ChallengeAcknowledgement_NotWithoutEveryDealing() public {
        Running memory r = running(3, 4, 1);
        SignedDealing[] memory all = r.dealings;
        r.dealings = new SignedDealing[](3);
        for (uint256 i; i < 3; ++i) {
            r.dealings[i] = all[i];
        }
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.WrongNumberOfDealings.selector, 3, 4);
        refuseAsking(fee, questionTo(r, 2), refusal);
        // One twice, in the place of another.
        r.dealings = all;
        r.dealings[3] = all[2];
        refusal = abi.encodeWithSelector(IAcknowledgements.WrongDealing.selector, 4);
        refuseAsking(fee, questionTo(r, 2), refusal);
    }

    /// Of another key, attempt or member, or of a shape that no member takes.
    function test_ChallengeAcknowledgement_NotWithADealingOfSomethingElse() public {
        for (uint256 i; i < 8; ++i) {
            Running memory r = running(3, 4, 10 + i);
            Dealt memory d = r.dealt[2];
            if (i == 0) d.dealing.keyId = 1;
            if (i == 1) d.dealing.attempt = 1;
            if (i == 2) d.dealing.index = 4;
            if (i == 3) d.dealing.commitments = bytes.concat(d.dealing.commitments, ThresholdKeys.G1);
            if (i == 4) d.dealing.shares = bytes.concat(d.dealing.shares, bytes32(0));
            if (i == 5) d.dealing.oneTimeKey = bytes.concat(d.dealing.oneTimeKey, hex"00");
            // No member reads a proof of 257 bytes, so none could answer.
            if (i == 6) d.proof = bytes.concat(d.proof, hex"00");
            if (i == 7) d.proof = hex"00";
            d.dealing.possessionHash = keccak256(d.proof);
            sealDealing(d);
            table(r);
            bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.WrongDealing.selector, 3);
            refuseAsking(fee, questionTo(r, 2), refusal);
            consumer.retire(r.c.keyId, false);
        }
    }

    function test_ChallengeAcknowledgement_NotWithADealingThatItsDealerDidNotSign() public {
        Running memory r = running(3, 4, 1);
        Dealt memory d = r.dealt[2];
        d.server = r.c.committee[0];
        sealDealing(d);
        table(r);
        bytes memory refusal =
            abi.encodeWithSelector(IAcknowledgements.WrongDealer.selector, 3, r.c.signers[0], r.c.signers[2]);
        refuseAsking(fee, questionTo(r, 2), refusal);
    }

    /// The member could not check a proof that is not the dealer's.
    function test_ChallengeAcknowledgement_NotWithAnotherProofOfPossession() public {
        Running memory r = running(3, 4, 1);
        bytes32 signed = r.dealt[2].dealing.possessionHash;
        r.dealings[2].proofOfPossession = r.dealt[1].proof;
        bytes memory refusal =
            abi.encodeWithSelector(ICourt.WrongPossession.selector, keccak256(r.dealt[1].proof), signed);
        refuseAsking(fee, questionTo(r, 2), refusal);
    }

    /// A dealer shows the committee one dealing and the chain another: the member committed to the first.
    function test_ChallengeAcknowledgement_NotForDealingsThatTheMemberDidNotCommitTo() public {
        Running memory r = running(3, 4, 1);
        bytes memory set = signedSet(r.c, 2);
        r.dealt[3] = honestDealing(r.c.keyId, r.c.committee[3], 4, 3, 4, 77);
        table(r);
        bytes memory data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement, (r.c.keyId, 2, r.c.committee, r.dealings, set)
        );
        vm.prank(challenger);
        vm.expectPartialRevert(IAcknowledgements.NotCommittedTo.selector);
        (bool reverts,) = address(acknowledgements).call{value: fee}(data);
        assertTrue(reverts, "expectPartialRevert");
        // Somebody else's set does not bind this member.
        data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement,
            (
                r.c.keyId,
                2,
                r.c.committee,
                r.dealings,
                sign(signerSecret[r.c.committee[0]], messageDigest(setOf(r.c, 2)))
            )
        );
        bytes memory refusal =
            abi.encodeWithSelector(IAcknowledgements.NotCommittedTo.selector, 2, r.c.signers[0]);
        refuseAsking(fee, data, refusal);
    }

    /// A reorganisation drew another committee, some of whom sign what those before them signed: the member said its set among
    /// the first, and sits this one out.
    function test_ChallengeAcknowledgement_NotAmongAnotherCommittee() public {
        Running memory r = running(3, 4, 1);
        Ceremony memory before = r.c;
        uint32 gone = before.committee[3];
        before.committee[3] = before.committee[3] == 1 ? 2 : 1;
        CeremonyMessage memory set = setOf(before, 2);
        before.committee[3] = gone;
        bytes memory signature = sign(signerSecret[r.c.committee[1]], messageDigest(set));
        bytes memory data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement, (r.c.keyId, 2, r.c.committee, r.dealings, signature)
        );
        vm.prank(challenger);
        vm.expectPartialRevert(IAcknowledgements.NotCommittedTo.selector);
        (bool reverts,) = address(acknowledgements).call{value: fee}(data);
        assertTrue(reverts, "expectPartialRevert");
    }

    /// A dealing for one-time keys that the member does not hold opens for nobody who could complain.
    function test_ChallengeAcknowledgement_NotWithDealingsForOtherOneTimeKeys() public {
        Running memory r = running(3, 4, 1);
        r.dealt[3].dealing.oneTimeKeysHash = keccak256("other keys");
        sealDealing(r.dealt[3]);
        table(r);
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.OtherOneTimeKeys.selector, 4);
        refuseAsking(fee, questionTo(r, 2), refusal);
        // It dealt for them itself: no honest member would.
        refusal = abi.encodeWithSelector(IAcknowledgements.OtherOneTimeKeys.selector, 1);
        refuseAsking(fee, questionTo(r, 4), refusal);
    }

    /// Constant terms that cancel, or a commitment off the curve.
    function test_ChallengeAcknowledgement_NotWithDealingsThatMakeNoKey() public {
        Running memory r = running(3, 4, 1);
        bytes memory commitments = r.dealt[3].dealing.commitments;
        commitments[127] ^= 0x01;
        sealDealing(r.dealt[3]);
        table(r);
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.NoKey.selector, r.c.keyId);
        refuseAsking(fee, questionTo(r, 2), refusal);

        uint256[] memory sum = r.c.keySet.coefficients;
        uint256[] memory last =
        ThresholdKeys.generate(uint256(keccak256(abi.encode(uint256(1), uint256(3)))), 3, 4).coefficients;
        bytes memory cancelling =
            ThresholdKeys.publicKey(addmod(last[0], ThresholdKeys.R - sum[0], ThresholdKeys.R));
        for (uint256 i; i < 128; ++i) {
            commitments[i] = cancelling[i];
        }
        sealDealing(r.dealt[3]);
        table(r);
        refuseAsking(fee, questionTo(r, 2), refusal);
    }

    // ---------------------------------------------------------------------------------------------- answering

    /// Whoever brings it, the fee is the operator's; and the signature is one that `finalise` takes.
    function test_AnswerAcknowledgement_EndsItAndPaysTheOperator() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        vm.warp(_open(r, 2).deadline);
        bytes memory signature = acknowledgementOf(r.c, 2);
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.AcknowledgementAnswered(r.c.keyId, 0, 2, signature);
        vm.prank(makeAddr("whoever copied it"));
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
        _expectAnswered(r, 2);
        finalise(r.c);
    }

    function _expectAnswered(Running memory r, uint8 index) private {
        address operator = _operatorOf(r, index);
        assertEq(acknowledgements.feesOf(operator), fee);
        assertEq(_open(r, index).challenger, address(0));
        uint256 now_ = block.timestamp;
        vm.warp(now_ + 10 days);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(r, index)));
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, index);
        vm.warp(now_);
        uint256 before = operator.balance;
        vm.prank(operator);
        acknowledgements.withdrawFees();
        assertEq(operator.balance, before + fee);
        assertEq(address(acknowledgements).balance, 0);
        assertSlashed(r.c.committee[index - 1], 0);
    }

    function test_AnswerAcknowledgement_NothingElseIsOne() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        bytes memory refusal = abi.encodeWithSelector(ICourt.NoAnswer.selector, _id(r, 2));
        // Of another member; of another transcript.
        bytes memory signature = acknowledgementOf(r.c, 1);
        vm.expectRevert(refusal);
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
        bytes32 dealings = r.c.dealingsDigest;
        r.c.dealingsDigest = keccak256("another");
        signature = acknowledgementOf(r.c, 2);
        r.c.dealingsDigest = dealings;
        vm.expectRevert(refusal);
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
        // Of other points: a member must not get away with what makes no key.
        ThresholdKeys.KeySet memory keySet = r.c.keySet;
        r.c.keySet = ThresholdKeys.generate(5, 3, 4);
        signature = acknowledgementOf(r.c, 2);
        r.c.keySet = keySet;
        vm.expectRevert(refusal);
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
        // Of what nobody asked.
        signature = acknowledgementOf(r.c, 3);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(r, 3)));
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 3, signature);
        // After the last second.
        uint48 deadline = _open(r, 2).deadline;
        pastDeadline(r.c, 2);
        signature = acknowledgementOf(r.c, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.TooLate.selector, _id(r, 2), deadline));
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
    }

    function testFuzz_AnswerAcknowledgement_OfTheMemberAlone(uint256 secret, bool honest_) public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        secret = bound(secret, 1, type(uint128).max);
        bytes memory signature =
            honest_ ? acknowledgementOf(r.c, 2) : sign(secret, acknowledgementDigest(r.c));
        if (!honest_) vm.expectRevert(abi.encodeWithSelector(ICourt.NoAnswer.selector, _id(r, 2)));
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, signature);
        assertEq(_open(r, 2).challenger == address(0), honest_);
    }

    // ------------------------------------------------------------------------- honest reasons to keep silent

    /// A member that was cheated shows its share instead.
    function test_AnswerBadDealing_IsAnAnswer() public {
        Running memory r = running(3, 4, 1);
        Dealt memory d = withShare(r.dealt[3], 2, 1);
        table(r);
        ask(r, 2);
        Opening memory o = opening(d, 2);
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.AcknowledgementRefused(r.c.keyId, 0, 2, r.c.committee[3]);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        _expectAnswered(r, 2);
        // The dealer pays at once, and the same shown to the Court is on record only.
        assertSlashed(r.c.committee[3], 1);
        assertEq(servers.bountyOf(_operatorOf(r, 2)), SEAT_BOND / 10);
        reportBad(d, o);
        assertSlashed(r.c.committee[3], 1);
    }

    /// What was reported before is a reason all the same, and is paid for once.
    function test_AnswerBadDealing_OfWhoWasSentencedBefore() public {
        Running memory r = running(3, 4, 1);
        Dealt memory d = withShare(r.dealt[3], 2, 1);
        table(r);
        ask(r, 2);
        Opening memory o = opening(d, 2);
        reportBad(d, o);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        assertEq(_open(r, 2).challenger, address(0));
        assertSlashed(r.c.committee[3], 1);
        assertEq(servers.bountyOf(_operatorOf(r, 2)), 0);
    }

    function test_AnswerBadDealing_NotWithAGoodOne() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        Dealt memory d = r.dealt[3];
        Opening memory o = opening(d, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.GoodDealing.selector, 2));
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        // Nor with one of another ceremony, of somebody who is not in it, or for a committee that is not its.
        d = withShare(honestDealing(3), 2, 1);
        o = opening(d, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, acknowledgements.idOf(1, 0, 2)));
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        uint32 outsider = 1;
        while (_isMember(r.c, outsider)) ++outsider;
        d = withShare(honestDealing(r.c.keyId, outsider, 4, 3, 4, 7), 2, 1);
        bytes memory refusal = abi.encodeWithSelector(
            IAcknowledgements.NotOfCommittee.selector, vm.addr(signerSecret[outsider])
        );
        vm.expectRevert(refusal);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        uint32[] memory larger = new uint32[](5);
        for (uint256 i; i < 4; ++i) {
            larger[i] = r.c.committee[i];
        }
        larger[4] = outsider;
        refusal = abi.encodeWithSelector(
            IAcknowledgements.WrongCommittee.selector, r.c.keyId, keccak256(abi.encode(larger))
        );
        vm.expectRevert(refusal);
        acknowledgements.answerBadDealing(2, larger, d.dealing, d.signature, d.oneTimeKeys, o);
        pastDeadline(r.c, 2);
        d = withShare(r.dealt[3], 2, 1);
        refusal = abi.encodeWithSelector(ICourt.TooLate.selector, _id(r, 2), _open(r, 2).deadline);
        vm.expectRevert(refusal);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
    }

    function _isMember(Ceremony memory c, uint32 id) private pure returns (bool) {
        for (uint256 i; i < c.committee.length; ++i) {
            if (c.committee[i] == id) return true;
        }
        return false;
    }

    /// Every share of every dealing: only a bad one is an answer.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_AnswerBadDealing_ExactlyTheBadOnes(uint8 dealer, uint8 recipient, uint256 share)
        public
    {
        Running memory r = running(3, 4, 1);
        dealer %= 4;
        recipient = uint8(bound(recipient, 1, 4));
        bool bad = share % 3 != 0;
        Dealt memory d = r.dealt[dealer];
        share = bound(share, 1, ThresholdKeys.R - 1);
        vm.assume(share != shareOf(d, recipient));
        if (bad) d = withShare(d, recipient, share);
        table(r);
        ask(r, 2);
        Opening memory o = opening(d, recipient);
        bytes memory refusal = abi.encodeWithSelector(ICourt.GoodDealing.selector, recipient);
        bool own = dealer == 1;
        if (bad) refusal = abi.encodeWithSelector(IAcknowledgements.OwnFault.selector, r.c.committee[1]);
        if (!bad || own) vm.expectRevert(refusal);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        assertEq(_open(r, 2).challenger == address(0), bad && !own);
    }

    /// Each way in which a dealing that the contract can add up is none after all.
    function test_AnswerMalformedDealing_IsAnAnswer() public {
        for (uint256 i; i < 2; ++i) {
            Running memory r = running(3, 4, 20 + i);
            Dealt memory d = r.dealt[3];
            DealingDefect defect = DealingDefect.Possession;
            if (i == 0) {
                d.proof = possession(d.dealing, 5);
                d.dealing.possessionHash = keccak256(d.proof);
            } else {
                defect = DealingDefect.OneTimeKey;
                d.dealing.oneTimeKey = compressed(9);
            }
            sealDealing(d);
            table(r);
            ask(r, 2);
            uint256 before = acknowledgements.feesOf(_operatorOf(r, 2));
            vm.expectEmit(address(acknowledgements));
            emit IAcknowledgements.AcknowledgementRefused(r.c.keyId, 0, 2, r.c.committee[3]);
            acknowledgements.answerMalformedDealing(
                2, r.c.committee, d.dealing, d.signature, hashedOf(d, defect), defect, 0
            );
            assertEq(acknowledgements.feesOf(_operatorOf(r, 2)), before + fee);
            assertEq(_open(r, 2).challenger, address(0));
            assertTrue(servers.server(r.c.committee[3]).lockedOut);
            servers.reinstate(r.c.committee[3], "test");
            consumer.retire(r.c.keyId, false);
        }
    }

    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_AnswerMalformedDealing_NoHonestOneIs(uint8 dealer, uint8 defect, uint8 position)
        public
    {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        Dealt memory d = r.dealt[dealer % 4];
        DealingDefect it = DealingDefect(defect % 4);
        position %= 3;
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotMalformed.selector, it));
        acknowledgements.answerMalformedDealing(
            2, r.c.committee, d.dealing, d.signature, hashedOf(d, it), it, position
        );
        assertEq(_open(r, 2).challenger, challenger);
    }

    /// A member that saw somebody say two things ends the ceremony for itself, also after its set.
    function test_AnswerEquivocation_IsAnAnswer() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        CeremonyMessage memory one = setOf(r.c, 4);
        CeremonyMessage memory two = setOf(r.c, 4);
        two.fields[1] = keccak256("another set");
        bytes memory first = sign(signerSecret[r.c.committee[3]], messageDigest(one));
        bytes memory second = sign(signerSecret[r.c.committee[3]], messageDigest(two));
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.AcknowledgementRefused(r.c.keyId, 0, 2, r.c.committee[3]);
        acknowledgements.answerEquivocation(2, r.c.committee, one, first, two, second);
        _expectAnswered(r, 2);
        assertSlashed(r.c.committee[3], 1);
    }

    // -------------------------------------------------------------------------- excuses of those who keep silent

    /// A silent member signs some nonsense when it is asked: its own fault is no reason.
    function test_Answer_NotWithAFaultOfItsOwn() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        bytes memory refusal = abi.encodeWithSelector(IAcknowledgements.OwnFault.selector, r.c.committee[1]);
        Dealt memory d = withShare(r.dealt[1], 3, 1);
        Opening memory o = opening(d, 3);
        vm.expectRevert(refusal);
        acknowledgements.answerBadDealing(2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, o);
        d.dealing.shares = "";
        sealDealing(d);
        vm.expectRevert(refusal);
        acknowledgements.answerMalformedDealing(
            2, r.c.committee, d.dealing, d.signature, "", DealingDefect.Shape, 0
        );
        CeremonyMessage memory one = setOf(r.c, 2);
        CeremonyMessage memory two = setOf(r.c, 2);
        two.fields[1] = keccak256("another set");
        vm.expectRevert(refusal);
        this.equivocationExternally(r, one, two, r.c.committee[1]);
        // Nor under the signer that it had before.
        uint256 secret = signerSecret[r.c.committee[1]];
        bytes memory proof = signerProof(77, _operatorOf(r, 2));
        vm.prank(_operatorOf(r, 2));
        servers.setSigner(r.c.committee[1], vm.addr(77), proof);
        assertNotEq(vm.addr(secret), servers.server(r.c.committee[1]).signer);
        vm.expectRevert(refusal);
        this.equivocationExternally(r, one, two, r.c.committee[1]);
        pastDeadline(r.c, 2);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        assertSlashed(r.c.committee[1], 1);
    }

    /// A colluder that signs nonsense to save it pays as much.
    function test_Answer_WithTheNonsenseOfAColluderCostsTheColluder() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        Dealt memory d = r.dealt[3];
        d.dealing.shares = "";
        sealDealing(d);
        acknowledgements.answerMalformedDealing(
            2, r.c.committee, d.dealing, d.signature, "", DealingDefect.Shape, 0
        );
        assertSlashed(r.c.committee[3], 1);
    }

    function test_Sentence_AcknowledgementsAlone() public {
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotAcknowledgements.selector, address(this)));
        court.sentence(Fault.BadDealing, 1, 1, "evidence", address(this));
    }

    function testFuzz_Sentence_AcknowledgementsAlone(address caller, uint8 fault, uint32 server) public {
        vm.assume(caller != address(acknowledgements));
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotAcknowledgements.selector, caller));
        court.sentence(Fault(fault % 10), server, 1, "evidence", caller);
    }

    function _equivocation(
        Running memory r,
        CeremonyMessage memory one,
        CeremonyMessage memory two,
        uint32 server
    ) private {
        bytes memory first = sign(signerSecret[server], messageDigest(one));
        bytes memory second = sign(signerSecret[server], messageDigest(two));
        acknowledgements.answerEquivocation(2, r.c.committee, one, first, two, second);
    }

    function equivocationExternally(
        Running memory r,
        CeremonyMessage memory one,
        CeremonyMessage memory two,
        uint32 server
    ) external {
        _equivocation(r, one, two, server);
    }

    function test_AnswerEquivocation_NothingElseIsOne() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        CeremonyMessage memory one = setOf(r.c, 4);
        bytes32 digest = messageDigest(one);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoConflict.selector, digest, digest));
        this.equivocationExternally(r, one, one, r.c.committee[3]);
        // Of another key, of another attempt.
        CeremonyMessage memory two = setOf(r.c, 4);
        two.fields[1] = keccak256("another set");
        (one.keyId, two.keyId) = (1, 1);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, acknowledgements.idOf(1, 0, 2)));
        this.equivocationExternally(r, one, two, r.c.committee[3]);
        (one.keyId, two.keyId) = (r.c.keyId, r.c.keyId);
        (one.attempt, two.attempt) = (1, 1);
        bytes32 id = acknowledgements.idOf(r.c.keyId, 1, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, id));
        this.equivocationExternally(r, one, two, r.c.committee[3]);
        // Of a server that is not in it.
        (one.attempt, two.attempt) = (0, 0);
        uint32 outsider = 1;
        while (_isMember(r.c, outsider)) ++outsider;
        vm.expectPartialRevert(IAcknowledgements.NotOfCommittee.selector);
        this.equivocationExternally(r, one, two, outsider);
    }

    function testFuzz_AnswerEquivocation_OfAMemberAlone(uint256 secret) public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        secret = bound(secret, 1, type(uint128).max);
        CeremonyMessage memory one = setOf(r.c, 4);
        CeremonyMessage memory two = setOf(r.c, 4);
        two.fields[1] = keccak256("another set");
        bytes memory first = sign(secret, messageDigest(one));
        bytes memory second = sign(secret, messageDigest(two));
        vm.expectRevert(abi.encodeWithSelector(IAcknowledgements.NotOfCommittee.selector, vm.addr(secret)));
        acknowledgements.answerEquivocation(2, r.c.committee, one, first, two, second);
    }

    // ------------------------------------------------------------------------------------------------- silence

    function test_ProveUnansweredAcknowledgement_SlashesAndLocksOut() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        uint48 deadline = _open(r, 2).deadline;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(ICourt.StillTime.selector, _id(r, 2), deadline));
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        vm.warp(deadline + 1);
        uint32 silent = r.c.committee[1];
        bytes32 evidence = keccak256(abi.encode(r.c.keyId, uint16(0), uint8(2), deadline));
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.AcknowledgementChallengeClosed(r.c.keyId, 0, 2, true);
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.UnansweredChallenge, silent, r.c.keyId, 0, evidence, challenger, SEAT_BOND, SEAT_BOND / 10
        );
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        assertSlashed(silent, 1);
        assertEq(servers.bountyOf(challenger), SEAT_BOND / 10);
        assertEq(acknowledgements.feesOf(challenger), fee);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, _id(r, 2)));
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        // Its seat, and no other, is drawn anew.
        vm.warp(uint256(keys.key(r.c.keyId).mark) + 1);
        keys.restart(r.c.keyId, r.c.committee, 0);
        assertEq(uint8(keys.key(r.c.keyId).state), uint8(KeyState.Requested));
        assertEq(servers.server(silent).seats, _seatsOfKeyOne(silent));
    }

    /// As with a challenge to sign.
    function test_ProveUnansweredAcknowledgement_ASelfChallengeShieldsNobody() public {
        address prover = makeAddr("prover");
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        uint256 held = _open(r, 2).deadline + court.BOUNTY_HOLD_BLOCKS() * 12;
        vm.warp(held);
        uint256 before = vm.snapshotState();
        vm.prank(prover);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        assertEq(servers.bountyOf(challenger), SEAT_BOND / 10, "held for who asked");
        vm.revertToState(before);
        vm.warp(held + 1);
        vm.prank(prover);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        assertSlashed(r.c.committee[1], 1);
        assertEq(servers.bountyOf(prover), SEAT_BOND / 10, "whoever proves it");
        assertEq(servers.bountyOf(challenger), 0);
    }

    function _seatsOfKeyOne(uint32 id) private view returns (uint16) {
        return _isMember(made(), id) ? 1 : 0;
    }

    /// Whoever starts the ceremony again, the culprit too, starts it after the answer was due.
    function test_ProveUnansweredAcknowledgement_ARestartSavesNobody() public {
        Running memory r = running(3, 4, 1);
        uint256 end = keys.key(r.c.keyId).mark;
        vm.warp(end - 1 days);
        ask(r, 2);
        vm.warp(end + 1);
        vm.prank(_operatorOf(r, 2));
        keys.restart(r.c.keyId, r.c.committee, 0);
        bytes memory late = acknowledgementOf(r.c, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.TooLate.selector, _id(r, 2), end));
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, late);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        assertSlashed(r.c.committee[1], 1);
    }

    /// A key that was made has the acknowledgement of everybody; nobody acknowledges one that was given up.
    function test_ProveUnansweredAcknowledgement_NotOfAKeyThatWasMadeOrGivenUp() public {
        for (uint256 i; i < 2; ++i) {
            Running memory r = running(3, 4, 30 + i);
            ask(r, 2);
            if (i == 0) finalise(r.c);
            else consumer.retire(r.c.keyId, false);
            pastDeadline(r.c, 2);
            uint256 before = acknowledgements.feesOf(challenger);
            vm.expectEmit(address(acknowledgements));
            emit IAcknowledgements.AcknowledgementChallengeClosed(r.c.keyId, 0, 2, false);
            court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
            assertSlashed(r.c.committee[1], 0);
            assertEq(acknowledgements.feesOf(challenger), before + fee);
        }
    }

    /// The next attempt asks anew, and of one key and term one silence is charged.
    function test_ProveUnansweredAcknowledgement_OncePerKeyAndTerm() public {
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        ask(r, 3);
        pastDeadline(r.c, 2);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 3);
        assertSlashed(r.c.committee[1], 1);
        assertSlashed(r.c.committee[2], 1);
    }

    function testFuzz_ProveUnansweredAcknowledgement_AfterTheDeadlineOnly(uint32 later, bool answered)
        public
    {
        Running memory r = running(3, 4, 1);
        ask(r, 1);
        later = uint32(bound(later, 0, 3 days));
        if (answered) {
            acknowledgements.answerAcknowledgement(r.c.keyId, 0, 1, acknowledgementOf(r.c, 1));
        }
        vm.warp(block.timestamp + later);
        bool guilty = !answered && later > 1 days;
        if (!guilty) vm.expectRevert();
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 1);
        assertSlashed(r.c.committee[0], guilty ? 1 : 0);
    }

    function test_Close_TheCourtAlone() public {
        assertEq(acknowledgements.COURT(), address(court));
        vm.prank(acknowledgements.COURT());
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoChallenge.selector, keccak256(abi.encode(1, 0, 1))));
        acknowledgements.close(1, 0, 1);
    }

    function testFuzz_Close_TheCourtAlone(address caller) public {
        vm.assume(caller != address(court));
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        pastDeadline(r.c, 2);
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IAcknowledgements.NotCourt.selector, caller));
        acknowledgements.close(r.c.keyId, 0, 2);
        assertEq(_open(r, 2).challenger, challenger);
    }

    // --------------------------------------------------------------------------------------------------- fees

    function test_WithdrawFees_OnceAndNotByContractsThatRefuse() public {
        vm.expectRevert(abi.encodeWithSelector(ICourt.NoFees.selector, challenger));
        vm.prank(challenger);
        acknowledgements.withdrawFees();
        vm.etch(challenger, hex"fe");
        Running memory r = running(3, 4, 1);
        ask(r, 2);
        pastDeadline(r.c, 2);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 2);
        vm.expectRevert(abi.encodeWithSelector(ICourt.TransferFailed.selector, challenger, fee));
        vm.prank(challenger);
        acknowledgements.withdrawFees();
        vm.etch(challenger, "");
        vm.expectEmit(address(acknowledgements));
        emit IAcknowledgements.FeesPaid(challenger, fee);
        vm.prank(challenger);
        acknowledgements.withdrawFees();
        assertEq(challenger.balance, 100 ether);
        assertEq(acknowledgements.feesOf(challenger), 0);
    }

    function testFuzz_FeesOf_NobodysAtFirst(address account) public view {
        assertEq(acknowledgements.feesOf(account), 0);
    }
}
