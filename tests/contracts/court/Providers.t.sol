// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {DutyRequest, Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {DealtImport} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {PoolFixture} from "../pools/PoolFixture.sol";

/// @title A provider that asks for conflicting duties pays its stakers
contract ProvidersTest is PoolFixture {
    address private reporter = makeAddr("reporter");
    bytes32 private constant ROOT = keccak256("a duty");
    bytes32 private constant ROOT2 = keccak256("another duty");
    uint256 private dutySecret = uint256(keccak256(abi.encode("duty key", provider))) >> 1;

    function _request(uint256 keyId, uint8 kind, uint64 slot, bytes32 root)
        private
        pure
        returns (DutyRequest memory r)
    {
        r.keyId = keyId;
        r.assignment = 1;
        r.dutyKind = kind;
        r.slot = slot;
        r.signingRoot = root;
        if (kind == 2) (r.sourceEpoch, r.targetEpoch) = (slot / 32 - 1, slot / 32);
    }

    function _sign(uint256 secret, DutyRequest memory r) private view returns (bytes memory) {
        return sign(secret, requestDigest(address(d.keyRegistry), r));
    }

    function _commit(DutyRequest memory a, DutyRequest memory b) private {
        d.court.commit(keccak256(abi.encode(reporter, Fault.ProviderEquivocation, _evidence(a, b))));
        vm.roll(block.number + d.court.COMMITMENT_BLOCKS());
    }

    function _evidence(DutyRequest memory a, DutyRequest memory b) private view returns (bytes32) {
        address registry = address(d.keyRegistry);
        bytes32 x = requestDigest(registry, a);
        bytes32 y = requestDigest(registry, b);
        return keccak256(x < y ? bytes.concat(x, y) : bytes.concat(y, x));
    }

    /// The same key for both requests.
    function _twice(address dutyKey) private pure returns (address[2] memory) {
        return [dutyKey, dutyKey];
    }

    function _call(DutyRequest memory a, bytes memory aSig, DutyRequest memory b, bytes memory bSig)
        private
        returns (bool success, bytes memory answer)
    {
        _commit(a, b);
        bytes memory data = abi.encodeCall(d.court.proveProviderEquivocation, (a, aSig, b, bSig));
        vm.prank(reporter);
        return address(d.court).call(data);
    }

    function _report(uint256 keyId, uint256 secret) private returns (bool success, bytes memory answer) {
        DutyRequest memory a = _request(keyId, 3, 77, ROOT);
        DutyRequest memory b = _request(keyId, 3, 77, ROOT2);
        return _call(a, _sign(secret, a), b, _sign(secret, b));
    }

    function _refuse(
        bytes4 error_,
        DutyRequest memory a,
        bytes memory aSig,
        DutyRequest memory b,
        bytes memory bSig
    ) private {
        uint256 snapshot = vm.snapshotState();
        (bool success, bytes memory answer) = _call(a, aSig, b, bSig);
        assertFalse(success);
        assertEq(bytes4(answer), error_);
        vm.revertToState(snapshot);
    }

    function test_ProveProviderEquivocation_PaysItsStakersOnce() public {
        (uint256 id,) = _active();
        uint256 held = address(pools).balance;
        DutyRequest memory a = _request(1, 3, 77, ROOT);
        DutyRequest memory b = _request(1, 3, 77, ROOT2);
        bytes memory aSig = _sign(dutySecret, a);
        bytes memory bSig = _sign(dutySecret, b);
        _commit(a, b);
        vm.expectEmit(address(pools));
        emit IMicropools.ProviderPenalised(id, 1, provider, 1 ether, 0.1 ether, reporter);
        vm.prank(reporter);
        d.court.proveProviderEquivocation(a, aSig, b, bSig);
        assertEq(_pool(id).insurance, 1 ether);
        (uint64 assignment, uint128 claim) = pools.penalties(id);
        assertEq(assignment, 1);
        assertEq(claim, 0.9 ether);
        assertEq(pools.bountyOf(reporter), 0.1 ether);
        assertEq(uint256(claim) + pools.bountyOf(reporter), pools.PROVIDER_PENALTY(), "to the wei");
        assertTrue(pools.isMigrationDue(id));
        assertEq(address(pools).balance, held);

        // Other evidence of the same assignment.
        (a, b) = (_request(1, 2, 320, ROOT), _request(1, 2, 320, ROOT2));
        _refuse(IMicropools.AlreadyPenalised.selector, a, _sign(dutySecret, a), b, _sign(dutySecret, b));

        vm.prank(reporter);
        pools.withdrawBounty();
        assertEq(reporter.balance, 0.1 ether);
        assertEq(address(pools).balance, held - 0.1 ether);
        vm.prank(reporter);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NoBounty.selector, reporter));
        pools.withdrawBounty();
    }

    /// The lost predeposit is still covered.
    function test_ProveProviderEquivocation_LeavesTheCoverOfThePredeposit() public {
        (uint256 id,) = _predeposited();
        (bool success,) = _report(1, dutySecret);
        assertTrue(success);
        assertGe(_pool(id).insurance, pools.PREDEPOSIT());
    }

    function test_ProveProviderEquivocation_AnOldDutyKeyConvictsToo() public {
        (uint256 id,) = _active();
        _rename(0xbeef);
        (bool success,) = _report(1, dutySecret);
        assertTrue(success);
        assertTrue(pools.isMigrationDue(id));
    }

    /// It names another duty key between the two requests, which changes nothing: both are its own.
    function test_ProveProviderEquivocation_AnotherDutyKeyForTheSecondIsNoWayOut() public {
        (uint256 id,) = _active();
        _rename(0xbeef);
        DutyRequest memory a = _request(1, 2, 320, ROOT);
        DutyRequest memory b = _request(1, 2, 320, ROOT2);
        bytes memory aSig = _sign(dutySecret, a);
        bytes memory bSig = _sign(0xbeef, b);
        // Whichever comes first; a third key in between makes both old ones.
        uint256 snapshot = vm.snapshotState();
        _convicts(id, a, aSig, b, bSig);
        vm.revertToState(snapshot);
        _convicts(id, b, bSig, a, aSig);
        vm.revertToState(snapshot);
        _rename(0xcafe);
        _convicts(id, a, aSig, b, bSig);

        // The same pair the other way round, and by the keys the other way round: all that is one assignment.
        _refuse(IMicropools.AlreadyPenalised.selector, b, bSig, a, aSig);
        _refuse(IMicropools.AlreadyPenalised.selector, a, _sign(0xbeef, a), b, _sign(dutySecret, b));
        assertEq(_pool(id).insurance, 1 ether);
        assertEq(pools.bountyOf(reporter), 0.1 ether);
    }

    /// Both keys must be the accused's, whichever of the two requests is whose.
    function test_ProveProviderEquivocation_TwoKeysOfTwoFrameNobody() public {
        (uint256 id,) = _active();
        DutyRequest memory a = _request(1, 3, 77, ROOT);
        DutyRequest memory b = _request(1, 3, 77, ROOT2);
        bytes memory good = _sign(dutySecret, a);
        // A stranger's key that nobody named, and one of another provider.
        _refuseKey(0xbad, a, good, b);
        uint256 other = _otherProvider();
        _refuseKey(other, a, good, b);
        // Nor does the accused's next key make the stranger's its own.
        _rename(0xbeef);
        _refuseKey(other, a, _sign(0xbeef, a), b);
        // A signature of the accused over one request is nobody's over the other.
        _refuse(IMicropools.NotDutyKey.selector, a, good, b, _sign(0xbeef, a));
        // Two keys, one duty.
        _refuse(ICourt.NoConflict.selector, a, good, a, _sign(0xbeef, a));
        assertEq(_pool(id).insurance, 2 ether);
        assertFalse(pools.isMigrationDue(id));
    }

    function _refuseKey(uint256 foreign, DutyRequest memory a, bytes memory good, DutyRequest memory b)
        private
    {
        bytes memory added = _sign(foreign, b);
        bytes memory reason =
            abi.encodeWithSelector(IMicropools.NotDutyKey.selector, vm.addr(foreign), provider);
        uint256 snapshot = vm.snapshotState();
        (bool success, bytes memory answer) = _call(a, good, b, added);
        assertFalse(success);
        assertEq(answer, reason);
        vm.revertToState(snapshot);
        (success, answer) = _call(b, added, a, good);
        assertFalse(success);
        assertEq(answer, reason);
        vm.revertToState(snapshot);
    }

    function _convicts(
        uint256 id,
        DutyRequest memory a,
        bytes memory aSig,
        DutyRequest memory b,
        bytes memory bSig
    ) private {
        _commit(a, b);
        bytes32 evidence = _evidence(a, b);
        address registry = address(d.keyRegistry);
        address[2] memory dutyKeys = [
            ECDSA.recover(requestDigest(registry, a), aSig), ECDSA.recover(requestDigest(registry, b), bSig)
        ];
        vm.expectEmit(address(d.court));
        emit ICourt.ProviderFaultProven(1, 1, dutyKeys, evidence, reporter, 1 ether, 0.1 ether);
        vm.prank(reporter);
        d.court.proveProviderEquivocation(a, aSig, b, bSig);
        assertEq(_pool(id).insurance, 1 ether);
        assertTrue(pools.isMigrationDue(id));
    }

    /// The provider names the key of this secret.
    function _rename(uint256 secret) private {
        bytes memory proof = _dutyKeyProof(secret, provider);
        skip(1);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(secret), proof);
    }

    /// Registers another provider; returns the secret of its duty key.
    function _otherProvider() private returns (uint256) {
        _registerProvider(makeAddr("other provider"));
        return uint256(keccak256(abi.encode("duty key", makeAddr("other provider")))) >> 1;
    }

    /// A redundant client whose gateway let the second request pass unsigned, a stranger, and another provider.
    function test_ProveProviderEquivocation_NobodyIsFramed() public {
        (uint256 id,) = _active();
        DutyRequest memory a = _request(1, 3, 77, ROOT);
        DutyRequest memory b = _request(1, 3, 77, ROOT2);
        bytes memory good = _sign(dutySecret, a);
        _refuse(IMicropools.NotDutyKey.selector, a, good, b, good);
        _refuse(ICourt.BadEvidenceSignature.selector, a, new bytes(65), b, new bytes(65));
        _refuse(ICourt.BadEvidenceSignature.selector, a, good, b, new bytes(65));
        _refuse(IMicropools.NotDutyKey.selector, a, _sign(0xbad, a), b, _sign(0xbad, b));
        uint256 other = _otherProvider();
        _refuse(IMicropools.NotDutyKey.selector, a, _sign(other, a), b, _sign(other, b));
        // Requests of the same duty again, of the next slot, of two assignments and of two keys.
        _refuse(ICourt.NoConflict.selector, a, good, a, good);
        b.slot = 78;
        _refuse(ICourt.NoConflict.selector, a, good, b, _sign(dutySecret, b));
        b = _request(1, 3, 77, ROOT2);
        b.assignment = 2;
        _refuse(ICourt.DifferentSubjects.selector, a, good, b, _sign(dutySecret, b));
        b = _request(2, 3, 77, ROOT2);
        _refuse(ICourt.DifferentSubjects.selector, a, good, b, _sign(dutySecret, b));
        // An assignment that never was.
        (a.assignment, b) = (2, _request(1, 3, 77, ROOT2));
        b.assignment = 2;
        _refuse(IMicropools.WrongAssignment.selector, a, _sign(dutySecret, a), b, _sign(dutySecret, b));
        assertEq(_pool(id).insurance, 2 ether);
        assertFalse(pools.isMigrationDue(id));
    }

    function test_ProveProviderEquivocation_NotBeforeThereIsAValidator() public {
        (uint256 id,) = _keyReady();
        (bool success, bytes memory answer) = _report(1, dutySecret);
        assertFalse(success);
        assertEq(answer, _revertState(id, PoolState.KeyReady));
    }

    function test_ProveProviderEquivocation_ADealtKeyHasNoProvider() public {
        DealtImport memory dealt = _deal(provider, 99);
        vm.prank(provider);
        uint256 keyId = d.keyRegistry.importDealt(dealt);
        (bool success, bytes memory answer) = _report(keyId, dutySecret);
        assertFalse(success);
        assertEq(answer, abi.encodeWithSelector(ICourt.NoProvider.selector, keyId));
    }

    function test_PenaliseProvider_IsTheCourtsAlone() public {
        _active();
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotCourt.selector, address(this)));
        pools.penaliseProvider(1, 1, _twice(vm.addr(dutySecret)), reporter);
    }

    function testFuzz_ProveProviderEquivocation_ExactlyForConflicts(
        uint8 first,
        uint8 second,
        bool blocks,
        bool same
    ) public {
        (uint256 id,) = _active();
        uint8 kind = blocks ? 3 : 2;
        DutyRequest memory a = _request(1, kind, 64 + first % 4 * 32, ROOT);
        DutyRequest memory b = _request(1, kind, 64 + second % 4 * 32, same ? ROOT : ROOT2);
        _commit(a, b);
        bytes memory data = abi.encodeCall(
            d.court.proveProviderEquivocation, (a, _sign(dutySecret, a), b, _sign(dutySecret, b))
        );
        vm.prank(reporter);
        (bool success,) = address(d.court).call(data);
        assertEq(success, !same && first % 4 == second % 4);
        assertEq(_pool(id).insurance, success ? 1 ether : 2 ether);
    }

    function testFuzz_PenaliseProvider_OnlyTheProvidersOwnKeyAndAssignment(
        uint256 keyId,
        uint64 number,
        address[2] memory dutyKeys,
        uint8 own,
        address who
    ) public {
        (uint256 id,) = _active();
        _rename(0xbeef);
        if (own & 1 != 0) dutyKeys[0] = vm.addr(0xbeef);
        if (own & 2 != 0) dutyKeys[1] = vm.addr(dutySecret);
        if (own & 4 != 0) (keyId, number) = (1, 1);
        bool right = keyId == 1 && number == 1 && own & 3 == 3;
        uint256 snapshot = vm.snapshotState();
        vm.prank(address(d.court));
        (bool success,) =
            address(pools).call(abi.encodeCall(pools.penaliseProvider, (keyId, number, dutyKeys, who)));
        assertEq(success, right);
        vm.revertToState(snapshot);
        vm.prank(address(d.court));
        pools.penaliseProvider(1, 1, _twice(vm.addr(dutySecret)), who);
        assertEq(pools.bountyOf(who), 0.1 ether);
        assertTrue(pools.isMigrationDue(id));
    }

    function testFuzz_Penalties_NoneOfAPoolThatIsNotThere(uint256 id, address who) public view {
        (uint64 assignment, uint128 claim) = pools.penalties(id);
        assertEq(assignment, 0);
        assertEq(claim, 0);
        assertFalse(pools.isMigrationDue(id));
        assertEq(pools.bountyOf(who), 0);
    }
}
