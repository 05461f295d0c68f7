// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyKind, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";

/// @title Withdrawal keys: spread over online and offline servers, so that all online ones together cannot sign
contract KeyRegistryWithdrawalTest is RegistryFixture {
    uint32 private constant FIRST_OFFLINE = 9;

    /// Online servers 1 to 8, offline ones 9 to 13, each of an operator of its own.
    function setUp() public {
        deployRegistries();
        addServers(8);
        _addOffline(5);
    }

    function _addOffline(uint256 count) private {
        for (uint256 i; i < count; ++i) {
            servers.approve(registerServer(operatorOf(servers.serverCount()), ServerKind.Offline, 10 ether));
        }
    }

    function _request(uint8 threshold, uint8 members) private returns (Ceremony memory c) {
        c.threshold = threshold;
        c.members = members;
        c.activeSet =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        c.keyId = consumer.requestWithdrawal(threshold, members);
    }

    function _drawn(uint8 threshold, uint8 members, bytes32 randao) private returns (Ceremony memory c) {
        c = _request(threshold, members);
        reachSeed(c, randao);
        draw(c);
    }

    function _online(Ceremony memory c) private view returns (uint256 count) {
        for (uint256 i; i < c.committee.length; ++i) {
            if (servers.server(c.committee[i]).kind == ServerKind.Online) ++count;
        }
    }

    function test_Request_SnapshotsBothKinds() public {
        bytes memory both =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        assertEq(both.length / 4, 13);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyRequested(
            1, address(consumer), KeyKind.Withdrawal, 5, 6, uint48(block.number + SEED_DELAY), both
        );
        consumer.requestWithdrawal(5, 6);
        Key memory it = keys.key(1);
        assertEq(uint8(it.kind), uint8(KeyKind.Withdrawal));
    }

    /// 3-of-5 is too weak against conflicting duties, of which a withdrawal key signs none.
    function test_Request_TakesOneThatNeedsNoTwoQuorums() public {
        consumer.requestWithdrawal(3, 5);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 3, 6));
        consumer.requestWithdrawal(3, 6);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 4, 4));
        consumer.requestWithdrawal(4, 4);
    }

    function testFuzz_Request_KeepsTheBounds(uint8 threshold, uint8 members) public {
        addServers(10);
        _addOffline(10);
        bool sound = 2 * uint256(threshold) > members && threshold < members && members <= 16;
        if (!sound) {
            vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, threshold, members));
        }
        consumer.requestWithdrawal(threshold, members);
    }

    /// Neither kind stands in for the other.
    function test_Request_NeedsEnoughServersOfEachKind() public {
        for (uint32 id = FIRST_OFFLINE; id < FIRST_OFFLINE + 4; ++id) {
            servers.suspend(id, "test");
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 1, 2));
        consumer.requestWithdrawal(5, 6);
        servers.approve(FIRST_OFFLINE);
        consumer.requestWithdrawal(5, 6);
        for (uint32 id = 1; id <= 5; ++id) {
            servers.suspend(id, "test");
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 3, 4));
        consumer.requestWithdrawal(5, 6);
    }

    /// All online servers together are one share short, whoever was drawn and however the ceremony went before.
    function testFuzz_Draw_AllOnlineMembersTogetherCannotSign(uint8 size, bytes32 randao, uint8 lost) public {
        uint8[2][5] memory sizes = [[uint8(2), 3], [3, 4], [3, 5], [5, 6], [5, 7]];
        (uint8 t, uint8 n) = (sizes[size % 5][0], sizes[size % 5][1]);
        Ceremony memory c = _drawn(t, n, randao);
        assertEq(c.committee.length, n);
        assertEq(_online(c), t - 1);

        // A member goes, and its seat to another of its kind.
        uint32 gone = c.committee[lost % n];
        servers.suspend(gone, "test");
        vm.warp(uint256(keys.key(c.keyId).mark) + 1);
        keys.restart(c.keyId, c.committee, 0);
        uint32[] memory kept = new uint32[](n - 1);
        for ((uint256 i, uint256 j) = (0, 0); i < n; ++i) {
            if (c.committee[i] != gone) kept[j++] = c.committee[i];
        }
        c.kept = kept;
        c.activeSet =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        reachSeed(c, keccak256(abi.encode(randao)));
        draw(c);
        assertEq(_online(c), t - 1);
        assertEq(
            uint8(servers.server(c.committee[n - 1]).kind), uint8(servers.server(gone).kind), "another kind"
        );
    }

    /// Its members carry files, and a question on the chain gives each of them a week.
    function test_Draw_AndRestart_GiveSevenWindows() public {
        Ceremony memory c = _drawn(3, 4, "randao");
        uint256 end = keys.key(c.keyId).mark;
        assertEq(end, block.timestamp + 7 * CEREMONY_WINDOW);
        vm.warp(end);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotExpired.selector, c.keyId, end));
        keys.restart(c.keyId, c.committee, 0);
        vm.warp(end + 1);
        keys.restart(c.keyId, c.committee, 0);
        assertEq(keys.key(c.keyId).mark, block.timestamp + 7 * CEREMONY_WINDOW);
    }

    function test_Draw_AnOperatorHoldsNoMoreThanItsCapOfBothKindsTogether() public {
        // Whoever runs all but as many servers as are needed: min(t - 1, n - t) = 1 of 5-of-6.
        address big = makeAddr("big");
        for (uint256 i; i < 8; ++i) {
            addServer(big, 10 ether);
            servers.approve(registerServer(big, ServerKind.Offline, 10 ether));
        }
        for (uint256 i; i < 20; ++i) {
            Ceremony memory c = _drawn(5, 6, bytes32(i));
            uint256 held;
            for (uint256 j; j < 6; ++j) {
                if (servers.server(c.committee[j]).operator == big) ++held;
            }
            assertLe(held, 1);
        }
    }

    function test_Draw_FailsRatherThanTakeAnotherKind() public {
        Ceremony memory c = _request(5, 6);
        reachSeed(c, "randao");
        for (uint32 id = FIRST_OFFLINE; id < FIRST_OFFLINE + 4; ++id) {
            servers.suspend(id, "test");
        }
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.NotEnoughServers.selector, 5, 6));
        keys.draw(c.keyId, c.header, c.activeSet, c.kept);
    }

    function test_Draw_NoOfflineServerHoldsAShareOfAValidatorKey() public {
        for (uint256 i; i < 20; ++i) {
            Ceremony memory c = requestAndDraw(3, 4, bytes32(i));
            assertEq(_online(c), 4);
        }
    }

    function test_Finalise_AWithdrawalKey() public {
        Ceremony memory c = _drawn(5, 6, "randao");
        runDkg(c, 7);
        finalise(c);
        assertEq(uint8(keys.key(c.keyId).state), uint8(KeyState.Live));
    }
}
