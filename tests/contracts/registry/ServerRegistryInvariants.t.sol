// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Server, ServerKind, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ServerRegistry} from "../../../contracts/registry/ServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {Test} from "forge-std/Test.sol";

/// @notice An operator that is a contract: it refuses ether, or re-enters while it is paid, as the handler sets it.
contract HostileOperator {
    ServerRegistry private immutable SERVERS;
    bool private refuses;

    constructor(ServerRegistry servers) {
        SERVERS = servers;
    }

    function setRefuses(bool refuses_) external {
        refuses = refuses_;
    }

    receive() external payable {
        require(!refuses, "refused");
        uint32 count = SERVERS.serverCount();
        for (uint32 id = 1; id <= count; ++id) {
            try SERVERS.withdrawBond(id) {} catch {}
            try SERVERS.announceLeave(id) {} catch {}
        }
        try SERVERS.addBond{value: msg.value / 2}(count) {} catch {}
    }
}

/// @notice Everything anybody can do to servers and keys, in any order.
contract BondHandler is RegistryFixture {
    uint256 private constant MAX_SERVERS = 14;

    address[] private operators;
    HostileOperator[2] private hostile;
    /// Ceremonies by key id, encoded.
    mapping(uint256 keyId => bytes) private ceremonies;
    /// What each server looked like after the last action.
    mapping(uint32 id => Server) private last;

    /// A bond went out while a seat was held, before the end of unbonding, or to anybody but the operator.
    string public violation;
    uint256 public withdrawals;
    uint256 public draws;
    uint256 public finalised;
    uint256 public freed;

    constructor() {
        deployRegistries();
        hostile = [new HostileOperator(servers), new HostileOperator(servers)];
        operators = [makeAddr("a"), makeAddr("b"), makeAddr("c"), makeAddr("d"), makeAddr("e")];
        operators.push(address(hostile[0]));
        operators.push(address(hostile[1]));
        for (uint256 i; i < operators.length; ++i) {
            addServer(operators[i], 2 ether);
        }
        _look();
    }

    // ----------------------------------------------------------------------------------------------- servers

    function register(uint256 who, uint256 bond) external {
        if (servers.serverCount() >= MAX_SERVERS) return;
        registerServer(
            operators[who % operators.length], ServerKind(bond % 2), bound(bond, MIN_BOND, 3 ether)
        );
        _look();
    }

    function addBond(uint32 id, uint256 amount) external {
        amount = bound(amount, 0, 2 ether);
        vm.deal(address(this), amount);
        servers.addBond{value: amount}(_id(id));
        _look();
    }

    function approve(uint32 id) external {
        servers.approve(_id(id));
        _look();
    }

    function suspend(uint32 id) external {
        servers.suspend(_id(id), "test");
        _look();
    }

    function announceLeave(uint32 id) external {
        id = _id(id);
        vm.prank(servers.server(id).operator);
        servers.announceLeave(id);
        _look();
    }

    function withdrawBond(uint32 id, bool refuses) external {
        id = _id(id);
        hostile[0].setRefuses(refuses);
        Server memory before = servers.server(id);
        uint256 balance = before.operator.balance;
        vm.prank(before.operator);
        servers.withdrawBond(id);
        ++withdrawals;
        if (before.seats != 0) violation = "bond paid while a seat was held";
        if (block.timestamp < before.unbondingEnds) violation = "bond paid before unbonding ended";
        if (before.operator.code.length == 0 && before.operator.balance != balance + before.bond) {
            violation = "not the whole bond";
        }
        _look();
    }

    function withdrawBondOfAnother(uint32 id, uint256 who) external {
        id = _id(id);
        address caller = operators[who % operators.length];
        if (caller == servers.server(id).operator) return;
        vm.prank(caller);
        servers.withdrawBond(id);
        violation = "bond paid to a stranger";
    }

    function pass(uint256 time) external {
        time = bound(time, 1 hours, 40 days);
        vm.warp(block.timestamp + time);
        vm.roll(block.number + time / 12);
    }

    // -------------------------------------------------------------------------------------------------- keys

    function requestKey() external {
        Ceremony memory c = request(3, 4);
        ceremonies[c.keyId] = abi.encode(c);
    }

    function drawKey(uint256 which, bytes32 randao) external {
        Ceremony memory c = _ceremony(which);
        reachSeed(c, randao);
        draw(c);
        ++draws;
        ceremonies[c.keyId] = abi.encode(c);
        _look();
    }

    function finaliseKey(uint256 which) external {
        Ceremony memory c = _ceremony(which);
        runDkg(c, c.keyId);
        finalise(c);
        ++finalised;
        ceremonies[c.keyId] = abi.encode(c);
        _look();
    }

    function restartKey(uint256 which) external {
        Ceremony memory c = _ceremony(which);
        bool drawn = keys.key(c.keyId).state == KeyState.Drawn;
        uint32[] memory members = drawn ? c.committee : c.kept;
        uint32[] memory kept = _activeOf(members);
        keys.restart(c.keyId, members, drawn ? bytes32(0) : keccak256(c.activeSet));
        if (keys.key(c.keyId).state == KeyState.Requested) {
            c.kept = kept;
            c.activeSet = servers.activeSet(ServerKind.Online);
        }
        ceremonies[c.keyId] = abi.encode(c);
        _look();
    }

    function retireKey(uint256 which, bool burned) external {
        consumer.retire(_ceremony(which).keyId, burned);
    }

    function freeSeats(uint256 which) external {
        Ceremony memory c = _ceremony(which);
        keys.freeSeats(c.keyId, c.committee, c.signers, c.keySet.points);
        ++freed;
        _look();
    }

    function freeSeatsOfUnfinished(uint256 which, bool wasDrawn) external {
        Ceremony memory c = _ceremony(which);
        if (wasDrawn) keys.freeSeatsOfUnfinished(c.keyId, c.committee, 0);
        else keys.freeSeatsOfUnfinished(c.keyId, c.kept, keccak256(c.activeSet));
        ++freed;
        _look();
    }

    // ------------------------------------------------------------------------------------------ what is asked

    function registry() external view returns (ServerRegistry) {
        return servers;
    }

    /// @notice Seats that keys hold, by what each key is: the other side of the servers' own counts.
    function seatsOfKeys() external view returns (uint256[] memory seats) {
        seats = new uint256[](servers.serverCount() + 1);
        for (uint256 keyId = 1; keyId <= keys.keyCount(); ++keyId) {
            if (keys.key(keyId).commitment == 0) continue;
            Ceremony memory c = abi.decode(ceremonies[keyId], (Ceremony));
            uint32[] memory seated = _holdsDraw(c) ? c.committee : c.kept;
            for (uint256 i; i < seated.length; ++i) {
                ++seats[seated[i]];
            }
        }
    }

    // ---------------------------------------------------------------------------------------------- internal

    /// @dev Whether the seats of the key are those of its committee (it was drawn, and not restarted into a request).
    function _holdsDraw(Ceremony memory c) private view returns (bool) {
        return keys.key(c.keyId).commitment != keccak256(abi.encode(keccak256(c.activeSet), c.kept));
    }

    function _ceremony(uint256 which) private view returns (Ceremony memory) {
        return abi.decode(ceremonies[1 + which % keys.keyCount()], (Ceremony));
    }

    function _id(uint32 id) private view returns (uint32) {
        return 1 + id % servers.serverCount();
    }

    function _activeOf(uint32[] memory members) private view returns (uint32[] memory active) {
        active = new uint32[](members.length);
        uint256 count;
        for (uint256 i; i < members.length; ++i) {
            if (servers.isActive(members[i])) active[count++] = members[i];
        }
        assembly {
            mstore(active, count)
        }
    }

    /// @dev Compares each server with what it was before the action. One action moves a server along one edge at most,
    /// except that a paid operator that re-enters may announce that its other servers leave.
    function _look() private {
        uint32 count = servers.serverCount();
        for (uint32 id = 1; id <= count; ++id) {
            Server memory now_ = servers.server(id);
            Server storage before = last[id];
            if (before.status != now_.status && !_isEdge(before.status, now_.status)) {
                violation = "status left its edges";
            }
            if (now_.bond < before.bond && now_.status != ServerStatus.Left) violation = "bond shrank";
            if (before.status != ServerStatus.None && now_.signer != before.signer) {
                violation = "signer changed";
            }
            if (before.status != ServerStatus.None && now_.operator != before.operator) {
                violation = "operator changed";
            }
            last[id] = now_;
        }
    }

    function _isEdge(ServerStatus from, ServerStatus to) private pure returns (bool) {
        if (from == ServerStatus.None) return to == ServerStatus.Registered || to == ServerStatus.Active;
        if (to == ServerStatus.Active) {
            return from == ServerStatus.Registered || from == ServerStatus.Suspended;
        }
        if (to == ServerStatus.Suspended) return from == ServerStatus.Active;
        if (to == ServerStatus.Leaving) return from < ServerStatus.Leaving;
        return from == ServerStatus.Leaving && to == ServerStatus.Left;
    }
}

/// @notice The invariants of section "Bonds" in docs/invariants.md, asserted by their numbers.
contract ServerRegistryInvariantsTest is Test {
    BondHandler private handler;
    ServerRegistry private servers;

    function setUp() public {
        handler = new BondHandler();
        servers = handler.registry();
        bytes4[] memory selectors = new bytes4[](14);
        selectors[0] = BondHandler.register.selector;
        selectors[1] = BondHandler.addBond.selector;
        selectors[2] = BondHandler.approve.selector;
        selectors[3] = BondHandler.suspend.selector;
        selectors[4] = BondHandler.announceLeave.selector;
        selectors[5] = BondHandler.withdrawBond.selector;
        selectors[6] = BondHandler.withdrawBondOfAnother.selector;
        selectors[7] = BondHandler.pass.selector;
        selectors[8] = BondHandler.requestKey.selector;
        selectors[9] = BondHandler.drawKey.selector;
        selectors[10] = BondHandler.finaliseKey.selector;
        selectors[11] = BondHandler.restartKey.selector;
        selectors[12] = BondHandler.freeSeats.selector;
        selectors[13] = BondHandler.freeSeatsOfUnfinished.selector;
        targetContract(address(handler));
        targetSelector(FuzzSelector(address(handler), selectors));
        bytes4[] memory more = new bytes4[](1);
        more[0] = BondHandler.retireKey.selector;
        targetSelector(FuzzSelector(address(handler), more));
    }

    function invariant_B1_TheRegistryHoldsExactlyTheBonds() public view {
        uint256 sum;
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            sum += servers.server(id).bond;
        }
        assertEq(address(servers).balance, sum);
    }

    function invariant_B2_NoBondLeavesWhileASeatIsHeldOrUnbondingRuns() public view {
        assertEq(handler.violation(), "");
    }

    function invariant_B3_AServerThatLeftHasNeitherBondNorSeat() public view {
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            Server memory it = servers.server(id);
            if (it.status == ServerStatus.Left) assertEq(it.bond + it.seats, 0);
        }
    }

    function invariant_B4_SeatsAreThoseOfTheKeysAndCoveredByBond() public view {
        uint256[] memory seats = handler.seatsOfKeys();
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            Server memory it = servers.server(id);
            assertEq(it.seats, seats[id]);
            assertLe(it.seats * uint256(servers.seatBond()), it.bond);
        }
    }

    function invariant_B5_TheActiveSetsHoldEveryActiveServerOnce() public view {
        uint256[] memory listed = new uint256[](servers.serverCount() + 1);
        for (uint8 kind; kind < 2; ++kind) {
            bytes memory set = servers.activeSet(ServerKind(kind));
            for (uint256 i; i < set.length; i += 4) {
                uint32 id;
                assembly {
                    id := shr(224, mload(add(add(set, 0x20), i)))
                }
                assertEq(uint8(servers.server(id).kind), kind);
                ++listed[id];
            }
        }
        for (uint32 id = 1; id <= servers.serverCount(); ++id) {
            assertEq(listed[id], servers.isActive(id) ? 1 : 0);
        }
    }

    /// @dev Not an invariant of the contract but of this file: the handler reaches the interesting states.
    function test_TheHandlerReachesPaidBondsAndFreedSeats() public {
        handler.requestKey();
        handler.drawKey(0, "randao");
        handler.finaliseKey(0);
        handler.retireKey(0, true);
        for (uint32 id; id < 7; ++id) {
            handler.announceLeave(id);
        }
        handler.pass(40 days);
        for (uint32 id; id < 7; ++id) {
            Server memory it = servers.server(id + 1);
            if (it.seats > 0) vm.expectRevert();
            handler.withdrawBond(id, false);
        }
        handler.freeSeats(0);
        for (uint32 id; id < 7; ++id) {
            if (servers.server(id + 1).status == ServerStatus.Leaving) handler.withdrawBond(id, false);
        }
        assertEq(handler.withdrawals(), 7);
        assertEq(handler.violation(), "");
        invariant_B1_TheRegistryHoldsExactlyTheBonds();
        invariant_B4_SeatsAreThoseOfTheKeysAndCoveredByBond();
    }
}
