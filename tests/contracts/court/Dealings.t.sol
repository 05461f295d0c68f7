// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Dealing, DealingDefect, Fault, ICourt, Opening} from "../../../contracts/interfaces/ICourt.sol";
import {IServerRegistry} from "../../../contracts/interfaces/IServerRegistry.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {DealingFixture} from "./DealingFixture.sol";

/// @title Dealings that are not what they commit to, or are none
contract DealingsTest is DealingFixture {
    // ------------------------------------------------------------------------------------------------ bad shares

    function test_ProveBadDealing_SlashesAndLocksOut() public {
        Dealt memory d = honestDealing(1);
        d = withShare(d, 3, shareOf(d, 3) + 1);
        bytes32 evidence = dealingDigest(d.dealing);
        Opening memory o = opening(d, 3);
        commitAs(reporter, Fault.BadDealing, evidence);
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.BadDealing, serverAt(1), 1, 0, evidence, reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveBadDealing(d.dealing, d.signature, d.oneTimeKeys, o);
        assertSlashed(serverAt(1), 1);
    }

    function test_ProveBadDealing_AnHonestOneIsGoodForEveryMember() public {
        Dealt memory d = honestDealing(0);
        for (uint8 recipient = 1; recipient <= 4; ++recipient) {
            _refuseBad(
                d, opening(d, recipient), abi.encodeWithSelector(ICourt.GoodDealing.selector, recipient)
            );
        }
        // One bad share convicts by its own recipient only.
        d = withShare(d, 3, 5);
        _refuseBad(d, opening(d, 2), abi.encodeWithSelector(ICourt.GoodDealing.selector, uint8(2)));
        reportBad(d, opening(d, 3));
        assertSlashed(serverAt(0), 1);
    }

    /// 0, and every second encoding of a number below r.
    function test_ProveBadDealing_SharesOutOfRange() public {
        uint256 snapshot = vm.snapshotState();
        Dealt memory d = honestDealing(2);
        uint256 good = shareOf(d, 1);
        uint256[4] memory shares = [0, ThresholdKeys.R, type(uint256).max, good];
        for (uint256 i; i < shares.length; ++i) {
            uint256 share = i == 3 ? good + ThresholdKeys.R : shares[i];
            d = withShare(d, 1, share);
            reportBad(d, opening(d, 1));
            assertSlashed(serverAt(2), 1);
            vm.revertToState(snapshot);
        }
    }

    /// The dealing names whose keys it was made for, so a member cannot come with another.
    function test_ProveBadDealing_AMemberThatLiesAboutItsKeyFramesNobody() public {
        Dealt memory d = honestDealing(0);
        Opening memory o = opening(d, 2);
        // A second one-time key, which member 2 may even have signed.
        Dealt memory other = honestDealing(0);
        other.oneTimeKeys = bytes.concat(compressed(oneTimeSecret(1)), compressed(99));
        other.oneTimeKeys =
            bytes.concat(other.oneTimeKeys, compressed(oneTimeSecret(3)), compressed(oneTimeSecret(4)));
        other.secrets[1] = 99;
        bytes memory refusal = abi.encodeWithSelector(
            ICourt.WrongOneTimeKeys.selector, keccak256(other.oneTimeKeys), d.dealing.oneTimeKeysHash
        );
        _refuseBad(other, opening(other, 2), refusal);
        // The right key with another secret, with another's, with none.
        refusal = abi.encodeWithSelector(ICourt.WrongOpening.selector, uint8(2));
        uint256[5] memory secrets = [uint256(99), oneTimeSecret(3), 0, ORDER, type(uint256).max];
        for (uint256 i; i < secrets.length; ++i) {
            o.secret = secrets[i];
            _refuseBad(d, o, refusal);
        }
        // The negated secret gives the same x, the negated shared point, and noise.
        o = opening(d, 2);
        o.secret = ORDER - o.secret;
        o.y = MODULUS - o.y;
        _refuseBad(d, o, refusal);
        // Members that there are not.
        o = opening(d, 2);
        uint8[3] memory recipients = [0, 5, 255];
        for (uint256 i; i < recipients.length; ++i) {
            o.recipient = recipients[i];
            _refuseBad(d, o, abi.encodeWithSelector(ICourt.WrongOpening.selector, recipients[i]));
        }
    }

    /// Nobody can change what the dealer signed, the key that it dealt with least of all.
    function test_ProveBadDealing_WhatTheDealerDidNotSignIsNotItsOwn() public {
        Dealt memory honest_ = honestDealing(0);
        bytes memory signature = honest_.signature;
        for (uint256 i; i < 6; ++i) {
            Dealt memory d = honestDealing(0);
            if (i == 0) d.dealing.oneTimeKey = compressed(99);
            if (i == 1) d.dealing.keyId = 2;
            if (i == 2) d.dealing.attempt = 1;
            if (i == 3) d.dealing.index = 2;
            if (i == 4) d.dealing.shares[0] ^= 0x01;
            if (i == 5) d.dealing.commitments[127] ^= 0x01;
            d.signature = signature;
            _refuseBad(d, opening(d, 2), selector(ICourt.NoServer.selector));
            // Signed by who says it: whoever that is, it is no server.
            d.signature = sign(0xbad, dealingDigest(d.dealing));
            _refuseBad(d, opening(d, 2), selector(ICourt.NoServer.selector));
        }
        Dealt memory bad = withShare(honestDealing(0), 2, 1);
        bad.signature = new bytes(65);
        _refuseBad(bad, opening(bad, 2), selector(ICourt.BadEvidenceSignature.selector));
    }

    /// Another chain, or another registry, is another digest.
    function test_ProveBadDealing_NotOfAnotherChain() public {
        Dealt memory d = withShare(honestDealing(0), 2, 1);
        Opening memory o = opening(d, 2);
        vm.chainId(5);
        _refuseBad(d, o, selector(ICourt.NoServer.selector));
    }

    /// A key that opens nothing convicts by itself.
    function test_ProveBadDealing_AnUnusableKeyIsMalformed() public {
        bytes[4] memory unusable = [
            abi.encodePacked(bytes1(0x02), ORDER),
            abi.encodePacked(bytes1(0x02), uint256(5)),
            bytes(""),
            new bytes(34)
        ];
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < unusable.length; ++i) {
            Dealt memory d = honestDealing(0);
            d.dealing.oneTimeKey = unusable[i];
            sealDealing(d);
            _refuseBad(d, opening(d, 2), selector(ICourt.UnusableOneTimeKey.selector));
            reportMalformed(d, DealingDefect.OneTimeKey, 0);
            assertSlashed(serverAt(0), 1);
            vm.revertToState(snapshot);
        }
    }

    /// A commitment that is no point makes the sum inconclusive; it convicts by itself.
    function test_ProveBadDealing_WhatIsNoPointIsInconclusive() public {
        Dealt memory d = honestDealing(0);
        d.dealing.commitments[200] ^= 0x01;
        sealDealing(d);
        _refuseBad(d, opening(d, 2), selector(ICourt.Inconclusive.selector));
        reportMalformed(d, DealingDefect.Commitment, 1);
        assertSlashed(serverAt(0), 1);
    }

    /// An upheld complaint ends the ceremony: the committee cannot finalise with the dealer in it.
    function test_ProveBadDealing_AbortsTheCeremony() public {
        Ceremony memory c = requestAndDraw(3, 4, keccak256("another draw"));
        runDkg(c, 3);
        Dealt memory d = honestDealing(c.keyId, c.committee[2], 3, 3, 4, 11);
        d = withShare(d, 1, 77);
        reportBad(d, opening(d, 1));
        vm.expectRevert(abi.encodeWithSelector(IServerRegistry.LockedOut.selector, c.committee[2]));
        finalise(c);
    }

    /// Once for a key, and not again after a reinstatement.
    function test_ProveBadDealing_Once() public {
        Dealt memory d = withShare(honestDealing(0), 2, 1);
        reportBad(d, opening(d, 2));
        reportBad(d, opening(d, 2));
        assertSlashed(serverAt(0), 1);
        servers.reinstate(serverAt(0), "found and fixed");
        reportBad(d, opening(d, 2));
        assertTrue(servers.isActive(serverAt(0)));
    }

    function test_ProveBadDealing_OldSignersAnswerToo() public {
        Dealt memory d = withShare(honestDealing(0), 2, 1);
        address operator = servers.server(serverAt(0)).operator;
        bytes memory proof = signerProof(0xbeef, operator);
        vm.prank(operator);
        servers.setSigner(serverAt(0), vm.addr(0xbeef), proof);
        reportBad(d, opening(d, 2));
        assertSlashed(serverAt(0), 1);
    }

    function testFuzz_ProveBadDealing_ExactlyTheWrongShares(
        uint8 recipient,
        uint8 position,
        uint256 share,
        bool honest_,
        uint256 seed
    ) public {
        recipient = recipient % 4 + 1;
        position %= 4;
        Dealt memory d = honestDealing(1, serverAt(position), position + 1, 3, 4, seed);
        Opening memory o = opening(d, recipient);
        vm.assume(share != shareOf(d, recipient));
        if (honest_) {
            return _refuseBad(d, o, abi.encodeWithSelector(ICourt.GoodDealing.selector, recipient));
        }
        d = withShare(d, recipient, share);
        commitAs(reporter, Fault.BadDealing, dealingDigest(d.dealing));
        vm.prank(reporter);
        court.proveBadDealing(d.dealing, d.signature, d.oneTimeKeys, o);
        assertSlashed(serverAt(position), 1);
    }

    // ------------------------------------------------------------------------------------------------- malformed

    function test_ProveMalformedDealing_SlashesAndLocksOut() public {
        Dealt memory d = honestDealing(3);
        d.dealing.commitments = bytes.concat(d.dealing.commitments, ThresholdKeys.publicKey(5));
        sealDealing(d);
        bytes32 evidence = dealingDigest(d.dealing);
        commitAs(reporter, Fault.MalformedDealing, evidence);
        vm.expectEmit(address(court));
        emit ICourt.FaultProven(
            Fault.MalformedDealing, serverAt(3), 1, 0, evidence, reporter, SEAT_BOND, SEAT_BOND / 10
        );
        vm.prank(reporter);
        court.proveMalformedDealing(d.dealing, d.signature, "", DealingDefect.Shape, 0);
        assertSlashed(serverAt(3), 1);
    }

    function test_ProveMalformedDealing_AnHonestOneHasNoDefect() public {
        for (uint8 position; position < 4; ++position) {
            _refuseMalformed(honestDealing(position), position);
        }
    }

    function _refuseMalformed(Dealt memory d, uint8 position) private {
        for (uint8 i; i < 4; ++i) {
            DealingDefect defect = DealingDefect(i);
            bytes memory refusal = abi.encodeWithSelector(ICourt.NotMalformed.selector, defect);
            bytes memory call_ = malformedCall(d, defect, i == 2 ? position : 0);
            refuse(Fault.MalformedDealing, dealingDigest(d.dealing), call_, refusal);
        }
    }

    function test_ProveMalformedDealing_EveryShape() public {
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 8; ++i) {
            Dealt memory d = honestDealing(0);
            Dealing memory it = d.dealing;
            if (i == 0) it.index = 0;
            if (i == 1) it.index = 5;
            if (i == 2) it.commitments = ThresholdKeys.publicKey(5);
            if (i == 3) it.commitments = "";
            if (i == 4) it.shares = bytes.concat(it.shares, bytes32(uint256(1)));
            if (i == 5) it.shares = "";
            if (i == 6) it.oneTimeKey = "";
            if (i == 7) it.oneTimeKey = bytes.concat(it.oneTimeKey, hex"00");
            sealDealing(d);
            reportMalformed(d, DealingDefect.Shape, 0);
            assertSlashed(serverAt(0), 1);
            vm.revertToState(snapshot);
        }
    }

    /// Another key than its own among those it encrypted to; a prefix that no key has; not n keys.
    function test_ProveMalformedDealing_OfItsOneTimeKey() public {
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 4; ++i) {
            Dealt memory d = honestDealing(0);
            if (i == 0) d.dealing.oneTimeKey = compressed(99);
            if (i == 1) (d.dealing.oneTimeKey[0], d.oneTimeKeys[0]) = (bytes1(0x04), bytes1(0x04));
            if (i == 2) d.oneTimeKeys = bytes.concat(d.oneTimeKeys, compressed(99));
            if (i == 3) d.oneTimeKeys = compressed(d.secrets[0]);
            d.dealing.oneTimeKeysHash = keccak256(d.oneTimeKeys);
            sealDealing(d);
            reportMalformed(d, DealingDefect.OneTimeKey, 0);
            assertSlashed(serverAt(0), 1);
            vm.revertToState(snapshot);
        }
        // Keys that the dealer did not encrypt to say nothing.
        Dealt memory honest_ = honestDealing(0);
        honest_.oneTimeKeys = bytes.concat(honest_.oneTimeKeys, compressed(99));
        refuse(
            Fault.MalformedDealing,
            dealingDigest(honest_.dealing),
            malformedCall(honest_, DealingDefect.OneTimeKey, 0),
            selector(ICourt.WrongOneTimeKeys.selector)
        );
    }

    function test_ProveMalformedDealing_OfACommitment() public {
        uint256 snapshot = vm.snapshotState();
        bytes memory outside =
            vm.parseJsonBytes(vm.readFile("tests/contracts/fixtures/bls.json"), ".g1OutsideSubgroup");
        for (uint8 position; position < 3; ++position) {
            bytes[3] memory points =
                [new bytes(128), outside, bytes.concat(bytes32(type(uint256).max), new bytes(96))];
            for (uint256 i; i < 3; ++i) {
                Dealt memory d = honestDealing(0);
                for (uint256 k; k < 128; ++k) {
                    d.dealing.commitments[128 * uint256(position) + k] = points[i][k];
                }
                sealDealing(d);
                reportMalformed(d, DealingDefect.Commitment, position);
                assertSlashed(serverAt(0), 1);
                vm.revertToState(snapshot);
            }
        }
        // There is no such commitment.
        Dealt memory honest_ = honestDealing(0);
        bytes memory refusal = abi.encodeWithSelector(ICourt.NotMalformed.selector, DealingDefect.Commitment);
        bytes memory call_ = malformedCall(honest_, DealingDefect.Commitment, 3);
        refuse(Fault.MalformedDealing, dealingDigest(honest_.dealing), call_, refusal);
    }

    /// By another secret, of another ceremony or dealer, a plain signature, infinity, no point.
    function test_ProveMalformedDealing_OfItsPossession() public {
        uint256 snapshot = vm.snapshotState();
        for (uint256 i; i < 9; ++i) {
            Dealt memory d = honestDealing(0);
            Dealing memory it = d.dealing;
            uint256 constant_ = ThresholdKeys.generate(7, 3, 4).coefficients[0];
            if (i == 0) d.proof = possession(it, 5);
            if (i == 1) d.proof = honestDealing(1).proof;
            if (i == 2) it.attempt = 1;
            if (i == 3) d.proof = ThresholdKeys.sign(constant_, possessionMessage(it));
            if (i == 4) d.proof = new bytes(256);
            if (i == 5) d.proof[255] ^= 0x01;
            if (i == 6) it.commitments[127] ^= 0x01;
            if (i == 7) d.proof = "";
            if (i == 8) d.proof = bytes.concat(d.proof, hex"00");
            it.possessionHash = keccak256(d.proof);
            sealDealing(d);
            reportMalformed(d, DealingDefect.Possession, 0);
            assertSlashed(serverAt(0), 1);
            vm.revertToState(snapshot);
        }
    }

    /// Another proof than the one that the dealer signed says nothing.
    function test_ProveMalformedDealing_NotByAnotherProof() public {
        Dealt memory d = honestDealing(0);
        d.proof = possession(d.dealing, 5);
        bytes memory refusal = abi.encodeWithSelector(
            ICourt.WrongPossession.selector, keccak256(d.proof), d.dealing.possessionHash
        );
        bytes memory call_ = malformedCall(d, DealingDefect.Possession, 0);
        refuse(Fault.MalformedDealing, dealingDigest(d.dealing), call_, refusal);
    }

    /// What was signed for a key that a reorganisation took away has no committee to be held against.
    function test_ProveMalformedDealing_OfAKeyThatIsNotThere() public {
        Dealt memory d = honestDealing(9, serverAt(0), 1, 3, 4, 7);
        bytes memory refusal = abi.encodeWithSelector(ICourt.UnknownKey.selector, 9);
        for (uint8 i; i < 4; ++i) {
            bytes memory call_ = malformedCall(d, DealingDefect(i), 0);
            refuse(Fault.MalformedDealing, dealingDigest(d.dealing), call_, refusal);
        }
    }

    /// Where EIP-2537 fails for everybody, or costs more than today, nobody is guilty of it.
    function test_ProveMalformedDealing_InconclusiveWithoutThePrecompiles() public {
        Dealt memory d = honestDealing(0);
        bytes memory refusal = selector(ICourt.Inconclusive.selector);
        bytes32 evidence = dealingDigest(d.dealing);
        vm.mockCallRevert(address(0x0c), bytes(""), bytes(""));
        refuse(Fault.MalformedDealing, evidence, malformedCall(d, DealingDefect.Commitment, 0), refusal);
        _refuseBad(d, opening(d, 2), refusal);
        vm.clearMockedCalls();
        vm.mockCallRevert(address(0x0f), bytes(""), bytes(""));
        refuse(Fault.MalformedDealing, evidence, malformedCall(d, DealingDefect.Possession, 0), refusal);
        vm.clearMockedCalls();
    }

    function testFuzz_ProveMalformedDealing_ExactlyTheChangedOnes(
        uint8 defect,
        uint8 position,
        uint16 where,
        bytes1 flip,
        uint256 seed
    ) public {
        position %= 4;
        defect = defect % 3 + 1;
        Dealt memory d = honestDealing(1, serverAt(position), position + 1, 3, 4, seed);
        _refuseMalformed(d, position % 3);
        vm.assume(flip != 0);
        if (defect == 1) {
            d.dealing.oneTimeKey[where % 33] ^= flip;
        } else if (defect == 2) {
            d.dealing.commitments[where % 384] ^= flip;
        } else {
            d.proof[where % 256] ^= flip;
            d.dealing.possessionHash = keccak256(d.proof);
        }
        sealDealing(d);
        uint8 point = defect == 2 ? uint8(where % 384 / 128) : 0;
        commitAs(reporter, Fault.MalformedDealing, dealingDigest(d.dealing));
        bytes memory hashed = hashedOf(d, DealingDefect(defect));
        vm.prank(reporter);
        court.proveMalformedDealing(d.dealing, d.signature, hashed, DealingDefect(defect), point);
        assertSlashed(serverAt(position), 1);
    }

    function _refuseBad(Dealt memory d, Opening memory o, bytes memory refusal) private {
        refuse(Fault.BadDealing, dealingDigest(d.dealing), badCall(d, o), refusal);
    }
}
