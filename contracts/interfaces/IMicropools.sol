// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IWithdrawalKeys} from "./IWithdrawalKeys.sol";

/// @notice Where a micropool stands in its life.
/// @dev None -> Open -> Full -> KeyReady -> Predeposited -> Active. Open, Full and KeyReady -> Cancelled after their
/// own deadline, or at once when a foreign deposit is proven; Predeposited -> Cancelled by such a proof, or when the withdrawal
/// key of the pool signed no change of its credentials in CHANGE_WINDOW.
/// Exiting and Settled follow with the money issue.
enum PoolState {
    None,
    Open,
    Full,
    KeyReady,
    Predeposited,
    Active,
    Cancelled
}

/// @notice A micropool: two storage slots. Positions are ERC-6909 balances (id = pool, amount = wei).
struct Pool {
    /// Account that opened the pool, runs its validator and put up the insurance.
    address provider;
    PoolState state;
    /// t and n of the pool's validator key.
    uint8 threshold;
    uint8 members;
    /// Wei staked and not left or refunded.
    uint72 staked;
    /// Key id in the key registry; 0 before `requestKey`.
    uint64 keyId;
    /// Unix time. Open, and Full until the key is asked for: OPEN_WINDOW after the opening; Full with a key: KEY_WINDOW
    /// after the request; KeyReady: PREDEPOSIT_WINDOW after the order: from then on anyone may cancel. Predeposited: from
    /// then on anyone may top up.
    uint48 deadline;
    /// Wei of insurance still held here.
    uint72 insurance;
    /// Providers that the pool was assigned to so far, the current one included: 1 from the opening on. Requests for
    /// duties name it (`IKeyRegistry.dutyAssignment`).
    uint64 assignment;
    /// Opened with a withdrawal key: 0x00 credentials (`IWithdrawalKeys`).
    bool blsCredentials;
}

/// @title Micropools: 64 stakers at most, 32 ETH, one validator nobody can steal
/// @notice Stakers pool 32 ETH for a provider that put up 2 ETH of insurance. The pool asks for a threshold key,
/// orders exactly one DepositMessage (1 ETH to the pool's own vault), checks its BLS signature before a wei moves,
/// waits for anyone to show a signature over a foreign deposit, and only then sends the other 31 ETH.
/// @dev Amounts are wei unless a name says gwei. Every step can be pushed by anyone once its condition holds. ETH
/// leaves to its owner only when its owner asks (pull payments). Encodings as in `IKeyRegistry`.
interface IMicropools {
    /// @notice Emitted when `provider` opens pool `poolId`.
    event PoolOpened(
        uint256 indexed poolId,
        address indexed provider,
        uint8 threshold,
        uint8 members,
        address vault,
        uint48 deadline
    );
    /// @notice Emitted when `staker` adds `amount` wei; the pool holds `staked` wei now.
    event Staked(uint256 indexed poolId, address indexed staker, uint256 amount, uint256 staked);
    /// @notice Emitted when `staker` takes `amount` wei out of an Open pool.
    event Left(uint256 indexed poolId, address indexed staker, uint256 amount, uint256 staked);
    /// @notice Emitted when the pool moves to `state`; `deadline` as in `Pool`.
    event PoolStateChanged(uint256 indexed poolId, PoolState state, uint48 deadline);
    /// @notice Emitted when the pool's key `keyId` is requested.
    event PoolKeyRequested(uint256 indexed poolId, uint256 indexed keyId);
    /// @notice Emitted when the pool orders its one DepositMessage. `pubkey` is compressed (48 bytes).
    event DepositOrdered(
        uint256 indexed poolId,
        uint256 indexed keyId,
        bytes pubkey,
        bytes32 withdrawalCredentials,
        uint64 amountGwei,
        bytes32 signingRoot
    );
    /// @notice Emitted for each deposit sent: first 1 ETH, then 31 ETH. `signature` is compressed (96 bytes).
    event DepositSent(
        uint256 indexed poolId, bytes pubkey, uint64 amountGwei, bytes signature, bytes32 depositDataRoot
    );
    /// @notice Emitted when a signature of the group key over a deposit to `foreignCredentials` is shown.
    event ForeignDepositProven(
        uint256 indexed poolId,
        uint256 indexed keyId,
        bytes32 foreignCredentials,
        uint64 amountGwei,
        address reporter
    );
    /// @notice Emitted when `staker` gets `amount` wei back from a Cancelled pool.
    event Refunded(uint256 indexed poolId, address indexed staker, uint256 amount);
    /// @notice Emitted when the provider takes `amount` wei of insurance out of a Cancelled pool.
    event InsuranceWithdrawn(uint256 indexed poolId, address indexed provider, uint256 amount);

    /// @notice Emitted when the provider of `assignment` is penalised: its insurance loses `penalty`, of which `bounty` is
    /// `reporter`'s to withdraw and the rest a claim of the pool's stakers. The pool shall migrate to another provider.
    event ProviderPenalised(
        uint256 indexed poolId,
        uint64 indexed assignment,
        address indexed provider,
        uint256 penalty,
        uint256 bounty,
        address reporter
    );
    /// @notice Emitted when `reporter` withdraws its bounties.
    event ProviderBountyPaid(address indexed reporter, uint256 amount);

    /// @notice Raised when the pool is in `state`, which does not allow the call.
    error WrongPoolState(uint256 poolId, PoolState state);
    /// @notice Raised when a stake carries no ether.
    error NothingStaked(uint256 poolId);
    /// @notice Raised at construction when a window of `value` seconds lies outside its bounds.
    error WindowOutOfBounds(uint256 value, uint256 low, uint256 high);
    /// @notice Raised at construction when there is no code at `account`.
    error NotAContract(address account);
    /// @notice Raised when the caller of `open` is no registered provider.
    error NotProvider(address caller);
    /// @notice Raised when `sent` wei of insurance is not exactly `required`.
    error WrongInsurance(uint256 sent, uint256 required);
    /// @notice Raised when a stake of `amount` wei is more than the `room` wei left.
    error StakeTooLarge(uint256 amount, uint256 room);
    /// @notice Raised when a stake would leave a gap of `gap` wei that nobody could fill with `minimum` wei.
    error GapTooSmall(uint256 gap, uint256 minimum);
    /// @notice Raised when `account` would hold `amount` wei, which is neither 0 nor at least `minimum`.
    error PositionTooSmall(address account, uint256 amount, uint256 minimum);
    /// @notice Raised when the pool has asked for its key already.
    error KeyAlreadyRequested(uint256 poolId, uint256 keyId);
    /// @notice Raised when the group key in calldata is not the key of this pool.
    error WrongGroupKey(uint256 poolId, uint256 keyId);
    /// @notice Raised when the BLS signature does not verify under the group key over `signingRoot`.
    error InvalidSignature(uint256 poolId, bytes32 signingRoot);
    /// @notice Raised when a deposit shown as foreign is the pool's own.
    error NotForeign(bytes32 withdrawalCredentials);
    /// @notice Raised before `deadline`.
    error TooEarly(uint256 poolId, uint48 deadline);
    /// @notice Raised when no change of the pool's 0x00 credentials was shown yet.
    error NoChangeShown(uint256 poolId);
    /// @notice Raised when a change of the pool's credentials was shown, so that the pool goes on.
    error ChangeShown(uint256 poolId);
    /// @notice Raised when the pool has 0x01 credentials.
    error NoWithdrawalKey(uint256 poolId);
    /// @notice Raised when anybody but the Court of the key registry's server registry judges a provider.
    error NotCourt(address caller);
    /// @notice Raised when assignment `number` is not the `current` one of the pool.
    error WrongAssignment(uint256 poolId, uint64 number, uint64 current);
    /// @notice Raised when `dutyKey` never was a duty key of the pool's `provider`.
    error NotDutyKey(address dutyKey, address provider);
    /// @notice Raised when the provider of assignment `number` paid already.
    error AlreadyPenalised(uint256 poolId, uint64 number);
    /// @notice Raised when `reporter` has no bounty to withdraw.
    error NoBounty(address reporter);
    /// @notice Raised when there is nothing to pay to `account`.
    error NothingToPay(uint256 poolId, address account);
    /// @notice Raised when ether cannot be delivered to `to`.
    error TransferFailed(address to, uint256 amount);

    /// @notice Opens a pool of the calling provider; `msg.value` must be exactly `INSURANCE`.
    /// @dev Emitted: `PoolOpened`. Raised: `NotProvider`, `WrongInsurance`, `IKeyRegistry.BadThreshold` (a pool whose
    /// key could never be requested would only lock stakes until its deadline).
    /// @return poolId Counts from 1.
    function open(uint8 threshold, uint8 members) external payable returns (uint256 poolId);

    /// @notice The same with 0x00 credentials: those of the calling provider's withdrawal key with this group key, which must be
    /// Live and which no other pool can use from then on.
    /// @dev 0x00 has no sweeps and no exit by EIP-7002 before the credentials are changed to the vault. So the 31 ETH wait for the
    /// proof that the withdrawal committee can do it (`IWithdrawalKeys.showChange`). Emitted: `PoolOpened`,
    /// `IWithdrawalKeys.WithdrawalKeyUsed`. Raised: those of `open`, and of `IWithdrawalKeys.use`.
    /// @param withdrawalKey 128 bytes, EIP-2537.
    function openWithWithdrawalKey(uint8 threshold, uint8 members, bytes calldata withdrawalKey)
        external
        payable
        returns (uint256 poolId);

    /// @notice Stakes `msg.value` wei into an Open pool; the position grows by that amount.
    /// @dev Emitted: `Transfer` (ERC-6909), `Staked`, `PoolStateChanged` when 32 ETH are there: the pool is Full.
    /// Raised: `NothingStaked`, `WrongPoolState`, `StakeTooLarge`, `GapTooSmall`, `PositionTooSmall`. The deadline is not
    /// read: past it anyone may cancel and everyone may leave, so a late stake costs nobody anything.
    function stake(uint256 poolId) external payable;

    /// @notice Takes `amount` wei of the caller's position out of an Open pool and pays it to the caller.
    /// @dev Emitted: `Transfer`, `Left`. Raised: `WrongPoolState`, `NothingToPay` (amount 0),
    /// `ERC6909InsufficientBalance`, `PositionTooSmall` if a rest below the minimum would stay, `TransferFailed`;
    /// `GapTooSmall` never: leaving widens the gap.
    function leavePool(uint256 poolId, uint256 amount) external;

    /// @notice Anyone: a Full pool asks the key registry for its key, once.
    /// @dev Emitted: `PoolKeyRequested`, `PoolStateChanged` (still Full, with the deadline of the key). Raised:
    /// `WrongPoolState`, `KeyAlreadyRequested`, and what `IKeyRegistry.request` raises (too few active servers: ask again
    /// later; the deadline of the opening still stands).
    function requestKey(uint256 poolId) external returns (uint256 keyId);

    /// @notice Anyone, once the key is Live: computes credentials and signing root, orders the deposit, deploys the
    /// vault. Full -> KeyReady.
    /// @dev Emitted: `DepositOrdered`, `PoolStateChanged`. Raised: `WrongPoolState`, `WrongGroupKey`,
    /// `IKeyRegistry.WrongKeyState` (the key is not Live).
    /// @param groupKey 128 bytes, EIP-2537; checked against the hash in the key registry.
    function orderDeposit(uint256 poolId, bytes calldata groupKey) external;

    /// @notice Anyone: verifies the signature over the ordered DepositMessage and sends 1 ETH to the deposit
    /// contract. KeyReady -> Predeposited; the challenge window starts.
    /// @dev Emitted: `PoolStateChanged`, `DepositSent`. Raised: `WrongPoolState`, `WrongGroupKey`, `InvalidSignature`.
    /// @param signature 256 bytes, EIP-2537 G2.
    function predeposit(uint256 poolId, bytes calldata groupKey, bytes calldata signature) external;

    /// @notice Anyone: shows a valid signature of the group key over a DepositMessage to other credentials. Burns the
    /// key and cancels the pool; after the predeposit the lost 1 ETH comes from the insurance.
    /// @dev States KeyReady and Predeposited (also after the window, until the top-up). Foreign is every message to
    /// other credentials, whatever its amount; one to the pool's own credentials can only be a gift to the stakers, and is
    /// not foreign with any amount. 0x02 credentials of the pool's vault are foreign: nobody ordered them. Nobody but t
    /// members can make such a signature, so nobody else can stop a pool. The key need not be watched further: an
    /// unordered message of an Active pool's key is a matter for the court.
    /// Emitted: `ForeignDepositProven`, `PoolStateChanged`. Raised: `WrongPoolState`, `NotForeign`, `WrongGroupKey`,
    /// `InvalidSignature`.
    function proveForeignDeposit(
        uint256 poolId,
        bytes calldata groupKey,
        bytes32 withdrawalCredentials,
        uint64 amountGwei,
        bytes calldata signature
    ) external;

    /// @notice Anyone, after the challenge window: sends the other 31 ETH. Predeposited -> Active.
    /// @dev The beacon chain checks no signature of a top-up (the validator or its pending deposit exists, and the
    /// queue is first in, first out), so the deposit contract gets 96 zero bytes with a root computed over them.
    /// A pool with 0x00 credentials needs a change of them that its withdrawal key signed, shown to the chain.
    /// Emitted: `PoolStateChanged`, `DepositSent`. Raised: `WrongPoolState`, `TooEarly`, `NoChangeShown`, `WrongGroupKey`.
    function topUp(uint256 poolId, bytes calldata groupKey) external;

    /// @notice Anyone: cancels a pool in Open, Full or KeyReady whose deadline has passed.
    /// @dev A requested key is retired with it, so its servers get their seats back. A signature over the ordered deposit
    /// may still exist; ether that a stranger deposits with it goes to the vault of a dead pool, at the stranger's cost.
    /// Emitted: `PoolStateChanged`. Raised: `WrongPoolState`, `TooEarly`.
    function cancel(uint256 poolId) external;

    /// @notice Anyone: cancels a Predeposited pool whose withdrawal key signed no change of its credentials in CHANGE_WINDOW after the
    /// challenge window. The 1 ETH that nobody can reach comes from the insurance.
    /// @dev The provider chose to open the pool with that key. Emitted: `PoolStateChanged`. Raised: `WrongPoolState`, `TooEarly`,
    /// `NoWithdrawalKey`, `ChangeShown`.
    function cancelUnchanged(uint256 poolId) external;

    /// @notice Pays the caller's whole position in a Cancelled pool back.
    /// @dev A holder that cannot receive ether transfers its position to an account that can. Emitted: `Transfer`,
    /// `Refunded`. Raised: `WrongPoolState`, `NothingToPay`, `TransferFailed`.
    function refund(uint256 poolId) external;

    /// @notice Pays what is left of the insurance of a Cancelled pool to its provider (the caller).
    /// @dev Emitted: `InsuranceWithdrawn`. Raised: `WrongPoolState`, `NothingToPay` (nothing left, or the caller is not
    /// the provider), `TransferFailed`.
    function withdrawInsurance(uint256 poolId) external;

    /// @notice Pays its bounties for faults of providers to the caller.
    /// @dev Emitted: `ProviderBountyPaid`. Raised: `NoBounty`, `TransferFailed`.
    function withdrawBounty() external;

    /// @notice Bounties (wei) that `reporter` can withdraw.
    function bountyOf(address reporter) external view returns (uint256);

    /// @notice The last assignment of the pool whose provider was penalised (0: none), and what penalties made a claim of its
    /// stakers so far (wei). The claim is held here; how it is shared out belongs to the rules of losses and rewards.
    function penalties(uint256 poolId) external view returns (uint64 assignment, uint128 stakersClaim);

    /// @notice Whether the current provider of the pool was proven at fault: the pool shall have another.
    function isMigrationDue(uint256 poolId) external view returns (bool);

    /// @notice 1 ether: what a provider at fault loses of its insurance, once per assignment. The rest still covers a lost
    /// predeposit.
    function PROVIDER_PENALTY() external view returns (uint256);

    /// @notice The pool with this id; state None where there is none.
    function pool(uint256 poolId) external view returns (Pool memory);

    /// @notice Pools opened so far.
    function poolCount() external view returns (uint256);

    /// @notice Pool that uses key `keyId`; 0 for none.
    function poolOfKey(uint256 keyId) external view returns (uint256);

    /// @notice Vault of the pool: its CREATE2 address, known before anything is deployed.
    function vaultOf(uint256 poolId) external view returns (address);

    /// @notice 0x01 credentials: 0x01, eleven zero bytes, the vault. Of a pool opened with a withdrawal key those of that key: 0x00, then
    /// the last 31 bytes of the SHA-256 of its 48 bytes.
    function withdrawalCredentials(uint256 poolId) external view returns (bytes32);

    /// @notice Signing root of a DepositMessage on this network (deposit domain, zero genesis validators root).
    /// @param pubkey Compressed, 48 bytes.
    function depositSigningRoot(bytes calldata pubkey, bytes32 withdrawalCredentials, uint64 amountGwei)
        external
        view
        returns (bytes32);

    /// @notice 0.5 ether.
    function MIN_STAKE() external view returns (uint256);

    /// @notice 32 ether.
    function POOL_SIZE() external view returns (uint256);

    /// @notice 2 ether.
    function INSURANCE() external view returns (uint256);

    /// @notice 1 ether.
    function PREDEPOSIT() external view returns (uint256);

    /// @notice Seconds from the opening in which a pool must fill and ask for its key.
    function OPEN_WINDOW() external view returns (uint48);

    /// @notice Seconds from `requestKey` in which the key must be Live and the deposit ordered.
    function KEY_WINDOW() external view returns (uint48);

    /// @notice Seconds from `orderDeposit` in which the servers must have signed and the predeposit been sent.
    function PREDEPOSIT_WINDOW() external view returns (uint48);

    /// @notice Seconds (at least 12 hours) after the predeposit in which a foreign deposit can be shown before the top-up.
    function CHALLENGE_WINDOW() external view returns (uint48);

    /// @notice 90 days, from the end of the challenge window: how long a pool with 0x00 credentials waits for its change. An index of the
    /// validator exists only once the beacon chain has come to its deposit, and queues of weeks were seen.
    function CHANGE_WINDOW() external view returns (uint48);

    /// @notice Genesis fork version of the beacon chain this contract deposits to.
    function GENESIS_FORK_VERSION() external view returns (bytes4);

    /// @notice The official deposit contract.
    function DEPOSIT_CONTRACT() external view returns (address);

    /// @notice The contract that all vaults are clones of.
    function VAULT_IMPLEMENTATION() external view returns (address);

    /// @notice The registry that makes the keys.
    function KEY_REGISTRY() external view returns (address);

    /// @notice The contract that asks for withdrawal keys and orders what they sign; deployed by this one.
    function WITHDRAWAL_KEYS() external view returns (IWithdrawalKeys);

    /// @notice The registry of providers.
    function PROVIDER_REGISTRY() external view returns (address);
}
