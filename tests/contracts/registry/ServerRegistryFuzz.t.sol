// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    IServerRegistry,
    Server,
    ServerKind,
    ServerStatus
} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {stdError} from "forge-std/StdError.sol";

/// @notice What each call does to a server in any status, and that it does nothing else.
contract ServerRegistryFuzzTest is RegistryFixture {
    /// @dev What a draw is made from.
    struct Case {
        bytes32 seed;
        uint16 suspended;
        uint256 count;
        uint256 cap;
        uint8 keptSeed;
        uint8 excludedSeed;
    }

    uint256 private constant SERVERS = 8;
    address private operator = makeAddr("operator");

    /// Four operators with two servers each; the bonds cover 1 to 4 seats.
    function setUp() public {
        deployRegistries();
        for (uint256 i; i < SERVERS; ++i) {
            addServer(operatorOf(i / 2), 1 ether + (i % 4) * SEAT_BOND);
        }
    }

    // ---------------------------------------------------------------------------------------------- operators

    function testFuzz_SetEndpoint_ChangesTheCertificateAndNothingElse(
        uint8 kindSeed,
        uint8 statusSeed,
        bytes32 tls,
        uint256 length
    ) public {
        ServerKind kind = ServerKind(kindSeed % 2);
        if (kindSeed % 8 < 2) tls = 0;
        length = bound(length, 0, 300);
        uint32 id = _serverIn(kind, _someStatus(statusSeed));
        Server memory before = servers.server(id);

        bool changes;
        if (before.status == ServerStatus.Left) {
            vm.expectRevert(
                abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, id, before.status)
            );
        } else if (length == 0 || length > 253) {
            vm.expectRevert(abi.encodeWithSelector(IServerRegistry.BadEndpoint.selector, length));
        } else if (kind == ServerKind.Online && tls == 0) {
            vm.expectRevert(IServerRegistry.MissingTlsFingerprint.selector);
        } else {
            changes = true;
            vm.expectEmit(address(servers));
            emit IServerRegistry.ServerEndpointChanged(id, tls, string(new bytes(length)));
        }
        vm.prank(operator);
        servers.setEndpoint(id, tls, string(new bytes(length)));
        if (changes) before.tlsFingerprint = tls;
        assertEq(abi.encode(servers.server(id)), abi.encode(before));
    }

    function testFuzz_AnnounceLeave_EndsTheDutyOnceAndStartsTheDelay(
        uint8 kindSeed,
        uint8 statusSeed,
        uint40 at
    ) public {
        uint32 id = _serverIn(ServerKind(kindSeed % 2), _someStatus(statusSeed));
        vm.warp(bound(at, block.timestamp, block.timestamp + 100 * 365 days));
        Server memory before = servers.server(id);
        bytes memory set = servers.activeSet(before.kind);

        bool leaves = before.status < ServerStatus.Leaving;
        if (!leaves) {
            vm.expectRevert(
                abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, id, before.status)
            );
        }
        vm.prank(operator);
        servers.announceLeave(id);

        if (leaves) {
            // Registered last, so it was the last of the active set.
            if (before.status == ServerStatus.Active) {
                assembly {
                    mstore(set, sub(mload(set), 4))
                }
            }
            before.status = ServerStatus.Leaving;
            before.unbondingEnds = uint40(block.timestamp) + UNBONDING_DELAY;
        }
        assertEq(abi.encode(servers.server(id)), abi.encode(before));
        assertEq(servers.activeSet(before.kind), set);
        assertFalse(leaves && servers.isActive(id));
    }

    function testFuzz_WithdrawBond_PaysAllOfItNeverEarlyAndNeverWithASeat(
        uint96 bond,
        uint96 added,
        uint32 wait,
        bool seated
    ) public {
        bond = uint96(bound(bond, MIN_BOND, 500 ether));
        added = uint96(bound(added, 0, 500 ether));
        wait = uint32(wait % 3 == 0 ? UNBONDING_DELAY : bound(wait, 0, 2 * UNBONDING_DELAY));
        uint32 id = addServer(operator, bond);
        vm.deal(address(this), added);
        servers.addBond{value: added}(id);
        if (seated) _seat(id);
        uint256 others = address(servers).balance - bond - added;
        vm.prank(operator);
        servers.announceLeave(id);
        uint40 ends = servers.server(id).unbondingEnds;
        skip(wait);

        bool pays = !seated && wait >= UNBONDING_DELAY;
        if (!pays) {
            vm.expectRevert(
                abi.encodeWithSelector(IServerRegistry.BondLocked.selector, id, seated ? 1 : 0, ends)
            );
        }
        vm.prank(operator);
        servers.withdrawBond(id);
        uint256 paid = pays ? uint256(bond) + added : 0;
        assertEq(operator.balance, paid);
        assertEq(address(servers).balance, others + bond + added - paid);
        assertEq(servers.server(id).bond, uint256(bond) + added - paid);
        assertEq(
            uint8(servers.server(id).status), uint8(pays ? ServerStatus.Left : ServerStatus.Leaving), "status"
        );
    }

    function testFuzz_Operators_NobodyElseTouchesAServer(address caller, uint8 statusSeed) public {
        vm.assume(caller != operator);
        uint32 id = _serverIn(ServerKind.Online, _someStatus(statusSeed));
        bytes memory before = abi.encode(servers.server(id));
        bytes memory refused = abi.encodeWithSelector(IServerRegistry.NotOperator.selector, id, caller);
        vm.startPrank(caller);
        vm.expectRevert(refused);
        servers.setEndpoint(id, "tls", "https://b");
        vm.expectRevert(refused);
        servers.announceLeave(id);
        vm.expectRevert(refused);
        servers.withdrawBond(id);
        assertEq(abi.encode(servers.server(id)), before);
    }

    // ---------------------------------------------------------------------------------------------- governance

    function testFuzz_ApproveAndSuspend_MoveAlongTheirEdgesAndKeepTheActiveSet(
        uint8 kindSeed,
        uint8 statusSeed
    ) public {
        ServerKind kind = ServerKind(kindSeed % 2);
        ServerStatus status = _someStatus(statusSeed);
        uint32 id = _serverIn(kind, status);
        Server memory it = servers.server(id);
        bytes memory without = _without(servers.activeSet(kind), id);
        bytes memory other = servers.activeSet(ServerKind(1 - uint8(kind)));
        bytes memory refused = abi.encodeWithSelector(IServerRegistry.WrongServerStatus.selector, id, status);

        bool approvable = status == ServerStatus.Registered || status == ServerStatus.Suspended;
        if (!approvable) vm.expectRevert(refused);
        servers.approve(id);
        bool active = approvable || status == ServerStatus.Active;
        if (approvable) it.status = ServerStatus.Active;
        assertEq(abi.encode(servers.server(id)), abi.encode(it));
        assertEq(servers.isActive(id), active);
        assertEq(servers.activeSet(kind), active ? abi.encodePacked(without, id) : without);

        if (active) {
            vm.expectEmit(address(servers));
            emit IServerRegistry.ServerStatusChanged(id, ServerStatus.Suspended, "silent");
            it.status = ServerStatus.Suspended;
        } else {
            vm.expectRevert(refused);
        }
        servers.suspend(id, "silent");
        assertEq(abi.encode(servers.server(id)), abi.encode(it));
        assertFalse(servers.isActive(id));
        assertEq(servers.activeSet(kind), without);
        assertEq(servers.activeSet(ServerKind(1 - uint8(kind))), other, "the other kind");
    }

    function testFuzz_SetBondParameters_DecideTheNextRegistrationAndSeatOnly(
        uint96 minBond,
        uint96 seatBond,
        uint96 bond
    ) public {
        minBond = uint96(bound(minBond, 0.1 ether, 100 ether));
        seatBond = uint96(bound(seatBond, 0.1 ether, 100 ether));
        bond = uint96(bound(bond, 0.1 ether, 200 ether));
        _seat(8);
        servers.setBondParameters(minBond, seatBond);
        assertEq(servers.server(8).seats, 1, "held seats stay");

        bytes memory proof = signerProof(1, operator);
        vm.deal(operator, bond);
        bool enough = bond >= minBond;
        if (!enough) {
            vm.expectRevert(abi.encodeWithSelector(IServerRegistry.BondTooSmall.selector, bond, minBond));
        }
        vm.prank(operator);
        servers.register{value: bond}(vm.addr(1), "tls", ServerKind.Online, "https://a", proof);
        if (!enough) return;

        servers.approve(9);
        bool seatable = bond >= seatBond;
        if (!seatable) {
            vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 0, 1));
        }
        vm.prank(address(keys));
        servers.drawSeats("seed", abi.encodePacked(uint32(9)), new uint32[](0), 1, 1, 1, address(0));
        assertEq(servers.server(9).seats, seatable ? 1 : 0);
    }

    // --------------------------------------------------------------------------------------------------- seats

    /// @dev The model shuffles the whole snapshot first and looks at the rules afterwards; the contract does both at once.
    function testFuzz_DrawSeats_IsTheFirstOfThePermutationThatMayHaveASeat(Case memory c) public {
        c.count = bound(c.count, 0, 6);
        c.cap = bound(c.cap, 1, 3);
        bytes memory set = servers.activeSet(ServerKind.Online);
        // After the snapshot: some are gone, as the bits say.
        for (uint32 id = 1; id <= SERVERS; ++id) {
            if (c.suspended & c.suspended >> 3 & (1 << (id - 1)) != 0) servers.suspend(id, "");
        }
        uint32[] memory kept = new uint32[](c.keptSeed % 3);
        for (uint32 i; i < kept.length; ++i) {
            kept[i] = 1 + (c.keptSeed + i) % uint32(SERVERS);
        }
        address excluded = c.excludedSeed % 2 == 0 ? address(0) : operatorOf(c.excludedSeed % 4);
        uint32[] memory expected = _model(c.seed, c.count, c.cap, kept, excluded);
        uint16[] memory before = _seats();
        if (expected.length < c.count) {
            vm.expectRevert(
                abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, expected.length, c.count)
            );
        }
        uint256 all = c.count + kept.length;
        vm.prank(address(keys));
        uint32[] memory drawn = servers.drawSeats(c.seed, set, kept, c.count, all, c.cap, excluded);
        if (expected.length == c.count) {
            assertEq(abi.encode(drawn), abi.encode(expected));
            for (uint256 i; i < drawn.length; ++i) {
                ++before[drawn[i]];
            }
        }
        assertEq(abi.encode(_seats()), abi.encode(before));
    }

    function testFuzz_TakeSeats_TakesAsManyAsTheBondCovers(uint32[6] memory named, uint96 seatBond) public {
        seatBond = uint96(bound(seatBond, 0.1 ether, 2 ether));
        servers.setBondParameters(MIN_BOND, seatBond);
        uint16[] memory expected = _seats();
        for (uint256 i; i < 6; ++i) {
            uint32[] memory list = new uint32[](1);
            uint32 id = list[0] = uint32(bound(named[i], 1, SERVERS));
            uint96 bond = servers.server(id).bond;
            if ((expected[id] + 1) * uint256(seatBond) > bond) {
                vm.expectRevert(
                    abi.encodeWithSelector(IServerRegistry.NoFreeSeat.selector, id, expected[id], bond)
                );
            } else {
                ++expected[id];
            }
            vm.prank(address(keys));
            servers.takeSeats(list);
            assertEq(abi.encode(_seats()), abi.encode(expected));
        }
    }

    function testFuzz_FreeSeats_FreesOneForEachTimeAServerIsNamed(uint32[5] memory named, uint256 length)
        public
    {
        // Two seats at each of the servers whose bond covers them.
        for (uint256 round; round < 2; ++round) {
            for (uint32 id = 1; id <= SERVERS; ++id) {
                _seat(id);
            }
        }
        uint32[] memory list = new uint32[](bound(length, 0, 5));
        uint16[] memory before = _seats();
        bool held = true;
        for (uint256 i; i < list.length; ++i) {
            list[i] = uint32(bound(named[i], 1, 4));
            if (before[list[i]] == 0) held = false;
            else if (held) --before[list[i]];
        }
        uint16[] memory unchanged = _seats();
        if (!held) vm.expectRevert(stdError.arithmeticError);
        vm.prank(address(keys));
        servers.freeSeats(list);
        assertEq(abi.encode(_seats()), abi.encode(held ? before : unchanged));
    }

    // --------------------------------------------------------------------------------------------------- views

    function testFuzz_ActiveSigners_AreThoseOfTheListOrNone(uint32[5] memory listed, uint8 suspended) public {
        for (uint32 id = 1; id <= SERVERS; ++id) {
            if (suspended & suspended >> 1 & suspended >> 2 & (1 << (id - 1)) != 0) servers.suspend(id, "");
        }
        uint32[] memory list = new uint32[](5);
        address[] memory expected = new address[](5);
        uint32 refused;
        for (uint256 i; i < 5; ++i) {
            list[i] = uint32(bound(listed[i], 1, SERVERS));
            expected[i] = vm.addr(signerSecret[list[i]]);
            if (refused == 0 && !servers.isActive(list[i])) refused = list[i];
        }
        if (refused != 0) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IServerRegistry.MemberNotActive.selector, refused, ServerStatus.Suspended
                )
            );
            servers.activeSigners(list);
            return;
        }
        assertEq(servers.activeSigners(list), expected);
    }

    function testFuzz_Views_KnowNobodyWhoHasNotRegistered(uint32 id, address signer) public view {
        vm.assume(id == 0 || id > SERVERS);
        for (uint32 known = 1; known <= SERVERS; ++known) {
            vm.assume(signer != vm.addr(signerSecret[known]));
            assertEq(servers.serverOfSigner(vm.addr(signerSecret[known])), known);
        }
        Server memory nobody;
        assertEq(abi.encode(servers.server(id)), abi.encode(nobody));
        assertFalse(servers.isActive(id));
        assertEq(servers.serverOfSigner(signer), 0);
    }

    // ------------------------------------------------------------------------------------------------ internal

    function _someStatus(uint8 seed) private pure returns (ServerStatus) {
        return ServerStatus(1 + seed % 5);
    }

    /// @dev A server of `operator`, the youngest there is, in any status but None.
    function _serverIn(ServerKind kind, ServerStatus status) private returns (uint32 id) {
        id = registerServer(operator, kind, MIN_BOND);
        if (status == ServerStatus.Active || status == ServerStatus.Suspended) servers.approve(id);
        if (status == ServerStatus.Suspended) servers.suspend(id, "");
        if (status < ServerStatus.Leaving) return id;
        vm.prank(operator);
        servers.announceLeave(id);
        if (status == ServerStatus.Leaving) return id;
        skip(UNBONDING_DELAY);
        vm.prank(operator);
        servers.withdrawBond(id);
    }

    function _seat(uint32 id) private {
        vm.prank(address(keys));
        servers.drawSeats("seed", abi.encodePacked(id), new uint32[](0), 1, 1, 1, address(0));
    }

    function _seats() private view returns (uint16[] memory seats) {
        seats = new uint16[](SERVERS + 1);
        for (uint32 id = 1; id <= SERVERS; ++id) {
            seats[id] = servers.server(id).seats;
        }
    }

    function _model(bytes32 seed, uint256 count, uint256 cap, uint32[] memory kept, address excluded)
        private
        view
        returns (uint32[] memory drawn)
    {
        uint32[] memory order = new uint32[](SERVERS);
        for (uint32 i; i < SERVERS; ++i) {
            order[i] = i + 1;
        }
        for (uint256 i; i < SERVERS; ++i) {
            uint256 chosen = i + uint256(keccak256(abi.encode(seed, i))) % (SERVERS - i);
            (order[i], order[chosen]) = (order[chosen], order[i]);
        }
        drawn = new uint32[](count);
        uint256 found;
        for (uint256 i; i < SERVERS && found < count; ++i) {
            Server memory it = servers.server(order[i]);
            uint256 held = _heldBy(it.operator, kept, kept.length) + _heldBy(it.operator, drawn, found);
            bool free = it.status == ServerStatus.Active && it.bond >= (it.seats + 1) * SEAT_BOND;
            if (!free || held >= cap || it.operator == excluded || _in(order[i], kept)) continue;
            drawn[found++] = order[i];
        }
        assembly {
            mstore(drawn, found)
        }
    }

    function _heldBy(address account, uint32[] memory list, uint256 length)
        private
        view
        returns (uint256 count)
    {
        for (uint256 i; i < length; ++i) {
            if (servers.server(list[i]).operator == account) ++count;
        }
    }

    function _in(uint32 id, uint32[] memory list) private pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i] == id) return true;
        }
        return false;
    }

    /// @dev A set that lacks `id`, which is its last entry if it has it.
    function _without(bytes memory set, uint32 id) private pure returns (bytes memory) {
        if (set.length == 0) return set;
        uint32 last;
        assembly {
            last := shr(224, mload(add(add(set, 0x20), sub(mload(set), 4))))
        }
        if (last == id) {
            assembly {
                mstore(set, sub(mload(set), 4))
            }
        }
        return set;
    }
}
