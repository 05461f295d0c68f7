// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Court} from "../../../contracts/court/Court.sol";
import {Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {Campaign} from "../utils/Campaign.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {CourtFixture} from "./CourtFixture.sol";
import {Vm} from "forge-std/Test.sol";

/// @notice Servers that are guilty of everything, servers that are honest, and reporters, in any order.
contract CourtHandler is CourtFixture {
    address[3] private reporters = [makeAddr("r0"), makeAddr("r1"), makeAddr("r2")];
    /// Ceremonies of two keys, encoded.
    bytes[2] private made_;
    /// Term, plus one, in which a group was last charged.
    mapping(bytes32 group => uint256) private lastTerm;

    uint256 public slashed;
    uint256 public credited;
    uint256 public paid;
    uint256 public bonds;
    string public violation;
    mapping(bytes4 action => uint256) public successes;

    constructor() {
        deployRegistries();
        addServers(6);
        made_ = [abi.encode(makeKey(3, 4, 1)), abi.encode(makeKey(3, 4, 2))];
        bonds = 60 ether;
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

    // ---------------------------------------------------------------------------------------------- the honest

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

    // -------------------------------------------------------------------------------------------------- internal

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
        Vm.Log[] memory logs = vm.getRecordedLogs();
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
        bytes4[] memory selectors = new bytes4[](8);
        bytes4[8] memory actions = _actions();
        for (uint256 i; i < 8; ++i) {
            selectors[i] = actions[i];
        }
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
    }

    function _actions() private pure returns (bytes4[8] memory) {
        return [
            CourtHandler.reportInvalid.selector,
            CourtHandler.reportGarbage.selector,
            CourtHandler.reportConflict.selector,
            CourtHandler.reportUnauthorised.selector,
            CourtHandler.frame.selector,
            CourtHandler.reinstate.selector,
            CourtHandler.withdrawBounty.selector,
            CourtHandler.setSeatBond.selector
        ];
    }

    function afterInvariant() public {
        string[8] memory names = [
            "reportInvalid",
            "reportGarbage",
            "reportConflict",
            "reportUnauthorised",
            "frame",
            "reinstate",
            "withdrawBounty",
            "setSeatBond"
        ];
        string[] memory actions = new string[](8);
        uint256[] memory counts = new uint256[](8);
        for (uint256 i; i < 8; ++i) {
            (actions[i], counts[i]) = (names[i], handler.successes(_actions()[i]));
        }
        _conclude("court", 64, actions, counts);
    }

    /// forge-config: default.invariant.runs = 64
    function invariant_C1_to_C3() public view {
        uint256 bonds;
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            bonds += servers.server(id).bond;
        }
        assertEq(bonds, handler.bonds() - handler.slashed(), "C1: bonds");
        assertEq(handler.owed() + handler.paid(), handler.credited(), "C1: bounties");
        uint256 burned = handler.slashed() - handler.credited();
        assertEq(address(servers).balance, bonds + handler.owed() + burned, "C1: balance");
        assertEq(address(handler.theCourt()).balance, 0, "C1: the Court holds nothing");
        assertEq(handler.violation(), "", "C2, C3");
    }
}
