// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice Where the reshare of a key stands.
/// @dev None -> Requested -> Drawn -> None with a new committee; Drawn or Requested -> Requested by `restart`, -> None by `cancel`.
enum ReshareState {
    None,
    Requested,
    Drawn
}

/// @notice Of each key: its newest committee and the reshare under way. Two slots.
struct Reshare {
    ReshareState state;
    /// t and n of the committee that is being made.
    uint8 threshold;
    uint8 members;
    /// Number of the attempt at the next committee, from 0; a number is never used twice for one committee epoch.
    uint16 attempt;
    /// Committee epoch of the newest finalised committee; the first one, which `KeyRegistry.finalise` made, has 0.
    uint32 committeeEpoch;
    /// Requested: number of the block whose PREVRANDAO is the seed. Drawn: unix time until which it may be finalised.
    uint48 mark;
    /// Drawn: unix time from which the new committee would sign, see `CommitteeRecord.handover`.
    uint48 handover;
    /// Unix time until which a vote against any server of the key holds.
    uint48 votesUntil;
    /// keccak256(abi.encode(draft)); zero in None.
    bytes32 commitment;
}

/// @notice A committee in the making. It lives in calldata and events and is checked against `Reshare.commitment`.
struct Draft {
    /// n' server ids in index order; 0 where a seat is still to be drawn.
    uint32[] seats;
    /// Bit i: seat i was taken for this reshare. The other members are of the serving committee and have their seat from there.
    uint16 fresh;
    /// Bit i: the member of index i + 1 of the serving committee deals (Drawn: exactly t of them), or is preferred when dealers are
    /// drawn (Requested).
    uint16 dealers;
    /// Requested: keccak256 of the snapshot. Drawn: zero.
    bytes32 activeSetHash;
}

/// @notice A committee of a key that was reshared.
struct CommitteeRecord {
    /// Merkle root of its share leaves (`IKeyRegistry.isShareLeaf`).
    bytes32 leavesRoot;
    /// Unix time (seconds). With H the first beacon epoch that starts at or after it, the committee signs nothing for slots and
    /// targets before H, and the one before it nothing from H on. Zero for a key's first committee.
    uint48 handover;
    uint8 threshold;
    uint8 members;
    /// Whether the seats of those that this committee lacks, but the one before it had, are free again.
    bool pastSeatsFreed;
}

/// @notice A committee's leaves, as calldata: what `KeyFinalised` or `Reshared` emitted.
struct Committee {
    uint32[] servers;
    address[] signers;
    /// n share keys in index order, then the group key, 128 bytes each.
    bytes points;
}

/// @title Resharing: a key moves to another committee, and stays the same key
/// @notice When a member is locked out, leaves, or is voted silent, anybody asks for a reshare: its seat is drawn anew, the others
/// stay at their index. t members of the serving committee deal their shares to the new one (docs/protocol.md), whose n' members
/// acknowledge one transcript. Here it is checked that the new share keys and the *old* group key lie on one polynomial. The old
/// committee signs until the handover, the new one from then on. A refresh is the same with no seat lost.
/// @dev Deployed by the KeyRegistry, as its first contract. EIP-712 domain: the KeyRegistry's. Errors of committees in general are
/// those of `IKeyRegistry`. Only keys that a consumer asked for: the committee of a dealt key is its owner's choice.
///
/// Why the handover is named beforehand, at the draw, and not counted from the transaction that finalises: whoever withholds that
/// transaction until the old committee's members see it at different times would otherwise have some of them sign on while the new
/// committee signs too. As it is, `finalise` is in the chain by the deadline or never, and three epochs later every server reads in
/// finalised blocks which of the two it was. Nobody's word on what was signed is needed.
interface IResharing {
    /// @notice Emitted when the reshare of a Live key to committee epoch `committeeEpoch` is asked for, and at each restart.
    /// `activeSet` is the snapshot that `draw` needs.
    event ReshareRequested(
        uint256 indexed keyId,
        uint32 indexed committeeEpoch,
        uint16 attempt,
        uint8 threshold,
        uint8 members,
        uint48 seedBlock,
        Draft draft,
        bytes activeSet
    );
    /// @notice Emitted when committee and dealers are drawn. `deadline` and `handover` are unix times (seconds).
    event ReshareDrawn(
        uint256 indexed keyId,
        uint32 indexed committeeEpoch,
        uint16 attempt,
        Draft draft,
        bytes32 seed,
        uint48 deadline,
        uint48 handover
    );
    /// @notice Emitted when the key has a new committee.
    event Reshared(
        uint256 indexed keyId,
        uint32 indexed committeeEpoch,
        uint16 attempt,
        Committee committee,
        bytes32 dealingsDigest,
        bytes32 leavesRoot,
        uint48 handover
    );
    /// @notice Emitted when a reshare ends because its key was given up.
    event ReshareCancelled(uint256 indexed keyId, uint32 indexed committeeEpoch);
    /// @notice Emitted when the serving committee voted that `server` is silent, which holds until `until` (unix time).
    event SilenceVoted(uint256 indexed keyId, uint32 indexed server, uint48 until);
    /// @notice Emitted when the seats of those that committee epoch `committeeEpoch` left behind are free.
    event PastSeatsFreed(uint256 indexed keyId, uint32 indexed committeeEpoch);

    /// @notice Raised when the key's reshare is in `state`, which does not allow the call.
    error WrongReshareState(uint256 keyId, ReshareState state);
    /// @notice Raised when the key has no consumer: a dealt key, or none.
    error NotReshareable(uint256 keyId);
    /// @notice Raised when no member is lost, no refresh is due before `refreshFrom` (unix time), and the caller is not the consumer.
    error NothingToReshare(uint256 keyId, uint256 refreshFrom);
    /// @notice Raised when the newest committee signs only from `handover` on: one handover at a time.
    error HandoverPending(uint256 keyId, uint48 handover);
    /// @notice Raised when the last point is not the key's group key.
    error GroupKeyChanged(uint256 keyId);
    /// @notice Raised when `votes` members that are not locked out voted, of `needed`.
    error NotEnoughVotes(uint256 votes, uint256 needed);
    /// @notice Raised when a vote would hold until `until`, which is past or more than MAX_VOTE from now.
    error BadVoteTime(uint48 until);
    /// @notice Raised when committee epoch `committeeEpoch` of the key left nobody behind: it is the first, or there is none.
    error NoPastCommittee(uint256 keyId, uint32 committeeEpoch);

    /// @notice Asks for a reshare of a Live key to a t'-of-n' committee and snapshots the active set.
    /// @dev Anybody, with t and n as they are, once a member is not Active, is locked out or voted silent, or REFRESH_AFTER after the
    /// serving committee began; the key's consumer always, and it alone with another t or n. Members of good standing keep their
    /// index, if there is one. Raised: `IKeyRegistry.WrongKeyState`, `NotReshareable`, `WrongReshareState`, `HandoverPending`,
    /// `NothingToReshare`, `IKeyRegistry.BadThreshold`, `IKeyRegistry.WrongCommitment`, `IKeyRegistry.NotEnoughActiveServers`.
    /// @param serving The newest committee.
    function request(uint256 keyId, Committee calldata serving, uint8 threshold, uint8 members) external;

    /// @notice Draws the lost seats and the dealers, once, by anyone.
    /// @dev The seed is as in `IKeyRegistry.draw`. Dealers are t of the preferred members, and others only where there are too few.
    /// Preferred are those that nobody voted silent, in the first attempt only those of them that are not locked out: these still have
    /// their share, and without them a silent member could be among the dealers of each attempt. Dealers are drawn anew at each attempt,
    /// the members not: a dealer that fails must not have committees drawn until one suits it. Raised: `WrongReshareState`, `IKeyRegistry.WrongCommitment`,
    /// `IKeyRegistry.WrongKeyState`, those of the seed, `IServerRegistry.NotEnoughServers`.
    function draw(uint256 keyId, bytes calldata header, bytes calldata activeSet, Draft calldata draft)
        external;

    /// @notice Drawn past its deadline, or Requested whose seed block fell out of the 8191-block window: anyone starts again.
    /// @dev Members that are no longer of good standing lose their seat. New seed, hence other dealers. Raised: as `request`, and
    /// `IKeyRegistry.NotExpired`.
    function restart(uint256 keyId, Committee calldata serving, Draft calldata draft) external;

    /// @notice Ends the reshare of a key that was given up and frees the seats that it took. Raised: `WrongReshareState`,
    /// `IKeyRegistry.WrongKeyState`, `IKeyRegistry.WrongCommitment`.
    function cancel(uint256 keyId, Draft calldata draft) external;

    /// @notice Makes the drawn committee the key's newest: n' acknowledgements of one transcript, and the SCRAPE test of the new share
    /// keys with the group key of the key.
    /// @dev `acknowledgements`: n' signatures over `ReshareAcknowledgement` (docs/protocol.md). Every member must be Active and not
    /// locked out. Raised: `WrongReshareState`, `IKeyRegistry.WrongKeyState`, `IKeyRegistry.CeremonyExpired`,
    /// `IKeyRegistry.WrongCommitment`, `IKeyRegistry.BadLength`, `IServerRegistry.MemberNotActive`, `IServerRegistry.LockedOut`,
    /// `IKeyRegistry.BadAcknowledgement`, `GroupKeyChanged`, `IKeyRegistry.BadPoint`, `IKeyRegistry.InvalidPoint`,
    /// `IKeyRegistry.NotOnePolynomial`.
    function finalise(
        uint256 keyId,
        Draft calldata draft,
        bytes calldata points,
        bytes32 dealingsDigest,
        bytes calldata acknowledgements
    ) external;

    /// @notice t members of the newest committee that are not locked out, be they leaving or suspended, say that `server`, one of theirs or of a committee
    /// in the making, is silent: it counts as lost until `until`. Nobody is slashed for it.
    /// @dev `signatures`: n of 65 bytes over `SilenceVote` (docs/protocol.md), zeros for who did not vote. A vote names the committee
    /// epoch and ends by itself, so that an old one cannot be shown again. Raised: `IKeyRegistry.WrongKeyState`, `NotReshareable`,
    /// `IKeyRegistry.WrongCommitment`, `BadVoteTime`, `IKeyRegistry.BadLength`, `NotEnoughVotes`.
    function voteSilent(
        uint256 keyId,
        Committee calldata serving,
        uint32 server,
        uint48 until,
        bytes calldata signatures
    ) external;

    /// @notice Frees the seats of members that committee epoch `committeeEpoch` does not have, but the one before it had, an
    /// EVIDENCE_WINDOW after the handover: until then what they signed can be proven and paid for.
    /// @dev Raised: `NoPastCommittee`, `IKeyRegistry.SeatsReserved`, `IKeyRegistry.SeatsAlreadyFreed`, `IKeyRegistry.BadLength`,
    /// `IKeyRegistry.WrongCommitment`.
    function freePastSeats(
        uint256 keyId,
        uint32 committeeEpoch,
        Committee calldata past,
        Committee calldata next
    ) external;

    /// @notice The reshare of a key; all zero if there never was one.
    function reshare(uint256 keyId) external view returns (Reshare memory);

    /// @notice Committee `committeeEpoch` of a key that was reshared; all zero where there is none.
    function committee(uint256 keyId, uint32 committeeEpoch) external view returns (CommitteeRecord memory);

    /// @notice The newest committee of a key that is or was Live. Of one that was never reshared it is the registry's.
    function newest(uint256 keyId)
        external
        view
        returns (uint32 committeeEpoch, CommitteeRecord memory record);

    /// @notice Which committee's turn it is at `time` (unix seconds): the newest from its handover on, until then the one before it.
    function servingEpoch(uint256 keyId, uint256 time) external view returns (uint32 committeeEpoch);

    /// @notice Whether `server` lost its seat by a vote that still holds.
    function isSilent(uint256 keyId, uint32 server) external view returns (bool);

    /// @notice The registry whose keys are reshared.
    function KEY_REGISTRY() external view returns (address);

    /// @notice Seconds between deadline and handover: three beacon epochs.
    function HANDOVER_DELAY() external view returns (uint48);

    /// @notice Seconds after which anybody may have the shares of a committee refreshed.
    function REFRESH_AFTER() external view returns (uint48);

    /// @notice Most seconds for which a vote holds.
    function MAX_VOTE() external view returns (uint48);
}
