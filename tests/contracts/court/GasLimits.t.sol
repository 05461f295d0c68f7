// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {BadDealing} from "../../../contracts/court/faults/BadDealing.sol";
import {GarbagePartial} from "../../../contracts/court/faults/GarbagePartial.sol";
import {InvalidPartial} from "../../../contracts/court/faults/InvalidPartial.sol";
import {MalformedDealing} from "../../../contracts/court/faults/MalformedDealing.sol";
import {
    CeremonyMessage,
    Dealing,
    DealingDefect,
    DutyRequest,
    Fault,
    Opening
} from "../../../contracts/interfaces/ICourt.sol";
import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Resharing} from "../../../contracts/registry/Resharing.sol";
import {PoolFixture} from "../pools/PoolFixture.sol";
import {Entries} from "../utils/Entries.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {AcknowledgementFixture} from "./AcknowledgementFixture.sol";
import {Vm} from "forge-std/Test.sol";

/// @title A call at any gas limit
/// @notice A sender chooses its gas, and so where in a proof a call of a precompile or a contract fails for want of it. What must
/// follow from that: nothing. `GasLimitsTest` and `ProviderGasLimitsTest` sweep every entry; `cargo xtask test --full` does it again with
/// the code that is deployed (FOUNDRY_PROFILE=release), which the compiler makes another way.
abstract contract GasLimits is Entries {
    /// Of each sweep, evenly from next to nothing to half as much again as what the call takes.
    uint256 internal constant LIMITS = 600;

    /// @dev One call of a sweep.
    struct Call {
        address to;
        address from;
        uint256 value;
        bytes data;
    }

    /// @notice Hash of everything that an entry of the Court may change.
    function _world() internal virtual returns (bytes32);

    /// @notice Each limit does, events and all, what enough gas does, or nothing; and all limits from some one on do it.
    /// @return enough Gas with which it succeeds by far: how far the sweeps of what must not succeed go.
    function _sweepWhole(Call memory it) internal returns (uint256 enough) {
        bytes32 before = _world();
        uint256 snapshot = vm.snapshotState();
        (bool done, bytes32 full, uint256 used) = _run(it, 30_000_000);
        assertTrue(done, "it fails with all gas of a block");
        assertNotEq(_world(), before, "it changes nothing");
        vm.revertToState(snapshot);
        enough = used * 3 / 2;
        bool once;
        for (uint256 i; i < LIMITS; ++i) {
            bytes32 world;
            (done, world,) = _run(it, 1_000 + enough * i / LIMITS);
            assertTrue(done || !once, "more gas, and it fails");
            assertTrue(!done || world == full, "half of it");
            if (!done && i % 50 == 0) assertEq(_world(), before, "it failed and changed something");
            once = done;
            if (done) vm.revertToState(snapshot);
        }
        assertTrue(once, "it never got there");
    }

    /// @notice No limit makes it succeed.
    function _sweepRefused(Call memory it, uint256 enough) internal {
        bytes32 before = _world();
        vm.deal(it.from, it.from.balance + LIMITS * it.value);
        for (uint256 i; i < LIMITS; ++i) {
            vm.prank(it.from);
            (bool done,) = it.to.call{value: it.value, gas: 1_000 + enough * i / LIMITS}(it.data);
            assertFalse(done, "it succeeds");
        }
        vm.deal(it.from, it.from.balance - LIMITS * it.value);
        assertEq(_world(), before, "and changes something");
    }

    function _run(Call memory it, uint256 gasLimit) private returns (bool done, bytes32 world, uint256 used) {
        (address to, bytes memory data, uint256 value) = (it.to, it.data, it.value);
        vm.recordLogs();
        vm.prank(it.from);
        used = gasleft();
        (done,) = to.call{value: value, gas: gasLimit}(data);
        used -= gasleft();
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (done) world = keccak256(abi.encode(_world(), logs));
    }

    /// @notice Each function of the contract that changes something has a sweep of its name in this file.
    function _assertSwept(string memory name) internal view {
        string memory source = vm.readFile("tests/contracts/court/GasLimits.t.sol");
        string[] memory entries = _entries(name);
        for (uint256 i; i < entries.length; ++i) {
            string memory test = string.concat("function test_Sweep_", name, "_", _nameOf(entries[i]), "(");
            assertTrue(vm.indexOf(source, test) != type(uint256).max, string.concat("no ", test));
        }
    }
}

/// @notice The judges alone: nothing after the verdict needs gas, as little as a caller may leave.
contract Judges {
    function invalid(bytes calldata shareKey, bytes32 root, bytes calldata partial_) external view {
        InvalidPartial.judge(shareKey, root, partial_);
    }

    function garbage(bytes calldata partial_) external view {
        GarbagePartial.judge(partial_);
    }

    function bad(Dealing calldata dealing, bytes calldata keys, Opening calldata o, address registry)
        external
        view
    {
        BadDealing.judge(dealing, keys, o, registry);
    }

    function malformed(
        Dealing calldata dealing,
        bytes calldata hashed,
        DealingDefect defect,
        address registry
    ) external view {
        MalformedDealing.judge(dealing, hashed, defect, 0, MalformedDealing.Ceremony(3, 4, registry));
    }
}

/// @title Servers: the guilty are convicted in full or not at all, the honest at no gas limit
contract GasLimitsTest is GasLimits, AcknowledgementFixture, ReshareFixture {
    bytes32 private constant ROOT2 = keccak256("another duty");

    Judges private judges = new Judges();
    bytes32[] private commitments;
    /// Of the key whose acknowledgements are asked for, if any.
    uint256 private runningKey;

    function setUp() public override {
        super.setUp();
        resharing = Resharing(address(keys.RESHARING()));
    }

    function test_EveryEntryIsSwept() public view {
        _assertSwept("Court");
        _assertSwept("Acknowledgements");
    }

    function _world() internal view override returns (bytes32 world) {
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            world = keccak256(abi.encode(world, servers.server(id), _credits(servers.server(id).operator)));
        }
        for (uint8 index = 1; index <= 4; ++index) {
            world = keccak256(
                abi.encode(
                    world, court.challenge(1, index, ROOT), acknowledgements.challenge(runningKey, 0, index)
                )
            );
        }
        for (uint256 i; i < commitments.length; ++i) {
            world = keccak256(abi.encode(world, court.committedAt(commitments[i])));
        }
        uint256[3] memory held =
            [address(court).balance, address(acknowledgements).balance, address(servers).balance];
        world = keccak256(abi.encode(world, held, _credits(reporter), _credits(challenger)));
    }

    function _credits(address account) private view returns (uint256[4] memory) {
        return
            [
                servers.bountyOf(account),
                court.feesOf(account),
                acknowledgements.feesOf(account),
                account.balance
            ];
    }

    function _ofCourt(bytes memory data) private view returns (Call memory) {
        return Call(address(court), reporter, 0, data);
    }

    function _ofAcknowledgements(uint256 value, bytes memory data) private view returns (Call memory) {
        return Call(address(acknowledgements), challenger, value, data);
    }

    /// Nothing may fail for want of a commitment.
    function _commit(Fault fault, bytes32 evidence) private {
        bytes32 commitment = commitmentOf(reporter, fault, evidence);
        commitments.push(commitment);
        commitAs(reporter, fault, evidence);
    }

    // ------------------------------------------------------------------------------------------------ the Court

    function test_Sweep_Court_commit() public {
        _sweepWhole(_ofCourt(abi.encodeCall(court.commit, (_watchedCommitment()))));
    }

    function _watchedCommitment() private returns (bytes32 commitment) {
        commitment = keccak256("a commitment");
        commitments.push(commitment);
    }

    /// The honest: its own partial, and one that the reporter made in the place of it.
    function test_Sweep_Court_proveInvalidPartial() public {
        Answer memory guilty = invalid(0, ROOT);
        _commit(Fault.InvalidPartial, evidenceOf(guilty));
        uint256 enough = _sweepWhole(_ofCourt(invalidCall(guilty)));
        Answer memory a = honest(made(), 1, ROOT);
        _commit(Fault.InvalidPartial, evidenceOf(a));
        _sweepRefused(_ofCourt(invalidCall(a)), enough);
        a.partial_ = invalid(1, ROOT).partial_;
        _sweepRefused(_ofCourt(invalidCall(a)), enough);
    }

    /// The not guilty: an honest partial, and a point that is another fault.
    function test_Sweep_Court_proveGarbagePartial() public {
        Answer memory guilty = garbage(0, ROOT);
        _commit(Fault.GarbagePartial, evidenceOf(guilty));
        uint256 enough = _sweepWhole(_ofCourt(garbageCall(guilty)));
        Answer[2] memory points = [honest(made(), 1, ROOT), invalid(2, ROOT)];
        for (uint256 i; i < 2; ++i) {
            _commit(Fault.GarbagePartial, evidenceOf(points[i]));
            _sweepRefused(_ofCourt(garbageCall(points[i])), enough);
        }
    }

    function test_Sweep_Court_proveConflictingDuties() public {
        Answer memory a = vote(0, 9, 10, ROOT);
        Answer memory b = vote(0, 9, 10, ROOT2);
        _commit(Fault.ConflictingDuties, evidenceOf(a, b));
        uint256 enough = _sweepWhole(_ofCourt(conflictCall(a, b)));
        (a, b) = (vote(1, 9, 10, ROOT), vote(1, 10, 11, ROOT2));
        _commit(Fault.ConflictingDuties, evidenceOf(a, b));
        _sweepRefused(_ofCourt(conflictCall(a, b)), enough);
        // The same vote twice, and a duty beside that of another member.
        _commit(Fault.ConflictingDuties, evidenceOf(a, a));
        _sweepRefused(_ofCourt(conflictCall(a, a)), enough);
        b = vote(2, 9, 10, ROOT2);
        _commit(Fault.ConflictingDuties, evidenceOf(a, b));
        _sweepRefused(_ofCourt(conflictCall(a, b)), enough);
    }

    function test_Sweep_Court_proveUnauthorisedSignature() public {
        Answer memory a = other(0, EXIT, 0, ROOT2);
        _commit(Fault.UnauthorisedSignature, evidenceOf(a));
        uint256 enough = _sweepWhole(_ofCourt(unauthorisedCall(a)));
        consumer.order(1, ROOT);
        Answer[2] memory authorised = [other(1, DEPOSIT, 0, ROOT), vote(2, 9, 10, ROOT2)];
        for (uint256 i; i < 2; ++i) {
            _commit(Fault.UnauthorisedSignature, evidenceOf(authorised[i]));
            _sweepRefused(_ofCourt(unauthorisedCall(authorised[i])), enough);
        }
    }

    function test_Sweep_Court_proveCeremonyEquivocation() public {
        uint256 enough = _sweepWhole(_ofCourt(_equivocation(0, _commitment(0, "a"), _commitment(0, "b"))));
        // Twice the same, two attempts, two rounds.
        _sweepRefused(_ofCourt(_equivocation(1, _commitment(0, "a"), _commitment(0, "a"))), enough);
        _sweepRefused(_ofCourt(_equivocation(1, _commitment(0, "a"), _commitment(1, "b"))), enough);
        CeremonyMessage memory key = _commitment(0, "b");
        key.round = 1;
        _sweepRefused(_ofCourt(_equivocation(1, _commitment(0, "a"), key)), enough);
    }

    function _commitment(uint16 attempt, bytes32 dealingHash)
        private
        pure
        returns (CeremonyMessage memory m)
    {
        m = CeremonyMessage(9, attempt, 1, 2, new bytes32[](1));
        m.fields[0] = dealingHash;
    }

    function _equivocation(uint256 position, CeremonyMessage memory a, CeremonyMessage memory b)
        private
        returns (bytes memory)
    {
        _commit(Fault.CeremonyEquivocation, pairOf(messageDigest(a), messageDigest(b)));
        return equivocationCall(signerSecret[serverAt(position)], a, b);
    }

    function test_Sweep_Court_proveBadDealing() public {
        Dealt memory d = withShare(honestDealing(0), 2, 1);
        _commit(Fault.BadDealing, dealingDigest(d.dealing));
        uint256 enough = _sweepWhole(_ofCourt(badCall(d, opening(d, 2))));
        // By the member whose share is right, and of an honest dealer.
        _sweepRefused(_ofCourt(badCall(d, opening(d, 3))), enough);
        d = honestDealing(1);
        _commit(Fault.BadDealing, dealingDigest(d.dealing));
        _sweepRefused(_ofCourt(badCall(d, opening(d, 2))), enough);
        // By a secret that is not that of the key in the list.
        Opening memory o = opening(d, 2);
        o.secret = ORDER - o.secret;
        _sweepRefused(_ofCourt(badCall(d, o)), enough);
    }

    function test_Sweep_Court_proveMalformedDealing() public {
        for (uint8 i; i < 4; ++i) {
            DealingDefect defect = DealingDefect(i);
            uint256 snapshot = vm.snapshotState();
            Dealt memory d = _malformed(0, defect);
            _commit(Fault.MalformedDealing, dealingDigest(d.dealing));
            uint256 enough = _sweepWhole(_ofCourt(malformedCall(d, defect, 0)));
            d = honestDealing(1);
            _commit(Fault.MalformedDealing, dealingDigest(d.dealing));
            _sweepRefused(_ofCourt(malformedCall(d, defect, 0)), enough);
            vm.revertToState(snapshot);
        }
    }

    /// The smallest thing that is wrong.
    function _malformed(uint256 position, DealingDefect defect) private returns (Dealt memory d) {
        d = honestDealing(position);
        if (defect == DealingDefect.Shape) {
            d.dealing.shares = bytes.concat(d.dealing.shares, hex"00");
        } else if (defect == DealingDefect.OneTimeKey) {
            d.dealing.oneTimeKey = compressed(99);
        } else if (defect == DealingDefect.Commitment) {
            d.dealing.commitments[127] ^= 0x01;
        } else {
            d.proof = possession(d.dealing, 5);
            d.dealing.possessionHash = keccak256(d.proof);
        }
        sealDealing(d);
    }

    /// Only what was ordered.
    function test_Sweep_Court_challengeSignature() public {
        consumer.order(1, ROOT);
        uint256 enough = _sweepWhole(_question(1, ROOT, court.answerFee()));
        _sweepRefused(_question(1, ROOT2, court.answerFee()), enough);
        _sweepRefused(_question(1, ROOT, court.answerFee() - 1), enough);
    }

    function _question(uint256 position, bytes32 root, uint256 value) private view returns (Call memory) {
        return Call(
            address(court),
            challenger,
            value,
            abi.encodeCall(
                court.challengeSignature,
                (1, uint8(position + 1), root, made().signers[position], holderOf(made(), position))
            )
        );
    }

    function _ask(uint256 position) private {
        Call memory it = _question(position, ROOT, court.answerFee());
        vm.prank(it.from);
        (bool success,) = it.to.call{value: it.value}(it.data);
        assertTrue(success, "a challenge was refused");
    }

    /// The answer of who was asked, and no other's.
    function test_Sweep_Court_answerSignature() public {
        consumer.order(1, ROOT);
        _ask(1);
        uint256 enough = _sweepWhole(_ofCourt(_answerCall(other(1, DEPOSIT, 0, ROOT))));
        Answer memory a = other(1, DEPOSIT, 0, ROOT);
        a.signature = sign(signerSecret[serverAt(2)], evidenceOf(a));
        _sweepRefused(_ofCourt(_answerCall(a)), enough);
    }

    function _answerCall(Answer memory a) private view returns (bytes memory) {
        return abi.encodeCall(court.answerSignature, (a.envelope, a.signature, a.partial_));
    }

    /// The honest: still in time, already answered, never asked.
    function test_Sweep_Court_proveUnansweredChallenge() public {
        consumer.order(1, ROOT);
        _ask(0);
        _ask(2);
        Answer memory a = other(2, DEPOSIT, 0, ROOT);
        court.answerSignature(a.envelope, a.signature, a.partial_);
        vm.roll(block.number + 1);
        _ask(1);
        vm.roll(court.challenge(1, 1, ROOT).deadline + 1);
        uint256 enough = _sweepWhole(_ofCourt(_silence(1)));
        for (uint8 index = 2; index <= 4; ++index) {
            _sweepRefused(_ofCourt(_silence(index)), enough);
        }
        assertSlashed(serverAt(1), 0);
    }

    function _silence(uint8 index) private view returns (bytes memory) {
        return abi.encodeCall(court.proveUnansweredChallenge, (1, index, ROOT));
    }

    /// Of a key that was given up, or in the hands of another committee, the fee goes back and nobody pays, with little gas too.
    function test_Sweep_Court_proveUnansweredChallenge_Void() public {
        consumer.order(1, ROOT);
        addServers(4);
        servers.suspend(serverAt(1), "test");
        move(1, committeeOf(made()), made().keySet.coefficients[0], 77);
        vm.warp(uint256(resharing.committee(1, 1).handover) - 1 days);
        _ask(0);
        vm.roll(court.challenge(1, 1, ROOT).deadline + 1);
        uint256 snapshot = vm.snapshotState();
        vm.warp(block.timestamp + 1 days);
        _sweepVoid();
        vm.revertToState(snapshot);
        consumer.retire(1, false);
        _sweepVoid();
    }

    function _sweepVoid() private {
        uint256 bonds = address(servers).balance;
        _sweepWhole(_ofCourt(_silence(1)));
        callCourt(reporter, _silence(1));
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            assertSlashed(id, 0);
        }
        assertEq(address(servers).balance, bonds);
    }

    /// The honest: still in time, answered, never asked; and a member of a key that was made.
    function test_Sweep_Court_proveUnansweredAcknowledgement() public {
        Running memory r = _running();
        ask(r, 1);
        ask(r, 2);
        acknowledgements.answerAcknowledgement(r.c.keyId, 0, 2, acknowledgementOf(r.c, 2));
        vm.warp(block.timestamp + 1);
        ask(r, 3);
        pastDeadline(r.c, 1);
        uint256 snapshot = vm.snapshotState();
        uint256 enough = _sweepWhole(_ofCourt(_silenceAtTheEnd(1)));
        for (uint8 index = 2; index <= 4; ++index) {
            _sweepRefused(_ofCourt(_silenceAtTheEnd(index)), enough);
        }
        vm.revertToState(snapshot);
        finalise(r.c);
        assertEq(uint8(keys.key(runningKey).state), uint8(KeyState.Live));
        _sweepWhole(_ofCourt(_silenceAtTheEnd(1)));
        callCourt(reporter, _silenceAtTheEnd(1));
        assertSlashed(r.c.committee[0], 0);
    }

    function _silenceAtTheEnd(uint8 index) private view returns (bytes memory) {
        return abi.encodeCall(court.proveUnansweredAcknowledgement, (runningKey, 0, index));
    }

    function test_Sweep_Court_sentence() public {
        bytes memory data = abi.encodeCall(court.sentence, (Fault.BadDealing, 1, 1, ROOT, reporter));
        _sweepRefused(_ofCourt(data), 200_000);
    }

    function test_Sweep_Court_withdrawFees() public {
        consumer.order(1, ROOT);
        _ask(0);
        consumer.retire(1, false);
        vm.roll(court.challenge(1, 1, ROOT).deadline + 1);
        callCourt(reporter, _silence(1));
        bytes memory data = abi.encodeCall(court.withdrawFees, ());
        uint256 enough = _sweepWhole(Call(address(court), challenger, 0, data));
        _sweepRefused(_ofCourt(data), enough);
    }

    // ------------------------------------------------------------------------------------------ acknowledgements

    function _running() private returns (Running memory r) {
        r = running(3, 4, 1);
        runningKey = r.c.keyId;
    }

    /// What the member owes is in the world that is compared: too little gas must not ask for something else.
    function test_Sweep_Acknowledgements_challengeAcknowledgement() public {
        Running memory r = _running();
        uint256 enough = _sweepWhole(_ofAcknowledgements(fee, questionTo(r, 2)));
        // Dealings that the member did not commit to: one of them is another.
        bytes memory set = signedSet(r.c, 2);
        r.dealt[3] = withShare(r.dealt[3], 1, 1);
        table(r);
        bytes memory data = abi.encodeCall(
            acknowledgements.challengeAcknowledgement, (runningKey, 2, r.c.committee, r.dealings, set)
        );
        _sweepRefused(_ofAcknowledgements(fee, data), enough);
    }

    function test_Sweep_Acknowledgements_answerAcknowledgement() public {
        Running memory r = _running();
        ask(r, 2);
        uint256 enough = _sweepWhole(_ofAcknowledgements(0, _acknowledged(acknowledgementOf(r.c, 2))));
        _sweepRefused(_ofAcknowledgements(0, _acknowledged(acknowledgementOf(r.c, 3))), enough);
    }

    function _acknowledged(bytes memory signature) private view returns (bytes memory) {
        return abi.encodeCall(acknowledgements.answerAcknowledgement, (runningKey, 0, 2, signature));
    }

    /// A good dealing is no reason, with little gas neither.
    function test_Sweep_Acknowledgements_answerBadDealing() public {
        Running memory r = _running();
        ask(r, 2);
        Dealt memory good = r.dealt[3];
        bytes memory data = _badAnswer(r, good);
        uint256 enough = _sweepWhole(_ofAcknowledgements(0, _badAnswer(r, withShare(r.dealt[2], 2, 1))));
        _sweepRefused(_ofAcknowledgements(0, data), enough);
    }

    function _badAnswer(Running memory r, Dealt memory d) private returns (bytes memory) {
        return abi.encodeCall(
            acknowledgements.answerBadDealing,
            (2, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, opening(d, 2))
        );
    }

    function test_Sweep_Acknowledgements_answerMalformedDealing() public {
        Running memory r = _running();
        ask(r, 2);
        Dealt memory bad = r.dealt[2];
        bytes memory honest_ = _malformedAnswer(r, r.dealt[3]);
        bad.proof = possession(bad.dealing, 5);
        bad.dealing.possessionHash = keccak256(bad.proof);
        sealDealing(bad);
        uint256 enough = _sweepWhole(_ofAcknowledgements(0, _malformedAnswer(r, bad)));
        _sweepRefused(_ofAcknowledgements(0, honest_), enough);
    }

    function _malformedAnswer(Running memory r, Dealt memory d) private view returns (bytes memory) {
        return abi.encodeCall(
            acknowledgements.answerMalformedDealing,
            (2, r.c.committee, d.dealing, d.signature, d.proof, DealingDefect.Possession, 0)
        );
    }

    /// One set twice is no reason, nor is a fault of its own.
    function test_Sweep_Acknowledgements_answerEquivocation() public {
        Running memory r = _running();
        ask(r, 2);
        uint256 enough = _sweepWhole(_ofAcknowledgements(0, _equivocationAnswer(r, 4, "another")));
        _sweepRefused(_ofAcknowledgements(0, _equivocationAnswer(r, 4, r.c.dealingsDigest)), enough);
        _sweepRefused(_ofAcknowledgements(0, _equivocationAnswer(r, 2, "another")), enough);
    }

    function _equivocationAnswer(Running memory r, uint8 index, bytes32 digest)
        private
        view
        returns (bytes memory)
    {
        CeremonyMessage memory one = setOf(r.c, index);
        CeremonyMessage memory two = setOf(r.c, index);
        two.fields[1] = digest;
        uint256 secret = signerSecret[r.c.committee[index - 1]];
        return abi.encodeCall(
            acknowledgements.answerEquivocation,
            (2, r.c.committee, one, sign(secret, messageDigest(one)), two, sign(secret, messageDigest(two)))
        );
    }

    function test_Sweep_Acknowledgements_close() public {
        Running memory r = _running();
        ask(r, 2);
        pastDeadline(r.c, 2);
        bytes memory data = abi.encodeCall(acknowledgements.close, (runningKey, 0, 2));
        _sweepRefused(_ofAcknowledgements(0, data), 200_000);
    }

    function test_Sweep_Acknowledgements_withdrawFees() public {
        Running memory r = _running();
        ask(r, 2);
        pastDeadline(r.c, 2);
        callCourt(reporter, _silenceAtTheEnd(2));
        _sweepWhole(_ofAcknowledgements(0, abi.encodeCall(acknowledgements.withdrawFees, ())));
    }

    // ------------------------------------------------------------------------------------------ the verdict alone

    /// @dev What a conviction costs afterwards must not be what protects the honest.
    function test_Sweep_NoVerdictAgainstAnHonestPartial() public view {
        Answer memory a = honest(made(), 0, ROOT);
        _sweepVerdict(abi.encodeCall(judges.invalid, (a.holder.shareKey, ROOT, a.partial_)));
        _sweepVerdict(abi.encodeCall(judges.garbage, (a.partial_)));
    }

    function test_Sweep_NoVerdictAgainstAnHonestDealing() public {
        Dealt memory d = honestDealing(0);
        _sweepVerdict(abi.encodeCall(judges.bad, (d.dealing, d.oneTimeKeys, opening(d, 2), address(keys))));
        for (uint8 i; i < 4; ++i) {
            DealingDefect defect = DealingDefect(i);
            _sweepVerdict(
                abi.encodeCall(judges.malformed, (d.dealing, hashedOf(d, defect), defect, address(keys)))
            );
        }
    }

    function _sweepVerdict(bytes memory data) private view {
        for (uint256 gasLimit = 3_000; gasLimit < 403_000; gasLimit += 500) {
            (bool guilty,) = address(judges).staticcall{gas: gasLimit}(data);
            assertFalse(guilty, "a verdict");
        }
    }
}

/// @title Providers: the same
contract ProviderGasLimitsTest is GasLimits, PoolFixture {
    address private reporter = makeAddr("reporter");
    uint256 private dutySecret = uint256(keccak256(abi.encode("duty key", provider))) >> 1;
    bytes32[] private commitments;

    function setUp() public override {
        super.setUp();
        _active();
    }

    function _world() internal view override returns (bytes32 world) {
        (uint64 assignment, uint128 claim) = pools.penalties(1);
        world = keccak256(abi.encode(pools.pool(1), assignment, claim, pools.bountyOf(reporter)));
        world = keccak256(abi.encode(world, address(pools).balance, pools.isMigrationDue(1)));
        for (uint256 i; i < commitments.length; ++i) {
            world = keccak256(abi.encode(world, d.court.committedAt(commitments[i])));
        }
    }

    /// By one duty key and by two. The not guilty: one request twice, two slots, a stranger's request beside the provider's.
    function test_Sweep_Court_proveProviderEquivocation() public {
        bytes memory proof = _dutyKeyProof(0xbeef, provider);
        skip(1);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(0xbeef), proof);
        _sweepWhole(_proof(77, dutySecret, "b"));
        uint256 enough = _sweepWhole(_proof(77, 0xbeef, "b"));
        _sweepRefused(_proof(77, dutySecret, "a"), enough);
        _sweepRefused(_proof(78, dutySecret, "b"), enough);
        _sweepRefused(_proof(77, 0xbad, "b"), enough);
    }

    /// A proposal of slot 77 and root "a" by the first duty key, and another by whom it may be.
    function _proof(uint64 slot, uint256 secret, bytes32 root) private returns (Call memory) {
        DutyRequest memory a = DutyRequest(1, 1, 3, 77, 0, 0, "a");
        DutyRequest memory b = DutyRequest(1, 1, 3, slot, 0, 0, root);
        bytes32 x = requestDigest(address(d.keyRegistry), a);
        bytes32 y = requestDigest(address(d.keyRegistry), b);
        bytes32 evidence = keccak256(x < y ? bytes.concat(x, y) : bytes.concat(y, x));
        bytes32 commitment = keccak256(abi.encode(reporter, Fault.ProviderEquivocation, evidence));
        if (d.court.committedAt(commitment) == 0) {
            commitments.push(commitment);
            d.court.commit(commitment);
            vm.roll(vm.getBlockNumber() + d.court.COMMITMENT_BLOCKS());
        }
        bytes memory data =
            abi.encodeCall(d.court.proveProviderEquivocation, (a, sign(dutySecret, x), b, sign(secret, y)));
        return Call(address(d.court), reporter, 0, data);
    }
}
