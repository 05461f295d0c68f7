// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IServerRegistry, Server, ServerKind, ServerStatus} from "../interfaces/IServerRegistry.sol";
import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Threshold servers
/// @notice Everything a caller needs to know is in `IServerRegistry`.
/// @dev Key registry and Court are immutable addresses: the deploy script predicts them (CREATE), and both refuse to be
/// deployed over a server registry that obeys another. So nobody, governance included, can ever hand the seats, and with them
/// the lock on the bonds, or the slashing to another contract.
///
/// Ether it holds: all bonds, all bounties that were not withdrawn, and what was burned, which no function can move.
contract ServerRegistry is IServerRegistry, AccessManaged, EIP712 {
    using SafeCast for uint256;

    // ---------------------------------------------------------------------------------------------- constants

    /// @inheritdoc IServerRegistry
    uint256 public constant ACTIVE_SET_CAPACITY = 256;

    bytes32 private constant SIGNER_PROOF_TYPEHASH =
        keccak256("SignerProof(address operator,address signer)");
    uint256 private constant MAX_ENDPOINT = 253;
    uint256 private constant MIN_BOND_PARAMETER = 0.1 ether;
    uint256 private constant MAX_BOND_PARAMETER = 100 ether;
    /// A delay longer than this would be a mistake that locks bonds for ever.
    uint256 private constant MAX_UNBONDING_DELAY = 365 days;
    /// A bounty is this part of what was slashed: enough for the gas, far too little to report oneself for.
    uint256 private constant BOUNTY_DIVISOR = 10;

    /// @inheritdoc IServerRegistry
    uint256 public constant SIGNER_CHANGE_DELAY = 30 days;

    /// @inheritdoc IServerRegistry
    address public immutable KEY_REGISTRY;
    /// @inheritdoc IServerRegistry
    address public immutable RESHARING;
    /// @inheritdoc IServerRegistry
    address public immutable COURT;
    /// @inheritdoc IServerRegistry
    uint40 public immutable UNBONDING_DELAY;

    // ------------------------------------------------------------------------------------------------ storage

    /// @inheritdoc IServerRegistry
    uint96 public minBond;
    /// @inheritdoc IServerRegistry
    uint96 public seatBond;
    /// @inheritdoc IServerRegistry
    uint32 public serverCount;

    mapping(uint32 id => Server) private _servers;
    /// @inheritdoc IServerRegistry
    mapping(address signer => uint32 id) public serverOfSigner;
    /// @inheritdoc IServerRegistry
    mapping(uint32 id => uint256) public signerChangedAt;
    /// @inheritdoc IServerRegistry
    mapping(address reporter => uint256) public bountyOf;
    /// Ids, eight to a slot.
    /// It is written by `push`, which the detector does not see.
    // slither-disable-next-line uninitialized-state
    mapping(ServerKind kind => uint32[]) private _activeSets;

    /// @dev A draw in memory.
    struct Draw {
        /// Servers not yet visited, from position `step` on.
        uint256[] ids;
        uint256 step;
        /// Operators of the members kept and drawn so far.
        address[] operators;
        uint256 taken;
        /// Seats left for servers of each kind.
        uint256[2] left;
        uint256 operatorCap;
        address excludedOperator;
        uint256 seatBond;
    }

    constructor(
        address authority,
        address keyRegistry,
        address court,
        uint96 minBond_,
        uint96 seatBond_,
        uint40 unbondingDelay
    ) AccessManaged(authority) EIP712("Stkr", "1") {
        _requireBounds(unbondingDelay, 0, MAX_UNBONDING_DELAY);
        KEY_REGISTRY = keyRegistry;
        // Address of what a contract deploys first: keccak256 of the RLP of [its address, nonce 1].
        RESHARING = address(uint160(uint256(keccak256(abi.encodePacked(hex"d694", keyRegistry, hex"01")))));
        COURT = court;
        UNBONDING_DELAY = unbondingDelay;
        _setBondParameters(minBond_, seatBond_);
    }

    modifier onlyKeyRegistry() {
        require(msg.sender == KEY_REGISTRY || msg.sender == RESHARING, NotKeyRegistry(msg.sender));
        _;
    }

    // ---------------------------------------------------------------------------------------------- operators

    /// @inheritdoc IServerRegistry
    function register(
        address signer,
        bytes32 tlsFingerprint,
        ServerKind kind,
        string calldata endpoint,
        bytes calldata signerProof
    ) external payable returns (uint32 id) {
        require(msg.value >= minBond, BondTooSmall(msg.value, minBond));
        _requireEndpoint(kind, tlsFingerprint, endpoint);
        _requireFreeSigner(signer, signerProof);

        id = ++serverCount;
        serverOfSigner[signer] = id;
        _servers[id] = Server({
            signer: signer,
            status: ServerStatus.Registered,
            lockedOut: false,
            terms: 0,
            bond: msg.value.toUint72(),
            operator: msg.sender,
            kind: kind,
            seats: 0,
            unbondingEnds: 0,
            reinstatedAt: 0,
            tlsFingerprint: tlsFingerprint
        });
        emit ServerRegistered(id, msg.sender, signer, kind, tlsFingerprint, endpoint, msg.value);
    }

    /// @inheritdoc IServerRegistry
    function addBond(uint32 id) external payable {
        Server storage it = _known(id);
        require(it.status != ServerStatus.Left, WrongServerStatus(id, it.status));
        uint72 bond = (uint256(it.bond) + msg.value).toUint72();
        it.bond = bond;
        emit BondChanged(id, bond);
    }

    /// @inheritdoc IServerRegistry
    function setEndpoint(uint32 id, bytes32 tlsFingerprint, string calldata endpoint) external {
        Server storage it = _ofCaller(id);
        require(it.status != ServerStatus.Left, WrongServerStatus(id, it.status));
        _requireEndpoint(it.kind, tlsFingerprint, endpoint);
        it.tlsFingerprint = tlsFingerprint;
        emit ServerEndpointChanged(id, tlsFingerprint, endpoint);
    }

    /// @inheritdoc IServerRegistry
    function setSigner(uint32 id, address signer, bytes calldata signerProof) external {
        Server storage it = _ofCaller(id);
        require(it.status != ServerStatus.Left, WrongServerStatus(id, it.status));
        _requireFreeSigner(signer, signerProof);
        uint256 from = signerChangedAt[id];
        // Slither takes zero, which stands for never, for an amount.
        // slither-disable-next-line incorrect-equality
        if (from != 0) from += SIGNER_CHANGE_DELAY;
        require(block.timestamp >= from, SignerJustChanged(id, from));
        signerChangedAt[id] = block.timestamp;
        // The old signer's entry stays: evidence against it must find this server, and nobody else may ever use it.
        serverOfSigner[signer] = id;
        it.signer = signer;
        emit SignerChanged(id, signer);
    }

    /// @inheritdoc IServerRegistry
    function announceLeave(uint32 id) external {
        Server storage it = _ofCaller(id);
        ServerStatus status = it.status;
        require(status < ServerStatus.Leaving, WrongServerStatus(id, status));
        if (status == ServerStatus.Active) _removeActive(it.kind, id);
        it.unbondingEnds = (block.timestamp + UNBONDING_DELAY).toUint40();
        _setStatus(id, it, ServerStatus.Leaving, "");
    }

    /// @inheritdoc IServerRegistry
    function withdrawBond(uint32 id) external {
        Server storage it = _ofCaller(id);
        require(it.status == ServerStatus.Leaving, WrongServerStatus(id, it.status));
        // Both conditions: a seat freed late must not shorten the delay, a delay over must not free a seat.
        require(
            it.seats == 0 && block.timestamp >= it.unbondingEnds, BondLocked(id, it.seats, it.unbondingEnds)
        );
        uint256 bond = it.bond;
        it.bond = 0;
        emit BondChanged(id, 0);
        _setStatus(id, it, ServerStatus.Left, "");

        (bool success,) = msg.sender.call{value: bond}("");
        require(success, TransferFailed(msg.sender, bond));
    }

    // ---------------------------------------------------------------------------------- the Court and reporters

    /// @inheritdoc IServerRegistry
    function slash(uint32 id, address reporter, uint32 chargedTerm, uint256 time)
        external
        returns (uint32 term, uint256 amount, uint256 bounty)
    {
        require(msg.sender == COURT, NotCourt(msg.sender));
        Server storage it = _servers[id];
        // One slot; read before anything is written, it costs one cold read.
        (ServerStatus status, uint8 reinstatements, uint72 bond) = (it.status, it.terms, it.bond);
        require(status != ServerStatus.None, UnknownServer(id));
        term = uint32(reinstatements) + 1;
        if (term == chargedTerm) return (term, 0, 0);
        // The second slot is read of those only that were reinstated once.
        if (reinstatements != 0 && time != 0 && time < it.reinstatedAt) return (chargedTerm, 0, 0);
        uint256 share = seatBond;
        amount = share < bond ? share : bond;
        bounty = amount / BOUNTY_DIVISOR;
        // The amount is no more than the bond, and all bounties together are less than all ether.
        unchecked {
            (it.lockedOut, it.bond) = (true, bond - uint72(amount));
            bountyOf[reporter] += bounty;
        }
    }

    /// @inheritdoc IServerRegistry
    function withdrawBounty() external {
        uint256 amount = bountyOf[msg.sender];
        require(amount != 0, NoBounty(msg.sender));
        bountyOf[msg.sender] = 0;
        emit BountyPaid(msg.sender, amount);
        (bool success,) = msg.sender.call{value: amount}("");
        require(success, TransferFailed(msg.sender, amount));
    }

    // --------------------------------------------------------------------------------------------- governance

    /// @inheritdoc IServerRegistry
    function reinstate(uint32 id, string calldata reason) external restricted {
        Server storage it = _known(id);
        require(it.lockedOut, NotLockedOut(id));
        require(it.terms < type(uint8).max, NoMoreTerms(id));
        require(it.status < ServerStatus.Leaving, WrongServerStatus(id, it.status));
        require(bytes(reason).length != 0, MissingReason());
        uint256 required = uint256(it.seats) * seatBond;
        if (required < minBond) required = minBond;
        require(it.bond >= required, BondTooSmall(it.bond, required));
        it.lockedOut = false;
        it.reinstatedAt = block.timestamp.toUint32();
        emit ServerReinstated(id, ++it.terms, reason);
    }

    /// @inheritdoc IServerRegistry
    function approve(uint32 id) external restricted {
        Server storage it = _known(id);
        ServerStatus status = it.status;
        require(
            status == ServerStatus.Registered || status == ServerStatus.Suspended,
            WrongServerStatus(id, status)
        );
        uint32[] storage set = _activeSets[it.kind];
        require(set.length < ACTIVE_SET_CAPACITY, ActiveSetFull(ACTIVE_SET_CAPACITY));
        set.push(id);
        _setStatus(id, it, ServerStatus.Active, "");
    }

    /// @inheritdoc IServerRegistry
    function suspend(uint32 id, string calldata reason) external restricted {
        Server storage it = _known(id);
        require(it.status == ServerStatus.Active, WrongServerStatus(id, it.status));
        _removeActive(it.kind, id);
        _setStatus(id, it, ServerStatus.Suspended, reason);
    }

    /// @inheritdoc IServerRegistry
    function setBondParameters(uint96 minBond_, uint96 seatBond_) external restricted {
        _setBondParameters(minBond_, seatBond_);
    }

    // ------------------------------------------------------------------------------------------- key registry

    /// @inheritdoc IServerRegistry
    function drawSeats(
        bytes32 seed,
        bytes calldata set,
        uint32[] calldata kept,
        uint256 count,
        uint256 online,
        uint256 operatorCap,
        address excludedOperator
    ) external onlyKeyRegistry returns (uint32[] memory drawn) {
        Draw memory draw = _startDraw(set, kept, count, online);
        draw.operatorCap = operatorCap;
        draw.excludedOperator = excludedOperator;

        drawn = new uint32[](count);
        uint256 found;
        while (found < count && draw.step < draw.ids.length) {
            uint32 id = _next(draw, seed);
            if (_contains(kept, id) || !_takeSeat(draw, id)) continue;
            drawn[found++] = id;
        }
        require(found == count, NotEnoughServers(found, count));
    }

    /// @inheritdoc IServerRegistry
    function takeSeats(uint32[] calldata ids) external onlyKeyRegistry {
        uint256 reserved = seatBond;
        for (uint256 i; i < ids.length; ++i) {
            Server storage it = _member(ids[i]);
            require(it.kind == ServerKind.Online, NotOnline(ids[i]));
            uint16 seats = it.seats;
            uint72 bond = it.bond;
            require((uint256(seats) + 1) * reserved <= bond, NoFreeSeat(ids[i], seats, bond));
            it.seats = ++seats;
            emit SeatsChanged(ids[i], seats);
        }
    }

    /// @inheritdoc IServerRegistry
    function freeSeats(uint32[] calldata ids) external onlyKeyRegistry {
        for (uint256 i; i < ids.length; ++i) {
            emit SeatsChanged(ids[i], --_servers[ids[i]].seats);
        }
    }

    // -------------------------------------------------------------------------------------------------- views

    /// @inheritdoc IServerRegistry
    function activeSigners(uint32[] calldata ids) external view returns (address[] memory signers) {
        signers = new address[](ids.length);
        for (uint256 i; i < ids.length; ++i) {
            signers[i] = _member(ids[i]).signer;
        }
    }

    /// @inheritdoc IServerRegistry
    function isActive(uint32 id) external view returns (bool) {
        Server storage it = _servers[id];
        return it.status == ServerStatus.Active && !it.lockedOut;
    }

    /// @inheritdoc IServerRegistry
    function server(uint32 id) external view returns (Server memory) {
        return _servers[id];
    }

    /// @inheritdoc IServerRegistry
    function terms(uint32 id) external view returns (uint8) {
        return _servers[id].terms;
    }

    /// @inheritdoc IServerRegistry
    function activeSet(ServerKind kind) external view returns (bytes memory packed) {
        uint32[] storage set = _activeSets[kind];
        uint256 length = set.length;
        packed = new bytes(4 * length);
        // Slot by slot: eight ids lie in one, the first in its lowest bits. `packed` is padded to whole words.
        assembly ("memory-safe") {
            mstore(0x00, set.slot)
            let slot := keccak256(0x00, 0x20)
            let output := add(packed, 0x20)
            for { let end := add(output, mul(4, length)) } lt(output, end) { output := add(output, 0x20) } {
                mstore(output, sload(slot))
                slot := add(slot, 1)
            }
        }
        for (uint256 start; start < 4 * length; start += 32) {
            _reverseLanes(packed, start);
        }
    }

    // ----------------------------------------------------------------------------------------------- internal

    /// @dev Reverses the order of the eight 32-bit lanes of the word at `start`.
    function _reverseLanes(bytes memory packed, uint256 start) private pure {
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(add(packed, 0x20), start))
        }
        uint256 lanes64 = 0x0000000000000000ffffffffffffffff0000000000000000ffffffffffffffff;
        uint256 lanes32 = 0x00000000ffffffff00000000ffffffff00000000ffffffff00000000ffffffff;
        word = word >> 128 | word << 128;
        word = (word >> 64 & lanes64) | (word & lanes64) << 64;
        word = (word >> 32 & lanes32) | (word & lanes32) << 32;
        assembly ("memory-safe") {
            mstore(add(add(packed, 0x20), start), word)
        }
    }

    /// @dev The permutation starts as the snapshot.
    function _startDraw(bytes calldata set, uint32[] calldata kept, uint256 count, uint256 online)
        private
        view
        returns (Draw memory draw)
    {
        draw.ids = new uint256[](set.length / 4);
        for (uint256 i; i < draw.ids.length; ++i) {
            draw.ids[i] = uint32(bytes4(set[4 * i:4 * i + 4]));
        }
        draw.operators = new address[](kept.length + count);
        draw.left = [online, kept.length + count - online];
        for (uint256 i; i < kept.length; ++i) {
            Server storage it = _servers[kept[i]];
            draw.operators[i] = it.operator;
            --draw.left[uint256(it.kind)];
        }
        draw.taken = kept.length;
        draw.seatBond = seatBond;
    }

    /// @dev One step of Fisher-Yates. The modulo bias of 256 bits is below 2^-247.
    function _next(Draw memory draw, bytes32 seed) private pure returns (uint32 id) {
        uint256 step = draw.step++;
        uint256 chosen = step + uint256(keccak256(abi.encode(seed, step))) % (draw.ids.length - step);
        // The cast is safe: `ids` was filled from four bytes each.
        id = uint32(draw.ids[chosen]);
        draw.ids[chosen] = draw.ids[step];
    }

    /// @dev Reserves a seat of server `id` if it may have one now.
    function _takeSeat(Draw memory draw, uint32 id) private returns (bool) {
        Server storage it = _servers[id];
        uint256 seats = it.seats;
        if (it.status != ServerStatus.Active) return false;
        if (it.lockedOut) return false;
        if ((seats + 1) * draw.seatBond > it.bond) return false;
        uint256 kind = uint256(it.kind);
        if (draw.left[kind] == 0) return false;

        address operator = it.operator;
        if (operator == draw.excludedOperator) return false;
        // Counts from zero.
        // slither-disable-next-line uninitialized-local
        uint256 held;
        for (uint256 i; i < draw.taken; ++i) {
            if (draw.operators[i] == operator) ++held;
        }
        if (held >= draw.operatorCap) return false;

        draw.operators[draw.taken++] = operator;
        --draw.left[kind];
        // The cast is safe: a bond covers no 65,536 seats, see `Server`.
        uint16 newSeats = uint16(seats + 1);
        it.seats = newSeats;
        emit SeatsChanged(id, newSeats);
        return true;
    }

    function _contains(uint32[] calldata ids, uint32 id) private pure returns (bool) {
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] == id) return true;
        }
        return false;
    }

    /// @dev The last server of the set takes the place of the one removed. At most 32 slots are read.
    function _removeActive(ServerKind kind, uint32 id) private {
        uint32[] storage set = _activeSets[kind];
        uint256 last = set.length - 1;
        uint256 position;
        // Every Active server is in the set of its kind, so the loop ends.
        while (set[position] != id) ++position;
        if (position != last) set[position] = set[last];
        set.pop();
    }

    function _setStatus(uint32 id, Server storage it, ServerStatus status, string memory reason) private {
        it.status = status;
        emit ServerStatusChanged(id, status, reason);
    }

    function _setBondParameters(uint96 minBond_, uint96 seatBond_) private {
        _requireBounds(minBond_, MIN_BOND_PARAMETER, MAX_BOND_PARAMETER);
        _requireBounds(seatBond_, MIN_BOND_PARAMETER, MAX_BOND_PARAMETER);
        minBond = minBond_;
        seatBond = seatBond_;
        emit BondParametersChanged(minBond_, seatBond_);
    }

    function _requireBounds(uint256 value, uint256 low, uint256 high) private pure {
        require(value >= low && value <= high, ParameterOutOfBounds(value, low, high));
    }

    function _requireEndpoint(ServerKind kind, bytes32 tlsFingerprint, string calldata endpoint)
        private
        pure
    {
        uint256 length = bytes(endpoint).length;
        require(length > 0 && length <= MAX_ENDPOINT, BadEndpoint(length));
        require(kind == ServerKind.Offline || tlsFingerprint != 0, MissingTlsFingerprint());
    }

    /// @dev The proof names the operator, so one seen in the mempool is of no use to anybody else.
    function _requireFreeSigner(address signer, bytes calldata signerProof) private view {
        uint32 owner = serverOfSigner[signer];
        require(signer != address(0) && owner == 0, SignerTaken(signer, owner));
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(SIGNER_PROOF_TYPEHASH, msg.sender, signer)));
        // A failed recovery gives zero, which `signer` is not; why it failed does not matter.
        // slither-disable-next-line unused-return
        (address recovered,,) = ECDSA.tryRecoverCalldata(digest, signerProof);
        require(recovered == signer, BadSignerProof(signer, recovered));
    }

    /// @dev A server that may be a member of a committee now.
    function _member(uint32 id) private view returns (Server storage it) {
        it = _servers[id];
        require(it.status == ServerStatus.Active, MemberNotActive(id, it.status));
        require(!it.lockedOut, LockedOut(id));
    }

    function _known(uint32 id) private view returns (Server storage it) {
        it = _servers[id];
        require(it.status != ServerStatus.None, UnknownServer(id));
    }

    function _ofCaller(uint32 id) private view returns (Server storage it) {
        it = _known(id);
        require(msg.sender == it.operator, NotOperator(id, msg.sender));
    }
}
