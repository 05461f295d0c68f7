// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Court} from "../../../contracts/court/Court.sol";
import {Challenge, DealingDefect, Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Server, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {DealingFixture} from "./DealingFixture.sol";
import {Vm} from "forge-std/Test.sol";

/// @notice Servers that are guilty of everything, servers that are honest, and reporters, in any order; servers that leave, keys that
/// end and begin, and a governance that suspends, approves and reinstates, in between.
contract CourtHandler is DealingFixture {
    bytes32 private constant ORDERED = keccak256("an ordered message");
    uint256 private constant SERVERS = 8;

    address[3] private reporters = [makeAddr("r0"), makeAddr("r1"), makeAddr("r2")];
    /// Ceremonies of two keys, encoded.
    bytes[2] private made_;
    /// Term, plus one, in which a group was last charged.
    mapping(bytes32 group => uint256) private lastTerm;

    uint256 public slashed;
    uint256 public credited;
    uint256 public paid;
    /// Put in, and paid out to servers that left.
    uint256 public bonds;
    uint256 public bondsOut;
    /// Of challenges, ever; of those still open; withdrawn.
    uint256 public feesIn;
    uint256 public feesOpen;
    uint256 public feesOut;
    /// Charges of a server that was Leaving; of one whose bond no longer covered a seat.
    uint256 public leaversCharged;
    uint256 public lastOfABond;
    /// Challenges that were void because the key had ended.
    uint256 public voidChallenges;
    string public violation;
    mapping(bytes4 action => uint256) public successes;

    constructor() {
        deployRegistries();
        addServers(SERVERS);
        made_ = [abi.encode(makeKey(3, 4, 1)), abi.encode(makeKey(3, 4, 2))];
        bonds = SERVERS * 10 ether;
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
        Answer memory a = _asked(key, position);
        uint64 fee = court.challenge(a.envelope.keyId, a.envelope.index, ORDERED).fee;
        court.answerSignature(a.envelope, a.signature, a.partial_);
        feesOpen -= fee;
    }

    function stayedSilent(uint8 key, uint8 position, bool ends) external action {
        Answer memory a = _asked(key, position);
        // Seldom, or hardly anybody would have to answer.
        if (ends && key % 2 == 0) consumer.retire(a.envelope.keyId, false);
        (uint256 keyId, uint8 index) = (a.envelope.keyId, a.envelope.index);
        Challenge memory open = court.challenge(keyId, index, ORDERED);
        uint256[] memory before = _bonds();
        vm.roll(block.number + court.CHALLENGE_BLOCKS() + 1);
        vm.recordLogs();
        // Late, the bounty is whoever's who proves it.
        vm.prank(reporters[position % 3]);
        court.proveUnansweredChallenge(keyId, index, ORDERED);
        feesOpen -= open.fee;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bool isVoid = logs[logs.length - 1].topics[0] == ICourt.ChallengeVoid.selector;
        Key memory it = keys.key(keyId);
        // The end of a key excuses only whom it left no whole day.
        bool owed_ = it.state == KeyState.Live || it.mark - EVIDENCE_WINDOW > open.due;
        if (isVoid == owed_) violation = owed_ ? "silence was no fault" : "convicted of what it did not owe";
        if (isVoid) ++voidChallenges;
        else _note(logs, before);
    }

    function withdrawFees(uint8 who) external action {
        address account = _creditor(who);
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
        vm.roll(block.number + COMMITMENT_BLOCKS);
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
        vm.roll(block.number + COMMITMENT_BLOCKS);
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
        uint32 server = _lockedOut(id);
        more = uint96(bound(more, 0, 5 ether));
        vm.deal(address(this), more);
        servers.addBond{value: more}(server);
        bonds += more;
        servers.reinstate(server, "looked into");
    }

    function suspend(uint8 id) external action {
        // Seldom, or no committee could be drawn.
        require(id % 4 == 0, "not now");
        servers.suspend(_id(id / 4), "looked at");
    }

    function approve(uint8 id) external action {
        servers.approve(_serverIn(id, ServerStatus.Suspended));
    }

    /// @dev An operator that expects a proof tries to get its bond out before.
    function announceLeave(uint8 id) external action {
        require(id % 4 == 0, "not now");
        uint32 server = _id(id / 4);
        vm.prank(servers.server(server).operator);
        servers.announceLeave(server);
    }

    function withdrawBond(uint8 id, bool late) external action {
        uint32 server = late ? _leaverThatWaited(id) : _serverIn(id, ServerStatus.Leaving);
        Server memory before = servers.server(server);
        if (late && block.timestamp < before.unbondingEnds) vm.warp(before.unbondingEnds);
        uint256 balance = before.operator.balance;
        vm.prank(before.operator);
        servers.withdrawBond(server);
        if (before.seats != 0) violation = "bond paid while it was reserved";
        if (block.timestamp < before.unbondingEnds) violation = "bond paid before unbonding ended";
        if (before.operator.balance != balance + before.bond) violation = "not what was left of the bond";
        bondsOut += before.bond;
    }

    function retireKey(uint8 key, bool burned) external action {
        require(key % 4 < 2, "not now");
        consumer.retire(_ceremony(key).keyId, burned);
    }

    function freeSeats(uint8 key) external action {
        Ceremony memory c = _ceremony(key);
        Key memory it = keys.key(c.keyId);
        require(it.state > KeyState.Live, "still needed");
        if (block.timestamp < it.mark) vm.warp(it.mark);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
    }

    /// @dev In the place of one that ended.
    function makeAnotherKey(uint8 key) external action {
        require(keys.key(_ceremony(key).keyId).state > KeyState.Live, "still needed");
        Ceremony memory c = makeKey(3, 4, keys.keyCount() + 1);
        for (uint256 i; i < 4; ++i) {
            if (servers.server(c.committee[i]).lockedOut) violation = "drawn while it was locked out";
        }
        consumer.order(c.keyId, ORDERED);
        made_[key % 2] = abi.encode(c);
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
        for (uint8 i; i < 3 + SERVERS; ++i) {
            sum += court.feesOf(_payee(i));
        }
    }

    // -------------------------------------------------------------------------------------------------- internal

    /// @dev The reporters, then the operators.
    function _payee(uint8 who) private returns (address) {
        uint256 number = who % (3 + SERVERS);
        return number < 3 ? reporters[number] : operatorOf(number - 3);
    }

    /// @dev The first of them from this one on whom the Court owes a fee, else any.
    function _creditor(uint8 from) private returns (address) {
        for (uint8 i; i < 3 + SERVERS; ++i) {
            address account = _payee(from % uint8(3 + SERVERS) + i);
            if (court.feesOf(account) != 0) return account;
        }
        return _payee(from);
    }

    function _id(uint8 id) private pure returns (uint32) {
        return uint32(id % SERVERS) + 1;
    }

    /// @dev The first server in this status from this one on.
    function _serverIn(uint8 from, ServerStatus status) private view returns (uint32 id) {
        for (uint8 i; i < SERVERS; ++i) {
            id = _id(from % uint8(SERVERS) + i);
            if (servers.server(id).status == status) return id;
        }
        revert("no such server");
    }

    /// @dev The first that is leaving and has no seats once all are free that can be; chance seldom does one after the other.
    function _leaverThatWaited(uint8 from) private returns (uint32 id) {
        for (uint8 key; key < 2; ++key) {
            try this.freeSeats(key) {} catch {}
        }
        for (uint8 i; i < SERVERS; ++i) {
            id = _id(from % uint8(SERVERS) + i);
            if (servers.server(id).status == ServerStatus.Leaving && servers.server(id).seats == 0) {
                return id;
            }
        }
        revert("no such server");
    }

    function _lockedOut(uint8 from) private view returns (uint32 id) {
        for (uint8 i; i < SERVERS; ++i) {
            id = _id(from % uint8(SERVERS) + i);
            if (servers.server(id).lockedOut && servers.server(id).status < ServerStatus.Leaving) return id;
        }
        revert("no such server");
    }

    function _bonds() private view returns (uint256[] memory list) {
        list = new uint256[](SERVERS + 1);
        for (uint32 id = 1; id <= SERVERS; ++id) {
            list[id] = servers.server(id).bond;
        }
    }

    function _ceremony(uint8 key) private view returns (Ceremony memory) {
        return abi.decode(made_[key % 2], (Ceremony));
    }

    /// @dev What the member owes once it is asked.
    function _owed(uint8 key, uint8 position) private view returns (Answer memory a) {
        a = honest(_ceremony(key), position % 4, ORDERED);
        (a.envelope.dutyKind, a.envelope.slot) = (DEPOSIT, 0);
        (a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0);
        seal(a);
    }

    /// @dev The first member from this one on that was asked and has not answered, else this one.
    function _asked(uint8 key, uint8 position) private view returns (Answer memory a) {
        for (uint8 i; i < 8; ++i) {
            a = _owed(key % 2 + i / 4, position % 4 + i % 4);
            if (court.challenge(a.envelope.keyId, a.envelope.index, ORDERED).challenger != address(0)) {
                return a;
            }
        }
        return _owed(key, position);
    }

    function _dealing(uint8 key, uint8 position, uint64 seed) private returns (Dealt memory) {
        Ceremony memory c = _ceremony(key);
        position %= 4;
        return honestDealing(c.keyId, c.committee[position], position + 1, 3, 4, seed);
    }

    /// @dev An honest answer of the member with the duty of this slot.
    function _answer(uint8 key, uint8 position, uint64 slot) private view returns (Answer memory a) {
        a = honest(_ceremony(key), position % 4, ROOT);
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
        uint256[] memory before = _bonds();
        commitAs(account, fault, evidence);
        vm.recordLogs();
        callCourt(account, data);
        _note(vm.getRecordedLogs(), before);
    }

    /// @dev What a verdict did, by its events.
    function _note(Vm.Log[] memory logs, uint256[] memory before) private {
        Vm.Log memory last = logs[logs.length - 1];
        if (last.topics[0] == ICourt.FaultRecorded.selector) return;
        if (last.topics[0] != ICourt.FaultProven.selector) violation = "neither proven nor recorded";
        (uint32 epoch,,, uint256 amount, uint256 bounty) =
            abi.decode(last.data, (uint32, bytes32, address, uint256, uint256));
        uint32 server = uint32(uint256(last.topics[2]));
        _noteCharge(server, before[server], amount, bounty);
        bytes32 group = keccak256(abi.encode(last.topics, epoch));
        uint256 term = uint256(servers.terms(server)) + 1;
        if (lastTerm[group] == term) violation = "charged twice in one term";
        lastTerm[group] = term;
        if (servers.isActive(server) || !servers.server(server).lockedOut) violation = "not locked out";
    }

    /// @dev Whatever it did between fault and proof, it pays for a seat, or all that it has left.
    function _noteCharge(uint32 server, uint256 bond, uint256 amount, uint256 bounty) private {
        slashed += amount;
        credited += bounty;
        uint256 seat = servers.seatBond();
        if (amount != (seat < bond ? seat : bond)) {
            violation = "neither a seat's bond nor what was left of it";
        }
        if (bounty != amount / 10) violation = "not a tenth";
        if (bond < seat) ++lastOfABond;
        if (amount != 0 && servers.server(server).status == ServerStatus.Leaving) ++leaversCharged;
    }
}

/// @title The sentences C1 to C3 of docs/invariants.md
contract CourtInvariantsTest is Campaign {
    uint256 private constant ACTIONS = 22;

    CourtHandler private handler;
    ServerRegistry private servers;

    function setUp() public {
        handler = new CourtHandler();
        servers = handler.registry();
        bytes4[] memory selectors = new bytes4[](ACTIONS);
        (bytes4[ACTIONS] memory actions,) = _actions();
        for (uint256 i; i < ACTIONS; ++i) {
            selectors[i] = actions[i];
        }
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _actions() private pure returns (bytes4[ACTIONS] memory actions, string[ACTIONS] memory names) {
        (actions[0], names[0]) = (CourtHandler.reportInvalid.selector, "reportInvalid");
        (actions[1], names[1]) = (CourtHandler.reportGarbage.selector, "reportGarbage");
        (actions[2], names[2]) = (CourtHandler.reportConflict.selector, "reportConflict");
        (actions[3], names[3]) = (CourtHandler.reportUnauthorised.selector, "reportUnauthorised");
        (actions[4], names[4]) = (CourtHandler.reportBadDealing.selector, "reportBadDealing");
        (actions[5], names[5]) = (CourtHandler.reportMalformedDealing.selector, "reportMalformedDealing");
        (actions[6], names[6]) = (CourtHandler.ask.selector, "ask");
        (actions[7], names[7]) = (CourtHandler.answer.selector, "answer");
        (actions[8], names[8]) = (CourtHandler.stayedSilent.selector, "stayedSilent");
        (actions[9], names[9]) = (CourtHandler.withdrawFees.selector, "withdrawFees");
        (actions[10], names[10]) = (CourtHandler.frame.selector, "frame");
        (actions[11], names[11]) = (CourtHandler.frameDealer.selector, "frameDealer");
        (actions[12], names[12]) = (CourtHandler.reinstate.selector, "reinstate");
        (actions[13], names[13]) = (CourtHandler.withdrawBounty.selector, "withdrawBounty");
        (actions[14], names[14]) = (CourtHandler.setSeatBond.selector, "setSeatBond");
        (actions[15], names[15]) = (CourtHandler.suspend.selector, "suspend");
        (actions[16], names[16]) = (CourtHandler.approve.selector, "approve");
        (actions[17], names[17]) = (CourtHandler.announceLeave.selector, "announceLeave");
        (actions[18], names[18]) = (CourtHandler.withdrawBond.selector, "withdrawBond");
        (actions[19], names[19]) = (CourtHandler.retireKey.selector, "retireKey");
        (actions[20], names[20]) = (CourtHandler.freeSeats.selector, "freeSeats");
        (actions[21], names[21]) = (CourtHandler.makeAnotherKey.selector, "makeAnotherKey");
    }

    function afterInvariant() public {
        (bytes4[ACTIONS] memory selectors, string[ACTIONS] memory names) = _actions();
        string[] memory actions = new string[](ACTIONS + 3);
        uint256[] memory counts = new uint256[](ACTIONS + 3);
        for (uint256 i; i < ACTIONS; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(selectors[i]));
        }
        (actions[ACTIONS], counts[ACTIONS]) = ("leaversCharged", handler.leaversCharged());
        (actions[ACTIONS + 1], counts[ACTIONS + 1]) = ("lastOfABond", handler.lastOfABond());
        (actions[ACTIONS + 2], counts[ACTIONS + 2]) = ("voidChallenges", handler.voidChallenges());
        _conclude("court", 64, actions, counts);
    }

    /// forge-config: default.invariant.runs = 64
    function invariant_C1_to_C3() public {
        uint256 bonds;
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            bonds += servers.server(id).bond;
        }
        assertEq(bonds, handler.bonds() - handler.slashed() - handler.bondsOut(), "C1: bonds");
        assertEq(handler.owed() + handler.paid(), handler.credited(), "C1: bounties");
        uint256 burned = handler.slashed() - handler.credited();
        assertEq(address(servers).balance, bonds + handler.owed() + burned, "C1: balance");
        uint256 fees = handler.feesOpen() + handler.feesOwed();
        assertEq(address(handler.theCourt()).balance, fees, "C1: the Court holds fees and nothing else");
        assertEq(fees, handler.feesIn() - handler.feesOut(), "C1: fees");
        assertEq(handler.violation(), "", "C2, C3");
    }
}
