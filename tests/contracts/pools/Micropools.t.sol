// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC6909} from "@openzeppelin/contracts/token/ERC6909/ERC6909.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IDepositContract} from "../../../contracts/interfaces/IDepositContract.sol";
import {IKeyRegistry, Key, KeyState} from "../../../contracts/interfaces/IKeyRegistry.sol";
import {IMicropools, Pool, PoolState} from "../../../contracts/interfaces/IMicropools.sol";
import {IPoolVault} from "../../../contracts/interfaces/IPoolVault.sol";
import {BLS12381} from "../../../contracts/libraries/BLS12381.sol";
import {DepositRoots} from "../../../contracts/libraries/DepositRoots.sol";
import {Micropools} from "../../../contracts/pools/Micropools.sol";
import {Genesis} from "../utils/Genesis.sol";
import {ThresholdKeys} from "../utils/ThresholdKeys.sol";
import {Reenterer, Stubborn} from "./Actors.sol";
import {PoolFixture} from "./PoolFixture.sol";

contract MicropoolsTest is PoolFixture {
    address internal alice = makeAddr("alice");
    address internal bob = makeAddr("bob");

    // ------------------------------------------------------------------------------------------ construction

    function _config() internal view returns (Micropools.Config memory) {
        return Micropools.Config({
            keyRegistry: address(d.keyRegistry),
            providerRegistry: address(d.providerRegistry),
            depositContract: Genesis.DEPOSIT_CONTRACT,
            genesisForkVersion: FORK_VERSION,
            genesisValidatorsRoot: VALIDATORS_ROOT,
            openWindow: OPEN_WINDOW,
            keyWindow: KEY_WINDOW,
            predepositWindow: PREDEPOSIT_WINDOW,
            challengeWindow: CHALLENGE_WINDOW
        });
    }

    function test_The_configuration_can_be_read() public view {
        assertEq(pools.MIN_STAKE(), 0.5 ether);
        assertEq(pools.POOL_SIZE(), 32 ether);
        assertEq(pools.INSURANCE(), 2 ether);
        assertEq(pools.PREDEPOSIT(), 1 ether);
        assertEq(pools.OPEN_WINDOW(), OPEN_WINDOW);
        assertEq(pools.KEY_WINDOW(), KEY_WINDOW);
        assertEq(pools.PREDEPOSIT_WINDOW(), PREDEPOSIT_WINDOW);
        assertEq(pools.CHALLENGE_WINDOW(), CHALLENGE_WINDOW);
        assertEq(pools.GENESIS_FORK_VERSION(), FORK_VERSION);
        assertEq(pools.DEPOSIT_CONTRACT(), Genesis.DEPOSIT_CONTRACT);
        assertEq(pools.KEY_REGISTRY(), address(d.keyRegistry));
        assertEq(pools.PROVIDER_REGISTRY(), address(d.providerRegistry));
        assertGt(pools.VAULT_IMPLEMENTATION().code.length, 0);
        assertEq(IPoolVault(pools.VAULT_IMPLEMENTATION()).MICROPOOLS(), address(pools));
        assertEq(pools.CHANGE_WINDOW(), 90 days);
        assertGt(address(pools.WITHDRAWAL_KEYS()).code.length, 0);
        assertTrue(pools.supportsInterface(0x0f632fb3), "ERC-6909");
    }

    function testFuzz_A_challenge_window_below_half_a_day_cannot_be_deployed(uint48 window) public {
        Micropools.Config memory config = _config();
        config.challengeWindow = uint48(bound(window, 0, 12 hours - 1));
        _expectWindow(config.challengeWindow, 12 hours);
        new Micropools(config);
    }

    function testFuzz_A_window_that_locks_stakes_for_ages_cannot_be_deployed(uint48 window, uint8 which)
        public
    {
        Micropools.Config memory config = _config();
        window = uint48(bound(window, 90 days + 1, type(uint48).max));
        which = which % 4;
        if (which == 0) config.openWindow = window;
        if (which == 1) config.keyWindow = window;
        if (which == 2) config.predepositWindow = window;
        if (which == 3) config.challengeWindow = window;
        _expectWindow(window, which == 3 ? 12 hours : 1 hours);
        new Micropools(config);
    }

    function test_A_window_of_no_time_cannot_be_deployed() public {
        Micropools.Config memory config = _config();
        config.openWindow = 1 hours - 1;
        _expectWindow(1 hours - 1, 1 hours);
        new Micropools(config);
        config = _config();
        config.keyWindow = 0;
        _expectWindow(0, 1 hours);
        new Micropools(config);
        config = _config();
        config.predepositWindow = 0;
        _expectWindow(0, 1 hours);
        new Micropools(config);
    }

    function _expectWindow(uint256 value, uint256 low) internal {
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.WindowOutOfBounds.selector, value, low, uint256(90 days))
        );
    }

    function test_An_account_without_code_is_no_registry_and_no_deposit_contract() public {
        Micropools.Config memory config = _config();
        config.keyRegistry = alice;
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotAContract.selector, alice));
        new Micropools(config);
        config = _config();
        config.providerRegistry = alice;
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotAContract.selector, alice));
        new Micropools(config);
        config = _config();
        config.depositContract = alice;
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotAContract.selector, alice));
        new Micropools(config);
    }

    // ----------------------------------------------------------------------------------------------- open

    function test_A_provider_opens_a_pool_with_two_ether_of_insurance() public {
        deal(provider, 2 ether);
        uint48 deadline = uint48(block.timestamp) + OPEN_WINDOW;
        vm.expectEmit(address(pools));
        emit IMicropools.PoolOpened(1, provider, 3, 4, pools.vaultOf(1), deadline);
        vm.prank(provider);
        assertEq(pools.open{value: 2 ether}(3, 4), 1);

        Pool memory p = _pool(1);
        assertEq(p.provider, provider);
        assertEq(uint256(p.state), uint256(PoolState.Open));
        assertEq(p.threshold, 3);
        assertEq(p.members, 4);
        assertEq(p.staked, 0);
        assertEq(p.keyId, 0);
        assertEq(p.deadline, deadline);
        assertEq(p.insurance, 2 ether);
        assertEq(pools.poolCount(), 1);
        assertEq(address(pools).balance, 2 ether);
        assertEq(_open(), 2);
    }

    function test_Who_is_no_provider_opens_no_pool() public {
        deal(alice, 2 ether);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotProvider.selector, alice));
        vm.prank(alice);
        pools.open{value: 2 ether}(3, 4);
    }

    function testFuzz_The_insurance_is_exact(uint96 amount) public {
        vm.assume(amount != 2 ether);
        deal(provider, amount);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongInsurance.selector, uint256(amount), 2 ether));
        vm.prank(provider);
        pools.open{value: amount}(3, 4);
    }

    function testFuzz_A_pool_opens_exactly_for_keys_the_registry_would_make(uint8 t, uint8 n) public {
        (t, n) = (uint8(bound(t, 0, 20)), uint8(bound(n, 0, 20)));
        deal(provider, 2 ether);
        // What the registry says to the same question: BadThreshold comes before everything else it refuses.
        vm.prank(address(pools));
        (, bytes memory answer) =
            address(d.keyRegistry).call(abi.encodeWithSignature("request(uint8,uint8,uint8)", 0, t, n));
        bool sound = bytes4(answer) != IKeyRegistry.BadThreshold.selector;
        if (!sound) vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, t, n));
        vm.prank(provider);
        pools.open{value: 2 ether}(t, n);
    }

    function test_Three_of_five_is_refused_as_one_bad_server_and_the_provider_could_get_it_slashed() public {
        deal(provider, 2 ether);
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.BadThreshold.selector, 3, 5));
        vm.prank(provider);
        pools.open{value: 2 ether}(3, 5);
    }

    // ---------------------------------------------------------------------------------------------- stake

    function test_A_stake_becomes_a_position() public {
        uint256 id = _open();
        deal(alice, 1 ether);
        vm.expectEmit(address(pools));
        emit IMicropools.Staked(id, alice, 1 ether, 1 ether);
        vm.prank(alice);
        pools.stake{value: 1 ether}(id);
        assertEq(pools.balanceOf(alice, id), 1 ether);
        assertEq(_pool(id).staked, 1 ether);
    }

    function test_A_stake_of_049_ether_is_refused() public {
        uint256 id = _open();
        deal(alice, 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.PositionTooSmall.selector, alice, 0.49 ether, 0.5 ether)
        );
        vm.prank(alice);
        pools.stake{value: 0.49 ether}(id);
    }

    function test_A_stake_that_leaves_a_gap_of_03_ether_is_refused() public {
        uint256 id = _open();
        deal(alice, 32 ether);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.GapTooSmall.selector, 0.3 ether, 0.5 ether));
        vm.prank(alice);
        pools.stake{value: 31.7 ether}(id);
    }

    function test_A_stake_above_the_room_is_refused() public {
        uint256 id = _open();
        _stake(id, alice, 31.5 ether);
        deal(bob, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.StakeTooLarge.selector, 0.6 ether, 0.5 ether));
        vm.prank(bob);
        pools.stake{value: 0.6 ether}(id);
    }

    function test_A_stake_of_nothing_is_refused() public {
        uint256 id = _open();
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingStaked.selector, id));
        pools.stake(id);
    }

    function test_A_holder_may_add_less_than_the_minimum() public {
        uint256 id = _open();
        _stake(id, alice, 0.5 ether);
        _stake(id, alice, 0.1 ether);
        assertEq(pools.balanceOf(alice, id), 0.6 ether);
    }

    function test_A_pool_that_does_not_exist_takes_no_stake() public {
        deal(alice, 1 ether);
        vm.expectRevert(_revertState(7, PoolState.None));
        vm.prank(alice);
        pools.stake{value: 1 ether}(7);
        Pool memory nothing;
        assertEq(abi.encode(pools.pool(7)), abi.encode(nothing));
    }

    function test_Sixty_four_stakers_of_half_an_ether_fill_a_pool() public {
        uint256 id = _open();
        for (uint256 i; i < 63; ++i) {
            _stake(id, _staker(i), 0.5 ether);
            _assertState(id, PoolState.Open);
        }
        uint48 deadline = _pool(id).deadline;
        address last = _staker(63);
        deal(last, 0.5 ether);
        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Full, deadline);
        vm.prank(last);
        pools.stake{value: 0.5 ether}(id);
        assertEq(_pool(id).deadline, deadline);
        assertEq(_pool(id).staked, 32 ether);

        deal(alice, 0.5 ether);
        vm.expectRevert(_revertState(id, PoolState.Full));
        vm.prank(alice);
        pools.stake{value: 0.5 ether}(id);
    }

    /// Every stake against the rule in words: not too much, no gap below 0.5 ETH, no position below 0.5 ETH.
    function testFuzz_Stakes_follow_the_rule(uint256[12] memory amounts, uint8[12] memory who) public {
        uint256 id = _open();
        uint256 staked;
        uint256[4] memory held;
        for (uint256 i; i < amounts.length && staked < 32 ether; ++i) {
            // Half of the amounts land near a boundary.
            uint256 amount = i % 2 == 0 ? bound(amounts[i], 1, 8 ether) : _near(amounts[i], 32 ether - staked);
            uint256 which = who[i] % 4;
            address staker = _staker(which);
            bool fits = amount <= 32 ether - staked;
            uint256 gap = fits ? 32 ether - staked - amount : 0;
            bool good =
                amount > 0 && fits && (gap == 0 || gap >= 0.5 ether) && held[which] + amount >= 0.5 ether;
            deal(staker, amount);
            vm.prank(staker);
            (bool success,) = address(pools).call{value: amount}(abi.encodeCall(pools.stake, (id)));
            assertEq(success, good);
            if (!good) continue;
            staked += amount;
            held[which] += amount;
            assertEq(pools.balanceOf(staker, id), held[which]);
            assertEq(_pool(id).staked, staked);
        }
        _assertState(id, staked == 32 ether ? PoolState.Full : PoolState.Open);
    }

    function _near(uint256 seed, uint256 room) internal pure returns (uint256) {
        uint256 base =
            seed % 3 == 0 ? room : (seed % 3 == 1 && room > 0.5 ether ? room - 0.5 ether : 0.5 ether);
        uint256 shift = (seed >> 8) % 3;
        return shift == 0 && base > 0 ? base - 1 : (shift == 1 ? base : base + 1);
    }

    // ------------------------------------------------------------------------------------------ leavePool

    function test_A_staker_leaves_an_open_pool_with_everything() public {
        uint256 id = _open();
        _stake(id, alice, 3 ether);
        vm.expectEmit(address(pools));
        emit IMicropools.Left(id, alice, 3 ether, 0);
        vm.prank(alice);
        pools.leavePool(id, 3 ether);
        assertEq(alice.balance, 3 ether);
        assertEq(pools.balanceOf(alice, id), 0);
        assertEq(address(pools).balance, 2 ether);
    }

    function testFuzz_What_stays_is_nothing_or_half_an_ether(uint256 stake, uint256 amount) public {
        uint256 id = _open();
        stake = bound(stake, 0.5 ether, 31.5 ether);
        amount = bound(amount, 1, 33 ether);
        _stake(id, alice, stake);
        if (amount > stake) {
            vm.expectRevert(
                abi.encodeWithSelector(ERC6909.ERC6909InsufficientBalance.selector, alice, stake, amount, id)
            );
        } else if (stake != amount && stake - amount < 0.5 ether) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    IMicropools.PositionTooSmall.selector, alice, stake - amount, 0.5 ether
                )
            );
        }
        uint256 left = amount <= stake && (stake == amount || stake - amount >= 0.5 ether) ? amount : 0;
        vm.prank(alice);
        pools.leavePool(id, amount);
        assertEq(alice.balance, left);
        assertEq(pools.balanceOf(alice, id), stake - left);
        assertEq(_pool(id).staked, stake - left);
    }

    function test_Nobody_leaves_with_nothing() public {
        uint256 id = _open();
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, alice));
        vm.prank(alice);
        pools.leavePool(id, 0);
    }

    function test_Nobody_leaves_a_full_pool() public {
        uint256 id = _full();
        vm.expectRevert(_revertState(id, PoolState.Full));
        vm.prank(_staker(0));
        pools.leavePool(id, 8 ether);
    }

    function test_A_staker_that_takes_no_ether_keeps_its_position_and_can_give_it_away() public {
        uint256 id = _open();
        Stubborn stubborn = new Stubborn();
        deal(address(stubborn), 1 ether);
        stubborn.run(address(pools), 1 ether, abi.encodeCall(pools.stake, (id)));
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.TransferFailed.selector, address(stubborn), 1 ether)
        );
        stubborn.run(address(pools), 0, abi.encodeCall(pools.leavePool, (id, 1 ether)));
        assertEq(pools.balanceOf(address(stubborn), id), 1 ether);

        stubborn.run(address(pools), 0, abi.encodeCall(ERC6909.transfer, (alice, id, 1 ether)));
        vm.prank(alice);
        pools.leavePool(id, 1 ether);
        assertEq(alice.balance, 1 ether);
    }

    function _reenterer(uint256 id, uint256 amount) internal returns (Reenterer attacker) {
        attacker = new Reenterer();
        deal(address(attacker), amount);
        attacker.run(address(pools), amount, abi.encodeCall(pools.stake, (id)));
    }

    function _assertGuarded(Reenterer attacker) internal view {
        assertEq(attacker.attempts(), 1);
        assertEq(attacker.successes(), 0);
        assertEq(bytes4(attacker.answer()), ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
    }

    function test_A_staker_that_calls_back_gets_its_stake_once() public {
        uint256 id = _open();
        _stake(id, alice, 5 ether);
        Reenterer attacker = _reenterer(id, 2 ether);
        attacker.arm(address(pools), abi.encodeCall(pools.leavePool, (id, 1 ether)));
        attacker.run(address(pools), 0, abi.encodeCall(pools.leavePool, (id, 1 ether)));
        _assertGuarded(attacker);
        assertEq(address(attacker).balance, 1 ether);
        assertEq(pools.balanceOf(address(attacker), id), 1 ether);
    }

    /// The books are closed before ether leaves: a transfer inside the callback finds what was paid out gone.
    function test_A_position_is_gone_before_its_ether_arrives() public {
        uint256 id = _open();
        _stake(id, alice, 5 ether);
        Reenterer attacker = _reenterer(id, 2 ether);
        attacker.arm(address(pools), abi.encodeCall(ERC6909.transfer, (bob, id, 2 ether)));
        attacker.run(address(pools), 0, abi.encodeCall(pools.leavePool, (id, 2 ether)));
        assertEq(attacker.attempts(), 1);
        assertEq(attacker.successes(), 0);
        assertEq(bytes4(attacker.answer()), ERC6909.ERC6909InsufficientBalance.selector);
        assertEq(pools.balanceOf(bob, id), 0);
    }

    // ------------------------------------------------------------------------------------------- transfers

    function test_A_transfer_that_leaves_02_ether_is_refused() public {
        uint256 id = _open();
        _stake(id, alice, 1.2 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.PositionTooSmall.selector, alice, 0.2 ether, 0.5 ether)
        );
        vm.prank(alice);
        pools.transfer(bob, id, 1 ether);
    }

    function test_A_transfer_that_makes_a_position_of_02_ether_is_refused() public {
        uint256 id = _open();
        _stake(id, alice, 1.2 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.PositionTooSmall.selector, bob, 0.2 ether, 0.5 ether)
        );
        vm.prank(alice);
        pools.transfer(bob, id, 0.2 ether);
    }

    function test_A_transfer_by_allowance_or_operator_follows_the_same_rule() public {
        uint256 id = _open();
        _stake(id, alice, 1.2 ether);
        vm.prank(alice);
        pools.approve(bob, id, 10 ether);
        vm.startPrank(bob);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.PositionTooSmall.selector, alice, 0.2 ether, 0.5 ether)
        );
        pools.transferFrom(alice, bob, id, 1 ether);
        pools.transferFrom(alice, bob, id, 0.7 ether);
        vm.stopPrank();
        assertEq(pools.balanceOf(bob, id), 0.7 ether);

        address operator = makeAddr("operator");
        vm.prank(alice);
        pools.setOperator(operator, true);
        vm.startPrank(operator);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.PositionTooSmall.selector, alice, 0.4 ether, 0.5 ether)
        );
        pools.transferFrom(alice, bob, id, 0.1 ether);
        pools.transferFrom(alice, bob, id, 0.5 ether);
        vm.stopPrank();
        assertEq(pools.balanceOf(bob, id), 1.2 ether);
    }

    function test_A_holder_sees_whom_it_lets_move_its_position() public {
        uint256 id = _open();
        assertEq(pools.allowance(alice, bob, id), 0);
        assertFalse(pools.isOperator(alice, bob));
        vm.startPrank(alice);
        assertTrue(pools.approve(bob, id, 0.7 ether));
        assertTrue(pools.setOperator(provider, true));
        vm.stopPrank();
        assertEq(pools.allowance(alice, bob, id), 0.7 ether);
        assertEq(pools.allowance(bob, alice, id), 0);
        assertTrue(pools.isOperator(alice, provider));
        assertFalse(pools.isOperator(provider, alice));
    }

    function test_A_stranger_moves_nobodys_position() public {
        uint256 id = _open();
        _stake(id, alice, 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(ERC6909.ERC6909InsufficientAllowance.selector, bob, 0, 1 ether, id)
        );
        vm.prank(bob);
        pools.transferFrom(alice, bob, id, 1 ether);
    }

    function testFuzz_Transfers_follow_the_rule_on_both_sides(uint256 a, uint256 b, uint256 amount, bool self)
        public
    {
        uint256 id = _open();
        a = bound(a, 0.5 ether, 20 ether);
        b = b % 3 == 0 ? 0 : bound(b, 0.5 ether, 11 ether);
        amount = amount % 4 == 0 ? a : bound(amount, 0, 21 ether);
        _stake(id, alice, a);
        if (b != 0) _stake(id, bob, b);
        address to = self ? alice : bob;

        bool good = amount <= a;
        if (good && !self) {
            good = (a == amount || a - amount >= 0.5 ether) && (b + amount == 0 || b + amount >= 0.5 ether);
        }
        vm.prank(alice);
        (bool success,) = address(pools).call(abi.encodeCall(ERC6909.transfer, (to, id, amount)));
        assertEq(success, good);
        uint256 moved = success && !self ? amount : 0;
        assertEq(pools.balanceOf(alice, id), a - moved);
        assertEq(pools.balanceOf(bob, id), b + moved);
    }

    function test_Positions_stay_transferable_in_every_state() public {
        (uint256 id,) = _active();
        address from = _staker(0);
        vm.prank(from);
        pools.transfer(bob, id, 8 ether);
        assertEq(pools.balanceOf(bob, id), 8 ether);
    }

    // ------------------------------------------------------------------------------------------ requestKey

    function test_Anyone_asks_for_the_key_of_a_full_pool() public {
        uint256 id = _full();
        skip(3 days);
        uint48 deadline = uint48(block.timestamp) + KEY_WINDOW;
        vm.expectEmit(address(pools));
        emit IMicropools.PoolKeyRequested(id, 1);
        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Full, deadline);
        vm.prank(bob);
        assertEq(pools.requestKey(id), 1);

        assertEq(_pool(id).keyId, 1);
        assertEq(_pool(id).deadline, deadline);
        assertEq(pools.poolOfKey(1), id);
        assertEq(pools.excludedOperator(1), provider);
        Key memory key = d.keyRegistry.key(1);
        assertEq(uint256(key.state), uint256(KeyState.Requested));
        assertEq(key.consumer, address(pools));
        assertEq(key.threshold, 3);
        assertEq(key.members, 4);
        assertEq(pools.excludedOperator(2), address(0));
    }

    function test_The_duties_of_a_pools_key_are_for_its_provider_to_ask() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        uint256 keyId = _pool(id).keyId;
        assertEq(_pool(id).assignment, 1);
        _assertDuties(keyId, d.providerRegistry.dutyKey(provider), 1);

        // Another duty key of the same provider is the same assignment; the old key is out at once.
        skip(1);
        bytes memory proof = _dutyKeyProof(0xd07, provider);
        vm.prank(provider);
        d.providerRegistry.setDutyKey(vm.addr(0xd07), proof);
        _assertDuties(keyId, vm.addr(0xd07), 1);

        pools.predeposit(id, keys.groupKey, _ownSignature(id, keys));
        bytes memory foreign = _foreignSignature(keys, FOREIGN, 1e9);
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, foreign);
        (address dutyKey, uint64 number) = d.keyRegistry.dutyAssignment(keyId);
        assertEq(dutyKey, address(0), "a burned key");
        assertEq(number, 0);
    }

    function _assertDuties(uint256 keyId, address expected, uint64 assignment) private view {
        (address dutyKey, uint64 number) = d.keyRegistry.dutyAssignment(keyId);
        assertEq(dutyKey, expected);
        assertEq(number, assignment);
        (dutyKey, number) = pools.dutyAssignment(keyId);
        assertEq(dutyKey, expected);
        assertEq(number, assignment);
    }

    function test_A_key_is_asked_for_once() public {
        uint256 id = _full();
        pools.requestKey(id);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.KeyAlreadyRequested.selector, id, 1));
        pools.requestKey(id);
    }

    function test_Only_a_full_pool_asks_for_a_key() public {
        uint256 id = _open();
        vm.expectRevert(_revertState(id, PoolState.Open));
        pools.requestKey(id);
        id = _cancelled();
        vm.expectRevert(_revertState(id, PoolState.Cancelled));
        pools.requestKey(id);
    }

    function test_A_pool_waits_while_too_few_servers_are_active_and_can_ask_later() public {
        uint256 id = _full();
        for (uint32 server = 1; server <= 3; ++server) {
            vm.prank(governance);
            d.serverRegistry.suspend(server, "test");
        }
        vm.expectRevert(abi.encodeWithSelector(IKeyRegistry.NotEnoughActiveServers.selector, 3, 4));
        pools.requestKey(id);
        vm.prank(governance);
        d.serverRegistry.approve(1);
        assertEq(pools.requestKey(id), 1);
    }

    function test_The_provider_has_no_seat_in_the_committee_of_its_pool() public {
        uint32 own = _registerServer(provider);
        vm.prank(governance);
        d.serverRegistry.approve(own);
        for (uint256 i; i < 8; ++i) {
            uint32[] memory committee = _draw(pools.requestKey(_full()));
            for (uint256 j; j < committee.length; ++j) {
                assertNotEq(committee[j], own);
            }
        }
    }

    // ---------------------------------------------------------------------------------------- orderDeposit

    function test_The_chain_orders_one_deposit_to_the_pools_own_vault() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _live();
        address vault = pools.vaultOf(id);
        assertEq(vault.code.length, 0);
        bytes memory pubkey = BLS12381.compressG1(keys.groupKey);
        bytes32 credentials = bytes32(abi.encodePacked(hex"010000000000000000000000", vault));
        bytes32 root = DepositRoots.depositSigningRoot(FORK_VERSION, pubkey, credentials, 1e9);
        uint48 deadline = uint48(block.timestamp) + PREDEPOSIT_WINDOW;

        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.KeyReady, deadline);
        vm.expectEmit(address(pools));
        emit IMicropools.DepositOrdered(id, 1, pubkey, credentials, 1e9, root);
        vm.expectEmit(address(d.keyRegistry));
        emit IKeyRegistry.MessageOrdered(1, root);
        vm.prank(bob);
        pools.orderDeposit(id, keys.groupKey);

        assertTrue(d.keyRegistry.isOrdered(1, root));
        assertEq(pools.withdrawalCredentials(id), credentials);
        assertEq(pools.depositSigningRoot(pubkey, credentials, 1e9), root);
        assertEq(IPoolVault(vault).poolId(), id);
        assertEq(IPoolVault(vault).MICROPOOLS(), address(pools));
        assertEq(_pool(id).deadline, deadline);
        vm.expectRevert(_revertState(id, PoolState.KeyReady));
        pools.orderDeposit(id, keys.groupKey);
    }

    /// A pool without a key has key id 0, and so has a group key nobody has ever seen.
    function test_A_pool_without_a_key_takes_no_invented_group_key() public {
        uint256 id = _full();
        bytes memory invented = ThresholdKeys.publicKey(12345);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, 0));
        pools.orderDeposit(id, invented);
    }

    function test_A_group_key_that_is_not_final_is_refused() public {
        uint256 id = _full();
        uint256 keyId = pools.requestKey(id);
        bytes memory groupKey = ThresholdKeys.generate(keyId, 3, 4).groupKey;
        vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, keyId));
        pools.orderDeposit(id, groupKey);
        _draw(keyId);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, keyId));
        pools.orderDeposit(id, groupKey);
    }

    function test_The_group_key_of_another_pool_is_refused_at_every_step() public {
        (, ThresholdKeys.KeySet memory other) = _live();
        (uint256 id, ThresholdKeys.KeySet memory keys) = _live();
        bytes memory refusal = abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, 2);
        vm.expectRevert(refusal);
        pools.orderDeposit(id, other.groupKey);
        pools.orderDeposit(id, keys.groupKey);

        // A signature that is valid under the other pool's key, over a message with its public key.
        bytes memory signature = _ownSignature(id, other);
        vm.expectRevert(refusal);
        pools.predeposit(id, other.groupKey, signature);
        signature = _foreignSignature(other, FOREIGN, 1e9);
        vm.expectRevert(refusal);
        pools.proveForeignDeposit(id, other.groupKey, FOREIGN, 1e9, signature);
        pools.predeposit(id, keys.groupKey, _ownSignature(id, keys));
        skip(CHALLENGE_WINDOW);
        vm.expectRevert(refusal);
        pools.topUp(id, other.groupKey);
    }

    function testFuzz_Bytes_that_are_no_group_key_are_refused(bytes calldata groupKey) public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        vm.assume(keccak256(groupKey) != keccak256(keys.groupKey));
        vm.expectRevert(abi.encodeWithSelector(IMicropools.WrongGroupKey.selector, id, 1));
        pools.predeposit(id, groupKey, new bytes(256));
    }

    // ------------------------------------------------------------------------------------------ predeposit

    function test_The_signature_of_three_of_four_servers_sends_one_ether_to_the_deposit_contract() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _ownSignature(id, keys);
        bytes memory pubkey = BLS12381.compressG1(keys.groupKey);
        bytes memory compressed = BLS12381.compressG2(signature);
        bytes32 credentials = pools.withdrawalCredentials(id);
        bytes32 dataRoot = DepositRoots.depositDataRoot(pubkey, credentials, 1e9, compressed);
        uint48 deadline = uint48(block.timestamp) + CHALLENGE_WINDOW;

        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Predeposited, deadline);
        vm.expectEmit(address(pools));
        emit IMicropools.DepositSent(id, pubkey, 1e9, compressed, dataRoot);
        vm.expectEmit(Genesis.DEPOSIT_CONTRACT);
        emit IDepositContract.DepositEvent(
            pubkey, abi.encodePacked(credentials), hex"00ca9a3b00000000", compressed, new bytes(8)
        );
        vm.prank(bob);
        pools.predeposit(id, keys.groupKey, signature);

        assertEq(_pool(id).deadline, deadline);
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, 1 ether);
        assertEq(address(pools).balance, 33 ether);
        assertEq(_depositCount(), 1);
        bytes32[] memory leaves = new bytes32[](1);
        leaves[0] = dataRoot;
        assertEq(IDepositContract(Genesis.DEPOSIT_CONTRACT).get_deposit_root(), _depositRoot(leaves));

        vm.expectRevert(_revertState(id, PoolState.Predeposited));
        pools.predeposit(id, keys.groupKey, signature);
    }

    function _expectInvalid(uint256 id, ThresholdKeys.KeySet memory keys) internal {
        bytes32 root = _root(keys, pools.withdrawalCredentials(id), 1e9);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.InvalidSignature.selector, id, root));
    }

    function test_A_signature_over_other_credentials_moves_no_wei() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _foreignSignature(keys, FOREIGN, 1e9);
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
        assertEq(address(pools).balance, 34 ether);
        assertEq(_depositCount(), 0);
    }

    function test_A_signature_over_another_amount_is_refused() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _foreignSignature(keys, pools.withdrawalCredentials(id), 32e9);
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
    }

    function test_A_signature_for_another_network_is_refused() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes32 root = DepositRoots.depositSigningRoot(
            0x00000000, BLS12381.compressG1(keys.groupKey), pools.withdrawalCredentials(id), 1e9
        );
        bytes memory signature = _threshold(keys, root);
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
    }

    function test_Two_partials_are_no_signature() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes32 root = _root(keys, pools.withdrawalCredentials(id), 1e9);
        uint256[] memory indices = new uint256[](2);
        bytes[] memory partials = new bytes[](2);
        (indices[0], indices[1]) = (1, 2);
        (partials[0], partials[1]) =
        (ThresholdKeys.sign(keys.shares[0], root), ThresholdKeys.sign(keys.shares[1], root));
        bytes memory signature = ThresholdKeys.combine(indices, partials);
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
    }

    function test_The_partial_of_one_server_is_no_signature() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature =
            ThresholdKeys.sign(keys.shares[0], _root(keys, pools.withdrawalCredentials(id), 1e9));
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
    }

    function test_Infinity_is_no_signature() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, new bytes(256));
    }

    function test_A_point_off_the_curve_or_of_the_wrong_length_is_no_signature() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _ownSignature(id, keys);
        bytes memory longer = bytes.concat(signature, hex"00");
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, longer);
        signature[100] ^= 0x01;
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, signature);
        _expectInvalid(id, keys);
        pools.predeposit(id, keys.groupKey, "");
    }

    function test_A_deposit_is_sent_only_when_it_was_ordered() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _live();
        bytes memory signature = _ownSignature(id, keys);
        vm.expectRevert(_revertState(id, PoolState.Full));
        pools.predeposit(id, keys.groupKey, signature);
    }

    /// A caller that starves the precompiles is refused and nothing else happens; with enough gas it works.
    function testFuzz_Too_little_gas_changes_nothing(uint256 gas) public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory data = abi.encodeCall(pools.predeposit, (id, keys.groupKey, _ownSignature(id, keys)));
        gas = bound(gas, 10_000, 600_000);
        (bool success,) = address(pools).call{gas: gas}(data);
        _assertState(id, success ? PoolState.Predeposited : PoolState.KeyReady);
        assertEq(Genesis.DEPOSIT_CONTRACT.balance, success ? 1 ether : 0);
        if (success) return;
        (success,) = address(pools).call(data);
        assertTrue(success);
    }

    // --------------------------------------------------------------------------------- proveForeignDeposit

    function test_A_foreign_deposit_shown_before_ours_burns_the_key_and_costs_nobody_anything() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _foreignSignature(keys, FOREIGN, 32e9);
        vm.expectEmit(address(pools));
        emit IMicropools.ForeignDepositProven(id, 1, FOREIGN, 32e9, bob);
        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Cancelled, 0);
        vm.expectEmit(address(d.keyRegistry));
        emit IKeyRegistry.KeyRetired(1, true);
        vm.prank(bob);
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 32e9, signature);

        assertEq(uint256(d.keyRegistry.key(1).state), uint256(KeyState.Burned));
        assertEq(_pool(id).insurance, 2 ether);
        _assertEveryoneGetsAllBack(id, 2 ether);
        vm.expectRevert(_revertState(id, PoolState.Cancelled));
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 32e9, signature);
    }

    function test_A_foreign_deposit_shown_in_the_window_costs_the_provider_one_ether_and_the_stakers_nothing()
        public
    {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        bytes memory signature = _foreignSignature(keys, FOREIGN, 1e9);
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, signature);
        assertEq(uint256(d.keyRegistry.key(1).state), uint256(KeyState.Burned));
        assertEq(_pool(id).insurance, 1 ether);
        _assertEveryoneGetsAllBack(id, 1 ether);
    }

    function test_A_foreign_deposit_counts_until_the_top_up() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        skip(CHALLENGE_WINDOW + 30 days);
        bytes memory signature = _foreignSignature(keys, FOREIGN, 1e9);
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, signature);
        vm.expectRevert(_revertState(id, PoolState.Cancelled));
        pools.topUp(id, keys.groupKey);
    }

    function test_After_the_top_up_a_foreign_deposit_is_no_matter_of_the_pool() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _active();
        bytes memory signature = _foreignSignature(keys, FOREIGN, 1e9);
        vm.expectRevert(_revertState(id, PoolState.Active));
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, signature);
    }

    function testFuzz_A_message_to_the_pools_own_vault_is_not_foreign(uint64 amountGwei) public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes32 own = pools.withdrawalCredentials(id);
        bytes memory signature = _foreignSignature(keys, own, amountGwei);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NotForeign.selector, own));
        pools.proveForeignDeposit(id, keys.groupKey, own, amountGwei, signature);
    }

    function testFuzz_Any_other_credentials_and_amount_are_foreign(bytes32 credentials, uint64 amountGwei)
        public
    {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        vm.assume(credentials != pools.withdrawalCredentials(id));
        bytes memory signature = _foreignSignature(keys, credentials, amountGwei);
        pools.proveForeignDeposit(id, keys.groupKey, credentials, amountGwei, signature);
        _assertState(id, PoolState.Cancelled);
    }

    function test_Compounding_credentials_of_the_pools_vault_are_foreign() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes32 compounding = pools.withdrawalCredentials(id) ^ bytes32(uint256(3) << 248);
        assertEq(bytes1(compounding), bytes1(0x02));
        bytes memory signature = _foreignSignature(keys, compounding, 1e9);
        pools.proveForeignDeposit(id, keys.groupKey, compounding, 1e9, signature);
        _assertState(id, PoolState.Cancelled);
    }

    function test_The_pools_own_signature_proves_nothing_foreign() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        bytes memory signature = _ownSignature(id, keys);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.InvalidSignature.selector, id, _root(keys, FOREIGN, 1e9))
        );
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, signature);
    }

    function test_Infinity_proves_nothing_foreign() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.InvalidSignature.selector, id, _root(keys, FOREIGN, 1e9))
        );
        pools.proveForeignDeposit(id, keys.groupKey, FOREIGN, 1e9, new bytes(256));
    }

    function _assertEveryoneGetsAllBack(uint256 id, uint256 insurance) internal {
        for (uint256 i; i < 4; ++i) {
            address staker = _staker(i);
            uint256 before = staker.balance;
            vm.prank(staker);
            pools.refund(id);
            assertEq(staker.balance - before, 8 ether);
        }
        uint256 held = provider.balance;
        vm.prank(provider);
        pools.withdrawInsurance(id);
        assertEq(provider.balance - held, insurance);
        assertEq(address(pools).balance, 0);
    }

    // ----------------------------------------------------------------------------------------------- topUp

    function test_After_the_window_anyone_sends_the_other_31_ether() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        uint48 deadline = _pool(id).deadline;
        vm.warp(deadline - 1);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.TooEarly.selector, id, deadline));
        pools.topUp(id, keys.groupKey);

        bytes memory pubkey = BLS12381.compressG1(keys.groupKey);
        bytes32 credentials = pools.withdrawalCredentials(id);
        bytes32[] memory leaves = new bytes32[](2);
        leaves[0] = DepositRoots.depositDataRoot(
            pubkey, credentials, 1e9, BLS12381.compressG2(_ownSignature(id, keys))
        );
        leaves[1] = DepositRoots.depositDataRoot(pubkey, credentials, 31e9, new bytes(96));
        vm.warp(deadline);
        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Active, 0);
        vm.expectEmit(address(pools));
        emit IMicropools.DepositSent(id, pubkey, 31e9, new bytes(96), leaves[1]);
        vm.prank(bob);
        pools.topUp(id, keys.groupKey);

        assertEq(Genesis.DEPOSIT_CONTRACT.balance, 32 ether);
        assertEq(_depositCount(), 2);
        assertEq(IDepositContract(Genesis.DEPOSIT_CONTRACT).get_deposit_root(), _depositRoot(leaves));
        assertEq(address(pools).balance, 2 ether);
        assertEq(_pool(id).insurance, 2 ether);
        assertEq(_pool(id).deadline, 0);
        vm.expectRevert(_revertState(id, PoolState.Active));
        pools.topUp(id, keys.groupKey);
    }

    function test_No_top_up_without_a_predeposit() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        skip(60 days);
        vm.expectRevert(_revertState(id, PoolState.KeyReady));
        pools.topUp(id, keys.groupKey);
    }

    // ---------------------------------------------------------------------------------------------- cancel

    function _expectTooEarly(uint256 id) internal {
        vm.warp(_pool(id).deadline - 1);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.TooEarly.selector, id, _pool(id).deadline));
        pools.cancel(id);
        skip(1);
        vm.expectEmit(address(pools));
        emit IMicropools.PoolStateChanged(id, PoolState.Cancelled, 0);
    }

    function test_An_open_pool_that_does_not_fill_is_cancelled_by_anyone() public {
        uint256 id = _open();
        _stake(id, alice, 3 ether);
        _expectTooEarly(id);
        vm.prank(bob);
        pools.cancel(id);
        vm.prank(alice);
        pools.refund(id);
        assertEq(alice.balance, 3 ether);
    }

    function test_A_full_pool_nobody_asks_a_key_for_is_cancelled() public {
        uint256 id = _full();
        _expectTooEarly(id);
        pools.cancel(id);
        _assertEveryoneGetsAllBack(id, 2 ether);
    }

    function test_A_pool_whose_key_is_requested_drawn_or_live_is_cancelled_and_the_key_retired() public {
        for (uint256 stage; stage < 3; ++stage) {
            uint256 id = _full();
            uint256 keyId = pools.requestKey(id);
            if (stage == 1) _draw(keyId);
            if (stage == 2) _makeLive(keyId);
            _expectTooEarly(id);
            pools.cancel(id);
            assertEq(uint256(d.keyRegistry.key(keyId).state), uint256(KeyState.Retired));
            _assertEveryoneGetsAllBack(id, 2 ether);
        }
    }

    function test_A_pool_whose_servers_do_not_sign_is_cancelled() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _keyReady();
        bytes memory signature = _ownSignature(id, keys);
        _expectTooEarly(id);
        pools.cancel(id);
        assertEq(uint256(d.keyRegistry.key(1).state), uint256(KeyState.Retired));
        _assertEveryoneGetsAllBack(id, 2 ether);
        // The signature comes too late.
        vm.expectRevert(_revertState(id, PoolState.Cancelled));
        pools.predeposit(id, keys.groupKey, signature);
    }

    function test_After_the_predeposit_nobody_cancels() public {
        (uint256 id, ThresholdKeys.KeySet memory keys) = _predeposited();
        skip(365 days);
        vm.expectRevert(_revertState(id, PoolState.Predeposited));
        pools.cancel(id);
        pools.topUp(id, keys.groupKey);
        vm.expectRevert(_revertState(id, PoolState.Active));
        pools.cancel(id);
    }

    function test_A_pool_is_cancelled_once() public {
        uint256 id = _cancelled();
        vm.expectRevert(_revertState(id, PoolState.Cancelled));
        pools.cancel(id);
        vm.expectRevert(_revertState(99, PoolState.None));
        pools.cancel(99);
    }

    // ------------------------------------------------------------------------- refund and withdrawInsurance

    function test_A_refund_is_paid_once_and_to_holders_only() public {
        uint256 id = _cancelled();
        vm.expectEmit(address(pools));
        emit IMicropools.Refunded(id, _staker(0), 8 ether);
        vm.startPrank(_staker(0));
        pools.refund(id);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, _staker(0)));
        pools.refund(id);
        vm.stopPrank();
        assertEq(_pool(id).staked, 24 ether);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, bob));
        vm.prank(bob);
        pools.refund(id);
    }

    function test_A_refund_follows_the_position() public {
        uint256 id = _cancelled();
        vm.prank(_staker(1));
        pools.transfer(bob, id, 8 ether);
        vm.prank(bob);
        pools.refund(id);
        assertEq(bob.balance, 8 ether);
    }

    function test_Only_cancelled_pools_refund() public {
        uint256 id = _full();
        vm.expectRevert(_revertState(id, PoolState.Full));
        vm.prank(_staker(0));
        pools.refund(id);
        vm.expectRevert(_revertState(id, PoolState.Full));
        vm.prank(provider);
        pools.withdrawInsurance(id);
        (id,) = _active();
        vm.expectRevert(_revertState(id, PoolState.Active));
        vm.prank(_staker(0));
        pools.refund(id);
        vm.expectRevert(_revertState(id, PoolState.Active));
        vm.prank(provider);
        pools.withdrawInsurance(id);
    }

    function test_The_insurance_goes_to_the_provider_once() public {
        uint256 id = _cancelled();
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, bob));
        vm.prank(bob);
        pools.withdrawInsurance(id);
        vm.expectEmit(address(pools));
        emit IMicropools.InsuranceWithdrawn(id, provider, 2 ether);
        vm.startPrank(provider);
        pools.withdrawInsurance(id);
        vm.expectRevert(abi.encodeWithSelector(IMicropools.NothingToPay.selector, id, provider));
        pools.withdrawInsurance(id);
        vm.stopPrank();
    }

    function test_A_refund_called_back_pays_once() public {
        uint256 id = _open();
        _stake(id, alice, 5 ether);
        Reenterer attacker = _reenterer(id, 2 ether);
        skip(OPEN_WINDOW);
        pools.cancel(id);
        attacker.arm(address(pools), abi.encodeCall(pools.refund, (id)));
        attacker.run(address(pools), 0, abi.encodeCall(pools.refund, (id)));
        _assertGuarded(attacker);
        assertEq(address(attacker).balance, 2 ether);
        assertEq(address(pools).balance, 7 ether);
    }

    function test_An_insurance_called_back_pays_once() public {
        Reenterer attacker = new Reenterer();
        _registerProvider(address(attacker));
        deal(address(attacker), 2 ether);
        attacker.run(address(pools), 2 ether, abi.encodeCall(pools.open, (3, 4)));
        uint256 other = _open();
        skip(OPEN_WINDOW);
        pools.cancel(1);
        attacker.arm(address(pools), abi.encodeCall(pools.withdrawInsurance, (1)));
        attacker.run(address(pools), 0, abi.encodeCall(pools.withdrawInsurance, (1)));
        _assertGuarded(attacker);
        assertEq(address(attacker).balance, 2 ether);
        assertEq(_pool(other).insurance, 2 ether);
    }

    function test_A_staker_that_takes_no_ether_holds_up_nobody() public {
        uint256 id = _open();
        Stubborn stubborn = new Stubborn();
        deal(address(stubborn), 1 ether);
        stubborn.run(address(pools), 1 ether, abi.encodeCall(pools.stake, (id)));
        _stake(id, alice, 1 ether);
        skip(OPEN_WINDOW);
        pools.cancel(id);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.TransferFailed.selector, address(stubborn), 1 ether)
        );
        stubborn.run(address(pools), 0, abi.encodeCall(pools.refund, (id)));
        vm.prank(alice);
        pools.refund(id);
        vm.prank(provider);
        pools.withdrawInsurance(id);
        stubborn.setAccepts(true);
        stubborn.run(address(pools), 0, abi.encodeCall(pools.refund, (id)));
        assertEq(address(stubborn).balance, 1 ether);
        assertEq(address(pools).balance, 0);
    }

    function test_A_provider_that_takes_no_ether_holds_up_nobody() public {
        Stubborn stubborn = new Stubborn();
        _registerProvider(address(stubborn));
        deal(address(stubborn), 2 ether);
        stubborn.run(address(pools), 2 ether, abi.encodeCall(pools.open, (3, 4)));
        _stake(1, alice, 1 ether);
        skip(OPEN_WINDOW);
        pools.cancel(1);
        vm.expectRevert(
            abi.encodeWithSelector(IMicropools.TransferFailed.selector, address(stubborn), 2 ether)
        );
        stubborn.run(address(pools), 0, abi.encodeCall(pools.withdrawInsurance, (1)));
        vm.prank(alice);
        pools.refund(1);
        assertEq(alice.balance, 1 ether);
    }

    function test_The_contract_takes_no_ether_by_a_plain_call() public {
        deal(alice, 1 ether);
        vm.prank(alice);
        (bool success,) = address(pools).call{value: 1 ether}("");
        assertFalse(success);
    }
}
