// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, DealingDefect, DutyRequest, Fault} from "../../../contracts/interfaces/ICourt.sol";
import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {AcknowledgementFixture} from "../court/AcknowledgementFixture.sol";
import {DealingFixture} from "../court/DealingFixture.sol";
import {PoolFixture} from "../pools/PoolFixture.sol";
import {Snapshots} from "./Snapshots.sol";

/// @title Gas of the Court, as whole transactions by a reporter with a credit slot, and of a first-time one
/// @dev Nearly all of it is the hash to G2 and the pairing, a first record, and cold slots of three contracts. The
/// commitment is a transaction of its own, `commit`, and comes on top of each.
contract CourtGasTest is DealingFixture, Snapshots {
    string private constant GROUP = "Court";
    bytes32 private constant ROOT2 = keccak256("another duty");

    function setUp() public override {
        _requireProfile();
        super.setUp();
    }

    function test_Court() public {
        Answer memory first = invalid(3, ROOT);
        court.commit(commitmentOf(reporter, Fault.InvalidPartial, evidenceOf(first)));
        _snap(GROUP, "commit");
        vm.roll(block.number + 1);
        callCourt(reporter, invalidCall(first));
        _snap(GROUP, "proveInvalidPartial", "first of a reporter");

        reportInvalid(invalid(0, ROOT));
        _assertBudget(_snap(GROUP, "proveInvalidPartial"), 245_000, "an invalid partial");
        reportInvalid(invalid(0, ROOT2));
        _snap(GROUP, "proveInvalidPartial", "recorded only");
        reportGarbage(garbage(1, ROOT));
        _assertBudget(_snap(GROUP, "proveGarbagePartial"), 145_000, "a garbage partial");
        reportConflict(vote(2, 9, 10, ROOT), vote(2, 9, 10, ROOT2));
        _assertBudget(_snap(GROUP, "proveConflictingDuties", "double vote"), 120_000, "conflicting duties");
        // A key of servers that nobody has accused yet.
        addServers(6);
        Ceremony memory c = makeKey(3, 4, 2);
        uint256 position;
        while (servers.server(c.committee[position]).lockedOut) ++position;
        Answer memory exit = honest(c, position, ROOT);
        exit.envelope.dutyKind = EXIT;
        exit.envelope.slot = 0;
        seal(exit);
        reportUnauthorised(exit);
        _assertBudget(_snap(GROUP, "proveUnauthorisedSignature"), 135_000, "an unauthorised signature");
        CeremonyMessage memory x = CeremonyMessage(9, 0, 1, 2, new bytes32[](1));
        CeremonyMessage memory y = CeremonyMessage(9, 0, 1, 2, new bytes32[](1));
        y.fields[0] = ROOT;
        reportEquivocation(c.committee[(position + 1) % 4], x, y);
        _snap(GROUP, "proveCeremonyEquivocation", "two commitments");
        _dealings();
        _challenges();
        _views();
        _measuredElsewhere(GROUP, "proveProviderEquivocation");
        _measuredElsewhere(GROUP, "proveUnansweredAcknowledgement");
        // Within an answer of Acknowledgements.
        _measuredElsewhere(GROUP, "sentence");
        _assertComplete(GROUP);
    }

    /// Of servers that nobody has accused yet, t = 3.
    function _dealings() private {
        addServers(2);
        Dealt memory d = honestDealing(1, servers.serverCount(), 1, 3, 4, 7);
        d = withShare(d, 2, 1);
        reportBad(d, opening(d, 2));
        _assertBudget(_snap(GROUP, "proveBadDealing", "t = 3"), 150_000, "a bad dealing");
        d = honestDealing(1, servers.serverCount() - 1, 1, 3, 4, 7);
        d.proof = possession(d.dealing, 5);
        d.dealing.possessionHash = keccak256(d.proof);
        d.dealing.commitments[383] ^= 0x01;
        sealDealing(d);
        uint256 snapshot = vm.snapshotState();
        reportMalformed(d, DealingDefect.Commitment, 2);
        _snap(GROUP, "proveMalformedDealing", "no point");
        vm.revertToState(snapshot);
        reportMalformed(d, DealingDefect.Possession, 0);
        _snap(GROUP, "proveMalformedDealing", "no possession");
    }

    /// Of servers that nobody has accused yet, by a challenger with credit slots.
    function _challenges() private {
        addServers(8);
        Ceremony memory c = makeKey(3, 4, 5);
        uint256 position;
        while (servers.server(c.committee[position]).lockedOut) ++position;
        consumer.order(c.keyId, ROOT);
        Answer memory a = honest(c, position, ROOT);
        a.envelope.dutyKind = DEPOSIT;
        (a.envelope.slot, a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0, 0);
        seal(a);
        vm.deal(reporter, 1 ether);
        _challenge(a, c.signers[position]);
        _snap(GROUP, "challengeSignature");
        court.answerSignature(a.envelope, a.signature, a.partial_);
        _assertBudget(_snap(GROUP, "answerSignature", "first of an operator"), 120_000, "an answer");
        court.challenge(c.keyId, a.envelope.index, ROOT);
        _snap(GROUP, "challenge");
        vm.prank(servers.server(a.holder.server).operator);
        court.withdrawFees();
        _snap(GROUP, "withdrawFees");
        _challenge(a, c.signers[position]);
        vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        court.proveUnansweredChallenge(c.keyId, a.envelope.index, ROOT);
        _snap(GROUP, "proveUnansweredChallenge", "first of a challenger");
    }

    function _challenge(Answer memory a, address signer) private {
        vm.prank(reporter);
        court.challengeSignature{value: 0.1 ether}(a.envelope.keyId, a.envelope.index, ROOT, signer, a.holder);
    }

    function _views() private {
        court.answerFee();
        _snap(GROUP, "answerFee");
        court.feesOf(reporter);
        _snap(GROUP, "feesOf");
        court.CHALLENGE_BLOCKS();
        _snap(GROUP, "CHALLENGE_BLOCKS");
        court.OFFLINE_CHALLENGE_BLOCKS();
        _snap(GROUP, "OFFLINE_CHALLENGE_BLOCKS");
        court.committedAt(0);
        _snap(GROUP, "committedAt");
        court.GENESIS_TIME();
        _snap(GROUP, "GENESIS_TIME");
        court.KEY_REGISTRY();
        _snap(GROUP, "KEY_REGISTRY");
        court.SERVER_REGISTRY();
        _snap(GROUP, "SERVER_REGISTRY");
        court.ACKNOWLEDGEMENTS();
        _snap(GROUP, "ACKNOWLEDGEMENTS");
    }
}

/// @notice The one entry that needs a pool.
contract CourtProviderGasTest is PoolFixture, Snapshots {
    function setUp() public override {
        _requireProfile();
        super.setUp();
    }

    function test_CourtOfProviders() public {
        _active();
        _convictProvider(uint256(keccak256(abi.encode("duty key", provider))) >> 1);
        _snap("Court", "proveProviderEquivocation", "first of a reporter");
    }

    /// The provider named another duty key in between.
    function test_CourtOfProvidersWithTwoDutyKeys() public {
        _active();
        bytes memory proof = _dutyKeyProof(0xbeef, provider);
        skip(1);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(0xbeef), proof);
        _convictProvider(0xbeef);
        _snap("Court", "proveProviderEquivocation", "two duty keys, first of a reporter");
    }

    function _convictProvider(uint256 secondSecret) private {
        uint256 secret = uint256(keccak256(abi.encode("duty key", provider))) >> 1;
        DutyRequest memory a = DutyRequest(1, 1, 3, 77, 0, 0, keccak256("a duty"));
        DutyRequest memory b = DutyRequest(1, 1, 3, 77, 0, 0, keccak256("another duty"));
        bytes32 aDigest = requestDigest(address(d.keyRegistry), a);
        bytes32 bDigest = requestDigest(address(d.keyRegistry), b);
        bytes32 evidence = Hashes.commutativeKeccak256(aDigest, bDigest);
        d.court.commit(keccak256(abi.encode(address(this), Fault.ProviderEquivocation, evidence)));
        vm.roll(block.number + 1);
        d.court.proveProviderEquivocation(a, sign(secret, aDigest), b, sign(secondSecret, bDigest));
    }
}

/// @notice Questions to members of a ceremony, of servers that nobody has accused yet.
contract AcknowledgementGasTest is AcknowledgementFixture, Snapshots {
    string private constant GROUP = "Acknowledgements";

    function setUp() public override {
        _requireProfile();
        super.setUp();
        addServers(6);
    }

    function test_Acknowledgements() public {
        Running memory r = running(3, 4, 1);
        ask(r, 1);
        _snap(GROUP, "challengeAcknowledgement", "3-of-4");
        Running memory large = running(7, 10, 2);
        ask(large, 1);
        _snap(GROUP, "challengeAcknowledgement", "7-of-10");
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 1, acknowledgementOf(r.c, 1));
        _dear(_snap(GROUP, "answerAcknowledgement", "first of an operator"));
        ask(r, 2);
        CeremonyMessage memory one = setOf(r.c, 4);
        CeremonyMessage memory two = setOf(r.c, 4);
        two.fields[1] = keccak256("another set");
        bytes memory first = sign(signerSecret[r.c.committee[3]], messageDigest(one));
        bytes memory second = sign(signerSecret[r.c.committee[3]], messageDigest(two));
        acknowledgements.answerEquivocation(2, r.c.committee, one, first, two, second);
        _dear(_snap(GROUP, "answerEquivocation", "first of an operator"));
        // All members must be in good standing to be asked.
        servers.reinstate(r.c.committee[3], "test");
        ask(r, 3);
        vm.warp(uint256(acknowledgements.challenge(r.c.keyId, 0, 3).deadline) + 1);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, 3);
        vm.snapshotGasLastCall("Court", "proveUnansweredAcknowledgement, first of a challenger");
        _measuredElsewhere(GROUP, "close");
        vm.prank(challenger);
        acknowledgements.withdrawFees();
        _snap(GROUP, "withdrawFees");
        _dealings();
        _views(r);
        _assertComplete(GROUP);
    }

    /// @dev No answer may cost more than the least fee pays for (`ANSWER_GAS`).
    function _dear(uint256 used) private pure {
        _assertBudget(used, 380_000, "an answer");
    }

    function _dealings() private {
        Running memory r = running(3, 4, 3);
        Dealt memory bad = withShare(r.dealt[3], 1, 1);
        table(r);
        ask(r, 1);
        acknowledgements.answerBadDealing(
            1, r.c.committee, bad.dealing, bad.signature, bad.oneTimeKeys, opening(bad, 1)
        );
        _dear(_snap(GROUP, "answerBadDealing", "t = 3"));
        _malformed(3, 4, "no possession, 3-of-4");
        addServers(12);
        _malformed(15, 16, "no possession, 15-of-16");
    }

    /// The dealer has no fault on record, so it is sentenced in full.
    function _malformed(uint8 t, uint8 n, string memory variant) private {
        Running memory r = running(t, n, n);
        Dealt memory malformed = r.dealt[2];
        malformed.proof = possession(malformed.dealing, 5);
        malformed.dealing.possessionHash = keccak256(malformed.proof);
        sealDealing(malformed);
        table(r);
        ask(r, 2);
        // The dearest: neither fee nor bounty of the operator has a slot yet.
        address operator = servers.server(r.c.committee[1]).operator;
        assertEq(
            acknowledgements.feesOf(operator) + servers.bountyOf(operator), 0, "an operator that was paid"
        );
        acknowledgements.answerMalformedDealing(
            2,
            r.c.committee,
            malformed.dealing,
            malformed.signature,
            malformed.proof,
            DealingDefect.Possession,
            0
        );
        _dear(_snap(GROUP, "answerMalformedDealing", variant));
        servers.reinstate(r.c.committee[2], "test");
    }

    function _views(Running memory r) private {
        acknowledgements.challenge(r.c.keyId, 0, 1);
        _snap(GROUP, "challenge");
        acknowledgements.idOf(r.c.keyId, 0, 1);
        _snap(GROUP, "idOf");
        acknowledgements.answerFee();
        _snap(GROUP, "answerFee");
        acknowledgements.feesOf(challenger);
        _snap(GROUP, "feesOf");
        acknowledgements.ANSWER_TIME();
        _snap(GROUP, "ANSWER_TIME");
        acknowledgements.COURT();
        _snap(GROUP, "COURT");
    }
}
