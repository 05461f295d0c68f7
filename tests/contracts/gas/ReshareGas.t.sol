// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Committee, Draft} from "../../../contracts/interfaces/IResharing.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";
import {Snapshots} from "./Snapshots.sol";

/// @title Gas of resharing, as whole transactions
contract ReshareGasTest is ReshareFixture, Snapshots {
    string private constant GROUP = "Resharing";

    function setUp() public {
        _requireProfile();
        deployResharing();
        addServers(20);
    }

    function test_Resharing() public {
        // The first key pays for slots that later ones find filled.
        makeKey(3, 4, 1);
        _assertBudget(_life(3, 4, "3-of-4"), 330_000, "finalise 3-of-4");
        _assertBudget(_life(7, 10, "7-of-10"), 470_000, "finalise 7-of-10");
        _life(11, 16, "11-of-16");
        _views();
        _assertComplete(GROUP);
    }

    /// A member is voted silent and reshared away, the key moves once more, its seats come free.
    function _life(uint8 t, uint8 n, string memory variant) private returns (uint256 finalisation) {
        Ceremony memory c = makeKey(t, n, 100 + n);
        Committee memory serving = committeeOf(c);
        uint32 silent = c.committee[1];
        uint48 until = uint48(vm.getBlockTimestamp() + 3 days);
        bytes memory all = votes(c.keyId, serving, silent, until, (1 << t) - 1);
        resharing.voteSilent(c.keyId, serving, silent, until, all);
        _snap(GROUP, "voteSilent", variant);
        Move memory m;
        (m.keyId, m.serving) = (c.keyId, serving);
        vm.recordLogs();
        resharing.request(c.keyId, serving, t, n);
        _snap(GROUP, "request", variant);
        readRequest(m);
        _again(m, variant);
        dealMove(m, c.keySet.coefficients[0], n);
        resharing.finalise(m.keyId, m.draft, m.made.points, m.dealingsDigest, m.acknowledgements);
        finalisation = _snap(GROUP, "finalise", variant);
        vm.warp(uint256(resharing.committee(c.keyId, 1).handover) + EVIDENCE_WINDOW);
        resharing.freePastSeats(c.keyId, 1, serving, m.made);
        _snap(GROUP, "freePastSeats", variant);
        _second(c, m, variant);
    }

    /// Nobody drew in time, so it starts again.
    function _again(Move memory m, string memory variant) private {
        vm.roll(uint256(resharing.reshare(m.keyId).mark) + 8193);
        vm.recordLogs();
        resharing.restart(m.keyId, m.serving, m.draft);
        _snap(GROUP, "restart", variant);
        readRequest(m);
        Draft memory requested = m.draft;
        bytes memory seed = pastSeedBlock(resharing.reshare(m.keyId).mark, "randao");
        uint256 before = vm.snapshotState();
        drawMove(m, "randao");
        vm.revertToState(before);
        resharing.draw(m.keyId, seed, m.activeSet, requested);
        _snap(GROUP, "draw", variant);
    }

    /// A refresh, the first slots of the key filled; its key is given up while another is under way.
    function _second(Ceremony memory c, Move memory m, string memory variant) private {
        vm.warp(vm.getBlockTimestamp() + 90 days);
        Move memory next = requestMove(c.keyId, m.made);
        drawMove(next, "randao");
        dealMove(next, c.keySet.coefficients[0], 7);
        finaliseMove(next);
        _snap(GROUP, "finalise", string.concat(variant, ", again"));
        vm.warp(resharing.committee(c.keyId, 2).handover + 90 days);
        next = requestMove(c.keyId, next.made);
        drawMove(next, "randao");
        consumer.retire(c.keyId, false);
        resharing.cancel(c.keyId, next.draft);
        _snap(GROUP, "cancel", variant);
    }

    function _views() private {
        resharing.reshare(2);
        _snap(GROUP, "reshare");
        resharing.committee(2, 1);
        _snap(GROUP, "committee");
        resharing.newest(2);
        _snap(GROUP, "newest");
        resharing.servingEpoch(2, vm.getBlockTimestamp());
        _snap(GROUP, "servingEpoch");
        resharing.isSilent(2, 1);
        _snap(GROUP, "isSilent");
        resharing.KEY_REGISTRY();
        _snap(GROUP, "KEY_REGISTRY");
        resharing.HANDOVER_DELAY();
        _snap(GROUP, "HANDOVER_DELAY");
        resharing.REFRESH_AFTER();
        _snap(GROUP, "REFRESH_AFTER");
        resharing.MAX_VOTE();
        _snap(GROUP, "MAX_VOTE");
    }
}
