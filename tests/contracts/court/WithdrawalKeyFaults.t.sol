// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Fault, ICourt} from "../../../contracts/interfaces/ICourt.sol";
import {ServerKind} from "../../../contracts/interfaces/IServerRegistry.sol";
import {CourtFixture} from "./CourtFixture.sol";

/// @title What the Court says of members of a withdrawal key
/// @dev 3-of-4: two online members and two offline ones. Key 1 is a validator key.
contract WithdrawalKeyFaultsTest is CourtFixture {
    bytes32 private constant ROOT2 = keccak256("another duty");
    Ceremony private c;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 3; ++i) {
            servers.approve(registerServer(operatorOf(servers.serverCount()), ServerKind.Offline, 10 ether));
        }
        Ceremony memory it;
        (it.threshold, it.members) = (3, 4);
        it.activeSet =
            bytes.concat(servers.activeSet(ServerKind.Online), servers.activeSet(ServerKind.Offline));
        it.keyId = consumer.requestWithdrawal(3, 4);
        reachSeed(it, "randao");
        draw(it);
        runDkg(it, 7);
        finalise(it);
        c.keyId = it.keyId;
        (c.members, c.committee, c.signers, c.keySet) = (it.members, it.committee, it.signers, it.keySet);
    }

    function _answer(uint256 position, uint8 kind, bytes32 root) private view returns (Answer memory a) {
        a = honest(c, position, root);
        a.envelope.dutyKind = kind;
        (a.envelope.slot, a.envelope.sourceEpoch, a.envelope.targetEpoch) = (0, 0, 0);
        seal(a);
    }

    function _refuseAuthorised(Answer memory a) private {
        bytes memory refusal = abi.encodeWithSelector(
            ICourt.Authorised.selector, a.envelope.keyId, a.envelope.dutyKind, a.envelope.signingRoot
        );
        refuse(Fault.UnauthorisedSignature, evidenceOf(a), unauthorisedCall(a), refusal);
    }

    function test_ProveUnauthorisedSignature_AnOrderedChangeIsNoFaultAndAnyOtherIs() public {
        consumer.order(c.keyId, ROOT);
        for (uint256 i; i < 4; ++i) {
            _refuseAuthorised(_answer(i, CREDENTIALS, ROOT));
        }
        // What was ordered of another key is not ordered of this one.
        consumer.order(1, ROOT2);
        reportUnauthorised(_answer(0, CREDENTIALS, ROOT2));
        assertSlashed(c.committee[0], 1);
    }

    /// A withdrawal key has no duties: a change that calls itself an attestation is a fault all the same.
    function testFuzz_ProveUnauthorisedSignature_NoOtherNameHidesAChange(uint8 kind, uint8 member) public {
        member = member % 4;
        consumer.order(c.keyId, ROOT);
        _refuseAuthorised(_answer(member, kind, ROOT));
        reportUnauthorised(_answer(member, kind, ROOT2));
        assertSlashed(c.committee[member], 1);
    }

    function test_ChallengeSignature_GivesAnOfflineServerAWeek() public {
        consumer.order(c.keyId, ROOT);
        address challenger = makeAddr("challenger");
        uint256 fee = court.answerFee();
        assertEq(court.OFFLINE_CHALLENGE_BLOCKS(), 7 * court.CHALLENGE_BLOCKS());
        for (uint8 i; i < 4; ++i) {
            vm.deal(challenger, fee);
            vm.prank(challenger);
            court.challengeSignature{value: fee}(c.keyId, i + 1, ROOT, c.signers[i], holderOf(c, i));
            bool online = servers.server(c.committee[i]).kind == ServerKind.Online;
            uint256 blocks = online ? 7_200 : 50_400;
            assertEq(court.challenge(c.keyId, i + 1, ROOT).deadline, block.number + blocks);
        }
    }

    function test_AnswerSignature_WithTheChangeThatWasOrdered() public {
        consumer.order(c.keyId, ROOT);
        uint256 fee = court.answerFee();
        vm.deal(address(this), fee);
        court.challengeSignature{value: fee}(c.keyId, 2, ROOT, c.signers[1], holderOf(c, 1));
        Answer memory a = _answer(1, CREDENTIALS, ROOT);
        court.answerSignature(a.envelope, a.signature, a.partial_);
        assertEq(court.challenge(c.keyId, 2, ROOT).challenger, address(0));
    }
}
