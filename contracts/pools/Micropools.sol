// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IDepositContract} from "../interfaces/IDepositContract.sol";
import {IKeyConsumer, IKeyRegistry, KeyKind} from "../interfaces/IKeyRegistry.sol";
import {IMicropools, Pool, PoolState} from "../interfaces/IMicropools.sol";
import {IProviderRegistry} from "../interfaces/IProviderRegistry.sol";
import {IServerRegistry} from "../interfaces/IServerRegistry.sol";
import {IWithdrawalKeys} from "../interfaces/IWithdrawalKeys.sol";
import {BLS12381} from "../libraries/BLS12381.sol";
import {DepositRoots} from "../libraries/DepositRoots.sol";
import {PoolVault} from "./PoolVault.sol";
import {WithdrawalKeys} from "./WithdrawalKeys.sol";

/// @title Micropools: 64 stakers at most, 32 ETH, one validator nobody can steal
/// @dev Nobody governs this contract and nothing in it can be changed. Ether it owes, pool by pool:
///
///   Open, Full, KeyReady     staked + insurance
///   Predeposited             staked - 1 ETH + insurance
///   Active                   insurance
///   Cancelled                staked + insurance (after a predeposit that was lost: 1 ETH less insurance)
///
/// and beside these the stakers' claims and the bounties, which came out of insurances (`penaliseProvider`).
///
/// It calls registries and the deposit contract, which are fixed and never call back, and pays ether only to the caller,
/// last. Functions that make such calls are guarded against re-entrance all the same.
contract Micropools is IMicropools, IKeyConsumer, ERC6909, ReentrancyGuardTransient {
    /// @notice What a deployment fixes for ever. Windows in seconds.
    struct Config {
        address keyRegistry;
        address providerRegistry;
        address depositContract;
        bytes4 genesisForkVersion;
        bytes32 genesisValidatorsRoot;
        uint48 openWindow;
        uint48 keyWindow;
        uint48 predepositWindow;
        uint48 challengeWindow;
    }

    /// @inheritdoc IMicropools
    uint256 public constant override MIN_STAKE = 0.5 ether;
    /// @inheritdoc IMicropools
    uint256 public constant override POOL_SIZE = 32 ether;
    /// @inheritdoc IMicropools
    uint256 public constant override INSURANCE = 2 ether;
    /// @inheritdoc IMicropools
    uint256 public constant override PREDEPOSIT = 1 ether;
    /// @inheritdoc IMicropools
    uint256 public constant override PROVIDER_PENALTY = 1 ether;

    /// A reporter gets this part of a penalty.
    uint256 private constant BOUNTY_DIVISOR = 10;

    /// A harmful deposit must precede ours in the queue, so it is public in this time; half a day lets people sleep.
    uint256 private constant MIN_CHALLENGE_WINDOW = 12 hours;
    uint256 private constant MIN_WINDOW = 1 hours;
    /// Longest time a stake can be held in one state against its owner's will.
    uint256 private constant MAX_WINDOW = 90 days;

    /// @inheritdoc IMicropools
    uint48 public constant override CHANGE_WINDOW = 90 days;

    /// @inheritdoc IMicropools
    uint48 public immutable override OPEN_WINDOW;
    /// @inheritdoc IMicropools
    uint48 public immutable override KEY_WINDOW;
    /// @inheritdoc IMicropools
    uint48 public immutable override PREDEPOSIT_WINDOW;
    /// @inheritdoc IMicropools
    uint48 public immutable override CHALLENGE_WINDOW;
    /// @inheritdoc IMicropools
    bytes4 public immutable override GENESIS_FORK_VERSION;
    /// @inheritdoc IMicropools
    address public immutable override DEPOSIT_CONTRACT;
    /// @inheritdoc IMicropools
    address public immutable override KEY_REGISTRY;
    /// @inheritdoc IMicropools
    address public immutable override PROVIDER_REGISTRY;
    /// @inheritdoc IMicropools
    address public immutable override VAULT_IMPLEMENTATION;
    /// @inheritdoc IMicropools
    IWithdrawalKeys public immutable override WITHDRAWAL_KEYS;

    /// Most members of a key.
    uint8 private immutable MAX_MEMBERS;

    /// @inheritdoc IMicropools
    uint256 public override poolCount;
    mapping(uint256 poolId => Pool) private _pools;
    /// @inheritdoc IMicropools
    mapping(uint256 keyId => uint256 poolId) public override poolOfKey;
    /// @inheritdoc IMicropools
    mapping(address reporter => uint256) public override bountyOf;
    /// @inheritdoc IMicropools
    mapping(uint256 poolId => Penalties) public override penalties;

    /// @dev Faults of a pool's providers, in one slot.
    struct Penalties {
        uint64 assignment;
        uint128 stakersClaim;
    }

    constructor(Config memory config) {
        _requireContract(config.keyRegistry);
        _requireContract(config.providerRegistry);
        _requireContract(config.depositContract);
        _requireWindow(config.openWindow, MIN_WINDOW);
        _requireWindow(config.keyWindow, MIN_WINDOW);
        _requireWindow(config.predepositWindow, MIN_WINDOW);
        _requireWindow(config.challengeWindow, MIN_CHALLENGE_WINDOW);

        KEY_REGISTRY = config.keyRegistry;
        PROVIDER_REGISTRY = config.providerRegistry;
        DEPOSIT_CONTRACT = config.depositContract;
        GENESIS_FORK_VERSION = config.genesisForkVersion;
        OPEN_WINDOW = config.openWindow;
        KEY_WINDOW = config.keyWindow;
        PREDEPOSIT_WINDOW = config.predepositWindow;
        CHALLENGE_WINDOW = config.challengeWindow;
        MAX_MEMBERS = IKeyRegistry(config.keyRegistry).MAX_MEMBERS();
        VAULT_IMPLEMENTATION = address(new PoolVault());
        WITHDRAWAL_KEYS = new WithdrawalKeys(
            config.keyRegistry,
            config.providerRegistry,
            config.genesisForkVersion,
            config.genesisValidatorsRoot
        );
    }

    function _requireContract(address account) private view {
        require(account.code.length != 0, NotAContract(account));
    }

    function _requireWindow(uint256 value, uint256 low) private pure {
        require(value >= low && value <= MAX_WINDOW, WindowOutOfBounds(value, low, MAX_WINDOW));
    }

    // -------------------------------------------------------------------------------------------- filling a pool

    /// @inheritdoc IMicropools
    function open(uint8 threshold, uint8 members) external payable override returns (uint256 poolId) {
        return _open(threshold, members, false);
    }

    /// @inheritdoc IMicropools
    function openWithWithdrawalKey(uint8 threshold, uint8 members, bytes calldata withdrawalKey)
        external
        payable
        override
        nonReentrant
        returns (uint256 poolId)
    {
        poolId = _open(threshold, members, true);
        WITHDRAWAL_KEYS.use(poolId, msg.sender, withdrawalKey);
    }

    function _open(uint8 threshold, uint8 members, bool blsCredentials) private returns (uint256 poolId) {
        require(IProviderRegistry(PROVIDER_REGISTRY).isProvider(msg.sender), NotProvider(msg.sender));
        require(msg.value == INSURANCE, WrongInsurance(msg.value, INSURANCE));
        require(_isSound(threshold, members), IKeyRegistry.BadThreshold(threshold, members));

        poolId = ++poolCount;
        uint48 deadline = _after(OPEN_WINDOW);
        _pools[poolId] = Pool({
            provider: msg.sender,
            state: PoolState.Open,
            threshold: threshold,
            members: members,
            staked: 0,
            keyId: 0,
            deadline: deadline,
            insurance: uint72(INSURANCE),
            // In the slot that the insurance fills anyway.
            assignment: 1,
            blsCredentials: blsCredentials
        });
        emit PoolOpened(poolId, msg.sender, threshold, members, vaultOf(poolId), deadline);
    }

    /// @dev What the key registry will ask of a validator key: 2t - n >= 2, and one member may fail.
    function _isSound(uint256 threshold, uint256 members) private view returns (bool) {
        return members <= MAX_MEMBERS && threshold < members && 2 * threshold >= members + 2;
    }

    /// @inheritdoc IMicropools
    function stake(uint256 poolId) external payable override {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Open);
        require(msg.value != 0, NothingStaked(poolId));
        uint256 room = POOL_SIZE - p.staked;
        require(msg.value <= room, StakeTooLarge(msg.value, room));
        uint256 gap = room - msg.value;
        require(gap == 0 || gap >= MIN_STAKE, GapTooSmall(gap, MIN_STAKE));

        // Safe cast: at most 32 ether.
        uint72 staked = uint72(POOL_SIZE - gap);
        p.staked = staked;
        _mint(msg.sender, poolId, msg.value);
        emit Staked(poolId, msg.sender, msg.value, staked);
        // The deadline of the opening stays until the key is asked for: a write less for the last staker.
        if (gap == 0) _move(poolId, p, PoolState.Full, p.deadline);
    }

    /// @inheritdoc IMicropools
    function leavePool(uint256 poolId, uint256 amount) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Open);
        require(amount != 0, NothingToPay(poolId, msg.sender));

        _burn(msg.sender, poolId, amount);
        // Safe cast: `_burn` found `amount` in a position, and positions add up to `staked`.
        uint72 staked = p.staked - uint72(amount);
        p.staked = staked;
        emit Left(poolId, msg.sender, amount, staked);
        _payCaller(amount);
    }

    /// @dev Every way a position changes runs through here: stake, leave, refund, transfer, transferFrom. With no
    /// position below 0.5 ETH, 32 ETH are at most 64 positions.
    function _update(address from, address to, uint256 id, uint256 amount) internal override {
        super._update(from, to, id, amount);
        if (from != address(0)) _requirePosition(from, balanceOf(from, id));
        if (to != address(0)) _requirePosition(to, balanceOf(to, id));
    }

    function _requirePosition(address account, uint256 amount) private pure {
        require(amount == 0 || amount >= MIN_STAKE, PositionTooSmall(account, amount, MIN_STAKE));
    }

    // ------------------------------------------------------------------------------------------ key and deposits

    /// @inheritdoc IMicropools
    function requestKey(uint256 poolId) external override nonReentrant returns (uint256 keyId) {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Full);
        require(p.keyId == 0, KeyAlreadyRequested(poolId, p.keyId));

        // The registry, which is fixed, calls nobody but its server registry here; and a Full pool takes no stake.
        // slither-disable-next-line reentrancy-no-eth
        keyId = IKeyRegistry(KEY_REGISTRY).request(KeyKind.Validator, p.threshold, p.members);
        // Safe cast: the registry counts keys from 1.
        p.keyId = uint64(keyId);
        poolOfKey[keyId] = poolId;
        emit PoolKeyRequested(poolId, keyId);
        _move(poolId, p, PoolState.Full, _after(KEY_WINDOW));
    }

    /// @inheritdoc IMicropools
    function orderDeposit(uint256 poolId, bytes calldata groupKey) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Full);
        uint256 keyId = _requireGroupKey(poolId, p, groupKey);

        _move(poolId, p, PoolState.KeyReady, _after(PREDEPOSIT_WINDOW));
        bytes memory pubkey = BLS12381.compressG1(groupKey);
        bytes32 credentials = withdrawalCredentials(poolId);
        bytes32 root = _signingRoot(pubkey, credentials, _gwei(PREDEPOSIT));
        emit DepositOrdered(poolId, keyId, pubkey, credentials, _gwei(PREDEPOSIT), root);

        // `vaultOf` knows the address already.
        // slither-disable-next-line unused-return
        Clones.cloneDeterministicWithImmutableArgs(VAULT_IMPLEMENTATION, abi.encode(poolId), bytes32(poolId));
        // Refused by the registry unless the key is Live.
        IKeyRegistry(KEY_REGISTRY).order(keyId, root);
    }

    /// @inheritdoc IMicropools
    function predeposit(uint256 poolId, bytes calldata groupKey, bytes calldata signature)
        external
        override
        nonReentrant
    {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.KeyReady);
        _requireGroupKey(poolId, p, groupKey);
        bytes memory pubkey = BLS12381.compressG1(groupKey);
        bytes32 credentials = withdrawalCredentials(poolId);
        _requireSignature(poolId, groupKey, pubkey, credentials, _gwei(PREDEPOSIT), signature);

        _move(poolId, p, PoolState.Predeposited, _after(CHALLENGE_WINDOW));
        _deposit(poolId, pubkey, credentials, PREDEPOSIT, BLS12381.compressG2(signature));
    }

    /// @inheritdoc IMicropools
    function proveForeignDeposit(
        uint256 poolId,
        bytes calldata groupKey,
        bytes32 foreignCredentials,
        uint64 amountGwei,
        bytes calldata signature
    ) external override nonReentrant {
        Pool storage p = _pools[poolId];
        PoolState state = p.state;
        require(state == PoolState.KeyReady || state == PoolState.Predeposited, WrongPoolState(poolId, state));
        require(foreignCredentials != withdrawalCredentials(poolId), NotForeign(foreignCredentials));
        uint256 keyId = _requireGroupKey(poolId, p, groupKey);
        _requireSignature(
            poolId, groupKey, BLS12381.compressG1(groupKey), foreignCredentials, amountGwei, signature
        );

        // The 1 ETH of the predeposit went to a validator that may belong to somebody else.
        if (state == PoolState.Predeposited) p.insurance -= uint72(PREDEPOSIT);
        emit ForeignDepositProven(poolId, keyId, foreignCredentials, amountGwei, msg.sender);
        _move(poolId, p, PoolState.Cancelled, 0);
        IKeyRegistry(KEY_REGISTRY).retire(keyId, true);
    }

    /// @inheritdoc IMicropools
    function topUp(uint256 poolId, bytes calldata groupKey) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Predeposited);
        require(block.timestamp >= p.deadline, TooEarly(poolId, p.deadline));
        require(!p.blsCredentials || WITHDRAWAL_KEYS.isChangeShown(poolId), NoChangeShown(poolId));
        _requireGroupKey(poolId, p, groupKey);

        _move(poolId, p, PoolState.Active, 0);
        _deposit(
            poolId,
            BLS12381.compressG1(groupKey),
            withdrawalCredentials(poolId),
            POOL_SIZE - PREDEPOSIT,
            new bytes(96)
        );
    }

    /// @dev The id must be checked for zero: a pool without a key has id 0, and so has a group key nobody knows.
    function _requireGroupKey(uint256 poolId, Pool storage p, bytes calldata groupKey)
        private
        view
        returns (uint256 keyId)
    {
        keyId = p.keyId;
        require(
            keyId != 0 && IKeyRegistry(KEY_REGISTRY).keyOfGroupKey(keccak256(groupKey)) == keyId,
            WrongGroupKey(poolId, keyId)
        );
    }

    /// @dev A caller can starve the precompiles of gas and be refused; nobody else is affected.
    function _requireSignature(
        uint256 poolId,
        bytes calldata groupKey,
        bytes memory pubkey,
        bytes32 credentials,
        uint64 amountGwei,
        bytes calldata signature
    ) private view {
        bytes32 root = _signingRoot(pubkey, credentials, amountGwei);
        require(BLS12381.verify(groupKey, root, signature), InvalidSignature(poolId, root));
    }

    function _deposit(
        uint256 poolId,
        bytes memory pubkey,
        bytes32 credentials,
        uint256 amount,
        bytes memory signature
    ) private {
        bytes32 root = DepositRoots.depositDataRoot(pubkey, credentials, _gwei(amount), signature);
        emit DepositSent(poolId, pubkey, _gwei(amount), signature, root);
        IDepositContract(DEPOSIT_CONTRACT).deposit{value: amount}(
            pubkey, abi.encodePacked(credentials), signature, root
        );
    }

    // ------------------------------------------------------------------------------------------------ ways out

    /// @inheritdoc IMicropools
    function cancel(uint256 poolId) external override nonReentrant {
        Pool storage p = _pools[poolId];
        PoolState state = p.state;
        require(
            state == PoolState.Open || state == PoolState.Full || state == PoolState.KeyReady,
            WrongPoolState(poolId, state)
        );
        require(block.timestamp >= p.deadline, TooEarly(poolId, p.deadline));

        uint256 keyId = p.keyId;
        _move(poolId, p, PoolState.Cancelled, 0);
        // Not in a try: a caller could starve it of gas and leave the servers' seats taken for ever.
        if (keyId != 0) IKeyRegistry(KEY_REGISTRY).retire(keyId, false);
    }

    /// @inheritdoc IMicropools
    function cancelUnchanged(uint256 poolId) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Predeposited);
        require(p.blsCredentials, NoWithdrawalKey(poolId));
        require(!WITHDRAWAL_KEYS.isChangeShown(poolId), ChangeShown(poolId));
        uint48 end = p.deadline + CHANGE_WINDOW;
        require(block.timestamp >= end, TooEarly(poolId, end));

        // One predeposit; a penalty took no more than the other 1 ETH.
        p.insurance -= uint72(PREDEPOSIT);
        _move(poolId, p, PoolState.Cancelled, 0);
        IKeyRegistry(KEY_REGISTRY).retire(p.keyId, false);
    }

    /// @inheritdoc IMicropools
    function refund(uint256 poolId) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Cancelled);
        uint256 amount = balanceOf(msg.sender, poolId);
        require(amount != 0, NothingToPay(poolId, msg.sender));

        _burn(msg.sender, poolId, amount);
        // Safe cast: positions add up to `staked`.
        p.staked -= uint72(amount);
        emit Refunded(poolId, msg.sender, amount);
        _payCaller(amount);
    }

    /// @inheritdoc IMicropools
    function withdrawInsurance(uint256 poolId) external override nonReentrant {
        Pool storage p = _pools[poolId];
        _requireState(poolId, p.state, PoolState.Cancelled);
        uint256 amount = p.insurance;
        require(msg.sender == p.provider && amount != 0, NothingToPay(poolId, msg.sender));

        p.insurance = 0;
        emit InsuranceWithdrawn(poolId, msg.sender, amount);
        _payCaller(amount);
    }

    // ----------------------------------------------------------------------------------------- faults of providers

    /// @inheritdoc IKeyConsumer
    function penaliseProvider(uint256 keyId, uint64 number, address[2] calldata dutyKeys, address reporter)
        external
        override
        nonReentrant
        returns (uint256 penalty, uint256 bounty)
    {
        address servers = IKeyRegistry(KEY_REGISTRY).SERVER_REGISTRY();
        require(msg.sender == IServerRegistry(servers).COURT(), NotCourt(msg.sender));
        uint256 poolId = poolOfKey[keyId];
        Pool storage p = _pools[poolId];
        // Before there is a validator no two signatures can hurt it, and a cancelled pool never has one.
        require(
            p.state == PoolState.Predeposited || p.state == PoolState.Active, WrongPoolState(poolId, p.state)
        );
        require(number == p.assignment, WrongAssignment(poolId, number, p.assignment));
        address provider = p.provider;
        // Both: beside a request of the provider's anybody can put one that conflicts, by a key of its own.
        _requireDutyKey(dutyKeys[0], provider);
        _requireDutyKey(dutyKeys[1], provider);
        require(penalties[poolId].assignment != number, AlreadyPenalised(poolId, number));

        penalty = PROVIDER_PENALTY;
        bounty = penalty / BOUNTY_DIVISOR;
        p.insurance -= uint72(penalty);
        penalties[poolId].assignment = number;
        penalties[poolId].stakersClaim += uint128(penalty - bounty);
        bountyOf[reporter] += bounty;
        emit ProviderPenalised(poolId, number, provider, penalty, bounty, reporter);
    }

    /// @dev A duty key belongs to one provider for ever, so one that it replaced convicts too.
    function _requireDutyKey(address dutyKey, address provider) private view {
        require(
            IProviderRegistry(PROVIDER_REGISTRY).providerOfDutyKey(dutyKey) == provider,
            NotDutyKey(dutyKey, provider)
        );
    }

    /// @inheritdoc IMicropools
    function withdrawBounty() external override nonReentrant {
        uint256 amount = bountyOf[msg.sender];
        require(amount != 0, NoBounty(msg.sender));
        bountyOf[msg.sender] = 0;
        emit ProviderBountyPaid(msg.sender, amount);
        _payCaller(amount);
    }

    /// @dev Each caller of this has burned a position of `amount`, or cleared the insurance or the bounties, of the very
    /// account paid.
    function _payCaller(uint256 amount) private {
        // slither-disable-next-line arbitrary-send-eth
        (bool delivered,) = msg.sender.call{value: amount}("");
        require(delivered, TransferFailed(msg.sender, amount));
    }

    // ------------------------------------------------------------------------------------------------- reading

    /// @inheritdoc IMicropools
    function pool(uint256 poolId) external view override returns (Pool memory) {
        return _pools[poolId];
    }

    /// @inheritdoc IKeyConsumer
    function excludedOperator(uint256 keyId) external view override returns (address) {
        return _pools[poolOfKey[keyId]].provider;
    }

    /// @inheritdoc IKeyConsumer
    function dutyAssignment(uint256 keyId) external view override returns (address dutyKey, uint64 number) {
        Pool storage p = _pools[poolOfKey[keyId]];
        return (IProviderRegistry(PROVIDER_REGISTRY).dutyKey(p.provider), p.assignment);
    }

    /// @inheritdoc IMicropools
    function isMigrationDue(uint256 poolId) external view override returns (bool) {
        uint64 assignment = penalties[poolId].assignment;
        // Numbers, not amounts.
        // slither-disable-next-line incorrect-equality
        return assignment != 0 && assignment == _pools[poolId].assignment;
    }

    /// @inheritdoc IMicropools
    function vaultOf(uint256 poolId) public view override returns (address) {
        return Clones.predictDeterministicAddressWithImmutableArgs(
            VAULT_IMPLEMENTATION, abi.encode(poolId), bytes32(poolId)
        );
    }

    /// @inheritdoc IMicropools
    function withdrawalCredentials(uint256 poolId) public view override returns (bytes32) {
        if (_pools[poolId].blsCredentials) return WITHDRAWAL_KEYS.credentialsOf(poolId);
        return DepositRoots.executionCredentials(vaultOf(poolId));
    }

    /// @inheritdoc IMicropools
    function depositSigningRoot(bytes calldata pubkey, bytes32 credentials, uint64 amountGwei)
        external
        view
        override
        returns (bytes32)
    {
        return _signingRoot(pubkey, credentials, amountGwei);
    }

    function _signingRoot(bytes memory pubkey, bytes32 credentials, uint64 amountGwei)
        private
        view
        returns (bytes32)
    {
        return DepositRoots.depositSigningRoot(GENESIS_FORK_VERSION, pubkey, credentials, amountGwei);
    }

    // ------------------------------------------------------------------------------------------------- helpers

    function _requireState(uint256 poolId, PoolState state, PoolState needed) private pure {
        require(state == needed, WrongPoolState(poolId, state));
    }

    function _move(uint256 poolId, Pool storage p, PoolState state, uint48 deadline) private {
        p.state = state;
        p.deadline = deadline;
        emit PoolStateChanged(poolId, state, deadline);
    }

    /// @dev Safe cast: unix time fits 48 bits for eight million years.
    function _after(uint48 window) private view returns (uint48) {
        return uint48(block.timestamp) + window;
    }

    /// @dev Safe cast: only amounts of at most 32 ether.
    function _gwei(uint256 amount) private pure returns (uint64) {
        return uint64(amount / 1 gwei);
    }
}
