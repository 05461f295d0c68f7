// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    CeremonyMessage,
    DealingDefect,
    DutyRequest,
    Fault,
    ShareHolder
} from "../../../contracts/interfaces/ICourt.sol";
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
    /// What a slot costs that is not written over (22,100 instead of 5,000), and a byte or two more.
    uint256 private constant FIRST_CREDIT = 17_200;

    function setUp() public override {
        _requireProfile();
        super.setUp();
    }

    function test_Court() public {
        Answer memory first = invalid(3, ROOT);
        court.commit(commitmentOf(reporter, Fault.InvalidPartial, evidenceOf(first)));
        _snap(GROUP, "commit");
        vm.roll(vm.getBlockNumber() + COMMITMENT_BLOCKS);
        // From here on the reporter has a credit slot.
        callCourt(reporter, invalidCall(first));

        Answer memory a = invalid(0, ROOT);
        _proof(Proof("proveInvalidPartial", "", 245_000, Fault.InvalidPartial, evidenceOf(a), invalidCall(a)));
        reportInvalid(invalid(0, ROOT2));
        _snap(GROUP, "proveInvalidPartial", "recorded only");
        a = garbage(1, ROOT);
        _proof(Proof("proveGarbagePartial", "", 145_000, Fault.GarbagePartial, evidenceOf(a), garbageCall(a)));
        _duties();
        // A key of servers that nobody has accused yet.
        addServers(6);
        Ceremony memory c = makeKey(3, 4, 2);
        uint256 position = _unaccused(c, 0);
        _unauthorised(c, position);
        _equivocation(c.committee[(position + 1) % 4]);
        _dealings();
        _challenges();
        _views();
        _measuredElsewhere(GROUP, "proveProviderEquivocation");
        _measuredElsewhere(GROUP, "proveUnansweredAcknowledgement");
        // Within an answer of Acknowledgements.
        _measuredElsewhere(GROUP, "sentence");
        _assertComplete(GROUP);
    }

    /// @dev What a reporter sends, and what it may cost one that has a credit slot.
    struct Proof {
        string name;
        string variant;
        uint256 budget;
        Fault fault;
        bytes32 evidence;
        bytes data;
    }

    /// @dev The same proof by a first-time reporter, and by one that has a credit slot.
    function _proof(Proof memory it) private {
        uint256 snapshot = vm.snapshotState();
        address newcomer = makeAddr("newcomer");
        commitAs(newcomer, it.fault, it.evidence);
        callCourt(newcomer, it.data);
        string memory variant = bytes(it.variant).length == 0 ? "" : string.concat(it.variant, ", ");
        uint256 used = _snap(GROUP, it.name, string.concat(variant, "first of a reporter"));
        _assertBudget(used, it.budget + FIRST_CREDIT, string.concat(it.name, " of a first-time reporter"));
        vm.revertToState(snapshot);
        report(it.fault, it.evidence, it.data);
        _assertBudget(_snap(GROUP, it.name, it.variant), it.budget, it.name);
    }

    function _duties() private {
        Answer memory a = vote(2, 9, 10, ROOT);
        Answer memory b = vote(2, 9, 10, ROOT2);
        bytes32 evidence = evidenceOf(a, b);
        bytes memory data = conflictCall(a, b);
        _proof(
            Proof("proveConflictingDuties", "double vote", 120_000, Fault.ConflictingDuties, evidence, data)
        );
    }

    function _unauthorised(Ceremony memory c, uint256 position) private {
        Answer memory exit = honest(c, position, ROOT);
        (exit.envelope.dutyKind, exit.envelope.slot) = (EXIT, 0);
        seal(exit);
        bytes memory data = unauthorisedCall(exit);
        _proof(
            Proof(
                "proveUnauthorisedSignature", "", 135_000, Fault.UnauthorisedSignature, evidenceOf(exit), data
            )
        );
    }

    function _equivocation(uint32 server) private {
        CeremonyMessage memory x = CeremonyMessage(9, 0, 1, 2, new bytes32[](1));
        CeremonyMessage memory y = CeremonyMessage(9, 0, 1, 2, new bytes32[](1));
        y.fields[0] = ROOT;
        bytes32 evidence = pairOf(messageDigest(x), messageDigest(y));
        bytes memory data = equivocationCall(signerSecret[server], x, y);
        _proof(
            Proof(
                "proveCeremonyEquivocation",
                "two commitments",
                120_000,
                Fault.CeremonyEquivocation,
                evidence,
                data
            )
        );
    }

    /// Of servers that nobody has accused yet, t = 3.
    function _dealings() private {
        addServers(2);
        Dealt memory d = honestDealing(1, servers.serverCount(), 1, 3, 4, 7);
        d = withShare(d, 2, 1);
        bytes memory data = badCall(d, opening(d, 2));
        _proof(Proof("proveBadDealing", "t = 3", 150_000, Fault.BadDealing, dealingDigest(d.dealing), data));
        d = honestDealing(1, servers.serverCount() - 1, 1, 3, 4, 7);
        d.proof = possession(d.dealing, 5);
        d.dealing.possessionHash = keccak256(d.proof);
        d.dealing.commitments[383] ^= 0x01;
        sealDealing(d);
        uint256 snapshot = vm.snapshotState();
        _malformed("no point", 155_000, d, malformedCall(d, DealingDefect.Commitment, 2));
        vm.revertToState(snapshot);
        _malformed("no possession", 295_000, d, malformedCall(d, DealingDefect.Possession, 0));
    }

    function _malformed(string memory variant, uint256 budget, Dealt memory d, bytes memory data) private {
        bytes32 evidence = dealingDigest(d.dealing);
        _proof(Proof("proveMalformedDealing", variant, budget, Fault.MalformedDealing, evidence, data));
    }

    /// Of servers that nobody has accused yet. The fee's credit slot is the challenger's as much as the bounty's.
    function _challenges() private {
        addServers(8);
        Ceremony memory c = makeKey(3, 4, 5);
        consumer.order(c.keyId, ROOT);
        uint256 position = _unaccused(c, 0);
        Answer memory a = _owed(c, position);
        vm.deal(reporter, 1 ether);
        _challenge(c, position);
        _snap(GROUP, "challengeSignature");
        court.answerSignature(a.envelope, a.signature, a.partial_);
        _assertBudget(_snap(GROUP, "answerSignature", "first of an operator"), 120_000, "an answer");
        court.challenge(c.keyId, a.envelope.index, ROOT);
        _snap(GROUP, "challenge");
        vm.prank(servers.server(a.holder.server).operator);
        court.withdrawFees();
        _snap(GROUP, "withdrawFees");
        // One that never challenged nor reported, then again.
        reporter = makeAddr("newcomer");
        vm.deal(reporter, 1 ether);
        _silence(c, position, "first of a challenger", 130_000 + 2 * FIRST_CREDIT);
        _silence(c, _unaccused(c, position + 1), "", 130_000);
    }

    function _silence(Ceremony memory c, uint256 position, string memory variant, uint256 budget) private {
        _challenge(c, position);
        vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        court.proveUnansweredChallenge(c.keyId, uint8(position + 1), ROOT);
        _assertBudget(_snap(GROUP, "proveUnansweredChallenge", variant), budget, "an unanswered challenge");
    }

    function _unaccused(Ceremony memory c, uint256 from) private view returns (uint256 position) {
        position = from;
        while (servers.server(c.committee[position]).lockedOut) ++position;
    }

    function _owed(Ceremony memory c, uint256 position) private view returns (Answer memory a) {
        a = honest(c, position, ROOT);
        a.envelope.dutyKind = DEPOSIT;
        (a.envelope.slot, a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0, 0);
        seal(a);
    }

    function _challenge(Ceremony memory c, uint256 position) private {
        ShareHolder memory holder = holderOf(c, position);
        vm.prank(reporter);
        court.challengeSignature{value: 0.1 ether}(
            c.keyId, uint8(position + 1), ROOT, c.signers[position], holder
        );
    }

    function _views() private {
        court.answerFee();
        _snap(GROUP, "answerFee");
        court.feesOf(reporter);
        _snap(GROUP, "feesOf");
        court.COMMITMENT_BLOCKS();
        _snap(GROUP, "COMMITMENT_BLOCKS");
        court.CHALLENGE_BLOCKS();
        _snap(GROUP, "CHALLENGE_BLOCKS");
        court.OFFLINE_CHALLENGE_BLOCKS();
        _snap(GROUP, "OFFLINE_CHALLENGE_BLOCKS");
        court.BOUNTY_HOLD_BLOCKS();
        _snap(GROUP, "BOUNTY_HOLD_BLOCKS");
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
    uint256 private dutySecret = uint256(keccak256(abi.encode("duty key", provider))) >> 1;

    function setUp() public override {
        _requireProfile();
        super.setUp();
    }

    function test_CourtOfProviders() public {
        _active();
        (uint256 second,) = _active();
        _convictProvider(pools.pool(1).keyId, dutySecret);
        uint256 used = _snap("Court", "proveProviderEquivocation", "first of a reporter");
        _assertBudget(used, 130_000, "a provider's equivocation, of a first-time reporter");
        _convictProvider(pools.pool(second).keyId, dutySecret);
        _assertBudget(_snap("Court", "proveProviderEquivocation"), 112_000, "a provider's equivocation");
    }

    /// The provider named another duty key in between.
    function test_CourtOfProvidersWithTwoDutyKeys() public {
        _active();
        (uint256 second,) = _active();
        bytes memory proof = _dutyKeyProof(0xbeef, provider);
        skip(1);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(0xbeef), proof);
        _convictProvider(pools.pool(1).keyId, 0xbeef);
        uint256 used = _snap("Court", "proveProviderEquivocation", "two duty keys, first of a reporter");
        _assertBudget(used, 132_000, "a provider's equivocation, of a first-time reporter");
        _convictProvider(pools.pool(second).keyId, 0xbeef);
        used = _snap("Court", "proveProviderEquivocation", "two duty keys");
        _assertBudget(used, 114_000, "a provider's equivocation");
    }

    function _convictProvider(uint256 keyId, uint256 secondSecret) private {
        uint256 secret = dutySecret;
        DutyRequest memory a = DutyRequest(keyId, 1, 3, 77, 0, 0, keccak256("a duty"));
        DutyRequest memory b = DutyRequest(keyId, 1, 3, 77, 0, 0, keccak256("another duty"));
        bytes32 aDigest = requestDigest(address(d.keyRegistry), a);
        bytes32 bDigest = requestDigest(address(d.keyRegistry), b);
        bytes32 evidence = Hashes.commutativeKeccak256(aDigest, bDigest);
        d.court.commit(keccak256(abi.encode(address(this), Fault.ProviderEquivocation, evidence)));
        vm.roll(vm.getBlockNumber() + d.court.COMMITMENT_BLOCKS());
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
        uint256 used = _snap("Court", "proveUnansweredAcknowledgement", "first of a challenger");
        _assertBudget(used, 150_000, "an unanswered acknowledgement, of a first-time challenger");
        _silentAgain();
        _measuredElsewhere(GROUP, "close");
        vm.prank(challenger);
        acknowledgements.withdrawFees();
        _snap(GROUP, "withdrawFees");
        _dealings();
        _views(r);
        _assertComplete(GROUP);
    }

    /// By the same challenger, of a server that was never accused.
    function _silentAgain() private {
        Running memory r = running(3, 4, 9);
        uint8 index = 1;
        while (servers.terms(r.c.committee[index - 1]) != 0) ++index;
        ask(r, index);
        pastDeadline(r.c, index);
        court.proveUnansweredAcknowledgement(r.c.keyId, 0, index);
        uint256 used = _snap("Court", "proveUnansweredAcknowledgement");
        _assertBudget(used, 115_000, "an unanswered acknowledgement");
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
        acknowledgements.OFFLINE_ANSWER_TIME();
        _snap(GROUP, "OFFLINE_ANSWER_TIME");
        acknowledgements.COURT();
        _snap(GROUP, "COURT");
    }
}
