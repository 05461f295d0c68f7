// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyKind, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {KeyRegistry} from "../../../contracts/registry/KeyRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";

/// @notice The attacker of the draw: sees the result before the transaction ends and undoes what it does not like.
contract RevertingWrapper {
    error NotMyCommittee();

    function drawIfIn(
        KeyRegistry keys,
        uint256 keyId,
        bytes calldata header,
        bytes calldata activeSet,
        IServerRegistry servers,
        uint32 mine
    ) external {
        uint16 before = servers.server(mine).seats;
        keys.draw(keyId, header, activeSet, new uint32[](0));
        require(servers.server(mine).seats > before, NotMyCommittee());
    }
}

/// @notice Requests, seeds, draws and restarts.
contract KeyRegistryDrawTest is RegistryFixture {
    function setUp() public {
        deployRegistries();
        addServers(8);
    }

    // ----------------------------------------------------------------------------------------------- request

    function test_Request_SnapshotsTheActiveSetAndFixesAFutureBlock() public {
        bytes memory set = hex"0000000100000002000000030000000400000005000000060000000700000008";
        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyRequested(
            1, address(consumer), KeyKind.Validator, 3, 4, uint48(block.number + SEED_DELAY), set
        );
        assertEq(consumer.request(3, 4), 1);

        Key memory key = keys.key(1);
        assertEq(key.consumer, address(consumer));
        assertEq(uint8(key.state), uint8(KeyState.Requested));
        assertEq(key.threshold, 3);
        assertEq(key.members, 4);
        assertEq(key.mark, block.number + SEED_DELAY);
        assertEq(key.commitment, keccak256(abi.encode(keccak256(set), new uint32[](0))));
        assertEq(keys.keyCount(), 1);
        assertEq(uint8(keys.key(2).state), uint8(KeyState.None));
    }

    function testFuzz_Request_OnlyConsumers(address caller) public {
        vm.assume(caller != address(consumer));
        vm.prank(caller);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, caller));
        keys.request(KeyKind.Validator, 3, 4);
    }

    function testFuzz_Request_KeepsTheThreeBounds(uint8 threshold, uint8 members) public {
        addServers(8);
        int256 t = int256(uint256(threshold));
        int256 n = int256(uint256(members));
        bool sound = 2 * t > n && 2 * t - n >= 2 && n - t >= 1 && n <= 16;
        if (!sound) {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, threshold, members));
        }
        consumer.request(threshold, members);
    }

    function test_Request_TakesTheTableOfTheReadmeButNot3Of5() public {
        addServers(2);
        consumer.request(3, 4);
        consumer.request(4, 5);
        consumer.request(5, 7);
        consumer.request(7, 10);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 3, 5));
        consumer.request(3, 5);
    }

    function test_Request_NeedsEnoughActiveServers() public {
        for (uint32 id = 4; id <= 8; ++id) {
            servers.suspend(id, "test");
        }
        // Offline servers do not count.
        servers.approve(registerServer(operatorOf(50), ServerKind.Offline, 1 ether));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 3, 4));
        consumer.request(3, 4);
    }

    // -------------------------------------------------------------------------------------------------- seed

    function test_Draw_SeatsACommitteeOfActiveServersOnce() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        assertEq(c.committee.length, 4);
        uint256 seats;
        for (uint32 id = 1; id <= 8; ++id) {
            seats += servers.server(id).seats;
            assertLe(servers.server(id).seats, 1);
        }
        assertEq(seats, 4);
        Key memory key = keys.key(c.keyId);
        assertEq(uint8(key.state), uint8(KeyState.Drawn));
        assertEq(key.mark, block.timestamp + CEREMONY_WINDOW);
        assertEq(key.commitment, keccak256(abi.encode(c.committee)));

        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, c.keyId, KeyState.Drawn));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function test_Draw_EmitsSeedAndDeadline() public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        bytes32 seed = keccak256(abi.encode(bytes32("randao"), c.keyId, uint16(0)));
        uint256 state = vm.snapshotState();
        draw(c);
        vm.revertToState(state);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.CommitteeDrawn(
            c.keyId, 0, c.committee, seed, uint48(block.timestamp + CEREMONY_WINDOW)
        );
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function test_Draw_NotBeforeTheSeedBlockIsOver() public {
        Ceremony memory c = request(3, 4);
        uint48 seedBlock = keys.key(c.keyId).mark;
        c.header = header(seedBlock, "randao");
        vm.roll(seedBlock);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeedNotReady.selector, seedBlock, seedBlock));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function testFuzz_Draw_RefusesTheHeaderOfAnotherBlock(uint48 number) public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        uint48 seedBlock = keys.key(c.keyId).mark;
        vm.assume(number != seedBlock);
        c.header = header(number, "randao");
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongHeader.selector, seedBlock, number));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function testFuzz_Draw_RefusesAMadeUpSeed(bytes32 randao) public {
        vm.assume(randao != "randao");
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        // Right number, chosen PREVRANDAO: the hash is not that of the chain.
        c.header = header(keys.key(c.keyId).mark, randao);
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.UnknownHeader.selector, keys.key(c.keyId).mark, keccak256(c.header)
            )
        );
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function test_Draw_RefusesGarbageForAHeader() public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        bytes[4] memory garbage = [bytes(""), hex"c0", hex"ff", hex"f90200"];
        for (uint256 i; i < garbage.length; ++i) {
            vm.expectRevert();
            keys.draw(c.keyId, garbage[i], c.activeSet, c.kept);
        }
    }

    function test_Draw_TakesAHeaderOlderThan256BlocksFromEip2935() public {
        Ceremony memory c = request(3, 4);
        uint48 seedBlock = keys.key(c.keyId).mark;
        c.header = header(seedBlock, "randao");
        vm.roll(seedBlock + 8191);
        assertEq(blockhash(seedBlock), 0);
        vm.store(HISTORY_CONTRACT, bytes32(uint256(seedBlock) % 8191), keccak256(c.header));
        draw(c);
        assertEq(c.committee.length, 4);
    }

    function test_Draw_RefusesAHeaderOlderThanTheHistory() public {
        Ceremony memory c = request(3, 4);
        uint48 seedBlock = keys.key(c.keyId).mark;
        c.header = header(seedBlock, "randao");
        vm.roll(seedBlock + 8192);
        // A hash in the ring buffer slot, which by now belongs to another block.
        vm.store(HISTORY_CONTRACT, bytes32(uint256(seedBlock) % 8191), keccak256(c.header));
        vm.expectRevert(
            abi.encodeWithSelector(IKeyRegistry.UnknownHeader.selector, seedBlock, keccak256(c.header))
        );
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    // -------------------------------------------------------------------------------------- grinding the draw

    function test_Draw_ARevertingWrapperCannotChangeTheResult() public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        uint256 state = vm.snapshotState();
        draw(c);
        vm.revertToState(state);
        uint32 mine;
        for (uint32 id = 1; id <= 8 && mine == 0; ++id) {
            if (!_in(id, c.committee)) mine = id;
        }

        // It tries in every block, from other senders, at other times and with other gas: never in.
        RevertingWrapper wrapper = new RevertingWrapper();
        for (uint256 i; i < 200; ++i) {
            vm.roll(block.number + 1);
            vm.warp(block.timestamp + 12);
            vm.prevrandao(keccak256(abi.encode(i)));
            vm.prank(makeAddr(vm.toString(i)));
            vm.expectRevert(RevertingWrapper.NotMyCommittee.selector);
            wrapper.drawIfIn{gas: 2_000_000 + i}(keys, c.keyId, c.header, c.activeSet, servers, mine);
        }

        uint32[] memory fixedCommittee = c.committee;
        draw(c);
        assertEq(abi.encode(c.committee), abi.encode(fixedCommittee));
    }

    function test_Draw_RefusesAnotherActiveSetThanTheSnapshot() public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        addServers(1);
        bytes32 committed = keys.key(c.keyId).commitment;
        bytes memory later = servers.activeSet(ServerKind.Online);
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.WrongCommitment.selector,
                keccak256(abi.encode(keccak256(later), c.kept)),
                committed
            )
        );
        keys.draw(c.keyId, c.header, later, c.kept);
    }

    function test_Draw_RefusesMadeUpKeptMembers() public {
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.draw(c.keyId, c.header, c.activeSet, ids(1, 2, 3, 4));
    }

    function testFuzz_Draw_ACandidateThatWithdrawsGivesItsOwnSeatToTheNextOnly(bytes32 randao, uint8 which)
        public
    {
        Ceremony memory c = request(3, 4);
        reachSeed(c, randao);
        uint256 state = vm.snapshotState();
        draw(c);
        vm.revertToState(state);
        uint32[] memory before = c.committee;

        uint256 leaver = which % 4;
        vm.prank(servers.server(before[leaver]).operator);
        servers.announceLeave(before[leaver]);
        draw(c);
        // The others sit as they did, in order, and one comes after them.
        uint256 position;
        for (uint256 i; i < 4; ++i) {
            if (i != leaver) assertEq(c.committee[position++], before[i]);
        }
        assertFalse(_in(c.committee[3], before));
    }

    function test_Draw_KeysOfOneBlockGetDifferentPermutations() public {
        uint256 different;
        for (uint256 i; i < 8; ++i) {
            Ceremony memory a = request(3, 4);
            Ceremony memory b = request(3, 4);
            reachSeed(a, bytes32(i));
            b.header = a.header;
            draw(a);
            draw(b);
            if (keccak256(abi.encode(a.committee)) != keccak256(abi.encode(b.committee))) ++different;
        }
        assertGe(different, 7);
    }

    /// @dev 2,000 draws of 4 of 8: each server in 1,000 +- 5 sigma (22 each), each at the first seat 250 +- 5 sigma (15).
    function test_Draw_IsUniform() public {
        bytes memory set = servers.activeSet(ServerKind.Online);
        uint256[9] memory drawn;
        uint256[9] memory first;
        vm.startPrank(address(keys));
        for (uint256 i; i < 2_000; ++i) {
            bytes32 seed = keccak256(abi.encode("uniform", i));
            uint32[] memory committee = servers.drawSeats(seed, set, new uint32[](0), 4, 4, 1, address(0));
            ++first[committee[0]];
            for (uint256 j; j < 4; ++j) {
                ++drawn[committee[j]];
            }
            servers.freeSeats(committee);
        }
        vm.stopPrank();
        for (uint256 id = 1; id <= 8; ++id) {
            assertApproxEqAbs(drawn[id], 1_000, 112);
            assertApproxEqAbs(first[id], 250, 74);
        }
    }

    // ------------------------------------------------------------------------------------- caps and exclusion

    function testFuzz_Draw_NoOperatorHoldsMoreThanItsCap(bytes32 randao) public {
        // One operator with nine servers among others: 7-of-10 lets it have three.
        address big = makeAddr("big");
        for (uint256 i; i < 9; ++i) {
            addServer(big, 5 ether);
        }
        Ceremony memory c = requestAndDraw(7, 10, randao);
        uint256 held;
        for (uint256 i; i < 10; ++i) {
            if (servers.server(c.committee[i]).operator == big) ++held;
        }
        assertLe(held, 3);
        assertEq(keys.operatorCap(KeyKind.Validator, 7, 10), 3);
    }

    function test_Draw_FailsWhenOnlyOneOperatorIsLeft() public {
        for (uint32 id = 1; id <= 8; ++id) {
            servers.suspend(id, "test");
        }
        address big = makeAddr("big");
        for (uint256 i; i < 6; ++i) {
            addServer(big, 5 ether);
        }
        Ceremony memory c = request(3, 4);
        reachSeed(c, "randao");
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 1, 4));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function testFuzz_Draw_LeavesOutTheProvidersServers(bytes32 randao) public {
        Ceremony memory c = request(3, 4);
        address provider = servers.server(3).operator;
        consumer.exclude(c.keyId, provider);
        reachSeed(c, randao);
        draw(c);
        assertFalse(_in(3, c.committee));
    }

    function test_Draw_TakesNobodyWithoutBondForAnotherSeat() public {
        for (uint32 id = 1; id <= 8; ++id) {
            servers.suspend(id, "test");
        }
        // A bond of two seats each.
        for (uint256 i; i < 4; ++i) {
            addServer(makeAddr(string.concat("poor ", vm.toString(i))), 1 ether);
        }
        requestAndDraw(3, 4, "one");
        requestAndDraw(3, 4, "two");
        Ceremony memory c = request(3, 4);
        reachSeed(c, "three");
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 0, 4));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
        // The bond can be raised by anyone.
        for (uint32 id = 9; id <= 12; ++id) {
            servers.addBond{value: SEAT_BOND}(id);
        }
        draw(c);
        assertEq(servers.server(9).seats, 3);
    }

    function test_OperatorCap_OfTheTableOfTheReadme() public view {
        assertEq(keys.operatorCap(KeyKind.Validator, 3, 4), 1);
        assertEq(keys.operatorCap(KeyKind.Validator, 4, 5), 1);
        assertEq(keys.operatorCap(KeyKind.Validator, 5, 7), 2);
        assertEq(keys.operatorCap(KeyKind.Validator, 7, 10), 3);
        assertEq(keys.operatorCap(KeyKind.Withdrawal, 3, 5), 2);
    }

    function testFuzz_OperatorCap_IsTheFormulaOfTheDesign(uint8 threshold, uint8 members) public {
        int256 t = int256(uint256(threshold));
        int256 n = int256(uint256(members));
        if (t > n || 2 * t <= n) {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, threshold, members));
            keys.operatorCap(KeyKind.Validator, threshold, members);
            return;
        }
        int256 validator = _least(2 * t - n - 1, n - t);
        assertEq(
            int256(keys.operatorCap(KeyKind.Validator, threshold, members)),
            validator < 1 ? int256(1) : validator
        );
        assertEq(int256(keys.operatorCap(KeyKind.Withdrawal, threshold, members)), _least(t - 1, n - t));
    }

    // ----------------------------------------------------------------------------------------------- restart

    function test_Restart_TheSameCommitteeTriesAgainWhenAllAreActive() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint48 deadline = keys.key(c.keyId).mark;
        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotExpired.selector, c.keyId, deadline));
        keys.restart(c.keyId, c.committee, 0);

        vm.warp(deadline + 1);
        uint48 next = uint48(block.timestamp + CEREMONY_WINDOW);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.CeremonyRestarted(c.keyId, 1, c.committee, 0, next, "");
        keys.restart(c.keyId, c.committee, 0);
        Key memory key = keys.key(c.keyId);
        assertEq(uint8(key.state), uint8(KeyState.Drawn));
        assertEq(key.attempt, 1);
        assertEq(key.mark, next);
    }

    function testFuzz_Restart_RedrawsOnlyTheSeatOfTheOneThatLeft(bytes32 randao, uint8 which) public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint32[] memory before = c.committee;
        uint32 leaver = before[which % 4];
        vm.prank(servers.server(leaver).operator);
        servers.announceLeave(leaver);
        vm.warp(keys.key(c.keyId).mark + 1);

        c.kept = _without(before, leaver);
        c.activeSet = servers.activeSet(ServerKind.Online);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.CeremonyRestarted(
            c.keyId, 1, c.kept, uint48(block.number + SEED_DELAY), 0, c.activeSet
        );
        keys.restart(c.keyId, before, 0);
        assertEq(servers.server(leaver).seats, 0);

        reachSeed(c, randao);
        draw(c);
        for (uint256 i; i < 3; ++i) {
            assertEq(c.committee[i], c.kept[i]);
            assertEq(servers.server(c.kept[i]).seats, 1);
        }
        assertFalse(_in(c.committee[3], before), "the leaver and the kept are not drawn again");
        assertEq(servers.server(c.committee[3]).seats, 1);
    }

    function test_Restart_CountsKeptMembersForTheOperatorCap() public {
        // Two servers of one operator, cap 1 at 3-of-4: with one kept, the other is never drawn in.
        for (uint32 id = 5; id <= 8; ++id) {
            servers.suspend(id, "test");
        }
        uint32 twin = addServer(servers.server(1).operator, 5 ether);
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint32 kept = _in(1, c.committee) ? 1 : twin;
        uint32 leaver = c.committee[0] == kept ? c.committee[1] : c.committee[0];
        servers.suspend(leaver, "silent");
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);

        c.kept = _without(c.committee, leaver);
        c.activeSet = servers.activeSet(ServerKind.Online);
        reachSeed(c, "again");
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 0, 1));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function test_Restart_FromRequestedOnceTheSeedBlockIsForgotten() public {
        Ceremony memory c = request(3, 4);
        uint48 seedBlock = keys.key(c.keyId).mark;
        bytes32 setHash = keccak256(c.activeSet);
        vm.roll(seedBlock + 8191);
        // As long as a draw is possible, nobody rolls the dice again.
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotExpired.selector, c.keyId, seedBlock + 8191));
        keys.restart(c.keyId, c.kept, setHash);

        vm.roll(seedBlock + 8192);
        servers.suspend(8, "test");
        keys.restart(c.keyId, c.kept, setHash);
        assertEq(keys.key(c.keyId).mark, block.number + SEED_DELAY);
        c.activeSet = servers.activeSet(ServerKind.Online);
        reachSeed(c, "again");
        draw(c);
        assertEq(c.committee.length, 4);
    }

    function test_Restart_FromRequestedFreesTheSeatOfAKeptMemberThatLeft() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        servers.suspend(c.committee[0], "silent");
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);
        c.kept = _without(c.committee, c.committee[0]);
        bytes32 setHash = keccak256(servers.activeSet(ServerKind.Online));

        servers.suspend(c.kept[1], "silent as well");
        vm.roll(keys.key(c.keyId).mark + 8192);
        keys.restart(c.keyId, c.kept, setHash);
        assertEq(servers.server(c.kept[1]).seats, 0);
        assertEq(servers.server(c.kept[0]).seats, 1);
        assertEq(keys.key(c.keyId).attempt, 2);

        c.kept = _without(c.kept, c.kept[1]);
        c.activeSet = servers.activeSet(ServerKind.Online);
        reachSeed(c, "again");
        draw(c);
        assertEq(c.committee.length, 4);
    }

    function test_Restart_ChecksWhatTheKeyCommittedTo() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        vm.warp(keys.key(c.keyId).mark + 1);
        uint32[] memory other = _without(c.committee, c.committee[0]);
        vm.expectPartialRevert(IKeyRegistry.WrongCommitment.selector);
        keys.restart(c.keyId, other, 0);
    }

    function test_Restart_NeedsEnoughActiveServers() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        vm.warp(keys.key(c.keyId).mark + 1);
        for (uint32 id = 1; id <= 5; ++id) {
            servers.suspend(id, "test");
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 3, 4));
        keys.restart(c.keyId, c.committee, 0);
    }

    function test_Restart_OnlyRequestedOrDrawn() public {
        Ceremony memory c = makeKey(3, 4, 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, c.keyId, KeyState.Live));
        keys.restart(c.keyId, c.committee, 0);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, 9, KeyState.None));
        keys.restart(9, c.committee, 0);
    }

    // ---------------------------------------------------------------------------------------------- internal

    function _least(int256 a, int256 b) private pure returns (int256) {
        return a < b ? a : b;
    }

    function _in(uint32 id, uint32[] memory list) private pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i] == id) return true;
        }
        return false;
    }

    function _without(uint32[] memory list, uint32 id) private pure returns (uint32[] memory rest) {
        rest = new uint32[](list.length - 1);
        uint256 count;
        for (uint256 i; i < list.length; ++i) {
            if (list[i] != id) rest[count++] = list[i];
        }
    }
}
