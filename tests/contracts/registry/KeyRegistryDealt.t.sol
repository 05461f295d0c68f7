// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    DealtImport,
    IKeyRegistry,
    Key,
    KeyKind,
    KeyState
} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerKind, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @notice Dealt keys: what is imported, every way to import something else, and what their owner can and cannot do.
contract KeyRegistryDealtTest is RegistryFixture {
    uint256 private constant R = ThresholdKeys.R;

    address private owner = makeAddr("owner");
    uint32[] private committee;

    function setUp() public {
        deployRegistries();
        addServers(6);
        committee = ids(2, 3, 5, 6);
    }

    // -------------------------------------------------------------------------------------------------- good

    function test_ImportDealt_MakesALiveKeyOfItsOwner() public {
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) = _deal(1);
        Ceremony memory c = _asCeremony(dealt, keySet);
        bytes32 root = _leavesRoot(c);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.DealtKeyImported(1, owner, 3, dealt.historyHash);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyFinalised(1, 0, committee, c.signers, dealt.points, 0, root);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.DutyKeyNamed(1, dealt.dutyKey, 1);
        vm.prank(owner);
        assertEq(keys.importDealt(dealt), 1);

        Key memory expected;
        expected.state = KeyState.Live;
        (expected.threshold, expected.members) = (3, 4);
        (expected.mark, expected.commitment) = (uint48(block.timestamp), root);
        assertEq(abi.encode(keys.key(1)), abi.encode(expected));
        assertEq(keys.keyCount(), 1);
        assertEq(keys.keyOfGroupKey(keccak256(keySet.groupKey)), 1);
        (address named, uint64 number, address dutyKey) = keys.dealtKey(1);
        assertEq(named, owner);
        assertEq(number, 1);
        assertEq(dutyKey, dealt.dutyKey);
        _assertDuties(1, dealt.dutyKey, 1);
        for (uint32 id = 1; id <= 6; ++id) {
            assertEq(servers.server(id).seats, id == 1 || id == 4 ? 0 : 1);
        }
    }

    function testFuzz_ImportDealt_TakesEveryHonestKey(
        uint256 seed,
        uint8 threshold,
        uint8 members,
        address anyone
    ) public {
        members = uint8(bound(members, 4, 16));
        threshold = uint8(bound(threshold, (members + 3) / 2, members - 1));
        vm.assume(anyone != address(0));
        addServers(10);
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) =
            dealKey(anyone, threshold, _first(members), seed);
        vm.prank(anyone);
        uint256 keyId = keys.importDealt(dealt);
        assertEq(keys.key(keyId).commitment, _leavesRoot(_asCeremony(dealt, keySet)));
        _assertDuties(keyId, dealt.dutyKey, 1);
    }

    function testFuzz_DealtKey_IsZeroForEveryOtherKey(uint256 keyId) public {
        makeKey(3, 4, 7);
        (DealtImport memory dealt,) = _deal(1);
        uint256 there = _import(dealt);
        vm.assume(keyId != there);
        (address named, uint64 number, address dutyKey) = keys.dealtKey(keyId % 2 == 0 ? keyId : 1);
        assertEq(named, address(0));
        assertEq(number, 0);
        assertEq(dutyKey, address(0));
    }

    // -------------------------------------------------------------------------------------- whose key it is

    /// @dev The points of a pool's key are public while `finalise` waits in the mempool.
    function test_ImportDealt_NobodyRegistersAKeyThatIsNotHis() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        // All members help the thief; the group key does not, and any other key signs for him.
        (DealtImport memory dealt,) = _deal(1);
        assertEq(dealt.points, c.keySet.points);
        signDealt(dealt, owner, 4_711);
        _refuse(dealt, _badPossession(dealt));
        dealt.possession = new bytes(256);
        _refuse(dealt, _badPossession(dealt));
        dealt.possession = "";
        _refuse(dealt, _badPossession(dealt));

        finalise(c);
        assertEq(keys.keyOfGroupKey(keccak256(c.keySet.groupKey)), c.keyId);
    }

    function test_ImportDealt_AnImportOnItsWayIsOfNoUseToAnybodyElse() public {
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) = _deal(1);
        address thief = makeAddr("thief");
        vm.prank(thief);
        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        keys.importDealt(dealt);
        // Neither with the members on his side: the possession names the owner.
        bytes memory possession = dealt.possession;
        signDealt(dealt, thief, keySet.coefficients[0]);
        dealt.possession = possession;
        vm.prank(thief);
        vm.expectPartialRevert(IKeyRegistry.BadPossession.selector);
        keys.importDealt(dealt);
        // The group key signs for this history and no other, whatever the members say.
        dealt.historyHash = "another history";
        signDealt(dealt, owner, keySet.coefficients[0]);
        dealt.possession = possession;
        _refuse(dealt, _badPossession(dealt));
    }

    function test_ImportDealt_OfAnotherChainOrRegistry() public {
        (DealtImport memory dealt,) = _deal(1);
        vm.chainId(block.chainid + 1);
        _refusePartially(dealt, IKeyRegistry.BadAcknowledgement.selector);
    }

    function test_ImportDealt_AGroupKeyOnceForEver() public {
        Ceremony memory c = makeKey(3, 4, 1);
        (DealtImport memory dealt,) = _deal(1);
        bytes memory taken = abi.encodeWithSelector(IKeyRegistry.GroupKeyTaken.selector, c.keyId);
        _refuse(dealt, taken);
        consumer.retire(c.keyId, false);
        _refuse(dealt, taken);

        (dealt,) = _deal(2);
        uint256 keyId = _import(dealt);
        taken = abi.encodeWithSelector(IKeyRegistry.GroupKeyTaken.selector, keyId);
        _refuse(dealt, taken);
        // Nor does a ceremony end with it, so no pool gets a key that somebody holds whole.
        c = requestAndDraw(3, 4, "randao");
        runDkg(c, 2);
        vm.expectRevert(taken);
        finalise(c);
    }

    // ------------------------------------------------------------------------------------------- what is dealt

    function testFuzz_ImportDealt_KeepsTheThreeBounds(uint8 threshold, uint8 members) public {
        members = uint8(bound(members, 1, 18));
        threshold = uint8(bound(threshold, 0, 20));
        addServers(12);
        vm.assume(!(members <= 16 && threshold < members && 2 * threshold >= members + 2));
        (DealtImport memory dealt,) = dealKey(owner, threshold == 0 ? 1 : threshold, _first(members), 1);
        dealt.threshold = threshold;
        _refuse(dealt, abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, threshold, members));
    }

    function test_ImportDealt_OnePolynomialOfThatDegree() public {
        bytes memory refusal = abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, 1, 3);
        uint256[] memory coefficients = new uint256[](4);
        for (uint256 i; i < 4; ++i) {
            coefficients[i] = 1_000_003 * (i + 1);
        }
        _refusePoints(ThresholdKeys.fromPolynomial(coefficients, 3, 4), refusal);

        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        (keySet.shareKeys[0], keySet.shareKeys[1]) = (keySet.shareKeys[1], keySet.shareKeys[0]);
        _refusePoints(_rejoin(keySet), refusal);

        keySet = ThresholdKeys.generate(1, 3, 4);
        keySet.coefficients[0] += 1;
        keySet.groupKey = ThresholdKeys.publicKey(keySet.coefficients[0]);
        _refusePoints(_rejoin(keySet), refusal);
    }

    function test_ImportDealt_PointsAreThoseThatACeremonyMayEndWith() public {
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        keySet.points[63] ^= 0x01;
        _refusePoints(keySet, abi.encodeWithSelector(IKeyRegistry.InvalidPoint.selector, 1));

        keySet = ThresholdKeys.generate(1, 3, 4);
        keySet.shareKeys[2] = new bytes(128);
        _refusePoints(_rejoin(keySet), abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 2));

        // f(1) = f(2): one secret in two places.
        uint256[] memory coefficients = new uint256[](3);
        (coefficients[0], coefficients[1], coefficients[2]) = (11, R - 3, 1);
        _refusePoints(
            ThresholdKeys.fromPolynomial(coefficients, 3, 4),
            abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 1)
        );

        (DealtImport memory dealt,) = _deal(1);
        dealt.points = new bytes(512);
        _refuse(dealt, abi.encodeWithSelector(IKeyRegistry.BadLength.selector, 512, 640));
        (dealt,) = _deal(1);
        dealt.acknowledgements = new bytes(195);
        _refuse(dealt, abi.encodeWithSelector(IKeyRegistry.BadLength.selector, 195, 260));
    }

    function testFuzz_ImportDealt_EverythingIsAcknowledgedByEveryMember(uint8 part, uint256 bit) public {
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) = _deal(1);
        part %= 5;
        if (part == 0) dealt.historyHash ^= bytes32(uint256(1) << (bit % 256));
        else if (part == 1) dealt.points = ThresholdKeys.generate(2 + bit % 8, 3, 4).points;
        else if (part == 2) dealt.committee[bit % 4] = bit % 4 < 2 ? 1 + uint32(bit % 4) * 2 : 4;
        else if (part == 3) dealt.acknowledgements[bit % 260] ^= bytes1(uint8(1) << uint8((bit >> 16) % 8));
        else owner = makeAddr("other");
        if (part == 2) {
            vm.assume(dealt.committee[bit % 4] != committee[bit % 4]);
            vm.assume(dealt.committee[0] < dealt.committee[1] && dealt.committee[1] < dealt.committee[2]);
            vm.assume(dealt.committee[2] < dealt.committee[3]);
        }
        dealt.possession = ThresholdKeys.sign(keySet.coefficients[0], _digest(dealt));
        _refusePartially(dealt, IKeyRegistry.BadAcknowledgement.selector);
    }

    // ---------------------------------------------------------------------------------------------- committee

    function test_ImportDealt_NoServerTwice() public {
        (DealtImport memory dealt,) = dealKey(owner, 3, ids(2, 3, 3, 6), 1);
        _refuse(dealt, abi.encodeWithSelector(IKeyRegistry.CommitteeNotAscending.selector, 2));
        (dealt,) = dealKey(owner, 3, ids(2, 5, 6, 3), 1);
        _refuse(dealt, abi.encodeWithSelector(IKeyRegistry.CommitteeNotAscending.selector, 3));
    }

    function test_ImportDealt_OnlyActiveOnlineServersWithAFreeSeat() public {
        uint32 offline = registerServer(operatorOf(9), ServerKind.Offline, 10 ether);
        servers.approve(offline);
        (DealtImport memory dealt,) = dealKey(owner, 3, ids(2, 3, 5, offline), 1);
        _refuse(dealt, abi.encodeWithSelector(IServerRegistry.NotOnline.selector, offline));

        servers.suspend(3, "test");
        (dealt,) = _deal(1);
        _refuse(
            dealt, abi.encodeWithSelector(IServerRegistry.MemberNotActive.selector, 3, ServerStatus.Suspended)
        );
        servers.approve(3);

        servers.setBondParameters(MIN_BOND, 6 ether);
        _import(dealt);
        (dealt,) = _deal(2);
        _refuse(dealt, abi.encodeWithSelector(IServerRegistry.NoFreeSeat.selector, 2, 1, uint96(10 ether)));
    }

    // ------------------------------------------------------------------------------ nothing can be ordered for it

    function test_ImportDealt_NobodyOrdersAMessageOrBurnsIt() public {
        // Its owner is a pools contract that governance admitted: still not the consumer of this key.
        owner = address(consumer);
        (DealtImport memory dealt,) = _deal(1);
        uint256 keyId = _import(dealt);
        address[4] memory callers = [owner, dealt.dutyKey, address(this), address(keys)];
        for (uint256 i; i < 4; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, callers[i]);
            vm.startPrank(callers[i]);
            vm.expectRevert(refusal);
            keys.order(keyId, "exit");
            vm.expectRevert(refusal);
            keys.retire(keyId, true);
            vm.expectRevert(refusal);
            keys.retire(keyId, false);
            vm.stopPrank();
        }
        assertFalse(keys.isOrdered(keyId, "exit"));
    }

    function test_ImportDealt_NoCeremonyTouchesIt() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        (DealtImport memory dealt,) = _deal(1);
        uint256 keyId = _import(dealt);
        bytes memory live = abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, keyId, KeyState.Live);
        vm.expectRevert(live);
        keys.draw(keyId, c.header, c.activeSet, new uint32[](0));
        vm.expectRevert(live);
        keys.restart(keyId, committee, 0);
        vm.expectRevert(live);
        keys.finalise(keyId, committee, dealt.points, 0, dealt.acknowledgements);
        vm.expectRevert(live);
        keys.freeSeatsOfUnfinished(keyId, committee, 0);
    }

    function test_ImportDealt_AStrangerCannotRequestAKey() public {
        vm.prank(owner);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotConsumer.selector, owner));
        keys.request(KeyKind.Validator, 3, 4);
    }

    // --------------------------------------------------------------------------------------------------- owner

    function test_SetDutyKey_EachNameIsANewNumber() public {
        (DealtImport memory dealt,) = _deal(1);
        uint256 keyId = _import(dealt);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.DutyKeyNamed(keyId, address(7), 2);
        vm.prank(owner);
        keys.setDutyKey(keyId, address(7));
        _assertDuties(keyId, address(7), 2);
        _name(keyId, address(0));
        _assertDuties(keyId, address(0), 3);
        // The first key again is not the first assignment again.
        _name(keyId, dealt.dutyKey);
        _assertDuties(keyId, dealt.dutyKey, 4);
    }

    function testFuzz_SetDutyKey_OnlyTheOwnerOfALiveKey(address caller, address dutyKey, uint256 other)
        public
    {
        (DealtImport memory dealt,) = _deal(1);
        uint256 keyId = _import(dealt);
        vm.assume(caller != owner && other != keyId && caller != address(0));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotKeyOwner.selector, keyId, caller));
        vm.prank(caller);
        keys.setDutyKey(keyId, dutyKey);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotKeyOwner.selector, other, owner));
        _name(other, dutyKey);
        _name(keyId, dutyKey);
        _assertDuties(keyId, dutyKey, 2);
    }

    function test_RetireDealt_EndsTheDutiesAndFreesTheSeatsInTime() public {
        (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet) = _deal(1);
        Ceremony memory c = _asCeremony(dealt, keySet);
        uint256 keyId = _import(dealt);
        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyRetired(keyId, false);
        vm.prank(owner);
        keys.retireDealt(keyId);
        _assertDuties(keyId, address(0), 0);
        Key memory key = keys.key(keyId);
        assertEq(uint8(key.state), uint8(KeyState.Retired));
        assertEq(key.mark, block.timestamp + EVIDENCE_WINDOW);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, keyId, KeyState.Retired));
        _name(keyId, address(7));

        vm.warp(key.mark - 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.SeatsReserved.selector, keyId, key.mark));
        keys.freeSeats(keyId, committee, c.signers, dealt.points);
        vm.warp(key.mark);
        keys.freeSeats(keyId, committee, c.signers, dealt.points);
        for (uint32 id = 1; id <= 6; ++id) {
            assertEq(servers.server(id).seats, 0);
        }
    }

    function testFuzz_RetireDealt_OnlyTheOwnerAndOnce(address caller, uint256 other) public {
        (DealtImport memory dealt,) = _deal(1);
        uint256 keyId = _import(dealt);
        vm.assume(caller != owner && other != keyId && caller != address(0));
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotKeyOwner.selector, keyId, caller));
        vm.prank(caller);
        keys.retireDealt(keyId);
        vm.startPrank(owner);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotKeyOwner.selector, other, owner));
        keys.retireDealt(other);
        keys.retireDealt(keyId);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, keyId, KeyState.Retired));
        keys.retireDealt(keyId);
    }

    // ------------------------------------------------------------------------------------------------ internal

    function _deal(uint256 seed)
        private
        view
        returns (DealtImport memory dealt, ThresholdKeys.KeySet memory keySet)
    {
        return dealKey(owner, 3, committee, seed);
    }

    function _import(DealtImport memory dealt) private returns (uint256) {
        vm.prank(owner);
        return keys.importDealt(dealt);
    }

    function _name(uint256 keyId, address dutyKey) private {
        vm.prank(owner);
        keys.setDutyKey(keyId, dutyKey);
    }

    function _digest(DealtImport memory dealt) private view returns (bytes32) {
        return dealtDigest(keys, owner, dealt, signersOf(dealt.committee));
    }

    function _badPossession(DealtImport memory dealt) private view returns (bytes memory) {
        return abi.encodeWithSelector(IKeyRegistry.BadPossession.selector, _digest(dealt));
    }

    function _refuse(DealtImport memory dealt, bytes memory refusal) private {
        vm.expectRevert(refusal);
        _import(dealt);
    }

    function _refusePartially(DealtImport memory dealt, bytes4 refusal) private {
        vm.expectPartialRevert(refusal);
        _import(dealt);
    }

    /// @dev With everybody's signature: it is the points that are refused.
    function _refusePoints(ThresholdKeys.KeySet memory keySet, bytes memory refusal) private {
        (DealtImport memory dealt,) = _deal(1);
        dealt.points = keySet.points;
        signDealt(dealt, owner, keySet.coefficients[0]);
        _refuse(dealt, refusal);
    }

    function _rejoin(ThresholdKeys.KeySet memory keySet) private pure returns (ThresholdKeys.KeySet memory) {
        keySet.points = "";
        for (uint256 i; i < keySet.members; ++i) {
            keySet.points = bytes.concat(keySet.points, keySet.shareKeys[i]);
        }
        keySet.points = bytes.concat(keySet.points, keySet.groupKey);
        return keySet;
    }

    function _asCeremony(DealtImport memory dealt, ThresholdKeys.KeySet memory keySet)
        private
        view
        returns (Ceremony memory c)
    {
        c.committee = dealt.committee;
        c.signers = signersOf(dealt.committee);
        c.keySet = keySet;
    }

    function _leavesRoot(Ceremony memory c) private pure returns (bytes32 root) {
        bytes32[] memory leaves = new bytes32[](c.committee.length);
        for (uint256 i; i < leaves.length; ++i) {
            leaves[i] = shareLeaf(c, i);
        }
        (root,) = merkle(leaves, 0);
    }

    function _first(uint256 count) private pure returns (uint32[] memory list) {
        list = new uint32[](count);
        for (uint32 i; i < count; ++i) {
            list[i] = i + 1;
        }
    }

    function _assertDuties(uint256 keyId, address expected, uint64 assignment) private view {
        (address dutyKey, uint64 number) = keys.dutyAssignment(keyId);
        assertEq(dutyKey, expected);
        assertEq(number, assignment);
    }
}
