// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";

import {DutyRequest, Fault} from "../../../contracts/interfaces/ICourt.sol";
import {KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Reenterer, Stubborn} from "./Actors.sol";
import {WithdrawalKeyFixture} from "./WithdrawalKeyFixture.sol";

/// @title What may happen to pools, in any order
/// @notice Stakers and providers are plain accounts, contracts that refuse ether and contracts that call back. Every
/// action may fail; nothing here checks a rule of its own but the edges between states, which must hold at every step.
contract PoolsHandler is WithdrawalKeyFixture {
    uint256 internal constant MAX_POOLS = 4;
    address private constant ANYONE = address(0xA11);

    address[] internal _actors;
    address[] internal _providers;
    mapping(uint256 poolId => uint256 groupSecret) private _groupSecret;
    /// Of the withdrawal key of a pool.
    mapping(uint256 poolId => uint256 groupSecret) private _withdrawalSecret;

    /// Wei each account put into positions and got back from them, over all pools.
    uint256 public stakedIn;
    uint256 public paidBack;
    /// Wei that came in without a call.
    uint256 public forced;
    uint256 public predeposits;
    uint256 public topUps;
    /// Pools whose foreign deposit was proven after the predeposit.
    uint256 public lostPredeposits;
    /// Providers that were charged for conflicting requests; bounties that were paid for it, in wei.
    uint256 public penalties;
    uint256 public bountiesPaid;
    uint256 public insuranceIn;
    uint256 public insuranceBack;
    /// First move between two states that has no edge: from, to, plus one so that zero means none.
    uint256 public illegalEdge;
    /// How often each function of the contracts succeeded.
    mapping(bytes4 selector => uint256) public successes;
    /// States any pool was in.
    mapping(uint256 state => uint256) public visits;

    constructor() {
        setUp();
        for (uint256 i; i < 5; ++i) {
            _actors.push(_staker(i));
        }
        for (uint256 i; i < 2; ++i) {
            _actors.push(address(new Stubborn()));
            _actors.push(address(new Reenterer()));
        }
        _providers.push(provider);
        _providers.push(address(new Stubborn()));
        _providers.push(address(new Reenterer()));
        _registerProvider(_providers[1]);
        _registerProvider(_providers[2]);
    }

    /// Watches the states of all pools around an action.
    modifier watched() {
        uint256[MAX_POOLS + 1] memory before = _states();
        _;
        uint256[MAX_POOLS + 1] memory afterwards = _states();
        for (uint256 i = 1; i <= MAX_POOLS; ++i) {
            ++visits[afterwards[i]];
            if (!_isEdge(before[i], afterwards[i]) && illegalEdge == 0) {
                illegalEdge = before[i] * 16 + afterwards[i] + 1;
            }
        }
    }

    function _states() private view returns (uint256[MAX_POOLS + 1] memory states) {
        for (uint256 i = 1; i <= MAX_POOLS; ++i) {
            states[i] = uint256(_state(i));
        }
    }

    function _isEdge(uint256 from, uint256 to) private pure returns (bool) {
        if (from == to) return true;
        if (to == uint256(PoolState.Cancelled)) return from >= 1 && from <= uint256(PoolState.Predeposited);
        return to == from + 1 && to <= uint256(PoolState.Active);
    }

    // ------------------------------------------------------------------------------------------- reading

    function actors() external view returns (address[] memory) {
        return _actors;
    }

    function providers() external view returns (address[] memory) {
        return _providers;
    }

    function micropools() external view returns (address) {
        return address(pools);
    }

    function withdrawalKeys() external view returns (address) {
        return address(wkeys);
    }

    function registry() external view returns (address) {
        return address(d.keyRegistry);
    }

    function keyState(uint256 poolId) external view returns (KeyState) {
        return d.keyRegistry.key(pools.pool(poolId).keyId).state;
    }

    // ------------------------------------------------------------------------------------------- helpers

    function _someActor(uint256 seed) private view returns (address) {
        return _actors[seed % _actors.length];
    }

    /// @dev One that has a position if any has; chance alone seldom meets one of a pool that was given up.
    function _someHolder(uint256 seed, uint256 id) private view returns (address actor) {
        for (uint256 i; i < _actors.length; ++i) {
            actor = _actors[(seed % _actors.length + i) % _actors.length];
            if (pools.balanceOf(actor, id) != 0) return actor;
        }
    }

    function _somePool(uint256 seed) private view returns (uint256) {
        uint256 count = pools.poolCount();
        return count == 0 ? 0 : 1 + seed % count;
    }

    /// @dev The first pool from this one on that is such a one, else any.
    function _poolThat(uint256 seed, function(uint256) view returns (bool) isSuch)
        private
        view
        returns (uint256)
    {
        for (uint256 i; i < pools.poolCount(); ++i) {
            uint256 id = 1 + (seed % MAX_POOLS + i) % pools.poolCount();
            if (isSuch(id)) return id;
        }
        return _somePool(seed);
    }

    function _isOpen(uint256 id) private view returns (bool) {
        return _state(id) == PoolState.Open;
    }

    function _canBeCancelled(uint256 id) private view returns (bool) {
        return _state(id) >= PoolState.Open && _state(id) <= PoolState.KeyReady;
    }

    /// @dev A signature over a foreign deposit still burns its key.
    function _canBeBurned(uint256 id) private view returns (bool) {
        return _state(id) == PoolState.KeyReady || _state(id) == PoolState.Predeposited;
    }

    /// @dev Its predeposit waits for a change of credentials.
    function _isUnchanged(uint256 id) private view returns (bool) {
        return _state(id) == PoolState.Predeposited && pools.pool(id).blsCredentials;
    }

    function _hasPositionsToRefund(uint256 id) private view returns (bool) {
        return _state(id) == PoolState.Cancelled && pools.pool(id).staked != 0;
    }

    function _hasInsuranceToPayBack(uint256 id) private view returns (bool) {
        return _state(id) == PoolState.Cancelled && pools.pool(id).insurance != 0;
    }

    /// @dev It has a validator and a provider that was not charged yet.
    function _canBeCharged(uint256 id) private view returns (bool) {
        PoolState state = _state(id);
        bool hasValidator = state == PoolState.Predeposited || state == PoolState.Active;
        return hasValidator && !pools.isMigrationDue(id);
    }

    function _isContract(address account) private view returns (bool) {
        return account.code.length != 0;
    }

    /// Calls the pools contract as `who`; contracts call through their own code.
    function _as(address who, uint256 value, bytes memory data) private returns (bool) {
        return _call(address(pools), who, value, data);
    }

    function _call(address target, address who, uint256 value, bytes memory data)
        private
        returns (bool success)
    {
        if (_isContract(who)) {
            vm.deal(who, who.balance + value);
            (success,) = who.call(abi.encodeCall(Stubborn.run, (target, value, data)));
        } else {
            vm.deal(who, who.balance + value);
            vm.prank(who);
            (success,) = target.call{value: value}(data);
        }
        if (success) ++successes[bytes4(data)];
        else vm.deal(who, who.balance - value);
    }

    // ------------------------------------------------------------------------------------------- actions

    function open(uint256 seed) external watched {
        if (pools.poolCount() == MAX_POOLS) return;
        if (_as(_providers[seed % 3], 2 ether, abi.encodeCall(pools.open, (3, 4)))) insuranceIn += 2 ether;
    }

    /// With a withdrawal key made for it, or with the one of an older pool.
    function openWithWithdrawalKey(uint256 seed) external watched {
        uint256 id = pools.poolCount() + 1;
        if (id > MAX_POOLS) return;
        address who = _providers[seed % 3];
        uint256 secret = _withdrawalSecret[id - 1];
        if (seed % 4 != 0 || secret == 0) {
            if (!_call(address(wkeys), who, 2 ether, abi.encodeCall(wkeys.request, (5, 6)))) return;
            secret = _makeLive(d.keyRegistry.keyCount()).coefficients[0];
        }
        bytes memory data =
            abi.encodeCall(pools.openWithWithdrawalKey, (3, 4, ThresholdKeys.publicKey(secret)));
        if (!_as(who, 2 ether, data)) return;
        insuranceIn += 2 ether;
        _withdrawalSecret[id] = secret;
    }

    function orderChange(uint256 who, uint256 which, uint64 index) external watched {
        _orderAChange(_someActor(who), _somePool(which), index % 4);
    }

    function _orderAChange(address who, uint256 id, uint64 index) private {
        bytes memory key = _withdrawalKeyOf(id);
        _call(address(wkeys), who, 0, abi.encodeCall(wkeys.orderChange, (id, index, key)));
    }

    function showChange(uint256 which, uint64 index) external watched {
        _showAChange(_somePool(which), index % 4);
    }

    function _showAChange(uint256 id, uint64 index) private {
        bytes memory key = _withdrawalKeyOf(id);
        uint256 secret = _withdrawalSecret[id];
        bytes memory signature = new bytes(256);
        if (secret != 0) {
            bytes32 root = wkeys.changeSigningRoot(index, BLS12381.compressG1(key), pools.vaultOf(id));
            signature = ThresholdKeys.sign(secret, root);
        }
        _call(address(wkeys), ANYONE, 0, abi.encodeCall(wkeys.showChange, (id, index, key, signature)));
    }

    function cancelUnchanged(uint256 which, uint256 time) external watched {
        uint256 id = _poolThat(which, _isUnchanged);
        bool waits = pools.pool(id).blsCredentials && _state(id) == PoolState.Predeposited;
        if (waits && time % 4 != 0) vm.warp(pools.pool(id).deadline + 90 days);
        if (_as(ANYONE, 0, abi.encodeCall(pools.cancelUnchanged, (id)))) ++lostPredeposits;
    }

    /// Any key, by any provider; half the time one that was asked for just now and is bound to no pool, by the one that pays for
    /// it: a key that `openWithWithdrawalKey` leaves has a pool.
    function giveUpWithdrawalKey(uint256 who, uint256 which) external watched {
        address caller = _providers[who % 3];
        uint256 keyId = 1 + which % (d.keyRegistry.keyCount() + 1);
        if (which % 2 == 0 && _call(address(wkeys), caller, 2 ether, abi.encodeCall(wkeys.request, (5, 6)))) {
            keyId = d.keyRegistry.keyCount();
        }
        _call(address(wkeys), caller, 0, abi.encodeCall(wkeys.giveUp, (keyId)));
    }

    function withdrawKeyBond(uint256 which) external watched {
        uint256 keyId = 1 + which % (d.keyRegistry.keyCount() + 1);
        address who = wkeys.withdrawalKey(keyId).provider;
        if (who == address(0)) who = ANYONE;
        (uint256 positions, uint256 insurance, uint256 bounties) = _held();
        _call(address(wkeys), who, 0, abi.encodeCall(wkeys.withdrawKeyBond, (keyId)));
        // The bond is no business of the pools: whoever gets it may take what they owe it in the same call.
        (uint256 positionsLeft, uint256 insuranceLeft, uint256 bountiesLeft) = _held();
        paidBack += positions - positionsLeft;
        insuranceBack += insurance - insuranceLeft;
        bountiesPaid += bounties - bountiesLeft;
    }

    /// Wei that the pools hold of stakers, of providers and for reporters.
    function _held() private view returns (uint256 positions, uint256 insurance, uint256 bounties) {
        for (uint256 id = 1; id <= pools.poolCount(); ++id) {
            positions += pools.pool(id).staked;
            insurance += pools.pool(id).insurance;
        }
        for (uint256 i; i < _actors.length; ++i) {
            bounties += pools.bountyOf(_actors[i]);
        }
    }

    function stake(uint256 who, uint256 which, uint256 amount) external watched {
        amount = amount % 5 == 0 ? bound(amount, 0, 33 ether) : bound(amount, 0.5 ether, 9 ether);
        if (_as(_someActor(who), amount, abi.encodeCall(pools.stake, (_somePool(which))))) {
            stakedIn += amount;
        }
    }

    /// Stakes exactly what is missing.
    function fill(uint256 who, uint256 which) external watched {
        uint256 id = _somePool(which);
        uint256 room = 32 ether - pools.pool(id).staked;
        if (_as(_someActor(who), room, abi.encodeCall(pools.stake, (id)))) stakedIn += room;
    }

    function leavePool(uint256 who, uint256 which, uint256 amount) external watched {
        uint256 id = which % 4 == 0 ? _somePool(which) : _poolThat(which, _isOpen);
        address actor = who % 4 == 0 ? _someActor(who) : _someHolder(who, id);
        uint256 held = pools.balanceOf(actor, id);
        amount = amount % 2 == 0 ? held : bound(amount, 0, held + 1);
        if (_as(actor, 0, abi.encodeCall(pools.leavePool, (id, amount)))) paidBack += amount;
    }

    function transfer(uint256 from, uint256 to, uint256 which, uint256 amount) external watched {
        address actor = _someActor(from);
        uint256 id = _somePool(which);
        uint256 held = pools.balanceOf(actor, id);
        amount = amount % 2 == 0 ? held : bound(amount, 0, held + 1);
        _as(actor, 0, abi.encodeCall(ERC6909.transfer, (_someActor(to), id, amount)));
    }

    function transferFrom(uint256 from, uint256 to, uint256 by, uint256 which, uint256 amount)
        external
        watched
    {
        address owner = _someActor(from);
        address spender = _someActor(by);
        uint256 id = _somePool(which);
        amount = bound(amount, 0, pools.balanceOf(owner, id) + 1);
        _as(owner, 0, abi.encodeCall(ERC6909.approve, (spender, id, amount)));
        _as(spender, 0, abi.encodeCall(ERC6909.transferFrom, (owner, _someActor(to), id, amount)));
    }

    function requestKey(uint256 which) external watched {
        _as(ANYONE, 0, abi.encodeCall(pools.requestKey, (_somePool(which))));
    }

    /// The servers do their part of whatever the pool waits for.
    function serve(uint256 which) external watched {
        uint256 id = _somePool(which);
        uint256 keyId = pools.pool(id).keyId;
        if (keyId == 0 || d.keyRegistry.key(keyId).state != KeyState.Requested) return;
        _groupSecret[id] = _makeLive(keyId).coefficients[0];
    }

    function orderDeposit(uint256 which, uint256 key) external watched {
        uint256 id = _somePool(which);
        bytes memory groupKey = _groupKey(key % 8 == 0 ? _somePool(key) : id);
        _as(ANYONE, 0, abi.encodeCall(pools.orderDeposit, (id, groupKey)));
    }

    function predeposit(uint256 which, uint256 fault) external watched {
        uint256 id = _somePool(which);
        bytes32 credentials = fault % 6 == 0 ? FOREIGN : pools.withdrawalCredentials(id);
        bytes memory data =
            abi.encodeCall(pools.predeposit, (id, _groupKey(id), _signature(id, credentials, 1e9)));
        if (_as(ANYONE, 0, data)) ++predeposits;
    }

    function proveForeignDeposit(uint256 which, uint256 fault) external watched {
        // Seldom, or hardly a pool would get further.
        if (fault % 4 != 0) return;
        uint256 id = _poolThat(which, _canBeBurned);
        bytes32 credentials = fault % 3 == 0 ? pools.withdrawalCredentials(id) : FOREIGN;
        bool late = _state(id) == PoolState.Predeposited;
        bytes memory signature = _signature(id, fault % 5 == 0 ? bytes32(0) : credentials, 1e9);
        bytes memory data =
            abi.encodeCall(pools.proveForeignDeposit, (id, _groupKey(id), credentials, 1e9, signature));
        if (_as(ANYONE, 0, data) && late) ++lostPredeposits;
    }

    function topUp(uint256 which) external watched {
        uint256 id = _somePool(which);
        if (_as(ANYONE, 0, abi.encodeCall(pools.topUp, (id, _groupKey(id))))) ++topUps;
    }

    /// The provider asked for two blocks of one slot. Somebody reports it who may refuse ether, or call back when it gets some.
    function proveProviderEquivocation(uint256 who, uint256 which, uint64 slot) external watched {
        uint256 id = _poolThat(which, _canBeCharged);
        address reporter = _someActor(who);
        DutyRequest memory a = DutyRequest(pools.pool(id).keyId, 1, 3, slot, 0, 0, "a");
        DutyRequest memory b = DutyRequest(pools.pool(id).keyId, 1, 3, slot, 0, 0, "b");
        bytes32 x = requestDigest(address(d.keyRegistry), a);
        bytes32 y = requestDigest(address(d.keyRegistry), b);
        bytes32 evidence = keccak256(x < y ? bytes.concat(x, y) : bytes.concat(y, x));
        bytes32 commitment = keccak256(abi.encode(reporter, Fault.ProviderEquivocation, evidence));
        if (d.court.committedAt(commitment) == 0) d.court.commit(commitment);
        vm.roll(block.number + d.court.COMMITMENT_BLOCKS());
        uint256 secret = uint256(keccak256(abi.encode("duty key", pools.pool(id).provider))) >> 1;
        bytes memory data =
            abi.encodeCall(d.court.proveProviderEquivocation, (a, sign(secret, x), b, sign(secret, y)));
        if (_call(address(d.court), reporter, 0, data)) ++penalties;
    }

    function withdrawBounty(uint256 who) external watched {
        address actor = _someActor(who);
        for (uint256 i; i < _actors.length && pools.bountyOf(actor) == 0; ++i) {
            actor = _actors[i];
        }
        uint256 owed = pools.bountyOf(actor);
        if (_as(actor, 0, abi.encodeCall(pools.withdrawBounty, ()))) bountiesPaid += owed;
    }

    /// Now and then at the deadline of a pool that can still be given up.
    function cancel(uint256 who, uint256 which) external watched {
        uint256 id = _somePool(which);
        if (who % 4 == 0) {
            id = _poolThat(which, _canBeCancelled);
            if (pools.pool(id).deadline > block.timestamp) vm.warp(pools.pool(id).deadline);
        }
        _as(_someActor(who), 0, abi.encodeCall(pools.cancel, (id)));
    }

    function refund(uint256 who, uint256 which) external watched {
        uint256 id = _poolThat(which, _hasPositionsToRefund);
        address actor = who % 8 == 0 ? _someActor(who) : _someHolder(who, id);
        uint256 held = pools.balanceOf(actor, id);
        if (_as(actor, 0, abi.encodeCall(pools.refund, (id)))) paidBack += held;
    }

    function withdrawInsurance(uint256 who, uint256 which) external watched {
        uint256 id = _poolThat(which, _hasInsuranceToPayBack);
        uint256 held = pools.pool(id).insurance;
        address caller = who % 3 == 0 ? _someActor(who) : pools.pool(id).provider;
        if (_as(caller, 0, abi.encodeCall(pools.withdrawInsurance, (id)))) insuranceBack += held;
    }

    /// Some steps of a pool on its way to Active, as keepers would push it; chance alone seldom gets that far.
    function advance(uint256 who, uint256 which) external {
        uint256 id = _somePool(which);
        for (uint256 i; i <= who % 5; ++i) {
            _advance(who, id);
        }
    }

    function _advance(uint256 who, uint256 id) private watched {
        PoolState state = _state(id);
        uint256 keyId = pools.pool(id).keyId;
        if (state == PoolState.Open) {
            uint256 room = 32 ether - pools.pool(id).staked;
            uint256 amount = room > 16 ether ? room / 2 : room;
            if (_as(_someActor(who), amount, abi.encodeCall(pools.stake, (id)))) stakedIn += amount;
        } else if (state == PoolState.Full && keyId == 0) {
            _as(ANYONE, 0, abi.encodeCall(pools.requestKey, (id)));
        } else if (state == PoolState.Full && _groupSecret[id] == 0) {
            _groupSecret[id] = _makeLive(keyId).coefficients[0];
        } else if (state == PoolState.Full) {
            _as(ANYONE, 0, abi.encodeCall(pools.orderDeposit, (id, _groupKey(id))));
        } else if (state == PoolState.KeyReady) {
            bytes memory signature = _signature(id, pools.withdrawalCredentials(id), 1e9);
            if (_as(ANYONE, 0, abi.encodeCall(pools.predeposit, (id, _groupKey(id), signature)))) {
                ++predeposits;
            }
        } else if (state == PoolState.Predeposited && who % 2 == 0) {
            if (pools.pool(id).blsCredentials && who % 4 == 0) {
                _orderAChange(pools.pool(id).provider, id, 7);
                _showAChange(id, 7);
            }
            if (_as(ANYONE, 0, abi.encodeCall(pools.topUp, (id, _groupKey(id))))) ++topUps;
        }
    }

    /// Contracts that get ether call back with whatever might pay them twice.
    function arm(uint256 who, uint256 which, uint256 what) external watched {
        uint256 id = _somePool(which);
        bytes memory data;
        if (what % 6 == 5) data = abi.encodeCall(pools.withdrawBounty, ());
        if (what % 6 == 0) data = abi.encodeCall(pools.refund, (id));
        if (what % 6 == 1) data = abi.encodeCall(pools.leavePool, (id, 0.5 ether));
        if (what % 6 == 2) data = abi.encodeCall(pools.withdrawInsurance, (id));
        if (what % 6 == 3) data = abi.encodeCall(pools.cancel, (id));
        if (what % 6 == 4) data = abi.encodeCall(ERC6909.transfer, (_someActor(who), id, 0.5 ether));
        address[3] memory reenterers = [_actors[6], _actors[8], _providers[2]];
        Reenterer(payable(reenterers[who % 3])).arm(address(pools), data);
    }

    function setAccepts(uint256 who, bool value) external watched {
        address[3] memory stubborn = [_actors[5], _actors[7], _providers[1]];
        Stubborn(payable(stubborn[who % 3])).setAccepts(value);
    }

    /// Ether nobody accounts for, as a selfdestruct would leave it.
    function force(uint256 amount) external watched {
        amount = bound(amount, 1, 1 ether);
        forced += amount;
        vm.deal(address(pools), address(pools).balance + amount);
    }

    /// What governance may change while pools wait for their keys; now and then outside the bounds.
    function govern(uint256 minBond, uint256 seatBond, uint256 window) external watched {
        bytes memory data = abi.encodeCall(
            d.serverRegistry.setBondParameters,
            (
                uint96(bound(minBond, 0.1 ether, 6 ether)),
                uint96(
                    seatBond % 8 == 0 ? bound(seatBond, 0, 200 ether) : bound(seatBond, 0.1 ether, 0.3 ether)
                )
            )
        );
        _govern(address(d.serverRegistry), data);
        window = window % 4 == 0 ? bound(window, 0, 10 days) : bound(window, 10 minutes, 7 days);
        _govern(address(d.keyRegistry), abi.encodeCall(d.keyRegistry.setCeremonyWindow, (uint48(window))));
    }

    function _govern(address target, bytes memory data) private {
        vm.prank(governance);
        (bool success,) = target.call(data);
        if (success) ++successes[bytes4(data)];
    }

    function pass(uint256 time) external watched {
        skip(time % 2 == 0 ? bound(time, 1, 31 days) : bound(time, 1, 1 days));
    }

    // ------------------------------------------------------------------------------------------ key material

    function _withdrawalKeyOf(uint256 id) private view returns (bytes memory) {
        uint256 secret = _withdrawalSecret[id];
        return secret == 0 ? new bytes(128) : ThresholdKeys.publicKey(secret);
    }

    function _groupKey(uint256 id) private view returns (bytes memory) {
        uint256 secret = _groupSecret[id];
        return secret == 0 ? new bytes(128) : ThresholdKeys.publicKey(secret);
    }

    /// What t servers would combine to, from the group secret: the sharing itself is tested elsewhere.
    function _signature(uint256 id, bytes32 credentials, uint64 amountGwei)
        private
        view
        returns (bytes memory)
    {
        uint256 secret = _groupSecret[id];
        if (secret == 0) return new bytes(256);
        ThresholdKeys.KeySet memory keys;
        keys.groupKey = ThresholdKeys.publicKey(secret);
        return ThresholdKeys.sign(secret, _root(keys, credentials, amountGwei));
    }

    receive() external payable {}
}
