// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Court} from "../../../contracts/court/Court.sol";
import {DealingDefect, Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {DealingFixture} from "./DealingFixture.sol";
import {Vm} from "forge-std/Test.sol";

/// @notice Servers that are guilty of everything, servers that are honest, and reporters, in any order.
contract CourtHandler is DealingFixture {
    bytes32 private constant ORDERED = keccak256("an ordered message");

    address[3] private reporters = [makeAddr("r0"), makeAddr("r1"), makeAddr("r2")];
    /// Ceremonies of two keys, encoded.
    bytes[2] private made_;
    /// Term, plus one, in which a group was last charged.
    mapping(bytes32 group => uint256) private lastTerm;

    uint256 public slashed;
    uint256 public credited;
    uint256 public paid;
    uint256 public bonds;
    /// Of challenges, ever; of those still open; withdrawn.
    uint256 public feesIn;
    uint256 public feesOpen;
    uint256 public feesOut;
    string public violation;
    mapping(bytes4 action => uint256) public successes;

    constructor() {
        deployRegistries();
        addServers(6);
        made_ = [abi.encode(makeKey(3, 4, 1)), abi.encode(makeKey(3, 4, 2))];
        bonds = 60 ether;
        consumer.order(1, ORDERED);
        consumer.order(2, ORDERED);
    }

    modifier action() {
        _;
        ++successes[msg.sig];
    }

    // ---------------------------------------------------------------------------------------------- the guilty

    function reportInvalid(uint8 key, uint8 position, uint64 slot, uint8 who) external action {
        Answer memory a = _answer(key, position, slot);
        a = withPartial(a, ThresholdKeys.sign(uint256(slot) + 1, ROOT));
        _report(who, Fault.InvalidPartial, evidenceOf(a), invalidCall(a));
    }

    function reportGarbage(uint8 key, uint8 position, uint64 slot, uint8 who) external action {
        Answer memory a = withPartial(_answer(key, position, slot), abi.encode(slot));
        _report(who, Fault.GarbagePartial, evidenceOf(a), garbageCall(a));
    }

    function reportConflict(uint8 key, uint8 position, uint64 slot, uint8 who) external action {
        Answer memory a = _answer(key, position, slot);
        Answer memory b = _answer(key, position, slot);
        b.envelope.signingRoot = keccak256("another");
        seal(b);
        _report(who, Fault.ConflictingDuties, evidenceOf(a, b), conflictCall(a, b));
    }

    function reportUnauthorised(uint8 key, uint8 position, uint64 slot, uint8 who) external action {
        Answer memory a = _answer(key, position, slot);
        a.envelope.dutyKind = EXIT;
        a.envelope.slot = 0;
        a.envelope.signingRoot = bytes32(uint256(slot % 8) + 1);
        seal(a);
        _report(who, Fault.UnauthorisedSignature, evidenceOf(a), unauthorisedCall(a));
    }

    function reportBadDealing(uint8 key, uint8 position, uint64 share, uint8 who) external action {
        Dealt memory d = withShare(_dealing(key, position, share), 2, uint256(share) + 1);
        _report(who, Fault.BadDealing, dealingDigest(d.dealing), badCall(d, opening(d, 2)));
    }

    function reportMalformedDealing(uint8 key, uint8 position, uint64 seed, uint8 who) external action {
        Dealt memory d = _dealing(key, position, seed);
        d.dealing.shares = abi.encode(seed);
        sealDealing(d);
        bytes memory data = malformedCall(d, DealingDefect.Shape, 0);
        _report(who, Fault.MalformedDealing, dealingDigest(d.dealing), data);
    }

    function ask(uint8 key, uint8 position, uint8 who, uint64 more) external action {
        Answer memory a = _owed(key, position);
        uint256 fee = court.answerFee() + more;
        vm.deal(reporters[who % 3], fee);
        vm.prank(reporters[who % 3]);
        court.challengeSignature{value: fee}(
            a.envelope.keyId, a.envelope.index, ORDERED, vm.addr(signerSecret[a.holder.server]), a.holder
        );
        feesIn += fee;
        feesOpen += fee;
    }

    function answer(uint8 key, uint8 position) external action {
        Answer memory a = _owed(key, position);
        uint64 fee = court.challenge(a.envelope.keyId, a.envelope.index, ORDERED).fee;
        court.answerSignature(a.envelope, a.signature, a.partial_);
        feesOpen -= fee;
    }

    function stayedSilent(uint8 key, uint8 position) external action {
        Answer memory a = _owed(key, position);
        (uint256 keyId, uint8 index) = (a.envelope.keyId, a.envelope.index);
        uint64 fee = court.challenge(keyId, index, ORDERED).fee;
        vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        vm.recordLogs();
        court.proveUnansweredChallenge(keyId, index, ORDERED);
        feesOpen -= fee;
        _note(vm.getRecordedLogs());
    }

    function withdrawFees(uint8 who) external action {
        address account = _payee(who);
        uint256 before = account.balance;
        vm.prank(account);
        court.withdrawFees();
        feesOut += account.balance - before;
    }

    // ---------------------------------------------------------------------------------------------- the honest

    /// @dev An honest dealing through its entries, and silence of whom nobody asked.
    function frameDealer(uint8 key, uint8 position, uint64 seed, uint8 who, uint8 recipient) external action {
        Dealt memory d = _dealing(key, position, seed);
        bytes32 evidence = dealingDigest(d.dealing);
        _commitOnce(reporters[who % 3], Fault.BadDealing, evidence);
        _commitOnce(reporters[who % 3], Fault.MalformedDealing, evidence);
        vm.roll(block.number + 1);
        bytes[6] memory calls = [
            badCall(d, opening(d, recipient % 4 + 1)),
            malformedCall(d, DealingDefect.Shape, 0),
            malformedCall(d, DealingDefect.OneTimeKey, 0),
            malformedCall(d, DealingDefect.Commitment, recipient % 3),
            malformedCall(d, DealingDefect.Possession, 0),
            abi.encodeCall(
                court.proveUnansweredChallenge, (d.dealing.keyId, d.dealing.index, keccak256("not asked"))
            )
        ];
        _tryAll(who, calls);
    }

    /// @dev An honest transcript through every entry, alone and in pairs, as it is or as the reporter likes it better.
    function frame(uint8 key, uint8 position, uint64 slot, uint8 who) external action {
        Answer memory a = _answer(key, position, slot);
        Answer memory b = _answer(key, position, slot + 1);
        b.envelope.sourceEpoch = a.envelope.targetEpoch;
        b.envelope.targetEpoch = a.envelope.targetEpoch + 1;
        b.envelope.signingRoot = keccak256("the next");
        seal(b);
        // In place of the honest partial, one that the reporter made.
        Answer memory c = _answer(key, position, slot);
        c.partial_ = ThresholdKeys.sign(uint256(slot) + 1, ROOT);
        bytes[6] memory calls = [
            invalidCall(a),
            garbageCall(a),
            conflictCall(a, b),
            unauthorisedCall(a),
            invalidCall(c),
            garbageCall(c)
        ];
        for (uint8 fault = 1; fault < 5; ++fault) {
            _commitOnce(reporters[who % 3], Fault(fault), fault == 3 ? evidenceOf(a, b) : evidenceOf(a));
        }
        vm.roll(block.number + 1);
        _tryAll(who, calls);
    }

    function _tryAll(uint8 who, bytes[6] memory calls) private {
        for (uint256 i; i < calls.length; ++i) {
            vm.prank(reporters[who % 3]);
            (bool success,) = address(court).call(calls[i]);
            if (success) violation = "an honest server was convicted";
        }
    }

    // ------------------------------------------------------------------------------------------------ the others

    function reinstate(uint8 id, uint96 more) external action {
        uint32 server = uint32(id % 6) + 1;
        more = uint96(bound(more, 0, 5 ether));
        vm.deal(address(this), more);
        servers.addBond{value: more}(server);
        bonds += more;
        servers.reinstate(server, "looked into");
    }

    function withdrawBounty(uint8 who) external action {
        address account = reporters[who % 3];
        uint256 before = account.balance;
        vm.prank(account);
        servers.withdrawBounty();
        paid += account.balance - before;
    }

    function setSeatBond(uint96 seatBond) external action {
        servers.setBondParameters(1 ether, uint96(bound(seatBond, 0.1 ether, 4 ether)));
    }

    function registry() external view returns (ServerRegistry) {
        return servers;
    }

    function theCourt() external view returns (Court) {
        return court;
    }

    /// @notice Sum of what all reporters can withdraw.
    function owed() external view returns (uint256 sum) {
        for (uint256 i; i < 3; ++i) {
            sum += servers.bountyOf(reporters[i]);
        }
    }

    /// @notice Sum of the fees that anybody can withdraw.
    function feesOwed() external returns (uint256 sum) {
        for (uint8 i; i < 9; ++i) {
            sum += court.feesOf(_payee(i));
        }
    }

    // -------------------------------------------------------------------------------------------------- internal

    /// @dev The reporters, then the operators.
    function _payee(uint8 who) private returns (address) {
        return who % 9 < 3 ? reporters[who % 9] : operatorOf(who % 9 - 3);
    }

    /// @dev What the member owes once it is asked.
    function _owed(uint8 key, uint8 position) private view returns (Answer memory a) {
        a = honest(abi.decode(made_[key % 2], (Ceremony)), position % 4, ORDERED);
        (a.envelope.dutyKind, a.envelope.slot) = (DEPOSIT, 0);
        (a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0);
        seal(a);
    }

    function _dealing(uint8 key, uint8 position, uint64 seed) private returns (Dealt memory) {
        Ceremony memory c = abi.decode(made_[key % 2], (Ceremony));
        position %= 4;
        return honestDealing(c.keyId, c.committee[position], position + 1, 3, 4, seed);
    }

    /// @dev An honest answer of the member with the duty of this slot.
    function _answer(uint8 key, uint8 position, uint64 slot) private view returns (Answer memory a) {
        a = honest(abi.decode(made_[key % 2], (Ceremony)), position % 4, ROOT);
        a.envelope.slot = slot % 1_024 + 64;
        a.envelope.sourceEpoch = a.envelope.slot / 32 - 1;
        a.envelope.targetEpoch = a.envelope.slot / 32;
        seal(a);
    }

    /// @dev A commitment to evidence that was refused is still there in a later round.
    function _commitOnce(address who, Fault fault, bytes32 evidence) private {
        bytes32 commitment = commitmentOf(who, fault, evidence);
        if (court.committedAt(commitment) == 0) court.commit(commitment);
    }

    function _report(uint8 who, Fault fault, bytes32 evidence, bytes memory data) private {
        address account = reporters[who % 3];
        commitAs(account, fault, evidence);
        vm.recordLogs();
        callCourt(account, data);
        _note(vm.getRecordedLogs());
    }

    /// @dev What a verdict did, by its events.
    function _note(Vm.Log[] memory logs) private {
        Vm.Log memory last = logs[logs.length - 1];
        if (last.topics[0] == ICourt.FaultRecorded.selector) return;
        if (last.topics[0] != ICourt.FaultProven.selector) violation = "neither proven nor recorded";
        (uint32 epoch,,, uint256 amount, uint256 bounty) =
            abi.decode(last.data, (uint32, bytes32, address, uint256, uint256));
        slashed += amount;
        credited += bounty;
        if (amount != 0 && bounty >= amount) violation = "a bounty of all";
        bytes32 group = keccak256(abi.encode(last.topics, epoch));
        uint32 server = uint32(uint256(last.topics[2]));
        uint256 term = uint256(servers.terms(server)) + 1;
        if (lastTerm[group] == term) violation = "charged twice in one term";
        lastTerm[group] = term;
        if (servers.isActive(server)) violation = "not locked out";
    }
}

/// @title The sentences C1 to C3 of docs/invariants.md
contract CourtInvariantsTest is Campaign {
    CourtHandler private handler;
    ServerRegistry private servers;

    function setUp() public {
        handler = new CourtHandler();
        servers = handler.registry();
        bytes4[] memory selectors = new bytes4[](15);
        bytes4[15] memory actions = _actions();
        for (uint256 i; i < 15; ++i) {
            selectors[i] = actions[i];
        }
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _actions() private pure returns (bytes4[15] memory) {
        return [
            CourtHandler.reportInvalid.selector,
            CourtHandler.reportGarbage.selector,
            CourtHandler.reportConflict.selector,
            CourtHandler.reportUnauthorised.selector,
            CourtHandler.frame.selector,
            CourtHandler.reinstate.selector,
            CourtHandler.withdrawBounty.selector,
            CourtHandler.setSeatBond.selector,
            CourtHandler.reportBadDealing.selector,
            CourtHandler.reportMalformedDealing.selector,
            CourtHandler.ask.selector,
            CourtHandler.answer.selector,
            CourtHandler.stayedSilent.selector,
            CourtHandler.withdrawFees.selector,
            CourtHandler.frameDealer.selector
        ];
    }

    function afterInvariant() public {
        string[15] memory names = [
            "reportInvalid",
            "reportGarbage",
            "reportConflict",
            "reportUnauthorised",
            "frame",
            "reinstate",
            "withdrawBounty",
            "setSeatBond",
            "reportBadDealing",
            "reportMalformedDealing",
            "ask",
            "answer",
            "stayedSilent",
            "withdrawFees",
            "frameDealer"
        ];
        string[] memory actions = new string[](15);
        uint256[] memory counts = new uint256[](15);
        for (uint256 i; i < 15; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(_actions()[i]));
        }
        _conclude("court", 64, actions, counts);
    }

    /// forge-config: default.invariant.runs = 64
    function invariant_C1_to_C3() public {
        uint256 bonds;
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            bonds += servers.server(id).bond;
        }
        assertEq(bonds, handler.bonds() - handler.slashed(), "C1: bonds");
        assertEq(handler.owed() + handler.paid(), handler.credited(), "C1: bounties");
        uint256 burned = handler.slashed() - handler.credited();
        assertEq(address(servers).balance, bonds + handler.owed() + burned, "C1: balance");
        uint256 fees = handler.feesOpen() + handler.feesOwed();
        assertEq(address(handler.theCourt()).balance, fees, "C1: the Court holds fees and nothing else");
        assertEq(fees, handler.feesIn() - handler.feesOut(), "C1: fees");
        assertEq(handler.violation(), "", "C2, C3");
    }
}
