// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {Committee, Reshare, ReshareState} from "../../../contracts/interfaces/IResharing.sol";
import {Campaign} from "../utils/Campaign.sol";
import {ReshareFixture} from "../utils/ReshareFixture.sol";

/// @notice Two keys that are reshared, refreshed, given up, and whose members come and go, in any order.
contract ReshareHandler is ReshareFixture {
    uint256 private constant KEYS = 2;
    uint32 private constant SERVERS = 12;

    /// All committees of a key that were finalised, and the secret that each of them shares.
    mapping(uint256 keyId => Committee[]) private committees;
    mapping(uint256 keyId => uint256) private secrets;
    mapping(uint256 keyId => bytes) private moves;
    mapping(uint256 keyId => mapping(uint256 epoch => bool)) private pastFreed;
    mapping(uint256 keyId => bool) private ended;

    /// The first thing that must not be.
    string public violation;
    /// How often each action succeeded.
    mapping(bytes4 action => uint256) public successes;

    constructor() {
        deployResharing();
        addServers(SERVERS);
        for (uint256 i = 1; i <= KEYS; ++i) {
            Ceremony memory c = makeKey(3, 4, i);
            committees[c.keyId].push(committeeOf(c));
            secrets[c.keyId] = c.keySet.coefficients[0];
        }
    }

    modifier action() {
        _;
        ++successes[msg.sig];
    }

    function _key(uint256 keyId) private pure returns (uint256) {
        return keyId % KEYS + 1;
    }

    function _newest(uint256 keyId) private view returns (Committee memory) {
        return committees[keyId][committees[keyId].length - 1];
    }

    function _move(uint256 keyId) private view returns (Move memory) {
        return abi.decode(moves[keyId], (Move));
    }

    // ------------------------------------------------------------------------------------------------ servers

    function lockOutOne(uint32 id) external action {
        // Seldom, or too few are left to be drawn.
        require(id % 3 == 0, "not now");
        lockOut(id % SERVERS + 1);
    }

    function reinstate(uint32 id) external action {
        id = id % SERVERS + 1;
        vm.deal(address(this), 10 ether);
        servers.addBond{value: 10 ether}(id);
        servers.reinstate(id, "test");
    }

    function suspend(uint32 id) external action {
        require(id % 4 == 0, "not now");
        servers.suspend(id / 4 % SERVERS + 1, "test");
    }

    function approve(uint32 id) external action {
        servers.approve(id % SERVERS + 1);
    }

    function passTime(uint256 time) external action {
        vm.warp(block.timestamp + bound(time, 1 hours, 45 days));
    }

    // ----------------------------------------------------------------------------------------------- reshares

    function request(uint256 keyId) external action {
        keyId = _key(keyId);
        moves[keyId] = abi.encode(requestMove(keyId, _newest(keyId)));
    }

    function draw(uint256 keyId, bytes32 randao) external action {
        keyId = _key(keyId);
        Move memory m = _move(keyId);
        drawMove(m, randao);
        moves[keyId] = abi.encode(m);
    }

    function restart(uint256 keyId) external action {
        keyId = _key(keyId);
        Move memory m = _move(keyId);
        if (uint256(resharing.reshare(keyId).mark) > block.timestamp) {
            vm.warp(uint256(resharing.reshare(keyId).mark) + 1);
        }
        vm.recordLogs();
        resharing.restart(keyId, m.serving, m.draft);
        readRequest(m);
        moves[keyId] = abi.encode(m);
    }

    function finalise(uint256 keyId, uint256 seed) external action {
        keyId = _key(keyId);
        Move memory m = _move(keyId);
        bytes32 groupKeyHash = _groupKeyHash(_newest(keyId));
        dealMove(m, secrets[keyId], seed);
        finaliseMove(m);
        committees[keyId].push(m.made);
        if (_groupKeyHash(m.made) != groupKeyHash) violation = "another group key";
        if (keys.keyOfGroupKey(groupKeyHash) != keyId) violation = "the group key is of another key";
    }

    function vote(uint256 keyId, uint32 server) external action {
        keyId = _key(keyId);
        server = server % SERVERS + 1;
        uint48 until = uint48(block.timestamp + 3 days);
        Committee memory serving = _newest(keyId);
        resharing.voteSilent(keyId, serving, server, until, votes(keyId, serving, server, until, 15));
    }

    // --------------------------------------------------------------------------------------------------- ends

    function retire(uint256 keyId) external action {
        require(keyId % 16 < KEYS, "not now");
        consumer.retire(_key(keyId), false);
    }

    function cancel(uint256 keyId) external action {
        keyId = _key(keyId);
        resharing.cancel(keyId, _move(keyId).draft);
    }

    function freeSeats(uint256 keyId) external action {
        keyId = _key(keyId);
        Committee memory it = _newest(keyId);
        keys.freeSeats(keyId, it.servers, it.signers, it.points);
        ended[keyId] = true;
    }

    function freePastSeats(uint256 keyId, uint256 epoch) external action {
        keyId = _key(keyId);
        epoch = bound(epoch, 1, committees[keyId].length - 1);
        resharing.freePastSeats(keyId, uint32(epoch), committees[keyId][epoch - 1], committees[keyId][epoch]);
        pastFreed[keyId][epoch] = true;
    }

    function _groupKeyHash(Committee memory it) private pure returns (bytes32) {
        bytes memory points = it.points;
        bytes memory groupKey = new bytes(128);
        for (uint256 i; i < 128; ++i) {
            groupKey[i] = points[points.length - 128 + i];
        }
        return keccak256(groupKey);
    }

    // ----------------------------------------------------------------------------------------------- the model

    /// @notice Seats that server `id` must have: one in the newest committee of each key that has not ended, one in each past
    /// committee that it left and whose seats are not free yet, one where a reshare took it.
    function seatsOf(uint32 id) external view returns (uint256 count) {
        for (uint256 keyId = 1; keyId <= KEYS; ++keyId) {
            Committee[] storage all = committees[keyId];
            if (!ended[keyId] && isMember(_newest(keyId).servers, id)) ++count;
            for (uint256 epoch = 1; epoch < all.length; ++epoch) {
                bool left = isMember(all[epoch - 1].servers, id) && !isMember(all[epoch].servers, id);
                if (left && !pastFreed[keyId][epoch]) ++count;
            }
            count += _takenBy(keyId, id);
        }
    }

    function _takenBy(uint256 keyId, uint32 id) private view returns (uint256 count) {
        Reshare memory it = resharing.reshare(keyId);
        if (it.state == ReshareState.None) return 0;
        Move memory m = _move(keyId);
        for (uint256 i; i < m.draft.seats.length; ++i) {
            if (m.draft.seats[i] == id && m.draft.fresh >> i & 1 == 1) ++count;
        }
    }

    /// @notice Whether no server has two seats of one key but one that it keeps from a committee it left.
    function newestIsOfDifferentServers() external view returns (bool) {
        for (uint256 keyId = 1; keyId <= KEYS; ++keyId) {
            uint32[] memory members = _newest(keyId).servers;
            for (uint256 i; i < members.length; ++i) {
                for (uint256 j; j < i; ++j) {
                    if (members[i] == members[j]) return false;
                }
            }
        }
        return true;
    }

    function seats(uint32 id) external view returns (uint256) {
        return servers.server(id).seats;
    }

    function countOfServers() external pure returns (uint32) {
        return SERVERS;
    }

    function isRetired(uint256 keyId) external view returns (bool) {
        Key memory it = keys.key(keyId);
        return it.state == KeyState.Retired;
    }
}

/// @title Whatever is reshared, given up and voted: every seat is somebody's, once
contract ReshareInvariants is Campaign {
    ReshareHandler private handler;

    function setUp() public {
        handler = new ReshareHandler();
        targetContract(address(handler));
    }

    /// A seat that is freed twice lets a bond go while evidence may come; one that is never freed locks it for ever.
    /// forge-config: default.invariant.runs = 48
    /// forge-config: default.invariant.depth = 160
    function invariant_SeatsAreThoseOfTheModel() public view {
        for (uint32 id = 1; id <= handler.countOfServers(); ++id) {
            assertEq(handler.seats(id), handler.seatsOf(id));
        }
        assertTrue(handler.newestIsOfDifferentServers());
        assertEq(handler.violation(), "");
    }

    function afterInvariant() public {
        string[] memory names = new string[](9);
        uint256[] memory counts = new uint256[](9);
        bytes4[9] memory actions = [
            ReshareHandler.request.selector,
            ReshareHandler.draw.selector,
            ReshareHandler.restart.selector,
            ReshareHandler.finalise.selector,
            ReshareHandler.vote.selector,
            ReshareHandler.retire.selector,
            ReshareHandler.cancel.selector,
            ReshareHandler.freeSeats.selector,
            ReshareHandler.freePastSeats.selector
        ];
        string[9] memory labels = [
            "request", "draw", "restart", "finalise", "vote", "retire", "cancel", "freeSeats", "freePastSeats"
        ];
        for (uint256 i; i < 9; ++i) {
            names[i] = labels[i];
            counts[i] = handler.successes(actions[i]);
        }
        _conclude("RESHARE", 48, names, counts);
    }
}
