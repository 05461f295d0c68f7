// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    DealtImport,
    IKeyConsumer,
    IKeyRegistry,
    Key,
    KeyKind,
    KeyState
} from "../interfaces/IKeyRegistry.sol";
import {CommitteeRecord, IResharing} from "../interfaces/IResharing.sol";
import {IServerRegistry, ServerKind} from "../interfaces/IServerRegistry.sol";
import {BLS12381} from "../libraries/BLS12381.sol";
import {Committees} from "../libraries/Committees.sol";
import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Resharing} from "./Resharing.sol";

/// @title Keys nobody holds
/// @notice Everything a caller needs to know is in `IKeyRegistry`.
/// @dev A key is two slots; committee, snapshot and points live in calldata and events and are checked against `commitment`.
/// What `commitment` covers cannot be mistaken for something else: the preimages are abi.encode(bytes32, uint32[]) with
/// second word 0x40, abi.encode(uint32[]) with second word n <= 16, and a pair of hashes, of which 0x20 is none.
contract KeyRegistry is IKeyRegistry, AccessManaged, EIP712 {
    using SafeCast for uint256;

    /// @dev What a dealt key has instead of a consumer: two slots.
    struct DealtKey {
        address owner;
        /// Duty keys named so far.
        uint64 number;
        address dutyKey;
    }

    // ---------------------------------------------------------------------------------------------- constants

    /// @inheritdoc IKeyRegistry
    uint8 public constant MAX_MEMBERS = Committees.MAX_MEMBERS;

    bytes32 private constant ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "Acknowledgement(uint256 keyId,uint16 attempt,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 dealingsDigest)"
    );
    bytes32 private constant DEALT_ACKNOWLEDGEMENT_TYPEHASH = keccak256(
        "DealtAcknowledgement(address owner,uint8 threshold,bytes32 pointsHash,bytes32 committeeHash,bytes32 historyHash)"
    );
    /// PREVRANDAO of the next block is known to the proposer of this one, who includes the request: two at least.
    uint256 private constant MIN_SEED_DELAY = 2;
    uint256 private constant MAX_SEED_DELAY = 1024;
    uint256 private constant MIN_CEREMONY_WINDOW = 10 minutes;
    uint256 private constant MAX_CEREMONY_WINDOW = 7 days;
    /// A window longer than this would be a mistake that locks bonds for ever.
    uint256 private constant MAX_EVIDENCE_WINDOW = 365 days;

    IServerRegistry private immutable SERVERS;
    /// @inheritdoc IKeyRegistry
    IResharing public immutable RESHARING;
    /// @inheritdoc IKeyRegistry
    uint48 public immutable SEED_DELAY;
    /// @inheritdoc IKeyRegistry
    uint48 public immutable EVIDENCE_WINDOW;

    // ------------------------------------------------------------------------------------------------ storage

    /// @inheritdoc IKeyRegistry
    uint256 public keyCount;
    /// @inheritdoc IKeyRegistry
    uint48 public ceremonyWindow;
    /// @inheritdoc IKeyRegistry
    mapping(address account => bool) public isConsumer;
    /// @inheritdoc IKeyRegistry
    mapping(bytes32 groupKeyHash => uint256 keyId) public keyOfGroupKey;
    /// @inheritdoc IKeyRegistry
    mapping(uint256 keyId => mapping(bytes32 signingRoot => bool)) public isOrdered;

    mapping(uint256 keyId => Key) private _keys;
    /// @inheritdoc IKeyRegistry
    mapping(uint256 keyId => DealtKey) public dealtKey;

    constructor(
        address authority,
        IServerRegistry servers,
        uint48 seedDelay,
        uint48 evidenceWindow,
        uint48 ceremonyWindow_
    ) AccessManaged(authority) EIP712("Stkr", "1") {
        address obeyed = servers.KEY_REGISTRY();
        require(obeyed == address(this), ForeignServerRegistry(address(servers), obeyed));
        _requireBounds(seedDelay, MIN_SEED_DELAY, MAX_SEED_DELAY);
        _requireBounds(evidenceWindow, 0, MAX_EVIDENCE_WINDOW);
        SERVERS = servers;
        RESHARING = new Resharing(this, servers, seedDelay, evidenceWindow);
        SEED_DELAY = seedDelay;
        EVIDENCE_WINDOW = evidenceWindow;
        _setCeremonyWindow(ceremonyWindow_);
    }

    // -------------------------------------------------------------------------------------- request and draw

    /// @inheritdoc IKeyRegistry
    function request(KeyKind kind, uint8 threshold, uint8 members) external returns (uint256 keyId) {
        require(isConsumer[msg.sender], NotConsumer(msg.sender));
        require(Committees.isSound(kind, threshold, members), BadThreshold(threshold, members));
        bytes memory activeSet = _snapshot(kind, threshold, members);

        keyId = ++keyCount;
        uint48 seedBlock = _seedBlock();
        _keys[keyId] = Key({
            consumer: msg.sender,
            state: KeyState.Requested,
            kind: kind,
            threshold: threshold,
            members: members,
            attempt: 0,
            mark: seedBlock,
            commitment: _requestCommitment(keccak256(activeSet), new uint32[](0))
        });
        emit KeyRequested(keyId, msg.sender, kind, threshold, members, seedBlock, activeSet);
    }

    /// @inheritdoc IKeyRegistry
    function draw(uint256 keyId, bytes calldata header, bytes calldata activeSet, uint32[] calldata kept)
        external
    {
        Key storage it = _inState(keyId, KeyState.Requested);
        Committees.requireCommitment(_requestCommitment(keccak256(activeSet), kept), it.commitment);
        // With the key and the attempt in it, keys that share a seed block get different permutations.
        bytes32 seed = keccak256(abi.encode(Committees.prevRandao(it.mark, header), keyId, it.attempt));
        uint32[] memory committee = _join(kept, _drawSeats(keyId, seed, activeSet, kept));

        uint48 deadline = _deadline(it.kind);
        it.state = KeyState.Drawn;
        it.mark = deadline;
        it.commitment = keccak256(abi.encode(committee));
        emit CommitteeDrawn(keyId, it.attempt, committee, seed, deadline);
    }

    /// @inheritdoc IKeyRegistry
    function restart(uint256 keyId, uint32[] calldata members, bytes32 activeSetHash) external {
        Key storage it = _keys[keyId];
        bool drawn = it.state == KeyState.Drawn;
        if (!drawn) _inState(keyId, KeyState.Requested);
        Committees.requireCommitment(
            drawn ? keccak256(abi.encode(members)) : _requestCommitment(activeSetHash, members), it.commitment
        );
        uint256 until = drawn ? it.mark : it.mark + Committees.HISTORY;
        require((drawn ? block.timestamp : block.number) > until, NotExpired(keyId, until));

        (uint32[] memory kept, uint32[] memory lost) = _splitByActivity(members);
        ++it.attempt;
        if (drawn && lost.length == 0) {
            it.mark = _deadline(it.kind);
            emit CeremonyRestarted(keyId, it.attempt, kept, 0, it.mark, "");
            return;
        }
        bytes memory activeSet = _snapshot(it.kind, it.threshold, it.members);
        it.state = KeyState.Requested;
        it.mark = _seedBlock();
        it.commitment = _requestCommitment(keccak256(activeSet), kept);
        emit CeremonyRestarted(keyId, it.attempt, kept, it.mark, 0, activeSet);
        SERVERS.freeSeats(lost);
    }

    // ----------------------------------------------------------------------------------------------- finalise

    /// @inheritdoc IKeyRegistry
    function finalise(
        uint256 keyId,
        uint32[] calldata committee,
        bytes calldata points,
        bytes32 dealingsDigest,
        bytes calldata acknowledgements
    ) external {
        Key storage it = _inState(keyId, KeyState.Drawn);
        require(block.timestamp <= it.mark, CeremonyExpired(keyId, it.mark));
        Committees.requireCommitment(keccak256(abi.encode(committee)), it.commitment);
        Committees.requireLength(points.length, (committee.length + 1) * Committees.POINT);
        address[] memory signers = SERVERS.activeSigners(committee);
        Committees.requireAcknowledgements(
            _acknowledgementDigest(keyId, it, committee, signers, points, dealingsDigest),
            signers,
            acknowledgements
        );
        _takeGroupKey(keyId, points);
        Committees.requireOnePolynomial(keyId, points, it.threshold);

        bytes32 leavesRoot = Committees.leavesRoot(committee, signers, points);
        it.state = KeyState.Live;
        it.mark = uint48(block.timestamp);
        it.commitment = leavesRoot;
        emit KeyFinalised(keyId, it.attempt, committee, signers, points, dealingsDigest, leavesRoot);
    }

    // ------------------------------------------------------------------------------------------------ dealt keys

    /// @inheritdoc IKeyRegistry
    function importDealt(DealtImport calldata dealt) external returns (uint256 keyId) {
        uint8 members = dealt.committee.length.toUint8();
        require(
            Committees.isSound(KeyKind.Validator, dealt.threshold, members),
            BadThreshold(dealt.threshold, members)
        );
        Committees.requireLength(dealt.points.length, (uint256(members) + 1) * Committees.POINT);
        _requireAscending(dealt.committee);
        address[] memory signers = SERVERS.activeSigners(dealt.committee);
        bytes32 digest = _dealtDigest(dealt, signers);
        Committees.requireAcknowledgements(digest, signers, dealt.acknowledgements);

        keyId = ++keyCount;
        _takeGroupKey(keyId, dealt.points);
        Committees.requireOnePolynomial(keyId, dealt.points, dealt.threshold);
        bytes calldata groupKey = dealt.points[uint256(members) * Committees.POINT:];
        require(BLS12381.verify(groupKey, digest, dealt.possession), BadPossession(digest));

        _storeDealt(keyId, dealt, members, signers);
        _nameDutyKey(keyId, dealt.dutyKey);
        SERVERS.takeSeats(dealt.committee);
    }

    /// @inheritdoc IKeyRegistry
    function setDutyKey(uint256 keyId, address dutyKey) external {
        _liveOfOwner(keyId);
        _nameDutyKey(keyId, dutyKey);
    }

    /// @inheritdoc IKeyRegistry
    function retireDealt(uint256 keyId) external {
        Key storage it = _liveOfOwner(keyId);
        it.state = KeyState.Retired;
        it.mark = (block.timestamp + EVIDENCE_WINDOW).toUint48();
        emit KeyRetired(keyId, false);
    }

    // ------------------------------------------------------------------------------------------ orders and end

    /// @inheritdoc IKeyRegistry
    function order(uint256 keyId, bytes32 signingRoot) external {
        Key storage it = _ofCaller(keyId);
        require(it.state == KeyState.Live, WrongKeyState(keyId, it.state));
        isOrdered[keyId][signingRoot] = true;
        emit MessageOrdered(keyId, signingRoot);
    }

    /// @inheritdoc IKeyRegistry
    function retire(uint256 keyId, bool burned) external {
        Key storage it = _ofCaller(keyId);
        KeyState state = it.state;
        bool live = state == KeyState.Live;
        bool unfinished = state == KeyState.Requested || state == KeyState.Drawn;
        require(live || (unfinished && !burned), WrongKeyState(keyId, state));
        it.state = burned ? KeyState.Burned : KeyState.Retired;
        it.mark = (block.timestamp + (live ? EVIDENCE_WINDOW : 0)).toUint48();
        emit KeyRetired(keyId, burned);
    }

    /// @inheritdoc IKeyRegistry
    function freeSeatsOfUnfinished(uint256 keyId, uint32[] calldata members, bytes32 activeSetHash) external {
        // A key that was Live cannot pass: its commitment is a Merkle root (see the head of this contract).
        Key storage it = _inState(keyId, KeyState.Retired);
        require(it.commitment != 0, SeatsAlreadyFreed(keyId));
        Committees.requireCommitment(
            activeSetHash == 0 ? keccak256(abi.encode(members)) : _requestCommitment(activeSetHash, members),
            it.commitment
        );
        _freeSeats(keyId, it, members);
    }

    /// @inheritdoc IKeyRegistry
    function freeSeats(
        uint256 keyId,
        uint32[] calldata committee,
        address[] calldata signers,
        bytes calldata points
    ) external {
        Key storage it = _keys[keyId];
        require(it.state == KeyState.Retired || it.state == KeyState.Burned, WrongKeyState(keyId, it.state));
        require(it.commitment != 0, SeatsAlreadyFreed(keyId));
        require(block.timestamp >= it.mark, SeatsReserved(keyId, it.mark));
        _requireNewest(keyId, committee, signers, points);
        _freeSeats(keyId, it, committee);
    }

    // --------------------------------------------------------------------------------------------- governance

    /// @inheritdoc IKeyRegistry
    function addConsumer(address consumer) external restricted {
        isConsumer[consumer] = true;
        emit ConsumerAdded(consumer);
    }

    /// @inheritdoc IKeyRegistry
    function setCeremonyWindow(uint48 window) external restricted {
        _setCeremonyWindow(window);
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IKeyRegistry
    function key(uint256 keyId) external view returns (Key memory) {
        return _keys[keyId];
    }

    /// @inheritdoc IKeyRegistry
    function dutyAssignment(uint256 keyId) external view returns (address dutyKey, uint64 number) {
        Key storage it = _keys[keyId];
        // A key that was given up must not go on signing because its consumer still knows a provider for it.
        if (it.state != KeyState.Live) return (address(0), 0);
        if (it.consumer == address(0)) return (dealtKey[keyId].dutyKey, dealtKey[keyId].number);
        return IKeyConsumer(it.consumer).dutyAssignment(keyId);
    }

    /// @inheritdoc IKeyRegistry
    function isShareLeaf(uint256 keyId, uint32 committeeEpoch, bytes32 leaf, bytes32[] calldata proof)
        external
        view
        returns (bool)
    {
        // The state is not asked: before Live the commitment is no hash of a pair (see the head of this contract), so nothing
        // but itself leads to it, with an empty proof. A leaf has 224 bytes and an inner node 64: neither passes as the other.
        bytes32 root = committeeEpoch == 0
            ? _keys[keyId].commitment
            : RESHARING.committee(keyId, committeeEpoch).leavesRoot;
        return proof.length > 0 && MerkleProof.verifyCalldata(proof, root, leaf);
    }

    /// @inheritdoc IKeyRegistry
    function healthyShares(
        uint256 keyId,
        uint32[] calldata committee,
        address[] calldata signers,
        bytes calldata points
    ) external view returns (uint256 healthy, uint8 threshold) {
        _inState(keyId, KeyState.Live);
        threshold = _requireNewest(keyId, committee, signers, points);
        for (uint256 i; i < committee.length; ++i) {
            if (SERVERS.isActive(committee[i])) ++healthy;
        }
    }

    /// @inheritdoc IKeyRegistry
    function operatorCap(KeyKind kind, uint8 threshold, uint8 members) public pure returns (uint256) {
        if (threshold > members || 2 * uint256(threshold) <= members) {
            revert BadThreshold(threshold, members);
        }
        uint256 tolerated = members - threshold;
        // Equalities of small numbers that nobody can push past, unlike balances and times.
        // slither-disable-start incorrect-equality
        if (kind == KeyKind.Withdrawal) return _min(threshold - 1, tolerated);
        uint256 cap = _min(2 * uint256(threshold) - members - 1, tolerated);
        return cap == 0 ? 1 : cap;
        // slither-disable-end incorrect-equality
    }

    /// @inheritdoc IKeyRegistry
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    /// @inheritdoc IKeyRegistry
    function SERVER_REGISTRY() external view returns (address) {
        return address(SERVERS);
    }

    // ---------------------------------------------------------------------------------------- internal: draw

    /// @dev Ids of the active servers that may be drawn: online ones, of a withdrawal key followed by the offline ones.
    function _snapshot(KeyKind kind, uint256 threshold, uint256 members)
        private
        view
        returns (bytes memory activeSet)
    {
        uint256 online = Committees.onlineMembers(kind, threshold, members);
        activeSet = _activeSet(ServerKind.Online, online);
        if (online == members) return activeSet;
        return bytes.concat(activeSet, _activeSet(ServerKind.Offline, members - online));
    }

    function _activeSet(ServerKind kind, uint256 needed) private view returns (bytes memory activeSet) {
        activeSet = SERVERS.activeSet(kind);
        require(activeSet.length / 4 >= needed, NotEnoughActiveServers(activeSet.length / 4, needed));
    }

    function _drawSeats(uint256 keyId, bytes32 seed, bytes calldata activeSet, uint32[] calldata kept)
        private
        returns (uint32[] memory)
    {
        Key memory it = _keys[keyId];
        uint256 cap = operatorCap(it.kind, it.threshold, it.members);
        address excluded = IKeyConsumer(it.consumer).excludedOperator(keyId);
        uint256 online = Committees.onlineMembers(it.kind, it.threshold, it.members);
        return SERVERS.drawSeats(seed, activeSet, kept, it.members - kept.length, online, cap, excluded);
    }

    function _join(uint32[] calldata kept, uint32[] memory drawn) private pure returns (uint32[] memory all) {
        all = new uint32[](kept.length + drawn.length);
        for (uint256 i; i < all.length; ++i) {
            all[i] = i < kept.length ? kept[i] : drawn[i - kept.length];
        }
    }

    /// @dev Members in order, those that are Active and those that are not.
    function _splitByActivity(uint32[] calldata members)
        private
        view
        returns (uint32[] memory kept, uint32[] memory lost)
    {
        kept = new uint32[](members.length);
        lost = new uint32[](members.length);
        uint256 keptCount = 0;
        uint256 lostCount = 0;
        for (uint256 i; i < members.length; ++i) {
            if (SERVERS.isActive(members[i])) kept[keptCount++] = members[i];
            else lost[lostCount++] = members[i];
        }
        Committees.cut(kept, keptCount);
        Committees.cut(lost, lostCount);
    }

    function _requestCommitment(bytes32 activeSetHash, uint32[] memory kept) private pure returns (bytes32) {
        return keccak256(abi.encode(activeSetHash, kept));
    }

    function _seedBlock() private view returns (uint48) {
        return (block.number + SEED_DELAY).toUint48();
    }

    function _deadline(KeyKind kind) private view returns (uint48) {
        return (block.timestamp + Committees.windowOf(kind, ceremonyWindow)).toUint48();
    }

    // ------------------------------------------------------------------------------------ internal: finalise

    /// @dev What each member signed: the whole transcript. If it covered the member's own key only, more than n - t colluders
    /// could choose the group secret and the points would still lie on one polynomial.
    function _acknowledgementDigest(
        uint256 keyId,
        Key storage it,
        uint32[] calldata committee,
        address[] memory signers,
        bytes calldata points,
        bytes32 dealingsDigest
    ) private view returns (bytes32) {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    ACKNOWLEDGEMENT_TYPEHASH,
                    keyId,
                    it.attempt,
                    it.threshold,
                    keccak256(points),
                    keccak256(abi.encode(committee, signers)),
                    dealingsDigest
                )
            )
        );
    }

    function _takeGroupKey(uint256 keyId, bytes calldata points) private {
        bytes32 groupKeyHash = keccak256(points[points.length - Committees.POINT:]);
        uint256 owner = keyOfGroupKey[groupKeyHash];
        require(owner == 0, GroupKeyTaken(owner));
        keyOfGroupKey[groupKeyHash] = keyId;
    }

    // -------------------------------------------------------------------------------------- internal: dealt keys

    /// @dev What all members and the group key signed: in it is everything that the caller chose but the duty key.
    function _dealtDigest(DealtImport calldata dealt, address[] memory signers)
        private
        view
        returns (bytes32)
    {
        return _hashTypedDataV4(
            keccak256(
                abi.encode(
                    DEALT_ACKNOWLEDGEMENT_TYPEHASH,
                    msg.sender,
                    dealt.threshold,
                    keccak256(dealt.points),
                    keccak256(abi.encode(dealt.committee, signers)),
                    dealt.historyHash
                )
            )
        );
    }

    function _storeDealt(uint256 keyId, DealtImport calldata dealt, uint8 members, address[] memory signers)
        private
    {
        bytes32 leavesRoot = Committees.leavesRoot(dealt.committee, signers, dealt.points);
        // No consumer: `order` and `retire` belong to nobody.
        _keys[keyId] = Key({
            consumer: address(0),
            state: KeyState.Live,
            kind: KeyKind.Validator,
            threshold: dealt.threshold,
            members: members,
            attempt: 0,
            mark: uint48(block.timestamp),
            commitment: leavesRoot
        });
        dealtKey[keyId].owner = msg.sender;
        emit DealtKeyImported(keyId, msg.sender, dealt.threshold, dealt.historyHash);
        emit KeyFinalised(keyId, 0, dealt.committee, signers, dealt.points, 0, leavesRoot);
    }

    function _nameDutyKey(uint256 keyId, address dutyKey) private {
        DealtKey storage it = dealtKey[keyId];
        it.dutyKey = dutyKey;
        emit DutyKeyNamed(keyId, dutyKey, ++it.number);
    }

    /// @dev A server twice in a committee would hold two shares of the key.
    function _requireAscending(uint32[] calldata committee) private pure {
        for (uint256 i = 1; i < committee.length; ++i) {
            require(committee[i] > committee[i - 1], CommitteeNotAscending(i));
        }
    }

    function _liveOfOwner(uint256 keyId) private view returns (Key storage it) {
        require(dealtKey[keyId].owner == msg.sender, NotKeyOwner(keyId, msg.sender));
        it = _inState(keyId, KeyState.Live);
    }

    // -------------------------------------------------------------------------------------- internal: checks

    function _freeSeats(uint256 keyId, Key storage it, uint32[] calldata members) private {
        it.commitment = 0;
        emit SeatsFreed(keyId);
        SERVERS.freeSeats(members);
    }

    function _setCeremonyWindow(uint48 window) private {
        _requireBounds(window, MIN_CEREMONY_WINDOW, MAX_CEREMONY_WINDOW);
        ceremonyWindow = window;
        emit CeremonyWindowChanged(window);
    }

    function _inState(uint256 keyId, KeyState state) private view returns (Key storage it) {
        it = _keys[keyId];
        require(it.state == state, WrongKeyState(keyId, it.state));
    }

    function _ofCaller(uint256 keyId) private view returns (Key storage it) {
        it = _keys[keyId];
        require(it.state != KeyState.None, WrongKeyState(keyId, KeyState.None));
        require(it.consumer == msg.sender, NotConsumer(msg.sender));
    }

    /// @dev That these are the leaves of the key's newest committee, whose threshold is returned.
    function _requireNewest(
        uint256 keyId,
        uint32[] calldata committee,
        address[] calldata signers,
        bytes calldata points
    ) private view returns (uint8 threshold) {
        // Which epoch it has does not matter here.
        // slither-disable-next-line unused-return
        (, CommitteeRecord memory record) = RESHARING.newest(keyId);
        Committees.requireLeaves(record.leavesRoot, record.members, committee, signers, points);
        threshold = record.threshold;
    }

    function _requireBounds(uint256 value, uint256 low, uint256 high) private pure {
        require(value >= low && value <= high, ParameterOutOfBounds(value, low, high));
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
