// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {CeremonyMessage, DealingDefect, Fault} from "../../../contracts/interfaces/ICourt.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {DealingFixture} from "./DealingFixture.sol";

/// @title Whatever an honest server signed, put through every entry as a reporter likes it best
/// @notice 10,000 runs with FOUNDRY_PROFILE=long (`cargo xtask test --full`).
contract HonestTranscriptsTest is DealingFixture {
    /// @dev What an honest history is made from: two duties one after the other, of any kind.
    struct History {
        uint8 position;
        uint8 kind;
        uint32 slot;
        uint32 later;
        uint16 source;
        uint16 distance;
        bytes32 root;
        bytes32 otherRoot;
    }

    /// Two votes of which the second begins where the first ended or later, or two other duties at two slots.
    function testFuzz_Honest_DutiesAreNeverSlashable(History memory h, uint256 forged) public {
        vm.assume(h.root != h.otherRoot);
        h.position %= 4;
        // Not of the kinds that need an order: those are below.
        h.kind = [2, 3, 4, 5, 6, 8, 9, 10, 11][h.kind % 9];
        (Answer memory a, Answer memory b) = _pair(h);
        Answer memory c = honest(made(), h.position, h.root);
        c.envelope = a.envelope;
        c.signature = a.signature;
        c.partial_ = ThresholdKeys.sign(bound(forged, 1, ThresholdKeys.R - 1), h.root);
        bytes[] memory calls = new bytes[](9);
        (calls[0], calls[1], calls[2]) = (invalidCall(a), garbageCall(a), unauthorisedCall(a));
        (calls[3], calls[4], calls[5]) = (conflictCall(a, b), conflictCall(b, a), conflictCall(a, a));
        (calls[6], calls[7], calls[8]) = (invalidCall(b), garbageCall(b), unauthorisedCall(b));
        bytes32[] memory evidence = new bytes32[](4);
        (evidence[0], evidence[1]) = (evidenceOf(a), evidenceOf(b));
        (evidence[2], evidence[3]) = (evidenceOf(a, b), evidenceOf(a, a));
        _tryAll(evidence, calls);
        if (keccak256(c.partial_) == c.envelope.partialHash) return;
        calls = new bytes[](2);
        (calls[0], calls[1]) = (invalidCall(c), garbageCall(c));
        _tryAll(evidence, calls);
    }

    function _pair(History memory h) private view returns (Answer memory a, Answer memory b) {
        a = honest(made(), h.position, h.root);
        b = honest(made(), h.position, h.otherRoot);
        (a.envelope.dutyKind, b.envelope.dutyKind) = (h.kind, h.kind);
        (a.envelope.slot, b.envelope.slot) = (h.slot, uint64(h.slot) + h.later + 1);
        bool vote_ = h.kind == ATTESTATION;
        a.envelope.sourceEpoch = vote_ ? h.source : 0;
        a.envelope.targetEpoch = vote_ ? uint64(h.source) + h.distance + 1 : 0;
        b.envelope.sourceEpoch = vote_ ? a.envelope.targetEpoch : 0;
        b.envelope.targetEpoch = vote_ ? a.envelope.targetEpoch + uint64(h.later) + 1 : 0;
        seal(a);
        seal(b);
    }

    /// What the chain ordered, signed once it was, and again.
    function testFuzz_Honest_OrdersAreNeverSlashable(uint8 position, uint8 kind, bytes32 root, bool asked)
        public
    {
        position %= 4;
        kind = [DEPOSIT, EXIT, CREDENTIALS][kind % 3];
        consumer.order(1, root);
        Answer memory a = other(position, kind, 0, root);
        if (asked) {
            uint256 fee = court.answerFee();
            vm.deal(address(this), fee);
            court.challengeSignature{value: fee}(1, position + 1, root, made().signers[position], a.holder);
            court.answerSignature(a.envelope, a.signature, a.partial_);
            vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        }
        bytes[] memory calls = new bytes[](5);
        (calls[0], calls[1], calls[2]) = (invalidCall(a), garbageCall(a), unauthorisedCall(a));
        calls[3] = conflictCall(a, a);
        calls[4] = abi.encodeCall(court.proveUnansweredChallenge, (1, position + 1, root));
        bytes32[] memory evidence = new bytes32[](2);
        (evidence[0], evidence[1]) = (evidenceOf(a), evidenceOf(a, a));
        _tryAll(evidence, calls);
    }

    /// A member's five messages of one attempt, each with each, with those of the next attempt, and with themselves.
    function testFuzz_Honest_CeremoniesAreNeverSlashable(
        uint8 position,
        uint256 seed,
        uint8 first,
        uint8 second,
        bool next
    ) public {
        position %= 4;
        Dealt memory d = honestDealing(1, serverAt(position), position + 1, 3, 4, seed);
        CeremonyMessage memory a = _message(d, first % 5 + 1);
        CeremonyMessage memory b = _message(d, second % 5 + 1);
        if (next) b.attempt = 1;
        bytes[] memory calls = new bytes[](6);
        for (uint8 i; i < 4; ++i) {
            calls[i] = malformedCall(d, DealingDefect(i), i == 2 ? uint8(seed % 3) : 0);
        }
        calls[4] = badCall(d, opening(d, uint8(seed % 4 + 1)));
        calls[5] = equivocationCall(signerSecret[d.server], a, b);
        bytes32[] memory evidence = new bytes32[](2);
        (evidence[0], evidence[1]) = (dealingDigest(d.dealing), pairOf(messageDigest(a), messageDigest(b)));
        _tryAll(evidence, calls);
    }

    function _message(Dealt memory d, uint8 round) private view returns (CeremonyMessage memory m) {
        (m.keyId, m.attempt, m.index, m.round) = (d.dealing.keyId, 0, d.dealing.index, round);
        m.fields = new bytes32[](round == 4 ? 5 : round == 5 ? 4 : 1);
        if (round == 1) m.fields[0] = keccak256(d.dealing.oneTimeKey);
        if (round == 2) m.fields[0] = dealingDigest(d.dealing);
        if (round == 3) m.fields[0] = keccak256("all dealings");
        if (round == 4) {
            m.fields[0] = d.dealing.oneTimeKeysHash;
            m.fields[1] = keccak256(d.dealing.oneTimeKey);
            m.fields[2] = keccak256(d.dealing.commitments);
            m.fields[3] = d.dealing.possessionHash;
            m.fields[4] = keccak256(d.dealing.shares);
            assertEq(messageDigest(m), dealingDigest(d.dealing), "one dealing, one digest");
        }
    }

    /// @dev Every kind of fault is committed to, for all the evidence there is: no call may fail for want of that.
    function _tryAll(bytes32[] memory evidence, bytes[] memory calls) private {
        for (uint8 fault = 1; fault <= uint8(Fault.UnansweredChallenge); ++fault) {
            for (uint256 i; i < evidence.length; ++i) {
                bytes32 commitment = commitmentOf(reporter, Fault(fault), evidence[i]);
                if (court.committedAt(commitment) == 0) court.commit(commitment);
            }
        }
        vm.roll(block.number + 1);
        for (uint256 i; i < calls.length; ++i) {
            vm.prank(reporter);
            (bool convicted,) = address(court).call(calls[i]);
            assertFalse(convicted, "an honest server was convicted");
        }
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            assertSlashed(id, 0);
        }
    }
}
