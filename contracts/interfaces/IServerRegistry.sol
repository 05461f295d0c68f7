// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Where a threshold server keeps its shares.
/// @dev Online servers hold shares of validator and withdrawal keys; offline (air-gapped) ones of withdrawal
/// keys only. Each kind has an active set of its own.
enum ServerKind {
    Online,
    Offline
}

/// @notice Where a server stands in its life.
/// @dev None -> Registered -> Active <-> Suspended; Registered, Active or Suspended -> Leaving -> Left.
/// Only Active servers are in an active set, get seats, and count as members at finalisation.
enum ServerStatus {
    None,
    Registered,
    Active,
    Suspended,
    Leaving,
    Left
}

/// @notice A server as the chain knows it.
/// @dev Three storage slots: [signer, status, lockedOut, terms, bond], all that a slash or a finalisation touches; [operator, kind,
/// seats, unbondingEnds, reinstatedAt]; [tlsFingerprint].
struct Server {
    /// secp256k1 address that signs every protocol message of this server (EIP-712).
    address signer;
    ServerStatus status;
    /// A fault was proven: no seat, no acknowledgement and no vote until governance reinstates the server. Beside the status,
    /// for a server that is locked out still leaves, is suspended or holds its seats as any other.
    bool lockedOut;
    /// How often the server was reinstated. Penalties of one term are not those of the next.
    uint8 terms;
    /// Wei, below 2^72 (4,722 ether). Seats at 0.1 ether and more each can so never overflow.
    uint72 bond;
    /// Account that registered the server, may change it and gets its bond back.
    address operator;
    ServerKind kind;
    /// Seats this server holds in live committees; each reserves `seatBond()` of the bond.
    uint16 seats;
    /// Unix time (seconds) from which the bond of a Leaving server can be withdrawn; 0 before `announceLeave`.
    uint40 unbondingEnds;
    /// Unix time (seconds) of the last reinstatement; 0: never.
    uint32 reinstatedAt;
    /// SHA-256 of the DER certificate the server presents on TLS 1.3.
    bytes32 tlsFingerprint;
}

/// @title Threshold servers: who they are, what they put at stake, who may be drawn
/// @notice Partners register servers with a bond, governance approves them, the key registry seats them.
/// @dev Ids count from 1 and are never reused. Endpoints live in events only: nobody on-chain reads them.
interface IServerRegistry {
    /// @notice Emitted when `operator` registers server `id`.
    event ServerRegistered(
        uint32 indexed id,
        address indexed operator,
        address indexed signer,
        ServerKind kind,
        bytes32 tlsFingerprint,
        string endpoint,
        uint256 bond
    );
    /// @notice Emitted when the endpoint or certificate of server `id` changes.
    event ServerEndpointChanged(uint32 indexed id, bytes32 tlsFingerprint, string endpoint);
    /// @notice Emitted when server `id` moves to `status`; `reason` is empty unless governance gave one.
    event ServerStatusChanged(uint32 indexed id, ServerStatus status, string reason);
    /// @notice Emitted when the bond of server `id` changes to `bond` wei, but for a slash: the Court's `FaultProven` says what it took.
    event BondChanged(uint32 indexed id, uint256 bond);
    /// @notice Emitted when server `id` holds `seats` seats from now on.
    event SeatsChanged(uint32 indexed id, uint16 seats);
    /// @notice Emitted when governance sets the bond parameters.
    event BondParametersChanged(uint96 minBond, uint96 seatBond);

    /// @notice Emitted when governance reinstates server `id` after an investigation that found `reason`; its `terms` begin
    /// anew.
    event ServerReinstated(uint32 indexed id, uint8 terms, string reason);
    /// @notice Emitted when server `id` signs with `signer` from now on, in committees that are still to come.
    event SignerChanged(uint32 indexed id, address indexed signer);
    /// @notice Emitted when `reporter` withdraws its bounties.
    event BountyPaid(address indexed reporter, uint256 amount);

    /// @notice Raised when no server has this id.
    error UnknownServer(uint32 id);
    /// @notice Raised when `caller` is not the operator of server `id`.
    error NotOperator(uint32 id, address caller);
    /// @notice Raised when the server is in `status`, which does not allow the call.
    error WrongServerStatus(uint32 id, ServerStatus status);
    /// @notice Raised when a bond of `bond` wei is below the `required` wei.
    error BondTooSmall(uint256 bond, uint256 required);
    /// @notice Raised when `signer` is zero or belongs to server `id` already.
    error SignerTaken(address signer, uint32 id);
    /// @notice Raised when the proof of possession was made by `recovered` and not by `signer`.
    error BadSignerProof(address signer, address recovered);
    /// @notice Raised when an endpoint is empty or longer than 253 bytes.
    error BadEndpoint(uint256 length);
    /// @notice Raised when a TLS fingerprint is zero for an online server. It has no arguments: zero is all there is to say.
    error MissingTlsFingerprint();
    /// @notice Raised when a bond is withdrawn while seats are held or before `unbondingEnds`.
    error BondLocked(uint32 id, uint16 seats, uint40 unbondingEnds);
    /// @notice Raised when anybody but the key registry and its resharing moves seats.
    error NotKeyRegistry(address caller);
    /// @notice Raised when fewer than `needed` servers of the set can take a seat under the operator cap.
    error NotEnoughServers(uint256 found, uint256 needed);
    /// @notice Raised when server `id` is not Online.
    error NotOnline(uint32 id);
    /// @notice Raised when `bond` wei of server `id` cover no seat more than the `seats` it holds.
    error NoFreeSeat(uint32 id, uint16 seats, uint72 bond);
    /// @notice Raised when server `id` was reinstated 255 times: it is not given another term.
    error NoMoreTerms(uint32 id);
    /// @notice Raised when a member is not Active.
    error MemberNotActive(uint32 id, ServerStatus status);
    /// @notice Raised when a parameter lies outside its bounds.
    error ParameterOutOfBounds(uint256 value, uint256 low, uint256 high);
    /// @notice Raised when ether cannot be delivered to `to`.
    error TransferFailed(address to, uint256 amount);
    /// @notice Raised when the active set has no room for another server.
    error ActiveSetFull(uint256 capacity);

    /// @notice Raised when anybody but the Court slashes.
    error NotCourt(address caller);
    /// @notice Raised when server `id` is locked out and may not take part.
    error LockedOut(uint32 id);
    /// @notice Raised when server `id` is reinstated and is not locked out.
    error NotLockedOut(uint32 id);
    /// @notice Raised when a reinstatement gives no reason. It has no arguments: nothing is all there is to say.
    error MissingReason();
    /// @notice Raised when `reporter` has no bounty to withdraw.
    error NoBounty(address reporter);
    /// @notice Raised when the signer of server `id` was changed, and may be again from `from` (unix time) on.
    error SignerJustChanged(uint32 id, uint256 from);

    /// @notice Registers a server of the caller; `msg.value` is its bond (wei), at least `minBond()`.
    /// @dev `signerProof` is the 65-byte signature by `signer` over the EIP-712 struct
    /// `SignerProof(address operator,address signer)`: without it anybody could occupy a partner's signer key.
    /// Emitted: `ServerRegistered`. Raised: `BondTooSmall`, `SignerTaken`, `BadSignerProof`, `BadEndpoint`,
    /// `MissingTlsFingerprint` (online only).
    /// @return id Id of the new server, in status Registered.
    function register(
        address signer,
        bytes32 tlsFingerprint,
        ServerKind kind,
        string calldata endpoint,
        bytes calldata signerProof
    ) external payable returns (uint32 id);

    /// @notice Adds `msg.value` to the bond of server `id`; anyone may.
    /// @dev Emitted: `BondChanged`. Raised: `UnknownServer`, `WrongServerStatus` (Left).
    function addBond(uint32 id) external payable;

    /// @notice Changes endpoint and certificate of the caller's server (TLS rotation).
    /// @dev Emitted: `ServerEndpointChanged`. Raised: `UnknownServer`, `NotOperator`, `WrongServerStatus` (Left),
    /// `BadEndpoint`, `MissingTlsFingerprint`.
    function setEndpoint(uint32 id, bytes32 tlsFingerprint, string calldata endpoint) external;

    /// @notice Changes the key that signs for the caller's server; `signerProof` as in `register`.
    /// @dev The old key stays the server's for ever: nobody can register it, and what it signed stays punishable, for the
    /// Court goes by the signer of the share leaf. Keys made before keep their leaves, so the server goes on signing for them
    /// with the key that the leaf names until they are reshared.
    ///
    /// Once in SIGNER_CHANGE_DELAY: a change in the middle of a ceremony ends that attempt, for its acknowledgements name the
    /// signers, and costs nothing. Whoever could do it in each attempt would keep a key from being made for ever.
    /// Emitted: `SignerChanged`. Raised: `UnknownServer`, `NotOperator`, `WrongServerStatus` (Left), `SignerTaken`,
    /// `BadSignerProof`, `SignerJustChanged`.
    function setSigner(uint32 id, address signer, bytes calldata signerProof) external;

    /// @notice Pays its bounties to the caller.
    /// @dev Emitted: `BountyPaid`. Raised: `NoBounty`, `TransferFailed`.
    function withdrawBounty() external;

    /// @notice Court only: takes `seatBond()`, or the whole bond where it is less, from the bond of server `id`, and locks the
    /// server out at once. Nothing of it where its term, its reinstatements plus one, is the `chargedTerm`, or where the fault is of a
    /// `time` (unix, seconds; 0: nobody knows) before its last reinstatement.
    /// @dev A tenth is the reporter's to withdraw, the rest can never leave this contract again, so whoever reports its own
    /// server loses nine tenths. The amount is the registry's to say: no Court can take more than one seat reserves.
    /// Emitted: nothing, for the Court emits `FaultProven` with each: who, how much, for what. Raised: `NotCourt`, `UnknownServer`.
    /// @return term The server's term if it was charged or had been in it, else the `chargedTerm`.
    /// @return amount What was taken (wei).
    /// @return bounty The reporter's part of it (wei).
    function slash(uint32 id, address reporter, uint32 chargedTerm, uint256 time)
        external
        returns (uint32 term, uint256 amount, uint256 bounty);

    /// @notice Governance: after an investigation, lets a locked-out server take part again; `reason` says what was found.
    /// Faults whose time is known and lies before are settled with it, of every key and kind: whoever has evidence brings it before.
    /// @dev The bond must have been topped up: `minBond()` and a `seatBond()` for each seat. Emitted: `ServerReinstated`.
    /// Raised: `UnknownServer`, `NotLockedOut`, `WrongServerStatus` (Leaving, Left), `MissingReason`, `BondTooSmall`, `NoMoreTerms`.
    function reinstate(uint32 id, string calldata reason) external;

    /// @notice Governance: Registered or Suspended -> Active; the server can be drawn from now on.
    /// @dev Emitted: `ServerStatusChanged`. Raised: `UnknownServer`, `WrongServerStatus`, `ActiveSetFull`.
    function approve(uint32 id) external;

    /// @notice Governance: Active -> Suspended with a recorded reason. Live keys of the server are untouched.
    /// @dev Emitted: `ServerStatusChanged`. Raised: `UnknownServer`, `WrongServerStatus`.
    function suspend(uint32 id, string calldata reason) external;

    /// @notice The operator announces that the server leaves: no new seats; the unbonding delay starts.
    /// @dev Emitted: `ServerStatusChanged`. Raised: `UnknownServer`, `NotOperator`, `WrongServerStatus`.
    function announceLeave(uint32 id) external;

    /// @notice Pays the whole bond of a Leaving server to its operator (the caller) once it holds no seat and the
    /// unbonding delay is over.
    /// @dev Emitted: `BondChanged`, `ServerStatusChanged` (Left). Raised: `UnknownServer`, `NotOperator`,
    /// `WrongServerStatus`, `BondLocked`, `TransferFailed`.
    function withdrawBond(uint32 id) external;

    /// @notice Key registry only: draws `count` further members and reserves one seat for each.
    /// @dev Walks one Fisher-Yates permutation of `activeSet` that `seed` fixes, in order, and takes each candidate
    /// that is Active and not locked out *now*, has a free seat's worth of bond, is not run by `excludedOperator` and whose operator
    /// holds fewer than `operatorCap` seats among `kept` and those already taken. A candidate that withdraws after
    /// the seed is known only gives its own seat to the next in the same permutation. At most `activeSet.length / 4`
    /// steps. One permutation for both kinds of servers: a candidate whose kind has its seats is passed over.
    /// Raised: `NotKeyRegistry`, `NotEnoughServers`.
    /// @param activeSet Packed big-endian uint32 ids, checked against the snapshot by the caller.
    /// @param kept Members that keep their seat from an earlier attempt; they are not drawn twice.
    /// @param online Online servers of the whole committee, kept ones included; the others are offline servers.
    function drawSeats(
        bytes32 seed,
        bytes calldata activeSet,
        uint32[] calldata kept,
        uint256 count,
        uint256 online,
        uint256 operatorCap,
        address excludedOperator
    ) external returns (uint32[] memory drawn);

    /// @notice Key registry only: reserves a seat of each of `ids` for a key whose owner chose the committee.
    /// @dev What a draw passes over is an error here. Emitted: `SeatsChanged`. Raised: `NotKeyRegistry`, `MemberNotActive`,
    /// `LockedOut`, `NotOnline`, `NoFreeSeat`.
    function takeSeats(uint32[] calldata ids) external;

    /// @notice Key registry and resharing only: frees one seat of each of `ids`.
    function freeSeats(uint32[] calldata ids) external;

    /// @notice Signers of `ids`, in order. Raised: `MemberNotActive` or `LockedOut` for the first that may not take part.
    function activeSigners(uint32[] calldata ids) external view returns (address[] memory);

    /// @notice Whether server `id` may take part: Active, and not locked out.
    function isActive(uint32 id) external view returns (bool);

    /// @notice The server with this id; status None where there is none.
    function server(uint32 id) external view returns (Server memory);

    /// @notice How often server `id` was reinstated.
    function terms(uint32 id) external view returns (uint8);

    /// @notice Servers registered so far; ids are 1 to this number.
    function serverCount() external view returns (uint32);

    /// @notice Id of the server that uses or once used `signer`, 0 where there is none.
    function serverOfSigner(address signer) external view returns (uint32);

    /// @notice Active servers of `kind` as packed big-endian uint32 ids, in the order draws use.
    function activeSet(ServerKind kind) external view returns (bytes memory);

    /// @notice Smallest bond (wei) to register with.
    function minBond() external view returns (uint96);

    /// @notice Part of the bond (wei) one seat reserves.
    function seatBond() external view returns (uint96);

    /// @notice Seconds between `announceLeave` and the earliest withdrawal of a bond.
    function UNBONDING_DELAY() external view returns (uint40);

    /// @notice Least time (seconds) between two changes of a server's signer: 30 days, several times the longest attempt.
    function SIGNER_CHANGE_DELAY() external view returns (uint256);

    /// @notice Unix time (seconds) at which the signer of server `id` was last changed; 0: never.
    function signerChangedAt(uint32 id) external view returns (uint256);

    /// @notice Bounties (wei) that `reporter` can withdraw.
    function bountyOf(address reporter) external view returns (uint256);

    /// @notice The only account that slashes.
    function COURT() external view returns (address);

    /// @notice The only account that moves seats.
    function KEY_REGISTRY() external view returns (address);

    /// @notice Where keys get later committees; it takes and frees seats too.
    function RESHARING() external view returns (address);

    /// @notice Most servers an active set holds: a draw walks it, so it is bounded.
    function ACTIVE_SET_CAPACITY() external view returns (uint256);

    /// @notice Governance: sets the bond parameters within [0.1 ether, 100 ether]; held seats are unaffected.
    function setBondParameters(uint96 minBond, uint96 seatBond) external;
}
