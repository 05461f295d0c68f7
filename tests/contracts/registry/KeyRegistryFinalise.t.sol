// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyRegistry, Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IServerRegistry, ServerStatus} from "../../../contracts/interfaces/IServerRegistry.sol";
import {RegistryFixture} from "../utils/RegistryFixture.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";

/// @notice Finalising a key: what passes, and every way in which a committee could try to pass something else.
contract KeyRegistryFinaliseTest is RegistryFixture {
    uint256 private constant R = ThresholdKeys.R;
    uint256 private constant SECP256K1_N = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;

    function setUp() public {
        deployRegistries();
        addServers(6);
    }

    // -------------------------------------------------------------------------------------------------- good

    function test_Finalise_MakesTheKeyLive() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        bytes32[] memory leaves = new bytes32[](4);
        for (uint256 i; i < 4; ++i) {
            leaves[i] = shareLeaf(c, i);
        }
        (bytes32 root,) = merkle(leaves, 0);

        vm.expectEmit(address(keys));
        emit IKeyRegistry.KeyFinalised(
            c.keyId, 0, c.committee, c.signers, c.keySet.points, c.dealingsDigest, root
        );
        vm.prank(makeAddr("anyone"));
        finalise(c);

        Key memory key = keys.key(c.keyId);
        assertEq(uint8(key.state), uint8(KeyState.Live));
        assertEq(key.mark, block.timestamp);
        assertEq(key.commitment, root);
        assertEq(keys.keyOfGroupKey(keccak256(c.keySet.groupKey)), c.keyId);
        for (uint256 i; i < 4; ++i) {
            assertEq(servers.server(c.committee[i]).seats, 1);
        }
    }

    function testFuzz_Finalise_TakesEveryHonestKey(uint256 seed, uint8 threshold, uint8 members) public {
        members = uint8(bound(members, 4, 16));
        threshold = uint8(bound(threshold, (members + 3) / 2, members - 1));
        addServers(10);
        Ceremony memory c = requestAndDraw(threshold, members, bytes32(seed));
        runDkg(c, seed);
        finalise(c);

        bytes32[] memory leaves = new bytes32[](members);
        for (uint256 i; i < members; ++i) {
            leaves[i] = shareLeaf(c, i);
        }
        for (uint256 i; i < members; ++i) {
            (, bytes32[] memory proof) = merkle(leaves, i);
            assertTrue(keys.isShareLeaf(c.keyId, 0, leaves[i], proof));
            assertFalse(keys.isShareLeaf(c.keyId, 0, keccak256(abi.encode(leaves[i])), proof));
        }
        assertFalse(
            keys.isShareLeaf(c.keyId, 0, keys.key(c.keyId).commitment, new bytes32[](0)), "root as leaf"
        );
    }

    function test_Finalise_AfterARestartNeedsAcknowledgementsOfTheNewAttempt() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        vm.warp(keys.key(c.keyId).mark + 1);
        keys.restart(c.keyId, c.committee, 0);

        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        finalise(c);

        c.acknowledgements = acknowledge(c);
        finalise(c);
        assertEq(keys.key(c.keyId).attempt, 1);
    }

    // ---------------------------------------------------------------------------------------- one polynomial

    function test_Finalise_RefusesAPolynomialOfDegreeT() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        // Four coefficients: four shares are needed to sign, although the chain was asked for three.
        uint256[] memory coefficients = new uint256[](4);
        for (uint256 i; i < 4; ++i) {
            coefficients[i] = uint256(keccak256(abi.encode(i)));
        }
        coefficients[3] %= R;
        _refusePoints(
            c,
            ThresholdKeys.fromPolynomial(coefficients, 3, 4),
            abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3)
        );
    }

    function test_Finalise_RefusesOneForeignShareKey() public {
        for (uint256 i; i < 4; ++i) {
            uint256 state = vm.snapshotState();
            Ceremony memory c = requestAndDraw(3, 4, "randao");
            ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
            keySet.shareKeys[i] = ThresholdKeys.publicKey(12_345);
            _rejoin(keySet);
            _refusePoints(
                c, keySet, abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3)
            );
            vm.revertToState(state);
        }
    }

    function test_Finalise_RefusesAGroupKeyThatDoesNotBelong() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        keySet.groupKey = ThresholdKeys.publicKey(keySet.coefficients[0] + 1);
        _rejoin(keySet);
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3));
    }

    function test_Finalise_RefusesShareKeysInAnotherOrder() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        (keySet.shareKeys[0], keySet.shareKeys[1]) = (keySet.shareKeys[1], keySet.shareKeys[0]);
        _rejoin(keySet);
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.NotOnePolynomial.selector, c.keyId, 3));
    }

    // ------------------------------------------------------------------------------------------------ points

    function test_Finalise_RefusesInfinityAnywhere() public {
        for (uint256 i; i < 5; ++i) {
            uint256 state = vm.snapshotState();
            Ceremony memory c = requestAndDraw(3, 4, "randao");
            ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
            if (i < 4) keySet.shareKeys[i] = new bytes(128);
            else keySet.groupKey = new bytes(128);
            _rejoin(keySet);
            _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, i));
            vm.revertToState(state);
        }
    }

    function test_Finalise_RefusesTheZeroPolynomial() public {
        // All points infinity: on one polynomial, and SCRAPE alone would pass it.
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.fromPolynomial(new uint256[](3), 3, 4);
        assertEq(keySet.points, new bytes(5 * 128));
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 0));
    }

    function test_Finalise_RefusesASharePolynomialWithAnInfiniteGroupKey() public {
        // f(0) = 0: the group key is infinity and everything is on one polynomial.
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint256[] memory coefficients = new uint256[](3);
        (coefficients[1], coefficients[2]) = (5, 7);
        _refusePoints(
            c,
            ThresholdKeys.fromPolynomial(coefficients, 3, 4),
            abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 4)
        );
    }

    function test_Finalise_RefusesDuplicateShareKeys() public {
        // f(x) = (x - 1)(x - 2) + 9: f(1) = f(2), on one polynomial of degree 2.
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint256[] memory coefficients = new uint256[](3);
        (coefficients[0], coefficients[1], coefficients[2]) = (11, R - 3, 1);
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.fromPolynomial(coefficients, 3, 4);
        assertEq(keySet.shareKeys[0], keySet.shareKeys[1]);
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 1));
    }

    function test_Finalise_RefusesAMemberThatHoldsTheGroupSecret() public {
        // f(x) = x (x - 3) (x - 20) + 9: f(3) = f(0), so member 3 could sign alone. No other values coincide.
        Ceremony memory c = requestAndDraw(4, 6, "randao");
        uint256[] memory coefficients = new uint256[](4);
        (coefficients[0], coefficients[1], coefficients[2], coefficients[3]) = (9, 60, R - 23, 1);
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.fromPolynomial(coefficients, 4, 6);
        assertEq(keySet.shareKeys[2], keySet.groupKey);
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 6));
    }

    function test_Finalise_RefusesShareKeysThatAreNegationsOfEachOther() public {
        // f(x) = 2x - 3 + 5 (x - 1) (x - 2): f(1) = -1, f(2) = 1, so two members hold one secret.
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        uint256[] memory coefficients = new uint256[](3);
        (coefficients[0], coefficients[1], coefficients[2]) = (7, R - 13, 5);
        _refusePoints(
            c,
            ThresholdKeys.fromPolynomial(coefficients, 3, 4),
            abi.encodeWithSelector(IKeyRegistry.BadPoint.selector, 1)
        );
    }

    function test_Finalise_RefusesPointsOffTheCurve() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        keySet.points[63] ^= 0x01;
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.InvalidPoint.selector, c.keyId));
    }

    function test_Finalise_RefusesPointsOutsideTheSubgroup() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        bytes memory outside =
            vm.parseJsonBytes(vm.readFile("tests/contracts/fixtures/bls.json"), ".g1OutsideSubgroup");
        // On the curve all the same: G1ADD, which checks no subgroup, takes it.
        keySet.shareKeys[2] = ThresholdKeys.addG1(keySet.shareKeys[2], outside);
        _rejoin(keySet);
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.InvalidPoint.selector, c.keyId));
    }

    function test_Finalise_RefusesCoordinatesNotBelowTheModulus() public {
        // x = p encodes the residue 0 a second time.
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        ThresholdKeys.KeySet memory keySet = ThresholdKeys.generate(1, 3, 4);
        bytes memory modulus = bytes.concat(
            hex"000000000000000000000000000000001a0111ea397fe69a4b1ba7b6434bacd7",
            hex"64774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
        );
        for (uint256 i; i < 64; ++i) {
            keySet.points[i] = modulus[i];
        }
        _refusePoints(c, keySet, abi.encodeWithSelector(IKeyRegistry.InvalidPoint.selector, c.keyId));
    }

    function test_Finalise_RefusesAGroupKeyUsedAlready() public {
        Ceremony memory first = makeKey(3, 4, 1);
        Ceremony memory second = requestAndDraw(3, 4, "other");
        _refusePoints(
            second, first.keySet, abi.encodeWithSelector(IKeyRegistry.GroupKeyTaken.selector, first.keyId)
        );
        // Also after the first was given up: for ever.
        consumer.retire(first.keyId, false);
        _refusePoints(
            second, first.keySet, abi.encodeWithSelector(IKeyRegistry.GroupKeyTaken.selector, first.keyId)
        );
    }

    function test_Finalise_BadPointsBurnABoundedAmountOfGas() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        c.keySet.points[63] ^= 0x01;
        c.acknowledgements = acknowledge(c);
        uint256 before = gasleft();
        try keys.finalise(c.keyId, c.committee, c.keySet.points, c.dealingsDigest, c.acknowledgements) {
            fail();
        } catch {}
        assertLt(before - gasleft(), 300_000);
    }

    // ---------------------------------------------------------------------------------------- acknowledgements

    function test_Finalise_RefusesAcknowledgementsOfDifferentTranscripts() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        // Member 3 was shown other dealings.
        Ceremony memory other = c;
        bytes32 digest = c.dealingsDigest;
        other.dealingsDigest = keccak256("other dealings");
        bytes memory deviating = sign(signerSecret[c.committee[2]], acknowledgementDigest(other));
        c.dealingsDigest = digest;
        _replaceAcknowledgement(c, 2, deviating);

        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        finalise(c);
    }

    function test_Finalise_RefusesASignatureOfAnotherServer() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        bytes32 digest = acknowledgementDigest(c);
        uint256 impostor = signerSecret[c.committee[0]];
        _replaceAcknowledgement(c, 1, sign(impostor, digest));

        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.BadAcknowledgement.selector, 2, vm.addr(impostor), c.signers[1]
            )
        );
        finalise(c);
    }

    function test_Finalise_RefusesHighS() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signerSecret[c.committee[3]], acknowledgementDigest(c));
        // The other signature of the same signer over the same digest: ecrecover itself would take it.
        bytes32 highS = bytes32(SECP256K1_N - uint256(s));
        assertEq(ecrecover(acknowledgementDigest(c), 55 - v, r, highS), c.signers[3]);
        _replaceAcknowledgement(c, 3, abi.encodePacked(r, highS, 55 - v));

        vm.expectRevert(
            abi.encodeWithSelector(IKeyRegistry.BadAcknowledgement.selector, 4, address(0), c.signers[3])
        );
        finalise(c);
    }

    function testFuzz_Finalise_RefusesAFlippedBitInAnAcknowledgement(uint256 bit) public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        bit = bound(bit, 0, 4 * 65 * 8 - 1);
        c.acknowledgements[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        finalise(c);
    }

    function test_Finalise_RefusesAcknowledgementsForAnotherChainRegistryOrThreshold() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        uint256 chainId = block.chainid;
        vm.chainId(chainId + 1);
        c.acknowledgements = acknowledge(c);
        vm.chainId(chainId);
        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        finalise(c);

        c.threshold = 2;
        c.acknowledgements = acknowledge(c);
        c.threshold = 3;
        vm.expectPartialRevert(IKeyRegistry.BadAcknowledgement.selector);
        finalise(c);
    }

    function testFuzz_Finalise_RefusesWrongLengths(uint256 pointsLength, uint256 signaturesLength) public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        pointsLength = bound(pointsLength, 0, 1_000);
        signaturesLength = bound(signaturesLength, 0, 500);
        vm.assume(pointsLength != 640 && signaturesLength != 260);
        bytes memory good = c.keySet.points;

        c.keySet.points = new bytes(pointsLength);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadLength.selector, pointsLength, 640));
        finalise(c);

        c.keySet.points = good;
        c.acknowledgements = new bytes(signaturesLength);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadLength.selector, signaturesLength, 260));
        finalise(c);
    }

    // ----------------------------------------------------------------------------------- committee and state

    function test_Finalise_RefusesAnotherCommittee() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        bytes32 committed = keccak256(abi.encode(c.committee));
        (c.committee[0], c.committee[1]) = (c.committee[1], c.committee[0]);
        c.signers = servers.activeSigners(c.committee);
        c.acknowledgements = acknowledge(c);
        vm.expectRevert(
            abi.encodeWithSelector(
                IKeyRegistry.WrongCommitment.selector, keccak256(abi.encode(c.committee)), committed
            )
        );
        finalise(c);
    }

    function test_Finalise_RefusesACommitteeWithASuspendedMember() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        servers.suspend(c.committee[2], "under investigation");
        vm.expectRevert(
            abi.encodeWithSelector(
                IServerRegistry.MemberNotActive.selector, c.committee[2], ServerStatus.Suspended
            )
        );
        finalise(c);
    }

    function test_Finalise_OnlyUntilTheDeadline() public {
        Ceremony memory c = requestAndDraw(3, 4, "randao");
        runDkg(c, 1);
        uint48 deadline = keys.key(c.keyId).mark;
        assertEq(deadline, block.timestamp + CEREMONY_WINDOW);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.CeremonyExpired.selector, c.keyId, deadline));
        finalise(c);
        vm.warp(deadline);
        finalise(c);
    }

    function test_Finalise_OnlyOnceAndOnlyWhenDrawn() public {
        Ceremony memory c = request(3, 4);
        c.committee = ids(1, 2, 3, 4);
        c.signers = servers.activeSigners(c.committee);
        runDkg(c, 1);
        _expectState(c.keyId, KeyState.Requested);
        finalise(c);

        reachSeed(c, "randao");
        draw(c);
        c.acknowledgements = acknowledge(c);
        finalise(c);
        _expectState(c.keyId, KeyState.Live);
        finalise(c);

        c.keyId = 99;
        _expectState(99, KeyState.None);
        finalise(c);
    }

    // ---------------------------------------------------------------------------------------------- internal

    function _refusePoints(Ceremony memory c, ThresholdKeys.KeySet memory keySet, bytes memory reason)
        private
    {
        c.keySet = keySet;
        c.acknowledgements = acknowledge(c);
        vm.expectRevert(reason);
        finalise(c);
    }

    function _rejoin(ThresholdKeys.KeySet memory keySet) private pure {
        keySet.points = "";
        for (uint256 i; i < keySet.members; ++i) {
            keySet.points = bytes.concat(keySet.points, keySet.shareKeys[i]);
        }
        keySet.points = bytes.concat(keySet.points, keySet.groupKey);
    }

    function _replaceAcknowledgement(Ceremony memory c, uint256 position, bytes memory signature)
        private
        pure
    {
        for (uint256 i; i < 65; ++i) {
            c.acknowledgements[65 * position + i] = signature[i];
        }
    }

    function _expectState(uint256 keyId, KeyState state) private {
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.WrongKeyState.selector, keyId, state));
    }
}
