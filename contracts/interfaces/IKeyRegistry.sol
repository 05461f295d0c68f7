// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IResharing} from "./IResharing.sol";

/// @notice What a key is for. A validator key is held by online servers only; of a withdrawal key so few that all of them together
/// cannot sign.
enum KeyKind {
    Validator,
    Withdrawal
}

/// @notice Where a key stands in its life.
/// @dev None -> Requested -> Drawn -> Live -> Retired or Burned; Drawn -> Requested or Drawn again by `restart`;
/// Requested and Drawn -> Retired when the consumer gives up. A dealt key: None -> Live -> Retired.
enum KeyState {
    None,
    Requested,
    Drawn,
    Live,
    Retired,
    Burned
}

/// @notice A key as the chain keeps it: two storage slots, everything else is calldata checked against them.
struct Key {
    /// Contract that asked for the key and alone may order messages for it (a pools contract). Zero: a dealt key, for which
    /// nobody can order anything.
    address consumer;
    KeyState state;
    KeyKind kind;
    /// Shares that sign (t) and shares that exist (n), of the key's first committee; `IResharing.newest` has those of later ones.
    uint8 threshold;
    uint8 members;
    /// Ceremony number of this key: 0 for the first, one more with each `restart`.
    uint16 attempt;
    /// Requested: number of the block whose PREVRANDAO is the seed. Drawn: unix time until which the ceremony may
    /// be finalised. Retired or Burned: unix time from which its seats can be freed. Live: unix time of finalisation.
    uint48 mark;
    /// Requested: `keccak256(abi.encode(keccak256(activeSet), kept))`. Drawn: `keccak256(abi.encode(committee))`.
    /// Live, Retired after Live, Burned: Merkle root of the share leaves. Zero once the seats are freed.
    bytes32 commitment;
}

/// @notice What `importDealt` takes: the shares of an existing validator key, as its dealer made them.
struct DealtImport {
    uint8 threshold;
    /// n server ids, ascending; share index = position + 1.
    uint32[] committee;
    /// n share keys in index order, then the group key, 128 bytes each.
    bytes points;
    /// First duty key of the key; zero: nobody may ask for duties until the owner names one.
    address dutyKey;
    /// keccak256 of the slashing-protection history (EIP-3076 interchange, its bytes) that every member imported.
    bytes32 historyHash;
    /// n signatures of 65 bytes, in index order, over `DealtAcknowledgement` (docs/protocol.md).
    bytes acknowledgements;
    /// BLS signature (256 bytes) with the group key over the same digest.
    bytes possession;
}

/// @title A contract that asks for keys
interface IKeyConsumer {
    /// @notice Account whose servers must not be drawn for `keyId` (the provider of its pool); zero for none.
    function excludedOperator(uint256 keyId) external view returns (address);

    /// @notice Who may ask for duties of `keyId` now: the duty key of the provider that serves it, and the number of that
    /// provider's assignment; zeros for a key that is not this contract's.
    /// @dev As `IKeyRegistry.dutyAssignment`, which asks it for Live keys only. It must not revert.
    function dutyAssignment(uint256 keyId) external view returns (address dutyKey, uint64 number);

    /// @notice Court only: two duties of `keyId` that conflict were asked for in assignment `number`, one by each of `dutyKeys`,
    /// which may be the same. Takes the fixed penalty of the provider that held the assignment and once named both, once per
    /// assignment; at most a tenth of it is `reporter`'s.
    /// @dev It reverts where one of them was never that provider's, there was no such assignment, or it paid already.
    function penaliseProvider(uint256 keyId, uint64 number, address[2] calldata dutyKeys, address reporter)
        external
        returns (uint256 penalty, uint256 bounty);
}

/// @title Keys nobody holds
/// @notice A consumer asks for a key; a seed that does not exist yet draws the committee; its servers run the DKG
/// off-chain; anyone finalises. From then on the registry knows one Merkle root and the hash of the group key.
/// @dev Encodings: G1 points are EIP-2537 (128 bytes, x then y, each padded to 64), G2 points 256 bytes. Ids of
/// keys count from 1. Share indices are 1 to n, in committee order. EIP-712 domain of all protocol messages:
/// name "Stkr", version "1", chain id, this contract. docs/protocol.md has all struct types.
interface IKeyRegistry {
    /// @notice Emitted when `consumer` asks for a key. `activeSet` is the snapshot that `draw` needs.
    event KeyRequested(
        uint256 indexed keyId,
        address indexed consumer,
        KeyKind kind,
        uint8 threshold,
        uint8 members,
        uint48 seedBlock,
        bytes activeSet
    );
    /// @notice Emitted when a failed ceremony starts again with `kept` members; `seedBlock` 0 means nobody was
    /// replaced and the same committee tries again until `deadline`.
    event CeremonyRestarted(
        uint256 indexed keyId,
        uint16 attempt,
        uint32[] kept,
        uint48 seedBlock,
        uint48 deadline,
        bytes activeSet
    );
    /// @notice Emitted when the committee (server ids, index = position + 1) is drawn.
    event CommitteeDrawn(
        uint256 indexed keyId, uint16 attempt, uint32[] committee, bytes32 seed, uint48 deadline
    );
    /// @notice Emitted when the key is live. `points` are the n share keys in index order, then the group key.
    event KeyFinalised(
        uint256 indexed keyId,
        uint16 attempt,
        uint32[] committee,
        address[] signers,
        bytes points,
        bytes32 dealingsDigest,
        bytes32 leavesRoot
    );
    /// @notice Emitted when `owner` imports a dealt key, before its `KeyFinalised` (attempt 0, dealings digest 0).
    event DealtKeyImported(
        uint256 indexed keyId, address indexed owner, uint8 threshold, bytes32 historyHash
    );
    /// @notice Emitted when the owner of a dealt key names a duty key; `number` as in `dutyAssignment`.
    event DutyKeyNamed(uint256 indexed keyId, address indexed dutyKey, uint64 number);
    /// @notice Emitted when signing `signingRoot` with the key is ordered, for ever.
    event MessageOrdered(uint256 indexed keyId, bytes32 indexed signingRoot);
    /// @notice Emitted when the key is given up; `burned` says that a forbidden group signature was shown.
    event KeyRetired(uint256 indexed keyId, bool burned);
    /// @notice Emitted when the seats of a retired key are free again.
    event SeatsFreed(uint256 indexed keyId);
    /// @notice Emitted when governance admits a pools contract.
    event ConsumerAdded(address indexed consumer);
    /// @notice Emitted when governance sets the ceremony window (seconds).
    event CeremonyWindowChanged(uint48 window);

    /// @notice Raised when the key is in `state`, which does not allow the call.
    error WrongKeyState(uint256 keyId, KeyState state);
    /// @notice Raised when `caller` is not the key's consumer, or no consumer at all.
    error NotConsumer(address caller);
    /// @notice Raised when `caller` does not own a dealt key `keyId`.
    error NotKeyOwner(uint256 keyId, address caller);
    /// @notice Raised when member `position` (from 0) of a dealt key's committee has no greater id than the one before it.
    error CommitteeNotAscending(uint256 position);
    /// @notice Raised when the group key did not sign `digest`. Too little gas for the precompiles looks the same.
    error BadPossession(bytes32 digest);
    /// @notice Raised when t-of-n breaks a bound: 2t > n; for validator keys 2t - n >= 2; n - t >= 1; n <= MAX_MEMBERS.
    error BadThreshold(uint8 threshold, uint8 members);
    /// @notice Raised when fewer servers are active than the committee needs.
    error NotEnoughActiveServers(uint256 active, uint256 needed);
    /// @notice Raised when calldata does not match what the key committed to.
    error WrongCommitment(bytes32 given, bytes32 committed);
    /// @notice Raised when the seed block is still to come.
    error SeedNotReady(uint48 seedBlock, uint256 blockNumber);
    /// @notice Raised when the header is not that of block `seedBlock`.
    error WrongHeader(uint48 seedBlock, uint256 headerNumber);
    /// @notice Raised when the header does not hash to the block hash the chain knows.
    error UnknownHeader(uint48 seedBlock, bytes32 headerHash);
    /// @notice Raised when a ceremony or draw has not yet run out of time.
    error NotExpired(uint256 keyId, uint256 until);
    /// @notice Raised when the ceremony ran out of time.
    error CeremonyExpired(uint256 keyId, uint48 deadline);
    /// @notice Raised when acknowledgement `index` (from 1) was signed by `recovered`, not by `signer`.
    error BadAcknowledgement(uint8 index, address recovered, address signer);
    /// @notice Raised when calldata has the wrong length.
    error BadLength(uint256 length, uint256 expected);
    /// @notice Raised when point `position` (from 0; n = the group key) is infinity, or the same as an earlier one or
    /// its negation. A share key that equals the group key would let one member sign alone.
    error BadPoint(uint256 position);
    /// @notice Raised when the precompile refuses a point of key `keyId`: off the curve, outside the subgroup or the field.
    /// It does not say which of them.
    error InvalidPoint(uint256 keyId);
    /// @notice Raised when the points of key `keyId` do not lie on one polynomial of degree `threshold` - 1.
    error NotOnePolynomial(uint256 keyId, uint8 threshold);
    /// @notice Raised when the group key belongs to key `keyId` already.
    error GroupKeyTaken(uint256 keyId);
    /// @notice Raised when seats are freed before `from`.
    error SeatsReserved(uint256 keyId, uint256 from);
    /// @notice Raised when seats were freed already.
    error SeatsAlreadyFreed(uint256 keyId);
    /// @notice Raised when a parameter lies outside its bounds.
    error ParameterOutOfBounds(uint256 value, uint256 low, uint256 high);
    /// @notice Raised at deployment when `servers` obeys `keyRegistry` and not this contract.
    error ForeignServerRegistry(address servers, address keyRegistry);

    /// @notice Consumers only: asks for a new key and snapshots the active set.
    /// @dev A committee of a validator key is drawn from the online servers. That of a withdrawal key has t - 1 online members, so that
    /// all online servers together cannot sign, and n - t + 1 offline ones. Raised: `NotConsumer`, `BadThreshold`,
    /// `NotEnoughActiveServers` (of one kind).
    function request(KeyKind kind, uint8 threshold, uint8 members) external returns (uint256 keyId);

    /// @notice Draws the committee, once, by anyone.
    /// @dev The seed is PREVRANDAO of `seedBlock`, proven from its RLP header against the block hash (BLOCKHASH, then
    /// EIP-2935). A hash could be ground by its builder; a same-block value by a wrapper that reverts unless it
    /// likes the result. This seed is fixed before the transaction runs, so reverting changes nothing. What remains: the
    /// proposers just before the seed block may each withhold a block, at its price, to choose between two seeds. The consumer
    /// names the operator whose servers are left out (`IKeyConsumer.excludedOperator`).
    /// Raised: `SeedNotReady`, `WrongHeader`, `UnknownHeader`, `WrongCommitment`, `IServerRegistry.NotEnoughServers`.
    /// @param header RLP of the header of `seedBlock`.
    /// @param activeSet The snapshot from `KeyRequested` or `CeremonyRestarted`.
    /// @param kept Members that keep their seat; empty at the first attempt.
    function draw(uint256 keyId, bytes calldata header, bytes calldata activeSet, uint32[] calldata kept)
        external;

    /// @notice Requested whose seed block fell out of the 8191-block window, or Drawn past its deadline: anyone
    /// starts again.
    /// @dev From Drawn: members that are no longer Active, or locked out, lose their seat and are redrawn from a new snapshot, the
    /// others stay; if all are Active the same committee tries again at once. From Requested: new snapshot, new seed.
    /// Raised: `WrongKeyState`, `WrongCommitment`, `NotExpired` (with the block number from Requested, the unix time from
    /// Drawn), `NotEnoughActiveServers`.
    /// @param members Drawn: the committee. Requested: the kept members of the pending draw.
    /// @param activeSetHash Requested: keccak256 of the snapshot. Drawn: zero.
    function restart(uint256 keyId, uint32[] calldata members, bytes32 activeSetHash) external;

    /// @notice Makes the key live: n acknowledgements of one transcript, and the SCRAPE dual-code test.
    /// @dev `points`: n share keys in index order, then the group key, 128 bytes each. `acknowledgements`: n
    /// signatures of 65 bytes over `Acknowledgement` (docs/protocol.md). Every member must be Active and not locked out. SCRAPE
    /// (https://eprint.iacr.org/2017/216, section 2.1): sum over i = 0..n of (-1)^i C(n,i) q(i) P_i = O for a random q
    /// of degree n - t, by Fiat-Shamir over t and all points; P_0 is the group key.
    /// Raised: `WrongKeyState`, `CeremonyExpired`, `WrongCommitment`, `BadLength`, `IServerRegistry.MemberNotActive`, `IServerRegistry.LockedOut`,
    /// `BadAcknowledgement`, `GroupKeyTaken`, `BadPoint`, `InvalidPoint`, `NotOnePolynomial`.
    function finalise(
        uint256 keyId,
        uint32[] calldata committee,
        bytes calldata points,
        bytes32 dealingsDigest,
        bytes calldata acknowledgements
    ) external;

    /// @notice Consumer of a Live key: orders its committee to sign `signingRoot`. Never taken back.
    /// @dev Emitted: `MessageOrdered`. Raised: `NotConsumer`, `WrongKeyState`.
    function order(uint256 keyId, bytes32 signingRoot) external;

    /// @notice Consumer: gives up the key; `burned` if a forbidden group signature was shown.
    /// @dev From Requested and Drawn the seats already taken can be freed at once; from Live after EVIDENCE_WINDOW.
    /// Only a Live key can burn. Emitted: `KeyRetired`. Raised: `NotConsumer`, `WrongKeyState`.
    function retire(uint256 keyId, bool burned) external;

    /// @notice Frees the seats of a key retired before it was Live, at once.
    /// @param members What `commitment` covers: the committee (it was Drawn) or the kept members (it was Requested).
    /// @param activeSetHash Requested: keccak256 of the snapshot. Drawn: zero.
    /// Emitted: `SeatsFreed`. Raised: `WrongKeyState`, `SeatsAlreadyFreed`, `WrongCommitment`.
    function freeSeatsOfUnfinished(uint256 keyId, uint32[] calldata members, bytes32 activeSetHash) external;

    /// @notice Frees the seats of a Retired or Burned key EVIDENCE_WINDOW after its end; the leaves rebuild the root.
    /// @dev Arguments as `KeyFinalised` has them, or the last `IResharing.Reshared`. Emitted: `SeatsFreed`. Raised: `WrongKeyState`, `SeatsReserved`,
    /// `SeatsAlreadyFreed`, `BadLength`, `WrongCommitment`.
    function freeSeats(
        uint256 keyId,
        uint32[] calldata committee,
        address[] calldata signers,
        bytes calldata points
    ) external;

    /// @notice Makes a standalone key of the shares that a dealer made of an existing validator key; the caller owns it.
    /// @dev The owner knows the whole key, or knows who does, and bears all loss. So the key can serve no pool: it has no
    /// consumer, so nobody can order a message for it (no deposit and no exit is ever signed with it: whoever holds the
    /// whole key makes the exit), and a pool uses the key only that was made for its own request. There is no cap on the
    /// shares of one operator, as the owner chooses the committee; t-of-n is bounded as for a pool's key.
    ///
    /// All members and the group key sign one EIP-712 digest, `DealtAcknowledgement(address owner,uint8 threshold,bytes32
    /// pointsHash,bytes32 committeeHash,bytes32 historyHash)`. A member says: I hold the share of these points, and I imported
    /// this history. The group key says: my holder wants this owner. Without that anybody who sees a pool's `finalise` on its
    /// way could have the group key registered before it and stop the pool. The one digest means that every member imported
    /// the same history: an owner cannot give one server less of it than another.
    /// Emitted: `DealtKeyImported`, `KeyFinalised`, `DutyKeyNamed`, `IServerRegistry.SeatsChanged`. Raised: `BadThreshold`,
    /// `BadLength`, `CommitteeNotAscending`, `BadAcknowledgement`, `GroupKeyTaken`, `BadPoint`, `InvalidPoint`,
    /// `NotOnePolynomial`, `BadPossession`, and those of `IServerRegistry.takeSeats`.
    function importDealt(DealtImport calldata dealt) external returns (uint256 keyId);

    /// @notice Owner of a Live dealt key: names another duty key; zero for none. Requests under the old number are refused
    /// from then on, also if the same key comes back.
    /// @dev It shows no proof of possession: who may ask is its owner's risk alone, and a gateway serves the keys that it is
    /// told to. Emitted: `DutyKeyNamed`. Raised: `NotKeyOwner`, `WrongKeyState`.
    function setDutyKey(uint256 keyId, address dutyKey) external;

    /// @notice Owner of a Live dealt key: gives it up. Its seats come free as those of other keys (`freeSeats`).
    /// @dev Its shares sign no duty from then on; the whole key, wherever it is, does. Emitted: `KeyRetired`. Raised:
    /// `NotKeyOwner`, `WrongKeyState`.
    function retireDealt(uint256 keyId) external;

    /// @notice Who owns the dealt key `keyId`, the number of its duty key and that key; zeros for any other key.
    function dealtKey(uint256 keyId) external view returns (address owner, uint64 number, address dutyKey);

    /// @notice Whether signing `signingRoot` with the key was ever ordered: the one view servers act on.
    function isOrdered(uint256 keyId, bytes32 signingRoot) external view returns (bool);

    /// @notice The key with this id; state None where there is none.
    function key(uint256 keyId) external view returns (Key memory);

    /// @notice Who may ask for duties (attestations, blocks, ...) of a Live key now: servers answer requests that this
    /// secp256k1 key signed and that name this number, and no others.
    /// @dev Read at latest by every server: this is all of the fencing between one provider and the next. A provider may
    /// change its duty key within an assignment; `number` counts assignments of providers to the key, from 1, and never
    /// falls, so a request made under an earlier assignment stays refused even if the same provider comes back. Of a dealt
    /// key it counts the duty keys that its owner named.
    /// @return dutyKey Zero where nobody may ask: no such key, not Live, or the provider has no duty key.
    /// @return number Zero where there was never an assignment, or the key is not Live.
    function dutyAssignment(uint256 keyId) external view returns (address dutyKey, uint64 number);

    /// @notice Keys requested so far.
    function keyCount() external view returns (uint256);

    /// @notice Id of the key whose group key hashes (keccak256 of its 128 bytes) to this; 0 for none.
    function keyOfGroupKey(bytes32 groupKeyHash) external view returns (uint256);

    /// @notice Whether `leaf` belongs to the share leaves of committee `committeeEpoch` of the key; of the first one, 0, until the
    /// key's seats are freed.
    /// @dev leaf = keccak256(abi.encode(uint256 index, uint256 server, address signer, bytes32[4] share key)), leaves in
    /// index order. Level by level, neighbours are hashed as a pair, the smaller first; the last node of an odd level
    /// moves up as it is. The root is what one node is left of.
    function isShareLeaf(uint256 keyId, uint32 committeeEpoch, bytes32 leaf, bytes32[] calldata proof)
        external
        view
        returns (bool);

    /// @notice How many members of a Live key may take part (`IServerRegistry.isActive`), against the `threshold` that it
    /// needs. Correct partials of the others still count, so a key signs below it too; but not for long.
    /// @dev Arguments as `KeyFinalised` has them, or the last `IResharing.Reshared`. Raised: `WrongKeyState`, `BadLength`,
    /// `WrongCommitment`.
    function healthyShares(
        uint256 keyId,
        uint32[] calldata committee,
        address[] calldata signers,
        bytes calldata points
    ) external view returns (uint256 healthy, uint8 threshold);

    /// @notice Most members of a key: 16.
    function MAX_MEMBERS() external view returns (uint8);

    /// @notice Where the key's later committees are made, with the key itself unchanged; deployed by this contract.
    function RESHARING() external view returns (IResharing);

    /// @notice The registry that seats the members.
    function SERVER_REGISTRY() external view returns (address);

    /// @notice Most shares one operator may hold of a t-of-n key of `kind`: max(1, min(2t - n - 1, n - t)) of a
    /// validator key, min(t - 1, n - t) of a withdrawal key.
    function operatorCap(KeyKind kind, uint8 threshold, uint8 members) external pure returns (uint256);

    /// @notice EIP-712 domain separator of all protocol messages.
    function domainSeparator() external view returns (bytes32);

    /// @notice Whether `account` may request keys.
    function isConsumer(address account) external view returns (bool);

    /// @notice Seconds a ceremony of a validator key has from draw to finalisation, and a reshare; those of a withdrawal key, whose
    /// offline members say by hand what they say, have seven times as many.
    function ceremonyWindow() external view returns (uint48);

    /// @notice Blocks between a request and its seed block.
    function SEED_DELAY() external view returns (uint48);

    /// @notice Seconds for which the seats of an ended committee stay reserved as evidence may still come.
    function EVIDENCE_WINDOW() external view returns (uint48);

    /// @notice Governance: admits a pools contract.
    function addConsumer(address consumer) external;

    /// @notice Governance: sets the ceremony window within [10 minutes, 7 days]; running ceremonies keep theirs.
    function setCeremonyWindow(uint48 window) external;
}
