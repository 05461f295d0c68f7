// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IKeyConsumer, IKeyRegistry, Key, KeyKind, KeyState} from "../interfaces/IKeyRegistry.sol";
import {
    Committee,
    CommitteeRecord,
    Draft,
    IResharing,
    Reshare,
    ReshareState
} from "../interfaces/IResharing.sol";
import {IServerRegistry, ServerKind} from "../interfaces/IServerRegistry.sol";
import {Committees} from "../libraries/Committees.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Resharing
/// @notice Everything a caller needs to know is in `IResharing`.
/// @dev Nobody governs it. Registries are fixed and never call back; a consumer is asked one view.
contract Resharing is IResharing {
    using SafeCast for uint256;

    // ---------------------------------------------------------------------------------------------- constants

    bytes32 private constant ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "ReshareAcknowledgement(uint256 keyId,uint32 committeeEpoch,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
    );
    bytes32 private constant VOTE_TYPEHASH =
        keccak256("SilenceVote(uint256 keyId,uint32 committeeEpoch,uint32 server,uint48 until)");

    /// @inheritdoc IResharing
    uint48 public constant HANDOVER_DELAY = 3 * 32 * 12 seconds;
    /// @inheritdoc IResharing
    uint48 public constant REFRESH_AFTER = 90 days;
    /// @inheritdoc IResharing
    uint48 public constant MAX_VOTE = 30 days;

    IKeyRegistry private immutable KEYS;
    IServerRegistry private immutable SERVERS;
    uint48 private immutable SEED_DELAY;
    uint48 private immutable EVIDENCE_WINDOW;

    // ------------------------------------------------------------------------------------------------ storage

    mapping(uint256 keyId => Reshare) private _reshares;
    mapping(uint256 keyId => mapping(uint32 committeeEpoch => CommitteeRecord)) private _committees;
    /// Unix time until which the vote against a server holds.
    mapping(uint256 keyId => mapping(uint32 server => uint48)) private _silentUntil;

    /// @dev Called by the KeyRegistry's constructor, when it cannot be asked anything yet.
    constructor(IKeyRegistry keys, IServerRegistry servers, uint48 seedDelay, uint48 evidenceWindow) {
        KEYS = keys;
        SERVERS = servers;
        SEED_DELAY = seedDelay;
        EVIDENCE_WINDOW = evidenceWindow;
    }

    // -------------------------------------------------------------------------------------- request and draw

    /// @inheritdoc IResharing
    function request(uint256 keyId, Committee calldata serving, uint8 threshold, uint8 members) external {
        Key memory key = _liveKey(keyId);
        Reshare storage it = _inState(keyId, ReshareState.None);
        CommitteeRecord memory record = _requireNewest(keyId, it, key, serving);
        require(block.timestamp >= record.handover, HandoverPending(keyId, record.handover));

        Draft memory draft =
            Draft({seats: new uint32[](members), fresh: 0, dealers: 0, activeSetHash: bytes32(0)});
        for (uint256 i; i < members && i < serving.servers.length; ++i) {
            draft.seats[i] = serving.servers[i];
        }
        _loseSeats(keyId, draft);
        draft.dealers = _preferredDealers(keyId, it.attempt, serving.servers);
        _requireReason(keyId, key, record, threshold, members, _isWhole(record, draft));

        it.threshold = threshold;
        it.members = members;
        _open(keyId, it, key.kind, serving.servers, draft);
    }

    /// @inheritdoc IResharing
    function draw(uint256 keyId, bytes calldata header, bytes calldata activeSet, Draft calldata draft)
        external
    {
        Key memory key = _liveKey(keyId);
        Reshare storage it = _inState(keyId, ReshareState.Requested);
        _requireDraft(it, draft);
        Committees.requireCommitment(keccak256(activeSet), draft.activeSetHash);
        uint32 epoch = it.committeeEpoch + 1;
        bytes32 seed = keccak256(
            abi.encode(Committees.prevRandao(it.mark, header), keyId, epoch, it.attempt, "reshare")
        );

        Draft memory drawn = draft;
        drawn.activeSetHash = 0;
        _fill(drawn, _drawSeats(keyId, seed, activeSet, drawn.seats));
        (, CommitteeRecord memory record) = newest(keyId);
        drawn.dealers = _drawDealers(seed, draft.dealers, record.threshold, record.members);

        uint48 window = Committees.windowOf(key.kind, KEYS.ceremonyWindow());
        uint48 deadline = (block.timestamp + window).toUint48();
        it.state = ReshareState.Drawn;
        it.mark = deadline;
        it.handover = deadline + HANDOVER_DELAY;
        it.commitment = keccak256(abi.encode(drawn));
        emit ReshareDrawn(keyId, epoch, it.attempt, drawn, seed, deadline, deadline + HANDOVER_DELAY);
    }

    /// @inheritdoc IResharing
    function restart(uint256 keyId, Committee calldata serving, Draft calldata draft) external {
        Key memory key = _liveKey(keyId);
        Reshare storage it = _underWay(keyId, draft);
        bool drawn = it.state == ReshareState.Drawn;
        uint256 until = drawn ? it.mark : it.mark + Committees.HISTORY;
        require((drawn ? block.timestamp : block.number) > until, IKeyRegistry.NotExpired(keyId, until));
        _requireNewest(keyId, it, key, serving);

        Draft memory next = draft;
        uint32[] memory lost = _loseSeats(keyId, next);
        ++it.attempt;
        next.dealers = _preferredDealers(keyId, it.attempt, serving.servers);
        _open(keyId, it, key.kind, serving.servers, next);
        SERVERS.freeSeats(lost);
    }

    /// @inheritdoc IResharing
    function cancel(uint256 keyId, Draft calldata draft) external {
        KeyState state = KEYS.key(keyId).state;
        require(
            state == KeyState.Retired || state == KeyState.Burned, IKeyRegistry.WrongKeyState(keyId, state)
        );
        Reshare storage it = _underWay(keyId, draft);
        it.state = ReshareState.None;
        it.commitment = 0;
        ++it.attempt;
        emit ReshareCancelled(keyId, it.committeeEpoch + 1);
        SERVERS.freeSeats(_freshSeats(draft));
    }

    // ----------------------------------------------------------------------------------------------- finalise

    /// @inheritdoc IResharing
    function finalise(
        uint256 keyId,
        Draft calldata draft,
        bytes calldata points,
        bytes32 dealingsDigest,
        bytes calldata acknowledgements
    ) external {
        _liveKey(keyId);
        Reshare storage it = _inState(keyId, ReshareState.Drawn);
        require(block.timestamp <= it.mark, IKeyRegistry.CeremonyExpired(keyId, it.mark));
        _requireDraft(it, draft);
        Committees.requireLength(points.length, (draft.seats.length + 1) * Committees.POINT);
        Committee memory made = Committee(draft.seats, SERVERS.activeSigners(draft.seats), points);
        Committees.requireAcknowledgements(
            _acknowledgementDigest(keyId, it, made, dealingsDigest), made.signers, acknowledgements
        );
        _requireGroupKey(keyId, points);
        Committees.requireOnePolynomial(keyId, points, it.threshold);
        bytes32 root = Committees.leavesRoot(draft.seats, made.signers, points);
        _install(keyId, it, made, dealingsDigest, root);
    }

    // -------------------------------------------------------------------------------------- votes and seats

    /// @inheritdoc IResharing
    function voteSilent(
        uint256 keyId,
        Committee calldata serving,
        uint32 server,
        uint48 until,
        bytes calldata signatures
    ) external {
        Key memory key = _liveKey(keyId);
        Reshare storage it = _reshares[keyId];
        CommitteeRecord memory record = _requireNewest(keyId, it, key, serving);
        require(until > block.timestamp && until <= block.timestamp + MAX_VOTE, BadVoteTime(until));
        bytes32 digest = _typed(keccak256(abi.encode(VOTE_TYPEHASH, keyId, it.committeeEpoch, server, until)));
        Committees.requireLength(signatures.length, serving.signers.length * Committees.SIGNATURE);
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 votes;
        for (uint256 i; i < serving.signers.length; ++i) {
            bool voted = Committees.recover(digest, signatures, i) == serving.signers[i];
            // Who leaves or is suspended votes too: else one of these and one that is silent would be more than the others can outvote.
            if (voted && !_isLockedOut(serving.servers[i])) ++votes;
        }
        require(votes >= record.threshold, NotEnoughVotes(votes, record.threshold));
        _silentUntil[keyId][server] = until;
        if (until > it.votesUntil) it.votesUntil = until;
        emit SilenceVoted(keyId, server, until);
    }

    /// @inheritdoc IResharing
    function freePastSeats(
        uint256 keyId,
        uint32 committeeEpoch,
        Committee calldata past,
        Committee calldata next
    ) external {
        CommitteeRecord storage record = _committees[keyId][committeeEpoch];
        require(committeeEpoch != 0 && record.leavesRoot != 0, NoPastCommittee(keyId, committeeEpoch));
        require(!record.pastSeatsFreed, IKeyRegistry.SeatsAlreadyFreed(keyId));
        uint256 from = uint256(record.handover) + EVIDENCE_WINDOW;
        require(block.timestamp >= from, IKeyRegistry.SeatsReserved(keyId, from));
        _requireLeaves(record, next);
        _requireLeaves(_committees[keyId][committeeEpoch - 1], past);
        record.pastSeatsFreed = true;
        emit PastSeatsFreed(keyId, committeeEpoch);
        SERVERS.freeSeats(_without(past.servers, next.servers));
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IResharing
    function reshare(uint256 keyId) external view returns (Reshare memory) {
        return _reshares[keyId];
    }

    /// @inheritdoc IResharing
    function committee(uint256 keyId, uint32 committeeEpoch) external view returns (CommitteeRecord memory) {
        return _committees[keyId][committeeEpoch];
    }

    /// @inheritdoc IResharing
    function newest(uint256 keyId)
        public
        view
        returns (uint32 committeeEpoch, CommitteeRecord memory record)
    {
        committeeEpoch = _reshares[keyId].committeeEpoch;
        record = _recordOf(keyId, committeeEpoch, KEYS.key(keyId));
    }

    /// @inheritdoc IResharing
    function servingEpoch(uint256 keyId, uint256 time) external view returns (uint32 committeeEpoch) {
        committeeEpoch = _reshares[keyId].committeeEpoch;
        if (time < _committees[keyId][committeeEpoch].handover) --committeeEpoch;
    }

    /// @inheritdoc IResharing
    function isSilent(uint256 keyId, uint32 server) public view returns (bool) {
        return block.timestamp <= _silentUntil[keyId][server];
    }

    /// @inheritdoc IResharing
    function KEY_REGISTRY() external view returns (address) {
        return address(KEYS);
    }

    // ------------------------------------------------------------------------------------- internal: request

    /// @dev That the caller may ask for this.
    function _requireReason(
        uint256 keyId,
        Key memory key,
        CommitteeRecord memory record,
        uint8 threshold,
        uint8 members,
        bool whole
    ) private view {
        require(
            Committees.isSound(key.kind, threshold, members), IKeyRegistry.BadThreshold(threshold, members)
        );
        if (msg.sender == key.consumer) return;
        bool same = threshold == record.threshold && members == record.members;
        uint256 since = record.handover == 0 ? key.mark : record.handover;
        uint256 refreshFrom = since + REFRESH_AFTER;
        require(same && (!whole || block.timestamp >= refreshFrom), NothingToReshare(keyId, refreshFrom));
    }

    /// @dev Whether every member of the serving committee keeps its seat.
    function _isWhole(CommitteeRecord memory record, Draft memory draft) private pure returns (bool) {
        if (draft.seats.length < record.members) return false;
        for (uint256 i; i < record.members; ++i) {
            if (draft.seats[i] == 0) return false;
        }
        return true;
    }

    /// @dev Snapshot and seed block, from state None and again from the others.
    function _open(
        uint256 keyId,
        Reshare storage it,
        KeyKind kind,
        uint32[] calldata serving,
        Draft memory draft
    ) private {
        uint256 wanted = _emptySeats(draft.seats);
        bytes memory activeSet = wanted == 0 ? bytes("") : _candidates(keyId, it, kind, serving);
        require(
            activeSet.length / 4 >= wanted, IKeyRegistry.NotEnoughActiveServers(activeSet.length / 4, wanted)
        );
        draft.activeSetHash = keccak256(activeSet);
        uint48 seedBlock = (block.number + SEED_DELAY).toUint48();
        it.state = ReshareState.Requested;
        it.mark = seedBlock;
        it.handover = 0;
        it.commitment = keccak256(abi.encode(draft));
        emit ReshareRequested(
            keyId, it.committeeEpoch + 1, it.attempt, it.threshold, it.members, seedBlock, draft, activeSet
        );
    }

    /// @dev Ids of the servers that may be drawn. None of the serving committee: a member of good standing has its seat, and one that
    /// lost it still has the old one, which comes free by itself. Whether there are enough of each kind the draw finds out.
    function _candidates(uint256 keyId, Reshare storage it, KeyKind kind, uint32[] calldata serving)
        private
        view
        returns (bytes memory activeSet)
    {
        activeSet = SERVERS.activeSet(ServerKind.Online);
        if (kind == KeyKind.Withdrawal) {
            activeSet = bytes.concat(activeSet, SERVERS.activeSet(ServerKind.Offline));
        }
        uint32[] memory members = serving;
        bool votes = block.timestamp <= it.votesUntil;
        uint256 end = activeSet.length;
        // Each id moves down over those left out.
        // slither-disable-next-line uninitialized-local
        uint256 length;
        for (uint256 i; i < end; i += 4) {
            uint32 id;
            assembly ("memory-safe") {
                id := shr(224, mload(add(add(activeSet, 0x20), i)))
            }
            if (_contains(members, id) || (votes && isSilent(keyId, id))) continue;
            for (uint256 k; k < 4; ++k) {
                activeSet[length++] = activeSet[i + k];
            }
        }
        assembly ("memory-safe") {
            mstore(activeSet, length)
        }
    }

    /// @dev Takes their seats from members that are not of good standing; those among them whose seat this reshare took are returned.
    function _loseSeats(uint256 keyId, Draft memory draft) private view returns (uint32[] memory lost) {
        uint256 count = draft.seats.length;
        lost = new uint32[](count);
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 lostCount;
        for (uint256 i; i < count; ++i) {
            uint32 id = draft.seats[i];
            if (id == 0 || _isGood(keyId, id)) continue;
            draft.seats[i] = 0;
            // The cast is safe: at most MAX_MEMBERS seats.
            uint16 bit = uint16(1 << i);
            if (draft.fresh & bit == 0) continue;
            draft.fresh ^= bit;
            lost[lostCount++] = id;
        }
        Committees.cut(lost, lostCount);
    }

    /// @dev All that nobody voted silent: who leaves or is suspended has its share. The first attempt does without those that are locked
    /// out. Later ones do not: where one member is locked out, t are left in a t-of-(t+1), and one of them that is silent, but that the
    /// others are too few to vote so, would deal in each.
    function _preferredDealers(uint256 keyId, uint16 attempt, uint32[] calldata servers)
        private
        view
        returns (uint16 mask)
    {
        for (uint256 i; i < servers.length; ++i) {
            if (isSilent(keyId, servers[i]) || (attempt == 0 && _isLockedOut(servers[i]))) continue;
            // The cast is safe: at most MAX_MEMBERS seats.
            mask |= uint16(1 << i);
        }
    }

    function _isLockedOut(uint32 server) private view returns (bool) {
        return SERVERS.server(server).lockedOut;
    }

    function _isGood(uint256 keyId, uint32 server) private view returns (bool) {
        return SERVERS.isActive(server) && !isSilent(keyId, server);
    }

    // ---------------------------------------------------------------------------------------- internal: draw

    function _drawSeats(uint256 keyId, bytes32 seed, bytes calldata activeSet, uint32[] memory seats)
        private
        returns (uint32[] memory)
    {
        uint32[] memory kept = _without(seats, new uint32[](1));
        uint256 count = seats.length - kept.length;
        (uint256 online, uint256 cap, address excluded) = _drawRules(keyId);
        return SERVERS.drawSeats(seed, activeSet, kept, count, online, cap, excluded);
    }

    function _drawRules(uint256 keyId)
        private
        view
        returns (uint256 online, uint256 operatorCap, address excludedOperator)
    {
        Key memory key = KEYS.key(keyId);
        Reshare storage it = _reshares[keyId];
        online = Committees.onlineMembers(key.kind, it.threshold, it.members);
        operatorCap = KEYS.operatorCap(key.kind, it.threshold, it.members);
        excludedOperator = IKeyConsumer(key.consumer).excludedOperator(keyId);
    }

    function _fill(Draft memory draft, uint32[] memory drawn) private pure {
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 next;
        for (uint256 i; i < draft.seats.length; ++i) {
            if (draft.seats[i] != 0) continue;
            draft.seats[i] = drawn[next++];
            // The cast is safe: at most MAX_MEMBERS seats.
            draft.fresh |= uint16(1 << i);
        }
    }

    /// @dev `threshold` of the serving committee's `members`: a step of Fisher-Yates each over the preferred, then over the others.
    function _drawDealers(bytes32 seed, uint16 preferred, uint256 threshold, uint256 members)
        private
        pure
        returns (uint16 dealers)
    {
        uint256[] memory order = new uint256[](members);
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 first;
        uint256 last = members;
        for (uint256 i; i < members; ++i) {
            if (preferred >> i & 1 == 1) order[first++] = i;
            else order[--last] = i;
        }
        for (uint256 step; step < threshold; ++step) {
            uint256 end = step < first ? first : members;
            uint256 chosen = step + uint256(keccak256(abi.encode(seed, "dealer", step))) % (end - step);
            // The cast is safe: an index below MAX_MEMBERS.
            dealers |= uint16(1 << order[chosen]);
            order[chosen] = order[step];
        }
    }

    function _emptySeats(uint32[] memory seats) private pure returns (uint256 count) {
        for (uint256 i; i < seats.length; ++i) {
            if (seats[i] == 0) ++count;
        }
    }

    /// @dev `ids` that are not in `removed`, in order.
    function _without(uint32[] memory ids, uint32[] memory removed)
        private
        pure
        returns (uint32[] memory rest)
    {
        rest = new uint32[](ids.length);
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 count;
        for (uint256 i; i < ids.length; ++i) {
            if (!_contains(removed, ids[i])) rest[count++] = ids[i];
        }
        Committees.cut(rest, count);
    }

    function _contains(uint32[] memory ids, uint32 id) private pure returns (bool) {
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] == id) return true;
        }
        return false;
    }

    function _freshSeats(Draft calldata draft) private pure returns (uint32[] memory fresh) {
        fresh = new uint32[](draft.seats.length);
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 count;
        for (uint256 i; i < draft.seats.length; ++i) {
            if (draft.fresh >> i & 1 == 1) fresh[count++] = draft.seats[i];
        }
        Committees.cut(fresh, count);
    }

    // ------------------------------------------------------------------------------------ internal: finalise

    /// @dev What each new member signed, for the reason that `KeyRegistry` gives: the whole transcript.
    function _acknowledgementDigest(
        uint256 keyId,
        Reshare storage it,
        Committee memory made,
        bytes32 dealingsDigest
    ) private view returns (bytes32) {
        return _typed(
            keccak256(
                abi.encode(
                    ACKNOWLEDGEMENT_TYPEHASH,
                    keyId,
                    it.committeeEpoch + 1,
                    it.attempt,
                    it.threshold,
                    keccak256(made.points),
                    keccak256(abi.encode(made.servers, made.signers)),
                    dealingsDigest
                )
            )
        );
    }

    function _requireGroupKey(uint256 keyId, bytes calldata points) private view {
        bytes32 groupKeyHash = keccak256(points[points.length - Committees.POINT:]);
        require(KEYS.keyOfGroupKey(groupKeyHash) == keyId, GroupKeyChanged(keyId));
    }

    /// @dev With the first reshare the first committee gets its record too: the registry forgets its root when seats come free.
    function _install(
        uint256 keyId,
        Reshare storage it,
        Committee memory made,
        bytes32 dealingsDigest,
        bytes32 root
    ) private {
        uint32 epoch = it.committeeEpoch;
        if (epoch == 0) _committees[keyId][0] = _recordOf(keyId, 0, KEYS.key(keyId));
        it.committeeEpoch = ++epoch;
        uint48 handover = it.handover;
        _committees[keyId][epoch] = CommitteeRecord({
            leavesRoot: root,
            handover: handover,
            threshold: it.threshold,
            members: it.members,
            pastSeatsFreed: false
        });
        emit Reshared(keyId, epoch, it.attempt, made, dealingsDigest, root, handover);
        it.state = ReshareState.None;
        it.commitment = 0;
        it.attempt = 0;
    }

    function _typed(bytes32 structHash) private view returns (bytes32) {
        return MessageHashUtils.toTypedDataHash(KEYS.domainSeparator(), structHash);
    }

    // -------------------------------------------------------------------------------------- internal: checks

    function _recordOf(uint256 keyId, uint32 epoch, Key memory key)
        private
        view
        returns (CommitteeRecord memory record)
    {
        if (epoch != 0) return _committees[keyId][epoch];
        record.leavesRoot = key.commitment;
        record.threshold = key.threshold;
        record.members = key.members;
    }

    function _liveKey(uint256 keyId) private view returns (Key memory key) {
        key = KEYS.key(keyId);
        require(key.state == KeyState.Live, IKeyRegistry.WrongKeyState(keyId, key.state));
        require(key.consumer != address(0), NotReshareable(keyId));
    }

    function _inState(uint256 keyId, ReshareState state) private view returns (Reshare storage it) {
        it = _reshares[keyId];
        require(it.state == state, WrongReshareState(keyId, it.state));
    }

    function _underWay(uint256 keyId, Draft calldata draft) private view returns (Reshare storage it) {
        it = _reshares[keyId];
        require(it.state != ReshareState.None, WrongReshareState(keyId, it.state));
        _requireDraft(it, draft);
    }

    function _requireDraft(Reshare storage it, Draft calldata draft) private view {
        Committees.requireCommitment(keccak256(abi.encode(draft)), it.commitment);
    }

    function _requireNewest(uint256 keyId, Reshare storage it, Key memory key, Committee calldata given)
        private
        view
        returns (CommitteeRecord memory record)
    {
        record = _recordOf(keyId, it.committeeEpoch, key);
        _requireLeaves(record, given);
    }

    function _requireLeaves(CommitteeRecord memory record, Committee calldata given) private pure {
        Committees.requireLeaves(
            record.leavesRoot, record.members, given.servers, given.signers, given.points
        );
    }
}
