// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    CeremonyMessage,
    DealingDefect,
    DutyRequest,
    Fault,
    ICourt,
    ShareHolder
} from "../../../contracts/interfaces/ICourt.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {Resharing} from "../../../contracts/registry/Resharing.sol";
import {PoolFixture} from "../pools/PoolFixture.sol";
import {Entries} from "../utils/Entries.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {AcknowledgementFixture} from "./AcknowledgementFixture.sol";

/// @notice Whatever an honest server signed, put through every entry as a reporter likes it best.
/// @dev 10,000 runs with FOUNDRY_PROFILE=long (`cargo xtask test --full`).
abstract contract HonestTries is AcknowledgementFixture, ReshareFixture {
    /// Entries that were tried, by selector.
    mapping(bytes4 selector => bool) internal tried;

    /// @dev Every kind of fault is committed to, for all the evidence there is: no call may fail for want of that.
    function _tryAll(bytes32[] memory evidence, bytes[] memory calls) internal {
        _commitToAll(evidence);
        for (uint256 i; i < calls.length; ++i) {
            assertFalse(_try(address(court), calls[i]), "an honest server was convicted");
        }
        _assertNobodyPaid();
    }

    function _commitToAll(bytes32[] memory evidence) internal {
        for (uint8 fault = 1; fault <= uint8(Fault.UnansweredChallenge); ++fault) {
            for (uint256 i; i < evidence.length; ++i) {
                bytes32 commitment = commitmentOf(reporter, Fault(fault), evidence[i]);
                if (court.committedAt(commitment) == 0) court.commit(commitment);
            }
        }
        vm.roll(block.number + COMMITMENT_BLOCKS);
    }

    function _try(address to, bytes memory data) internal returns (bool success) {
        tried[bytes4(data)] = true;
        vm.prank(reporter);
        (success,) = to.call(data);
    }

    function _assertNobodyPaid() internal view {
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            assertSlashed(id, 0);
        }
    }

    function _silence(uint256 keyId, uint8 index, bytes32 root) internal view returns (bytes memory) {
        return abi.encodeCall(court.proveUnansweredChallenge, (keyId, index, root));
    }

    /// @dev All there is to try with one honest answer.
    function _callsOn(Answer memory a) internal view returns (bytes[] memory calls) {
        calls = new bytes[](4);
        (calls[0], calls[1]) = (invalidCall(a), garbageCall(a));
        (calls[2], calls[3]) = (unauthorisedCall(a), conflictCall(a, a));
    }

    function _evidenceOn(Answer memory a) internal view returns (bytes32[] memory evidence) {
        evidence = new bytes32[](2);
        (evidence[0], evidence[1]) = (evidenceOf(a), evidenceOf(a, a));
    }

    function _challengeMember(
        uint256 keyId,
        uint8 index,
        bytes32 root,
        address signer,
        ShareHolder memory holder
    ) internal {
        uint256 value = court.answerFee();
        vm.deal(address(this), value);
        court.challengeSignature{value: value}(keyId, index, root, signer, holder);
    }
}

/// @title Members of validator keys and of ceremonies
contract HonestTranscriptsTest is HonestTries, Entries {
    /// A ceremony with all dealings on the table, encoded.
    bytes private _running;

    function setUp() public override {
        super.setUp();
        _running = abi.encode(running(3, 4, 1));
    }

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
            _challengeMember(1, position + 1, root, made().signers[position], a.holder);
            court.answerSignature(a.envelope, a.signature, a.partial_);
            vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        }
        bytes[] memory calls = new bytes[](5);
        (calls[0], calls[1], calls[2]) = (invalidCall(a), garbageCall(a), unauthorisedCall(a));
        calls[3] = conflictCall(a, a);
        calls[4] = _silence(1, position + 1, root);
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

    /// Members that acknowledge in time, or whose key is made; and honest dealings as somebody else's reason to refuse.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_Honest_AcknowledgementsAreNeverSlashable(
        uint8 index,
        bool made_,
        uint32 before,
        uint32 later
    ) public {
        index = index % 4 + 1;
        uint8 another = index % 4 + 1;
        Running memory r = abi.decode(_running, (Running));
        ask(r, index);
        if (!made_) ask(r, another);
        _tryReasons(r, index, another);
        vm.warp(block.timestamp + bound(before, 0, 1 days));
        if (made_) {
            finalise(r.c);
        } else {
            acknowledgements.answerAcknowledgement(r.c.keyId, 0, index, acknowledgementOf(r.c, index));
            acknowledgements.answerAcknowledgement(r.c.keyId, 0, another, acknowledgementOf(r.c, another));
        }
        vm.warp(block.timestamp + later);
        _try(address(acknowledgements), abi.encodeCall(acknowledgements.close, (r.c.keyId, 0, index)));
        for (uint8 i = 1; i <= 4; ++i) {
            _try(address(court), abi.encodeCall(court.proveUnansweredAcknowledgement, (r.c.keyId, 0, i)));
        }
        _assertNobodyPaid();
    }

    /// @dev What an honest dealer signed, shown by a member that would rather not answer.
    function _tryReasons(Running memory r, uint8 index, uint8 dealer) private {
        Dealt memory d = r.dealt[dealer - 1];
        bytes memory data = abi.encodeCall(
            acknowledgements.answerBadDealing,
            (index, r.c.committee, d.dealing, d.signature, d.oneTimeKeys, opening(d, index))
        );
        assertFalse(_try(address(acknowledgements), data), "an honest dealing was bad");
        for (uint8 i; i < 4; ++i) {
            DealingDefect defect = DealingDefect(i);
            data = abi.encodeCall(
                acknowledgements.answerMalformedDealing,
                (index, r.c.committee, d.dealing, d.signature, hashedOf(d, defect), defect, 0)
            );
            assertFalse(_try(address(acknowledgements), data), "an honest dealing was malformed");
        }
        bytes memory set = signedSet(r.c, dealer);
        CeremonyMessage memory said = setOf(r.c, dealer);
        data =
            abi.encodeCall(acknowledgements.answerEquivocation, (index, r.c.committee, said, set, said, set));
        assertFalse(_try(address(acknowledgements), data), "one set was two");
        _assertNobodyPaid();
    }

    /// Who is neither the Court nor its Acknowledgements sentences nobody.
    function testFuzz_Honest_NoStrangerSentences(uint8 fault, uint32 server, uint256 keyId, bytes32 evidence)
        public
    {
        server = uint32(bound(server, 1, servers.serverCount()));
        Fault kind = Fault(fault % (uint8(type(Fault).max) + 1));
        bytes memory data = abi.encodeCall(court.sentence, (kind, server, keyId, evidence, reporter));
        assertFalse(_try(address(court), data));
        data = abi.encodeCall(servers.slash, (server, reporter, 0, 0));
        assertFalse(_try(address(servers), data));
        _assertNobodyPaid();
    }

    /// An entry that is added to the Court belongs into one of the tests here, or among those that judge nobody.
    function test_EveryEntryThatJudgesIsTried() public {
        testFuzz_Honest_DutiesAreNeverSlashable(History(0, 0, 320, 1, 9, 0, ROOT, "another"), 1);
        testFuzz_Honest_OrdersAreNeverSlashable(1, 0, "ordered", true);
        testFuzz_Honest_CeremoniesAreNeverSlashable(2, 7, 0, 1, false);
        testFuzz_Honest_AcknowledgementsAreNeverSlashable(3, false, 1, 2 days);
        testFuzz_Honest_NoStrangerSentences(1, 1, 1, "evidence");
        // `HonestProvidersTest` has it.
        tried[ICourt.proveProviderEquivocation.selector] = true;
        string[4] memory ofCourt = ["commit", "challengeSignature", "answerSignature", "withdrawFees"];
        string[4] memory ofOther = ["challengeAcknowledgement", "answerAcknowledgement", "withdrawFees", ""];
        _assertTried("Court", ofCourt);
        _assertTried("Acknowledgements", ofOther);
        assertTrue(tried[servers.slash.selector]);
    }

    function _assertTried(string memory name, string[4] memory judgeNobody) private view {
        string[] memory entries = _entries(name);
        for (uint256 i; i < entries.length; ++i) {
            bool judges = true;
            for (uint256 k; k < judgeNobody.length; ++k) {
                if (_equal(_nameOf(entries[i]), judgeNobody[k])) judges = false;
            }
            bool done = tried[bytes4(keccak256(bytes(entries[i])))];
            assertTrue(done || !judges, string.concat(name, ".", entries[i], " is not tried"));
        }
    }
}

/// @title Members of a key that changes hands
contract HonestCommitteesTest is HonestTries {
    uint256 private constant LEFT = 1;
    Move private moved;

    function setUp() public override {
        super.setUp();
        resharing = Resharing(address(keys.RESHARING()));
        addServers(4);
        servers.suspend(serverAt(LEFT), "test");
        moved = move(1, committeeOf(made()), made().keySet.coefficients[0], 77);
    }

    function _newHolder(uint256 position) private view returns (ShareHolder memory holder) {
        holder.server = moved.made.servers[position];
        holder.shareKey = moved.keySet.shareKeys[position];
        (, holder.proof) = merkleOf(moved.made, position);
    }

    /// Each member signs with the share of its own epoch: the envelopes of one say nothing of the other.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_Honest_BothCommitteesAreNeverSlashable(uint8 position, bytes32 root, bytes32 next)
        public
    {
        vm.assume(root != next);
        position %= 4;
        Answer memory old = honest(made(), position, root);
        Answer memory new_ = honest(made(), position, next);
        new_.holder = _newHolder(position);
        new_.envelope.committeeEpoch = 1;
        (new_.envelope.slot, new_.envelope.sourceEpoch, new_.envelope.targetEpoch) = (352, 10, 11);
        new_.partial_ = ThresholdKeys.sign(moved.keySet.shares[position], next);
        new_.envelope.partialHash = keccak256(new_.partial_);
        seal(new_);
        _tryAll(_evidenceOn(old), _callsOn(old));
        _tryAll(_evidenceOn(new_), _callsOn(new_));
        bytes32[] memory evidence = new bytes32[](1);
        evidence[0] = evidenceOf(old, new_);
        bytes[] memory calls = new bytes[](2);
        (calls[0], calls[1]) = (conflictCall(old, new_), conflictCall(new_, old));
        _tryAll(evidence, calls);
        // With the leaf of the other epoch.
        (old.holder, new_.holder) = (new_.holder, old.holder);
        _tryAll(_evidenceOn(old), _callsOn(old));
        _tryAll(_evidenceOn(new_), _callsOn(new_));
    }

    /// Asked less than a day before its turn ends, a member signs nothing after it.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_Honest_SilenceAfterTheHandoverIsNeverSlashable(
        uint8 position,
        uint32 left,
        uint32 later
    ) public {
        position %= 4;
        consumer.order(1, ROOT);
        vm.warp(uint256(resharing.committee(1, 1).handover) - bound(left, 1, 1 days));
        _challengeMember(1, position + 1, ROOT, made().signers[position], holderOf(made(), position));
        vm.warp(uint256(resharing.committee(1, 1).handover) + later);
        _try(address(court), _silence(1, position + 1, ROOT));
        _assertNobodyPaid();
        vm.roll(court.challenge(1, position + 1, ROOT).deadline + 1);
        _try(address(court), _silence(1, position + 1, ROOT));
        _assertNobodyPaid();
    }
}

/// @title Members of a withdrawal key, offline ones too
contract HonestWithdrawalMembersTest is HonestTries {
    Ceremony private c;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 3; ++i) {
            servers.approve(registerServer(operatorOf(servers.serverCount()), ServerKind.Offline, 10 ether));
        }
        Ceremony memory it;
        (it.threshold, it.members) = (3, 4);
        it.activeSet =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        it.keyId = consumer.requestWithdrawal(3, 4);
        reachSeed(it, "randao");
        draw(it);
        runDkg(it, 7);
        finalise(it);
        c.keyId = it.keyId;
        (c.members, c.committee, c.signers, c.keySet) = (it.members, it.committee, it.signers, it.keySet);
    }

    /// The change that was ordered, whatever its envelope calls it; asked for or not, answered at any time it has.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_Honest_ChangesAreNeverSlashable(
        uint8 position,
        uint8 kind,
        bytes32 root,
        bool asked,
        uint32 after_
    ) public {
        position %= 4;
        consumer.order(c.keyId, root);
        Answer memory a = honest(c, position, root);
        a.envelope.dutyKind = asked ? CREDENTIALS : kind;
        (a.envelope.slot, a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0, 0);
        seal(a);
        if (asked) {
            _challengeMember(c.keyId, position + 1, root, c.signers[position], a.holder);
            uint256 deadline = court.challenge(c.keyId, position + 1, root).deadline;
            vm.roll(bound(after_, block.number, deadline));
            // In time it is nobody's fault.
            assertFalse(_try(address(court), _silence(c.keyId, position + 1, root)));
            court.answerSignature(a.envelope, a.signature, a.partial_);
            vm.roll(deadline + 1);
        }
        assertFalse(_try(address(court), _silence(c.keyId, position + 1, root)));
        _tryAll(_evidenceOn(a), _callsOn(a));
    }
}

/// @title Providers: requests of an honest gateway, and a stranger's beside them
contract HonestProvidersTest is PoolFixture {
    address private reporter = makeAddr("reporter");
    uint256 private dutySecret = uint256(keccak256(abi.encode("duty key", provider))) >> 1;

    function setUp() public override {
        super.setUp();
        _active();
        bytes memory proof = _dutyKeyProof(0xbeef, provider);
        skip(1);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(0xbeef), proof);
    }

    /// Two duties one after the other, each by whichever duty key the provider had.
    /// forge-config: default.fuzz.runs = 200
    /// forge-config: long.fuzz.runs = 10000
    function testFuzz_Honest_ProvidersAreNeverCharged(
        uint8 kind,
        uint32[2] memory slots,
        uint16[2] memory epochs,
        bytes32[2] memory roots,
        bool renamed
    ) public {
        vm.assume(roots[0] != roots[1]);
        kind = kind % 12 + 1;
        DutyRequest memory a = DutyRequest(1, 1, kind, slots[0], 0, 0, roots[0]);
        DutyRequest memory b = DutyRequest(1, 1, kind, uint64(slots[0]) + slots[1] + 1, 0, 0, roots[1]);
        if (kind == 2) {
            (a.sourceEpoch, a.targetEpoch) = (epochs[0], uint64(epochs[0]) + epochs[1] + 1);
            (b.sourceEpoch, b.targetEpoch) = (a.targetEpoch, a.targetEpoch + 1);
        }
        uint256 second = renamed ? 0xbeef : dutySecret;
        _try(a, dutySecret, b, second);
        _try(b, second, a, dutySecret);
        _try(a, dutySecret, a, dutySecret);
        // What conflicts with it, but is a stranger's; or what nobody signed.
        (b.slot, b.sourceEpoch, b.targetEpoch) = (a.slot, a.sourceEpoch, a.targetEpoch);
        _try(a, dutySecret, b, 0xbad);
        _try(b, 0xbad, a, dutySecret);
        vm.prank(reporter);
        (bool charged,) = address(pools)
            .call(
                abi.encodeCall(
                    pools.penaliseProvider, (1, 1, [vm.addr(dutySecret), vm.addr(second)], reporter)
                )
            );
        assertFalse(charged, "charged by a stranger");
        assertEq(pools.pool(1).insurance, 2 ether);
        assertEq(pools.bountyOf(reporter), 0);
        assertFalse(pools.isMigrationDue(1));
    }

    function _try(DutyRequest memory a, uint256 aSecret, DutyRequest memory b, uint256 bSecret) private {
        bytes32 x = requestDigest(address(d.keyRegistry), a);
        bytes32 y = requestDigest(address(d.keyRegistry), b);
        bytes32 evidence = keccak256(x < y ? bytes.concat(x, y) : bytes.concat(y, x));
        bytes32 commitment = keccak256(abi.encode(reporter, Fault.ProviderEquivocation, evidence));
        if (d.court.committedAt(commitment) == 0) d.court.commit(commitment);
        vm.roll(block.number + d.court.COMMITMENT_BLOCKS());
        bytes memory data =
            abi.encodeCall(d.court.proveProviderEquivocation, (a, sign(aSecret, x), b, sign(bSecret, y)));
        vm.prank(reporter);
        (bool charged,) = address(d.court).call(data);
        assertFalse(charged, "an honest provider was charged");
    }
}
